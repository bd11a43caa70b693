#include <doctest/doctest.h>

#include "librealize/base/random.h"
#include "librealize/peer/blob_layout.h"
#include "librealize/peer/chunk_pack.h"

using namespace realize;
using namespace realize::peer;

namespace {

Bytes randomBytes(size_t size) {
  Bytes out(size);
  systemRandom().fill({reinterpret_cast<uint8_t*>(out.data()), out.size()});
  return out;
}

BlobId blobOf(const Bytes& bytes) {
  ContentHasher hasher(bytes.size());
  hasher.add(bytes);
  return hasher.finish()->blob;
}

}  // namespace

TEST_CASE("chunks come out of a frame as they went in") {
  const Bytes a = randomBytes(1), b = randomBytes(5000), none;
  const std::vector<ChunkArrival> chunks = {{7, 0, a}, {0, 0xffffffff, b}, {511, 3, none}};
  Bytes packed(packedBytes(chunks));

  packChunks(chunks, packed);
  const auto out = unpackChunks(3, packed);

  REQUIRE(out.ok());
  REQUIRE(out->size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK((*out)[i].item == chunks[i].item);
    CHECK((*out)[i].chunk == chunks[i].chunk);
    CHECK(std::equal((*out)[i].bytes.begin(), (*out)[i].bytes.end(), chunks[i].bytes.begin(), chunks[i].bytes.end()));
  }
}

TEST_CASE("a frame that does not hold what it says is corrupt") {
  const Bytes a = randomBytes(100), b = randomBytes(100);
  const std::vector<ChunkArrival> chunks = {{0, 0, a}, {1, 0, b}};
  Bytes packed(packedBytes(chunks));
  packChunks(chunks, packed);
  const std::span<const std::byte> whole(packed);

  CHECK(unpackChunks(0, {}).ok());
  CHECK(unpackChunks(0, whole).code() == Code::Corrupt);
  CHECK(unpackChunks(1, whole).code() == Code::Corrupt);
  CHECK(unpackChunks(0xffffffff, whole).code() == Code::Corrupt);
  CHECK(unpackChunks(2, whole.first(whole.size() - 1)).code() == Code::Corrupt);
  CHECK(unpackChunks(2, whole.first(23)).code() == Code::Corrupt);
  CHECK(unpackChunks(1, {}).code() == Code::Corrupt);
}

TEST_CASE("contents that came together are verified one by one") {
  std::vector<Bytes> contents;
  for (size_t size : {0, 1, 4096, 4096, 4097, 16384, 16385, 200'000, 4096, 10, 4096}) contents.push_back(randomBytes(size));
  std::vector<BlobId> blobs;
  for (const auto& bytes : contents) blobs.push_back(blobOf(bytes));
  std::vector<WholeArrival> arrivals;
  for (size_t i = 0; i < contents.size(); ++i) arrivals.push_back({&blobs[i], contents[i].size(), contents[i]});

  CHECK(verifyWhole(arrivals) == std::vector<bool>(contents.size(), true));
  for (size_t i = 1; i < contents.size(); ++i) {
    contents[i].back() ^= std::byte(1);
    std::vector<bool> expected(contents.size(), true);
    expected[i] = false;
    CHECK(verifyWhole(arrivals) == expected);
    contents[i].back() ^= std::byte(1);
  }
  arrivals[3].sizeBytes = UINT64_MAX;
  CHECK_FALSE(verifyWhole(arrivals)[3]);
}
