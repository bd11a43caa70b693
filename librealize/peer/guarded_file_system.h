#pragma once

#include <functional>

#include "realize/filesystem.h"

namespace realize::peer {

/// A file system whose database may fail in any call: that is the call's error then, and `failed` is told, without a lock
/// held. Thread: any. Lifetime: `inner` outlives it.
class GuardedFileSystem final : public FileSystem {
 public:
  GuardedFileSystem(FileSystem& inner, std::function<void(const Error&)> failed)
      : inner_(inner), failed_(std::move(failed)) {}

  Result<Attributes> lookup(NodeId parent, const std::string& name) override;
  Result<Attributes> attributes(NodeId node) override;
  Result<Attributes> handleAttributes(FileHandle handle) override;
  void setAttributes(NodeId node, FileHandle handle, const AttributeChange& change,
                     std::function<void(Result<Attributes>)> done) override;
  Result<std::vector<NamedNode>> readDirectory(NodeId directory) override;
  Result<NodeId> parentOf(NodeId node) override;
  Result<OpenedFile> create(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid, uint32_t gid,
                            bool exclusive) override;
  Result<Attributes> makeDirectory(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid,
                                   uint32_t gid) override;
  Result<Attributes> makeSymlink(NodeId parent, const std::string& name, const std::string& target, uint32_t uid,
                                 uint32_t gid) override;
  Result<std::string> readSymlink(NodeId node) override;
  Result<void> unlink(NodeId parent, const std::string& name) override;
  Result<void> removeDirectory(NodeId parent, const std::string& name) override;
  Result<void> rename(NodeId parent, const std::string& name, NodeId newParent, const std::string& newName,
                      RenameFlag flag) override;
  void open(NodeId node, OpenFlags flags, std::function<void(Result<FileHandle>)> done) override;
  uint64_t read(FileHandle handle, uint64_t offset, size_t size, std::function<void(Result<Bytes>)> done) override;
  void cancel(uint64_t request) override;
  Result<size_t> write(FileHandle handle, uint64_t offset, std::span<const std::byte> bytes) override;
  Result<void> allocate(FileHandle handle, uint64_t offset, uint64_t length, bool punch, bool keepSize) override;
  Result<void> sync(FileHandle handle, bool dataOnly) override;
  Result<void> syncDirectory(NodeId directory) override;
  void release(FileHandle handle) override;
  int descriptor(FileHandle handle) override;
  Result<std::string> getXattr(NodeId node, const std::string& name) override;
  Result<std::vector<std::string>> listXattrs(NodeId node) override;
  Result<void> setXattr(NodeId node, const std::string& name, const std::string& value, int flags) override;
  Result<void> removeXattr(NodeId node, const std::string& name) override;
  Result<SpaceInfo> space() override;
  std::shared_ptr<void> subscribe(InvalidationSink& sink) override;

 private:
  template <typename F>
  auto guarded(F&& call);
  FileSystem& inner_;
  std::function<void(const Error&)> failed_;
};

}  // namespace realize::peer
