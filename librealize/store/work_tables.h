#pragma once

// What is wished, owed and wrong: marks, queues of bytes, problems, held removals, the scan's notes.
// Methods throw DatabaseError; thread rules as in database.h.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "librealize/model/tree.h"
#include "librealize/store/totals.h"

namespace realize::store {

/// Marks set on entries themselves; what they inherit is found by walking up, above.
class MarkTable {
 public:
  explicit MarkTable(Database& db);
  Mark get(NodeId node);                 ///< None where none is set
  void set(NodeId node, Mark mark);      ///< None erases
  std::vector<std::pair<NodeId, Mark>> all();

 private:
  Statement get_, set_, erase_, all_;
};

struct BlobTask {
  NodeId node = 0;
  BlobId blob;
  uint64_t sizeBytes = 0;
  bool operator==(const BlobTask&) const = default;
};

/// A persistent set of (node, blob): bytes wanted here, bytes not confirmed by any holder. Where only nodes count, their blob
/// is zero.
class BlobQueue {
 public:
  /// The number tells queues in one table apart: never change one. 3 was UnsyncedTable's.
  enum class Which : int { Wanted = 1, Unconfirmed = 2, Promised = 4, Named = 5, Witnessed = 6 };
  BlobQueue(Database& db, Which which);

  void put(const BlobTask& task);
  void erase(NodeId node, const BlobId& blob);
  void erase(const BlobTask& task);
  void eraseNode(NodeId node);
  void clear();
  bool has(NodeId node, const BlobId& blob);
  bool hasNode(NodeId node);
  bool hasBlob(const BlobId& blob);
  std::vector<BlobTask> ofNode(NodeId node);
  std::vector<BlobTask> ofBlob(const BlobId& blob);
  /// By (node, blob) from after `after`, at most `limit`. A default BlobTask is before all.
  std::vector<BlobTask> next(const BlobTask& after, size_t limit);
  const Totals& totals() { return totals_.get(); }

  void writeBack() { totals_.writeBack(); }
  void forget();

 private:
  /// Most queues are empty most of the time, and are asked for every file that changes; of new entries they know nothing.
  bool noneOf(NodeId node) { return totals_.get().count == 0 || node > highest(); }
  bool empty() { return totals_.get().count == 0; }
  NodeId highest();

  Database& db_;
  int which_;
  TotalsKeeper totals_;
  std::optional<NodeId> highest_;  ///< no task is of a greater one
  Statement add_, put_, get_, erase_, hasNode_, ofNode_, ofBlob_, next_, clear_, max_;
};

struct ProblemRow {
  std::string path;    ///< within the arena, any bytes
  std::string kind;    ///< stable word
  std::string detail;  ///< for people
  bool operator==(const ProblemRow&) const = default;
};

/// What is wrong now; one row for a path and kind.
class ProblemTable {
 public:
  explicit ProblemTable(Database& db);
  void put(const ProblemRow& row);
  void erase(const std::string& path, const std::string& kind);
  /// All kinds, of the path and of everything below it ("" is the root).
  void eraseUnder(const std::string& path);
  void eraseKind(const std::string& kind);
  bool has(const std::string& path, const std::string& kind);
  std::vector<ProblemRow> list(size_t limit);
  uint64_t count();

  void forget() { known_.reset(); }  ///< after a rollback

 private:
  Database& db_;
  std::optional<uint64_t> known_;  ///< how many; asked for every file that changes
  Statement put_, erase_, erasePath_, eraseRange_, eraseAll_, eraseKind_, has_, list_, count_;
};

}  // namespace realize::store
