#pragma once

// An arena as a mounted file system (Linux, FUSE). For the daemon and for any application that embeds a peer.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "realize/filesystem.h"
#include "realize/peer.h"
#include "realize/result.h"

namespace realize::fuse {

/// How a mount came to its end.
struct MountEnd {
  bool requested = false;  ///< by unmount() or the destructor; false: from outside (fusermount3 -u, umount, abort)
  std::string why;         ///< for people
};

struct MountOptions {
  std::string arenaName;  ///< shown in the mount table as "realize:NAME"; taken from the Arena where there is one
  unsigned threads = 8;   ///< that serve requests; 1 to 64
  int64_t cacheMs = 24LL * 3600 * 1000;          ///< how long the kernel may keep names and attributes
  int64_t negativeCacheMs = 24LL * 3600 * 1000;  ///< the same for names that do not exist
  uint32_t readAheadKib = 1024;  ///< of the kernel, where we may set it (root); 0 leaves it
  int64_t unmountGraceMs = 2000;  ///< how long a busy mount is waited for before it is detached
  std::optional<bool> allowOther;  ///< let other users in; without a value: when we are root
  size_t queuedInvalidations = 65536;  ///< bound; the library's notifying thread waits beyond it
  /// Paths that the mount point must not lie in and that must not lie in it, such as the state folder.
  std::vector<std::string> forbidden;
  /// Called once when the mount has ended, from a thread of the mount; it may come before start() returned. May
  /// destroy the Mount.
  std::function<void(const MountEnd&)> onEnd;
};

/// A running mount. Thread: any, but not from within a FileSystem call.
class Mount {
 public:
  /// Mounts on an existing, empty directory. A mount that a dead process left there is taken away first.
  /// Errors: NotFound, NotDirectory, NotEmpty, Exists (mounted already), Refused (overlaps the arena's folder or a
  /// forbidden path), PermissionDenied, Unsupported (no /dev/fuse or no fusermount3), Io.
  static Result<std::unique_ptr<Mount>> start(std::shared_ptr<Arena> arena, const std::string& mountPoint,
                                              MountOptions options);
  /// The same over any file system, which must outlive the Mount.
  static Result<std::unique_ptr<Mount>> start(FileSystem& fileSystem, const std::string& mountPoint,
                                              MountOptions options);

  /// Unmounts: cleanly if nothing uses it, else after the grace by detaching it and failing what is still open.
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  /// Canonical.
  const std::string& mountPoint() const;
  /// Unmounts if nothing uses it. Errors: Busy (the message says what to do).
  Result<void> unmount();
  bool ended() const;
  /// Waits until the mount has ended and everything of it is released. False when the time is over; a negative time
  /// waits forever.
  bool waitUntilEnded(int64_t timeoutMs);
  /// Waits until every change reported so far has been told to the kernel. For tests and for `wait`.
  void drainInvalidations();

 private:
  class Impl;
  explicit Mount(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

/// Takes a mount away whose process died, or that another process serves. `lazy`: even if it is in use.
/// Errors: NotFound (nothing of ours is mounted there), Busy, PermissionDenied.
Result<void> unmountPath(const std::string& mountPoint, bool lazy);

}  // namespace realize::fuse
