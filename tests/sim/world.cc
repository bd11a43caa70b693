#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>

#include "librealize/peer/conflict_policy.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"

namespace realize::test {

namespace {
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerS = 1'000'000'000;
constexpr int64_t kMostDriftPpm = 200'000;  // A quartz has a thousandth of that.
constexpr int64_t kSettleNs = 240 * kNsPerS;
constexpr uint64_t kMaxEvents = 400'000;  // Of one run; a storm of messages is a failure, too.
}  // namespace

World::World(const WorldOptions& options) : options_(options), random_(options.seed * 7919 + 1), answers_(options.seed), queue_(options.seed * 104729 + 3) {
  const size_t few = 2 + below(2);
  const bool many = options.seed % 12 == 7;
  const size_t peers = options.peers ? options.peers : many ? 4 + size_t(options.seed / 12 % 3) : few;
  disasters_ = options.faults && options.seed % 4 == 3;
  machines_.reserve(peers + 2);  // One may join later, and one be copied.
  for (size_t i = 0; i < peers; ++i) addMachine(i == 0 ? Mark::Real : Mark(below(3)));
  tellMembers();
  for (size_t i = 0; i < options.marks.size(); ++i) machines_[i].peer->options.rootMark = options.marks[i];
  // Who is linked with whom. Bytes travel three links far at most (transfers_state.h, kRelayHops), and so do these.
  enum { All, Chain, Ring, Star } shape = All;
  if (peers == 3 && oneIn(3)) shape = Chain;
  if (peers > 3) shape = options.seed / 36 % 4 == 0 ? All : options.seed / 36 % 4 == 1 ? Star : peers == 4 && oneIn(2) ? Chain : Ring;
  if (!options.marks.empty()) shape = All;
  for (size_t a = 0; a < peers; ++a)
    for (size_t b = a + 1; b < peers; ++b)
      if (shape == All || (shape == Star ? a == 1 || b == 1 : b == a + 1 || (shape == Ring && a == 0 && b == peers - 1)))
        links_.push_back(std::make_unique<SimLink>(*machines_[a].peer, *machines_[b].peer));
  static const char* const kShapes[] = {"", " in a chain", " in a ring", " in a star"};
  if (peers > 3) count("households of four to six");
  if (drifting()) count("households whose clocks drift");
  for (auto& link : links_) watchLink(*link);
  stepsLeft_ = options.steps ? options.steps : int(10 + below(50));
  std::string marks;
  for (auto& machine : machines_) {
    const Mark mark = machine.peer->options.rootMark;
    marks += mark == Mark::Real ? " real" : mark == Mark::Unreal ? " unreal" : " none";
  }
  say("seed " + std::to_string(options.seed) + ": " + std::to_string(peers) + " peers" + kShapes[shape] + ", marked" + marks +
      ", " + std::to_string(stepsLeft_) + " steps");
}

void World::addMachine(Mark mark) {
  const size_t i = machines_.size();
  SimPeerOptions peer;
  peer.name = name(i);
  peer.number = uint8_t(i + 1);
  peer.seed = options_.seed * 31 + i;
  peer.rootMark = mark;
  if (drifting()) peer.driftPpm = int64_t((options_.seed / 19 * 7919 + i * 104'729) % (2 * kMostDriftPpm + 1)) - kMostDriftPpm;
  peer.joining = i > 0;
  if (options_.seed % 3 == 1) peer.changesPerPage = 1 + uint32_t(options_.seed / 3 % 4);  // Batches that break off.
  if (disasters_) peer.settings.inactiveAfterMs = 2000 + int64_t(options_.seed / 4 % 7) * 2000;
  machines_.push_back({});
  // One in seven has little room for its caches.
  if ((options_.seed + i) % 3) peer.settings.conflicts = options_.conflicts;
  if (options_.seed % 7 == 3) peer.settings.cacheLimitBytes = uint64_t(1) << (4 * (options_.seed / 7 + i) % 24);
  // One in nine wants two other copies of what one lets go.
  if (options_.seed % 9 == 4) peer.settings.copies = 2;
  if (guarded()) peer.settings.guardMinimum = 1 + options_.seed / 11 % 3;
  if (guarded()) peer.settings.guardShare = peer.settings.overwriteShare = 0.2;
  machines_.back().peer = std::make_unique<SimPeer>(queue_, peer);
  machines_.back().peer->onCall = [this, i](const FakeCall& call) {
    if (options_.calls) tell(i, call);
    watchName(i, call);
    watchAside(i, call);
    raceWith(i, call);
  };
  if (!options_.hard.empty()) machines_.back().peer->failing = [this, i](const FakeCall& call) { return failureOf(i, call); };
  machines_.back().peer->onEvent = [this, i](const Event& event) {
    if (options_.calls) tellEvent(i, event);
    if (event.type == "unreal") letGoHere(i, event.path);
  };
}

/// Each is admitted to the arena, whether it was ever met or not, until he hears otherwise.
void World::tellMembers() {
  std::set<PeerKey> members;
  for (const auto& machine : machines_) members.insert(machine.peer->key);
  for (auto& machine : machines_) {
    auto known = members;
    if (machine.roster % 2) known.erase(machines_[*leaver_].peer->key);
    machine.peer->setMembers(known);
  }
}

void World::watchLink(SimLink& link) {
  if (options_.calls) link.onTalk = [this](const std::string& what) { say("    . " + what); };
  if (!options_.faults || !options_.damage || options_.seed % 5 != 2) return;
  link.onChunk = [this](HeldChunk& chunk) {
    if (healing_ || chunk.bytes.empty() || !oneIn(8)) return;
    chunk.bytes[below(chunk.bytes.size())] ^= std::byte(1 + below(255));
    count("chunks damaged");
  };
}

/// Another machine joins, with files of its own; all can connect to it.
void World::join() {
  const size_t number = machines_.size();
  addMachine(Mark(below(3)));
  tellMembers();
  say(number, "joins");
  count("peers joined later");
  doing(number, [&](Directory& root) {
    for (const char* path : {"a", "new"})
      if (oneIn(2)) put(number, root, path, newContent(someSize()));
  });
  startPeer(number);
  for (size_t i = 0; i < number; ++i) {
    links_.push_back(std::make_unique<SimLink>(*machines_[i].peer, *machines_[number].peer));
    watchLink(*links_.back());
    connect(*links_.back());
    reconnectSoon(*links_.back());
  }
}

World::~World() {
  for (auto& machine : machines_) machine.peer->onCall = nullptr;
  links_.clear();
  for (auto& machine : machines_) machine.peer->vanish();
  queue_.clear();
}

void World::say(const std::string& line) {
  char when[32];
  snprintf(when, sizeof(when), "%9.3f ", double(queue_.nowNs()) / 1e9);
  story_ += when + line + "\n";
  if (options_.echo) printf("%s%s\n", when, line.c_str());
}

void World::run() {
  setUp();
  live();
  heal();
  settleDown("after all was healed");
  while (giveUpLost()) settleDown("after what was lost was given up");
  checkConsensus();
  checkTrees();
  checkFolders();
  checkTokens();
  checkReading();
  checkCaches();
  checkQuiet();
  for (auto& link : links_)
    if (link->compares()) count("whole trees compared");
}

void World::startPeer(size_t number) {
  auto& machine = machines_[number];
  auto& peer = *machine.peer;
  if (peer.running() || (!healing_ && queue_.nowNs() < machine.awayUntilNs)) return;
  machine.failedSinceStart = false;
  auto started = peer.start();
  if (peer.disk.isPowerOff()) return crashed(number);
  if (!started.ok()) {
    const bool ailing = machine.ailing(queue_.nowNs());
    if (!machine.full && !ailing) throw Broken(name(number) + " did not start: " + started.error().message);
    say(number, std::string("cannot start with a ") + (machine.full ? "full" : "failing") + " disk: " + started.error().message);
    if (ailing) queue_.after(1000 * kNsPerMs, [this, number] { startPeer(number); });
    return;
  }
  say(number, "starts");
}

void World::setUp() {
  doing(0, [&](Directory& root) {
    (void)root.makeDirectory("x", 0755).ok();
    for (const char* path : {"a", "x/b", "x/c"})
      if (oneIn(2)) put(0, root, path, newContent(someSize()));
  });
  if (oneIn(4)) {  // A folder that has some of it already.
    doing(0, [&](Directory& from) {
      for (const auto& [path, stat] : walk(from)) {
        if (oneIn(4)) continue;
        const std::string content = stat.type == FileStat::Type::File ? contentOf(from, path) : "";
        const bool directory = stat.type == FileStat::Type::Directory;
        doing(1, [&, path = path](Directory& to) {
          if (directory) (void)to.makeDirectory(path, 0755).ok();
          else put(1, to, path, content);
        });
      }
    });
    count("joined with files");
  }
  for (size_t i = 0; i < machines_.size(); ++i) startPeer(i);
  for (auto& machine : machines_) {
    machine.peer->disk.settle();
    machine.unsynced.clear();
  }
  for (auto& link : links_)
    if (!oneIn(4)) connect(*link);
}

void World::live() {
  const int64_t end = queue_.nowNs() + int64_t(stepsLeft_) * 700 * kNsPerMs;
  std::vector<int64_t> times;
  for (int i = 0; i < stepsLeft_; ++i) times.push_back(int64_t(below(uint64_t(end))));
  // Some come in bursts.
  for (size_t i = 1; i < times.size(); ++i)
    if (options_.rush ? !oneIn(8) : oneIn(2)) times[i] = times[i - 1] + int64_t(below(oneIn(2) ? 30 : 400)) * kNsPerMs;
  for (auto at : times) plan(at, [this] { userStep(); });
  if (options_.faults) planFaults();
  planDisasters();
  planClone();
  planRemoval();
  if (!options_.hard.empty()) planHardships();
  if (options_.wide && options_.seed % 5 == 1) plan(end / 4 + int64_t(below(uint64_t(end) / 2)), [this] { join(); });
  for (auto& link : links_) reconnectSoon(*link);
  runFor(end - queue_.nowNs());
}

/// A turn of the story, which may be left out of it (script.h).
void World::plan(int64_t atNs, std::function<void()> turn) {
  queue_.at(atNs, [this, turn = std::move(turn), number = planned_++] {
    if (comes(number)) turn();
  });
}

bool World::comes(size_t turn) {
  auto* script = options_.script;
  if (script && !script->follows) script->turns[turn] = {random_.state(), queue_.random.state(), answers_.state()};
  if (script && script->follows) {
    const auto then = script->turns.find(turn);
    if (then == script->turns.end() || !script->kept.contains(turn)) return false;
    random_.setState(then->second.users);
    queue_.random.setState(then->second.network);
    answers_.setState(then->second.answers);
  }
  turns_.push_back(story_.size());
  return true;
}

void World::heal() {
  countAbsences();
  healing_ = true;
  say("everything is healed");
  for (size_t i = 0; i < machines_.size(); ++i) {
    auto& machine = machines_[i];
    machine.full = false;
    machine.failures = 0;
    machine.peer->disk.setFreeBytes(uint64_t(1) << 40);
    machine.peer->disk.clearFailures();
    machine.peer->disk.powerOffBefore(UINT64_MAX >> 1);
    saveTornAgain(i);
    startPeer(i);
    if (!machine.changedUnseen || !machine.peer->running() || machine.peer->core->core().suspended) continue;
    say(i, "is asked to scan its folder");
    machine.peer->core->core().folder->rescanAll();
  }
  separateClone();
  for (auto& link : links_) connect(*link);
  agreeWithout();
}

void World::stepOnce() {
  try {
    if (!queue_.step()) return;
  } catch (const Broken&) {
    throw;
  } catch (const std::exception& error) {
    bool excused = false;
    for (size_t i = 0; i < machines_.size(); ++i) {
      if (machines_[i].peer->disk.isPowerOff()) excused = true;  // The process is dying anyway.
    }
    if (!excused) throw Broken(std::string("an exception ended the process: ") + error.what());
  }
  afterEvent();
  if (queue_.steps() > kMaxEvents * machines_.size() / 3 + kMaxEvents) throw Broken("no end of events");
}

void World::afterEvent() {
  for (size_t i = 0; i < machines_.size(); ++i) {
    auto& machine = machines_[i];
    auto& peer = *machine.peer;
    if (!options_.follow.empty() && peer.running()) follow(i);
    if (!machine.letGoAlone.empty()) throw Broken(name(i) + ": " + machine.letGoAlone);
    if (!machine.nameVanished.empty())
      throw Broken(name(i) + ": there was nothing at " + machine.nameVanished + " for a moment while it was replaced");
    if (peer.disk.isPowerOff()) crashed(i);
    else if (peer.running() && !peer.core->core().suspended) machine.suspended = false;
    else if (peer.running() && !machine.suspended) {
      const std::string why = peer.core->core().suspendedWhy;
      const bool ailing = machine.ailing(queue_.nowNs());
      if (!machine.full && !ailing) throw Broken(name(i) + " is suspended: " + why);
      say(i, std::string("is suspended on a ") + (machine.full ? "full disk: " : "failing disk: ") + why);
      count(machine.full ? "suspended on a full disk" : "suspended on a failing disk");
      machine.suspended = true;
    }
  }
}

void World::runFor(int64_t ns) {
  const int64_t end = queue_.nowNs() + ns;
  queue_.at(end, [] {});
  while (queue_.nowNs() < end && queue_.nextNs() != INT64_MAX) stepOnce();
}

namespace {
std::string whatItSaid(peer::Core& core, const PeerKey& key) {
  auto member = core.exchange->members().find(key);
  if (member == core.exchange->members().end() || !member->second.connected) return ": not connected";
  if (!member->second.said) return ": it said nothing";
  const auto& said = *member->second.said;
  return std::string(": it said") + (said.settling ? " settling" : "") + (said.suspended ? " suspended" : "") +
         (said.vector == core.tree.vector() ? "" : " another vector") + (said.digest == core.tree.digest() ? "" : " another digest") +
         (member->second.pulling ? ", pulling" : "");
}
}  // namespace

/// What the program takes out of its user's sight: which content that was. What a power cut tore under the size and the time that it
/// had before passes for what it was: only its user can tell.
void World::watchAside(size_t number, const FakeCall& call) {
  const std::string folder = std::string(kSimFolder) + "/", aside = folder + peer::kTempFolder + "/gone~";
  unsigned long long node = 0;
  if (call.op != FakeOp::Rename || !call.path2.starts_with(aside) || sscanf(call.path2.c_str() + aside.size(), "%llx-", &node) != 1) return;
  doing(number, [&](Directory& root) {
    auto& machine = machines_[number];
    const std::string path = call.path.substr(folder.size());
    const auto stat = root.stat(path);
    const auto row = machine.peer->core->core().store.disk().get(node);
    const bool torn = stat.ok() && row && machine.torn.contains(stat->inode);
    machine.takenAside[node] = torn ? row->blob : blobOf(contentOf(root, path));
  });
}

/// A copy was let go: as many others as are wanted hold a lock on theirs, or are down and find it when they are up. It may be older than
/// what the tree shows.
void World::letGoHere(size_t number, const std::string& path) {
  auto& machine = machines_[number];
  auto& core = machine.peer->core->core();
  auto record = core.recordAt(path);
  if (!record.ok()) return;
  const BlobId went = machine.takenAside[record->node];
  size_t locked = 0;
  for (size_t i = 0; i < machines_.size(); ++i) {
    auto& peer = *machines_[i].peer;
    if (i == number || (isLeaver(peer) && machine.roster % 2)) continue;
    locked += !peer.running() || peer.disk.isPowerOff() || peer.core->core().marks->promised(went);
  }
  count("copies let go");
  if (core.settings.copies > 1) count("copies let go with two others");
  if (locked < core.settings.copies)
    machine.letGoAlone = "let go its copy of " + path + ", and " + std::to_string(locked) + " others were to keep theirs";
}

/// Empty when everyone agrees and has what it wants.
std::string World::unsettled() {
  for (size_t i = 0; i < machines_.size(); ++i) {
    auto& peer = *machines_[i].peer;
    if (isApart(peer)) continue;
    if (!peer.running()) return name(i) + " is not running";
    auto& core = peer.core->core();
    if (core.suspended) return name(i) + " is suspended: " + core.suspendedWhy;
    if (core.folder->settling()) return name(i) + " is settling";
    if (core.folder->heldRemovals() + core.folder->heldOverwrites()) return name(i) + " holds changes back";
    // What only he has who is removed is waited for.
    if (!apart_ && core.marks->missingFiles()) return name(i) + " misses " + std::to_string(core.marks->missingFiles()) + " files";
    if (!apart_ && core.conflictPolicy->busy()) return name(i) + " settles conflicts";
    if (!apart_ && core.folder->askingForLastResorts()) return name(i) + " asks who has what is shown as a last resort";
    if (const auto unread = unreadAt(i); !unread.empty()) return name(i) + " could not read " + unread;
    if (core.store.unsynced().count()) return name(i) + " has names that may not be on disk";
    auto& one = machines_[first()].peer->core->core();
    if (core.tree.vector() != one.tree.vector()) return name(i) + " and " + name(first()) + " have not seen the same";
    if (core.tree.digest() != one.tree.digest()) return name(i) + " and " + name(first()) + " show other trees";
    for (auto& link : links_)
      for (int side : {0, 1})
        if (&link->end(side) == &peer && !isApart(*link) && !core.exchange->agreesWith(link->end(1 - side).key))
          return name(i) + " does not know that it agrees with " + link->end(1 - side).options.name + whatItSaid(core, link->end(1 - side).key);
  }
  return "";
}

void World::settleDown(const char* when) {
  int64_t end = queue_.nowNs() + kSettleNs;
  int quiet = 0, restless = 0;
  std::string why;
  while (quiet < 3) {
    runFor(1500 * kNsPerMs);
    why = unsettled();
    for (size_t i = 0; i < machines_.size(); ++i) answerGuards(i, false);
    for (size_t i = 0; i < machines_.size(); ++i) clearWay(i);
    if (!why.empty() && ++restless % 12 == 0 && giveUpLost()) end += 20 * kNsPerS;
    quiet = why.empty() ? quiet + 1 : 0;
    if (queue_.nowNs() > end) {
      for (size_t i = 0; i < machines_.size(); ++i)
        if (machines_[i].peer->running()) why += "\n" + name(i) + "\n" + rowsOf(i) + treeOf(i) + machines_[i].peer->disk.dump(kSimFolder);
      throw Broken(std::string("not settled ") + when + ": " + why);
    }
  }
  say(std::string("all is quiet ") + when);
}

}  // namespace realize::test
