#include "librealize/peer/marks.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "librealize/logic/tree_merge.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {
constexpr size_t kWalkSlice = 500;
constexpr size_t kPromiseBatch = 64;
constexpr int64_t kRetryMs = 2000;
constexpr int64_t kRetryMostMs = 60'000;
constexpr int64_t kNsPerMs = 1'000'000;
}  // namespace

struct Marks::State {
  explicit State(Core& core) : core(core) { load(); }

  Core& core;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  std::unordered_map<NodeId, Mark> marks;  // few; the table's content
  std::deque<EntryId> walk;                // directories whose children are still to be reconsidered
  bool walking = false;
  std::map<BlobId, int64_t> promises;      // given by us: monotonic ns until when; in the database, too
  bool dropping = false;                   // a round of unrealizing is under way
  bool dropAgain = false;
  bool askedAll = false;                   // in a round that has ended, since there was last reason to ask
  int64_t retryMs = kRetryMs;              // doubled while nothing comes of it
  uint64_t retries = 0;                    // only the last that was scheduled counts
  bool droppedSome = false;                // in this round

  void load();
  void walkSlice();
  void dropRound(store::BlobTask after);
  void askNext(std::shared_ptr<std::vector<store::BlobTask>> tasks, std::vector<PeerKey> peers);
  bool drop(const store::BlobTask& task, std::vector<std::pair<BlobId, uint64_t>>& moved);
  struct Kept {
    std::string path;
    store::DiskRow row;
  };
  std::optional<Kept> kept(const EntryContent& asked);
  static std::vector<bool> syncAll(Directory& root, const std::vector<std::pair<size_t, Kept>>& files);
  void hold(const BlobId& blob);
  void prunePromises();
  bool promised(const BlobId& blob);
  void endRound(bool anyLeft);
  void startRound();
  void retryIn(int64_t ms);
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
  s_->askedAll = false;
  s_->core.exchange->tellAgain();  // Who waits for somebody to keep what he lets go may ask us now.
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
  // When they were given is not known any more: at the latest now.
  for (const auto& task : core.store.promised().next({}, SIZE_MAX >> 1)) hold(task.blob);
}

