#include "librealize/peer/transfers.h"

#include <algorithm>
#include <utility>

#include "librealize/base/fault.h"
#include "librealize/peer/cache_quota.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {
constexpr int64_t kCleanMs = 5000;
constexpr uint32_t kSavesAtOnce = 2;
constexpr uint64_t kZerosWritten = 1 << 20;

std::string encodePresent(const std::vector<bool>& present) {
  std::string bits((present.size() + 7) / 8, '\0');
  for (size_t i = 0; i < present.size(); ++i)
    if (present[i]) bits[i / 8] = char(uint8_t(bits[i / 8]) | (1u << (i % 8)));
  return bits;
}
}  // namespace

// --- layout -------------------------------------------------------------------------------------------------------

std::shared_ptr<const BlobLayout> BlobLayout::ofWhole(const BlobId& blob, uint64_t sizeBytes) {
  auto layout = std::make_shared<BlobLayout>();
  layout->whole = true;
  layout->blob = blob;
  layout->offsets = {0, sizeBytes};
  return layout;
}

std::shared_ptr<const BlobLayout> BlobLayout::of(const BlobId& blob, ChunkList list) {
  auto layout = std::make_shared<BlobLayout>();
  layout->blob = blob;
  layout->list = std::move(list);
  layout->offsets.reserve(layout->list.chunks.size() + 1);
  uint64_t offset = 0;
  const ChunkRef& zeros = zeroChunkFor(layout->list.sizeBytes());
  for (const auto& chunk : layout->list.chunks) {
    if (chunk == zeros) layout->zeros.push_back(uint32_t(layout->offsets.size()));
    layout->offsets.push_back(offset);
    offset += chunk.sizeBytes;
  }
  layout->offsets.push_back(offset);
  return layout;
}

uint64_t BlobLayout::zeroBytes() const {
  uint64_t out = 0;
  for (auto piece : zeros) out += pieceBytes(piece);
  return out;
}

uint32_t BlobLayout::pieceAt(uint64_t offset) const {
  auto next = std::upper_bound(offsets.begin(), offsets.end() - 1, offset);
  return uint32_t(next - offsets.begin()) - 1;
}

bool BlobLayout::verifies(uint32_t piece, std::span<const std::byte> bytes) const {
  if (piece >= pieces() || bytes.size() != pieceBytes(piece)) return false;
  if (faulty(Fault::TakeUnverified)) return true;
  if (!whole) return hashChunk(bytes) == list.chunks[piece].hash;
  ContentHasher hasher(bytes.size());
  hasher.add(bytes);
  auto content = hasher.finish();
  return content.ok() && content->blob == blob;
}

std::vector<bool> verifyWhole(std::span<const WholeArrival> arrivals) {
  std::vector<bool> right(arrivals.size());
  std::vector<size_t> smallOnes;
  std::vector<std::span<const std::byte>> smallBytes;
  for (size_t i = 0; i < arrivals.size(); ++i) {
    const auto& [blob, sizeBytes, bytes] = arrivals[i];
    if (bytes.size() != sizeBytes) continue;
    if (bytes.size() > kSingleChunkBytes || faulty(Fault::TakeUnverified)) {
      right[i] = BlobLayout::ofWhole(*blob, sizeBytes)->verifies(0, bytes);
    } else {
      smallOnes.push_back(i);
      smallBytes.push_back(bytes);
    }
  }
  std::vector<Content> contents(smallOnes.size());
  hashSmallContents(smallBytes, contents);
  for (size_t k = 0; k < smallOnes.size(); ++k) right[smallOnes[k]] = contents[k].blob == *arrivals[smallOnes[k]].blob;
  return right;
}

Result<std::shared_ptr<DiskFile>> openUnchanged(Directory& root, const std::string& path, const store::DiskRow& row) {
  REALIZE_ASSIGN(auto file, root.open(path, OpenMode::Read));
  REALIZE_ASSIGN(auto stat, file->stat());
  if (!row.sameBytes(stat)) return Error{Code::Busy, path + ": changed since it was read"};
  return std::shared_ptr<DiskFile>(std::move(file));
}

