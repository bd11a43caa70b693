#include <algorithm>

#include "librealize/base/fault.h"
#include "librealize/base/path.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {

constexpr size_t kBatchFiles = kMaxWantsPerGet;
constexpr uint64_t kBatchBytes = 4 << 20;
constexpr uint32_t kMaxSmallBatches = 4;
constexpr uint32_t kMaxLargeFetches = 3;
constexpr size_t kLookAhead = 4096;
constexpr size_t kMaxWishes = 1 << 16;

}  // namespace

/// Small files that travel together: asked for at once, synced at once, put in place in one transaction.
struct WantedItem {
  NodeId node = 0;
  EntryId entry;
  BlobId blob;
  uint64_t sizeBytes = 0;
  std::optional<std::pair<uint32_t, int64_t>> attributes;  ///< mode, mtimeNs
  std::string tempPath;
  Result<FileStat> written = Error{Code::Unreachable, "not sent"};  ///< what it is now at tempPath
};
struct WantedBatch {
  std::vector<WantedItem> items;
  std::mutex mutex;  // guards `written` while pool threads are at it
};

namespace {

Result<FileStat> writeWanted(Directory& root, const WantedItem& item, std::span<const std::byte> bytes) {
  const auto [mode, mtimeNs] = item.attributes.value_or(std::pair<uint32_t, int64_t>(0600, 0));
  REALIZE_ASSIGN(auto file, root.open(item.tempPath, OpenMode::CreateNew, mode & 0777));
  if (bytes.size() >= kShortestHoleBytes) REALIZE_TRY(file->truncate(bytes.size()));  // For a hole at the end.
  REALIZE_TRY(writeSparse(*file, 0, bytes));
  REALIZE_TRY(file->setTimes(mtimeNs));
  auto stat = file->stat();
  if (!stat.ok() || stat->mode == (mode & 07777)) return stat;
  REALIZE_TRY(file->setMode(mode));  // The process's mask was in the way.
  return file->stat();
}

}  // namespace

void Transfers::wakeWanted() {
  s_->lookAgainAtWanted();
  s_->pumpSoon();
}

void Transfers::State::retryLater(int64_t delayMs) {
  if (retryScheduled) return;
  retryScheduled = true;
  core.env.scheduler.onCoreAfter(delayMs, [this, alive = alive] {
    if (!*alive) return;
    retryScheduled = false;
    outOfSpace = false;
    wantedRefused.clear();
    postponed.clear();
    lookAgainAtWanted();
    pumpWanted();
  });
}

/// What one look at the queue gathers.
struct WantedPump {
  std::shared_ptr<WantedBatch> batch = std::make_shared<WantedBatch>();
  uint64_t batchBytes = 0;
  bool waiting = false;           ///< some are refused by all who are connected
  std::vector<NodeId> refusedByAll;
};

void Transfers::wanted(const Wish& wish) {
  if (s_->wishes.size() < kMaxWishes) s_->wishes.push_back(wish);
  else s_->lookAgainAtWanted();
  s_->pumpSoon();
}

void Transfers::State::pumpSoon() {
  if (wantedAwake || core.stopping) return;
  wantedAwake = true;
  post([this] {
    wantedAwake = false;
    pumpWanted();
  });
}

bool Transfers::State::busy() const { return smallBatches >= kMaxSmallBatches && largeFetches >= kMaxLargeFetches; }

/// False: it cannot be begun now, and is looked at again.
bool Transfers::State::begin(WantedPump& pump, const Wish& wish) {
  const auto& task = wish.task;
  if (inFlight.contains({task.node, task.blob}) || postponed.contains({task.node, task.blob})) return true;
  if (startLocal(task.node, task.blob, task.sizeBytes)) return true;
  if (peers.empty()) return false;
  if (!wantedRefused.empty()) {
    auto refused = wantedRefused.find(task.blob);
    if (refused != wantedRefused.end() && refused->second.size() >= peers.size()) {
      pump.waiting = true;
      pump.refusedByAll.push_back(task.node);
      return false;
    }
  }
  if (task.sizeBytes > kMaxWholeBytes) {
    if (largeFetches >= kMaxLargeFetches) return false;
    startLarge(task.node, task.blob, task.sizeBytes);
    return true;
  }
  if (smallBatches >= kMaxSmallBatches) return false;
  WantedItem item;
  item.node = task.node;
  item.entry = wish.entry;
  item.blob = task.blob;
  item.sizeBytes = task.sizeBytes;
  item.attributes = wish.modeAndMtimeNs;
  inFlight.insert({task.node, task.blob});  // Now: going round, it is met again before its batch leaves.
  pump.batch->items.push_back(std::move(item));
  pump.batchBytes += task.sizeBytes;
  if (pump.batch->items.size() >= kBatchFiles || pump.batchBytes >= kBatchBytes) flushSmall(pump);
  return true;
}

