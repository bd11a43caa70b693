// Contents of files that are new or may have changed: read and hashed on the pool, then taken into the tree.

#include <algorithm>

#include "librealize/base/fault.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/sync_names.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr uint32_t kMaxHashing = 8;           // batches on the pool
constexpr uint64_t kHashBatchBytes = 8 << 20;
constexpr size_t kHashBatchFiles = 256;
constexpr size_t kSyncedSingly = 8;

/// What is told to others is on the disk first: else a power cut leaves something torn or older here, which would look
/// like a newer version than the whole one that they have.
void syncWritten(Directory& root, SyncAll& syncAll, std::vector<HashJob>& jobs, int64_t nowNs) {
  std::vector<HashJob*> written;
  for (auto& job : jobs) {
    const bool lately = nowNs - std::max(job.stat.mtimeNs, job.stat.ctimeNs) < kWrittenBackNs;
    if (job.content.ok() && (lately || job.unwritten)) written.push_back(&job);
  }
  if (written.empty() || faulty(Fault::TellUnwritten)) return;
  // Whose bytes they are that did not get there, each file tells by itself.
  const bool all = written.size() > kSyncedSingly && syncAll.syncsAnything(root);
  std::set<std::string> folders;
  for (auto* job : written) {
    if (all && !job->unwritten) continue;
    Result<void> synced;
    if (job->unwritten) {
      synced = copyUnwritten(root, *job);
    } else {
      auto file = root.open(job->path, OpenMode::Read);
      synced = file.ok() ? syncWithNames(root, **file, job->path, folders) : Result<void>(file.error());
      job->unwritten = !synced.ok() && file.ok() && !faulty(Fault::BelieveSync);
    }
    if (synced.ok()) continue;
    if (synced.code() == Code::NotFound || synced.code() == Code::Busy) job->content = synced.error();  // It is read again.
    else job->content = Error{Code::Io, "it could not be written to its disk: " + synced.error().message};
  }
}


/// With another mode or time it is another version.
bool holds(const store::DiskRow& row, const Version& version) {
  return version.blob == row.blob && (version.mode & 0777) == (row.mode & 0777) && version.mtimeNs == row.mtimeNs;
}

/// Who edits these very bytes has seen them, also under a mode or a time that a peer gave them meanwhile. Returns that mode: it goes
/// over to what was edited; else that version stays beside, and nobody has its bytes, which were replaced here.
std::optional<uint32_t> addSameBytes(const Entry& entry, store::DiskRow& row) {
  if (row.base.empty() || row.blob.isZero()) return std::nullopt;
  std::optional<uint32_t> mode;
  std::vector<Dot> same;
  for (const auto& [dot, version] : entry.heads) {
    if (version.blob != row.blob || std::binary_search(row.base.begin(), row.base.end(), dot)) continue;
    same.push_back(dot);
    if ((version.mode & 0777) != (row.mode & 0777)) mode = version.mode & 0777;
  }
  row.addSeen(same);
  return mode;
}
}  // namespace

/// Who edits or removes a version has seen it under each dot: also where it was issued again, or chosen elsewhere, since.
void Folder::State::addSameVersion(const Entry& entry, store::DiskRow& row) {
  if (row.kind != EntryKind::File || row.base.empty()) return;  // Nobody knows what was seen.
  std::vector<Dot> same;
  for (const auto& [dot, version] : entry.heads)
    if (holds(row, version)) same.push_back(dot);
  row.addSeen(same);
}

/// What is to be read, or is held back, has the version that it had, as it is claimed now: it stands where it stood, so that
/// nobody has renamed it.
void Folder::State::followUnread(const logic::Record& record, const store::DiskRow& row) {
  if (row.base.empty()) return;
  store::DiskRow seen = row;
  for (const auto& head : core.tree.shownHeads(record.entry.id))
    if (holds(row, head.version)) seen.addSeen(Core::baseOf(record.entry, &head));
  if (seen.base != row.base) core.store.disk().put(seen);
}

