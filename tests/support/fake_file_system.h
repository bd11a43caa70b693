#pragma once

#include <map>
#include <mutex>

#include "realize/filesystem.h"

namespace realize::test {

/// A folder of real files, to be read only. Changes are ReadOnly.
class FakeFileSystem : public FileSystem {
 public:
  explicit FakeFileSystem(std::string folder) : folder_(std::move(folder)) {}
  ~FakeFileSystem() override;
  /// The number of a path, given on first sight.
  NodeId nodeOf(const std::string& path);

  Result<Attributes> lookup(NodeId parent, const std::string& name) override;
  Result<Attributes> attributes(NodeId node) override;
  Result<Attributes> handleAttributes(FileHandle handle) override;
  void setAttributes(NodeId, FileHandle, const AttributeChange&, std::function<void(Result<Attributes>)> done) override {
    done(no());
  }
  Result<std::vector<NamedNode>> readDirectory(NodeId directory) override;
  Result<NodeId> parentOf(NodeId node) override;
  Result<OpenedFile> create(NodeId, const std::string&, uint32_t, uint32_t, uint32_t, bool) override { return no(); }
  Result<Attributes> makeDirectory(NodeId, const std::string&, uint32_t, uint32_t, uint32_t) override { return no(); }
  Result<Attributes> makeSymlink(NodeId, const std::string&, const std::string&, uint32_t, uint32_t) override {
    return no();
  }
  Result<std::string> readSymlink(NodeId node) override;
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
  Result<std::string> getXattr(NodeId, const std::string&) override { return Error{Code::NotFound, "none"}; }
  Result<std::vector<std::string>> listXattrs(NodeId) override { return std::vector<std::string>{}; }
  Result<void> setXattr(NodeId, const std::string&, const std::string&, int) override { return no(); }
  Result<void> removeXattr(NodeId, const std::string&) override { return no(); }
  Result<SpaceInfo> space() override { return SpaceInfo{}; }
  std::shared_ptr<void> subscribe(InvalidationSink&) override { return nullptr; }

 private:
  static Error no() { return {Code::ReadOnly, "the fake file system only reads"}; }

  std::string pathOf(NodeId node);
  Result<Attributes> attributesOf(const std::string& path);

  std::string folder_;
  std::mutex mutex_;
  std::map<std::string, NodeId> nodes_ = {{"", kRootNode}};
  std::map<NodeId, std::string> paths_ = {{kRootNode, ""}};
  struct OpenFile {
    int fd = -1;
    NodeId node = 0;
  };
  std::map<FileHandle, OpenFile> open_;
  FileHandle lastHandle_ = 0;
};

}  // namespace realize::test
