#pragma once

// One seed, many seeds, and all deliberate faults: what realize-sim does with a World.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace realize::test {

/// A seed that takes longer does not end.
inline constexpr unsigned kSecondsPerSeed = 60;

struct Arguments {
  uint64_t first = 0, last = 0;
  uint64_t every = 1;        ///< of so many seeds one, the first of them
  int jobs = 1;
  std::set<uint64_t> known;  ///< seeds whose failure is known and not mended: told, and no reason to fail
  int steps = 0;
  size_t peers = 0;
  realize::peer::ConflictRule conflicts = realize::peer::ConflictRule::Keep;
  bool explain = false;
  bool calls = false;
  std::string follow;        ///< a name: what each peer has of entries of that name is told whenever it changes
  uint64_t twiceEach = 0;    ///< of so many seeds one is told twice, with all calls; 0: none
  bool table = false;
  double hours = 0;
  std::string failures = "realize-sim-failures.txt";  ///< of a night
  bool allKinds = false;     ///< whatever never happened in the whole range is a failure
  bool faults = true;
  bool races = true;
  bool damage = true;
  bool wide = false;
  bool rush = false;
  Hardships hard;
  Script* script = nullptr;
  bool shrink = false;
  size_t operations = 2;     ///< of all users, in an exhaustive search
  bool cuts = false;         ///< there: of one connection, after any message
  bool whole = false;        ///< there: nothing happens while two meet
  bool unreal = false;       ///< there: the last peer keeps nothing
  std::vector<size_t> choices;  ///< there: only what these lead to
  size_t fewTurns = 0;       ///< a story that shrinks to so many is what was expected
};

struct Outcome {
  std::string broken;  // empty: all held
  std::string story;
  std::map<std::string, uint64_t> counters;
  uint64_t steps = 0;
  std::vector<size_t> turns;  // where in the story each began
};

/// `echo`: its story goes to stdout as it happens.
Outcome runSeed(uint64_t seed, const Arguments& arguments, bool echo);
inline std::string firstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

/// What became of many seeds.
struct Tally {
  std::map<std::string, uint64_t> counters;
  std::map<uint64_t, std::string> failed;
  uint64_t held = 0, known = 0;
  double cpuSeconds = 0;

  uint64_t seeds() const { return held + failed.size() + known; }
  void add(const Tally& other) {
    for (const auto& [what, n] : other.counters) counters[what] += n;
    failed.insert(other.failed.begin(), other.failed.end());
    held += other.held;
    known += other.known;
    cpuSeconds += other.cpuSeconds;
  }
};

/// All seeds in processes of their own; what breaks goes to stdout at once.
Tally runRange(const Arguments& arguments);
void tell(const Tally& tally, bool table);
/// The range, told. Returns the exit code: 1 when a seed broke, or a kind of bad luck never came where all should.
int runMany(const Arguments& arguments);
/// Fresh seeds in all kinds of households for so many hours; what breaks is written down with its command. Returns the exit code.
int runNightly(const Arguments& arguments);

/// Leaves out of a failing seed's story whatever it fails without, and tells what is left. Returns the exit code.
int shrinkSeed(const Arguments& arguments);
/// How many turns of a failing seed's story are left then.
size_t fewestTurns(const Arguments& arguments);
/// The seed's script, to be followed with these turns only.
Script scriptOf(const Arguments& arguments, const std::set<size_t>& kept);

/// Every interleaving of so many operations with the messages between the machines; counts go to stdout. Returns the exit code.
int searchAll(const Arguments& arguments);

/// Wakes the deliberate fault of that name. False: there is none, or none is compiled in.
bool activateFault(const std::string& name);
/// For each deliberate fault the first seed that finds it and, to be shrunk, how many turns of its story are needed. Returns the
/// exit code: 1 when one is not found.
int huntAll(const Arguments& arguments);

}  // namespace realize::test
