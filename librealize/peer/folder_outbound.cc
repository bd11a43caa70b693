// The folder follows the tree: moves, removals, attributes, new folders and links; contents through place().

#include <algorithm>

#include "librealize/base/fault.h"
#include "librealize/logic/names.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr size_t kSlice = 200;
constexpr int64_t kRetryMs = 500;
constexpr int kMaxDepth = 16;

const logic::ShownHead* headOf(const std::vector<logic::ShownHead>& heads, const BlobId& blob) {
  for (const auto& head : heads)
    if (head.version.blob == blob) return &head;
  return nullptr;
}
}  // namespace

void Folder::entryChanged(const EntryId& id) {
  if (id == kRootEntry || !s_->toApplySet.insert(id).second) return;
  s_->toApply.push_back(id);
  s_->applySoon();
}

void Folder::State::applySoon() {
  if (applying) return;
  applying = true;
  core.env.scheduler.onCore([this, alive = alive] {
    if (*alive) applySlice();
  });
}

void Folder::State::applySlice() {
  applying = false;
  if (core.suspended || core.stopping || !root) return;
  std::vector<NodeId> erased;
  const bool noted = core.transact([&] {
    for (size_t i = 0; i < kSlice && !toApply.empty(); ++i) {
      const EntryId id = toApply.front();
      toApply.pop_front();
      toApplySet.erase(id);
      applyOne(id, 0);
    }
    // A name is gone for good before its row is: else a crash could bring the file back as a new one.
    bool synced = true;
    for (const auto& parent : goneParents) {
      auto done = root->syncDirectory(parent);
      synced = synced && (done.ok() || done.code() == Code::NotFound);
    }
    goneParents.clear();
    for (auto node : goneNow) {
      auto row = core.store.disk().get(node);
      if (!row || !synced) continue;
      core.store.disk().erase(node);
      erased.push_back(node);
      core.invalidations->nodeChanged(node, true);  // It may be shown with a content that is not here.
      if (!emptyLater.erase(row->parentNode)) continue;
      if (auto id = core.store.idOf(row->parentNode)) core.folder->entryChanged(*id);
    }
    goneNow.clear();
  });
  if (noted) holdNoMore(erased);
  if (!toApply.empty()) applySoon();
  else settled();
}

void Folder::State::applied(const EntryId& id) {
  auto tried = retries.find(id);
  if (tried == retries.end()) return;
  const bool told = tried->second >= kPatience;
  retries.erase(tried);
  auto path = core.shownPath(id);
  if (told && path.ok()) core.transact([&] { core.store.problems().erase(*path, "not-applied"); });
}

void Folder::State::retry(const EntryId& id) {
  if (waitsForGuard(id)) return;
  if (!retrying.insert(id).second) return;
  if (++retries[id] == kPatience) {
    // From here on a wait no longer waits for it: so it is said.
    auto path = core.shownPath(id);
    problem(path.ok() ? *path : "", "not-applied", "what a peer changed here cannot be done on this disk yet: the file is in "
                                                   "use, or another is in the way. It is tried again");
  }
  core.env.scheduler.onCoreAfter(kRetryMs, [this, alive = alive, id] {
    if (!*alive) return;
    retrying.erase(id);
    core.folder->entryChanged(id);
  });
}

bool Folder::State::nobodyWrites(const std::string& path) {
  if (faulty(Fault::TrustTheRow)) return true;
  auto file = root->open(path, OpenMode::Read);
  if (!file.ok()) return file.code() == Code::PermissionDenied;
  auto quiet = (*file)->nobodyWrites();
  return quiet.ok() && *quiet;
}

/// At a name that nobody else uses: still the bytes that we know, and nobody can write to them any more.
bool Folder::State::asKnown(const store::DiskRow& row, const std::string& path) {
  // In this order: who had it open until a moment ago is seen by what he wrote.
  if (row.kind == EntryKind::File && !nobodyWrites(path)) return false;
  if (faulty(Fault::TrustTheRow)) return true;
  auto stat = root->stat(path);
  return stat.ok() && row.sameBytes(*stat);
}

