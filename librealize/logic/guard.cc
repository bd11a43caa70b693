#include "librealize/logic/guard.h"

#include <algorithm>

namespace realize::logic {

namespace {
constexpr int64_t kLongestRunNs = 3'600'000'000'000;  // A folder that is worked off all day is no mass removal.
}  // namespace

bool GuardSettings::tooMany(uint64_t changes, uint64_t of) const {
  return changes >= minimumEntries && double(changes) > share * double(of) + 1e-9;
}

std::vector<NodeId> Guard::letGo() {
  std::vector<NodeId> nodes(held_.begin(), held_.end());
  held_.clear();
  resuming_ = false;
  return nodes;
}

RemovalGuard::Verdict RemovalGuard::offer(int64_t monotonicNs, uint64_t entriesKnown,
                                          std::span<const NodeId> removed) {
  const bool goesOn = monotonicNs - lastRemovalNs_ <= settings_.windowNs;
  const int64_t countedNs = goesOn ? std::max(kLongestRunNs, settings_.windowNs) : settings_.windowNs;
  while (!sizes_.empty() && monotonicNs - sizes_.front().first > countedNs) sizes_.pop_front();
  while (!sizes_.empty() && sizes_.back().second <= entriesKnown) sizes_.pop_back();
  sizes_.emplace_back(monotonicNs, entriesKnown);
  if (removed.empty()) return Verdict::Apply;
  lastRemovalNs_ = monotonicNs;

  uint64_t largest = sizes_.front().second;
  uint64_t left = entriesKnown - std::min<uint64_t>(entriesKnown, removed.size());
  if (!holding() && !settings_.tooMany(removed.size(), entriesKnown) && !settings_.tooMany(largest - left, largest))
    return Verdict::Apply;
  if (!holding()) passed_ = {largest - entriesKnown, sizes_.front().first};
  held_.insert(removed.begin(), removed.end());
  return Verdict::Hold;
}

std::vector<NodeId> RemovalGuard::confirm() {
  sizes_.clear();
  return letGo();
}

void OverwriteGuard::forgetOld(int64_t monotonicNs) {
  while (!recentOrder_.empty() && monotonicNs - recentOrder_.front().first > settings_.windowNs) {
    recent_.erase(recentOrder_.front().second);
    recentOrder_.pop_front();
  }
}

bool OverwriteGuard::suspects(int64_t monotonicNs, uint64_t files, uint64_t more) {
  forgetOld(monotonicNs);
  return !holding() && settings_.tooMany(recent_.size() + more, files);
}

OverwriteGuard::Verdict OverwriteGuard::judge(int64_t monotonicNs, uint64_t files, std::span<const NodeId> replaced) {
  forgetOld(monotonicNs);
  if (replaced.empty()) return Verdict::Apply;
  if (holding()) return Verdict::Hold;
  uint64_t fresh = 0;
  for (NodeId node : replaced) fresh += !recent_.contains(node);
  return fresh > 0 && settings_.tooMany(recent_.size() + fresh, files) ? Verdict::Hold : Verdict::Apply;
}

OverwriteGuard::Verdict OverwriteGuard::offer(int64_t monotonicNs, uint64_t files, std::span<const NodeId> replaced) {
  if (judge(monotonicNs, files, replaced) == Verdict::Hold) {
    held_.insert(replaced.begin(), replaced.end());
    return Verdict::Hold;
  }
  for (NodeId node : replaced)
    if (recent_.insert(node).second) recentOrder_.emplace_back(monotonicNs, node);
  return Verdict::Apply;
}

std::vector<NodeId> OverwriteGuard::confirm() {
  recent_.clear();
  recentOrder_.clear();
  return letGo();
}

}  // namespace realize::logic
