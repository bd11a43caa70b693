// What is there: names, attributes, directories.

#include <algorithm>
#include <string_view>

#include "librealize/peer/arena_file_system_state.h"

namespace realize::peer {

namespace {
constexpr size_t kPage = 4096;
constexpr size_t kMaxNoted = 10'000;
constexpr int64_t kHintAgainNs = 1'000'000'000;
constexpr uint64_t kDirectoryBytes = 4096;
}  // namespace

std::pair<uint32_t, uint32_t> ArenaFileSystem::State::folderOwner() {
  if (!owner) {
    auto root = core.folder->root();
    auto stat = root ? root->stat("") : Result<FileStat>(Error{});
    if (!stat.ok()) return {0, 0};
    owner = {stat->uid, stat->gid};
  }
  return *owner;
}

std::pair<uint32_t, uint32_t> ArenaFileSystem::owner() { return s_->folderOwner(); }

Attributes ArenaFileSystem::State::ofStat(NodeId node, const FileStat& stat) {
  Attributes out;
  out.node = node;
  switch (stat.type) {
    case FileStat::Type::Directory: out.kind = EntryKind::Directory; break;
    case FileStat::Type::Symlink: out.kind = EntryKind::Symlink; break;
    case FileStat::Type::File:
    case FileStat::Type::Other: out.kind = EntryKind::File; break;
  }
  out.mode = stat.mode & 07777;
  // Not all folders below need be on disk: 1 says that the number tells nothing of them.
  out.links = out.kind == EntryKind::Directory ? 1 : stat.links;
  out.uid = stat.uid;
  out.gid = stat.gid;
  out.sizeBytes = stat.sizeBytes;
  out.blocks512 = (stat.sizeBytes + 511) / 512;
  out.mtimeNs = stat.mtimeNs;
  out.ctimeNs = stat.ctimeNs;
  out.atimeNs = stat.atimeNs;
  return out;
}

Attributes ArenaFileSystem::State::ofVersion(const logic::Record& record) {
  Attributes out;
  out.node = record.node;
  out.kind = record.entry.kind;
  std::tie(out.uid, out.gid) = folderOwner();
  out.mode = out.kind == EntryKind::Directory ? 0755 : out.kind == EntryKind::Symlink ? 0777 : 0644;
  if (auto shown = core.shownVersion(record)) {
    const Version& version = shown->second;
    out.mtimeNs = version.mtimeNs;
    out.ctimeNs = std::max(version.mtimeNs, version.writtenNs);
    out.sizeBytes = version.sizeBytes;
    if (out.kind == EntryKind::Symlink) out.sizeBytes = version.linkTarget.size();
    else out.mode = version.mode & 07777;
  }
  if (out.kind == EntryKind::Directory) {
    out.sizeBytes = kDirectoryBytes;
    if (auto changed = directoryTimes.find(record.node); changed != directoryTimes.end()) {
      out.mtimeNs = std::max(out.mtimeNs, changed->second);
      out.ctimeNs = std::max(out.ctimeNs, changed->second);
    }
  }
  out.blocks512 = (out.sizeBytes + 511) / 512;
  out.atimeNs = out.mtimeNs;
  return out;
}

/// A file is not as we know it: the folder is looked at. Not at each look, for each hint makes the rest longer.
void ArenaFileSystem::State::unexpected(const store::DiskRow& row) {
  const int64_t now = monotonicNs();
  if (hinted.size() > kMaxNoted) hinted.clear();
  auto& last = hinted[row.node];
  if (last != 0 && now - last < kHintAgainNs) return;
  last = now;
  core.folder->hintDirectory(row.parentNode);
}

/// What the disk says, but for what it cannot hold: a directory is always open to its owner there.
Attributes ArenaFileSystem::State::mend(const logic::Record& record, const store::DiskRow& row, Attributes attributes) {
  attributes.node = record.node;
  if (record.entry.kind == EntryKind::Directory && record.node != kRootNode) {
    auto shown = core.shownVersion(record);
    if (shown && ((shown->second.mode & 0777) | 0700) == (attributes.mode & 0777))
      attributes.mode = (attributes.mode & 07000) | (shown->second.mode & 0777);
  }
  (void)row;
  return attributes;
}

Result<Attributes> ArenaFileSystem::State::attributesOf(Directory& root, const Found& entry) {
  if (!entry.row) return ofVersion(entry.record);
  auto stat = root.stat(entry.path);
  if (!stat.ok()) {
    if (stat.code() == Code::NotFound || stat.code() == Code::NotDirectory) {
      unexpected(*entry.row);
      return Error{Code::NotFound, entry.path + ": gone from the folder"};
    }
    return stat.error();
  }
  auto out = ofStat(entry.record.node, *stat);
  if (out.kind != entry.record.entry.kind) {
    // Something else took the name; it is read as that soon.
    unexpected(*entry.row);
    return Error{Code::NotFound, entry.path + ": replaced in the folder"};
  }
  if (out.kind != EntryKind::Directory && !entry.row->dirty && !entry.row->matches(*stat)) unexpected(*entry.row);
  return mend(entry.record, *entry.row, out);
}

Result<Attributes> ArenaFileSystem::lookup(NodeId parent, const std::string& name) {
  auto& s = *s_;
  if (name.size() > 255) return Error{Code::NameTooLong, "a name is at most 255 bytes"};
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.usable());
  REALIZE_ASSIGN(auto directory, s.directoryOf(parent));
  auto record = s.core.tree.lookup(directory.entry.id, name);
  if (!record) return Error{Code::NotFound, name + ": no such entry"};
  return s.attributesOf(*root, s.found(std::move(*record)));
}

