#include "librealize/peer/marks.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr size_t kWalkSlice = 500;
constexpr size_t kPromiseBatch = 64;
constexpr int64_t kRetryMs = 2000;
constexpr int64_t kNsPerMs = 1'000'000;
}  // namespace

struct Marks::State {
  explicit State(Core& core) : core(core) { load(); }

  Core& core;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  std::unordered_map<NodeId, Mark> marks;  // few; the table's content
  std::deque<EntryId> walk;                // directories whose children are still to be reconsidered
  bool walking = false;
  std::map<BlobId, int64_t> promises;      // monotonic ns until when
  bool dropping = false;                   // a round of unrealizing is under way
  bool dropAgain = false;
  bool retryScheduled = false;

  void load();
  void walkSlice();
  void dropRound(store::BlobTask after);
  void askNext(std::shared_ptr<std::vector<store::BlobTask>> tasks, std::vector<PeerKey> peers);
  void drop(const store::BlobTask& task, std::vector<std::pair<BlobId, uint64_t>>& moved);
  bool promised(const BlobId& blob);
  void endRound(bool anyLeft);
};

Marks::Marks(Core& core) : s_(std::make_unique<State>(core)) {}
Marks::~Marks() { *s_->alive = false; }

Mark Marks::own(NodeId node) {
  auto it = s_->marks.find(node);
  return it == s_->marks.end() ? Mark::None : it->second;
}

Mark Marks::effective(const logic::Record& record) {
  if (s_->marks.empty()) return Mark::None;
  if (Mark mark = own(record.node); mark != Mark::None) return mark;
  if (s_->marks.size() == 1 && s_->marks.contains(kRootNode)) return s_->marks[kRootNode];
  EntryId at = record.entry.id == kRootEntry ? kRootEntry : record.shownParent;
  while (at != kRootEntry) {
    const logic::Record* above = s_->core.tree.peek(at);
    if (!above) break;
    if (Mark mark = own(above->node); mark != Mark::None) return mark;
    at = above->shownParent;
  }
  return own(kRootNode);
}

void Marks::set(const logic::Record& record, Mark mark) {
  s_->core.transact([&] { s_->core.store.marks().set(record.node, mark); });
  if (mark == Mark::None) s_->marks.erase(record.node);
  else s_->marks[record.node] = mark;
  s_->core.transact([&] {
    if (record.entry.id != kRootEntry) entryChanged(record.entry.id);
    s_->core.folder->entryChanged(record.entry.id);
  });
  if (record.entry.kind != EntryKind::Directory) return;
  s_->walk.push_back(record.entry.id);
  if (!s_->walking) {
    s_->walking = true;
    s_->walkSlice();
  }
}

void Marks::State::load() {
  marks.clear();
  for (const auto& [node, mark] : core.store.marks().all()) marks[node] = mark;
}

void Marks::resumed() {
  s_->load();
  s_->walking = false;
  s_->dropping = s_->dropAgain = false;
  recheckAll();
  wakeUnrealize();
}

void Marks::recheckAll() {
  s_->walk.push_back(kRootEntry);
  if (s_->walking) return;
  s_->walking = true;
  s_->walkSlice();
}

void Marks::directoryMoved(const EntryId& id) {
  // Where only the root is marked, all places are alike.
  if (s_->marks.empty() || (s_->marks.size() == 1 && s_->marks.contains(kRootNode))) return;
  s_->walk.push_back(id);
  if (s_->walking) return;
  s_->walking = true;
  s_->core.env.scheduler.onCore([s = s_.get(), alive = s_->alive] {
    if (*alive) s->walkSlice();
  });
}

void Marks::State::walkSlice() {
  if (core.stopping) return;
  core.transact([&] {
    size_t seen = 0;
    while (!walk.empty() && seen < kWalkSlice) {
      const EntryId directory = walk.front();
      walk.pop_front();
      std::string after;
      while (true) {
        const auto names = core.tree.children(directory, after, kWalkSlice);
        for (const auto& child : names) {
          if (core.marks->entryChanged(child.id)) core.folder->entryChanged(child.id);
          if (child.kind == EntryKind::Directory) walk.push_back(child.id);
        }
        seen += names.size();
        if (names.size() < kWalkSlice) break;
        after = names.back().name;
      }
    }
  });
  walking = !walk.empty();
  if (!walking) {
    core.exchange->changed(true);
    core.transfers->wakeWanted();
    return;
  }
  core.env.scheduler.onCore([this, alive = alive] {
    if (*alive) walkSlice();
  });
}

