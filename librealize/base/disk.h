#pragma once

// The one door to the file system. PosixDisk (posix_disk.h) is the real one; tests/support/fake_disk.h keeps inodes,
// renames and what was synced in memory, and loses or tears the rest at a crash.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "librealize/base/random.h"
#include "realize/result.h"
#include "realize/types.h"

namespace realize {

/// What statx says of one name, never following a symlink at the end.
struct FileStat {
  enum class Type : uint8_t { File, Directory, Symlink, Other };
  Type type = Type::Other;
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t birthNs = 0;  ///< Unix time; 0 where the file system does not know it
  int64_t mtimeNs = 0;  ///< Unix time
  int64_t ctimeNs = 0;  ///< Unix time
  int64_t atimeNs = 0;  ///< Unix time
  uint64_t sizeBytes = 0;
  uint64_t allocatedBytes = 0;
  uint32_t mode = 0;  ///< permission bits, 07777
  uint32_t links = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;

  /// The same object (not merely the same name): device, inode and birth time.
  bool sameObject(const FileStat& o) const {
    return device == o.device && inode == o.inode && birthNs == o.birthNs;
  }
  /// The same object, and nobody wrote to it in between, as far as size and mtime tell.
  bool bytesUnchanged(const FileStat& o) const {
    return sameObject(o) && sizeBytes == o.sizeBytes && mtimeNs == o.mtimeNs;
  }
  /// Nothing has changed between the two looks: same object, size, mtime, ctime, mode.
  bool unchanged(const FileStat& o) const {
    return bytesUnchanged(o) && type == o.type && ctimeNs == o.ctimeNs && mode == o.mode;
  }
  bool operator==(const FileStat&) const = default;
};

struct DirectoryItem {
  std::string name;
  FileStat stat;
  /// Set where statx of this name failed with other than "gone": the name is there, its state unknown.
  std::optional<Error> failed;
};

/// An open file. Thread: any, but for close. Lifetime: closes itself.
class DiskFile {
 public:
  virtual ~DiskFile() = default;
  /// Fewer bytes than asked means end of file.
  virtual Result<size_t> read(uint64_t offset, std::span<std::byte> dst) = 0;
  /// Writes all of `src` or fails.
  virtual Result<void> write(uint64_t offset, std::span<const std::byte> src) = 0;
  virtual Result<void> truncate(uint64_t sizeBytes) = 0;
  virtual Result<FileStat> stat() = 0;
  /// fdatasync or, with `metadata`, fsync. An error is final: what was not synced may be lost.
  virtual Result<void> sync(bool metadata) = 0;
  virtual Result<void> setMode(uint32_t mode) = 0;
  virtual Result<void> setTimes(int64_t mtimeNs) = 0;
  /// -1 leaves one of them as it is.
  virtual Result<void> setOwner(int64_t uid, int64_t gid) = 0;
  /// Reserves the range, so that writing it cannot fail with NoSpace; with `keepSize` the file does not grow.
  virtual Result<void> allocate(uint64_t offset, uint64_t length, bool keepSize) = 0;
  /// Frees the range; reads as zeros. The size stays. Errors: Unsupported where the file system has no holes.
  virtual Result<void> punchHole(uint64_t offset, uint64_t length) = 0;
  /// The next byte at or after `offset` that is data (`hole` false) or hole (`hole` true); the size where none.
  virtual Result<uint64_t> seek(uint64_t offset, bool hole) = 0;
  /// Nobody has the file open for writing, or mapped so (F_SETLEASE with F_RDLCK); needs this file opened with
  /// OpenMode::Read. True on file systems that have no leases, since nothing there could ever be answered otherwise: look
  /// at what was displaced all the same. Errors: PermissionDenied where it is another user's file, and nobody can tell.
  virtual Result<bool> nobodyWrites() = 0;
  /// Sets the time if nobodyWrites() and the file is still this object with this size and time, with nobody let in between:
  /// a new time hides what is written before it. Needs OpenMode::Read. The file as it is then. Errors: Busy; PermissionDenied as above.
  virtual Result<FileStat> setTimesOfUnwritten(const FileStat& known, int64_t mtimeNs) = 0;
  /// Copies a range of `from` into this file, sharing blocks where the file system can; holes stay holes where the
  /// range lies past this file's end. Errors: InvalidArgument when `from` ends before the range does.
  virtual Result<void> cloneRange(DiskFile& from, uint64_t offset, uint64_t length, uint64_t dstOffset) = 0;
  /// The kernel's descriptor, for frontends that hand it on; -1 on a fake disk.
  virtual int descriptor() const { return -1; }
};

enum class OpenMode : uint8_t {
  Read,        ///< O_RDONLY
  ReadWrite,   ///< O_RDWR, must exist
  CreateNew,   ///< O_RDWR|O_CREAT|O_EXCL
  CreateOrOpen ///< O_RDWR|O_CREAT
};

enum class RenameKind : uint8_t { Replace, NoReplace, Exchange };

/// A directory held open; all names are relative to it, with '/' between components, and are resolved beneath it
/// (openat2 RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS): no component may be a symlink, and
/// nothing outside can be reached. "" names the directory itself. Thread: any. Lifetime: independent of the Disk and of
/// the Directory it was opened from.
/// Errors: NotFound, NotDirectory, Exists, PermissionDenied, NoSpace, NameTooLong, Io, ...; PermissionDenied also for a
/// path that would leave the directory (absolute, "..", a symlink on the way, or at its end where it would be followed);
/// InvalidArgument for an empty component, "." or NUL; Unsupported for a rename between file systems, and for opening
/// what is neither file nor directory.
class Directory {
 public:
  virtual ~Directory() = default;
  virtual Result<FileStat> stat(const std::string& path) = 0;
  /// `permissions` pass through the process's umask: call setMode() where they must be exact. Errors: IsDirectory.
  virtual Result<std::unique_ptr<DiskFile>> open(const std::string& path, OpenMode mode, uint32_t permissions = 0600) = 0;
  virtual Result<std::unique_ptr<Directory>> openDirectory(const std::string& path) = 0;
  /// All names but "." and "..", each with its stat, in no promised order.
  virtual Result<std::vector<DirectoryItem>> list(const std::string& path) = 0;
  virtual Result<void> makeDirectory(const std::string& path, uint32_t permissions) = 0;
  virtual Result<void> makeSymlink(const std::string& path, const std::string& target) = 0;
  virtual Result<std::string> readSymlink(const std::string& path) = 0;
  virtual Result<void> unlink(const std::string& path) = 0;
  virtual Result<void> removeDirectory(const std::string& path) = 0;
  /// renameat2; both paths beneath this directory. Exchange needs both to exist.
  virtual Result<void> rename(const std::string& from, const std::string& to, RenameKind kind) = 0;
  /// The same, to a path beneath another directory of the same disk, wherever that one is by now.
  virtual Result<void> renameInto(const std::string& from, Directory& directory, const std::string& to, RenameKind kind) = 0;
  virtual Result<void> setMode(const std::string& path, uint32_t mode) = 0;
  virtual Result<void> setTimes(const std::string& path, int64_t mtimeNs) = 0;
  /// -1 leaves one of them as it is; of a symlink, the symlink's own.
  virtual Result<void> setOwner(const std::string& path, int64_t uid, int64_t gid) = 0;
  /// Extended attributes, of a symlink its own. Errors: NotFound also when there is no such attribute; Unsupported.
  virtual Result<std::string> getXattr(const std::string& path, const std::string& name) = 0;
  /// flags: as setxattr (XATTR_CREATE, XATTR_REPLACE).
  virtual Result<void> setXattr(const std::string& path, const std::string& name, const std::string& value, int flags) = 0;
  virtual Result<std::vector<std::string>> listXattrs(const std::string& path) = 0;
  virtual Result<void> removeXattr(const std::string& path, const std::string& name) = 0;
  /// fsync of a directory: the names in it are durable.
  virtual Result<void> syncDirectory(const std::string& path) = 0;
  /// syncfs of the file system that holds this directory: everything written so far is durable. An error is told once
  /// and concerns everything written since the last success, whoever wrote it: one caller at a time.
  virtual Result<void> syncAll() = 0;
  struct Space {
    uint64_t totalBytes = 0, freeBytes = 0, availableBytes = 0, totalInodes = 0, freeInodes = 0;
    uint64_t fileSystemType = 0;  ///< statfs's magic number; 0 on a fake disk
  };
  virtual Result<Space> space() = 0;
  /// Where it is, for messages and for frontends; empty on a fake disk.
  virtual std::string displayPath() const = 0;
};

/// Whether the name exists, as whatever. Errors: all but NotFound: what cannot be looked at is not "absent".
Result<bool> exists(Directory& directory, const std::string& path);

/// For fewer zeros, one write is quicker.
constexpr size_t kShortestHoleBytes = 16 << 10;

/// Writes all of `src` or fails, but that longer runs of zeros become holes where the file system has such. The file reaches
/// that far already.
Result<void> writeSparse(DiskFile& file, uint64_t offset, std::span<const std::byte> src);

/// The whole file. Errors: TooLarge past `maxBytes`.
Result<Bytes> readFile(Directory& directory, const std::string& path, size_t maxBytes);

struct TempFile {
  std::string path;  ///< beneath the Directory; whoever made it renames or unlinks it
  std::unique_ptr<DiskFile> file;
};
/// A new file of random name (`folder`/tmp-<16 hex digits>), open for reading and writing.
Result<TempFile> openTemp(Directory& directory, const std::string& folder, Random& random, uint32_t permissions = 0600);

/// Writes the whole file so that after a crash it is the old or the new one: a temporary beside it, sync, rename, sync
/// of the directory.
Result<void> replaceFile(Directory& directory, const std::string& path, std::span<const std::byte> bytes, Random& random,
                         uint32_t permissions = 0600);

class Disk {
 public:
  virtual ~Disk() = default;
  /// Opens an absolute path as a directory (symlinks in it are followed: the user named it).
  virtual Result<std::unique_ptr<Directory>> openRoot(const std::string& absolutePath) = 0;
  /// Which disks are mounted within `absolutePath`, in no particular form: another text is another set.
  virtual std::string mountsWithin(const std::string& absolutePath) {
    (void)absolutePath;
    return {};
  }
};

/// The operating system's. Lifetime: the process.
Disk& systemDisk();

/// A name whose surroundings changed. Only a hint: look at the disk.
struct WatchEvent {
  std::string directory;  ///< beneath the watched root, "" for the root itself
  std::string name;       ///< within it; empty when the directory itself changed
  bool overflow = false;  ///< events were lost: everything is suspect
  bool directoryMoved = false;  ///< it was a directory that came under this name or left it by a rename
};

/// Watches directories for changes (inotify). Directories are added one by one by whoever scans them.
/// Thread: one at a time. Not promised: events for writes through a mapping.
class Watcher {
 public:
  virtual ~Watcher() = default;
  /// Idempotent. Errors: TooLarge when the user's watch limit is reached; NotFound; NotDirectory.
  virtual Result<void> add(const std::string& directory) = 0;
  /// A watched directory was renamed: its events (and those of directories under it) carry the new path from now on.
  /// What was watched under the name `to` is forgotten. Say so before add() of a new directory at `from`.
  virtual void renamed(const std::string& from, const std::string& to) = 0;
  /// With all directories under it.
  virtual void remove(const std::string& directory) = 0;
  /// What was renamed just now to `name`, a new name in the watched directory of that path and inode, is no news to who
  /// drains: one event that it came there is left out, until the queue was empty once. False: it is not watched. The
  /// kernel merges an event with an equal one just before it: so it is on the caller to see that `name` still is what was
  /// put there, after another rename of his or when expecting() has ended.
  virtual bool expect(const std::string& directory, uint64_t inode, const std::string& name) = 0;
  /// Some may still be left out.
  virtual bool expecting() const = 0;
  /// The events queued by now, equal ones once; never blocks. A directory that is gone or was moved reports itself with
  /// an empty name, and once gone is no longer watched.
  virtual Result<std::vector<WatchEvent>> drain() = 0;
  /// A descriptor that polls readable when there are events; -1 on a fake disk.
  virtual int descriptor() const { return -1; }
};

/// Thread: any. Errors: TooLarge (no inotify instance to be had).
Result<std::unique_ptr<Watcher>> watchFolder(const std::string& absoluteRoot);

}  // namespace realize