void Transfers::State::flushSmall(WantedPump& pump) {
  if (pump.batch->items.empty()) return;
  startSmall(pump.batch);
  pump.batch = std::make_shared<WantedBatch>();
  pump.batchBytes = 0;
}

/// Looks at some of what is wanted, from where it ended the last time: what nobody has must not keep back what is behind
/// it. Returns at how many.
size_t Transfers::State::goRound(WantedPump& pump) {
  bool wrapped = false;
  size_t looked = 0;
  while (!busy() && looked < kLookAhead + inFlight.size()) {
    const auto tasks = core.store.wanted().next(wantedAfter, 512);
    if (tasks.empty()) {
      const bool all = wrapped || wantedAfter == store::BlobTask();
      if (roundComplete) unseenWanted = false;
      roundComplete = true;
      wrapped = true;
      wantedAfter = {};
      if (all || !unseenWanted) break;
      continue;
    }
    for (const auto& task : tasks) {
      if (busy()) break;
      ++looked;
      wantedAfter = task;
      if (!begin(pump, Wish{task})) roundComplete = false;
    }
  }
  return looked;
}

/// Begins as much of what is wanted as may be under way. `again`: the round goes on, which ends when all have been looked at.
void Transfers::State::pumpWanted(bool again) {
  if (core.stopping || core.suspended || outOfSpace || !core.folder->root()) return;
  if (!again) wantedLooked = 0;
  WantedPump pump;
  while (!wishes.empty() && smallBatches < kMaxSmallBatches) {
    const Wish wish = wishes.front();
    wishes.pop_front();
    if (!begin(pump, wish)) lookAgainAtWanted();
  }
  const size_t looked = wishes.empty() && unseenWanted ? goRound(pump) : 0;
  flushSmall(pump);
  if (pump.waiting) retryLater(2000);
  for (auto node : pump.refusedByAll) {
    post([this, node] {
      auto id = core.store.idOf(node);
      if (id && !peers.empty()) core.folder->nobodyHas(*id, [this](const BlobId& blob) {
        auto refused = wantedRefused.find(blob);
        return refused != wantedRefused.end() && refused->second.size() >= peers.size();
      });
    });
  }
  wantedLooked += looked;
  if (busy() || wantedGoesOn || looked == 0 || wantedLooked >= core.store.wanted().totals().count + inFlight.size()) return;
  wantedGoesOn = true;
  post([this] {
    wantedGoesOn = false;
    pumpWanted(true);
  });
}

