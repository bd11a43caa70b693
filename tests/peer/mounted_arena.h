#pragma once

// One arena on a real temporary folder, without threads: jobs run when the test says so, on a clock that it moves.

#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "librealize/base/random.h"
#include "librealize/peer/arena_core.h"
#include "librealize/peer/arena_file_system.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_dir.h"

namespace realize::peer::testing {

class SteppedScheduler final : public Scheduler {
 public:
  explicit SteppedScheduler(test::FakeClock& clock) : clock_(clock) {}
  void onCore(std::function<void()> job) override { core_.push_back(std::move(job)); }
  void onCoreAfter(int64_t delayMs, std::function<void()> job) override {
    timers_.emplace(clock_.monotonicNs() + delayMs * 1'000'000, std::move(job));
  }
  void onPool(bool, std::function<void()> job) override { pool_.push_back(std::move(job)); }
  FairMutex& coreLock() override { return lock_; }

  bool idle() const { return core_.empty() && pool_.empty(); }
  bool stepPool() {
    if (pool_.empty()) return false;
    auto job = std::move(pool_.front());
    pool_.pop_front();
    job();
    return true;
  }
  bool stepCore() {
    if (core_.empty()) return false;
    auto job = std::move(core_.front());
    core_.pop_front();
    std::lock_guard held(lock_);
    job();
    return true;
  }
  void runReady() {
    while (stepPool() || stepCore()) {}
  }
  /// Goes on to the next timer.
  bool stepTime() {
    if (timers_.empty()) return false;
    auto next = timers_.begin();
    if (next->first > clock_.monotonicNs()) clock_.advance(next->first - clock_.monotonicNs());
    core_.push_back(std::move(next->second));
    timers_.erase(next);
    return true;
  }

 private:
  test::FakeClock& clock_;
  FairMutex lock_;
  std::deque<std::function<void()>> core_, pool_;
  std::multimap<int64_t, std::function<void()>> timers_;
};

struct MountedArena {
  explicit MountedArena(bool userFolder = true) {
    std::filesystem::create_directories(dir / "db");
    std::filesystem::create_directories(folder());
    ArenaOptions options;
    options.id.bytes[0] = 7;
    options.name = "docs";
    options.databaseDirectory = dir / "db";
    options.folder = folder();
    options.userFolder = userFolder;
    options.self.bytes[0] = 'a';
    Environment env{clock, systemRandom(), systemDisk(), scheduler, {}};
    std::lock_guard held(scheduler.coreLock());
    auto opened = ArenaCore::open(env, options, ArenaSettings(), {}, true);
    if (!opened.ok()) throw std::runtime_error(opened.error().message);
    arena = std::move(*opened);
    arena->start(Mark::None, false);
  }
  ~MountedArena() {
    std::lock_guard held(scheduler.coreLock());
    arena->stop();
  }

  std::string folder() const { return dir / "files"; }
  std::string path(const std::string& name) const { return folder() + "/" + name; }
  FileSystem& fs() { return arena->fileSystem(); }
  Core& core() { return arena->core(); }
  template <typename F>
  auto locked(F work) {
    std::lock_guard held(scheduler.coreLock());
    return work(core());
  }

