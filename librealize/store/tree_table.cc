#include "librealize/store/tree_table.h"

#include <algorithm>
#include <set>

#include "librealize/model/codec.h"

namespace realize::store {

using logic::Record;
using logic::ShownName;

namespace {

constexpr std::string_view kNextNode = "store: next node";
#define RECORD_COLUMNS "entry.node, entry.shown, entry.parent, entry.base, entry.shown_name, entry.children, entry.state"
constexpr size_t kMaxIds = 1 << 16;
constexpr size_t kMaxAbsent = 1 << 14;

std::string_view prefixOf(const EntryId& id) { return {reinterpret_cast<const char*>(id.data()), 8}; }

int64_t clamped(size_t limit) { return int64_t(std::min(limit, size_t(INT64_MAX))); }

/// The head that a status counts.
uint64_t sizeOf(const Entry& entry) {
  if (entry.kind != EntryKind::File || entry.heads.empty()) return 0;
  auto newest = std::max_element(entry.heads.begin(), entry.heads.end(),
                                 [](const auto& a, const auto& b) { return a.second.stamp < b.second.stamp; });
  return newest->second.sizeBytes;
}

int flagsOf(const Record& record) {
  const Entry& entry = record.entry;
  int flags = 0;
  if (entry.id != kRootEntry && (record.shownParent != entry.place.parent || record.shownBase != entry.place.name))
    flags |= TreeTable::kDisplaced;
  if (!entry.ctx.empty()) flags |= TreeTable::kHasContext;
  if (entry.heads.size() > 1) flags |= TreeTable::kSeveralHeads;
  if (!record.shown) flags |= TreeTable::kHidden;
  return flags;
}

/// What the column shown_name leaves out.
const std::string& usualName(const Record& record) {
  static const std::string none;
  return record.shown ? record.shownBase : none;
}

std::set<EntryId> targetsOf(const Entry* entry) {
  std::set<EntryId> out;
  if (entry == nullptr) return out;
  for (const auto& [dot, version] : entry->heads)
    if (!version.target.isZero()) out.insert(version.target);
  return out;
}

}  // namespace

TreeTable::TreeTable(Database& db, OriginTable& origins)
    : origins_(origins),
      files_(db, "tree files"),
      directories_(db, "tree directories"),
      symlinks_(db, "tree symlinks"),
      get_(db, "SELECT " RECORD_COLUMNS " FROM entry WHERE id = ?"),
      nodeOf_(db, "SELECT node FROM entry WHERE id = ?"),
      idOf_(db, "SELECT id FROM entry WHERE node = ?"),
      maxNode_(db, "SELECT max(node) FROM entry"),
      prefixes_(db, "SELECT substr(id, 1, 8) FROM entry"),
      insert_(db,
              "INSERT INTO entry (kind, shown, parent, base, shown_name, children, flags, size, state, node, id)"
              " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
      update_(db, "UPDATE entry SET shown = ?, children = ?, flags = ?, size = ?, state = ? WHERE node = ?"),
      updatePlace_(db,
                   "UPDATE entry SET kind = ?, shown = ?, parent = ?, base = ?, shown_name = ?, children = ?, flags = ?,"
                   " size = ?, state = ? WHERE node = ?"),
      updateChildren_(db, "UPDATE entry SET children = ? WHERE node = ?"),
      keepNumber_(db, "INSERT INTO entry (node, id) VALUES (?, ?)"),
      hideRow_(db,
               "UPDATE entry SET kind = NULL, shown = 0, parent = NULL, base = NULL, shown_name = NULL, children = 0,"
               " flags = 0, size = 0, state = NULL WHERE node = ?"),
      erase_(db, "DELETE FROM entry WHERE node = ?"),
      hasPlaced_(db, "SELECT 1 FROM entry WHERE parent = ? LIMIT 1"),
      setNode_(db, "UPDATE entry SET node = ? WHERE node = ?"),
      shownAt_(db,
               "SELECT base, id, node, kind FROM entry INDEXED BY entry_by_place"
               " WHERE parent = ? AND base = ? AND shown = 1 AND shown_name IS NULL"),
      shownAtClashed_(db,
                      "SELECT shown_name, id, node, kind FROM entry INDEXED BY entry_clashed"
                      " WHERE parent = ? AND shown_name = ? AND shown_name IS NOT NULL AND shown = 1"),
      shownIn_(db,
               "SELECT base, id, node, kind FROM entry INDEXED BY entry_by_place"
               " WHERE parent = ? AND base > ? AND shown = 1 AND shown_name IS NULL ORDER BY base LIMIT ?"),
      shownInClashed_(db,
                      "SELECT shown_name, id, node, kind FROM entry INDEXED BY entry_clashed"
                      " WHERE parent = ? AND shown_name > ? AND shown_name IS NOT NULL AND shown = 1"
                      " ORDER BY shown_name LIMIT ?"),
      anyClashed_(db, "SELECT 1 FROM entry INDEXED BY entry_clashed WHERE shown_name IS NOT NULL LIMIT 1"),
      placedAt_(db, "SELECT id FROM entry INDEXED BY entry_by_place WHERE parent = ? AND base = ?"),
      placedIn_(db, "SELECT id FROM entry INDEXED BY entry_by_place WHERE parent = ?"),
      clashedIn_(db,
                 "SELECT id FROM entry INDEXED BY entry_clashed"
                 " WHERE parent = ? AND shown_name IS NOT NULL AND shown = 1"),
      addTouch_(db, "INSERT OR IGNORE INTO touch (origin, seq, node) VALUES (?, ?, ?)"),
      eraseTouch_(db, "DELETE FROM touch WHERE origin = ? AND seq = ? AND node = ?"),
      touchedAfter_(db,
                    "SELECT touch.seq, entry.id, " RECORD_COLUMNS " FROM touch CROSS JOIN entry ON entry.node = touch.node"
                    " WHERE touch.origin = ? AND touch.seq > ? ORDER BY touch.seq"),
      touchOrigins_(db,
                    "SELECT origin.origin FROM origin"
                    " WHERE EXISTS (SELECT 1 FROM touch WHERE touch.origin = origin.number)"),
      addLink_(db, "INSERT OR IGNORE INTO link (target, node) VALUES (?, ?)"),
      eraseLink_(db, "DELETE FROM link WHERE target = ? AND node = ?"),
      linksTo_(db, "SELECT entry.id FROM link CROSS JOIN entry ON entry.node = link.node WHERE link.target = ?"),
      allDirectories_(db, "SELECT id FROM entry INDEXED BY entry_directory WHERE kind = 1 AND state IS NOT NULL"),
      flagged_(db,
               "SELECT id FROM entry INDEXED BY entry_flagged"
               " WHERE flags <> 0 AND flags & ? <> 0 AND node > ? ORDER BY node LIMIT ?"),
      // 4 is kSeveralHeads; a parameter would not match the index.
      severalHeads_(db,
                    "SELECT id FROM entry INDEXED BY entry_several_heads WHERE flags & 4 <> 0 AND node > ? ORDER BY node LIMIT ?"),
      // 8 is kHidden.
      hiddenAfter_(db, "SELECT node, id FROM entry INDEXED BY entry_hidden WHERE flags & 8 <> 0 AND node > ? ORDER BY node LIMIT ?"),
      idsBetween_(db, "SELECT id FROM entry WHERE id BETWEEN ? AND ? AND state IS NOT NULL ORDER BY id"),
      all_(db, "SELECT id FROM entry WHERE node > ? AND state IS NOT NULL ORDER BY node LIMIT ?"),
      getValue_(db, "SELECT value FROM value WHERE key = ?"),
      setValue_(db, "INSERT OR REPLACE INTO value (key, value) VALUES (?, ?)") {}

// --- Numbers

std::optional<NodeId> TreeTable::nodeOf(const EntryId& id) {
  if (id == kRootEntry) return kRootNode;
  if (const Record* known = cache_.find(id)) return known->node;
  std::optional<NodeId> out;
  if (surelyAbsent(id)) return out;
  nodeOf_.first([&](Row row) { out = row.unsignedInteger(0); }, id);
  if (!out) noteAbsent(id);
  return out;
}

/// What a peer tells of is looked for several times before it is written, and is mostly new.
bool TreeTable::surelyAbsent(const EntryId& id) {
  if (absent_.contains(id)) return true;
  return known_.surelyAbsent(prefixOf(id), nextNode(), [&](PrefixFilter& filter) {
    prefixes_.each([&](Row row) { filter.add(row.bytes(0)); });
  });
}

void TreeTable::noteAbsent(const EntryId& id) {
  if (absent_.size() >= kMaxAbsent) absent_.clear();
  absent_.insert(id);
}

void TreeTable::noteNumber(NodeId node, const EntryId& id) {
  absent_.erase(id);
  if (ids_.size() >= kMaxIds) ids_.clear();
  ids_.emplace(node, id);
}

void TreeTable::noteNew(NodeId node, const EntryId& id) {
  noteNumber(node, id);
  known_.add(prefixOf(id));
}

std::optional<EntryId> TreeTable::idOf(NodeId node) {
  if (node == kRootNode) return kRootEntry;
  if (auto it = ids_.find(node); it != ids_.end()) return it->second;
  std::optional<EntryId> out;
  idOf_.first([&](Row row) { out = row.fixed<EntryId>(0); }, node);
  if (out) noteNumber(node, *out);
  return out;
}

NodeId TreeTable::nextNode() {
  if (nextNode_ == 0) {
    auto value = getValue(kNextNode);
    maxNode_.first([&](Row row) { nextNode_ = row.unsignedInteger(0); });
    nextNode_ = std::max(nextNode_, kRootNode) + 1;
    // Greater where the last entries were erased.
    if (value) {
      ByteReader reader(*value);
      nextNode_ = std::max(nextNode_, reader.fixed64());
    }
  }
  return nextNode_;
}

NodeId TreeTable::newNode() {
  nextNode();
  nextNodeChanged_ = true;
  return nextNode_++;
}

NodeId TreeTable::renumber(const EntryId& id, NodeId to) {
  const Record* old = find(id);
  if (old == nullptr || old->entry.kind == EntryKind::Directory)
    throw DatabaseError(Code::Internal, "only a known file or symlink gets another number");
  Record record = *old;
  if (to == 0) to = newNode();
  writeTouch(record.node, record.entry.touch, {});
  writeLinks(record.node, &record.entry, nullptr);
  setNode_.run(to, record.node);
  ids_.erase(record.node);
  ids_.erase(to);
  record.node = to;
  writeTouch(to, {}, record.entry.touch);
  writeLinks(to, nullptr, &record.entry);
  cache_.put(id, std::move(record));
  return to;
}

NodeId TreeTable::nodeForParent(const EntryId& id) {
  if (auto known = nodeOf(id)) return *known;
  NodeId node = newNode();
  keepNumber_.run(node, id);
  noteNew(node, id);
  return node;
}

// --- Records

/// Of the columns from `first` on, as RECORD_COLUMNS has them. False: the row is of a number without an entry.
bool TreeTable::read(Row row, int first, const EntryId& id, Stored& out) {
  if (row.isNull(first + 6)) return false;
  auto entry = decodeEntry(row.bytes(first + 6));
  if (!entry.ok() || entry->id != id)
    throw DatabaseError(Code::Corrupt, "the database is damaged: an entry does not decode");
  auto& [record, parent] = out;
  record.entry = std::move(*entry);
  record.node = row.unsignedInteger(first);
  record.shown = row.integer(first + 1) != 0;
  parent = row.unsignedInteger(first + 2);
  record.shownBase = row.string(first + 3);
  record.shownName = row.isNull(first + 4) ? usualName(record) : row.string(first + 4);
  record.shownChildren = uint32_t(row.integer(first + 5));
  return true;
}

const Record* TreeTable::keep(Stored stored) {
  auto& [record, parent] = stored;
  if (parent != 0) {
    auto parentId = idOf(parent);
    if (!parentId) throw DatabaseError(Code::Corrupt, "the database is damaged: an entry's parent is missing");
    record.shownParent = *parentId;
  }
  const EntryId id = record.entry.id;
  return cache_.put(id, std::move(record));
}

const Record* TreeTable::find(const EntryId& id) {
  if (const Record* known = cache_.find(id)) return known;
  if (surelyAbsent(id)) return nullptr;
  Stored stored;
  bool known = false;
  const bool found = get_.first([&](Row row) { known = read(row, 0, id, stored); }, id);
  if (!found) noteAbsent(id);
  return known ? keep(std::move(stored)) : nullptr;
}

std::optional<Record> TreeTable::get(const EntryId& id) {
  const Record* record = find(id);
  if (record == nullptr) return std::nullopt;
  return *record;
}

std::optional<Record> TreeTable::getByNode(NodeId node) {
  auto id = idOf(node);
  if (!id) return std::nullopt;
  return get(*id);
}

void TreeTable::put(Record& record) {
  const EntryId id = record.entry.id;
  const Record* old = find(id);
  bool rowExists = old != nullptr;
  if (old) {
    record.node = old->node;
  } else if (id == kRootEntry) {
    record.node = kRootNode;
  } else if (auto kept = nodeOf(id)) {
    record.node = *kept;
    rowExists = true;
  } else if (record.node == 0) {
    record.node = newNode();
  }
  writeRow(record, old, rowExists);
  writeTouch(record.node, old ? old->entry.touch : VersionVector(), record.entry.touch);
  writeLinks(record.node, old ? &old->entry : nullptr, &record.entry);
  if (old) count(*old, false);
  count(record, true);
  if (!rowExists) noteNew(record.node, id);
  // What is new is in the tree's own memory, and seldom asked for here again, but for the number of a directory.
  if (rowExists || record.entry.kind == EntryKind::Directory) cache_.put(id, record);
}

void TreeTable::writeRow(const Record& r, const Record* old, bool rowExists) {
  const EntryId& id = r.entry.id;
  if (old != nullptr && old->entry.kind == r.entry.kind && old->shownParent == r.shownParent &&
      old->shownBase == r.shownBase && old->shown == r.shown && old->shownName == r.shownName) {
    // The common case leaves the indices alone; a directory's count the state too.
    if (old->entry == r.entry) {
      if (old->shownChildren != r.shownChildren) updateChildren_.run(r.shownChildren, r.node);
    } else {
      update_.run(r.shown, r.shownChildren, flagsOf(r), sizeOf(r.entry), encodeEntry(r.entry), r.node);
    }
    return;
  }
  NodeId parent = id == kRootEntry ? 0 : nodeForParent(r.shownParent);
  std::string state = encodeEntry(r.entry);
  bool usual = r.shownName == usualName(r);
  auto write = [&](const auto& parentValue, const auto& nameValue) {
    if (rowExists) {
      updatePlace_.run(r.entry.kind, r.shown, parentValue, r.shownBase, nameValue, r.shownChildren, flagsOf(r),
                       sizeOf(r.entry), state, r.node);
    } else {
      insert_.run(r.entry.kind, r.shown, parentValue, r.shownBase, nameValue, r.shownChildren, flagsOf(r),
                  sizeOf(r.entry), state, r.node, id);
    }
  };
  if (parent == 0) write(nullptr, nullptr);
  else if (usual) write(parent, nullptr);
  else write(parent, r.shownName);
  if (parent != 0 && !usual) anyClash_ = true;
}

void TreeTable::writeTouch(NodeId node, const VersionVector& old, const VersionVector& now) {
  if (old == now) return;
  for (const auto& [origin, seq] : old.items())
    if (now.get(origin) != seq) eraseTouch_.run(origins_.numberOf(origin), seq, node);
  for (const auto& [origin, seq] : now.items())
    if (old.get(origin) != seq) addTouch_.run(origins_.numberOf(origin), seq, node);
}

void TreeTable::writeLinks(NodeId node, const Entry* old, const Entry* now) {
  std::set<EntryId> before = targetsOf(old), after = targetsOf(now);
  for (const EntryId& target : before)
    if (!after.contains(target)) eraseLink_.run(target, node);
  for (const EntryId& target : after)
    if (!before.contains(target)) addLink_.run(target, node);
}

void TreeTable::erase(const EntryId& id) {
  std::optional<Record> old = get(id);
  if (!old) return;
  writeTouch(old->node, old->entry.touch, {});
  writeLinks(old->node, &old->entry, nullptr);
  count(*old, false);
  cache_.erase(id);
  // While entries are placed in it, its number still stands for its id in their rows.
  bool needed = id != kRootEntry && hasPlaced_.first([](Row) {}, old->node);
  if (needed) {
    hideRow_.run(old->node);
    return;
  }
  // If it was the newest, only this keeps its number from being given again.
  nextNode();
  nextNodeChanged_ = true;
  erase_.run(old->node);
  ids_.erase(old->node);
}

// --- The view

std::optional<ShownName> TreeTable::shownAt(const EntryId& parent, const std::string& name) {
  auto node = nodeOf(parent);
  std::optional<ShownName> out;
  if (!node) return out;
  auto take = [&](Row row) {
    out = ShownName{row.string(0), row.fixed<EntryId>(1), row.unsignedInteger(2), EntryKind(row.integer(3))};
  };
  if (!shownAt_.first(take, *node, name) && anyClash()) shownAtClashed_.first(take, *node, name);
  return out;
}

bool TreeTable::anyClash() {
  if (!anyClash_) anyClash_ = anyClashed_.first([](Row) {});
  return *anyClash_;
}

std::vector<ShownName> TreeTable::shownIn(const EntryId& parent, const std::string& after, size_t limit) {
  auto node = nodeOf(parent);
  if (!node) return {};
  std::vector<ShownName> usual, clashed, out;
  auto taker = [](std::vector<ShownName>& to) {
    return [&to](Row row) {
      to.push_back({row.string(0), row.fixed<EntryId>(1), row.unsignedInteger(2), EntryKind(row.integer(3))});
    };
  };
  shownIn_.each(taker(usual), *node, after, clamped(limit));
  shownInClashed_.each(taker(clashed), *node, after, clamped(limit));
  if (clashed.empty()) return usual;
  std::merge(std::make_move_iterator(usual.begin()), std::make_move_iterator(usual.end()),
             std::make_move_iterator(clashed.begin()), std::make_move_iterator(clashed.end()), std::back_inserter(out),
             [](const ShownName& a, const ShownName& b) { return a.name < b.name; });
  if (out.size() > limit) out.resize(limit);
  return out;
}

namespace {
auto idsInto(std::vector<EntryId>& out) {
  return [&out](Row row) { out.push_back(row.fixed<EntryId>(0)); };
}
}  // namespace

std::vector<EntryId> TreeTable::placedAt(const EntryId& parent, const std::string& base) {
  std::vector<EntryId> out;
  if (auto node = nodeOf(parent)) placedAt_.each(idsInto(out), *node, base);
  return out;
}

std::vector<EntryId> TreeTable::placedIn(const EntryId& parent) {
  std::vector<EntryId> out;
  if (auto node = nodeOf(parent)) placedIn_.each(idsInto(out), *node);
  return out;
}

std::vector<EntryId> TreeTable::clashedIn(const EntryId& parent) {
  std::vector<EntryId> out;
  if (auto node = nodeOf(parent)) clashedIn_.each(idsInto(out), *node);
  return out;
}

std::vector<std::pair<uint64_t, EntryId>> TreeTable::touchedAfter(Origin origin, uint64_t afterSeq, size_t limit) {
  std::vector<std::pair<uint64_t, EntryId>> out;
  auto number = origins_.findNumber(origin);
  if (!number || limit == 0) return out;
  // Who asks looks at them next: read together, they cost half.
  constexpr size_t kMostKept = 1024;
  std::vector<Stored> stored;
  touchedAfter_.each(
      [&](Row row) {
        // Never ends between entries of one number, which whoever goes on after that number would miss.
        uint64_t seq = row.unsignedInteger(0);
        if (out.size() >= limit && out.back().first != seq) return false;
        const auto id = row.fixed<EntryId>(1);
        out.emplace_back(seq, id);
        if (stored.size() < kMostKept && !cache_.find(id))
          if (Stored one; read(row, 2, id, one)) stored.push_back(std::move(one));
        return true;
      },
      *number, std::min(afterSeq, uint64_t(INT64_MAX)));
  for (auto& one : stored) keep(std::move(one));
  return out;
}

std::vector<Origin> TreeTable::touchOrigins() {
  std::vector<Origin> out;
  touchOrigins_.each([&](Row row) { out.push_back(row.unsignedInteger(0)); });
  return out;
}

std::vector<EntryId> TreeTable::linksTo(const EntryId& id) {
  std::vector<EntryId> out;
  linksTo_.each(idsInto(out), id);
  return out;
}

std::vector<EntryId> TreeTable::allDirectories() {
  std::vector<EntryId> out;
  allDirectories_.each(idsInto(out));
  return out;
}

std::vector<EntryId> TreeTable::flagged(Flag flag, NodeId after, size_t limit) {
  std::vector<EntryId> out;
  flagged_.each(idsInto(out), int(flag), after, clamped(limit));
  return out;
}

std::vector<EntryId> TreeTable::idsBetween(const EntryId& first, const EntryId& last) {
  std::vector<EntryId> out;
  idsBetween_.each(idsInto(out), first, last);
  return out;
}

std::vector<std::pair<NodeId, EntryId>> TreeTable::hiddenAfter(NodeId after, size_t limit) {
  std::vector<std::pair<NodeId, EntryId>> out;
  hiddenAfter_.each([&](Row row) { out.emplace_back(row.unsignedInteger(0), row.fixed<EntryId>(1)); }, after,
                    clamped(limit));
  return out;
}

std::vector<EntryId> TreeTable::withSeveralHeads(NodeId after, size_t limit) {
  std::vector<EntryId> out;
  severalHeads_.each(idsInto(out), after, clamped(limit));
  return out;
}

std::vector<EntryId> TreeTable::allEntries(NodeId after, size_t limit) {
  std::vector<EntryId> out;
  all_.each(idsInto(out), after, clamped(limit));
  return out;
}

// --- Counts, values, transactions

TotalsKeeper& TreeTable::totalsOf(EntryKind kind) {
  switch (kind) {
    case EntryKind::File: return files_;
    case EntryKind::Directory: return directories_;
    case EntryKind::Symlink: return symlinks_;
  }
  throw DatabaseError(Code::Internal, "an entry of no known kind");
}

void TreeTable::count(const Record& record, bool add) {
  if (!record.shown || record.entry.id == kRootEntry) return;
  TotalsKeeper& totals = totalsOf(record.entry.kind);
  uint64_t bytes = sizeOf(record.entry);
  if (add) totals.add(bytes);
  else totals.subtract(bytes);
}

const TreeCounts& TreeTable::counts() {
  counts_ = {files_.get().count, directories_.get().count, symlinks_.get().count, files_.get().bytes};
  return counts_;
}

std::optional<std::string> TreeTable::getValue(std::string_view key) {
  if (const auto known = values_.find(key); known != values_.end()) return known->second;
  std::optional<std::string> out;
  getValue_.first([&](Row row) { out = row.string(0); }, Text{key});
  values_.emplace(key, out);
  return out;
}

void TreeTable::setValue(std::string_view key, std::string_view value) {
  setValue_.run(Text{key}, value);
  values_[std::string(key)] = value;
}

void TreeTable::writeBack() {
  if (nextNodeChanged_) {
    ByteWriter writer;
    writer.fixed64(nextNode_);
    setValue(kNextNode, writer.take());
    nextNodeChanged_ = false;
  }
  files_.writeBack();
  directories_.writeBack();
  symlinks_.writeBack();
}

void TreeTable::forget() {
  cache_.clear();
  ids_.clear();
  absent_.clear();
  known_.forget();
  anyClash_.reset();
  values_.clear();
  nextNode_ = 0;
  nextNodeChanged_ = false;
  files_.forget();
  directories_.forget();
  symlinks_.forget();
}

}  // namespace realize::store
