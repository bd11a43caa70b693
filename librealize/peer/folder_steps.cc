// The steps of a reconcile plan become changes of the tree. Contents are hashed first: folder_contents.cc.

#include <algorithm>

#include "librealize/peer/exchange.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr size_t kMostAbove = 4096;  ///< folders; more are rows that tell of a circle
}  // namespace

Version Folder::State::versionOf(const FileStat& stat, const Content* content) {
  Version version;
  version.mode = stat.mode & 0777;
  version.mtimeNs = stat.mtimeNs;
  if (content) {
    version.blob = content->blob;
    version.sizeBytes = content->sizeBytes;
  }
  return version;
}

void Folder::State::putRow(NodeId node, NodeId parent, const std::string& name, EntryKind kind, const FileStat& stat,
                           const BlobId& blob, std::vector<Dot> base) {
  store::DiskRow row;
  row.node = node;
  row.parentNode = parent;
  row.name = name;
  row.kind = kind;
  row.setStat(stat);
  row.blob = blob;
  row.base = std::move(base);
  putRow(row);
}

void Folder::State::putRow(const store::DiskRow& row) {
  noteWitnessed(row.node);
  putAtName(row);
}

/// The row of what has that name on disk now. Whoever was known under it has left, by his user's doing: his row stays
/// until it is read whether he moved or went.
void Folder::State::putAtName(const store::DiskRow& row) {
  if (auto left = core.store.disk().put(row)) park(*left);
}

/// The watch goes along: else it would take what is done in the folder for done in who has its name now.
void Folder::State::park(store::DiskRow& left) {
  const std::string parent = core.folder->diskPath(left.parentNode).value_or("");
  const std::string from = joinPath(parent, left.name);
  left.name = logic::parkName(left.node);
  core.store.disk().put(left);
  if (left.kind == EntryKind::Directory) {
    directoryMoved(from, joinPath(parent, left.name), false);
    parkedFolder = true;
  }
  hint(parent);
}

/// Before the watch is told that a folder has that name now.
void Folder::State::vacate(NodeId parent, const std::string& name) {
  if (auto left = core.store.disk().getAt(parent, name); left && left->kind == EntryKind::Directory) park(*left);
}

std::optional<EntryId> Folder::State::directoryEntry(NodeId node) {
  if (node == kRootNode) return kRootEntry;
  auto id = core.store.idOf(node);
  auto record = id ? core.tree.get(*id) : std::nullopt;
  if (record && record->shown) return id;
  // A peer removed it while something was put into it here: it is needed again.
  auto row = core.store.disk().get(node);
  if (!row) return std::nullopt;
  auto parent = directoryEntry(row->parentNode);
  row = core.store.disk().get(node);  // That may have given the one above another node.
  if (!parent || !row) return std::nullopt;
  FileStat stat;
  stat.mode = row->mode;
  stat.mtimeNs = row->mtimeNs;
  auto made = core.tree.create(*parent, row->name, EntryKind::Directory, versionOf(stat, nullptr),
                               !bindable(*parent, row->name, EntryKind::Directory), [&](NodeId other) { return other != node && core.store.disk().peek(other) != nullptr; });
  if (!made.ok()) return std::nullopt;
  core.tree.flush();
  core.tree.beginBatch();
  const NodeId again = core.store.nodeOf(*made).value_or(0);
  if (again != 0 && again != node) {
    auto children = core.store.disk().childrenOf(node);
    core.store.disk().erase(node);
    row->node = again;
    core.store.disk().put(*row);
    for (auto& child : children) {
      child.parentNode = again;
      core.store.disk().put(child);
    }
    hint(core.folder->diskPath(again).value_or(""));  // What speaks of the old node finds nothing: it is listed again.
  }
  return *made;
}

// --- steps --------------------------------------------------------------------------------------------------------

/// Listing a folder watches it under its new path before the watch was told of the move, or that who had that name has left it:
/// where the two meet, what was moved, and what was listed, is watched anew.
void Folder::State::watchAgain(const logic::Plan& plan, const logic::ReconcileInput& input) {
  std::set<std::string> paths;
  for (const auto& listing : input.listings)
    if (listing.state == logic::Listing::State::Complete) paths.insert(listing.path);
  auto listedWithin = [&](const std::string& path) {
    auto first = paths.lower_bound(path);
    return first != paths.end() && (*first == path || first->starts_with(path + "/"));
  };
  std::vector<NodeId> folders;
  for (const auto& step : plan.steps) {
    if (step.kind != logic::Step::Kind::Move || step.entryKind != EntryKind::Directory) continue;
    const auto to = core.folder->diskPath(step.node);
    if (listedWithin(childPath(step.fromParent, step.fromName)) || (to && listedWithin(*to))) folders.push_back(step.node);
  }
  if (!std::exchange(parkedFolder, false) && folders.empty()) return;
  while (!folders.empty()) {
    const NodeId node = folders.back();
    folders.pop_back();
    auto path = core.folder->diskPath(node);
    if (!path) continue;
    paths.insert(*path);
    for (const auto& child : core.store.disk().childrenOf(node))
      if (child.kind == EntryKind::Directory) folders.push_back(child.node);
  }
  for (const auto& path : paths) watch->add(path);
}