// --- transfers ----------------------------------------------------------------------------------------------------

Transfers::Transfers(Core& core) : s_(std::make_unique<State>(core)) {
  if (!core.options.sharedQuota) return;
  core.options.sharedQuota->join(core.options.id, [s = s_.get(), alive = s_->alive, &scheduler = core.env.scheduler](
                                                      uint64_t bytes, int64_t readBeforeNs) {
    scheduler.onCore([s, alive, bytes, readBeforeNs] {
      if (!*alive || s->core.stopping || s->core.suspended) return;
      if (s->core.settings.cacheLimitBytes == 0) s->evict(bytes, readBeforeNs, readBeforeNs == CacheQuota::kLastOfAll);
      s->keepLimit();
    });
  });
}
Transfers::~Transfers() {
  if (s_->core.options.sharedQuota) s_->core.options.sharedQuota->leave(s_->core.options.id);
  *s_->alive = false;
}

void Transfers::stop() {
  finishPlacing();
  const Error ended{Code::Suspended, "the arena is being closed"};
  for (auto& [id, blob] : s_->blobs) {
    s_->failWaiters(blob, ended);
    if (blob->unsavedPieces) s_->save(blob, nullptr);
  }
  s_->peers.clear();
}

void Transfers::resumed() {
  s_->wantedRefused.clear();
  s_->postponed.clear();
  s_->wishes.clear();
  s_->plans.clear();
  s_->outOfSpace = false;
  for (auto& [id, blob] : std::map(s_->blobs)) s_->pump(blob);
  wakeWanted();
  s_->cleanSoon();
}

void Transfers::State::post(std::function<void()> job) {
  core.env.scheduler.onCore([alive = alive, job = std::move(job)] {
    if (*alive) job();
  });
}

void Transfers::connected(RemoteArena& remote) {
  s_->peers[remote.key()] = State::Peer{&remote, ++s_->connections, 0};
  s_->wantedRefused.clear();
  for (auto& [id, blob] : std::map(s_->blobs)) {
    blob->refused.erase(remote.key());
    s_->pump(blob);
  }
  wakeWanted();
}

void Transfers::disconnected(const PeerKey& key) {
  s_->peers.erase(key);
  for (auto& [id, blob] : std::map(s_->blobs)) {
    blob->refused.erase(key);
    s_->pump(blob);  // Asks another, or tells who waits that nobody has it.
  }
}

void Transfers::State::problem(const std::string& path, const std::string& kind, const std::string& detail) {
  core.transact([&] { core.store.problems().put({path, kind, detail}); });
  core.emit(Event{.whenNs = 0, .type = "problem", .arena = "", .path = path, .peer = "", .detail = detail});
}

std::string Transfers::cachePath(const BlobId& blob) { return std::string(kCacheFolder) + "/" + blob.hex(); }

std::shared_ptr<BlobState> Transfers::State::stateOf(const BlobId& id, uint64_t sizeBytes) {
  auto known = blobs.find(id);
  if (known != blobs.end()) return known->second;
  auto blob = std::make_shared<BlobState>();
  blob->blob = id;
  blob->sizeBytes = sizeBytes;
  if (sizeBytes <= kMaxWholeBytes) blob->layout = BlobLayout::ofWhole(id, sizeBytes);
  else if (auto list = knownList(id)) blob->layout = BlobLayout::of(id, std::move(*list));
  if (blob->layout) loadPresent(*blob);
  blobs.emplace(id, blob);
  cleanSoon();
  return blob;
}

/// Of an empty file that has its size by now.
void Transfers::State::onlyZerosPresent(BlobState& blob) {
  const uint32_t pieces = blob.layout->pieces();
  blob.present.assign(pieces, blob.sizeBytes == 0);
  blob.presentCount = blob.sizeBytes == 0 ? pieces : uint32_t(blob.layout->zeros.size());
  blob.presentBytes = 0;
  for (auto piece : blob.layout->zeros) {
    blob.present[piece] = true;
    blob.presentBytes += blob.layout->pieceBytes(piece);
  }
}

