#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "librealize/peer/core.h"

namespace realize::peer {

/// How many peers have the files of the arena real, as connected ones say: none is asked for a look at its disk, and who is
/// not connected counts as none.
/// Thread: core.
class Copies {
 public:
  struct Holders {
    std::vector<PeerKey> have;     ///< this one too
    std::vector<PeerKey> unknown;  ///< members that are not connected, or do not answer
  };
  struct Count {
    bool known = false;              ///< counted once at least since the start
    uint64_t below = 0;              ///< files that fewer peers than ArenaSettings::copies are known to have
    std::vector<std::string> first;  ///< paths of some of them
  };

  explicit Copies(Core& core);
  ~Copies();

  /// Of a content. `done` comes on the core, once, or not at all if the arena ends before.
  void holders(const EntryContent& content, std::function<void(Holders)> done);
  /// As counted last. Where that was a while ago, all are counted again, a page after the other; not where one copy will do.
  Count count();

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace realize::peer
