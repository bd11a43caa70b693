// What programs do through a mount, on the kernel's own file systems: the process that serves it can end at any system call,
// and a name holds old or new content, and what was synced is there.

#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "librealize/peer/arena_file_system.h"
#include "tests/kill/household.h"
#include "tests/kill/traced.h"

using namespace realize;
using namespace realize::test;

namespace {

/// How far the program came: in memory that a killed process leaves behind.
enum Stage : int { Begun, Synced, Done };

struct Program {
  std::string name;
  std::string before, after;  ///< of "sub/doc"; kNone: it is not there
  std::function<void(FileSystem&, NodeId folder, volatile int& stage)> run;
};

std::string textOf(size_t size, char with) { return std::string(size, with) + "end"; }

/// A file as it is made by editors, compilers and databases: created, written, synced.
void writeNew(FileSystem& files, NodeId folder, const std::string& name, const std::string& content, volatile int& stage) {
  auto made = files.create(folder, name, 0644, 0, 0, true);
  if (!made.ok()) throw std::runtime_error("create: " + made.error().message);
  for (size_t at = 0; at < content.size(); at += 100'000) {
    const auto piece = std::as_bytes(std::span(content)).subspan(at, std::min<size_t>(100'000, content.size() - at));
    if (!files.write(made->handle, at, piece).ok()) throw std::runtime_error("write");
  }
  if (!files.sync(made->handle, false).ok() || !files.syncDirectory(folder).ok()) throw std::runtime_error("sync");
  stage = Synced;
  files.release(made->handle);
}

std::vector<Program> programs() {
  std::vector<Program> all;
  for (const size_t size : {size_t(3000), size_t(600'000)}) {
    const std::string before = textOf(size, 'b'), after = textOf(size + 9, 'a');
    const std::string what = size < 10'000 ? "a small file is " : "a large file is ";
    all.push_back({what + "made", kNone, after, [after](FileSystem& files, NodeId folder, volatile int& stage) {
                     writeNew(files, folder, "doc", after, stage);
                     stage = Done;
                   }});
    all.push_back({what + "saved by a rename over it", before, after, [after](FileSystem& files, NodeId folder, volatile int& stage) {
                     writeNew(files, folder, "doc.new", after, stage);
                     if (!files.rename(folder, "doc.new", folder, "doc", RenameFlag::Replace).ok()) throw std::runtime_error("rename");
                     stage = Done;
                   }});
    all.push_back({what + "emptied", before, "", [](FileSystem& files, NodeId folder, volatile int& stage) {
                     auto there = files.lookup(folder, "doc");
                     if (!there.ok()) throw std::runtime_error("lookup");
                     bool set = false;
                     files.setAttributes(there->node, 0, AttributeChange{.mode = {}, .sizeBytes = 0, .mtimeNs = {}, .uid = {}, .gid = {}},
                                         [&](Result<Attributes> changed) { set = changed.ok(); });
                     if (!set) throw std::runtime_error("truncate");
                     stage = Done;
                   }});
    all.push_back({what + "removed", before, kNone, [](FileSystem& files, NodeId folder, volatile int& stage) {
                     if (!files.unlink(folder, "doc").ok()) throw std::runtime_error("unlink");
                     stage = Done;
                   }});
  }
  return all;
}

struct Folder {
  Folder() {
    const char* set = getenv("TMPDIR");
    path = std::string(set && *set ? set : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") + "/realize-kill-XXXXXX";
    if (!mkdtemp(path.data())) abort();
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
};

int told(const std::string& what) {
  if (what.empty()) return 0;
  printf("%s\n", what.c_str());
  return 1;
}

/// B serves its mount, the program runs, and the peers agree again.
std::string firstLife(KillHousehold& h, const Program& program, volatile int& stage) {
  std::string why = h.meet();
  if (!why.empty()) return why;
  auto& files = h.b().core->guardedFileSystem();
  auto folder = files.lookup(kRootNode, "sub");
  if (!folder.ok()) return folder.error().message;
  program.run(files, folder->node, stage);
  why = h.rest();
  h.part();
  return why;
}

std::string secondLife(KillHousehold& h, const Program& program, int stage) {
  const std::string why = h.meet();
  if (!why.empty()) return "does not settle: " + why;
  for (const auto& name : h.temporariesOfB()) return "a temporary file is left: " + name;
  const std::string now = h.contentAtB("sub/doc");
  const bool partial = program.before == kNone && stage < Synced && program.after.starts_with(now);  // Nobody was told that it is written.
  if (now != program.before && now != program.after && !partial) return "the name holds neither old nor new content";
  if (now != kNone && !h.isHead("sub/doc", now)) return "the other peer has not what the name holds";
  if (stage == Done && now != program.after) return "what was done is undone";
  if (stage < Synced) return "";
  if (now != program.after && h.contentAtB("sub/doc.new") != program.after) return "what was synced is gone";
  return "";
}

struct Run {
  Run(const Folder& where, const Program& program, int number) : path(where.path + "/" + std::to_string(number)) {
    household = std::make_unique<KillHousehold>(path, Mark::Real);
    household->writeAtA("sub/other", "other");
    if (program.before != kNone) household->writeAtA("sub/doc", program.before);
    const std::string why = household->meet();
    if (!why.empty()) throw std::runtime_error("the start did not settle: " + why);
    household->part();
    household->runFor(1000);
  }
  ~Run() {
    household = nullptr;
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
  std::unique_ptr<KillHousehold> household;
};

int& sharedStage() {
  static void* memory = mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  return *static_cast<int*>(memory);
}

void killedEverywhere(const Folder& where, const Program& program) {
  volatile int& stage = sharedStage();
  for (int at = 1;; ++at) {
    REQUIRE(at < 1000);
    Run run(where, program, at);
    auto& h = *run.household;
    stage = Begun;
    int seen = 0;
    std::string before;
    const auto end = runTraced([&] { return told(firstLife(h, program, stage)); }, [&](const SystemCall& call) {
      if (!call.changes() || ++seen < at) return Verdict::Go;
      before = std::to_string(at) + ": " + call.describe();
      return Verdict::Kill;
    });
    INFO(program.name, ", killed before ", before, ", stage ", int(stage));
    CHECK((end.killed || end.exitCode == 0));
    const std::string now = h.contentAtB("sub/doc");
    if (program.before != kNone) CHECK((now == program.before || now == program.after));
    const int came = stage;
    CHECK(runForked([&] { return told(secondLife(h, program, came)); }).exitCode == 0);
    if (end.killed) continue;
    MESSAGE(program.name, ": killed before each of ", at - 1, " calls");
    CHECK(at > 5);
    return;
  }
}

}  // namespace

TEST_CASE("killed at any system call while a program works in its mount, a peer has old or new content, and what was synced") {
  if (!canTrace()) {
    MESSAGE("skipped: this machine does not let a process trace its children");
    return;
  }
  // As in test_kill.cc: several processes share the work.
  const char* part = getenv("REALIZE_KILL_PART");
  size_t first = 0, step = 1;
  if (part && sscanf(part, "%zu/%zu", &first, &step) != 2) abort();
  Folder where;
  const auto all = programs();
  for (size_t i = first; i < all.size(); i += step) killedEverywhere(where, all[i]);
}
