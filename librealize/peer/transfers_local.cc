// Wanted contents that this disk has already: what is in the cache moves to its place, many files together; what another
// path has, or somebody reads, is copied.

#include <algorithm>

#include "librealize/peer/exchange.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {
constexpr size_t kMoveTogether = 128;  // The core waits for their folders' syncs.
const Error kNotWhatItWas{Code::Busy, "the cached file is not what it was"};
}  // namespace

/// No other entry waits for these bytes in the cache.
bool Transfers::State::neededHereOnly(const store::BlobTask& task) {
  const auto pins = pinners(task.blob);
  return std::all_of(pins.begin(), pins.end(), [&](const auto& id) { return core.store.nodeOf(id) == task.node; }) &&
         core.store.wanted().ofBlob(task.blob).size() == 1;
}

/// All of it is in the cache and on the disk, nobody is at it, and nobody else needs it.
bool Transfers::State::spareInCache(const store::BlobTask& task) {
  auto root = core.folder->root();
  const auto row = core.store.cache().get(task.blob);
  if (!root || !row || !row->complete || core.store.disk().anyWithBlob(task.blob)) return false;
  if (const auto known = blobs.find(task.blob); known != blobs.end() && !idle(known->second)) return false;
  if (!neededHereOnly(task)) return false;
  const auto file = root->stat(cachePath(task.blob));
  return file.ok() && file->sizeBytes == task.sizeBytes;
}

/// Somebody has it open: the cached file stays as it is for him if there is space for a second one. Else he reads from what
/// is the user's file then, for as long as that has the bytes.
bool Transfers::State::copyRather(const BlobState& blob) {
  auto root = core.folder->root();
  auto space = root ? root->space() : Result<Directory::Space>(Error{Code::Suspended, ""});
  return blob.heldOpen() && space.ok() && space->availableBytes / 2 > blob.sizeBytes;
}

/// Contents that are in the cache, or that another path here has, are not fetched; empty ones are made. False: it is not here.
bool Transfers::State::startLocal(WantedPump& pump, const store::BlobTask& task) {
  std::optional<Source> source;
  if (task.sizeBytes > 0) {
    const bool elsewhere = core.store.disk().anyWithBlob(task.blob);
    if (!elsewhere && core.store.cache().totals().count == 0) return false;
    if (!elsewhere && spareInCache(task)) {
      inFlight.insert({task.node, task.blob});
      pump.moves.push_back(task);
      if (pump.moves.size() >= kMoveTogether) flushMoves(pump);
      return true;
    }
    const auto row = elsewhere ? std::nullopt : core.store.cache().get(task.blob);
    if (!elsewhere && (!row || !row->complete)) return false;
    source = sourceOf(task.blob, {});
    if (!source) return false;
  }
  if (source && source->cached && (!source->cached->complete() || source->cached->gets > 0)) return false;
  const bool spare = source && source->cached &&
                     (source->cached->heldOpen() ? !copyRather(*source->cached) : source->cached.use_count() <= 2);
  if (spare && neededHereOnly(task)) {
    // Nobody else needs the cached file: it becomes the Real one.
    inFlight.insert({task.node, task.blob});
    ++largeFetches;
    save(source->cached, [this, alive = alive, node = task.node, state = source->cached](Result<void> saved) {
      if (*alive) saved.ok() ? placeLarge(node, state) : placeFailed(node, state, saved.error());
    });
    return true;
  }
  if (!core.folder->root()) return false;  // Suspended a moment ago, by what was begun before.
  inFlight.insert({task.node, task.blob});
  copyFrom(std::move(source), task);
  return true;
}

