#include "librealize/peer/chunk_pack.h"

#include <algorithm>
#include <cstdlib>

namespace realize::peer {
namespace {

constexpr size_t kHeaderBytes = 12;

std::byte* put(std::byte* out, uint32_t value) {
  for (int i = 0; i < 4; ++i) *out++ = std::byte(value >> (8 * i));
  return out;
}

uint32_t get(const std::byte*& in) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t(*in++) << (8 * i);
  return value;
}

}  // namespace

size_t packedBytes(ChunkArrivals chunks) {
  size_t bytes = chunks.size() * kHeaderBytes;
  for (const auto& chunk : chunks) bytes += chunk.bytes.size();
  return bytes;
}

void packChunks(ChunkArrivals chunks, std::span<std::byte> out) {
  if (out.size() != packedBytes(chunks)) std::abort();
  std::byte* at = out.data();
  for (const auto& chunk : chunks) at = put(put(put(at, chunk.item), chunk.chunk), uint32_t(chunk.bytes.size()));
  for (const auto& chunk : chunks) at = std::copy(chunk.bytes.begin(), chunk.bytes.end(), at);
}

Result<std::vector<ChunkArrival>> unpackChunks(uint32_t count, std::span<const std::byte> packed) {
  if (count > packed.size() / kHeaderBytes) return Error{Code::Corrupt, "a frame of fewer chunks than it says"};
  std::vector<ChunkArrival> out(count);
  const std::byte* header = packed.data();
  auto rest = packed.subspan(count * kHeaderBytes);
  for (auto& chunk : out) {
    chunk.item = get(header);
    chunk.chunk = get(header);
    const uint32_t size = get(header);
    if (size > rest.size()) return Error{Code::Corrupt, "a frame of shorter chunks than it says"};
    chunk.bytes = rest.first(size);
    rest = rest.subspan(size);
  }
  if (!rest.empty()) return Error{Code::Corrupt, "a frame of more bytes than its chunks have"};
  return out;
}

}  // namespace realize::peer
