// unpackChunks takes what a peer sends: whatever it accepts must pack to the same bytes again.

#include <algorithm>
#include <cstdlib>

#include "librealize/peer/chunk_pack.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const auto packed = std::as_bytes(std::span(data + 1, size - 1));
  const auto chunks = realize::peer::unpackChunks(data[0], packed);
  if (!chunks.ok()) return 0;
  if (chunks->size() != data[0] || realize::peer::packedBytes(*chunks) != packed.size()) std::abort();
  realize::Bytes again(packed.size());
  realize::peer::packChunks(*chunks, again);
  if (!std::equal(packed.begin(), packed.end(), again.begin())) std::abort();
  return 0;
}
