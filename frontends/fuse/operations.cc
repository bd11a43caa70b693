#include "frontends/fuse/operations.h"

#include <sys/statvfs.h>
#include <time.h>

#include <cerrno>

#include "frontends/fuse/errors.h"
#include "frontends/fuse/session.h"

namespace realize::fuse {

namespace {

constexpr uint32_t kMaxIoBytes = 1024 * 1024;
constexpr unsigned kMaxBackground = 64;  // reads ahead under way at once, over all files
constexpr unsigned long kStatfsBlockBytes = 4096;

int64_t nowNs() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

// After the attributes were set, or not.
void replyAttributes(const std::shared_ptr<Session>& session, uint64_t id, const Result<Attributes>& result) {
  session->nodes.bumpOwn();
  session->pending.answer(id, [&](fuse_req_t req) {
    if (!result.ok()) return replyCode(req, result.code());
    struct stat st = toStat(*result);
    fuse_reply_attr(req, &st, session->cacheSeconds);
  });
}

// truncate(2) of an Unreal file by its path: only an open file can be written to.
void truncateByOpening(const std::shared_ptr<Session>& session, uint64_t id, NodeId node,
                       const AttributeChange& change) {
  OpenFlags flags;
  flags.write = true;
  flags.truncate = *change.sizeBytes == 0;
  session->fileSystem.open(node, flags, [session, id, node, change](Result<FileHandle> opened) {
    if (!opened.ok()) return replyAttributes(session, id, opened.error());
    FileHandle handle = *opened;
    session->fileSystem.setAttributes(node, handle, change, [session, id, handle](Result<Attributes> result) {
      session->fileSystem.release(handle);
      replyAttributes(session, id, result);
    });
  });
}

}  // namespace

void opInit(void*, fuse_conn_info* connection) {
  auto want = [&](unsigned capability) {
    if (connection->capable & capability) connection->want |= capability;
  };
  auto refuse = [&](unsigned capability) { connection->want &= ~capability; };
  want(FUSE_CAP_ASYNC_READ);
  want(FUSE_CAP_PARALLEL_DIROPS);
  want(FUSE_CAP_ATOMIC_O_TRUNC);
  want(FUSE_CAP_READDIRPLUS);
  want(FUSE_CAP_READDIRPLUS_AUTO);
  want(FUSE_CAP_CACHE_SYMLINKS);
  // Pages go when we say so. Otherwise each own write, by its new mtime, would drop the pages it filled.
  if (connection->capable & FUSE_CAP_EXPLICIT_INVAL_DATA) {
    refuse(FUSE_CAP_AUTO_INVAL_DATA);
    want(FUSE_CAP_EXPLICIT_INVAL_DATA);
  }
  refuse(FUSE_CAP_ASYNC_DIO);  // Who waits for it cannot be killed.
  refuse(FUSE_CAP_WRITEBACK_CACHE);
  refuse(FUSE_CAP_HANDLE_KILLPRIV);  // The kernel takes set-id bits away on a write, by setattr.
  refuse(FUSE_CAP_SPLICE_READ);      // Writes are taken from memory.
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP
  want(FUSE_CAP_DIRECT_IO_ALLOW_MMAP);
#endif
  refuse(FUSE_CAP_SPLICE_WRITE);
  refuse(FUSE_CAP_SPLICE_MOVE);
  connection->max_write = kMaxIoBytes;
  connection->max_background = kMaxBackground;
  connection->congestion_threshold = kMaxBackground * 3 / 4;
  connection->time_gran = 1;
}

void opStatfs(fuse_req_t req, fuse_ino_t) {
  auto space = sessionOf(req).fileSystem.space();
  if (!space.ok()) return replyCode(req, space.code());
  struct statvfs st {};
  st.f_bsize = st.f_frsize = kStatfsBlockBytes;
  st.f_blocks = space->totalBytes / kStatfsBlockBytes;
  st.f_bfree = space->freeBytes / kStatfsBlockBytes;
  st.f_bavail = space->availableBytes / kStatfsBlockBytes;
  st.f_files = space->totalFiles;
  st.f_ffree = st.f_favail = space->freeFiles;
  st.f_namemax = 255;
  fuse_reply_statfs(req, &st);
}

void opGetattr(fuse_req_t req, fuse_ino_t node, fuse_file_info*) {
  Session& s = sessionOf(req);
  auto attributes = s.fileSystem.attributes(node);
  // fstat(2) comes without its handle. A file that lost its last name is still that of its open handle.
  if (!attributes.ok() && isGone(attributes.code()))
    if (auto handle = s.nodes.anyHandle(node)) attributes = s.fileSystem.handleAttributes(*handle);
  if (!attributes.ok()) return replyCode(req, attributes.code());
  struct stat st = toStat(*attributes);
  st.st_ino = node;
  fuse_reply_attr(req, &st, s.cacheSeconds);
}

void opSetattr(fuse_req_t req, fuse_ino_t node, struct stat* wanted, int valid, fuse_file_info* file) {
  Session& s = sessionOf(req);
  AttributeChange change;
  if (valid & FUSE_SET_ATTR_MODE) change.mode = wanted->st_mode & 07777;
  if (valid & FUSE_SET_ATTR_UID) change.uid = wanted->st_uid;
  if (valid & FUSE_SET_ATTR_GID) change.gid = wanted->st_gid;
  if (valid & FUSE_SET_ATTR_SIZE) change.sizeBytes = static_cast<uint64_t>(wanted->st_size);
  if (valid & FUSE_SET_ATTR_MTIME_NOW)
    change.mtimeNs = nowNs();
  else if (valid & FUSE_SET_ATTR_MTIME)
    change.mtimeNs = wanted->st_mtim.tv_sec * int64_t{1'000'000'000} + wanted->st_mtim.tv_nsec;

  uint64_t id = keepRequest(req);
  if (id == 0) return;
  FileHandle handle = file ? file->fh : 0;
  auto session = s.shared_from_this();
  auto done = [session, id, node, handle, change](Result<Attributes> result) {
    bool needsOpen = !result.ok() && result.code() == Code::Busy && change.sizeBytes && handle == 0;
    if (needsOpen) return truncateByOpening(session, id, node, change);
    bool nameless = !result.ok() && isGone(result.code()) && handle == 0;
    if (auto open = nameless ? session->nodes.anyHandle(node) : std::nullopt)  // See opGetattr.
      return session->fileSystem.setAttributes(
          node, *open, change, [session, id](Result<Attributes> again) { replyAttributes(session, id, again); });
    replyAttributes(session, id, result);
  };
  s.fileSystem.setAttributes(node, handle, change, std::move(done));
}

const fuse_lowlevel_ops& operations() {
  // Left out on purpose, for the kernel does them itself when told ENOSYS: access (default_permissions), lseek (data
  // up to the end, so holes of a cache never show), copy_file_range, locks.
  static const fuse_lowlevel_ops table = [] {
    fuse_lowlevel_ops ops{};
    ops.init = opInit;
    ops.lookup = opLookup;
    ops.forget = opForget;
    ops.forget_multi = opForgetMulti;
    ops.getattr = opGetattr;
    ops.setattr = opSetattr;
    ops.readlink = opReadlink;
    ops.mknod = opMknod;
    ops.mkdir = opMkdir;
    ops.unlink = opUnlink;
    ops.rmdir = opRmdir;
    ops.symlink = opSymlink;
    ops.rename = opRename;
    ops.link = opLink;
    ops.create = opCreate;
    ops.open = opOpen;
    ops.read = opRead;
    ops.write = opWrite;
    ops.flush = opFlush;
    ops.release = opRelease;
    ops.fsync = opFsync;
    ops.fallocate = opFallocate;
    ops.opendir = opOpendir;
    ops.readdir = opReaddir;
    ops.readdirplus = opReaddirplus;
    ops.releasedir = opReleasedir;
    ops.fsyncdir = opFsyncdir;
    ops.statfs = opStatfs;
    ops.getxattr = opGetxattr;
    ops.listxattr = opListxattr;
    ops.setxattr = opSetxattr;
    ops.removexattr = opRemovexattr;
    return ops;
  }();
  return table;
}

}  // namespace realize::fuse
