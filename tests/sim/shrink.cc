// A failing seed's story, with all left out that it fails without.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <vector>

#include "tests/sim/run.h"

namespace realize::test {

namespace {

using Turns = std::vector<size_t>;

/// What broke, without the names and numbers of the story at hand.
std::string kindOf(const std::string& broken) {
  std::istringstream words(firstLine(broken));
  std::string kind, word;
  while (words >> word) {
    while (!word.empty() && strchr(",:.", word.back())) word.pop_back();
    const bool plain = std::all_of(word.begin(), word.end(), [](char c) { return islower(static_cast<unsigned char>(c)); });
    if (plain && word.size() > 2) kind += word + " ";
  }
  return kind;
}

class Shrinker {
 public:
  explicit Shrinker(const Arguments& arguments) : arguments_(arguments) {}

  /// In a process of its own, as it may die: how it breaks; empty when it holds.
  std::string howItBreaks(const Script* script) {
    ++runs_;
    int ends[2];
    if (pipe(ends) != 0) abort();
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
      close(ends[0]);
      alarm(kSecondsPerSeed);
      Arguments arguments = arguments_;
      Script copy = script ? *script : Script();
      arguments.script = script ? &copy : nullptr;
      const std::string how = kindOf(runSeed(arguments.first, arguments, false).broken);
      const bool told = write(ends[1], how.data(), how.size()) == ssize_t(how.size());
      _exit(told ? 0 : 1);
    }
    close(ends[1]);
    std::string how;
    char bytes[4096];
    for (ssize_t got; (got = read(ends[0], bytes, sizeof(bytes))) > 0;) how.append(bytes, size_t(got));
    close(ends[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGALRM ? "does not end" : "dies";
    return how;
  }

  /// Recorded in this process; a story that dies is recorded up to there by nobody, and cannot be shrunk.
  Script record() {
    Script script;
    Arguments arguments = arguments_;
    arguments.script = &script;
    (void)runSeed(arguments.first, arguments, false);
    script.follows = true;
    return script;
  }

  bool breaksWith(const Turns& kept) {
    script_.kept = {kept.begin(), kept.end()};
    return howItBreaks(&script_) == how_;
  }

  /// Delta debugging (Zeller and Hildebrandt 2002): pieces are left out, ever smaller ones, until each turn is needed.
  Turns fewest(Turns turns) {
    for (size_t pieces = 2; turns.size() > 1;) {
      const size_t each = (turns.size() + pieces - 1) / pieces;
      bool smaller = false;
      for (size_t from = 0; from < turns.size() && !smaller; from += each) {
        Turns rest(turns.begin(), turns.begin() + long(from));
        rest.insert(rest.end(), turns.begin() + long(std::min(turns.size(), from + each)), turns.end());
        if (!breaksWith(rest)) continue;
        turns = std::move(rest);
        pieces = std::max<size_t>(2, pieces - 1);
        smaller = true;
      }
      if (smaller) continue;
      if (each == 1) break;
      pieces = std::min(turns.size(), 2 * pieces);
    }
    return turns;
  }

  /// False: it holds, or dies.
  bool shrink() {
    how_ = howItBreaks(nullptr);
    if (how_.empty() || how_ == "dies") return false;
    // What is not planned goes first, all at once, where it is not needed.
    for (bool Arguments::*luck : {&Arguments::races, &Arguments::damage}) {
      if (!(arguments_.*luck)) continue;
      arguments_.*luck = false;
      if (howItBreaks(nullptr) != how_) arguments_.*luck = true;
    }
    script_ = record();
    for (const auto& [turn, state] : script_.turns) turns_.push_back(turn);
    turns_ = fewest(std::move(turns_));
    return true;
  }

  /// The story of the turns that are left, a number before each.
  void tell() {
    script_.kept = {turns_.begin(), turns_.end()};
    Arguments arguments = arguments_;
    arguments.script = &script_;
    const Outcome outcome = runSeed(arguments.first, arguments, false);
    size_t turn = 0, number = 0;
    for (size_t at = 0; at < outcome.story.size();) {
      const size_t end = outcome.story.find('\n', at);
      char step[32] = "     ";
      while (turn < outcome.turns.size() && outcome.turns[turn] <= at) {
        ++turn;
        snprintf(step, sizeof(step), "%3zu. ", ++number);
      }
      printf("%s%s\n", step, outcome.story.substr(at, end - at).c_str());
      at = end + 1;
    }
    printf("BROKEN: %s\n", firstLine(outcome.broken).c_str());
    std::string list;
    for (size_t t : turns_) list += (list.empty() ? "" : ",") + std::to_string(t);
    printf("%zu of %zu turns, found in %zu runs: --seed %llu --only %s%s%s\n", turns_.size(), script_.turns.size(), runs_,
           static_cast<unsigned long long>(arguments_.first), list.empty() ? "none" : list.c_str(), arguments_.races ? "" : " --no-races",
           arguments_.damage ? "" : " --no-damage");
  }

  const std::string& how() const { return how_; }
  const Turns& turns() const { return turns_; }

 private:
  Arguments arguments_;
  std::string how_;
  Script script_;
  Turns turns_;
  size_t runs_ = 0;
};

}  // namespace

int shrinkSeed(const Arguments& arguments) {
  Shrinker shrinker(arguments);
  if (shrinker.shrink()) {
    shrinker.tell();
    return shrinker.turns().size() <= arguments.fewTurns ? 0 : 1;
  }
  printf("seed %llu %s: there is nothing to shrink\n", static_cast<unsigned long long>(arguments.first),
         shrinker.how().empty() ? "holds" : "dies");
  return shrinker.how().empty() ? 0 : 1;
}

size_t fewestTurns(const Arguments& arguments) {
  Shrinker shrinker(arguments);
  (void)shrinker.shrink();
  return shrinker.turns().size();
}

Script scriptOf(const Arguments& arguments, const std::set<size_t>& kept) {
  Script script = Shrinker(arguments).record();
  script.kept = kept;
  return script;
}

}  // namespace realize::test
