// One file becomes Real because somebody opened it for writing; bytes that are about to go with a name.

#include <algorithm>

#include "librealize/model/blob.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {

constexpr int kSpaceTries = 20;
constexpr int64_t kSpaceTryMs = 250;

/// A verified, synced copy at `temp`. Thread: pool.
Result<void> copyTo(Directory& root, const std::string& temp, DiskFile* from, const BlobId& blob, uint64_t sizeBytes) {
  REALIZE_ASSIGN(auto file, root.open(temp, OpenMode::CreateNew, 0600));
  if (sizeBytes > 0) {
    REALIZE_TRY(file->cloneRange(*from, 0, sizeBytes, 0));
    REALIZE_ASSIGN(const auto content, hashOpenFile(*file, sizeBytes));
    if (content.blob != blob) return Error{Code::Corrupt, "the bytes kept here are not what they were hashed as"};
  }
  return file->sync(true);
}

}  // namespace

void Transfers::makeReal(const EntryId& id, Dot dot, const BlobId& blob, uint64_t sizeBytes,
                         std::function<void(Result<void>)> done) {
  if (sizeBytes == 0) return s_->placeCopy(id, dot, blob, sizeBytes, std::move(done));
  auto held = std::make_shared<OpenBlob>(complete(blob) ? OpenBlob() : OpenBlob{s_->stateOf(blob, sizeBytes), {}});
  auto made = [s = s_.get(), alive = s_->alive, held, blob, done](Result<void> placed) {
    *held = {};
    if (!placed.ok() && placed.code() == Code::NoSpace && *alive) s->giveSpaceBack(blob, kSpaceTries);
    done(placed);
  };
  fetchWhole(blob, sizeBytes, nullptr, [s = s_.get(), alive = s_->alive, id, dot, blob, sizeBytes, made](Result<void> fetched) {
    if (!*alive) return made(Error{Code::Suspended, "the arena is being closed"});
    if (!fetched.ok()) return made(fetched);
    s->placeCopy(id, dot, blob, sizeBytes, made);
  }, FetchFor::Real);
}

/// What came of a file that found no place would keep others from theirs. Again while requests for it are still under way.
void Transfers::State::giveSpaceBack(const BlobId& blob, int tries) {
  if (tries == 0) return;
  core.env.scheduler.onCoreAfter(kSpaceTryMs, [this, alive = alive, blob, tries] {
    if (!*alive || core.stopping || core.suspended) return;
    if (auto known = blobs.find(blob); known != blobs.end() && !idle(known->second)) return giveSpaceBack(blob, tries - 1);
    if (!evictable(blob)) return;
    core.transact([&] { drop(blob, core.store.cache().get(blob).has_value()); });
    unlinkedLookedNs = INT64_MIN;
  });
}

void Transfers::State::placeCopy(const EntryId& id, Dot dot, const BlobId& blob, uint64_t sizeBytes,
                                 std::function<void(Result<void>)> done) {
  auto root = core.folder->root();
  if (!root) return done(Error{Code::Suspended, core.suspendedWhy});
  std::optional<Source> source;
  if (sizeBytes > 0) {
    source = sourceOf(blob, {});
    if (!source) return done(Error{Code::Unreachable, "the bytes went away again"});
  }
  const std::string temp = std::string(kTempFolder) + "/r" + std::to_string(++batchCounter);
  core.env.scheduler.onPool(true, [this, alive = alive, root, source, id, dot, blob, sizeBytes, temp, done,
                                   &scheduler = core.env.scheduler] {
    auto copied = std::make_shared<Result<void>>([&]() -> Result<void> {
      if (!source) return copyTo(*root, temp, nullptr, blob, sizeBytes);
      if (source->cached) return copyTo(*root, temp, source->file.get(), blob, sizeBytes);
      REALIZE_ASSIGN(auto file, openUnchanged(*root, source->path, *source->row));
      return copyTo(*root, temp, file.get(), blob, sizeBytes);
    }());
    scheduler.onCore([this, alive, root, id, dot, temp, copied, done] {
      Result<void> placed = *copied;
      if (!*alive) placed = Error{Code::Suspended, "the arena is being closed"};
      else if (placed.ok()) placed = noteAndPlace(id, dot, temp);
      // In place already, or never made; or it tells the next start that it was not placed.
      if (placed.ok() || placed.code() != Code::Suspended) (void)root->unlink(temp).ok();
      if (placed.ok()) core.exchange->changed(true);
      done(placed);
    });
  });
}

/// Who chooses a version answers for its bytes: a power cut does not take their name. What came in one turn, together.
void Transfers::State::keepSoon(const EntryId& entry, const BlobId& blob, std::function<void(Result<void>)> done) {
  keeping.push_back({entry, blob, std::move(done)});
  if (keeping.size() > 1) return;
  post([this] {
    const auto group = std::exchange(keeping, {});
    auto root = core.folder->root();
    const bool noted = root && root->syncDirectory(kCacheFolder).ok() && core.transact([&] {
      for (const auto& one : group) core.transfers->pin(one.blob, {one.entry});
    });
    for (const auto& one : group) {
      if (!noted) one.done(Error{Code::Io, "it could not be noted"});
      else if (!core.transfers->complete(one.blob)) one.done(Error{Code::Busy, "the bytes went away again"});
      else one.done({});
    }
  });
}

