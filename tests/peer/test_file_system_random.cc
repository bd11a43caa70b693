// Random operations through the mount, and the same ones on a plain folder: both must end alike, however the arena's own
// work falls between them.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include <cstdlib>
#include <random>

#include "tests/peer/mounted_arena.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

/// Everything below a folder: kind, mode and bytes of each name.
std::string describeFolder(const std::string& path, const std::string& prefix = "") {
  std::map<std::string, std::string> lines;
  for (const auto& item : std::filesystem::directory_iterator(path)) {
    const std::string name = item.path().filename();
    if (name == ".realize") continue;
    struct stat st {};
    REQUIRE(lstat(item.path().c_str(), &st) == 0);
    std::ostringstream line;
    line << prefix << name << " ";
    if (S_ISLNK(st.st_mode)) {
      line << "-> " << std::filesystem::read_symlink(item.path()).string() << "\n";
    } else if (S_ISDIR(st.st_mode)) {
      line << "dir\n" << describeFolder(item.path(), prefix + name + "/");
    } else {
      std::ifstream in(item.path(), std::ios::binary);
      line << std::oct << (st.st_mode & 07777) << " " << std::string(std::istreambuf_iterator<char>(in), {}) << "\n";
    }
    lines[name] = line.str();
  }
  std::string out;
  for (const auto& [name, line] : lines) out += line;
  return out;
}

std::string describeMount(MountedArena& arena, NodeId node = kRootNode, const std::string& prefix = "") {
  std::string out;
  auto names = arena.fs().readDirectory(node);
  REQUIRE(names.ok());
  for (const auto& name : *names) {
    std::ostringstream line;
    line << prefix << name.name << " ";
    switch (name.attributes.kind) {
      case EntryKind::Symlink: line << "-> " << *arena.fs().readSymlink(name.attributes.node) << "\n"; break;
      case EntryKind::Directory:
        line << "dir\n" << describeMount(arena, name.attributes.node, prefix + name.name + "/");
        break;
      case EntryKind::File: {
        auto handle = arena.open(name.attributes.node, false);
        REQUIRE(handle.ok());
        line << std::oct << name.attributes.mode << " " << *arena.readHandle(*handle) << "\n";
        arena.fs().release(*handle);
        break;
      }
    }
    out += line.str();
  }
  return out;
}

class Rival {
 public:
  explicit Rival(uint32_t seed) : random_(seed) {}

  void step() {
    const uint32_t what = pick(100);
    if (what < 30) write();
    else if (what < 55) rename();
    else if (what < 65) unlink();
    else if (what < 75) makeDirectory();
    else if (what < 80) removeDirectory();
    else if (what < 85) makeSymlink();
    else if (what < 92) chmod();
    else if (what < 95) keepOpen();
    else outside();
    if (pick(4) == 0) arena.clock.advance(int64_t(pick(150)) * 1'000'000);
    for (uint32_t i = pick(4); i > 0; --i) pick(2) ? arena.scheduler.stepPool() : arena.scheduler.stepCore();
    if (pick(6) == 0) arena.scheduler.stepTime();
  }
  std::string difference() {
    const std::string mount = describeMount(arena), folder = describeFolder(arena.folder()), plain = describeFolder(plain_.path());
    if (mount != plain) return "mount:\n" + mount + "plain:\n" + plain;
    if (folder != plain) return "folder:\n" + folder + "plain:\n" + plain;
    return "";
  }
  std::string handlesDifference() {
    for (auto& open : open_) {
      char there[256];
      const ssize_t n = pread(open.fd, there, sizeof there, 0);
      auto here = arena.readHandle(open.handle, 0, sizeof there);
      if (!here.ok() || *here != std::string(there, size_t(n))) return "an open file differs";
    }
    return "";
  }
  ~Rival() {
    for (auto& open : open_) {
      close(open.fd);
      arena.fs().release(open.handle);
    }
  }

  MountedArena arena;
  std::string log;

