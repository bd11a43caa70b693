#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <vector>

#include "librealize/base/hash.h"
#include "librealize/model/blob.h"

using namespace realize;

namespace {

// xorshift: the same incompressible bytes in every run, and part of the golden values below.
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

using Digest = std::array<uint8_t, 32>;

Digest hashOf(HashDomain domain, std::span<const std::byte> input) {
  Digest out;
  blake2b256(domain, input, out.data());
  return out;
}

void append(Bytes& to, std::span<const uint8_t> bytes) {
  for (auto b : bytes) to.push_back(std::byte(b));
}

void appendRecord(Bytes& to, std::span<const uint8_t> hash, uint64_t size) {
  append(to, hash);
  for (int i = 0; i < 8; ++i) to.push_back(std::byte(size >> (8 * i)));
}

// The definition in blob.h word for word and one hash at a time.
Digest chunkOracle(std::span<const std::byte> chunk) {
  if (chunk.size() <= 4096) return hashOf(HashDomain("realize leaf 1"), chunk);
  Bytes leaves;
  for (; !chunk.empty(); chunk = chunk.subspan(std::min<size_t>(4096, chunk.size())))
    append(leaves, hashOf(HashDomain("realize leaf 1"), chunk.first(std::min<size_t>(4096, chunk.size()))));
  return hashOf(HashDomain("realize chunk 1"), leaves);
}

Digest blobOracle(std::vector<std::pair<Digest, uint64_t>> records) {
  uint8_t level = 0;
  auto joined = [&](size_t from, size_t to) {
    Bytes out;
    for (size_t i = from; i < to; ++i) appendRecord(out, records[i].first, records[i].second);
    return out;
  };
  for (; records.size() > 256; ++level) {
    std::vector<std::pair<Digest, uint64_t>> above;
    for (size_t at = 0; at < records.size(); at += 256) {
      const size_t end = std::min(records.size(), at + 256);
      uint64_t size = 0;
      for (size_t i = at; i < end; ++i) size += records[i].second;
      above.push_back({hashOf(HashDomain("realize group 1", level), joined(at, end)), size});
    }
    records = above;
  }
  return hashOf(HashDomain("realize blob 1", level), joined(0, records.size()));
}

ChunkList listOf(size_t count) {
  ChunkList list;
  for (size_t i = 0; i < count; ++i) {
    ChunkRef ref;
    const Digest digest = hashOf(HashDomain("test"), std::as_bytes(std::span(&i, 1)));
    std::memcpy(ref.hash.data(), digest.data(), 32);
    ref.sizeBytes = uint32_t(1 + i * 37 % kMaxChunkBytes);
    list.chunks.push_back(ref);
  }
  return list;
}

Content contentOf(std::span<const std::byte> bytes, size_t step = SIZE_MAX) {
  ContentHasher hasher(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const size_t n = std::min(step, bytes.size() - at);
    hasher.add(bytes.subspan(at, n));
    at += n;
  }
  auto result = hasher.finish();
  REQUIRE(result.ok());
  return *result;
}

}  // namespace

TEST_CASE("a chunk's hash is what its definition says at every number of leaves") {
  const Bytes bytes = noise(kMaxChunkBytes);
  for (size_t n : {0, 1, 127, 128, 129, 4095, 4096, 4097, 8192, 16384, 65536, 65537, 262144, 1 << 22}) {
    CAPTURE(n);
    const auto chunk = std::span(bytes).first(n);
    CHECK(hashChunk(chunk).bytes == chunkOracle(chunk));
  }
}

TEST_CASE("many chunks at once hash as each alone") {
  const Bytes bytes = noise(600000);
  std::vector<std::span<const std::byte>> chunks;
  for (size_t n : {5, 4096, 0, 4097, 70000, 12, 16384, 1, 500000, 4096}) chunks.push_back(std::span(bytes).first(n));
  for (size_t i = 0; i < 60; ++i) chunks.push_back(std::span(bytes).subspan(i * 9, 590000));  // beyond one batch
  std::vector<ChunkHash> hashes(chunks.size());

  hashChunks(chunks, hashes);

  for (size_t i = 0; i < chunks.size(); ++i) CHECK(hashes[i].bytes == chunkOracle(chunks[i]));
}

