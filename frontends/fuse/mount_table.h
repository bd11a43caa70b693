#pragma once

// The kernel's mount table, /proc/self/mountinfo.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace realize::fuse {

struct MountEntry {
  std::string device;  ///< "major:minor", which names one life of one mount
  std::string path;
  std::string type;    ///< "fuse.realize"
  std::string source;  ///< "realize:ARENA"
};

/// Lines that are not understood are left out. Source: proc_pid_mountinfo(5).
std::vector<MountEntry> parseMountTable(std::string_view text);

/// What is mounted on exactly `path` (canonical), the topmost; none if nothing is.
std::optional<MountEntry> mountedAt(const std::string& path);

}  // namespace realize::fuse
