#pragma once

// How the tree's rules (logic/) reach the database: an interface, so that `logic` never sees SQLite. The store
// implements it (store/arena_store.h); tests have one in memory. It lies here, below both, because neither may
// include the other.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "librealize/model/tree.h"

namespace realize::logic {

/// An entry with what this peer derives for it: the materialised view (AGREEMENT.md 9-12).
struct Record {
  Entry entry;
  NodeId node = 0;       ///< local number; assigned by the store at the first put
  bool shown = false;    ///< live, or above something shown (rule 11)
  EntryId shownParent;   ///< effective parent after cycles are broken; kept also while not shown
  std::string shownBase; ///< effective name before clashes are resolved
  std::string shownName; ///< name in shownParent; with a suffix for the loser of a clash; empty when not shown
  uint32_t shownChildren = 0;  ///< how many entries are shown with this one as shownParent
};

/// One name shown in a directory.
struct ShownName {
  std::string name;
  EntryId id;
  NodeId node = 0;
  EntryKind kind = EntryKind::File;
};

/// All within the transaction that the caller holds open. A failing database throws (a bug or a dead disk): the
/// transaction is rolled back above.
class TreeStore {
 public:
  virtual ~TreeStore() = default;

  virtual std::optional<Record> get(const EntryId& id) = 0;
  /// Null for none. Good until the next call.
  virtual const Record* peek(const EntryId& id) = 0;
  virtual std::optional<Record> getByNode(NodeId node) = 0;
  /// Inserts or replaces; `record.node` 0 is assigned and written back. Also maintains the touch index.
  virtual void put(Record& record) = 0;
  virtual void erase(const EntryId& id) = 0;

  /// The entry shown under `name` in `parent`.
  virtual std::optional<ShownName> shownAt(const EntryId& parent, const std::string& name) = 0;
  /// What is shown in a directory, sorted by name from after `after`, at most `limit`.
  virtual std::vector<ShownName> shownIn(const EntryId& parent, const std::string& after, size_t limit) = 0;
  /// All entries, dead ones too, whose effective place is in `parent` under the base name `base`.
  virtual std::vector<EntryId> placedAt(const EntryId& parent, const std::string& base) = 0;
  /// All entries, dead ones too, whose effective parent is `parent`.
  virtual std::vector<EntryId> placedIn(const EntryId& parent) = 0;
  /// Shown entries in `parent` whose shown name differs from their base name (losers of clashes).
  virtual std::vector<EntryId> clashedIn(const EntryId& parent) = 0;
  /// Entries whose effective place differs from their claimed one (a cycle was broken there).
  virtual std::vector<EntryId> displaced() = 0;
  /// Entries with a touch of `origin` past `afterSeq`, ascending by that sequence number, at most `limit`.
  virtual std::vector<std::pair<uint64_t, EntryId>> touchedAfter(Origin origin, uint64_t afterSeq, size_t limit) = 0;
  /// Origins that touched any entry.
  virtual std::vector<Origin> touchOrigins() = 0;
  /// Entries with a context of their own (from a broken batch).
  virtual std::vector<EntryId> withContext() = 0;
  /// Entries that have a head whose hard-link target is `id`.
  virtual std::vector<EntryId> linksTo(const EntryId& id) = 0;
  /// Entries from `first` to `last`, both included, dead ones too, ascending.
  virtual std::vector<EntryId> idsBetween(const EntryId& first, const EntryId& last) = 0;
  /// Entries that are not shown, ascending by their number, from after `after`, at most `limit`.
  virtual std::vector<std::pair<NodeId, EntryId>> hiddenAfter(NodeId after, size_t limit) = 0;
  /// All directories' ids (dead ones too), for the rare full search for cycles.
  virtual std::vector<EntryId> allDirectories() = 0;

  /// Small named values of the arena: vector, trim vector, clock, own origin and sequence, acks, closed origins.
  virtual std::optional<std::string> getValue(const std::string& key) = 0;
  virtual void setValue(const std::string& key, const std::string& value) = 0;
};

}  // namespace realize::logic
