#include "librealize/logic/guard.h"

#include <algorithm>

namespace realize::logic {

bool RemovalGuard::tooMany(uint64_t removals, uint64_t of) const {
  return removals >= settings_.minimumEntries && double(removals) > settings_.share * double(of) + 1e-9;
}

RemovalGuard::Verdict RemovalGuard::offer(int64_t monotonicNs, uint64_t entriesKnown,
                                          std::span<const NodeId> removed) {
  while (!sizes_.empty() && monotonicNs - sizes_.front().first > settings_.windowNs) sizes_.pop_front();
  while (!sizes_.empty() && sizes_.back().second <= entriesKnown) sizes_.pop_back();
  sizes_.emplace_back(monotonicNs, entriesKnown);
  if (removed.empty()) return Verdict::Apply;

  uint64_t largest = sizes_.front().second;
  uint64_t left = entriesKnown - std::min<uint64_t>(entriesKnown, removed.size());
  if (held_.empty() && !tooMany(removed.size(), entriesKnown) && !tooMany(largest - left, largest))
    return Verdict::Apply;
  held_.insert(removed.begin(), removed.end());
  return Verdict::Hold;
}

std::vector<NodeId> RemovalGuard::confirm() {
  std::vector<NodeId> nodes(held_.begin(), held_.end());
  held_.clear();
  sizes_.clear();
  return nodes;
}

}  // namespace realize::logic