void Transfers::State::startSmall(std::shared_ptr<WantedBatch> batch) {
  auto root = core.folder->root();
  const uint64_t number = ++batchCounter;
  GetRequest request;
  for (size_t i = 0; i < batch->items.size(); ++i) {
    auto& item = batch->items[i];
    item.tempPath = std::string(kTempFolder) + "/w" + std::to_string(number) + "-" + std::to_string(i);
    if (auto id = item.attributes ? std::nullopt : core.store.idOf(item.node)) {
      item.entry = *id;
      for (const auto& head : core.tree.shownHeads(*id)) {
        if (head.version.blob != item.blob) continue;
        item.attributes = {head.version.mode, head.version.mtimeNs};
        break;
      }
    }
    request.wants.push_back({item.blob, item.sizeBytes, {}});
  }
  // The least loaded of those that some of this batch may be had from; what it lacks goes to another the next time.
  Peer* peer = nullptr;
  for (auto& [key, candidate] : peers) {
    const bool refused = std::all_of(batch->items.begin(), batch->items.end(), [&, &key = key](const auto& item) {
      auto it = wantedRefused.find(item.blob);
      return it != wantedRefused.end() && it->second.contains(key);
    });
    if (!refused && (!peer || candidate.outstandingBytes < peer->outstandingBytes)) peer = &candidate;
  }
  if (!peer || !root) {
    for (const auto& item : batch->items) inFlight.erase({item.node, item.blob});
    lookAgainAtWanted();
    return retryLater(2000);
  }
  ++smallBatches;
  request.hops = 2;
  const PeerKey key = peer->remote->key();
  auto onChunks = [batch, root](ChunkArrivals chunks) {
    std::vector<WholeArrival> arrivals;
    arrivals.reserve(chunks.size());
    std::vector<WantedItem*> items;
    for (const auto& chunk : chunks) {
      if (chunk.item >= batch->items.size()) continue;
      auto& item = batch->items[chunk.item];
      arrivals.push_back({&item.blob, chunk.chunk == 0 ? item.sizeBytes : UINT64_MAX, chunk.bytes});
      items.push_back(&item);
    }
    const auto right = verifyWhole(arrivals);
    for (size_t i = 0; i < items.size(); ++i) {
      Result<FileStat> outcome = Error{Code::Corrupt, "a peer sent other bytes than asked"};
      if (right[i]) outcome = writeWanted(*root, *items[i], arrivals[i].bytes);
      std::lock_guard held(batch->mutex);
      items[i]->written = std::move(outcome);
    }
  };
  peer->remote->get(request, std::move(onChunks),
                    [this, alive = alive, batch, key](Result<std::vector<WantStatus>> statuses) {
    if (*alive) finishSmall(batch, key, statuses.ok() ? *statuses : std::vector<WantStatus>());
  });
}

void Transfers::State::finishSmall(std::shared_ptr<WantedBatch> batch, const PeerKey& from,
                                   std::vector<WantStatus> statuses) {
  bool any = false;
  bool anyProblem = false;
  auto counted = store::catching([&] { anyProblem = core.store.problems().count() > 0; });
  (void)counted;  // Whatever the database says to that, the batch goes on.
  for (size_t i = 0; i < batch->items.size(); ++i) {
    auto& item = batch->items[i];
    any = any || item.written.ok();
    if (item.written.ok() && anyProblem) core.transact([&] { sentRight(from, item.blob); });
    if (item.written.ok()) continue;
    if (item.written.code() == Code::Corrupt) corrupt(from, item.blob);
    // A lost connection is no refusal; a peer that has it not, or sends it wrong, is not asked again for a while.
    if (!statuses.empty() || item.written.code() == Code::Corrupt) wantedRefused[item.blob].insert(from);
  }
  auto root = core.folder->root();
  if (!any || !root) return placeSmall(batch, Result<void>());
  core.env.scheduler.onPool(false, [this, alive = alive, batch, root, &scheduler = core.env.scheduler] {
    auto synced = std::make_shared<Result<void>>(faulty(Fault::SkipFileSync) ? Result<void>() : root->syncAll());
    scheduler.onCore([this, alive, batch, synced] {
      if (*alive) placeSmall(batch, *synced);
    });
  });
}

void Transfers::State::placeSmall(std::shared_ptr<WantedBatch> batch, Result<void> synced) {
  --smallBatches;
  auto root = core.folder->root();
  for (auto& item : batch->items) inFlight.erase({item.node, item.blob});
  std::vector<Folder::Placing> placing;
  for (auto& item : batch->items) {
    if (!item.written.ok() || !synced.ok()) continue;
    if (const Plan* plan = planOf(item)) placing.push_back({plan->entry, plan->head, *item.written, true, item.node});
    else if (auto head = headToPlace(item.node, item.blob)) placing.push_back({head->first, head->second, *item.written, true});
  }
  // What is not needed any more, or was never made. It goes when all is said: what is there then is known not to be placed.
  std::vector<std::string> left;
  bool notedLeft = false;
  PlacingFolders folders;
  const bool done = (placing.empty() || core.folder->notePlacing(placing)) && core.transact([&] {
    for (auto& item : batch->items) {
      if (item.written.ok() && synced.ok()) {
        if (settleNew(item, folders)) continue;
        folders = {};
        auto settled = settle(item.node, item.blob, item.sizeBytes, item.tempPath, &*item.written);
        if (settled.ok() && *settled) continue;
        if (!settled.ok()) settleFailed(item.node, item.blob, settled.error());
      } else if (!item.written.ok() && item.written.code() != Code::Unreachable && item.written.code() != Code::Corrupt) {
        settleFailed(item.node, item.blob, item.written.error());
      } else if (!synced.ok()) {
        settleFailed(item.node, item.blob, synced.error());
      }
      lookAgainAtWanted();
      left.push_back(item.tempPath);
      notedLeft = notedLeft || item.written.ok();
    }
    if (!placing.empty()) core.folder->placingDone();
  });
  if (done && notedLeft) core.store.makeDurable();
  for (const auto& temp : left)
    if (root && done) (void)root->unlink(temp).ok();
  // What is still missing is told when it has rested: each telling makes the database durable first.
  core.exchange->changed(core.store.wanted().totals().count == 0);
  pumpWanted();
}

