#include <algorithm>

#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {

constexpr uint64_t kInteractiveGetBytes = 1 << 20;
constexpr uint64_t kBulkGetBytes = 4 << 20;
constexpr uint32_t kMaxGetsPerBlob = 6;
constexpr uint64_t kMaxOutstandingPerPeer = 32 << 20;
constexpr uint32_t kSaveEvery = 1024;  // pieces
constexpr char kCorruptKey[] = "corrupt/";  // and a path: the content's id, the peer, and when (Unix time, ns, decimal)
constexpr int64_t kCorruptNs = 24 * 3600 * 1'000'000'000LL;  // A peer's disk may have been mended since.

std::string corruptNote(const PeerKey& from, const BlobId& blob) {
  return std::string(blob.bytes.begin(), blob.bytes.end()) + std::string(from.bytes.begin(), from.bytes.end());
}

}  // namespace

/// First everyone is asked for what they have; then, who has it not may ask further peers for us.
Transfers::State::Peer* Transfers::State::choose(BlobState& blob, uint8_t& hops) {
  uint8_t most = blob.wholeWaiters.empty() && !blob.waiters.empty() ? 0 : kRelayHops;
  for (const auto& waiter : blob.waiters) most = std::max(most, waiter.hops);
  for (uint8_t round : {uint8_t(0), most}) {
    Peer* best = nullptr;
    for (auto& [key, peer] : peers) {
      if (round > 0 && blob.exclude.contains(key)) continue;
      auto refused = blob.refused.find(key);
      if (refused != blob.refused.end() && refused->second > round) continue;
      if (!best || peer.outstandingBytes < best->outstandingBytes) best = &peer;
    }
    if (best) {
      hops = peers.size() == 1 && !blob.exclude.contains(best->remote->key()) ? most : round;
      return best;
    }
  }
  return nullptr;
}

/// A relayed request waits only for what was asked with fewer hops than its own: each wait leads further down, and none
/// in a ring.
bool Transfers::State::waitsLonger(const BlobState& blob, const std::vector<uint32_t>& pieces, uint8_t hops) const {
  return std::any_of(pieces.begin(), pieces.end(), [&](uint32_t piece) {
    auto asked = blob.asked.find(piece);
    return asked != blob.asked.end() && asked->second > hops;
  });
}

/// Pieces are about to be asked for with so many hops: who may not wait for that is told so.
void Transfers::State::failShortWaiters(const std::shared_ptr<BlobState>& blob, uint8_t hops) {
  std::vector<Waiter> told;
  for (auto it = blob->waiters.begin(); it != blob->waiters.end();) {
    if (it->hops >= hops) {
      ++it;
      continue;
    }
    told.push_back(std::move(*it));
    it = blob->waiters.erase(it);
  }
  for (auto& waiter : told) waiter.done(Error{Code::Unreachable, "no connected peer has these bytes"});
}

/// The next pieces worth asking for: what readers wait for, then ahead of them, then the rest if all is wanted.
std::vector<uint32_t> Transfers::State::needed(BlobState& blob, bool& interactive) {
  std::vector<uint32_t> out;
  uint64_t bytes = 0;
  interactive = !blob.waiters.empty();
  const uint64_t limit = interactive ? kInteractiveGetBytes : kBulkGetBytes;
  auto add = [&](uint64_t from, uint64_t to) {
    if (from >= to) return;
    for (uint32_t piece = blob.layout->pieceAt(from); piece < blob.layout->pieces() && blob.layout->offsets[piece] < to; ++piece) {
      if (bytes >= limit) return;
      if (blob.present[piece] || blob.asked.contains(piece)) continue;
      if (std::find(out.begin(), out.end(), piece) != out.end()) continue;
      out.push_back(piece);
      bytes += blob.layout->pieceBytes(piece);
    }
  };
  for (const auto& waiter : blob.waiters) add(waiter.offset, waiter.end);
  if (blob.aheadBytes) add(blob.readEnd, std::min(blob.sizeBytes, blob.readEnd + blob.aheadBytes));
  if (!blob.wholeWaiters.empty() && blob.sizeBytes) add(0, blob.sizeBytes);
  return out;
}

