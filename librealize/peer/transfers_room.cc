// The limit of the cache: Real files have what they need, the cache gets what is left (DESIGN 4). Room is made before
// bytes are asked for, so that it is exceeded by no more than one chunk for each transfer under way.

#include <algorithm>

#include "librealize/peer/cache_quota.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {

constexpr uint64_t kUnknownStepBytes = 16 << 10;  // The least chunk, while the chunk list is not known.
constexpr size_t kFirstRows = 64;
constexpr size_t kMostPinners = 64;
constexpr char kPassing[] = "/pass-";
const std::string kPin = "pin/";          // and the blob's id in hexadecimal: the ids of entries, one after the other
const std::string kUnnamed = "1";         // instead of them
constexpr char kPinsNamed[] = "pins named";  // "1" once allClaimed() was through

std::string passingPath(const BlobId& blob) { return kTempFolder + (kPassing + blob.hex()); }

}  // namespace

bool Transfers::State::limited() {
  return core.settings.cacheLimitBytes > 0 || (core.options.sharedQuota && core.options.sharedQuota->limit() > 0);
}

/// With what was asked for and is on its way.
uint64_t Transfers::State::usedBytes() {
  const int64_t used = int64_t(core.store.cache().totals().bytes) + liveBytes;
  return used > 0 ? uint64_t(used) : 0;
}

/// How much the cache may have, if it would like to have so much.
uint64_t Transfers::State::allowedBytes(uint64_t wantedBytes) {
  const uint64_t real = core.store.disk().files().bytes;
  if (const uint64_t own = core.settings.cacheLimitBytes) {
    if (core.options.sharedQuota) core.options.sharedQuota->allow(core.options.id, 0, 0, 0);  // A limit of its own.
    return own > real ? own - real : 0;
  }
  if (!core.options.sharedQuota) return UINT64_MAX;
  return core.options.sharedQuota->allow(core.options.id, real, usedBytes(), wantedBytes);
}

/// To be called when what is present or asked for of a content in `blobs` has changed.
void Transfers::State::recount(BlobState& blob) {
  int64_t now = 0;
  if (!blob.real && !blob.gone && !blob.detached && blob.layout) {
    now = int64_t(blob.presentBytes) - int64_t(blob.layout->zeroBytes()) - int64_t(blob.recordedBytes);
    if (blob.present.empty()) now = -int64_t(blob.recordedBytes);
    if (limited())
      for (const auto& [piece, hops] : blob.asked)
        if (!blob.present[piece]) now += int64_t(blob.layout->pieceBytes(piece));
  }
  liveBytes += now - blob.countedBytes;
  blob.countedBytes = now;
}

/// Nobody finds it in `blobs` any more; who has it open goes on with its file.
void Transfers::State::forget(const BlobId& id) {
  auto known = blobs.find(id);
  if (known == blobs.end()) return;
  auto blob = known->second;
  blobs.erase(known);
  blob->detached = true;
  recount(*blob);
  // Nobody would wake them there, and nobody find them to cancel them.
  if (!blob->waiters.empty() || !blob->wholeWaiters.empty()) post([this, blob] { handOver(blob); });
  auto root = core.folder->root();
  if (!blob->passing || !root) return;
  auto gone = root->unlink(passingPath(id));
  (void)gone;  // Else it is emptied at the next start.
}

/// Who waits for the bytes of a state that was forgotten waits for those of the content as it is now.
void Transfers::State::handOver(const std::shared_ptr<BlobState>& old) {
  if (old->waiters.empty() && old->wholeWaiters.empty()) return;
  auto blob = stateOf(old->blob, old->sizeBytes);
  if (!blob->layout && old->layout) {
    blob->layout = old->layout;
    loadPresent(*blob);
  }
  for (auto& waiter : std::exchange(old->waiters, {})) blob->waiters.push_back(std::move(waiter));
  for (auto& waiter : std::exchange(old->wholeWaiters, {})) blob->wholeWaiters.push_back(std::move(waiter));
  blob->exclude.merge(old->exclude);
  answer(blob);
  pump(blob);
}

