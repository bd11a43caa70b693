// A machine that is copied with its state folder and its folder: two run under one identity. Who meets both refuses both, as
// the connector does it with peer/lives.h, until the user of one of them gives that an identity of its own.

#include <algorithm>
#include <mutex>

#include "tests/sim/world.h"

namespace realize::test {

namespace {
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kForgetTwinNs = 300'000 * kNsPerMs;  // As the connector's.
constexpr int kMeetings = 30;
}  // namespace

/// In one of five of the households that lose disks.
void World::planClone() {
  if (!disasters_ || options_.seed / 4 % 5 != 2) return;
  const int64_t length = int64_t(stepsLeft_) * 700 * kNsPerMs;
  plan(length / 4 + int64_t(below(uint64_t(length) / 2)), [this] { cloneMachine(); });
}

void World::cloneMachine() {
  const size_t number = below(machines_.size());
  auto& sim = *machines_[number].peer;
  if (clone_ || healing_ || !sim.started || sim.disk.isPowerOff() || machines_[number].full) return;
  const FakeImage image = sim.disk.snapshot();
  const size_t copy = machines_.size();
  addMachine(sim.options.rootMark);
  auto& other = *machines_[copy].peer;
  say(copy, "is a copy of " + name(number) + ", with its state folder");
  count("state folders copied");
  other.key = sim.key;
  other.options.settings = sim.options.settings;
  other.started = true;
  other.restore(image, true, true);
  exposeDisk(copy);  // Its user may replace what is there, and is not known to have seen it.
  clone_ = Clone{number, copy};
  startPeer(copy);
  for (size_t i = links_.size(); i-- > 0;) {
    const bool first = &links_[i]->end(0) == &sim;
    if (!first && &links_[i]->end(1) != &sim) continue;
    links_.push_back(std::make_unique<SimLink>(links_[i]->end(first ? 1 : 0), other));
    watchLink(*links_.back());
    reconnectSoon(*links_.back());
  }
}

Machine& World::machineOf(const SimPeer& peer) {
  return *std::find_if(machines_.begin(), machines_.end(), [&](const auto& machine) { return machine.peer.get() == &peer; });
}

uint64_t World::lifeOf(const SimPeer& peer) { return uint64_t(&machineOf(peer) - machines_.data()) << 32 | peer.lives; }

/// Nothing else connects machines, so that two under one key are noticed.
void World::connect(SimLink& link) {
  if (refuses(link)) return;
  if (!clone_ || link.connected() || !link.end(0).running() || !link.end(1).running()) {
    link.connect();
    return tellEachOther();
  }
  for (int side : {0, 1}) {
    const auto& machine = machineOf(link.end(side));
    const bool forgotten = queue_.nowNs() - machine.toldNs > kForgetTwinNs;
    if (machine.toldBy && machine.toldBy != &link.end(1 - side) && !forgotten) return;  // It asks who told it only.
  }
  const bool first = meets(link, 0), second = meets(link, 1);
  if (first && second) link.connect();
}

/// As Connector::alone(), and what it says to the other side.
bool World::meets(SimLink& link, int side) {
  auto& self = machineOf(link.end(side));
  auto& other = machineOf(link.end(1 - side));
  const int64_t nowMs = queue_.nowNs() / kNsPerMs;
  if (self.metIn != self.peer->lives) self.met.clear();
  self.metIn = self.peer->lives;
  auto& lives = self.met[other.peer->key];
  for (auto& session : links_) {
    const int at = &session->end(0) == self.peer.get() ? 0 : 1;
    if (!session->connected() || &session->end(at) != self.peer.get() || session->end(1 - at).key != other.peer->key) continue;
    lives.heard(lifeOf(session->end(1 - at)), nowMs);
    session->cut();  // The newer one stays, or none.
  }
  const bool alone = lives.met(lifeOf(*other.peer), nowMs);
  if (!alone) tellOfTwin(other, *self.peer);
  else if (other.toldBy == self.peer.get()) other.toldBy = nullptr;
  return alone;
}

/// As PeerImpl::twinsChanged() and Connector::stopForTwin().
void World::tellOfTwin(Machine& machine, const SimPeer& by) {
  machine.toldNs = queue_.nowNs();
  if (std::exchange(machine.toldBy, &by)) return;
  say(machine.peer->options.name + ": hears from " + by.options.name + " that another has its identity");
  count("peers that stop for a copy");
  machine.toldEver = true;
  for (auto& link : links_)
    if (&link->end(0) == machine.peer.get() || &link->end(1) == machine.peer.get()) link->cut();
  // Its origin ends here: who has a version of it from a batch that broke off issues that again (AGREEMENT.md 22), and has not
  // seen what replaces it from now on.
  for (const auto& [dot, blob] : knowledgeOf(size_t(&machine - machines_.data())).heads) exposed_.insert(blob);
  std::lock_guard held(machine.peer->scheduler->coreLock());
  machine.peer->core->beginLife();
}

/// Both have stopped, and say so; then one of them gets an identity of its own: its state folder goes, and it joins with its
/// folder. The other goes on when it has been alone for a while.
void World::separateClone() {
  if (!clone_) return;
  const size_t number = clone_->of, copy = clone_->copy;
  auto stopped = [&] {
    return std::all_of(links_.begin(), links_.end(), [&](auto& link) {
      const bool ofOne = link->end(0).key == machines_[copy].peer->key || link->end(1).key == machines_[copy].peer->key;
      return !ofOne || !link->connected();
    });
  };
  auto both = [&] { return machines_[number].toldEver && machines_[copy].toldEver && stopped(); };
  for (int i = 0; i < kMeetings && !both(); ++i) {
    for (auto& link : links_) connect(*link);
    runFor(1000 * kNsPerMs);
  }
  if (!both()) throw Broken(name(number) + " and its copy " + name(copy) + " both run, and have not stopped");
  const size_t leaves = oneIn(2) ? number : copy;
  loseDisk(leaves, "gets an identity of its own", "identities of their own", false, false);
  auto& sim = *machines_[leaves].peer;
  sim.joinAnew(uint8_t(machines_.size() + 1));
  machines_[number].toldEver = machines_[copy].toldEver = false;
  machines_[leaves].toldBy = nullptr;
  tellMembers();
  startPeer(leaves);
}

}  // namespace realize::test
