// Names made and removed through a mount. The disk first, then tree and disk table in one transaction, under one lock.

#include <unistd.h>

#include <algorithm>

#include "librealize/model/blob.h"
#include "librealize/peer/arena_file_system_state.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr size_t kMaxTimes = 100'000;

Error failedDatabase(Core& core) { return Error{Code::Suspended, core.suspendedWhy}; }
}  // namespace

Result<void> ArenaFileSystem::State::checkNewName(const std::string& name) {
  if (name.size() > 255) return Error{Code::NameTooLong, "a name is at most 255 bytes"};
  if (name == kOwnFolder) return Error{Code::PermissionDenied, name + ": this name is the arena's own"};
  if (!isValidName(name)) return Error{Code::InvalidArgument, "not a name an entry can have"};
  return {};
}

bool ArenaFileSystem::State::comesBack(const EntryId& parent, const std::string& name, EntryKind kind) {
  for (uint32_t n = 0;; ++n) {
    auto known = core.tree.get(entryIdFor(parent, name, kind, n));
    if (!known) return false;
    if (!known->shown && known->entry.kind == kind) return true;
  }
}

void ArenaFileSystem::State::renumber(const EntryId& id, NodeId to) {
  const auto old = core.store.nodeOf(id);
  core.tree.setNode(id, core.store.renumber(id, to));
  if (!old) return;
  core.store.wanted().eraseNode(*old);
  core.store.unconfirmed().eraseNode(*old);
  // The two above are noted anew with the entry's effect; that its bytes are elsewhere on this disk is only known from here.
  const auto named = core.store.named().ofNode(*old);
  if (named.empty()) return;
  const NodeId now = core.store.nodeOf(id).value_or(0);
  for (auto task : named) {
    core.store.named().erase(task);
    task.node = now;
    core.store.named().put(task);
  }
}

Result<ArenaFileSystem::State::MadeEntry> ArenaFileSystem::State::makeEntry(const EntryId& parent, const std::string& name,
                                                                            EntryKind kind, const Version& version) {
  const bool again = kind != EntryKind::Directory && comesBack(parent, name, kind);
  REALIZE_ASSIGN(const EntryId id, core.tree.create(parent, name, kind, version));
  core.tree.flush();  // The store gives the node its number.
  core.tree.beginBatch();
  if (again) {
    // What a peer removed, and this disk still has under another name, is no file of this entry any more: it is read as a new one.
    const auto old = core.store.nodeOf(id);
    const auto left = old ? core.store.disk().get(*old) : std::nullopt;
    renumber(id);
    if (left) {
      core.store.disk().erase(left->node);
      core.folder->hintDirectory(left->parentNode);
    }
  }
  return MadeEntry{id, core.store.nodeOf(id).value_or(0)};
}

/// The file that had this name a moment ago and was renamed away: an editor that saves.
std::optional<logic::Record> ArenaFileSystem::State::takenBack(const EntryId& parent, const std::string& name) {
  auto it = renamedAway.find({parent, name});
  if (it == renamedAway.end()) return std::nullopt;
  const auto away = it->second;
  renamedAway.erase(it);
  if (monotonicNs() - away.atNs > restNs()) return std::nullopt;
  auto record = core.tree.get(away.id);
  if (!record || !record->shown || record->entry.kind != EntryKind::File) return std::nullopt;
  return record;
}

