// What a test does to it.

#include <unistd.h>

#include <chrono>

#include "memory_file_system.h"
#include "memory_file_system_inside.h"

namespace realize::test {

namespace {
constexpr auto kGiveUp = std::chrono::seconds(30);
}  // namespace

NodeId MemoryFileSystem::nodeAt(const std::string& path) {
  std::lock_guard lock(mutex_);
  Place at = place(path);
  NodePtr node = child(at.parent, at.name);
  return node ? node->id : 0;
}

NodeId MemoryFileSystem::writeUnderneath(const std::string& path, const std::string& content, bool told) {
  NodeId node, parent;
  bool fresh;
  std::string name;
  {
    std::lock_guard lock(mutex_);
    Place at = place(path);
    parent = at.parent->id;
    name = at.name;
    NodePtr file = child(at.parent, name);
    fresh = !file;
    if (fresh) {
      file = make(EntryKind::File, 0644, getuid(), getgid());
      attach(at.parent, name, file);
    }
    // A new version: handles keep the one they opened.
    file->content = std::make_shared<Content>(descriptors_);
    file->content->write(0, reinterpret_cast<const std::byte*>(content.data()), content.size());
    file->touch();
    node = file->id;
  }
  if (!told) return node;
  tell([&](InvalidationSink& sink) {
    if (fresh)
      sink.nameChanged(parent, name, 0);
    else
      sink.nodeChanged(node, true);
  });
  return node;
}

void MemoryFileSystem::changeInPlaceUnderneath(const std::string& path, const std::string& bytes) {
  NodeId node;
  {
    std::lock_guard lock(mutex_);
    Place at = place(path);
    NodePtr file = child(at.parent, at.name);
    file->content->write(0, reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
    file->touch();
    node = file->id;
  }
  tell([&](InvalidationSink& sink) { sink.nodeChanged(node, true); });
}

NodeId MemoryFileSystem::makeDirectoryUnderneath(const std::string& path, bool told) {
  NodeId parent, node;
  std::string name;
  {
    std::lock_guard lock(mutex_);
    Place at = place(path);
    NodePtr made = make(EntryKind::Directory, 0755, getuid(), getgid());
    attach(at.parent, at.name, made);
    parent = at.parent->id;
    name = at.name;
    node = made->id;
  }
  if (told) tell([&](InvalidationSink& sink) { sink.nameChanged(parent, name, 0); });
  return node;
}

void MemoryFileSystem::removeUnderneath(const std::string& path, bool told) {
  NodeId parent, node;
  std::string name;
  {
    std::lock_guard lock(mutex_);
    Place at = place(path);
    parent = at.parent->id;
    name = at.name;
    NodePtr gone = child(at.parent, name);
    node = gone->id;
    detach(at.parent, name);
  }
  if (told) tell([&](InvalidationSink& sink) { sink.nameChanged(parent, name, node); });
}

void MemoryFileSystem::renameUnderneath(const std::string& path, const std::string& newPath) {
  Place from, to;
  NodeId node, replaced = 0;
  {
    std::lock_guard lock(mutex_);
    from = place(path);
    to = place(newPath);
    node = child(from.parent, from.name)->id;
    if (NodePtr target = child(to.parent, to.name)) replaced = target->id;
  }
  (void)rename(from.parent->id, from.name, to.parent->id, to.name, RenameFlag::Replace);
  tell([&](InvalidationSink& sink) {
    sink.nameChanged(from.parent->id, from.name, node);
    sink.nameChanged(to.parent->id, to.name, replaced);
  });
}

void MemoryFileSystem::chmodUnderneath(const std::string& path, uint32_t mode) {
  NodeId node;
  {
    std::lock_guard lock(mutex_);
    Place at = place(path);
    NodePtr found = child(at.parent, at.name);
    found->mode = mode;
    found->ctimeNs = nowNs();
    node = found->id;
  }
  tell([&](InvalidationSink& sink) { sink.nodeChanged(node, false); });
}

std::string MemoryFileSystem::contentAt(const std::string& path) {
  std::lock_guard lock(mutex_);
  Place at = place(path);
  NodePtr node = child(at.parent, at.name);
  if (!node || !node->content) return "(none)";
  Bytes bytes = node->content->read(0, node->content->size());
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void MemoryFileSystem::populate(size_t directories, size_t filesEach, size_t sizeBytes) {
  std::lock_guard lock(mutex_);
  NodePtr root = find(kRootNode);
  for (size_t d = 0; d < directories; ++d) {
    NodePtr dir = make(EntryKind::Directory, 0755, getuid(), getgid());
    attach(root, "dir" + std::to_string(d), dir);
    for (size_t f = 0; f < filesEach; ++f) {
      NodePtr file = make(EntryKind::File, 0644, getuid(), getgid());
      file->content->resize(sizeBytes);
      attach(dir, "file" + std::to_string(f), file);
    }
  }
}

void MemoryFileSystem::holdReads(NodeId node) {
  std::lock_guard lock(mutex_);
  held_.insert(node);
}

bool MemoryFileSystem::waitForHeldReads(size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kGiveUp, [&] { return heldReads_.size() >= count; });
}

size_t MemoryFileSystem::heldReads() {
  std::lock_guard lock(mutex_);
  return heldReads_.size();
}

void MemoryFileSystem::releaseOneRead() {
  HeldRead read;
  Bytes bytes;
  {
    std::lock_guard lock(mutex_);
    if (heldReads_.empty()) return;
    read = std::move(heldReads_.begin()->second);
    heldReads_.erase(heldReads_.begin());
    bytes = read.content->read(read.offset, read.size);
  }
  read.done(std::move(bytes));
}

void MemoryFileSystem::releaseReads(NodeId node) {
  {
    std::lock_guard lock(mutex_);
    held_.erase(node);
    failing_.erase(node);
  }
  while (heldReads() > 0) releaseOneRead();
}

void MemoryFileSystem::failHeldReads(Code code) {
  std::map<uint64_t, HeldRead> reads;
  {
    std::lock_guard lock(mutex_);
    reads.swap(heldReads_);
  }
  for (auto& [id, read] : reads) read.done(Error{code, "as the test wishes"});
}

void MemoryFileSystem::failReads(NodeId node, Code code) {
  {
    std::lock_guard lock(mutex_);
    failing_[node] = code;
  }
  failHeldReads(code);
}

void MemoryFileSystem::setUnreal(NodeId node) {
  std::lock_guard lock(mutex_);
  unreal_.insert(node);
}

void MemoryFileSystem::holdOpens(bool hold) {
  std::vector<std::function<void()>> opens;
  {
    std::lock_guard lock(mutex_);
    holdOpens_ = hold;
    if (!hold) opens.swap(heldOpens_);
  }
  for (auto& open : opens) open();
}

bool MemoryFileSystem::waitForHeldOpens(size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kGiveUp, [&] { return heldOpens_.size() >= count; });
}

bool MemoryFileSystem::waitForCancelled(size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kGiveUp, [&] { return cancelled_ >= count; });
}

size_t MemoryFileSystem::openHandles() {
  std::lock_guard lock(mutex_);
  return open_.size();
}

size_t MemoryFileSystem::lookups() {
  std::lock_guard lock(mutex_);
  return lookups_;
}

void MemoryFileSystem::failWith(std::optional<Code> code) {
  std::lock_guard lock(mutex_);
  fail_ = code;
}

}  // namespace realize::test