/// Entries that have these bytes from nowhere else here: further heads of a conflict, or what a rename gave to another
/// entry. Kept as long as one of them shows the content and has it not in the folder; of a conflict that is to be settled, also what
/// the folder has, which may be replaced in a moment.
bool Transfers::State::pinned(const BlobId& blob) {
  if (core.folder->isUnrecognised(blob)) return true;
  const std::string ids = core.store.getValue(kPin + blob.hex()).value_or("");
  if (ids.empty()) return false;
  if (ids.size() < EntryId::size() || !pinners(blob, core.settings.conflicts != ConflictRule::Keep).empty()) return true;
  core.transact([&] { core.store.setValue(kPin + blob.hex(), ""); });
  return false;
}

std::vector<EntryId> Transfers::State::pinners(const BlobId& blob, bool settling) {
  std::vector<EntryId> out;
  const std::string ids = core.store.getValue(kPin + blob.hex()).value_or("");
  for (size_t at = 0; at + EntryId::size() <= ids.size(); at += EntryId::size()) {
    EntryId id;
    std::copy_n(ids.begin() + ptrdiff_t(at), EntryId::size(), id.bytes.begin());
    auto record = core.tree.get(id);
    if (!record || !record->shown) continue;
    const auto row = core.store.disk().get(record->node);
    const auto heads = core.tree.shownHeads(id);
    if (!(settling && heads.size() > 1) && row && row->blob == blob && core.folder->isAsKnown(*row)) continue;
    if (std::any_of(heads.begin(), heads.end(), [&](const auto& head) { return head.version.blob == blob; })) out.push_back(id);
  }
  return out;
}

/// Pins of earlier versions, which do not say for whom they are, are given to who shows the content.
void Transfers::claimPins(const EntryId& id, const std::vector<logic::ShownHead>& heads) {
  if (s_->pinsNamed || s_->core.store.cache().totals().count == 0) return;
  for (const auto& head : heads)
    if (s_->core.store.getValue(kPin + head.version.blob.hex()).value_or("") == kUnnamed) s_->claimed[head.version.blob].push_back(id);
}

void Transfers::allClaimed() {
  auto& core = s_->core;
  if (s_->pinsNamed) return;
  const bool done = core.transact([&] {
    const bool before = core.store.getValue(kPinsNamed).value_or("") != "1";
    for (const auto& blob : before ? core.store.cache().all() : std::vector<BlobId>()) {
      if (core.store.getValue(kPin + blob.hex()).value_or("") != kUnnamed) continue;
      core.store.setValue(kPin + blob.hex(), "");
      pin(blob, s_->claimed[blob]);
    }
    core.store.setValue(kPinsNamed, "1");
  });
  s_->pinsNamed = done;
  s_->claimed.clear();
}

void Transfers::pin(const BlobId& blob, const std::vector<EntryId>& entries) {
  auto& store = s_->core.store;
  const std::string key = kPin + blob.hex();
  std::string ids = store.getValue(key).value_or("");
  if (!ids.empty() && ids.size() < EntryId::size()) return;
  const size_t before = ids.size();
  for (const auto& entry : entries) {
    bool known = false;
    for (size_t at = 0; at + EntryId::size() <= ids.size(); at += EntryId::size())
      known = known || std::equal(entry.bytes.begin(), entry.bytes.end(), ids.begin() + ptrdiff_t(at),
                                  [](uint8_t a, char b) { return a == uint8_t(b); });
    if (!known) ids.append(entry.bytes.begin(), entry.bytes.end());
  }
  store.cache().setUnlinked(blob, false, 0);
  if (ids.size() == before) return;
  if (ids.size() > kMostPinners * EntryId::size()) ids = kUnnamed;  // Too many to look at: kept for good.
  store.setValue(key, ids);
}

std::vector<EntryContent> Transfers::pinnedContents() {
  std::vector<EntryContent> out;
  for (const auto& blob : s_->core.store.cache().all()) {
    if (!cachedForGood(blob)) continue;
    for (const auto& id : s_->pinners(blob)) out.push_back({id, blob});
  }
  return out;
}

