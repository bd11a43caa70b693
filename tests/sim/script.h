#pragma once

// What a seed's story is made of, so that it can be told again with some of it left out.

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>

namespace realize::test {

/// The planned turns of a story (a user's step, bad luck, a backup), numbered as they were planned. A run that records notes
/// what all generators were at when a turn came; a run that follows leaves out what is not kept, and sets them to that again
/// before each that is: so the rest of the story stays as it was as far as it can, and all of it is the same story.
struct Script {
  struct Turn {
    uint64_t users = 0, network = 0, answers = 0;
  };
  std::map<size_t, Turn> turns;  ///< those that came
  bool follows = false;
  std::set<size_t> kept;         ///< where it follows
};

}  // namespace realize::test