void Transfers::plan(Plan plan) {
  if (s_->plans.size() >= kMaxWishes) return;
  const EntryId entry = plan.entry;
  s_->plans[entry] = std::move(plan);
}

void Transfers::touched(const EntryId& entry) {
  if (!s_->plans.empty()) s_->plans.erase(entry);
}

void Transfers::touched(const std::vector<EntryId>& entries) {
  if (s_->plans.empty()) return;
  for (const auto& entry : entries) s_->plans.erase(entry);
}

const Plan* Transfers::State::planOf(const WantedItem& item) {
  auto plan = plans.find(item.entry);
  if (plan == plans.end() || plan->second.blob != item.blob || core.store.idOf(item.node) != item.entry) return nullptr;
  return &plan->second;
}

/// As settle(), where all is as it was planned.
bool Transfers::State::settleNew(const WantedItem& item, PlacingFolders& folders) {
  const Plan* plan = planOf(item);
  if (!plan || !core.folder->placeNew(*plan, item.node, std::string(baseName(item.tempPath)), *item.written, folders))
    return false;
  const std::string path = joinPath(folders.shown, plan->name);
  core.store.wanted().erase({item.node, item.blob, item.sizeBytes});
  core.emit(Event{.whenNs = 0, .type = "real", .arena = "", .path = path, .peer = "", .detail = ""});
  if (core.store.problems().count()) {
    core.store.problems().eraseKind("no-space");
    core.store.problems().erase(path, "not-placed");
  }
  plans.erase(item.entry);
  return true;
}

std::optional<std::pair<EntryId, Dot>> Transfers::State::headToPlace(NodeId node, const BlobId& blob) {
  auto id = core.store.idOf(node);
  const logic::Record* record = id ? core.tree.peek(*id) : nullptr;
  if (!record || !record->shown) return std::nullopt;
  const auto shown = core.shownVersion(*record);
  if (!shown || shown->second.blob != blob) return std::nullopt;
  for (const auto& head : core.tree.shownHeads(*id))
    if (head.version.blob == blob) return {{*id, head.dot}};
  return std::nullopt;
}

/// The name of what was put in place is on the disk, and those of the folders above that were made lately.
bool Transfers::State::syncName(Directory& root, NodeId node) {
  while (true) {
    const auto* row = core.store.disk().peek(node);
    if (!row) return false;
    node = row->parentNode;
    const auto folder = core.folder->diskPath(node);
    if (!folder || !root.syncDirectory(*folder).ok()) return false;
    if (node == kRootNode || !core.store.unsynced().has(node)) return true;
  }
}

Result<bool> Transfers::State::noteAndSettle(NodeId node, const BlobId& blob, uint64_t sizeBytes, const std::string& tempPath) {
  auto root = core.folder->root();
  if (!root) return Error{Code::Suspended, core.suspendedWhy};
  const auto head = headToPlace(node, blob);
  REALIZE_ASSIGN(const auto file, root->stat(tempPath));
  // What leaves the cache may be the only copy, and must not be asked for in vain after a power cut. Others can be copied again.
  const bool only = tempPath == cachePath(blob);
  if (head && only) REALIZE_TRY(root->syncDirectory(kCacheFolder));
  if (head && !core.folder->notePlacing({{head->first, head->second, file, only}})) return Error{Code::Suspended, core.suspendedWhy};
  if (head && only) core.store.makeDurable();
  Result<bool> settled = false;
  const bool done = core.transact([&] {
    settled = settle(node, blob, sizeBytes, tempPath);
    // Before the rows say that it is no longer in the cache: a power cut that takes the name back leaves it there for nobody.
    if (only && settled.ok() && *settled && syncName(*root, node)) core.folder->noteOnDisk(node);
    if (head) core.folder->placingDone();
  });
  if (!done) return Error{Code::Suspended, core.suspendedWhy};
  if (!settled.ok() || !*settled) core.store.makeDurable();  // Before the file goes that tells that it was not placed.
  return settled;
}

