#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "librealize/store/work_tables.h"

namespace realize::store {

/// What is marked real and has no bytes here: a set of (node, blob). Most of it comes and goes within seconds, by the
/// hundred thousand; and all of it follows from the tree, the marks and the disk table, which are compared after every
/// start. So up to kInMemory of it are in memory only, until keep(). How much it is in all is in the database with each
/// commit, so that after a process was killed no status says less until all has been compared.
///
/// Methods throw DatabaseError; thread rules as in database.h. As with rows, a rollback takes changes back.
class WantedQueue {
 public:
  static constexpr size_t kInMemory = 1 << 16;
  explicit WantedQueue(Database& db);

  void put(const BlobTask& task);
  void erase(NodeId node, const BlobId& blob);
  void erase(const BlobTask& task) { erase(task.node, task.blob); }
  void eraseNode(NodeId node);
  bool has(NodeId node, const BlobId& blob);
  bool hasNode(NodeId node);
  bool hasBlob(const BlobId& blob);
  std::vector<BlobTask> ofNode(NodeId node);
  std::vector<BlobTask> ofBlob(const BlobId& blob);
  /// By (node, blob) from after `after`, at most `limit`. A default BlobTask is before all.
  std::vector<BlobTask> next(const BlobTask& after, size_t limit);
  Totals totals();
  /// totals(), but as long as some are lost not less than there were before.
  Totals toTell();

  /// Writes what is in memory only. At a good end.
  void keep();
  /// There were more when the process before this one ended, or the connection.
  bool someLost();
  /// All of it is here again, as far as there is still a wish for it.
  void noneLost();
  void reopened();  ///< the database was, and what was committed last is perhaps there, perhaps not: as a new process begins

  void writeBack();  ///< before a commit or a nested transaction
  void forget();     ///< after a rollback

 private:
  using Key = std::pair<NodeId, BlobId>;
  using Tasks = std::map<Key, uint64_t>;
  struct Change {
    Key key;
    std::optional<uint64_t> before;  ///< its size, where it was in memory
  };
  Tasks::iterator find(const Key& key);
  void set(const Key& key, std::optional<uint64_t> sizeBytes);
  void change(const Key& key, std::optional<uint64_t> sizeBytes);
  bool inMemory(NodeId node) const;
  void load();

  Database& db_;
  BlobQueue table_;
  Tasks memory_;
  std::unordered_multimap<uint64_t, NodeId> byBlob_;  ///< of those, by the blob's first 8 bytes
  uint64_t memoryBytes_ = 0;
  std::vector<Change> changes_;       ///< in memory, by the transaction that is open
  uint64_t commits_ = 0;              ///< before that one
  std::map<int, size_t> outerChanges_;  ///< how many of them the transactions had made that one of that depth is in
  std::optional<Totals> lost_;   ///< what there was in all, if that was more; unknown: not looked yet
  std::optional<Totals> noted_;  ///< what the database says; unknown after a rollback
  Statement getNoted_, setNoted_;
};

}  // namespace realize::store