/// Contents and names are on the disk when this says so. Thread: pool.
std::vector<bool> Marks::State::syncAll(Directory& root, const std::vector<std::pair<size_t, Kept>>& files) {
  constexpr size_t kOneByOne = 4;
  std::vector<bool> out(files.size(), false);
  if (files.size() > kOneByOne) {
    if (root.syncAll().ok()) out.assign(files.size(), true);
    return out;
  }
  std::set<std::string> folders;
  for (size_t i = 0; i < files.size(); ++i) {
    const auto& kept = files[i].second;
    auto file = openUnchanged(root, kept.path, kept.row);
    out[i] = file.ok() && syncWithNames(root, **file, kept.path, folders).ok();
  }
  return out;
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
  core.transfers->touched(id);
  bool inFolder = true;
  std::vector<Wish> wish;
  std::optional<store::BlobTask> unconfirmed;
  if (record->shown && record->entry.kind == EntryKind::File) {
    const Mark mark = effective(*record);
    const auto shown = core.shownVersion(*record);
    const auto heads = core.tree.shownHeads(id);
    core.transfers->claimPins(id, heads);
    const auto row = core.store.disk().get(node);
    inFolder = row.has_value();
    auto onDisk = [&](const Version& version) {
      return row && row->blob == version.blob && row->sizeBytes == version.sizeBytes;
    };
    auto wishFor = [&](const Version& version) {
      wish.push_back({{node, version.blob, version.sizeBytes}, id, {{version.mode, version.mtimeNs}}});
    };
    if (mark == Mark::Real) {
      for (const auto& head : heads) {
        const bool isShown = shown && head.version.sameContent(shown->second);
        if (onDisk(head.version)) continue;
        if (!isShown && core.transfers->cachedForGood(head.version.blob)) {
          core.transfers->pin(head.version.blob, {id});  // Also what was there for another reason.
          continue;
        }
        wishFor(head.version);
      }
    } else if (row && shown && !onDisk(shown->second) && !row->dirty && mark == Mark::None) {
      wishFor(shown->second);  // Real stays Real, with the newest bytes.
    }
    if (wish.size() == 1 && !row && record->entry.heads.size() == 1 && heads.front().version.target.isZero()) {
      const auto& version = heads.front().version;
      core.transfers->plan({id, heads.front().dot, version.blob, version.mode, version.mtimeNs, record->shownParent,
                            record->shownName, Core::baseOf(record->entry, &heads.front())});
    }
    if (wish.empty() && !row && logic::allLetGo(record->entry)) core.folder->lastResort(id);
    if (mark == Mark::Unreal && row && !row->blob.isZero()) unconfirmed = store::BlobTask{node, row->blob, row->sizeBytes};
  }
  auto& wanted = core.store.wanted();
  if (wish.empty()) wanted.eraseNode(node);
  const auto before = wish.empty() ? std::vector<store::BlobTask>() : wanted.ofNode(node);
  for (const auto& task : before)
    if (std::none_of(wish.begin(), wish.end(), [&](const auto& w) { return w.task == task; })) wanted.erase(node, task.blob);
  for (const auto& w : wish) {
    if (std::find(before.begin(), before.end(), w.task) != before.end()) continue;
    wanted.put(w.task);
    core.transfers->wanted(w);
  }
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
  const uint64_t queued = s_->core.store.wanted().toTell().count;
  return queued == 0 && s_->walking ? 1 : queued;
}
uint64_t Marks::missingBytes() { return s_->core.store.wanted().toTell().bytes; }
uint64_t Marks::unconfirmedFiles() { return s_->core.store.unconfirmed().totals().count; }
uint64_t Marks::unconfirmedBytes() { return s_->core.store.unconfirmed().totals().bytes; }

bool Marks::keepsReal(const logic::Record& record) {
  auto& core = s_->core;
  if (!record.shown || effective(record) != Mark::Real || core.suspended) return false;
  const auto row = core.store.disk().get(record.node);
  return row && !row->dirty && !row->blob.isZero() && !core.store.wanted().hasNode(record.node);
}

/// The entry's file, if it is here as it should be.
std::optional<Marks::State::Kept> Marks::State::kept(const EntryContent& asked) {
  auto record = core.tree.get(asked.entry);
  if (!record || record->entry.kind != EntryKind::File || !core.marks->keepsReal(*record)) return std::nullopt;
  auto row = core.store.disk().get(record->node);
  if (!row || row->dirty || row->blob != asked.blob || core.store.unsynced().has(row->node)) return std::nullopt;
  auto root = core.folder->root();
  auto path = core.folder->diskPath(row->node);
  if (!root || !path) return std::nullopt;
  auto stat = root->stat(*path);
  if (!stat.ok() || !row->matches(*stat)) return std::nullopt;
  return Kept{*path, *row};
}