Result<bool> Transfers::State::settle(NodeId node, const BlobId& blob, uint64_t sizeBytes, const std::string& tempPath,
                                       const FileStat* known) {
  auto id = core.store.idOf(node);
  const logic::Record* record = id ? core.tree.peek(*id) : nullptr;
  bool moved = false;
  if (!record || !record->shown) return moved;  // Removed meanwhile; Marks has dropped the wish or will.
  const auto shown = core.shownVersion(*record);
  const auto heads = core.tree.shownHeads(*id);
  for (const auto& head : heads) {
    if (head.version.blob != blob) continue;
    if (shown && shown->second.blob == blob) {
      REALIZE_TRY(core.folder->place(*id, head.dot, tempPath, known));
      moved = true;
      core.store.wanted().erase({node, blob, sizeBytes});
      auto path = core.shownPath(*id);
      core.emit(Event{.whenNs = 0, .type = "real", .arena = "", .path = path.ok() ? *path : "", .peer = "", .detail = ""});
      if (core.store.problems().count()) {
        core.store.problems().eraseKind("no-space");
        if (path.ok()) core.store.problems().erase(*path, "not-placed");
      }
    } else if (tempPath != cachePath(blob)) {
      auto root = core.folder->root();
      if (!root) return Error{Code::Suspended, core.suspendedWhy};
      REALIZE_TRY(root->rename(tempPath, cachePath(blob), RenameKind::Replace));
      moved = true;
      core.transfers->adopt({{blob, sizeBytes}});
      core.transfers->pin(blob, {*id});
    } else {
      core.transfers->pin(blob, {*id});
    }
    break;
  }
  core.marks->entryChanged(*id);
  return moved;
}

void Transfers::State::settleFailed(NodeId node, const BlobId& blob, const Error& error) {
  postponed.insert({node, blob});
  if (error.code == Code::NoSpace) {
    outOfSpace = true;
    core.transfers->dropUnlinked();
    problem("", "no-space", "no space left on the disk of the arena's folder: files marked real are not complete. Free "
                            "some space; it goes on by itself");
    return retryLater(3000);
  }
  if (error.code != Code::Busy && error.code != Code::NotFound && error.code != Code::Suspended) {
    auto id = core.store.idOf(node);
    auto path = id ? core.shownPath(*id) : Result<std::string>(Error{});
    problem(path.ok() ? *path : "", "not-placed", error.message);
  }
  retryLater(1000);
}

/// Somebody has it open: the cached file stays as it is for him if there is space for a second one. Else he reads from what
/// is the user's file then, for as long as that has the bytes.
bool Transfers::State::copyRather(const BlobState& blob) {
  auto root = core.folder->root();
  auto space = root ? root->space() : Result<Directory::Space>(Error{Code::Suspended, ""});
  return blob.heldOpen() && space.ok() && space->availableBytes / 2 > blob.sizeBytes;
}

