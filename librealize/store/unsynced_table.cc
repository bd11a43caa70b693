#include "librealize/store/unsynced_table.h"

#include <algorithm>
#include <utility>

#include "librealize/model/codec.h"

namespace realize::store {

UnsyncedTable::UnsyncedTable(Database& db)
    : all_(db, "SELECT turn, nodes FROM unsynced ORDER BY turn"),
      put_(db, "INSERT INTO unsynced (turn, nodes) VALUES (?, ?)"),
      clear_(db, "DELETE FROM unsynced WHERE turn <= ?"),
      formerAll_(db, "SELECT node, size FROM task WHERE queue = 3"),
      formerClear_(db, "DELETE FROM task WHERE queue = 3") {}

void UnsyncedTable::load() {
  if (loaded_) return;
  formerAll_.each([&](Row row) {
    former_ = true;
    notes_[row.unsignedInteger(0)] = {0, uint8_t(row.unsignedInteger(1) & 3)};
  });
  all_.each([&](Row row) {
    const uint64_t turn = row.unsignedInteger(0);
    ByteReader reader(row.bytes(1));
    while (!reader.finished() && !reader.failed()) {
      const NodeId node = reader.number(INT64_MAX);
      notes_[node] = {turn, uint8_t(reader.number(UINT8_MAX))};
    }
    if (reader.failed()) throw DatabaseError(Code::Corrupt, "the database is damaged: a row of unsynced nodes does not decode");
    turn_ = std::max(turn_, turn + 1);
  });
  loaded_ = true;
}

void UnsyncedTable::put(NodeId node, uint8_t how) {
  load();
  Note& note = notes_[node];
  if (note.turn != turn_) pending_.push_back(node);
  note = {turn_, how};
}

bool UnsyncedTable::has(NodeId node) {
  load();
  return notes_.contains(node);
}

uint64_t UnsyncedTable::count() {
  load();
  return notes_.size();
}

std::vector<std::pair<NodeId, uint8_t>> UnsyncedTable::all() {
  load();
  std::vector<std::pair<NodeId, uint8_t>> out;
  out.reserve(notes_.size());
  for (const auto& [node, note] : notes_) out.emplace_back(node, note.how);
  std::sort(out.begin(), out.end());
  return out;
}

uint64_t UnsyncedTable::lastTurn() {
  load();
  return turn_ - 1;
}

void UnsyncedTable::clearThrough(uint64_t turn) {
  load();
  clear_.run(turn);
  if (std::exchange(former_, false)) formerClear_.run();
  std::erase_if(notes_, [&](const auto& item) { return item.second.turn <= turn; });
}

void UnsyncedTable::writeBack() {
  if (pending_.empty()) return;
  ByteWriter writer;
  for (NodeId node : pending_) {
    writer.number(node);
    writer.number(notes_.at(node).how);
  }
  put_.run(turn_, writer.take());
  pending_.clear();
  ++turn_;
}

void UnsyncedTable::forget() {
  loaded_ = former_ = false;
  notes_.clear();
  pending_.clear();
}

}  // namespace realize::store
