#include "librealize/store/disk_table.h"

#include <algorithm>

namespace realize::store {

#define DISK_COLUMNS \
  "node, parent, name, kind, device, inode, birth_ns, size, mtime_ns, ctime_ns, mode, dirty, blob, base"

void DiskRow::setStat(const FileStat& stat) {
  switch (stat.type) {
    case FileStat::Type::Directory: kind = EntryKind::Directory; break;
    case FileStat::Type::Symlink: kind = EntryKind::Symlink; break;
    case FileStat::Type::File:
    case FileStat::Type::Other: kind = EntryKind::File; break;
  }
  device = stat.device;
  inode = stat.inode;
  birthNs = stat.birthNs;
  sizeBytes = stat.sizeBytes;
  mtimeNs = stat.mtimeNs;
  ctimeNs = stat.ctimeNs;
  mode = stat.mode;
}

bool DiskRow::matches(const FileStat& stat) const {
  if (stat.type == FileStat::Type::Other) return false;
  DiskRow seen = *this;
  seen.setStat(stat);
  return seen == *this;
}

Version DiskRow::version() const {
  Version version;
  version.blob = blob;
  version.sizeBytes = sizeBytes;
  version.mode = mode & 0777;
  version.mtimeNs = mtimeNs;
  return version;
}

void DiskRow::addSeen(const std::vector<Dot>& dots) {
  base.insert(base.end(), dots.begin(), dots.end());
  std::sort(base.begin(), base.end());
  base.erase(std::unique(base.begin(), base.end()), base.end());
}

namespace {

/// For a filter.
struct FilterKey {
  uint64_t hash;
  operator std::string_view() const { return {reinterpret_cast<const char*>(&hash), sizeof hash}; }
};

/// Numbers count up, and a filter wants bits at random: the last steps of SplitMix64 (Steele, Lea and Flood 2014).
FilterKey keyOf(NodeId node) {
  node = (node ^ (node >> 30)) * 0xbf58476d1ce4e5b9;
  node = (node ^ (node >> 27)) * 0x94d049bb133111eb;
  return {node ^ (node >> 31)};
}

FilterKey keyOf(NodeId parentNode, std::string_view name) {
  return {std::hash<std::string_view>()(name) ^ keyOf(parentNode).hash};
}

FileStat::Type typeOf(EntryKind kind) {
  switch (kind) {
    case EntryKind::File: return FileStat::Type::File;
    case EntryKind::Directory: return FileStat::Type::Directory;
    case EntryKind::Symlink: return FileStat::Type::Symlink;
  }
  return FileStat::Type::Other;
}

}  // namespace

DiskTable::DiskTable(Database& db, OriginTable& origins)
    : db_(db),
      origins_(origins),
      files_(db, "disk files"),
      get_(db, "SELECT " DISK_COLUMNS " FROM disk WHERE node = ?"),
      getAt_(db, "SELECT " DISK_COLUMNS " FROM disk WHERE parent = ? AND name = ?"),
      getByInode_(db, "SELECT " DISK_COLUMNS " FROM disk WHERE inode = ? AND device = ?"),
      children_(db, "SELECT " DISK_COLUMNS " FROM disk WHERE parent = ? ORDER BY name"),
      eachIn_(db,
              "SELECT name, kind, device, inode, birth_ns, size, mtime_ns, ctime_ns, mode, dirty = 0 AND blob IS NOT NULL"
              " FROM disk WHERE parent = ? ORDER BY name"),
      hasChildren_(db, "SELECT 1 FROM disk WHERE parent = ? LIMIT 1"),
      withBlob_(db,
                "SELECT " DISK_COLUMNS " FROM disk INDEXED BY disk_by_blob"
                " WHERE blob IS NOT NULL AND substr(blob, 1, 8) = ?1 AND blob = ?2 LIMIT ?3"),
      dirty_(db, "SELECT node FROM disk INDEXED BY disk_dirty WHERE dirty = 1 ORDER BY node"),
      all_(db, "SELECT " DISK_COLUMNS " FROM disk WHERE node > ? ORDER BY node LIMIT ?"),
      add_(db, "INSERT INTO disk (" DISK_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
      put_(db, "INSERT OR REPLACE INTO disk (" DISK_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
      updateSeen_(db,
                  "UPDATE disk SET size = ?, mtime_ns = ?, ctime_ns = ?, mode = ?, dirty = ?, base = ? WHERE node = ?"),
      setDirty_(db, "UPDATE disk SET dirty = ? WHERE node = ?"),
      erase_(db, "DELETE FROM disk WHERE node = ?"),
      max_(db, "SELECT max(node) FROM disk"),
      prefixes_(db, "SELECT substr(blob, 1, 8) FROM disk INDEXED BY disk_by_blob WHERE blob IS NOT NULL"),
      allPlaces_(db, "SELECT parent, name FROM disk INDEXED BY disk_by_place"),
      allNodes_(db, "SELECT node FROM disk") {}

DiskRow DiskTable::read(Row row) {
  DiskRow out;
  out.node = row.unsignedInteger(0);
  out.parentNode = row.unsignedInteger(1);
  out.name = row.string(2);
  out.kind = EntryKind(row.integer(3));
  out.device = row.unsignedInteger(4);
  out.inode = row.unsignedInteger(5);
  out.birthNs = row.integer(6);
  out.sizeBytes = row.unsignedInteger(7);
  out.mtimeNs = row.integer(8);
  out.ctimeNs = row.integer(9);
  out.mode = uint32_t(row.integer(10));
  out.dirty = row.integer(11) != 0;
  out.blob = row.fixed<BlobId>(12);
  out.base = origins_.unpackDots(row.bytes(13));
  return out;
}

NodeId DiskTable::highest() {
  if (!highest_) max_.first([&](Row row) { highest_ = row.unsignedInteger(0); });
  return *highest_;
}

const DiskRow* DiskTable::find(NodeId node) {
  if (node > highest()) return nullptr;  // As for all that a peer has just told of.
  auto* known = rows_.find(node);
  if (!known) known = folders_.find(node);
  if (!known) {
    Kept row;
    if (!surelyWithout(node)) get_.first([&](Row found) { row = read(found); }, node);
    known = keep(node, std::move(row));
  }
  return *known ? &**known : nullptr;
}

DiskTable::Kept* DiskTable::keep(NodeId node, Kept row) {
  const bool folder = row && row->kind == EntryKind::Directory;
  (folder ? rows_ : folders_).erase(node);
  return (folder ? folders_ : rows_).put(node, std::move(row));
}

void DiskTable::forget() {
  files_.forget();
  rows_.clear();
  folders_.clear();
  highest_.reset();
  for (auto* filter : {&contents_, &places_, &nodes_}) filter->forget();
}

std::optional<DiskRow> DiskTable::get(NodeId node) {
  const DiskRow* row = find(node);
  return row ? std::optional(*row) : std::nullopt;
}

std::optional<DiskRow> DiskTable::getAt(NodeId parentNode, const std::string& name) {
  std::optional<DiskRow> out;
  if (surelyFree(parentNode, name)) return out;
  getAt_.first([&](Row row) { out = read(row); }, parentNode, name);
  return out;
}

bool DiskTable::surelyFree(NodeId parentNode, const std::string& name) {
  return places_.surelyAbsent(keyOf(parentNode, name), highest(), [&](PrefixFilter& filter) {
    allPlaces_.each([&](Row row) { filter.add(keyOf(row.unsignedInteger(0), row.bytes(1))); });
  });
}

bool DiskTable::surelyWithout(NodeId node) {
  return nodes_.surelyAbsent(keyOf(node), highest(), [&](PrefixFilter& filter) {
    allNodes_.each([&](Row row) { filter.add(keyOf(row.unsignedInteger(0))); });
  });
}

std::vector<DiskRow> DiskTable::getByInode(uint64_t device, uint64_t inode) {
  std::vector<DiskRow> out;
  getByInode_.each([&](Row row) { out.push_back(read(row)); }, inode, device);
  return out;
}

std::vector<DiskRow> DiskTable::childrenOf(NodeId parentNode) {
  std::vector<DiskRow> out;
  children_.each([&](Row row) { out.push_back(read(row)); }, parentNode);
  return out;
}

void DiskTable::eachIn(NodeId parentNode, const std::function<bool(const Known&)>& each) {
  Known known;
  eachIn_.each(
      [&](Row row) {
        known.name = row.bytes(0);
        const auto kind = EntryKind(row.integer(1));
        known.stat.type = typeOf(kind);
        known.stat.device = row.unsignedInteger(2);
        known.stat.inode = row.unsignedInteger(3);
        known.stat.birthNs = row.integer(4);
        known.stat.sizeBytes = row.unsignedInteger(5);
        known.stat.mtimeNs = row.integer(6);
        known.stat.ctimeNs = row.integer(7);
        known.stat.mode = uint32_t(row.integer(8));
        known.settled = kind != EntryKind::File || row.integer(9) != 0;
        return each(known);
      },
      parentNode);
}

bool DiskTable::hasChildren(NodeId parentNode) { return hasChildren_.first([](Row) {}, parentNode); }

std::vector<DiskRow> DiskTable::withBlob(const BlobId& blob, size_t limit) {
  std::vector<DiskRow> out;
  std::string_view whole(reinterpret_cast<const char*>(blob.data()), BlobId::size());
  const bool absent = contents_.surelyAbsent(whole.substr(0, 8), files_.get().count, [&](PrefixFilter& filter) {
    prefixes_.each([&](Row row) { filter.add(row.bytes(0)); });
  });
  if (absent) return out;
  withBlob_.each([&](Row row) { out.push_back(read(row)); }, whole.substr(0, 8), whole,
                 std::min(limit, size_t(INT64_MAX)));
  return out;
}

bool DiskTable::anyWithBlob(const BlobId& blob) { return !withBlob(blob, 1).empty(); }

std::vector<NodeId> DiskTable::dirtyNodes() {
  std::vector<NodeId> out;
  dirty_.each([&](Row row) { out.push_back(row.unsignedInteger(0)); });
  return out;
}

std::vector<DiskRow> DiskTable::all(NodeId after, size_t limit) {
  std::vector<DiskRow> out;
  all_.each([&](Row row) { out.push_back(read(row)); }, after, std::min(limit, size_t(INT64_MAX)));
  return out;
}

std::optional<DiskRow> DiskTable::put(const DiskRow& row) {
  std::optional<DiskRow> erased;
  db_.together([&] {
    auto discount = [&](const DiskRow& old) {
      if (old.kind == EntryKind::File) files_.subtract(old.sizeBytes);
    };
    std::string base = origins_.packDots(row.base);
    const DiskRow* old = find(row.node);
    if (old) discount(*old);
    if (row.kind == EntryKind::File) files_.add(row.sizeBytes);
    if (!row.blob.isZero() && (!old || old->blob != row.blob)) contents_.add({reinterpret_cast<const char*>(row.blob.data()), 8});
    // The same file seen again: no index changes but that of dirty ones.
    if (old && old->parentNode == row.parentNode && old->name == row.name && old->kind == row.kind &&
        old->device == row.device && old->inode == row.inode && old->birthNs == row.birthNs && old->blob == row.blob) {
      updateSeen_.run(row.sizeBytes, row.mtimeNs, row.ctimeNs, row.mode, row.dirty, base, row.node);
      keep(row.node, row);
      return;
    }
    if (auto there = getAt(row.parentNode, row.name); there && there->node != row.node) {
      discount(*there);
      keep(there->node, std::nullopt);
      erased = std::move(there);
    }
    Statement& statement = old || erased ? put_ : add_;
    auto write = [&](const auto& blob) {
      statement.run(row.node, row.parentNode, row.name, row.kind, row.device, row.inode, row.birthNs, row.sizeBytes,
                    row.mtimeNs, row.ctimeNs, row.mode, row.dirty, blob, base);
    };
    row.blob.isZero() ? write(nullptr) : write(row.blob);
    places_.add(keyOf(row.parentNode, row.name));
    nodes_.add(keyOf(row.node));
    highest_ = std::max(highest(), row.node);
    keep(row.node, row);
  });
  return erased;
}

void DiskTable::setDirty(NodeId node, bool dirty) {
  setDirty_.run(dirty, node);
  rows_.erase(node);
  folders_.erase(node);
}

void DiskTable::erase(NodeId node) {
  db_.together([&] {
    auto old = get(node);
    if (!old) return;
    if (old->kind == EntryKind::File) files_.subtract(old->sizeBytes);
    erase_.run(node);
    keep(node, std::nullopt);
  });
}

}  // namespace realize::store