 private:
  struct Open {
    FileHandle handle;
    int fd;
  };
  uint32_t pick(uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n - 1)(random_); }
  std::string name() { return std::string(1, char('a' + pick(5))); }
  /// A folder that is there: its node and its path ("" or "a/b/").
  std::pair<NodeId, std::string> folder() {
    NodeId node = kRootNode;
    std::string path;
    while (pick(2)) {
      const std::string next = name();
      auto found = arena.fs().lookup(node, next);
      if (!found.ok() || found->kind != EntryKind::Directory) break;
      node = found->node;
      path += next + "/";
    }
    return {node, path};
  }
  std::string plain(const std::string& path) { return plain_.path() + "/" + path; }
  template <typename T>
  void same(const std::string& what, const Result<T>& mine, bool theirs) {
    log += what + (theirs ? "\n" : " (fails)\n");
    CAPTURE(what);
    if (mine.ok() != theirs) FAIL_CHECK(what << ": " << (mine.ok() ? "works" : mine.error().message) << "; plain errno " << errno << "\n" << log);
  }

  void write() {
    auto [node, path] = folder();
    const std::string file = name(), text = "text " + std::to_string(pick(1000));
    const auto there = arena.fs().lookup(node, file);
    if (there.ok() && there->kind != EntryKind::File) return;
    const bool truncate = pick(2);
    Result<FileHandle> handle = Error{};
    if (there.ok()) {
      handle = arena.open(there->node, true, truncate);
    } else {
      auto made = arena.fs().create(node, file, 0644, 0, 0, true);
      if (made.ok()) handle = made->handle;
      else handle = made.error();
    }
    const int fd = ::open(plain(path + file).c_str(), O_RDWR | O_CREAT | (truncate ? O_TRUNC : 0), 0644);
    same("write " + path + file, handle, fd >= 0);
    if (fd >= 0 && handle.ok()) {
      const uint64_t at = pick(3);
      REQUIRE(arena.writeHandle(*handle, text, at).ok());
      REQUIRE(pwrite(fd, text.data(), text.size(), off_t(at)) == ssize_t(text.size()));
      if (pick(8) == 0 && open_.size() < 4) {
        open_.push_back({*handle, fd});
        return;
      }
      arena.fs().release(*handle);
    }
    if (fd >= 0) close(fd);
  }
  void rename() {
    auto [node, path] = folder();
    auto [newNode, newPath] = folder();
    const std::string from = name(), to = name();
    const uint32_t kind = pick(6);
    const auto flag = kind == 0 ? RenameFlag::NoReplace : kind == 1 ? RenameFlag::Exchange : RenameFlag::Replace;
    const unsigned flags = kind == 0 ? RENAME_NOREPLACE : kind == 1 ? RENAME_EXCHANGE : 0;
    auto mine = arena.fs().rename(node, from, newNode, to, flag);
    const bool theirs = renameat2(AT_FDCWD, plain(path + from).c_str(), AT_FDCWD, plain(newPath + to).c_str(), flags) == 0;
    same("rename " + std::to_string(kind) + " " + path + from + " " + newPath + to, mine, theirs);
  }
  void unlink() {
    auto [node, path] = folder();
    const std::string file = name();
    auto mine = arena.fs().unlink(node, file);
    same("unlink " + path + file, mine, ::unlink(plain(path + file).c_str()) == 0);
  }
  void makeDirectory() {
    auto [node, path] = folder();
    const std::string made = name();
    auto mine = arena.fs().makeDirectory(node, made, 0755, 0, 0);
    same("mkdir " + path + made, mine, mkdir(plain(path + made).c_str(), 0755) == 0);
  }
  void removeDirectory() {
    auto [node, path] = folder();
    const std::string gone = name();
    auto mine = arena.fs().removeDirectory(node, gone);
    same("rmdir " + path + gone, mine, rmdir(plain(path + gone).c_str()) == 0);
  }
  void makeSymlink() {
    auto [node, path] = folder();
    const std::string made = name(), target = "to-" + name();
    auto mine = arena.fs().makeSymlink(node, made, target, 0, 0);
    same("symlink " + path + made, mine, symlink(target.c_str(), plain(path + made).c_str()) == 0);
  }
  void chmod() {
    auto [node, path] = folder();
    const std::string file = name();
    auto there = arena.fs().lookup(node, file);
    if (!there.ok() || there->kind != EntryKind::File) return;
    AttributeChange change;
    change.mode = pick(2) ? 0600 : 0640;
    const bool size = pick(3) == 0;
    if (size) change.sizeBytes = pick(6);
    Result<Attributes> mine = Error{};
    arena.fs().setAttributes(there->node, 0, change, [&](Result<Attributes> after) { mine = std::move(after); });
    bool theirs = ::chmod(plain(path + file).c_str(), *change.mode) == 0;
    if (size) theirs = theirs && truncate(plain(path + file).c_str(), off_t(*change.sizeBytes)) == 0;
    same("chmod " + path + file, mine, theirs);
  }
  void keepOpen() {
    if (open_.empty()) return;
    auto& open = open_[pick(uint32_t(open_.size()))];
    const std::string text = "OPEN" + std::to_string(pick(100));
    REQUIRE(arena.writeHandle(open.handle, text, 1).ok());
    REQUIRE(pwrite(open.fd, text.data(), text.size(), 1) == ssize_t(text.size()));
    log += "write to an open file\n";
    if (pick(2)) return;
    close(open.fd);
    arena.fs().release(open.handle);
    open_.erase(open_.begin() + (&open - open_.data()));
  }
  /// Somebody works in the backing folder itself, while nothing else goes on.
  void outside() {
    if (pick(3)) return;
    log += "outside\n";
    REQUIRE(arena.settle());
    const std::string file = name(), to = name();
    for (const std::string& base : {arena.folder() + "/", plain("")}) {
      std::error_code failed;
      const bool isFile = std::filesystem::is_regular_file(std::filesystem::symlink_status(base + file));
      if (isFile) std::ofstream(base + file, std::ios::app) << " outside";
      if (isFile && !std::filesystem::exists(std::filesystem::symlink_status(base + to))) std::filesystem::rename(base + file, base + to, failed);
    }
    arena.locked([](Core& c) { c.folder->rescanAll(); return 0; });
    REQUIRE(arena.settle());
  }

  std::mt19937 random_;
  test::TempDir plain_;
  std::vector<Open> open_;
};

}  // namespace

