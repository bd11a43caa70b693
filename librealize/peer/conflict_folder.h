#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "librealize/peer/arena_file_system.h"
#include "librealize/peer/core.h"

namespace realize::peer {

/// An arena's file system with one folder more: while there are conflicts, `conflicts` in the root has every version of
/// each, to look at, to copy from, and to choose.
///
///     conflicts/PATH/OF/THE/ENTRY/2026-11-21_10.30.05_laptop_1a2b3c4d.txt
///
/// The name says when it was written (UTC), by whom, and how its content's hash begins; for those who want to know more:
/// `user.realize.label`, `.peer`, `.written`, `.blob`, `.status`. Nothing in it can be changed, with one exception: a version
/// that is renamed over its own entry is chosen; Busy while its bytes are not here yet. It is part of this view only: it is in no tree and no folder, and no peer
/// hears of it. Where the user has an entry `conflicts`, that one has the name, and this is `conflicts.1`, or the next that
/// is free.
///
/// Numbers are hashes of entry and content, and so the same after a restart; they are beyond those of entries.
/// Thread: any, as FileSystem; noteChange with the core lock held. Lifetime: `inner` outlives it.
class ConflictFolder final : public FileSystem {
 public:
  ConflictFolder(Core& core, ArenaFileSystem& inner);
  ~ConflictFolder() override;

  /// What is shown of an entry changed. Cheap where that has nothing to do with conflicts.
  void noteChange(const logic::Effect& effect);
  /// Anything may be otherwise than before.
  void noteAll();

  Result<Attributes> lookup(NodeId parent, const std::string& name) override;
  Result<Attributes> attributes(NodeId node) override;
  Result<Attributes> handleAttributes(FileHandle handle) override { return inner_.handleAttributes(handle); }
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
  uint64_t read(FileHandle handle, uint64_t offset, size_t size, std::function<void(Result<Bytes>)> done) override {
    return inner_.read(handle, offset, size, std::move(done));
  }
  void cancel(uint64_t request) override { inner_.cancel(request); }
  Result<size_t> write(FileHandle handle, uint64_t offset, std::span<const std::byte> bytes) override {
    return inner_.write(handle, offset, bytes);
  }
  Result<void> allocate(FileHandle handle, uint64_t offset, uint64_t length, bool punch, bool keepSize) override {
    return inner_.allocate(handle, offset, length, punch, keepSize);
  }
  Result<void> sync(FileHandle handle, bool dataOnly) override { return inner_.sync(handle, dataOnly); }
  Result<void> syncDirectory(NodeId directory) override;
  void release(FileHandle handle) override { inner_.release(handle); }
  int descriptor(FileHandle handle) override { return inner_.descriptor(handle); }
  Result<std::string> getXattr(NodeId node, const std::string& name) override;
  Result<std::vector<std::string>> listXattrs(NodeId node) override;
  Result<void> setXattr(NodeId node, const std::string& name, const std::string& value, int flags) override;
  Result<void> removeXattr(NodeId node, const std::string& name) override;
  Result<SpaceInfo> space() override { return inner_.space(); }
  std::shared_ptr<void> subscribe(InvalidationSink& sink) override { return inner_.subscribe(sink); }

 private:
  struct Item;
  using Items = std::unordered_map<NodeId, Item>;
  class Builder;

  Result<const Item*> item(NodeId node);
  Error refusal(NodeId node);
  void refresh();
  void tell(const Items& before);
  std::string freeName();
  bool isOurs(NodeId parent, const std::string& name);
  Result<void> choose(NodeId parent, const std::string& name, NodeId newParent, const std::string& newName);
  static std::map<std::string, std::string> describe(Core& core, const Item& item);

  Core& core_;
  ArenaFileSystem& inner_;
  Items items_;       ///< as last looked at; empty without conflicts
  bool stale_ = true; ///< they may be otherwise
  bool scheduled_ = false;
  int64_t delayMs_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace realize::peer
