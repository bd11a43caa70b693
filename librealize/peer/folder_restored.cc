// What a backup brought back: an old database beside the folder of today, an old folder, or both; or a database that was
// lost. Then the folder is no witness of what its user removed or wrote since: what is missing is not removed, and what is
// known to be old is no edit. The newest is with the others, whose tree is waited for.

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "librealize/peer/exchange.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr char kMarkerKey[] = "folder: marker";
constexpr char kBroughtBackKey[] = "folder: brought back";
constexpr char kCacheUnreadKey[] = "folder: cache unread";
constexpr char kTornKey[] = "folder: may be torn";
constexpr int64_t kNobodyTellsMoreMs = 30'000;
constexpr size_t kMostUnread = 64;  ///< as many pin a content

/// Inodes alone are not the same with every mount of some file systems.
bool sameMarker(const std::string& then, const FileStat& now) {
  uint64_t inode = 0;
  int64_t birthNs = 0;
  if (sscanf(then.c_str(), "%" SCNu64 " %" SCNd64, &inode, &birthNs) != 2) return true;
  return birthNs && now.birthNs ? birthNs == now.birthNs : inode == now.inode;
}
}  // namespace

void Folder::noteBroughtBack(const Beginning& how) {
  if (how.oldDatabase || how.newDatabase) s_->bringBack(BroughtBack::Database);
}

void Folder::State::bringBack(BroughtBack what) {
  const std::string before = core.store.getValue(kBroughtBackKey).value_or("");
  const std::string now = what == BroughtBack::Folder || before == "folder" ? "folder" : "database";
  if (now != before) core.store.setValue(kBroughtBackKey, now);
  core.store.witnessed().clear();  // Of what is gone.
}

namespace {
Result<void> syncInCache(Directory& root, const std::string& path) {
  REALIZE_ASSIGN(auto file, root.open(path, OpenMode::Read));
  REALIZE_TRY(file->sync(true));
  return root.syncDirectory(kCacheFolder);
}
}  // namespace

/// The marker goes with the folder, and is never written again: another one is a copy.
Result<void> Folder::State::lookWhatWasBroughtBack() {
  REALIZE_ASSIGN(const auto marker, root->stat(kMarkerPath));
  const auto then = core.store.getValue(kMarkerKey);
  if (then && !sameMarker(*then, marker)) bringBack(BroughtBack::Folder);
  const std::string now = std::to_string(marker.inode) + " " + std::to_string(marker.birthNs);
  if (then != now) core.store.setValue(kMarkerKey, now);
  if (allUnsynced && !sameBootAsBefore()) core.store.setValue(kTornKey, "1");
  const std::string what = core.store.getValue(kBroughtBackKey).value_or("");
  if (what.empty()) {
    // Who joins with a folder that another database had may have the only copies in its cache.
    if (!then && core.store.cache().totals().count == 0) forgetCache();
    return {};
  }
  broughtBack = what == "folder" ? BroughtBack::Folder : BroughtBack::Database;
  broughtBackBelow.reset();
  forgetCache();
  if (core.options.shared && core.options.userFolder) waitingForTree = true;
  return {};
}

/// Which chunks are in the files of the cache is of another time than they are. What is whole, its name proves.
void Folder::State::forgetCache() {
  for (const auto& blob : core.store.cache().all()) {
    auto row = core.store.cache().get(blob);
    if (!row) continue;
    row->complete = false;
    row->present.clear();
    core.store.cache().put(*row);
  }
  core.store.setValue(kCacheUnreadKey, "1");
}

/// The database does not say of this one that it is whole: a process that was killed had not come to note it, or a database came
/// back that does not know.
bool Folder::State::mayBeWhole(const store::CacheRow& row, const FileStat& stat, bool unread) {
  return !row.complete && (unread || !row.knowsAny() || stat.allocatedBytes >= stat.sizeBytes);
}

/// A database came back, or went, since all of the cache was read.
bool Folder::State::cacheUnread() { return !core.store.getValue(kCacheUnreadKey).value_or("").empty(); }

