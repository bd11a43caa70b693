#include "librealize/model/blob.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "librealize/base/hash.h"

namespace realize {
namespace {

constexpr HashDomain kLeafDomain("realize leaf 1");
constexpr HashDomain kChunkDomain("realize chunk 1");
constexpr std::string_view kGroupName = "realize group 1";
constexpr std::string_view kBlobName = "realize blob 1";

constexpr size_t kRecordBytes = kHashBytes + 8;
constexpr char kListFormat = 1;
constexpr size_t kListItemBytes = kHashBytes + 4;

// Leaves whose jobs and hashes are held at one time (16 MiB of chunks).
constexpr size_t kLeavesAtOnce = 4096;

size_t leavesOf(size_t chunkBytes) { return chunkBytes <= kLeafBytes ? 1 : (chunkBytes + kLeafBytes - 1) / kLeafBytes; }

// Chunks that together are not too many, or one chunk.
void hashSomeChunks(std::span<const std::span<const std::byte>> chunks, std::span<ChunkHash> out, size_t leafCount) {
  std::vector<HashJob> leaves, nodes;
  std::vector<uint8_t> leafHashes(leafCount == chunks.size() ? 0 : leafCount * kHashBytes);
  leaves.reserve(leafCount);
  size_t used = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto chunk = chunks[i];
    const size_t count = leavesOf(chunk.size());
    if (count == 1) {
      leaves.push_back({chunk.data(), chunk.size(), out[i].data()});
      continue;
    }
    nodes.push_back({reinterpret_cast<const std::byte*>(leafHashes.data() + used), count * kHashBytes, out[i].data()});
    for (size_t at = 0; at < chunk.size(); at += kLeafBytes, used += kHashBytes)
      leaves.push_back({chunk.data() + at, std::min(kLeafBytes, chunk.size() - at), leafHashes.data() + used});
  }
  blake2b256Many(kLeafDomain, leaves);
  blake2b256Many(kChunkDomain, nodes);
}

void putRecord(uint8_t* to, const uint8_t* hash, uint64_t sizeBytes) {
  std::memcpy(to, hash, kHashBytes);
  for (int i = 0; i < 8; ++i) to[kHashBytes + i] = uint8_t(sizeBytes >> (8 * i));
}

uint64_t sizeInRecord(const uint8_t* record) {
  uint64_t size = 0;
  for (int i = 0; i < 8; ++i) size |= uint64_t(record[kHashBytes + i]) << (8 * i);
  return size;
}

// One level up: each group of records becomes a record.
std::vector<uint8_t> groupRecords(const std::vector<uint8_t>& records, uint8_t level) {
  const size_t groupBytes = kGroupRecords * kRecordBytes;
  const size_t groups = (records.size() + groupBytes - 1) / groupBytes;
  std::vector<uint8_t> out(groups * kRecordBytes);
  std::vector<HashJob> jobs;
  jobs.reserve(groups);
  for (size_t g = 0; g < groups; ++g) {
    const size_t begin = g * groupBytes, end = std::min(records.size(), begin + groupBytes);
    uint64_t size = 0;
    for (size_t at = begin; at < end; at += kRecordBytes) size += sizeInRecord(&records[at]);
    uint8_t* record = &out[g * kRecordBytes];
    for (int i = 0; i < 8; ++i) record[kHashBytes + i] = uint8_t(size >> (8 * i));
    jobs.push_back({reinterpret_cast<const std::byte*>(&records[begin]), end - begin, record});
  }
  blake2b256Many(HashDomain(kGroupName, level), jobs);
  return out;
}

}  // namespace

uint64_t ChunkList::sizeBytes() const {
  uint64_t sum = 0;
  for (const auto& c : chunks) sum += c.sizeBytes;
  return sum;
}

ChunkHash hashChunk(std::span<const std::byte> chunk) {
  ChunkHash out;
  hashChunks({&chunk, 1}, {&out, 1});
  return out;
}

void hashChunks(std::span<const std::span<const std::byte>> chunks, std::span<ChunkHash> out) {
  if (out.size() != chunks.size()) std::abort();
  if (chunks.size() == 1 && leavesOf(chunks[0].size()) == 1) return blake2b256(kLeafDomain, chunks[0], out[0].data());
  size_t begin = 0, leaves = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    const size_t more = leavesOf(chunks[i].size());
    if (leaves > 0 && leaves + more > kLeavesAtOnce) {
      hashSomeChunks(chunks.subspan(begin, i - begin), out.subspan(begin, i - begin), leaves);
      begin = i;
      leaves = 0;
    }
    leaves += more;
  }
  if (leaves > 0) hashSomeChunks(chunks.subspan(begin), out.subspan(begin), leaves);
}

BlobId blobIdOf(const ChunkList& list) {
  std::vector<uint8_t> records(list.chunks.size() * kRecordBytes);
  for (size_t i = 0; i < list.chunks.size(); ++i)
    putRecord(&records[i * kRecordBytes], list.chunks[i].hash.data(), list.chunks[i].sizeBytes);
  uint8_t level = 0;
  for (; records.size() > kGroupRecords * kRecordBytes; ++level) records = groupRecords(records, level);
  BlobId out;
  blake2b256(HashDomain(kBlobName, level), std::as_bytes(std::span(records)), out.data());
  return out;
}

BlobId blobIdOf(const ChunkRef& onlyChunk) {
  uint8_t record[kRecordBytes];
  putRecord(record, onlyChunk.hash.data(), onlyChunk.sizeBytes);
  BlobId out;
  blake2b256(HashDomain(kBlobName), std::as_bytes(std::span(record)), out.data());
  return out;
}