bool Transfers::State::evictable(const BlobId& blob) {
  auto known = blobs.find(blob);
  if (known != blobs.end() && !idle(known->second)) return false;
  if (std::any_of(keeping.begin(), keeping.end(), [&](const auto& one) { return one.blob == blob; })) return false;  // Pinned in a moment.
  return !core.store.wanted().hasBlob(blob) && !pinned(blob);
}

/// Within a transaction. `noted`: the database has a row.
bool Transfers::State::drop(const BlobId& blob, bool noted) {
  auto root = core.folder->root();
  if (!root) return false;
  auto gone = root->unlink(cachePath(blob));
  if (!gone.ok() && gone.code() != Code::NotFound) return false;
  if (noted) core.store.cache().erase(blob);
  forget(blob);
  return true;
}

/// Drops so many bytes, or all that can go: unlinked first, then what was read least recently; with `kept` also what a policy took
/// away, after those.
uint64_t Transfers::State::evict(uint64_t bytes, int64_t readBeforeNs, bool kept) {
  if (bytes == 0 || core.suspended || !core.folder->root()) return 0;
  uint64_t dropped = 0;
  forgetIdle();
  core.transact([&] {
    for (size_t limit = kFirstRows;; limit *= 8) {
      const auto rows = core.store.cache().evictionOrder(limit);
      for (const auto& row : rows) {
        if (dropped >= bytes) return;
        if (row.keptHours ? !kept : !row.unlinked && row.lastReadNs >= readBeforeNs) continue;
        if (evictable(row.blob) && drop(row.blob, true)) dropped += row.storedBytes;
      }
      if (rows.size() < limit) break;
    }
    // Then what was read a moment ago, and is not noted yet.
    std::vector<std::pair<int64_t, BlobId>> idleOnes;
    for (const auto& [id, blob] : blobs)
      if (blob->presentBytes > 0 && blob->lastReadNs < readBeforeNs && idle(blob)) idleOnes.emplace_back(blob->lastReadNs, id);
    std::sort(idleOnes.begin(), idleOnes.end());
    for (const auto& [lastReadNs, id] : idleOnes) {
      if (dropped >= bytes) return;
      const uint64_t present = blobs.at(id)->presentBytes;
      const auto row = core.store.cache().get(id);
      if (row && row->keptHours && !kept) continue;
      if (evictable(id) && drop(id, row.has_value())) dropped += present;
    }
  });
  return dropped;
}

uint64_t Transfers::shrink(uint64_t bytes) {
  s_->clean();
  uint64_t dropped = 0;
  for (bool kept : {false, true})
    if (const uint64_t used = s_->usedBytes(); used > bytes) dropped += s_->evict(used - bytes, INT64_MAX, kept);
  return dropped;
}

/// False: it has more than it may, and nothing that can go now. It is looked at again from time to time.
bool Transfers::State::keepLimit() {
  if (core.stopping || core.suspended || !limited()) return true;
  uint64_t used = usedBytes(), allowed = allowedBytes(used);
  if (used <= allowed) return true;
  if (core.settings.cacheLimitBytes == 0) core.options.sharedQuota->askOthers(core.options.id, used - allowed, core.env.clock.nowNs());
  for (bool kept : {false, true}) {
    evict(used - allowed, INT64_MAX, kept);
    used = usedBytes();
    allowed = allowedBytes(used);  // Which says what is used now, too.
    if (used <= allowed) return true;
  }
  cleanSoon();
  return false;
}

void Transfers::settingsChanged() {
  s_->unlinkedLookedNs = INT64_MIN;
  limitChanged();
}

void Transfers::limitChanged() {
  if (s_->limitLooksSoon || !s_->limited()) return;
  s_->limitLooksSoon = true;
  s_->post([s = s_.get()] {
    s->limitLooksSoon = false;
    s->keepLimit();
  });
}

