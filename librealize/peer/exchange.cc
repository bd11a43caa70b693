#include "librealize/peer/exchange.h"

#include <algorithm>

#include "librealize/peer/authors.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/trimmer.h"

namespace realize::peer {

namespace {
constexpr size_t kMaxPageBytes = 1 << 20;
constexpr int64_t kRetryMs = 1000;
constexpr int64_t kBytesRestMs = 500;  // Each telling makes the database durable first.
constexpr int kAsksAgain = 3;
constexpr int64_t kDiffersMs = 3000;
}  // namespace

struct Exchange::State {
  explicit State(Core& core) : core(core) {}

  Core& core;
  std::map<PeerKey, Member> members;
  std::optional<std::set<PeerKey>> admitted;  ///< once it is known
  std::map<PeerKey, RemoteArena*> remotes;
  bool announcing = false;        // an announcement is scheduled after the rest
  bool announcingNow = false;     // ... at the end of the current job
  bool announcingBytes = false;   // ... after kBytesRestMs
  std::map<PeerKey, ArenaState> announced;  ///< the last told on this connection
  // Jobs that come back after a reconnect must not touch the new connection: each has a number.
  std::map<PeerKey, uint64_t> connection;
  std::map<PeerKey, logic::WholeState> wholes;  ///< being compared
  uint64_t connections = 0;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  bool current(const PeerKey& key, uint64_t number) const {
    auto it = connection.find(key);
    return it != connection.end() && it->second == number;
  }

