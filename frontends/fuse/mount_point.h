#pragma once

// Mounting and unmounting: mount(2) where we may, else fusermount3.

#include <cstdint>
#include <string>
#include <vector>

#include "realize/result.h"

namespace realize::fuse {

/// The mount table's name for our type.
inline constexpr const char* kMountType = "fuse.realize";

/// The canonical path, found by the parent: the path of a dead mount cannot be resolved itself.
std::string canonicalMountPoint(const std::string& path);

/// Checks that `path` is an existing, empty directory outside of and not around `forbidden`; takes a dead mount of
/// ours away first. Returns the canonical path. Errors as Mount::start().
Result<std::string> prepareMountPoint(const std::string& path, const std::vector<std::string>& forbidden);

struct MountedDevice {
  int fd = -1;         ///< /dev/fuse, the caller's to close
  std::string device;  ///< as in MountEntry
};

/// Mounts on a prepared mount point. Requests wait until the descriptor is served.
Result<MountedDevice> mountFuse(const std::string& mountPoint, const std::string& source, bool allowOther);

/// Unmounts what is mounted on `mountPoint`. Errors: Busy, PermissionDenied, NotFound.
Result<void> unmountFuse(const std::string& mountPoint, bool lazy);

/// Lets the kernel read ahead of the mount with that device number. As root only; else does nothing.
void setReadAhead(const std::string& device, uint32_t kib);

/// True when `path` is `folder` or lies below it. Both canonical.
bool liesWithin(const std::string& path, const std::string& folder);

}  // namespace realize::fuse