/// Takes a file out of the user's sight, if it is as we know it; who opened it for writing a moment ago would write into
/// nothing, and so keeps it.
Result<std::string> Folder::State::takeAside(const store::DiskRow& row, const std::string& path) {
  const std::string aside = asideName(std::string(kTempFolder) + "/gone", row, nullptr, {});
  REALIZE_TRY(root->rename(path, aside, RenameKind::NoReplace));
  changedByUs(parentPath(path));
  if (asKnown(row, aside)) return aside;
  giveBack(aside, path);
  return Error{Code::Busy, path + ": changed here at this moment"};
}

/// The object on disk is not what we know: what happened there is read first.
bool Folder::State::leftAlone(const store::DiskRow& row, const std::string& path) {
  if (faulty(Fault::TrustTheRow)) return false;
  if (row.dirty) {
    hint(parentPath(path));
    return true;
  }
  auto stat = root->stat(path);
  if (stat.ok() && row.matches(*stat)) return false;
  hint(parentPath(path));
  return true;
}

bool Folder::State::applyOne(const EntryId& id, int depth) {
  auto record = core.tree.get(id);
  if (!record) return false;
  auto row = core.store.disk().get(record->node);
  if (!row) {
    applied(id);
    if (!record->shown || core.marks->effective(*record) != Mark::Real) return true;
    switch (record->entry.kind) {
      case EntryKind::File: return true;  // Marks wants its bytes.
      case EntryKind::Symlink: return applySymlink(*record, row);
      case EntryKind::Directory: {
        auto made = core.folder->materialize(id);
        if (!made.ok()) retry(id);
        return made.ok();
      }
    }
  }
  if (!record->shown) {
    const bool gone = applyGone(*row, goneParents, goneNow);
    if (gone) applied(id);
    else retry(id);
    return gone;
  }
  const NodeId parentNode = core.store.nodeOf(record->shownParent).value_or(0);
  if (row->parentNode != parentNode || row->name != record->shownName) {
    if (!applyMove(*record, *row, depth)) return false;
  }
  bool done = true;
  switch (record->entry.kind) {
    case EntryKind::Symlink: done = applySymlink(*record, row); break;
    case EntryKind::Directory: done = applyAttributes(*record, *row); break;
    case EntryKind::File: {
      const auto heads = core.tree.shownHeads(id);
      if (row->dirty) followUnread(*record, *row);  // Read first; then this is looked at again.
      else if (headOf(heads, row->blob)) {
        done = applyAttributes(*record, *row);
      } else if (core.marks->effective(*record) == Mark::Unreal && !heads.empty()) {
        // Old bytes, and the new ones are not wanted here: they are somewhere, unless only this peer had them.
        if (!core.lostHere(core.shownVersion(*record)->second)) done = applyGone(*row, goneParents, goneNow);
      }
      break;
    }
  }
  if (done) applied(id);
  else retry(id);  // What is read of the disk meanwhile may turn out to be nothing that comes back here.
  return done;
}

