// The parser of inotify's records stays within what it was given.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "librealize/base/inotify_events.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  auto events = realize::parseInotifyEvents(bytes);
  if (!events.ok()) return 0;
  size_t names = 0;
  for (auto& event : *events) {
    auto* begin = reinterpret_cast<const uint8_t*>(event.name.data());
    if (!event.name.empty() && (begin < data || begin + event.name.size() > data + size)) abort();
    names += event.name.size();
  }
  if (names > size) abort();
  return 0;
}
