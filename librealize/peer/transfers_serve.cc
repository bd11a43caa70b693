#include <algorithm>
#include <atomic>

#include "librealize/base/path.h"
#include "librealize/peer/chunk_pack.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/rows_ahead.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {

constexpr uint64_t kBytesPerJob = 1 << 20;
constexpr int64_t kRelayMs = 10'000;

/// One request of another peer while pool jobs read for it.
struct Serving {
  GetRequest request;
  ChunkSink sink;
  std::function<void(Result<std::vector<WantStatus>>)> done;
  std::mutex mutex;
  std::vector<WantStatus> statuses;
  std::atomic<size_t> jobs{1};

  void worse(uint32_t item, WantStatus status) {
    std::lock_guard held(mutex);
    if (statuses[item] == WantStatus::Sent) statuses[item] = status;
  }
  void jobEnded() {
    if (--jobs == 0) done(statuses);
  }
};

/// Some pieces of one content, from one open file.
struct ServeJob {
  uint32_t item = 0;
  std::vector<uint32_t> numbers;                        // as asked
  std::vector<std::pair<uint64_t, uint64_t>> ranges;    // offset, bytes
};

/// Reads what one job sends: small chunks behind each other, until they are worth a frame.
class Gatherer {
 public:
  explicit Gatherer(const ChunkSink& sink) : sink_(sink) {}
  /// False: it could not be read as it should be.
  bool add(uint32_t item, uint32_t number, DiskFile& file, uint64_t offset, uint64_t size) {
    if (used_ + size > kPackBytes || size >= kPackedChunkBytes) send();
    if (used_ + size > roomBytes_) {  // And nothing is used.
      roomBytes_ = std::max<uint64_t>(size, kPackBytes);
      buffer_ = std::make_unique_for_overwrite<std::byte[]>(roomBytes_);
    }
    const std::span<std::byte> bytes(buffer_.get() + used_, size);
    auto got = file.read(offset, bytes);
    if (!got.ok() || *got != size) return false;
    chunks_.push_back({item, number, bytes});
    used_ += size;
    if (size >= kPackedChunkBytes) send();
    return true;
  }
  void send() {
    if (!chunks_.empty() && !gone_) gone_ = !sink_(chunks_);
    chunks_.clear();
    used_ = 0;
  }
  bool gone() const { return gone_; }

 private:
  const ChunkSink& sink_;
  std::unique_ptr<std::byte[]> buffer_;
  uint64_t roomBytes_ = 0;
  uint64_t used_ = 0;
  std::vector<ChunkArrival> chunks_;
  bool gone_ = false;
};

}  // namespace

std::optional<ChunkList> Transfers::State::knownList(const BlobId& blob) {
  auto row = core.store.blobs().get(blob);
  if (!row || row->chunkList.empty()) return std::nullopt;
  auto list = decodeChunkList(row->chunkList);
  if (!list.ok()) return std::nullopt;
  return std::move(*list);
}

std::optional<Transfers::State::Source> Transfers::State::sourceAt(store::DiskRow row) {
  if (row.dirty) return std::nullopt;
  // The row is at hand, and its folder mostly in memory.
  const auto folder = core.folder->diskPath(row.parentNode);
  if (!folder) return std::nullopt;
  std::string path = joinPath(*folder, row.name);
  return Source{std::move(path), std::move(row), nullptr};
}

/// Where these pieces (empty: all) are on this disk.
std::optional<Transfers::State::Source> Transfers::State::sourceOf(const BlobId& blob, const std::vector<uint32_t>& pieces) {
  for (auto& row : core.store.disk().withBlob(blob, 4))
    if (auto source = sourceAt(std::move(row))) return source;
  auto known = blobs.find(blob);
  std::shared_ptr<BlobState> state;
  if (known != blobs.end()) {
    state = known->second;
  } else if (auto row = core.store.cache().get(blob); row && row->knowsAny()) {
    state = stateOf(blob, row->sizeBytes);
  }
  if (!state || !state->layout || state->gone) return std::nullopt;
  const auto there = [&] {
    return pieces.empty() ? state->complete() : std::all_of(pieces.begin(), pieces.end(), [&](uint32_t piece) {
      return piece < state->layout->pieces() && state->present[piece];
    });
  };
  // It may be no more what was noted of it.
  if (!there() || !openCacheFile(*state).ok() || !there() || state->presentCount == 0) return std::nullopt;
  const uint32_t last = state->layout->pieces() - 1;
  return Source{"", std::nullopt, state,
                pieces.empty() ? lease(*state, 0, last) : lease(*state, pieces.front(), pieces.back()), state->file};
}

