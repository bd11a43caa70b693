#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "librealize/model/tree.h"
#include "librealize/store/statement.h"

namespace realize::store {

/// Nodes whose name or bytes may not be on the disk yet. Noted by the file while thousands are put in place, and dropped
/// all at once after a sync: so they are in memory, and in one row for each transaction.
/// Methods throw DatabaseError; thread rules as in database.h.
class UnsyncedTable {
 public:
  explicit UnsyncedTable(Database& db);

  /// `how` is the caller's, below 256; noted again, the last counts.
  void put(NodeId node, uint8_t how);
  bool has(NodeId node);
  uint64_t count();
  std::vector<std::pair<NodeId, uint8_t>> all();
  /// Everything committed so far has at most this turn.
  uint64_t lastTurn();
  /// Drops what was last noted in that turn or before.
  void clearThrough(uint64_t turn);

  void writeBack();  ///< before a commit
  void forget();     ///< after a rollback

 private:
  struct Note {
    uint64_t turn = 0;
    uint8_t how = 0;
  };
  void load();

  bool loaded_ = false;
  bool former_ = false;  ///< there are rows from before schema 2, of turn 0
  uint64_t turn_ = 1;    ///< of what is noted now
  std::unordered_map<NodeId, Note> notes_;
  std::vector<NodeId> pending_;  ///< noted since the last row
  Statement all_, put_, clear_, formerAll_, formerClear_;
};

}  // namespace realize::store
