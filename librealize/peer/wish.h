#pragma once

// What is wanted, as it goes from where it is noted to where it is begun.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "librealize/store/work_tables.h"

namespace realize::peer {

/// A file that is wanted, with what its entry said when that was noted. What it says now is looked at when the file is
/// put in place.
struct Wish {
  store::BlobTask task;
  EntryId entry{};  ///< zero: not looked at
  std::optional<std::pair<uint32_t, int64_t>> modeAndMtimeNs{};
};

/// Where a small file that is new here goes, as its entry said when it was wanted. As long as nobody has touched the entry
/// since (Transfers::touched()), it is put there without another look at that.
struct Plan {
  EntryId entry;
  NodeId node = 0;
  Dot head;
  BlobId blob;
  uint32_t mode = 0;
  int64_t mtimeNs = 0;
  EntryId parent;
  std::string name;
  std::vector<Dot> base;  ///< what the folder will be showing with it: DiskRow::base
  friend bool operator==(const Plan&, const Plan&) = default;
};

struct WantedBatch;

/// What one look at the queue gathers.
struct WantedPump {
  std::shared_ptr<WantedBatch> batch;  ///< null: nothing yet
  uint64_t batchBytes = 0;
  std::vector<store::BlobTask> moves;  ///< from the cache
  bool waiting = false;                ///< some are refused by all who are connected
  std::vector<NodeId> refusedByAll;
};

/// Wanted files, by node and content.
struct TaskHash {
  size_t operator()(const std::pair<NodeId, BlobId>& task) const {
    return std::hash<BlobId>()(task.second) ^ (task.first * 0x9e3779b97f4a7c15ull);
  }
};
using Tasks = std::unordered_set<std::pair<NodeId, BlobId>, TaskHash>;

}  // namespace realize::peer