logic::Base Folder::State::seenByRemoval(const EntryId& id, const store::DiskRow& row) {
  store::DiskRow seen = row;
  if (const auto* record = core.tree.peek(id)) addSameVersion(record->entry, seen);
  if (seen.base == row.base) return logic::Base::only(std::move(seen.base));
  // Of several names of a file each has its bytes, and a peer may have left them this one alone: as another version, which is the same.
  const auto names = core.store.disk().getByInode(row.device, row.inode);
  const bool linked = std::any_of(names.begin(), names.end(), [&](const auto& other) { return other.node != row.node && other.birthNs == row.birthNs; });
  return logic::Base::only(linked ? row.base : std::move(seen.base));
}

/// Where it lies now: a folder above may have been renamed meanwhile. And where it was read: its entry may have come back
/// under another name, with another file.
void Folder::State::lookAgain(const HashJob& job) {
  hint(core.folder->diskPath(job.parent).value_or(parentPath(job.path)));
  if (auto row = job.node ? core.store.disk().get(job.node) : std::nullopt; row && row->parentNode != job.parent)
    if (auto path = core.folder->diskPath(row->parentNode)) hint(*path);
}

void Folder::State::addHash(HashJob job) {
  job.joining = joining;
  job.broughtBack = broughtBackAt(job.path);
  job.unwritten = core.unwritten->has(job.stat);
  job.number = ++lastHash;
  if (job.node && !hashingNodes.insert(job.node).second) return hint(parentPath(job.path));  // Again when it is through.
  const bool full = toHash.empty() || toHash.back()->size() >= kHashBatchFiles ||
                    (toHash.back()->size() && toHash.back()->back().stat.sizeBytes > kHashBatchBytes);
  if (full) toHash.push_back(std::make_shared<std::vector<HashJob>>());
  toHash.back()->push_back(std::move(job));
}

void Folder::State::pumpHashes() {
  while (hashing < kMaxHashing && !toHash.empty() && root) {
    auto jobs = toHash.front();
    toHash.pop_front();
    ++hashing;
    const int64_t nowNs = core.env.clock.nowNs();
    core.env.scheduler.onPool(false, [this, alive = alive, jobs, root = root, all = core.syncAll, nowNs, &scheduler = core.env.scheduler] {
      for (auto& job : *jobs) job.content = hashFile(*root, job.path, job.stat);
      syncWritten(*root, *all, *jobs, nowNs);
      scheduler.onCore([this, alive, jobs] {
        if (!*alive) return;
        core.unwritten->noteFailures();
        --hashing;
        finishHashes(*jobs);
        pumpHashes();
        settled();
      });
    });
  }
}

/// What could not be written stays where it can be seen until all of it is in the copy, on the disk, and nobody is writing.
bool Folder::State::putCopy(HashJob& job) {
  const std::string copy = copyPathOf(job);
  store::DiskRow read;
  read.node = job.node;
  read.kind = EntryKind::File;
  read.setStat(job.stat);
  auto aside = !root               ? Result<std::string>(Error{Code::Suspended, core.suspendedWhy})
               : nobodyWrites(job.path) ? swapIn(copy, job.copy, job.content.ok() ? job.content->blob : BlobId(), read, job.path)
                                        : Result<std::string>(Error{Code::Busy, job.path + ": is open for writing"});
  std::set<std::string> folders;
  const bool named = aside.ok() && syncNamesAbove(*root, job.path, folders).ok();
  const auto there = named ? root->stat(job.path) : Result<FileStat>(Error{});
  const auto old = aside.ok() ? root->stat(*aside) : Result<FileStat>(Error{});
  if (root) (void)root->unlink(aside.ok() ? *aside : copy).ok();
  if (!aside.ok()) return false;
  changedByUs(parentPath(job.path));
  if (old.ok() && old->links <= 1) core.unwritten->forget(job.stat);
  core.folder->lookAtOtherNames(job.stat);  // They keep the file that was replaced here, and get copies of their own.
  if (!there.ok() || !there->sameObject(job.copy) || there->mtimeNs != job.copy.mtimeNs) return false;
  job.stat = *there;
  return true;
}

