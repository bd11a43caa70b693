// Small files that have arrived go to their places: new ones by the pool, while the core notes what was put
// in place before and goes on with other work; what is not as simple, by the core.

#include <algorithm>

#include "librealize/base/path.h"
#include "librealize/peer/conflict_policy.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers_state.h"
#include "librealize/peer/wanted_batch.h"

namespace realize::peer {

namespace {
constexpr size_t kMaxPlacing = 4;  // groups: while one is put in place, the one before is noted
}

void Transfers::State::placeSmall(const std::vector<std::shared_ptr<WantedBatch>>& batches) {
  arrived.insert(arrived.end(), batches.begin(), batches.end());
  placeMore();
}

void Transfers::State::placeMore() {
  if (placing.size() < kMaxPlacing && !arrived.empty()) placeNext(nullptr);
}

/// What the pool has put in place is noted, and what it is to put in place next, in one transaction.
void Transfers::State::placeNext(std::shared_ptr<PlacingGroup> finished) {
  if (finished) letGo(*finished);
  auto group = std::make_shared<PlacingGroup>();
  if (!arrived.empty()) {
    group->batch = std::move(arrived.front());
    arrived.pop_front();
  }
  bool noted = false;
  try {
    noted = noteAndPut(finished.get(), group);
  } catch (const store::DatabaseError&) {  // Also where what was to be committed before is lost.
    letGo(*group);
    post([this] {
      runAfterPlacing();
      placeMore();
    });
    throw;
  }
  runAfterPlacing();
  if (noted && !group->files.files.empty()) placing.push_back(group);
  else letGo(*group);
  if (!arrived.empty()) placeSoon();
  core.exchange->bytesCame();
  pumpWanted();
}

/// `group` is with the pool then, or soon, if it has any files.
bool Transfers::State::noteAndPut(PlacingGroup* finished, const std::shared_ptr<PlacingGroup>& group) {
  std::vector<WantedItem> others;
  const auto noteAll = [&] {
    if (finished) others = noteNew(*finished);
    if (group->batch) prepareNew(*group, others);
    notePlacing(*group);
    group->alone = others.empty();
  };
  const auto put = putLater(group);
  const bool noted = core.transactLater(noteAll, [group, put] {
    if (group->alone && !group->files.files.empty()) put();
  });
  if (!noted || others.empty()) return noted;
  placeOthers(others);
  if (!core.transact([&] { notePlacing(*group); })) return false;  // Folder::place() has ended what was on its way, and its notes.
  if (!group->files.files.empty()) put();
  return true;
}

/// To be called by any thread, once what is noted of the group is committed.
std::function<void()> Transfers::State::putLater(const std::shared_ptr<PlacingGroup>& group) {
  const auto put = core.folder->putNew({group, &group->files});
  return [this, alive = alive, putting = putting, group, put, &scheduler = core.env.scheduler] {
    putting->post(scheduler, [this, alive, group, put, &scheduler] {
      put();
      scheduler.onCore([this, alive, group] {
        if (*alive && std::erase(placing, group) > 0) placeNext(group);
      });
    });
  };
}

/// Of all that is with the pool, and of what goes there next.
void Transfers::State::notePlacing(const PlacingGroup& next) {
  std::vector<Folder::Placing> files;
  const auto add = [&](const PlacingGroup& group) {
    for (const auto& file : group.files.files) files.push_back({file.plan.entry, file.plan.head, file.fresh, true, file.node});
  };
  for (const auto& group : placing) add(*group);
  add(next);
  core.folder->notePlacingNew(files);
}

void Transfers::State::letGo(const PlacingGroup& group) {
  if (!group.batch) return;
  --smallBatches;
  for (const auto& item : group.batch->items) inFlight.erase({item.node, item.blob});
}

void Transfers::State::placeSoon() {
  post([this] { placeMore(); });
}

void Transfers::State::runAfterPlacing() {
  for (const auto& job : std::exchange(afterPlacing, {})) job();
}

/// The wanted content has its place in the folder. `path`: as shown; empty: not known.
void Transfers::State::isReal(const store::BlobTask& task, const std::string& path) {
  core.store.wanted().erase(task);
  core.emit(Event{.whenNs = 0, .type = "real", .arena = "", .path = path, .peer = "", .detail = ""});
  if (!core.store.problems().count()) return;
  core.store.problems().eraseKind("no-space");
  if (!path.empty()) core.store.problems().erase(path, "not-placed");
}

/// What of the batch needs only a name; the others are added to `others`.
void Transfers::State::prepareNew(PlacingGroup& group, std::vector<WantedItem>& others) {
  std::shared_ptr<PlacingFolder> folder;
  auto root = core.folder->root();
  auto temp = root ? root->openDirectory(kTempFolder) : Result<std::unique_ptr<Directory>>(Error{Code::Suspended, ""});
  if (temp.ok()) group.files.temp = std::move(*temp);
  auto& items = group.batch->items;
  for (size_t i = 0; i < items.size(); ++i) {
    auto& item = items[i];
    if (!group.batch->synced.ok() && item.written.ok()) item.written = group.batch->synced.error();
    const Plan* plan = group.files.temp && item.written.ok() ? planOf(item) : nullptr;
    auto place = plan ? core.folder->placeForNew(*plan, item.node, *item.written, folder) : nullptr;
    if (!place) {
      others.push_back(std::move(item));
      continue;
    }
    folder = place;
    group.items.push_back(i);
    group.files.files.push_back({*plan, item.node, std::string(baseName(item.tempPath)), *item.written, std::move(place)});
  }
}

/// Within a transaction: rows for what came to its place, as if that had been done before what happened to its entry
/// meanwhile. Returns what did not.
std::vector<WantedItem> Transfers::State::noteNew(PlacingGroup& group) {
  std::vector<WantedItem> left;
  for (size_t i = 0; i < group.items.size(); ++i) {
    auto& file = group.files.files[i];
    auto& item = group.batch->items[group.items[i]];
    if (!file.put.ok()) {
      // Somebody may have made a file of that name, and what the watch told of it was left out.
      if (file.expected) core.folder->hintDirectory(file.folder->node);
      left.push_back(std::move(item));
      continue;
    }
    const Plan* plan = planOf(item);
    const bool asPlanned = plan && *plan == file.plan;
    if ((!asPlanned && core.store.idOf(item.node) != item.entry) || core.store.disk().peek(item.node)) {
      core.folder->hintDirectory(file.folder->node);
      continue;
    }
    core.folder->noteNew(file);
    isReal({item.node, item.blob, item.sizeBytes}, joinPath(file.folder->shown, file.plan.name));
    if (asPlanned) {
      plans.erase(item.entry);
      continue;
    }
    core.marks->entryChanged(item.entry);
    core.folder->entryChanged(item.entry);
  }
  return left;
}

/// What was wanted and is more than a new name, or never came.
void Transfers::State::placeOthers(std::vector<WantedItem>& items) {
  auto root = core.folder->root();
  std::vector<Folder::Placing> files;
  for (auto& item : items) {
    inFlight.erase({item.node, item.blob});
    if (!item.written.ok()) continue;
    if (auto head = headToPlace(item.node, item.blob)) files.push_back({head->first, head->second, *item.written, true, item.node});
  }
  // What is not needed any more, or was never made. It goes when all is said: what is there then is known not to be placed.
  std::vector<std::string> left;
  bool notedLeft = false;
  const bool done = (files.empty() || core.folder->notePlacing(files)) && core.transact([&] {
    for (auto& item : items) {
      if (item.written.ok()) {
        auto settled = settle(item.node, item.blob, item.sizeBytes, item.tempPath, &*item.written);
        if (settled.ok() && *settled) continue;
        if (!settled.ok()) settleFailed(item.node, item.blob, settled.error());
      } else if (item.written.code() != Code::Unreachable && item.written.code() != Code::Corrupt) {
        settleFailed(item.node, item.blob, item.written.error());
      }
      lookAgainAtWanted();
      left.push_back(item.tempPath);
      notedLeft = notedLeft || item.written.ok();
    }
    if (!files.empty()) core.folder->placingDone();
  });
  if (!root || !done || (notedLeft && !core.makeDurable())) return;
  for (const auto& temp : left) (void)root->unlink(temp).ok();
}

void Transfers::afterPlacing(std::function<void()> job) {
  if (s_->placing.empty()) return job();
  s_->afterPlacing.push_back(std::move(job));
}

void Transfers::finishPlacing() {
  auto& s = *s_;
  if (s.placing.empty()) return;
  const auto groups = std::exchange(s.placing, {});
  for (const auto& group : groups) {
    s.letGo(*group);
    group->files.cancelled = true;
    std::lock_guard ended(group->files.mutex);
  }
  s.post([&s] {
    s.runAfterPlacing();
    s.placeMore();
  });
  auto rest = std::make_shared<WantedBatch>();
  // If the database fails, all is as after a crash: Folder::notePlacingNew().
  const bool noted = s.core.transact([&] {
    for (const auto& group : groups)
      for (auto& item : s.noteNew(*group)) rest->items.push_back(std::move(item));
    s.notePlacing({});
  });
  if (!noted || rest->items.empty()) return;
  ++s.smallBatches;
  for (const auto& item : rest->items) s.inFlight.insert({item.node, item.blob});
  s.arrived.push_front(std::move(rest));
}

std::optional<std::pair<EntryId, Dot>> Transfers::State::headToPlace(NodeId node, const BlobId& blob) {
  auto id = core.store.idOf(node);
  const logic::Record* record = id ? core.tree.peek(*id) : nullptr;
  if (!record || !record->shown) return std::nullopt;
  const auto shown = core.shownVersion(*record);
  if (!shown || shown->second.blob != blob) return std::nullopt;
  for (const auto& head : core.tree.shownHeads(*id))
    if (head.version.blob == blob) return {{*id, head.dot}};
  return std::nullopt;
}

Result<bool> Transfers::State::settle(NodeId node, const BlobId& blob, uint64_t sizeBytes, const std::string& tempPath,
                                       const FileStat* known) {
  auto id = core.store.idOf(node);
  const logic::Record* record = id ? core.tree.peek(*id) : nullptr;
  bool moved = false, placed = false;
  if (!record || !record->shown) return moved;  // Removed meanwhile; Marks has dropped the wish or will.
  const auto shown = core.shownVersion(*record);
  const auto heads = core.tree.shownHeads(*id);
  for (const auto& head : heads) {
    if (head.version.blob != blob) continue;
    if (shown && shown->second.blob == blob) {
      REALIZE_TRY(core.folder->place(*id, head.dot, tempPath, known));
      moved = placed = true;
      const auto path = core.shownPath(*id);
      isReal({node, blob, sizeBytes}, path.ok() ? *path : "");
    } else if (tempPath != cachePath(blob)) {
      auto root = core.folder->root();
      if (!root) return Error{Code::Suspended, core.suspendedWhy};
      REALIZE_TRY(root->rename(tempPath, cachePath(blob), RenameKind::Replace));
      moved = true;
      core.transfers->adopt({{blob, sizeBytes}});
      core.transfers->pin(blob, {*id});
    } else {
      core.transfers->pin(blob, {*id});
    }
    break;
  }
  core.conflictPolicy->bytesCame(*id);
  // What it was shown for may have been that it lacked them.
  if (core.marks->entryChanged(*id) && !placed) core.folder->entryChanged(*id);
  return moved;
}

}  // namespace realize::peer