/// Disks have other numbers since a boot, or the folder was brought back to another disk.
void Folder::State::changeDevices(const std::map<uint64_t, uint64_t>& changes) {
  NodeId after = 0;
  while (true) {
    auto rows = core.store.disk().all(after, 1000);
    if (rows.empty()) return;
    after = rows.back().node;
    for (auto& row : rows) {
      const auto change = changes.find(row.device);
      if (change == changes.end()) continue;
      row.device = change->second;
      core.store.disk().put(row);
    }
  }
}

/// Where it is now: a folder can have taken the name of what is gone, and counts as moved only when that does.
std::string Folder::State::pathToRead(NodeId parent, std::string path) {
  if (standing.empty()) return childPath(parent, path);
  for (size_t depth = 0; parent != kRootNode && depth < kMostAbove; ++depth) {
    const auto at = standing.find(parent);
    const auto* row = at == standing.end() ? core.store.disk().peek(parent) : nullptr;
    if (at == standing.end() && !row) break;  // Found gone when it is read.
    path = joinPath(row ? row->name : at->second.path, path);
    parent = row ? row->parentNode : at->second.parent;
  }
  return path;
}

void Folder::State::carryOut(logic::Plan& plan, const logic::ReconcileInput& input) {
  standing.clear();
  if (!plan.deviceChanges.empty())
    core.transact([&] { changeDevices({plan.deviceChanges.begin(), plan.deviceChanges.end()}); });
  if (broughtBack != BroughtBack::Nothing) leaveOutAbsent(plan);
  holdBack(plan);
  if (plan.steps.empty()) return;
  const uint64_t files = core.store.counts().files;
  suspecting = suspicious(plan, files - std::min<uint64_t>(files, plan.removed().size()));  // Of those that are left.
  keepOrigins(plan);
  std::map<NodeId, Content> known;
  for (const auto& step : plan.steps)
    if (auto content = contentOfMoved(step)) known.emplace(step.node, std::move(*content));
  const bool noted = core.transact([&] {
    std::vector<NodeId> made(plan.steps.size(), 0);
    std::vector<std::pair<EntryId, logic::Base>> gone;
    std::vector<NodeId> goneNodes;
    auto flushGone = [&] {
      if (!gone.empty()) {
        auto removed = core.tree.removeListed(gone);
        (void)removed;  // Unknown and dead ones are skipped.
      }
      for (auto node : goneNodes) core.store.disk().erase(node);
      // What lives on in another version, or for one, may have to come back.
      for (const auto& [id, base] : gone) {
        core.marks->entryChanged(id);
        core.folder->entryChanged(id);
      }
      gone.clear();
      goneNodes.clear();
    };
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      const auto& step = plan.steps[i];
      if (step.kind == logic::Step::Kind::Vanished) {
        auto row = core.store.disk().get(step.node);
        auto id = core.store.idOf(step.node);
        if (row && id) gone.emplace_back(*id, seenByRemoval(*id, *row));
        if (row) core.folder->changedByUser(row->parentNode);
        if (row) nameLeft(*row);
        goneNodes.push_back(step.node);
        confirmed.erase(step.node);
        contentReturned(step.node);
        continue;
      }
      flushGone();
      const NodeId parent = step.parent ? step.parent : step.parentStep != logic::kNoStep ? made[step.parentStep] : 0;
      const bool file = step.entryKind == EntryKind::File;  // Synced with its bytes.
      switch (step.kind) {
        case logic::Step::Kind::New:
          if (parent && !file) core.folder->changedByUser(parent);
          if (parent) stepNew(step, parent, made[i], input);
          break;
        case logic::Step::Kind::TypeChanged: {
          auto row = core.store.disk().get(step.node);
          auto id = core.store.idOf(step.node);
          if (row && id) {
            auto removed = core.tree.removeListed({{*id, seenByRemoval(*id, *row)}});
            (void)removed;
          }
          core.store.disk().erase(step.node);
          contentReturned(step.node);
          if (row) core.folder->changedByUser(row->parentNode);
          if (row) nameLeft(*row);
          if (id) core.marks->entryChanged(*id);
          if (id) core.folder->entryChanged(*id);
          if (parent) stepNew(step, parent, made[i], input);
          break;
        }
        case logic::Step::Kind::Park: {
          // Names of rows are unique; the tree moves it once, to where it ends.
          auto row = core.store.disk().get(step.node);
          if (!row) break;
          // The watch follows step by step, too: another is about to get this one's name.
          core.folder->changedByUser(row->parentNode);
          if (row->kind == EntryKind::Directory)
            directoryMoved(childPath(row->parentNode, row->name), logic::parkName(step.node), false);
          row->parentNode = kRootNode;
          row->name = logic::parkName(step.node);
          core.store.disk().put(*row);
          break;
        }
        case logic::Step::Kind::Move:
          if (parent) stepMove(step, parent);
          break;
        case logic::Step::Kind::Replaced:
        case logic::Step::Kind::Content: {
          const auto content = known.find(step.node);
          stepChanged(step, content == known.end() ? nullptr : &content->second);
          break;
        }
        case logic::Step::Kind::Attributes: stepAttributes(step); break;
        case logic::Step::Kind::Vanished: break;  // Above.
      }
    }
    flushGone();
    watchAgain(plan, input);
    removeEmptied();
  });
  if (noted) holdNoMore(plan.removed());
}

