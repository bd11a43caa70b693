#pragma once

// Blob bytes: fetching from connected peers, the cache of Unreal contents, serving others (DESIGN 4).

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "librealize/peer/core.h"

namespace realize::peer {

struct BlobState;
struct Plan;
struct Wish;
struct OpenUse;

/// What a whole content is fetched for: the limit of the cache does not hold back what becomes Real.
enum class FetchFor : uint8_t { Cache, Real };

/// A content that somebody reads or wants whole, kept usable while held: never evicted, and if it was opened from a Real
/// file that is later replaced, still readable (the file stays open). Drop it anywhere.
struct OpenBlob {
  std::shared_ptr<BlobState> state;
  std::shared_ptr<OpenUse> use{};
};

/// Thread: core, but where noted. Every byte handed out or written into place was verified against its hash.
class Transfers {
 public:
  explicit Transfers(Core& core);
  ~Transfers();

  void connected(RemoteArena& remote);
  void disconnected(const PeerKey& key);

  // --- reading
  /// Opens a content for reading by ranges. From a Real file with that content if there is one, else cache and peers.
  OpenBlob open(const BlobId& blob, uint64_t sizeBytes);
  /// Where some byte of it is that is not here, another for each `which`; 0 if nothing is known of it, or nothing is missing.
  static uint64_t missingAt(const OpenBlob& blob, uint64_t which);
  /// Reads a range: fetches the chunks it needs first, reads ahead when the pattern is sequential. What a Real file has no
  /// more, as its user edited it, is fetched, too. `done` on a pool thread or at once.
  /// Errors: Unreachable at once when no connected peer has it; Corrupt; NoSpace; Cancelled.
  /// Returns a number for cancel(), 0 when answered already.
  uint64_t read(const OpenBlob& blob, uint64_t offset, size_t size,
                std::function<void(Result<Bytes>)> done);
  void cancel(uint64_t request);
  /// Brings the whole content into the cache, also where a file of the folder has it, and keeps it there for
  /// the entry (pin()). `done` on the core.
  void keep(const EntryId& id, const BlobId& blob, uint64_t sizeBytes, std::function<void(Result<void>)> done);
  /// Brings the whole content into the cache. `progress` (done bytes) may be null; `done` on the core.
  /// Errors: as of read(); NoSpace also where it is for the cache and larger than that may become.
  uint64_t fetchWhole(const BlobId& blob, uint64_t sizeBytes, std::function<void(uint64_t)> progress,
                      std::function<void(Result<void>)> done, FetchFor why = FetchFor::Cache);

  // --- making real
  /// New files go to their places by the pool (Folder::putNew()). Call it before anything on the core depends on what the
  /// folder holds, or changes names in it: what came to its place is noted, and no more does before the core's next turn.
  /// Waits for some milliseconds at most.
  void finishPlacing();
  /// Runs it on the core when nothing is on its way so, soon or at once.
  void afterPlacing(std::function<void()> job);
  /// Makes this file Real now, whatever is marked: fetched if need be, then put in place. `done` on the core, once.
  /// Errors: Unreachable, NotFound (replaced meanwhile), Busy, NoSpace, disk errors.
  void makeReal(const EntryId& id, Dot dot, const BlobId& blob, uint64_t sizeBytes, std::function<void(Result<void>)> done);
  /// The wanted queue changed, or a peer connected: works through Marks' wanted entries in the background, many small
  /// files a request, large ones by chunks; every completed batch is synced once and put in place with Folder::place.
  void wakeWanted();
  /// This was put into the queue: as wakeWanted(), without a look at all that is in it.
  void wanted(const Wish& wish);
  /// Of what is wanted: where it goes. Forgotten where there are very many, and when the entry is touched.
  void plan(Plan plan);
  /// The entries have changed, or what they are to be here.
  void touched(const std::vector<EntryId>& entries);
  void touched(const EntryId& entry);

  // --- the cache
  /// An entry has this content since now. Kept for neededElsewhere(), bounded.
  void noteNamed(const BlobId& blob, const EntryId& id);
  /// These bytes are about to go with `id`: the other entries that wait for them here, or got this content lately and may
  /// have it from nowhere else.
  std::vector<EntryId> neededElsewhere(const BlobId& blob, const EntryId& id);
  /// What is in the cache is not evicted while one of these entries shows it and has it not in the folder.
  void pin(const BlobId& blob, const std::vector<EntryId>& entries);
  /// Versions whose bytes are complete in the cache, pinned for these entries.
  std::vector<EntryContent> pinnedContents();
  /// For each entry at start, then for all: whose pins those are that an earlier version set.
  void claimPins(const EntryId& id, const std::vector<logic::ShownHead>& heads);
  void allClaimed();
  uint64_t cachedBytes(const BlobId& blob);
  uint64_t cachedBytesTotal();
  bool complete(const BlobId& blob);  ///< all bytes here, as a Real file or in the cache
  bool cachedForGood(const BlobId& blob);  ///< all in the cache, and on the disk
  /// Complete, synced files have been moved to cachePath(blob): they are ours to evict from now on. Their names are synced
  /// first, in one go. `torn`: they may have other bytes (Folder::mayBeTorn()), and count once they were read.
  void adopt(const std::vector<std::pair<BlobId, uint64_t>>& contents, bool torn = false);
  static std::string cachePath(const BlobId& blob);
  /// Drops down to `bytes`: unlinked first, what a policy took away last; never what is open, wanted, unconfirmed or pinned.
  uint64_t shrink(uint64_t bytes);
  /// Contents that no entry here shows any more (transfers_unlinked.cc). A peer's change takes this content from the folder:
  /// true if there is room to keep it, for which older ones may have gone.
  bool mayKeepUnlinked(const BlobId& blob, uint64_t sizeBytes);
  /// Its whole file has been moved to cachePath(blob). Within a transaction.
  void adoptUnlinked(const BlobId& blob, uint64_t sizeBytes);
  /// An entry shows it no more, or was removed: if it is in the cache it goes first, and in time. Within a transaction.
  void noteGone(const BlobId& blob);
  /// A policy took it away, which no user did: a full disk does not take it, too. Within a transaction.
  void keepForDays(const BlobId& blob);
  /// The disk is full: they make way.
  void dropUnlinked();

  /// Whose bytes these are, and how much of them could go. Cost: all rows of the cache.
  CacheStatus cacheStatus();
  /// The limit is another one, or Real files took of it: kept soon, in a job of its own.
  void limitChanged();
  void settingsChanged();

  /// The file in the cache does not hold what this row says: both go, the file to `aside` where its bytes are pinned. False
  /// if it is in use, or the row is another by now.
  bool discard(const store::CacheRow& row, const std::string& aside);

  // --- serving (see ArenaService)
  void serveChunkList(const PeerKey& from, const BlobId& blob, uint8_t hops, std::function<void(Result<ChunkList>)> done);
  void serveGet(const PeerKey& from, const GetRequest& request, ChunkSink sink,
                std::function<void(Result<std::vector<WantStatus>>)> done);

  /// The folder hashed a file: its chunk list is known (kept if of more than one chunk).
  void noteChunkList(const BlobId& blob, const ChunkList& list);

  void start();
  void stop();
  /// A peer sent a damaged content for this path, lately, and neither has it sent a right one nor is another there now.
  bool stillCorrupt(const std::string& path);
  /// The database is back: what a failure cut off is tried again.
  void resumed();

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace realize::peer