/// Makes room for so many further bytes of this content; how many there is room for. `kept`: what a policy took away goes, too, last
/// of all.
uint64_t Transfers::State::makeRoom(uint64_t bytes, const std::shared_ptr<BlobState>& blob, bool kept) {
  auto missing = [&]() -> uint64_t {
    const uint64_t used = usedBytes(), allowed = allowedBytes(used + bytes);
    return used + bytes > allowed ? used + bytes - allowed : 0;
  };
  uint64_t lacking = missing();
  if (lacking == 0) return bytes;
  if (core.settings.cacheLimitBytes == 0) core.options.sharedQuota->askOthers(core.options.id, lacking, core.env.clock.nowNs());
  evict(lacking);
  if (lacking = missing(); lacking == 0) return bytes;
  dropPieces(blob, lacking);
  lacking = missing();
  if (kept && lacking > 0) {
    evict(lacking, INT64_MAX, true);
    lacking = missing();
    if (lacking > 0 && core.settings.cacheLimitBytes == 0)
      core.options.sharedQuota->askOthers(core.options.id, lacking, CacheQuota::kLastOfAll);
  }
  return bytes > lacking ? bytes - lacking : 0;
}

/// Leaves of these pieces those that there is room for now. False: none, and it is tried again when there may be.
bool Transfers::State::fitIn(const std::shared_ptr<BlobState>& blob, std::vector<uint32_t>& pieces) {
  if (!limited() || pieces.empty()) return true;
  uint64_t bytes = 0;
  for (auto piece : pieces) bytes += blob->layout->pieceBytes(piece);
  const uint64_t room = makeRoom(bytes, blob);
  const bool real = std::any_of(blob->wholeWaiters.begin(), blob->wholeWaiters.end(),
                                [](const auto& waiter) { return waiter.why == FetchFor::Real; });
  if (real || room >= bytes) return true;
  size_t fitting = 0;
  for (uint64_t taken = 0; fitting < pieces.size(); ++fitting) {
    taken += blob->layout->pieceBytes(pieces[fitting]);
    if (taken > room) break;
  }
  const bool saving = fitting == 0 && std::any_of(blobs.begin(), blobs.end(), [](const auto& item) { return item.second->saving; });
  if (saving) {
    roomAwaited = true;
    return false;
  }
  const uint64_t firstBytes = blob->layout->pieceBytes(pieces.front());
  const bool awaited = std::any_of(blob->waiters.begin(), blob->waiters.end(), [&](const auto& waiter) {
    return blob->layout->offsets[pieces.front()] < waiter.end && waiter.offset < blob->layout->offsets[pieces.front() + 1];
  });
  // Nothing else can go.
  const bool last = fitting == 0 && (!blob->wholeWaiters.empty() || (awaited && blob->asked.empty()));
  if (last && makeRoom(firstBytes, blob, true) >= firstBytes) fitting = 1;
  if (fitting == 0) {
    // Somebody reads: one chunk at a time may be too many. What is wanted whole stays whole and finds no place.
    auto whole = std::move(blob->wholeWaiters);
    blob->wholeWaiters.clear();
    for (auto& waiter : whole) waiter.done(Error{Code::NoSpace, "the cache has no room for it (realize cache show)"});
    if (!blob->asked.empty() || !awaited) {
      blob->aheadBytes = 0;
      return false;
    }
    fitting = 1;
  }
  pieces.resize(fitting);
  return true;
}

