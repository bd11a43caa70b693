#pragma once

// Holds back the removal of a large share of an arena that the folder reports, until someone confirms: a wrong disk, a
// stray `rm -r` or a broken sync tool must not empty the other peers.

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "realize/types.h"

namespace realize::logic {

struct GuardSettings {
  double share = 1.0 / 3;             ///< more than this part of the arena's entries is held back
  uint64_t minimumEntries = 100;      ///< fewer than this are never held back
  int64_t windowNs = 60'000'000'000;  ///< removals that fall within this time count together
};

/// Decides over the removals of one arena's folder, counted after renames.
///
/// Small batches of one `rm -r` count together: what counts is how far the arena has shrunk below its largest size
/// within the window, besides the batch itself. Entries that were replaced by as many new ones (a build that cleans up
/// after itself) do not add up. Before the guard notices, at most the share can have been let through.
///
/// What is held is not applied: neither the tree nor the disk table changes for it, so a later listing of the same
/// directories reports it again, and after a restart the scan does. Pure: time is passed in. Thread: its owner's.
class RemovalGuard {
 public:
  enum class Verdict : uint8_t {
    Apply,  ///< carry the removals out
    Hold,   ///< leave them; report; ask for `realize confirm`
  };

  explicit RemovalGuard(GuardSettings settings = {}) : settings_(settings) {}

  /// `entriesKnown`: in the disk table now, with those to be removed and those held. `removed`: every entry that this
  /// batch would remove. While something is held, all further removals are held too.
  Verdict offer(int64_t monotonicNs, uint64_t entriesKnown, std::span<const NodeId> removed);

  /// An entry that was reported as removed is there again. When the last one is, nothing is held any more.
  void returned(NodeId node) { held_.erase(node); }

  /// Someone confirmed: returns what was held, to be carried out now (after looking again: list the directories once
  /// more and apply only what is still gone). Counting starts afresh.
  std::vector<NodeId> confirm();

  bool holding() const { return !held_.empty(); }
  uint64_t heldEntries() const { return held_.size(); }
  const GuardSettings& settings() const { return settings_; }
  void setSettings(GuardSettings settings) { settings_ = settings; }

 private:
  bool tooMany(uint64_t removals, uint64_t of) const;

  GuardSettings settings_;
  std::unordered_set<NodeId> held_;
  std::deque<std::pair<int64_t, uint64_t>> sizes_;  ///< (time, entries), falling: the front is the window's largest
};

}  // namespace realize::logic
