#include "librealize/peer/marks.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "librealize/base/fault.h"
#include "librealize/logic/tree_merge.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/keep_locks.h"
#include "librealize/peer/sync_names.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {
constexpr size_t kWalkSlice = 500;
constexpr size_t kPromiseBatch = 64;
constexpr int64_t kRetryMs = 2000;
constexpr int64_t kRetryMostMs = 60'000;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr size_t kMaxRefusals = 4096;

const char* textOf(KeepAnswer answer) {
  switch (answer) {
    case KeepAnswer::Refused: return "does not promise to keep it";
    case KeepAnswer::Promised: return "keeps it";
    case KeepAnswer::NotReal: return "has it not marked real";
    case KeepAnswer::Incomplete: return "has not all its bytes yet";
    case KeepAnswer::OtherVersion: return "has another version";
    case KeepAnswer::Changing: return "got or changed it a moment ago";
    case KeepAnswer::Suspended: return "is suspended";
  }
  return "";
}
}  // namespace

struct Marks::State {
  explicit State(Core& core) : core(core), locks(core) { load(); }

  Core& core;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  std::unordered_map<NodeId, Mark> marks;  // few; the table's content
  std::deque<EntryId> walk;                // directories whose children are still to be reconsidered
  bool walking = false;
  KeepLocks locks;                         // what others were promised
  bool dropping = false;                   // a round of unrealizing is under way
  bool dropAgain = false;
  bool askedAll = false;                   // in a round that has ended, since there was last reason to ask
  int64_t retryMs = kRetryMs;              // doubled while nothing comes of it
  uint64_t retries = 0;                    // only the last that was scheduled counts
  bool droppedSome = false;                // in this round

