#pragma once

// What PosixDirectory and its files share; nothing else includes this.

#include <time.h>

#include <memory>

#include "librealize/base/disk.h"
#include "librealize/base/posix_disk.h"

namespace realize {

/// statx of `name` in `directory`; `flags` as statx(2). The error's message has no path but `name`.
Result<FileStat> statAt(int directory, const char* name, int flags);

timespec timespecOf(int64_t ns);

/// Takes an open regular file.
std::unique_ptr<DiskFile> makePosixFile(OwnedFd fd);

}  // namespace realize
