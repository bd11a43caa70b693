// All interleavings of a few operations of few users with each message between their machines.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>

#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "tests/sim/run.h"

namespace realize::test {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr unsigned kSecondsPerEnd = 60;
constexpr uint64_t kToldFailures = 10;

/// Of all processes of a search.
struct Found {
  std::atomic<uint64_t> ends{0}, moments{0}, operations{0}, messages{0}, cuts{0}, failed{0}, turn{0};
};

}  // namespace

/// A household in which everything is chosen: each choice is tried in a process of its own, which is a copy of this one.
class Scope {
 public:
  Scope(const Arguments& arguments, Found& found, size_t worker)
      : arguments_(arguments), found_(found), worker_(worker), world_(optionsOf(arguments)), operationsLeft_(arguments.operations) {}

  /// The whole search, or what falls to this worker. Throws Broken.
  void search() {
    begin();
    choose();
  }

  /// Only what these choices lead to, and the household's end. Throws Broken.
  void replay(const std::vector<size_t>& choices) {
    begin();
    for (size_t number : choices) {
      const auto all = choices_();
      if (number >= all.size()) throw Broken("there is no choice " + std::to_string(number) + " at this point");
      all[number]();
    }
    end();
  }

 private:
  using Choice = std::function<void()>;

  static WorldOptions optionsOf(const Arguments& arguments) {
    WorldOptions options;
    options.seed = arguments.first;
    options.steps = 1;
    options.peers = arguments.peers ? arguments.peers : 2;
    options.faults = false;
    options.marks.assign(options.peers, Mark::Real);
    if (arguments.unreal) options.marks.back() = Mark::Unreal;
    options.calls = arguments.calls;
    options.echo = arguments.explain;
    return options;
  }

  /// A file, a folder, and a file in it, which all have.
  void begin() {
    world_.doing(0, [&](Directory& root) {
      (void)root.makeDirectory("b", 0755).ok();
      for (const char* path : {"a", "b/a"}) world_.put(0, root, path, world_.newContent(0));
    });
    for (size_t i = 0; i < world_.machines_.size(); ++i) world_.startPeer(i);
    for (auto& link : world_.links_) link->connect();
    world_.settleDown("at first");
    for (auto& link : world_.links_) link->cut();
    world_.runFor(100 * kNsPerMs);
    unread_.assign(world_.machines_.size(), false);
  }

  void choose() {
    auto all = choices_();
    for (; all.size() == 1; all = choices_()) {
      path_.push_back(0);
      all[0]();
    }
    if (all.empty()) return end();
    ++found_.moments;
    for (size_t number = 0; number < all.size(); ++number) {
      // Workers share what is two choices deep.
      if (path_.size() == (arguments_.operations > 1 ? 1 : 0) && arguments_.jobs > 1 && turn_++ % size_t(arguments_.jobs) != worker_) continue;
      fflush(stdout);
      const pid_t pid = fork();
      if (pid == 0) {
        path_.push_back(number);
        tryOne(all[number]);
      }
      int status = 0;
      waitpid(pid, &status, 0);
      if (!WIFSIGNALED(status)) continue;
      path_.push_back(number);
      failed(WTERMSIG(status) == SIGALRM ? "does not end in time" : "the process died");
      path_.pop_back();
    }
  }

  [[noreturn]] void tryOne(const Choice& choice) {
    alarm(0);
    try {
      alarm(kSecondsPerEnd);
      choice();
      alarm(0);
      choose();
    } catch (const Broken& broken) {
      failed(firstLine(broken.what()));
    }
    fflush(stdout);
    _exit(0);
  }

  void failed(const std::string& how) {
    if (++found_.failed > kToldFailures) return;
    std::string path;
    for (size_t number : path_) path += (path.empty() ? "" : ",") + std::to_string(number);
    printf("BROKEN: %s\n--choices %s\n%s", how.c_str(), path.c_str(), world_.story_.c_str());
  }