void Transfers::State::pump(const std::shared_ptr<BlobState>& blob) {
  const bool used = !blob->waiters.empty() || !blob->wholeWaiters.empty();
  if (blob->real || blob->gone || core.stopping) return;
  if (!blob->layout) {
    if (used) askList(blob);
    return;
  }
  if (blob->complete()) return answer(blob);
  if (!used && blob->aheadBytes == 0) return;
  if (auto opened = openCacheFile(*blob); !opened.ok()) return failWaiters(blob, opened.error());
  while (blob->gets < kMaxGetsPerBlob) {
    bool interactive = false;
    auto pieces = needed(*blob, interactive);
    if (pieces.empty() || !fitIn(blob, pieces)) break;
    if (copyLocal(blob, pieces)) continue;
    if (!askPieces(blob, pieces, interactive)) break;
  }
  answer(blob);
}

void Transfers::State::askList(const std::shared_ptr<BlobState>& blob) {
  if (blob->listAsked) return;
  uint8_t hops = 0;
  Peer* peer = choose(*blob, hops);
  if (!peer) return failWaiters(blob, Error{Code::Unreachable, "no connected peer has these bytes"});
  blob->listAsked = true;
  const PeerKey key = peer->remote->key();
  const uint64_t connection = peer->connection;
  peer->remote->chunkList(blob->blob, hops, [this, alive = alive, blob, key, connection, hops](Result<ChunkList> list) {
    if (!*alive) return;
    blob->listAsked = false;
    if (list.ok() && list->sizeBytes() == blob->sizeBytes && blobIdOf(*list) == blob->blob) {
      if (!blob->layout) {
        core.transfers->noteChunkList(blob->blob, *list);
        blob->layout = BlobLayout::of(blob->blob, std::move(*list));
        loadPresent(*blob);
      }
    } else {
      auto current = peers.find(key);
      if (current != peers.end() && current->second.connection == connection) blob->refused[key] = uint8_t(hops + 1);
      if (list.ok()) corrupt(key, blob->blob);
    }
    pump(blob);
  });
}

/// Whatever the database says to that: who asked for the bytes goes on.
void Transfers::State::corrupt(const PeerKey& from, const BlobId& blob) {
  core.transact([&] {
    std::string path;
    auto pathOf = [&](const std::optional<EntryId>& id) {
      auto shown = id ? core.shownPath(*id) : Result<std::string>(Error{Code::NotFound, ""});
      if (path.empty() && shown.ok()) path = *shown;
    };
    for (const auto& task : core.store.wanted().ofBlob(blob)) pathOf(core.store.idOf(task.node));
    named.any(blob, [&](const EntryId& id) {
      pathOf(id);
      return !path.empty();
    });
    core.store.setValue(kCorruptKey + path, corruptNote(from, blob) + std::to_string(core.env.clock.nowNs()));
    problem(path, "corrupt", "peer " + from.hex() + " sent bytes that are not content " + blob.hex() +
                                 "; they were refused. Its copy may be damaged");
  });
}

/// The peer has the content after all.
void Transfers::State::sentRight(const PeerKey& from, const BlobId& blob) {
  uint64_t problems = 0;
  if (!store::catching([&] { problems = core.store.problems().count(); }).ok() || problems == 0) return;
  core.transact([&] {
    for (const auto& problem : core.store.problems().list(100)) {
      if (problem.kind != "corrupt") continue;
      if (!core.store.getValue(kCorruptKey + problem.path).value_or("").starts_with(corruptNote(from, blob))) continue;
      core.store.problems().erase(problem.path, problem.kind);
    }
  });
}

bool Transfers::stillCorrupt(const std::string& path) {
  auto& core = s_->core;
  const std::string noted = core.store.getValue(kCorruptKey + path).value_or("");
  constexpr size_t kNoteBytes = BlobId::size() + PeerKey::size();
  if (noted.size() < kNoteBytes) return false;
  BlobId blob;
  std::copy_n(noted.begin(), BlobId::size(), blob.bytes.begin());
  if (core.env.clock.nowNs() - std::strtoll(noted.c_str() + kNoteBytes, nullptr, 10) > kCorruptNs) return false;
  if (path.empty()) return true;  // Whom it was read for is not known.
  auto record = core.recordAt(path);
  if (!record.ok()) return false;
  const auto heads = core.tree.shownHeads(record->entry.id);
  return std::any_of(heads.begin(), heads.end(), [&](const auto& head) { return head.version.blob == blob; });
}

