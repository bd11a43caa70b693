#pragma once

#include "librealize/peer/remote.h"

namespace realize::test {

/// A chunk on its way, with its bytes.
struct HeldChunk {
  uint32_t item = 0;
  uint32_t chunk = 0;
  Bytes bytes;

  static std::vector<HeldChunk> of(peer::ChunkArrivals chunks) {
    std::vector<HeldChunk> out;
    for (const auto& c : chunks) out.push_back({c.item, c.chunk, Bytes(c.bytes.begin(), c.bytes.end())});
    return out;
  }
  static void deliver(const std::vector<HeldChunk>& held, const peer::OnChunks& onChunks) {
    std::vector<peer::ChunkArrival> chunks;
    for (const auto& h : held) chunks.push_back({h.item, h.chunk, h.bytes});
    onChunks(chunks);
  }
};

}  // namespace realize::test