bool Marks::entryChanged(const EntryId& id) {
  auto& core = s_->core;
  const logic::Record* record = core.tree.peek(id);
  if (!record || id == kRootEntry) return true;
  const NodeId node = record->node;
  bool inFolder = true;
  std::vector<store::BlobTask> wish;
  std::optional<store::BlobTask> unconfirmed;
  if (record->shown && record->entry.kind == EntryKind::File) {
    const Mark mark = effective(*record);
    const auto shown = core.shownVersion(*record);
    const auto heads = core.tree.shownHeads(id);
    const auto row = core.store.disk().get(node);
    inFolder = row.has_value();
    auto onDisk = [&](const Version& version) {
      return row && row->blob == version.blob && row->sizeBytes == version.sizeBytes;
    };
    if (mark == Mark::Real) {
      for (const auto& head : heads) {
        const bool isShown = shown && head.version.sameContent(shown->second);
        if (onDisk(head.version) || (!isShown && core.transfers->complete(head.version.blob))) continue;
        wish.push_back({node, head.version.blob, head.version.sizeBytes});
      }
    } else if (row && shown && !onDisk(shown->second) && !row->dirty && mark == Mark::None) {
      wish.push_back({node, shown->second.blob, shown->second.sizeBytes});  // Real stays Real, with the newest bytes.
    }
    if (mark == Mark::Unreal && row && !row->blob.isZero()) unconfirmed = store::BlobTask{node, row->blob, row->sizeBytes};
  }
  auto& wanted = core.store.wanted();
  bool woken = false;
  if (wish.empty()) wanted.eraseNode(node);
  const auto before = wish.empty() ? std::vector<store::BlobTask>() : wanted.ofNode(node);
  for (const auto& task : before)
    if (std::find(wish.begin(), wish.end(), task) == wish.end()) wanted.erase(node, task.blob);
  for (const auto& task : wish) {
    if (std::find(before.begin(), before.end(), task) != before.end()) continue;
    wanted.put(task);
    woken = true;
  }
  if (woken) core.transfers->wakeWanted();
  const auto kept = core.store.unconfirmed().ofNode(node);
  const bool same = unconfirmed ? kept.size() == 1 && kept.front() == *unconfirmed : kept.empty();
  if (same) return inFolder;
  core.store.unconfirmed().eraseNode(node);
  if (!unconfirmed) return inFolder;
  core.store.unconfirmed().put(*unconfirmed);
  wakeUnrealize();
  return inFolder;
}

uint64_t Marks::missingFiles() {
  const uint64_t queued = s_->core.store.wanted().totals().count;
  return queued == 0 && s_->walking ? 1 : queued;
}
uint64_t Marks::missingBytes() { return s_->core.store.wanted().totals().bytes; }
uint64_t Marks::unconfirmedFiles() { return s_->core.store.unconfirmed().totals().count; }
uint64_t Marks::unconfirmedBytes() { return s_->core.store.unconfirmed().totals().bytes; }

bool Marks::keepsReal(const logic::Record& record) {
  auto& core = s_->core;
  if (!record.shown || effective(record) != Mark::Real || core.suspended) return false;
  const auto row = core.store.disk().get(record.node);
  return row && !row->dirty && !row->blob.isZero() && !core.store.wanted().hasNode(record.node);
}

bool Marks::promise(const PeerKey&, const BlobId& blob) {
  auto& core = s_->core;
  for (const auto& row : core.store.disk().withBlob(blob, 16)) {
    auto id = core.store.idOf(row.node);
    auto record = id ? core.tree.get(*id) : std::nullopt;
    if (!record || row.dirty || !keepsReal(*record)) continue;
    if (core.store.unsynced().has(row.node)) continue;  // It could still go with the power.
    auto root = core.folder->root();
    auto path = core.folder->diskPath(row.node);
    if (!root || !path) continue;
    auto stat = root->stat(*path);
    if (!stat.ok() || !row.matches(*stat)) continue;
    s_->promises[blob] = core.env.clock.monotonicNs() + kPromiseMs * kNsPerMs;
    return true;
  }
  return false;
}

bool Marks::State::promised(const BlobId& blob) {
  const int64_t now = core.env.clock.monotonicNs();
  std::erase_if(promises, [&](const auto& promise) { return promise.second < now; });
  return promises.contains(blob);
}

void Marks::wakeUnrealize() {
  if (s_->dropping) {
    s_->dropAgain = true;
    return;
  }
  if (s_->core.stopping) return;
  s_->dropping = true;
  s_->core.env.scheduler.onCore([s = s_.get(), alive = s_->alive] {
    if (*alive) s->dropRound({});
  });
}

