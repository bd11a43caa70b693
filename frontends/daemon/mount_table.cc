#include "frontends/daemon/mount_table.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>

namespace realize::daemon {

namespace {

/// `path` with its symlinks resolved, or itself where that fails (an absent folder overlaps by name).
std::string realOr(const std::string& path) {
  char buffer[PATH_MAX];
  return realpath(path.c_str(), buffer) ? buffer : path;
}

bool within(const std::string& inner, const std::string& outer) {
  if (outer == "/") return true;
  return inner.compare(0, outer.size(), outer) == 0 && (inner.size() == outer.size() || inner[outer.size()] == '/');
}

}  // namespace

bool pathsOverlap(const std::string& a, const std::string& b) {
  return !a.empty() && !b.empty() && (within(a, b) || within(b, a));
}

MountTable::MountTable(Peer& peer, MountBackend backend, std::string stateDir, std::function<void()> wake)
    : peer_(peer), backend_(std::move(backend)), stateDir_(std::move(stateDir)), wake_(std::move(wake)) {}

MountTable::~MountTable() { endAll(); }

void MountTable::endAll() {
  std::map<std::string, std::shared_ptr<Entry>> all;
  {
    std::lock_guard lock(mutex_);
    all.swap(mounts_);
  }
  for (auto& [point, entry] : all) {
    peer_.noteMount(entry->arena, point, false);
    entry->handle.reset();
  }
  writeNotes();
}

void MountTable::writeNotes() {
  std::lock_guard lock(mutex_);
  std::vector<MountInfo> all;
  for (auto& [point, entry] : mounts_)
    if (!entry->ended) all.push_back({entry->arena, point, entry->options});
  for (auto& lost : lost_) all.push_back(lost.mount);
  // Where they cannot be written, a mount is as good; it is not made anew after a kill.
  (void)writeMountNotes(stateDir_, all);
}

void MountTable::restore() {
  for (auto& was : readMountNotes(stateDir_)) {
    if (!isDeadMount(was.mountPoint)) continue;
    auto done = mount(was.arena, was.mountPoint, was.options);
    if (done) continue;
    std::lock_guard lock(mutex_);
    lost_.push_back({was, done.error().message});
  }
  writeNotes();
}

std::vector<LostMount> MountTable::lost() {
  std::lock_guard lock(mutex_);
  return lost_;
}

bool MountTable::forgetLost(const std::string& mountPoint) {
  std::lock_guard lock(mutex_);
  return std::erase_if(lost_, [&](auto& lost) { return lost.mount.mountPoint == mountPoint; }) > 0;
}

Result<void> MountTable::checkOverlap(const std::string& mountPoint) {
  if (pathsOverlap(mountPoint, realOr(stateDir_)))
    return Error{Code::Refused, mountPoint + ": overlaps the state folder " + stateDir_ + "; choose another mount point"};
  for (auto& name : peer_.arenaNames()) {
    auto arena = peer_.arena(name);
    if (!arena) continue;
    std::string folder = (*arena)->folder();
    if (folder.empty() || !pathsOverlap(mountPoint, realOr(folder))) continue;
    return Error{Code::Refused, mountPoint + ": overlaps the folder " + folder + " of arena '" + name +
                                    "'; choose a mount point outside of it"};
  }
  return {};
}

Result<void> MountTable::mount(const std::string& arenaName, const std::string& mountPoint,
                               const std::vector<std::string>& options) {
  if (!backend_) return Error{Code::Unsupported, "this daemon was built without mounts"};
  if (mountPoint.empty() || mountPoint[0] != '/')
    return Error{Code::InvalidArgument, mountPoint + ": a mount point must be an absolute path"};
  REALIZE_ASSIGN(auto arena, peer_.arena(arenaName));
  {
    std::lock_guard lock(mutex_);
    if (auto known = mounts_.find(mountPoint); known != mounts_.end() && !known->second->ended)
      return Error{Code::Exists, mountPoint + ": arena '" + known->second->arena + "' is mounted here already"};
  }
  // A mount whose daemon died (ENOTCONN) is the backend's to clear away.
  struct stat info {};
  if (stat(mountPoint.c_str(), &info) != 0) {
    if (errno == ENOENT)
      return Error{Code::NotFound, mountPoint + ": no such folder; make it first (mkdir)"};
    if (errno != ENOTCONN)
      return Error{Code::Io, mountPoint + ": " + std::strerror(errno)};
  } else if (!S_ISDIR(info.st_mode)) {
    return Error{Code::NotDirectory, mountPoint + ": is not a directory"};
  }
  std::string point = realOr(mountPoint);
  REALIZE_TRY(checkOverlap(point));

  auto entry = std::make_shared<Entry>();
  entry->arena = arenaName;
  entry->options = options;
  {
    std::lock_guard lock(mutex_);
    auto& slot = mounts_[point];
    if (slot && !slot->ended) return Error{Code::Exists, point + ": something is mounted here already"};
    slot = entry;
  }
  // Before it is up: who is killed meanwhile leaves no dead mount that nobody knows.
  writeNotes();
  // The callback may outlive the table's interest in the entry, so it holds it; the backend promises not to call after
  // its handle is gone, which is before the table is.
  auto handle = backend_(arena, point, options, [this, entry] { noteEnded(entry); });
  std::unique_lock lock(mutex_);
  entry->starting = false;
  if (!handle) {
    if (auto slot = mounts_.find(point); slot != mounts_.end() && slot->second == entry) mounts_.erase(slot);
    lock.unlock();
    writeNotes();
    return handle.error();
  }
  entry->handle = std::move(*handle);
  bool over = entry->ended;
  lock.unlock();
  if (forgetLost(point)) writeNotes();
  peer_.noteMount(arenaName, point, true);
  // It ended before it could be reaped: ask again.
  if (over) wake_();
  return {};
}

void MountTable::noteEnded(const std::shared_ptr<Entry>& entry) {
  {
    std::lock_guard lock(mutex_);
    entry->ended = true;
    changed_.notify_all();
  }
  wake_();
}

std::shared_ptr<MountTable::Entry> MountTable::take(const std::string& mountPoint) {
  std::lock_guard lock(mutex_);
  auto slot = mounts_.find(mountPoint);
  if (slot == mounts_.end() || slot->second->starting) return nullptr;
  auto entry = slot->second;
  mounts_.erase(slot);
  return entry;
}

Result<void> MountTable::unmount(const std::string& mountPoint) {
  bool known = false;
  {
    std::lock_guard lock(mutex_);
    known = mounts_.contains(mountPoint);
  }
  // Outside the lock: resolving a path may pass through a mount of ours.
  std::string point = known ? mountPoint : realOr(mountPoint);
  auto entry = take(point);
  if (!entry) {
    // Who asked clears a dead mount away himself.
    const bool gone = forgetLost(point) && !isDeadMount(point);
    writeNotes();
    if (gone) return {};
    return Error{Code::NotFound, mountPoint + ": is no mount of this daemon"};
  }
  auto done = entry->handle->unmount();
  if (!done) {
    std::lock_guard lock(mutex_);
    mounts_.emplace(point, entry);
    return done.error();
  }
  peer_.noteMount(entry->arena, point, false);
  entry->handle.reset();
  {
    std::lock_guard lock(mutex_);
    entry->ended = true;
    changed_.notify_all();
  }
  writeNotes();
  return {};
}

Result<void> MountTable::unmountAll(const std::string& arena) {
  Result<void> first;
  for (auto& info : list()) {
    if (!arena.empty() && info.arena != arena) continue;
    auto done = unmount(info.mountPoint);
    if (!done && done.code() != Code::NotFound && first) first = done;
  }
  return first;
}

std::vector<MountInfo> MountTable::list() {
  std::lock_guard lock(mutex_);
  std::vector<MountInfo> out;
  for (auto& [point, entry] : mounts_)
    if (!entry->ended && !entry->starting) out.push_back({entry->arena, point, entry->options});
  return out;
}

bool MountTable::waitEnded(const std::string& mountPoint, int64_t timeoutMs) {
  std::unique_lock lock(mutex_);
  auto slot = mounts_.find(mountPoint);
  if (slot == mounts_.end()) return true;
  auto entry = slot->second;
  return changed_.wait_for(lock, std::chrono::milliseconds(timeoutMs), [&] { return entry->ended; });
}

void MountTable::reap() {
  std::vector<std::pair<std::string, std::shared_ptr<Entry>>> over;
  {
    std::lock_guard lock(mutex_);
    for (auto slot = mounts_.begin(); slot != mounts_.end();) {
      if (slot->second->ended && !slot->second->starting) {
        over.emplace_back(slot->first, slot->second);
        slot = mounts_.erase(slot);
      } else {
        ++slot;
      }
    }
  }
  for (auto& [point, entry] : over) {
    peer_.noteMount(entry->arena, point, false);
    entry->handle.reset();
  }
  if (!over.empty()) writeNotes();
}

}  // namespace realize::daemon