  /// All that may happen next.
  std::vector<Choice> choices_() {
    std::vector<Choice> out;
    if (auto* open = openLink()) {
      out.push_back([this, open] { oneMessage(*open); });
      if (arguments_.cuts && !cutOnce_) out.push_back([this, open] { cut(*open); });
    }
    if (operationsLeft_ == 0) return out;
    for (size_t i = 0; i < world_.machines_.size(); ++i)
      for (const auto& operation : operationsOf(i)) {
        out.push_back([=, this] { operate(i, operation, false); });
        if (unread_[i] && !openLink()) out.push_back([=, this] { operate(i, operation, true); });
      }
    if (!openLink())
      for (auto& link : world_.links_)
        if (differ(*link)) out.push_back([this, &link] { open(*link); });
    return out;
  }

  SimLink* openLink() {
    for (auto& link : world_.links_)
      if (link->connected()) return link.get();
    return nullptr;
  }

  size_t numberOf(const SimPeer& peer) const {
    for (size_t i = 0; i < world_.machines_.size(); ++i)
      if (world_.machines_[i].peer.get() == &peer) return i;
    return 0;
  }

  peer::Core& coreOf(SimLink& link, int side) { return link.end(side).core->core(); }

  bool differ(SimLink& link) {
    return unread_[numberOf(link.end(0))] || unread_[numberOf(link.end(1))] || coreOf(link, 0).tree.vector() != coreOf(link, 1).tree.vector();
  }

  /// Both know that they agree, and have what they want.
  bool settled(SimLink& link) {
    for (int side : {0, 1}) {
      auto& core = coreOf(link, side);
      if (core.folder->settling() || core.marks->missingFiles() || core.store.unsynced().count()) return false;
      if (!core.exchange->agreesWith(link.end(1 - side).key)) return false;
    }
    return coreOf(link, 0).tree.vector() == coreOf(link, 1).tree.vector();
  }

  void open(SimLink& link) {
    world_.say(link.end(0).options.name + " and " + link.end(1).options.name + " meet");
    link.connect();
    while (arguments_.whole && link.connected()) oneMessage(link);
  }

  void cut(SimLink& link) {
    ++found_.cuts;
    cutOnce_ = true;
    world_.say("their connection is cut");
    link.cut();
    world_.runFor(100 * kNsPerMs);
    unread_.assign(unread_.size(), false);
  }

  /// Until one more is under way, or nothing is left to say. A connection that waits for other peers ends, too.
  void oneMessage(SimLink& link) {
    const uint64_t before = link.messages();
    const int64_t until = world_.queue_.nowNs() + 10'000 * kNsPerMs;
    while (link.messages() == before && !settled(link) && world_.queue_.nowNs() < until) world_.stepOnce();
    if (link.messages() != before) {
      ++found_.messages;
      return;
    }
    world_.say("they part");
    link.cut();
    world_.runFor(100 * kNsPerMs);
    for (int side : {0, 1}) unread_[numberOf(link.end(side))] = false;
  }

  struct Operation {
    enum { Write, Remove, Move, Folder, Replace } kind;
    std::string path, to;
  };

  /// Each that makes sense in this user's folder as it is.
  std::vector<Operation> operationsOf(size_t number) {
    std::vector<Operation> out;
    world_.doing(number, [&](Directory& root) {
      const std::vector<std::string> names = {"a", "b", "b/a"};
      auto typeOf = [&](const std::string& path) -> std::optional<FileStat::Type> {
        auto stat = root.stat(path);
        return stat.ok() ? std::optional(stat->type) : std::nullopt;
      };
      for (const auto& path : names) {
        const auto type = typeOf(path);
        const bool possible = path != "b/a" || typeOf("b") == FileStat::Type::Directory;
        if (!possible) continue;
        if (type != FileStat::Type::Directory) out.push_back({Operation::Write, path, ""});
        if (!type && path != "b/a") out.push_back({Operation::Folder, path, ""});
        if (!type) continue;
        out.push_back({Operation::Remove, path, ""});
        if (type == FileStat::Type::File) out.push_back({Operation::Replace, path, ""});
        for (const auto& to : names) {
          if (to == path || to.starts_with(path + "/") || path.starts_with(to + "/")) continue;
          if (to == "b/a" && typeOf("b") != FileStat::Type::Directory) continue;
          const auto there = typeOf(to);
          if (!there || (there == FileStat::Type::File && type == FileStat::Type::File)) out.push_back({Operation::Move, path, to});
        }
      }
    });
    return out;
  }

