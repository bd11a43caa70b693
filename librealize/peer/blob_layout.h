#pragma once

#include <memory>
#include <span>
#include <vector>

#include "librealize/model/blob.h"

namespace realize::peer {

/// Where a blob's pieces are. A blob up to kMaxWholeBytes is one piece, verified as a whole.
struct BlobLayout {
  bool whole = false;
  BlobId blob;
  ChunkList list;                 ///< empty if `whole`
  std::vector<uint64_t> offsets;  ///< of each piece, and the blob's size at the end
  std::vector<uint32_t> zeros;    ///< pieces that are nothing but zeros: a hole of the cache file has them

  static std::shared_ptr<const BlobLayout> ofWhole(const BlobId& blob, uint64_t sizeBytes);
  static std::shared_ptr<const BlobLayout> of(const BlobId& blob, ChunkList list);
  uint32_t pieces() const { return uint32_t(offsets.size()) - 1; }
  uint64_t sizeBytes() const { return offsets.back(); }
  uint64_t zeroBytes() const;  ///< of the pieces that take no space
  uint64_t pieceBytes(uint32_t piece) const { return offsets[piece + 1] - offsets[piece]; }
  uint32_t pieceAt(uint64_t offset) const;
  /// The bytes are what the blob's id promises for this piece. Thread: any.
  bool verifies(uint32_t piece, std::span<const std::byte> bytes) const;
};

/// All the bytes of a content, as they say.
struct WholeArrival {
  const BlobId* blob = nullptr;
  uint64_t sizeBytes = 0;
  std::span<const std::byte> bytes;
};
/// For each whether they are, which is quicker to find for many small ones together. Thread: any.
std::vector<bool> verifyWhole(std::span<const WholeArrival> arrivals);

}  // namespace realize::peer