bool Transfers::State::askPieces(const std::shared_ptr<BlobState>& blob, const std::vector<uint32_t>& pieces,
                                 bool interactive) {
  uint8_t hops = 0;
  Peer* peer = choose(*blob, hops);
  if (!peer) {
    if (blob->gets == 0) failWaiters(blob, Error{Code::Unreachable, "no connected peer has these bytes"});
    blob->aheadBytes = 0;
    return false;
  }
  failShortWaiters(blob, hops);
  if (!interactive && peer->outstandingBytes > kMaxOutstandingPerPeer) return false;
  uint64_t bytes = 0;
  for (auto piece : pieces) {
    blob->asked[piece] = hops;
    bytes += blob->layout->pieceBytes(piece);
  }
  ++blob->gets;
  recount(*blob);
  if (hops > 0) ++blob->relays[peer->remote->key()];
  peer->outstandingBytes += bytes;
  GetRequest request;
  request.interactive = interactive;
  request.hops = hops;
  request.wants.push_back({blob->blob, blob->sizeBytes, blob->layout->whole ? std::vector<uint32_t>() : pieces});

  // Verified and written on the pool; the core hears of it in batches.
  struct Outcome {
    std::atomic<bool> corrupt{false};
    std::mutex mutex;
    std::optional<Error> failed;
  };
  auto outcome = std::make_shared<Outcome>();
  auto onChunk = [layout = blob->layout, file = blob->file, arrivals = blob->arrivals, outcome, this, alive = alive,
                  &scheduler = core.env.scheduler, weak = std::weak_ptr<BlobState>(blob)](const ChunkArrival& chunk) {
    if (!layout->verifies(chunk.chunk, chunk.bytes)) {
      outcome->corrupt = true;
      return;
    }
    {
      std::lock_guard held(arrivals->mutex);
      arrivals->writing.push_back(chunk.chunk);
    }
    auto written = writeSparse(*file, layout->offsets[chunk.chunk], chunk.bytes);
    if (!written.ok()) {
      std::lock_guard held(outcome->mutex);
      outcome->failed = written.error();
    }
    std::lock_guard held(arrivals->mutex);
    arrivals->writing.erase(std::find(arrivals->writing.begin(), arrivals->writing.end(), chunk.chunk));
    if (!written.ok()) return;
    arrivals->pieces.push_back(chunk.chunk);
    if (arrivals->posted) return;
    arrivals->posted = true;
    scheduler.onCore([this, alive, weak] {
      if (auto fetched = weak.lock(); fetched && *alive) {
        takeArrivals(fetched);
        pump(fetched);
      }
    });
  };
  const PeerKey key = peer->remote->key();
  const uint64_t connection = peer->connection;
  auto onChunks = [onChunk = std::move(onChunk)](ChunkArrivals chunks) {
    for (const auto& chunk : chunks) onChunk(chunk);
  };
  peer->remote->get(request, std::move(onChunks),
                    [this, alive = alive, blob, pieces, bytes, key, connection, hops, outcome](
                        Result<std::vector<WantStatus>> statuses) {
    if (!*alive) return;
    --blob->gets;
    if (hops > 0 && --blob->relays[key] == 0) blob->relays.erase(key);
    takeArrivals(blob);
    bool short_ = false;
    for (auto piece : pieces) {
      blob->asked.erase(piece);
      short_ = short_ || !blob->present[piece];
    }
    recount(*blob);
    auto current = peers.find(key);
    const bool same = current != peers.end() && current->second.connection == connection;
    if (same) current->second.outstandingBytes -= std::min(bytes, current->second.outstandingBytes);
    if (outcome->corrupt) corrupt(key, blob->blob);
    else if (!short_) sentRight(key, blob->blob);
    if (outcome->failed) failWaiters(blob, *outcome->failed);
    else if (short_ && same) blob->refused[key] = outcome->corrupt ? uint8_t(255) : uint8_t(hops + 1);
    (void)statuses;
    pump(blob);
    pumpWaiting(blob.get());
  });
  return true;
}

