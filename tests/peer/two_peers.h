#pragma once

// Real peers in one process, over TCP on loopback with ports that the kernel picks.

#include <doctest/doctest.h>

#include <chrono>
#include <fstream>
#include <filesystem>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>

#include "realize/peer.h"
#include "tests/support/temp_dir.h"

namespace realize::test {

/// Looks again and again until it is so; false if it never is.
inline bool eventually(const std::function<bool()>& isSo) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!isSo()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

/// A peer with its state folder, which can be ended and started again.
struct TestPeer {
  explicit TestPeer(const std::string& name, const std::string& listen = "127.0.0.1:0") : name(name) {
    auto made = Peer::init(folder / "state", {name, listen});
    REQUIRE_MESSAGE(made.ok(), (made.ok() ? "" : made.error().message));
    start();
  }
  void start() {
    auto opened = Peer::open(folder / "state");
    REQUIRE_MESSAGE(opened.ok(), (opened.ok() ? "" : opened.error().message));
    peer = std::move(*opened);
  }
  void stop() { peer = nullptr; }
  Peer* operator->() { return peer.get(); }

  bool knows(const std::string& other) {
    for (auto& info : peer->peers())
      if (info.name == other && !info.self) return true;
    return false;
  }
  bool connectedTo(const std::string& other) {
    for (auto& connection : peer->status().peers)
      if (connection.peer.name == other) return connection.connected;
    return false;
  }
  bool isOffered(const std::string& arena) {
    for (auto& name : peer->offeredArenas())
      if (name == arena) return true;
    return false;
  }
  void write(const std::string& path, const std::string& text) { std::ofstream(folder / path) << text; }
  std::string read(const std::string& path) {
    std::ostringstream out;
    out << std::ifstream(folder / path).rdbuf();
    return out.str();
  }

  std::string name;
  TempDir folder;
  std::unique_ptr<Peer> peer;
};

inline void join(TestPeer& newcomer, TestPeer& member) {
  auto code = member->invite({});
  REQUIRE_MESSAGE(code.ok(), (code.ok() ? "" : code.error().message));
  auto joined = newcomer->join(*code);
  REQUIRE_MESSAGE(joined.ok(), (joined.ok() ? "" : joined.error().message));
}

}  // namespace realize::test
