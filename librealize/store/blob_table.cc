#include "librealize/store/blob_table.h"

#include <algorithm>
#include <unordered_map>

namespace realize::store {

namespace {

constexpr size_t kMostErased = 4096;

int64_t prefixOf(const ChunkHash& hash) {
  uint64_t out = 0;
  for (int i = 0; i < 8; ++i) out = out << 8 | hash.bytes[i];
  return int64_t(out);
}

ChunkList decoded(std::string_view bytes) {
  if (bytes.empty()) return {};
  auto list = decodeChunkList(bytes);
  if (!list.ok()) throw DatabaseError(Code::Corrupt, "a chunk list does not decode: " + list.error().message);
  return std::move(*list);
}

}  // namespace

BlobTable::BlobTable(Database& db)
    : db_(db),
      get_(db, "SELECT size, chunks FROM blob WHERE blob = ?"),
      put_(db, "INSERT INTO blob (blob, size, chunks) VALUES (?, ?, ?)"),
      erase_(db, "DELETE FROM blob WHERE number = ?"),
      number_(db, "SELECT number FROM blob WHERE blob = ?"),
      byNumber_(db, "SELECT blob, chunks FROM blob WHERE number = ?"),
      putChunk_(db, "INSERT OR IGNORE INTO chunk (prefix, blob, position) VALUES (?, ?, ?)"),
      eraseChunk_(db, "DELETE FROM chunk WHERE prefix = ? AND blob = ?"),
      find_(db, "SELECT blob, position FROM chunk WHERE prefix = ?"),
      count_(db, "SELECT count(*) FROM blob") {}

std::optional<BlobRow> BlobTable::get(const BlobId& blob) {
  std::optional<BlobRow> out;
  get_.first([&](Row row) { out = BlobRow{blob, row.unsignedInteger(0), row.string(1)}; }, blob);
  return out;
}

bool BlobTable::has(const BlobId& blob) { return number_.first([](Row) {}, blob); }

void BlobTable::put(const BlobRow& row) {
  ChunkList list = decoded(row.chunkList);
  db_.together([&] {
    if (has(row.blob)) return;
    put_.run(row.blob, row.sizeBytes, row.chunkList);
    int64_t number = 0;
    number_.first([&](Row r) { number = r.integer(0); }, row.blob);
    for (size_t i = 0; i < list.chunks.size(); ++i) putChunk_.run(prefixOf(list.chunks[i].hash), number, i);
  });
}

void BlobTable::erase(const BlobId& blob) {
  db_.together([&] {
    int64_t number = 0;
    if (!number_.first([&](Row row) { number = row.integer(0); }, blob)) return;
    ChunkList list;
    byNumber_.first([&](Row row) { list = decoded(row.bytes(1)); }, number);
    for (const ChunkRef& chunk : list.chunks) eraseChunk_.run(prefixOf(chunk.hash), number);
    erase_.run(number);
  });
}

std::vector<ChunkPlace> BlobTable::findChunks(std::span<const ChunkHash> hashes, size_t perHash) {
  struct Known {
    BlobId blob;
    ChunkList list;
    std::vector<uint64_t> offsets;
  };
  std::unordered_map<int64_t, Known> lists;
  auto listOf = [&](int64_t number) -> const Known& {
    auto [it, fresh] = lists.try_emplace(number);
    if (!fresh) return it->second;
    Known& known = it->second;
    byNumber_.first(
        [&](Row row) {
          known.blob = row.fixed<BlobId>(0);
          known.list = decoded(row.bytes(1));
        },
        number);
    uint64_t offset = 0;
    for (const ChunkRef& chunk : known.list.chunks) {
      known.offsets.push_back(offset);
      offset += chunk.sizeBytes;
    }
    return known;
  };

  std::vector<ChunkPlace> out;
  for (size_t asked = 0; asked < hashes.size(); ++asked) {
    size_t found = 0;
    if (perHash == 0) break;
    find_.each(
        [&](Row row) {
          const Known& known = listOf(row.integer(0));
          auto position = row.unsignedInteger(1);
          if (position >= known.list.chunks.size() || known.list.chunks[position].hash != hashes[asked]) return true;
          out.push_back({asked, known.blob, uint32_t(position), known.offsets[position],
                         known.list.chunks[position].sizeBytes});
          return ++found < perHash;
        },
        prefixOf(hashes[asked]));
  }
  return out;
}

uint64_t BlobTable::count() {
  uint64_t out = 0;
  count_.first([&](Row row) { out = row.unsignedInteger(0); });
  return out;
}

// --- Cache

#define CACHE_COLUMNS "blob, size, stored, present, complete, last_read_ns, unlinked"

CacheTable::CacheTable(Database& db)
    : db_(db),
      totals_(db, "cache"),
      unlinkedTotals_(db, "unlinked"),
      get_(db, "SELECT " CACHE_COLUMNS " FROM cache WHERE blob = ?"),
      put_(db, "INSERT OR REPLACE INTO cache (" CACHE_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?)"),
      erase_(db, "DELETE FROM cache WHERE blob = ?"),
      setLastRead_(db, "UPDATE cache SET last_read_ns = ? WHERE blob = ?"),
      setUnlinked_(db, "UPDATE cache SET unlinked = ?, last_read_ns = max(last_read_ns, ?) WHERE blob = ?"),
      evictionOrder_(db, "SELECT " CACHE_COLUMNS " FROM cache WHERE unlinked = ? ORDER BY last_read_ns LIMIT ?"),
      all_(db, "SELECT blob FROM cache"),
      keptOrder_(db, "SELECT " CACHE_COLUMNS " FROM cache WHERE unlinked > 1 ORDER BY unlinked LIMIT ?"),
      lastHour_(db, "SELECT stored FROM cache WHERE unlinked = 2"),
      hourPassed_(db, "UPDATE cache SET unlinked = unlinked - 1 WHERE unlinked > 1") {}

namespace {
// The column `unlinked`: 0 shown, 1 unlinked, above that 1 and the hours for which it is kept.
CacheRow readCacheRow(Row row) {
  const uint64_t unlinked = row.unsignedInteger(6);
  return {row.fixed<BlobId>(0), row.unsignedInteger(1), row.unsignedInteger(2), row.string(3),
          row.integer(4) != 0,  row.integer(5),         unlinked == 1,          uint32_t(unlinked > 1 ? unlinked - 1 : 0)};
}

uint64_t unlinkedColumn(const CacheRow& row) { return row.keptHours ? row.keptHours + uint64_t(1) : row.unlinked; }
}  // namespace

std::optional<CacheRow> CacheTable::get(const BlobId& blob) {
  std::optional<CacheRow> out;
  get_.first([&](Row row) { out = readCacheRow(row); }, blob);
  return out;
}

void CacheTable::put(const CacheRow& row) {
  db_.together([&] {
    if (auto old = get(row.blob)) {
      totals_.subtract(old->storedBytes);
      if (old->unlinked) unlinkedTotals_.subtract(old->storedBytes);
    }
    totals_.add(row.storedBytes);
    if (row.unlinked) unlinkedTotals_.add(row.storedBytes);
    put_.run(row.blob, row.sizeBytes, row.storedBytes, row.present, row.complete, row.lastReadNs, unlinkedColumn(row));
  });
}

void CacheTable::erase(const BlobId& blob) {
  db_.together([&] {
    auto old = get(blob);
    if (!old) return;
    totals_.subtract(old->storedBytes);
    if (old->unlinked) unlinkedTotals_.subtract(old->storedBytes);
    erase_.run(blob);
    if (erased_.size() < kMostErased) erased_.insert(blob);
  });
}

bool CacheTable::mayComeBack(const BlobId& blob) const { return erased_.size() >= kMostErased || erased_.contains(blob); }

void CacheTable::setLastRead(const BlobId& blob, int64_t lastReadNs) { setLastRead_.run(lastReadNs, blob); }

void CacheTable::setUnlinked(const BlobId& blob, bool unlinked, int64_t whenNs) {
  db_.together([&] {
    auto old = get(blob);
    if (!old || (old->keptHours ? unlinked : old->unlinked == unlinked)) return;
    if (unlinked) unlinkedTotals_.add(old->storedBytes);
    else if (old->unlinked) unlinkedTotals_.subtract(old->storedBytes);
    setUnlinked_.run(unlinked, whenNs, blob);
  });
}

void CacheTable::setKeptHours(const BlobId& blob, uint32_t hours) {
  db_.together([&] {
    auto row = get(blob);
    if (!row) return;
    if (row->unlinked) unlinkedTotals_.subtract(row->storedBytes);
    row->unlinked = false;
    row->keptHours = hours;
    setUnlinked_.run(unlinkedColumn(*row), row->lastReadNs, blob);
  });
}

bool CacheTable::anyKept() {
  bool any = false;
  keptOrder_.first([&](Row) { any = true; }, 1);
  return any;
}

void CacheTable::hourPassed() {
  db_.together([&] {
    lastHour_.each([&](Row row) { unlinkedTotals_.add(row.unsignedInteger(0)); });
    hourPassed_.run();
  });
}

void CacheTable::writeBack() {
  totals_.writeBack();
  unlinkedTotals_.writeBack();
}

void CacheTable::forget() {
  totals_.forget();
  unlinkedTotals_.forget();
}

std::vector<CacheRow> CacheTable::evictionOrder(size_t limit) {
  // One index read twice: unlinked DESC and age ASC together would sort all rows.
  std::vector<CacheRow> out;
  for (bool unlinked : {true, false}) {
    if (out.size() >= limit) break;
    evictionOrder_.each([&](Row row) { out.push_back(readCacheRow(row)); }, unlinked,
                        std::min(limit - out.size(), size_t(INT64_MAX)));
  }
  if (out.size() < limit)
    keptOrder_.each([&](Row row) { out.push_back(readCacheRow(row)); }, std::min(limit - out.size(), size_t(INT64_MAX)));
  return out;
}

std::vector<BlobId> CacheTable::all() {
  std::vector<BlobId> out;
  all_.each([&](Row row) { out.push_back(row.fixed<BlobId>(0)); });
  return out;
}

}  // namespace realize::store
