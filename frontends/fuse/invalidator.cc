#include "frontends/fuse/invalidator.h"

#include <pthread.h>

#include <cerrno>

namespace realize::fuse {

namespace {

// A reply that names the node may be on its way to the kernel, which says ENOENT until it has read it.
constexpr int kMaxTries = 10;
// Of one directory, before its cached listing is dropped once for all of them.
constexpr size_t kMaxNamesTogether = 256;

}  // namespace

Invalidator::Invalidator(fuse_session* session, NodeTable& nodes, FileSystem& fileSystem, size_t bound)
    : session_(session), nodes_(nodes), fileSystem_(fileSystem), bound_(bound), thread_([this] { run(); }) {}

Invalidator::~Invalidator() { stop(); }

void Invalidator::nodeChanged(NodeId node, bool content) {
  nodes_.bumpRemote();
  if (!nodes_.known(node)) return;
  if (content) nodes_.contentChanged(node);
  std::unique_lock lock(mutex_);
  waitForRoom(lock);
  enqueueNode(node, {content, 0});
}

void Invalidator::nameChanged(NodeId parent, const std::string& name, NodeId removed) {
  nodes_.bumpRemote();
  if (!nodes_.known(parent)) return;
  nodes_.contentChanged(parent);
  NameKey key(parent, name);
  std::unique_lock lock(mutex_);
  waitForRoom(lock);
  auto [it, fresh] = nameWork_.try_emplace(key, removed);
  if (fresh) {
    nameOrder_.push_back(std::move(key));
    wake_.notify_one();
  } else if (it->second == 0) {
    it->second = removed;
  }
}

void Invalidator::dropPages(NodeId node) {
  std::lock_guard lock(mutex_);
  enqueueNode(node, {true, 0});
}

void Invalidator::drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] {
    return stopping_ || (!working_ && nodeWork_.empty() && nameWork_.empty() && later_.empty());
  });
}

void Invalidator::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  room_.notify_all();
  idle_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Invalidator::enqueueNode(NodeId node, NodeWork work) {
  auto [it, fresh] = nodeWork_.try_emplace(node, work);
  if (fresh) {
    nodeOrder_.push_back(node);
    wake_.notify_one();
  } else {
    it->second.content |= work.content;
  }
}

void Invalidator::waitForRoom(std::unique_lock<std::mutex>& lock) {
  room_.wait(lock, [&] { return stopping_ || nodeWork_.size() + nameWork_.size() < bound_; });
}

void Invalidator::run() {
  pthread_setname_np(pthread_self(), "realize-kernel");
  size_t together = 0;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    takeDue(std::chrono::steady_clock::now());
    if (!nameOrder_.empty()) {
      NameKey key = std::move(nameOrder_.front());
      nameOrder_.pop_front();
      auto found = nameWork_.find(key);
      NodeId removed = found->second;
      nameWork_.erase(found);
      bool more = !nameOrder_.empty() && nameOrder_.front().first == key.first && ++together < kMaxNamesTogether;
      if (!more) together = 0;
      working_ = true;
      lock.unlock();
      tellName(key, removed);
      if (!more) tellListing(key.first);
      lock.lock();
    } else if (!nodeOrder_.empty()) {
      NodeId node = nodeOrder_.front();
      nodeOrder_.pop_front();
      auto found = nodeWork_.find(node);
      NodeWork work = found->second;
      nodeWork_.erase(found);
      working_ = true;
      lock.unlock();
      tellNode(node, work);
      lock.lock();
    } else {
      idle_.notify_all();
      if (later_.empty())
        wake_.wait(lock);
      else
        wake_.wait_until(lock, later_.begin()->first);
      continue;
    }
    working_ = false;
    room_.notify_all();
  }
}

void Invalidator::takeDue(Time now) {
  while (!later_.empty() && later_.begin()->first <= now) {
    auto [node, work] = later_.begin()->second;
    later_.erase(later_.begin());
    enqueueNode(node, work);
  }
}

void Invalidator::tellNode(NodeId node, NodeWork work) {
  uint64_t epoch = 0;
  bool content = work.content;
  // At the earliest moment the attributes, which never wait; then the pages, once no read holds them locked.
  if (content) {
    auto begun = nodes_.beginContentInvalidation(node);
    if (begun)
      epoch = *begun;
    else
      content = false;
  }
  int error = fuse_lowlevel_notify_inval_inode(session_, node, content ? 0 : -1, 0);
  if (error == -ENOENT && nodes_.known(node) && work.tries < kMaxTries) {
    auto due = std::chrono::steady_clock::now() + std::chrono::milliseconds(1 << work.tries);
    std::lock_guard lock(mutex_);
    later_.emplace(due, std::pair(node, NodeWork{content, work.tries + 1}));
    return;
  }
  if (content) nodes_.contentInvalidated(node, epoch);
}

void Invalidator::tellName(const NameKey& key, NodeId removed) {
  const auto& [parent, name] = key;
  // A node that only moved away must not be told as deleted: the kernel would mark it dead for good.
  if (removed != 0) {
    // Who has it open may do so by a name that was invalidated before.
    if (nodes_.known(removed)) fuse_lowlevel_notify_inval_inode(session_, removed, -1, 0);
    auto attributes = fileSystem_.attributes(removed);
    bool gone = attributes.ok() ? attributes->links == 0 : attributes.code() == Code::NotFound;
    if (gone && fuse_lowlevel_notify_delete(session_, parent, removed, name.c_str(), name.size()) == 0) return;
  }
  fuse_lowlevel_notify_inval_entry(session_, parent, name.c_str(), name.size());
}

// The kernel drops the listing for a name that it has looked up, and does nothing for one that it has not. So this is
// done for each; and after the name, for which the kernel waits until nobody reads the directory.
void Invalidator::tellListing(NodeId directory) {
  uint64_t epoch = nodes_.contentEpoch(directory);
  fuse_lowlevel_notify_inval_inode(session_, directory, 0, 0);
  nodes_.contentInvalidated(directory, epoch);
}

}  // namespace realize::fuse
