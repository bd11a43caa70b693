// realize-sim: runs seeds, and tells the story of one.

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "librealize/base/fault.h"
#include "tests/sim/world.h"

using namespace realize::test;

namespace {

constexpr unsigned kSecondsPerSeed = 60;

struct Arguments {
  uint64_t first = 0, last = 0;
  int jobs = 1;
  std::set<uint64_t> known;  ///< seeds whose failure is known and not mended: told, and no reason to fail
  int steps = 0;
  size_t peers = 0;
  realize::peer::ConflictRule conflicts = realize::peer::ConflictRule::Keep;
  bool explain = false;
  bool calls = false;
  bool twice = false;
  bool allKinds = false;     ///< whatever never happened in the whole range is a failure
  bool faults = true;
  bool races = true;
};

struct Outcome {
  std::string broken;  // empty: all held
  std::string story;
  std::map<std::string, uint64_t> counters;
  uint64_t steps = 0;
};

Outcome runSeed(uint64_t seed, const Arguments& arguments, bool echo) {
  Outcome outcome;
  World world({.seed = seed, .steps = arguments.steps, .peers = arguments.peers, .faults = arguments.faults, .conflicts = arguments.conflicts, .races = arguments.races, .echo = echo,
               .calls = arguments.calls});
  try {
    world.run();
  } catch (const Broken& broken) {
    outcome.broken = broken.what();
  }
  outcome.story = world.story();
  outcome.counters = world.counters();
  outcome.steps = world.steps();
  return outcome;
}

std::string firstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

/// Seeds first, first + jobs, ... in a process of their own: one that dies takes only its seed with it.
void work(const Arguments& arguments, uint64_t from, FILE* out) {
  for (uint64_t seed = from; seed <= arguments.last; seed += uint64_t(arguments.jobs)) {
    fprintf(out, "begin %llu\n", static_cast<unsigned long long>(seed));
    fflush(out);
    alarm(kSecondsPerSeed);
    Outcome outcome = runSeed(seed, arguments, false);
    if (outcome.broken.empty() && arguments.twice && runSeed(seed, arguments, false).story != outcome.story)
      outcome.broken = "a second run told another story";
    alarm(0);
    for (const auto& [what, n] : outcome.counters) fprintf(out, "count %llu %s\n", static_cast<unsigned long long>(n), what.c_str());
    fprintf(out, "count %llu events\n", static_cast<unsigned long long>(outcome.steps));
    if (outcome.broken.empty()) fprintf(out, "ok\n");
    else fprintf(out, "broken %s\n", firstLine(outcome.broken).c_str());
    fflush(out);
  }
}

struct Worker {
  pid_t pid = 0;
  int in = -1;
  std::string unread;
  uint64_t seed = 0;
  bool within = false;
};

Worker launch(const Arguments& arguments, uint64_t from) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  Worker worker;
  worker.pid = fork();
  if (worker.pid == 0) {
    close(ends[0]);
    work(arguments, from, fdopen(ends[1], "w"));
    _exit(0);
  }
  close(ends[1]);
  worker.in = ends[0];
  return worker;
}

/// What the workers say, added up.
struct Tally {
  const Arguments& arguments;
  std::map<std::string, uint64_t> counters;
  std::map<uint64_t, std::string> failed;
  uint64_t passed = 0, expected = 0;

  void take(Worker& worker, const std::string& line) {
    char what[256];
    unsigned long long n = 0;
    if (sscanf(line.c_str(), "begin %llu", &n) == 1) {
      worker.seed = n;
      worker.within = true;
    } else if (sscanf(line.c_str(), "count %llu %255[^\n]", &n, what) == 2) {
      counters[what] += n;
    } else if (line.starts_with("broken ")) {
      worker.within = false;
      broken(worker.seed, line.substr(7));
    } else {
      worker.within = false;
      ++passed;
    }
  }
  void broken(uint64_t seed, const std::string& how) {
    const bool known = arguments.known.count(seed) > 0;
    if (known) ++expected;
    else failed[seed] = how;
    printf("seed %llu%s: %s\n", static_cast<unsigned long long>(seed), known ? " (known)" : "", how.c_str());
  }
};