void Transfers::State::copyFrom(std::optional<Source> source, const store::BlobTask& task) {
  const std::string temp = std::string(kTempFolder) + "/l" + std::to_string(++batchCounter);
  core.env.scheduler.onPool(false, [this, alive = alive, root = core.folder->root(), source, task, temp,
                                    &scheduler = core.env.scheduler] {
    auto outcome = std::make_shared<Result<void>>([&]() -> Result<void> {
      REALIZE_ASSIGN(auto file, root->open(temp, OpenMode::CreateNew, 0600));
      if (source) {
        std::shared_ptr<DiskFile> from = source->file;
        if (!from) {
          REALIZE_ASSIGN(from, openUnchanged(*root, source->path, *source->row));
        }
        REALIZE_TRY(file->cloneRange(*from, 0, task.sizeBytes, 0));
        // What is put in place was verified, also when it came from this disk.
        REALIZE_ASSIGN(const auto content, hashOpenFile(*file, task.sizeBytes));
        if (content.blob != task.blob) return Error{Code::Corrupt, source->path + ": is not what it was hashed as"};
      }
      return file->sync(true);
    }());
    scheduler.onCore([this, alive, task, temp, from = source ? source->cached : nullptr, outcome] {
      if (*alive) copied(task, temp, from, *outcome);
    });
  });
}

void Transfers::State::copied(const store::BlobTask& task, const std::string& tempPath, const std::shared_ptr<BlobState>& from,
                              Result<void> outcome) {
  inFlight.erase({task.node, task.blob});
  lookAgainAtWanted();
  auto settled = outcome.ok() ? noteAndSettle(task, tempPath) : Result<bool>(outcome.error());
  if (!settled.ok()) core.transact([&] { settleFailed(task.node, task.blob, settled.error()); });
  else if (from) from->copied = true;
  // In place already, or never made; or it tells the next start that it was not placed.
  auto root = core.folder->root();
  if (root && (settled.ok() || settled.code() != Code::Suspended)) (void)root->unlink(tempPath).ok();
  core.exchange->changed(true);
  core.transfers->wakeWanted();
}

/// Of a copy: Folder::notePlacing, and settle() in a transaction.
Result<bool> Transfers::State::noteAndSettle(const store::BlobTask& task, const std::string& tempPath) {
  auto root = core.folder->root();
  if (!root) return Error{Code::Suspended, core.suspendedWhy};
  const auto head = headToPlace(task.node, task.blob);
  REALIZE_ASSIGN(const auto file, root->stat(tempPath));
  if (head && !core.folder->notePlacing({{head->first, head->second, file}})) return Error{Code::Suspended, core.suspendedWhy};
  Result<bool> settled = false;
  const bool done = core.transact([&] {
    settled = settle(task.node, task.blob, task.sizeBytes, tempPath);
    if (head) core.folder->placingDone();
  });
  if (!done) return Error{Code::Suspended, core.suspendedWhy};
  // Before the file goes that tells that it was not placed.
  if ((!settled.ok() || !*settled) && !core.makeDurable()) return Error{Code::Suspended, core.suspendedWhy};
  return settled;
}

void Transfers::State::flushMoves(WantedPump& pump) {
  if (pump.moves.empty()) return;
  post([this, tasks = std::exchange(pump.moves, {})] { moveFromCache(tasks); });
}

/// The names of what was put in place are on the disk, and those of the folders above that were made lately.
bool Transfers::State::syncNames(Directory& root, const std::vector<NodeId>& nodes) {
  std::set<NodeId> folders;
  for (const NodeId node : nodes) {
    const auto* row = core.store.disk().peek(node);
    while (row && folders.insert(row->parentNode).second && row->parentNode != kRootNode && core.store.unsynced().has(row->parentNode))
      row = core.store.disk().peek(row->parentNode);
    if (!row) return false;
  }
  if (folders.size() > kSyncOneByOne) return core.syncAll->sync(root, core.syncAll->failures()).ok();  // Names: no bytes went with another.
  return std::all_of(folders.begin(), folders.end(), [&](NodeId node) {
    const auto path = core.folder->diskPath(node);
    return path && root.syncDirectory(*path).ok();
  });
}

/// Who reads it goes on with that file, wherever it goes; and none of us may write to what the user gets: it would be taken
/// for his writing. Errors: as of openCacheFile(); Busy.
Result<void> Transfers::State::openToMove(BlobState& blob) {
  if (!blob.layout) return {};  // Nobody read or wrote any of it.
  REALIZE_TRY(openCacheFile(blob));
  if (!blob.complete()) return kNotWhatItWas;
  if (blob.saving || blob.unsavedPieces || blob.file.use_count() > 1) return Error{Code::Busy, "the cached file is in use at this moment"};
  REALIZE_ASSIGN(blob.file, core.folder->root()->open(cachePath(blob.blob), OpenMode::Read));
  return {};
}

