#include "librealize/peer/keep_locks.h"

#include <algorithm>

namespace realize::peer {

void KeepLocks::load() {
  for (const auto& task : core_.store.promised().next({}, SIZE_MAX >> 1)) take(PeerKey(), {core_.store.idOf(task.node).value_or(EntryId()), task.blob});
}

KeepLocks::Lock* KeepLocks::find(const PeerKey& peer, const EntryContent& content) {
  const auto known = locks_.find(content.blob);
  if (known == locks_.end()) return nullptr;
  for (auto& lock : known->second)
    if (lock.peer == peer && lock.entry == content.entry) return &lock;
  return nullptr;
}

void KeepLocks::take(const PeerKey& peer, const EntryContent& content) {
  if (auto* lock = find(peer, content)) ++lock->taken;
  renew(peer, content);
}

void KeepLocks::renew(const PeerKey& peer, const EntryContent& content) {
  const int64_t until = core_.env.clock.elapsedNs() + kPromiseMs * 1'000'000;
  if (auto* lock = find(peer, content)) lock->untilNs = until;
  else locks_[content.blob].push_back({peer, content.entry, until});
}

void KeepLocks::keep(NodeId node, const EntryContent& content) { core_.store.promised().put({node, content.blob, 0}); }

void KeepLocks::release(const PeerKey& peer, const EntryContent& content) {
  auto* lock = find(peer, content);
  if (!lock || --lock->taken > 0) return;
  auto& locks = locks_[content.blob];
  locks.erase(locks.begin() + (lock - locks.data()));
  if (locks.empty()) forget({content.blob});
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