// What is meant to go wrong, and what is meant to be tried: a range in which some of it never happens searches less than it
// seems to.
constexpr const char* kKinds[] = {
    "chunks damaged", "clean stops", "clocks jumped", "connections cut", "disks full", "kills", "power cuts", "races",
    "suspended on a full disk", "torn files saved again", "watches overflowed",
    "conflicts resolved", "joined with files", "marks set", "reads answered", "reads failed", "user steps",
    "tokens kept", "tokens let go", "caches with a limit", "caches with a limit that have something",
    "copies let go", "copies let go with two others", "held contents confirmed", "held contents taken back", "held removals confirmed", "held removals taken back",
    "households of four to six", "names watched while replaced",
    "databases lost", "databases restored", "folders restored", "databases and folders restored", "long absences",
    "clocks a year off", "members found inactive", "whole trees compared", "versions given up",
};

/// How many kinds never happened; each is told.
int neverHappened(const std::map<std::string, uint64_t>& counters) {
  int missing = 0;
  for (const char* kind : kKinds) {
    if (counters.contains(kind)) continue;
    ++missing;
    printf("NEVER HAPPENED: %s\n", kind);
  }
  return missing;
}

int runMany(const Arguments& arguments) {
  const time_t began = time(nullptr);
  Tally tally{arguments, {}, {}, 0, 0};
  std::vector<Worker> workers;
  for (int i = 0; i < arguments.jobs; ++i) workers.push_back(launch(arguments, arguments.first + uint64_t(i)));
  while (!workers.empty()) {
    std::vector<pollfd> polled;
    for (const auto& worker : workers) polled.push_back({worker.in, POLLIN, 0});
    if (poll(polled.data(), polled.size(), -1) < 0) continue;  // Interrupted.
    for (size_t i = polled.size(); i-- > 0;) {
      if (!polled[i].revents) continue;
      Worker& worker = workers[i];
      char bytes[4096];
      const ssize_t got = read(worker.in, bytes, sizeof(bytes));
      if (got > 0) {
        worker.unread.append(bytes, size_t(got));
        size_t from = 0;
        for (size_t end; (end = worker.unread.find('\n', from)) != std::string::npos; from = end + 1)
          tally.take(worker, worker.unread.substr(from, end - from));
        worker.unread.erase(0, from);
        continue;
      }
      close(worker.in);
      int status = 0;
      waitpid(worker.pid, &status, 0);
      const Worker ended = worker;
      workers.erase(workers.begin() + long(i));
      if (!ended.within) continue;
      tally.broken(ended.seed, WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "did not end in time" : "the process died");
      const uint64_t next = ended.seed + uint64_t(arguments.jobs);
      if (next <= arguments.last) workers.push_back(launch(arguments, next));
    }
  }
  const double seconds = std::max<double>(1, double(time(nullptr) - began));
  for (const auto& [what, n] : tally.counters) printf("%12llu %s\n", static_cast<unsigned long long>(n), what.c_str());
  printf("%llu seeds held, %zu broken, %llu known to be broken, %.0f a minute\n", static_cast<unsigned long long>(tally.passed),
         tally.failed.size(), static_cast<unsigned long long>(tally.expected),
         double(tally.passed + tally.failed.size() + tally.expected) * 60 / seconds);
  const int missing = arguments.allKinds ? neverHappened(tally.counters) : 0;
  return tally.failed.empty() && missing == 0 ? 0 : 1;
}

struct NamedFault {
  const char* name;
  realize::Fault fault;
  uint64_t within;  ///< seeds from 0 that find it, with room
};

// Each breaks a promise; the search must tell.
constexpr NamedFault kFaults[] = {
    {"skip-file-sync", realize::Fault::SkipFileSync, 400},
    {"tell-unwritten", realize::Fault::TellUnwritten, 1000},
    {"skip-durable", realize::Fault::SkipDurable, 400},
    {"forget-unsynced", realize::Fault::ForgetUnsynced, 400},
    {"compare-times", realize::Fault::CompareTimes, 400},
    {"delete-blind", realize::Fault::DeleteBlind, 400},
    {"vector-early", realize::Fault::VectorEarly, 400},
    {"trust-the-row", realize::Fault::TrustTheRow, 400},
    {"overwrite-unknown", realize::Fault::OverwriteUnknown, 400},
    {"remove-unread", realize::Fault::RemoveUnread, 400},
    {"take-unverified", realize::Fault::TakeUnverified, 400},
};

bool activate(realize::Fault fault) {
#ifdef REALIZE_FAULTS
  realize::activeFault = fault;
  return true;
#else
  (void)fault;
  fprintf(stderr, "realize-sim: built without faults; configure with -Dfaults=true\n");
  return false;
#endif
}

