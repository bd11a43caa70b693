#pragma once

// A FileSystem in memory, for tests of frontends.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "realize/filesystem.h"

namespace realize::test {

/// Files are vectors of bytes, or with `descriptors` unlinked temporary files, as Real files would be.
/// "Underneath" stands for a change that did not come through the frontend: the sinks are told of it.
/// Reads of a node that is held stay unanswered until released: the network, at the test's pace.
class MemoryFileSystem final : public FileSystem {
 public:
  explicit MemoryFileSystem(bool descriptors = false);
  ~MemoryFileSystem() override;

  // --- what a test does to it; paths have no leading slash ---
  NodeId nodeAt(const std::string& path);  ///< 0 if there is none
  NodeId writeUnderneath(const std::string& path, const std::string& content, bool told = true);
  void changeInPlaceUnderneath(const std::string& path, const std::string& bytes);  ///< open handles see it
  NodeId makeDirectoryUnderneath(const std::string& path, bool told = true);
  void removeUnderneath(const std::string& path, bool told = true);  ///< a file or an empty directory
  void renameUnderneath(const std::string& path, const std::string& newPath);
  void chmodUnderneath(const std::string& path, uint32_t mode);
  std::string contentAt(const std::string& path);
  /// Fills without telling the sinks: before a mount, or faster.
  void populate(size_t directories, size_t filesEach, size_t sizeBytes);

  void holdReads(NodeId node);
  /// These wait; false after half a minute, so that a failed test ends.
  [[nodiscard]] bool waitForHeldReads(size_t count);
  size_t heldReads();
  void releaseOneRead();
  void releaseReads(NodeId node);       ///< all held, and holds no more
  void failReads(NodeId node, Code code);  ///< those held and those to come, until releaseReads()
  void setUnreal(NodeId node);          ///< setAttributes with a size is refused with Busy without a handle
  void holdOpens(bool hold);            ///< opens for writing stay unanswered until false
  [[nodiscard]] bool waitForHeldOpens(size_t count);
  [[nodiscard]] bool waitForCancelled(size_t count);
  size_t openHandles();
  size_t lookups();                     ///< calls of lookup() and attributes() so far
  void failWith(std::optional<Code> code);  ///< every call that can fail does

  // --- FileSystem ---
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
  uint64_t read(FileHandle handle, uint64_t offset, size_t size,
                std::function<void(Result<Bytes>)> done) override;
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
  class Content;
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  struct Open {
    NodePtr node;
    std::shared_ptr<Content> content;  // the version it opened
    bool append = false;
  };
  struct HeldRead {
    NodeId node = 0;
    std::shared_ptr<Content> content;
    uint64_t offset = 0;
    size_t size = 0;
    std::function<void(Result<Bytes>)> done;
  };
  struct Place {
    NodePtr parent;
    std::string name;
  };

  NodePtr find(NodeId node);
  Result<NodePtr> directory(NodeId node);
  NodePtr child(const NodePtr& parent, const std::string& name);
  Place place(const std::string& path);
  NodePtr make(EntryKind kind, uint32_t mode, uint32_t uid, uint32_t gid);
  void attach(const NodePtr& parent, const std::string& name, const NodePtr& node);
  void detach(const NodePtr& parent, const std::string& name);
  Attributes attributesOf(const Node& node) const;
  FileHandle openNode(const NodePtr& node, OpenFlags flags);
  Result<Attributes> apply(const NodePtr& node, const AttributeChange& change);
  void failHeldReads(Code code);
  void tell(const std::function<void(InvalidationSink&)>& call);

  std::mutex mutex_;
  std::condition_variable changed_;
  const bool descriptors_;
  std::unordered_map<NodeId, NodePtr> nodes_;
  std::unordered_map<FileHandle, Open> open_;
  uint64_t last_ = kRootNode;
  std::set<NodeId> held_, unreal_;
  std::map<NodeId, Code> failing_;
  std::map<uint64_t, HeldRead> heldReads_;
  bool holdOpens_ = false;
  std::vector<std::function<void()>> heldOpens_;
  size_t cancelled_ = 0, lookups_ = 0;
  std::optional<Code> fail_;
  std::mutex sinkMutex_;
  std::vector<InvalidationSink*> sinks_;
};

}  // namespace realize::test
