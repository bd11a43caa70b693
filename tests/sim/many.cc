// Ranges of seeds, in processes of their own, and what happened in them.

#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/sim/run.h"

namespace realize::test {

Outcome runSeed(uint64_t seed, const Arguments& arguments, bool echo) {
  Outcome outcome;
  World world({.seed = seed, .steps = arguments.steps, .peers = arguments.peers, .faults = arguments.faults, .conflicts = arguments.conflicts, .races = arguments.races,
               .damage = arguments.damage, .script = arguments.script, .echo = echo, .wide = arguments.wide, .rush = arguments.rush, .hard = arguments.hard, .calls = arguments.calls, .follow = arguments.follow});
  try {
    world.run();
  } catch (const Broken& broken) {
    outcome.broken = broken.what();
  }
  outcome.story = world.story();
  outcome.counters = world.counters();
  outcome.steps = world.steps();
  outcome.turns = world.turns();
  return outcome;
}

namespace {

/// Every so many seeds in a process of their own: one that dies takes only its seed with it.
void work(const Arguments& arguments, uint64_t from, FILE* out) {
  for (uint64_t seed = from; seed <= arguments.last; seed += uint64_t(arguments.jobs) * arguments.every) {
    fprintf(out, "begin %llu\n", static_cast<unsigned long long>(seed));
    fflush(out);
    alarm(kSecondsPerSeed);
    Arguments one = arguments;
    one.calls = arguments.twiceEach && seed % arguments.twiceEach == 0;
    Outcome outcome = runSeed(seed, one, false);
    if (one.calls && outcome.broken.empty()) {
      if (runSeed(seed, one, false).story != outcome.story) outcome.broken = "a second run told another story";
      outcome.counters["told twice"] = 1;
    }
    alarm(0);
    for (const auto& [what, n] : outcome.counters) fprintf(out, "count %llu %s\n", static_cast<unsigned long long>(n), what.c_str());
    fprintf(out, "count %llu events\n", static_cast<unsigned long long>(outcome.steps));
    if (outcome.broken.empty()) fprintf(out, "ok\n");
    else fprintf(out, "broken %s\n", firstLine(outcome.broken).c_str());
    fflush(out);
  }
}

void broke(Tally& tally, const Arguments& arguments, uint64_t seed, const std::string& how) {
  const bool known = arguments.known.count(seed) > 0;
  if (known) ++tally.known;
  else tally.failed[seed] = how;
  printf("seed %llu%s: %s\n", static_cast<unsigned long long>(seed), known ? " (known)" : "", how.c_str());
  fflush(stdout);
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

/// Takes a line of a worker's.
void take(Tally& tally, const Arguments& arguments, Worker& worker, const std::string& line) {
  char what[256];
  unsigned long long n = 0;
  if (sscanf(line.c_str(), "begin %llu", &n) == 1) {
    worker.seed = n;
    worker.within = true;
  } else if (sscanf(line.c_str(), "count %llu %255[^\n]", &n, what) == 2) {
    tally.counters[what] += n;
  } else if (line.starts_with("broken ")) {
    worker.within = false;
    broke(tally, arguments, worker.seed, line.substr(7));
  } else {
    worker.within = false;
    ++tally.held;
  }
}

/// Of all processes that ended and were waited for.
double childSeconds() {
  rusage used{};
  getrusage(RUSAGE_CHILDREN, &used);
  return double(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + double(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

}  // namespace

Tally runRange(const Arguments& arguments) {
  const double began = childSeconds();
  Tally tally;
  std::vector<Worker> workers;
  for (int i = 0; i < arguments.jobs; ++i) workers.push_back(launch(arguments, arguments.first + uint64_t(i) * arguments.every));
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
          take(tally, arguments, worker, worker.unread.substr(from, end - from));
        worker.unread.erase(0, from);
        continue;
      }
      close(worker.in);
      int status = 0;
      waitpid(worker.pid, &status, 0);
      const Worker ended = worker;
      workers.erase(workers.begin() + long(i));
      if (!ended.within) continue;
      broke(tally, arguments, ended.seed, WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "did not end in time" : "the process died");
      const uint64_t next = ended.seed + uint64_t(arguments.jobs) * arguments.every;
      if (next <= arguments.last) workers.push_back(launch(arguments, next));
    }
  }
  tally.cpuSeconds = childSeconds() - began;
  return tally;
}

}  // namespace realize::test
