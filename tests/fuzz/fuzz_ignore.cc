// Any bytes as a pattern file, then any bytes as paths. Wants: no crash, no time beyond pattern length x path length.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "librealize/logic/ignore.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace realize::logic;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  size_t cut = input.find('\xff');
  if (cut == std::string_view::npos) cut = input.size() / 2;
  std::string_view paths = input.substr(cut);

  auto rules = IgnoreRules::parse(input.substr(0, cut));
  if (!rules) return 0;
  rules->match(paths, true);
  IgnoreTree tree;
  tree.set("", *rules);
  tree.set("a", std::move(*rules));
  tree.ignored(paths, false);
  if (!paths.empty()) tree.ignored(paths.substr(1), true);
  tree.clearBelow("a");
  return 0;
}
