#include "librealize/base/posix_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "librealize/base/errno_code.h"

namespace realize {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr size_t kCopyBytes = 256 << 10;

int64_t nsOf(const statx_timestamp& t) {
  // Beyond the year 2262 there are no nanoseconds in 64 bits; the nearest will do.
  constexpr int64_t limit = std::numeric_limits<int64_t>::max() / kNsPerSecond;
  if (t.tv_sec >= limit) return std::numeric_limits<int64_t>::max();
  if (t.tv_sec <= -limit) return std::numeric_limits<int64_t>::min();
  return t.tv_sec * kNsPerSecond + t.tv_nsec;
}

FileStat::Type typeOf(uint32_t mode) {
  if (S_ISREG(mode)) return FileStat::Type::File;
  if (S_ISDIR(mode)) return FileStat::Type::Directory;
  if (S_ISLNK(mode)) return FileStat::Type::Symlink;
  return FileStat::Type::Other;
}

class PosixFile final : public DiskFile {
 public:
  explicit PosixFile(OwnedFd fd) : fd_(std::move(fd)) {}

  Result<size_t> read(uint64_t offset, std::span<std::byte> dst) override {
    size_t done = 0;
    while (done < dst.size()) {
      ssize_t got = pread(fd_.get(), dst.data() + done, dst.size() - done, off_t(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return failed("read");
      if (got == 0) break;
      done += size_t(got);
    }
    return done;
  }

  Result<void> write(uint64_t offset, std::span<const std::byte> src) override {
    for (size_t done = 0; done < src.size();) {
      ssize_t put = pwrite(fd_.get(), src.data() + done, src.size() - done, off_t(offset + done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return failed("write");
      if (put == 0) return Error{Code::Io, "write: the disk takes no bytes"};
      done += size_t(put);
    }
    return {};
  }

  Result<void> truncate(uint64_t sizeBytes) override {
    return retried("truncate", [&] { return ftruncate(fd_.get(), off_t(sizeBytes)); });
  }
  Result<FileStat> stat() override { return statAt(fd_.get(), "", AT_EMPTY_PATH); }
  Result<void> sync(bool metadata) override {
    return retried("sync", [&] { return metadata ? fsync(fd_.get()) : fdatasync(fd_.get()); });
  }
  Result<void> setMode(uint32_t mode) override {
    return retried("chmod", [&] { return fchmod(fd_.get(), mode & 07777); });
  }
  Result<void> setTimes(int64_t mtimeNs) override {
    timespec times[2] = {{0, UTIME_OMIT}, timespecOf(mtimeNs)};
    return retried("utimens", [&] { return futimens(fd_.get(), times); });
  }
  Result<void> setOwner(int64_t uid, int64_t gid) override {
    return retried("chown", [&] { return fchown(fd_.get(), uid_t(uid), gid_t(gid)); });
  }
  Result<void> allocate(uint64_t offset, uint64_t length, bool keepSize) override {
    int mode = keepSize ? FALLOC_FL_KEEP_SIZE : 0;
    return retried("allocate", [&] { return fallocate(fd_.get(), mode, off_t(offset), off_t(length)); });
  }
  Result<void> punchHole(uint64_t offset, uint64_t length) override {
    if (length == 0) return {};
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return retried("punch hole", [&] { return fallocate(fd_.get(), mode, off_t(offset), off_t(length)); });
  }

  Result<uint64_t> seek(uint64_t offset, bool hole) override {
    off_t at = lseek(fd_.get(), off_t(offset), hole ? SEEK_HOLE : SEEK_DATA);
    if (at >= 0) return uint64_t(at);
    if (errno != ENXIO) return failed("seek");
    REALIZE_ASSIGN(FileStat now, stat());
    return now.sizeBytes;
  }

  Result<bool> nobodyWrites() override {
    return leased([] { return Result<void>(); });
  }
  Result<FileStat> setTimesOfUnwritten(const FileStat& known, int64_t mtimeNs) override;
  Result<void> cloneRange(DiskFile& from, uint64_t offset, uint64_t length, uint64_t dstOffset) override;
  int descriptor() const override { return fd_.get(); }

 private:
  template <typename Work>
  Result<bool> leased(Work work);
  template <typename Call>
  Result<void> retried(const char* what, Call call) {
    while (call() != 0)
      if (errno != EINTR) return failed(what);
    return {};
  }
  static Error failed(const char* what) { return errnoError(errno, what); }

  Result<void> copyRange(DiskFile& from, uint64_t offset, uint64_t length, uint64_t dstOffset);
  Result<uint64_t> copyInKernel(int from, uint64_t offset, uint64_t length, uint64_t dstOffset);

  OwnedFd fd_;
};

/// Works while no one can open the file for writing: who tries waits. False, and nothing is done, where somebody has it open.
template <typename Work>
Result<bool> PosixFile::leased(Work work) {
  // Who opens the file while we hold the lease has the kernel send us a signal: SIGIO by default, which kills. Nobody
  // minds SIGURG, whose default is to be ignored.
  if (fcntl(fd_.get(), F_SETSIG, SIGURG) != 0) return failed("set the lease's signal");
  int result;
  do result = fcntl(fd_.get(), F_SETLEASE, F_RDLCK);
  while (result != 0 && errno == EINTR);
  if (result == 0) {
    const Result<void> worked = work();
    while (fcntl(fd_.get(), F_SETLEASE, F_UNLCK) != 0)
      if (errno != EINTR) return failed("give the lease back");
    if (!worked.ok()) return worked.error();
    return true;
  }
  switch (errno) {
    case EAGAIN: case EBUSY: return false;
    case EACCES: case EPERM: return Error{Code::PermissionDenied, "it is another user's: who has it open for writing is not told"};
    // It is a regular file, so this is the file system's answer: no leases here.
    case EINVAL: case EOPNOTSUPP: case ENOSYS: case ENOLCK: break;
    default: return failed("lease");
  }
  REALIZE_TRY(work());
  return true;
}

Result<FileStat> PosixFile::setTimesOfUnwritten(const FileStat& known, int64_t mtimeNs) {
  FileStat after;
  REALIZE_ASSIGN(const bool quiet, leased([&]() -> Result<void> {
    REALIZE_ASSIGN(const FileStat now, stat());
    if (!now.bytesUnchanged(known)) return Error{Code::Busy, "written to meanwhile"};
    REALIZE_TRY(setTimes(mtimeNs));
    REALIZE_ASSIGN(after, stat());
    return {};
  }));
  if (!quiet) return Error{Code::Busy, "open for writing"};
  return after;
}

Result<uint64_t> PosixFile::copyInKernel(int from, uint64_t offset, uint64_t length, uint64_t dstOffset) {
  uint64_t done = 0;
  while (done < length) {
    off_t in = off_t(offset + done), out = off_t(dstOffset + done);
    size_t piece = size_t(std::min<uint64_t>(length - done, 1u << 30));
    ssize_t got = copy_file_range(from, &in, fd_.get(), &out, piece, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT)) return failed("copy");
    // 0: the end of `from`, or a kernel that cannot copy this pair of files; reading tells.
    if (got <= 0) break;
    done += uint64_t(got);
  }
  return done;
}

Result<void> PosixFile::copyRange(DiskFile& from, uint64_t offset, uint64_t length, uint64_t dstOffset) {
  uint64_t done = 0;
  if (from.descriptor() >= 0) {
    REALIZE_ASSIGN(done, copyInKernel(from.descriptor(), offset, length, dstOffset));
  }
  if (done == length) return {};
  Bytes buffer(size_t(std::min<uint64_t>(kCopyBytes, length - done)));
  while (done < length) {
    std::span<std::byte> piece(buffer.data(), size_t(std::min<uint64_t>(buffer.size(), length - done)));
    REALIZE_ASSIGN(size_t got, from.read(offset + done, piece));
    REALIZE_TRY(write(dstOffset + done, piece.first(got)));
    if (got < piece.size()) return Error{Code::InvalidArgument, "copy: the source ends before the range does"};
    done += got;
  }
  return {};
}

Result<void> PosixFile::cloneRange(DiskFile& from, uint64_t offset, uint64_t length, uint64_t dstOffset) {
  if (length == 0) return {};  // To FICLONERANGE 0 means "to the end".
  if (from.descriptor() >= 0) {
    file_clone_range range{};
    range.src_fd = from.descriptor();
    range.src_offset = offset;
    range.src_length = length;
    range.dest_offset = dstOffset;
    if (ioctl(fd_.get(), FICLONERANGE, &range) == 0) return {};
    // Whatever the reason, the copy below succeeds or says it better.
  }
  REALIZE_ASSIGN(FileStat source, from.stat());
  if (offset > source.sizeBytes || length > source.sizeBytes - offset)
    return Error{Code::InvalidArgument, "copy: the source ends before the range does"};
  REALIZE_ASSIGN(FileStat target, stat());
  if (target.sizeBytes > dstOffset) return copyRange(from, offset, length, dstOffset);
  // Past our end: only what is data needs copying.
  uint64_t end = offset + length;
  for (uint64_t at = offset; at < end;) {
    REALIZE_ASSIGN(uint64_t data, from.seek(at, false));
    if (data >= end) break;
    REALIZE_ASSIGN(uint64_t hole, from.seek(data, true));
    uint64_t stop = std::min(hole, end);
    if (stop <= data) break;  // The source shrank meanwhile.
    REALIZE_TRY(copyRange(from, data, stop - data, dstOffset + (data - offset)));
    at = stop;
  }
  REALIZE_ASSIGN(FileStat now, stat());
  return now.sizeBytes < dstOffset + length ? truncate(dstOffset + length) : Result<void>();
}

}  // namespace

Result<FileStat> statAt(int directory, const char* name, int flags) {
  struct statx s;
  while (statx(directory, name, flags | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS | STATX_BTIME, &s) != 0)
    if (errno != EINTR) return errnoError(errno, std::string("stat '") + name + "'");
  FileStat out;
  out.type = typeOf(s.stx_mode);
  out.device = makedev(s.stx_dev_major, s.stx_dev_minor);
  out.inode = s.stx_ino;
  out.birthNs = (s.stx_mask & STATX_BTIME) ? nsOf(s.stx_btime) : 0;
  out.mtimeNs = nsOf(s.stx_mtime);
  out.ctimeNs = nsOf(s.stx_ctime);
  out.atimeNs = nsOf(s.stx_atime);
  out.sizeBytes = s.stx_size;
  out.allocatedBytes = uint64_t(s.stx_blocks) * 512;
  out.mode = s.stx_mode & 07777;
  out.links = s.stx_nlink;
  out.uid = s.stx_uid;
  out.gid = s.stx_gid;
  return out;
}

timespec timespecOf(int64_t ns) {
  int64_t seconds = ns / kNsPerSecond, rest = ns % kNsPerSecond;
  if (rest < 0) {
    rest += kNsPerSecond;
    --seconds;
  }
  timespec t{};
  t.tv_sec = seconds;
  t.tv_nsec = long(rest);
  return t;
}

std::unique_ptr<DiskFile> makePosixFile(OwnedFd fd) { return std::make_unique<PosixFile>(std::move(fd)); }

}  // namespace realize