  void load();
  void walkSlice();
  void dropRound(store::BlobTask after);
  /// Some files that are to become unreal, and what the peers say that are asked one after the other.
  struct Round {
    struct Given {
      PeerKey peer;
      EntryContent content;
      int64_t askedNs = 0;
    };
    std::vector<store::BlobTask> tasks;
    std::vector<PeerKey> peers;  ///< still to be asked
    uint32_t needed = 1;         ///< copies elsewhere
    std::map<NodeId, std::vector<Given>> given;
  };
  void askNext(std::shared_ptr<Round> round);
  void onAnswers(Round& round, const PeerKey& peer, const std::vector<store::BlobTask>& asked,
                 const std::vector<EntryContent>& contents, int64_t askedNs, const KeepAnswers& answers);
  void release(const std::vector<Round::Given>& promises);
  std::map<NodeId, std::map<PeerKey, KeepAnswer>> answered;  // of what is still Real: what was said last
  uint32_t neededLast = 1;
  bool drop(const store::BlobTask& task, std::vector<std::pair<BlobId, uint64_t>>& moved);
  struct Kept {
    std::string path;
    store::DiskRow row;
  };
  Result<Kept> kept(const EntryContent& asked, KeepAnswer& why);
  struct Synced {
    bool all = false;
    bool failed = false;  ///< of its bytes: no later sync will tell that
  };
  static std::vector<Synced> sync(Directory& root, SyncAll& syncAll, const std::vector<std::pair<size_t, Kept>>& files);
  void readAsUnwritten(const store::DiskRow& row);
  bool promised(const BlobId& blob) { return locks.locked(blob); }
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

bool Marks::set(const logic::Record& record, Mark mark) {
  if (!s_->core.transact([&] { s_->core.store.marks().set(record.node, mark); })) return false;
  if (mark == Mark::None) s_->marks.erase(record.node);
  else s_->marks[record.node] = mark;
  s_->core.transact([&] {
    if (record.entry.id != kRootEntry) entryChanged(record.entry.id);
    s_->core.folder->entryChanged(record.entry.id);
  });
  s_->askedAll = false;
  s_->core.exchange->tellAgain();  // Who waits for somebody to keep what he lets go may ask us now.
  if (record.entry.kind != EntryKind::Directory) return true;
  s_->walk.push_back(record.entry.id);
  if (!s_->walking) {
    s_->walking = true;
    s_->walkSlice();
  }
  return true;
}

void Marks::State::load() {
  marks.clear();
  for (const auto& [node, mark] : core.store.marks().all()) marks[node] = mark;
  locks.load();
}

/// Contents and names are on the disk when this says so. Thread: pool.
std::vector<Marks::State::Synced> Marks::State::sync(Directory& root, SyncAll& syncAll, const std::vector<std::pair<size_t, Kept>>& files) {
  constexpr size_t kOneByOne = 4;
  if (files.size() > kOneByOne && syncAll.syncsAnything(root)) return std::vector<Synced>(files.size(), {true, false});
  std::vector<Synced> out(files.size());
  std::set<std::string> folders;
  for (size_t i = 0; i < files.size(); ++i) {
    const auto& kept = files[i].second;
    auto file = openUnchanged(root, kept.path, kept.row);
    if (!file.ok()) continue;
    out[i].failed = !(*file)->sync(true).ok();
    out[i].all = !out[i].failed && syncNamesAbove(root, kept.path, folders).ok();
  }
  return out;
}

/// Read again, it gets a copy that is on the disk.
void Marks::State::readAsUnwritten(const store::DiskRow& row) {
  FileStat file;
  file.inode = row.inode;
  file.birthNs = row.birthNs;
  core.unwritten->note(file);
  (void)core.folder->hintContent(row.node);
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
  const bool walked = core.transact([&] {
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
  walking = walked && !walk.empty();
  if (!walked) return;  // The database fails: all is looked at again once it works.
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
    } else if (row && shown && !onDisk(shown->second) && !row->dirty && (mark == Mark::None || core.lostHere(shown->second))) {
      wishFor(shown->second);  // Real stays Real, with the newest bytes.
    }
    if (wish.size() == 1 && !row && record->entry.heads.size() == 1 && heads.front().version.target.isZero()) {
      const auto& version = heads.front().version;
      core.transfers->plan({id, node, heads.front().dot, version.blob, version.mode, version.mtimeNs, record->shownParent,
                            record->shownName, Core::baseOf(record->entry, &heads.front())});
    }
    const auto letGo = [&] { return !row && (logic::allLetGo(record->entry) || logic::letGoUnknown(record->entry)); };
    const auto lostOne = [&] { return heads.size() > 1 && std::any_of(heads.begin(), heads.end(), [&](const auto& h) { return core.maybeReplacedHere(record->entry, h.version); }); };
    if (wish.empty() && (letGo() || lostOne())) core.folder->lastResort(id);
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
  s_->answered.erase(node);
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

/// The entry's file, if it is here as it should be.
Result<Marks::State::Kept> Marks::State::kept(const EntryContent& asked, KeepAnswer& why) {
  auto no = [&](KeepAnswer answer) {
    why = answer;
    return Error{Code::Refused, textOf(answer)};
  };
  if (core.suspended) return no(KeepAnswer::Suspended);
  auto record = core.tree.get(asked.entry);
  if (!record || record->entry.kind != EntryKind::File || !record->shown) return no(KeepAnswer::OtherVersion);
  if (core.marks->effective(*record) != Mark::Real) return no(KeepAnswer::NotReal);
  auto row = core.store.disk().get(record->node);
  if (!row || row->blob.isZero() || core.store.wanted().hasNode(record->node)) return no(KeepAnswer::Incomplete);
  if (row->blob != asked.blob) return no(KeepAnswer::OtherVersion);
  if (row->dirty || core.store.unsynced().has(row->node)) return no(KeepAnswer::Changing);
  auto root = core.folder->root();
  auto path = core.folder->diskPath(row->node);
  if (!root || !path) return no(KeepAnswer::Changing);
  auto stat = root->stat(*path);
  if (!stat.ok() || !row->matches(*stat)) {
    core.folder->hintDirectory(row->parentNode);  // Nothing may have told of it.
    return no(KeepAnswer::Changing);
  }
  why = KeepAnswer::Promised;
  return Kept{*path, *row};
}

bool Marks::holds(const EntryContent& content) {
  auto& core = s_->core;
  const logic::Record* record = core.tree.peek(content.entry);
  if (core.suspended || !record || !record->shown || effective(*record) == Mark::Unreal) return false;
  const auto* row = core.store.disk().peek(record->node);
  return row && !row->dirty && row->blob == content.blob;
}

void Marks::promise(const PeerKey& from, const std::vector<EntryContent>& asked, std::function<void(Result<KeepAnswers>)> done) {
  auto& core = s_->core;
  auto root = core.folder->root();
  auto files = std::make_shared<std::vector<std::pair<size_t, State::Kept>>>();
  KeepAnswers answers;
  answers.copies = core.settings.copies;
  answers.each.assign(asked.size(), KeepAnswer::Suspended);
  for (size_t i = 0; root && i < asked.size(); ++i)
    if (auto file = s_->kept(asked[i], answers.each[i]); file.ok()) files->emplace_back(i, std::move(*file));
  if (files->empty()) return done(std::move(answers));
  s_->locks.prune();
  for (const auto& [i, file] : *files) s_->locks.take(from, asked[i]);
  // The user wrote the file, and nobody may have brought it to the disk.
  core.env.scheduler.onPool(false, [s = s_.get(), alive = s_->alive, from, asked, files, answers, root, all = core.syncAll, done, &scheduler = core.env.scheduler] {
    auto synced = std::make_shared<std::vector<State::Synced>>(State::sync(*root, *all, *files));
    scheduler.onCore([s, alive, from, asked, files, answers, synced, done] {
      if (!*alive) return done(Error{Code::Suspended, "the arena was left"});
      s->core.unwritten->noteFailures();
      KeepAnswers out = answers;
      const bool noted = s->core.transact([&] {
        for (size_t at = 0; at < files->size(); ++at) {
          const auto& [i, file] = (*files)[at];
          auto still = s->kept(asked[i], out.each[i]);
          if (still.ok() && !(*synced)[at].all) out.each[i] = KeepAnswer::Changing;
          if (still.ok() && (*synced)[at].failed) s->readAsUnwritten(still->row);
          if (out.each[i] != KeepAnswer::Promised) {
            s->locks.release(from, asked[i]);
            continue;
          }
          s->locks.renew(from, asked[i]);
          s->locks.keep(file.row.node, asked[i]);
        }
      });
      if (!noted) return done(Error{Code::Suspended, s->core.suspendedWhy});
      auto durable = store::catching([&] { s->core.store.makeDurable(); });
      if (!durable.ok()) return done(durable.error());
      done(std::move(out));
    });
  });
}

void Marks::released(const PeerKey& from, const std::vector<EntryContent>& promised) {
  s_->core.transact([&] {
    for (const auto& content : promised) s_->locks.release(from, content);
  });
  if (!promised.empty() && s_->core.store.unconfirmed().totals().count) wakeUnrealize();  // It may be what held ours back.
}

bool Marks::promised(const BlobId& blob) { return s_->promised(blob); }
uint64_t Marks::promisedFiles() { return s_->locks.count(); }

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
  if (s_->promised(row->blob)) return "another peer relies on it for now: it was promised, within the last minute, that it is kept here";
  const auto path = core.folder->diskPath(record.node);
  auto root = core.folder->root();
  auto file = root && path ? root->open(*path, OpenMode::Read) : Result<std::unique_ptr<DiskFile>>(Error{Code::NotFound, ""});
  auto quiet = file.ok() ? (*file)->nobodyWrites() : Result<bool>(true);
  if (quiet.ok() ? !*quiet : quiet.code() == Code::PermissionDenied) return "somebody has it open for writing, or it is another user's, so that nobody can tell";
  if (!s_->askedAll) return "other peers are being asked to keep it";
  const auto said = s_->answered.find(record.node);
  if (said == s_->answered.end()) return "no other connected peer promises to keep it";
  std::string each;
  size_t keep = 0;
  for (const auto& [peer, answer] : said->second) {
    keep += answer == KeepAnswer::Promised;
    each += (each.empty() ? "" : ", ") + core.peerName(peer) + " " + textOf(answer);
  }
  if (s_->neededLast > 1)
    return "only " + std::to_string(keep) + " of the " + std::to_string(s_->neededLast) + " other peers that are to keep it do: " + each;
  return "no other connected peer promises to keep it: " + each;
}

/// Goes once through what is marked unreal and still Real, asking one connected peer after the other to keep it.
void Marks::State::dropRound(store::BlobTask after) {
  const auto next = core.store.unconfirmed().next(after, kPromiseBatch);
  const auto remotes = core.exchange->remotes();
  if (next.empty() || remotes.empty() || core.suspended || core.stopping)
    return endRound(!remotes.empty() && core.store.unconfirmed().totals().count > 0);
  auto round = std::make_shared<Round>();
  round->tasks = next;
  for (auto* remote : remotes) round->peers.push_back(remote->key());
  round->needed = std::max<uint32_t>(1, core.settings.copies);
  askNext(round);
}

void Marks::State::askNext(std::shared_ptr<Round> round) {
  RemoteArena* remote = nullptr;
  while (!round->peers.empty() && !remote) {
    remote = core.exchange->remote(round->peers.back());
    round->peers.pop_back();
  }
  std::vector<EntryContent> contents;
  std::vector<store::BlobTask> asked;
  for (const auto& task : round->tasks) {
    if (!core.store.unconfirmed().has(task.node, task.blob) || promised(task.blob)) continue;
    if (core.store.unsynced().has(task.node)) continue;  // A cache is trusted: only what is on the disk goes there.
    const auto id = core.store.idOf(task.node);
    if (!id) continue;
    contents.push_back({*id, task.blob});
    asked.push_back(task);
  }
  if (!remote || contents.empty()) {
    // Too few keep these.
    for (const auto& [node, promises] : round->given) release(promises);
    core.env.scheduler.onCore([this, alive = alive, last = round->tasks.back()] {
      if (*alive) dropRound(last);
    });
    return;
  }
  const int64_t askedNs = core.env.clock.elapsedNs();
  remote->promise(contents, [this, alive = alive, round, asked, contents, askedNs, peer = remote->key()](Result<KeepAnswers> answers) {
    if (!*alive) return;
    const bool counts = answers.ok() && answers->each.size() == asked.size() && !faulty(Fault::EvictUnlocked);
    if (counts) onAnswers(*round, peer, asked, contents, askedNs, *answers);
    askNext(round);
  });
  if (!faulty(Fault::EvictUnlocked)) return;
  KeepAnswers hoped{std::vector<KeepAnswer>(asked.size(), KeepAnswer::Promised), core.settings.copies};
  onAnswers(*round, remote->key(), asked, contents, askedNs, hoped);
}

/// What enough others keep is dropped at once, and they are told so.
void Marks::State::onAnswers(Round& round, const PeerKey& peer, const std::vector<store::BlobTask>& asked,
                             const std::vector<EntryContent>& contents, int64_t askedNs, const KeepAnswers& answers) {
  round.needed = std::max(round.needed, answers.copies);
  neededLast = round.needed;
  std::vector<size_t> ready;
  for (size_t i = 0; i < asked.size(); ++i) {
    auto known = answered.find(asked[i].node);
    if (known == answered.end() && answered.size() < kMaxRefusals) known = answered.emplace(asked[i].node, std::map<PeerKey, KeepAnswer>()).first;
    if (known != answered.end()) known->second[peer] = answers.each[i];
    if (answers.each[i] != KeepAnswer::Promised) continue;
    auto& given = round.given[asked[i].node];
    given.push_back({peer, contents[i], askedNs});
    // It counts from when it was given, which may be as long ago as it was asked for; and while who gave it is a member.
    const int64_t now = core.env.clock.elapsedNs();
    const auto counting = std::count_if(given.begin(), given.end(), [&](const auto& one) {
      const auto member = core.store.members().get(one.peer);
      return now - one.askedNs < kPromiseMs / 2 * kNsPerMs && (!member || member->admitted);
    });
    if (uint64_t(counting) >= round.needed) ready.push_back(i);
  }
  if (ready.empty()) return;
  // Known on disk before a file leaves: a crash in between must not look like a removal by the user. One that has changed
  // meanwhile does not leave, and what its user puts in its place is an edit.
  const bool noted = core.transact([&] {
    for (size_t i : ready)
      if (const auto* row = core.store.disk().peek(asked[i].node); row && row->blob == asked[i].blob && !row->dirty) core.folder->noteLeaving(asked[i].node);
  });
  if (!noted) return;
  core.store.makeDurable();
  std::vector<Round::Given> done;
  bool stayed = false;
  core.transact([&] {
    std::vector<std::pair<BlobId, uint64_t>> moved;
    for (size_t i : ready) {
      const bool gone = !promised(asked[i].blob) && drop(asked[i], moved);  // We may have promised it meanwhile.
      if (!gone) {
        core.folder->noteStayed(asked[i].node);
        stayed = true;
        continue;
      }
      answered.erase(asked[i].node);
      auto given = round.given.extract(asked[i].node);
      done.insert(done.end(), given.mapped().begin(), given.mapped().end());
    }
    core.transfers->adopt(moved, core.folder->mayBeTorn());
  });
  if (stayed) core.store.makeDurable();  // Else what its user puts in its place would pass for another file than one that he saw.
  release(done);
}

void Marks::State::release(const std::vector<Round::Given>& promises) {
  std::map<PeerKey, std::vector<EntryContent>> each;
  for (const auto& promise : promises) each[promise.peer].push_back(promise.content);
  for (auto* remote : core.exchange->remotes())
    if (auto theirs = each.find(remote->key()); theirs != each.end()) remote->release(theirs->second);
}

/// Another peer keeps these bytes real: ours go to the cache. False: they stay.
bool Marks::State::drop(const store::BlobTask& task, std::vector<std::pair<BlobId, uint64_t>>& moved) {
  auto id = core.store.idOf(task.node);
  auto record = id ? core.tree.get(*id) : std::nullopt;
  auto row = core.store.disk().get(task.node);
  const bool here = record && record->shown;  // What was removed meanwhile leaves as such.
  if (!here || !row || row->blob != task.blob || row->dirty) {
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