  /// Everything is read and applied. False when it never ends.
  bool settle() {
    for (int i = 0; i < 1000; ++i) {
      scheduler.runReady();
      if (!locked([](Core& c) { return c.folder->settling(); }) && scheduler.idle()) return true;
      if (!scheduler.stepTime()) return false;
    }
    return false;
  }
  void rest() {
    clock.advance(1'000'000'000);
  }

  // --- through the mount
  NodeId at(const std::string& where) {
    NodeId node = kRootNode;
    std::istringstream parts(where);
    for (std::string name; std::getline(parts, name, '/');) {
      auto found = fs().lookup(node, name);
      if (!found.ok()) return 0;
      node = found->node;
    }
    return node;
  }
  EntryId idAt(const std::string& where) {
    return locked([&](Core& c) {
      auto record = c.recordAt(where);
      return record.ok() ? record->entry.id : EntryId();
    });
  }
  size_t heads(const std::string& where) {
    return locked([&](Core& c) {
      auto record = c.recordAt(where);
      return record.ok() ? c.tree.shownHeads(record->entry.id).size() : 0;
    });
  }
  bool real(const std::string& where) {
    const NodeId node = at(where);
    return locked([&](Core& c) { return c.store.disk().get(node).has_value(); });
  }
  Result<FileHandle> open(NodeId node, bool write, bool truncate = false) {
    Result<FileHandle> out = Error{Code::Internal, "not answered"};
    OpenFlags flags;
    flags.write = write;
    flags.truncate = truncate;
    fs().open(node, flags, [&](Result<FileHandle> opened) { out = std::move(opened); });
    scheduler.runReady();
    return out;
  }
  Result<std::string> readHandle(FileHandle handle, uint64_t offset = 0, size_t size = 1 << 20) {
    Result<std::string> out = Error{Code::Internal, "not answered"};
    fs().read(handle, offset, size, [&](Result<Bytes> bytes) {
      if (bytes.ok()) out = std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
      else out = bytes.error();
    });
    scheduler.runReady();
    return out;
  }
  Result<std::string> read(const std::string& where) {
    const NodeId node = at(where);
    if (node == 0) return Error{Code::NotFound, where};
    REALIZE_ASSIGN(const FileHandle handle, open(node, false));
    auto text = readHandle(handle);
    fs().release(handle);
    return text;
  }
  Result<void> writeHandle(FileHandle handle, const std::string& text, uint64_t offset = 0) {
    REALIZE_ASSIGN(const size_t n, fs().write(handle, offset, std::as_bytes(std::span(text))));
    return n == text.size() ? Result<void>() : Result<void>(Error{Code::Io, "short"});
  }
  /// As `echo text > where`.
  Result<NodeId> write(NodeId parent, const std::string& name, const std::string& text) {
    FileHandle handle = 0;
    NodeId node = 0;
    if (auto there = fs().lookup(parent, name); there.ok()) {
      node = there->node;
      REALIZE_ASSIGN(handle, open(node, true, true));
    } else {
      REALIZE_ASSIGN(auto made, fs().create(parent, name, 0644, 0, 0, false));
      handle = made.handle;
      node = made.attributes.node;
    }
    REALIZE_TRY(writeHandle(handle, text));
    fs().release(handle);
    return node;
  }
  Result<NodeId> write(const std::string& name, const std::string& text) { return write(kRootNode, name, text); }
  Result<void> rename(const std::string& from, const std::string& to, RenameFlag flag = RenameFlag::Replace) {
    return fs().rename(kRootNode, from, kRootNode, to, flag);
  }
  /// A file that a peer has: in the tree only.
  EntryId makeUnreal(const std::string& name, const std::string& text, const EntryId& parent = kRootEntry) {
    return locked([&](Core& c) {
      EntryId id;
      c.transact([&] { id = *c.tree.create(parent, name, EntryKind::File, versionOf(text)); });
      return id;
    });
  }
  static Version versionOf(const std::string& text) {
    ContentHasher hasher(text.size());
    hasher.add(std::as_bytes(std::span(text)));
    Version version;
    version.blob = hasher.finish()->blob;
    version.sizeBytes = text.size();
    version.mode = 0644;
    version.mtimeNs = 1'600'000'000'123'456'789;
    return version;
  }

  // --- beneath
  std::string onDisk(const std::string& name) {
    std::ifstream in(path(name), std::ios::binary);
    if (!in) return "<none>";
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  bool has(const std::string& name) { return std::filesystem::symlink_status(path(name)).type() != std::filesystem::file_type::not_found; }

  /// What the tree shows, with the dots of its heads.
  std::string dump() {
    return locked([](Core& c) {
      std::ostringstream out;
      std::vector<std::pair<EntryId, std::string>> directories{{kRootEntry, ""}};
      while (!directories.empty()) {
        auto [id, path] = directories.back();
        directories.pop_back();
        for (const auto& child : c.tree.children(id, "", 100'000)) {
          out << path << child.name << " " << child.id.hex() << " " << child.node;
          for (const auto& head : c.tree.shownHeads(child.id))
            out << " " << head.dot.seq << ":" << head.version.sizeBytes << ":" << head.version.mode;
          out << "\n";
          if (child.kind == EntryKind::Directory) directories.emplace_back(child.id, path + child.name + "/");
        }
      }
      return out.str();
    });
  }
  /// All is read; what the disk table says is so; another look finds nothing. What is wrong, or "".
  std::string unquiet() {
    if (!settle()) return "does not settle";
    const std::string before = dump();
    auto wrong = locked([&](Core& c) -> std::string {
      auto root = c.folder->root();
      for (const auto& row : c.store.disk().all(0, 100'000)) {
        if (row.node == kRootNode) continue;
        auto path = c.folder->diskPath(row.node);
        if (!path) return "row without path: " + row.name;
        auto stat = root->stat(*path);
        if (!stat.ok()) return "row without file: " + *path;
        if (row.dirty) return "still dirty: " + *path;
        if (row.kind != EntryKind::Directory && !row.matches(*stat)) return "row is not as the file: " + *path;
        auto id = c.store.idOf(row.node);
        auto record = id ? c.tree.get(*id) : std::nullopt;
        if (!record || !record->shown) return "row without entry: " + *path;
        if (c.shownPath(*id).ok() && *c.shownPath(*id) != *path) return "entry elsewhere: " + *path;
        if (row.kind != EntryKind::File) continue;
        const auto heads = c.tree.shownHeads(*id);
        if (std::none_of(heads.begin(), heads.end(), [&](const auto& h) { return h.version.blob == row.blob; }))
          return "bytes are no head: " + *path;
        const auto all = Core::baseOf(record->entry, nullptr);
        if (heads.size() == 1 && !std::includes(row.base.begin(), row.base.end(), all.begin(), all.end()))
          return "a change here would not have seen all: " + *path;
      }
      for (const auto& problem : c.store.problems().list(10))
        if (problem.kind != "stale") return "problem: " + problem.path + " " + problem.kind + " " + problem.detail;
      c.folder->rescanAll();
      return "";
    });
    if (!wrong.empty()) return wrong;
    if (!settle()) return "does not settle again";
    const std::string after = dump();
    return before == after ? "" : "changed by another look:\n" + before + "to:\n" + after;
  }

  test::TempDir dir;
  test::FakeClock clock;
  SteppedScheduler scheduler{clock};
  std::unique_ptr<ArenaCore> arena;
};

}  // namespace realize::peer::testing