void Marks::promise(const std::vector<EntryContent>& asked, std::function<void(Result<std::vector<bool>>)> done) {
  auto& core = s_->core;
  auto root = core.folder->root();
  auto files = std::make_shared<std::vector<std::pair<size_t, State::Kept>>>();
  for (size_t i = 0; root && i < asked.size(); ++i)
    if (auto file = s_->kept(asked[i])) files->emplace_back(i, std::move(*file));
  if (files->empty()) return done(std::vector<bool>(asked.size(), false));
  s_->prunePromises();
  for (const auto& [i, file] : *files) s_->hold(asked[i].blob);
  // The user wrote the file, and nobody may have brought it to the disk.
  core.env.scheduler.onPool(false, [s = s_.get(), alive = s_->alive, asked, files, root, done, &scheduler = core.env.scheduler] {
    auto synced = std::make_shared<std::vector<bool>>(State::syncAll(*root, *files));
    scheduler.onCore([s, alive, asked, files, synced, done] {
      if (!*alive) return done(Error{Code::Suspended, "the arena was left"});
      std::vector<bool> out(asked.size(), false);
      const bool noted = s->core.transact([&] {
        for (size_t at = 0; at < files->size(); ++at) {
          const auto& [i, file] = (*files)[at];
          if (!(*synced)[at] || !s->kept(asked[i])) continue;
          s->hold(asked[i].blob);
          s->core.store.promised().put({file.row.node, asked[i].blob, 0});
          out[i] = true;
        }
      });
      if (!noted) return done(Error{Code::Suspended, s->core.suspendedWhy});
      auto durable = store::catching([&] { s->core.store.makeDurable(); });
      if (!durable.ok()) return done(durable.error());
      done(std::move(out));
    });
  });
}

void Marks::State::hold(const BlobId& blob) { promises[blob] = core.env.clock.monotonicNs() + kPromiseMs * kNsPerMs; }

void Marks::State::prunePromises() {
  const int64_t now = core.env.clock.monotonicNs();
  std::vector<BlobId> over;
  for (const auto& [blob, until] : promises)
    if (until < now) over.push_back(blob);
  if (over.empty()) return;
  core.transact([&] {
    for (const auto& blob : over)
      for (const auto& task : core.store.promised().ofBlob(blob)) core.store.promised().erase(task.node, blob);
  });
  for (const auto& blob : over) promises.erase(blob);
}

bool Marks::State::promised(const BlobId& blob) {
  auto promise = promises.find(blob);
  return promise != promises.end() && promise->second >= core.env.clock.monotonicNs();
}

void Marks::wakeUnrealize() {
  s_->retryMs = kRetryMs;
  s_->startRound();
}

void Marks::State::startRound() {
  if (dropping) {
    dropAgain = true;
    return;
  }
  if (core.stopping) return;
  dropping = true;
  droppedSome = false;
  core.env.scheduler.onCore([this, alive = alive] {
    if (*alive) dropRound({});
  });
}

void Marks::peerTold() {
  if (s_->core.store.unconfirmed().totals().count == 0 || s_->retryMs == kRetryMs) return;  // It is tried soon as it is.
  s_->retryMs = kRetryMs;
  if (!s_->dropping) s_->retryIn(kRetryMs);
}

void Marks::State::retryIn(int64_t ms) {
  core.env.scheduler.onCoreAfter(ms, [this, alive = alive, number = ++retries] {
    if (*alive && number == retries) startRound();
  });
}

bool Marks::lettingGo() const { return s_->walking || s_->dropping; }

