#pragma once

// What the kernel knows and has open. Node numbers are persistent, so nothing is translated here.

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "realize/filesystem.h"

namespace realize::fuse {

/// Per node: how often the kernel was told of it (nlookup), its open handles, reads not yet answered. It serves to
/// spare invalidations of what the kernel does not know, to find a handle for a node that lost its name, and to
/// release what is open when the mount ends. Thread: any.
///
/// How a reply cannot outlive a change: a reply first counts its node (addLookup), then compares remoteGeneration()
/// with what it was before the attributes were read. A change first raises the generation, then asks whether the node
/// is counted. So either the reply sees the change and reads again, or the change sees the node and invalidates it.
class NodeTable {
 public:
  void addLookup(NodeId node);
  void dropLookups(NodeId node, uint64_t count);
  bool known(NodeId node) const;

  /// Counts the changes of the content; take it before opening, to give to addHandle().
  uint64_t contentEpoch(NodeId node) const;
  void addHandle(NodeId node, FileHandle handle, uint64_t epoch);
  /// True when the handle may have shown an older version: its pages must be dropped.
  [[nodiscard]] bool removeHandle(NodeId node, FileHandle handle);
  std::optional<FileHandle> anyHandle(NodeId node) const;
  /// Handles opened before the content changed last; they may show an older version.
  std::vector<FileHandle> olderHandles(NodeId node) const;
  /// True when the content is still that of `epoch` and the kernel was told of every change.
  bool contentSettled(NodeId node, uint64_t epoch) const;
  std::vector<FileHandle> takeAllHandles();

  void beginRead(NodeId node);
  /// True when a content invalidation waited for this read to end and may go on.
  [[nodiscard]] bool endRead(NodeId node);

  /// Notes that the content (of a directory: its listing) changed and its pages are still to be dropped.
  void contentChanged(NodeId node);
  /// Before pages are dropped: the epoch that this will settle; none while reads are under way, which hold pages
  /// locked: endRead() then says when.
  std::optional<uint64_t> beginContentInvalidation(NodeId node);
  void contentInvalidated(NodeId node, uint64_t epoch);

  uint64_t remoteGeneration() const { return remote_.load(); }
  void bumpRemote() { remote_.fetch_add(1); }
  uint64_t ownGeneration() const { return own_.load(); }
  void bumpOwn() { own_.fetch_add(1); }

 private:
  struct Handle {
    FileHandle handle;
    uint64_t epoch;
  };
  struct State {
    uint64_t lookups = 0;
    uint64_t epoch = 0;    // raised by each content change
    uint64_t settled = 0;  // the last epoch whose change the kernel was told of
    uint32_t reads = 0;
    bool parked = false;  // an invalidation waits for `reads` to be 0
    std::vector<Handle> handles;

    bool idle() const { return lookups == 0 && reads == 0 && !parked && epoch == settled && handles.empty(); }
  };
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<NodeId, State> nodes;
  };
  static constexpr size_t kShards = 64;

  Shard& shard(NodeId node) { return shards_[node % kShards]; }
  const Shard& shard(NodeId node) const { return shards_[node % kShards]; }
  static void dropIfIdle(Shard& shard, std::unordered_map<NodeId, State>::iterator it);

  std::array<Shard, kShards> shards_;
  std::atomic<uint64_t> remote_{0};  // changes reported by the library
  std::atomic<uint64_t> own_{0};     // changes made through this mount
};

}  // namespace realize::fuse
