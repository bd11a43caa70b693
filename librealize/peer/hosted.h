#pragma once

// One arena running on real threads, and the thread that watches all of their folders.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "librealize/base/pool.h"
#include "librealize/base/posix_disk.h"
#include "librealize/peer/arena_core.h"
#include "librealize/peer/arena_session.h"
#include "librealize/peer/thread_scheduler.h"

namespace realize::peer {

/// Thread: any. Lifetime: shared by the peer, its sessions and whoever holds the public Arena; close() stops it, and only
/// the last reference frees it.
class Hosted final : public HostedArena {
 public:
  struct Start {
    ArenaOptions options;
    ArenaSettings settings;
    bool fresh = false;
    bool joining = false;
    Mark rootMark = Mark::None;
    std::function<void(Events)> emit;
    std::function<std::string(const PeerKey&)> nameOf;
  };
  /// Errors: as ArenaCore::open; for a fresh arena also when its folder cannot be used.
  static Result<std::shared_ptr<Hosted>> open(std::shared_ptr<Pool> pool, Start start);
  ~Hosted() override;
  /// Stops everything of it and waits for that. Idempotent. Not under the core lock, and not from the pool or the loop.
  void close();

  const ArenaId& id() const override { return id_; }
  const std::string& name() const { return name_; }
  const std::string& folder() const { return folder_; }  ///< the backing folder
  bool userFolder() const { return userFolder_; }
  uint64_t life() const { return life_; }
  Scheduler& scheduler() override;
  ArenaService* service() override;
  FileSystem& fileSystem();
  /// Called when the folder's watch is another one, under the core lock.
  void onWatchChanged(std::function<void()> changed);

  /// Runs `f(ArenaCore&)`, which returns a Result, under the core lock; a failing database becomes its error.
  /// Errors: Suspended once closed.
  template <typename F>
  auto locked(F&& f) -> std::invoke_result_t<F, ArenaCore&> {
    std::lock_guard held(lock());
    if (closed_) return Error{Code::Suspended, name_ + ": this arena is closed"};
    return store::catching([&] { return f(*core_); });
  }

 private:
  Hosted() = default;
  FairMutex& lock();

  std::shared_ptr<Pool> pool_;
  ArenaId id_;
  std::string name_, folder_;
  bool userFolder_ = true;
  uint64_t life_ = 0;
  std::mutex closing_;  // one close() at a time
  bool closed_ = false; // under the core lock
  std::unique_ptr<ThreadScheduler> scheduler_;
  std::unique_ptr<ArenaCore> core_;
  std::function<void()> watchChanged_;  // under the core lock
};

/// One thread that waits until folders have changed and lets their arenas look. Thread: any.
class FolderWatch {
 public:
  FolderWatch();
  ~FolderWatch();
  void add(std::shared_ptr<Hosted> arena);
  void remove(const std::shared_ptr<Hosted>& arena);

 private:
  struct Watched {
    std::shared_ptr<Hosted> arena;
    int descriptor = -1;
    bool draining = false;  ///< posted and not done: not polled meanwhile, or the thread would spin
  };
  void run();
  void wake();
  struct Shared;
  static void drain(const std::shared_ptr<Shared>& shared, const std::shared_ptr<Watched>& watched);

  std::shared_ptr<Shared> s_;
  std::thread thread_;
};

}  // namespace realize::peer
