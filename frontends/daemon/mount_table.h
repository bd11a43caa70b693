#pragma once

// The mounts that this daemon hosts.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <condition_variable>
#include <string>
#include <vector>

#include "frontends/daemon/mount_notes.h"
#include "realize/peer.h"

namespace realize::daemon {

/// One mount under way. The destructor unmounts if nobody has.
class MountHandle {
 public:
  virtual ~MountHandle() = default;
  /// Errors: Busy (somebody works in it).
  virtual Result<void> unmount() = 0;
};

/// Mounts `arena` at `mountPoint`; returns once it is up. `ended` is called once, from any thread, when the mount is
/// over, also by somebody else's hand (fusermount3 -u).
using MountBackend = std::function<Result<std::unique_ptr<MountHandle>>(
    std::shared_ptr<Arena> arena, const std::string& mountPoint, const std::vector<std::string>& options,
    std::function<void()> ended)>;

/// A mount that was up when the daemon was killed, and that could not be made anew.
struct LostMount {
  MountInfo mount;
  std::string why;
};

/// True if one of two absolute, normalized paths is the other or lies in it.
bool pathsOverlap(const std::string& a, const std::string& b);

/// Thread: any, but for reap(). Lifetime: the peer outlives it.
class MountTable {
 public:
  /// `wake` is called, from any thread, when reap() has something to do.
  MountTable(Peer& peer, MountBackend backend, std::string stateDir, std::function<void()> wake);
  ~MountTable();

  /// `mountPoint`: absolute. Errors: Refused where it overlaps an arena's folder or the state folder, Exists where one
  /// of ours is mounted, NotFound, Unsupported without a backend, and what the backend says.
  Result<void> mount(const std::string& arena, const std::string& mountPoint, const std::vector<std::string>& options);
  /// Mounts anew what an earlier process was killed under and what is a dead mount since. To be called once, first.
  void restore();
  /// What restore() failed to mount, until it is mounted or unmounted.
  std::vector<LostMount> lost();
  /// Errors: NotFound, Busy.
  Result<void> unmount(const std::string& mountPoint);
  /// Ends each mount of the arena (all with ""), keeping on after an error; returns the first.
  Result<void> unmountAll(const std::string& arena);
  /// Ends all of them, also those in use (they are detached).
  void endAll();
  std::vector<MountInfo> list();
  /// Waits up to `timeoutMs` for the mount to end; true if it has (or is not known).
  bool waitEnded(const std::string& mountPoint, int64_t timeoutMs);
  /// Forgets mounts that have ended. Thread: not that of `ended`.
  void reap();

 private:
  struct Entry {
    std::string arena;
    std::vector<std::string> options;
    std::unique_ptr<MountHandle> handle;
    bool ended = false;
    bool starting = true;
  };
  Result<void> checkOverlap(const std::string& mountPoint);
  std::shared_ptr<Entry> take(const std::string& mountPoint);
  void noteEnded(const std::shared_ptr<Entry>& entry);
  void writeNotes();
  bool forgetLost(const std::string& mountPoint);

  Peer& peer_;
  MountBackend backend_;
  std::string stateDir_;
  std::function<void()> wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::shared_ptr<Entry>> mounts_;  ///< by mount point
  std::vector<LostMount> lost_;
};

}  // namespace realize::daemon
