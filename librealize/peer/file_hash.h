#pragma once

#include <functional>

#include "librealize/base/disk.h"
#include "librealize/model/blob.h"

namespace realize::peer {

/// Reads and hashes an open file of that size; holes are not read. `progress` is told of the bytes passed since the last
/// time, and may end it.
/// Errors: Busy when the file ends before; of the disk; of `progress`. Not promised: that nobody changes it meanwhile;
/// compare its stat before and after. Thread: any.
Result<Content> hashOpenFile(DiskFile& file, uint64_t sizeBytes, const std::function<Result<void>(uint64_t)>& progress = {});

/// The same of a file by its path, which is the same before and after, or the error is Busy.
Result<Content> hashFile(Directory& root, const std::string& path, const FileStat& expected);

/// The same of a file that has a name of our own: one whose mode forbids to read it has another while it is read. `stat`: as
/// it is known; and as it is after that.
Result<Content> hashOurFile(Directory& root, const std::string& path, FileStat& stat);

}  // namespace realize::peer
