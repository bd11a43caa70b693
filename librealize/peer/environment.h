#pragma once

// What a peer's arenas need of the world, injected: the simulator brings its own.

#include <cstdint>
#include <functional>
#include <memory>

#include "librealize/base/clock.h"
#include "librealize/base/disk.h"
#include "librealize/base/fair_mutex.h"
#include "librealize/base/random.h"

namespace realize::peer {

/// Where an arena's work runs. All jobs of one arena's core run one after another under its core lock; pool jobs run
/// anywhere, without it. Values cross, references do not: a pool job touches only what it captured by value.
/// Thread: any.
class Scheduler {
 public:
  virtual ~Scheduler() = default;
  /// Runs later under the core lock, in the order posted.
  virtual void onCore(std::function<void()> job) = 0;
  /// The same, not before `delayMs` have passed on the injected clock.
  virtual void onCoreAfter(int64_t delayMs, std::function<void()> job) = 0;
  /// Runs on the pool: hashing, file I/O, waiting for fsync. Interactive jobs overtake the others.
  virtual void onPool(bool interactive, std::function<void()> job) = 0;
  /// The core lock, for frontends' threads with a short operation. Recursive use is a bug.
  virtual FairMutex& coreLock() = 0;
};

/// Lifetime: all outlive the arena.
struct Environment {
  Clock& clock;
  Random& random;
  Disk& disk;
  Scheduler& scheduler;
  /// Null in the simulator, where the fake disk has a watcher of its own.
  std::function<Result<std::unique_ptr<Watcher>>(const std::string& absoluteRoot)> watch;
  /// Names the time since the machine was started: while it is the same, what was written to the disk is there, synced
  /// or not. Empty: not known.
  std::string bootId{};
  /// The index may use a thread of its own beside the core: it posts jobs, too.
  bool storeThread = false;
};

}  // namespace realize::peer
