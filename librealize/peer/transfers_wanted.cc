#include <algorithm>

#include "librealize/base/fault.h"
#include "librealize/base/path.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers_state.h"
#include "librealize/peer/wanted_batch.h"

namespace realize::peer {

namespace {

constexpr size_t kBatchFiles = kMaxWantsPerGet;
constexpr uint64_t kBatchBytes = 4 << 20;
constexpr uint32_t kMaxSmallBatches = 32;
constexpr uint32_t kMaxLargeFetches = 3;
constexpr size_t kLookAhead = 4096;
constexpr size_t kMaxWishes = 1 << 16;
constexpr int64_t kOtherDiskMs = 10'000;
constexpr char kOtherDisk[] = "it is on a disk mounted within the arena's folder, where what other peers change cannot be put: "
                              "mount that disk elsewhere, as an arena of its own";

}  // namespace

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
  if (startLocal(pump, task)) return true;
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
  if (!pump.batch) pump.batch = std::make_shared<WantedBatch>();
  pump.batch->items.push_back(std::move(item));
  pump.batchBytes += task.sizeBytes;
  if (pump.batch->items.size() >= kBatchFiles || pump.batchBytes >= kBatchBytes) flushSmall(pump);
  return true;
}

void Transfers::State::flushSmall(WantedPump& pump) {
  if (!pump.batch) return;
  startSmall(pump.batch);
  pump.batch = nullptr;
  pump.batchBytes = 0;
}

/// Looks at some of what is wanted, from where it ended the last time: what nobody has must not keep back what is behind
/// it. Returns at how many.
size_t Transfers::State::goRound(WantedPump& pump) {
  bool wrapped = false;
  size_t looked = 0;
  const size_t most = kLookAhead + inFlight.size();
  while (!busy() && looked < most) {
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
  size_t looked = 0;
  try {
    while (!wishes.empty() && smallBatches < kMaxSmallBatches) {
      const Wish wish = wishes.front();
      wishes.pop_front();
      if (!begin(pump, wish)) lookAgainAtWanted();
    }
    looked = wishes.empty() && unseenWanted ? goRound(pump) : 0;
    flushSmall(pump);
    flushMoves(pump);
  } catch (const store::DatabaseError&) {  // What was gathered is begun anew once the database works.
    for (const auto& task : pump.moves) inFlight.erase({task.node, task.blob});
    if (pump.batch)
      for (const auto& item : pump.batch->items) inFlight.erase({item.node, item.blob});
    throw;
  }
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
  batch->failures = core.syncAll->failures();
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
  for (size_t i = 0; i < batch->items.size(); ++i) {
    auto& item = batch->items[i];
    any = any || item.written.ok();
    if (item.written.ok()) {
      sentRight(from, item.blob);
      continue;
    }
    if (item.written.code() == Code::Corrupt) corrupt(from, item.blob);
    // A lost connection is no refusal; a peer that has it not, or sends it wrong, is not asked again for a while.
    if (!statuses.empty() || item.written.code() == Code::Corrupt) wantedRefused[item.blob].insert(from);
  }
  if (!any) return placeSmall({batch});
  written.push_back(std::move(batch));
  syncWritten();
}

/// One sync is for all that was written when it begins.
void Transfers::State::syncWritten() {
  if (syncing || written.empty()) return;
  auto root = core.folder->root();
  const auto batches = std::exchange(written, {});
  if (!root) return placeSmall(batches);  // The folder went meanwhile.
  syncing = true;
  core.env.scheduler.onPool(false, [this, alive = alive, batches, root, all = core.syncAll, &scheduler = core.env.scheduler] {
    const uint64_t failures = batches.back()->failures;
    const auto synced = faulty(Fault::SkipFileSync) ? Result<void>() : all->sync(*root, failures);
    for (const auto& batch : batches)
      batch->synced = batch->failures == failures ? synced : Error{Code::Io, "the disk failed to write something of late"};
    scheduler.onCore([this, alive, batches] {
      if (!*alive) return;
      syncing = false;
      if (!written.empty()) post([this] { syncWritten(); });
      arrived.insert(arrived.end(), batches.begin(), batches.end());
      try {
        core.unwritten->noteFailures();
      } catch (const store::DatabaseError&) {
        placeSoon();  // They end then, and others can begin.
        throw;
      }
      placeMore();
    });
  });
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
  if (plan == plans.end() || plan->second.blob != item.blob || plan->second.node != item.node) return nullptr;
  return &plan->second;
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
    const bool otherDisk = error.code == Code::Unsupported;
    problem(path.ok() ? *path : "", "not-placed", otherDisk ? kOtherDisk : error.message);
    if (otherDisk) return retryLater(kOtherDiskMs);
  }
  retryLater(1000);
}

void Transfers::State::startLarge(NodeId node, const BlobId& blob, uint64_t sizeBytes) {
  auto state = stateOf(blob, sizeBytes);
  const size_t waiting = state->wholeWaiters.size();
  inFlight.insert({node, blob});
  ++largeFetches;
  const auto ended = [this, alive = alive, node, state](Result<void> fetched) {
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
  };
  try {
    core.transfers->fetchWhole(blob, sizeBytes, nullptr, ended, FetchFor::Real);
  } catch (const store::DatabaseError&) {
    if (state->wholeWaiters.size() == waiting && inFlight.erase({node, blob})) --largeFetches;
    throw;
  }
}

void Transfers::State::placeFailed(NodeId node, const std::shared_ptr<BlobState>& blob, const Error& error) {
  --largeFetches;
  inFlight.erase({node, blob->blob});
  lookAgainAtWanted();
  settleFailed(node, blob->blob, error);
}

void Transfers::State::placeLarge(NodeId node, const std::shared_ptr<BlobState>& blob) {
  --largeFetches;
  moveFromCache({{node, blob->blob, blob->sizeBytes}});  // Complete and synced (save).
  core.transfers->wakeWanted();
}

}  // namespace realize::peer