/// Folders that a peer removed, and that a user's moves and removals have emptied.
void Folder::State::removeEmptied() {
  for (auto it = emptyLater.begin(); it != emptyLater.end();) {
    if (core.store.disk().hasChildren(*it)) {
      ++it;
      continue;
    }
    if (auto id = core.store.idOf(*it)) core.folder->entryChanged(*id);
    it = emptyLater.erase(it);
  }
}

/// What the tree shows at a name where the folder has something new of that kind: the same thing, if it is nowhere else
/// on this disk. Whatever else is shown there was not seen here, and ours goes beside it.
std::optional<logic::Record> Folder::State::bindable(const EntryId& parent, const std::string& name, EntryKind kind) {
  auto there = core.tree.lookup(parent, name);
  if (!there || there->entry.kind != kind || core.store.disk().get(there->node)) return std::nullopt;
  return there;
}

NodeId Folder::State::bindDirectory(NodeId parent, const std::string& name, const FileStat& stat) {
  auto parentId = directoryEntry(parent);
  if (!parentId) return 0;
  std::optional<EntryId> id;
  if (auto there = bindable(*parentId, name, EntryKind::Directory)) {
    id = there->entry.id;
  } else if ((joining || broughtBackAt(childPath(parent, name)) != BroughtBack::Nothing) && !core.tree.lookup(*parentId, name)) {
    // The same directory by birth, renamed elsewhere since the folder was copied.
    const EntryId born = entryIdFor(*parentId, name, EntryKind::Directory, 0);
    auto record = core.tree.get(born);
    if (record && record->shown && !core.store.disk().get(record->node)) id = born;
  }
  std::optional<logic::Record> before;
  if (!id) {
    // A peer removed another folder that was born under that name, and which is here elsewhere: it is not this one.
    auto made = core.tree.create(*parentId, name, EntryKind::Directory, versionOf(stat, nullptr), true, [this](NodeId other) { return core.store.disk().peek(other) != nullptr; });
    if (!made.ok()) {
      problem(childPath(parent, name), "not-taken", made.error().message);
      return 0;
    }
    id = *made;
    core.tree.flush();  // The store gives the node its number.
    core.tree.beginBatch();
  }
  const NodeId node = core.store.nodeOf(*id).value_or(0);
  if (node == 0) return 0;
  auto record = core.tree.get(*id);
  putRow(node, core.store.nodeOf(*parentId).value_or(parent), name, EntryKind::Directory, stat, BlobId(), record ? Core::baseOf(record->entry, nullptr) : std::vector<Dot>());
  noteUnsynced(node);  // A power cut may take its name: no removal by the user.
  core.folder->entryChanged(*id);
  return node;
}

