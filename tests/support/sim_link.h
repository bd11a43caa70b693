#pragma once

// The network between two simulated peers: RemoteArena on one side, ArenaService on the other, delayed at random, in
// order, cut at any moment.

#include <memory>

#include "librealize/peer/remote.h"
#include "tests/support/held_chunk.h"
#include "tests/support/sim_peer.h"

namespace realize::test {

class SimLink {
 public:
  SimLink(SimPeer& a, SimPeer& b) : ends_{&a, &b} {}
  ~SimLink() { cut(); }

  /// Nothing happens while either side is down.
  void connect();
  /// Everything under way is lost; whoever waits hears of it. A side that is gone hears nothing.
  void cut();
  bool connected() const { return connection_ != nullptr; }
  SimPeer& end(int side) const { return *ends_[side]; }
  uint64_t messages() const { return messages_; }
  uint64_t compares() const { return compares_; }  ///< of whole trees, in steps
  /// Told of requests for bytes and their answers.
  std::function<void(const std::string&)> onTalk;
  /// May change a chunk on its way.
  std::function<void(HeldChunk&)> onChunk;

 private:
  struct Connection;
  class Remote;
  SimPeer* ends_[2];
  std::shared_ptr<Connection> connection_;
  uint64_t messages_ = 0;
  uint64_t compares_ = 0;
};

}  // namespace realize::test
