// Fresh seeds for hours, of all kinds of households.

#include <cstdio>
#include <ctime>
#include <vector>

#include "tests/sim/run.h"

namespace realize::test {

namespace {

constexpr uint64_t kSeedsAtOnce = 400;
constexpr uint64_t kTwiceEach = 100;

struct Kind {
  const char* options;  ///< as on the command line
  void (*choose)(Arguments&);
};

// One after the other, again and again.
constexpr Kind kKinds[] = {
    {"", [](Arguments&) {}},
    {" --wide", [](Arguments& a) { a.wide = true; }},
    {" --rush", [](Arguments& a) { a.rush = true; }},
    {" --conflicts newest", [](Arguments& a) { a.conflicts = peer::ConflictRule::Newest; }},
    {" --peers 3 --steps 60", [](Arguments& a) { a.peers = 3, a.steps = 60; }},
    {" --wide --rush", [](Arguments& a) { a.wide = a.rush = true; }},
    {" --conflicts copies", [](Arguments& a) { a.conflicts = peer::ConflictRule::Copies; }},
    {" --peers 2 --steps 150", [](Arguments& a) { a.peers = 2, a.steps = 150; }},
    {" --no-faults", [](Arguments& a) { a.faults = false; }},
    {" --hard failed-syncs,disk-errors", [](Arguments& a) { a.hard = {Hardship::FailedSyncs, Hardship::DiskErrors}; }},
    {" --wide --hard failed-syncs,disk-errors", [](Arguments& a) { a.wide = true, a.hard = {Hardship::FailedSyncs, Hardship::DiskErrors}; }},
};

void writeDown(FILE* file, const Kind& kind, const Tally& tally) {
  for (const auto& [seed, how] : tally.failed)
    fprintf(file, "realize-sim --seed %llu%s --shrink\t%s\n", static_cast<unsigned long long>(seed), kind.options, how.c_str());
  fflush(file);
}

}  // namespace

int runNightly(const Arguments& arguments) {
  FILE* failures = fopen(arguments.failures.c_str(), "a");
  if (!failures) {
    perror(arguments.failures.c_str());
    return 2;
  }
  const time_t began = time(nullptr), until = began + time_t(arguments.hours * 3600);
  uint64_t first = arguments.last ? arguments.first : uint64_t(began) * 1000;
  const uint64_t atOnce = arguments.last ? arguments.last - arguments.first + 1 : kSeedsAtOnce;
  Tally all;
  size_t turn = 0;
  do {
    const Kind& kind = kKinds[turn++ % std::size(kKinds)];
    Arguments range = arguments;
    kind.choose(range);
    range.first = first;
    range.last = first + atOnce - 1;
    range.twiceEach = kTwiceEach;
    const Tally tally = runRange(range);
    writeDown(failures, kind, tally);
    all.add(tally);
    first += atOnce;
  } while (time(nullptr) < until || turn < std::size(kKinds));
  fclose(failures);
  tell(all, arguments.table);
  printf("seeds %llu..%llu in %zu kinds of households; what broke is in %s\n", static_cast<unsigned long long>(first - turn * atOnce),
         static_cast<unsigned long long>(first - 1), std::size(kKinds), arguments.failures.c_str());
  return all.failed.empty() ? 0 : 1;
}

}  // namespace realize::test
