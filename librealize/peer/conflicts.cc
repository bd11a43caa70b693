#include "librealize/peer/conflicts.h"

#include <algorithm>
#include <cstdio>

#include "librealize/peer/folder.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {

constexpr size_t kPage = 1000;

/// Safe in the cache, or in the entry's own file, still as it was read. A file of another entry is edited by users who know
/// nothing of this one.
bool keptFor(Core& core, const std::optional<store::DiskRow>& row, const Version& version) {
  if (version.sizeBytes == 0 || (row && row->blob == version.blob)) return true;
  return core.transfers->cachedForGood(version.blob);
}

bool asRead(Core& core, const store::DiskRow& row) {
  auto root = core.folder->root();
  auto path = core.folder->diskPath(row.node);
  auto stat = root && path ? root->stat(*path) : Result<FileStat>(Error{Code::NotFound, ""});
  const bool is = stat.ok() && row.matches(*stat);
  if (!is) core.folder->hintDirectory(row.parentNode);  // Nothing may have told of it.
  return is;
}

}  // namespace

std::string labelOf(const Dot& dot) {
  char text[48];
  std::snprintf(text, sizeof text, "%llx-%llx", static_cast<unsigned long long>(dot.origin),
                static_cast<unsigned long long>(dot.seq));
  return text;
}

void eachConflict(Core& core, const std::function<void(const logic::Record&, const std::vector<logic::ShownHead>&)>& found) {
  NodeId after = 0;
  while (true) {
    const auto ids = core.store.withSeveralHeads(after, kPage);
    if (ids.empty()) return;
    for (const auto& id : ids) {
      after = std::max(after, core.store.nodeOf(id).value_or(0));
      auto record = core.tree.get(id);
      if (!record || !record->shown || record->entry.kind == EntryKind::Directory) continue;
      const auto heads = core.tree.shownHeads(id);
      if (heads.size() >= 2) found(*record, heads);
    }
  }
}

Result<void> chooseVersion(Core& core, const logic::Record& record, const Dot& head, const std::string& where,
                           std::optional<HeadInfo>* missing, const std::function<Result<void>()>& before) {
  const EntryId id = record.entry.id;
  const bool file = record.entry.kind == EntryKind::File;
  const auto heads = core.tree.shownHeads(id);
  const auto chosen = std::find_if(heads.begin(), heads.end(), [&](const auto& one) { return one.dot == head; });
  if (chosen == heads.end()) return Error{Code::NotFound, where + ": there is no version " + labelOf(head)};
  const Error unread{Code::Busy, where + ": has changes here that are not read yet; try again in a moment"};
  auto row = core.store.disk().get(record.node);
  if (row && row->dirty) return unread;
  // The version that a choice makes is a new one, and this peer answers for its bytes: where the chosen one was, it may be
  // replaced at this moment by an edit that has seen no choice.
  const Version& version = chosen->version;
  if (file && !keptFor(core, row, version)) {
    if (missing) {
      missing->emplace();
      (*missing)->blob = version.blob;
      (*missing)->sizeBytes = version.sizeBytes;
    }
    return Error{Code::Unreachable, where + ": the bytes of that version are not here, so it cannot be chosen here yet; connect "
                                            "a peer that has them"};
  }
  if (file && row && row->blob == version.blob && !asRead(core, *row)) return unread;
  Result<void> resolved;
  const bool noted = core.transact([&] {
    if (before) resolved = before();
    if (!resolved.ok()) return;
    resolved = core.tree.resolve(id, chosen->dot);
    if (!resolved.ok()) return;
    if (!row || row->blob != version.blob) {
      // Who had it may be replacing it: it may be nowhere but in our cache.
      if (file && core.transfers->cachedForGood(version.blob)) core.transfers->pin(version.blob, {id});
      return;
    }
    // The folder has it: an edit of that file from now on is one of the chosen version.
    const auto* now = core.tree.peek(id);
    const auto only = logic::shownHeads(now->entry).front();
    row->base = Core::baseOf(now->entry, &only);
    core.store.disk().put(*row);
  });
  if (!noted) return Error{Code::Suspended, core.suspendedWhy};
  return resolved;
}

}  // namespace realize::peer
