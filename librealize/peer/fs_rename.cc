// Renames through a mount. A file renamed over another is an edit of that entry: the entry keeps its identity, and gets
// the number of the file that it is now, because a kernel goes on calling an open or renamed file by its number. One that is
// not on this disk moves as the entry it is.

#include <algorithm>

#include "librealize/peer/arena_file_system_state.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/marks.h"

namespace realize::peer {

namespace {
constexpr size_t kMaxRenamedAway = 1000;
}  // namespace

std::vector<Dot> ArenaFileSystem::State::fullBase(const EntryId& id) {
  auto record = core.tree.get(id);
  return record ? Core::baseOf(record->entry, nullptr) : std::vector<Dot>();
}

/// When the folder shows that content of it.
std::vector<Dot> ArenaFileSystem::State::seenBase(const EntryId& id, const BlobId& blob) {
  auto record = core.tree.get(id);
  if (!record) return {};
  for (const auto& head : core.tree.shownHeads(id))
    if (head.version.blob == blob) return Core::baseOf(record->entry, &head);
  return Core::baseOf(record->entry, nullptr);
}

/// What a file is now, as far as it has been read.
Version ArenaFileSystem::State::versionFor(const Found& entry) {
  auto shown = core.shownVersion(entry.record);
  if (!entry.row || entry.record.entry.kind != EntryKind::File) return shown ? shown->second : Version();
  for (const auto& head : core.tree.shownHeads(entry.record.entry.id))
    if (head.version.blob == entry.row->blob) return head.version;
  Version version;
  version.blob = entry.row->blob;
  version.sizeBytes = entry.row->sizeBytes;
  version.mode = entry.row->mode & 0777;
  version.mtimeNs = entry.row->mtimeNs;
  return version;
}

/// What somebody saw who looked at this name: the version that is shown, not those beside it.
std::vector<Dot> ArenaFileSystem::State::seenAt(const Found& entry) {
  if (entry.row) return entry.row->base;
  const auto heads = core.tree.shownHeads(entry.record.entry.id);
  return Core::baseOf(entry.record.entry, heads.size() < 2 ? nullptr : &heads.front());
}

/// What goes away with this name.
logic::Base ArenaFileSystem::State::baseFor(const Found& entry) {
  if (!entry.row && core.tree.shownHeads(entry.record.entry.id).size() < 2) return logic::Base::all();
  return logic::Base::only(seenAt(entry));
}

/// The source's row, as it lies now.
void ArenaFileSystem::State::putMoved(const Found& source, NodeId parent, const std::string& name,
                                      const std::optional<FileStat>& moved, std::vector<Dot> base) {
  if (!source.row) return;
  auto row = *source.row;
  row.parentNode = parent;
  row.name = name;
  row.base = std::move(base);
  if (moved) {
    // A rename moves only ctime; what else is new has not been read yet, and stays to be seen.
    const bool known = row.mode == moved->mode && (row.kind == EntryKind::Directory || row.sameBytes(*moved));
    if (known && !row.dirty) row.setStat(*moved);
    else if (row.kind == EntryKind::File) row.dirty = true;
  }
  core.store.disk().put(row);
  if (row.dirty) core.folder->hintDirectory(parent);  // It was to be looked for where it was.
}

Result<void> ArenaFileSystem::State::replaceEntry(const Found& source, const Found& target, NodeId newParent,
                                                  const std::string& newName, const std::optional<FileStat>& moved) {
  const EntryId from = source.record.entry.id, to = target.record.entry.id;
  const NodeId fromNode = source.record.node, toNode = target.record.node;
  const auto before = core.tree.get(to);
  const auto seen = seenAt(target);
  REALIZE_TRY(core.tree.write(to, versionFor(source), baseFor(target)));
  REALIZE_TRY(core.tree.remove(from, baseFor(source)));
  core.tree.flush();
  core.tree.beginBatch();
  const Mark mark = core.marks->own(toNode);
  if (mark != Mark::None) core.marks->set(target.record, Mark::None);
  if (core.marks->own(fromNode) != Mark::None) core.marks->set(source.record, Mark::None);
  renumber(from);
  renumber(to, fromNode);
  core.store.disk().erase(toNode);
  putMoved(source, newParent, newName, moved, core.rebased(seen, before, to));
  auto record = core.tree.get(to);
  if (mark != Mark::None && record) core.marks->set(*record, mark);
  core.marks->entryChanged(to);
  core.marks->entryChanged(from);  // A version of it that was not seen lives on.
  core.folder->entryChanged(to);
  return {};
}

Result<void> ArenaFileSystem::State::renameTree(const Found& source, const std::optional<Found>& target,
                                                const logic::Record& newParent, const std::string& newName,
                                                const std::optional<FileStat>& moved) {
  const EntryId id = source.record.entry.id;
  const auto kind = source.record.entry.kind;
  // Who has not the bytes makes no version of them: they may be replaced where they are. Such a file moves as the entry it is.
  const bool versioned = source.row || kind == EntryKind::Symlink;
  if (target && versioned && kind != EntryKind::Directory && target->record.entry.kind == kind)
    return replaceEntry(source, *target, newParent.node, newName, moved);
  if (target) removeEntry(*target, newParent.node, newName);
  const auto before = core.tree.get(id);
  auto away = target || !versioned || kind != EntryKind::File ? std::nullopt : takenBack(newParent.entry.id, newName);
  if (away && away->entry.id != id) {
    auto made = takeBack(*away, newParent.entry.id, newName, versionFor(source));
    if (made.ok()) {
      const auto seen = baseFor(source);
      REALIZE_TRY(core.tree.remove(id, seen));
      core.tree.flush();
      core.tree.beginBatch();
      renumber(id);
      renumber(made->id, source.record.node);
      putMoved(source, newParent.node, newName, moved, seenBase(made->id, versionFor(source).blob));
      core.marks->entryChanged(made->id);
      core.marks->entryChanged(id);  // As above.
      return {};
    }
  }
  // Beside: whatever has the name still is a version that was not seen, or another entry, and not what was replaced.
  REALIZE_TRY(core.tree.move(id, newParent.entry.id, newName, true));
  putMoved(source, newParent.node, newName, moved, source.row ? core.rebased(source.row->base, before, id) : std::vector<Dot>());
  return {};
}

Result<std::optional<FileStat>> ArenaFileSystem::State::renameOnDisk(Directory& root, Found& source,
                                                                    const std::optional<Found>& target,
                                                                    const logic::Record& newParent,
                                                                    const std::string& newName) {
  const bool replaces = target && target->row;
  if (!source.row) {
    if (!replaces) return std::optional<FileStat>();
    auto gone = target->record.entry.kind == EntryKind::Directory ? root.removeDirectory(target->path)
                                                                  : root.unlink(target->path);
    if (!gone.ok() && gone.code() != Code::NotFound) return gone.error();
    return std::optional<FileStat>();
  }
  REALIZE_ASSIGN(const std::string parentPath, core.folder->materialize(newParent.entry.id));
  source = found(source.record);  // Making the folder may have moved what is above.
  if (!source.row) return Error{Code::Busy, newName + ": is being moved"};
  const std::string to = joinPath(parentPath, newName);
  if (replaces && core.folder->diskPath(target->record.node) != to) return Error{Code::Busy, to + ": is being moved"};
  // Of two names of one inode rename(2) leaves both; here they are two files, and one is to go. The rows may be of before:
  // a new file often has the number of one that somebody has replaced, or of the disk that the database was copied from.
  const auto fromStat = replaces ? root.stat(source.path) : Result<FileStat>(Error{});
  const auto toStat = replaces ? root.stat(to) : Result<FileStat>(Error{});
  const bool sameFile = fromStat.ok() && toStat.ok() && fromStat->sameObject(*toStat);
  auto renamed = sameFile ? root.unlink(source.path)
                          : root.rename(source.path, to, replaces ? RenameKind::Replace : RenameKind::NoReplace);
  const auto there = !renamed.ok() && renamed.code() == Code::Unsupported ? root.stat(to) : toStat;
  if (!renamed.ok() && renamed.code() == Code::Unsupported && !there.ok() && there.code() == Code::NotFound)
    renamed = root.rename(source.path, to, RenameKind::Replace);
  if (!renamed.ok()) {
    if (renamed.code() == Code::NotFound) core.folder->hintDirectory(source.row->parentNode);
    if (replaces || renamed.code() != Code::Exists) return renamed.error();
    core.folder->hintDirectory(newParent.node);
    return Error{Code::Busy, to + ": a file that has not been read yet is there"};
  }
  if (source.record.entry.kind == EntryKind::Directory) core.folder->directoryRenamed(source.path, to);
  REALIZE_ASSIGN(auto stat, root.stat(to));
  return std::optional<FileStat>(stat);
}

Result<void> ArenaFileSystem::State::exchange(Directory& root, Found source, Found target, const logic::Record& parent,
                                              const logic::Record& newParent, const std::string& name,
                                              const std::string& newName) {
  std::string sourceTo = target.path, targetTo = source.path;
  if (source.row && target.row) {
    REALIZE_TRY(root.rename(source.path, target.path, RenameKind::Exchange));
  } else if (source.row) {
    REALIZE_ASSIGN(auto above, core.folder->materialize(newParent.entry.id));
    sourceTo = joinPath(above, newName);
    source = found(source.record);
    REALIZE_TRY(root.rename(source.path, sourceTo, RenameKind::NoReplace));
  } else if (target.row) {
    REALIZE_ASSIGN(auto above, core.folder->materialize(parent.entry.id));
    targetTo = joinPath(above, name);
    target = found(target.record);
    REALIZE_TRY(root.rename(target.path, targetTo, RenameKind::NoReplace));
  }
  auto statOf = [&](const Found& entry, const std::string& path) -> std::optional<FileStat> {
    auto stat = entry.row ? root.stat(path) : Result<FileStat>(Error{});
    return stat.ok() ? std::optional(*stat) : std::nullopt;
  };
  const auto sourceStat = statOf(source, sourceTo), targetStat = statOf(target, targetTo);
  const bool sourceMoves = source.row && source.record.entry.kind == EntryKind::Directory;
  const bool targetMoves = target.row && target.record.entry.kind == EntryKind::Directory;
  const std::string between = std::string(kTempFolder) + "/swap";
  if (targetMoves) core.folder->directoryRenamed(target.path, between);
  if (sourceMoves) core.folder->directoryRenamed(source.path, sourceTo);
  if (targetMoves) core.folder->directoryRenamed(between, targetTo);
  const EntryId a = source.record.entry.id, b = target.record.entry.id;
  const std::string aside = ".exchange-" + std::to_string(source.record.node) + "-" + std::to_string(monotonicNs());
  Result<void> done;
  const bool noted = core.transact([&] {
    const auto beforeA = core.tree.get(a), beforeB = core.tree.get(b);
    // Beside: what was shown under another name for their sake may have one of the two by now, and is not to go for that.
    done = core.tree.move(a, parent.entry.id, aside);
    if (done.ok()) done = core.tree.move(b, parent.entry.id, name, true);
    if (done.ok()) done = core.tree.move(a, newParent.entry.id, newName, true);
    if (!done.ok()) return;
    if (source.row) core.store.disk().erase(source.row->node);
    putMoved(target, parent.node, name, targetStat, target.row ? core.rebased(target.row->base, beforeB, b) : std::vector<Dot>());
    putMoved(source, newParent.node, newName, sourceStat,
             source.row ? core.rebased(source.row->base, beforeA, a) : std::vector<Dot>());
  }, false);
  if (!noted) return Error{Code::Suspended, core.suspendedWhy};
  return done;
}

bool ArenaFileSystem::State::isWithin(EntryId inner, const EntryId& outer) {
  while (inner != kRootEntry) {
    if (inner == outer) return true;
    auto record = core.tree.get(inner);
    if (!record) return false;
    inner = record->shownParent;
  }
  return false;
}

Result<void> ArenaFileSystem::rename(NodeId parent, const std::string& name, NodeId newParent, const std::string& newName,
                                     RenameFlag flag) {
  auto& s = *s_;
  auto& core = s.core;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.changeable());
  REALIZE_TRY(s.checkNewName(newName));
  REALIZE_ASSIGN(const auto above, s.directoryOf(parent));
  REALIZE_ASSIGN(const auto newAbove, s.directoryOf(newParent));
  auto from = core.tree.lookup(above.entry.id, name);
  if (!from) return Error{Code::NotFound, name + ": no such entry"};
  auto to = core.tree.lookup(newAbove.entry.id, newName);
  if (to && flag == RenameFlag::NoReplace) return Error{Code::Exists, newName + ": is there already"};
  if (!to && flag == RenameFlag::Exchange) return Error{Code::NotFound, newName + ": no such entry"};
  if (to && to->entry.id == from->entry.id) return {};
  const bool directory = from->entry.kind == EntryKind::Directory;
  const bool overDirectory = to && to->entry.kind == EntryKind::Directory;
  if (directory && s.isWithin(newAbove.entry.id, from->entry.id))
    return Error{Code::InvalidArgument, "a folder cannot be moved into itself"};
  if (flag == RenameFlag::Exchange) {
    if (overDirectory && s.isWithin(above.entry.id, to->entry.id))
      return Error{Code::InvalidArgument, "a folder cannot be moved into itself"};
    REALIZE_TRY(s.exchange(*root, s.found(*from), s.found(*to), above, newAbove, name, newName));
  } else {
    if (to && directory && !overDirectory) return Error{Code::NotDirectory, newName + ": is no folder"};
    if (!directory && overDirectory) return Error{Code::IsDirectory, newName + ": is a folder"};
    if (overDirectory && !core.tree.children(to->entry.id, "", 1).empty())
      return Error{Code::NotEmpty, newName + ": is not empty"};
    auto source = s.found(*from);
    const auto target = to ? std::optional(s.found(*to)) : std::nullopt;
    REALIZE_ASSIGN(const auto moved, s.renameOnDisk(*root, source, target, newAbove, newName));
    Result<void> done;
    if (!core.transact([&] { done = s.renameTree(source, target, newAbove, newName, moved); }, false))
      return Error{Code::Suspended, core.suspendedWhy};
    if (!done.ok()) {
      // The disk has it, the tree not: what is there is read.
      core.folder->hintDirectory(parent);
      core.folder->hintDirectory(newParent);
      return done;
    }
    if (!to && from->entry.kind == EntryKind::File) {
      if (s.renamedAway.size() > kMaxRenamedAway)
        std::erase_if(s.renamedAway, [&](const auto& a) { return s.monotonicNs() - a.second.atNs > s.restNs(); });
      if (auto record = s.recordOf(from->node); record.ok())
        s.renamedAway[{above.entry.id, name}] = {record->entry.id, s.monotonicNs()};
    }
  }
  s.changedIn(parent, core.folder->diskPath(parent).value_or(""));
  s.changedIn(newParent, core.folder->diskPath(newParent).value_or(""));
  return {};
}

}  // namespace realize::peer
