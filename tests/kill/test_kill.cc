// DESIGN 5 on the kernel's own file systems: whatever is done to the user's folder can end at any system call, and a user
// can save a file between any two, and a name shows old or new content at each instant, and what the user wrote is kept.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "tests/kill/household.h"
#include "tests/kill/traced.h"

using namespace realize;
using namespace realize::test;

namespace {

/// Text that no other seed makes, and that chunks do not share.
std::string text(size_t size, uint64_t seed) {
  FakeRandom random(seed);
  std::string out;
  while (out.size() < size) out += std::to_string(random.next64());
  out.resize(size);
  return out;
}

struct Story {
  std::string name;
  Mark markOfB = Mark::Real;
  std::string path = "sub/doc";
  std::string before;                                   ///< what both have at first under the path
  std::string after;                                    ///< what B has there in the end
  std::set<std::string> others = {"sub"};               ///< names that may be there besides
  bool takes = false;                                   ///< A removes or replaces `before`: B keeps it in its cache
  std::function<void(KillHousehold&)> change = {};      ///< by A, while B is away
  std::function<void(peer::Core&)> act = {};            ///< by B's user, once B is there
};

bool longRun() {
  const char* set = getenv("REALIZE_LONG");
  return set && *set;
}

/// Memory, where there is one: the searches start thousands of times, and what syncs do is not what they are after.
std::string workFolder() {
  const char* set = getenv("TMPDIR");
  if (set && *set) return set;
  return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

struct WorkFolder {
  WorkFolder() : path(workFolder() + "/realize-kill-XXXXXX") {
    if (!mkdtemp(path.data())) abort();
  }
  ~WorkFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
};

std::function<void(peer::Core&)> marked(Mark mark) {
  return [mark](peer::Core& core) { core.marks->set(peer::Core::rootRecord(), mark); };
}

std::vector<Story> stories() {
  std::vector<Story> all;
  auto edit = [&](const std::string& name, size_t size) {
    Story story{.name = name, .before = text(size, 1), .after = text(size + 7, 2)};
    story.takes = true;
    story.change = [after = story.after](KillHousehold& h) { h.writeAtA("sub/doc", after); };
    all.push_back(story);
  };
  edit("a small file is replaced", 3000);
  edit("a large file is replaced", 600'000);
  for (size_t size : {size_t(3000), size_t(600'000)}) {
    const std::string what = size < 10'000 ? "a small file" : "a large file";
    const std::string content = text(size, 3);
    all.push_back({.name = what + " becomes real", .markOfB = Mark::Unreal, .before = kNone, .after = content, .change = {},
                   .act = marked(Mark::Real)});
    all.back().change = [content](KillHousehold& h) { h.writeAtA("sub/doc", content); };
    all.push_back({.name = what + " becomes unreal", .before = content, .after = kNone, .change = {}, .act = marked(Mark::Unreal)});
  }
  all.push_back({.name = "a file is removed", .before = text(3000, 4), .after = kNone, .takes = true});
  all.back().change = [](KillHousehold& h) { h.inFolderOfA([](Directory& root) { REQUIRE(root.unlink("sub/doc").ok()); }); };
  all.push_back({.name = "a file is renamed over another", .before = text(3000, 5), .after = text(3000, 6), .others = {"sub", "sub/new"}, .takes = true});
  all.back().change = [](KillHousehold& h) {
    h.inFolderOfA([](Directory& root) { REQUIRE(root.rename("sub/new", "sub/doc", RenameKind::Replace).ok()); });
  };
  all.push_back({.name = "times and modes change", .before = text(3000, 7), .after = text(3000, 7)});
  all.back().change = [](KillHousehold& h) {
    h.inFolderOfA([](Directory& root) {
      REQUIRE(root.setMode("sub/doc", 0700).ok());
      REQUIRE(root.setTimes("sub/doc", 1'500'000'000'000'000'000).ok());
    });
  };
  return all;
}

/// REALIZE_KILL_PART=1/3: every third story, from the second on; several processes share the work.
std::vector<Story> partOfStories() {
  const char* part = getenv("REALIZE_KILL_PART");
  size_t first = 0, step = 1;
  if (part && sscanf(part, "%zu/%zu", &first, &step) != 2) abort();
  std::vector<Story> out;
  const auto all = stories();
  for (size_t i = first; i < all.size(); i += step) out.push_back(all[i]);
  return out;
}

/// Where the user of a story comes in between, or the peer ends.
struct Run {
  std::string path;
  std::unique_ptr<KillHousehold> household;

  explicit Run(const WorkFolder& where, const Story& story, int number) : path(where.path + "/" + std::to_string(number)) {
    household = std::make_unique<KillHousehold>(path, story.markOfB);
    auto& h = *household;
    if (story.before != kNone) h.writeAtA(story.path, story.before);
    if (story.others.contains("sub/new")) h.writeAtA("sub/new", story.after);
    const std::string why = h.meet();
    if (!why.empty()) throw std::runtime_error("the start did not settle: " + why);
    h.part();
    if (story.change) story.change(h);
    h.runFor(1000);
  }
  ~Run() {
    household = nullptr;
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

/// What a life of B found, for the parent: 0, or 1 with a message on stdout.
int told(const std::string& what) {
  if (what.empty()) return 0;
  printf("%s\n", what.c_str());
  return 1;
}

std::string firstLife(KillHousehold& h, const Story& story) {
  const std::string why = h.meet(story.act);
  h.part();
  return why;
}

constexpr int kNotKept = 2;  // An exit code.

/// What somebody wrote is a version that all know of, or at least a file.
bool isKept(KillHousehold& h, const Story& story, const std::string& written) {
  if (h.isHead(story.path, written)) return true;
  const auto files = h.filesOfB();
  return std::any_of(files.begin(), files.end(), [&](const auto& file) { return file.second == written; });
}

/// After whatever ended the first life: all comes to rest, and nothing of ours is left.
std::string secondLife(KillHousehold& h, const Story& story, const std::string& written, bool wroteOverOld) {
  std::string why = h.meet(story.act);
  if (!why.empty()) return "does not settle: " + why;
  for (const auto& name : h.temporariesOfB()) return "a temporary file is left: " + name;
  if (!written.empty() && !isKept(h, story, written)) return "what the user wrote is gone";
  for (const auto& [path, content] : h.filesOfB())
    if (written.empty() && path != story.path && !story.others.contains(path)) return "a file is left in the folder: " + path;
  if (written.empty() && h.contentAtB(story.path) != story.after) return "the name holds other than the new content";
  if (written.empty() && story.takes && !h.cachedAtB(story.before)) return "what a peer took away is not kept to be brought back";
  if (wroteOverOld && story.after != kNone && story.after != story.before && story.others.size() == 1 && !h.isHead(story.path, story.after))
    return "the other peer's version is gone, though the user has not seen it";
  return "";
}

bool wholeContent(const Story& story, const std::string& content) { return content == story.before || content == story.after; }

/// Runs the story once to its end. How many stops that makes, all or those that change something.
int countStops(const WorkFolder& where, const Story& story, const std::function<bool(const Run&, const SystemCall&)>& counts) {
  Run run(where, story, 0);
  int stops = 0;
  const auto end = runTraced([&] { return told(firstLife(*run.household, story)); }, [&](const SystemCall& call) {
    if (counts(run, call)) ++stops;
    if (getenv("REALIZE_KILL_CALLS")) printf("%4d %s\n", stops, call.describe().c_str());
    return Verdict::Go;
  });
  REQUIRE(end.exitCode == 0);
  return stops;
}

void killedEverywhere(const WorkFolder& where, const Story& story) {
  const int stops = countStops(where, story, [](const Run&, const SystemCall& call) { return call.changes(); });
  MESSAGE(story.name, ": killed before each of ", stops, " calls");
  CHECK(stops > 5);
  for (int at = 1; at <= stops; ++at) {
    Run run(where, story, at);
    auto& h = *run.household;
    int seen = 0;
    std::string where_;
    const auto end = runTraced([&] { return told(firstLife(h, story)); }, [&](const SystemCall& call) {
      if (!call.changes() || ++seen < at) return Verdict::Go;
      where_ = std::to_string(at) + ": " + call.describe();
      return Verdict::Kill;
    });
    INFO(story.name, ", killed before ", where_);
    CHECK((end.killed || end.exitCode == 0));
    CHECK(wholeContent(story, h.contentAtB(story.path)));
    CHECK(runForked([&] { return told(secondLife(h, story, "", false)); }).exitCode == 0);
  }
}


enum class Save : uint8_t { InPlace, ByRename, HeldOpen };

const char* nameOf(Save how) {
  switch (how) {
    case Save::InPlace: return "in place";
    case Save::ByRename: return "by a rename";
    case Save::HeldOpen: return "by who had it open";
  }
  return "?";
}

/// Somebody who writes one file, once.
class Writer {
 public:
  Writer(std::string path, std::string content, Save how) : path_(std::move(path)), content_(std::move(content)), how_(how) {}
  ~Writer() {
    if (fd_ >= 0) close(fd_);
  }
  /// False: the file cannot be opened at this instant, as a lease is being held on it.
  bool open() {
    const std::string to = how_ == Save::ByRename ? path_ + ".new" : path_;
    fd_ = ::open(to.c_str(), O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0644);
    if (fd_ < 0) CHECK(errno == EWOULDBLOCK);
    return fd_ >= 0;
  }
  bool isOpen() const { return fd_ >= 0; }
  bool hasSaved() const { return saved_; }
  void save() {
    CHECK(ftruncate(fd_, 0) == 0);
    CHECK(write(fd_, content_.data(), content_.size()) == ssize_t(content_.size()));
    close(fd_);
    fd_ = -1;
    if (how_ == Save::ByRename) CHECK(rename((path_ + ".new").c_str(), path_.c_str()) == 0);
    saved_ = true;
  }

 private:
  std::string path_, content_;
  Save how_;
  int fd_ = -1;
  bool saved_ = false;
};

struct Race {
  Save how = Save::InPlace;
  int at = 0;         ///< the stop before which the file is opened
  int saveAfter = 0;  ///< so many stops later it is saved
  int killAfter = 0;  ///< and so many later the peer is killed; 0: never
};

void raced(const WorkFolder& where, const Story& story, const Race& race) {
  Run run(where, story, race.at);
  auto& h = *run.household;
  const std::string written = text(story.before == kNone ? 2000 : story.before.size(), 77);  // Of a size that tells nothing.
  Writer writer(h.b().folder() + "/" + story.path, written, race.how);
  int seen = 0, openedAt = 0;
  bool overOld = false;
  std::string when;
  auto life = [&] {
    h.b().options.watched = true;
    const int failed = told(firstLife(h, story));
    return failed ? failed : isKept(h, story, written) ? 0 : kNotKept;
  };
  const auto end = runTraced(life, [&](const SystemCall& call) {
    if (!longRun() && !call.isBelow(h.b().folder())) return Verdict::Go;
    ++seen;
    if (!writer.isOpen() && !writer.hasSaved() && seen >= race.at && access((h.b().folder() + "/sub").c_str(), F_OK) == 0) {
      const std::string had = h.contentAtB(story.path);
      if (!writer.open()) return Verdict::Go;
      overOld = had == story.before && race.how != Save::HeldOpen;
      openedAt = seen;
      when = "opened before " + std::to_string(seen) + ": " + call.describe();
    }
    if (writer.isOpen() && seen >= openedAt + race.saveAfter) {
      writer.save();
      if (race.saveAfter) when += ", saved before " + std::to_string(seen) + ": " + call.describe();
    }
    if (!race.killAfter || !writer.hasSaved() || seen != openedAt + race.saveAfter + race.killAfter) return Verdict::Go;
    when += ", killed before " + std::to_string(seen) + ": " + call.describe();
    return Verdict::Kill;
  });
  INFO(story.name, ", ", std::string(nameOf(race.how)), ", ", when);
  const bool late = writer.isOpen();
  if (late) writer.save();
  CHECK((end.killed || end.exitCode == 0 || ((late || !writer.hasSaved()) && end.exitCode == kNotKept)));
  // A peer that ended in good order has told the other, which the next life's other does not know.
  if (late || end.killed) CHECK(runForked([&] { return told(secondLife(h, story, written, overOld)); }).exitCode == 0);
}

void racedEverywhere(const WorkFolder& where, const Story& story) {
  const int stops = countStops(where, story, [](const Run& run, const SystemCall& call) {
    return longRun() || call.isBelow(run.household->b().folder());
  });
  MESSAGE(story.name, ": raced before each of ", stops, " calls");
  for (int at = 1; at <= stops; ++at) {
    for (auto how : {Save::InPlace, Save::ByRename}) {
      raced(where, story, {how, at, 0, 0});
      if (!longRun()) continue;
      for (int after = 1; after <= 24; ++after) raced(where, story, {how, at, 0, after});
    }
    if (!longRun()) {
      // Of the pairs of two moments, some.
      raced(where, story, {at % 2 ? Save::InPlace : Save::ByRename, at, 0, 1 + at % 11});
      raced(where, story, {Save::HeldOpen, at, 1 + at % 7, 0});
      continue;
    }
    for (int after = 1; after <= 24; ++after) raced(where, story, {Save::HeldOpen, at, after, 0});
  }
}

bool skipped() {
  if (canTrace()) return false;
  MESSAGE("skipped: this machine does not let a process trace its children");
  return true;
}

}  // namespace

TEST_CASE("killed at any system call, a peer leaves whole files under their names and goes on") {
  if (skipped()) return;
  WorkFolder where;
  for (const auto& story : partOfStories()) killedEverywhere(where, story);
}

TEST_CASE("what a user saves between any two system calls of a peer is kept") {
  if (skipped()) return;
  WorkFolder where;
  for (const auto& story : partOfStories()) racedEverywhere(where, story);
}
