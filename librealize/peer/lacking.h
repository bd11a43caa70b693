#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "librealize/peer/core.h"

namespace realize::peer {

/// Who has none of some contents, also of those members that this peer never meets: who is connected asks on. Not all members
/// of a household can dial each other, and what nobody has any more is to be given up all the same.
/// Thread: core.
class Lacking {
 public:
  explicit Lacking(Core& core);
  ~Lacking();

  /// `done` once, and maybe within the call: true if each member has said of itself that its tree is ours, with nothing
  /// settling, and that it has none of these contents whole. One question at a time, and after one with another answer none
  /// for a while: false then.
  void ask(std::vector<BlobId> blobs, std::function<void(bool)> done);
  /// As RemoteArena::lacking() says.
  void serve(const PeerKey& from, LackRequest request, std::function<void(Result<std::set<PeerKey>>)> done);

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace realize::peer