void Folder::State::finishHashes(std::vector<HashJob>& jobs) {
  std::vector<HashJob> replaced;
  bool wanted = false;
  core.transact([&] {
    for (auto& job : jobs) {
      if (job.node) hashingNodes.erase(job.node);
      if (!job.unwritten && job.content.ok() && core.unwritten->has(job.stat)) {
        addHash(job);  // Somebody was told meanwhile that it could not be written.
        continue;
      }
      if (job.unwritten && job.content.ok() && !putCopy(job))
        job.content = Error{Code::Io, "it could not be written to its disk, and a copy found no place"};
      if (!job.content.ok() && job.unwritten && !core.unwritten->has(job.stat)) {
        core.unwritten->note(job.stat);
        addHash(job);
        continue;
      }
      if (!job.content.ok()) {
        suspects.erase(job.node);
        releaseOrigin(job.node);
        const auto there = root ? root->stat(job.path) : Result<FileStat>(Error{});
        if ((job.content.code() == Code::PermissionDenied || job.content.code() == Code::Io) && there.ok() &&
            there->unchanged(job.stat)) {
          problem(job.path, "unreadable", joinPath(core.options.folder, job.path) + kUnreadable + whyUnreadable(job.content.error()));
          if (job.content.code() == Code::Io) readAgainLater(job.path);
        } else {
          lookAgain(job);  // It changed or went while it was read: look again after the rest.
        }
        continue;
      }
      if (core.store.problems().count()) core.store.problems().erase(job.path, "unreadable");
      core.transfers->noteChunkList(job.content->blob, job.content->list);
      const auto takesAway = job.node ? replaces(job) : Replaces::Nothing;
      const bool suspect = suspects.contains(job.node);
      if (!job.node) {
        newFile(job);
      } else if (takesAway == Replaces::Nothing || (takesAway == Replaces::Young && !suspect && !overwrites.holding())) {
        suspects.erase(job.node);
        contentReturned(job.node);
        changedFile(job);
      } else {
        auto& later = suspect ? suspectJobs : replaced;
        later.push_back(job);
        later.back().content->list = {};  // Noted above.
        later.back().replacesOld = takesAway == Replaces::Old;
        hashingNodes.insert(job.node);
      }
      core.folder->lookAtOtherNames(job.stat);
      wanted = wanted || core.store.wanted().hasBlob(job.content->blob);
    }
    if (!replaced.empty()) judge(std::move(replaced));
    judgeSuspects();
  });
  if (wanted) core.transfers->wakeWanted();  // It may be copied, and its user may change it soon.
}

void Folder::State::newFile(const HashJob& job) {
  if (core.store.disk().getAt(job.parent, job.name)) return lookAgain(job);  // Known meanwhile.
  auto parentId = directoryEntry(job.parent);
  if (!parentId) return lookAgain(job);
  const Content& content = *job.content;
  const Version version = versionOf(job.stat, &content);
  auto there = core.tree.lookup(*parentId, job.name);
  const bool matching = job.joining || job.broughtBack != BroughtBack::Nothing;
  if (!there && matching) {
    // The same file by birth, renamed since the folder was copied, with the same bytes.
    const EntryId born = entryIdFor(*parentId, job.name, EntryKind::File, 0);
    auto record = core.tree.get(born);
    if (record && record->shown && !core.store.disk().get(record->node)) {
      const auto heads = core.tree.shownHeads(born);
      if (std::any_of(heads.begin(), heads.end(), [&](const auto& h) { return h.version.blob == content.blob; })) there = record;
    }
  }
  const bool unseen = there && there->entry.kind == EntryKind::File && !core.store.disk().get(there->node);
  if (!there && job.broughtBack != BroughtBack::Nothing && removedMeanwhile(job, *parentId)) return;
  EntryId id;
  std::vector<Dot> base;
  if (there && unseen) {
    id = there->entry.id;
    const auto heads = core.tree.shownHeads(id);
    auto same = std::find_if(heads.begin(), heads.end(), [&](const auto& h) { return h.version.blob == content.blob; });
    const auto& replaced = there->entry.replaced;
    const bool leftover = (matching || takenBack.contains(there->node)) && std::find(replaced.begin(), replaced.end(), content.blob) != replaced.end();
    if (same != heads.end()) {
      base = Core::baseOf(there->entry, &*same);
    } else if (!leftover) {
      const auto before = there;
      // What its user had made of it here, and replaced by this before the power went.
      const auto mine = std::find_if(heads.begin(), heads.end(), [&](const auto& h) { return core.lostHere(h.version); });
      const bool seen = mine != heads.end() && replacedUnsynced.contains(there->node) && !matching;
      if (auto written = core.tree.write(id, version, logic::Base::only(seen ? Core::baseOf(there->entry, &*mine) : std::vector<Dot>())); !written.ok())
        return problem(job.path, "not-taken", written.error().message);
      base = core.rebased({}, before, id);
    }  // Else it is an older version of the same file that came with the folder, or came back: not an edit, and replaced by the newest.
  } else {
    auto made = core.tree.create(*parentId, job.name, EntryKind::File, version, true);
    if (!made.ok()) return problem(job.path, "not-taken", made.error().message);
    id = *made;
    core.tree.flush();
    core.tree.beginBatch();
    if (auto record = core.tree.get(id)) base = Core::baseOf(record->entry, nullptr);
  }
  const NodeId node = core.store.nodeOf(id).value_or(0);
  if (node == 0) return;
  putRow(node, core.store.nodeOf(*parentId).value_or(job.parent), job.name, EntryKind::File, job.stat, content.blob, std::move(base));
  core.folder->noteOnDisk(node);
  core.marks->entryChanged(id);
  core.folder->entryChanged(id);
}

