// What is known of a folder in memory, and one look at it after another: for the tests of logic::reconcile.

#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "tests/support/listed_folder.h"

namespace realize::logic {

using Kind = Step::Kind;

/// The disk table, and the tree's side of the steps: refuses what the tree would refuse.
class Table : public KnownDisk {
 public:
  std::optional<KnownRow> byNode(NodeId node) override {
    auto it = rows.find(node);
    return it == rows.end() ? std::nullopt : std::optional(it->second);
  }
  std::optional<KnownRow> byName(NodeId parent, const std::string& name) override {
    auto it = names.find({parent, name});
    return it == names.end() ? std::nullopt : byNode(it->second);
  }
  std::vector<KnownRow> byObject(uint64_t device, uint64_t inode) override {
    std::vector<KnownRow> out;
    auto [from, to] = objects.equal_range({device, inode});
    for (; from != to; ++from) out.push_back(rows.at(from->second));
    return out;
  }
  std::vector<KnownRow> childrenOf(NodeId parent) override {
    std::vector<KnownRow> out;
    for (auto it = names.lower_bound({parent, ""}); it != names.end() && it->first.first == parent; ++it)
      out.push_back(rows.at(it->second));
    return out;
  }

  void put(const KnownRow& row) {
    erase(row.node);
    REQUIRE(names.emplace(std::pair(row.parentNode, row.name), row.node).second);
    objects.emplace(std::pair(row.device, row.inode), row.node);
    rows[row.node] = row;
  }
  void erase(NodeId node) {
    auto it = rows.find(node);
    if (it == rows.end()) return;
    names.erase({it->second.parentNode, it->second.name});
    auto [from, to] = objects.equal_range({it->second.device, it->second.inode});
    for (; from != to; ++from)
      if (from->second == node) {
        objects.erase(from);
        break;
      }
    rows.erase(it);
  }
  static void setStat(KnownRow& row, const FileStat& stat) {
    row.device = stat.device;
    row.inode = stat.inode;
    row.birthNs = stat.birthNs;
    row.sizeBytes = stat.sizeBytes;
    row.mtimeNs = stat.mtimeNs;
    row.ctimeNs = stat.ctimeNs;
    row.mode = stat.mode;
    row.hasBlob = row.kind == EntryKind::File;
  }

  void apply(const Plan& plan) {
    std::vector<NodeId> made(plan.steps.size(), 0);
    for (size_t i = 0; i < plan.steps.size(); ++i) applyOne(plan.steps[i], made, i);
    CHECK(parked.empty());
  }

  std::map<NodeId, KnownRow> rows;
  std::map<NodeId, KnownRow> parked;
  std::map<std::pair<NodeId, std::string>, NodeId> names;
  std::multimap<std::pair<uint64_t, uint64_t>, NodeId> objects;

 private:
  void applyOne(const Step& step, std::vector<NodeId>& made, size_t index) {
    NodeId parent = step.parentStep == kNoStep ? step.parent : made[step.parentStep];
    switch (step.kind) {
      case Kind::TypeChanged:
        REQUIRE(byName(parent, step.name)->node == step.node);
        REQUIRE(childrenOf(step.node).empty());
        erase(step.node);
        [[fallthrough]];
      case Kind::New: {
        KnownRow row;
        row.node = made[index] = ++lastNode_;
        row.parentNode = parent;
        row.name = step.name;
        row.kind = step.entryKind;
        setStat(row, step.stat);
        checkParent(parent);
        put(row);
        break;
      }
      case Kind::Park:
        parked[step.node] = rows.at(step.node);
        erase(step.node);
        break;
      case Kind::Move: {
        KnownRow row = parked.count(step.node) ? parked.at(step.node) : rows.at(step.node);
        CHECK(row.parentNode == step.fromParent);
        CHECK(row.name == step.fromName);
        parked.erase(step.node);
        for (NodeId up = parent; up != kRootNode; up = rows.at(up).parentNode) REQUIRE(up != step.node);
        REQUIRE_FALSE(byName(parent, step.name).has_value());
        checkParent(parent);
        row.parentNode = parent;
        row.name = step.name;
        put(row);
        break;
      }
      case Kind::Replaced:
      case Kind::Content:
      case Kind::Attributes: {
        KnownRow row = rows.at(step.node);
        setStat(row, step.stat);
        put(row);
        break;
      }
      case Kind::Vanished:
        REQUIRE(rows.count(step.node));
        REQUIRE(childrenOf(step.node).empty());
        erase(step.node);
        break;
    }
  }
  void checkParent(NodeId parent) {
    bool parentIsThere = parent == kRootNode || rows.count(parent) || parked.count(parent);
    REQUIRE(parentIsThere);
  }
  NodeId lastNode_ = 1;
};

/// A folder, what is known of it, and one look after another.
struct World {
  Folder folder;
  Table table;