namespace {
/// In an answer of another peer: who asked us waits for ours, also where the database fails now, which ends all else.
template <typename Work, typename Done>
void orFailBoth(Work&& work, const Done& done) {
  auto worked = store::catching(work);
  if (worked.ok()) return;
  done(Error{Code::Suspended, "the arena's database failed"});
  throw store::DatabaseError(worked.error().code, worked.error().message);
}
}  // namespace

void Transfers::serveChunkList(const PeerKey& from, const BlobId& blob, uint8_t hops,
                               std::function<void(Result<ChunkList>)> done) {
  if (auto list = s_->knownList(blob)) return done(std::move(*list));
  const Error unknown{Code::NotFound, "no such content here"};
  if (hops == 0) return done(unknown);
  // Ask the others in turn, on behalf of who asked.
  auto left = std::make_shared<std::vector<PeerKey>>();
  for (auto& [key, peer] : s_->peers)
    if (key != from) left->push_back(key);
  auto next = std::make_shared<std::function<void()>>();
  *next = [s = s_.get(), alive = s_->alive, this, left, weak = std::weak_ptr(next), blob, hops, done, unknown] {
    if (!*alive || left->empty()) return done(unknown);
    auto peer = s->peers.find(left->back());
    left->pop_back();
    auto again = weak.lock();
    if (peer == s->peers.end()) return (*again)();
    peer->second.remote->chunkList(blob, uint8_t(hops - 1), [alive, this, again, blob, done](Result<ChunkList> list) {
      if (!*alive) return done(Error{Code::Suspended, "the arena was left"});
      if (!list.ok() || blobIdOf(*list) != blob) return (*again)();
      orFailBoth([&] { noteChunkList(blob, *list); }, done);
      done(std::move(list));
    });
  };
  (*next)();
}

void Transfers::serveGet(const PeerKey& from, const GetRequest& request, ChunkSink sink,
                         std::function<void(Result<std::vector<WantStatus>>)> done) {
  // Who asks others needs the chunk lists, too, and may not have them, or have lost them with a database that failed.
  std::vector<BlobId> unlisted;
  if (request.hops > 0 && s_->peers.size() >= 2)
    for (const auto& want : request.wants)
      if (!want.chunks.empty() && !s_->core.store.blobs().has(want.blob)) unlisted.push_back(want.blob);
  if (unlisted.empty()) return s_->serveListed(from, request, std::move(sink), std::move(done));
  auto left = std::make_shared<size_t>(unlisted.size());
  for (const auto& blob : unlisted)
    serveChunkList(from, blob, request.hops, [s = s_.get(), alive = s_->alive, left, from, request, sink, done](Result<ChunkList>) {
      if (--*left > 0) return;
      if (!*alive) return done(Error{Code::Suspended, "the arena was left"});
      orFailBoth([&] { s->serveListed(from, request, sink, done); }, done);
    });
}

