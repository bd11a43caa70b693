#pragma once

#include <memory>
#include <string>

#include "librealize/base/disk.h"

namespace realize {

/// Disk over openat2 (Linux 5.6). systemDisk() (disk.h) is one of these.
///
/// Every call resolves its path anew beneath the directory's descriptor, so nothing cached can go stale. Not promised:
/// that a path means the same object in two calls. Thread: any.
class PosixDisk final : public Disk {
 public:
  /// Errors: NotFound, NotDirectory, PermissionDenied; Unsupported where openat2 is missing.
  Result<std::unique_ptr<Directory>> openRoot(const std::string& absolutePath) override;
  /// Source: proc_pid_mountinfo(5).
  std::string mountsWithin(const std::string& absolutePath) override;
};

/// A path that may name something beneath a directory: not absolute, no "..", no "." or empty component, no NUL.
/// "" (the directory itself) is allowed. Errors: PermissionDenied, InvalidArgument.
Result<void> checkBeneath(const std::string& path);

/// A descriptor that closes itself.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept;
  ~OwnedFd();
  int get() const { return fd_; }
  int release() { int fd = fd_; fd_ = -1; return fd; }

 private:
  int fd_ = -1;
};

/// openat2 of a checked `path` beneath `base`, no symlink followed anywhere; "" opens the directory itself.
/// `flags` as open(2); O_CLOEXEC is added.
Result<OwnedFd> openBeneath(int base, const std::string& path, int flags, uint32_t permissions = 0);

}  // namespace realize
