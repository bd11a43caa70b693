// decodeChunkList takes what a peer sends: whatever it accepts must encode back to the same bytes.

#include <cstdlib>
#include <string_view>

#include "librealize/model/blob.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto list = realize::decodeChunkList(bytes);
  if (!list.ok()) return 0;
  if (realize::encodeChunkList(*list) != bytes) std::abort();
  (void)realize::blobIdOf(*list);
  (void)list->sizeBytes();
  return 0;
}