Result<Attributes> ArenaFileSystem::attributes(NodeId node) {
  auto& s = *s_;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.usable());
  REALIZE_ASSIGN(auto entry, s.find(node));
  return s.attributesOf(*root, entry);
}

Result<Attributes> ArenaFileSystem::handleAttributes(FileHandle handle) {
  auto& s = *s_;
  auto open = s.handleOf(handle);
  if (!open) return Error{s.closed ? Code::Suspended : Code::NotFound, "no such open file"};
  if (!open->file) return open->atOpen;
  REALIZE_ASSIGN(auto stat, open->file->stat());
  return s.ofStat(open->node, stat);
}

Result<NodeId> ArenaFileSystem::parentOf(NodeId node) {
  auto& s = *s_;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.usable());
  if (node == kRootNode) return kRootNode;
  REALIZE_ASSIGN(auto record, s.recordOf(node));
  auto parent = s.core.store.nodeOf(record.shownParent);
  if (!parent) return Error{Code::NotFound, "its folder is gone"};
  return *parent;
}

Result<std::vector<NamedNode>> ArenaFileSystem::readDirectory(NodeId node) {
  auto& s = *s_;
  std::shared_ptr<Directory> root;
  bool real = false;
  std::string path;
  {
    std::lock_guard held(s.lock());
    REALIZE_ASSIGN(root, s.usable());
    REALIZE_ASSIGN(auto directory, s.directoryOf(node));
    auto entry = s.found(std::move(directory));
    real = entry.row.has_value();
    path = entry.path;
  }
  // A large directory takes its time: without the lock. What changes meanwhile is looked at one by one.
  std::unordered_map<std::string_view, const FileStat*> stats;
  auto items = real ? root->list(path) : Result<std::vector<DirectoryItem>>(std::vector<DirectoryItem>());
  if (items.ok()) {
    stats.reserve(items->size());
    for (const auto& item : *items)
      if (!item.failed) stats.emplace(item.name, &item.stat);
  }

  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto directory, s.directoryOf(node));
  auto here = s.found(directory);
  if (here.path != path) stats.clear();
  std::unordered_map<NodeId, store::DiskRow> rows;
  for (auto& row : s.core.store.disk().childrenOf(node)) rows.emplace(row.node, std::move(row));
  std::vector<NamedNode> out;
  out.reserve(directory.shownChildren);
  std::string after;
  while (true) {
    const auto names = s.core.tree.children(directory.entry.id, after, kPage);
    for (const auto& name : names) {
      auto row = rows.find(name.node);
      auto stat = row == rows.end() ? stats.end() : stats.find(row->second.name);
      if (stat != stats.end() && stat->second->inode == row->second.inode && name.kind == EntryKind::File) {
        // The usual case, without reading the entry.
        if (!row->second.dirty && !row->second.matches(*stat->second)) s.unexpected(row->second);
        out.push_back({name.name, s.ofStat(name.node, *stat->second)});
        continue;
      }
      auto record = s.core.tree.get(name.id);
      if (!record) continue;
      auto attributes = s.attributesOf(*root, s.found(std::move(*record)));
      if (attributes.ok()) out.push_back({name.name, std::move(*attributes)});
      else if (attributes.code() != Code::NotFound) return attributes.error();
    }
    if (names.size() < kPage) break;
    after = names.back().name;
  }
  return out;
}

Result<std::string> ArenaFileSystem::readSymlink(NodeId node) {
  auto& s = *s_;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.usable());
  REALIZE_ASSIGN(auto entry, s.find(node));
  if (entry.record.entry.kind != EntryKind::Symlink) return Error{Code::InvalidArgument, "not a symlink"};
  if (entry.row) {
    auto target = root->readSymlink(entry.path);
    if (!target.ok()) s.unexpected(*entry.row);
    return target;
  }
  auto shown = s.core.shownVersion(entry.record);
  if (!shown) return Error{Code::NotFound, "the symlink has no target yet"};
  return shown->second.linkTarget;
}

Result<SpaceInfo> ArenaFileSystem::space() {
  auto& s = *s_;
  std::shared_ptr<Directory> root;
  {
    std::lock_guard held(s.lock());
    REALIZE_ASSIGN(root, s.usable());
  }
  REALIZE_ASSIGN(auto space, root->space());
  SpaceInfo out;
  out.totalBytes = space.totalBytes;
  out.freeBytes = space.freeBytes;
  out.availableBytes = space.availableBytes;
  out.totalFiles = space.totalInodes;
  out.freeFiles = space.freeInodes;
  return out;
}

}  // namespace realize::peer
