#include "librealize/peer/guarded_file_system.h"

#include "librealize/store/database.h"

namespace realize::peer {

template <typename F>
auto GuardedFileSystem::guarded(F&& call) {
  using R = std::invoke_result_t<F>;
  try {
    return R(call());
  } catch (const store::DatabaseError& e) {
    failed_(e.error());
    return R(e.error());
  }
}

Result<Attributes> GuardedFileSystem::lookup(NodeId parent, const std::string& name) {
  return guarded([&] { return inner_.lookup(parent, name); });
}

Result<Attributes> GuardedFileSystem::attributes(NodeId node) {
  return guarded([&] { return inner_.attributes(node); });
}

Result<Attributes> GuardedFileSystem::handleAttributes(FileHandle handle) {
  return guarded([&] { return inner_.handleAttributes(handle); });
}

void GuardedFileSystem::setAttributes(NodeId node, FileHandle handle, const AttributeChange& change,
                                      std::function<void(Result<Attributes>)> done) {
  auto begun = guarded([&] {
    inner_.setAttributes(node, handle, change, done);
    return Result<void>();
  });
  if (!begun.ok()) done(begun.error());
}

Result<std::vector<NamedNode>> GuardedFileSystem::readDirectory(NodeId directory) {
  return guarded([&] { return inner_.readDirectory(directory); });
}

Result<NodeId> GuardedFileSystem::parentOf(NodeId node) {
  return guarded([&] { return inner_.parentOf(node); });
}

Result<OpenedFile> GuardedFileSystem::create(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid,
                                             uint32_t gid, bool exclusive) {
  return guarded([&] { return inner_.create(parent, name, mode, uid, gid, exclusive); });
}

Result<Attributes> GuardedFileSystem::makeDirectory(NodeId parent, const std::string& name, uint32_t mode,
                                                    uint32_t uid, uint32_t gid) {
  return guarded([&] { return inner_.makeDirectory(parent, name, mode, uid, gid); });
}

Result<Attributes> GuardedFileSystem::makeSymlink(NodeId parent, const std::string& name, const std::string& target,
                                                  uint32_t uid, uint32_t gid) {
  return guarded([&] { return inner_.makeSymlink(parent, name, target, uid, gid); });
}

Result<std::string> GuardedFileSystem::readSymlink(NodeId node) {
  return guarded([&] { return inner_.readSymlink(node); });
}

Result<void> GuardedFileSystem::unlink(NodeId parent, const std::string& name) {
  return guarded([&] { return inner_.unlink(parent, name); });
}

Result<void> GuardedFileSystem::removeDirectory(NodeId parent, const std::string& name) {
  return guarded([&] { return inner_.removeDirectory(parent, name); });
}

Result<void> GuardedFileSystem::rename(NodeId parent, const std::string& name, NodeId newParent,
                                       const std::string& newName, RenameFlag flag) {
  return guarded([&] { return inner_.rename(parent, name, newParent, newName, flag); });
}

void GuardedFileSystem::open(NodeId node, OpenFlags flags, std::function<void(Result<FileHandle>)> done) {
  auto begun = guarded([&] {
    inner_.open(node, flags, done);
    return Result<void>();
  });
  if (!begun.ok()) done(begun.error());
}

uint64_t GuardedFileSystem::read(FileHandle handle, uint64_t offset, size_t size,
                                 std::function<void(Result<Bytes>)> done) {
  Result<uint64_t> begun = guarded([&] { return Result<uint64_t>(inner_.read(handle, offset, size, done)); });
  if (!begun.ok()) done(begun.error());
  return begun.ok() ? *begun : 0;
}

void GuardedFileSystem::cancel(uint64_t request) {
  auto done = guarded([&] {
    inner_.cancel(request);
    return Result<void>();
  });
  (void)done;  // Whoever said it cares no more.
}

Result<size_t> GuardedFileSystem::write(FileHandle handle, uint64_t offset, std::span<const std::byte> bytes) {
  return guarded([&] { return inner_.write(handle, offset, bytes); });
}

Result<void> GuardedFileSystem::allocate(FileHandle handle, uint64_t offset, uint64_t length, bool punch,
                                         bool keepSize) {
  return guarded([&] { return inner_.allocate(handle, offset, length, punch, keepSize); });
}

Result<void> GuardedFileSystem::sync(FileHandle handle, bool dataOnly) {
  return guarded([&] { return inner_.sync(handle, dataOnly); });
}

Result<void> GuardedFileSystem::syncDirectory(NodeId directory) {
  return guarded([&] { return inner_.syncDirectory(directory); });
}

void GuardedFileSystem::release(FileHandle handle) {
  auto done = guarded([&] {
    inner_.release(handle);
    return Result<void>();
  });
  (void)done;  // Whoever said it cares no more.
}

int GuardedFileSystem::descriptor(FileHandle handle) {
  return inner_.descriptor(handle);
}

Result<std::string> GuardedFileSystem::getXattr(NodeId node, const std::string& name) {
  return guarded([&] { return inner_.getXattr(node, name); });
}

Result<std::vector<std::string>> GuardedFileSystem::listXattrs(NodeId node) {
  return guarded([&] { return inner_.listXattrs(node); });
}

Result<void> GuardedFileSystem::setXattr(NodeId node, const std::string& name, const std::string& value, int flags) {
  return guarded([&] { return inner_.setXattr(node, name, value, flags); });
}

Result<void> GuardedFileSystem::removeXattr(NodeId node, const std::string& name) {
  return guarded([&] { return inner_.removeXattr(node, name); });
}

Result<SpaceInfo> GuardedFileSystem::space() {
  return guarded([&] { return inner_.space(); });
}

std::shared_ptr<void> GuardedFileSystem::subscribe(InvalidationSink& sink) {
  return inner_.subscribe(sink);
}

}  // namespace realize::peer
