#include "memory_file_system.h"

#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "memory_file_system_inside.h"

namespace realize::test {

MemoryFileSystem::MemoryFileSystem(bool descriptors) : descriptors_(descriptors) {
  auto root = std::make_shared<Node>();
  root->id = root->parent = kRootNode;
  root->kind = EntryKind::Directory;
  root->mode = 0755;
  root->uid = getuid();
  root->gid = getgid();
  root->attached = true;
  root->touch();
  nodes_[kRootNode] = root;
}

MemoryFileSystem::~MemoryFileSystem() {
  failHeldReads(Code::Suspended);
  holdOpens(false);
}

// --- inner ---

MemoryFileSystem::NodePtr MemoryFileSystem::find(NodeId node) {
  auto it = nodes_.find(node);
  return it == nodes_.end() ? nullptr : it->second;
}

Result<MemoryFileSystem::NodePtr> MemoryFileSystem::directory(NodeId node) {
  if (fail_) return {*fail_, "as the test wishes"};
  NodePtr found = find(node);
  if (!found) return stale();
  if (found->kind != EntryKind::Directory) return {Code::NotDirectory, "not a directory"};
  return found;
}

MemoryFileSystem::NodePtr MemoryFileSystem::child(const NodePtr& parent, const std::string& name) {
  auto it = parent->children.find(name);
  return it == parent->children.end() ? nullptr : it->second;
}

MemoryFileSystem::Place MemoryFileSystem::place(const std::string& path) {
  Place at{find(kRootNode), path};
  for (size_t slash; (slash = at.name.find('/')) != std::string::npos;) {
    at.parent = child(at.parent, at.name.substr(0, slash));
    at.name = at.name.substr(slash + 1);
    if (!at.parent) std::abort();  // The test names a folder that it did not make.
  }
  return at;
}

MemoryFileSystem::NodePtr MemoryFileSystem::make(EntryKind kind, uint32_t mode, uint32_t uid, uint32_t gid) {
  auto node = std::make_shared<Node>();
  node->id = ++last_;
  node->kind = kind;
  node->mode = mode;
  node->uid = uid;
  node->gid = gid;
  node->touch();
  if (kind == EntryKind::File) node->content = std::make_shared<Content>(descriptors_);
  nodes_[node->id] = node;
  return node;
}

void MemoryFileSystem::attach(const NodePtr& parent, const std::string& name, const NodePtr& node) {
  parent->children[name] = node;
  parent->directories += node->kind == EntryKind::Directory;
  parent->touch();
  node->parent = parent->id;
  node->attached = true;
  node->ctimeNs = nowNs();
}

void MemoryFileSystem::detach(const NodePtr& parent, const std::string& name) {
  auto it = parent->children.find(name);
  if (it == parent->children.end()) return;
  parent->directories -= it->second->kind == EntryKind::Directory;
  it->second->attached = false;
  nodes_.erase(it->second->id);  // Handles keep the node itself.
  parent->children.erase(it);
  parent->touch();
}

Attributes MemoryFileSystem::attributesOf(const Node& node) const {
  Attributes a;
  a.node = node.id;
  a.kind = node.kind;
  a.mode = node.mode;
  a.uid = node.uid;
  a.gid = node.gid;
  a.links = node.kind == EntryKind::Directory ? 2 + static_cast<uint32_t>(node.directories) : 1;
  if (!node.attached) a.links = 0;
  if (node.content) a.sizeBytes = node.content->size();
  if (node.kind == EntryKind::Symlink) a.sizeBytes = node.target.size();
  a.blocks512 = (a.sizeBytes + 511) / 512;
  a.mtimeNs = a.atimeNs = node.mtimeNs;
  a.ctimeNs = node.ctimeNs;
  return a;
}

FileHandle MemoryFileSystem::openNode(const NodePtr& node, OpenFlags flags) {
  if (flags.truncate) {
    node->content->resize(0);
    node->touch();
  }
  FileHandle handle = ++last_;
  open_[handle] = Open{node, node->content, flags.append};
  return handle;
}

Result<Attributes> MemoryFileSystem::apply(const NodePtr& node, const AttributeChange& change) {
  if (change.sizeBytes) {
    if (!node->content) return {Code::IsDirectory, "no file"};
    if (!node->content->resize(*change.sizeBytes)) return {Code::TooLarge, "too large"};
    node->touch();
  }
  if (change.mode) node->mode = *change.mode;
  if (change.uid) node->uid = *change.uid;
  if (change.gid) node->gid = *change.gid;
  if (change.mtimeNs) node->mtimeNs = *change.mtimeNs;
  node->ctimeNs = nowNs();
  return attributesOf(*node);
}

void MemoryFileSystem::tell(const std::function<void(InvalidationSink&)>& call) {
  std::lock_guard lock(sinkMutex_);
  for (InvalidationSink* sink : sinks_) call(*sink);
}

// --- FileSystem ---

Result<Attributes> MemoryFileSystem::lookup(NodeId parent, const std::string& name) {
  std::lock_guard lock(mutex_);
  ++lookups_;
  REALIZE_ASSIGN(NodePtr dir, directory(parent));
  if (name.size() > 255) return {Code::NameTooLong, "name too long"};
  NodePtr found = child(dir, name);
  if (!found) return notFound();
  return attributesOf(*found);
}

Result<Attributes> MemoryFileSystem::attributes(NodeId node) {
  std::lock_guard lock(mutex_);
  ++lookups_;
  if (fail_) return {*fail_, "as the test wishes"};
  NodePtr found = find(node);
  if (!found) return stale();
  return attributesOf(*found);
}

Result<Attributes> MemoryFileSystem::handleAttributes(FileHandle handle) {
  std::lock_guard lock(mutex_);
  auto it = open_.find(handle);
  if (it == open_.end()) return notFound();
  Attributes a = attributesOf(*it->second.node);
  a.sizeBytes = it->second.content->size();
  if (it->second.content != it->second.node->content) a.mtimeNs = 0;  // an older version
  return a;
}

void MemoryFileSystem::setAttributes(NodeId node, FileHandle handle, const AttributeChange& change,
                                     std::function<void(Result<Attributes>)> done) {
  Result<Attributes> result = stale();
  {
    std::lock_guard lock(mutex_);
    NodePtr found = find(node);
    auto it = open_.find(handle);
    if (it != open_.end()) found = it->second.node;
    if (found && change.sizeBytes && handle == 0 && unreal_.count(node))
      result = Error{Code::Busy, "open it first"};
    else if (found)
      result = apply(found, change);
  }
  done(std::move(result));
}

Result<std::vector<NamedNode>> MemoryFileSystem::readDirectory(NodeId node) {
  std::lock_guard lock(mutex_);
  REALIZE_ASSIGN(NodePtr dir, directory(node));
  std::vector<NamedNode> out;
  out.reserve(dir->children.size());
  for (auto& [name, entry] : dir->children) out.push_back({name, attributesOf(*entry)});
  return out;
}

Result<NodeId> MemoryFileSystem::parentOf(NodeId node) {
  std::lock_guard lock(mutex_);
  NodePtr found = find(node);
  if (!found) return stale();
  return found->parent;
}

Result<OpenedFile> MemoryFileSystem::create(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid,
                                            uint32_t gid, bool exclusive) {
  std::lock_guard lock(mutex_);
  REALIZE_ASSIGN(NodePtr dir, directory(parent));
  if (name.size() > 255) return {Code::NameTooLong, "name too long"};
  NodePtr file = child(dir, name);
  if (file && exclusive) return {Code::Exists, "exists"};
  if (file && file->kind != EntryKind::File) return {Code::IsDirectory, "no file"};
  if (file && unreal_.count(file->id)) return {Code::Busy, "open it"};
  if (!file) {
    file = make(EntryKind::File, mode, uid, gid);
    attach(dir, name, file);
  }
  OpenedFile opened;
  opened.handle = openNode(file, {});
  opened.attributes = attributesOf(*file);
  return opened;
}

Result<Attributes> MemoryFileSystem::makeDirectory(NodeId parent, const std::string& name, uint32_t mode,
                                                   uint32_t uid, uint32_t gid) {
  std::lock_guard lock(mutex_);
  REALIZE_ASSIGN(NodePtr dir, directory(parent));
  if (child(dir, name)) return {Code::Exists, "exists"};
  NodePtr made = make(EntryKind::Directory, mode, uid, gid);
  attach(dir, name, made);
  return attributesOf(*made);
}

Result<Attributes> MemoryFileSystem::makeSymlink(NodeId parent, const std::string& name, const std::string& target,
                                                 uint32_t uid, uint32_t gid) {
  std::lock_guard lock(mutex_);
  REALIZE_ASSIGN(NodePtr dir, directory(parent));
  if (child(dir, name)) return {Code::Exists, "exists"};
  NodePtr made = make(EntryKind::Symlink, 0777, uid, gid);
  made->target = target;
  attach(dir, name, made);
  return attributesOf(*made);
}

Result<std::string> MemoryFileSystem::readSymlink(NodeId node) {
  std::lock_guard lock(mutex_);
  NodePtr found = find(node);
  if (!found) return stale();
  if (found->kind != EntryKind::Symlink) return {Code::InvalidArgument, "no symlink"};
  return found->target;
}

Result<void> MemoryFileSystem::unlink(NodeId parent, const std::string& name) {
  std::lock_guard lock(mutex_);
  REALIZE_ASSIGN(NodePtr dir, directory(parent));
  NodePtr found = child(dir, name);
  if (!found) return notFound();
  if (found->kind == EntryKind::Directory) return {Code::IsDirectory, "a directory"};
  detach(dir, name);
  return {};
}

Result<void> MemoryFileSystem::removeDirectory(NodeId parent, const std::string& name) {
  std::lock_guard lock(mutex_);
  REALIZE_ASSIGN(NodePtr dir, directory(parent));
  NodePtr found = child(dir, name);
  if (!found) return notFound();
  if (found->kind != EntryKind::Directory) return {Code::NotDirectory, "no directory"};
  if (!found->children.empty()) return {Code::NotEmpty, "not empty"};
  detach(dir, name);
  return {};
}

Result<void> MemoryFileSystem::rename(NodeId parent, const std::string& name, NodeId newParent,
                                      const std::string& newName, RenameFlag flag) {
  std::lock_guard lock(mutex_);
  REALIZE_ASSIGN(NodePtr from, directory(parent));
  REALIZE_ASSIGN(NodePtr to, directory(newParent));
  if (newName.size() > 255) return {Code::NameTooLong, "name too long"};
  NodePtr moved = child(from, name), target = child(to, newName);
  if (!moved) return notFound();
  if (target == moved) return {};
  if (flag == RenameFlag::NoReplace && target) return {Code::Exists, "exists"};
  if (flag == RenameFlag::Exchange && !target) return notFound();
  for (NodePtr up = to; up->id != kRootNode; up = find(up->parent))
    if (up == moved) return {Code::InvalidArgument, "into itself"};
  if (flag == RenameFlag::Replace && target) {
    if (target->kind == EntryKind::Directory && moved->kind != EntryKind::Directory)
      return {Code::IsDirectory, "a directory"};
    if (target->kind != EntryKind::Directory && moved->kind == EntryKind::Directory)
      return {Code::NotDirectory, "no directory"};
    if (!target->children.empty()) return {Code::NotEmpty, "not empty"};
  }
  if (target) detach(to, newName);
  detach(from, name);
  nodes_[moved->id] = moved;
  attach(to, newName, moved);
  if (flag == RenameFlag::Exchange) {
    nodes_[target->id] = target;
    attach(from, name, target);
  }
  return {};
}

void MemoryFileSystem::open(NodeId node, OpenFlags flags, std::function<void(Result<FileHandle>)> done) {
  std::unique_lock lock(mutex_);
  if (flags.write && holdOpens_) {
    heldOpens_.push_back([this, node, flags, done] { open(node, flags, done); });
    changed_.notify_all();
    return;
  }
  Result<FileHandle> result = stale();
  if (fail_)
    result = Error{*fail_, "as the test wishes"};
  else if (NodePtr found = find(node); found && found->kind == EntryKind::File)
    result = openNode(found, flags);
  lock.unlock();
  done(std::move(result));
}

uint64_t MemoryFileSystem::read(FileHandle handle, uint64_t offset, size_t size,
                                std::function<void(Result<Bytes>)> done) {
  std::unique_lock lock(mutex_);
  auto it = open_.find(handle);
  if (it == open_.end()) {
    lock.unlock();
    done(notFound());
    return 0;
  }
  NodeId node = it->second.node->id;
  if (auto failing = failing_.find(node); failing != failing_.end()) {
    Code code = failing->second;
    lock.unlock();
    done(Error{code, "as the test wishes"});
    return 0;
  }
  if (held_.count(node)) {
    uint64_t request = ++last_;
    heldReads_[request] = HeldRead{node, it->second.content, offset, size, std::move(done)};
    changed_.notify_all();
    return request;
  }
  Bytes bytes = it->second.content->read(offset, size);
  lock.unlock();
  done(std::move(bytes));
  return 0;
}

void MemoryFileSystem::cancel(uint64_t request) {
  std::function<void(Result<Bytes>)> done;
  {
    std::lock_guard lock(mutex_);
    auto it = heldReads_.find(request);
    if (it == heldReads_.end()) return;
    done = std::move(it->second.done);
    heldReads_.erase(it);
    ++cancelled_;
    changed_.notify_all();
  }
  done(Error{Code::Cancelled, "cancelled"});
}

Result<size_t> MemoryFileSystem::write(FileHandle handle, uint64_t offset, std::span<const std::byte> bytes) {
  std::lock_guard lock(mutex_);
  if (fail_) return {*fail_, "as the test wishes"};
  auto it = open_.find(handle);
  if (it == open_.end()) return notFound();
  Content& content = *it->second.content;
  content.write(it->second.append ? content.size() : offset, bytes.data(), bytes.size());
  it->second.node->touch();
  return bytes.size();
}

Result<void> MemoryFileSystem::allocate(FileHandle handle, uint64_t offset, uint64_t length, bool punch,
                                        bool keepSize) {
  std::lock_guard lock(mutex_);
  auto it = open_.find(handle);
  if (it == open_.end()) return notFound();
  Content& content = *it->second.content;
  if (punch) {
    uint64_t end = std::min(offset + length, content.size());
    if (end > offset) {
      Bytes zeros(end - offset);
      content.write(offset, zeros.data(), zeros.size());
    }
  } else if (!keepSize && offset + length > content.size()) {
    if (!content.resize(offset + length)) return {Code::NoSpace, "no space"};
  }
  it->second.node->touch();
  return {};
}

Result<void> MemoryFileSystem::sync(FileHandle, bool) {
  std::lock_guard lock(mutex_);
  if (fail_) return {*fail_, "as the test wishes"};
  return {};
}

Result<void> MemoryFileSystem::syncDirectory(NodeId) { return {}; }

void MemoryFileSystem::release(FileHandle handle) {
  std::lock_guard lock(mutex_);
  open_.erase(handle);
}

int MemoryFileSystem::descriptor(FileHandle handle) {
  if (!descriptors_) return -1;
  std::lock_guard lock(mutex_);
  auto it = open_.find(handle);
  return it == open_.end() || held_.count(it->second.node->id) ? -1 : it->second.content->fd();
}

Result<std::string> MemoryFileSystem::getXattr(NodeId node, const std::string& name) {
  std::lock_guard lock(mutex_);
  NodePtr found = find(node);
  if (!found) return stale();
  auto it = found->xattrs.find(name);
  if (it == found->xattrs.end()) return notFound();
  return it->second;
}

Result<std::vector<std::string>> MemoryFileSystem::listXattrs(NodeId node) {
  std::lock_guard lock(mutex_);
  NodePtr found = find(node);
  if (!found) return stale();
  std::vector<std::string> names;
  for (auto& [name, value] : found->xattrs) names.push_back(name);
  return names;
}

Result<void> MemoryFileSystem::setXattr(NodeId node, const std::string& name, const std::string& value, int flags) {
  std::lock_guard lock(mutex_);
  NodePtr found = find(node);
  if (!found) return stale();
  bool there = found->xattrs.count(name) > 0;
  if ((flags & XATTR_CREATE) && there) return {Code::Exists, "exists"};
  if ((flags & XATTR_REPLACE) && !there) return notFound();
  found->xattrs[name] = value;
  return {};
}

Result<void> MemoryFileSystem::removeXattr(NodeId node, const std::string& name) {
  std::lock_guard lock(mutex_);
  NodePtr found = find(node);
  if (!found) return stale();
  if (found->xattrs.erase(name) == 0) return notFound();
  return {};
}

Result<SpaceInfo> MemoryFileSystem::space() {
  SpaceInfo space;
  space.totalBytes = 1000 * 4096;
  space.freeBytes = 600 * 4096;
  space.availableBytes = 500 * 4096;
  space.totalFiles = 10000;
  space.freeFiles = 9000;
  return space;
}

std::shared_ptr<void> MemoryFileSystem::subscribe(InvalidationSink& sink) {
  std::lock_guard lock(sinkMutex_);
  sinks_.push_back(&sink);
  return std::shared_ptr<void>(nullptr, [this, &sink](void*) {
    std::lock_guard unlock(sinkMutex_);
    std::erase(sinks_, &sink);
  });
}

}  // namespace realize::test