void Transfers::State::serveListed(const PeerKey& from, const GetRequest& request, ChunkSink sink,
                                   std::function<void(Result<std::vector<WantStatus>>)> done) {
  auto serving = std::make_shared<Serving>();
  serving->request = request;
  serving->sink = std::move(sink);
  serving->done = std::move(done);
  serving->statuses.assign(request.wants.size(), WantStatus::Sent);
  auto root = core.folder->root();
  auto& scheduler = core.env.scheduler;
  uint64_t askedBytes = 0;

  // Small contents share jobs; each job reads about kBytesPerJob.
  struct Piece {
    ServeJob job;
    State::Source source;
  };
  auto group = std::make_shared<std::vector<Piece>>();
  uint64_t groupBytes = 0;
  auto flush = [&] {
    if (group->empty()) return;
    ++serving->jobs;
    scheduler.onPool(request.interactive, [serving, group, root, &scheduler, &core = core, alive = alive] {
      Gatherer gatherer(serving->sink);
      for (auto& piece : *group) {
        std::shared_ptr<DiskFile> file = piece.source.file;
        if (!file) {
          auto opened = openUnchanged(*root, piece.source.path, *piece.source.row);
          if (opened.ok()) file = std::move(*opened);
          // Not what was read any more. Where nothing watches, nobody else would notice.
          else scheduler.onCore([&core, alive, node = piece.source.row->node] {
            if (*alive) core.folder->hintContent(node);
          });
        }
        for (size_t i = 0; i < piece.job.ranges.size(); ++i) {
          const auto [offset, size] = piece.job.ranges[i];
          if (!file || !gatherer.add(piece.job.item, piece.job.numbers[i], *file, offset, size)) {
            serving->worse(piece.job.item, WantStatus::Unreadable);
            break;
          }
        }
        if (gatherer.gone()) break;
      }
      gatherer.send();
      serving->jobEnded();
    });
    group = std::make_shared<std::vector<Piece>>();
    groupBytes = 0;
  };
  auto serve = [&](uint32_t item, State::Source source, const BlobLayout& layout, const std::vector<uint32_t>& pieces) {
    Piece piece{{item, {}, {}}, std::move(source)};
    for (auto number : pieces) {
      piece.job.numbers.push_back(number);
      piece.job.ranges.emplace_back(layout.offsets[number], layout.pieceBytes(number));
      groupBytes += layout.pieceBytes(number);
      if (groupBytes < kBytesPerJob) continue;
      group->push_back(piece);
      flush();
      piece.job = ServeJob{item, {}, {}};
    }
    if (!piece.job.numbers.empty()) group->push_back(std::move(piece));
  };

  RowsAhead ahead(core.store.disk());
  auto find = [&](uint32_t item, const BlobId& blob, const std::vector<uint32_t>& pieces) {
    if (auto row = ahead.take(blob))
      if (auto source = sourceAt(std::move(*row))) return source;
    auto source = sourceOf(blob, pieces);
    if (source && source->row) ahead.lookedUp(source->row->node, request.wants.size() - item - 1);
    return source;
  };

  for (uint32_t item = 0; item < request.wants.size(); ++item) {
    const auto& want = request.wants[item];
    const bool whole = want.chunks.empty();
    std::shared_ptr<const BlobLayout> layout;
    if (whole && want.sizeBytes <= kMaxWholeBytes) layout = BlobLayout::ofWhole(want.blob, want.sizeBytes);
    else if (auto list = knownList(want.blob); list && !whole) layout = BlobLayout::of(want.blob, std::move(*list));
    const std::vector<uint32_t> pieces = whole ? std::vector<uint32_t>{0} : want.chunks;
    bool sane = layout != nullptr && std::is_sorted(pieces.begin(), pieces.end());
    for (auto piece : pieces) {
      sane = sane && piece < layout->pieces();
      if (sane) askedBytes += layout->pieceBytes(piece);
    }
    if (!sane || askedBytes > 2 * kMaxBytesPerGet) {
      serving->worse(item, WantStatus::Missing);
      continue;
    }
    auto source = root ? find(item, want.blob, whole ? std::vector<uint32_t>() : pieces) : std::nullopt;
    if (source && source->row && source->row->sizeBytes != layout->sizeBytes()) source.reset();
    if (source) {
      serve(item, std::move(*source), *layout, pieces);
      continue;
    }
    if (!root || request.hops == 0 || peers.size() < 2) {
      serving->worse(item, WantStatus::Missing);
      continue;
    }
    // A chain: fetch it here first, from anyone but who asks, then serve it from the cache. Whom we wait for ourselves,
    // on his asking others, must not wait for us.
    auto state = stateOf(want.blob, want.sizeBytes);
    if (!state->layout) {
      state->layout = layout;
      loadPresent(*state);
    }
    const bool farApart = layout->offsets[pieces.back() + 1] - layout->offsets[pieces.front()] > 2 * kMaxBytesPerGet;
    if (state->relays.contains(from) || farApart || waitsLonger(*state, pieces, uint8_t(request.hops - 1))) {
      serving->worse(item, WantStatus::Missing);
      continue;
    }
    ++serving->jobs;
    state->exclude.insert(from);
    const uint64_t begin = layout->offsets[pieces.front()];
    const uint64_t end = layout->offsets[pieces.back() + 1];
    const uint64_t relayed = readFor(state, begin, end, uint8_t(request.hops - 1),
         [serving, state, layout, item, pieces, begin](Result<Bytes> bytes) {
           if (!bytes.ok()) serving->worse(item, WantStatus::Missing);
           else
             for (auto number : pieces) {
               const uint64_t at = layout->offsets[number] - begin, size = layout->pieceBytes(number);
               if (at + size > bytes->size()) {
                 serving->worse(item, WantStatus::Unreadable);
                 break;
               }
               const ChunkArrival chunk{item, number, std::span<const std::byte>(*bytes).subspan(at, size)};
               if (!serving->sink({&chunk, 1})) break;
             }
           serving->jobEnded();
         });
    // Rings of peers that wait for each other are possible all the same: who asked is told to look elsewhere.
    scheduler.onCoreAfter(kRelayMs, [this, alive = alive, relayed] {
      if (*alive) core.transfers->cancel(relayed);
    });
  }
  flush();
  serving->jobEnded();
}

}  // namespace realize::peer