BlobId emptyBlobId() {
  static const BlobId id = blobIdOf(ChunkList{});
  return id;
}

const ChunkRef& zeroChunkFor(uint64_t fileSizeBytes) {
  static const auto chunks = [] {
    std::array<ChunkRef, 3> out;
    const Bytes zeros(kMaxChunkBytes);
    for (size_t i = 0; i < out.size(); ++i) {
      out[i].sizeBytes = kMaxChunkBytes >> (2 * i);
      out[i].hash = hashChunk(std::span(zeros).first(out[i].sizeBytes));
    }
    return out;
  }();
  const uint32_t size = chunkSizesFor(fileSizeBytes).max;
  for (const auto& chunk : chunks)
    if (chunk.sizeBytes == size) return chunk;
  std::abort();  // A size class was added.
}

std::string encodeChunkList(const ChunkList& list) {
  std::string out;
  out.reserve(1 + list.chunks.size() * kListItemBytes);
  out += kListFormat;
  for (const auto& c : list.chunks) {
    out.append(reinterpret_cast<const char*>(c.hash.data()), kHashBytes);
    for (int i = 0; i < 4; ++i) out += char(c.sizeBytes >> (8 * i));
  }
  return out;
}

Result<ChunkList> decodeChunkList(std::string_view bytes) {
  if (bytes.empty()) return Error{Code::Corrupt, "chunk list without a format number"};
  if (bytes[0] != kListFormat) return Error{Code::WrongVersion, "chunk list of an unknown format"};
  bytes.remove_prefix(1);
  if (bytes.size() % kListItemBytes != 0) return Error{Code::Corrupt, "chunk list of wrong length"};
  ChunkList list;
  list.chunks.resize(bytes.size() / kListItemBytes);
  for (auto& c : list.chunks) {
    std::memcpy(c.hash.data(), bytes.data(), kHashBytes);
    for (int i = 0; i < 4; ++i) c.sizeBytes |= uint32_t(uint8_t(bytes[kHashBytes + i])) << (8 * i);
    if (c.sizeBytes == 0 || c.sizeBytes > kMaxChunkBytes)
      return Error{Code::Corrupt, "chunk list with a chunk of impossible size"};
    bytes.remove_prefix(kListItemBytes);
  }
  return list;
}

ContentHasher::ContentHasher(uint64_t fileSizeBytes) : chunker_(fileSizeBytes), fileSizeBytes_(fileSizeBytes) {}

/// Up to a cut, or all of them. `bytes`: not empty, and no more than are due.
size_t ContentHasher::step(std::span<const std::byte> bytes) {
  const bool last = takenBytes_ + bytes.size() >= fileSizeBytes_;
  const size_t n = chunker_.next(bytes, last);
  if (n == 0) {
    pending_.insert(pending_.end(), bytes.begin(), bytes.end());
    takenBytes_ += bytes.size();
    return bytes.size();
  }
  auto chunk = bytes.first(n);
  if (!pending_.empty()) {
    pending_.insert(pending_.end(), chunk.begin(), chunk.end());
    chunk = pending_;
  }
  list_.chunks.push_back({hashChunk(chunk), uint32_t(chunk.size())});
  pending_.clear();
  takenBytes_ += n;
  return n;
}

void ContentHasher::add(std::span<const std::byte> bytes) {
  fedBytes_ += bytes.size();
  // finish() will refuse what is too much; no use in hashing it.
  bytes = bytes.first(size_t(std::min<uint64_t>(bytes.size(), fileSizeBytes_ - takenBytes_)));
  while (!bytes.empty()) bytes = bytes.subspan(step(bytes));
}

void ContentHasher::addZeros(uint64_t count) {
  static constexpr std::array<std::byte, 64 << 10> kZeros{};
  fedBytes_ += count;
  count = std::min(count, fileSizeBytes_ - takenBytes_);
  const ChunkRef& whole = zeroChunkFor(fileSizeBytes_);
  while (count > 0) {
    if (pending_.empty() && count >= whole.sizeBytes) {  // Right after a cut.
      list_.chunks.push_back(whole);
      takenBytes_ += whole.sizeBytes;
      count -= whole.sizeBytes;
      continue;
    }
    count -= step(std::span(kZeros).first(size_t(std::min<uint64_t>(count, kZeros.size()))));
  }
}

Result<Content> ContentHasher::finish() {
  if (fedBytes_ != fileSizeBytes_) return Error{Code::Busy, "the file changed its size while it was read"};
  Content out;
  out.sizeBytes = fileSizeBytes_;
  out.blob = list_.chunks.size() == 1 ? blobIdOf(list_.chunks[0]) : blobIdOf(list_);
  out.list = std::move(list_);
  return out;
}

void hashSmallContents(std::span<const std::span<const std::byte>> files, std::span<Content> out) {
  if (out.size() != files.size()) std::abort();
  std::vector<ChunkHash> hashes(files.size());
  hashChunks(files, hashes);
  std::vector<std::array<uint8_t, kRecordBytes>> records(files.size());
  std::vector<HashJob> jobs;
  jobs.reserve(files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    if (files[i].size() > kSingleChunkBytes) std::abort();
    Content& content = out[i];
    content.sizeBytes = files[i].size();
    content.list.chunks.clear();
    if (files[i].empty()) {
      content.blob = emptyBlobId();
      continue;
    }
    content.list.chunks.push_back({hashes[i], uint32_t(files[i].size())});
    putRecord(records[i].data(), hashes[i].data(), files[i].size());
    jobs.push_back({reinterpret_cast<const std::byte*>(records[i].data()), kRecordBytes, content.blob.data()});
  }
  blake2b256Many(HashDomain(kBlobName), jobs);
}

}  // namespace realize
