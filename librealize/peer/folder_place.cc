// Contents come into the folder, and leave it: never over or from under somebody who is at the file.

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "librealize/base/fault.h"
#include "librealize/logic/tree_merge.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"
#include "librealize/peer/wish.h"

namespace realize::peer {

namespace {
constexpr size_t kAsideBlobDigits = 32;
}

/// What was undone is on the disk before anything is said of it: a crash must not bring back what we took away, or leave
/// among our own what the user has long since synced.
void Folder::State::syncNames(const std::string& ours, const std::string& path) {
  for (const auto& folder : {parentPath(path), parentPath(ours)}) {
    auto synced = root->syncDirectory(folder);
    (void)synced;  // Failing, it is the disk's last word.
  }
}

/// Bytes of the user's that ended up among our own: under their name again or, where that is taken or `beside` says so, beside it.
void Folder::State::giveBack(const std::string& from, const std::string& path, bool beside) {
  hint(parentPath(path));
  if (!beside && root->rename(from, path, RenameKind::NoReplace).ok()) return syncNames(from, path);
  const std::string what = path + ": changed here while another peer's version took its place; what it held is kept ";
  for (const std::string& stem : {path, std::string("rescued"), std::string(kTempFolder) + "/rescued"}) {
    const bool ours = stem.starts_with(kTempFolder);
    if (ours && from.starts_with(stem)) break;
    for (int i = 1; i < 100; ++i) {
      const std::string name = stem + "~" + std::to_string(i);
      if (!ours && (rowAtPath(name) || core.recordAt(name).ok())) continue;  // It would pass for an edit of that file.
      auto moved = root->rename(from, name, RenameKind::NoReplace);
      if (!moved.ok() && moved.code() == Code::Exists) continue;
      if (!moved.ok()) break;
      syncNames(from, name);
      if (!ours) hint(parentPath(name));
      problem(name, "rescued", what + "under this name");
      return ours ? giveBackLater(name, path) : void();
    }
  }
  problem(from, "rescued", what + "here");
  giveBackLater(from, path);
}

/// The disk did not let it go. What its user made under that name meanwhile has replaced it there: it would pass for an older copy.
void Folder::State::giveBackLater(const std::string& from, const std::string& path) {
  const auto kept = root->stat(from);
  core.env.scheduler.onCoreAfter(kReadAgainMs, [this, alive = alive, from, path, kept] {
    if (!*alive || core.stopping || core.suspended || !root) return;
    const auto there = root->stat(from);
    if (there.ok() ? kept.ok() && !there->sameObject(*kept) : there.code() == Code::NotFound) return;  // It went back.
    const auto row = rowAtPath(path);
    giveBack(from, path, row ? !there.ok() || !row->isObject(*there) : core.recordAt(path).ok());
  });
}

/// What found no place is called again as it was. Only of what was in the cache it may be the one copy that there is.
void Folder::State::takeBack(const std::string& aside, const std::string& tempPath) {
  const auto back = root->rename(aside, tempPath, RenameKind::NoReplace);
  if (!back.ok() && tempPath.starts_with(kCacheFolder)) leftAside[tempPath] = {aside, "", {}};
}

/// Of what had a name of the user's for a moment: as it was made, and in nobody's hands. Errors: the disk does not say.
Result<bool> Folder::State::stillOurs(const FileStat& made, const std::string& aside) {
  if (made.type == FileStat::Type::File) {
    auto file = root->open(aside, OpenMode::Read);
    if (!file.ok() && file.code() != Code::PermissionDenied) return file.error();
    const auto quiet = file.ok() ? (*file)->nobodyWrites() : true;
    if (!quiet.ok() && quiet.code() != Code::PermissionDenied) return quiet.error();
    if (!quiet.ok() || !*quiet) return false;
  }
  REALIZE_ASSIGN(const auto stat, root->stat(aside));
  return stat.bytesUnchanged(made);
}

/// Looks again at what could not go back, or of which the disk did not say whose it is. False: that is not known yet, or it
/// still cannot go.
bool Folder::State::settleAside(const std::string& tempPath) {
  const auto found = leftAside.find(tempPath);
  if (found == leftAside.end() || !root) return true;
  const LeftAside left = found->second;
  if (left.made) {
    const auto ours = stillOurs(*left.made, left.at);
    if (!ours.ok() && ours.code() != Code::NotFound) return false;
    found->second.made.reset();
    if (ours.ok() && !*ours) {
      leftAside.erase(found);
      giveBack(left.at, left.path);
      return true;
    }
  }
  const auto back = root->rename(left.at, tempPath, RenameKind::NoReplace);
  if (!back.ok() && back.code() != Code::NotFound && back.code() != Code::Exists) return false;
  leftAside.erase(tempPath);
  return true;
}

void Folder::State::settleAsideLater(const std::string& tempPath) {
  core.env.scheduler.onCoreAfter(kReadAgainMs, [this, alive = alive, tempPath] {
    if (*alive && !core.stopping && !core.suspended && !settleAside(tempPath)) settleAsideLater(tempPath);
  });
}

bool Folder::stillAside(const std::string& cachePath) { return !s_->settleAside(cachePath); }

/// Somebody was quicker than an exchange: his bytes go back under the name, and are read as the edit that they are. False: what
/// was to come was in somebody's hands meanwhile, too.
bool Folder::State::undoPlacing(NodeId node, const FileStat& fresh, const std::string& from, const std::string& tempPath,
                                const std::string& path) {
  // What has had a name of his for a moment is not ours any more; a crash in between must not make it so.
  std::string aside = std::string(kTempFolder) + "/" + kUndoPrefix + std::to_string(node);
  if (!root->rename(from, aside, RenameKind::NoReplace).ok()) aside = from;
  const bool back = root->rename(aside, path, RenameKind::Exchange).ok();
  // And who was quicker once more, between the two, wrote into what had just been put there: that is his, too.
  const auto ours = back ? stillOurs(fresh, aside) : false;
  if (ours.ok() && !*ours) {
    giveBack(aside, path);
    return false;
  }
  syncNames(aside, path);
  if (ours.ok()) {
    takeBack(aside, tempPath);  // After a power cut, the next start finds it there (clearLeftovers).
  } else {
    leftAside[tempPath] = {aside, path, fresh};
    settleAsideLater(tempPath);
  }
  hint(parentPath(path));
  return true;
}

/// The name, among our own, of what leaves the user's folder for a file `from` there (or in tmp/, for nothing). It tells who
/// meets it after a crash which two objects may be found under it that are no loss: ours, with that content, which was to come in
/// its place, and the one that was known. Any other is the user's.
std::string Folder::State::asideName(const std::string& from, const store::DiskRow& row, const FileStat* ours, const BlobId& blob) {
  char name[160];
  snprintf(name, sizeof(name), "~%" PRIx64 "-%" PRIx64 ".%" PRIx64 "-%" PRIx64 ".%" PRIx64, row.node, ours ? ours->inode : 0,
           ours ? uint64_t(ours->birthNs) : 0, row.inode, uint64_t(row.birthNs));
  return from + name + (blob.isZero() ? "" : "-" + blob.hex().substr(0, kAsideBlobDigits));
}

Folder::State::Aside Folder::State::readAside(const std::string& name, const FileStat& stat) {
  Aside aside;
  const size_t mark = name.rfind('~');
  uint64_t inode[2] = {}, birth[2] = {};
  int end = 0;
  if (mark == std::string::npos ||
      sscanf(name.c_str() + mark, "~%" SCNx64 "-%" SCNx64 ".%" SCNx64 "-%" SCNx64 ".%" SCNx64 "%n", &aside.node, &inode[0], &birth[0],
             &inode[1], &birth[1], &end) != 5)
    return aside;
  auto is = [&](int i) { return stat.inode == inode[i] && uint64_t(stat.birthNs) == birth[i]; };
  aside.whose = is(0) ? Aside::Ours : is(1) ? Aside::Known : Aside::Users;
  aside.from = name.substr(0, mark);
  if (const size_t at = mark + size_t(end); at < name.size() && name[at] == '-') aside.blob = name.substr(at + 1);
  return aside;
}

/// What is ours had a name of the user's for a moment, perhaps: with the power went that name, but not what he wrote there.
Result<bool> Folder::State::isAsMade(DirectoryItem& item, const std::string& from, const Aside& aside) {
  if (item.stat.type != FileStat::Type::File || aside.blob.empty()) return true;
  REALIZE_ASSIGN(const auto content, hashOurFile(*root, from, item.stat));
  return content.blob.hex().starts_with(aside.blob);
}

/// A file that was being filled can have its name again after a power cut: with another size it is not taken for whole then. Who has it
/// open reads on.
Result<void> Folder::State::spoil(const std::string& cachePath, uint64_t sizeBytes) {
  auto file = root->open(cachePath, OpenMode::ReadWrite);
  if (!file.ok()) return file.code() == Code::NotFound ? Result<void>() : file.error();
  REALIZE_TRY((*file)->truncate(sizeBytes + 1));
  return (*file)->sync(true);
}

/// What a peer removed or replaced can be brought back for a while: it moves to the cache. Its bytes have been on the disk
/// since it was placed or told of. False: there is no room, or its bytes are elsewhere, too.
bool Folder::State::keepUnlinked(const store::DiskRow& row, const std::string& path) {
  if (row.kind != EntryKind::File || row.dirty) return false;
  const std::string to = Transfers::cachePath(row.blob);
  const auto cached = core.store.cache().get(row.blob);
  if (cached && cached->complete) {
    if (path == to) return true;  // This very file.
    // There already, if a power cut has not taken the name that it got there.
    if (auto there = root->stat(to); there.ok() && there->sizeBytes == row.sizeBytes) return false;
  }
  auto stat = root->stat(path);
  if (!stat.ok() || stat->links > 1 || stat->sizeBytes != row.sizeBytes) return false;
  if (!core.transfers->mayKeepUnlinked(row.blob, row.sizeBytes)) return false;
  if ((stat->mode & 07600) != 0600 && !root->setMode(path, 0600).ok()) return false;
  if (path != to && (!spoil(to, row.sizeBytes).ok() || !root->rename(path, to, RenameKind::Replace).ok())) return false;
  // Its name is not synced here: that of what left the cache for the user's folder a moment ago would go for good, before
  // its new one is there.
  core.transfers->adoptUnlinked(row.blob, row.sizeBytes);
  return true;
}

/// What a crash left on its way to the cache, or back there.
bool Folder::State::keepLeftover(const std::string& path, FileStat& stat) {
  const auto content = hashOurFile(*root, path, stat);
  if (!content.ok()) return false;
  const auto cached = core.store.cache().get(content->blob);
  const std::string to = Transfers::cachePath(content->blob);
  if (cached && cached->complete && !root->stat(to).ok())  // A power cut took the name that it has there.
    return root->setMode(path, 0600).ok() && root->rename(path, to, RenameKind::NoReplace).ok();
  store::DiskRow known;
  known.kind = EntryKind::File;
  known.sizeBytes = stat.sizeBytes;
  known.blob = content->blob;
  return keepUnlinked(known, path);
}

/// Of a conflict: another of its versions took the place of this one, and nobody else may have it.
bool Folder::State::isOneOfSeveral(const EntryId& id, const store::DiskRow& row) {
  const logic::Record* record = core.tree.peek(id);
  if (!record || !record->shown || record->entry.heads.size() < 2 || row.kind != EntryKind::File) return false;
  const auto heads = logic::shownHeads(record->entry);
  return heads.size() > 1 && std::any_of(heads.begin(), heads.end(), [&](const auto& head) { return head.version.blob == row.blob; });
}

/// A peer's rename can hand the bytes of one entry to another, and this may be the only place that has them: then they
/// move to the cache, where the other entry finds them.
Result<void> Folder::State::letGo(const store::DiskRow& row, const std::string& path) {
  auto id = core.store.idOf(row.node);
  auto others = row.kind == EntryKind::File ? core.transfers->neededElsewhere(row.blob, id.value_or(EntryId())) : std::vector<EntryId>();
  if (id && isOneOfSeveral(*id, row)) others.push_back(*id);
  if (others.empty() && keepUnlinked(row, path)) return {};
  if (others.empty()) return root->unlink(path);
  const std::string to = Transfers::cachePath(row.blob);
  // A second name of the file is another file, and what is in the cache changes for nobody.
  auto stat = root->stat(path);
  if (!stat.ok()) return stat.error();
  const bool unwritten = core.unwritten->has(*stat);
  if (stat->links > 1 || unwritten) {
    const std::string copy = std::string(kTempFolder) + "/copy-" + std::to_string(row.node);
    auto left = root->unlink(copy);
    (void)left;  // Of an earlier try.
    REALIZE_ASSIGN(auto from, root->open(path, OpenMode::Read));
    REALIZE_ASSIGN(auto file, root->open(copy, OpenMode::CreateNew, 0600));
    if (unwritten) REALIZE_TRY(copyBytes(*from, *file, row.sizeBytes));
    else if (row.sizeBytes > 0) REALIZE_TRY(file->cloneRange(*from, 0, row.sizeBytes, 0));
    REALIZE_TRY(file->sync(true));
    REALIZE_TRY(root->rename(copy, to, RenameKind::Replace));
    REALIZE_TRY(root->unlink(path));
  } else {
    // A cache is trusted: only what is on the disk goes there.
    REALIZE_ASSIGN(auto file, root->open(path, OpenMode::Read));
    if (auto synced = file->sync(true); !synced.ok()) {
      core.unwritten->note(*stat);
      return synced;
    }
    REALIZE_TRY(root->setMode(path, 0600));
    REALIZE_TRY(root->rename(path, to, RenameKind::Replace));
  }
  core.transfers->adopt({{row.blob, row.sizeBytes}});
  core.transfers->pin(row.blob, others);
  core.transfers->wakeWanted();
  return {};
}

/// What is not at its path: the user moved it with the folder it is in, or took away the disk of that. Where it is, or that
/// it is nowhere, is read first: else nobody would look at it there again.
bool Folder::State::leftWithFolder(const store::DiskRow& row, const std::string& path) {
  if (guard.held().contains(row.node)) return false;  // Read, and nowhere.
  if (row.kind == EntryKind::Directory && core.store.disk().hasChildren(row.node)) return true;
  const auto above = core.store.disk().get(row.parentNode);
  const auto there = root->stat(parentPath(path));
  return !above || !there.ok() || above->inode != there->inode || above->birthNs != there->birthNs;
}

/// What is at the path makes way for what is in tmp/ or in the cache, if it is as known; returns where it is then. Else it
/// stays, and what was to come is where it was. Errors: Busy; Conflict, when somebody has seen that.
Result<std::string> Folder::State::swapIn(const std::string& tempPath, const FileStat& fresh, const BlobId& blob,
                                          const store::DiskRow& row, const std::string& path) {
  const std::string aside = asideName(tempPath, row, &fresh, blob);
  REALIZE_TRY(root->rename(tempPath, aside, RenameKind::NoReplace));
  if (auto put = root->rename(aside, path, RenameKind::Exchange); !put.ok()) {
    takeBack(aside, tempPath);
    return put.error();
  }
  if (asKnown(row, aside)) return aside;
  const bool unseen = undoPlacing(row.node, fresh, aside, tempPath, path);
  return Error{unseen ? Code::Busy : Code::Conflict, path + ": changed here at this moment"};
}

Result<void> Folder::State::exchangeIn(const std::string& tempPath, const FileStat& fresh, const BlobId& blob,
                                       const store::DiskRow& row, const std::string& path) {
  REALIZE_ASSIGN(const auto aside, swapIn(tempPath, fresh, blob, row, path));
  auto gone = letGo(row, aside);
  (void)gone;  // Emptied at the next start.
  return {};
}

namespace {
std::string modeKey(NodeId node) { return "mode/" + std::to_string(node); }
}  // namespace

/// Set by the user on a file that makes way for a newer version soon. It is that version's when it is here: who has not its
/// bytes says nothing of it, or it lives on here, for ever without them, when it is replaced where it is.
void Folder::State::keepMode(NodeId node, uint32_t mode) { core.store.setValue(modeKey(node), std::to_string(mode)); }

void Folder::State::useKeptMode(NodeId node, const std::string& path) {
  const std::string kept = core.store.getValue(modeKey(node)).value_or("");
  if (kept.empty()) return;
  auto set = root->setMode(path, uint32_t(std::stoul(kept)));
  (void)set;  // Gone again, or somebody else's now.
  core.store.setValue(modeKey(node), "");
  hint(parentPath(path));  // Read as set by the user.
}

Result<void> Folder::place(const EntryId& id, Dot dot, const std::string& tempPath, const FileStat* known) {
  auto& s = *s_;
  auto& core = s.core;
  if (!s.root) return Error{Code::Suspended, core.suspendedWhy};
  core.transfers->finishPlacing();
  auto record = core.tree.get(id);
  if (!record || !record->shown || record->entry.kind != EntryKind::File) return Error{Code::NotFound, "the entry is gone"};
  const auto heads = core.tree.shownHeads(id);
  auto head = std::find_if(heads.begin(), heads.end(), [&](const auto& h) { return h.dot == dot; });
  if (head == heads.end()) return Error{Code::NotFound, "the version was replaced meanwhile"};
  REALIZE_ASSIGN(const std::string parent, materialize(record->shownParent));
  const std::string path = joinPath(parent, record->shownName);
  const NodeId parentNode = core.store.nodeOf(record->shownParent).value_or(0);
  FileStat fresh;
  if (known) {
    fresh = *known;
  } else {
    REALIZE_ASSIGN(fresh, s.root->stat(tempPath));
  }
  const bool mode = (fresh.mode & 07777) != (head->version.mode & 0777), times = fresh.mtimeNs != head->version.mtimeNs;
  if (mode) REALIZE_TRY(s.root->setMode(tempPath, head->version.mode & 0777));
  if (times) REALIZE_TRY(s.root->setTimes(tempPath, head->version.mtimeNs));
  if (mode || times) {
    REALIZE_ASSIGN(fresh, s.root->stat(tempPath));
  }

  auto row = core.store.disk().get(record->node);
  if (row && (row->parentNode != parentNode || row->name != record->shownName) && !s.applyMove(*record, *row, 0))
    return Error{Code::Busy, path + ": cannot be moved there yet"};
  if (!row) {
    auto placed = s.root->rename(tempPath, path, faulty(Fault::OverwriteUnknown) ? RenameKind::Replace : RenameKind::NoReplace);
    if (!placed.ok()) {
      if (placed.code() != Code::Exists) return placed;
      s.inTheWay(parent, record->shownName);  // Somebody has made a file of that name: it is read first.
      return Error{Code::Busy, path + ": a file that is not known yet is in the way"};
    }
  } else {
    if (s.leftAlone(*row, path)) return Error{Code::Busy, path + ": changed here, and is read first"};
    if (!s.nobodyWrites(path)) return s.tellInUse(path);
    auto exchanged = s.exchangeIn(tempPath, fresh, head->version.blob, *row, path);
    if (!exchanged.ok() && exchanged.code() == Code::Conflict) {
      // Somebody wrote into it, or over it, where it was for a moment: he has seen it, and it may have been the only one.
      row->addSeen(Core::baseOf(record->entry, &*head));
      row->dirty = true;  // Until it is read, nobody says otherwise what it has seen.
      core.store.disk().put(*row);
      return Error{Code::Busy, exchanged.error().message};
    }
    REALIZE_TRY(exchanged);
    core.invalidations->nodeChanged(record->node, true);  // Told when the tree changed; what was read since was the old one.
  }
  s.changedByUs(parent);
  auto placed = s.root->stat(path);
  // What is there by now, if it is not what was put there, is somebody's edit: the row must not say that it is known.
  const bool ours = placed.ok() && placed->bytesUnchanged(fresh) && placed->mode == fresh.mode;
  if (!ours) s.hint(parent);
  core.transact([&] {
    s.putRow(record->node, parentNode, record->shownName, EntryKind::File, ours ? *placed : fresh, head->version.blob,
             Core::baseOf(record->entry, &*head));
    s.noteUnsynced(record->node);
    if (row && ours) s.useKeptMode(record->node, path);
  });
  return {};
}

Result<void> Folder::displace(const EntryId& id, const std::string& cachePath) {
  auto& s = *s_;
  auto& core = s.core;
  if (!s.root) return Error{Code::Suspended, core.suspendedWhy};
  core.transfers->finishPlacing();
  auto node = core.store.nodeOf(id);
  auto row = node ? core.store.disk().get(*node) : std::nullopt;
  auto path = node ? diskPath(*node) : std::nullopt;
  if (!row || !path) return Error{Code::NotFound, "not on disk"};
  if (s.leftAlone(*row, *path)) return Error{Code::Busy, *path + ": changed here, and is read first"};
  if (!s.nobodyWrites(*path)) return Error{Code::Busy, *path + ": is open for writing"};
  REALIZE_ASSIGN(const std::string aside, s.takeAside(*row, *path));
  auto gone = cachePath.empty() ? s.root->unlink(aside) : s.root->rename(aside, cachePath, RenameKind::NoReplace);
  if (!gone.ok()) {
    s.giveBack(aside, *path);
    return gone;
  }
  core.transact([&] { core.store.disk().erase(*node); });
  return {};
}

}  // namespace realize::peer
