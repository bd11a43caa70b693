#pragma once

// Two arenas in one thread, on fake disks (their databases, too), clocks and a link, as in the simulator; a test says what
// happens to them.

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>

#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"
#include "tests/support/sim_link.h"
#include "tests/support/sim_peer.h"

namespace realize::peer::testing {

struct SimArenas {
  explicit SimArenas(Mark bMark = Mark::Real) {
    test::SimPeerOptions options;
    options.name = "A";
    options.number = 1;
    options.seed = 1;
    options.rootMark = Mark::Real;
    a = std::make_unique<test::SimPeer>(queue, options);
    options.name = "B";
    options.number = 2;
    options.seed = 2;
    options.rootMark = bMark;
    options.joining = true;
    b = std::make_unique<test::SimPeer>(queue, options);
    link = std::make_unique<test::SimLink>(*a, *b);
  }
  ~SimArenas() {
    a->onCall = b->onCall = nullptr;  // It may speak of what was declared after this.
    link = nullptr;
    a->vanish();
    b->vanish();
    queue.clear();
  }
  void start() {
    REQUIRE(a->start().ok());
    REQUIRE(b->start().ok());
    link->connect();
  }

  /// Until it holds; false after so much of the fake time.
  bool until(const std::function<bool()>& holds, int64_t ms = 60'000) {
    const int64_t end = queue.nowNs() + ms * 1'000'000;
    queue.at(end, [] {});
    while (!holds()) {
      if (queue.nowNs() >= end || !queue.step()) return holds();
    }
    return true;
  }
  void pass(int64_t ms) {
    until([] { return false; }, ms);
  }
  /// Both agree, and nothing is missing.
  bool settled() {
    for (auto* peer : {a.get(), b.get()}) {
      if (!peer->running()) return false;
      auto& core = peer->core->core();
      auto& other = peer == a.get() ? *b : *a;
      if (core.suspended || core.folder->settling() || core.marks->missingFiles() || !core.exchange->agreesWith(other.key)) return false;
    }
    return true;
  }
  bool settles(int64_t ms = 120'000) {
    pass(1000);
    if (until([&] { return settled(); }, ms)) return true;
    for (auto* peer : {a.get(), b.get()}) {
      if (!peer->running()) continue;
      const auto status = peer->core->status();
      MESSAGE(peer->options.name, ": ", status.consensusWhy, " ", status.suspendedWhy, ", missing ", status.missingFiles, "\n",
              peer->disk.dump(test::kSimFolder));
      for (const auto& problem : status.problems) MESSAGE("  ", problem.path, " ", problem.kind, " ", problem.detail);
    }
    return false;
  }

  static void write(test::SimPeer& peer, const std::string& path, const std::string& text) {
    auto root = *peer.disk.openRoot(test::kSimFolder);
    auto file = *root->open(path, OpenMode::CreateOrOpen, 0644);
    REQUIRE(file->truncate(0).ok());
    REQUIRE(file->write(0, std::as_bytes(std::span(text))).ok());
  }
  static std::string read(test::SimPeer& peer, const std::string& path) {
    auto root = *peer.disk.openRoot(test::kSimFolder);
    auto file = root->open(path, OpenMode::Read);
    if (!file.ok()) return "<none>";
    Bytes bytes((*file)->stat()->sizeBytes);
    auto got = (*file)->read(0, bytes);
    return got.ok() ? std::string(reinterpret_cast<const char*>(bytes.data()), *got) : "<unreadable>";
  }
  static bool has(test::SimPeer& peer, const std::string& path) { return (*peer.disk.openRoot(test::kSimFolder))->stat(path).ok(); }
  static Core& core(test::SimPeer& peer) { return peer.core->core(); }
  /// The newest of the versions that are shown there.
  static Version versionAt(test::SimPeer& peer, const std::string& path) {
    return core(peer).tree.shownHeads(core(peer).recordAt(path)->entry.id).front().version;
  }
  static bool problem(test::SimPeer& peer, const std::string& path, const std::string& kind) {
    for (const auto& row : peer.core->status().problems)
      if (row.path == path && row.kind == kind) return true;
    return false;
  }

  test::SimQueue queue{7};
  std::unique_ptr<test::SimPeer> a, b;
  std::unique_ptr<test::SimLink> link;
};

}  // namespace realize::peer::testing