TEST_CASE("a blob's id is what its definition says at every depth") {
  for (size_t count : {0, 1, 2, 255, 256, 257, 512, 513, 65536, 65537}) {
    CAPTURE(count);
    const ChunkList list = listOf(count);
    std::vector<std::pair<Digest, uint64_t>> records;
    for (const auto& c : list.chunks) records.push_back({c.hash.bytes, c.sizeBytes});
    CHECK(blobIdOf(list).bytes == blobOracle(records));
  }
}

TEST_CASE("a blob of one chunk has its id from the chunk's hash and size alone") {
  ChunkRef ref;
  ref.hash.bytes[0] = 1;
  ref.sizeBytes = 77;
  CHECK(blobIdOf(ref) == blobIdOf(ChunkList{{ref}}));
  ChunkRef other = ref;
  other.sizeBytes = 78;
  CHECK(blobIdOf(other) != blobIdOf(ref));
}

TEST_CASE("a blob's id depends on every chunk, its size and its order") {
  const ChunkList list = listOf(300);
  const BlobId id = blobIdOf(list);

  ChunkList changed = list;
  changed.chunks[299].hash.bytes[31] ^= 1;
  CHECK(blobIdOf(changed) != id);
  changed = list;
  std::swap(changed.chunks[0], changed.chunks[299]);
  CHECK(blobIdOf(changed) != id);
  changed = list;
  ++changed.chunks[5].sizeBytes;
  --changed.chunks[6].sizeBytes;
  CHECK(blobIdOf(changed) != id);
}

TEST_CASE("hashes have not changed since they became the protocol") {
  CHECK(emptyBlobId().hex() == "b50133363b72692a03f87de2ab6cd0a66f946414ebc32dc6a9294bf9587c1ab9");
  CHECK(hashChunk(noise(100)).hex() == "7d2d68b5721e6171f4ff1e00fda3ab1f30b262d3a4220e2bebf32e0b8d421ed9");
  CHECK(hashChunk(noise(65536)).hex() == "7be20ae7849cfc3763a286091f0ee956003577ff3f0438cadb461197421f7b62");
  CHECK(contentOf(noise(100)).blob.hex() == "56e6f2695313e3be7051965b0688e4b91831220b72cfa5a353d77ab5b78278d2");
  CHECK(contentOf(noise(1000000)).blob.hex() == "b8553aa45c2927df6366e7721a4b4a826730b4dd3cc86b0e36865ab911cb3e00");
  CHECK(blobIdOf(listOf(1000)).hex() == "f27110393de2bf15584b6ca8777c174bfda7977e159bf4aef4671620ab4b4b59");
}

TEST_CASE("content is the same however the file is read") {
  const Bytes bytes = noise(700001);
  const Content whole = contentOf(bytes);
  REQUIRE(whole.list.chunks.size() > 3);
  CHECK(whole.list.sizeBytes() == bytes.size());
  CHECK(whole.blob == blobIdOf(whole.list));
  size_t at = 0;
  for (const auto& c : whole.list.chunks) {
    CHECK(c.hash.bytes == chunkOracle(std::span(bytes).subspan(at, c.sizeBytes)));
    at += c.sizeBytes;
  }

  for (size_t step : {1000, 4096, 16383, 65536, 300000}) {
    CAPTURE(step);
    const Content parts = contentOf(bytes, step);
    CHECK(parts.blob == whole.blob);
    CHECK(parts.list == whole.list);
  }
}

TEST_CASE("a file that grew or shrank while being read has no content") {
  const Bytes bytes = noise(50000);
  ContentHasher shrunk(50001), grown(49999), grownLate(20000), growsFromNothing(0);

  shrunk.add(bytes);
  grown.add(bytes);
  grownLate.add(std::span(bytes).first(20000));
  grownLate.add(std::span(bytes).first(1));
  growsFromNothing.add(bytes);

  CHECK(shrunk.finish().code() == Code::Busy);
  CHECK(grown.finish().code() == Code::Busy);
  CHECK(grownLate.finish().code() == Code::Busy);
  CHECK(growsFromNothing.finish().code() == Code::Busy);
}

