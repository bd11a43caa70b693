#pragma once

// Which entries got which content lately: the newest 65,536, in a ring. What is in it of one content is chained.

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "librealize/model/tree.h"

namespace realize::peer {

/// Thread: one at a time.
class NamedLately {
 public:
  void put(const BlobId& blob, const EntryId& id) {
    if (ring_.size() < kMost) ring_.emplace_back();
    Item& item = ring_[next_ % kMost];
    // Of a content, the oldest is forgotten first; the newest is forgotten with the last.
    if (next_ >= kMost) {
      auto newest = newest_.find(item.blob);
      if (newest != newest_.end() && newest->second == next_ - kMost) newest_.erase(newest);
    }
    auto [newest, first] = newest_.try_emplace(blob, next_);
    item = {blob, id, first ? kNone : newest->second};
    newest->second = next_++;
  }

  /// Calls `each(id)` for those with that content, the newest first, until it returns true. Whether it did.
  template <typename Each>
  bool any(const BlobId& blob, Each&& each) const {
    auto newest = newest_.find(blob);
    if (newest == newest_.end()) return false;
    for (uint64_t at = newest->second; at != kNone && at + kMost >= next_; at = ring_[at % kMost].before)
      if (each(ring_[at % kMost].id)) return true;
    return false;
  }

 private:
  static constexpr size_t kMost = 1 << 16;
  static constexpr uint64_t kNone = UINT64_MAX;
  struct Item {
    BlobId blob;
    EntryId id;
    uint64_t before = kNone;  ///< the number of the one of the same content that came before
  };
  std::vector<Item> ring_;
  uint64_t next_ = 0;
  std::unordered_map<BlobId, uint64_t> newest_;
};

}  // namespace realize::peer
