#pragma once

#include <map>
#include <mutex>

#include "realize/filesystem.h"

namespace realize::test {

/// A folder of real files, to be read only: what the daemon's `cat` needs of a FileSystem. All else is Unsupported.
class FakeFileSystem : public FileSystem {
 public:
  explicit FakeFileSystem(std::string folder) : folder_(std::move(folder)) {}
  ~FakeFileSystem() override;
  /// The number of a path, given on first sight.
  NodeId nodeOf(const std::string& path);

  Result<Attributes> lookup(NodeId, const std::string&) override { return no(); }
  Result<Attributes> attributes(NodeId) override { return no(); }
  Result<Attributes> handleAttributes(FileHandle) override { return no(); }
  void setAttributes(NodeId, FileHandle, const AttributeChange&, std::function<void(Result<Attributes>)> done) override {
    done(no());
  }
  Result<std::vector<NamedNode>> readDirectory(NodeId) override { return no(); }
  Result<NodeId> parentOf(NodeId) override { return no(); }
  Result<OpenedFile> create(NodeId, const std::string&, uint32_t, uint32_t, uint32_t, bool) override { return no(); }
  Result<Attributes> makeDirectory(NodeId, const std::string&, uint32_t, uint32_t, uint32_t) override { return no(); }
  Result<Attributes> makeSymlink(NodeId, const std::string&, const std::string&, uint32_t, uint32_t) override {
    return no();
  }
  Result<std::string> readSymlink(NodeId) override { return no(); }
  Result<void> unlink(NodeId, const std::string&) override { return no(); }
  Result<void> removeDirectory(NodeId, const std::string&) override { return no(); }
  Result<void> rename(NodeId, const std::string&, NodeId, const std::string&, RenameFlag) override { return no(); }
  void open(NodeId node, OpenFlags flags, std::function<void(Result<FileHandle>)> done) override;
  uint64_t read(FileHandle handle, uint64_t offset, size_t size, std::function<void(Result<Bytes>)> done) override;
  void cancel(uint64_t) override {}
  Result<size_t> write(FileHandle, uint64_t, std::span<const std::byte>) override { return no(); }
  Result<void> allocate(FileHandle, uint64_t, uint64_t, bool, bool) override { return no(); }
  Result<void> sync(FileHandle, bool) override { return no(); }
  Result<void> syncDirectory(NodeId) override { return no(); }
  void release(FileHandle handle) override;
  int descriptor(FileHandle) override { return -1; }
  Result<std::string> getXattr(NodeId, const std::string&) override { return no(); }
  Result<std::vector<std::string>> listXattrs(NodeId) override { return no(); }
  Result<void> setXattr(NodeId, const std::string&, const std::string&, int) override { return no(); }
  Result<void> removeXattr(NodeId, const std::string&) override { return no(); }
  Result<SpaceInfo> space() override { return no(); }
  std::shared_ptr<void> subscribe(InvalidationSink&) override { return nullptr; }

 private:
  static Error no() { return {Code::Unsupported, "the fake file system only reads"}; }

  std::string folder_;
  std::mutex mutex_;
  std::map<std::string, NodeId> nodes_ = {{"", kRootNode}};
  std::map<NodeId, std::string> paths_ = {{kRootNode, ""}};
  std::map<FileHandle, int> open_;
  FileHandle lastHandle_ = 0;
};

}  // namespace realize::test
