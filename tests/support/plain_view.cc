#include "tests/support/plain_view.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <vector>

namespace realize::logic {

namespace {

using Entries = std::map<EntryId, Entry>;

bool isDirectory(const Entries& entries, const EntryId& id) {
  auto it = entries.find(id);
  return it != entries.end() && it->second.kind == EntryKind::Directory;
}

struct Placed {
  EntryId parent;
  std::string name;
  int step = 0;
};

std::vector<EntryId> anyCycle(const Entries& entries, const std::map<EntryId, Placed>& placed) {
  std::set<EntryId> clear;
  for (const auto& [start, ignored] : placed) {
    std::vector<EntryId> path;
    EntryId at = start;
    while (at != kRootEntry && isDirectory(entries, at) && !clear.count(at)) {
      auto on = std::find(path.begin(), path.end(), at);
      if (on != path.end()) return {on, path.end()};
      path.push_back(at);
      at = placed.at(at).parent;
    }
    clear.insert(path.begin(), path.end());
  }
  return {};
}

}  // namespace

std::map<EntryId, std::pair<EntryId, std::string>> plainView(const Entries& entries) {
  std::map<EntryId, Placed> placed;
  for (const auto& [id, e] : entries) placed[id] = {e.place.parent, e.place.name, 0};
  for (auto cycle = anyCycle(entries, placed); !cycle.empty(); cycle = anyCycle(entries, placed)) {
    EntryId pick = *std::max_element(cycle.begin(), cycle.end(), [&](const EntryId& a, const EntryId& b) {
      return std::tuple(placed[a].step == 0, entries.at(a).place.stamp, a) <
             std::tuple(placed[b].step == 0, entries.at(b).place.stamp, b);
    });
    const Place& claimed = entries.at(pick).place;
    Placed& p = placed[pick];
    bool back = claimed.oldParent == kRootEntry ||
                (isDirectory(entries, claimed.oldParent) && !entries.at(claimed.oldParent).live.empty());
    if (p.step == 0 && back) p = {claimed.oldParent, claimed.oldName, 1};
    else p = {kRootEntry, p.name, 2};
  }

  std::set<EntryId> shown;
  for (const auto& [id, e] : entries) {
    if (e.live.empty()) continue;
    std::vector<EntryId> path{id};
    EntryId at = placed[id].parent;
    while (at != kRootEntry && isDirectory(entries, at)) {
      path.push_back(at);
      at = placed[at].parent;
    }
    if (at == kRootEntry) shown.insert(path.begin(), path.end());
  }

  std::map<EntryId, std::map<std::string, std::vector<EntryId>>> claims;
  for (const EntryId& id : shown) claims[placed[id].parent][placed[id].name].push_back(id);
  std::map<EntryId, std::pair<EntryId, std::string>> where;
  auto earlier = [&](const EntryId& a, const EntryId& b) {
    return std::pair(entries.at(a).place.stamp, a) < std::pair(entries.at(b).place.stamp, b);
  };
  for (auto& [parent, names] : claims) {
    std::set<std::string> taken;
    std::vector<EntryId> losers;
    for (auto& [name, ids] : names) {
      std::sort(ids.begin(), ids.end(), earlier);
      taken.insert(name);
      where[ids[0]] = {parent, name};
      losers.insert(losers.end(), ids.begin() + 1, ids.end());
    }
    std::sort(losers.begin(), losers.end(), earlier);
    for (const EntryId& id : losers) {
      size_t digits = 4;
      auto name = [&] { return placed[id].name + "~" + id.hex().substr(0, digits); };
      while (taken.count(name())) ++digits;
      taken.insert(name());
      where[id] = {parent, name()};
    }
  }
  return where;
}

std::string viewDifference(const MemoryTreeStore& store) {
  Entries entries;
  for (const auto& [id, record] : store.records()) entries[id] = record.entry;
  auto where = plainView(entries);
  std::map<EntryId, uint32_t> children;
  for (const auto& [id, at] : where) ++children[at.first];
  std::string out;
  for (const auto& [id, record] : store.records()) {
    auto it = where.find(id);
    std::string want = it == where.end() ? "not shown" : it->second.first.hex().substr(0, 6) + "/" + it->second.second;
    std::string have = !record.shown ? "not shown" : record.shownParent.hex().substr(0, 6) + "/" + record.shownName;
    if (want != have) out += id.hex().substr(0, 6) + ": want " + want + ", have " + have + "\n";
    if (record.shownChildren != children[id]) {
      out += id.hex().substr(0, 6) + ": want " + std::to_string(children[id]) + " children shown, have " +
             std::to_string(record.shownChildren) + "\n";
    }
  }
  return out;
}

}  // namespace realize::logic
