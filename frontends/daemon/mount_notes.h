#pragma once

// Which mounts are up, on disk: what a killed daemon leaves there tells the next one which dead mounts were its own.

#include <string>
#include <vector>

#include "realize/result.h"

namespace realize::daemon {

struct MountInfo {
  std::string arena;
  std::string mountPoint;
  std::vector<std::string> options;
};

/// What `stateDir`/mounts says; nothing where it is absent or cannot be understood.
std::vector<MountInfo> readMountNotes(const std::string& stateDir);

/// Replaces the file, or removes it where there is nothing to say. Not synced: no mount outlives a power cut.
Result<void> writeMountNotes(const std::string& stateDir, const std::vector<MountInfo>& mounts);

/// True for a mount whose process is gone ("Transport endpoint is not connected").
bool isDeadMount(const std::string& mountPoint);

}  // namespace realize::daemon
