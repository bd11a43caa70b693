// What became of many seeds, and whether they searched what they seem to.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "tests/sim/run.h"

namespace realize::test {

namespace {

// What is meant to go wrong, and what is meant to be tried: a range in which some of it never happens searches less than it
// seems to.
constexpr const char* kKinds[] = {
    "chunks damaged", "clean stops", "clocks jumped", "connections cut", "disks full", "kills", "power cuts", "races",
    "suspended on a full disk", "torn files saved again", "watches overflowed",
    "conflicts resolved", "joined with files", "marks set", "reads answered", "reads failed", "user steps",
    "tokens kept", "tokens let go", "caches with a limit", "caches with a limit that have something",
    "copies let go", "copies let go with two others", "held contents confirmed", "held contents taken back", "held removals confirmed",
    "households of four to six", "households whose clocks drift", "names watched while replaced",
    "databases lost", "databases restored", "folders restored", "databases and folders restored", "long absences",
    "clocks a year off", "members found inactive", "whole trees compared", "versions given up",
    "hard links made", "edits through one of two names", "modes set through one of two names", "one of two names removed",
    "one of two names replaced",
    "peers removed", "peers added again", "peers added again with something new", "agreed without a peer", "tokens that only a removed peer had",
    "patterns written", "patterns removed", "ignored names written", "ignored files moved out of the way", "tokens in ignored files",
    "state folders copied", "peers that stop for a copy", "identities of their own",
    "saved like LibreOffice", "saved like Obsidian", "saved like emacs", "saved like gio", "saved like git", "saved like rename",
    "saved like sqlite", "saved like sqlite-wal", "saved like vim",
};

// Where users do more.
constexpr const char* kWideKinds[] = {
    "mount creates", "mount writes real files", "mount writes unreal files", "mount cuts files", "mount chmods real files",
    "mount chmods unreal files", "mount removes real files", "mount removes unreal files", "mount removes folders",
    "mount moves real entries", "mount moves unreal entries", "mount exchanges", "mount makes folders", "mount makes links",
    "mount reads unreal files", "mount refusals", "mount saves",
    "peers joined later", "links made or changed", "folders moved into each other",
};

std::vector<const char*> kindsOf(const Arguments& arguments) {
  std::vector<const char*> out(std::begin(kKinds), std::end(kKinds));
  if (arguments.wide) out.insert(out.end(), std::begin(kWideKinds), std::end(kWideKinds));
  if (arguments.hard.empty()) out.push_back("held removals taken back");  // Once in two hundred seeds.
  else out.push_back("suspended on a failing disk");
  if (arguments.hard.contains(Hardship::FailedSyncs)) out.push_back("syncs failed");
  if (arguments.hard.contains(Hardship::DiskErrors)) out.push_back("disk calls failed");
  return out;
}

/// Each that never happened is told.
bool allHappened(const std::map<std::string, uint64_t>& counters, const Arguments& arguments) {
  bool all = true;
  for (const char* kind : kindsOf(arguments)) {
    if (counters.contains(kind)) continue;
    all = false;
    printf("NEVER HAPPENED: %s\n", kind);
  }
  return all;
}

unsigned long long number(uint64_t n) { return n; }

double perMinute(const Tally& tally) { return double(tally.seeds()) * 60 / std::max(0.01, tally.cpuSeconds); }

void tellTable(const Tally& tally) {
  printf("| | times | seeds for one |\n|---|---|---|\n");
  std::map<std::string, uint64_t> counters = tally.counters;
  for (const char* kind : kKinds) counters.emplace(kind, 0);
  for (const auto& [what, n] : counters)
    printf("| %s | %llu | %s |\n", what.c_str(), number(n), n ? std::to_string((tally.seeds() + n - 1) / n).c_str() : "NEVER");
}

}  // namespace

void tell(const Tally& tally, bool table) {
  if (table) tellTable(tally);
  else
    for (const auto& [what, n] : tally.counters) printf("%12llu %s\n", number(n), what.c_str());
  printf("%llu seeds held, %zu broken, %llu known to be broken, %.0f a minute of one core\n", number(tally.held), tally.failed.size(),
         number(tally.known), perMinute(tally));
}

int runMany(const Arguments& arguments) {
  const Tally tally = runRange(arguments);
  tell(tally, arguments.table);
  const bool all = !arguments.allKinds || allHappened(tally.counters, arguments);
  return tally.failed.empty() && all ? 0 : 1;
}

}  // namespace realize::test