/// Pieces that some content here has already are copied, verified again. True if any such copying was begun.
bool Transfers::State::copyLocal(const std::shared_ptr<BlobState>& blob, const std::vector<uint32_t>& pieces) {
  auto root = core.folder->root();
  if (!root) return false;  // Suspended, maybe a moment ago: whoever reads what is open already goes on.
  std::vector<ChunkHash> hashes;
  std::vector<uint32_t> untried;
  for (auto piece : pieces) {
    if (!blob->localTried.insert(piece).second) continue;
    untried.push_back(piece);
    if (!blob->layout->whole) hashes.push_back(blob->layout->list.chunks[piece].hash);
  }
  if (untried.empty()) return false;
  struct Copy {
    uint32_t piece;
    Source source;
    uint64_t offset;
  };
  auto copies = std::make_shared<std::vector<Copy>>();
  std::set<uint32_t> taken;
  if (core.store.disk().anyWithBlob(blob->blob)) {  // It became Real since it was opened.
    for (auto piece : untried) {
      auto source = sourceOf(blob->blob, {piece});
      if (!source || source->cached) continue;
      taken.insert(piece);
      copies->push_back({piece, std::move(*source), blob->layout->offsets[piece]});
    }
  }
  for (const auto& place : hashes.empty() ? std::vector<store::ChunkPlace>() : core.store.blobs().findChunks(hashes)) {
    const uint32_t piece = untried[place.asked];
    if (place.blob == blob->blob || taken.contains(piece)) continue;
    auto source = sourceOf(place.blob, {place.index});
    if (!source) continue;
    taken.insert(piece);
    copies->push_back({piece, std::move(*source), place.offset});
  }
  if (copies->empty()) return false;
  for (auto piece : taken) blob->asked[piece] = 0;
  ++blob->gets;
  recount(*blob);
  core.env.scheduler.onPool(true, [this, alive = alive, blob, copies, root, layout = blob->layout, file = blob->file,
                                   &scheduler = core.env.scheduler] {
    auto done = std::make_shared<std::vector<uint32_t>>();
    std::map<std::string, std::shared_ptr<DiskFile>> opened;
    for (const auto& copy : *copies) {
      std::shared_ptr<DiskFile> from = copy.source.file;
      if (!from) {
        auto& slot = opened[copy.source.path];
        if (!slot) {
          auto unchanged = openUnchanged(*root, copy.source.path, *copy.source.row);
          if (!unchanged.ok()) continue;
          slot = std::move(*unchanged);
        }
        from = slot;
      }
      Bytes bytes(layout->pieceBytes(copy.piece));
      auto got = from->read(copy.offset, bytes);
      if (!got.ok() || *got != bytes.size() || !layout->verifies(copy.piece, bytes)) continue;
      if (writeSparse(*file, layout->offsets[copy.piece], bytes).ok()) done->push_back(copy.piece);
    }
    scheduler.onCore([this, alive, blob, copies, done] {
      if (!*alive) return;
      --blob->gets;
      {
        std::lock_guard held(blob->arrivals->mutex);
        blob->arrivals->pieces.insert(blob->arrivals->pieces.end(), done->begin(), done->end());
      }
      takeArrivals(blob);
      for (const auto& copy : *copies) blob->asked.erase(copy.piece);
      recount(*blob);
      pump(blob);
    });
  });
  return true;
}

void Transfers::State::takeArrivals(const std::shared_ptr<BlobState>& blob) {
  std::vector<uint32_t> pieces;
  {
    std::lock_guard held(blob->arrivals->mutex);
    pieces.swap(blob->arrivals->pieces);
    blob->arrivals->posted = false;
  }
  if (blob->gone) return;
  for (auto piece : pieces) {
    if (blob->present[piece]) continue;
    blob->present[piece] = true;
    ++blob->presentCount;
    ++blob->unsavedPieces;
    blob->presentBytes += blob->layout->pieceBytes(piece);
  }
  recount(*blob);
  if (!pieces.empty())
    for (auto& whole : blob->wholeWaiters)
      if (whole.progress) whole.progress(blob->presentBytes);
  if (blob->unsavedPieces >= kSaveEvery && !blob->saving && !blob->complete()) save(blob, nullptr);
}

