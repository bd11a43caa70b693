#include "librealize/store/work_tables.h"

#include <algorithm>

namespace realize::store {

namespace {
int64_t clamped(size_t limit) { return int64_t(std::min(limit, size_t(INT64_MAX))); }

uint64_t single(Statement& statement) {
  uint64_t out = 0;
  statement.first([&](Row row) { out = row.unsignedInteger(0); });
  return out;
}
}  // namespace

// --- Marks

MarkTable::MarkTable(Database& db)
    : get_(db, "SELECT mark FROM mark WHERE node = ?"),
      set_(db, "INSERT OR REPLACE INTO mark (node, mark) VALUES (?, ?)"),
      erase_(db, "DELETE FROM mark WHERE node = ?"),
      all_(db, "SELECT node, mark FROM mark ORDER BY node") {}

Mark MarkTable::get(NodeId node) {
  Mark out = Mark::None;
  get_.first([&](Row row) { out = Mark(row.integer(0)); }, node);
  return out;
}

void MarkTable::set(NodeId node, Mark mark) {
  if (mark == Mark::None) erase_.run(node);
  else set_.run(node, mark);
}

std::vector<std::pair<NodeId, Mark>> MarkTable::all() {
  std::vector<std::pair<NodeId, Mark>> out;
  all_.each([&](Row row) { out.emplace_back(row.unsignedInteger(0), Mark(row.integer(1))); });
  return out;
}

// --- Queues

namespace {
std::string_view totalsName(BlobQueue::Which which) {
  switch (which) {
    case BlobQueue::Which::Wanted: return "wanted";
    case BlobQueue::Which::Unconfirmed: return "unconfirmed";
    case BlobQueue::Which::Promised: return "promised";
    case BlobQueue::Which::Named: return "named";
    case BlobQueue::Which::Witnessed: return "witnessed";
  }
  return "wanted";
}
}  // namespace

BlobQueue::BlobQueue(Database& db, Which which)
    : db_(db),
      which_(int(which)),
      totals_(db, totalsName(which)),
      add_(db, "INSERT OR IGNORE INTO task (queue, node, blob, size) VALUES (?, ?, ?, ?)"),
      put_(db, "INSERT OR REPLACE INTO task (queue, node, blob, size) VALUES (?, ?, ?, ?)"),
      get_(db, "SELECT size FROM task WHERE queue = ? AND node = ? AND blob = ?"),
      erase_(db, "DELETE FROM task WHERE queue = ? AND node = ? AND blob = ? AND size = ?"),
      hasNode_(db, "SELECT 1 FROM task WHERE queue = ? AND node = ? LIMIT 1"),
      ofNode_(db, "SELECT node, blob, size FROM task WHERE queue = ? AND node = ? ORDER BY blob"),
      ofBlob_(db,
              "SELECT node, blob, size FROM task INDEXED BY task_by_blob"
              " WHERE queue = ? AND substr(blob, 1, 8) = ? AND blob = ? ORDER BY node"),
      next_(db,
            "SELECT node, blob, size FROM task WHERE queue = ? AND (node, blob) > (?, ?) ORDER BY node, blob LIMIT ?"),
      clear_(db, "DELETE FROM task WHERE queue = ?"),
      max_(db, "SELECT max(node) FROM task WHERE queue = ?") {}

NodeId BlobQueue::highest() {
  if (!highest_) max_.first([&](Row row) { highest_ = row.unsignedInteger(0); }, which_);
  return *highest_;
}

void BlobQueue::forget() {
  totals_.forget();
  highest_.reset();
}

namespace {
auto tasksInto(std::vector<BlobTask>& out) {
  return [&out](Row row) { out.push_back({row.unsignedInteger(0), row.fixed<BlobId>(1), row.unsignedInteger(2)}); };
}
}  // namespace

void BlobQueue::put(const BlobTask& task) {
  db_.together([&] {
    if (add_.change(which_, task.node, task.blob, task.sizeBytes) == 0) {
      get_.first([&](Row row) { totals_.subtract(row.unsignedInteger(0)); }, which_, task.node, task.blob);
      put_.run(which_, task.node, task.blob, task.sizeBytes);
    }
    totals_.add(task.sizeBytes);
    highest_ = std::max(highest(), task.node);
  });
}

void BlobQueue::erase(NodeId node, const BlobId& blob) {
  if (noneOf(node)) return;
  BlobTask task{node, blob, 0};
  if (get_.first([&](Row row) { task.sizeBytes = row.unsignedInteger(0); }, which_, node, blob)) erase(task);
}

void BlobQueue::erase(const BlobTask& task) {
  if (noneOf(task.node)) return;
  // Several times as quick as with RETURNING, which keeps what it returns in a table of its own.
  db_.together([&] {
    if (erase_.change(which_, task.node, task.blob, task.sizeBytes) > 0) totals_.subtract(task.sizeBytes);
  });
}

void BlobQueue::eraseNode(NodeId node) {
  const auto tasks = ofNode(node);
  if (tasks.empty()) return;
  db_.together([&] {
    for (const BlobTask& task : tasks) erase(task);
  });
}

void BlobQueue::clear() {
  if (empty()) return;
  db_.together([&] {
    clear_.run(which_);
    totals_.clear();
  });
}

bool BlobQueue::has(NodeId node, const BlobId& blob) { return !noneOf(node) && get_.first([](Row) {}, which_, node, blob); }
bool BlobQueue::hasNode(NodeId node) { return !noneOf(node) && hasNode_.first([](Row) {}, which_, node); }
bool BlobQueue::hasBlob(const BlobId& blob) { return !ofBlob(blob).empty(); }

std::vector<BlobTask> BlobQueue::ofNode(NodeId node) {
  std::vector<BlobTask> out;
  if (!noneOf(node)) ofNode_.each(tasksInto(out), which_, node);
  return out;
}

std::vector<BlobTask> BlobQueue::ofBlob(const BlobId& blob) {
  std::vector<BlobTask> out;
  if (empty()) return out;
  std::string_view whole(reinterpret_cast<const char*>(blob.data()), BlobId::size());
  ofBlob_.each(tasksInto(out), which_, whole.substr(0, 8), whole);
  return out;
}

std::vector<BlobTask> BlobQueue::next(const BlobTask& after, size_t limit) {
  std::vector<BlobTask> out;
  next_.each(tasksInto(out), which_, after.node, after.blob, clamped(limit));
  return out;
}

// --- Problems

ProblemTable::ProblemTable(Database& db)
    : db_(db),
      put_(db, "INSERT OR REPLACE INTO problem (path, kind, detail) VALUES (?, ?, ?)"),
      erase_(db, "DELETE FROM problem WHERE path = ? AND kind = ?"),
      erasePath_(db, "DELETE FROM problem WHERE path = ?"),
      eraseRange_(db, "DELETE FROM problem WHERE path > ? AND path < ?"),
      eraseAll_(db, "DELETE FROM problem"),
      eraseKind_(db, "DELETE FROM problem WHERE kind = ?"),
      has_(db, "SELECT 1 FROM problem WHERE path = ? AND kind = ?"),
      list_(db, "SELECT path, kind, detail FROM problem ORDER BY path, kind LIMIT ?"),
      count_(db, "SELECT count(*) FROM problem") {}

void ProblemTable::put(const ProblemRow& row) {
  known_.reset();
  put_.run(row.path, Text{row.kind}, Text{row.detail});
}

void ProblemTable::erase(const std::string& path, const std::string& kind) {
  if (count() == 0) return;
  known_.reset();
  erase_.run(path, Text{kind});
}

void ProblemTable::eraseUnder(const std::string& path) {
  if (count() == 0) return;
  known_.reset();
  if (path.empty()) {
    eraseAll_.run();
    return;
  }
  db_.together([&] {
    erasePath_.run(path);
    eraseRange_.run(path + '/', path + char('/' + 1));
  });
}

bool ProblemTable::has(const std::string& path, const std::string& kind) {
  return count() > 0 && has_.first([](Row) {}, path, Text{kind});
}

void ProblemTable::eraseKind(const std::string& kind) {
  if (count() == 0) return;
  known_.reset();
  eraseKind_.run(Text{kind});
}

std::vector<ProblemRow> ProblemTable::list(size_t limit) {
  std::vector<ProblemRow> out;
  list_.each([&](Row row) { out.push_back({row.string(0), row.string(1), row.string(2)}); }, clamped(limit));
  return out;
}

uint64_t ProblemTable::count() {
  if (!known_) known_ = single(count_);
  return *known_;
}

}  // namespace realize::store
