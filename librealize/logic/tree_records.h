#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "librealize/logic/tree_store.h"

namespace realize::logic {

/// The records that the tree works on: read once, written back once, however often a transaction changes them.
/// Look-ups by name see what is not written yet; all others write it first. Records stay where they are until clear()
/// or trim().
class TreeRecords {
 public:
  explicit TreeRecords(TreeStore& store) : store_(store) {}

  /// Null when there is no such entry.
  Record* find(const EntryId& id);
  /// The same for who only looks, in passing: it is not kept here for that. Good until the next call.
  const Record* look(const EntryId& id);
  /// The entry must be unknown.
  Record& insert(Entry entry);
  void markDirty(Record& record);
  /// Forgets it here and in the store.
  void erase(const EntryId& id);
  /// The only way to change what name an entry is shown under; "" for none.
  void setShownName(Record& record, const std::string& name);

  /// Shown under that name in that directory; null for none.
  Record* shownAt(const EntryId& parent, const std::string& name);
  std::vector<EntryId> placedAt(const EntryId& parent, const std::string& base);
  std::vector<EntryId> placedIn(const EntryId& parent);
  std::vector<EntryId> clashedIn(const EntryId& parent);
  std::vector<EntryId> linksTo(const EntryId& id);
  std::vector<ShownName> shownIn(const EntryId& parent, const std::string& after, size_t limit);

  void flush();
  /// Forgets everything, also what was not written.
  void clear();
  /// Forgets clean records when there are many.
  void trim();
  size_t dirtyCount() const { return dirty_.size(); }
  TreeStore& store() { return store_; }

 private:
  struct Slot {
    Record record;
    bool dirty = false;
    bool empty = false;  ///< a directory with nothing shown in it, as far as the store knows
  };
  static std::string nameKey(const EntryId& parent, const std::string& name);

  TreeStore& store_;
  std::unordered_map<EntryId, Slot> slots_;
  std::vector<EntryId> dirty_;
  std::unordered_map<std::string, EntryId> names_;  ///< names given since the last flush
};

}  // namespace realize::logic
