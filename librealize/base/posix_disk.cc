#include "librealize/base/posix_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "librealize/base/errno_code.h"
#include "librealize/base/posix_file.h"

namespace realize {
namespace {

constexpr size_t kListBufferBytes = 64 << 10;
constexpr size_t kXattrMaxBytes = 64 << 10;  // The kernel's own bound for a value and for a list.

long openat2(int base, const char* path, const open_how& how) {
  // EAGAIN: a rename raced the resolution, or a lease is being broken for us. Both pass.
  for (int tries = 0;; ++tries) {
    long fd = syscall(SYS_openat2, base, path, &how, sizeof(how));
    if (fd >= 0 || (errno != EINTR && (errno != EAGAIN || tries == 100))) return fd;
  }
}

// The last component, and the directory that holds it. The base itself is borrowed, so a path of one component costs
// no open.
struct Place {
  int fd = -1;
  OwnedFd owned;
  const char* name = nullptr;
};

Result<Place> placeOf(int base, const std::string& path) {
  if (path.empty()) return Error{Code::InvalidArgument, "the directory itself cannot be changed through itself"};
  REALIZE_TRY(checkBeneath(path));
  Place place;
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) {
    place.fd = base;
    place.name = path.c_str();
    return place;
  }
  REALIZE_ASSIGN(place.owned, openBeneath(base, path.substr(0, slash), O_PATH | O_DIRECTORY));
  place.fd = place.owned.get();
  place.name = path.c_str() + slash + 1;
  return place;
}

Error failed(const char* operation, const std::string& path, int number = errno) {
  return errnoError(number, std::string(operation) + " '" + path + "'");
}

// The way to an object through its O_PATH descriptor, for calls that take neither a descriptor nor NOFOLLOW.
std::string procPath(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

DirectoryItem itemOf(int directory, const char* name, bool& gone) {
  DirectoryItem item;
  item.name = name;
  auto stat = statAt(directory, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
  if (stat.ok()) item.stat = *stat;
  else if (stat.code() == Code::NotFound) gone = true;
  else item.failed = stat.error();
  return item;
}

struct LinuxDirent64 {
  uint64_t inode;
  int64_t offset;
  uint16_t recordBytes;
  uint8_t type;
  char name[1];
};

class PosixDirectory final : public Directory {
 public:
  PosixDirectory(OwnedFd fd, std::string shown) : fd_(std::move(fd)), shown_(std::move(shown)) {}

  Result<FileStat> stat(const std::string& path) override {
    if (path.empty()) return statAt(fd_.get(), "", AT_EMPTY_PATH);
    REALIZE_ASSIGN(Place place, placeOf(fd_.get(), path));
    auto stat = statAt(place.fd, place.name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
    if (!stat.ok() && stat.code() != Code::NotFound) return Error{stat.code(), path + ": " + stat.error().message};
    return stat;
  }

  Result<std::unique_ptr<DiskFile>> open(const std::string& path, OpenMode mode, uint32_t permissions) override;

  Result<std::unique_ptr<Directory>> openDirectory(const std::string& path) override {
    REALIZE_TRY(checkBeneath(path));
    auto fd = openBeneath(fd_.get(), path, O_RDONLY | O_DIRECTORY);
    // Without read permission, names can still be reached through it.
    if (!fd.ok() && fd.code() == Code::PermissionDenied) fd = openBeneath(fd_.get(), path, O_PATH | O_DIRECTORY);
    if (!fd.ok()) return fd.error();
    std::string shown = path.empty() ? shown_ : shown_ + "/" + path;
    return std::unique_ptr<Directory>(new PosixDirectory(std::move(fd).value(), std::move(shown)));
  }

  Result<std::vector<DirectoryItem>> list(const std::string& path) override;

  Result<void> makeDirectory(const std::string& path, uint32_t permissions) override {
    REALIZE_ASSIGN(Place place, placeOf(fd_.get(), path));
    if (mkdirat(place.fd, place.name, permissions & 07777) != 0) return failed("mkdir", path);
    return {};
  }

  Result<void> makeSymlink(const std::string& path, const std::string& target) override {
    REALIZE_ASSIGN(Place place, placeOf(fd_.get(), path));
    if (target.empty() || target.find('\0') != std::string::npos)
      return Error{Code::InvalidArgument, path + ": a symlink's target is neither empty nor has a NUL"};
    if (symlinkat(target.c_str(), place.fd, place.name) != 0) return failed("symlink", path);
    return {};
  }

  Result<std::string> readSymlink(const std::string& path) override {
    REALIZE_ASSIGN(Place place, placeOf(fd_.get(), path));
    char target[PATH_MAX];  // The kernel stores no longer one.
    ssize_t size = readlinkat(place.fd, place.name, target, sizeof(target));
    if (size < 0) return failed("readlink", path);
    return std::string(target, size_t(size));
  }

  Result<void> unlink(const std::string& path) override {
    REALIZE_ASSIGN(Place place, placeOf(fd_.get(), path));
    if (unlinkat(place.fd, place.name, 0) != 0) return failed("unlink", path);
    return {};
  }

  Result<void> removeDirectory(const std::string& path) override {
    REALIZE_ASSIGN(Place place, placeOf(fd_.get(), path));
    if (unlinkat(place.fd, place.name, AT_REMOVEDIR) != 0) return failed("rmdir", path);
    return {};
  }

  Result<void> rename(const std::string& from, const std::string& to, RenameKind kind) override {
    return renameBetween(from, fd_.get(), to, kind);
  }
  Result<void> renameInto(const std::string& from, Directory& directory, const std::string& to, RenameKind kind) override {
    auto* other = dynamic_cast<PosixDirectory*>(&directory);
    if (!other) return Error{Code::Unsupported, "a rename between two kinds of disk"};
    return renameBetween(from, other->fd_.get(), to, kind);
  }
  Result<void> setMode(const std::string& path, uint32_t mode) override;
  Result<void> setTimes(const std::string& path, int64_t mtimeNs) override;
  Result<void> setOwner(const std::string& path, int64_t uid, int64_t gid) override;

  Result<std::string> getXattr(const std::string& path, const std::string& name) override {
    REALIZE_ASSIGN(OwnedFd object, openObject(path));
    std::string value(256, '\0');
    ssize_t size = getxattr(procPath(object.get()).c_str(), name.c_str(), value.data(), value.size());
    if (size < 0 && errno == ERANGE) {
      value.resize(kXattrMaxBytes);
      size = getxattr(procPath(object.get()).c_str(), name.c_str(), value.data(), value.size());
    }
    if (size < 0) return failed("getxattr", path);
    value.resize(size_t(size));
    return value;
  }

  Result<void> setXattr(const std::string& path, const std::string& name, const std::string& value,
                        int flags) override {
    REALIZE_ASSIGN(OwnedFd object, openObject(path));
    if (setxattr(procPath(object.get()).c_str(), name.c_str(), value.data(), value.size(), flags) != 0)
      return failed("setxattr", path);
    return {};
  }

  Result<std::vector<std::string>> listXattrs(const std::string& path) override {
    REALIZE_ASSIGN(OwnedFd object, openObject(path));
    std::string names(kXattrMaxBytes, '\0');
    ssize_t size = listxattr(procPath(object.get()).c_str(), names.data(), names.size());
    if (size < 0) return failed("listxattr", path);
    std::vector<std::string> out;
    for (size_t at = 0; at < size_t(size); at += out.back().size() + 1) out.emplace_back(names.c_str() + at);
    return out;
  }

  Result<void> removeXattr(const std::string& path, const std::string& name) override {
    REALIZE_ASSIGN(OwnedFd object, openObject(path));
    if (removexattr(procPath(object.get()).c_str(), name.c_str()) != 0) return failed("removexattr", path);
    return {};
  }

  Result<void> syncDirectory(const std::string& path) override {
    REALIZE_TRY(checkBeneath(path));
    REALIZE_ASSIGN(OwnedFd directory, openBeneath(fd_.get(), path, O_RDONLY | O_DIRECTORY));
    while (fsync(directory.get()) != 0)
      if (errno != EINTR) return failed("fsync", path);
    return {};
  }

  Result<void> syncAll() override {
    // On the long-lived descriptor, which remembers what write-back errors it has not told yet.
    if (syncfs(fd_.get()) == 0) return {};
    if (errno != EBADF) return failed("syncfs", shown_);
    REALIZE_ASSIGN(OwnedFd readable, openBeneath(fd_.get(), "", O_RDONLY | O_DIRECTORY));
    if (syncfs(readable.get()) != 0) return failed("syncfs", shown_);
    return {};
  }

  Result<Space> space() override {
    struct statfs s{};
    while (fstatfs(fd_.get(), &s) != 0)
      if (errno != EINTR) return failed("statfs", shown_);
    uint64_t unit = uint64_t(s.f_frsize ? s.f_frsize : s.f_bsize);
    Space space;
    space.totalBytes = s.f_blocks * unit;
    space.freeBytes = s.f_bfree * unit;
    space.availableBytes = s.f_bavail * unit;
    space.totalInodes = s.f_files;
    space.freeInodes = s.f_ffree;
    space.fileSystemType = uint64_t(uint32_t(s.f_type));
    return space;
  }

  std::string displayPath() const override { return shown_; }

 private:
  Result<void> renameBetween(const std::string& from, int toDirectory, const std::string& to, RenameKind kind);

  // The object itself, whatever it is; a symlink's own inode.
  Result<OwnedFd> openObject(const std::string& path) {
    REALIZE_TRY(checkBeneath(path));
    return openBeneath(fd_.get(), path, O_PATH | O_NOFOLLOW);
  }

  OwnedFd fd_;
  std::string shown_;
};

Result<std::unique_ptr<DiskFile>> PosixDirectory::open(const std::string& path, OpenMode mode, uint32_t permissions) {
  if (path.empty()) return Error{Code::IsDirectory, shown_ + ": is a directory"};
  REALIZE_TRY(checkBeneath(path));
  // NONBLOCK: a FIFO that took the file's name must not hang us. It means nothing to a regular file.
  int flags = O_NONBLOCK | O_NOCTTY | O_NOFOLLOW;
  switch (mode) {
    case OpenMode::Read: flags |= O_RDONLY; break;
    case OpenMode::ReadWrite: flags |= O_RDWR; break;
    case OpenMode::CreateNew: flags |= O_RDWR | O_CREAT | O_EXCL; break;
    case OpenMode::CreateOrOpen: flags |= O_RDWR | O_CREAT; break;
  }
  REALIZE_ASSIGN(OwnedFd fd, openBeneath(fd_.get(), path, flags, permissions));
  if (mode != OpenMode::CreateNew) {
    REALIZE_ASSIGN(FileStat stat, statAt(fd.get(), "", AT_EMPTY_PATH));
    if (stat.type == FileStat::Type::Directory) return Error{Code::IsDirectory, path + ": is a directory"};
    if (stat.type != FileStat::Type::File) return Error{Code::Unsupported, path + ": is a special file"};
  }
  return makePosixFile(std::move(fd));
}

Result<std::vector<DirectoryItem>> PosixDirectory::list(const std::string& path) {
  REALIZE_TRY(checkBeneath(path));
  REALIZE_ASSIGN(OwnedFd directory, openBeneath(fd_.get(), path, O_RDONLY | O_DIRECTORY));
  std::vector<DirectoryItem> items;
  std::unique_ptr<char[]> buffer(new char[kListBufferBytes]);
  for (;;) {
    long size = syscall(SYS_getdents64, directory.get(), buffer.get(), kListBufferBytes);
    if (size == 0) return items;
    if (size < 0 && errno == EINTR) continue;
    // A directory removed under us reads as an error, not as empty: that it is gone must be seen by name.
    if (size < 0) return failed("list", path);
    for (long at = 0; at < size;) {
      auto* entry = reinterpret_cast<const LinuxDirent64*>(buffer.get() + at);
      at += entry->recordBytes;
      const char* name = buffer.get() + at - entry->recordBytes + offsetof(LinuxDirent64, name);
      if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
      bool gone = false;
      DirectoryItem item = itemOf(directory.get(), name, gone);
      if (!gone) items.push_back(std::move(item));
    }
  }
}

Result<void> PosixDirectory::renameBetween(const std::string& from, int toDirectory, const std::string& to, RenameKind kind) {
  REALIZE_ASSIGN(Place source, placeOf(fd_.get(), from));
  REALIZE_ASSIGN(Place target, placeOf(toDirectory, to));
  unsigned flags = 0;
  switch (kind) {
    case RenameKind::Replace: break;
    case RenameKind::NoReplace: flags = RENAME_NOREPLACE; break;
    case RenameKind::Exchange: flags = RENAME_EXCHANGE; break;
  }
  if (renameat2(source.fd, source.name, target.fd, target.name, flags) == 0) return {};
  int number = errno;
  // EINVAL has two meanings: a directory into itself, or a file system without these flags.
  bool intoItself = to.starts_with(from + "/") || from.starts_with(to + "/");
  if (number == EINVAL && flags != 0 && !intoItself)
    return Error{Code::Unsupported, shown_ + ": the file system cannot rename without replacing, or exchange"};
  return failed("rename", from + "' to '" + to, number);
}

Result<void> PosixDirectory::setMode(const std::string& path, uint32_t mode) {
  REALIZE_ASSIGN(OwnedFd object, openObject(path));
  REALIZE_ASSIGN(FileStat stat, statAt(object.get(), "", AT_EMPTY_PATH));
  if (stat.type == FileStat::Type::Symlink) return Error{Code::Unsupported, path + ": a symlink has no mode"};
  // fchmodat2 is newer than the kernels we run on; the object is pinned, so nothing can take its place.
  if (chmod(procPath(object.get()).c_str(), mode & 07777) != 0) return failed("chmod", path);
  return {};
}

Result<void> PosixDirectory::setTimes(const std::string& path, int64_t mtimeNs) {
  REALIZE_ASSIGN(OwnedFd object, openObject(path));
  timespec times[2] = {{0, UTIME_OMIT}, timespecOf(mtimeNs)};
  if (utimensat(object.get(), "", times, AT_EMPTY_PATH) == 0) return {};
  if (errno != EINVAL && errno != ENOENT) return failed("utimens", path);
  // Before Linux 5.8 there is no AT_EMPTY_PATH here.
  if (path.empty()) {
    if (utimensat(AT_FDCWD, procPath(object.get()).c_str(), times, 0) != 0) return failed("utimens", path);
    return {};
  }
  REALIZE_ASSIGN(Place place, placeOf(fd_.get(), path));
  if (utimensat(place.fd, place.name, times, AT_SYMLINK_NOFOLLOW) != 0) return failed("utimens", path);
  return {};
}

Result<void> PosixDirectory::setOwner(const std::string& path, int64_t uid, int64_t gid) {
  REALIZE_ASSIGN(OwnedFd object, openObject(path));
  if (fchownat(object.get(), "", uid_t(uid), gid_t(gid), AT_EMPTY_PATH) != 0) return failed("chown", path);
  return {};
}

}  // namespace

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.release();
  }
  return *this;
}

OwnedFd::~OwnedFd() {
  if (fd_ >= 0) close(fd_);
}

Result<void> checkBeneath(const std::string& path) {
  if (path.empty()) return {};
  if (path.front() == '/') return Error{Code::PermissionDenied, path + ": not beneath the directory"};
  if (path.find('\0') != std::string::npos) return Error{Code::InvalidArgument, "a name with a NUL"};
  for (size_t start = 0; start <= path.size();) {
    size_t end = path.find('/', start);
    if (end == std::string::npos) end = path.size();
    size_t size = end - start;
    if (size == 2 && path[start] == '.' && path[start + 1] == '.')
      return Error{Code::PermissionDenied, path + ": '..' is not allowed"};
    if (size == 0 || (size == 1 && path[start] == '.'))
      return Error{Code::InvalidArgument, path + ": an empty component, or '.'"};
    start = end + 1;
  }
  return {};
}

Result<OwnedFd> openBeneath(int base, const std::string& path, int flags, uint32_t permissions) {
  open_how how{};
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const std::string* rest = &path;
  std::string shortened;
  OwnedFd middle;
  // A path longer than the kernel takes at once is walked in pieces, each beneath the last.
  while (rest->size() >= PATH_MAX) {
    size_t cut = rest->rfind('/', PATH_MAX - 2);
    if (cut == std::string::npos || cut == 0) return errnoError(ENAMETOOLONG, "open '" + path + "'");
    how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    long fd = openat2(base, rest->substr(0, cut).c_str(), how);
    if (fd < 0) return errnoError(errno, "open '" + path + "'");
    middle = OwnedFd(int(fd));
    base = middle.get();
    shortened = rest->substr(cut + 1);
    rest = &shortened;
  }
  how.flags = uint64_t(unsigned(flags)) | O_CLOEXEC;
  how.mode = (flags & O_CREAT) ? permissions & 07777 : 0;
  long fd = openat2(base, rest->empty() ? "." : rest->c_str(), how);
  if (fd >= 0) return OwnedFd(int(fd));
  int number = errno;
  if (number == EXDEV) return Error{Code::PermissionDenied, path + ": leads out of the directory"};
  if (number == ELOOP) return Error{Code::PermissionDenied, path + ": a symlink where none is followed"};
  if (number == ENOSYS) return Error{Code::Unsupported, "this kernel has no openat2: Linux 5.6 or newer is needed"};
  // What open(2) says of a socket, or of a device without a driver.
  if (number == ENXIO || number == ENODEV) return Error{Code::Unsupported, path + ": is a special file"};
  return errnoError(number, "open '" + path + "'");
}

Result<std::unique_ptr<Directory>> PosixDisk::openRoot(const std::string& absolutePath) {
  if (absolutePath.empty() || absolutePath[0] != '/')
    return Error{Code::InvalidArgument, "'" + absolutePath + "': not an absolute path"};
  int fd = ::open(absolutePath.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == EACCES) fd = ::open(absolutePath.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return failed("open", absolutePath);
  OwnedFd owned(fd);
  // Learn now, not at the first file, whether openat2 is there.
  REALIZE_ASSIGN(OwnedFd probe, openBeneath(fd, "", O_PATH | O_DIRECTORY));
  return std::unique_ptr<Directory>(new PosixDirectory(std::move(owned), absolutePath));
}

std::string PosixDisk::mountsWithin(const std::string& absolutePath) {
  std::string within = " ";
  for (char c : absolutePath) {
    const bool escaped = c == ' ' || c == '\t' || c == '\n' || c == '\\';
    if (escaped) within += {'\\', '0', char('0' + (c >> 3)), char('0' + (c & 7))};
    else within += c;
  }
  within += '/';
  std::string out;
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    // "id parent device root mount-point ..."
    size_t at = 0;
    for (int word = 0; word < 4 && at != std::string::npos; ++word) at = line.find(' ', at + 1);
    if (at != std::string::npos && line.compare(at, within.size(), within) == 0) out += line + "\n";
  }
  return out;
}

Disk& systemDisk() {
  static PosixDisk disk;
  return disk;
}

}  // namespace realize