/// What the database says is in the cache file. Bytes beyond that may be there after a crash; they are fetched again.
void Transfers::State::loadPresent(BlobState& blob) {
  const uint32_t pieces = blob.layout->pieces();
  onlyZerosPresent(blob);
  auto row = core.store.cache().get(blob.blob);
  if (!row) return;
  blob.recordedBytes = row->storedBytes;
  blob.lastReadNs = row->lastReadNs;
  for (uint32_t i = 0; i < pieces; ++i) {
    const bool there = row->complete || (i / 8 < row->present.size() && (uint8_t(row->present[i / 8]) >> (i % 8) & 1));
    if (!there || blob.present[i]) continue;
    blob.present[i] = true;
    ++blob.presentCount;
    blob.presentBytes += blob.layout->pieceBytes(i);
  }
  recount(blob);
}

namespace {
/// Where a cache file should have nothing.
Result<void> makeHoles(DiskFile& file, const BlobLayout& layout) {
  for (size_t i = 0, next; i < layout.zeros.size(); i = next) {
    for (next = i + 1; next < layout.zeros.size() && layout.zeros[next] == layout.zeros[next - 1] + 1;) ++next;
    const uint64_t end = layout.offsets[layout.zeros[next - 1] + 1];
    uint64_t at = layout.offsets[layout.zeros[i]];
    auto punched = file.punchHole(at, end - at);
    if (punched.ok()) continue;
    if (punched.code() != Code::Unsupported) return punched;
    for (const Bytes zeros(std::min(end - at, kZerosWritten)); at < end; at += zeros.size())
      REALIZE_TRY(file.write(at, std::span(zeros).first(std::min<uint64_t>(zeros.size(), end - at))));
  }
  return {};
}
}  // namespace

Result<void> Transfers::State::openCacheFile(BlobState& blob) {
  if (blob.file) return {};
  auto root = core.folder->root();
  if (!root) return Error{Code::Suspended, core.suspendedWhy};
  if (core.folder->stillAside(cachePath(blob.blob))) return kStillAside;
  auto known = root->open(cachePath(blob.blob), OpenMode::ReadWrite);
  auto stat = known.ok() ? (*known)->stat() : Result<FileStat>(known.error());
  if (!stat.ok() && stat.code() != Code::NotFound) return stat.error();  // It may be there all the same.
  std::unique_ptr<DiskFile> file = known.ok() ? std::move(*known) : nullptr;
  if (!stat.ok() || stat->sizeBytes != blob.sizeBytes) {
    // Someone has been here, or a crash came before the size was set: nothing in it is to be trusted. What the database
    // says of it goes first, and for good: it must not come to speak of the empty file that is made now.
    if (core.store.cache().get(blob.blob) || core.store.cache().mayComeBack(blob.blob)) {
      if (core.store.inTransaction()) return Error{Code::Busy, "the cache is not what it was"};
      if (!core.transact([&] { core.store.cache().erase(blob.blob); }) || !core.makeDurable()) return Error{Code::Suspended, core.suspendedWhy};
    }
    if (!file) {
      REALIZE_ASSIGN(file, root->open(cachePath(blob.blob), OpenMode::CreateOrOpen, 0600));
    }
    REALIZE_TRY(file->truncate(blob.sizeBytes));
    onlyZerosPresent(blob);
    blob.recordedBytes = 0;
    recount(blob);
  } else if (const auto row = core.store.cache().get(blob.blob); !blob.layout->zeros.empty() && !(row && row->knowsAny())) {
    // A crash left it: where it should have a hole, which nobody fetches, it may have anything. Or all of it is there, and
    // that is not known yet: so nothing else is touched.
    REALIZE_TRY(makeHoles(*file, *blob.layout));
  }
  blob.file = std::move(file);
  return {};
}

