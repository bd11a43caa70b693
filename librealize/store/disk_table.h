#pragma once

// What we know to be in the arena's backing folder: the "disk table". Reconcile compares the real folder with it,
// apply compares the tree with it. Methods throw DatabaseError; thread rules as in database.h.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "librealize/base/disk.h"
#include "librealize/model/tree.h"
#include "librealize/store/generations.h"
#include "librealize/store/origin_table.h"
#include "librealize/store/prefix_filter.h"
#include "librealize/store/totals.h"

namespace realize::store {

/// One name in the backing folder, as last seen there.
struct DiskRow {
  NodeId node = 0;        ///< the entry it is
  NodeId parentNode = 0;  ///< the directory it lies in; 0 for the row of the root itself
  std::string name;
  EntryKind kind = EntryKind::File;
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t birthNs = 0;  ///< Unix time; 0 where unknown
  uint64_t sizeBytes = 0;
  int64_t mtimeNs = 0;  ///< Unix time
  int64_t ctimeNs = 0;  ///< Unix time
  uint32_t mode = 0;    ///< permission bits, 07777
  BlobId blob;          ///< what a file's bytes hashed to when they were as above; zero if never hashed
  /// The bytes may have changed since (opened for writing, say). Durable before the writing starts, so that a crash
  /// does not leave a file whose change nobody looks for.
  bool dirty = false;
  /// The entry's claims and heads when the folder last agreed with it, sorted: what a change made in the folder has
  /// seen. A local write or removal replaces these and no others, so that one made before a peer's change was applied
  /// to the folder is concurrent with it, as it truly was.
  std::vector<Dot> base;

  /// Copies what statx said, leaving identity in the tree, blob and `dirty` alone.
  void setStat(const FileStat& stat);
  /// Nothing on disk has changed since the row was written: object, kind, size, mtime, ctime, mode.
  bool matches(const FileStat& stat) const;
  /// What the file has, as a version that nobody has made yet.
  Version version() const;
  /// Into `base`, sorted and each once.
  void addSeen(const std::vector<Dot>& dots);
  /// This very file, whatever it has now.
  bool isObject(const FileStat& stat) const { return device == stat.device && inode == stat.inode && birthNs == stat.birthNs; }
  /// The same object with the same bytes: what a rename or a change of mode leaves as it is.
  bool sameBytes(const FileStat& stat) const { return isObject(stat) && sizeBytes == stat.sizeBytes && mtimeNs == stat.mtimeNs; }
  /// After a rename of our own, which sets the ctime. What else differs is somebody's change, and stays to be seen.
  void noteRenamed(const FileStat& stat) {
    if (sameBytes(stat) && mode == stat.mode) setStat(stat);
  }
  bool operator==(const DiskRow&) const = default;
};

class DiskTable {
 public:
  DiskTable(Database& db, OriginTable& origins);

  std::optional<DiskRow> get(NodeId node);
  /// get() without the copy: null where there is none. Valid until the next call of anything here.
  const DiskRow* peek(NodeId node) { return find(node); }
  std::optional<DiskRow> getAt(NodeId parentNode, const std::string& name);
  /// All names that are this inode (hard links have several). Inode numbers are reused: compare birthNs too.
  std::vector<DiskRow> getByInode(uint64_t device, uint64_t inode);
  /// All rows in a directory, sorted by name.
  std::vector<DiskRow> childrenOf(NodeId parentNode);
  bool hasChildren(NodeId parentNode);
  /// What is known of one name.
  struct Known {
    std::string_view name;
    FileStat stat;         ///< no atime, blocks, links and owner
    bool settled = false;  ///< nothing is to be read of it: no file that is dirty, or was never hashed
  };
  /// Of each name in a directory, sorted, until `each` returns false. What is looked at must not change meanwhile.
  void eachIn(NodeId parentNode, const std::function<bool(const Known&)>& each);
  /// Files known to have held these bytes when last hashed, dirty ones too: to serve and to copy from.
  std::vector<DiskRow> withBlob(const BlobId& blob, size_t limit);
  bool anyWithBlob(const BlobId& blob);
  std::vector<NodeId> dirtyNodes();
  /// Every row, by node from after `after`, at most `limit`.
  std::vector<DiskRow> all(NodeId after, size_t limit);

  /// Inserts or replaces the row of `row.node`. Another node's row at the same parent and name is erased, and returned: a
  /// name holds one file. (So an exchange is two puts of whole rows.)
  std::optional<DiskRow> put(const DiskRow& row);
  void setDirty(NodeId node, bool dirty);
  void erase(NodeId node);
  /// Files (not directories and symlinks) and their bytes.
  const Totals& files() { return files_.get(); }

  void writeBack() { files_.writeBack(); }
  void forget();

 private:
  DiskRow read(Row row);
  /// Null: none. Valid until the next call of anything here.
  const DiskRow* find(NodeId node);
  using Kept = std::optional<DiskRow>;  ///< or that there is none
  Kept* keep(NodeId node, Kept row);
  NodeId highest();
  bool surelyWithout(NodeId node);
  bool surelyFree(NodeId parentNode, const std::string& name);
  Database& db_;
  OriginTable& origins_;
  TotalsKeeper files_;
  Generations<NodeId, Kept, 8192> rows_;
  Generations<NodeId, Kept, 8192> folders_;  ///< apart: whatever comes into them, they are asked for again and again
  std::optional<NodeId> highest_;  ///< no row has a greater number
  AbsenceFilter contents_, places_, nodes_;
  Statement get_, getAt_, getByInode_, children_, eachIn_, hasChildren_, withBlob_, dirty_, all_, add_, put_, updateSeen_, setDirty_,
      erase_, max_, prefixes_, allPlaces_, allNodes_;
};

}  // namespace realize::store
