#include "librealize/base/fold_name.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

namespace realize {

namespace {
std::string foldAscii(std::string_view name) {
  std::string out(name);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  return out;
}
}  // namespace

std::string foldName(std::string_view name) {
  if (std::all_of(name.begin(), name.end(), [](char c) { return uint8_t(c) < 0x80; })) return foldAscii(name);
  utf8proc_uint8_t* folded = nullptr;
  constexpr auto how = utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(name.data()), utf8proc_ssize_t(name.size()), &folded, how);
  if (size < 0) return foldAscii(name);
  std::string out(reinterpret_cast<const char*>(folded), size_t(size));
  free(folded);
  return out;
}

}  // namespace realize
