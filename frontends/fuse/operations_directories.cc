#include <algorithm>
#include <cerrno>
#include <memory>
#include <mutex>
#include <vector>

#include "frontends/fuse/errors.h"
#include "frontends/fuse/operations.h"
#include "frontends/fuse/session.h"

namespace realize::fuse {

namespace {

// An open directory: what was in it when reading began (or began again). The offset of an entry is its index + 1;
// 0 is "." and 1 "..", so that a position stays valid whatever happens to the directory.
struct OpenDirectory {
  std::mutex mutex;
  bool loaded = false;
  std::vector<NamedNode> entries;
  NodeId parent = 0;
  uint64_t remoteGeneration = 0;
  uint64_t ownGeneration = 0;
};

OpenDirectory& directoryOf(fuse_file_info* file) { return *reinterpret_cast<OpenDirectory*>(file->fh); }

Result<void> load(Session& s, NodeId node, OpenDirectory& dir) {
  // Generations first: what changes while we read must count as changed.
  dir.remoteGeneration = s.nodes.remoteGeneration();
  dir.ownGeneration = s.nodes.ownGeneration();
  auto entries = s.fileSystem.readDirectory(node);
  if (!entries.ok()) {
    // A directory that was removed while open is empty.
    if (!isGone(entries.code())) return entries.error();
    entries = std::vector<NamedNode>{};
  }
  auto parent = s.fileSystem.parentOf(node);
  dir.parent = parent.ok() ? *parent : node;
  dir.entries = std::move(*entries);
  dir.loaded = true;
  return {};
}

// Fills one reply. With `plus`, entries carry attributes, which the kernel keeps as it does those of a lookup.
class Filler {
 public:
  Filler(fuse_req_t req, Session& session, NodeId node, OpenDirectory& dir, size_t size, bool plus)
      : req_(req), session_(session), node_(node), dir_(dir), buffer_(size), plus_(plus) {}

  void fill(size_t first) {
    changed_ = session_.nodes.remoteGeneration() != dir_.remoteGeneration ||
               session_.nodes.ownGeneration() != dir_.ownGeneration;
    uint64_t generation = session_.nodes.remoteGeneration();
    run(first);
    if (counted_.empty() || session_.nodes.remoteGeneration() == generation) return;
    // Something changed meanwhile; rather than find out what, give the names alone.
    uncount();
    namesOnly_ = true;
    used_ = 0;
    run(first);
  }

  void reply() {
    if (fuse_reply_buf(req_, buffer_.data(), used_) == -ENOENT) uncount();
  }

 private:
  void run(size_t first) {
    for (size_t i = first; i < dir_.entries.size() + 2; ++i) {
      bool added = i == 0   ? addDot(".", node_, i)
                   : i == 1 ? addDot("..", dir_.parent, i)
                            : addEntry(dir_.entries[i - 2], i);
      if (!added) return;
    }
  }

  bool addDot(const char* name, NodeId node, size_t index) {
    Attributes attributes;
    attributes.node = node;
    attributes.kind = EntryKind::Directory;
    return append(name, attributes, false, index);
  }

  bool addEntry(const NamedNode& named, size_t index) {
    if (!plus_ || namesOnly_) return append(named.name, named.attributes, false, index);
    if (!changed_) return append(named.name, named.attributes, true, index);
    auto now = session_.fileSystem.lookup(node_, named.name);
    bool same = now.ok() && now->node == named.attributes.node;
    return append(named.name, same ? *now : named.attributes, same, index);
  }

  // `known`: the kernel may keep the entry. Counts it then.
  bool append(const std::string& name, const Attributes& attributes, bool known, size_t index) {
    char* at = buffer_.data() + used_;
    size_t room = buffer_.size() - used_;
    off_t next = static_cast<off_t>(index + 1);
    size_t length;
    if (plus_) {
      fuse_entry_param entry = toEntry(session_, attributes, known);
      if (!known) entry.ino = 0;
      if (known) session_.nodes.addLookup(attributes.node);
      length = fuse_add_direntry_plus(req_, at, room, name.c_str(), &entry, next);
      if (known && length > room) session_.nodes.dropLookups(attributes.node, 1);
      if (known && length <= room) counted_.push_back(attributes.node);
    } else {
      struct stat st = toStat(attributes);
      length = fuse_add_direntry(req_, at, room, name.c_str(), &st, next);
    }
    if (length > room) return false;
    used_ += length;
    return true;
  }

  void uncount() {
    for (NodeId node : counted_) session_.nodes.dropLookups(node, 1);
    counted_.clear();
  }

  fuse_req_t req_;
  Session& session_;
  NodeId node_;
  OpenDirectory& dir_;
  std::vector<char> buffer_;
  size_t used_ = 0;
  bool plus_;
  bool changed_ = false;
  bool namesOnly_ = false;
  std::vector<NodeId> counted_;
};

void read(fuse_req_t req, NodeId node, size_t size, off_t offset, fuse_file_info* file, bool plus) {
  Session& s = sessionOf(req);
  OpenDirectory& dir = directoryOf(file);
  std::unique_lock lock(dir.mutex);
  // Read at the first use, not at opendir: the kernel dates its cached copy by this request. rewinddir(3) comes here too.
  auto loaded = offset == 0 || !dir.loaded ? load(s, node, dir) : Result<void>();
  Filler filler(req, s, node, dir, size, plus);
  if (loaded.ok()) filler.fill(static_cast<size_t>(offset));
  lock.unlock();  // Once the reply is out, another thread may be told to release the directory.
  if (!loaded.ok()) return replyCode(req, loaded.code());
  filler.reply();
}

}  // namespace

void opOpendir(fuse_req_t req, fuse_ino_t node, fuse_file_info* file) {
  NodeTable& nodes = sessionOf(req).nodes;
  auto* dir = new OpenDirectory;
  file->fh = reinterpret_cast<uintptr_t>(dir);
  // The kernel keeps the listing until a name in it is invalidated.
  file->cache_readdir = 1;
  file->keep_cache = nodes.contentSettled(node, nodes.contentEpoch(node));
  if (fuse_reply_open(req, file) == -ENOENT) delete dir;
}

void opReaddir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* file) {
  read(req, node, size, offset, file, false);
}

void opReaddirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* file) {
  read(req, node, size, offset, file, true);
}

void opReleasedir(fuse_req_t req, fuse_ino_t, fuse_file_info* file) {
  delete &directoryOf(file);
  fuse_reply_err(req, 0);
}

void opFsyncdir(fuse_req_t req, fuse_ino_t node, int, fuse_file_info*) {
  replyResult(req, sessionOf(req).fileSystem.syncDirectory(node));
}

}  // namespace realize::fuse
