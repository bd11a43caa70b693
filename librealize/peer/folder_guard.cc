// What a mass removal, or the replacing of many contents at once, waits for: logic::RemovalGuard and OverwriteGuard.

#include <algorithm>
#include <utility>

#include "librealize/peer/folder_state.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/marks.h"

namespace realize::peer {

namespace {
constexpr char kRemoval[] = "held-removal";
constexpr char kOverwrite[] = "held-overwrite";
}  // namespace

logic::GuardSettings Folder::State::guardSettings(double share) const {
  logic::GuardSettings settings;
  settings.share = share;
  settings.minimumEntries = core.settings.guardMinimum;
  return settings;
}

/// What was held when the program ended is held again, however few are left of it.
void Folder::State::beginGuards() {
  if (core.store.problems().has("", kRemoval)) guard.resume();
  if (core.store.problems().has("", kOverwrite)) overwrites.resume();
}

/// Nothing is being read any more.
void Folder::State::guardsRest() {
  if (guard.resuming()) {
    guard.resumed();
    if (!guard.holding()) core.transact([&] { core.store.problems().eraseKind(kRemoval); });
  }
  if (overwrites.resuming()) {
    overwrites.resumed();
    if (!overwrites.holding()) core.transact([&] { core.store.problems().eraseKind(kOverwrite); });
  }
  sayHeldContents();
}

// --- removals -----------------------------------------------------------------------------------------------------

/// Whether that is under its name, or something of its kind that nobody knows. A folder is not where another that is known has
/// its name, and nothing of what is in it: that one is about to move there.
bool Folder::State::isThere(NodeId node, std::map<NodeId, bool>& folders) {
  if (node == kRootNode) return true;
  const auto row = core.store.disk().get(node);
  if (!row) return false;
  const auto known = folders.find(node);
  if (known != folders.end()) return known->second;
  const auto path = core.folder->diskPath(node);
  const auto stat = path ? root->stat(*path) : Result<FileStat>(Error{Code::NotFound, ""});
  bool there = stat.ok() && logic::entryKindOf(stat->type) == row->kind && isThere(row->parentNode, folders);
  if (row->kind != EntryKind::Directory) return there;
  if (there)
    for (const auto& other : core.store.disk().getByInode(stat->device, stat->inode))
      there = there && (other.node == node || other.birthNs != stat->birthNs);
  return folders[node] = there;
}

/// What was held back and is there again is held no more.
void Folder::State::noteReturned() {
  if (guard.held().empty()) return;
  std::map<NodeId, bool> folders;
  std::vector<NodeId> returned;
  for (NodeId node : guard.held())
    if (!core.store.disk().peek(node) || isThere(node, folders)) returned.push_back(node);
  holdNoMore(returned);
}

/// They are there again, or peers have removed them, too.
void Folder::State::holdNoMore(const std::vector<NodeId>& nodes) {
  const size_t before = guard.held().size();
  for (NodeId node : nodes) guard.returned(node);
  if (guard.held().size() == before) return;
  tryBehindGuard();
  if (!guard.held().empty()) return;
  core.transact([&] { core.store.problems().eraseKind(kRemoval); });
  core.folder->rescanAll();  // What was left out with it.
}

/// It is not where it is to be changed, as its removal, or that of a folder that it is in, is held back: tried again with the answer.
bool Folder::State::waitsForGuard(const EntryId& id) {
  if (guard.held().empty()) return false;
  const auto* record = core.tree.peek(id);
  if (!record || !record->shown) return false;
  const auto* row = core.store.disk().peek(record->node);
  NodeId node = row ? row->node : core.store.nodeOf(record->shownParent).value_or(kRootNode);
  while (!guard.held().contains(node)) {
    row = core.store.disk().peek(node);
    if (!row) return false;
    node = row->parentNode;
  }
  retries.erase(id);
  behindGuard.insert(id);
  return true;
}

void Folder::State::tryBehindGuard() {
  for (const auto& id : std::exchange(behindGuard, {})) core.folder->entryChanged(id);
}

void Folder::State::holdBack(logic::Plan& plan) {
  noteReturned();
  auto removed = plan.removed();
  // What peers removed, and this program took away, is no removal by anyone here.
  std::erase_if(removed, [&](NodeId node) {
    if (confirmed.contains(node)) return true;
    auto id = core.store.idOf(node);
    auto record = id ? core.tree.get(*id) : std::nullopt;
    return !record || !record->shown;
  });
  if (removed.empty()) return;
  guard.setSettings(guardSettings(core.settings.guardShare));
  const auto& counts = core.store.counts();
  const uint64_t known = counts.files + counts.directories + counts.symlinks;
  if (guard.offer(now(), known, removed) == logic::RemovalGuard::Verdict::Apply) return;
  std::set<NodeId> held(removed.begin(), removed.end());  // And the folders that these are in.
  for (NodeId node : removed)
    for (const auto* row = core.store.disk().peek(node); row && held.insert(row->parentNode).second;) row = core.store.disk().peek(row->parentNode);
  standing.merge(logic::dropRemovals(plan, [&](NodeId node) { return !held.contains(node); }));
  sayHeldRemovals();
}

void Folder::State::sayHeldRemovals() {
  const std::string held = std::to_string(guard.held().size());
  std::string text = held + " entries are gone from the folder at once: their removal is held back. "
                            "Say `realize confirm " + core.options.name + "` if it was meant, or `realize confirm " +
                     core.options.name + " --keep` to bring them back";
  if (const auto& passed = guard.passed(); passed.entries > 0 && !guard.resuming()) {
    constexpr int64_t kMinuteNs = 60'000'000'000;
    text += ". " + std::to_string(passed.entries) + " more were removed before it was noticed: `realize undo " + core.options.name +
            ": --since " + std::to_string((now() - passed.sinceNs) / kMinuteNs + 2) + "m` brings those back";
  }
  problem("", kRemoval, text);
  core.emit(Event{.whenNs = 0, .type = kRemoval, .arena = "", .path = "", .peer = "", .detail = held});
}

/// What was renamed over a file whose new content may be held: both halves of that are held, or neither. Else peers would be
/// told that it is gone, and nobody of where its bytes are. How many files there are when that is judged, nobody knows yet.
void Folder::State::keepOrigins(logic::Plan& plan) {
  if (overwrites.holding() || suspicious(plan, 0)) {
    const auto removed = plan.removed();
    for (const auto& step : plan.steps) {
      const bool read = step.kind == logic::Step::Kind::Replaced && step.entryKind == EntryKind::File && !heldAsRead(step.node, step.stat);
      if (read && !confirmed.contains(step.source) && std::find(removed.begin(), removed.end(), step.source) != removed.end())
        origins[step.node] = step.source;
    }
  }
  if (origins.empty()) return;
  std::set<NodeId> waiting;
  for (const auto& [replaced, origin] : origins) waiting.insert(origin);
  standing.merge(logic::dropRemovals(plan, [&](NodeId node) { return !waiting.contains(node); }));
}

/// Its content is not held: whether its origin is gone is looked at again.
void Folder::State::releaseOrigin(NodeId replaced) {
  const auto origin = origins.find(replaced);
  if (origin == origins.end()) return;
  const auto row = core.store.disk().get(origin->second);
  if (row) hint(core.folder->diskPath(row->parentNode).value_or(""));
  origins.erase(origin);
}

// --- contents -----------------------------------------------------------------------------------------------------
//
// What is held is in the folder and not in the tree: its row has the content known before, is dirty, and so is looked at
// by every listing and left alone by what peers do.

/// Before what these steps name is read: a scan can find too many at once, and none of them is to pass before the last is
/// read.
bool Folder::State::suspicious(const logic::Plan& plan, uint64_t ofFiles) {
  uint64_t files = 0;
  for (const auto& step : plan.steps)
    files += step.kind == logic::Step::Kind::Replaced || step.kind == logic::Step::Kind::Content ||
             (step.kind == logic::Step::Kind::Attributes && step.verify);
  if (files == 0) return false;
  overwrites.setSettings(guardSettings(core.settings.overwriteShare));
  return overwrites.suspects(now(), ofFiles, files + hashingNodes.size());
}

/// Whether it takes away a content that stood here: not what was empty, and not for one that others have given it already.
/// Young is a file that is still being written, or of an unpacked archive that is worked on.
Folder::State::Replaces Folder::State::replaces(const HashJob& job) {
  if (confirmedContents.contains(job.node)) return Replaces::Nothing;
  const auto* row = core.store.disk().peek(job.node);
  if (!row || row->blob.isZero() || row->sizeBytes == 0 || row->blob == job.content->blob) return Replaces::Nothing;
  const BlobId old = row->blob;
  const auto id = core.store.idOf(job.node);
  const logic::Record* record = id ? core.tree.peek(*id) : nullptr;
  if (!record || !record->shown) return Replaces::Nothing;
  // What a backup brought back is known to be old, or goes beside what is known (takeOldContent()). Held, it would be taken
  // for an edit once that is forgotten.
  if (job.broughtBack == BroughtBack::Folder) return Replaces::Nothing;
  if (job.broughtBack == BroughtBack::Database && isOld(record->entry, job.content->blob)) return Replaces::Nothing;
  bool young = false;
  for (const auto& [dot, version] : record->entry.heads) {
    if (version.blob == job.content->blob) return Replaces::Nothing;
    const int64_t ageNs = core.env.clock.nowNs() - version.writtenNs;
    young = young || (version.blob == old && version.author == core.options.self && ageNs >= 0 && ageNs < overwrites.settings().windowNs);
  }
  return young ? Replaces::Young : Replaces::Old;
}

void Folder::State::judge(std::vector<HashJob> jobs) {
  std::vector<NodeId> nodes;
  for (const auto& job : jobs) {
    hashingNodes.erase(job.node);
    if (job.replacesOld) nodes.push_back(job.node);
  }
  overwrites.setSettings(guardSettings(core.settings.overwriteShare));
  const auto verdict = overwrites.offer(now(), core.store.counts().files, nodes);
  if (verdict == logic::OverwriteGuard::Verdict::Hold || overwrites.holding()) return holdContents(jobs);
  for (const auto& job : jobs) changedFile(job);
}

/// As soon as all were read, or those that were are too many already.
void Folder::State::judgeSuspects() {
  if (suspects.empty()) return;
  if (suspectJobs.size() < suspects.size()) {
    const uint64_t files = core.store.counts().files;
    if (!overwrites.suspects(now(), files, suspectJobs.size())) return;
    std::vector<NodeId> nodes;
    for (const auto& job : suspectJobs)
      if (job.replacesOld) nodes.push_back(job.node);
    if (overwrites.judge(now(), files, nodes) == logic::OverwriteGuard::Verdict::Apply) return;
  }
  suspects.clear();
  if (!suspectJobs.empty()) judge(std::exchange(suspectJobs, {}));
}

void Folder::State::holdContents(const std::vector<HashJob>& jobs) {
  for (const auto& job : jobs) {
    overwrites.holdToo(job.node);
    heldContents[job.node] = {job.stat, job.content->blob};
    if (const auto origin = origins.find(job.node); origin != origins.end()) {
      guard.hold(origin->second);
      origins.erase(origin);
      sayHeldRemovals();
    }
    core.invalidations->nodeChanged(job.node, true);  // A mount shows what the folder has.
  }
  problem("", kOverwrite, std::to_string(heldContents.size()) +
                              " files have other contents at once: what replaced them is held back. Say `realize confirm " +
                              core.options.name + "` if it was meant, or `realize confirm " + core.options.name +
                              " --keep` to bring the old contents back");
  if (toldHeldContents == 0) sayHeldContents();
}

/// At the first, and when all are read.
void Folder::State::sayHeldContents() {
  if (std::exchange(toldHeldContents, heldContents.size()) == heldContents.size() || heldContents.empty()) return;
  core.emit(Event{.whenNs = 0, .type = kOverwrite, .arena = "", .path = "", .peer = "", .detail = std::to_string(heldContents.size())});
}

bool Folder::State::heldAsRead(NodeId node, const FileStat& stat) const {
  auto held = heldContents.find(node);
  return held != heldContents.end() && held->second.stat.unchanged(stat);
}

/// It was removed, or holds what it is to hold: held no more.
void Folder::State::contentReturned(NodeId node) {
  releaseOrigin(node);
  confirmedContents.erase(node);
  if (heldContents.erase(node) == 0) return;
  overwrites.returned(node);
  if (heldContents.empty()) core.transact([&] { core.store.problems().eraseKind(kOverwrite); });
}

/// What is in the folder counts as known, and as older than what the tree has: that takes its place as soon as its bytes are
/// here, and what it replaces goes to the cache. The history has it, for an undo.
void Folder::State::putBack(NodeId node, const HeldContent& held) {
  auto row = core.store.disk().get(node);
  auto id = core.store.idOf(node);
  auto path = core.folder->diskPath(node);
  auto stat = path ? root->stat(*path) : Result<FileStat>(Error{Code::NotFound, ""});
  if (!row || !id || !stat.ok() || !stat->unchanged(held.stat)) return;  // An edit of its own.
  row->setStat(*stat);
  row->blob = held.blob;
  row->dirty = false;
  core.store.disk().put(*row);
  core.folder->noteOnDisk(node);
  noteTookAway("put back", *row, *path);
  core.marks->entryChanged(*id);
  core.folder->entryChanged(*id);
}

uint64_t Folder::heldRemovals() const { return s_->guard.held().size(); }
uint64_t Folder::heldOverwrites() const { return s_->heldContents.size(); }
bool Folder::holdsContent(const std::string& path) {
  const auto row = s_->rowAtPath(path);
  return row && s_->heldContents.contains(row->node);
}

Result<uint64_t> Folder::confirmHeld(bool keep) {
  auto& s = *s_;
  if (s.root && !s.guard.held().empty()) s.noteReturned();
  if (s.guard.held().empty() && s.heldContents.empty()) return Error{Code::NotFound, s.core.options.name + ": nothing is held back"};
  const auto contents = std::exchange(s.heldContents, {});
  s.origins.clear();
  s.toldHeldContents = 0;
  const auto nodes = s.guard.confirm();
  s.overwrites.confirm();
  const bool noted = s.core.transact([&] {
    for (const char* kind : {kRemoval, kOverwrite}) s.core.store.problems().eraseKind(kind);
    if (!keep) return;
    // What is gone from the folder is wanted back: not on disk, and so fetched again where it is marked real.
    for (auto node : nodes) {
      s.core.store.disk().erase(node);
      if (auto id = s.core.store.idOf(node)) {
        s.core.marks->entryChanged(*id);
        entryChanged(*id);
      }
    }
    for (const auto& [node, held] : contents) s.putBack(node, held);
  });
  if (!noted) return Error{Code::Suspended, s.core.suspendedWhy};  // It goes on with the folder read anew, and all held again.
  if (!keep) {
    s.confirmed.insert(nodes.begin(), nodes.end());
    for (const auto& [node, held] : contents) s.confirmedContents.insert(node);
  }
  rescanAll();
  s.tryBehindGuard();
  return nodes.size() + contents.size();
}

}  // namespace realize::peer
