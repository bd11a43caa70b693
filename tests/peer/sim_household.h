#pragma once

// A few simulated machines for stories told step by step: users, power cuts and links at chosen moments, no real time.

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "librealize/model/blob.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"
#include "tests/support/sim_link.h"

namespace realize::test {

struct SimHousehold {
  /// All machines are linked; the first one's folder is marked real, the others' as told.
  explicit SimHousehold(std::vector<Mark> others, uint64_t seed = 1) : queue(seed) {
    for (size_t i = 0; i <= others.size(); ++i) {
      SimPeerOptions options;
      options.name = std::string(1, char('A' + i));
      options.number = uint8_t(i + 1);
      options.seed = seed * 31 + i;
      options.rootMark = i == 0 ? Mark::Real : others[i - 1];
      options.joining = i > 0;
      peers.push_back(std::make_unique<SimPeer>(queue, options));
    }
    for (size_t a = 0; a < peers.size(); ++a)
      for (size_t b = a + 1; b < peers.size(); ++b) links.push_back(std::make_unique<SimLink>(*peers[a], *peers[b]));
  }
  ~SimHousehold() {
    for (auto& peer : peers) peer->onCall = nullptr;
    links.clear();
    for (auto& peer : peers) peer->vanish();
    queue.clear();
  }

  void start() {
    for (auto& peer : peers)
      if (!peer->running()) REQUIRE(peer->start().ok());
  }
  void connect() {
    for (auto& link : links) link->connect();
  }
  void disconnect() {
    for (auto& link : links) link->cut();
  }
  void runFor(int64_t ms) {
    const int64_t end = queue.nowNs() + ms * 1'000'000;
    queue.at(end, [] {});
    while (queue.nowNs() < end && queue.step()) {}
  }
  /// Until all show the same and want nothing; false after two minutes.
  bool settle() {
    for (int quiet = 0, i = 0; i < 120; ++i) {
      runFor(1000);
      quiet = settled() ? quiet + 1 : 0;
      if (quiet == 2) return true;
    }
    return false;
  }
  /// All start, connect and come to rest.
  void startAndMeet() {
    start();
    connect();
    REQUIRE(settle());
  }
  bool settled() {
    auto& first = peers[0]->core->core();
    for (auto& peer : peers) {
      auto& core = peer->core->core();
      if (core.folder->settling() || core.marks->missingFiles() || core.store.unsynced().count()) return false;
      if (core.tree.vector() != first.tree.vector() || core.tree.digest() != first.tree.digest()) return false;
    }
    return true;
  }
  /// The machine loses power, and what was not synced with a random part of it; it starts again at once.
  void losePower(size_t number, uint64_t seed) {
    auto& peer = *peers[number];
    end(number);
    FakeRandom random(seed);
    peer.disk.crash(random);
    ++peer.boots;
    REQUIRE(peer.start().ok());
  }
  /// The process ends at whatever moment; what it did to its disk stays.
  void end(size_t number) {
    for (auto& link : links)
      if (&link->end(0) == peers[number].get() || &link->end(1) == peers[number].get()) link->cut();
    peers[number]->vanish();
  }

  peer::Core& core(size_t number) { return peers[number]->core->core(); }
  std::unique_ptr<Directory> folder(size_t number) { return std::move(*peers[number]->disk.openRoot(kSimFolder)); }
  /// By the user, who syncs the file and its name.
  void write(size_t number, const std::string& path, const std::string& text) {
    auto& peer = *peers[number];
    const bool before = peer.userActing;
    peer.userActing = true;
    auto root = folder(number);
    for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1))
      (void)root->makeDirectory(path.substr(0, slash), 0755).ok();
    auto file = root->open(path, OpenMode::CreateOrOpen, 0644);
    REQUIRE(file.ok());
    REQUIRE((*file)->truncate(0).ok());
    REQUIRE((*file)->write(0, std::as_bytes(std::span(text))).ok());
    REQUIRE((*file)->sync(true).ok());
    const size_t slash = path.rfind('/');
    REQUIRE(root->syncDirectory(slash == std::string::npos ? "" : path.substr(0, slash)).ok());
    peer.userActing = before;
  }
  std::string read(size_t number, const std::string& path) {
    auto bytes = readFile(*folder(number), path, 64 << 20);
    return bytes.ok() ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) : "<none>";
  }
  /// Some name in the folder, none of ours, has this text.
  bool inFolder(size_t number, const std::string& text, const std::string& below = "") {
    auto items = folder(number)->list(below);
    if (!items.ok()) return false;
    for (const auto& item : *items) {
      if (item.name == peer::kOwnFolder) continue;
      const std::string path = below.empty() ? item.name : below + "/" + item.name;
      if (item.stat.type == FileStat::Type::Directory ? inFolder(number, text, path) : read(number, path) == text) return true;
    }
    return false;
  }
  /// Reads a content through that peer: the text, or "<" and what went wrong.
  std::string fetch(size_t number, const std::string& text) {
    auto answer = std::make_shared<std::string>("<no answer");
    auto& c = core(number);
    const BlobId blob = blobOf(text);
    peers[number]->scheduler->onCore([&c, blob, size = text.size(), answer] {
      auto open = c.transfers->open(blob, size);
      c.transfers->read(open, 0, size, [answer, open](Result<Bytes> bytes) {
        *answer = bytes.ok() ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) : "<" + bytes.error().message;
      });
    });
    runFor(20'000);
    return *answer;
  }
  static BlobId blobOf(const std::string& text) {
    ContentHasher hasher(text.size());
    hasher.add(std::as_bytes(std::span(text)));
    return hasher.finish()->blob;
  }

  SimQueue queue;
  std::vector<std::unique_ptr<SimPeer>> peers;
  std::vector<std::unique_ptr<SimLink>> links;
};

}  // namespace realize::test