/// The entry gets its name back with what is now called so; what was renamed away becomes an entry of its own. The
/// number stays with the file that was renamed away.
Result<ArenaFileSystem::State::MadeEntry> ArenaFileSystem::State::takeBack(const logic::Record& away, const EntryId& parent,
                                                                           const std::string& name, const Version& version) {
  const EntryId id = away.entry.id;
  const NodeId node = away.node;
  auto row = core.store.disk().get(node);
  const auto heads = core.tree.shownHeads(id);
  const auto head = std::find_if(heads.begin(), heads.end(), [&](const auto& shown) { return !row || shown.version.blob == row->blob; });
  if (head == heads.end()) return Error{Code::NotFound, "another version was renamed away"};
  // Who has not the bytes makes no version of them, as in renameTree().
  const bool fromCache = !row && head->version.sizeBytes > 0;
  if (fromCache && !core.transfers->cachedForGood(head->version.blob)) return Error{Code::NotFound, "what was renamed away is not here"};
  REALIZE_ASSIGN(const EntryId other, core.tree.takeBackName(id, parent, name, version, head->dot));
  core.tree.flush();
  core.tree.beginBatch();
  const Mark mark = core.marks->own(node);
  if (mark != Mark::None) core.marks->set(away, Mark::None);
  renumber(id);
  renumber(other, node);
  if (row) {
    row->base = fullBase(other);
    core.store.disk().put(*row);
  }
  if (fromCache) core.transfers->pin(head->version.blob, {other});
  auto record = core.tree.get(id);
  if (mark != Mark::None && record) core.marks->set(*record, mark);
  core.marks->entryChanged(other);
  return MadeEntry{id, core.store.nodeOf(id).value_or(0)};
}

store::DiskRow ArenaFileSystem::State::rowOf(NodeId node, NodeId parent, const std::string& name, const FileStat& stat) {
  store::DiskRow row;
  row.node = node;
  row.parentNode = parent;
  row.name = name;
  row.setStat(stat);
  return row;
}

void ArenaFileSystem::State::changedIn(NodeId directory, const std::string& diskPath) {
  if (directoryTimes.size() > kMaxTimes) directoryTimes.clear();
  directoryTimes[directory] = core.env.clock.nowNs();
  core.folder->changedByMount(diskPath);
  core.folder->changedByUser(directory);
}

bool ArenaFileSystem::State::onDisk(const EntryId& directory) {
  if (directory == kRootEntry) return true;
  auto node = core.store.nodeOf(directory);
  return node && core.folder->diskPath(*node).has_value();
}

/// As the caller's, where this process may; else it stays ours.
void ArenaFileSystem::State::own(Directory& root, const std::string& path, uint32_t uid, uint32_t gid) {
  if (geteuid() != 0 || (uid == 0 && gid == 0)) return;
  auto owned = root.setOwner(path, uid, gid);
  (void)owned;  // Not on every file system.
}

// --- made ---------------------------------------------------------------------------------------------------------

Result<OpenedFile> ArenaFileSystem::create(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid,
                                           uint32_t gid, bool exclusive) {
  auto& s = *s_;
  auto& core = s.core;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.changeable());
  REALIZE_TRY(s.checkNewName(name));
  REALIZE_ASSIGN(auto directory, s.directoryOf(parent));
  const EntryId parentId = directory.entry.id;
  if (auto there = core.tree.lookup(parentId, name)) {
    if (exclusive) return Error{Code::Exists, name + ": is there already"};
    if (there->entry.kind == EntryKind::Directory) return Error{Code::IsDirectory, name + ": is a folder"};
    if (there->entry.kind != EntryKind::File) return Error{Code::Exists, name + ": is a symlink"};
    auto entry = s.found(std::move(*there));
    if (!entry.row) return Error{Code::Busy, name + ": is there already and Unreal: open it"};
    OpenedFile out;
    OpenFlags flags;
    flags.write = true;
    REALIZE_ASSIGN(out.handle, s.openReal(*root, entry, flags));
    REALIZE_ASSIGN(out.attributes, s.attributesOf(*root, entry));
    return out;
  }
  REALIZE_ASSIGN(const std::string parentPath, core.folder->materialize(parentId));
  const std::string path = joinPath(parentPath, name);
  auto made = root->open(path, OpenMode::CreateNew, mode & 07777);
  if (!made.ok()) {
    if (made.code() == Code::Exists) core.folder->hintDirectory(parent);  // Not read yet, or ignored.
    return made.error();
  }
  std::shared_ptr<DiskFile> file = std::move(*made);
  s.own(*root, path, uid, gid);
  auto stat = [&]() -> Result<FileStat> {
    REALIZE_TRY(file->setMode(mode & 07777));
    return file->stat();
  }();
  auto undo = [&](Error error) {
    auto gone = root->unlink(path);
    (void)gone;  // Else it is read as a new file.
    return error;
  };
  if (!stat.ok()) return undo(stat.error());

  Version version;
  version.blob = emptyBlobId();
  version.mode = mode & 0777;
  version.mtimeNs = stat->mtimeNs;
  Result<State::MadeEntry> entry = Error{Code::Internal, ""};
  const bool noted = core.transact([&] {
    if (auto away = s.takenBack(parentId, name)) entry = s.takeBack(*away, parentId, name, version);
    if (!entry.ok()) entry = s.makeEntry(parentId, name, EntryKind::File, version);
    if (!entry.ok()) return;
    auto row = s.rowOf(entry->node, parent, name, *stat);
    row.blob = version.blob;
    row.dirty = true;
    row.base = s.seenBase(entry->id, version.blob);
    core.store.disk().put(row);
  }, false);
  if (!noted) return undo(failedDatabase(core));
  if (!entry.ok()) return undo(entry.error());
  s.changedIn(parent, parentPath);
  core.folder->hintDirectory(parent);
  auto handle = std::make_shared<OpenHandle>();
  handle->node = entry->node;
  handle->file = file;
  handle->writable = true;
  OpenedFile out;
  out.attributes = s.ofStat(entry->node, *stat);
  out.handle = s.keep(std::move(handle));
  return out;
}

