#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>

#include "realize/types.h"

namespace realize::peer {

/// The bytes that those arenas of a peer share that have no limit of their own: Real files and caches of all together.
/// Real files have what they need; the caches get what is left. Thread: any.
class CacheQuota {
 public:
  /// Drop so many bytes of what was read before that time, or is unlinked; and look at the limit again. Must only post.
  using Trim = std::function<void(uint64_t bytes, int64_t readBeforeNs)>;
  /// Whatever can go, what a policy took away too: who asks has nothing more that could.
  static constexpr int64_t kLastOfAll = INT64_MAX;

  /// 0: no limit. Every arena is asked to look at it.
  void setLimit(uint64_t bytes);
  uint64_t limit();

  void join(const ArenaId& arena, Trim trim);
  void leave(const ArenaId& arena);
  /// What the arena's cache may have, as it says what it uses and that it would like to have `wantedBytes` in its cache.
  /// What it may have of that is its own from now on, until it says otherwise: no two arenas take the same room.
  uint64_t allow(const ArenaId& arena, uint64_t realBytes, uint64_t cacheBytes, uint64_t wantedBytes);
  /// Another arena needs room: the others drop what is older than that.
  void askOthers(const ArenaId& arena, uint64_t bytes, int64_t readBeforeNs);
  uint64_t usedByOthers(const ArenaId& arena);

 private:
  struct Member {
    uint64_t bytes = 0;  ///< Real and cached, with what it was allowed
    Trim trim;
  };
  uint64_t others(const ArenaId& arena) const;
  std::mutex mutex_;
  uint64_t limitBytes_ = 0;
  std::map<ArenaId, Member> members_;
};

}  // namespace realize::peer