std::string Marks::whyReal(const logic::Record& record) {
  auto& core = s_->core;
  if (record.entry.kind != EntryKind::File || !core.store.unconfirmed().hasNode(record.node)) return "";
  const auto row = core.store.disk().get(record.node);
  if (!row) return "";
  if (core.exchange->remotes().empty()) return "no other peer is connected that could keep it";
  if (row->dirty || core.store.unsynced().has(record.node)) return "it was changed or put here a moment ago";
  if (s_->promised(row->blob)) return "another peer was promised, within the last minute, that it is kept here";
  const auto path = core.folder->diskPath(record.node);
  auto root = core.folder->root();
  auto file = root && path ? root->open(*path, OpenMode::Read) : Result<std::unique_ptr<DiskFile>>(Error{Code::NotFound, ""});
  auto quiet = file.ok() ? (*file)->nobodyWrites() : Result<bool>(true);
  if (quiet.ok() && !*quiet) return "somebody has it open for writing";
  if (!s_->askedAll) return "other peers are being asked to keep it";
  return "no other connected peer promises to keep it";
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
  std::vector<EntryContent> contents;
  std::vector<store::BlobTask> asked;
  for (const auto& task : *tasks) {
    if (!core.store.unconfirmed().has(task.node, task.blob) || promised(task.blob)) continue;
    if (core.store.unsynced().has(task.node)) continue;  // A cache is trusted: only what is on the disk goes there.
    const auto id = core.store.idOf(task.node);
    if (!id) continue;
    contents.push_back({*id, task.blob});
    asked.push_back(task);
  }
  if (!remote || contents.empty()) {
    core.env.scheduler.onCore([this, alive = alive, last] {
      if (*alive) dropRound(last);
    });
    return;
  }
  const int64_t askedNs = core.env.clock.monotonicNs();
  remote->promise(contents, [this, alive = alive, tasks, peers, asked, askedNs](Result<std::vector<bool>> promises) {
    if (!*alive) return;
    // It counts from when it was given, which may be as long ago as it was asked for.
    const bool fresh = core.env.clock.monotonicNs() - askedNs < kPromiseMs / 2 * kNsPerMs;
    if (promises.ok() && fresh) {
      // Known on disk before a file leaves: a crash in between must not look like a removal by the user.
      const bool noted = core.transact([&] {
        for (size_t i = 0; i < asked.size(); ++i)
          if ((*promises)[i]) core.folder->noteLeaving(asked[i].node);
      });
      if (!noted) return;
      core.store.makeDurable();
      core.transact([&] {
        std::vector<std::pair<BlobId, uint64_t>> moved;
        for (size_t i = 0; i < asked.size(); ++i) {
          if (!(*promises)[i]) continue;
          const bool gone = !promised(asked[i].blob) && drop(asked[i], moved);  // We may have promised it meanwhile.
          if (!gone) core.folder->noteOnDisk(asked[i].node);
        }
        core.transfers->adopt(moved);
      });
    }
    askNext(tasks, peers);
  });
}

/// Another peer keeps these bytes real: ours go to the cache. False: they stay.
bool Marks::State::drop(const store::BlobTask& task, std::vector<std::pair<BlobId, uint64_t>>& moved) {
  auto id = core.store.idOf(task.node);
  auto record = id ? core.tree.get(*id) : std::nullopt;
  auto row = core.store.disk().get(task.node);
  if (!record || !row || row->blob != task.blob || row->dirty) {
    core.store.unconfirmed().erase(task.node, task.blob);
    return false;
  }
  if (core.marks->effective(*record) != Mark::Unreal) {
    core.store.unconfirmed().eraseNode(task.node);
    return false;
  }
  auto root = core.folder->root();
  if (!root) return false;
  // Nor is a file that has another name, too, or whose place in the cache is taken: what is in the cache changes for nobody.
  auto path_ = core.folder->diskPath(task.node);
  auto stat = path_ ? root->stat(*path_) : Result<FileStat>(Error{Code::NotFound, ""});
  if (!stat.ok()) return false;
  const bool cached = core.store.cache().get(task.blob).has_value() || stat->links > 1 ||
                      root->stat(Transfers::cachePath(task.blob)).ok();
  if (!core.folder->displace(*id, cached ? "" : Transfers::cachePath(task.blob)).ok()) return false;  // Busy: the next round tries again.
  core.store.unconfirmed().eraseNode(task.node);
  droppedSome = true;
  if (!cached) moved.emplace_back(task.blob, task.sizeBytes);
  core.invalidations->nodeChanged(task.node, false);
  auto path = core.shownPath(*id);
  core.emit(Event{.whenNs = 0, .type = "unreal", .arena = "", .path = path.ok() ? *path : "", .peer = "", .detail = ""});
  return true;
}

void Marks::State::endRound(bool anyLeft) {
  dropping = false;
  if (dropAgain) {
    dropAgain = false;
    return startRound();
  }
  askedAll = true;
  if (!anyLeft) return;
  if (droppedSome) retryMs = kRetryMs;
  retryIn(retryMs);
  retryMs = std::min(2 * retryMs, kRetryMostMs);
}

}  // namespace realize::peer
