// realize-sim: runs seeds, and tells the story of one.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/world.h"

using namespace realize::test;

namespace {

constexpr unsigned kSecondsPerSeed = 60;

struct Arguments {
  uint64_t first = 0, last = 0;
  int jobs = 1;
  std::set<uint64_t> known;  ///< seeds whose failure is known and not mended: told, and no reason to fail
  int steps = 0;
  bool explain = false;
  bool calls = false;
  bool twice = false;
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
  World world({.seed = seed, .steps = arguments.steps, .faults = arguments.faults, .races = arguments.races, .echo = echo,
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
  FILE* in = nullptr;
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
  worker.in = fdopen(ends[0], "r");
  return worker;
}

int runMany(const Arguments& arguments) {
  const time_t began = time(nullptr);
  std::vector<Worker> workers;
  std::map<std::string, uint64_t> counters;
  std::map<uint64_t, std::string> failed;
  uint64_t passed = 0, expected = 0;
  for (int i = 0; i < arguments.jobs; ++i) workers.push_back(launch(arguments, arguments.first + uint64_t(i)));
  for (size_t i = 0; i < workers.size(); ++i) {  // One after the other; the pipes hold what the others say meanwhile.
    char line[4096];
    while (fgets(line, sizeof(line), workers[i].in)) {
      line[strcspn(line, "\n")] = 0;
      auto& worker = workers[i];
      char what[256];
      unsigned long long n = 0;
      if (sscanf(line, "begin %llu", &n) == 1) {
        worker.seed = n;
        worker.within = true;
      } else if (sscanf(line, "count %llu %255[^\n]", &n, what) == 2) {
        counters[what] += n;
      } else {
        worker.within = false;
        if (!strncmp(line, "broken ", 7)) {
          const bool known = arguments.known.count(worker.seed) > 0;
          if (known) ++expected;
          else failed[worker.seed] = line + 7;
          printf("seed %llu%s: %s\n", static_cast<unsigned long long>(worker.seed), known ? " (known)" : "", line + 7);
        } else {
          ++passed;
        }
      }
    }
    fclose(workers[i].in);
    int status = 0;
    waitpid(workers[i].pid, &status, 0);
    if (!workers[i].within) continue;
    const uint64_t seed = workers[i].seed;
    failed[seed] = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "did not end in time" : "the process died";
    printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), failed[seed].c_str());
    if (seed + uint64_t(arguments.jobs) <= arguments.last) workers.push_back(launch(arguments, seed + uint64_t(arguments.jobs)));
  }
  const double seconds = std::max<double>(1, double(time(nullptr) - began));
  for (const auto& [what, n] : counters) printf("%12llu %s\n", static_cast<unsigned long long>(n), what.c_str());
  printf("%llu seeds held, %zu broken, %llu known to be broken, %.0f a minute\n", static_cast<unsigned long long>(passed),
         failed.size(), static_cast<unsigned long long>(expected), double(passed + failed.size() + expected) * 60 / seconds);
  return failed.empty() ? 0 : 1;
}

int usage() {
  fprintf(stderr, "realize-sim --seed N [--explain] [--calls] | --seeds A..B [--jobs J] [--twice] [--known N,N]   [--steps N] [--no-faults] [--no-races]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  bool one = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (argument == "--explain") arguments.explain = true;
    else if (argument == "--calls") arguments.calls = arguments.explain = true;
    else if (argument == "--twice") arguments.twice = true;
    else if (argument == "--no-faults") arguments.faults = false;
    else if (argument == "--no-races") arguments.races = false;
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
    } else if (argument == "--steps") {
      arguments.steps = atoi(value);
      ++i;
    } else {
      return usage();
    }
  }
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
