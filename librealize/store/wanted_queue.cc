#include "librealize/store/wanted_queue.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace realize::store {

namespace {

constexpr std::string_view kNoted = "wanted in all";

uint64_t prefixOf(const BlobId& blob) {
  uint64_t out = 0;
  std::memcpy(&out, blob.data(), sizeof out);
  return out;
}

}  // namespace

WantedQueue::WantedQueue(Database& db)
    : db_(db),
      table_(db, BlobQueue::Which::Wanted),
      getNoted_(db, "SELECT rows, bytes FROM total WHERE name = ?"),
      setNoted_(db, "INSERT OR REPLACE INTO total (name, rows, bytes) VALUES (?, ?, ?)") {}

void WantedQueue::load() {
  if (lost_) return;
  Totals noted;
  getNoted_.first([&](Row row) { noted = {row.unsignedInteger(0), row.unsignedInteger(1)}; }, Text{kNoted});
  lost_ = noted.count > totals().count ? noted : Totals();
}

// --- What is in memory

/// Mostly they come in the order of their nodes.
WantedQueue::Tasks::iterator WantedQueue::find(const Key& key) {
  return memory_.empty() || memory_.rbegin()->first < key ? memory_.end() : memory_.find(key);
}

void WantedQueue::set(const Key& key, std::optional<uint64_t> sizeBytes) {
  auto it = find(key);
  if (it != memory_.end()) {
    memoryBytes_ -= it->second;
    if (sizeBytes) {
      it->second = *sizeBytes;
    } else {
      const auto [from, to] = byBlob_.equal_range(prefixOf(key.second));
      auto known = std::find_if(from, to, [&](const auto& item) { return item.second == key.first; });
      if (known != to) byBlob_.erase(known);
      memory_.erase(it);
    }
  } else if (sizeBytes) {
    memory_.emplace_hint(memory_.end(), key, *sizeBytes);
    byBlob_.emplace(prefixOf(key.second), key.first);
  }
  if (sizeBytes) memoryBytes_ += *sizeBytes;
}

void WantedQueue::change(const Key& key, std::optional<uint64_t> sizeBytes) {
  if (db_.commits() != commits_ || !db_.inTransaction()) {
    changes_.clear();
    outerChanges_.clear();
    commits_ = db_.commits();
  }
  auto known = find(key);
  changes_.push_back({key, known == memory_.end() ? std::nullopt : std::optional(known->second)});
  set(key, sizeBytes);
}

bool WantedQueue::inMemory(NodeId node) const {
  auto it = memory_.lower_bound({node, BlobId()});
  return it != memory_.end() && it->first.first == node;
}

void WantedQueue::writeBack() {
  table_.writeBack();
  // A rollback of the transaction that begins now, if one does, must not take along what was changed before.
  if (commits_ == db_.commits()) outerChanges_[db_.depth()] = changes_.size();
  const Totals now = toTell();
  if (now == noted_) return;
  setNoted_.run(Text{kNoted}, now.count, now.bytes);
  noted_ = now;
}

void WantedQueue::forget() {
  table_.forget();
  noted_.reset();
  if (commits_ != db_.commits()) return;
  size_t keep = 0;
  if (db_.depth() > 0)
    if (auto outer = outerChanges_.find(db_.depth()); outer != outerChanges_.end()) keep = outer->second;
  for (; changes_.size() > keep; changes_.pop_back()) set(changes_.back().key, changes_.back().before);
}

// --- Both

void WantedQueue::put(const BlobTask& task) {
  db_.together([&] {
    const Key key{task.node, task.blob};
    const bool room = memory_.size() < kInMemory || find(key) != memory_.end();
    if (!room) return table_.put(task);
    table_.erase(task.node, task.blob);
    change(key, task.sizeBytes);
  });
}

void WantedQueue::erase(NodeId node, const BlobId& blob) {
  db_.together([&] {
    if (memory_.contains({node, blob})) change({node, blob}, std::nullopt);
    else table_.erase(node, blob);
  });
}

void WantedQueue::eraseNode(NodeId node) {
  for (const auto& task : ofNode(node)) erase(task);
}

bool WantedQueue::has(NodeId node, const BlobId& blob) { return memory_.contains({node, blob}) || table_.has(node, blob); }
bool WantedQueue::hasNode(NodeId node) { return inMemory(node) || table_.hasNode(node); }
bool WantedQueue::hasBlob(const BlobId& blob) { return !ofBlob(blob).empty(); }

std::vector<BlobTask> WantedQueue::ofNode(NodeId node) {
  auto out = table_.ofNode(node);
  const size_t inTable = out.size();
  for (auto it = memory_.lower_bound({node, BlobId()}); it != memory_.end() && it->first.first == node; ++it)
    out.push_back({node, it->first.second, it->second});
  auto byBlob = [](const BlobTask& a, const BlobTask& b) { return a.blob < b.blob; };
  std::inplace_merge(out.begin(), out.begin() + ptrdiff_t(inTable), out.end(), byBlob);
  return out;
}

std::vector<BlobTask> WantedQueue::ofBlob(const BlobId& blob) {
  auto out = table_.ofBlob(blob);
  const auto [from, to] = byBlob_.equal_range(prefixOf(blob));
  for (auto it = from; it != to; ++it)
    if (auto task = memory_.find({it->second, blob}); task != memory_.end()) out.push_back({it->second, blob, task->second});
  std::sort(out.begin(), out.end(), [](const BlobTask& a, const BlobTask& b) { return a.node < b.node; });
  return out;
}

std::vector<BlobTask> WantedQueue::next(const BlobTask& after, size_t limit) {
  std::vector<BlobTask> out, fromTable;
  if (table_.totals().count > 0) fromTable = table_.next(after, limit);
  auto it = memory_.upper_bound({after.node, after.blob});
  for (auto row = fromTable.begin(); out.size() < limit && (it != memory_.end() || row != fromTable.end());) {
    const bool memoryFirst =
        row == fromTable.end() || (it != memory_.end() && it->first < Key{row->node, row->blob});
    if (memoryFirst) {
      out.push_back({it->first.first, it->first.second, it->second});
      ++it;
    } else {
      out.push_back(*row++);
    }
  }
  return out;
}

Totals WantedQueue::totals() { return {table_.totals().count + memory_.size(), table_.totals().bytes + memoryBytes_}; }

void WantedQueue::keep() {
  db_.together([&] {
    while (!memory_.empty()) {
      const auto [key, sizeBytes] = *memory_.begin();
      table_.put({key.first, key.second, sizeBytes});
      change(key, std::nullopt);
    }
  });
}

Totals WantedQueue::toTell() {
  load();
  const Totals now = totals();
  return {std::max(now.count, lost_->count), std::max(now.bytes, lost_->bytes)};
}

bool WantedQueue::someLost() {
  load();
  return *lost_ != Totals();
}

void WantedQueue::noneLost() {
  if (someLost()) db_.together([&] { lost_ = Totals(); });
}

void WantedQueue::reopened() {
  table_.forget();
  memory_.clear();
  byBlob_.clear();
  memoryBytes_ = 0;
  changes_.clear();
  outerChanges_.clear();
  noted_.reset();
  lost_.reset();
}

}  // namespace realize::store
