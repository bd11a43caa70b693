#include "librealize/peer/conflict_policy.h"

#include <algorithm>

#include "librealize/peer/conflicts.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr int64_t kQuietMs = 200;    // Versions come in swarms.
constexpr int64_t kOthersMs = 60'000;  // For the newest version's author to act first.
constexpr int64_t kAgainMs = 5000;   // Where the bytes could not be had, or the file is being changed.
constexpr int64_t kAgainMostMs = 600'000;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr size_t kEntriesATurn = 100;  // Of a transaction each.
}  // namespace

ConflictPolicy::ConflictPolicy(Core& core) : core_(core) {}
ConflictPolicy::~ConflictPolicy() { stop(); }

void ConflictPolicy::stop() { *alive_ = false; }

void ConflictPolicy::queue(const EntryId& id) {
  const int64_t now = core_.env.clock.monotonicNs();
  auto [waiting, fresh] = queue_.try_emplace(id, Waiting{now, now});
  if (!fresh) waiting->second = Waiting{waiting->second.sinceNs, now};  // Other versions, or somebody else to have them from.
}

void ConflictPolicy::noteChange(const logic::Effect& effect) {
  if (!on() || effect.kind == EntryKind::Directory) return;
  const logic::Record* record = effect.isShown ? core_.tree.peek(effect.id) : nullptr;
  if (!record || record->entry.heads.size() < 2) return (void)queue_.erase(effect.id);  // Somebody settled it.
  queue(effect.id);
  wake(kQuietMs);
}

void ConflictPolicy::bytesCame(const EntryId& id) {
  auto waiting = queue_.find(id);
  if (waiting == queue_.end()) return;
  waiting->second.nextNs = core_.env.clock.monotonicNs();
  wake(kQuietMs);
}

void ConflictPolicy::lookAll() {
  if (!on()) return queue_.clear();
  eachConflict(core_, [&](const logic::Record& record, const std::vector<logic::ShownHead>&) { queue(record.entry.id); });
  if (!queue_.empty()) wake(kQuietMs);
}

void ConflictPolicy::wake(int64_t delayMs) {
  const int64_t atNs = core_.env.clock.monotonicNs() + delayMs * kNsPerMs;
  if (core_.stopping || (turnNs_ != 0 && turnNs_ <= atNs)) return;
  turnNs_ = atNs;
  core_.env.scheduler.onCoreAfter(delayMs, [this, alive = alive_, atNs] {
    if (*alive && turnNs_ == atNs) turn();  // Else another one comes before.
  });
}

void ConflictPolicy::turn() {
  turnNs_ = 0;
  if (core_.stopping || core_.suspended || !on()) return;  // Woken when it goes on.
  // What is being read here may be another version still.
  if (core_.folder->settling()) return wake(kQuietMs);
  const int64_t now = core_.env.clock.monotonicNs();
  std::vector<EntryId> due;
  for (auto it = queue_.begin(); it != queue_.end() && due.size() < kEntriesATurn; ++it)
    if (it->second.nextNs <= now) due.push_back(it->first);
  for (const auto& id : due) {
    // What settles one changes it, and may change others.
    auto waiting = queue_.find(id);
    if (waiting != queue_.end() && settle(id, waiting->second)) queue_.erase(id);
  }
  if (queue_.empty()) return;
  auto next = std::min_element(queue_.begin(), queue_.end(), [](const auto& x, const auto& y) { return x.second.nextNs < y.second.nextNs; });
  wake(std::max<int64_t>(1, (next->second.nextNs - now) / kNsPerMs));
}

/// True once it is in the cache for good. Else it is being brought there.
bool ConflictPolicy::bringHere(const EntryId& id, const Version& version) {
  if (version.sizeBytes == 0) return true;
  if (core_.transfers->cachedForGood(version.blob)) return true;
  if (!fetching_.emplace(id, version.blob).second) return false;
  core_.transfers->keep(id, version.blob, version.sizeBytes, [this, alive = alive_, id, blob = version.blob](Result<void> kept) {
    if (!*alive) return;
    fetching_.erase({id, blob});
    auto waiting = queue_.find(id);
    // Looked at again when its time has come; also where the cache had no room for it after all.
    if (!kept.ok() || waiting == queue_.end() || !core_.transfers->cachedForGood(blob)) return;
    waiting->second.nextNs = core_.env.clock.monotonicNs();
    wake(1);
  });
  return false;
}

/// True when there is nothing left to do.
bool ConflictPolicy::settle(const EntryId& id, Waiting& waiting) {
  const auto record = core_.tree.get(id);
  if (!record || !record->shown) return true;
  const auto heads = core_.tree.shownHeads(id);
  if (heads.size() < 2) return true;
  // The bytes of a hard link are another entry's; versions that all were let go by somebody may be nowhere.
  for (const auto& head : heads)
    if (!head.version.target.isZero()) return true;
  if (logic::allLetGo(record->entry)) return true;
  const auto& newest = heads.front();
  const bool ours = newest.version.author == core_.options.self;
  const int64_t now = core_.env.clock.monotonicNs();
  waiting.nextNs = ours ? now : waiting.sinceNs + kOthersMs * kNsPerMs;
  if (waiting.nextNs > now) return false;
  waiting.againMs = std::clamp(2 * waiting.againMs, kAgainMs, kAgainMostMs);
  waiting.nextNs = now + waiting.againMs * kNsPerMs;

  const auto path = core_.shownPath(id);
  if (!path.ok()) return true;
  const bool copies = core_.settings.conflicts == ConflictRule::Copies;
  bool here = true;
  const auto row = core_.store.disk().get(record->node);
  for (const auto& head : heads) {
    if (record->entry.kind != EntryKind::File) break;
    // The entry's own file goes, unless it has the version that stays. What is replaced is in the cache for good by then, so
    // that it can be undone whatever happens.
    if (head.dot == newest.dot && row && row->blob == head.version.blob) continue;
    here = bringHere(id, head.version) && here;
  }
  if (!here) return false;

  auto keptOrCopied = [&]() -> Result<void> {
    for (const auto& head : heads) {
      if (head.dot == newest.dot) continue;
      if (!copies) {
        core_.transfers->keepForDays(head.version.blob);
        continue;
      }
      REALIZE_ASSIGN(const auto copy, core_.tree.copyVersion(id, head.dot));
      if (copy && record->entry.kind == EntryKind::File && head.version.sizeBytes > 0)
        core_.transfers->pin(head.version.blob, {*copy});
    }
    return {};
  };
  const auto chosen = chooseVersion(core_, *record, newest.dot, core_.options.name + ":" + *path, nullptr, keptOrCopied);
  if (!chosen.ok()) return false;
  core_.transfers->limitChanged();  // What was kept for it may go.
  return true;
}

}  // namespace realize::peer
