#pragma once

// Contents by hash: leaves, chunks, blobs (DESIGN 4). All constants here are part of the protocol.
//
// Every hash is BLAKE2b with 32 bytes' output, no key, and in the parameter block a personalisation that says what is
// hashed (filled up with zeros to 16 bytes) and a salt whose first byte is a level (the other 15 zero):
//
//   leaf    "realize leaf 1"                the bytes of a leaf
//   chunk   "realize chunk 1"               the leaf hashes of a chunk of two leaves or more, in order
//   group   "realize group 1", salt level   up to kGroupRecords records of one level, in order
//   blob    "realize blob 1", salt levels   the records of the top level, in order
//
// A chunk is cut into leaves of kLeafBytes, the last one shorter. A chunk of one leaf has that leaf's hash, any other the
// hash over its leaves' hashes. A record is a hash and the size in bytes of what it stands for, as 8 bytes little-endian.
// The records of level 0 are the chunks. While a level has more than kGroupRecords records, each kGroupRecords of them
// in order (the last group may have fewer) become one record of the next level: the hash of the group with the level it
// is made from as salt, the sum of the sizes. The blob's id is the hash over the records of the level that is left,
// with the number of that level as salt. So the id of a blob of one chunk follows from the chunk's hash and size, the
// empty blob is the hash of nothing, and one path of groups verifies a range alone.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "realize/result.h"
#include "realize/types.h"

namespace realize {

/// BLAKE2b-256 Merkle root over the chunk's leaves (kLeafBytes each, the last shorter).
using ChunkHash = FixedBytes<32, struct ChunkTag>;

constexpr size_t kLeafBytes = 4096;
constexpr size_t kGroupRecords = 256;

struct ChunkRef {
  ChunkHash hash;
  uint32_t sizeBytes = 0;
  bool operator==(const ChunkRef&) const = default;
};

/// The chunks of one blob in order. A blob of one chunk (or none) needs no list on the wire or on disk: its id
/// follows from its only chunk.
struct ChunkList {
  std::vector<ChunkRef> chunks;
  bool operator==(const ChunkList&) const = default;
  uint64_t sizeBytes() const;
};

/// Smallest, average and largest chunk for a file of that size: 16, 64 and 256 KiB up to 1.5 GiB, four times as much
/// above, sixteen times above 96 GiB.
struct ChunkSizes {
  uint32_t min, average, max;
  bool operator==(const ChunkSizes&) const = default;
};
ChunkSizes chunkSizesFor(uint64_t fileSizeBytes);
constexpr uint32_t kMaxChunkBytes = 4u << 20;  ///< of any size class
/// A file of at most this many bytes is one chunk (an empty one none).
constexpr uint32_t kSingleChunkBytes = 16u << 10;

/// The hash of one chunk. Many leaves are hashed at once where the CPU can. Thread: any.
ChunkHash hashChunk(std::span<const std::byte> chunk);
/// The same for several chunks (many small files) at once; as many `out` as chunks.
void hashChunks(std::span<const std::span<const std::byte>> chunks, std::span<ChunkHash> out);

/// The blob's id: see above. Thread: any.
BlobId blobIdOf(const ChunkList& list);
/// Of a blob that is this one chunk.
BlobId blobIdOf(const ChunkRef& onlyChunk);
/// Of the blob without bytes.
BlobId emptyBlobId();

/// 36 bytes a chunk, after a one-byte format number. Errors of decode: Corrupt (wrong length, a chunk over
/// kMaxChunkBytes or empty), WrongVersion. A decoded list is not verified: compare blobIdOf() with the id wanted.
std::string encodeChunkList(const ChunkList& list);
Result<ChunkList> decodeChunkList(std::string_view bytes);

/// What the inside of a long run of zeros is cut into, in a file of that size: such a chunk needs neither be read nor sent.
const ChunkRef& zeroChunkFor(uint64_t fileSizeBytes);

/// Cuts a stream into chunks at places that depend on content only (FastCDC with a gear hash).
/// Feed it the file from the start; cuts are the same however the bytes are split into calls.
/// Source: Xia et al., FastCDC, USENIX ATC 2016: normalized chunking, two bits up and down. The gear table is BLAKE2b
/// with 8 bytes' output of "realize gear 1" and the byte's value, read little-endian; a cut is where the topmost bits of
/// the gear hash of the 64 bytes before it are zero.
class Chunker {
 public:
  explicit Chunker(uint64_t fileSizeBytes);
  /// How many of `bytes` end the current chunk; 0 if no cut is within them (all of them belong to the chunk).
  /// `bytes` starts where the last call ended. `last`: nothing follows, the end is a cut.
  size_t next(std::span<const std::byte> bytes, bool last);

 private:
  size_t search(std::span<const std::byte> bytes, size_t from, size_t to, uint64_t limit);

  ChunkSizes sizes_;
  const uint64_t* table_;
  uint64_t hardLimit_, easyLimit_;
  uint64_t gear_ = 0;
  uint32_t position_ = 0;
};

/// What a file's bytes are called.
struct Content {
  BlobId blob;
  ChunkList list;
  uint64_t sizeBytes = 0;
};

/// Hashes one file as it is read. Memory: at most one chunk, and none where the calls hold whole chunks: feed it a
/// MiB or so at a time, small files whole. Thread: one at a time.
class ContentHasher {
 public:
  /// The size decides how chunks are cut, so it must be known before.
  explicit ContentHasher(uint64_t fileSizeBytes);
  /// The next bytes of the file. They may be overwritten afterwards.
  void add(std::span<const std::byte> bytes);
  /// So many zeros come next (a hole). Takes no time for the most of a large hole.
  void addZeros(uint64_t count);
  /// Once. Errors: Busy when more or fewer bytes came than were announced: the file changed while it was read.
  Result<Content> finish();

 private:
  size_t step(std::span<const std::byte> bytes);

  Chunker chunker_;
  uint64_t fileSizeBytes_;
  uint64_t fedBytes_ = 0;
  uint64_t takenBytes_ = 0;  ///< of those that were announced
  Bytes pending_;  ///< of the current chunk, from earlier calls
  ChunkList list_;
};

/// The contents of many whole files of at most kSingleChunkBytes at once, several times as quick as one by one where they
/// are 4 KiB or less; as many `out` as files. Thread: any.
void hashSmallContents(std::span<const std::span<const std::byte>> files, std::span<Content> out);

}  // namespace realize
