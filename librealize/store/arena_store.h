#pragma once

// The database of one arena: index.db. Entries of the tree (as logic's TreeStore) and beside them one table class for
// each of the peer's concerns.
//
// Thread: everything here is used under the arena's one mutex, by any thread. Transactions: writes belong in
// `transact()`; reads may be outside (faster within one when there are many). All methods but open() throw
// DatabaseError when the database fails; `catching()` makes that a Result. After a throw out of transact() memory and
// disk agree again: on the state before it.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "librealize/model/tree_store.h"
#include "librealize/store/blob_table.h"
#include "librealize/store/database.h"
#include "librealize/store/disk_table.h"
#include "librealize/store/member_tables.h"
#include "librealize/store/unsynced_table.h"
#include "librealize/store/wanted_queue.h"
#include "librealize/store/work_tables.h"

namespace realize::store {

class TreeTable;

/// What is shown in the tree, the root not counted.
struct TreeCounts {
  uint64_t files = 0;
  uint64_t directories = 0;
  uint64_t symlinks = 0;
  uint64_t bytes = 0;  ///< of files; of several heads, the one with the greatest stamp counts
  bool operator==(const TreeCounts&) const = default;
};

/// Which file on disk this database was when last opened: a copy or a restored backup is another one, so a new life.
struct FileIdentity {
  uint64_t inode = 0;
  int64_t birthNs = 0;  ///< Unix time; 0 where unknown
  bool operator==(const FileIdentity&) const = default;
};

std::string packIdentity(const FileIdentity& identity);
FileIdentity unpackIdentity(std::string_view bytes);  ///< throws Corrupt

class ArenaStore final : public logic::TreeStore {
 public:
  /// Errors: as Database::open.
  static Result<std::unique_ptr<ArenaStore>> open(const std::string& path, const OpenOptions& options = {});
  ~ArenaStore() override;

  Database& database() { return *db_; }
  /// See Database::transact.
  template <typename F>
  auto transact(F&& fn) { return db_->transact(std::forward<F>(fn)); }
  /// See Database::transactLater.
  template <typename F>
  void transactLater(F&& fn, std::function<void()> committed) { db_->transactLater(std::forward<F>(fn), std::move(committed)); }
  /// See Database::settle: before what rests on it is done on the disk.
  void settle() { db_->settle(); }
  /// See Database::makeDurable: call it before a change or an acknowledgement leaves for a peer.
  void makeDurable();
  /// See Database::reopen: after a failure. Also throws while the disk has no room for some work to go on.
  void reopen();
  bool inTransaction() const { return db_->inTransaction(); }

  // The tree. Node numbers are given in put(), count up and are never given again; the root's is kRootNode.
  std::optional<logic::Record> get(const EntryId& id) override;
  const logic::Record* peek(const EntryId& id) override;
  std::optional<logic::Record> getByNode(NodeId node) override;
  void put(logic::Record& record) override;
  void erase(const EntryId& id) override;
  std::optional<logic::ShownName> shownAt(const EntryId& parent, const std::string& name) override;
  std::vector<logic::ShownName> shownIn(const EntryId& parent, const std::string& after, size_t limit) override;
  std::vector<EntryId> placedAt(const EntryId& parent, const std::string& base) override;
  std::vector<EntryId> placedIn(const EntryId& parent) override;
  std::vector<EntryId> clashedIn(const EntryId& parent) override;
  std::vector<EntryId> displaced() override;
  std::vector<std::pair<uint64_t, EntryId>> touchedAfter(Origin origin, uint64_t afterSeq, size_t limit) override;
  std::vector<Origin> touchOrigins() override;
  std::vector<EntryId> withContext() override;
  std::vector<EntryId> linksTo(const EntryId& id) override;
  std::vector<EntryId> allDirectories() override;
  std::vector<EntryId> idsBetween(const EntryId& first, const EntryId& last) override;
  std::vector<std::pair<NodeId, EntryId>> hiddenAfter(NodeId after, size_t limit) override;
  std::optional<std::string> getValue(const std::string& key) override;
  void setValue(const std::string& key, const std::string& value) override;

  /// Beyond TreeStore. Cheaper than get().
  std::optional<NodeId> nodeOf(const EntryId& id);
  std::optional<EntryId> idOf(NodeId node);
  /// Gives a file or symlink another number: `to`, which no entry has now, or a new one (0). Where a name gets another
  /// file, the number goes with the file, because who has the file open knows it by that. Tables that name the old number
  /// are the caller's to mend. Within a transaction; a Tree in use must be flushed before, and told after (setNode).
  NodeId renumber(const EntryId& id, NodeId to = 0);
  const TreeCounts& counts();
  /// Every entry, dead ones too, by node from after `after`, at most `limit`.
  std::vector<EntryId> allEntries(NodeId after, size_t limit);
  /// Entries with more than one head, by node from after `after`, at most `limit` (equal content counts as several).
  std::vector<EntryId> withSeveralHeads(NodeId after, size_t limit);

  /// What recordIdentity() last noted; nullopt for a database that was just made.
  std::optional<FileIdentity> recordedIdentity();
  void recordIdentity(const FileIdentity& identity);

  DiskTable& disk();
  BlobTable& blobs();
  CacheTable& cache();
  MarkTable& marks();
  WantedQueue& wanted();     ///< marked real, bytes missing
  BlobQueue& unconfirmed();  ///< bytes that no holder has confirmed
  BlobQueue& promised();     ///< kept for another peer, for a while after it was said: see Marks
  BlobQueue& named();        ///< entries that show what another one has on disk here, and that have it not: see Transfers
  BlobQueue& witnessed();    ///< read or put in place since something was brought back: see Folder
  UnsyncedTable& unsynced();  ///< put in place or about to leave, the name perhaps not on disk yet: see Folder
  ProblemTable& problems();
  MemberTable& members();
  HistoryTable& history();

 private:
  struct Tables;
  explicit ArenaStore(std::unique_ptr<Database> db);
  std::unique_ptr<Database> db_;
  std::unique_ptr<Tables> tables_;
  std::unique_ptr<TreeTable> tree_;
};

}  // namespace realize::store
