#include "librealize/logic/tree_merge.h"

#include <algorithm>

#include "librealize/base/fault.h"

namespace realize::logic {

namespace {

bool contains(const std::vector<Dot>& sorted, Dot dot) { return std::binary_search(sorted.begin(), sorted.end(), dot); }

Dot dotOf(Dot dot) { return dot; }
template <typename Value>
Dot dotOf(const std::pair<Dot, Value>& item) { return item.first; }

// Observed-remove: what one side lacks though it has seen it was replaced there. Both lists are sorted by dot, and so
// is the result; where both have an item, mine is taken (they are equal but for bugs elsewhere).
template <typename Item>
std::vector<Item> keep(const std::vector<Item>& mine, const VersionVector& mySeen, const std::vector<Item>& theirs,
                       const VersionVector& theirSeen) {
  std::vector<Item> out;
  auto a = mine.begin();
  auto b = theirs.begin();
  while (a != mine.end() || b != theirs.end()) {
    if (b == theirs.end() || (a != mine.end() && dotOf(*a) < dotOf(*b))) {
      if (!theirSeen.covers(dotOf(*a))) out.push_back(*a);
      ++a;
    } else if (a == mine.end() || dotOf(*b) < dotOf(*a)) {
      if (!mySeen.covers(dotOf(*b))) out.push_back(*b);
      ++b;
    } else {
      out.push_back(*a);
      ++a, ++b;
    }
  }
  return out;
}

}  // namespace

bool isLetGo(const Entry& entry, Dot head) {
  return std::any_of(entry.tombs.begin(), entry.tombs.end(),
                     [&](const auto& tomb) { return contains(tomb.second, head); });
}

bool allLetGo(const Entry& entry) {
  return !entry.tombs.empty() &&
         std::all_of(entry.heads.begin(), entry.heads.end(), [&](const auto& head) { return isLetGo(entry, head.first); });
}

bool letGoUnknown(const Entry& entry) {
  return std::any_of(entry.tombs.begin(), entry.tombs.end(), [&](const auto& tomb) {
    return std::any_of(tomb.second.begin(), tomb.second.end(), [&](Dot dot) {
      return std::none_of(entry.heads.begin(), entry.heads.end(), [&](const auto& head) { return head.first == dot; });
    });
  });
}

std::vector<std::pair<Dot, Version>> realHeads(const Entry& entry) {
  if (entry.tombs.empty()) return entry.heads;
  std::vector<std::pair<Dot, Version>> out;
  for (const auto& head : entry.heads) if (!isLetGo(entry, head.first)) out.push_back(head);
  return out.empty() ? entry.heads : out;
}

bool isForOthers(const Entry& entry, Dot claim) {
  return std::any_of(entry.tombs.begin(), entry.tombs.end(), [&](const auto& tomb) { return tomb.first == claim; });
}

void endClaimsForOthers(Entry& entry) {
  const bool anyLeft = std::any_of(entry.heads.begin(), entry.heads.end(), [&](const auto& head) { return !isLetGo(entry, head.first); });
  if (anyLeft) return;
  if (std::all_of(entry.live.begin(), entry.live.end(), [&](Dot claim) { return isForOthers(entry, claim); })) entry.live.clear();
}

std::vector<ShownHead> shownHeads(const Entry& entry) {
  std::vector<ShownHead> out;
  if (entry.heads.size() == 1) {  // Of one, as nearly all have, rule 9 leaves that one.
    out.push_back({entry.heads[0].first, entry.heads[0].second, {entry.heads[0].first}});
    return out;
  }
  for (const auto& [dot, version] : realHeads(entry)) {
    auto same = std::find_if(out.begin(), out.end(), [&v = version](const ShownHead& h) { return h.version.sameContent(v); });
    if (same == out.end()) {
      out.push_back({dot, version, {dot}});
      continue;
    }
    same->dots.push_back(dot);
    if (std::pair(version.stamp, dot) > std::pair(same->version.stamp, same->dot)) {
      same->version = version;
      same->dot = dot;
    }
  }
  std::sort(out.begin(), out.end(), [](const ShownHead& a, const ShownHead& b) {
    return std::pair(a.version.stamp, a.dot) > std::pair(b.version.stamp, b.dot);
  });
  return out;
}

Entry mergeEntries(const Entry& mine, const VersionVector& mySeen, const Entry& theirs,
                   const VersionVector& theirSeen) {
  Entry e;
  e.id = mine.id;
  e.kind = mine.kind;
  e.live = keep(mine.live, mySeen, theirs.live, theirSeen);
  e.heads = keep(mine.heads, mySeen, theirs.heads, theirSeen);
  e.tombs = keep(mine.tombs, mySeen, theirs.tombs, theirSeen);
  if (faulty(Fault::DeleteBlind) && (theirs.live.empty() || mine.live.empty())) {
    e.live.clear();
    e.heads.clear();
  }
  if (faulty(Fault::CompareTimes) && e.heads.size() > 1) {
    e.heads = {*std::max_element(e.heads.begin(), e.heads.end(),
                                 [](const auto& a, const auto& b) { return a.second.mtimeNs < b.second.mtimeNs; })};
  }
  e.place = std::max(mine.place, theirs.place);
  e.touch = mine.touch;
  e.touch.join(theirs.touch);
  e.ctx = mySeen;
  e.ctx.join(theirSeen);
  endClaimsForOthers(e);

  // Oldest first, as each goes to the front: what both remember, then what this merge itself replaced.
  for (auto it = mine.replaced.rbegin(); it != mine.replaced.rend(); ++it) rememberReplaced(e, *it);
  for (auto it = theirs.replaced.rbegin(); it != theirs.replaced.rend(); ++it) rememberReplaced(e, *it);
  for (const auto* side : {&theirs, &mine}) {
    for (const auto& [dot, version] : side->heads) rememberReplaced(e, version.blob);
  }
  return e;
}

void rememberReplaced(Entry& entry, const BlobId& blob) {
  if (blob.isZero()) return;
  for (const auto& [dot, version] : entry.heads) if (version.blob == blob) return;
  std::erase(entry.replaced, blob);
  entry.replaced.insert(entry.replaced.begin(), blob);
  if (entry.replaced.size() > kReplacedKept) entry.replaced.resize(kReplacedKept);
}

}  // namespace realize::logic
