#pragma once

// What every operation needs, and how values become libfuse's.

#include <functional>
#include <memory>
#include <string>

#include "frontends/fuse/fuse_api.h"
#include "frontends/fuse/invalidator.h"
#include "frontends/fuse/node_table.h"
#include "frontends/fuse/pending.h"
#include "realize/filesystem.h"

namespace realize::fuse {

/// One mount's state, shared by its operations. Lifetime: kept by callbacks that are still to come, so it outlives
/// the fuse_session; `fuse` and `invalidator` must then not be used (Pending sees to that).
struct Session : std::enable_shared_from_this<Session> {
  Session(FileSystem& fs, std::shared_ptr<void> owner) : fileSystem(fs), owner_(std::move(owner)), pending(fs) {}

  FileSystem& fileSystem;

 private:
  std::shared_ptr<void> owner_;  // keeps fileSystem

 public:
  NodeTable nodes;
  Pending pending;
  std::unique_ptr<Invalidator> invalidator;
  fuse_session* fuse = nullptr;
  std::function<void()> watchSignals;  ///< asks that Pending::recheck() be called until it returns false
  double cacheSeconds = 0;
  double negativeCacheSeconds = 0;
};

inline Session& sessionOf(fuse_req_t req) { return *static_cast<Session*>(fuse_req_userdata(req)); }

struct stat toStat(const Attributes& attributes);

/// An entry with the long timeouts, or with none when `lasting` is false.
fuse_entry_param toEntry(const Session& session, const Attributes& attributes, bool lasting);

void replyCode(fuse_req_t req, Code code);
void replyResult(fuse_req_t req, const Result<void>& result);

/// Answers with an entry that an operation of this mount made. `generation` is remoteGeneration() from before it.
void replyEntry(fuse_req_t req, const Attributes& attributes, uint64_t generation);

/// Keeps `req` to be answered later, also by an interrupt; 0: it is answered already, as the mount is ending.
uint64_t keepRequest(fuse_req_t req);

/// What fuse_session_new() is given.
const fuse_lowlevel_ops& operations();

}  // namespace realize::fuse
