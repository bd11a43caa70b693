#pragma once

#include "frontends/daemon/daemon.h"
#include "frontends/daemon/fuse_mounter.h"

namespace realize::cli {

/// What the installed programs stand on; tests put a double in its place.
inline daemon::Library realLibrary() {
  return {Peer::init, Peer::open, daemon::fuseMounter(), std::string(libraryVersion())};
}

}  // namespace realize::cli
