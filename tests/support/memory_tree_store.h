#pragma once

#include <map>
#include <set>
#include <unordered_map>

#include "librealize/logic/tree_store.h"

namespace realize::logic {

/// A TreeStore in memory, with the same answers as the database's. Copyable: a copy is a backup.
class MemoryTreeStore : public TreeStore {
 public:
  std::optional<Record> get(const EntryId& id) override;
  const Record* peek(const EntryId& id) override;
  std::optional<Record> getByNode(NodeId node) override;
  void put(Record& record) override;
  void erase(const EntryId& id) override;
  std::optional<ShownName> shownAt(const EntryId& parent, const std::string& name) override;
  std::vector<ShownName> shownIn(const EntryId& parent, const std::string& after, size_t limit) override;
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

  const std::unordered_map<EntryId, Record>& records() const { return records_; }
  size_t gets = 0, puts = 0, lookUps = 0;  ///< calls, for tests of cost

 private:
  void unindex(const Record& record);

  std::unordered_map<EntryId, Record> records_;
  std::unordered_map<NodeId, EntryId> nodes_;
  std::map<std::tuple<EntryId, std::string, EntryId>, bool> placed_;
  std::map<EntryId, std::map<std::string, std::set<EntryId>>> shown_;
  std::map<Origin, std::set<std::pair<uint64_t, EntryId>>> touched_;
  std::set<EntryId> displaced_;
  std::map<EntryId, std::set<EntryId>> clashed_, links_;
  std::map<std::string, std::string> values_;
  NodeId nextNode_ = kRootNode + 1;
};

}  // namespace realize::logic
