#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "librealize/base/disk.h"
#include "librealize/store/arena_store.h"

namespace realize::peer {

struct Core;
struct HashJob;

/// Syncs of all that was written to the arena's disk, one at a time. The kernel tells a failure to one of them only, and what
/// was lost with it may be anybody's who comes later and is told nothing. Thread: any.
class SyncAll {
 public:
  /// How many have failed. To be asked before that is written which is to be synced.
  uint64_t failures() const { return failures_; }
  /// Errors: of the disk; Io where one has failed since there were so many.
  Result<void> sync(Directory& root, uint64_t failures);
  /// The same for what was written nobody knows when: no other one is to have failed, ever since the machine started.
  bool syncsAnything(Directory& root) { return failures_ == 0 && sync(root, 0).ok(); }

 private:
  friend class Unwritten;
  std::mutex mutex_;
  std::atomic<uint64_t> failures_ = 0;
};

/// The files in the arena's folder of which a sync failed. The kernel says that once and takes their pages for written from
/// then on: no later sync of them is to be believed, by this process or the next one. What they still show goes into a copy.
/// So does every file that was there when a sync of all failed: the sync that would tell whose pages went may have been its user's.
class Unwritten {
 public:
  explicit Unwritten(Core& core) : core_(core) {}

  /// What an earlier process noted, if the machine still runs; after a new start what is read is on the disk.
  void load(bool sameBoot);
  bool has(const FileStat& file) const;
  void note(const FileStat& file);
  void forget(const FileStat& file);
  /// Where a sync of all has failed, the next process is to know it, too. After each, on the core.
  void noteFailures();

 private:
  void save();

  Core& core_;
  std::set<std::pair<uint64_t, int64_t>> files_;  ///< inode, birth
  uint64_t noted_ = 0;         ///< so many failed syncs of all
  int64_t lastFailedNs_ = 0;   ///< the last of those
};

struct ByteRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};
/// Of a file that is ours alone: what it shows there is written once more, as a sync of it failed. Thread: pool.
Result<void> writeAgain(DiskFile& file, const std::vector<ByteRange>& ranges);
/// Byte by byte, for a clone would share what is on the disk, into a new file. Errors: of the disk; Busy when `from` is shorter.
/// Thread: any.
Result<void> copyBytes(DiskFile& from, DiskFile& to, uint64_t sizeBytes);

/// Where the copy of such a file is made.
std::string copyPathOf(const HashJob& job);
/// Copies it, with its mode and time, and syncs that; the job says what the copy is. Errors: of the disk; Busy when it changes.
/// Thread: pool.
Result<void> copyUnwritten(Directory& root, HashJob& job);

}  // namespace realize::peer
