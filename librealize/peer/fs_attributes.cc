// chmod, chown, utimens and truncate.

#include "librealize/peer/arena_file_system_state.h"

namespace realize::peer {

void ArenaFileSystem::setAttributes(NodeId node, FileHandle handle, const AttributeChange& change,
                                    std::function<void(Result<Attributes>)> done) {
  done(s_->change(node, handle, change));
}

Result<Attributes> ArenaFileSystem::State::change(NodeId node, FileHandle number, const AttributeChange& change) {
  auto handle = handleOf(number);
  if (number != 0 && !handle) return Error{closed ? Code::Suspended : Code::InvalidArgument, "no such open file"};
  std::lock_guard held(lock());
  REALIZE_ASSIGN(auto root, changeable());
  auto entry = find(node);
  if (!entry.ok()) {
    if (!handle) return entry.error();
    return changeNameless(*handle, change);
  }
  if (entry->row) {
    // A handle may have an older file open than the name has now.
    DiskFile* file = handle && handle->writable ? handle->file.get() : nullptr;
    if (file) {
      auto open = file->stat();
      if (!open.ok() || open->inode != entry->row->inode) return changeNameless(*handle, change);
    }
    REALIZE_TRY(changeReal(*root, *entry, file, change));
    if (handle && change.sizeBytes) handle->wrote = true;
  } else {
    REALIZE_TRY(changeUnreal(*entry, change));
  }
  REALIZE_ASSIGN(auto after, find(node));
  return attributesOf(*root, after);
}

/// Of a file that has lost its name, or lost it to another.
Result<Attributes> ArenaFileSystem::State::changeNameless(OpenHandle& handle, const AttributeChange& change) {
  if (!handle.file) return Error{Code::Stale, "the entry is gone"};
  auto& file = *handle.file;
  if (change.sizeBytes) {
    if (!handle.writable) return Error{Code::InvalidArgument, "not open for writing"};
    REALIZE_TRY(file.truncate(*change.sizeBytes));
  }
  if (change.uid || change.gid)
    REALIZE_TRY(file.setOwner(change.uid ? int64_t(*change.uid) : -1, change.gid ? int64_t(*change.gid) : -1));
  if (change.mode) REALIZE_TRY(file.setMode(*change.mode & 07777));
  if (change.mtimeNs) REALIZE_TRY(file.setTimes(*change.mtimeNs));
  REALIZE_ASSIGN(auto stat, file.stat());
  return ofStat(handle.node, stat);
}

Result<void> ArenaFileSystem::State::changeReal(Directory& root, Found& entry, DiskFile* file,
                                                const AttributeChange& change) {
  const auto kind = entry.record.entry.kind;
  const std::string& path = entry.path;
  const EntryId id = entry.record.entry.id;
  if (change.sizeBytes) {
    if (kind != EntryKind::File) return Error{kind == EntryKind::Directory ? Code::IsDirectory : Code::InvalidArgument, path};
    if (!core.folder->hintContent(entry.record.node)) return Error{Code::Suspended, core.suspendedWhy};
    entry.row->dirty = true;
    if (file) {
      REALIZE_TRY(file->truncate(*change.sizeBytes));
    } else {
      REALIZE_ASSIGN(auto opened, root.open(path, OpenMode::ReadWrite));
      REALIZE_TRY(opened->truncate(*change.sizeBytes));
    }
  }
  if (!change.mode && !change.mtimeNs && !change.uid && !change.gid) return {};
  const auto before = kind == EntryKind::File ? root.stat(path) : Result<FileStat>(FileStat());
  if (!before.ok()) return before.error();
  core.folder->changedByMount(parentPath(path));
  if (change.uid || change.gid)
    REALIZE_TRY(root.setOwner(path, change.uid ? int64_t(*change.uid) : -1, change.gid ? int64_t(*change.gid) : -1));
  if (change.mode && kind != EntryKind::Symlink) {
    // A folder that its owner could not enter would be out of our reach, too.
    const uint32_t mode = kind == EntryKind::Directory ? (*change.mode & 07777) | 0700 : *change.mode & 07777;
    REALIZE_TRY(root.setMode(path, mode));
  }
  if (change.mtimeNs) REALIZE_TRY(root.setTimes(path, *change.mtimeNs));
  if (entry.record.node == kRootNode) return {};
  if (kind == EntryKind::File && (entry.row->dirty || !entry.row->matches(*before))) {
    core.folder->hintContent(entry.record.node);  // The bytes are read anyway, and the rest with them.
    return {};
  }
  REALIZE_ASSIGN(const auto after, root.stat(path));
  const auto mode = change.mode && kind != EntryKind::Symlink ? std::optional(*change.mode & 01777) : std::nullopt;
  const auto mtime = change.mtimeNs && kind != EntryKind::Directory ? change.mtimeNs : std::nullopt;
  if (kind == EntryKind::File) {
    FileStat expected = *before;
    if (mtime) expected.mtimeNs = *mtime;
    // As above: somebody changed it in the folder at this moment.
    if (!after.bytesUnchanged(expected) || (after.mode & 0777) != ((mode ? *mode : before->mode) & 0777)) {
      core.folder->hintContent(entry.record.node);
      return {};
    }
  }
  Result<void> done;
  const bool noted = core.transact([&] {
    if (mode || mtime) {
      std::optional<Dot> dot;
      for (const auto& head : core.tree.shownHeads(id))
        if (!dot && (kind != EntryKind::File || head.version.blob == entry.row->blob)) dot = head.dot;
      if (dot || kind == EntryKind::Directory) done = core.tree.setAttributes(id, mode, mtime, dot);
      core.folder->changedByUser(entry.record.node);
    }
    entry.row->setStat(after);
    entry.row->base = core.rebased(entry.row->base, entry.record, id);
    core.store.disk().put(*entry.row);
  }, false);
  if (!noted) return Error{Code::Suspended, core.suspendedWhy};
  if (kind == EntryKind::File) core.folder->lookAtOtherNames(after);
  return done;
}

Result<void> ArenaFileSystem::State::changeUnreal(const Found& entry, const AttributeChange& change) {
  if (change.sizeBytes) {
    if (entry.record.entry.kind != EntryKind::File) return Error{Code::IsDirectory, "no file"};
    auto shown = core.shownVersion(entry.record);
    if (!shown || shown->second.sizeBytes != *change.sizeBytes)
      return Error{Code::Busy, "the file is Unreal: open it for writing first"};
  }
  const auto [uid, gid] = folderOwner();
  if ((change.uid && *change.uid != uid) || (change.gid && *change.gid != gid))
    return Error{Code::PermissionDenied, "an Unreal file has the owner of the arena's folder"};
  const auto mode = entry.record.entry.kind == EntryKind::Symlink ? std::nullopt : change.mode;
  if (!mode && !change.mtimeNs) return {};
  auto shown = core.shownVersion(entry.record);
  Result<void> done;
  const bool noted = core.transact([&] {
    done = core.tree.setAttributes(entry.record.entry.id, mode ? std::optional(*mode & 01777) : std::nullopt,
                                   change.mtimeNs, shown ? std::optional(shown->first) : std::nullopt);
  }, false);
  if (!noted) return Error{Code::Suspended, core.suspendedWhy};
  directoryTimes.erase(entry.record.node);
  return done;
}

}  // namespace realize::peer
