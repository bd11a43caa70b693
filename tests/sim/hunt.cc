// Deliberate faults: the search must find each.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include "librealize/base/fault.h"
#include "tests/sim/run.h"

namespace realize::test {

namespace {

struct NamedFault {
  const char* name;
  Fault fault;
  uint64_t within;  ///< seeds from 0 that find it, with room
  std::optional<Hardship> hard{};  ///< of the households in which it is looked for
};

// Each breaks a promise; the search must tell.
constexpr NamedFault kFaults[] = {
    {"skip-file-sync", Fault::SkipFileSync, 400},
    {"tell-unwritten", Fault::TellUnwritten, 1000},
    {"believe-sync", Fault::BelieveSync, 2000, Hardship::FailedSyncs},
    {"skip-durable", Fault::SkipDurable, 400},
    {"forget-unsynced", Fault::ForgetUnsynced, 1000},
    {"compare-times", Fault::CompareTimes, 400},
    {"delete-blind", Fault::DeleteBlind, 400},
    {"vector-early", Fault::VectorEarly, 400},
    {"trust-the-row", Fault::TrustTheRow, 400},
    {"overwrite-unknown", Fault::OverwriteUnknown, 400},
    {"remove-unread", Fault::RemoveUnread, 400},
    {"take-unverified", Fault::TakeUnverified, 400},
    {"evict-unlocked", Fault::EvictUnlocked, 400},
};

bool activate(Fault fault) {
#ifdef REALIZE_FAULTS
  activeFault = fault;
  return true;
#else
  (void)fault;
  fprintf(stderr, "realize-sim: built without faults; configure with -Dfaults=true\n");
  return false;
#endif
}

/// In a process of its own: the first seed that finds it, or none.
pid_t hunt(const NamedFault& fault, Arguments arguments, FILE*& in) {
  if (fault.hard) arguments.hard = {*fault.hard};
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
      activate(Fault::None);  // It must be the fault that broke it.
      const bool holdsWithout = runSeed(seed, arguments, false).broken.empty();
      activate(fault.fault);
      if (!holdsWithout) continue;
      Arguments found = arguments;
      found.first = found.last = seed;
      alarm(0);
      const std::string turns = arguments.shrink ? std::to_string(fewestTurns(found)) : "-";
      fprintf(out, "found %s | %s\n", turns.c_str(), firstLine(outcome.broken).c_str());
      fflush(out);
      _exit(0);
    }
    _exit(1);
  }
  close(ends[1]);
  in = fdopen(ends[0], "r");
  return pid;
}

}  // namespace

bool activateFault(const std::string& name) {
  const auto* fault = std::find_if(std::begin(kFaults), std::end(kFaults), [&](const auto& f) { return f.name == name; });
  if (fault != std::end(kFaults)) return activate(fault->fault);
  fprintf(stderr, "realize-sim: there is no fault %s\n", name.c_str());
  return false;
}

int huntAll(const Arguments& arguments) {
  if (!activate(Fault::None)) return 2;
  printf("| fault | seed | within | turns | how it shows |\n|---|---|---|---|---|\n");
  fflush(stdout);  // Before any fork.
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
      if (how.empty() && WIFSIGNALED(status)) how = WTERMSIG(status) == SIGALRM ? "- | does not end in time" : "- | the process dies";
      if (how.empty()) ++missed;
      const NamedFault& fault = *hunts[i].first;
      printf("| %s | %s | %llu | %s |\n", fault.name, how.empty() ? "NOT FOUND" : seed.c_str(), static_cast<unsigned long long>(fault.within),
             how.empty() ? "- | -" : how.c_str());
      fflush(stdout);
    }
  }
  return missed ? 1 : 0;
}

}  // namespace realize::test
