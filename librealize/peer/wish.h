#pragma once

// What is wanted, as it goes from where it is noted to where it is begun.

#include <functional>
#include <optional>
#include <unordered_set>
#include <utility>

#include "librealize/store/work_tables.h"

namespace realize::peer {

/// A file that is wanted, with what its entry said when that was noted. What it says now is looked at when the file is
/// put in place.
struct Wish {
  store::BlobTask task;
  std::optional<std::pair<uint32_t, int64_t>> modeAndMtimeNs{};
};

/// Wanted files, by node and content.
struct TaskHash {
  size_t operator()(const std::pair<NodeId, BlobId>& task) const {
    return std::hash<BlobId>()(task.second) ^ (task.first * 0x9e3779b97f4a7c15ull);
  }
};
using Tasks = std::unordered_set<std::pair<NodeId, BlobId>, TaskHash>;

}  // namespace realize::peer