bool Folder::State::applyGone(const store::DiskRow& row, std::set<std::string>& parents, std::vector<NodeId>& gone) {
  auto id = core.store.idOf(row.node);
  auto path = core.folder->diskPath(row.node);
  if (!path || path->empty()) return false;
  auto stat = root->stat(*path);
  if (!stat.ok()) {
    if (stat.code() != Code::NotFound) return false;
    if (leftWithFolder(row, *path)) {
      hint(parentPath(*path));
      return false;
    }
    if (core.store.disk().hasChildren(row.node)) {
      // What was known in it went along, and whether that was a removal is still to be decided: it may be held back.
      emptyLater.insert(row.node);
      hint(parentPath(*path));
      return true;
    }
    gone.push_back(row.node);
    return true;
  }
  if (row.kind != EntryKind::Directory) {
    if (leftAlone(row, *path)) return false;
    if (row.kind == EntryKind::File && !nobodyWrites(*path)) {
      if (id) retry(*id);
      return false;
    }
    auto aside = takeAside(row, *path);
    if (!aside.ok() && aside.code() == Code::Busy) {
      if (id) retry(*id);
      return false;
    }
    Result<void> unlinked = aside.ok() ? letGo(row, *aside) : Result<void>(aside.error());
    if (aside.ok() && !unlinked.ok()) giveBack(*aside, *path);
    if (!unlinked.ok()) {
      problem(*path, "not-removed", unlinked.error().message);
      return false;
    }
  } else {
    if (core.store.disk().hasChildren(row.node)) {
      emptyLater.insert(row.node);
      return true;
    }
    if (auto items = root->list(*path); faulty(Fault::RemoveUnread) && items.ok())
      for (const auto& item : *items) (void)root->unlink(joinPath(*path, item.name)).ok();
    auto removed = root->removeDirectory(*path);
    if (!removed.ok() && removed.code() == Code::NotEmpty) {
      // Names in it that are not ours, or not read yet: a removal elsewhere never takes them along.
      leftCandidates.insert(row.node);
      hint(*path);
      return true;
    }
    if (!removed.ok()) {
      problem(*path, "not-removed", removed.error().message);
      return false;
    }
  }
  changedByUs(parentPath(*path));
  parents.insert(parentPath(*path));
  gone.push_back(row.node);
  return true;
}

bool Folder::State::applyMove(const logic::Record& record, store::DiskRow& row, int depth) {
  const EntryId& id = record.entry.id;
  const bool outermost = moving.insert(id).second;
  const bool moved = moveOnDisk(record, row, depth);
  if (outermost) moving.erase(id);
  return moved;
}

/// Where the row is now, and where it is to go. Making folders and moving others may have moved this one, too.
std::optional<Folder::State::DiskMove> Folder::State::nextMove(const logic::Record& record, store::DiskRow& row) {
  auto current = core.store.disk().get(row.node);
  if (!current) return std::nullopt;
  row = *current;
  const NodeId parentNode = core.store.nodeOf(record.shownParent).value_or(0);
  auto parent = core.folder->diskPath(parentNode);
  auto from = core.folder->diskPath(row.node);
  if (!parent || !from) return std::nullopt;
  return DiskMove{parentNode, *from, joinPath(*parent, record.shownName),
                  row.parentNode == parentNode && row.name == record.shownName};
}

