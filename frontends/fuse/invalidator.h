#pragma once

// Tells the kernel what it may no longer cache.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>

#include "frontends/fuse/fuse_api.h"
#include "frontends/fuse/node_table.h"
#include "realize/filesystem.h"

namespace realize::fuse {

/// A queue drained by one thread that holds no locks: a notification may have to wait in the kernel for a request on
/// the same directory or page to be answered, so no thread that answers requests ever sends one.
///
/// One entry a node and one a name, however often they change. What the kernel was never told of is not queued. The
/// queue is bounded: beyond it, the library's notifying thread waits.
class Invalidator final : public InvalidationSink {
 public:
  Invalidator(fuse_session* session, NodeTable& nodes, FileSystem& fileSystem, size_t bound);
  ~Invalidator() override;

  void nodeChanged(NodeId node, bool content) override;
  void nameChanged(NodeId parent, const std::string& name, NodeId removed) override;
  /// Drops the node's pages although its content did not change now. Never waits.
  void dropPages(NodeId node);
  /// Returns when everything queued before was told, but for pages that reads under way hold.
  void drain();
  /// Ends the thread; what is queued is dropped. The session must still be served while this waits.
  void stop();

 private:
  using Time = std::chrono::steady_clock::time_point;
  using NameKey = std::pair<NodeId, std::string>;
  struct NodeWork {
    bool content = false;
    int tries = 0;
  };

  void enqueueNode(NodeId node, NodeWork work);
  void waitForRoom(std::unique_lock<std::mutex>& lock);
  void run();
  void takeDue(Time now);
  void tellNode(NodeId node, NodeWork work);
  void tellName(const NameKey& key, NodeId removed);
  void tellListing(NodeId directory);

  fuse_session* const session_;
  NodeTable& nodes_;
  FileSystem& fileSystem_;
  const size_t bound_;

  std::mutex mutex_;
  std::condition_variable wake_, room_, idle_;
  std::deque<NodeId> nodeOrder_;
  std::unordered_map<NodeId, NodeWork> nodeWork_;
  std::deque<NameKey> nameOrder_;
  std::map<NameKey, NodeId> nameWork_;  // the node that was there
  std::multimap<Time, std::pair<NodeId, NodeWork>> later_;
  bool working_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace realize::fuse
