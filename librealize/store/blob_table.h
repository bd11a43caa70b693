#pragma once

// Chunk lists of blobs, where chunks are found again, and the cache of Unreal bytes.
// Methods throw DatabaseError; thread rules as in database.h.

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "librealize/model/blob.h"
#include "librealize/store/totals.h"

namespace realize::store {

/// A known content. Only blobs of several chunks need a row: the id of a smaller one follows from its bytes.
struct BlobRow {
  BlobId blob;
  uint64_t sizeBytes = 0;
  std::string chunkList;  ///< as encodeChunkList() gives it; empty for a blob of at most one chunk
  bool operator==(const BlobRow&) const = default;
};

/// Where the bytes of a chunk would be: in that blob. Whether the blob is here is for the disk table or cache to say.
struct ChunkPlace {
  size_t asked = 0;  ///< index into the hashes asked for
  BlobId blob;
  uint32_t index = 0;      ///< of the chunk in the blob
  uint64_t offset = 0;     ///< of the chunk in the blob, bytes
  uint32_t sizeBytes = 0;  ///< of the chunk
};

class BlobTable {
 public:
  explicit BlobTable(Database& db);

  std::optional<BlobRow> get(const BlobId& blob);
  bool has(const BlobId& blob);
  /// Inserts (a blob never changes) and makes its chunks findable. Throws Corrupt for a list that does not decode.
  void put(const BlobRow& row);
  void erase(const BlobId& blob);
  /// Blobs that have any of these chunks, at most `perHash` for each, sorted by `asked`. Exact: whole hashes were
  /// compared.
  std::vector<ChunkPlace> findChunks(std::span<const ChunkHash> hashes, size_t perHash = 2);
  uint64_t count();

 private:
  Database& db_;
  Statement get_, put_, erase_, number_, byNumber_, putChunk_, eraseChunk_, find_, count_;
};

/// A blob's sparse file in the cache folder, and which of its chunks are in it.
struct CacheRow {
  BlobId blob;
  uint64_t sizeBytes = 0;    ///< of the whole blob
  uint64_t storedBytes = 0;  ///< of the chunks present; what the quota counts
  std::string present;       ///< bitmap, chunk i is bit i%8 of byte i/8; empty when complete
  bool complete = false;
  int64_t lastReadNs = 0;    ///< Unix time
  bool unlinked = false;     ///< no entry shows it any more: evicted first
  uint32_t keptHours = 0;    ///< no entry shows it, for no user let it go: so long before it becomes unlinked, and evicted last
  /// Else it is of a file that a power cut left, which is only to be evicted: not even the size is to be believed.
  bool knowsAny() const { return complete || !present.empty(); }
  bool operator==(const CacheRow&) const = default;
};

class CacheTable {
 public:
  explicit CacheTable(Database& db);

  std::optional<CacheRow> get(const BlobId& blob);
  void put(const CacheRow& row);
  void erase(const BlobId& blob);
  /// A power cut may undo that its row was erased: another file than that spoke of must not be made before makeDurable().
  bool mayComeBack(const BlobId& blob) const;
  /// Notes a read. At most once a minute for a blob, so that reads do not become writes: the caller keeps count.
  void setLastRead(const BlobId& blob, int64_t lastReadNs);
  /// With when that was, which is its age from then on. What is kept for hours does not become unlinked before.
  void setUnlinked(const BlobId& blob, bool unlinked, int64_t whenNs);
  void setKeptHours(const BlobId& blob, uint32_t hours);
  bool anyKept();
  /// One less for all that are kept for hours. Those that have none left become unlinked.
  void hourPassed();
  /// In the order of eviction: unlinked ones, then least recently read, then those that are kept for hours.
  std::vector<CacheRow> evictionOrder(size_t limit);
  std::vector<BlobId> all();
  /// Rows and stored bytes.
  const Totals& totals() { return totals_.get(); }
  /// Of these, what is unlinked.
  const Totals& unlinkedTotals() { return unlinkedTotals_.get(); }

  void writeBack();
  void forget();
  void madeDurable() { erased_.clear(); }

 private:
  Database& db_;
  std::set<BlobId> erased_;  ///< since the last makeDurable(); with too many, it stands for all
  TotalsKeeper totals_, unlinkedTotals_;
  Statement get_, put_, erase_, setLastRead_, setUnlinked_, evictionOrder_, all_, keptOrder_, lastHour_, hourPassed_;
};

}  // namespace realize::store
