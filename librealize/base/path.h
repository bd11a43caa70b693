#pragma once

// Paths beneath a root: components with '/' between them; "" is the root itself.

#include <string>
#include <string_view>

namespace realize {

/// Of what lies in the root: "".
inline std::string_view parentPath(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}
inline std::string parentPath(const std::string& path) { return std::string(parentPath(std::string_view(path))); }

/// The last component.
inline std::string_view baseName(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

inline std::string joinPath(std::string_view parent, std::string_view name) {
  std::string path;
  path.reserve(parent.size() + 1 + name.size());
  path += parent;
  if (!path.empty()) path += '/';
  path += name;
  return path;
}

}  // namespace realize
