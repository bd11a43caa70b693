#include "tests/support/memory_tree_store.h"

#include <algorithm>

namespace realize::logic {

const Record* MemoryTreeStore::peek(const EntryId& id) {
  ++gets;
  auto it = records_.find(id);
  return it == records_.end() ? nullptr : &it->second;
}

std::optional<Record> MemoryTreeStore::get(const EntryId& id) {
  ++gets;
  auto it = records_.find(id);
  return it == records_.end() ? std::nullopt : std::optional(it->second);
}

std::optional<Record> MemoryTreeStore::getByNode(NodeId node) {
  auto it = nodes_.find(node);
  return it == nodes_.end() ? std::nullopt : get(it->second);
}

void MemoryTreeStore::unindex(const Record& r) {
  const EntryId& id = r.entry.id;
  placed_.erase({r.shownParent, r.shownBase, id});
  if (r.shown) {
    auto& names = shown_[r.shownParent];
    names[r.shownName].erase(id);
    if (names[r.shownName].empty()) names.erase(r.shownName);
    clashed_[r.shownParent].erase(id);
  }
  for (const auto& [origin, seq] : r.entry.touch.items()) {
    touched_[origin].erase({seq, id});
    if (touched_[origin].empty()) touched_.erase(origin);
  }
  displaced_.erase(id);
  for (const auto& [dot, v] : r.entry.heads) links_[v.target].erase(id);
}

void MemoryTreeStore::put(Record& r) {
  ++puts;
  const EntryId& id = r.entry.id;
  auto old = records_.find(id);
  if (old != records_.end()) unindex(old->second);
  if (r.node == 0) r.node = nextNode_++;
  nodes_[r.node] = id;
  placed_[{r.shownParent, r.shownBase, id}] = true;
  if (r.shown) {
    shown_[r.shownParent][r.shownName].insert(id);
    if (r.shownName != r.shownBase) clashed_[r.shownParent].insert(id);
  }
  for (const auto& [origin, seq] : r.entry.touch.items()) touched_[origin].insert({seq, id});
  if (r.shownParent != r.entry.place.parent || r.shownBase != r.entry.place.name) displaced_.insert(id);
  for (const auto& [dot, v] : r.entry.heads) if (!v.target.isZero()) links_[v.target].insert(id);
  records_[id] = r;
}

void MemoryTreeStore::erase(const EntryId& id) {
  auto it = records_.find(id);
  if (it == records_.end()) return;
  unindex(it->second);
  nodes_.erase(it->second.node);
  records_.erase(it);
}

std::optional<ShownName> MemoryTreeStore::shownAt(const EntryId& parent, const std::string& name) {
  ++lookUps;
  auto names = shown_.find(parent);
  if (names == shown_.end()) return std::nullopt;
  auto ids = names->second.find(name);
  if (ids == names->second.end() || ids->second.empty()) return std::nullopt;
  const Record& r = records_.at(*ids->second.begin());
  return ShownName{name, r.entry.id, r.node, r.entry.kind};
}

std::vector<ShownName> MemoryTreeStore::shownIn(const EntryId& parent, const std::string& after, size_t limit) {
  ++lookUps;
  std::vector<ShownName> out;
  auto names = shown_.find(parent);
  if (names == shown_.end()) return out;
  for (auto it = names->second.upper_bound(after); it != names->second.end() && out.size() < limit; ++it) {
    const Record& r = records_.at(*it->second.begin());
    out.push_back({it->first, r.entry.id, r.node, r.entry.kind});
  }
  return out;
}

std::vector<EntryId> MemoryTreeStore::placedAt(const EntryId& parent, const std::string& base) {
  ++lookUps;
  std::vector<EntryId> out;
  for (auto it = placed_.lower_bound({parent, base, EntryId{}});
       it != placed_.end() && std::get<0>(it->first) == parent && std::get<1>(it->first) == base; ++it) {
    out.push_back(std::get<2>(it->first));
  }
  return out;
}

std::vector<EntryId> MemoryTreeStore::placedIn(const EntryId& parent) {
  ++lookUps;
  std::vector<EntryId> out;
  for (auto it = placed_.lower_bound({parent, "", EntryId{}}); it != placed_.end() && std::get<0>(it->first) == parent;
       ++it) {
    out.push_back(std::get<2>(it->first));
  }
  return out;
}

std::vector<EntryId> MemoryTreeStore::clashedIn(const EntryId& parent) {
  ++lookUps;
  auto it = clashed_.find(parent);
  return it == clashed_.end() ? std::vector<EntryId>() : std::vector<EntryId>(it->second.begin(), it->second.end());
}

std::vector<EntryId> MemoryTreeStore::displaced() { return {displaced_.begin(), displaced_.end()}; }

std::vector<std::pair<uint64_t, EntryId>> MemoryTreeStore::touchedAfter(Origin origin, uint64_t afterSeq, size_t limit) {
  ++lookUps;
  std::vector<std::pair<uint64_t, EntryId>> out;
  auto touched = touched_.find(origin);
  if (touched == touched_.end()) return out;
  for (auto it = touched->second.lower_bound({afterSeq + 1, EntryId{}}); it != touched->second.end() && out.size() < limit; ++it) {
    out.push_back(*it);
  }
  return out;
}

std::vector<Origin> MemoryTreeStore::touchOrigins() {
  std::vector<Origin> out;
  for (const auto& [origin, ids] : touched_) out.push_back(origin);
  return out;
}

std::vector<EntryId> MemoryTreeStore::withContext() {
  std::vector<EntryId> out;
  for (const auto& [id, r] : records_) if (!r.entry.ctx.empty()) out.push_back(id);
  return out;
}

std::vector<EntryId> MemoryTreeStore::linksTo(const EntryId& id) {
  ++lookUps;
  auto it = links_.find(id);
  return it == links_.end() ? std::vector<EntryId>() : std::vector<EntryId>(it->second.begin(), it->second.end());
}

std::vector<EntryId> MemoryTreeStore::idsBetween(const EntryId& first, const EntryId& last) {
  std::vector<EntryId> out;
  for (const auto& [id, r] : records_) if (first <= id && id <= last) out.push_back(id);
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::pair<NodeId, EntryId>> MemoryTreeStore::hiddenAfter(NodeId after, size_t limit) {
  std::vector<std::pair<NodeId, EntryId>> out;
  for (const auto& [id, r] : records_) if (!r.shown && r.node > after) out.emplace_back(r.node, id);
  std::sort(out.begin(), out.end());
  if (out.size() > limit) out.resize(limit);
  return out;
}

std::vector<EntryId> MemoryTreeStore::allDirectories() {
  std::vector<EntryId> out;
  for (const auto& [id, r] : records_) if (r.entry.kind == EntryKind::Directory) out.push_back(id);
  return out;
}

std::optional<std::string> MemoryTreeStore::getValue(const std::string& key) {
  auto it = values_.find(key);
  return it == values_.end() ? std::nullopt : std::optional(it->second);
}

void MemoryTreeStore::setValue(const std::string& key, const std::string& value) { values_[key] = value; }

}  // namespace realize::logic