bool Folder::State::moveOnDisk(const logic::Record& record, store::DiskRow& row, int depth) {
  const EntryId& id = record.entry.id;
  if (!core.folder->materialize(record.shownParent).ok()) {
    retry(id);
    return false;
  }
  auto move = nextMove(record, row);
  if (!move || move->done) return move.has_value();
  auto stat = root->stat(move->from);
  if (!stat.ok() || stat->device != row.device || stat->inode != row.inode) {
    hint(parentPath(move->from));
    retry(id);
    return false;
  }
  auto renamed = root->rename(move->from, move->to, RenameKind::NoReplace);
  std::optional<store::DiskRow> swapped;
  if (!renamed.ok() && renamed.code() == Code::Exists) {
    auto occupant = core.store.disk().getAt(move->parentNode, record.shownName);
    auto occupantId = occupant ? core.store.idOf(occupant->node) : std::nullopt;
    if (move->from.starts_with(move->to + "/")) stepOut(*move, record, row);
    if (occupantId && depth < kMaxDepth && !moving.contains(*occupantId)) applyOne(*occupantId, depth + 1);
    move = nextMove(record, row);
    if (!move || move->done) return move.has_value();
    renamed = root->rename(move->from, move->to, RenameKind::NoReplace);
    if (!renamed.ok() && renamed.code() == Code::Exists && (swapped = inEachOthersWay(*move, record.shownName)))
      renamed = root->rename(move->from, move->to, RenameKind::Exchange);
    if (!renamed.ok() && renamed.code() == Code::Exists && isGoingAround(move->parentNode, record.shownName) &&
        standBeside(*core.store.disk().getAt(move->parentNode, record.shownName)))
      renamed = root->rename(move->from, move->to, RenameKind::NoReplace);
  }
  if (!renamed.ok()) {
    if (renamed.code() == Code::NoSpace || renamed.code() == Code::Io || renamed.code() == Code::NameTooLong)
      problem(move->from, "not-moved", renamed.error().message);
    if (renamed.code() == Code::Exists) inTheWay(parentPath(move->to), record.shownName);
    retry(id);
    return false;
  }
  // Before the row says so: a crash must not make the old place look like a move back.
  auto synced = root->syncDirectory(parentPath(move->from));
  auto syncedTo = root->syncDirectory(parentPath(move->to));
  (void)synced, (void)syncedTo;  // Failing, it is the disk's last word; the next scan reads what is there.
  const NodeId oldParent = row.parentNode;
  const std::string oldName = row.name;
  const std::string aside = std::string(kTempFolder) + "/swap";
  if (!swapped) vacate(move->parentNode, record.shownName);
  if (swapped && swapped->kind == EntryKind::Directory) directoryMoved(move->to, aside, true);
  if (row.kind == EntryKind::Directory) directoryMoved(move->from, move->to, true);
  if (swapped && swapped->kind == EntryKind::Directory) directoryMoved(aside, move->from, true);
  changedByUs(parentPath(move->from));
  changedByUs(parentPath(move->to));
  if (swapped) {  // Out of its place first: no two rows have one name.
    swapped->parentNode = kRootNode;
    swapped->name = logic::parkName(swapped->node);
    core.store.disk().put(*swapped);
  }
  row.parentNode = move->parentNode;
  row.name = record.shownName;
  if (auto now = root->stat(move->to); now.ok()) row.noteRenamed(*now);
  putAtName(row);
  if (swapped) {
    swapped->parentNode = oldParent;
    swapped->name = oldName;
    if (auto now = root->stat(move->from); now.ok()) swapped->noteRenamed(*now);
    core.store.disk().put(*swapped);
    if (auto other = core.store.idOf(swapped->node)) core.folder->entryChanged(*other);
  }
  if (emptyLater.erase(oldParent))
    if (auto above = core.store.idOf(oldParent)) core.folder->entryChanged(*above);
  return true;
}

/// It takes the name of a folder that it is in. The folder can go only when this one is out of it; a crash before it has
/// its name leaves a rename that the next scan reads.
void Folder::State::stepOut(const DiskMove& move, const logic::Record& record, store::DiskRow& row) {
  const std::string name = record.shownName + "~" + record.entry.id.hex().substr(0, 8);
  const std::string beside = joinPath(parentPath(move.to), name);
  if (!root->rename(move.from, beside, RenameKind::NoReplace).ok()) return;
  auto synced = root->syncDirectory(parentPath(move.to));
  (void)synced;
  vacate(move.parentNode, name);
  if (row.kind == EntryKind::Directory) directoryMoved(move.from, beside, true);
  changedByUs(parentPath(move.from));
  changedByUs(parentPath(move.to));
  if (emptyLater.erase(row.parentNode))
    if (auto above = core.store.idOf(row.parentNode)) core.folder->entryChanged(*above);
  row.parentNode = move.parentNode;
  row.name = name;
  if (auto now = root->stat(beside); now.ok()) row.noteRenamed(*now);
  putAtName(row);
}

