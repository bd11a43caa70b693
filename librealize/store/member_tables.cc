#include "librealize/store/member_tables.h"

#include <algorithm>

#include "librealize/model/codec.h"

namespace realize::store {

#define MEMBER_COLUMNS "peer, admitted, active, acked, origin, last_seen_ns, missing_files, missing_bytes"

MemberTable::MemberTable(Database& db)
    : get_(db, "SELECT " MEMBER_COLUMNS " FROM member WHERE peer = ?"),
      put_(db, "INSERT OR REPLACE INTO member (" MEMBER_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?)"),
      erase_(db, "DELETE FROM member WHERE peer = ?"),
      all_(db, "SELECT " MEMBER_COLUMNS " FROM member ORDER BY peer") {}

namespace {
MemberRow readMember(Row row) {
  auto acked = decodeVector(row.bytes(3));
  if (!acked.ok()) throw DatabaseError(Code::Corrupt, "the database is damaged: a member's vector does not decode");
  return {row.fixed<PeerKey>(0),  row.integer(1) != 0, row.integer(2) != 0,    std::move(*acked),
          row.unsignedInteger(4), row.integer(5),      row.unsignedInteger(6), row.unsignedInteger(7)};
}
}  // namespace

std::optional<MemberRow> MemberTable::get(const PeerKey& peer) {
  std::optional<MemberRow> out;
  get_.first([&](Row row) { out = readMember(row); }, peer);
  return out;
}

void MemberTable::put(const MemberRow& row) {
  put_.run(row.peer, row.admitted, row.active, encodeVector(row.acked), row.origin, row.lastSeenNs, row.missingFiles,
           row.missingBytes);
}

void MemberTable::erase(const PeerKey& peer) { erase_.run(peer); }

std::vector<MemberRow> MemberTable::all() {
  std::vector<MemberRow> out;
  all_.each([&](Row row) { out.push_back(readMember(row)); });
  return out;
}

// --- History

namespace {
constexpr uint64_t kTrimEvery = 256;  // Rows added between trims; so many more than kKept may be there.
}

HistoryTable::HistoryTable(Database& db)
    : add_(db, "INSERT INTO history (when_ns, peer, what, node, path, detail) VALUES (?, ?, ?, ?, ?, ?)"),
      addOld_(db,
              "INSERT INTO history (when_ns, peer, what, node, path, detail, kind, old_blob, old_size, old_mode, old_mtime_ns,"
              " old_target) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
      trim_(db, "DELETE FROM history WHERE number <= (SELECT max(number) FROM history) - ?"),
      list_(db,
            "SELECT number, when_ns, peer, what, node, path, detail, kind, old_blob, old_size, old_mode, old_mtime_ns, old_target"
            " FROM history WHERE number < ?1"
            " AND (?2 = x'' OR path = ?2 OR (path > ?3 AND path < ?4)) ORDER BY number DESC LIMIT ?5"),
      ofNode_(db,
              "SELECT number, when_ns, peer, what, node, path, detail, kind, old_blob, old_size, old_mode, old_mtime_ns, old_target"
              " FROM history WHERE node = ? ORDER BY number DESC LIMIT ?"),
      undoable_(db,
                "SELECT number, when_ns, peer, what, node, path, detail, kind, old_blob, old_size, old_mode, old_mtime_ns, old_target"
                " FROM history WHERE kind IS NOT NULL AND (?2 = x'' OR path = ?2 OR (path > ?3 AND path < ?4)) AND when_ns >= ?1"
                " AND (?5 = 0 OR number = ?5) ORDER BY number DESC LIMIT ?6"),
      count_(db, "SELECT count(*) FROM history") {}

namespace {
HistoryRow historyRow(const Row& row) {
  HistoryRow item{row.unsignedInteger(0), row.integer(1), row.fixed<PeerKey>(2), row.string(3), row.unsignedInteger(4), row.string(5), row.string(6), EntryKind::File, std::nullopt};
  if (row.isNull(7)) return item;
  item.kind = EntryKind(row.integer(7));
  item.old.emplace();
  item.old->blob = row.fixed<BlobId>(8);
  item.old->sizeBytes = row.unsignedInteger(9);
  item.old->mode = uint32_t(row.integer(10));
  item.old->mtimeNs = row.integer(11);
  item.old->linkTarget = row.string(12);
  return item;
}
}  // namespace

void HistoryTable::add(const HistoryRow& row) {
  if (row.old)
    addOld_.run(row.whenNs, row.peer, Text{row.what}, row.node, row.path, row.detail, int64_t(row.kind), row.old->blob,
                row.old->sizeBytes, int64_t(row.old->mode), row.old->mtimeNs, row.old->linkTarget);
  else
    add_.run(row.whenNs, row.peer, Text{row.what}, row.node, row.path, row.detail);
  if (++added_ % kTrimEvery == 0) trim_.run(kKept);
}

std::vector<HistoryRow> HistoryTable::list(const std::string& path, size_t limit, uint64_t before) {
  std::vector<HistoryRow> out;
  // Reads newest first until there are enough; at worst all of a bounded table.
  list_.each(
      [&](Row row) { out.push_back(historyRow(row)); },
      std::min(before, uint64_t(INT64_MAX)), path, path + '/', path + char('/' + 1),
      std::min(limit, size_t(INT64_MAX)));
  return out;
}

std::vector<HistoryRow> HistoryTable::ofNode(NodeId node, size_t limit) {
  std::vector<HistoryRow> out;
  ofNode_.each([&](Row row) { out.push_back(historyRow(row)); }, node, std::min(limit, size_t(INT64_MAX)));
  return out;
}

std::vector<HistoryRow> HistoryTable::undoable(const std::string& path, int64_t sinceNs, uint64_t number, size_t limit) {
  std::vector<HistoryRow> out;
  undoable_.each(
      [&](Row row) { out.push_back(historyRow(row)); },
      sinceNs, path, path + '/', path + char('/' + 1), number, std::min(limit, size_t(INT64_MAX)));
  return out;
}

uint64_t HistoryTable::count() {
  uint64_t out = 0;
  count_.first([&](Row row) { out = row.unsignedInteger(0); });
  return out;
}

}  // namespace realize::store