void Folder::State::bindSymlink(NodeId parent, const std::string& name, const FileStat& stat) {
  auto parentId = directoryEntry(parent);
  auto target = root->readSymlink(pathToRead(parent, name));
  if (!parentId || !target.ok()) return hint(core.folder->diskPath(parent).value_or(""));
  Version version = versionOf(stat, nullptr);
  version.linkTarget = *target;
  std::optional<EntryId> id;
  if (auto there = bindable(*parentId, name, EntryKind::Symlink)) {
    id = there->entry.id;
    const auto heads = core.tree.shownHeads(*id);
    const bool same = std::any_of(heads.begin(), heads.end(), [&](const auto& h) { return h.version.linkTarget == *target; });
    if (!same) {
      auto written = core.tree.write(*id, version, logic::Base::only({}));
      (void)written;  // Shown a moment ago.
    }
  } else {
    auto made = core.tree.create(*parentId, name, EntryKind::Symlink, version, true);
    if (!made.ok()) return problem(childPath(parent, name), "not-taken", made.error().message);
    id = *made;
    core.tree.flush();
    core.tree.beginBatch();
  }
  auto record = core.tree.get(*id);
  const NodeId node = core.store.nodeOf(*id).value_or(0);
  if (!node || !record) return;
  putRow(node, core.store.nodeOf(*parentId).value_or(parent), name, EntryKind::Symlink, stat, BlobId(), Core::baseOf(record->entry, nullptr));
  noteUnsynced(node);  // As in bindDirectory.
  core.folder->entryChanged(*id);
}

bool Folder::State::stepNew(const logic::Step& step, NodeId parent, NodeId& made, const logic::ReconcileInput& input) {
  switch (step.entryKind) {
    case EntryKind::Directory: {
      const std::string path = pathToRead(parent, step.name);
      if (isLeft(input, path)) return false;
      takeLeft(path);
      made = bindDirectory(parent, step.name, step.stat);
      return made != 0;
    }
    case EntryKind::Symlink: bindSymlink(parent, step.name, step.stat); return true;
    case EntryKind::File: {
      HashJob job;
      job.parent = parent;
      job.name = step.name;
      job.path = pathToRead(parent, step.name);
      job.stat = step.stat;
      addHash(std::move(job));
      return true;
    }
  }
  return false;
}

void Folder::State::stepMove(const logic::Step& step, NodeId parent) {
  auto id = core.store.idOf(step.node);
  auto row = core.store.disk().get(step.node);
  auto parentId = directoryEntry(parent);
  if (!id || !row || !parentId) return;
  parent = core.store.nodeOf(*parentId).value_or(parent);
  size_t depth = 0;
  for (NodeId at = parent; at != kRootNode;) {
    // That was to leave it before, and stays for now: as something in its way is held back, say.
    if (at == step.node || ++depth > kMostAbove) return;
    const auto* above = core.store.disk().peek(at);
    at = above ? above->parentNode : kRootNode;
  }
  const auto before = core.tree.get(*id);
  const std::string from = childPath(row->parentNode, row->name);  // Where it was, or is parked.
  // After an old database came back: who moved it since may be a peer, and moved it on.
  const bool stale = broughtBackAt(from) != BroughtBack::Nothing && before && before->shown &&
                     (core.store.nodeOf(before->shownParent) != step.fromParent || before->shownName != step.fromName);
  if (before && before->shown && !stale) {
    // What the folder had there has left it in an earlier step: what is shown there still was not seen here.
    if (auto moved = core.tree.move(*id, *parentId, step.name, true); !moved.ok())
      problem(childPath(parent, step.name), "not-moved", moved.error().message);
  }
  for (NodeId changed : {row->parentNode, parent}) core.folder->changedByUser(changed);
  row->parentNode = parent;
  row->name = step.name;
  row->base = core.rebased(row->base, before, *id);
  core.store.disk().put(*row);
  if (row->kind == EntryKind::Directory) directoryMoved(from, childPath(parent, step.name), false);
  core.folder->entryChanged(*id);
}

/// What was renamed over another file, as it was read under its own name. It is told together with the end of that name: else
/// peers would hear of that first, and where this disk goes at that moment, nobody would have the bytes any more.
std::optional<Content> Folder::State::contentOfMoved(const logic::Step& step) {
  if (step.kind != logic::Step::Kind::Replaced || step.source == 0 || step.source == step.node || step.stat.links > 1) return std::nullopt;
  const auto* from = core.store.disk().peek(step.source);
  if (!from || from->kind != EntryKind::File || from->dirty || from->blob.isZero() || !from->sameBytes(step.stat)) return std::nullopt;
  if (joining || broughtBack != BroughtBack::Nothing || suspecting || overwrites.holding() || hashingNodes.contains(step.node)) return std::nullopt;
  if (hashingNodes.contains(step.source) || core.unwritten->has(step.stat)) return std::nullopt;
  return Content{from->blob, {}, from->sizeBytes};
}