void Folder::State::changedFile(const HashJob& job) {
  releaseOrigin(job.node);
  auto row = core.store.disk().get(job.node);
  auto id = core.store.idOf(job.node);
  if (!row || !id || row->parentNode != job.parent || row->name != job.name) return lookAgain(job);
  const Content& content = *job.content;
  Version version = versionOf(job.stat, &content);
  const auto before = core.tree.get(*id);
  const bool matching = job.broughtBack != BroughtBack::Nothing;
  const auto takeAsNew = [&] {
    core.store.disk().erase(job.node);
    HashJob again = job;
    again.node = 0;
    newFile(again);
  };
  if (row->blob != content.blob && isOfAnother(job, *id)) {
    takeAsNew();
    core.marks->entryChanged(*id);
    core.folder->entryChanged(*id);
    return;
  }
  if (before && before->shown) {
    // What was moved over it is nowhere else by now: it is an edit, also of the same bytes.
    const bool edit = job.movedHere && job.broughtBack == BroughtBack::Nothing;
    if (!edit && row->blob == content.blob && row->sizeBytes == content.sizeBytes) {
      const bool mode = (row->mode & 0777) != (job.stat.mode & 0777), times = row->mtimeNs != job.stat.mtimeNs;
      auto shown = core.shownVersion(*before);
      // Else they may be those of the backup.
      const bool mine = job.broughtBack == BroughtBack::Nothing || core.store.witnessed().hasNode(job.node);
      if (mine && (mode || times) && shown && shown->second.blob == content.blob) {
        auto set = core.tree.setAttributes(*id, job.stat.mode & 0777, job.stat.mtimeNs, shown->first);
        (void)set;  // Shown a moment ago.
      }
    } else if (!takeOldContent(job, *before, *row)) {
      addSameVersion(before->entry, *row);
      if (const auto mode = addSameBytes(before->entry, *row); mode && (row->mode & 0777) == version.mode) version.mode = *mode;
      if (auto written = core.tree.write(*id, version, logic::Base::only(row->base)); !written.ok())
        return problem(job.path, "not-taken", written.error().message);
    }
    row->base = core.rebased(row->base, before, *id);
  } else if ((row->blob == content.blob && row->sizeBytes == content.sizeBytes && (row->isObject(job.stat) || matching)) ||
             (matching && before && isOld(before->entry, content.blob))) {
    // Removed by a peer, and not edited here, nor put there: the removal goes on.
  } else {
    // A peer removed it while it was edited here: the edit lives.
    return takeAsNew();
  }
  noteWitnessed(job.node);
  row->setStat(job.stat);
  row->blob = content.blob;
  row->dirty = false;
  core.store.disk().put(*row);
  core.folder->noteOnDisk(job.node);
  core.marks->entryChanged(*id);
  core.folder->entryChanged(*id);
}

}  // namespace realize::peer
