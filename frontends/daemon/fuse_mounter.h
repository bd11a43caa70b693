#pragma once

// The daemon's mounts through frontends/fuse.

#include "frontends/daemon/mount_table.h"

namespace realize::daemon {

/// Options: allow_other, no_allow_other, threads=N (1 to 64). Overlaps are the MountTable's to refuse.
MountBackend fuseMounter();

}  // namespace realize::daemon
