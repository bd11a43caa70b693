#pragma once

// Holds back the removal, and the replacing of the contents, of a large share of an arena that the folder reports, until
// someone confirms: a wrong disk, a stray `rm -r`, a broken sync tool, or whoever encrypts all files for a ransom, must not
// empty or overwrite the other peers.

#include <cstdint>
#include <deque>
#include <set>
#include <span>
#include <unordered_set>
#include <utility>
#include <vector>

#include "realize/types.h"

namespace realize::logic {

struct GuardSettings {
  double share = 1.0 / 3;             ///< more than this part of the arena's entries is held back
  uint64_t minimumEntries = 100;      ///< fewer than this are never held back
  int64_t windowNs = 60'000'000'000;  ///< what falls within this time counts together

  bool tooMany(uint64_t changes, uint64_t of) const;
};

/// What either guard holds back until someone confirms.
class Guard {
 public:
  enum class Verdict : uint8_t {
    Apply,  ///< carry it out
    Hold,   ///< leave it; report; ask for `realize confirm`
  };

  /// An entry that was reported is as it was before. When the last one is, nothing is held any more.
  void returned(NodeId node) { held_.erase(node); }

  /// Something was held when the program ended: all is held until resumed() says that the folder was read again. Else what
  /// is left of it could be little enough to pass.
  void resume() { resuming_ = true; }
  void resumed() { resuming_ = false; }
  bool resuming() const { return resuming_; }

  bool holding() const { return resuming_ || !held_.empty(); }
  const std::set<NodeId>& held() const { return held_; }
  const GuardSettings& settings() const { return settings_; }
  void setSettings(GuardSettings settings) { settings_ = settings; }

 protected:
  explicit Guard(GuardSettings settings) : settings_(settings) {}
  ~Guard() = default;
  std::vector<NodeId> letGo();  ///< all that was held

  GuardSettings settings_;
  bool resuming_ = false;
  std::set<NodeId> held_;
};

/// Decides over the removals of one arena's folder, counted after renames.
///
/// Small batches of one `rm -r` count together, however slow it is: what counts is how far the arena has shrunk below its
/// largest size since removals began that had no pause of a window's length (an hour at most), besides the batch itself.
/// Entries that were replaced by as many new ones (a build that cleans up after itself) do not add up. Before the guard
/// notices, at most the share can have been let through: passed() says how much.
///
/// What is held is not applied: neither the tree nor the disk table changes for it, so a later listing of the same
/// directories reports it again, and after a restart the scan does. Pure: time is passed in. Thread: its owner's.
class RemovalGuard : public Guard {
 public:
  explicit RemovalGuard(GuardSettings settings = {}) : Guard(settings) {}

  /// `entriesKnown`: in the disk table now, with those to be removed and those held. `removed`: every entry that this
  /// batch would remove. While something is held, all further removals are held too.
  Verdict offer(int64_t monotonicNs, uint64_t entriesKnown, std::span<const NodeId> removed);

  /// How far the arena had shrunk when something was held first, and since when.
  struct Passed {
    uint64_t entries = 0;
    int64_t sinceNs = 0;
  };
  const Passed& passed() const { return passed_; }

  /// Part of something else that is held: it is held, too, and with it all further removals.
  void hold(NodeId node) { held_.insert(node); }
  /// Someone confirmed: returns what was held, to be carried out now (after looking again: list the directories once
  /// more and apply only what is still gone). Counting starts afresh.
  std::vector<NodeId> confirm();

 private:
  std::deque<std::pair<int64_t, uint64_t>> sizes_;  ///< (time, entries), falling: the front is the largest that counts
  int64_t lastRemovalNs_ = 0;
  Passed passed_;
};

/// Decides over files whose content was replaced in one arena's folder, counted by entry: a rename replaces nothing.
///
/// All of the window count together, each entry once. So that a scan which finds many at once lets none of them through, what
/// may be too many (suspects()) is read to its end before any of it is offered. As with removals, what comes bit by bit is
/// noticed when the share is reached. What counts as replaced (not what was empty, or written here a moment before) is its
/// owner's business, as is to keep what is held out of the tree. Pure: time is passed in. Thread: its owner's.
class OverwriteGuard : public Guard {
 public:
  explicit OverwriteGuard(GuardSettings settings = {}) : Guard(settings) {}

  /// So many more may be too many: none of them is carried out before all were offered together.
  bool suspects(int64_t monotonicNs, uint64_t files, uint64_t more);
  /// What offer() would say of these.
  Verdict judge(int64_t monotonicNs, uint64_t files, std::span<const NodeId> replaced);
  /// `files`: the arena's. While something is held, every further replacement is held too.
  Verdict offer(int64_t monotonicNs, uint64_t files, std::span<const NodeId> replaced);
  /// Belongs to what is held, though it did not count: nothing while nothing is held.
  void holdToo(NodeId node) { if (holding()) held_.insert(node); }
  /// Someone confirmed: returns what was held. Counting starts afresh.
  std::vector<NodeId> confirm();

 private:
  void forgetOld(int64_t monotonicNs);

  std::unordered_set<NodeId> recent_;                  ///< replaced within the window
  std::deque<std::pair<int64_t, NodeId>> recentOrder_;  ///< the same, by time
};

}  // namespace realize::logic
