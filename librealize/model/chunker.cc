#include <algorithm>
#include <array>
#include <bit>
#include <string>

#include "librealize/base/hash.h"
#include "librealize/model/blob.h"

namespace realize {
namespace {

constexpr uint64_t kGiB = uint64_t(1) << 30;

// Bytes that the gear hash remembers: one bit of it for each.
constexpr uint32_t kWindowBytes = 64;

const uint64_t* gearTable() {
  static const auto table = [] {
    std::array<uint64_t, 256> out{};
    for (size_t i = 0; i < out.size(); ++i) {
      std::string input = "realize gear 1";
      input += char(i);
      std::array<uint8_t, 8> digest;
      blake2b(std::as_bytes(std::span(input)), digest);
      for (int k = 0; k < 8; ++k) out[i] |= uint64_t(digest[k]) << (8 * k);
    }
    return out;
  }();
  return table.data();
}

// A gear hash below this has its topmost `bits` bits zero.
constexpr uint64_t limitOf(int bits) { return uint64_t(1) << (64 - bits); }

}  // namespace

ChunkSizes chunkSizesFor(uint64_t fileSizeBytes) {
  // Not at round sizes: a file of exactly 1 GiB that grows by a byte would share no chunk with what it was.
  const uint32_t scale = fileSizeBytes <= kGiB + kGiB / 2 ? 1 : fileSizeBytes <= 96 * kGiB ? 4 : 16;
  return {scale * (16u << 10), scale * (64u << 10), scale * (256u << 10)};
}

Chunker::Chunker(uint64_t fileSizeBytes) : sizes_(chunkSizesFor(fileSizeBytes)), table_(gearTable()) {
  const int bits = std::countr_zero(sizes_.average);
  hardLimit_ = limitOf(bits + 2);
  easyLimit_ = limitOf(bits - 2);
}

// Hashes bytes [from, to); where the hash falls below the limit is a cut: returns how many bytes are before it, or 0.
// Two bytes a turn, so that a turn's hash waits for one shift and one addition only.
size_t Chunker::search(std::span<const std::byte> bytes, size_t from, size_t to, uint64_t limit) {
  const uint64_t* const table = table_;
  const std::byte* const at = bytes.data();
  uint64_t gear = gear_;
  size_t i = from;
  for (; i + 1 < to; i += 2) {
    const uint64_t first = table[uint8_t(at[i])], second = table[uint8_t(at[i + 1])];
    if ((gear << 1) + first < limit) return i + 1;
    gear = (gear << 2) + ((first << 1) + second);
    if (gear < limit) return i + 2;
  }
  if (i < to) {
    gear = (gear << 1) + table[uint8_t(at[i])];
    if (gear < limit) return i + 1;
  }
  gear_ = gear;
  return 0;
}

size_t Chunker::next(std::span<const std::byte> bytes, bool last) {
  const uint32_t start = position_;  // bytes of the chunk before this call
  // The index in `bytes` of the given place in the chunk, kept within them.
  auto indexOf = [&](uint32_t place) { return place <= start ? 0 : std::min<size_t>(place - start, bytes.size()); };
  auto cutAt = [&](size_t n) {
    position_ = 0;
    gear_ = 0;
    return n;
  };

  // No cut ends a chunk shorter than the minimum, so only the window before it needs hashing.
  size_t from = indexOf(sizes_.min - kWindowBytes);
  const size_t first = indexOf(sizes_.min - 1);
  search(bytes, from, first, 0);
  from = first;
  for (auto [place, limit] : {std::pair(sizes_.average - 1, hardLimit_), std::pair(sizes_.max - 1, easyLimit_)}) {
    const size_t to = indexOf(place);
    if (const size_t n = search(bytes, from, to, limit)) return cutAt(n);
    from = to;
  }
  if (from < bytes.size()) return cutAt(from + 1);
  if (last && !bytes.empty()) return cutAt(bytes.size());
  position_ = start + uint32_t(bytes.size());
  return 0;
}

}  // namespace realize
