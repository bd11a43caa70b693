#include "librealize/logic/names.h"

#include <cstdint>

namespace realize::logic {

std::string endingOf(const std::string& name) {
  constexpr size_t kMost = 16;
  const size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 || name.size() - dot > kMost ? "" : name.substr(dot);
}

std::string cutName(const std::string& name, size_t bytes) {
  if (name.size() <= bytes) return name;
  size_t length = bytes;
  while (length > 1 && (uint8_t(name[length]) & 0xc0) == 0x80) --length;
  return name.substr(0, length);
}

}  // namespace realize::logic
