#include "librealize/peer/core.h"

#include <algorithm>
#include <set>

#include "librealize/logic/tree_merge.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

Result<std::string> Core::shownPath(const EntryId& id) {
  if (id == kRootEntry) return std::string();
  std::vector<std::string> names;
  EntryId at = id;
  while (at != kRootEntry) {
    const logic::Record* record = tree.peek(at);
    if (!record || !record->shown) return Error{Code::NotFound, "no such entry"};
    names.push_back(record->shownName);
    at = record->shownParent;
  }
  std::string path;
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    if (!path.empty()) path += '/';
    path += *name;
  }
  return path;
}

std::string Core::peerName(const PeerKey& key) const { return nameOf ? nameOf(key) : key.hex(8); }

logic::Record Core::rootRecord() {
  logic::Record root;
  root.entry.kind = EntryKind::Directory;
  root.node = kRootNode;
  root.shown = true;
  return root;
}

Result<logic::Record> Core::recordAt(const std::string& path) {
  std::optional<logic::Record> record = rootRecord();
  size_t start = 0;
  while (start < path.size()) {
    size_t end = path.find('/', start);
    if (end == std::string::npos) end = path.size();
    const std::string name = path.substr(start, end - start);
    start = end + 1;
    if (name.empty()) continue;
    if (record->entry.kind != EntryKind::Directory)
      return Error{Code::NotDirectory, options.name + ":" + path + ": a part of the path is not a folder"};
    record = tree.lookup(record->entry.id, name);
    if (!record) return Error{Code::NotFound, options.name + ":" + path + ": no such file or folder"};
  }
  return std::move(*record);
}

bool Core::isLacking(const Version& version) { return version.sizeBytes > 0 && !transfers->complete(version.blob); }

bool Core::lostHere(const Version& version) {
  return version.author == options.self && isLacking(version);
}

bool Core::maybeReplacedHere(const Entry& entry, const Version& version) {
  return isLacking(version) && (version.author == options.self || entry.touch.get(tree.origin()) != 0);
}

std::optional<std::pair<Dot, Version>> Core::shownVersion(const logic::Record& record) {
  if (record.entry.heads.size() == 1) return {{record.entry.heads[0].first, record.entry.heads[0].second}};
  const auto heads = logic::shownHeads(record.entry);
  if (heads.empty()) return std::nullopt;
  if (heads.size() > 1 && record.entry.kind == EntryKind::File) {
    if (auto row = store.disk().get(record.node)) {
      for (const auto& head : heads)
        if (head.version.blob == row->blob && head.version.sizeBytes == row->sizeBytes) return {{head.dot, head.version}};
      // The folder's bytes are no head any more (they were replaced), or are not read yet.
      for (const auto& head : heads)
        if (lostHere(head.version)) return {{head.dot, head.version}};
    }
  }
  return {{heads.front().dot, heads.front().version}};
}

std::vector<Dot> Core::baseOf(const Entry& entry, const logic::ShownHead* head) {
  std::set<Dot> base(entry.live.begin(), entry.live.end());
  for (const auto& [dot, version] : entry.heads) {
    const bool other = head && !std::binary_search(head->dots.begin(), head->dots.end(), dot);
    if (other) base.erase(dot);
    else base.insert(dot);
  }
  return {base.begin(), base.end()};
}

std::vector<Dot> Core::rebased(const std::vector<Dot>& base, const std::optional<logic::Record>& before, const EntryId& id) {
  std::vector<Dot> out = base;
  auto after = tree.get(id);
  if (!after) return out;
  auto had = [&](const Dot& dot) {
    if (!before) return false;
    const auto& live = before->entry.live;
    if (std::find(live.begin(), live.end(), dot) != live.end()) return true;
    return std::any_of(before->entry.heads.begin(), before->entry.heads.end(), [&](const auto& h) { return h.first == dot; });
  };
  for (const auto& dot : after->entry.live)
    if (!had(dot)) out.push_back(dot);
  for (const auto& [dot, version] : after->entry.heads)
    if (!had(dot)) out.push_back(dot);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace realize::peer
