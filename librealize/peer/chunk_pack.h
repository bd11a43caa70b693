#pragma once

// Several small chunks in one bulk frame: sealed, sent, opened and hashed together.

#include "librealize/peer/remote.h"

namespace realize::peer {

/// Chunks from this size on travel in frames of their own.
constexpr size_t kPackedChunkBytes = 32 << 10;
/// Of the chunks in one frame, together.
constexpr size_t kPackBytes = 128 << 10;

/// The payload of a frame whose `item` is the number of chunks: for each its item, number and size, 32 bits
/// little-endian; then the bytes of all, one behind the other.
size_t packedBytes(ChunkArrivals chunks);
/// `out` has packedBytes(chunks).
void packChunks(ChunkArrivals chunks, std::span<std::byte> out);
/// The reverse; the chunks lie in `packed`. Errors: Corrupt. Thread: any.
Result<std::vector<ChunkArrival>> unpackChunks(uint32_t count, std::span<const std::byte> packed);

}  // namespace realize::peer