/// What is in the way, if it is known and on its way elsewhere, too: then the two change places, and the other goes on
/// from ours.
std::optional<store::DiskRow> Folder::State::inEachOthersWay(const DiskMove& move, const std::string& name) {
  auto occupant = core.store.disk().getAt(move.parentNode, name);
  auto id = occupant ? core.store.idOf(occupant->node) : std::nullopt;
  auto record = id ? core.tree.get(*id) : std::nullopt;
  auto there = root->stat(move.to);
  if (!record || !record->shown || !there.ok()) return std::nullopt;
  if (there->inode != occupant->inode || there->device != occupant->device) return std::nullopt;
  const bool stays = core.store.nodeOf(record->shownParent) == occupant->parentNode && record->shownName == occupant->name;
  return stays ? std::nullopt : occupant;
}

/// A new time would hide what is written at this moment. The row then has the time that the file has. Errors: Busy.
Result<void> Folder::State::setTimesOf(store::DiskRow& row, const std::string& path, int64_t mtimeNs) {
  REALIZE_ASSIGN(FileStat known, root->stat(path));
  if (!row.sameBytes(known)) return Error{Code::Busy, path + ": changed here at this moment"};
  auto file = root->open(path, OpenMode::Read);
  if (!file.ok() && file.code() == Code::PermissionDenied) {  // Its mode keeps others away, too.
    REALIZE_TRY(root->setTimes(path, mtimeNs));
    REALIZE_ASSIGN(known, root->stat(path));
    row.mtimeNs = known.mtimeNs;
    return {};
  }
  if (!file.ok()) return file.error();
  REALIZE_ASSIGN(const FileStat after, (*file)->setTimesOfUnwritten(known, mtimeNs));
  row.mtimeNs = after.mtimeNs;
  return {};
}

bool Folder::State::applyAttributes(const logic::Record& record, store::DiskRow& row) {
  const auto heads = core.tree.shownHeads(record.entry.id);
  if (heads.empty()) return true;
  const bool directory = record.entry.kind == EntryKind::Directory;
  const logic::ShownHead* head = directory ? &heads.front() : headOf(heads, row.blob);
  if (!head) return true;
  // A directory that its owner could not enter would be out of our reach, too. But the user may make it so.
  const uint32_t said = head->version.mode & 0777;
  const uint32_t mode = directory && (row.mode & 0777) != said ? said | 0700 : said;
  const bool times = !directory && row.mtimeNs != head->version.mtimeNs;
  const auto base = Core::baseOf(record.entry, directory ? nullptr : head);
  const bool same = (row.mode & 0777) == mode && !times;
  if (same && row.base == base) return true;
  auto path = core.folder->diskPath(row.node);
  if (!path) return false;
  // Also where only who has it changes: what its user removed or replaced already has not seen that.
  if (!directory && leftAlone(row, *path)) return false;
  if (same) {
    row.base = base;
    core.store.disk().put(row);
    return true;
  }
  if (times && !nobodyWrites(*path)) {
    retry(record.entry.id);
    return false;
  }
  Result<void> set;
  changedByUs(parentPath(*path));
  if ((row.mode & 0777) != mode) set = root->setMode(*path, mode);
  store::DiskRow expected = row;
  if (set.ok() && times) set = setTimesOf(expected, *path, head->version.mtimeNs);
  if (!set.ok() && set.code() != Code::Busy) {
    problem(*path, "attributes", set.error().message);
    return false;
  }
  auto now = root->stat(*path);
  const bool otherMode = now.ok() && (now->mode & 0777) != mode && now->ctimeNs != row.ctimeNs;  // A disk without modes leaves all.
  if (!directory && (!set.ok() || !now.ok() || !expected.sameBytes(*now) || otherMode)) {
    hint(parentPath(*path));  // Somebody wrote, or set another mode: the row stays as it was, so that this is seen and read.
    retry(record.entry.id);
    return false;
  }
  if (now.ok()) row.setStat(*now);
  row.base = base;
  core.store.disk().put(row);
  core.invalidations->nodeChanged(row.node, false);
  if (!directory) tellIfClosed(*path, mode), core.folder->lookAtOtherNames(*now);
  return true;
}

