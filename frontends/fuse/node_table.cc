#include "frontends/fuse/node_table.h"

#include <algorithm>
#include <utility>

namespace realize::fuse {

void NodeTable::dropIfIdle(Shard& shard, std::unordered_map<NodeId, State>::iterator it) {
  if (it->second.idle()) shard.nodes.erase(it);
}

void NodeTable::addLookup(NodeId node) {
  Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  ++s.nodes[node].lookups;
}

void NodeTable::dropLookups(NodeId node, uint64_t count) {
  Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  if (it == s.nodes.end()) return;
  it->second.lookups -= std::min(it->second.lookups, count);
  dropIfIdle(s, it);
}

bool NodeTable::known(NodeId node) const {
  if (node == kRootNode) return true;
  const Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  return it != s.nodes.end() && it->second.lookups > 0;
}

uint64_t NodeTable::contentEpoch(NodeId node) const {
  const Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  return it == s.nodes.end() ? 0 : it->second.epoch;
}

void NodeTable::addHandle(NodeId node, FileHandle handle, uint64_t epoch) {
  Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  s.nodes[node].handles.push_back({handle, epoch});
}

bool NodeTable::removeHandle(NodeId node, FileHandle handle) {
  Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  if (it == s.nodes.end()) return false;
  State& state = it->second;
  auto found = std::find_if(state.handles.begin(), state.handles.end(),
                            [&](const Handle& h) { return h.handle == handle; });
  if (found == state.handles.end()) return false;
  bool older = found->epoch != state.epoch;
  state.handles.erase(found);
  if (older && state.settled == state.epoch) --state.settled;  // An older epoch exists, so this is above 0.
  dropIfIdle(s, it);
  return older;
}

std::optional<FileHandle> NodeTable::anyHandle(NodeId node) const {
  const Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  if (it == s.nodes.end() || it->second.handles.empty()) return std::nullopt;
  return it->second.handles.back().handle;
}

std::vector<FileHandle> NodeTable::olderHandles(NodeId node) const {
  std::vector<FileHandle> out;
  const Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  if (it == s.nodes.end()) return out;
  for (const Handle& h : it->second.handles)
    if (h.epoch != it->second.epoch) out.push_back(h.handle);
  return out;
}

bool NodeTable::contentSettled(NodeId node, uint64_t epoch) const {
  const Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  if (it == s.nodes.end()) return true;
  return it->second.epoch == epoch && it->second.settled == epoch;
}

std::vector<FileHandle> NodeTable::takeAllHandles() {
  std::vector<FileHandle> out;
  for (Shard& s : shards_) {
    std::lock_guard lock(s.mutex);
    for (auto& [node, state] : s.nodes) {
      for (const Handle& h : state.handles) out.push_back(h.handle);
      state.handles.clear();
    }
  }
  return out;
}

void NodeTable::beginRead(NodeId node) {
  Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  ++s.nodes[node].reads;
}

bool NodeTable::endRead(NodeId node) {
  Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  if (it == s.nodes.end()) return false;
  State& state = it->second;
  if (state.reads > 0) --state.reads;
  if (state.reads > 0) return false;
  bool resume = std::exchange(state.parked, false);
  dropIfIdle(s, it);
  return resume;
}

void NodeTable::contentChanged(NodeId node) {
  Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  ++s.nodes[node].epoch;
}

std::optional<uint64_t> NodeTable::beginContentInvalidation(NodeId node) {
  Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  if (it == s.nodes.end()) return 0;
  if (it->second.reads > 0) {
    it->second.parked = true;
    return std::nullopt;
  }
  return it->second.epoch;
}

void NodeTable::contentInvalidated(NodeId node, uint64_t epoch) {
  Shard& s = shard(node);
  std::lock_guard lock(s.mutex);
  auto it = s.nodes.find(node);
  if (it == s.nodes.end()) return;
  it->second.settled = std::max(it->second.settled, epoch);
  dropIfIdle(s, it);
}

}  // namespace realize::fuse