/// Contents that another path here has already are copied, not fetched; empty ones are made.
bool Transfers::State::startLocal(NodeId node, const BlobId& blob, uint64_t sizeBytes) {
  std::optional<Source> source;
  if (sizeBytes > 0) {
    if (!core.store.disk().anyWithBlob(blob)) {
      if (core.store.cache().totals().count == 0) return false;
      auto row = core.store.cache().get(blob);
      if (!row || !row->complete) return false;
    }
    source = sourceOf(blob, {});
    if (!source) return false;
  }
  if (source && source->cached && (!source->cached->complete() || source->cached->gets > 0)) return false;
  const bool spare = source && source->cached &&
                     (source->cached->heldOpen() ? !copyRather(*source->cached) : source->cached.use_count() <= 2);
  const auto pins = spare ? pinners(blob) : std::vector<EntryId>();
  const bool forOthers = std::any_of(pins.begin(), pins.end(), [&](const auto& id) { return core.store.nodeOf(id) != node; });
  if (spare && !forOthers && core.store.wanted().ofBlob(blob).size() == 1) {
    // Nobody else needs the cached file: it becomes the Real one.
    inFlight.insert({node, blob});
    ++largeFetches;
    save(source->cached, [this, alive = alive, node, state = source->cached](Result<void> saved) {
      if (*alive) saved.ok() ? placeLarge(node, state) : placeFailed(node, state, saved.error());
    });
    return true;
  }
  auto root = core.folder->root();
  if (!root) return false;  // Suspended a moment ago, by what was begun before.
  inFlight.insert({node, blob});
  const std::string temp = std::string(kTempFolder) + "/l" + std::to_string(++batchCounter);
  core.env.scheduler.onPool(false, [this, alive = alive, root, source, node, blob, sizeBytes, temp,
                                    &scheduler = core.env.scheduler] {
    auto outcome = std::make_shared<Result<void>>([&]() -> Result<void> {
      REALIZE_ASSIGN(auto file, root->open(temp, OpenMode::CreateNew, 0600));
      if (source) {
        std::shared_ptr<DiskFile> from = source->cached ? source->cached->file : nullptr;
        if (!from) {
          REALIZE_ASSIGN(from, openUnchanged(*root, source->path, *source->row));
        }
        REALIZE_TRY(file->cloneRange(*from, 0, sizeBytes, 0));
        // What is put in place was verified, also when it came from this disk.
        REALIZE_ASSIGN(const auto content, hashOpenFile(*file, sizeBytes));
        if (content.blob != blob) return Error{Code::Corrupt, source->path + ": is not what it was hashed as"};
      }
      return file->sync(true);
    }());
    scheduler.onCore([this, alive, root, source, node, blob, sizeBytes, temp, outcome] {
      if (!*alive) return;
      inFlight.erase({node, blob});
      lookAgainAtWanted();
      auto settled = outcome->ok() ? noteAndSettle(node, blob, sizeBytes, temp) : Result<bool>(outcome->error());
      if (!settled.ok()) core.transact([&] { settleFailed(node, blob, settled.error()); });
      else if (source && source->cached) source->cached->copied = true;
      // In place already, or never made; or it tells the next start that it was not placed.
      if (settled.ok() || settled.code() != Code::Suspended) (void)root->unlink(temp).ok();
      core.exchange->changed(true);
      core.transfers->wakeWanted();
    });
  });
  return true;
}

void Transfers::State::startLarge(NodeId node, const BlobId& blob, uint64_t sizeBytes) {
  auto state = stateOf(blob, sizeBytes);
  inFlight.insert({node, blob});
  ++largeFetches;
  core.transfers->fetchWhole(blob, sizeBytes, nullptr, [this, alive = alive, node, state](Result<void> fetched) {
    if (!*alive) return;
    if (fetched.ok() && copyRather(*state)) {
      --largeFetches;
      inFlight.erase({node, state->blob});
      return core.transfers->wakeWanted();
    }
    if (fetched.ok()) return placeLarge(node, state);
    if (fetched.code() == Code::Unreachable) {
      // Not postponed: who meets it next sees that all were asked, and nobodyHas() is told.
      --largeFetches;
      inFlight.erase({node, state->blob});
      for (auto& [key, peer] : peers) wantedRefused[state->blob].insert(key);
      lookAgainAtWanted();
      if (peers.empty()) retryLater(1000);
    } else {
      placeFailed(node, state, fetched.error());
    }
    core.transfers->wakeWanted();
  }, FetchFor::Real);
}

void Transfers::State::placeFailed(NodeId node, const std::shared_ptr<BlobState>& blob, const Error& error) {
  --largeFetches;
  inFlight.erase({node, blob->blob});
  lookAgainAtWanted();
  settleFailed(node, blob->blob, error);
}

void Transfers::State::placeLarge(NodeId node, const std::shared_ptr<BlobState>& blob) {
  // Complete and synced (save). From here on it is a file in the user's folder; new readers start anew.
  const auto settled = noteAndSettle(node, blob->blob, blob->sizeBytes, cachePath(blob->blob));
  core.transact([&] {
    auto root = core.folder->root();
    // Also where it went to the user after all, who had written into it for the moment that it was his.
    if (root && !root->stat(cachePath(blob->blob)).ok()) {
      core.store.cache().erase(blob->blob);
      blob->gone = blob->real = true;
      forget(blob->blob);
    }
  });
  --largeFetches;
  inFlight.erase({node, blob->blob});
  lookAgainAtWanted();
  if (!settled.ok()) settleFailed(node, blob->blob, settled.error());
  core.exchange->changed(true);
  core.transfers->wakeWanted();
}

}  // namespace realize::peer
