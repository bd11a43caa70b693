#pragma once

#include <memory>
#include <utility>

#include "librealize/peer/core.h"
#include "realize/filesystem.h"

namespace realize::peer {

/// The arena as numbered nodes (realize/filesystem.h). Takes the core lock itself: call without it. Real entries are
/// read from and changed in the backing folder directly, and the tree at once; Unreal ones come from the tree, their
/// bytes through Transfers. Thread: any.
class ArenaFileSystem final : public FileSystem {
 public:
  explicit ArenaFileSystem(Core& core);
  ~ArenaFileSystem() override;
  /// Ends every open file; later calls fail with Suspended.
  void close();

  /// Opens a content for reading, whatever entry shows it; `attributes` are those of the handle. Core lock held.
  FileHandle openVersion(const Attributes& attributes, const BlobId& blob);
  /// Who what is not on disk belongs to: the owner of the arena's folder. Core lock held.
  std::pair<uint32_t, uint32_t> owner();

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
  struct State;
  std::shared_ptr<State> s_;
};

}  // namespace realize::peer