void Transfers::State::moveFromCache(const std::vector<store::BlobTask>& tasks) {
  struct Move {
    store::BlobTask task;
    Result<FileStat> file = Error{Code::Suspended, "the folder is not there"};
    Result<bool> settled = Error{Code::Suspended, "the folder is not there"};
    const BlobState* opened = nullptr;
  };
  std::vector<Move> moves;
  std::vector<Folder::Placing> placing;
  auto root = core.folder->root();
  // They may be the only copies, and must not be asked for in vain after a power cut.
  const auto named = root ? root->syncDirectory(kCacheFolder) : Result<void>(Error{Code::Suspended, core.suspendedWhy});
  for (const auto& task : tasks) inFlight.erase({task.node, task.blob});
  for (const auto& task : tasks) {
    auto& move = moves.emplace_back(Move{.task = task});
    Result<void> ready = core.folder->stillAside(cachePath(task.blob)) ? kStillAside : named;
    if (const auto known = blobs.find(task.blob); ready.ok() && known != blobs.end()) {
      ready = openToMove(*known->second);
      if (ready.ok()) move.opened = known->second.get();
    }
    move.file = ready.ok() ? root->stat(cachePath(task.blob)) : Result<FileStat>(ready.error());
    if (move.file.ok() && move.file->sizeBytes != task.sizeBytes) move.file = kNotWhatItWas;
    if (!move.file.ok()) move.settled = move.file.error();
    else if (auto head = headToPlace(task.node, task.blob)) placing.push_back({head->first, head->second, *move.file, true, task.node});
  }
  const bool noted = placing.empty() || (core.folder->notePlacing(placing) && core.makeDurable());
  const bool done = noted && core.transact([&] {
    std::vector<NodeId> placed;
    for (auto& move : moves) {
      if (!move.file.ok()) continue;
      move.settled = settle(move.task.node, move.task.blob, move.task.sizeBytes, cachePath(move.task.blob), &*move.file);
      if (move.settled.ok() && *move.settled) placed.push_back(move.task.node);
    }
    // Before the rows say that they are no longer in the cache: a power cut that takes the names back leaves them there for
    // nobody.
    if (!placed.empty() && syncNames(*root, placed))
      for (const NodeId node : placed) core.folder->noteOnDisk(node);
    for (const auto& move : moves) {
      if (!move.file.ok()) continue;
      if (core.folder->stillAside(cachePath(move.task.blob))) continue;
      // Also where it went to the user after all, who had written into it for the moment that it was his. Where the disk does not
      // say, it is there still, unless it was placed.
      const auto left = root->stat(cachePath(move.task.blob));
      if (left.ok() || (left.code() != Code::NotFound && !(move.settled.ok() && *move.settled))) continue;
      core.store.cache().erase(move.task.blob);
      if (auto known = blobs.find(move.task.blob); known != blobs.end()) known->second->gone = known->second->real = true;
      forget(move.task.blob);
    }
    if (!placing.empty()) core.folder->placingDone();
  });
  const bool all = done && std::all_of(moves.begin(), moves.end(), [](const Move& move) { return move.settled.ok() && *move.settled; });
  if (done && !all) core.makeDurable();  // Before a file may go that tells that it was not placed.
  if (!all) lookAgainAtWanted();
  for (const auto& move : moves) {
    // It stayed: openToMove(). One that was refused may have to be synced still, and needs its file for that.
    if (auto known = blobs.find(move.task.blob); known != blobs.end() && known->second.get() == move.opened) known->second->file = nullptr;
    if (!done) settleFailed(move.task.node, move.task.blob, {Code::Suspended, core.suspendedWhy});
    else if (!move.settled.ok()) settleFailed(move.task.node, move.task.blob, move.settled.error());
  }
  core.exchange->bytesCame();
  pumpSoon();
}

}  // namespace realize::peer
