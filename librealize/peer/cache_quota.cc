#include "librealize/peer/cache_quota.h"

#include <algorithm>

namespace realize::peer {

void CacheQuota::setLimit(uint64_t bytes) {
  std::lock_guard held(mutex_);
  limitBytes_ = bytes;
  for (auto& [id, member] : members_) member.trim(0, 0);
}

uint64_t CacheQuota::limit() {
  std::lock_guard held(mutex_);
  return limitBytes_;
}

void CacheQuota::join(const ArenaId& arena, Trim trim) {
  std::lock_guard held(mutex_);
  members_[arena].trim = std::move(trim);
}

void CacheQuota::leave(const ArenaId& arena) {
  std::lock_guard held(mutex_);
  members_.erase(arena);
}

uint64_t CacheQuota::others(const ArenaId& arena) const {
  uint64_t sum = 0;
  for (const auto& [id, member] : members_)
    if (id != arena) sum += member.bytes;
  return sum;
}

uint64_t CacheQuota::allow(const ArenaId& arena, uint64_t realBytes, uint64_t cacheBytes, uint64_t wantedBytes) {
  std::lock_guard held(mutex_);
  if (limitBytes_ == 0) return UINT64_MAX;
  const uint64_t taken = others(arena) + realBytes;
  const uint64_t allowed = limitBytes_ > taken ? limitBytes_ - taken : 0;
  if (auto member = members_.find(arena); member != members_.end())
    member->second.bytes = realBytes + std::max(cacheBytes, std::min(wantedBytes, allowed));
  return allowed;
}

void CacheQuota::askOthers(const ArenaId& arena, uint64_t bytes, int64_t readBeforeNs) {
  std::lock_guard held(mutex_);
  for (auto& [id, member] : members_)
    if (id != arena && member.bytes > 0) member.trim(bytes, readBeforeNs);
}

uint64_t CacheQuota::usedByOthers(const ArenaId& arena) {
  std::lock_guard held(mutex_);
  return others(arena);
}

}  // namespace realize::peer