/// Notes what is present, after its bytes are on disk.
void Transfers::State::save(const std::shared_ptr<BlobState>& blob, std::function<void(Result<void>)> done) {
  if (!blob->file || blob->real || blob->gone || blob->passing) {
    if (done) done({});
    return;
  }
  blob->saving = true;
  blob->unsavedPieces = 0;
  store::CacheRow row;
  row.blob = blob->blob;
  row.sizeBytes = blob->sizeBytes;
  row.storedBytes = blob->presentBytes - std::min(blob->presentBytes, blob->layout->zeroBytes());
  row.complete = blob->complete();
  if (!row.complete) row.present = encodePresent(blob->present);
  row.lastReadNs = core.env.clock.nowNs();
  toSave.push_back({blob, std::move(row), blob->drops, std::move(done), blob->file});
  for (uint32_t i = 0; blob->unwritten && i < blob->present.size(); ++i)
    if (blob->present[i]) toSave.back().again.push_back({blob->layout->offsets[i], blob->layout->pieceBytes(i)});
  saveNext();
}

namespace {
/// Where all together could not be synced, each file tells whether it is one of those. Thread: pool.
void syncSaved(std::vector<Saving>& group, Directory* root, SyncAll& syncAll) {
  for (auto& saving : group) saving.synced = writeAgain(*saving.file, saving.again);
  if (faulty(Fault::SkipFileSync) || (group.size() > kSyncOneByOne && root && syncAll.syncsAnything(*root))) return;
  for (auto& saving : group)
    if (saving.synced.ok()) saving.synced = saving.file->sync(false);
  // Else a power cut could leave the row, and under the name a file that was dropped before this one was made.
  const auto named = root ? root->syncDirectory(kCacheFolder) : Result<void>(Error{Code::Suspended, "the folder is not there"});
  for (auto& saving : group)
    if (saving.synced.ok()) saving.synced = named;
}
}  // namespace

/// What came while others were being synced is synced together.
void Transfers::State::saveNext() {
  if (toSave.empty() || savesUnderWay >= kSavesAtOnce) return;
  ++savesUnderWay;
  auto group = std::make_shared<std::vector<Saving>>(std::exchange(toSave, {}));
  core.env.scheduler.onPool(false, [this, alive = alive, &scheduler = core.env.scheduler, group, root = core.folder->root(), all = core.syncAll] {
    syncSaved(*group, root.get(), *all);
    for (auto& saving : *group) saving.file = nullptr;  // Who waits for this may want to be the only one at it.
    scheduler.onCore([this, alive, group] {
      if (*alive) saved(*group);
    });
  });
}

void Transfers::State::saved(const std::vector<Saving>& group) {
  --savesUnderWay;
  core.unwritten->noteFailures();
  std::vector<const Saving*> present;
  for (const auto& saving : group) {
    auto& blob = *saving.blob;
    blob.saving = false;
    blob.unwritten = !saving.synced.ok();
    if (blob.unwritten) ++blob.unsavedPieces;
    // What was dropped meanwhile is not there, whatever was synced.
    if (saving.synced.ok() && !blob.gone && !blob.detached && blob.drops == saving.drops) present.push_back(&saving);
  }
  bool wanted = false;
  const bool noted = core.transact([&] {
    for (const auto* saving : present) {
      // When it came the database may have failed; without it nobody could be sent these bytes.
      if (!saving->blob->layout->whole) core.transfers->noteChunkList(saving->row.blob, saving->blob->layout->list);
      core.store.cache().put(saving->row);
      wanted = wanted || (saving->row.complete && core.store.wanted().hasBlob(saving->row.blob));
    }
  });
  if (noted && wanted) core.transfers->wakeWanted();  // Nobody need be connected for it.
  for (const auto* saving : present) {
    if (!noted) break;
    saving->blob->recordedBytes = saving->row.storedBytes;
    recount(*saving->blob);
  }
  if (std::exchange(roomAwaited, false)) pumpWaiting(nullptr);
  for (const auto& saving : group)
    if (saving.done) saving.done(saving.synced);
  saveNext();
}

