#pragma once

#include "frontends/daemon/daemon.h"
#include "frontends/daemon/fuse_mounter.h"
#include "frontends/fuse/mount.h"

namespace realize::cli {

/// What the installed programs stand on; tests put a double in its place.
inline daemon::Library realLibrary() {
  return {Peer::init, Peer::open, daemon::fuseMounter(),
          [](const std::string& mountPoint) { return fuse::unmountPath(mountPoint, false); }, std::string(libraryVersion())};
}

}  // namespace realize::cli