/// Goes once through what is marked unreal and still Real, asking one connected peer after the other to keep it.
void Marks::State::dropRound(store::BlobTask after) {
  const auto next = core.store.unconfirmed().next(after, kPromiseBatch);
  const auto remotes = core.exchange->remotes();
  if (next.empty() || remotes.empty() || core.suspended || core.stopping)
    return endRound(!remotes.empty() && core.store.unconfirmed().totals().count > 0);
  std::vector<PeerKey> peers;
  for (auto* remote : remotes) peers.push_back(remote->key());
  askNext(std::make_shared<std::vector<store::BlobTask>>(next), peers);
}

void Marks::State::askNext(std::shared_ptr<std::vector<store::BlobTask>> tasks, std::vector<PeerKey> peers) {
  RemoteArena* remote = nullptr;
  while (!peers.empty() && !remote) {
    for (auto* candidate : core.exchange->remotes())
      if (candidate->key() == peers.back()) remote = candidate;
    peers.pop_back();
  }
  const store::BlobTask last = tasks->back();
  std::vector<BlobId> blobs;
  std::vector<store::BlobTask> asked;
  for (const auto& task : *tasks) {
    if (!core.store.unconfirmed().has(task.node, task.blob) || promised(task.blob)) continue;
    if (core.store.unsynced().has(task.node)) continue;  // A cache is trusted: only what is on the disk goes there.
    blobs.push_back(task.blob);
    asked.push_back(task);
  }
  if (!remote || blobs.empty()) {
    core.env.scheduler.onCore([this, alive = alive, last] {
      if (*alive) dropRound(last);
    });
    return;
  }
  remote->promise(blobs, [this, alive = alive, tasks, peers, asked](Result<std::vector<bool>> promises) {
    if (!*alive) return;
    if (promises.ok()) {
      // Known on disk before a file leaves: a crash in between must not look like a removal by the user.
      const bool noted = core.transact([&] {
        for (size_t i = 0; i < asked.size(); ++i)
          if ((*promises)[i]) core.folder->noteLeaving(asked[i].node);
      });
      if (!noted) return;
      core.store.makeDurable();
      core.transact([&] {
        std::vector<std::pair<BlobId, uint64_t>> moved;
        for (size_t i = 0; i < asked.size(); ++i)
          if ((*promises)[i]) drop(asked[i], moved);
        core.transfers->adopt(moved);
      });
    }
    askNext(tasks, peers);
  });
}

/// Another peer keeps these bytes real: ours go to the cache.
void Marks::State::drop(const store::BlobTask& task, std::vector<std::pair<BlobId, uint64_t>>& moved) {
  auto id = core.store.idOf(task.node);
  auto record = id ? core.tree.get(*id) : std::nullopt;
  auto row = core.store.disk().get(task.node);
  if (!record || !row || row->blob != task.blob || row->dirty) return core.store.unconfirmed().erase(task.node, task.blob);
  if (core.marks->effective(*record) != Mark::Unreal) return core.store.unconfirmed().eraseNode(task.node);
  auto root = core.folder->root();
  if (!root) return;
  // Nor is a file that has another name, too, or whose place in the cache is taken: what is in the cache changes for nobody.
  auto path_ = core.folder->diskPath(task.node);
  auto stat = path_ ? root->stat(*path_) : Result<FileStat>(Error{Code::NotFound, ""});
  if (!stat.ok()) return;
  const bool cached = core.store.cache().get(task.blob).has_value() || stat->links > 1 ||
                      root->stat(Transfers::cachePath(task.blob)).ok();
  if (!core.folder->displace(*id, cached ? "" : Transfers::cachePath(task.blob)).ok()) return;  // Busy: the next round tries again.
  core.store.unconfirmed().eraseNode(task.node);
  if (!cached) moved.emplace_back(task.blob, task.sizeBytes);
  core.invalidations->nodeChanged(task.node, false);
  auto path = core.shownPath(*id);
  core.emit(Event{.whenNs = 0, .type = "unreal", .arena = "", .path = path.ok() ? *path : "", .peer = "", .detail = ""});
}

void Marks::State::endRound(bool anyLeft) {
  dropping = false;
  if (dropAgain) {
    dropAgain = false;
    return core.marks->wakeUnrealize();
  }
  if (!anyLeft || retryScheduled) return;
  retryScheduled = true;
  core.env.scheduler.onCoreAfter(kRetryMs, [this, alive = alive] {
    if (!*alive) return;
    retryScheduled = false;
    core.marks->wakeUnrealize();
  });
}

}  // namespace realize::peer