  void operate(size_t number, const Operation& operation, bool afterReading) {
    if (afterReading) world_.runFor(400 * kNsPerMs);
    --operationsLeft_;
    unread_[number] = true;
    ++found_.operations;
    static const char* const kWords[] = {"writes", "removes", "moves", "makes folder", "saves by rename"};
    world_.say(number, std::string(kWords[operation.kind]) + " " + operation.path + (operation.to.empty() ? "" : " to " + operation.to) +
                           (afterReading ? ", a little later" : ""));
    const std::string content = world_.newContent(0);
    world_.doing(number, [&](Directory& root) {
      switch (operation.kind) {
        case Operation::Write: world_.put(number, root, operation.path, content); break;
        case Operation::Remove: world_.removeAll(number, root, operation.path); break;
        case Operation::Move: world_.move(number, root, operation.path, operation.to); break;
        case Operation::Folder: (void)root.makeDirectory(operation.path, 0755).ok(); break;
        case Operation::Replace:
          world_.put(number, root, "new.tmp", content);
          world_.move(number, root, "new.tmp", operation.path);
          break;
      }
    });
  }

  /// All meet, and everything that World checks must hold.
  void end() {
    alarm(kSecondsPerEnd);
    ++found_.ends;
    world_.heal();
    world_.settleDown("after all met");
    world_.checkTrees();
    world_.checkFolders();
    world_.checkTokens();
    world_.checkReading();
    if (arguments_.twiceEach) world_.checkQuiet();
    alarm(0);
  }

  const Arguments& arguments_;
  Found& found_;
  size_t worker_;
  World world_;
  size_t operationsLeft_;
  std::vector<bool> unread_;   ///< of each machine: something was done in its folder since it last had time to look
  std::vector<size_t> path_;   ///< the choices that led here
  size_t turn_ = 0;
  bool cutOnce_ = false;
};

int searchAll(const Arguments& arguments) {
  void* shared = mmap(nullptr, sizeof(Found), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) abort();
  auto* found = new (shared) Found;
  if (!arguments.choices.empty()) {
    try {
      Scope(arguments, *found, 0).replay(arguments.choices);
    } catch (const Broken& broken) {
      printf("BROKEN: %s\n", broken.what());
      return 1;
    }
    printf("held\n");
    return 0;
  }
  const time_t began = time(nullptr);
  std::vector<pid_t> workers;
  fflush(stdout);
  for (size_t i = 0; i < size_t(arguments.jobs); ++i) {
    workers.push_back(fork());
    if (workers.back() != 0) continue;
    try {
      Scope(arguments, *found, i).search();
    } catch (const Broken& broken) {
      printf("BROKEN at first: %s\n", broken.what());
      ++found->failed;
    }
    fflush(stdout);
    _exit(0);
  }
  bool died = false;
  for (pid_t worker : workers) {
    int status = 0;
    waitpid(worker, &status, 0);
    died = died || WIFSIGNALED(status);
  }
  printf("%zu peers, %zu operations over 3 names%s%s: %llu interleavings ended, of %llu moments at which something was chosen (%llu operations, "
         "%llu messages, %llu cuts); %llu broken; %lld s\n",
         arguments.peers ? arguments.peers : 2, arguments.operations, arguments.unreal ? ", the last peer keeps nothing" : "",
         arguments.whole ? ", each meeting undisturbed" : arguments.cuts ? ", one connection cut after any message" : "", static_cast<unsigned long long>(found->ends),
         static_cast<unsigned long long>(found->moments), static_cast<unsigned long long>(found->operations),
         static_cast<unsigned long long>(found->messages), static_cast<unsigned long long>(found->cuts),
         static_cast<unsigned long long>(found->failed), static_cast<long long>(time(nullptr) - began));
  return found->failed || died || found->ends == 0 ? 1 : 0;
}

}  // namespace realize::test