/// Their bytes tell what they are, one after the other. Until then nobody takes them for what may go.
void Folder::State::recogniseNext(const BlobId& after) {
  recognising = !core.stopping && root;
  if (!recognising) return;
  const auto next = unrecognised.upper_bound(after);
  if (unrecognised.empty()) {
    recognising = false;
    if (cacheUnread()) core.store.setValue(kCacheUnreadKey, "");
    return;
  }
  if (next == unrecognised.end() && std::exchange(moreToRecognise, false)) return recogniseNext({});
  if (next == unrecognised.end())  // The disk did not show these.
    return core.env.scheduler.onCoreAfter(kReadAgainMs, [this, alive = alive] {
      if (*alive) recogniseNext({});
    });
  core.env.scheduler.onPool(false, [this, alive = alive, blob = *next, root = root, &scheduler = core.env.scheduler] {
    const std::string path = Transfers::cachePath(blob);
    const auto stat = root->stat(path);
    auto content = stat.ok() ? hashFile(*root, path, *stat) : Result<Content>(stat.error());
    // It may be there for this kernel only.
    if (content.ok() && content->blob == blob)
      if (auto synced = syncInCache(*root, path); !synced.ok()) content = synced.error();
    scheduler.onCore([this, alive, blob, root, path, stat, content] {
      if (!*alive) return;
      const auto now = root->stat(path);
      const bool same = now.ok() && stat.ok() && now->sameObject(*stat) && now->sizeBytes == stat->sizeBytes;
      if (root == this->root) recognised(blob, same || !content.ok() ? content : Result<Content>(Error{Code::Busy, "another by now"}));
      recogniseNext(blob);
    });
  });
}

void Folder::State::recognised(const BlobId& blob, const Result<Content>& content) {
  if (!content.ok() && content.code() == Code::Io) return;
  bool wanted = false;
  const bool noted = !content.ok() || content->blob != blob || core.transact([&] {
    wanted = core.store.wanted().hasBlob(blob);
    const auto row = core.store.cache().get(blob);
    core.transfers->noteChunkList(blob, content->list);
    core.transfers->adoptUnlinked(blob, content->sizeBytes);
    if (!row) return;
    if (!row->unlinked) core.store.cache().setUnlinked(blob, false, row->lastReadNs);  // Shown, as the database or others told.
    if (row->keptHours) core.store.cache().setKeptHours(blob, row->keptHours);
  });
  if (noted) unrecognised.erase(blob);
  if (noted && wanted) core.transfers->wakeWanted();  // Nobody need be connected for it.
}

void Folder::recognise(const BlobId& blob) {
  s_->unrecognised.insert(blob);
  if (s_->recognising) s_->moreToRecognise = true;
  else s_->recogniseNext({});
}

bool Folder::mayBeTorn() const { return !s_->core.store.getValue(kTornKey).value_or("").empty(); }

void Folder::allRead() {
  if (mayBeTorn()) s_->core.transact([this] { s_->core.store.setValue(kTornKey, ""); });
}

bool Folder::isUnrecognised(const BlobId& blob) const { return s_->unrecognised.contains(blob); }

void Folder::treeReceived() {
  if (!s_->waitingForTree) return;
  s_->waitingForTree = false;
  s_->schedulePass();
}

/// Two that both came back from a backup would wait for each other for ever.
void Folder::nobodyTellsMore() {
  auto& s = *s_;
  if (!s.waitingForTree || s.broughtBack == BroughtBack::Nothing || std::exchange(s.nobodyTellsMore, true)) return;
  s.core.env.scheduler.onCoreAfter(kNobodyTellsMoreMs, [state = s_.get(), alive = s.alive] {
    if (*alive && !state->core.stopping) state->core.folder->treeReceived();
  });
}

/// Durable with the row: a process that ends before all was read knows it again.
void Folder::State::noteWitnessed(NodeId node) {
  if (broughtBack != BroughtBack::Nothing) core.store.witnessed().put({node, {}, 0});
}

bool Folder::isAsKnown(const store::DiskRow& row) {
  if (row.dirty || s_->broughtBack == BroughtBack::Nothing || s_->core.store.witnessed().hasNode(row.node)) return !row.dirty;
  const auto path = diskPath(row.node);
  return path && s_->broughtBackAt(*path) == BroughtBack::Nothing;
}

std::vector<EntryId> Folder::unreadWith(const BlobId& blob) {
  std::vector<EntryId> out;
  for (const auto& row : s_->core.store.disk().withBlob(blob, kMostUnread))
    if (auto id = s_->core.store.idOf(row.node); id && !isAsKnown(row)) out.push_back(*id);
  return out;
}

