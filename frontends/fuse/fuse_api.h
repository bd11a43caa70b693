#pragma once

// The one place that chooses libfuse's version: all of 3.14 (Debian 12) and 3.17 (Debian 13) compile against it.

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include <fuse_lowlevel.h>