TEST_CASE("the empty file is the empty blob") {
  const Content content = contentOf({});
  CHECK(content.blob == emptyBlobId());
  CHECK(content.list.chunks.empty());
}

TEST_CASE("small files hash together as they do alone") {
  const Bytes bytes = noise(kSingleChunkBytes);
  std::vector<std::span<const std::byte>> files;
  for (size_t n : {0, 1, 4096, 4097, 16384, 100, 0, 4096, 4096, 16383}) files.push_back(std::span(bytes).first(n));
  std::vector<Content> contents(files.size());

  hashSmallContents(files, contents);

  for (size_t i = 0; i < files.size(); ++i) {
    CAPTURE(files[i].size());
    const Content alone = contentOf(files[i]);
    CHECK(contents[i].blob == alone.blob);
    CHECK(contents[i].list == alone.list);
    CHECK(contents[i].sizeBytes == alone.sizeBytes);
  }
}

TEST_CASE("a chunk list comes back from its encoding, 36 bytes a chunk") {
  for (size_t count : {0, 1, 300}) {
    const ChunkList list = listOf(count);
    const std::string encoded = encodeChunkList(list);
    CHECK(encoded.size() == 1 + 36 * count);
    auto back = decodeChunkList(encoded);
    REQUIRE(back.ok());
    CHECK(*back == list);
  }
}

TEST_CASE("a malformed chunk list is refused") {
  const std::string good = encodeChunkList(listOf(3));
  CHECK(decodeChunkList("").code() == Code::Corrupt);
  CHECK(decodeChunkList(std::string_view(good).substr(0, good.size() - 1)).code() == Code::Corrupt);
  CHECK(decodeChunkList(good + "x").code() == Code::Corrupt);
  std::string newer = good;
  newer[0] = 2;
  CHECK(decodeChunkList(newer).code() == Code::WrongVersion);
  std::string empty = good, huge = good;
  for (int i = 0; i < 4; ++i) empty[1 + 32 + i] = 0;
  huge[1 + 32 + 2] = char(0x41);  // over 4 MiB
  CHECK(decodeChunkList(empty).code() == Code::Corrupt);
  CHECK(decodeChunkList(huge).code() == Code::Corrupt);
}

TEST_CASE("zeros that are only counted hash as zeros that are read") {
  std::mt19937_64 random(5);
  for (const uint64_t size : {uint64_t(100'000), uint64_t(3'000'000), uint64_t(9'437'184)}) {
    for (int round = 0; round < 20; ++round) {
      CAPTURE(size);
      CAPTURE(round);
      // Runs of data and of zeros, of lengths about those of chunks.
      Bytes bytes(size);
      ContentHasher counted(size);
      for (uint64_t at = 0; at < size;) {
        const uint64_t run = std::min<uint64_t>(size - at, 1 + random() % (random() % 2 ? 5'000 : 900'000));
        if (random() % 2) {
          for (uint64_t i = 0; i < run; ++i) bytes[at + i] = std::byte(random());
          counted.add(std::span(bytes).subspan(at, run));
        } else {
          counted.addZeros(run);
        }
        at += run;
      }
      ContentHasher read(size);
      read.add(bytes);

      const auto a = counted.finish(), b = read.finish();

      REQUIRE(a.ok());
      CHECK(a->blob == b->blob);
      CHECK(a->list == b->list);
    }
  }
}

TEST_CASE("a hole of a terabyte is hashed at once, and is chunks of zeros") {
  const uint64_t size = uint64_t(1) << 40;
  ContentHasher hasher(size);
  hasher.addZeros(size);

  const auto content = hasher.finish();

  REQUIRE(content.ok());
  CHECK(content->list.chunks.size() == size / kMaxChunkBytes);
  CHECK(content->list.chunks.front() == zeroChunkFor(size));
  CHECK(content->list.chunks.back() == zeroChunkFor(size));
}

TEST_CASE("too many or too few zeros are no content") {
  ContentHasher more(100'000), fewer(100'000);
  more.addZeros(100'001);
  fewer.addZeros(99'999);

  CHECK(more.finish().code() == Code::Busy);
  CHECK(fewer.finish().code() == Code::Busy);
}