  World() {
    KnownRow root;
    root.node = kRootNode;
    root.kind = EntryKind::Directory;
    Table::setStat(root, folder.root->stat);
    table.rows[kRootNode] = root;
  }

  Plan plan(bool everything, std::set<NodeId> accepted = {}) {
    std::vector<std::string> paths{""};
    if (!everything) {
      paths.clear();
      for (auto& object : folder.dirty_)
        if (auto path = folder.pathOf(object)) paths.push_back(*path);
    }
    return this->plan(paths, everything, accepted);
  }
  Plan plan(const std::vector<std::string>& paths, bool below, std::set<NodeId> accepted = {}) {
    folder.dirty_.clear();
    ReconcileInput input;
    input.root = folder.root->stat;
    input.acceptedMounts = accepted;
    for (auto& path : paths) folder.list(path, below, input.listings);
    for (int round = 0;; ++round) {
      REQUIRE(round < 20);
      input.askMore = round < 10;
      Plan plan = reconcile(input, table);
      if (plan.alsoList.empty()) return plan;
      CHECK(plan.steps.empty());
      for (auto& path : plan.alsoList) {
        std::erase_if(input.listings, [&](auto& l) { return l.path == path; });
        folder.list(path, false, input.listings);
      }
    }
  }
  Plan look(bool everything = true) {
    Plan plan = this->plan(everything);
    table.apply(plan);
    return plan;
  }
  NodeId node(const std::string& path) {
    NodeId node = kRootNode;
    for (size_t i = 0; i < path.size();) {
      size_t end = std::min(path.find('/', i), path.size());
      auto row = table.byName(node, path.substr(i, end - i));
      if (!row) return 0;
      node = row->node;
      i = end + 1;
    }
    return node;
  }
  /// Table and folder are the same.
  void checkSame() {
    size_t seen = 0;
    folder.walk([&](const std::string& path, const Folder::Ref& object) {
      ++seen;
      if (path.empty()) return;
      INFO(path);
      auto row = table.byNode(node(path));
      REQUIRE(row.has_value());
      CHECK(row->kind == *entryKindOf(object->stat.type));
      CHECK(row->inode == object->stat.inode);
      CHECK(row->birthNs == object->stat.birthNs);
      CHECK(row->mode == object->stat.mode);
      if (row->kind == EntryKind::Directory) return;
      CHECK(row->sizeBytes == object->stat.sizeBytes);
      CHECK(row->mtimeNs == object->stat.mtimeNs);
      CHECK(row->ctimeNs == object->stat.ctimeNs);
    });
    CHECK(seen == table.rows.size());
  }
};

inline size_t count(const Plan& plan, Kind kind) {
  return size_t(std::count_if(plan.steps.begin(), plan.steps.end(), [&](auto& s) { return s.kind == kind; }));
}
inline size_t count(const Plan& plan, Note::Kind kind) {
  return size_t(std::count_if(plan.notes.begin(), plan.notes.end(), [&](auto& n) { return n.kind == kind; }));
}

inline World worldWith(std::initializer_list<const char*> paths) {
  World world;
  for (std::string path : paths) {
    if (path.back() == '/') world.folder.directory(path.substr(0, path.size() - 1));
    else world.folder.file(path);
  }
  world.look();
  world.checkSame();
  return world;
}

}  // namespace realize::logic