bool Folder::State::applySymlink(const logic::Record& record, const std::optional<store::DiskRow>& row) {
  const EntryId& id = record.entry.id;
  const auto heads = core.tree.shownHeads(id);
  if (heads.empty()) return true;
  const std::string& target = heads.front().version.linkTarget;
  auto parent = core.folder->materialize(record.shownParent);
  if (!parent.ok()) {
    retry(id);
    return false;
  }
  const std::string path = joinPath(*parent, record.shownName);
  if (row) {
    auto there = root->readSymlink(path);
    if (there.ok() && *there == target) {
      // What was done to it elsewhere meanwhile is shown by it now, and goes when the user removes it.
      auto seen = *row;
      seen.base = Core::baseOf(record.entry, nullptr);
      if (seen.base != row->base) core.store.disk().put(seen);
      return true;
    }
    if (leftAlone(*row, path)) return false;
    const std::string temp = std::string(kTempFolder) + "/link-" + std::to_string(record.node);
    auto gone = root->unlink(temp);
    (void)gone;  // Of an earlier try.
    auto made = root->makeSymlink(temp, target);
    auto fresh = root->stat(temp);
    if (made.ok()) made = fresh.ok() ? exchangeIn(temp, *fresh, {}, *row, path) : Result<void>(fresh.error());
    if (!made.ok()) {
      gone = root->unlink(temp);
      retry(id);
      return false;
    }
    core.invalidations->nodeChanged(record.node, true);
  } else if (auto made = root->makeSymlink(path, target); !made.ok()) {
    auto there = made.code() == Code::Exists ? root->readSymlink(path) : Result<std::string>(made.error());
    if (!there.ok() || *there != target) {
      inTheWay(*parent, record.shownName);
      retry(id);
      return false;
    }
  }
  changedByUs(*parent);
  auto stat = root->stat(path);
  if (!stat.ok()) return false;
  auto now = root->readSymlink(path);
  if (!now.ok() || *now != target) {  // Somebody was quicker: it is read first.
    hint(*parent);
    retry(id);
    return false;
  }
  putRow(record.node, core.store.nodeOf(record.shownParent).value_or(0), record.shownName, EntryKind::Symlink, *stat, BlobId(),
         Core::baseOf(record.entry, nullptr));
  noteUnsynced(record.node);
  return true;
}

/// A folder has that name that a peer removed, and out of which comes what is on its way now: that goes into who takes the name.
bool Folder::State::isGoingAround(NodeId parent, const std::string& name) {
  const auto occupant = core.store.disk().getAt(parent, name);
  const auto id = occupant ? core.store.idOf(occupant->node) : std::nullopt;
  const auto record = id ? core.tree.get(*id) : std::nullopt;
  if (!record || record->shown || occupant->kind != EntryKind::Directory) return false;
  return std::any_of(moving.begin(), moving.end(), [&](const EntryId& comes) {
    auto at = core.store.disk().get(core.store.nodeOf(comes).value_or(0));
    while (at && at->node != occupant->node && at->node != kRootNode) at = core.store.disk().get(at->parentNode);
    return at && at->node == occupant->node;
  });
}

/// Under a name that nobody has, until it can go, or go on.
bool Folder::State::standBeside(store::DiskRow folder) {
  const auto id = core.store.idOf(folder.node);
  const auto path = core.folder->diskPath(folder.node);
  const auto stat = path ? root->stat(*path) : Result<FileStat>(Error{Code::NotFound, ""});
  if (!id || !stat.ok() || stat->inode != folder.inode || stat->device != folder.device) return false;
  const std::string ending = "~" + id->hex().substr(0, 8);
  const std::string aside = logic::cutName(folder.name, logic::kNameBytes - ending.size()) + ending;
  const std::string beside = joinPath(parentPath(*path), aside);
  if (!root->rename(*path, beside, RenameKind::NoReplace).ok()) return false;
  auto synced = root->syncDirectory(parentPath(*path));
  (void)synced;  // As in moveOnDisk.
  vacate(folder.parentNode, aside);
  if (folder.kind == EntryKind::Directory) directoryMoved(*path, beside, true);
  changedByUs(parentPath(*path));
  folder.name = aside;
  if (auto now = root->stat(beside); now.ok()) folder.noteRenamed(*now);
  putAtName(folder);
  core.folder->entryChanged(*id);
  return true;
}