/// Readers whose range is here are answered; who wants all of it, once all is here and on disk.
void Transfers::State::answer(const std::shared_ptr<BlobState>& blob) {
  if (!blob->layout) return;
  // Opened first: what was noted as present may have gone with the power, and the file's name with it.
  if (!blob->file && blob->presentCount > 0 && !(blob->waiters.empty() && blob->wholeWaiters.empty())) {
    if (auto opened = openCacheFile(*blob); !opened.ok()) return failWaiters(blob, opened.error());
  }
  std::vector<Waiter> ready;
  for (auto it = blob->waiters.begin(); it != blob->waiters.end();) {
    bool there = true;
    for (uint32_t piece = blob->layout->pieceAt(it->offset); there && piece < blob->layout->pieces(); ++piece) {
      if (blob->layout->offsets[piece] >= it->end) break;
      there = blob->present[piece];
    }
    if (!there) {
      ++it;
      continue;
    }
    ready.push_back(std::move(*it));
    it = blob->waiters.erase(it);
  }
  for (auto& waiter : ready) {
    if (auto opened = openCacheFile(*blob); !opened.ok()) waiter.done(opened.error());
    else readNow(blob, waiter.offset, waiter.end, std::move(waiter.done));
  }
  // Not while a request is under way: a chunk that came once more would be written into what is the user's file by then.
  if (blob->waiters.empty()) blob->exclude.clear();
  if (!blob->complete() || blob->wholeWaiters.empty() || blob->gets > 0) return;
  auto whole = std::move(blob->wholeWaiters);
  blob->wholeWaiters.clear();
  if (auto opened = openCacheFile(*blob); !opened.ok()) {
    for (auto& waiter : whole) waiter.done(opened.error());
    return;
  }
  save(blob, [whole](Result<void> saved) {
    for (const auto& waiter : whole) waiter.done(saved);
  });
}

uint64_t Transfers::State::readFor(const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end, uint8_t hops,
                                   std::function<void(Result<Bytes>)> done, uint64_t number) {
  if (number == 0) number = ++lastNumber;
  if (limited() && !allHere(*blob, offset, end) && stepEnd(*blob, offset, end) < end) {
    auto gathering = std::make_shared<Gathering>(Gathering{number, blob, offset, end, hops, {}, std::move(done)});
    gatherings.insert(number);
    gather(gathering);
    return number;
  }
  startRead(number, blob, offset, end, hops, std::move(done));
  return number;
}

void Transfers::State::startRead(uint64_t number, const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end,
                                 uint8_t hops, std::function<void(Result<Bytes>)> done) {
  blob->waiters.push_back(Waiter{number, offset, end, std::move(done), hops});
  answer(blob);
  pump(blob);
}

void Transfers::State::failWaiters(const std::shared_ptr<BlobState>& blob, const Error& error) {
  auto waiters = std::move(blob->waiters);
  auto whole = std::move(blob->wholeWaiters);
  blob->waiters.clear();
  blob->wholeWaiters.clear();
  blob->exclude.clear();
  for (auto& waiter : waiters) waiter.done(error);
  for (auto& waiter : whole) waiter.done(error);
  // Who asks next asks everyone again.
  if (error.code == Code::Unreachable) blob->refused.clear();
}

void Transfers::State::readNow(const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end,
                               std::function<void(Result<Bytes>)> done) {
  auto held = blob->real ? nullptr : lease(*blob, blob->layout->pieceAt(offset), blob->layout->pieceAt(end - 1));
  core.env.scheduler.onPool(true, [blob, file = blob->file, offset, end, done = std::move(done), held]() mutable {
    Bytes bytes(end - offset);
    auto got = file->read(offset, bytes);
    held = nullptr;
    if (!got.ok()) return done(got.error());
    bytes.resize(*got);
    done(std::move(bytes));
  });
}

}  // namespace realize::peer
