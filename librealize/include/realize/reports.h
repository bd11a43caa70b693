#pragma once

// What longer looks at an arena's bytes find: its cache, what was damaged.

#include <cstdint>
#include <string>
#include <vector>

#include "realize/types.h"

namespace realize {

/// Something that no longer holds the bytes that it should.
struct Damage {
  std::string path;    ///< within the arena; "" in the cache
  std::string where;   ///< "folder" or "cache"
  std::string state;   ///< "repaired"; "wanted": the right bytes come once a peer that has them connects; "left": stays as
                       ///< it is, see `detail`; "dropped": from the cache, fetched again when needed
  std::string keptAs;  ///< where the damaged bytes are kept, within the arena's folder; "" nowhere
  std::string detail;
};

struct VerifyReport {
  uint64_t files = 0, bytes = 0;              ///< read, of the folder
  uint64_t cachedBlobs = 0, cachedBytes = 0;  ///< read, of the cache
  uint64_t changed = 0;  ///< files that somebody is changing: left to the scan
  uint64_t damagedCount = 0, repairedCount = 0;
  std::vector<Damage> damaged;  ///< at most 1,000
  /// Nothing was damaged, or what was is whole again. What was dropped from the cache is no loss.
  bool whole() const {
    uint64_t dropped = 0;
    for (const auto& damage : damaged) dropped += damage.state == "dropped";
    return damagedCount == repairedCount + dropped;
  }
};

/// What an arena's bytes on this disk are, and how much its cache may have.
struct CacheStatus {
  uint64_t limitBytes = 0;        ///< of Real files and cache together; 0: none
  bool limitShared = false;       ///< it is the one of all arenas together that have none of their own
  uint64_t allowedBytes = 0;      ///< what of it is left for the cache; only with a limit
  uint64_t otherArenasBytes = 0;  ///< what other arenas take of a shared limit
  uint64_t realBytes = 0;         ///< of Real files
  uint64_t unconfirmedBytes = 0;  ///< of these, what is marked unreal and no other peer has for sure yet
  uint64_t cachedBytes = 0;       ///< all of the cache: the sum of what follows, and what is on its way
  uint64_t evictableBytes = 0;    ///< goes when room is needed, the least recently read first; what `conflicts newest` took away last
  uint64_t unlinkedBytes = 0;     ///< no file here shows it any more: goes before that
  uint64_t openBytes = 0;         ///< being read
  uint64_t comingBytes = 0;       ///< of files that become Real
  uint64_t pinnedBytes = 0;       ///< further versions of a conflict, what another name needs, and what a restore left to be recognised
  std::string why;                ///< why the cache is larger than allowed, or may be nothing; empty: it is not
};

/// What to bring back: what was removed or replaced.
struct UndoRequest {
  std::string path;       ///< within the arena; "" all of it: then `sinceNs` is needed
  int64_t sinceNs = 0;    ///< Unix time: the state of then, of all below `path` that changed since. 0: the last change of `path`
                          ///< itself, with what was removed together with it
  uint64_t change = 0;    ///< or only that change
};

/// A change that took something away.
struct UndoItem {
  uint64_t change = 0;    ///< its number
  int64_t whenNs = 0;
  std::string peer;       ///< who did it, where known
  std::string what;       ///< "remove", "edit", "conflict", or "put back" by `realize confirm --keep`
  std::string path;       ///< then
  EntryKind kind = EntryKind::File;
  uint64_t sizeBytes = 0;
  bool here = false;      ///< its bytes are on this peer
  std::string state;      ///< "listed"; of undo(): "restored", "would", "left"
  std::string detail;     ///< why it was left
};

struct UndoReport {
  std::vector<UndoItem> items;
  uint64_t restored = 0;  ///< or would be
  uint64_t left = 0;
};

}  // namespace realize
