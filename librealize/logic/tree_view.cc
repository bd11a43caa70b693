// The visible tree, kept up to date with each change (AGREEMENT.md 9-12).
//
// An edit runs as: beginEdit (what the entry counted for is taken out), the change itself, endEdit, which
//   1. finds new effective places (of the entry; where cycles are or come about, of those that break them),
//   2. moves what has a new one, and shows or hides it and what stands above it,
//   3. settles the names in the slots that were entered or left,
//   4. counts everything that was touched in again.

#include <algorithm>

#include "librealize/base/hash.h"
#include "librealize/logic/names.h"
#include "librealize/logic/tree.h"
#include "librealize/logic/tree_call.h"
#include "librealize/model/codec.h"

namespace realize::logic {

namespace {

bool isDisplaced(const Record& r) { return r.shownParent != r.entry.place.parent || r.shownBase != r.entry.place.name; }
bool isClashed(const Record& r) { return r.shown && r.shownName != r.shownBase; }
bool isOrphan(const Record& r) { return !r.entry.live.empty() && !r.shown; }
bool hasLink(const Record& r) {
  return std::any_of(r.entry.heads.begin(), r.entry.heads.end(), [](const auto& h) { return !h.second.target.isZero(); });
}

TreeDigest digestOf(const Record& r) {
  ByteWriter w;
  w.fixed(r.entry.id);
  w.fixed(r.shownParent);
  w.text(r.shownName);
  auto add = [&](const std::vector<std::pair<Dot, Version>>& heads) {
    for (const auto& [dot, v] : heads) {
      w.fixed64(dot.origin);
      w.number(dot.seq);
      w.fixed(v.blob);
      w.number(v.sizeBytes);
      w.text(v.linkTarget);
      w.fixed(v.target);
    }
  };
  if (r.entry.tombs.empty()) add(r.entry.heads);
  else add(realHeads(r.entry));
  std::string bytes = w.take();
  TreeDigest out;
  blake2b(std::as_bytes(std::span(bytes)), std::span<uint8_t>(out.bytes));
  return out;
}

// The loser's name: base, '~' and so many digits of the id; the base is cut where a folder could not hold the whole.
std::string suffixed(const std::string& base, const std::string& hex, size_t digits) {
  return cutName(base, kNameBytes - 1 - digits) + "~" + hex.substr(0, digits);
}

}  // namespace

void add(TreeDigest& sum, const TreeDigest& term, bool subtract) {
  int carry = 0;
  for (size_t i = 0; i < TreeDigest::size(); ++i) {
    int n = subtract ? int(sum.bytes[i]) - term.bytes[i] + carry : int(sum.bytes[i]) + term.bytes[i] + carry;
    sum.bytes[i] = uint8_t(n & 0xff);
    carry = n >> 8;
  }
}

Record* Tree::shown(const EntryId& id) {
  Record* r = records_.find(id);
  return r && r->shown ? r : nullptr;
}

Record* Tree::directory(const EntryId& id) {
  Record* r = records_.find(id);
  return r && r->entry.kind == EntryKind::Directory ? r : nullptr;
}

Tree::Claimed Tree::claimedOf(const Record* record) {
  if (!record) return {};
  const Entry& e = record->entry;
  return {true, !e.live.empty(), e.place.parent, e.place.name, e.place.stamp};
}

void Tree::countOut(const Record& r) {
  if (r.shown) add(state_.digest, digestOf(r), true);
  state_.clashed -= isClashed(r);
  state_.orphans -= isOrphan(r);
  state_.links -= hasLink(r);
}

void Tree::countIn(const Record& r) {
  if (r.shown) add(state_.digest, digestOf(r), false);
  state_.clashed += isClashed(r);
  state_.orphans += isOrphan(r);
  state_.links += hasLink(r);
}

void Tree::beginEdit(Record& record) {
  const EntryId& id = record.entry.id;
  if (edited_.empty()) clashedBefore_ = state_.clashed;
  if (editedSet_.insert(id).second) {
    edited_.push_back(id);
    countOut(record);
  }
  auto [effect, fresh] = effects_.try_emplace(id);
  if (fresh) effectOrder_.push_back(id);
  if (fresh && record.shown) {
    effect->second = {true, record.shownParent, record.shownName, logic::shownHeads(record.entry), record.entry.live, {}};
  }
  if (fresh) effect->second.touch = record.entry.touch;
  if (moving_) {
    auto [at, first] = movedBefore_.try_emplace(id);
    if (first && record.shown) at->second = {true, record.shownParent, record.shownName, {}, {}, {}};
  }
  records_.markDirty(record);
}

void Tree::endEdit(Record& record, const Claimed& before) {
  const Entry& e = record.entry;
  const EntryId id = e.id;
  const bool isDirectory = e.kind == EntryKind::Directory;
  const bool replaced = !before.known || before.parent != e.place.parent || before.name != e.place.name;
  const bool restamped = before.stamp != e.place.stamp;
  const bool revived = before.known && before.live != !e.live.empty();

  std::map<EntryId, Effective> moves;
  // Only directories have anything below them, so only they make cycles; and where a cycle is broken, the stamps of its
  // directories and the life of the places fallen back to decide how.
  if (isDirectory && ((replaced && cycleAbove(record)) || (!displaced_.empty() && (replaced || restamped || revived)))) {
    moves = breakCycles(id);
  } else if (replaced) {
    moves[id] = {e.place.parent, e.place.name, 0};
  }
  place(moves);

  if (!before.known && isDirectory && state_.orphans > 0 && attached(record)) showBelow(id);
  if (!e.live.empty() && !record.shown && attached(record)) showChain(record);
  unneeded_.push_back(id);
  for (size_t i = 0; i < unneeded_.size(); ++i) hideIfUnneeded(EntryId(unneeded_[i]));
  unneeded_.clear();

  if (restamped && record.shown && clashedBefore_ > 0) slots_[record.shownParent].insert(record.shownBase);
  settleNames();
  for (const EntryId& edited : edited_) {
    if (Record* r = records_.find(edited)) countIn(*r);
  }
  edited_.clear();
  editedSet_.clear();
}

// --- Places and cycles ----------------------------------------------------------------------------------------------

// Whether the claimed place of a directory leads back to it. Elsewhere effective places are free of cycles.
bool Tree::cycleAbove(const Record& record) {
  EntryId at = record.entry.place.parent;
  while (at != kRootEntry) {
    if (at == record.entry.id) return true;
    Record* r = directory(at);
    if (!r) return false;
    at = r->shownParent;
  }
  return false;
}

std::vector<EntryId> Tree::findCycle(const EntryId& from, const std::map<EntryId, Effective>& effective) {
  std::vector<EntryId> path;
  std::map<EntryId, size_t> position;
  EntryId at = from;
  while (at != kRootEntry) {
    auto [it, fresh] = position.try_emplace(at, path.size());
    if (!fresh) return std::vector<EntryId>(path.begin() + long(it->second), path.end());
    path.push_back(at);
    auto changed = effective.find(at);
    Record* r = directory(at);
    if (!r) return {};
    at = changed != effective.end() ? changed->second.parent : r->shownParent;
  }
  return {};
}

// Rule 10, from the claimed places of all that takes part. Every cycle of claimed places has a directory in it that
// was displaced before, or the changed one; every cycle that comes of breaking one has the directory that broke it. So
// walking up from these finds all, and the order in which cycles are broken does not matter: which directory gives way
// depends on its cycle alone, and a cycle stays until then.
std::map<EntryId, Tree::Effective> Tree::breakCycles(const EntryId& changed) {
  std::map<EntryId, Effective> effective;
  std::vector<EntryId> starts(displaced_.begin(), displaced_.end());
  starts.push_back(changed);
  for (const EntryId& id : starts) {
    if (Record* r = records_.find(id)) effective[id] = {r->entry.place.parent, r->entry.place.name, 0};
  }
  for (size_t i = 0; i < starts.size(); ++i) {
    while (true) {
      std::vector<EntryId> cycle = findCycle(EntryId(starts[i]), effective);
      if (cycle.empty()) break;
      auto key = [&](const EntryId& id) {
        auto it = effective.find(id);
        return std::tuple(it == effective.end() || it->second.step == 0, records_.find(id)->entry.place.stamp, id);
      };
      EntryId pick = *std::max_element(cycle.begin(), cycle.end(),
                                       [&](const EntryId& a, const EntryId& b) { return key(a) < key(b); });
      const Place& claimed = records_.find(pick)->entry.place;
      Effective& e = effective.try_emplace(pick, Effective{claimed.parent, claimed.name, 0}).first->second;
      Record* old = claimed.oldParent == kRootEntry ? nullptr : directory(claimed.oldParent);
      if (e.step == 0 && (claimed.oldParent == kRootEntry || (old && !old->entry.live.empty()))) {
        e = {claimed.oldParent, claimed.oldName, 1};
      } else {
        e.parent = kRootEntry;
        e.step = 2;
      }
      starts.push_back(pick);
    }
  }
  return effective;
}

// Every directory above is here, so that what is live can be shown. While several move at once, what is still shown
// may stand below one that is about to vanish.
bool Tree::attached(const Record& record) {
  EntryId at = record.shownParent;
  while (at != kRootEntry) {
    Record* r = directory(at);
    if (!r) return false;
    if (r->shown && !severalMove_) return true;
    at = r->shownParent;
  }
  return true;
}

void Tree::place(const std::map<EntryId, Effective>& moves) {
  struct Moved {
    EntryId id;
    bool wasShown;
  };
  std::vector<Moved> moved;
  severalMove_ = moves.size() > 1;
  for (const auto& [id, to] : moves) {
    Record& r = *records_.find(id);
    bool fresh = r.shownBase.empty();
    if (!fresh && r.shownParent == to.parent && r.shownBase == to.base) {
      if (isDisplaced(r)) displaced_.insert(id);
      else displaced_.erase(id);
      continue;
    }
    beginEdit(r);
    moved.push_back({id, r.shown});
    if (r.shown) leaveSlot(r);
    r.shownParent = to.parent;
    r.shownBase = to.base;
    if (isDisplaced(r)) displaced_.insert(id);
    else displaced_.erase(id);
  }
  for (const auto& [id, wasShown] : moved) {
    Record& r = *records_.find(id);
    bool isDirectory = r.entry.kind == EntryKind::Directory;
    if (!r.shown && (!r.entry.live.empty() || r.shownChildren > 0)) {
      if (attached(r)) showChain(r);
      else if (isDirectory && wasShown) hideBelow(r);
    }
    // What had no way to the root before may have one now.
    if (isDirectory && !wasShown && state_.orphans > 0 && attached(r)) showBelow(id);
  }
}

// --- Shown and hidden -----------------------------------------------------------------------------------------------

void Tree::leaveSlot(Record& r) {
  beginEdit(r);
  slots_[r.shownParent].insert(r.shownBase);
  records_.setShownName(r, "");
  r.shown = false;
  if (Record* parent = records_.find(r.shownParent)) {
    --parent->shownChildren;
    records_.markDirty(*parent);
    if (parent->shownChildren == 0) unneeded_.push_back(r.shownParent);
  }
}

// Shows an entry and what stands above it; the way to the root is known to be there.
void Tree::showChain(Record& record) {
  Record* r = &record;
  while (r && !r->shown) {
    beginEdit(*r);
    r->shown = true;
    slots_[r->shownParent].insert(r->shownBase);
    newcomers_.push_back(r->entry.id);
    Record* parent = records_.find(r->shownParent);
    if (parent) {
      ++parent->shownChildren;
      records_.markDirty(*parent);
    }
    r = parent;
  }
}

void Tree::hideIfUnneeded(const EntryId& id) {
  Record* r = records_.find(id);
  if (r && r->shown && r->entry.live.empty() && r->shownChildren == 0) leaveSlot(*r);
}

// A directory lost its way to the root: nothing below it is shown any more.
void Tree::hideBelow(Record& record) {
  std::vector<EntryId> todo{record.entry.id};
  while (!todo.empty()) {
    EntryId id = todo.back();
    todo.pop_back();
    for (const EntryId& child : records_.placedIn(id)) {
      Record* r = records_.find(child);
      if (!r || !r->shown) continue;
      leaveSlot(*r);
      if (r->entry.kind == EntryKind::Directory) todo.push_back(child);
    }
  }
}

// A directory has a way to the root now: what is live below it is shown.
void Tree::showBelow(const EntryId& directory) {
  std::vector<EntryId> todo{directory};
  while (!todo.empty()) {
    EntryId id = todo.back();
    todo.pop_back();
    for (const EntryId& child : records_.placedIn(id)) {
      Record* r = records_.find(child);
      if (!r) continue;
      if (!r->shown && !r->entry.live.empty()) showChain(*r);
      if (r->entry.kind == EntryKind::Directory) todo.push_back(child);
    }
  }
}

// --- Names ----------------------------------------------------------------------------------------------------------

void Tree::settleNames() {
  // Mostly one entry comes to a directory where nothing clashes.
  if (clashedBefore_ == 0 && newcomers_.size() == 1 && slots_.size() == 1 && slots_.begin()->second.size() == 1) {
    const EntryId& parent = slots_.begin()->first;
    Record* r = records_.find(newcomers_.front());
    if (r && r->shown && r->shownName.empty() && r->shownParent == parent && !records_.shownAt(parent, r->shownBase)) {
      records_.setShownName(*r, r->shownBase);
      slots_.clear();
      newcomers_.clear();
      return;
    }
  }
  auto slots = std::move(slots_);
  auto newcomers = std::move(newcomers_);
  slots_.clear();
  newcomers_.clear();

  std::map<EntryId, std::vector<Record*>> entering;
  for (const EntryId& id : newcomers) {
    Record* r = records_.find(id);
    if (r && r->shown && r->shownName.empty()) entering[r->shownParent].push_back(r);
  }
  for (const auto& [parent, bases] : slots) {
    // With no clash in the directory a name that nobody has is simply taken, and one that was left is simply free.
    bool simple = clashedBefore_ == 0 || records_.clashedIn(parent).empty();
    if (simple) {
      std::set<std::string> seen;
      for (Record* r : entering[parent]) {
        if (!seen.insert(r->shownBase).second || records_.shownAt(parent, r->shownBase)) simple = false;
      }
    }
    if (!simple) {
      settleDirectory(parent, bases);
      continue;
    }
    for (Record* r : entering[parent]) records_.setShownName(*r, r->shownBase);
  }
}

// Rule 12 for the given slots and for all losers of the directory, whose names depend on each other.
void Tree::settleDirectory(const EntryId& directory, const std::set<std::string>& changed) {
  std::set<std::string> bases = changed;
  for (const EntryId& id : records_.clashedIn(directory)) bases.insert(records_.find(id)->shownBase);
  // A newcomer takes its base from a loser that has the same as its suffixed name: then that one is among the above.

  struct Claim {
    Stamp stamp;
    EntryId id;
    std::string base;
    auto operator<=>(const Claim&) const = default;
  };
  std::map<std::string, EntryId> names;
  std::vector<Claim> losers;
  std::set<EntryId> taking;
  for (const std::string& base : bases) {
    std::vector<Claim> claims;
    for (const EntryId& id : records_.placedAt(directory, base)) {
      Record* r = records_.find(id);
      if (r && r->shown) claims.push_back({r->entry.place.stamp, id, base});
    }
    std::sort(claims.begin(), claims.end());
    for (size_t i = 0; i < claims.size(); ++i) {
      taking.insert(claims[i].id);
      if (i == 0) names[base] = claims[i].id;
      else losers.push_back(claims[i]);
    }
  }
  std::sort(losers.begin(), losers.end());
  for (const Claim& loser : losers) {
    std::string hex = loser.id.hex(), name;
    for (size_t digits = 4; digits <= hex.size(); ++digits) {
      name = suffixed(loser.base, hex, digits);
      if (names.count(name)) continue;
      Record* holder = records_.shownAt(directory, name);
      if (!holder || taking.count(holder->entry.id)) break;
    }
    names[name] = loser.id;
  }
  for (const auto& [name, id] : names) {
    Record& r = *records_.find(id);
    if (r.shownName == name) continue;
    beginEdit(r);
    records_.setShownName(r, name);
  }
}

}  // namespace realize::logic
