#pragma once

// Who asks for many small contents asks for most of them in the order in which their files were first read here, which is
// that of the disk table: a run of rows costs a fifth of as many look-ups by content.

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "librealize/store/disk_table.h"

namespace realize::peer {

/// Rows that will probably be asked for next. Lifetime: nothing changes the table meanwhile, as within one job of the core.
class RowsAhead {
 public:
  explicit RowsAhead(store::DiskTable& disk) : disk_(disk) {}

  /// The row of a file with that content, if it is among those read ahead; only once.
  std::optional<store::DiskRow> take(const BlobId& blob) {
    auto found = rows_.extract(blob);
    if (found.empty()) return std::nullopt;
    last_ = found.mapped().node;
    return std::move(found.mapped());
  }

  /// That row had to be looked up. Where such rows follow each other, the next `most` are read, if as many are.
  void lookedUp(NodeId node, size_t most) {
    const bool inOrder = last_ != 0 && node > last_ && node - last_ <= kNear;
    last_ = node;
    if (!inOrder) {
      batch_ = kNear;
      return;
    }
    rows_.clear();
    for (auto& row : disk_.all(node, std::min(batch_, most)))
      if (!row.dirty && !row.blob.isZero()) rows_.insert_or_assign(row.blob, std::move(row));
    batch_ = kMost;
  }

 private:
  static constexpr size_t kNear = 32, kMost = 512;
  store::DiskTable& disk_;
  std::unordered_map<BlobId, store::DiskRow> rows_;
  NodeId last_ = 0;
  size_t batch_ = kNear;
};

}  // namespace realize::peer