  void announceNow();
  void announceDurable();
  std::function<void()> onTold;
  void ask(const PeerKey& key, bool barrier, int more, std::function<void(const ArenaState*)> done);
  std::set<std::pair<PeerKey, uint64_t>> askingLater;  ///< on that connection
  void askLater(const PeerKey& key, uint64_t number);
  void pullIfBehind(const PeerKey& key);
  bool differs(const PeerKey& key), isPulling() const;
  void compareIfDifferent(const PeerKey& key);
  bool otherFirst(const PeerKey& key);
  void pullPage(const PeerKey& key, uint64_t number);
  void onPage(const PeerKey& key, uint64_t number, Result<PullPage> page);
  void compareOn(const PeerKey& key, uint64_t number);
  void onCompared(const PeerKey& key, uint64_t number, Result<logic::WholePage> page);
  void pullOthers(const PeerKey& key);
  void pulled(const PeerKey& key);
  void endLostLives();
  void noteSeen(const PeerKey& key);
  void pullFailed(const PeerKey& key, uint64_t number, const Error& error);
};

Exchange::Exchange(Core& core) : s_(std::make_unique<State>(core)) {}
Exchange::~Exchange() { stop(); }

void Exchange::stop() { *s_->alive = false; }

ArenaState Exchange::ownState() {
  auto& core = s_->core;
  core.folder->makeNamesDurable();
  core.store.makeDurable();  // Another peer may rely on all of it.
  ArenaState state;
  state.origin = core.tree.origin();
  state.vector = core.tree.vector();
  state.trimmed = core.tree.trimmed();
  state.digest = core.tree.digest();
  state.missingFiles = core.marks->missingFiles();
  state.missingBytes = core.marks->missingBytes();
  state.settling = core.folder->settling();
  state.suspended = core.suspended;
  return state;
}

ArenaState Exchange::stateFor(const PeerKey& asking) {
  ArenaState state = ownState();
  // It counts as told: else what is told next, if it is what was told before this, would not be told.
  if (auto told = s_->announced.find(asking); told != s_->announced.end()) told->second = state;
  return state;
}

void Exchange::connected(RemoteArena& remote) {
  const PeerKey key = remote.key();
  s_->remotes[key] = &remote;
  s_->connection[key] = ++s_->connections;
  s_->wholes.erase(key);  // What a failing database ended half way is begun anew.
  s_->members[key] = Member{.connected = true, .said = std::nullopt, .pulling = false, .other = Member::First::Undecided, .error = ""};
  // What it announced came too early if its side was quicker, and then it would say nothing before its next change.
  s_->ask(key, false, kAsksAgain, [s = s_.get(), key](const ArenaState* state) {
    if (state) s->core.exchange->onAnnounce(key, *state);
  });
  // Last: a database that fails now ends this here, and our state is announced once it is back.
  const ArenaState own = ownState();
  s_->announced[key] = own;
  remote.announce(own);
}

void Exchange::disconnected(const PeerKey& key) {
  s_->remotes.erase(key);
  s_->connection.erase(key);
  s_->announced.erase(key);
  s_->wholes.erase(key);
  auto it = s_->members.find(key);
  if (it == s_->members.end()) return;
  it->second.connected = false;
  it->second.pulling = false;
  s_->pullOthers(key);
  auto& core = s_->core;
  if (it->second.said && !core.stopping && !core.suspended) core.transact([&] { s_->noteSeen(key); });
}

void Exchange::setMembers(std::set<PeerKey> admitted) {
  s_->admitted = admitted;
  s_->core.trimmer->setMembers(std::move(admitted));
  noteMembers();
}

void Exchange::noteMembers() {
  if (!s_->admitted) return;
  auto& core = s_->core;
  const auto& admitted = *s_->admitted;
  auto& store = core.store.members();
  std::vector<store::MemberRow> changed;
  for (const auto& row : store.all())
    if (row.admitted != admitted.contains(row.peer)) changed.push_back(row);
  for (const auto& [key, member] : s_->members)  // Heard of, and not noted yet.
    if (!admitted.contains(key) && !store.get(key)) changed.emplace_back().peer = key;
  for (auto& row : changed) {
    row.admitted = admitted.contains(row.peer);
    core.transact([&] { store.put(row); });
  }
  if (admitted == std::set{core.options.self}) core.folder->treeReceived();  // There is no other.
}

void Exchange::changed(bool urgent) {
  auto& core = s_->core;
  if (core.stopping || (urgent ? s_->announcingNow : s_->announcing || s_->announcingNow)) return;
  (urgent ? s_->announcingNow : s_->announcing) = true;
  auto job = [s = s_.get(), alive = s_->alive] {
    if (*alive) s->announceNow();
  };
  if (urgent) core.env.scheduler.onCore(job);
  else core.env.scheduler.onCoreAfter(core.settings.restMs, job);
}

void Exchange::bytesCame() {
  auto& core = s_->core;
  if (core.store.wanted().totals().count == 0) return changed(true);
  if (core.stopping || std::exchange(s_->announcingBytes, true)) return;
  core.env.scheduler.onCoreAfter(kBytesRestMs, [s = s_.get(), alive = s_->alive] {
    if (!*alive) return;
    s->announcingBytes = false;
    s->announceNow();
  });
}

void Exchange::resumed() {
  changed(true);
  for (auto* remote : remotes()) {
    const auto it = s_->members.find(remote->key());
    if (it != s_->members.end() && it->second.said) said(it->first, ArenaState(*it->second.said));
  }
}

void Exchange::tellAgain() {
  s_->announced.clear();
  changed(false);
}

void Exchange::State::announceNow() {
  if (remotes.empty() || core.stopping) {
    announcing = announcingNow = false;
    return;
  }
  core.folder->makeNamesDurableThen([this, alive = alive] {
    if (*alive) announceDurable();
  });
}

void Exchange::State::announceDurable() {
  announcing = announcingNow = false;
  if (remotes.empty() || core.stopping) return;
  const ArenaState state = core.exchange->ownState();
  for (auto& [key, remote] : remotes) {
    if (announced.contains(key) && announced[key] == state) continue;  // It knows.
    announced[key] = state;
    remote->announce(state);
  }
  for (const auto& [key, remote] : remotes) compareIfDifferent(key);
  if (onTold) onTold();
}

void Exchange::onAnnounce(const PeerKey& from, const ArenaState& state) {
  auto it = s_->members.find(from);
  if (it != s_->members.end() && it->second.connected) ++it->second.announced;
  said(from, state);
  if (s_->onTold) s_->onTold();
}

void Exchange::onTold(std::function<void()> told) { s_->onTold = std::move(told); }

void Exchange::said(const PeerKey& from, const ArenaState& state) {
  auto it = s_->members.find(from);
  if (it == s_->members.end() || !it->second.connected) return;
  it->second.said = state;
  auto& core = s_->core;
  core.marks->peerTold();
  if (state.origin == core.tree.origin()) {
    core.suspend("another running peer has this peer's database of the arena: one of them is a copy. Nothing is sent or "
                 "taken. On the one that has the copy: `realize arena leave " + core.options.name +
                 "`, then join again; and restart the other");
    return;
  }
  if (core.authors->of(state.origin) != from)
    core.transact([&] { core.authors->learn(state.origin, from, true); });
  if (core.tree.vector().geq(state.vector)) {
    // A pull would be an empty batch; what completing it would note is worth noting.
    auto ack = core.tree.acks().find(from);
    if (ack == core.tree.acks().end() || ack->second != state.vector) {
      PullPage nothing;
      nothing.done = true;
      nothing.snapshot = state.vector;
      nothing.trimmed = state.trimmed;
      core.transact([&] {
        core.tree.completeBatch(from, nothing);
        s_->noteSeen(from);
      });
      core.trimmer->wake();
    }
    // Its whole tree is here, be it empty; unless it is one that waits for a tree itself.
    if (!state.settling && !state.suspended) core.folder->treeReceived();
    else if (!state.suspended) core.folder->nobodyTellsMore();
    s_->endLostLives();
  }
  s_->pullIfBehind(from);
  s_->compareIfDifferent(from);
}

/// An answer and an announcement may overtake each other, and which of them is newer is not to be seen: then it is asked again.
/// `done` gets nothing where there is no answer, or where what was announced has to do for now: the other takes its answer for told.
void Exchange::State::ask(const PeerKey& key, bool barrier, int more, std::function<void(const ArenaState*)> done) {
  auto remote = remotes.find(key);
  if (remote == remotes.end()) return done(nullptr);
  const uint64_t number = connection[key], before = members[key].announced;
  remote->second->askState(barrier, [this, alive = alive, key, number, before, more, done](Result<ArenaState> state) {
    if (!*alive || !state.ok() || !current(key, number)) return done(nullptr);
    if (members[key].announced == before) return done(&*state);
    if (more > 0) return ask(key, false, more - 1, done);
    askLater(key, number);
    done(nullptr);
  });
}

void Exchange::State::askLater(const PeerKey& key, uint64_t number) {
  if (!askingLater.emplace(key, number).second) return;
  core.env.scheduler.onCoreAfter(kRetryMs, [this, alive = alive, key, number] {
    if (!*alive) return;
    askingLater.erase({key, number});
    if (!current(key, number)) return;
    ask(key, false, kAsksAgain, [this, key](const ArenaState* state) {
      if (state) core.exchange->said(key, *state);
    });
  });
}

void Exchange::State::pullIfBehind(const PeerKey& key) {
  auto& member = members[key];
  if (member.pulling || !member.connected || !member.said || core.suspended || core.stopping) return;
  if (core.tree.vector().geq(member.said->vector)) return;
  if (!wholes.empty()) return;  // See pullOthers().
  const bool whole = core.tree.needsWhole(key, member.said->vector, member.said->trimmed);
  if (whole && (otherFirst(key) || isPulling())) return;
  member.pulling = true;
  if (whole) compareOn(key, connection[key]);
  else pullPage(key, connection[key]);
}

/// At rest at the same vector, and not the same tree: one of the two has a part of a batch.
bool Exchange::State::differs(const PeerKey& key) {
  const auto& member = members[key];
  if (!member.connected || !member.said || core.stopping || member.said->settling || member.said->suspended) return false;
  return member.said->digest != core.tree.digest() && core.exchange->restsAt(member.said->vector, core.tree.digest());
}

/// Who sent a part of a batch may be gone for ever, and by their vectors neither of the others would ask for it. Waited for a
/// while: mostly the rest comes. Where that did not help, nothing more is done before one of the trees is another.
void Exchange::State::compareIfDifferent(const PeerKey& key) {
  if (!differs(key)) return;
  auto& member = members[key];
  const std::pair trees(member.said->digest, core.tree.digest());
  if (member.differed == trees) return;
  member.differed = trees;
  core.env.scheduler.onCoreAfter(kDiffersMs, [this, alive = alive, key, number = connection[key], trees] {
    if (!*alive || !current(key, number) || members[key].differed != trees) return;
    auto& other = members[key];
    const bool still = differs(key) && trees == std::pair(other.said->digest, core.tree.digest());
    if (!still || isPulling()) {
      other.differed.reset();
      return compareIfDifferent(key);
    }
    other.pulling = true;
    compareOn(key, number);
  });
}

bool Exchange::State::isPulling() const {
  return std::any_of(members.begin(), members.end(), [](const auto& member) { return member.second.pulling; });
}

/// While whole trees are compared nothing comes from others: what they sent of ranges that were equal by then would pass for
/// something that the one compared with has, though he may have forgotten its removal. They waited for that, or the comparison for them.
void Exchange::State::pullOthers(const PeerKey& key) {
  std::vector<PeerKey> others;
  for (const auto& [other, remote] : remotes)
    if (other != key) others.push_back(other);
  for (const auto& other : others) pullIfBehind(other);
}

/// What survives a return is issued again by who learns of it: if both do so at once, what is edited meanwhile is in conflict
/// with the other's. The one with the smaller key is first, for a while.
bool Exchange::State::otherFirst(const PeerKey& key) {
  auto& member = members[key];
  const bool pullsToo = !member.said->suspended && !member.said->vector.geq(core.tree.vector());
  if (!(key < core.options.self) || !pullsToo || member.other == Member::First::Waited) return false;
  if (member.other == Member::First::Undecided) {
    core.env.scheduler.onCoreAfter(kRetryMs, [this, alive = alive, key, number = connection[key]] {
      if (!*alive || !current(key, number)) return;
      members[key].other = Member::First::Waited;
      pullIfBehind(key);
    });
  }
  member.other = Member::First::Waiting;
  return true;
}

/// It is active: nothing that it has not seen removed is forgotten.
void Exchange::State::noteSeen(const PeerKey& key) {
  auto row = core.store.members().get(key).value_or(store::MemberRow());
  row.peer = key;
  row.active = true;
  row.lastSeenNs = core.env.clock.nowNs();
  core.store.members().put(row);
}

void Exchange::State::pullPage(const PeerKey& key, uint64_t number) {
  auto it = remotes.find(key);
  if (it == remotes.end()) return;
  const PullRequest request = core.tree.requestFor(key);
  it->second->pull(request, [this, alive = alive, key, number, trimmed = request.trimmed](Result<PullPage> page) {
    if (!*alive || !current(key, number)) return;
    // What it sent may have been forgotten here meanwhile.
    if (page.ok() && core.tree.trimmed() != trimmed) pullPage(key, number);
    else onPage(key, number, std::move(page));
  });
}

void Exchange::State::onPage(const PeerKey& key, uint64_t number, Result<PullPage> page) {
  if (!page.ok()) return pullFailed(key, number, page.error());
  Result<void> applied;
  const auto apply = [&] {
    for (const auto& [origin, peer] : page->authors) core.authors->learn(origin, peer, false);
    applied = core.tree.applyPage(key, *page);
    if (applied.ok() && page->done) noteSeen(key);
  };
  const bool taken = page->done ? core.transact(apply) : core.transactLater(apply, [] {});
  if (!taken) return pullFailed(key, number, Error{Code::Io, core.suspendedWhy});
  if (!applied.ok()) return pullFailed(key, number, applied.error());
  if (!page->done) return pullPage(key, number);
  pulled(key);
}

void Exchange::State::pulled(const PeerKey& key) {
  auto& member = members[key];
  member.pulling = false;
  member.error.clear();
  core.folder->treeReceived();
  core.exchange->changed(true);
  core.trimmer->wake();
  endLostLives();
  pullOthers(key);
  pullIfBehind(key);
}

/// Whose database was lost goes on under another origin, and nobody closed the one before. Once all that those have who are
/// connected is here, what is not complete of such a life will not be.
void Exchange::State::endLostLives() {
  std::vector<Origin> over = core.authors->earlierLives(core.options.self, core.tree.origin());
  for (const auto& [key, member] : members) {
    if (!member.connected) continue;
    if (!member.said || member.pulling || member.said->settling || !core.tree.vector().geq(member.said->vector)) return;
    const auto lives = core.authors->earlierLives(key, member.said->origin);
    over.insert(over.end(), lives.begin(), lives.end());
  }
  std::erase_if(over, [this](Origin life) { return core.tree.isClosed(life); });
  if (over.empty()) return;
  const VersionVector before = core.tree.vector();
  core.transact([&] { core.tree.closeLost(over); });
  if (core.tree.vector() != before) core.exchange->changed(true);
}

/// One side has forgotten removals that the other never saw.
void Exchange::State::compareOn(const PeerKey& key, uint64_t number) {
  auto it = remotes.find(key);
  if (it == remotes.end()) return;
  logic::WholeRequest request;
  if (!core.transact([&] { request = core.tree.wholeRequest(wholes[key]); })) {
    wholes.erase(key);
    return pullFailed(key, number, Error{Code::Io, core.suspendedWhy});
  }
  it->second->compare(request, [this, alive = alive, key, number](Result<logic::WholePage> page) {
    if (*alive && current(key, number)) onCompared(key, number, std::move(page));
  });
}

void Exchange::State::onCompared(const PeerKey& key, uint64_t number, Result<logic::WholePage> page) {
  if (!page.ok()) {
    wholes.erase(key);
    return pullFailed(key, number, page.error());
  }
  auto& whole = wholes[key];
  const bool learnt = page->page.authors.empty() || core.transact([&] {
    for (const auto& [origin, peer] : page->page.authors) core.authors->learn(origin, peer, false);
  });
  if (!learnt) {
    wholes.erase(key);
    return pullFailed(key, number, Error{Code::Io, core.suspendedWhy});
  }
  Result<void> taken = core.tree.noteWhole(whole, *page);
  if (taken.ok() && !whole.complete()) return compareOn(key, number);
  const bool committed = !taken.ok() || core.transact([&] {
    taken = core.tree.applyWhole(key, whole);
    if (taken.ok()) noteSeen(key);
  });
  wholes.erase(key);
  if (!committed) return pullFailed(key, number, Error{Code::Io, core.suspendedWhy});
  if (!taken.ok()) return pullFailed(key, number, taken.error());
  pulled(key);
}

void Exchange::State::pullFailed(const PeerKey& key, uint64_t number, const Error& error) {
  auto& member = members[key];
  member.pulling = false;
  member.differed.reset();
  member.error = error.message;
  // It forgot removals since it said its state, and what was begun cannot be gone on with.
  if (error.code == Code::Refused) {
    core.transact([&] { core.tree.forgetBatch(key); });
    ask(key, false, kAsksAgain, [this, key](const ArenaState* state) {
      if (state) members[key].said = *state;
    });
  }
  core.env.scheduler.onCoreAfter(kRetryMs, [this, alive = alive, key, number] {
    if (!*alive || !current(key, number)) return;
    pullIfBehind(key);
    compareIfDifferent(key);
  });
  pullOthers(key);
}

Result<PullPage> Exchange::servePull(const PeerKey&, const PullRequest& request) {
  auto& core = s_->core;
  PullRequest bounded = request;
  bounded.maxChanges = core.options.maxChangesPerPage;
  bounded.maxBytes = kMaxPageBytes;
  auto page = core.store.transact([&] { return core.tree.changesFor(bounded); });
  core.folder->makeNamesDurable();
  core.store.makeDurable();  // Nothing leaves before its transaction is on disk.
  if (page.ok()) page->authors = core.authors->ofNews(page->changes, request.vector);
  return page;
}

Result<logic::WholePage> Exchange::serveCompare(const PeerKey&, const logic::WholeRequest& request) {
  auto& core = s_->core;
  auto page = core.store.transact([&] { return core.tree.wholeFor(request); });
  core.folder->makeNamesDurable();
  core.store.makeDurable();
  page.page.authors = core.authors->ofNews(page.page.changes, request.vector);
  return page;
}

const std::map<PeerKey, Exchange::Member>& Exchange::members() const { return s_->members; }

std::vector<RemoteArena*> Exchange::remotes() {
  std::vector<RemoteArena*> out;
  for (auto& [key, remote] : s_->remotes) out.push_back(remote);
  return out;
}

RemoteArena* Exchange::remote(const PeerKey& key) {
  auto it = s_->remotes.find(key);
  return it == s_->remotes.end() ? nullptr : it->second;
}

bool Exchange::agreesWith(const PeerKey& key) {
  auto it = s_->members.find(key);
  if (it == s_->members.end() || !it->second.connected || !it->second.said || it->second.pulling) return false;
  const auto& said = *it->second.said;
  return !said.settling && !said.suspended && restsAt(said.vector, said.digest);
}

bool Exchange::restsAt(const VersionVector& vector, const logic::TreeDigest& digest) {
  auto& core = s_->core;
  return !core.suspended && !core.folder->settling() && vector == core.tree.vector() && digest == core.tree.digest();
}

std::set<PeerKey> Exchange::others() {
  auto& core = s_->core;
  auto others = s_->admitted.value_or(std::set<PeerKey>());
  for (const auto& row : core.store.members().all())
    if (row.admitted) others.insert(row.peer);
  others.erase(core.options.self);
  return others;
}

bool Exchange::agreesWithAll() {
  const auto all = others();
  return std::all_of(all.begin(), all.end(), [this](const PeerKey& key) { return agreesWith(key); });
}

void Exchange::refresh(std::function<void()> done) {
  s_->core.folder->barrier([s = s_.get(), alive = s_->alive, done = std::move(done)] {
    if (!*alive || s->remotes.empty()) return done();
    auto left = std::make_shared<size_t>(s->remotes.size());
    for (auto* remote : s->core.exchange->remotes())
      s->ask(remote->key(), true, kAsksAgain, [s, key = remote->key(), left, done](const ArenaState* state) {
        if (state) s->core.exchange->said(key, *state);  // And it has what it says: it will not announce that again.
        if (--*left == 0) done();
      });
  });
}

}  // namespace realize::peer