Result<Attributes> ArenaFileSystem::makeDirectory(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid,
                                                  uint32_t gid) {
  auto& s = *s_;
  auto& core = s.core;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.changeable());
  REALIZE_TRY(s.checkNewName(name));
  REALIZE_ASSIGN(auto directory, s.directoryOf(parent));
  const EntryId parentId = directory.entry.id;
  if (core.tree.lookup(parentId, name)) return Error{Code::Exists, name + ": is there already"};
  const bool real = s.onDisk(parentId);
  Version version;
  version.mode = mode & 01777;
  version.mtimeNs = core.env.clock.nowNs();
  Result<State::MadeEntry> entry = Error{Code::Internal, ""};
  Result<void> onDisk;
  const bool noted = core.transact([&] {
    entry = s.makeEntry(parentId, name, EntryKind::Directory, version);
    if (!entry.ok() || !real) return;
    auto made = core.folder->materialize(entry->id);
    if (!made.ok()) {
      onDisk = made.error();
      auto undone = core.tree.remove(entry->id);
      (void)undone;  // Made a moment ago.
      return;
    }
    s.own(*root, *made, uid, gid);
    auto set = root->setMode(*made, (mode & 07777) | 0700);
    (void)set;  // Then it has what the umask left of it.
    auto row = core.store.disk().get(entry->node);
    auto stat = root->stat(*made);
    if (!row || !stat.ok()) return;
    row->setStat(*stat);
    core.store.disk().put(*row);
  }, false);
  if (!noted) return failedDatabase(core);
  REALIZE_TRY(entry.ok() ? onDisk : Result<void>(entry.error()));
  s.changedIn(parent, core.folder->diskPath(parent).value_or(""));
  REALIZE_ASSIGN(auto found, s.find(entry->node));
  return s.attributesOf(*root, found);
}

Result<Attributes> ArenaFileSystem::makeSymlink(NodeId parent, const std::string& name, const std::string& target,
                                                uint32_t uid, uint32_t gid) {
  auto& s = *s_;
  auto& core = s.core;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.changeable());
  REALIZE_TRY(s.checkNewName(name));
  if (target.empty()) return Error{Code::NotFound, "a symlink's target is not empty"};
  if (target.size() > 4095) return Error{Code::NameTooLong, "a symlink's target is at most 4095 bytes"};
  REALIZE_ASSIGN(auto directory, s.directoryOf(parent));
  const EntryId parentId = directory.entry.id;
  if (core.tree.lookup(parentId, name)) return Error{Code::Exists, name + ": is there already"};
  std::optional<FileStat> stat;
  std::string path, parentPath;
  if (s.onDisk(parentId)) {
    REALIZE_ASSIGN(parentPath, core.folder->materialize(parentId));
    path = joinPath(parentPath, name);
    auto made = root->makeSymlink(path, target);
    if (!made.ok() && made.code() == Code::Exists) core.folder->hintDirectory(parent);
    REALIZE_TRY(made);
    s.own(*root, path, uid, gid);
    REALIZE_ASSIGN(stat, root->stat(path));
  }
  Version version;
  version.mode = 0777;
  version.mtimeNs = stat ? stat->mtimeNs : core.env.clock.nowNs();
  version.linkTarget = target;
  Result<State::MadeEntry> entry = Error{Code::Internal, ""};
  const bool noted = core.transact([&] {
    entry = s.makeEntry(parentId, name, EntryKind::Symlink, version);
    if (!entry.ok() || !stat) return;
    auto row = s.rowOf(entry->node, parent, name, *stat);
    row.base = s.fullBase(entry->id);
    core.store.disk().put(row);
    core.folder->noteNew(entry->node);
  }, false);
  if (!noted || !entry.ok()) {
    auto gone = stat ? root->unlink(path) : Result<void>();
    (void)gone;  // Else it is read as a new one.
    return noted ? entry.error() : failedDatabase(core);
  }
  s.changedIn(parent, parentPath);
  REALIZE_ASSIGN(auto found, s.find(entry->node));
  return s.attributesOf(*root, found);
}