void Transfers::keep(const EntryId& id, const BlobId& blob, uint64_t sizeBytes, std::function<void(Result<void>)> done) {
  auto& core = s_->core;
  auto keepThen = [s = s_.get(), alive = s_->alive, id, blob, done](Result<void> here) {
    if (*alive && here.ok()) s->keepSoon(id, blob, done);
    else done(here);
  };
  const auto cached = core.store.cache().get(blob);
  if (!complete(blob) || (cached && cached->complete))
    return (void)fetchWhole(blob, sizeBytes, nullptr, keepThen, FetchFor::Real);
  auto root = core.folder->root();
  auto source = root ? s_->sourceOf(blob, {}) : std::nullopt;
  if (!source) return done(Error{Code::Busy, "the bytes are being changed at this moment"});
  if (source->cached) return s_->save(source->cached, keepThen);  // All there, and not noted yet.
  const std::string temp = std::string(kTempFolder) + "/k" + std::to_string(++s_->batchCounter);
  core.env.scheduler.onPool(true, [this, alive = s_->alive, root, source, blob, sizeBytes, temp, keepThen, done,
                                   &scheduler = core.env.scheduler] {
    auto copied = std::make_shared<Result<void>>([&]() -> Result<void> {
      REALIZE_ASSIGN(auto file, openUnchanged(*root, source->path, *source->row));
      return copyTo(*root, temp, file.get(), blob, sizeBytes);
    }());
    scheduler.onCore([this, alive, root, blob, sizeBytes, temp, copied, keepThen, done] {
      if (!*alive) return done(Error{Code::Suspended, "the arena is being closed"});
      Result<void> kept = *copied;
      if (kept.ok()) kept = root->rename(temp, cachePath(blob), RenameKind::Replace);
      if (!kept.ok()) {
        (void)root->unlink(temp).ok();
        return done(kept);
      }
      adopt({{blob, sizeBytes}});
      keepThen({});
    });
  });
}

Result<void> Transfers::State::noteAndPlace(const EntryId& id, Dot dot, const std::string& temp) {
  auto root = core.folder->root();
  if (!root) return Error{Code::Suspended, core.suspendedWhy};
  REALIZE_ASSIGN(const auto file, root->stat(temp));
  if (!core.folder->notePlacing({{id, dot, file}})) return Error{Code::Suspended, core.suspendedWhy};
  Result<void> placed;
  const bool done = core.transact([&] {
    placed = core.folder->place(id, dot, temp);
    core.folder->placingDone();
  });
  if (!done) return Error{Code::Suspended, core.suspendedWhy};
  // Before the file goes that tells that it was not placed.
  if (!placed.ok() && !core.makeDurable()) return Error{Code::Suspended, core.suspendedWhy};
  return placed;
}

void Transfers::noteNamed(const BlobId& blob, const EntryId& id) {
  // Where another entry has these bytes on this disk, and may give them up: that is not forgotten by a restart.
  if (blob.isZero() || blob == emptyBlobId()) return;
  auto& store = s_->core.store;
  if (store.cache().totals().count) store.cache().setUnlinked(blob, false, 0);
  if (store.disk().anyWithBlob(blob)) {
    const auto node = store.nodeOf(id);
    const auto row = node ? store.disk().get(*node) : std::nullopt;
    if (node && (!row || row->blob != blob)) store.named().put({*node, blob, 0});
  }
  s_->named.put(blob, id);
}

std::vector<EntryId> Transfers::neededElsewhere(const BlobId& blob, const EntryId& id) {
  auto& core = s_->core;
  std::vector<EntryId> out;
  if (blob.isZero() || blob == emptyBlobId()) return out;
  auto has = [&](const EntryId& other) {
    if (other == id) return false;
    auto record = core.tree.get(other);
    if (!record || !record->shown) return false;
    auto row = core.store.disk().get(record->node);
    if (row && row->blob == blob && core.folder->isAsKnown(*row)) return false;  // It has them itself.
    const auto heads = core.tree.shownHeads(other);
    return std::any_of(heads.begin(), heads.end(), [&](const auto& head) { return head.version.blob == blob; });
  };
  auto take = [&](const EntryId& other) {
    const bool needs = has(other);
    if (needs && std::find(out.begin(), out.end(), other) == out.end()) out.push_back(other);
    return needs;
  };
  for (const auto& task : core.store.wanted().ofBlob(blob))
    if (auto other = core.store.idOf(task.node)) take(*other);
  for (const auto& task : core.store.named().ofBlob(blob)) {
    auto other = core.store.idOf(task.node);
    if (!other || !take(*other)) core.store.named().erase(task.node, blob);  // Not any more.
  }
  s_->named.any(blob, [&](const EntryId& other) {
    take(other);
    return false;
  });
  for (const auto& other : core.folder->unreadWith(blob)) take(other);
  return out;
}

}  // namespace realize::peer