void Folder::State::leaveOutAbsent(logic::Plan& plan) {
  auto absent = plan.removed();
  auto removedSince = [this](NodeId node) {
    const auto path = core.folder->diskPath(node);
    return core.store.witnessed().hasNode(node) || (path && broughtBackAt(*path) == BroughtBack::Nothing);
  };
  std::erase_if(absent, removedSince);
  if (absent.empty()) return;
  logic::dropRemovals(plan, removedSince);
  core.transact([&] {
    for (NodeId node : absent) {
      core.store.disk().erase(node);
      auto id = core.store.idOf(node);
      if (!id) continue;
      core.marks->entryChanged(*id);
      core.folder->entryChanged(*id);
    }
  });
  scanWanted = true;  // What depended on those.
}

bool Folder::State::isOld(const Entry& entry, const BlobId& blob) {
  return std::find(entry.replaced.begin(), entry.replaced.end(), blob) != entry.replaced.end() ||
         std::any_of(entry.heads.begin(), entry.heads.end(), [&](const auto& head) { return head.second.blob == blob; });
}

/// A content that is back with a backup, of a file that was removed: it goes again.
bool Folder::State::removedMeanwhile(const HashJob& job, const EntryId& parent) {
  const EntryId born = entryIdFor(parent, job.name, EntryKind::File, 0);
  const auto record = core.tree.get(born);
  if (!record || record->shown || core.store.disk().get(record->node) || !isOld(record->entry, job.content->blob)) return false;
  putRow(record->node, core.store.nodeOf(parent).value_or(job.parent), job.name, EntryKind::File, job.stat, job.content->blob,
         Core::baseOf(record->entry, nullptr));
  core.folder->entryChanged(born);
  return true;
}

/// A database of before knows another at this path than the tree shows there, whose content it is.
bool Folder::State::isOfAnother(const HashJob& job, const EntryId& id) {
  if (job.broughtBack == BroughtBack::Nothing || core.store.witnessed().hasNode(job.node)) return false;
  const auto parent = directoryEntry(job.parent);
  const auto there = parent ? bindable(*parent, job.name, EntryKind::File) : std::nullopt;
  return there && there->entry.id != id && isOld(there->entry, job.content->blob);
}

/// True: it is one of the versions that are known, and no edit. Else `row.base` is what an edit may count as seen.
bool Folder::State::takeOldContent(const HashJob& job, const logic::Record& before, store::DiskRow& row) {
  // What was read since has been written into after that.
  if (job.broughtBack == BroughtBack::Nothing || core.store.witnessed().hasNode(row.node)) return false;
  const auto heads = core.tree.shownHeads(before.entry.id);
  auto same = std::find_if(heads.begin(), heads.end(), [&](const auto& head) { return head.version.blob == job.content->blob; });
  if (same != heads.end()) {
    row.base = Core::baseOf(before.entry, &*same);
    return true;
  }
  const bool old = isOld(before.entry, job.content->blob);
  // Where others have moved it from there, it may be the file of whoever came after it.
  const bool moved = core.store.nodeOf(before.shownParent) != row.parentNode || before.shownName != row.name;
  // And one that an old database does not know may be new: what that knew there had left, or was let go.
  const bool another = job.stat.inode != row.inode || job.stat.birthNs != row.birthNs;
  const bool doubtful = job.broughtBack == BroughtBack::Folder || moved || another;
  if (old || doubtful) row.base.clear();
  return old;
}

BroughtBack Folder::State::broughtBackAt(const std::string& path) const {
  const auto holds = [&](const std::string& above) { return above.empty() || path == above || path.starts_with(above + "/"); };
  const bool read = broughtBackBelow && std::none_of(broughtBackBelow->begin(), broughtBackBelow->end(), holds);
  return read ? BroughtBack::Nothing : broughtBack;
}

/// All that the folder had was read, but for what the disk, or a mode, keeps from us: that is what it was until it is.
void Folder::State::endBroughtBack() {
  if (broughtBack == BroughtBack::Nothing || waitingForTree || core.suspended) return;
  std::set<std::string> left;
  for (const auto& path : unreadable)
    if (broughtBackAt(path) != BroughtBack::Nothing) left.insert(path);
  broughtBackBelow = std::move(left);
  if (!broughtBackBelow->empty()) return;
  broughtBackBelow.reset();
  broughtBack = BroughtBack::Nothing;
  core.transact([&] {
    core.store.witnessed().clear();
    core.store.setValue(kBroughtBackKey, "");
  });
}

}  // namespace realize::peer