TEST_CASE("random operations end as on a plain folder, and another look finds nothing") {
  const mode_t mask = umask(022);
  const char* wish = getenv("REALIZE_SEEDS");
  const uint32_t seeds = wish ? uint32_t(atoi(wish)) : 12;
  const char* first = getenv("REALIZE_FIRST_SEED");
  for (uint32_t seed = first ? uint32_t(atoi(first)) : 1, last = seed + seeds; seed < last; ++seed) {
    CAPTURE(seed);
    Rival rival(seed);
    REQUIRE(rival.arena.settle());
    for (int round = 0; round < 6; ++round) {
      for (int i = 0; i < 40; ++i) rival.step();
      if (auto wrong = rival.difference(); !wrong.empty()) FAIL("before the rest, " << wrong << rival.log);
      if (auto wrong = rival.handlesDifference(); !wrong.empty()) FAIL(wrong << rival.log);
      if (round % 2) continue;
      if (auto wrong = rival.arena.unquiet(); !wrong.empty()) FAIL(wrong << "\n" << rival.log);
      if (auto wrong = rival.difference(); !wrong.empty()) FAIL("after the rest, " << wrong << rival.log);
      if (auto several = rival.arena.locked([](Core& c) { return c.store.withSeveralHeads(0, 1000).size(); })) FAIL(several << " conflicts" << rival.log);
    }
  }
  umask(mask);
}
