#include "librealize/peer/keep_locks.h"

#include <algorithm>

namespace realize::peer {

void KeepLocks::load() {
  for (const auto& task : core_.store.promised().next({}, SIZE_MAX >> 1)) take(PeerKey(), {core_.store.idOf(task.node).value_or(EntryId()), task.blob});
}

void KeepLocks::take(const PeerKey& peer, const EntryContent& content) {
  const int64_t until = core_.env.clock.elapsedNs() + kPromiseMs * 1'000'000;
  auto& locks = locks_[content.blob];
  for (auto& lock : locks)
    if (lock.peer == peer && lock.entry == content.entry) {
      lock.untilNs = until;
      return;
    }
  locks.push_back({peer, content.entry, until});
}

void KeepLocks::keep(NodeId node, const EntryContent& content) { core_.store.promised().put({node, content.blob, 0}); }

void KeepLocks::release(const PeerKey& peer, const EntryContent& content) {
  auto known = locks_.find(content.blob);
  if (known == locks_.end()) return;
  std::erase_if(known->second, [&](const Lock& lock) { return lock.peer == peer && lock.entry == content.entry; });
  if (known->second.empty()) forget({content.blob});
}

bool KeepLocks::locked(const BlobId& blob) {
  auto known = locks_.find(blob);
  if (known == locks_.end()) return false;
  const int64_t now = core_.env.clock.elapsedNs();
  return std::any_of(known->second.begin(), known->second.end(), [&](const Lock& lock) { return lock.untilNs >= now; });
}

void KeepLocks::prune() {
  const int64_t now = core_.env.clock.elapsedNs();
  std::vector<BlobId> over;
  for (auto& [blob, locks] : locks_) {
    std::erase_if(locks, [&](const Lock& lock) { return lock.untilNs < now; });
    if (locks.empty()) over.push_back(blob);
  }
  forget(over);
}

uint64_t KeepLocks::count() {
  prune();
  return locks_.size();
}

void KeepLocks::forget(const std::vector<BlobId>& blobs) {
  if (blobs.empty()) return;
  core_.transact([&] {
    for (const auto& blob : blobs)
      for (const auto& task : core_.store.promised().ofBlob(blob)) core_.store.promised().erase(task.node, blob);
  });
  for (const auto& blob : blobs) locks_.erase(blob);
}

}  // namespace realize::peer
