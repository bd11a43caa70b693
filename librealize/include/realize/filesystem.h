#pragma once

// An arena as a file system of numbered nodes: what a mount or an export needs. Real and Unreal files in one tree.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "realize/result.h"
#include "realize/types.h"

namespace realize {

struct Attributes {
  NodeId node = 0;
  EntryKind kind = EntryKind::File;
  uint32_t mode = 0;  ///< permission bits, 07777
  uint32_t links = 1;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t sizeBytes = 0;
  uint64_t blocks512 = 0;  ///< logical: never zero for a file with bytes, also while Unreal
  int64_t mtimeNs = 0;     ///< Unix time
  int64_t ctimeNs = 0;
  int64_t atimeNs = 0;
};

struct AttributeChange {
  std::optional<uint32_t> mode;
  std::optional<uint64_t> sizeBytes;
  std::optional<int64_t> mtimeNs;
  std::optional<uint32_t> uid;  ///< Real files only
  std::optional<uint32_t> gid;
};

struct NamedNode {
  std::string name;
  Attributes attributes;
};

struct OpenFlags {
  bool read = true;
  bool write = false;
  bool truncate = false;
  bool append = false;
};

enum class RenameFlag : uint8_t { Replace, NoReplace, Exchange };

struct SpaceInfo {
  uint64_t totalBytes = 0;
  uint64_t freeBytes = 0;
  uint64_t availableBytes = 0;
  uint64_t totalFiles = 0;
  uint64_t freeFiles = 0;
};

using FileHandle = uint64_t;

struct OpenedFile {
  FileHandle handle = 0;
  Attributes attributes;
};

/// Told when what a kernel or client may have cached is no longer true. Called from a thread that holds no locks of
/// the library; may block. Coalesced: one call may stand for many changes.
class InvalidationSink {
 public:
  virtual ~InvalidationSink() = default;
  /// Attributes and, with `content`, the bytes of `node` changed.
  virtual void nodeChanged(NodeId node, bool content) = 0;
  /// What `name` in `parent` names changed: it appeared, went, or is another node now. `removed` is the node that
  /// was there (0 if none).
  virtual void nameChanged(NodeId parent, const std::string& name, NodeId removed) = 0;
};

/// Thread: any; calls may overlap. All but those with a callback return without waiting for the network. Callbacks
/// come from a thread of the library or from within the call; each exactly once.
/// Lifetime: valid until the Arena it came from is closed; then calls fail with Suspended.
/// Errors: Code as errno would say; Suspended while the arena's folder is absent; Stale where a node's number is no more,
/// while what it was known under may be another node by now.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual Result<Attributes> lookup(NodeId parent, const std::string& name) = 0;
  virtual Result<Attributes> attributes(NodeId node) = 0;
  virtual Result<Attributes> handleAttributes(FileHandle handle) = 0;
  /// A size on an Unreal file is refused with Busy: open it for writing first. `handle` may be 0.
  virtual void setAttributes(NodeId node, FileHandle handle, const AttributeChange& change,
                             std::function<void(Result<Attributes>)> done) = 0;
  /// Everything in the directory, each with its attributes, without "." and "..", sorted by name.
  virtual Result<std::vector<NamedNode>> readDirectory(NodeId directory) = 0;
  /// The parent of a node (the root is its own).
  virtual Result<NodeId> parentOf(NodeId node) = 0;

  virtual Result<OpenedFile> create(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid, uint32_t gid,
                                    bool exclusive) = 0;
  virtual Result<Attributes> makeDirectory(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid,
                                           uint32_t gid) = 0;
  virtual Result<Attributes> makeSymlink(NodeId parent, const std::string& name, const std::string& target, uint32_t uid,
                                         uint32_t gid) = 0;
  virtual Result<std::string> readSymlink(NodeId node) = 0;
  virtual Result<void> unlink(NodeId parent, const std::string& name) = 0;
  virtual Result<void> removeDirectory(NodeId parent, const std::string& name) = 0;
  virtual Result<void> rename(NodeId parent, const std::string& name, NodeId newParent, const std::string& newName,
                              RenameFlag flag) = 0;

  /// The handle keeps the version it opened. Opening an Unreal file for writing fetches it first (unless truncated);
  /// for reading returns at once.
  virtual void open(NodeId node, OpenFlags flags, std::function<void(Result<FileHandle>)> done) = 0;
  /// Fewer bytes than asked means end of file. Returns a request number for cancel(); 0 when already answered.
  /// Errors: Unreachable when no connected peer has the bytes.
  virtual uint64_t read(FileHandle handle, uint64_t offset, size_t size, std::function<void(Result<Bytes>)> done) = 0;
  /// The request is answered with Cancelled soon, if it is not answered yet.
  virtual void cancel(uint64_t request) = 0;
  virtual Result<size_t> write(FileHandle handle, uint64_t offset, std::span<const std::byte> bytes) = 0;
  /// Reserves or, with `punch`, frees a range, as fallocate.
  virtual Result<void> allocate(FileHandle handle, uint64_t offset, uint64_t length, bool punch, bool keepSize) = 0;
  virtual Result<void> sync(FileHandle handle, bool dataOnly) = 0;
  virtual Result<void> syncDirectory(NodeId directory) = 0;
  virtual void release(FileHandle handle) = 0;
  /// For a Real file: its own descriptor, for zero-copy replies; -1 otherwise. Valid until release.
  virtual int descriptor(FileHandle handle) = 0;

  /// `user.realize.mark`, `.status`, `.versions` of every entry; other names are the Real file's own.
  virtual Result<std::string> getXattr(NodeId node, const std::string& name) = 0;
  virtual Result<std::vector<std::string>> listXattrs(NodeId node) = 0;
  /// flags: as setxattr (XATTR_CREATE, XATTR_REPLACE).
  virtual Result<void> setXattr(NodeId node, const std::string& name, const std::string& value, int flags) = 0;
  virtual Result<void> removeXattr(NodeId node, const std::string& name) = 0;

  virtual Result<SpaceInfo> space() = 0;

  /// At most one sink a call; dropping the returned token ends the calls (waits for one under way).
  virtual std::shared_ptr<void> subscribe(InvalidationSink& sink) = 0;
};

}  // namespace realize