// --- removed ------------------------------------------------------------------------------------------------------

void ArenaFileSystem::State::removeEntry(const Found& entry, NodeId parent, const std::string& name) {
  const EntryId id = entry.record.entry.id;
  const bool directory = entry.record.entry.kind == EntryKind::Directory;
  auto removed = core.tree.remove(id, directory ? logic::Base::all() : baseFor(entry));
  (void)removed;  // Shown a moment ago.
  core.store.disk().erase(entry.record.node);
  auto after = core.tree.get(id);
  if (!after || !after->shown || directory) return;
  // What a peer did to it and nobody here has seen lives on, as another file.
  core.tree.flush();
  core.tree.beginBatch();
  renumber(id);
  core.marks->entryChanged(id);
  if (after->entry.kind == EntryKind::Symlink) core.folder->entryChanged(id);
  core.invalidations->nameChanged(parent, name, entry.record.node);
}

Result<void> ArenaFileSystem::unlink(NodeId parent, const std::string& name) {
  auto& s = *s_;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.changeable());
  REALIZE_ASSIGN(auto directory, s.directoryOf(parent));
  auto record = s.core.tree.lookup(directory.entry.id, name);
  if (!record) return Error{Code::NotFound, name + ": no such entry"};
  if (record->entry.kind == EntryKind::Directory) return Error{Code::IsDirectory, name + ": is a folder"};
  const auto entry = s.found(std::move(*record));
  if (entry.row) {
    auto gone = root->unlink(entry.path);
    if (!gone.ok() && gone.code() != Code::NotFound) return gone;
  }
  if (!s.core.transact([&] { s.removeEntry(entry, parent, name); }, false)) return failedDatabase(s.core);
  s.changedIn(parent, parentPath(entry.path));
  return {};
}

Result<void> ArenaFileSystem::removeDirectory(NodeId parent, const std::string& name) {
  auto& s = *s_;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.changeable());
  REALIZE_ASSIGN(auto directory, s.directoryOf(parent));
  auto record = s.core.tree.lookup(directory.entry.id, name);
  if (!record) return Error{Code::NotFound, name + ": no such entry"};
  if (record->entry.kind != EntryKind::Directory) return Error{Code::NotDirectory, name + ": is no folder"};
  if (!s.core.tree.children(record->entry.id, "", 1).empty()) return Error{Code::NotEmpty, name + ": is not empty"};
  const auto entry = s.found(std::move(*record));
  if (entry.row) {
    auto gone = root->removeDirectory(entry.path);
    // Names that are ignored, or not read yet, or about to leave.
    if (!gone.ok() && gone.code() == Code::NotEmpty) s.core.folder->hintDirectory(entry.record.node);
    if (!gone.ok() && gone.code() != Code::NotFound) return gone;
  }
  if (!s.core.transact([&] { s.removeEntry(entry, parent, name); }, false)) return failedDatabase(s.core);
  s.directoryTimes.erase(entry.record.node);
  s.changedIn(parent, parentPath(entry.path));
  if (entry.row) s.core.folder->changedByMount(entry.path);
  return {};
}

}  // namespace realize::peer
