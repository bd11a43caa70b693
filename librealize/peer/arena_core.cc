#include "librealize/peer/arena_core.h"

#include <algorithm>
#include <map>
#include <utility>

#include "librealize/peer/arena_core_state.h"

namespace realize::peer {

namespace {

constexpr int64_t kBarrierMs = 2000;  // An answer that says "still settling" beats none.
constexpr size_t kRecheckSlice = 500;
constexpr char kRunsInBootKey[] = "runs in boot";  // Empty: it ended in order.
constexpr int64_t kReviveMs = 1000;
constexpr int64_t kReviveMostMs = 60'000;
constexpr int64_t kSteadyNs = 60'000'000'000;  // A database that fails again sooner is given more time.

}  // namespace

Result<std::unique_ptr<ArenaCore>> ArenaCore::open(Environment env, ArenaOptions options, ArenaSettings settings,
                                                   Hooks hooks, bool fresh, const std::string& sqliteVfs) {
  store::OpenOptions how;
  how.vfs = sqliteVfs;
  how.thread = env.storeThread;
  const std::string path = sqliteVfs.empty() ? options.databaseDirectory + "/index.db" : "index.db";
  REALIZE_ASSIGN(auto store, store::ArenaStore::open(path, how));
  auto arena = std::unique_ptr<ArenaCore>(new ArenaCore);
  auto made = store::catching([&] {
    arena->s_ = std::make_unique<State>(std::move(env), std::move(options), settings, std::move(store));
  });
  if (!made.ok()) return made.error();
  auto& s = *arena->s_;
  s.hooks = std::move(hooks);
  s.catching.alive = s.alive;
  s.catching.failed = [state = &s](const Error& error) { state->databaseFails(error); };
  s.fresh = fresh;
  s.folder = std::make_unique<Folder>(s.core);
  s.transfers = std::make_unique<Transfers>(s.core);
  s.marks = std::make_unique<Marks>(s.core);
  s.exchange = std::make_unique<Exchange>(s.core);
  s.lacking = std::make_unique<Lacking>(s.core);
  s.trimmer = std::make_unique<Trimmer>(s.core);
  s.copies = std::make_unique<Copies>(s.core);
  s.conflictPolicy = std::make_unique<ConflictPolicy>(s.core);
  s.alikeNames = std::make_unique<AlikeNames>(s.core);
  s.core.folder = s.folder.get();
  s.core.transfers = s.transfers.get();
  s.core.marks = s.marks.get();
  s.core.exchange = s.exchange.get();
  s.core.lacking = s.lacking.get();
  s.core.trimmer = s.trimmer.get();
  s.core.copies = s.copies.get();
  s.core.conflictPolicy = s.conflictPolicy.get();
  s.core.alikeNames = s.alikeNames.get();
  s.core.invalidations = &s.invalidations;
  s.core.makeDurableHook = [state = &s] { return state->makeDurable(); };
  s.core.transactHook = [state = &s](const std::function<void()>& work, bool rested) { return state->transact(work, rested); };
  s.core.transactLater = [state = &s](const auto& work, auto committed) { return state->transactLater(work, std::move(committed)); };
  s.store->database().onSettleDue([state = &s, alive = s.alive, &scheduler = s.env.scheduler] {
    scheduler.onCore([state, alive] {
      if (*alive && !state->databaseFailed) state->guarded([&] { state->store->database().settle(); });
    });
  });
  s.core.emit = [state = &s](Event event) {
    event.arena = state->core.options.name;
    if (event.whenNs == 0) event.whenNs = state->env.clock.nowNs();
    // What a transaction tells is true once it is committed.
    if (state->depth > 0) state->told.push_back(std::move(event));
    else if (state->hooks.emit) state->hooks.emit(eventsOf(std::move(event)));
  };
  s.core.watchChanged = s.hooks.watchChanged;
  s.core.nameOf = s.hooks.nameOf;
  s.core.suspend = [state = &s](const std::string& why) { state->suspend(why); };
  s.fileSystem = std::make_unique<ArenaFileSystem>(s.core);
  s.conflictFolder = std::make_unique<ConflictFolder>(s.core, *s.fileSystem);
  s.guardedFileSystem = std::make_unique<GuardedFileSystem>(*s.conflictFolder, [state = &s](const Error& error) {
    std::lock_guard held(state->env.scheduler.coreLock());
    if (!state->core.stopping) state->databaseFails(error);
  });
  return arena;
}

ArenaCore::ArenaCore() = default;
ArenaCore::~ArenaCore() {
  if (s_) *s_->alive = false;
}

void ArenaCore::start(Mark rootMark, bool joining) {
  auto& s = *s_;
  auto beginning = s.noteIdentity();
  beginning.joining = joining;
  // Once a member's whole tree has arrived, what is missing in the folder is missing.
  for (const auto& member : s.store->members().all()) beginning.joining = beginning.joining && member.lastSeenNs == 0;
  if (auto started = s.folder->start(beginning); !started.ok()) s.suspend(started.error().message);
  if (s.fresh && rootMark != Mark::None) s.marks->set(Core::rootRecord(), rootMark);
  s.applyAll(++s.applyRound, 0);
  s.transfers->limitChanged();
  s.transfers->start();
}

void ArenaCore::stop() {
  auto& s = *s_;
  s.core.stopping = true;
  s.exchange->stop();
  s.trimmer->stop();
  s.conflictPolicy->stop();
  s.alikeNames->stop();
  s.transfers->stop();
  s.folder->stop();
  auto done = store::catching([&] {
    if (s.databaseFailed) return;
    s.store->transact([&] {
      s.store->wanted().keep();
      s.store->setValue(kRunsInBootKey, "");
    });
    s.store->makeDurable();
  });
  (void)done;  // Nothing was promised to anyone that is not durable already.
}

Core& ArenaCore::core() { return s_->core; }
ArenaFileSystem& ArenaCore::fileSystem() { return *s_->fileSystem; }
FileSystem& ArenaCore::guardedFileSystem() { return *s_->guardedFileSystem; }
void ArenaCore::setSettings(const ArenaSettings& settings) {
  s_->core.settings = settings;
  s_->transfers->settingsChanged();
  s_->guarded([this] { s_->conflictPolicy->lookAll(); });
}

void ArenaCore::beginLife() {
  s_->transact([&] { s_->tree.beginLife(); }, true);
}

/// A copied or restored database file is another life: its numbers must not be given again (AGREEMENT 21). So is one whose
/// machine stopped under it: what that lost may be in a backup, and come back with it.
Folder::Beginning ArenaCore::State::noteIdentity() {
  Folder::Beginning out;
  out.fresh = fresh;
  auto directory = env.disk.openRoot(core.options.databaseDirectory);
  if (!directory.ok()) return out;
  auto stat = (*directory)->stat("index.db");
  if (!stat.ok()) return out;
  const store::FileIdentity now{stat->inode, stat->birthNs};
  const auto before = store->recordedIdentity();
  out.oldDatabase = before && !(before == now);
  out.newDatabase = !before && !fresh;
  const std::string ranIn = store->getValue(kRunsInBootKey).value_or("");
  out.killed = !ranIn.empty();
  const bool maybeLost = !ranIn.empty() && ranIn != env.bootId;
  transact([&] {
    authors.learn(tree.origin(), core.options.self, true);
    if (ranIn != env.bootId) store->setValue(kRunsInBootKey, env.bootId);
    if (out.oldDatabase || maybeLost) tree.beginLife();
    if (before == now) return;
    folder->noteBroughtBack(out);  // With the identity: it is known once only.
    store->recordIdentity(now);
  }, true);
  // Before the first change: lost together, they would not be missed.
  if (ranIn == env.bootId || databaseFailed) return out;
  makeDurable();
  return out;
}

void ArenaCore::State::databaseFails(const Error& error) {
  if (databaseFailed) return;
  databaseFailed = true;
  auto reloaded = store::catching([&] { tree.reload(); });
  (void)reloaded;  // Again when the database can be written.
  // Each time costs a scan; to see whether there is space costs little.
  const bool soon = reviveMs != 0 && env.clock.monotonicNs() - revivedNs < kSteadyNs;
  reviveMs = soon ? std::min(2 * reviveMs, kReviveMostMs) : kReviveMs;
  reviveLater(error);
}

/// Damage is for people; what a disk refuses now it may accept soon.
void ArenaCore::State::reviveLater(const Error& error) {
  const bool hopeless = error.code == Code::Corrupt || error.code == Code::WrongVersion || error.code == Code::Internal;
  suspend("its database failed: " + error.message + (hopeless ? "" : ". It goes on by itself when that is possible again"));
  if (hopeless || core.stopping) return;
  env.scheduler.onCoreAfter(reviveMs, [this, alive = alive] {
    if (*alive) revive();
  });
}

void ArenaCore::State::revive() {
  if (core.stopping) return;
  auto opened = store::catching([&] { store->reopen(); });
  auto reloaded = store::catching([&] { tree.reload(); });  // Where there is no room to write, what is there can still be read.
  if (!opened.ok() || !reloaded.ok()) return reviveLater((opened.ok() ? reloaded : opened).error());
  untold.clear();  // Those of what was lost: who was to tell of what was committed has done it by now.
  databaseFailed = false;
  revivedNs = env.clock.monotonicNs();
  auto went = store::catching([&] { goOn(); });
  if (!went.ok()) databaseFails(went.error());
}

/// As a new process would begin, but that mounts and connections are there already. What the folder's part had half done
/// in memory is not known any more: a new one reads and applies anew.
void ArenaCore::State::goOn() {
  const bool joining = folder->joining(), waiting = folder->waitingForTree();
  auto stayed = folder->stayed();
  folder->stop();
  auto again = std::make_unique<Folder>(core);
  std::swap(folder, again);
  core.folder = folder.get();
  again = nullptr;
  core.suspended = false;
  core.suspendedWhy.clear();
  auto beginning = noteIdentity();  // A failure may have come before that was done.
  if (databaseFailed) return;
  beginning.fresh = false;
  beginning.joining = joining;
  beginning.stayed = std::move(stayed);
  if (auto started = folder->start(beginning); !started.ok()) return suspend(started.error().message);
  if (joining && !waiting) folder->treeReceived();
  applyAll(++applyRound, 0);
  transfers->resumed();
  marks->resumed();
  for (auto& [key, remote] : std::map(remotes)) exchange->connected(*remote);
  exchange->noteMembers();  // It takes the database only, which works.
  if (core.suspended) return;
  trimmer->wake();
  conflictFolder->noteAll();
  conflictPolicy->lookAll();
  core.emit(Event{.whenNs = 0, .type = "resumed", .arena = "", .path = "", .peer = "", .detail = core.options.folder});
}

void ArenaCore::State::suspend(const std::string& why) {
  if (core.suspended && core.suspendedWhy == why) return;
  if (transfers) transfers->finishPlacing();
  core.suspended = true;
  core.suspendedWhy = why;
  core.emit(Event{.whenNs = 0, .type = "suspended", .arena = "", .path = "", .peer = "", .detail = why});
  if (folder) folder->answerBarriers();
  if (exchange && !databaseFailed) exchange->changed(true);  // Or the others would go on calling it consensus.
}

/// After a start, what was applied to the folder before the end is not known entry by entry: compare all, in slices.
void ArenaCore::State::applyAll(uint64_t round, NodeId after) {
  if (core.stopping || databaseFailed || round != applyRound) return;
  const auto ids = store->allEntries(after, kRecheckSlice);
  if (ids.empty()) return allApplied();
  NodeId last = after;
  transact([&] {
    for (const auto& id : ids) {
      if (marks->entryChanged(id)) folder->entryChanged(id);
      last = std::max(last, store->nodeOf(id).value_or(0));
    }
  }, true);
  if (last <= after) return;
  env.scheduler.onCore([this, alive = alive, round, last] {
    if (*alive) applyAll(round, last);
  });
}

/// What is wanted is known again, and what is needed of the cache.
void ArenaCore::State::allApplied() {
  transfers->allClaimed();
  transfers->wakeWanted();  // Some of it may be in the cache, and nobody else here.
  conflictPolicy->lookAll();
  alikeNames->lookAll();
  if (!store->wanted().someLost()) return;
  transact([&] { store->wanted().noneLost(); }, true);
  exchange->changed(true);
}

// Sessions call without a net: what a failing database throws ends here.
bool ArenaCore::State::guarded(const std::function<void()>& work) {
  auto done = store::catching(work);
  if (!done.ok()) databaseFails(done.error());
  return done.ok();
}

void ArenaCore::drainWatch() {
  s_->guarded([&] { s_->folder->drainWatch(); });
}

void ArenaCore::onAnnounce(const PeerKey& from, const ArenaState& state) {
  s_->guarded([&] { s_->exchange->onAnnounce(from, state); });
}

void ArenaCore::serveState(const PeerKey& from, bool barrier, std::function<void(Result<ArenaState>)> done) {
  auto& s = *s_;
  auto once = std::make_shared<bool>(false);
  auto answer = [state = s_.get(), from, alive = s.alive, once, done = std::move(done)] {
    if (*once) return;
    *once = true;
    Result<ArenaState> own = Error{Code::Suspended, "the arena was left, or its database failed"};
    if (*alive) state->guarded([&] { own = state->exchange->stateFor(from); });
    done(std::move(own));
  };
  if (!barrier || s.core.suspended) return answer();
  s.env.scheduler.onCoreAfter(kBarrierMs, answer);
  if (!s.guarded([&] { s.folder->barrier(answer); })) answer();
}

Result<PullPage> ArenaCore::servePull(const PeerKey& from, const PullRequest& request) {
  if (s_->databaseFailed) return Error{Code::Suspended, s_->core.suspendedWhy};
  Result<PullPage> page = Error{Code::Suspended, "the arena's database failed"};
  s_->guarded([&] { page = s_->exchange->servePull(from, request); });
  return page;
}

Result<logic::WholePage> ArenaCore::serveCompare(const PeerKey& from, const logic::WholeRequest& request) {
  if (s_->databaseFailed) return Error{Code::Suspended, s_->core.suspendedWhy};
  Result<logic::WholePage> page = Error{Code::Suspended, "the arena's database failed"};
  s_->guarded([&] { page = s_->exchange->serveCompare(from, request); });
  return page;
}

void ArenaCore::serveChunkList(const PeerKey& from, const BlobId& blob, uint8_t hops,
                               std::function<void(Result<ChunkList>)> done) {
  if (!s_->guarded([&] { s_->transfers->serveChunkList(from, blob, hops, done); }))
    done(Error{Code::Suspended, "the arena's database failed"});
}

void ArenaCore::serveGet(const PeerKey& from, const GetRequest& request, ChunkSink sink,
                         std::function<void(Result<std::vector<WantStatus>>)> done) {
  if (!s_->guarded([&] { s_->transfers->serveGet(from, request, std::move(sink), done); }))
    done(Error{Code::Suspended, "the arena's database failed"});
}

void ArenaCore::servePromise(const PeerKey& from, const std::vector<EntryContent>& asked,
                             std::function<void(Result<KeepAnswers>)> done) {
  if (!s_->guarded([&] { s_->marks->promise(from, asked, done); })) done(Error{Code::Suspended, "the arena's database failed"});
}

void ArenaCore::onRelease(const PeerKey& from, const std::vector<EntryContent>& promised) {
  s_->guarded([&] { s_->marks->released(from, promised); });
}

Result<std::vector<bool>> ArenaCore::serveHolds(const PeerKey&, const std::vector<EntryContent>& asked) {
  Result<std::vector<bool>> out = Error{Code::Suspended, "the arena's database failed"};
  s_->guarded([&] {
    std::vector<bool> held;
    for (const auto& content : asked) held.push_back(s_->marks->holds(content));
    out = std::move(held);
  });
  return out;
}

void ArenaCore::serveLacking(const PeerKey& from, const LackRequest& request, std::function<void(Result<std::set<PeerKey>>)> done) {
  if (!s_->guarded([&] { s_->lacking->serve(from, request, done); })) done(Error{Code::Suspended, "the arena's database failed"});
}

void ArenaCore::connected(RemoteArena& remote) {
  auto caught = std::make_shared<CatchingRemote>(remote, [state = s_.get(), alive = s_->alive](const Error& error) {
    if (*alive) state->databaseFails(error);
  });
  const auto before = std::exchange(s_->remotes[remote.key()], caught);  // Until all have the new one.
  s_->guarded([&] { s_->transfers->connected(*caught); });
  s_->guarded([&] {
    s_->marks->wakeUnrealize();
    s_->exchange->connected(*caught);
    s_->conflictPolicy->lookAll();
  });
}

void ArenaCore::disconnected(const PeerKey& key) {
  s_->guarded([&] { s_->exchange->disconnected(key); });
  s_->guarded([&] { s_->transfers->disconnected(key); });
  s_->remotes.erase(key);
}

}  // namespace realize::peer
