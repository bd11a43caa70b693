#pragma once

// The entries: how ArenaStore is a TreeStore. Private to the store.

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "librealize/model/tree_store.h"
#include "librealize/store/arena_store.h"
#include "librealize/store/generations.h"
#include "librealize/store/origin_table.h"
#include "librealize/store/prefix_filter.h"
#include "librealize/store/totals.h"

namespace realize::store {

class TreeTable {
 public:
  TreeTable(Database& db, OriginTable& origins);

  /// Null for none. Good until the next call.
  const logic::Record* find(const EntryId& id);
  std::optional<logic::Record> get(const EntryId& id);
  std::optional<logic::Record> getByNode(NodeId node);
  void put(logic::Record& record);
  void erase(const EntryId& id);
  std::optional<logic::ShownName> shownAt(const EntryId& parent, const std::string& name);
  std::vector<logic::ShownName> shownIn(const EntryId& parent, const std::string& after, size_t limit);
  std::vector<EntryId> placedAt(const EntryId& parent, const std::string& base);
  std::vector<EntryId> placedIn(const EntryId& parent);
  std::vector<EntryId> clashedIn(const EntryId& parent);
  std::vector<std::pair<uint64_t, EntryId>> touchedAfter(Origin origin, uint64_t afterSeq, size_t limit);
  std::vector<Origin> touchOrigins();
  std::vector<EntryId> linksTo(const EntryId& id);
  std::vector<EntryId> allDirectories();
  std::vector<EntryId> idsBetween(const EntryId& first, const EntryId& last);
  std::vector<std::pair<NodeId, EntryId>> hiddenAfter(NodeId after, size_t limit);
  std::optional<std::string> getValue(std::string_view key);
  void setValue(std::string_view key, std::string_view value);

  enum Flag : int { kDisplaced = 1, kHasContext = 2, kSeveralHeads = 4, kHidden = 8 };
  std::vector<EntryId> flagged(Flag flag, NodeId after, size_t limit);
  std::vector<EntryId> withSeveralHeads(NodeId after, size_t limit);
  std::vector<EntryId> allEntries(NodeId after, size_t limit);

  /// Also of an unknown parent that has a number only.
  std::optional<NodeId> nodeOf(const EntryId& id);
  std::optional<EntryId> idOf(NodeId node);
  /// See ArenaStore::renumber.
  NodeId renumber(const EntryId& id, NodeId to);
  const TreeCounts& counts();

  void writeBack();
  void forget();

 private:
  /// A record as its row has it: the parent as a number.
  using Stored = std::pair<logic::Record, NodeId>;
  static bool read(Row row, int first, const EntryId& id, Stored& out);
  const logic::Record* keep(Stored stored);
  NodeId nodeForParent(const EntryId& id);
  bool surelyAbsent(const EntryId& id);
  void noteAbsent(const EntryId& id);
  void noteNumber(NodeId node, const EntryId& id);
  void noteNew(NodeId node, const EntryId& id);
  bool anyClash();
  NodeId nextNode();
  NodeId newNode();
  void writeRow(const logic::Record& record, const logic::Record* old, bool rowExists);
  void writeTouch(NodeId node, const VersionVector& old, const VersionVector& now);
  void writeLinks(NodeId node, const Entry* old, const Entry* now);
  void count(const logic::Record& record, bool add);
  TotalsKeeper& totalsOf(EntryKind kind);

  OriginTable& origins_;
  Generations<EntryId, logic::Record, 4096> cache_;
  std::unordered_map<NodeId, EntryId> ids_;  ///< of parents and new ones mostly; bounded
  AbsenceFilter known_;                      ///< of the ids of all rows
  std::unordered_set<EntryId> absent_;       ///< looked for lately, and there is no row; bounded
  std::optional<bool> anyClash_;             ///< something is shown under another name than its base; false for sure only
  std::map<std::string, std::optional<std::string>, std::less<>> values_;  ///< what was asked for or set; few, some of them at every page
  NodeId nextNode_ = 0;                      ///< 0: not read yet
  bool nextNodeChanged_ = false;
  TreeCounts counts_;
  TotalsKeeper files_, directories_, symlinks_;

  Statement get_, nodeOf_, idOf_, maxNode_, prefixes_, insert_, update_, updatePlace_, updateChildren_, keepNumber_, hideRow_,
      erase_, hasPlaced_, setNode_;
  Statement shownAt_, shownAtClashed_, shownIn_, shownInClashed_, anyClashed_, placedAt_, placedIn_, clashedIn_;
  Statement addTouch_, eraseTouch_, touchedAfter_, touchOrigins_, addLink_, eraseLink_, linksTo_;
  Statement allDirectories_, flagged_, severalHeads_, hiddenAfter_, idsBetween_, all_, getValue_, setValue_;
};

}  // namespace realize::store
