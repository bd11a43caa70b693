#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "frontends/fuse/errors.h"
#include "frontends/fuse/operations.h"
#include "frontends/fuse/session.h"

namespace realize::fuse {

namespace {

// Of Real files by the file itself: its size and time change while it is written to through another handle.
bool sameVersion(Session& s, FileHandle a, FileHandle b) {
  int fdA = s.fileSystem.descriptor(a), fdB = s.fileSystem.descriptor(b);
  struct stat statA, statB;
  if (fdA >= 0 && fdB >= 0 && fstat(fdA, &statA) == 0 && fstat(fdB, &statB) == 0)
    return statA.st_ino == statB.st_ino && statA.st_dev == statB.st_dev;
  auto attributesA = s.fileSystem.handleAttributes(a), attributesB = s.fileSystem.handleAttributes(b);
  return attributesA.ok() && attributesB.ok() && attributesA->sizeBytes == attributesB->sizeBytes &&
         attributesA->mtimeNs == attributesB->mtimeNs;
}

// True when a handle opened earlier shows another version than `handle`. The kernel has one set of pages per node,
// so then only the older ones may go on filling it.
bool olderVersionOpen(Session& s, NodeId node, FileHandle handle) {
  auto older = s.nodes.olderHandles(node);
  return std::any_of(older.begin(), older.end(),
                     [&](FileHandle other) { return other != handle && !sameVersion(s, other, handle); });
}

void setCaching(Session& s, NodeId node, uint64_t epoch, fuse_file_info& file) {
  file.direct_io = olderVersionOpen(s, node, file.fh);
  file.keep_cache = !file.direct_io && s.nodes.contentSettled(node, epoch);
}

void releaseHandle(Session& s, NodeId node, FileHandle handle) {
  bool older = s.nodes.removeHandle(node, handle);
  s.fileSystem.release(handle);
  if (older) s.invalidator->dropPages(node);
}

// Reads from the file's own descriptor, without the library. Copied: splice(2) was measured no faster here.
void readDescriptor(fuse_req_t req, int fd, size_t size, off_t offset) {
  thread_local std::vector<char> buffer;
  if (buffer.size() < size) buffer.resize(size);
  size_t done = 0;
  while (done < size) {
    ssize_t n = pread(fd, buffer.data() + done, size - done, offset + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      fuse_reply_err(req, errno);
      return;
    }
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  fuse_reply_buf(req, buffer.data(), done);
}

}  // namespace

void opCreate(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* file) {
  Session& s = sessionOf(req);
  const fuse_ctx* caller = fuse_req_ctx(req);
  uint64_t generation = s.nodes.remoteGeneration();
  bool exclusive = (file->flags & O_EXCL) != 0;
  auto created = s.fileSystem.create(parent, name, mode & 07777, caller->uid, caller->gid, exclusive);
  s.nodes.bumpOwn();
  if (!created.ok()) {
    // It exists since the kernel looked, as something that create() cannot open: told so, the kernel looks again.
    bool appeared = !exclusive && (created.code() == Code::Exists || created.code() == Code::Busy);
    fuse_reply_err(req, appeared ? ESTALE : toErrno(created.code()));
    return;
  }
  NodeId node = created->attributes.node;
  FileHandle handle = created->handle;
  if ((file->flags & O_TRUNC) && created->attributes.sizeBytes != 0) {
    // It exists after all, and the handle is open for writing: this does not wait.
    AttributeChange change;
    change.sizeBytes = 0;
    s.fileSystem.setAttributes(node, handle, change, [&](Result<Attributes> result) {
      if (result.ok()) created->attributes = *result;
    });
  }
  s.nodes.addLookup(node);
  s.nodes.addHandle(node, handle, s.nodes.contentEpoch(node));
  fuse_entry_param entry = toEntry(s, created->attributes, s.nodes.remoteGeneration() == generation);
  file->fh = handle;
  if (fuse_reply_create(req, &entry, file) == -ENOENT) {
    releaseHandle(s, node, handle);
    s.nodes.dropLookups(node, 1);
  }
}

void opOpen(fuse_req_t req, fuse_ino_t node, fuse_file_info* file) {
  Session& s = sessionOf(req);
  OpenFlags flags;
  int access = file->flags & O_ACCMODE;
  flags.read = access != O_WRONLY;
  flags.write = access != O_RDONLY;
  flags.truncate = (file->flags & O_TRUNC) != 0;
  flags.append = (file->flags & O_APPEND) != 0;
  uint64_t epoch = s.nodes.contentEpoch(node);
  uint64_t id = keepRequest(req);
  if (id == 0) return;
  auto session = s.shared_from_this();
  fuse_file_info info = *file;
  s.fileSystem.open(node, flags, [session, id, node, epoch, info, flags](Result<FileHandle> opened) mutable {
    if (flags.truncate) session->nodes.bumpOwn();
    bool wanted = session->pending.answer(id, [&](fuse_req_t kept) {
      if (!opened.ok()) return replyCode(kept, opened.code());
      session->nodes.addHandle(node, *opened, epoch);
      info.fh = *opened;
      setCaching(*session, node, epoch, info);
      if (fuse_reply_open(kept, &info) == -ENOENT) releaseHandle(*session, node, *opened);
    });
    if (!wanted && opened.ok()) session->fileSystem.release(*opened);
  });
}

void opRead(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* file) {
  Session& s = sessionOf(req);
  FileHandle handle = file->fh;
  if (int fd = s.fileSystem.descriptor(handle); fd >= 0) return readDescriptor(req, fd, size, offset);

  uint64_t id = keepRequest(req);
  if (id == 0) return;
  s.nodes.beginRead(node);
  auto session = s.shared_from_this();
  uint64_t request =
      s.fileSystem.read(handle, static_cast<uint64_t>(offset), size, [session, id, node](Result<Bytes> bytes) {
        session->pending.answer(id, [&](fuse_req_t kept) {
          if (bytes.ok())
            fuse_reply_buf(kept, reinterpret_cast<const char*>(bytes->data()), bytes->size());
          else
            replyCode(kept, bytes.code());
        });
        if (session->nodes.endRead(node)) session->invalidator->dropPages(node);
      });
  s.pending.started(id, request);
}

void opWrite(fuse_req_t req, fuse_ino_t, const char* bytes, size_t size, off_t offset, fuse_file_info* file) {
  Session& s = sessionOf(req);
  auto written = s.fileSystem.write(file->fh, static_cast<uint64_t>(offset),
                                    std::as_bytes(std::span(bytes, size)));
  s.nodes.bumpOwn();
  if (!written.ok()) return replyCode(req, written.code());
  fuse_reply_write(req, *written);
}

// Everything was written by write already; told once, the kernel no longer asks at each close.
void opFlush(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, ENOSYS); }

void opRelease(fuse_req_t req, fuse_ino_t node, fuse_file_info* file) {
  releaseHandle(sessionOf(req), node, file->fh);
  fuse_reply_err(req, 0);
}

void opFsync(fuse_req_t req, fuse_ino_t, int dataOnly, fuse_file_info* file) {
  replyResult(req, sessionOf(req).fileSystem.sync(file->fh, dataOnly != 0));
}

void opFallocate(fuse_req_t req, fuse_ino_t, int mode, off_t offset, off_t length, fuse_file_info* file) {
  bool punch = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  bool keepSize = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  if ((mode & ~(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) != 0) {
    fuse_reply_err(req, EOPNOTSUPP);
    return;
  }
  Session& s = sessionOf(req);
  auto result = s.fileSystem.allocate(file->fh, static_cast<uint64_t>(offset), static_cast<uint64_t>(length),
                                      punch, keepSize);
  s.nodes.bumpOwn();
  replyResult(req, result);
}

}  // namespace realize::fuse