/// A folder of another entry has the name, and is on its way elsewhere: it goes there now, or at least beside.
bool Folder::State::outOfTheWay(NodeId parent, const std::string& name) {
  auto occupant = core.store.disk().getAt(parent, name);
  auto id = occupant ? core.store.idOf(occupant->node) : std::nullopt;
  if (!occupant || !id) return true;
  if (!moving.contains(*id)) applyOne(*id, 1);
  occupant = core.store.disk().getAt(parent, name);
  if (!occupant) return true;
  auto record = core.tree.get(occupant->node == core.store.nodeOf(*id) ? *id : EntryId());
  if (!record) return false;
  const bool goesOn = record->shown && (core.store.nodeOf(record->shownParent) != occupant->parentNode || record->shownName != occupant->name);
  return (goesOn || isGoingAround(parent, name)) && standBeside(*occupant);
}

Result<std::string> Folder::materialize(const EntryId& id) {
  auto& s = *s_;
  auto& core = s.core;
  if (!s.root) return Error{Code::Suspended, core.suspendedWhy};
  if (id == kRootEntry) return std::string();
  const logic::Record* known = core.tree.peek(id);
  if (!known || !known->shown || known->entry.kind != EntryKind::Directory)
    return Error{Code::NotFound, "the folder is gone"};
  const EntryId above = known->shownParent;
  const std::string name = known->shownName;
  const NodeId node = known->node;
  REALIZE_ASSIGN(const std::string parent, materialize(above));
  const std::string path = joinPath(parent, name);
  const NodeId parentNode = core.store.nodeOf(above).value_or(0);
  const auto* there = core.store.disk().peek(node);
  if (there && there->parentNode == parentNode && there->name == name) return path;
  const auto record = core.tree.get(id);
  if (!record || !record->shown || record->shownParent != above || record->shownName != name)
    return Error{Code::Busy, path + ": was moved meanwhile"};
  core.store.settle();
  if (auto row = core.store.disk().get(record->node)) {
    if (!s.applyMove(*record, *row, 0)) return Error{Code::Busy, path + ": cannot be moved there yet"};
    return path;
  }
  const auto heads = core.tree.shownHeads(id);
  const uint32_t mode = heads.empty() ? 0755 : (heads.front().version.mode & 0777) | 0700;
  auto made = s.root->makeDirectory(path, mode);
  if (!made.ok() && made.code() == Code::Exists && core.store.disk().getAt(parentNode, record->shownName)) {
    if (!s.outOfTheWay(parentNode, record->shownName)) return Error{Code::Busy, path + ": another folder has the name yet"};
    if (core.store.disk().get(record->node)) return materialize(id);  // Moving others made it.
    made = s.root->makeDirectory(path, mode);
  }
  if (!made.ok() && made.code() != Code::Exists) return made.error();
  auto stat = s.root->stat(path);
  if (!stat.ok()) return stat.error();
  if (stat->type != FileStat::Type::Directory) {
    s.inTheWay(parent, name);
    return Error{Code::Busy, path + ": something else is in the way"};
  }
  core.transact([&] {
    s.putRow(record->node, parentNode, record->shownName, EntryKind::Directory, *stat, BlobId(),
             Core::baseOf(record->entry, nullptr));
    s.noteUnsynced(record->node);
  });
  s.watch->add(path);
  s.putInto(parentNode);
  s.changedByUs(parent);
  // It was there, with contents nobody has read; or somebody put something into it before it was watched.
  if (auto in = made.ok() ? s.root->list(path) : Result<std::vector<DirectoryItem>>(made.error()); !in.ok() || !in->empty()) s.hint(path);
  return path;
}

}  // namespace realize::peer
