#include "librealize/peer/undo.h"

#include <algorithm>
#include <functional>
#include <map>

#include "librealize/base/path.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {

constexpr size_t kMost = store::HistoryTable::kKept;
constexpr int64_t kTogetherNs = 600'000'000'000;  // A folder goes after what was in it.

/// The entry whose content was taken away, if it is shown, wherever; else what is at its path now.
std::optional<logic::Record> standsNow(Core& core, const store::HistoryRow& row) {
  if (auto id = core.store.idOf(row.node)) {
    auto record = core.tree.get(*id);
    if (record && record->shown) return record;
  }
  auto there = core.recordAt(row.path);
  return there.ok() ? std::optional(std::move(*there)) : std::nullopt;
}

bool holds(Core& core, const logic::Record& record, const Version& old) {
  const auto heads = core.tree.shownHeads(record.entry.id);
  return heads.size() == 1 && heads.front().version.sameContent(old);
}

/// The folder at a path, made where it is not there.
Result<EntryId> folderAt(Core& core, const std::string& path) {
  if (path.empty()) return kRootEntry;
  if (auto there = core.recordAt(path); there.ok()) {
    if (there->entry.kind != EntryKind::Directory) return Error{Code::Busy, path + ": is no folder now"};
    return there->entry.id;
  }
  REALIZE_ASSIGN(const EntryId above, folderAt(core, parentPath(path)));
  Version version;
  version.mode = 0755;
  for (const auto& row : core.store.history().undoable(path, 0, 0, 1))
    if (row.path == path && row.kind == EntryKind::Directory) version.mode = row.old->mode & 0777;
  return core.tree.create(above, std::string(baseName(path)), EntryKind::Directory, version);
}

}  // namespace

EntryId entryToUndo(Core& core, const store::HistoryRow& row) {
  if (auto id = core.store.idOf(row.node)) return *id;
  std::function<EntryId(const std::string&, EntryKind)> madeAt = [&](const std::string& path, EntryKind kind) {
    if (path.empty()) return kRootEntry;
    if (auto there = core.recordAt(path); there.ok()) return there->entry.id;
    return entryIdFor(madeAt(parentPath(path), EntryKind::Directory), std::string(baseName(path)), kind, 0);
  };
  return madeAt(row.path, row.kind);
}

Result<std::vector<store::HistoryRow>> planUndo(Core& core, const UndoRequest& request) {
  auto& history = core.store.history();
  std::vector<store::HistoryRow> rows;
  if (request.change) {
    rows = history.undoable("", 0, request.change, 1);
    if (rows.empty()) return Error{Code::NotFound, "change " + std::to_string(request.change) + " took nothing away, or is forgotten"};
  } else if (request.sinceNs) {
    rows = history.undoable(request.path, request.sinceNs, 0, kMost);
  } else {
    if (request.path.empty()) return Error{Code::InvalidArgument, "since when? `--since 1h` brings back what was there then"};
    auto there = core.recordAt(request.path);
    if (there.ok() && there->entry.kind == EntryKind::Directory)
      return Error{Code::InvalidArgument, request.path + ": is a folder that is there; since when is it to be as it was? `--since 1h`"};
    int64_t fromNs = 0;
    for (auto& row : history.undoable(request.path, 0, 0, kMost)) {
      if (row.whenNs < fromNs) break;
      const bool itself = row.path == request.path;
      if (fromNs == 0) fromNs = row.whenNs - kTogetherNs;
      if (there.ok() ? itself : row.what == "remove") rows.push_back(std::move(row));
      if (there.ok() && itself) break;
    }
  }
  // Of each entry, what was there first: since then, or before the one change.
  std::map<NodeId, store::HistoryRow> first;
  for (auto& row : rows) {
    const bool oldest = request.sinceNs != 0;
    auto [known, fresh] = first.try_emplace(row.node, row);
    if (!fresh && oldest) known->second = row;
  }
  std::vector<store::HistoryRow> out;
  for (auto& [node, row] : first) {
    auto now = standsNow(core, row);
    if (now && (row.kind == EntryKind::Directory || holds(core, *now, *row.old))) continue;  // As it was.
    out.push_back(std::move(row));
  }
  if (out.empty())
    return Error{Code::NotFound, core.options.name + ":" + request.path + (request.path.empty() ? "" : ":") +
                                     " nothing was removed or replaced there that the history knows of"};
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return out;
}

std::string whyNotUndone(Core& core, const store::HistoryRow& row) {
  auto now = standsNow(core, row);
  if (!now) return "";
  if (now->entry.kind != row.kind) return "something else has this name now";
  const auto disk = core.store.disk().get(now->node);
  if (disk && disk->dirty) return "it is being changed here";
  return "";
}

Result<void> undoOne(Core& core, const store::HistoryRow& row) {
  if (auto why = whyNotUndone(core, row); !why.empty()) return Error{Code::Busy, row.path + ": " + why};
  Version version = *row.old;
  version.stamp = {};
  auto now = standsNow(core, row);
  EntryId id;
  if (now && row.kind == EntryKind::Directory) return {};
  if (now) {
    id = now->entry.id;
    REALIZE_TRY(core.tree.write(id, version));
  } else {
    REALIZE_ASSIGN(const EntryId above, folderAt(core, parentPath(row.path)));
    REALIZE_ASSIGN(id, core.tree.create(above, std::string(baseName(row.path)), row.kind, version));
  }
  if (row.kind == EntryKind::File && version.sizeBytes > 0) core.transfers->pin(version.blob, {id});
  return {};
}

}  // namespace realize::peer
