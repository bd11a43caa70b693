#pragma once

// Contents by hash: leaves, chunks, blobs (DESIGN 4). All constants here are part of the protocol.

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

/// Smallest, average and largest chunk for a file of that size: 16, 64 and 256 KiB up to 1 GiB, larger above.
struct ChunkSizes { uint32_t min, average, max; };
ChunkSizes chunkSizesFor(uint64_t fileSizeBytes);
constexpr uint32_t kMaxChunkBytes = 4u << 20;  ///< of any size class

/// The hash of one chunk. Many leaves are hashed at once where the CPU can.
ChunkHash hashChunk(std::span<const std::byte> chunk);
/// The same for several chunks (many small files) at once.
void hashChunks(std::span<const std::span<const std::byte>> chunks, std::span<ChunkHash> out);

/// The blob's id: a domain-separated Merkle root over (chunk hash, size) in groups of 256, so that a range can be
/// verified alone. The empty blob has an id of its own.
BlobId blobIdOf(const ChunkList& list);

/// 36 bytes a chunk, after a one-byte format number. Errors of decode: Corrupt (wrong length, a chunk over
/// kMaxChunkBytes or empty).
std::string encodeChunkList(const ChunkList& list);
Result<ChunkList> decodeChunkList(std::string_view bytes);

/// Cuts a stream into chunks at places that depend on content only (FastCDC with a gear hash).
/// Feed it the file from the start; cuts are the same however the bytes are split into calls.
class Chunker {
 public:
  explicit Chunker(uint64_t fileSizeBytes);
  /// How many of `bytes` end the current chunk; 0 if no cut is within them (all of them belong to the chunk).
  /// `bytes` starts where the last call ended. `last`: nothing follows, the end is a cut.
  size_t next(std::span<const std::byte> bytes, bool last);

 private:
  ChunkSizes sizes_;
  uint64_t gear_ = 0;
  uint32_t position_ = 0;
};

}  // namespace realize
