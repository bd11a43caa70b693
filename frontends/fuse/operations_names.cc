#include <linux/fs.h>

#include <cerrno>

#include "frontends/fuse/errors.h"
#include "frontends/fuse/operations.h"
#include "frontends/fuse/session.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

namespace realize::fuse {

namespace {

// How often a lookup is repeated because something changed meanwhile, before its answer goes out uncached.
constexpr int kLookupTries = 3;

}  // namespace

void opLookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Session& s = sessionOf(req);
  for (int tries = 1;; ++tries) {
    uint64_t generation = s.nodes.remoteGeneration();
    auto found = s.fileSystem.lookup(parent, name);
    if (!found.ok()) {
      if (found.code() != Code::NotFound || s.negativeCacheSeconds <= 0) return replyCode(req, found.code());
      // An invalidation of the name waits in the kernel for this lookup, so it cannot come too early.
      fuse_entry_param nothing{};
      nothing.entry_timeout = s.negativeCacheSeconds;
      fuse_reply_entry(req, &nothing);
      return;
    }
    s.nodes.addLookup(found->node);
    bool lasting = s.nodes.remoteGeneration() == generation;
    if (!lasting && tries < kLookupTries) {
      s.nodes.dropLookups(found->node, 1);
      continue;
    }
    fuse_entry_param entry = toEntry(s, *found, lasting);
    if (fuse_reply_entry(req, &entry) == -ENOENT) s.nodes.dropLookups(found->node, 1);
    return;
  }
}

void opForget(fuse_req_t req, fuse_ino_t node, uint64_t count) {
  sessionOf(req).nodes.dropLookups(node, count);
  fuse_reply_none(req);
}

void opForgetMulti(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  Session& s = sessionOf(req);
  for (size_t i = 0; i < count; ++i) s.nodes.dropLookups(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

void opReadlink(fuse_req_t req, fuse_ino_t node) {
  auto target = sessionOf(req).fileSystem.readSymlink(node);
  if (!target.ok()) return replyCode(req, target.code());
  fuse_reply_readlink(req, target->c_str());
}

void opMknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t) {
  if (!S_ISREG(mode)) {
    fuse_reply_err(req, EPERM);
    return;
  }
  Session& s = sessionOf(req);
  const fuse_ctx* caller = fuse_req_ctx(req);
  uint64_t generation = s.nodes.remoteGeneration();
  auto created = s.fileSystem.create(parent, name, mode & 07777, caller->uid, caller->gid, true);
  if (!created.ok()) return replyCode(req, created.code());
  s.fileSystem.release(created->handle);
  s.nodes.bumpOwn();
  replyEntry(req, created->attributes, generation);
}

void opMkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  Session& s = sessionOf(req);
  const fuse_ctx* caller = fuse_req_ctx(req);
  uint64_t generation = s.nodes.remoteGeneration();
  auto made = s.fileSystem.makeDirectory(parent, name, mode & 07777, caller->uid, caller->gid);
  if (!made.ok()) return replyCode(req, made.code());
  s.nodes.bumpOwn();
  replyEntry(req, *made, generation);
}

void opUnlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Session& s = sessionOf(req);
  auto result = s.fileSystem.unlink(parent, name);
  s.nodes.bumpOwn();
  replyResult(req, result);
}

void opRmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Session& s = sessionOf(req);
  auto result = s.fileSystem.removeDirectory(parent, name);
  s.nodes.bumpOwn();
  replyResult(req, result);
}

void opSymlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  Session& s = sessionOf(req);
  const fuse_ctx* caller = fuse_req_ctx(req);
  uint64_t generation = s.nodes.remoteGeneration();
  auto made = s.fileSystem.makeSymlink(parent, name, target, caller->uid, caller->gid);
  if (!made.ok()) return replyCode(req, made.code());
  s.nodes.bumpOwn();
  replyEntry(req, *made, generation);
}

void opRename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t newParent, const char* newName,
              unsigned int flags) {
  RenameFlag flag = RenameFlag::Replace;
  if (flags == RENAME_NOREPLACE) {
    flag = RenameFlag::NoReplace;
  } else if (flags == RENAME_EXCHANGE) {
    flag = RenameFlag::Exchange;
  } else if (flags != 0) {
    fuse_reply_err(req, EINVAL);  // RENAME_WHITEOUT among them
    return;
  }
  Session& s = sessionOf(req);
  auto result = s.fileSystem.rename(parent, name, newParent, newName, flag);
  s.nodes.bumpOwn();
  replyResult(req, result);
}

void opLink(fuse_req_t req, fuse_ino_t, fuse_ino_t, const char*) { fuse_reply_err(req, EPERM); }

}  // namespace realize::fuse
