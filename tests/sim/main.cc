// realize-sim: runs seeds, and tells the story of one. See README.md.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <set>
#include <string>

#include "tests/sim/run.h"

using namespace realize::test;

namespace {

int usage() {
  fputs("realize-sim --seed N [--explain] [--calls] [--follow NAME] [--only N,N]\n"
        "            --seed N --shrink [--turns N]\n"
        "            --seeds A..B [--every N] [--jobs J] [--twice] [--all-kinds] [--table] [--known N,N]\n"
        "            --nightly --hours H [--jobs J] [--seeds A..B] [--failures FILE] [--table]\n"
        "            --exhaustive [--jobs J] [--operations N] [--peers N] [--whole] [--cuts] [--unreal] [--choices N,N] [--explain]\n"
        "            --all-faults [--jobs J] [--shrink]\n"
        "  all: [--steps N] [--peers N] [--conflicts newest|copies] [--no-faults] [--no-races] [--no-damage] [--wide] [--rush] [--hard NAME,NAME] [--fault NAME]\n",
        stderr);
  return 2;
}

/// "3,17,22"; whatever is no number ends it.
template <typename Numbers = std::set<uint64_t>>
Numbers numbersOf(const char* list) {
  Numbers numbers;
  for (const char* at = list; *at >= '0' && *at <= '9';) {
    char* end = nullptr;
    numbers.insert(numbers.end(), strtoull(at, &end, 10));
    at = *end == ',' ? end + 1 : end;
  }
  return numbers;
}

/// "failed-syncs,disk-errors"; none: one of these is unknown.
std::optional<Hardships> hardshipsOf(const std::string& list) {
  Hardships out;
  for (size_t from = 0; from <= list.size();) {
    const size_t to = std::min(list.find(',', from), list.size());
    const auto hardship = hardshipNamed(list.substr(from, to - from));
    if (!hardship) return std::nullopt;
    out.insert(*hardship);
    from = to + 1;
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  bool one = false, all = false, exhaustive = false, nightly = false;
  std::optional<std::set<size_t>> only;  // of the story's turns
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (argument == "--explain") arguments.explain = true;
    else if (argument == "--calls") arguments.calls = arguments.explain = true;
    else if (argument == "--twice") arguments.twiceEach = 1;
    else if (argument == "--all-kinds") arguments.allKinds = true;
    else if (argument == "--no-faults") arguments.faults = false;
    else if (argument == "--no-races") arguments.races = false;
    else if (argument == "--no-damage") arguments.damage = false;
    else if (argument == "--shrink") arguments.shrink = true;
    else if (argument == "--all-faults") all = true;
    else if (argument == "--exhaustive") exhaustive = true;
    else if (argument == "--nightly") nightly = true;
    else if (argument == "--table") arguments.table = true;
    else if (argument == "--wide") arguments.wide = true;
    else if (argument == "--rush") arguments.rush = true;
    else if (argument == "--cuts") arguments.cuts = true;
    else if (argument == "--whole") arguments.whole = true;
    else if (argument == "--unreal") arguments.unreal = true;
    else if (!value) return usage();
    else if (argument == "--seed") {
      arguments.first = arguments.last = strtoull(value, nullptr, 10);
      one = true;
      ++i;
    } else if (argument == "--seeds") {
      const char* dots = strstr(value, "..");
      if (!dots) return usage();
      arguments.first = strtoull(value, nullptr, 10);
      arguments.last = strtoull(dots + 2, nullptr, 10);
      ++i;
    } else if (argument == "--every") {
      arguments.every = std::max<uint64_t>(1, strtoull(value, nullptr, 10));
      ++i;
    } else if (argument == "--jobs") {
      arguments.jobs = std::max(1, atoi(value));
      ++i;
    } else if (argument == "--known") {
      arguments.known = numbersOf(value);
      ++i;
    } else if (argument == "--operations") {
      arguments.operations = size_t(std::clamp(atoi(value), 1, 6));
      ++i;
    } else if (argument == "--choices") {
      arguments.choices = numbersOf<std::vector<size_t>>(value);
      ++i;
    } else if (argument == "--hours") {
      arguments.hours = atof(value);
      ++i;
    } else if (argument == "--failures") {
      arguments.failures = value;
      ++i;
    } else if (argument == "--turns") {
      arguments.fewTurns = strtoull(value, nullptr, 10);
      ++i;
    } else if (argument == "--follow") {
      arguments.follow = value;
      arguments.explain = true;
      ++i;
    } else if (argument == "--only") {
      only = numbersOf(value);
      ++i;
    } else if (argument == "--fault") {
      if (!activateFault(value)) return 2;
      ++i;
    } else if (argument == "--hard") {
      const auto hard = hardshipsOf(value);
      if (!hard) return usage();
      arguments.hard = *hard;
      ++i;
    } else if (argument == "--peers") {
      arguments.peers = size_t(std::clamp(atoi(value), 2, 6));
      ++i;
    } else if (argument == "--conflicts") {
      if (std::string(value) != "newest" && std::string(value) != "copies") return usage();
      arguments.conflicts = std::string(value) == "copies" ? realize::peer::ConflictRule::Copies : realize::peer::ConflictRule::Newest;
      ++i;
    } else if (argument == "--steps") {
      arguments.steps = atoi(value);
      ++i;
    } else {
      return usage();
    }
  }
  if (exhaustive) return searchAll(arguments);
  if (nightly) return runNightly(arguments);
  if (all) return huntAll(arguments);
  if (!one) return runMany(arguments);
  if (arguments.shrink) return shrinkSeed(arguments);
  Script script;
  if (only) {
    script = scriptOf(arguments, *only);
    arguments.script = &script;
  }
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const Outcome outcome = runSeed(arguments.first, arguments, arguments.explain);
  if (outcome.broken.empty()) {
    printf("seed %llu held, %llu events\n", static_cast<unsigned long long>(arguments.first), static_cast<unsigned long long>(outcome.steps));
    return 0;
  }
  printf("BROKEN: %s\n", outcome.broken.c_str());
  return 1;
}