/// `asMoved`: its content, if it need not be read.
void Folder::State::stepChanged(const logic::Step& step, const Content* asMoved) {
  auto row = core.store.disk().get(step.node);
  if (!row) return;
  if (row->kind != EntryKind::File) {
    core.folder->changedByUser(row->parentNode);
    if (row->kind == EntryKind::Symlink) {
      auto id = core.store.idOf(step.node);
      auto target = root->readSymlink(pathToRead(row->parentNode, row->name));
      if (!id || !target.ok()) return hint(core.folder->diskPath(row->parentNode).value_or(""));
      const auto before = core.tree.get(*id);
      Version version = versionOf(step.stat, nullptr);
      version.linkTarget = *target;
      if (before && !before->shown) {
        // A peer removed it while it was given another target here: that lives.
        const auto& heads = before->entry.heads;
        const bool known = std::any_of(heads.begin(), heads.end(), [&](const auto& h) { return h.second.linkTarget == *target; });
        if (!known) {
          core.store.disk().erase(step.node);
          core.folder->entryChanged(*id);
          return bindSymlink(row->parentNode, row->name, step.stat);
        }
      }
      auto written = core.tree.write(*id, version, logic::Base::only(row->base));
      (void)written;  // Removed by a peer meanwhile, and the same here: it goes.
      core.folder->entryChanged(*id);
      row->base = core.rebased(row->base, before, *id);
      row->setStat(step.stat);
      core.store.disk().put(*row);
      return;
    }
    // Another directory object under the same name: the entry is that directory now.
    row->setStat(step.stat);
    core.store.disk().put(*row);
    if (auto id = core.store.idOf(step.node)) core.folder->entryChanged(*id);
    return;
  }
  if (heldAsRead(step.node, step.stat)) return;
  if (step.kind == logic::Step::Kind::Replaced) nameLeft(*row);
  if (!asMoved) core.store.disk().setDirty(step.node, true);
  if (suspecting) suspects.insert(step.node);
  HashJob job;
  job.node = step.node;
  job.parent = row->parentNode;
  job.name = row->name;
  job.path = pathToRead(row->parentNode, row->name);
  job.stat = step.stat;
  job.movedHere = step.kind == logic::Step::Kind::Replaced && step.source != 0 && step.source != step.node;
  if (!asMoved) return addHash(std::move(job));
  job.content = *asMoved;
  core.folder->changedByUser(job.parent);
  std::vector<HashJob> jobs{std::move(job)};
  finishHashes(jobs);
}

void Folder::State::stepAttributes(const logic::Step& step) {
  auto row = core.store.disk().get(step.node);
  auto id = core.store.idOf(step.node);
  if (!row || !id) return;
  // After a power cut what was written may be there though its time is not, beside a mode that is back, too.
  if ((step.verify || allUnsynced) && row->kind == EntryKind::File) return stepChanged(step);
  const auto before = core.tree.get(*id);
  const bool mode = (row->mode & 0777) != (step.stat.mode & 0777);
  const bool times = row->kind != EntryKind::Directory && row->mtimeNs != step.stat.mtimeNs;
  // Else they may be those of the backup.
  const bool mine = broughtBackAt(childPath(row->parentNode, row->name)) == BroughtBack::Nothing || core.store.witnessed().hasNode(step.node);
  if (before && before->shown && (mode || times) && mine) {
    auto shown = core.shownVersion(*before);
    if (row->kind == EntryKind::File && shown && shown->second.blob != row->blob) {
      if (mode) keepMode(step.node, step.stat.mode & 0777);
    } else {
      auto set = core.tree.setAttributes(*id, mode ? std::optional<uint32_t>(step.stat.mode & 0777) : std::nullopt,
                                         times ? std::optional<int64_t>(step.stat.mtimeNs) : std::nullopt,
                                         shown ? std::optional<Dot>(shown->first) : std::nullopt);
      (void)set;  // Shown a moment ago.
      core.folder->changedByUser(step.node);
      row->base = core.rebased(row->base, before, *id);
    }
  }
  noteWitnessed(step.node);
  row->setStat(step.stat);
  core.store.disk().put(*row);
  if (row->kind == EntryKind::File) core.folder->lookAtOtherNames(step.stat);
  if (auto path = core.folder->diskPath(step.node); path && row->kind == EntryKind::File) tellIfClosed(*path, row->mode);
  core.folder->entryChanged(*id);  // A change by a peer may have waited for this to be read.
}

}  // namespace realize::peer