void Transfers::State::cleanSoon() {
  if (cleaning) return;
  cleaning = true;
  core.env.scheduler.onCoreAfter(kCleanMs, [this, alive = alive] {
    if (!*alive) return;
    cleaning = false;
    clean();
    keepUnlinkedLimit();
    const bool kept = keepLimit();
    if ((!blobs.empty() || !kept) && !core.stopping) cleanSoon();
  });
}

bool Transfers::State::idle(const std::shared_ptr<BlobState>& blob) const {
  return blob.use_count() == 1 && blob->gets == 0 && blob->waiters.empty() && blob->wholeWaiters.empty() && !blob->saving;
}

/// Forgets contents that nobody uses now.
void Transfers::State::clean() {
  for (auto& [id, blob] : blobs)
    if (blob->unsavedPieces && !blob->saving && !blob->passing) save(blob, nullptr);
  std::vector<BlobId> spare;
  for (const auto& [id, blob] : blobs)
    if (blob->copied && !blob->unsavedPieces && idle(blob)) spare.push_back(id);
  forgetIdle();
  for (const auto& blob : spare) dropSpare(blob);
}

/// A Real file has it, too, and the reader for whom it was kept beside that is gone.
void Transfers::State::dropSpare(const BlobId& blob) {
  auto root = core.folder->root();
  if (!root || blobs.contains(blob) || !realHere(blob) || core.store.wanted().hasBlob(blob) || pinned(blob)) return;
  // First what is known of it, and for good: it must not come to speak of another file.
  if (!core.transact([&] { core.store.cache().erase(blob); }) || !core.makeDurable()) return;
  auto gone = root->unlink(cachePath(blob));
  (void)gone;  // No longer there, maybe.
}

void Transfers::State::forgetIdle() {
  std::vector<BlobId> unused;
  std::vector<std::pair<BlobId, int64_t>> read;
  for (auto& [id, blob] : blobs) {
    if (!idle(blob) || (blob->unsavedPieces && !blob->passing)) continue;
    unused.push_back(id);
    if (blob->recordedBytes && blob->lastReadNs) read.emplace_back(id, blob->lastReadNs);
  }
  for (const auto& id : unused) forget(id);
  if (read.empty()) return;
  core.transact([&] {
    for (const auto& [id, lastReadNs] : read) {
      auto row = core.store.cache().get(id);
      if (row && row->lastReadNs < lastReadNs) core.store.cache().setLastRead(id, lastReadNs);
    }
  });
}

void Transfers::cancel(uint64_t number) {
  s_->gatherings.erase(number);
  for (auto& [id, blob] : s_->blobs) {
    for (auto it = blob->waiters.begin(); it != blob->waiters.end(); ++it) {
      if (it->number != number) continue;
      auto done = std::move(it->done);
      blob->waiters.erase(it);
      return done(Error{Code::Cancelled, "interrupted"});
    }
    for (auto it = blob->wholeWaiters.begin(); it != blob->wholeWaiters.end(); ++it) {
      if (it->number != number) continue;
      auto done = std::move(it->done);
      blob->wholeWaiters.erase(it);
      return done(Error{Code::Cancelled, "interrupted"});
    }
  }
}

uint64_t Transfers::fetchWhole(const BlobId& id, uint64_t sizeBytes, std::function<void(uint64_t)> progress,
                               std::function<void(Result<void>)> done, FetchFor why) {
  // Not so what a reader brought here and nobody has synced.
  auto row = s_->core.store.cache().get(id);
  if ((row && row->complete) || s_->realHere(id)) {
    done({});
    return 0;
  }
  if (why == FetchFor::Cache && s_->limited() && sizeBytes > s_->allowedBytes(s_->usedBytes())) {
    done(Error{Code::NoSpace, "larger than the cache may become here (realize cache show); it can be read all the same"});
    return 0;
  }
  auto blob = s_->stateOf(id, sizeBytes);
  s_->endPassing(*blob);
  const uint64_t number = ++s_->lastNumber;
  blob->wholeWaiters.push_back(WholeWaiter{number, std::move(progress), std::move(done), why});
  s_->pump(blob);
  return number;
}