/// In a process of its own: the first seed that finds it, or none.
pid_t hunt(const NamedFault& fault, const Arguments& arguments, FILE*& in) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  const pid_t pid = fork();
  if (pid == 0) {
    close(ends[0]);
    FILE* out = fdopen(ends[1], "w");
    activate(fault.fault);
    for (uint64_t seed = 0; seed < fault.within; ++seed) {
      fprintf(out, "%llu\n", static_cast<unsigned long long>(seed));
      fflush(out);
      alarm(kSecondsPerSeed);
      const Outcome outcome = runSeed(seed, arguments, false);
      if (outcome.broken.empty()) continue;
      fprintf(out, "found %s\n", firstLine(outcome.broken).c_str());
      fflush(out);
      _exit(0);
    }
    _exit(1);
  }
  close(ends[1]);
  in = fdopen(ends[0], "r");
  return pid;
}

int huntAll(const Arguments& arguments) {
  if (!activate(realize::Fault::None)) return 2;
  int missed = 0;
  const size_t count = std::size(kFaults);
  for (size_t from = 0; from < count; from += size_t(arguments.jobs)) {
    std::vector<std::pair<const NamedFault*, FILE*>> hunts;
    std::vector<pid_t> pids;
    for (size_t i = from; i < std::min(count, from + size_t(arguments.jobs)); ++i) {
      FILE* in = nullptr;
      pids.push_back(hunt(kFaults[i], arguments, in));
      hunts.emplace_back(&kFaults[i], in);
    }
    for (size_t i = 0; i < hunts.size(); ++i) {
      char line[4096];
      std::string seed, how;
      while (fgets(line, sizeof(line), hunts[i].second)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "found ", 6)) seed = line;
        else how = line + 6;
      }
      fclose(hunts[i].second);
      int status = 0;
      waitpid(pids[i], &status, 0);
      if (how.empty() && WIFSIGNALED(status)) how = WTERMSIG(status) == SIGALRM ? "does not end in time" : "the process dies";
      if (how.empty()) ++missed;
      if (how.empty()) printf("%-18s NOT FOUND by %llu seeds\n", hunts[i].first->name, static_cast<unsigned long long>(hunts[i].first->within));
      else printf("%-18s found by seed %s: %s\n", hunts[i].first->name, seed.c_str(), how.c_str());
      fflush(stdout);
    }
  }
  return missed ? 1 : 0;
}

int usage() {
  fprintf(stderr, "realize-sim --seed N [--explain] [--calls] | --seeds A..B [--jobs J] [--twice] [--all-kinds] [--known N,N]   [--steps N] [--peers N] [--conflicts newest|copies] [--no-faults] [--no-races] [--fault NAME] | --all-faults\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  bool one = false, all = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (argument == "--explain") arguments.explain = true;
    else if (argument == "--calls") arguments.calls = arguments.explain = true;
    else if (argument == "--twice") arguments.twice = arguments.calls = true;
    else if (argument == "--all-kinds") arguments.allKinds = true;
    else if (argument == "--no-faults") arguments.faults = false;
    else if (argument == "--no-races") arguments.races = false;
    else if (argument == "--all-faults") all = true;
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
    } else if (argument == "--jobs") {
      arguments.jobs = std::max(1, atoi(value));
      ++i;
    } else if (argument == "--known") {
      for (const char* at = value; *at;) {
        char* end = nullptr;
        arguments.known.insert(strtoull(at, &end, 10));
        at = *end == ',' ? end + 1 : end + strlen(end);
      }
      ++i;
    } else if (argument == "--fault") {
      const auto* fault = std::find_if(std::begin(kFaults), std::end(kFaults), [&](const auto& f) { return !strcmp(f.name, value); });
      if (fault == std::end(kFaults)) return usage();
      if (!activate(fault->fault)) return 2;
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
  if (all) return huntAll(arguments);
  if (!one) return runMany(arguments);
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const Outcome outcome = runSeed(arguments.first, arguments, arguments.explain);
  if (outcome.broken.empty()) {
    printf("seed %llu held, %llu events\n", static_cast<unsigned long long>(arguments.first), static_cast<unsigned long long>(outcome.steps));
    return 0;
  }
  printf("BROKEN: %s\n", outcome.broken.c_str());
  return 1;
}
