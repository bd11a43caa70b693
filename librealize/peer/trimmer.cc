#include "librealize/peer/trimmer.h"

#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"

namespace realize::peer {

namespace {
constexpr int64_t kQuietMs = 5'000;     // After what woke it: removals come in swarms.
constexpr int64_t kPauseMs = 200;       // Between two turns of one pass.
constexpr size_t kEntriesATurn = 500;   // A few ms under the core lock.
constexpr int64_t kNsPerMs = 1'000'000;
}  // namespace

Trimmer::Trimmer(Core& core) : core_(core) {}
Trimmer::~Trimmer() { stop(); }

void Trimmer::stop() { *alive_ = false; }

void Trimmer::setMembers(std::set<PeerKey> members) {
  if (members_ == members) return;
  members_ = std::move(members);
  wake();
}

void Trimmer::wake() {
  if (scheduled_ || core_.stopping) return;
  scheduled_ = true;
  core_.env.scheduler.onCoreAfter(kQuietMs, [this, alive = alive_] { if (*alive) turn(); });
}

// What the folder still has of it is about to be removed there, or to come back as a change.
bool Trimmer::mayForget(const logic::Record& record) { return !core_.store.disk().get(record.node); }

std::vector<PeerKey> Trimmer::active() {
  std::set<PeerKey> counted;
  if (members_) {
    counted = *members_;
  } else {
    for (const auto& [peer, vector] : core_.tree.acks()) counted.insert(peer);
    for (const auto& row : core_.store.members().all()) counted.insert(row.peer);
  }
  counted.erase(core_.options.self);
  const auto& live = core_.exchange->members();
  const int64_t now = core_.env.clock.nowNs();
  for (auto row : core_.store.members().all()) {
    if (!counted.contains(row.peer) || row.lastSeenNs == 0) continue;
    auto connection = live.find(row.peer);
    const bool connected = connection != live.end() && connection->second.connected;
    const bool away = !connected && now - row.lastSeenNs > core_.settings.inactiveAfterMs * kNsPerMs;
    if (row.active && away) {
      row.active = false;
      core_.store.members().put(row);
    }
    if (!row.active) counted.erase(row.peer);
  }
  return {counted.begin(), counted.end()};
}

void Trimmer::turn() {
  scheduled_ = false;
  if (core_.stopping || core_.suspended) return;  // Woken when it goes on.
  if (core_.folder->settling()) return wake();
  const VersionVector before = core_.tree.trimmed();
  size_t looked = 0;
  const bool committed = core_.transact([&] {
    looked = core_.tree.trim(active(), [this](const logic::Record& r) { return mayForget(r); }, kEntriesATurn);
  });
  if (!committed) return;
  if (core_.tree.trimmed() != before) core_.exchange->changed(false);
  if (looked == 0) return;
  scheduled_ = true;
  core_.env.scheduler.onCoreAfter(kPauseMs, [this, alive = alive_] { if (*alive) turn(); });
}

}  // namespace realize::peer
