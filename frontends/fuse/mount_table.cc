#include "frontends/fuse/mount_table.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace realize::fuse {

namespace {

// Space, tab, newline and backslash stand as three octal digits.
std::string unescape(std::string_view text) {
  auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    bool escaped = text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) &&
                   octal(text[i + 3]);
    if (!escaped) {
      out += text[i];
      continue;
    }
    out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
    i += 3;
  }
  return out;
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    size_t end = std::min(line.find(' '), line.size());
    if (end > 0) words.push_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return words;
}

}  // namespace

std::vector<MountEntry> parseMountTable(std::string_view text) {
  std::vector<MountEntry> entries;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    auto words = split(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    // id parent major:minor root path options [optional fields...] - type source super-options
    size_t dash = 6;
    while (dash < words.size() && words[dash] != "-") ++dash;
    if (dash + 2 >= words.size()) continue;
    entries.push_back({std::string(words[2]), unescape(words[4]), unescape(words[dash + 1]),
                       unescape(words[dash + 2])});
  }
  return entries;
}

std::optional<MountEntry> mountedAt(const std::string& path) {
  std::ifstream file("/proc/self/mountinfo", std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  std::optional<MountEntry> found;
  for (MountEntry& entry : parseMountTable(text.str()))
    if (entry.path == path) found = std::move(entry);  // Later lines lie above earlier ones.
  return found;
}

}  // namespace realize::fuse
