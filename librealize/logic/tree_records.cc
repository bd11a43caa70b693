#include "librealize/logic/tree_records.h"

namespace realize::logic {

namespace {
constexpr size_t kKeptRecords = 20000;
}

std::string TreeRecords::nameKey(const EntryId& parent, const std::string& name) {
  std::string key(reinterpret_cast<const char*>(parent.data()), EntryId::size());
  return key += name;
}

Record* TreeRecords::find(const EntryId& id) {
  if (id == kRootEntry) return nullptr;
  auto it = slots_.find(id);
  if (it != slots_.end()) return &it->second.record;
  std::optional<Record> stored = store_.get(id);
  if (!stored) return nullptr;
  Slot& slot = slots_[id];
  slot.record = std::move(*stored);
  slot.empty = slot.record.shownChildren == 0;
  return &slot.record;
}

const Record* TreeRecords::look(const EntryId& id) {
  if (id == kRootEntry) return nullptr;
  auto it = slots_.find(id);
  return it != slots_.end() ? &it->second.record : store_.peek(id);
}

Record& TreeRecords::insert(Entry entry) {
  EntryId id = entry.id;
  Slot& slot = slots_[id];
  slot.record.entry = std::move(entry);
  slot.empty = true;
  markDirty(slot.record);
  return slot.record;
}

void TreeRecords::erase(const EntryId& id) {
  auto it = slots_.find(id);
  if (it != slots_.end()) {
    if (it->second.dirty) std::erase(dirty_, id);
    slots_.erase(it);
  }
  store_.erase(id);
}

void TreeRecords::markDirty(Record& record) {
  Slot& slot = slots_.find(record.entry.id)->second;
  if (slot.dirty) return;
  slot.dirty = true;
  dirty_.push_back(record.entry.id);
}

void TreeRecords::setShownName(Record& record, const std::string& name) {
  if (!record.shownName.empty()) {
    auto it = names_.find(nameKey(record.shownParent, record.shownName));
    if (it != names_.end() && it->second == record.entry.id) names_.erase(it);
  }
  record.shownName = name;
  if (!name.empty()) names_[nameKey(record.shownParent, name)] = record.entry.id;
  markDirty(record);
}

Record* TreeRecords::shownAt(const EntryId& parent, const std::string& name) {
  auto named = names_.find(nameKey(parent, name));
  if (named != names_.end()) return find(named->second);
  // What the store does not know, or has nothing in, has no names there.
  auto known = slots_.find(parent);
  if (known != slots_.end() && known->second.empty) return nullptr;
  std::optional<ShownName> stored = store_.shownAt(parent, name);
  if (!stored) return nullptr;
  Record* record = find(stored->id);
  bool still = record && record->shown && record->shownParent == parent && record->shownName == name;
  return still ? record : nullptr;
}

std::vector<EntryId> TreeRecords::placedAt(const EntryId& parent, const std::string& base) {
  flush();
  return store_.placedAt(parent, base);
}

std::vector<EntryId> TreeRecords::placedIn(const EntryId& parent) {
  flush();
  return store_.placedIn(parent);
}

std::vector<EntryId> TreeRecords::clashedIn(const EntryId& parent) {
  flush();
  return store_.clashedIn(parent);
}

std::vector<EntryId> TreeRecords::linksTo(const EntryId& id) {
  flush();
  return store_.linksTo(id);
}

std::vector<ShownName> TreeRecords::shownIn(const EntryId& parent, const std::string& after, size_t limit) {
  flush();
  return store_.shownIn(parent, after, limit);
}

void TreeRecords::flush() {
  for (const EntryId& id : dirty_) {
    Slot& slot = slots_.find(id)->second;
    store_.put(slot.record);
    slot.dirty = false;
    slot.empty = slot.record.shownChildren == 0;
  }
  dirty_.clear();
  names_.clear();
}

void TreeRecords::clear() {
  slots_.clear();
  dirty_.clear();
  names_.clear();
}

void TreeRecords::trim() {
  if (slots_.size() <= kKeptRecords) return;
  // Directories are asked for again and again; files seldom.
  for (bool keepDirectories : {true, false}) {
    std::erase_if(slots_, [&](const auto& item) {
      bool directory = item.second.record.entry.kind == EntryKind::Directory;
      return !item.second.dirty && !(keepDirectories && directory);
    });
    if (slots_.size() <= kKeptRecords / 2) return;
  }
}

}  // namespace realize::logic