/// A file larger than the room for it passes through: pieces of it go that nobody is about to read.
uint64_t Transfers::State::dropPieces(const std::shared_ptr<BlobState>& blob, uint64_t bytes) {
  if (!blob->file || !blob->wholeWaiters.empty() || blob->detached || core.store.inTransaction() || pinned(blob->blob)) return 0;
  const auto& offsets = blob->layout->offsets;
  std::vector<uint32_t> pieces;
  uint64_t planned = 0;
  {
    std::lock_guard held(blob->leases->mutex);
    for (uint32_t piece = 0; piece < blob->layout->pieces() && planned < bytes; ++piece) {
      // What is still asked for would look as if it had not come.
      if (!blob->present[piece] || std::binary_search(blob->layout->zeros.begin(), blob->layout->zeros.end(), piece)) continue;
      if (blob->asked.contains(piece) || blob->leases->readers.contains(piece)) continue;
      const bool awaited = std::any_of(blob->waiters.begin(), blob->waiters.end(), [&](const auto& waiter) {
        return offsets[piece] < waiter.end && waiter.offset < offsets[piece + 1];
      });
      if (awaited) continue;
      pieces.push_back(piece);
      planned += blob->layout->pieceBytes(piece);
    }
  }
  if (pieces.empty() || (!blob->passing && !beginPassing(*blob))) return 0;
  ++blob->drops;
  uint64_t dropped = 0;
  // Nobody writes where a hole is made: a chunk that comes once more, late, is written before or after.
  std::lock_guard held(blob->arrivals->mutex);
  const std::set<uint32_t> late = [&] {
    std::set<uint32_t> out(blob->arrivals->writing.begin(), blob->arrivals->writing.end());
    out.insert(blob->arrivals->pieces.begin(), blob->arrivals->pieces.end());
    return out;
  }();
  for (auto piece : pieces) {
    if (late.contains(piece)) continue;
    blob->present[piece] = false;
    --blob->presentCount;
    blob->presentBytes -= blob->layout->pieceBytes(piece);
    blob->localTried.erase(piece);
    // With what is not there beside it: of a block that two pieces share, each alone frees nothing.
    auto absent = [&](uint32_t other) { return !blob->present[other] && !blob->asked.contains(other) && !late.contains(other); };
    const uint32_t first = piece > 0 && absent(piece - 1) ? piece - 1 : piece;
    const uint32_t last = piece + 1 < blob->layout->pieces() && absent(piece + 1) ? piece + 1 : piece;
    auto punched = blob->file->punchHole(offsets[first], offsets[last + 1] - offsets[first]);
    (void)punched;  // A file system without holes keeps the space until the file is closed.
    dropped += blob->layout->pieceBytes(piece);
  }
  recount(*blob);
  return dropped;
}

/// What the database says of it goes first, and for good; the file among what a start clears away.
bool Transfers::State::beginPassing(BlobState& blob) {
  auto root = core.folder->root();
  if (!root) return false;
  if (core.store.cache().get(blob.blob)) {
    if (!core.transact([&] { core.store.cache().erase(blob.blob); }) || !core.makeDurable()) return false;
  }
  blob.recordedBytes = 0;
  recount(blob);
  if (!root->rename(cachePath(blob.blob), passingPath(blob.blob), RenameKind::Replace).ok()) return false;
  blob.passing = true;
  return true;
}

/// It is to be kept after all: what is here of it is a beginning.
void Transfers::State::endPassing(BlobState& blob) {
  if (!blob.passing) return;
  auto root = core.folder->root();
  if (!root || !root->rename(passingPath(blob.blob), cachePath(blob.blob), RenameKind::NoReplace).ok()) return;
  blob.passing = false;
  blob.unsavedPieces = blob.presentCount;
}

/// One after the other, without holding the others: what nobody uses must be free to go.
void Transfers::State::pumpWaiting(const BlobState* except) {
  std::vector<BlobId> waiting;
  for (const auto& [id, blob] : blobs)
    if (blob.get() != except && (!blob->waiters.empty() || !blob->wholeWaiters.empty())) waiting.push_back(id);
  for (const auto& id : waiting) {
    auto known = blobs.find(id);
    if (known == blobs.end()) continue;
    const auto blob = known->second;
    pump(blob);
  }
}

// --- reading step by step -------------------------------------------------------------------------------------------

bool Transfers::State::allHere(const BlobState& blob, uint64_t offset, uint64_t end) {
  if (!blob.layout) return false;
  for (uint32_t piece = blob.layout->pieceAt(offset); piece < blob.layout->pieces() && blob.layout->offsets[piece] < end; ++piece)
    if (!blob.present[piece]) return false;
  return true;
}

/// How far one step goes: whole pieces, an eighth of what the cache may have at most, as several may read at once.
uint64_t Transfers::State::stepEnd(const BlobState& blob, uint64_t at, uint64_t end) {
  if (!blob.layout) return std::min(end, at + kUnknownStepBytes);
  const uint64_t most = allowedBytes(usedBytes()) / 8;
  const uint32_t first = blob.layout->pieceAt(at);
  uint32_t next = first + 1;
  while (next < blob.layout->pieces() && blob.layout->offsets[next] < end &&
         blob.layout->offsets[next + 1] - blob.layout->offsets[first] <= most)
    ++next;
  return std::min(end, blob.layout->offsets[next]);
}

