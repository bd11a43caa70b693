// Contents that are open for reading. What was opened is what is read, whatever becomes of the name.

#include <algorithm>

#include "librealize/peer/folder.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

OpenBlob Transfers::open(const BlobId& id, uint64_t sizeBytes) {
  auto& core = s_->core;
  auto opened = [](std::shared_ptr<BlobState> state) {
    auto use = state->use;
    return OpenBlob{std::move(state), std::move(use)};
  };
  // What is being fetched may have come back to the folder meanwhile.
  if (auto known = s_->blobs.find(id); known != s_->blobs.end() && known->second->complete()) return opened(s_->stateOf(id, sizeBytes));
  // A Real file that has the content is as good as a cached one, for as long as it stays as it was read.
  std::shared_ptr<const BlobLayout> layout;
  auto root = core.folder->root();
  for (const auto& row : root ? core.store.disk().withBlob(id, 4) : std::vector<store::DiskRow>()) {
    auto path = core.folder->diskPath(row.node);
    if (!path || row.dirty) continue;
    if (!layout && sizeBytes <= kMaxWholeBytes) layout = BlobLayout::ofWhole(id, sizeBytes);
    else if (auto list = layout ? std::nullopt : s_->knownList(id)) layout = BlobLayout::of(id, std::move(*list));
    if (!layout) break;  // Nothing to verify by.
    auto file = openUnchanged(*root, *path, row);
    if (!file.ok()) continue;
    auto blob = std::make_shared<BlobState>();
    blob->blob = id;
    blob->sizeBytes = sizeBytes;
    blob->layout = layout;
    blob->file = std::move(*file);
    blob->real = true;
    return opened(std::move(blob));  // Not in `blobs`: it may be edited at any time.
  }
  return opened(s_->stateOf(id, sizeBytes));
}

uint64_t Transfers::read(const OpenBlob& open, uint64_t offset, size_t size, std::function<void(Result<Bytes>)> done) {
  const auto& blob = open.state;
  const uint64_t end = std::min<uint64_t>(blob->sizeBytes, offset + size);
  if (offset >= end) {
    done(Bytes());
    return 0;
  }
  const uint64_t number = ++s_->lastNumber;
  s_->readOpen(number, blob, offset, end, std::move(done));
  return number;
}

void Transfers::State::readOpen(uint64_t number, const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end,
                                std::function<void(Result<Bytes>)> done) {
  if (blob->real) return readReal(number, blob, offset, end, std::move(done));
  blob->lastReadNs = core.env.clock.nowNs();
  // A sequence doubles what is read ahead, a jump begins anew.
  constexpr uint64_t kFirstAhead = 256 << 10, kMostAhead = 16 << 20;
  const bool sequential = offset <= blob->readEnd && end > blob->readEnd && blob->readEnd - offset <= end - offset;
  blob->aheadBytes = sequential && blob->readEnd ? std::clamp(2 * blob->aheadBytes, kFirstAhead, kMostAhead) : 0;
  blob->readEnd = end;
  readFor(blob, offset, end, kRelayHops, std::move(done), number);
}

namespace {

/// One verified piece of a Real file; null where it is not what it was any more. Thread: pool.
std::shared_ptr<const Bytes> verifiedPiece(const BlobLayout& layout, DiskFile& file, OpenUse& use, uint32_t piece) {
  {
    std::lock_guard held(use.mutex);
    if (use.bytes && use.piece == piece) return use.bytes;
  }
  auto bytes = std::make_shared<Bytes>(layout.pieceBytes(piece));
  auto got = file.read(layout.offsets[piece], *bytes);
  if (!got.ok() || *got != bytes->size() || !layout.verifies(piece, *bytes)) return nullptr;
  std::lock_guard held(use.mutex);
  use.piece = piece;
  use.bytes = bytes;
  return bytes;
}

}  // namespace

/// Its user may be editing the file where it is: what is not right any more comes from the cache or from other peers.
void Transfers::State::readReal(uint64_t number, const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end,
                                std::function<void(Result<Bytes>)> done) {
  core.env.scheduler.onPool(true, [this, alive = alive, number, blob, layout = blob->layout, file = blob->file, use = blob->use,
                                   offset, end, done = std::move(done), &scheduler = core.env.scheduler]() mutable {
    Bytes out;
    out.reserve(end - offset);
    for (uint32_t piece = layout->pieceAt(offset); piece < layout->pieces() && layout->offsets[piece] < end; ++piece) {
      auto bytes = verifiedPiece(*layout, *file, *use, piece);
      if (!bytes) break;
      const uint64_t start = layout->offsets[piece], from = std::max(offset, start), to = std::min(end, start + bytes->size());
      out.insert(out.end(), bytes->begin() + ptrdiff_t(from - start), bytes->begin() + ptrdiff_t(to - start));
    }
    if (out.size() == end - offset) return done(std::move(out));
    scheduler.onCore([this, alive, number, blob, offset, end, done = std::move(done)] {
      if (!*alive || core.stopping) return done(Error{Code::Suspended, "the arena is being closed"});
      auto& instead = blob->use->instead;
      if (!instead.state) {
        auto state = stateOf(blob->blob, blob->sizeBytes);
        instead = OpenBlob{state, state->use};
      }
      readOpen(number, instead.state, offset, end, done);
    });
  });
}

}  // namespace realize::peer
