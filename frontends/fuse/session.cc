#include "frontends/fuse/session.h"

#include <cerrno>

#include "frontends/fuse/errors.h"

namespace realize::fuse {

namespace {

// What stdio and cp read and write at once; a trip to us costs more than copying this.
constexpr blksize_t kPreferredIoBytes = 64 * 1024;

timespec toTimespec(int64_t ns) {
  int64_t seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
  if (rest < 0) {
    --seconds;
    rest += 1'000'000'000;
  }
  return {static_cast<time_t>(seconds), static_cast<long>(rest)};
}

mode_t typeBits(EntryKind kind) {
  switch (kind) {
    case EntryKind::File: return S_IFREG;
    case EntryKind::Directory: return S_IFDIR;
    case EntryKind::Symlink: return S_IFLNK;
  }
  return S_IFREG;
}

void onInterrupt(fuse_req_t req, void* data) {
  Session& s = sessionOf(req);
  if (!s.pending.interrupted(reinterpret_cast<uintptr_t>(data))) s.watchSignals();
}

}  // namespace

struct stat toStat(const Attributes& a) {
  struct stat st {};
  st.st_ino = a.node;
  st.st_mode = typeBits(a.kind) | (a.mode & 07777);
  st.st_nlink = a.links;
  st.st_uid = a.uid;
  st.st_gid = a.gid;
  st.st_size = static_cast<off_t>(a.sizeBytes);
  st.st_blocks = static_cast<blkcnt_t>(a.blocks512);
  st.st_blksize = kPreferredIoBytes;
  st.st_mtim = toTimespec(a.mtimeNs);
  st.st_ctim = toTimespec(a.ctimeNs);
  st.st_atim = toTimespec(a.atimeNs);
  return st;
}

fuse_entry_param toEntry(const Session& session, const Attributes& attributes, bool lasting) {
  fuse_entry_param entry{};
  entry.ino = attributes.node;
  entry.attr = toStat(attributes);
  entry.attr_timeout = entry.entry_timeout = lasting ? session.cacheSeconds : 0;
  return entry;
}

void replyCode(fuse_req_t req, Code code) { fuse_reply_err(req, toErrno(code)); }

void replyResult(fuse_req_t req, const Result<void>& result) {
  fuse_reply_err(req, result.ok() ? 0 : toErrno(result.code()));
}

void replyEntry(fuse_req_t req, const Attributes& attributes, uint64_t generation) {
  Session& s = sessionOf(req);
  s.nodes.addLookup(attributes.node);
  fuse_entry_param entry = toEntry(s, attributes, s.nodes.remoteGeneration() == generation);
  if (fuse_reply_entry(req, &entry) == -ENOENT) s.nodes.dropLookups(attributes.node, 1);
}

uint64_t keepRequest(fuse_req_t req) {
  uint64_t id = sessionOf(req).pending.add(req);
  if (id == 0)
    fuse_reply_err(req, ENOTCONN);
  else
    fuse_req_interrupt_func(req, onInterrupt, reinterpret_cast<void*>(static_cast<uintptr_t>(id)));
  return id;
}

}  // namespace realize::fuse
