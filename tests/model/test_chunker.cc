#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "librealize/model/blob.h"

using namespace realize;

namespace {

Bytes noise(size_t n, uint64_t seed = 1) {
  Bytes out(n);
  uint64_t x = seed * 0x9e3779b97f4a7c15 + 1;
  for (auto& b : out) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    b = std::byte(x >> 32);
  }
  return out;
}

// Sizes of the chunks; the bytes given in pieces of `step`.
std::vector<size_t> cuts(std::span<const std::byte> bytes, uint64_t fileSize, size_t step = SIZE_MAX) {
  Chunker chunker(fileSize);
  std::vector<size_t> out;
  size_t chunkStart = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t n = std::min(step, bytes.size() - at);
    const size_t used = chunker.next(bytes.subspan(at, n), at + n == bytes.size());
    at += used > 0 ? used : n;
    if (used > 0) {
      out.push_back(at - chunkStart);
      chunkStart = at;
    }
  }
  CHECK(chunkStart == bytes.size());
  return out;
}

std::set<ChunkHash> hashes(std::span<const std::byte> bytes) {
  std::set<ChunkHash> out;
  for (size_t n : cuts(bytes, bytes.size())) {
    out.insert(hashChunk(bytes.first(n)));
    bytes = bytes.subspan(n);
  }
  return out;
}

constexpr uint64_t kGiB = uint64_t(1) << 30;

}  // namespace

TEST_CASE("chunk sizes follow the file's size") {
  CHECK(chunkSizesFor(0) == ChunkSizes{16 << 10, 64 << 10, 256 << 10});
  CHECK(chunkSizesFor(kGiB * 3 / 2) == ChunkSizes{16 << 10, 64 << 10, 256 << 10});
  CHECK(chunkSizesFor(kGiB * 3 / 2 + 1) == ChunkSizes{64 << 10, 256 << 10, 1 << 20});
  CHECK(chunkSizesFor(96 * kGiB) == ChunkSizes{64 << 10, 256 << 10, 1 << 20});
  CHECK(chunkSizesFor(96 * kGiB + 1) == ChunkSizes{256 << 10, 1 << 20, 4 << 20});
  // A file of a round size may grow a little and keep its chunks.
  CHECK(chunkSizesFor(kGiB) == chunkSizesFor(kGiB + 10));
  CHECK(chunkSizesFor(UINT64_MAX).max == kMaxChunkBytes);
  CHECK(chunkSizesFor(0).min == kSingleChunkBytes);
}

TEST_CASE("cuts keep to the bounds and to the average in each size class") {
  const Bytes bytes = noise(48 << 20);
  for (uint64_t fileSize : {kGiB, 2 * kGiB, 97 * kGiB}) {
    const ChunkSizes sizes = chunkSizesFor(fileSize);
    const auto found = cuts(bytes, fileSize);
    for (size_t i = 0; i + 1 < found.size(); ++i) {
      CHECK(found[i] >= sizes.min);
      CHECK(found[i] <= sizes.max);
    }
    const size_t average = bytes.size() / found.size();
    CHECK(average > sizes.average * 3 / 4);
    CHECK(average < sizes.average * 3 / 2);
  }
}

TEST_CASE("cuts do not depend on how the bytes are split into calls") {
  const Bytes bytes = noise(3 << 20);
  const auto whole = cuts(bytes, bytes.size());
  for (size_t step : {1, 2, 3, 63, 64, 65, 1000, 4096, 16384, 65535, 1 << 20}) {
    CAPTURE(step);
    CHECK(cuts(bytes, bytes.size(), step) == whole);
  }
}

TEST_CASE("ten bytes put in front change only the first chunks") {
  const Bytes before = noise(8 << 20);
  Bytes after = noise(10, 99);
  after.insert(after.end(), before.begin(), before.end());

  const auto old = hashes(before);
  size_t fresh = 0;
  for (const auto& hash : hashes(after)) fresh += !old.contains(hash);

  CHECK(old.size() > 80);
  CHECK(fresh <= 4);
}

TEST_CASE("a byte changed in the middle changes only chunks near it") {
  const Bytes before = noise(8 << 20);
  Bytes after = before;
  after[after.size() / 2] ^= std::byte(1);

  const auto old = hashes(before);
  size_t fresh = 0;
  for (const auto& hash : hashes(after)) fresh += !old.contains(hash);

  CHECK(fresh >= 1);
  CHECK(fresh <= 3);
}

TEST_CASE("a cut right after the smallest size sees the whole window before it") {
  const Bytes bytes = noise(1 << 20);
  const auto found = cuts(bytes, bytes.size());
  const auto early = std::find_if(found.begin(), found.end(), [](size_t n) { return n < (64 << 10); });
  REQUIRE(early != found.end());
  size_t end = 0;
  for (auto it = found.begin(); it <= early; ++it) end += *it;
  // The 64 bytes that caused that cut, moved to where most of them are before the smallest chunk's end.
  Bytes moved(100000);
  const size_t cut = (16 << 10) + 8;
  std::copy_n(bytes.begin() + ptrdiff_t(end - 64), 64, moved.begin() + ptrdiff_t(cut - 64));

  CHECK(cuts(moved, moved.size()).front() == cut);
}

TEST_CASE("zeros are cut into chunks of the largest size, all alike") {
  const Bytes zeros(2 << 20);
  const auto found = cuts(zeros, zeros.size());
  CHECK(found == std::vector<size_t>(8, 256 << 10));
  CHECK(hashes(zeros).size() == 1);
}

TEST_CASE("a file up to the smallest chunk is one chunk") {
  for (size_t n : {size_t(1), size_t(4096), size_t(kSingleChunkBytes)}) {
    for (uint64_t seed = 1; seed < 50; ++seed) CHECK(cuts(noise(n, seed), n) == std::vector<size_t>{n});
  }
  CHECK(cuts({}, 0).empty());
}

TEST_CASE("cuts have not changed since they became the protocol") {
  CHECK(cuts(noise(500000), 500000) == std::vector<size_t>{86204, 72430, 73582, 69821, 86645, 29784, 81028, 506});
  CHECK(cuts(noise(1500000, 2), 2 * kGiB) == std::vector<size_t>{332057, 306802, 150754, 72286, 398088, 240013});
}
