#pragma once

// What is on the disk with its name: a synced file under a name that went with the power is nobody's.

#include <set>
#include <string>

#include "librealize/base/disk.h"

namespace realize::peer {

/// The file's bytes, its name and those of the folders above it are on the disk. `folders`: of those that is so already;
/// added to. Thread: any.
Result<void> syncWithNames(Directory& root, DiskFile& file, const std::string& path, std::set<std::string>& folders);
/// The names only.
Result<void> syncNamesAbove(Directory& root, const std::string& path, std::set<std::string>& folders);

}  // namespace realize::peer
