// What is ignored: nothing that the arena has already, and by the patterns of today.

#include <algorithm>
#include <optional>

#include "librealize/peer/folder_state.h"

namespace realize::peer {

/// Patterns speak of what is not known yet; what the arena has already stays followed, as in git: by its name, whoever
/// has it now, or wherever it was moved to under the same. The folders among them, which were not read with what is above.
std::vector<std::string> Folder::State::keepKnownNames(logic::ReconcileInput& input) {
  std::vector<std::string> folders;
  for (auto& listing : input.listings) {
    std::optional<store::DiskRow> folder;
    if (!listing.ignored.empty()) folder = rowOfListed(listing);
    std::erase_if(listing.ignored, [&](const std::string& name) {
      if (name == kOwnFolder) return false;
      auto stat = root->stat(joinPath(listing.path, name));
      if (!stat.ok()) return false;
      if (stat->type == FileStat::Type::File) lookWhatItIsElsewhere(*stat, listing.path);
      const auto before = folder ? core.store.disk().getAt(folder->node, name) : std::nullopt;
      bool known = before && (before->kind == EntryKind::Directory) == (stat->type == FileStat::Type::Directory);
      if (!known) {
        const auto rows = core.store.disk().getByInode(stat->device, stat->inode);
        known = std::any_of(rows.begin(), rows.end(),
                            [&](const auto& row) { return row.name == name && row.birthNs == stat->birthNs; });
      }
      if (known) listing.items.push_back({name, *stat, std::nullopt});
      if (known && stat->type == FileStat::Type::Directory) folders.push_back(joinPath(listing.path, name));
      return known || before;  // What had the name is not there any more, where this is of another kind.
    });
  }
  return folders;
}

/// That of the folder itself, which may have been moved there, before that of whoever had its path.
std::optional<store::DiskRow> Folder::State::rowOfListed(const logic::Listing& listing) {
  if (listing.path.empty()) return core.store.disk().get(kRootNode);
  for (auto& row : core.store.disk().getByInode(listing.self.device, listing.self.inode))
    if (row.kind == EntryKind::Directory && row.isObject(listing.self)) return std::move(row);
  return rowAtPath(listing.path);
}

/// Written through an ignored name, a file of the arena's changes where no watch tells of it. One that is held back stays dirty.
void Folder::State::lookWhatItIsElsewhere(const FileStat& file, const std::string& listed) {
  if (file.links <= 1) return;
  for (const auto& row : core.store.disk().getByInode(file.device, file.inode)) {
    const auto folder = core.folder->diskPath(row.parentNode);
    if (!row.dirty && folder && *folder != listed && (!row.sameBytes(file) || row.mode != file.mode)) hint(*folder);
  }
}

/// Other patterns concern all that is below them.
void Folder::State::notePatterns(const ListingBatch& batch) {
  bool changed = false;
  for (const auto& [directory, file] : batch.patterns) {
    auto [known, fresh] = patterns.emplace(directory, file);
    if (fresh ? scanning : known->second.unchanged(file)) continue;  // A scan reads with them what is below.
    known->second = file;
    changed = true;
  }
  if (!patterns.empty())
    for (const auto& listing : batch.listings)
      if (listing.state == logic::Listing::State::Complete && !batch.patterns.contains(listing.path))
        changed = patterns.erase(listing.path) > 0 || changed;
  if (changed) core.folder->rescanAll();
}

/// Patterns speak of where a folder is: what they left out below it there may be the arena's here.
void Folder::State::readWhereItIs(const std::string& from, const std::string& to) {
  const auto spokenOf = [&](const std::string& path) {
    std::string above = parentPath(path);
    while (!above.empty() && !patterns.contains(above)) above = parentPath(above);
    return patterns.contains(above);
  };
  std::set<std::string> moved;
  if (spokenOf(from) || spokenOf(to)) moved.insert(to);
  std::erase_if(readBelow, [&](const std::string& path) {
    const bool within = path == from || path.starts_with(from + "/");
    if (within) moved.insert(to + path.substr(from.size()));
    return within;
  });
  for (const auto& path : moved) {
    readBelow.insert(path);
    if (root && root->stat(path).ok()) hint(path);  // Else it goes on from there.
  }
}

/// Those that are not known yet come along with what they are in.
std::vector<std::string> Folder::State::withFoldersBelow(std::vector<std::string> paths) {
  std::set<std::string> all(paths.begin(), paths.end());
  std::vector<std::string> left;
  for (const auto& path : paths)
    if (readBelow.erase(path) > 0) left.push_back(path);
  while (!left.empty()) {
    const std::string path = std::move(left.back());
    left.pop_back();
    all.insert(path);
    const auto row = rowAtPath(path);
    for (const auto& child : row ? core.store.disk().childrenOf(row->node) : std::vector<store::DiskRow>())
      if (child.kind == EntryKind::Directory) left.push_back(joinPath(path, child.name));
  }
  return {all.begin(), all.end()};
}

/// Something that is not known has the name of what a peer has: it is read, unless it is ignored.
void Folder::State::inTheWay(const std::string& directory, const std::string& name) {
  namesInTheWay[directory].insert(name);
  hint(directory);
}

void Folder::State::tellIgnoredInTheWay(const logic::ReconcileInput& input) {
  if (namesInTheWay.empty()) return;
  core.transact([&] {
    for (const auto& listing : input.listings) {
      const auto names = namesInTheWay.extract(listing.path);
      if (names.empty()) continue;
      for (const auto& name : listing.ignored)
        if (names.mapped().contains(name))
          problem(joinPath(listing.path, name), "ignored-in-the-way",
                  "what a peer has under this name is not put on this disk, where an ignored one has it. Rename that, or "
                  "take it out of the " + std::string(logic::kIgnoreFileName) + ": it goes on by itself");
      for (const auto& item : listing.items) {
        const std::string path = joinPath(listing.path, item.name);
        const bool folder = !item.failed && item.stat.type == FileStat::Type::Directory && names.mapped().contains(item.name);
        if (folder && !rowAtPath(path) && isLeft(input, path))
          problem(path, "ignored-in-the-way",
                  "what a peer has under this name is not put on this disk, where a folder has it that a peer removed and that "
                  "stays for what is ignored in it. Rename that: it goes on by itself");
      }
    }
  });
}

// --- what a peer's removal left -----------------------------------------------------------------------------------

namespace {
std::string leftKey(const std::string& path) { return "left/" + path; }
}  // namespace

/// By its listing, and by those of the folders in it that were left behind before.
Folder::State::Holds Folder::State::whatHolds(const logic::ReconcileInput& input, const std::string& path) {
  const auto listing = std::find_if(input.listings.begin(), input.listings.end(), [&](const auto& one) { return one.path == path; });
  if (listing == input.listings.end() || listing->state != logic::Listing::State::Complete) return Holds::Unread;
  for (const auto& item : listing->items) {
    if (item.failed) return Holds::Unread;
    const auto kind = logic::entryKindOf(item.stat.type);
    const bool ours = kind && isValidName(item.name) && item.name != kOwnFolder;
    if (ours && (*kind != EntryKind::Directory || !isLeft(input, joinPath(path, item.name)))) return Holds::Ours;
  }
  return listing->items.empty() && listing->ignored.empty() ? Holds::Nothing : Holds::NotOurs;
}

/// Whether that folder, which the arena does not have, is here for what is in it and none of the arena's.
bool Folder::State::isLeft(const logic::ReconcileInput& input, const std::string& path) {
  if (core.store.getValue(leftKey(path)).value_or("") != "1") return false;
  const auto holds = whatHolds(input, path);
  return holds == Holds::NotOurs || holds == Holds::Unread;
}

/// It has something of the arena's again.
void Folder::State::takeLeft(const std::string& path) {
  if (core.store.getValue(leftKey(path)).value_or("") == "1") core.store.setValue(leftKey(path), "");
}

/// A folder that a peer removed and that holds only what is not ours stays on disk, and is the arena's no more.
void Folder::State::leaveBehind(const logic::ReconcileInput& input) {
  if (leftCandidates.empty()) return;
  core.transact([&] {
    for (NodeId node : std::set(leftCandidates)) {
      const auto row = core.store.disk().get(node);
      const auto id = core.store.idOf(node);
      const auto record = id ? core.tree.get(*id) : std::nullopt;
      const auto path = core.folder->diskPath(node);
      const auto holds = path ? whatHolds(input, *path) : Holds::Nothing;
      const bool candidate = row && record && !record->shown && path && !core.store.disk().hasChildren(node);
      // The pass that was asked for is yet to come; or what is new in it is yet to be read, and may be gone by then.
      if (candidate && (holds == Holds::Unread || holds == Holds::Ours)) continue;
      leftCandidates.erase(node);
      if (!candidate) continue;
      if (holds == Holds::Nothing) {  // Its user has emptied it meanwhile.
        core.folder->entryChanged(*id);
        continue;
      }
      core.store.setValue(leftKey(*path), "1");
      core.store.disk().erase(node);
      problem(*path, "left-behind", "removed by a peer, but it holds files here that are ignored or no part of the arena: it stays on this disk only");
      if (!emptyLater.erase(row->parentNode)) continue;
      if (const auto above = core.store.idOf(row->parentNode)) core.folder->entryChanged(*above);  // That can go, or stays likewise.
    }
  });
}

}  // namespace realize::peer