uint64_t Transfers::cachedBytes(const BlobId& id) {
  auto known = s_->blobs.find(id);
  if (known != s_->blobs.end() && known->second->layout) return known->second->presentBytes;
  auto row = s_->core.store.cache().get(id);
  return !row ? 0 : row->complete ? row->sizeBytes : row->storedBytes;
}

uint64_t Transfers::cachedBytesTotal() {
  uint64_t present = 0, recorded = 0;
  for (const auto& [id, blob] : s_->blobs) {
    if (blob->layout) present += blob->presentBytes - std::min(blob->presentBytes, blob->layout->zeroBytes());
    recorded += blob->recordedBytes;
  }
  const uint64_t noted = s_->core.store.cache().totals().bytes;
  return present + (noted > recorded ? noted - recorded : 0);
}

uint64_t Transfers::missingAt(const OpenBlob& blob, uint64_t which) {
  const BlobState& state = *blob.state;
  if (!state.layout || state.complete() || state.present.empty()) return 0;
  constexpr uint64_t kStride = 2654435761;  // Any that goes far.
  const size_t first = which * kStride % state.present.size();
  for (size_t i = 0; i < state.present.size(); ++i)
    if (const size_t piece = (first + i) % state.present.size(); !state.present[piece]) return state.layout->offsets[piece];
  return 0;
}

bool Transfers::complete(const BlobId& id) {
  auto known = s_->blobs.find(id);
  if (known != s_->blobs.end() && known->second->complete() && !known->second->gone) return true;
  auto row = s_->core.store.cache().get(id);
  return (row && row->complete) || s_->realHere(id);
}

bool Transfers::cachedForGood(const BlobId& id) {
  auto row = s_->core.store.cache().get(id);
  return row && row->complete;
}

/// A Real file has it, as far as is known.
bool Transfers::State::realHere(const BlobId& id) {
  for (const auto& disk : core.store.disk().withBlob(id, 4))
    if (!disk.dirty) return true;
  return false;
}

void Transfers::adopt(const std::vector<std::pair<BlobId, uint64_t>>& contents, bool torn) {
  auto root = s_->core.folder->root();
  if (contents.empty() || !root) return;
  // Else a power cut could leave the row, and under the name an empty file that was being filled, or none.
  auto synced = root->syncDirectory(kCacheFolder);
  (void)synced;  // Failing, it is the disk's last word.
  s_->core.transact([&] {
    for (const auto& [id, sizeBytes] : contents) {
      store::CacheRow row;
      row.blob = id;
      row.sizeBytes = row.storedBytes = sizeBytes;
      row.complete = !torn;
      row.lastReadNs = s_->core.env.clock.nowNs();
      s_->core.store.cache().put(row);
      s_->forget(id);  // Who has the old state open reads on from its own file.
      if (torn) s_->core.folder->recognise(id);
    }
  });
  limitChanged();
}

bool Transfers::discard(const store::CacheRow& row, const std::string& aside) {
  auto& core = s_->core;
  auto root = core.folder->root();
  s_->clean();
  if (!root || s_->blobs.contains(row.blob) || core.store.cache().get(row.blob) != row) return false;
  // What the database says of it goes first, and for good.
  if (!core.transact([&] { core.store.cache().erase(row.blob); }) || !core.makeDurable()) return false;
  auto gone = s_->pinned(row.blob) ? root->rename(cachePath(row.blob), aside, RenameKind::Replace) : root->unlink(cachePath(row.blob));
  (void)gone;  // No longer there, maybe; what is there is not trusted any more.
  return true;
}

void Transfers::noteChunkList(const BlobId& blob, const ChunkList& list) {
  if (list.chunks.size() < 2) return;
  auto& core = s_->core;
  if (core.store.blobs().has(blob)) return;
  core.transact([&] { core.store.blobs().put({blob, list.sizeBytes(), encodeChunkList(list)}); });
}

}  // namespace realize::peer