void Transfers::State::gather(std::shared_ptr<Gathering> gathering) {
  const auto blob = gathering->blob;
  startRead(gathering->number, blob, gathering->at, stepEnd(*blob, gathering->at, gathering->end), gathering->hops,
            [this, alive = alive, gathering, &scheduler = core.env.scheduler](Result<Bytes> bytes) {
    if (!bytes.ok()) return gathering->done(std::move(bytes));
    auto got = std::make_shared<Bytes>(std::move(*bytes));
    scheduler.onCore([this, alive, gathering, got] {
      if (!*alive) return gathering->done(Error{Code::Suspended, "the arena is being closed"});
      if (!gatherings.contains(gathering->number)) return gathering->done(Error{Code::Cancelled, "interrupted"});
      gathering->bytes.insert(gathering->bytes.end(), got->begin(), got->end());
      gathering->at += got->size();
      if (!got->empty() && gathering->at < gathering->end) return gather(gathering);
      gatherings.erase(gathering->number);
      gathering->done(std::move(gathering->bytes));
    });
  });
}

std::shared_ptr<void> Transfers::State::lease(const BlobState& blob, uint32_t first, uint32_t last) {
  {
    std::lock_guard held(blob.leases->mutex);
    for (uint32_t piece = first; piece <= last; ++piece) ++blob.leases->readers[piece];
  }
  return std::shared_ptr<void>(nullptr, [leases = blob.leases, first, last](void*) {
    std::lock_guard held(leases->mutex);
    for (uint32_t piece = first; piece <= last; ++piece) {
      auto readers = leases->readers.find(piece);
      if (--readers->second == 0) leases->readers.erase(readers);
    }
  });
}

// --- what there is --------------------------------------------------------------------------------------------------

CacheStatus Transfers::cacheStatus() {
  auto& s = *s_;
  auto& core = s.core;
  CacheStatus out;
  s.clean();
  out.limitBytes = core.settings.cacheLimitBytes;
  if (out.limitBytes == 0 && core.options.sharedQuota) {
    out.limitBytes = core.options.sharedQuota->limit();
    out.limitShared = out.limitBytes > 0;
    if (out.limitShared) out.otherArenasBytes = core.options.sharedQuota->usedByOthers(core.options.id);
  }
  out.realBytes = core.store.disk().files().bytes;
  out.unconfirmedBytes = core.marks->unconfirmedBytes();
  out.cachedBytes = s.usedBytes();
  auto count = [&](const BlobId& blob, uint64_t bytes, bool unlinked) {
    auto known = s.blobs.find(blob);
    if (core.store.wanted().hasBlob(blob)) out.comingBytes += bytes;
    else if (s.pinned(blob)) out.pinnedBytes += bytes;
    else if (known != s.blobs.end() && !s.idle(known->second)) out.openBytes += bytes;
    else if (unlinked) out.unlinkedBytes += bytes;
    else out.evictableBytes += bytes;
  };
  for (const auto& row : core.store.cache().evictionOrder(SIZE_MAX >> 1))
    if (!s.blobs.contains(row.blob)) count(row.blob, row.storedBytes, row.unlinked);
  for (const auto& [id, blob] : s.blobs)
    if (blob->presentBytes) count(id, blob->presentBytes, false);
  if (out.limitBytes && s.limited()) {
    out.allowedBytes = s.allowedBytes(out.cachedBytes);
    const uint64_t kept = out.openBytes + out.pinnedBytes + out.comingBytes;
    auto why = [&](uint64_t bytes, const char* what) {
      if (bytes) out.why += (out.why.empty() ? "" : ", ") + std::to_string(bytes) + " bytes " + what;
    };
    if (out.allowedBytes == 0 || kept > out.allowedBytes) {
      if (out.allowedBytes == 0) why(out.realBytes + out.otherArenasBytes, "of Real files and other arenas take all of it");
      why(out.openBytes, "are being read");
      why(out.comingBytes, "become Real");
      why(out.pinnedBytes, "are versions that wait for somebody to choose, that another name needs, or that are being recognised");
    }
  }
  return out;
}

}  // namespace realize::peer
