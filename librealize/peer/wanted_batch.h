#pragma once

// Small files that are wanted, on their way from a peer to their places in the folder.

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "librealize/peer/folder.h"
#include "librealize/peer/wish.h"

namespace realize::peer {

struct WantedItem {
  NodeId node = 0;
  EntryId entry;
  BlobId blob;
  uint64_t sizeBytes = 0;
  std::optional<std::pair<uint32_t, int64_t>> attributes;  ///< mode, mtimeNs
  std::string tempPath;
  Result<FileStat> written = Error{Code::Unreachable, "not sent"};  ///< what it is now at tempPath
};

/// Asked for at once, synced at once, put in place in one transaction.
struct WantedBatch {
  std::vector<WantedItem> items;
  std::mutex mutex;  // guards `written` while pool threads are at it
  uint64_t failures = 0;  ///< SyncAll::failures() before anything of it was written
  Result<void> synced;
};

/// Of one batch, what needs only a name in a folder: the pool gives it that.
struct PlacingGroup {
  std::shared_ptr<WantedBatch> batch;
  std::vector<size_t> items;  ///< in the batch, of each of `files.files`
  NewFiles files;
  bool alone = true;  ///< nothing was left for the core to place before these
};

}  // namespace realize::peer
