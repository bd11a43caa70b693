#pragma once

// Scrubbing: what is in the folder and in the cache, read again and compared with its hashes.
//
// A file that is not as the disk table has it (size, times, inode) was changed by somebody, and is left to the scan. One
// that is, but has other bytes, rotted, or was written past the kernel: it is told as a problem, and copied to
// .realize/damaged. Then the table says what the file holds now, and so the shown version is missing here like any other
// that has not come yet: it is asked for, and put in place as soon as a peer has it; until then the damaged file stays.

#include <functional>

#include "librealize/peer/core.h"

namespace realize::peer {

inline constexpr char kDamagedFolder[] = ".realize/damaged";

/// Runs a piece of work under the arena's core lock.
using UnderLock = std::function<Result<void>(const std::function<Result<void>(Core&)>&)>;

/// Blocks until all was read and what can be repaired is. `progress` returning false cancels.
/// Errors: Suspended, Cancelled. Thread: any but the core's and the pool's.
Result<VerifyReport> verifyArena(const UnderLock& locked, const std::function<bool(const Progress&)>& progress);

}  // namespace realize::peer
