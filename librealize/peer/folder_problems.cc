// What status says is wrong is looked at again before it is said: most of it ends by what somebody else does.

#include <algorithm>
#include <utility>

#include "librealize/peer/folder_state.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr size_t kMostLookedAt = 1000;
constexpr char kInUse[] = "in-use";
}

/// What the disk table has at a path of the folder.
std::optional<store::DiskRow> Folder::State::rowAtPath(const std::string& path) {
  std::optional<store::DiskRow> row;
  NodeId parent = kRootNode;
  for (size_t start = 0; start < path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    row = core.store.disk().getAt(parent, path.substr(start, end - start));
    if (!row) return std::nullopt;
    parent = row->node;
    start = end + 1;
  }
  return row;
}

/// Of a file whose bytes are known: they cannot be had from here while its owner may not read it.
void Folder::State::tellIfClosed(const std::string& path, uint32_t mode) {
  if (mode & 0400) return;
  auto file = root->open(path, OpenMode::Read);
  if (file.ok() || file.code() != Code::PermissionDenied) return;  // Root reads everything.
  problem(path, "unreadable", joinPath(core.options.folder, path) + ": cannot be read, so no peer can have its bytes from "
                              "here. Give this program's user the right to read it");
}

/// Of a file that another peer's version is to replace.
Error Folder::State::tellInUse(const std::string& path) {
  auto file = root->open(path, OpenMode::Read);
  if (!file.ok() && file.code() == Code::NotFound) return Error{Code::Busy, path + ": changed here at this moment"};
  if (!file.ok() && file.code() != Code::PermissionDenied) return file.error();
  const auto quiet = file.ok() ? (*file)->nobodyWrites() : Result<bool>(false);
  if (!quiet.ok() && quiet.code() != Code::PermissionDenied) return quiet.error();
  const bool ours = quiet.ok() || quiet.code() != Code::PermissionDenied;
  const std::string text = joinPath(core.options.folder, path) +
      (ours ? ": is open for writing, and another peer's version is to take its place. It does once the file is closed"
            : ": belongs to another user, so that nobody can tell whether it is open for writing, and another peer's version is to take its "
              "place. Give it to this program's user (chown)");
  if (!core.store.problems().has(path, kInUse)) problem(path, kInUse, text);
  return Error{Code::Busy, text};
}

/// True as long as what the problem says may be so. What only a scan, a retry or a person can tell stays as it is.
bool Folder::State::stillTrue(const store::ProblemRow& problem) {
  const std::string& path = problem.path;
  const std::string& kind = problem.kind;
  auto stat = [&] { return root->stat(path); };
  auto rowsRecord = [&](const store::DiskRow& row) {
    auto id = core.store.idOf(row.node);
    return id ? core.tree.get(*id) : std::nullopt;
  };
  if (kind == "left-behind") {
    auto there = stat();
    return there.ok() ? there->type == FileStat::Type::Directory && !rowAtPath(path) : there.code() != Code::NotFound;
  }
  if (kind == "rescued" || kind == "invalid-name" || kind == "absent") {
    auto there = stat();
    return there.ok() || there.code() != Code::NotFound;
  }
  if (kind == "special-file") {
    auto there = stat();
    return there.ok() ? there->type == FileStat::Type::Other : there.code() != Code::NotFound;
  }
  if (kind == "unreadable") {
    auto there = stat();
    if (!there.ok()) return there.code() != Code::NotFound;
    if (there->type == FileStat::Type::File) return !root->open(path, OpenMode::Read).ok();
    return there->type == FileStat::Type::Directory && !canBeListed(*root, path);
  }
  if (kind == "ignored-in-the-way") return stat().ok() && !rowAtPath(path) && core.recordAt(path).ok();
  if (kind == "not-taken") return stat().ok() && !rowAtPath(path);
  if (kind == "not-removed" || kind == "not-moved" || kind == "attributes") {
    auto row = rowAtPath(path);
    auto record = row ? rowsRecord(*row) : std::nullopt;
    if (!record) return false;
    if (kind == "not-removed") return !record->shown;
    if (!record->shown) return false;
    if (kind == "not-moved")
      return core.store.nodeOf(record->shownParent) != row->parentNode || record->shownName != row->name;
    return retries.contains(record->entry.id);
  }
  if (kind == "not-applied") {
    return std::any_of(retries.begin(), retries.end(), [&](const auto& retry) {
      auto shown = core.shownPath(retry.first);
      return retry.second >= kPatience && (shown.ok() ? *shown : "") == path;
    });
  }
  if (kind == "damaged") {
    auto row = rowAtPath(path);
    auto there = stat();
    return row && there.ok() && row->matches(*there);  // Else somebody has changed it since.
  }
  if (kind == kInUse) {
    auto record = core.recordAt(path);
    return record.ok() && core.store.wanted().hasNode(record->node) && !nobodyWrites(path);
  }
  if (kind == "not-placed" || kind == "repairing") {
    auto record = core.recordAt(path);
    return record.ok() && core.store.wanted().hasNode(record->node);
  }
  if (kind == "no-space") return core.store.wanted().totals().count > 0;
  if (kind == "corrupt") return core.transfers->stillCorrupt(path);
  return true;
}

void Folder::reviewProblems() {
  auto& s = *s_;
  auto& table = s.core.store.problems();
  if (s.core.suspended || !s.root || table.count() == 0) return;
  std::vector<store::ProblemRow> over;
  for (auto& problem : table.list(kMostLookedAt))
    if (!s.stillTrue(problem)) over.push_back(std::move(problem));
  if (over.empty()) return;
  s.core.transact([&] {
    for (const auto& problem : over) table.erase(problem.path, problem.kind);
  });
  // What can be read again has not been read yet.
  for (const auto& problem : over) {
    if (problem.kind != "unreadable") continue;
    s.hint(parentPath(problem.path));
    if (s.unreadable.contains(problem.path)) s.hint(problem.path);
  }
}

void Folder::reviewRoot() {
  auto& s = *s_;
  auto& core = s.core;
  if (core.suspended || core.stopping || !s.root || !core.options.userFolder) return;
  const auto open = s.root->stat("");
  auto named = core.env.disk.openRoot(core.options.folder);
  const auto there = named.ok() ? (*named)->stat("") : Result<FileStat>(named.error());
  if (open.ok() && there.ok() && open->device == there->device && open->inode == there->inode) {
    // A disk that is mounted or unmounted within it raises no event of the watch.
    auto mounts = core.env.disk.mountsWithin(core.options.folder);
    if (std::exchange(s.mounts, std::move(mounts)) != s.mounts) rescanAll();
    return;
  }
  s.lost("its folder " + core.options.folder + " is gone or its disk is not mounted. Nothing is removed anywhere; it goes on when "
         "the folder is back");
}

}  // namespace realize::peer
