// Local changes (AGREEMENT.md 2-8), and those that stand for what editors do when they save.

#include <algorithm>

#include "librealize/base/hash.h"
#include "librealize/logic/names.h"
#include "librealize/logic/tree.h"
#include "librealize/logic/tree_call.h"
#include "librealize/model/codec.h"

namespace realize::logic {

namespace {

bool contains(const std::vector<Dot>& dots, Dot dot) { return std::find(dots.begin(), dots.end(), dot) != dots.end(); }
bool saw(const Base& base, Dot dot) { return base.everything || contains(base.dots, dot); }

// A peer may claim any clock; it then stands still at the greatest that is valid, and origins decide.
uint64_t next(uint64_t clock) { return std::min(clock + 1, kMaxCount); }

// Only what an entry of that kind has, as every decode will ask.
Version cleaned(Version v, EntryKind kind) {
  v.mode &= kind == EntryKind::Directory ? 01777 : 0777;
  bool hardLink = !v.target.isZero();
  if (kind != EntryKind::File) v.target = {};
  if (kind != EntryKind::File || hardLink) {
    v.blob = {};
    v.sizeBytes = 0;
  }
  if (kind != EntryKind::Symlink) v.linkTarget.clear();
  return v;
}

Result<void> checkVersion(const Version& v, EntryKind kind) {
  if (v.sizeBytes > kMaxCount) return {Code::TooLarge, "no file can be that large"};
  if (kind != EntryKind::Symlink) return {};
  if (v.linkTarget.size() > kMaxLinkTargetBytes) return {Code::NameTooLong, "the target of a symlink is too long"};
  if (v.linkTarget.empty() || v.linkTarget.find('\0') != std::string::npos) {
    return {Code::InvalidArgument, "the target of a symlink is empty or has a zero byte"};
  }
  return {};
}

/// Of a version: the same on all peers. Of a symlink the hash of where it leads.
std::string contentName(const Version& version) {
  if (version.linkTarget.empty()) return version.blob.hex();
  BlobId hash;
  blake2b(std::as_bytes(std::span(version.linkTarget)), std::span<uint8_t>(hash.bytes));
  return hash.hex();
}

/// "report~1a2b3c4d.txt".
std::string copyName(const std::string& name, const std::string& content) {
  constexpr size_t kDigits = 8;
  const std::string ending = endingOf(name);
  const std::string stem = name.substr(0, name.size() - ending.size());
  return cutName(stem, kNameBytes - 1 - kDigits - ending.size()) + "~" + content.substr(0, kDigits) + ending;
}

bool isHead(const Entry& entry, Dot dot) {
  return std::any_of(entry.heads.begin(), entry.heads.end(), [&](const auto& head) { return head.first == dot; });
}

// Of a folder a late change has seen what this peer itself made of it, too, as that was on its disk before, or is nothing that a
// disk could show.
bool sawHead(const Base& base, const Entry& entry, Dot head, Origin self) {
  return saw(base, head) || (entry.kind == EntryKind::Directory && head.origin == self);
}

// A late change that has seen all content has seen this peer's own claims too, which brought none: a folder is claimed
// for the sake of what is put into it.
bool sawHeads(const Base& base, const Entry& entry, Origin self) {
  std::vector<std::pair<Dot, Version>> heads = realHeads(entry);
  return std::all_of(heads.begin(), heads.end(), [&](const auto& head) { return isLetGo(entry, head.first) || sawHead(base, entry, head.first, self); });
}

// All of an entry but its other heads, whose claims stay with them (a create has one dot for claim and head).
Base baseOfHead(const Entry& entry, const ShownHead& head) {
  std::vector<Dot> seen = head.dots;
  for (Dot claim : entry.live) if (!isHead(entry, claim)) seen.push_back(claim);
  return Base::only(std::move(seen));
}

}  // namespace

// One change of one entry: the only place that makes dots.
Dot Tree::change(const EntryId& id, const LocalChange& what) {
  Record* known = records_.find(id);
  Claimed before = claimedOf(known);
  if (!known) {
    Entry fresh;
    fresh.id = id;
    fresh.kind = *what.createAs;
    known = &records_.insert(std::move(fresh));
  }
  Record& record = *known;
  beginEdit(record);
  Entry& e = record.entry;
  Dot dot{state_.origin, ++state_.seq};
  state_.vector.join(dot);
  e.touch.join(dot);
  if (state_.vector.geq(e.ctx)) e.ctx = {};

  if (what.claim || what.remove) {
    std::erase_if(e.live, [&, ownSeen = sawHeads(what.base, e, state_.origin)](Dot d) {
      // What an earlier delete claimed for the sake of others is taken over, seen or not.
      const bool takenOver = (what.claim || what.letGo) && isForOthers(e, d);
      return takenOver || saw(what.base, d) || (ownSeen && d.origin == state_.origin && (e.kind == EntryKind::Directory || !isHead(e, d)));
    });
    if (what.claim) e.live.insert(std::lower_bound(e.live.begin(), e.live.end(), dot), dot);
  }
  if (what.version) {
    Version version = cleaned(*what.version, e.kind);
    version.author = self_;
    version.writtenNs = clock_.nowNs();
    version.stamp = {1, state_.origin};
    for (const auto& [d, v] : e.heads) version.stamp.clock = std::max(version.stamp.clock, next(v.stamp.clock));
    // Of the heads that nobody let go, those it has not seen stay beside it.
    std::vector<std::pair<Dot, Version>> old = e.heads;
    std::erase_if(e.heads, [&](const auto& head) { return sawHead(what.base, e, head.first, state_.origin) || isLetGo(e, head.first); });
    auto at = std::lower_bound(e.heads.begin(), e.heads.end(), dot, [](const auto& h, Dot d) { return h.first < d; });
    e.heads.insert(at, {dot, version});
    e.tombs.clear();
    std::erase(e.replaced, version.blob);
    for (const auto& [d, v] : old) rememberReplaced(e, v.blob);
  }
  if (what.remove && what.letGo) {
    // What earlier deletes let go stays, too: it is the last resort where a delete elsewhere let go the others.
    std::vector<Dot> gone;
    for (const auto& [d, v] : e.heads) if (sawHead(what.base, e, d, state_.origin) || isLetGo(e, d)) gone.push_back(d);
    // Who removes the one of two versions that he saw has not removed the other, whoever claims the name for it, and
    // whoever takes that claim away meanwhile (rule 23).
    const bool partly = gone.size() < e.heads.size();
    if (partly) e.live.insert(std::lower_bound(e.live.begin(), e.live.end(), dot), dot);
    e.tombs.clear();
    if (partly || !gone.empty()) e.tombs.emplace_back(dot, std::move(gone));
    endClaimsForOthers(e);
  }
  if (what.place) {
    state_.clock = next(state_.clock);
    Place place{{state_.clock, state_.origin}, what.place->first, what.place->second, kRootEntry, what.place->second};
    if (before.known) {
      place.oldParent = e.place.parent;
      place.oldName = e.place.name;
      auto shownAt = movedBefore_.find(id);
      if (moving_ && shownAt != movedBefore_.end() && shownAt->second.shown) {
        place.oldParent = shownAt->second.parent;
        place.oldName = shownAt->second.name;
      }
    }
    e.place = std::move(place);
  }
  endEdit(record, before);
  return dot;
}

// A directory that is shown only for what is in it becomes really alive, and so do those above it (rule 7). Its attributes
// under the claim's dot: those who forgot it, and made it anew, know their dot as one that went.
void Tree::hold(const EntryId& directory) {
  EntryId at = directory;
  while (at != kRootEntry) {
    Record* r = records_.find(at);
    if (!r || !r->entry.live.empty()) return;
    const std::optional<ShownHead> head = headNamed(r->entry, std::nullopt);
    LocalChange claim;
    claim.claim = true;
    if (head) claim.version = head->version;
    const Dot dot = change(at, claim);
    r = records_.find(at);
    if (head) {
      const Claimed before = claimedOf(r);
      beginEdit(*r);
      r->entry.heads = {{dot, head->version}};  // Nobody set them now.
      endEdit(*r, before);
    }
    at = r->shownParent;
  }
}

Result<void> Tree::checkPlace(const EntryId& parent, const std::string& name) {
  if (!isValidName(name)) return {Code::InvalidArgument, "not a name an entry can have: '" + name + "'"};
  if (parent == kRootEntry) return {};
  Record* r = shown(parent);
  if (!r) return {Code::NotFound, "the folder that '" + name + "' would be in is not there"};
  if (r->entry.kind != EntryKind::Directory) return {Code::NotDirectory, "what '" + name + "' would be in is not a folder"};
  return {};
}

Result<EntryId> Tree::create(const EntryId& parent, const std::string& name, EntryKind kind, const Version& version,
                             bool beside, const std::function<bool(NodeId)>& inUse) {
  Call call(*this);
  REALIZE_TRY(checkPlace(parent, name));
  REALIZE_TRY(checkVersion(version, kind));
  if (Record* there = beside ? nullptr : records_.shownAt(parent, name)) {
    EntryId id = there->entry.id;
    if (there->entry.kind == kind) {
      if (kind != EntryKind::Directory) REALIZE_TRY(write(id, version));
      return id;
    }
    removeTree(id, Base::all());
    if (parent != kRootEntry && !shown(parent)) return {Code::NotFound, "the folder that '" + name + "' would be in is not there"};
  }
  hold(parent);
  // An id that is shown elsewhere belongs to what was moved there; one that is not shown comes back (rule 6).
  EntryId id;
  for (uint32_t n = 0;; ++n) {
    id = entryIdFor(parent, name, kind, n);
    Record* known = records_.find(id);
    if (!known || (!known->shown && known->entry.kind == kind && !(inUse && inUse(known->node)))) break;
  }
  make(id, kind, version, parent, name);
  return id;
}

void Tree::make(const EntryId& id, EntryKind kind, const Version& version, const EntryId& parent, const std::string& name) {
  LocalChange made;
  made.claim = true;
  made.createAs = kind;
  made.version = version;
  made.place = {parent, name};
  change(id, made);
}

Result<void> Tree::write(const EntryId& id, const Version& version, const Base& base) {
  Call call(*this);
  Record* r = shown(id);
  if (!r) return {Code::NotFound, "the entry to write is not there"};
  REALIZE_TRY(checkVersion(version, r->entry.kind));
  std::vector<std::pair<Dot, Version>> heads = realHeads(r->entry);
  hold(r->shownParent);
  LocalChange claim, written;
  claim.claim = true;
  claim.base = written.base = base;
  written.version = version;
  // Through a hard link: the name is claimed here, the content is the target's (rule 3).
  if (heads.size() == 1 && version.target.isZero()) {
    EntryId target = heads[0].second.target;
    if (!target.isZero() && target != id && records_.find(target)) {
      change(id, claim);
      written.base = Base::all();
      change(target, written);
      return {};
    }
  }
  written.claim = true;
  change(id, written);
  return {};
}

std::optional<ShownHead> Tree::headNamed(const Entry& entry, std::optional<Dot> dot) {
  std::vector<ShownHead> heads = logic::shownHeads(entry);
  for (const ShownHead& head : heads) if (!dot || contains(head.dots, *dot)) return head;
  return std::nullopt;
}

Result<void> Tree::setAttributes(const EntryId& id, std::optional<uint32_t> mode, std::optional<int64_t> mtimeNs,
                                 std::optional<Dot> dot) {
  Call call(*this);
  Record* r = shown(id);
  if (!r) return {Code::NotFound, "the entry to change is not there"};
  std::optional<ShownHead> head = headNamed(r->entry, dot);
  if (!head && r->entry.kind != EntryKind::Directory) return {Code::NotFound, "that version is not there any more"};
  Version version = head ? head->version : Version{};
  if (mode) version.mode = *mode;
  if (mtimeNs) version.mtimeNs = *mtimeNs;
  return write(id, version, head ? baseOfHead(r->entry, *head) : Base::all());
}

Result<void> Tree::resolve(const EntryId& id, Dot dot) {
  Call call(*this);
  Record* r = shown(id);
  if (!r) return {Code::NotFound, "the entry to resolve is not there"};
  std::optional<ShownHead> head = headNamed(r->entry, dot);
  if (!head) return {Code::NotFound, "that version is not there any more"};
  return write(id, Version(head->version));
}

Result<std::optional<EntryId>> Tree::copyVersion(const EntryId& id, Dot dot) {
  Call call(*this);
  Record* r = shown(id);
  std::optional<ShownHead> head = r ? headNamed(r->entry, dot) : std::nullopt;
  if (!head) return {Code::NotFound, "that version is not there any more"};
  const Version version = head->version;
  const EntryKind kind = r->entry.kind;
  const EntryId parent = r->shownParent;
  const std::string content = contentName(version), name = copyName(r->shownName, content);
  // Not of the path, which may be another one at a peer that does the same at this moment.
  EntryId copy;
  for (uint32_t n = 0;; ++n) {
    copy = entryIdFor(id, "copy " + content, kind, n);
    Record* known = records_.find(copy);
    if (!known || (!known->shown && known->entry.kind == kind)) break;
    if (!known->shown) continue;
    for (const ShownHead& there : logic::shownHeads(known->entry))
      if (there.version.sameContent(version)) return std::optional<EntryId>();
  }
  hold(parent);
  make(copy, kind, version, parent, name);
  return std::optional(copy);
}

bool Tree::isLinked(const EntryId& id) {
  if (state_.links == 0) return false;
  for (const EntryId& link : records_.linksTo(id)) {
    Record* r = records_.find(link);
    if (link != id && r && !r->entry.live.empty()) return true;
  }
  return false;
}

void Tree::removeTree(const EntryId& id, const Base& base) {
  constexpr size_t kPage = 1000;
  // Above first and by name, to be gone through backwards; with a stack of its own, as peers may have nested folders
  // deeper than calls go. The order matters only to hard links among them.
  std::vector<EntryId> all, todo{id};
  while (!todo.empty()) {
    const EntryId at = todo.back();
    todo.pop_back();
    all.push_back(at);
    Record* r = shown(at);
    if (!r || r->shownChildren == 0) continue;
    const size_t first = todo.size();
    for (std::string after;;) {
      std::vector<ShownName> page = records_.shownIn(at, after, kPage);
      for (const ShownName& child : page) todo.push_back(child.id);
      if (page.size() < kPage) break;
      after = page.back().name;
    }
    std::reverse(todo.begin() + long(first), todo.end());
  }
  for (size_t i = all.size(); i-- > 0;) {
    Record* r = shown(all[i]);
    if (!r) continue;
    hold(r->shownParent);
    LocalChange removed;
    removed.remove = true;
    removed.letGo = !isLinked(all[i]);
    if (i == 0) removed.base = base;
    change(all[i], removed);
  }
}

Result<void> Tree::remove(const EntryId& id, const Base& base) {
  Call call(*this);
  if (!shown(id)) return {Code::NotFound, "the entry to remove is not there"};
  removeTree(id, base);
  return {};
}

Result<void> Tree::removeListed(const std::vector<std::pair<EntryId, Base>>& entries) {
  Call call(*this);
  // The deepest first, so that no directory is claimed again for the sake of what goes with it.
  std::vector<std::pair<size_t, size_t>> order;
  for (size_t i = 0; i < entries.size(); ++i) {
    size_t depth = 0;
    for (Record* r = records_.find(entries[i].first); r; r = records_.find(r->shownParent)) ++depth;
    order.emplace_back(depth, i);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::set<EntryId> listed;
  for (const auto& [id, base] : entries) listed.insert(id);
  for (const auto& [depth, i] : order) {
    Record* r = shown(entries[i].first);
    if (!r || r->entry.live.empty()) continue;
    if (!listed.count(r->shownParent)) hold(r->shownParent);
    LocalChange removed;
    removed.remove = true;
    removed.letGo = !isLinked(entries[i].first);
    removed.base = entries[i].second;
    change(entries[i].first, removed);
  }
  return {};
}

bool Tree::isBelow(const EntryId& id, const EntryId& directory) {
  for (EntryId at = id; at != kRootEntry;) {
    if (at == directory) return true;
    Record* r = records_.find(at);
    if (!r) return false;
    at = r->shownParent;
  }
  return false;
}

Result<void> Tree::move(const EntryId& id, const EntryId& parent, const std::string& name, bool beside) {
  Call call(*this);
  Record* r = shown(id);
  if (!r) return {Code::NotFound, "the entry to move is not there"};
  REALIZE_TRY(checkPlace(parent, name));
  if (isBelow(parent, id)) return {Code::InvalidArgument, "a folder cannot be moved into itself"};
  if (Record* there = records_.shownAt(parent, name)) {
    if (there->entry.id == id) return {};
    if (!beside && (there->entry.kind == EntryKind::Directory || r->entry.kind == EntryKind::Directory)) {
      return {Code::Exists, "'" + name + "' is there already"};
    }
  }
  movedBefore_.clear();
  moving_ = true;
  Result<void> result = moveChecked(id, parent, name, beside);
  moving_ = false;
  movedBefore_.clear();
  return result;
}

Result<void> Tree::moveChecked(const EntryId& id, const EntryId& parent, const std::string& name, bool beside) {
  constexpr int kRounds = 4;
  if (Record* there = beside ? nullptr : records_.shownAt(parent, name)) removeTree(there->entry.id, Base::all());
  hold(records_.find(id)->shownParent);
  hold(parent);
  LocalChange moved;
  moved.claim = true;
  moved.place = {parent, name};
  auto placeFrom = [&](const EntryId& moving, const LocalChange& how) {
    // Where it was, also if nothing so far has changed that.
    const Record& record = *records_.find(moving);
    movedBefore_.try_emplace(moving, Before{true, record.shownParent, record.shownName, {}, {}, {}});
    change(moving, how);
  };
  // What stands above the new place because of a cycle is placed there: this move would close the cycle again, and be void.
  for (EntryId above = parent; above != kRootEntry; above = records_.find(above)->shownParent) {
    if (!displaced_.contains(above)) continue;
    const Record& record = *records_.find(above);
    LocalChange stay;
    stay.claim = !record.entry.live.empty();
    stay.place = {record.shownParent, record.shownName};
    placeFrom(above, stay);
  }
  placeFrom(id, moved);

  // A move that a cycle made void must not come true because of this one: it is placed again where it was (rule 8).
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::pair<EntryId, Before>> jumped;
    for (const auto& [other, was] : movedBefore_) {
      Record* r = records_.find(other);
      if (other != id && was.shown && r && r->shown && r->shownParent != was.parent) jumped.emplace_back(other, was);
    }
    if (jumped.empty()) break;
    for (const auto& [other, was] : jumped) {
      LocalChange back;
      back.claim = !records_.find(other)->entry.live.empty();
      back.place = {was.parent, was.name};
      change(other, back);
    }
  }
  return {};
}

Result<void> Tree::replaceByRename(const EntryId& source, const EntryId& target, std::optional<Dot> sourceHead,
                                   const Base& base) {
  Call call(*this);
  Record* from = shown(source);
  Record* to = shown(target);
  if (!from || !to) return {Code::NotFound, "what is renamed, or what it replaces, is not there"};
  if (from->entry.kind != to->entry.kind || from->entry.kind == EntryKind::Directory) {
    return move(source, EntryId(to->shownParent), std::string(to->shownName));
  }
  std::optional<ShownHead> head = headNamed(from->entry, sourceHead);
  if (!head) return {Code::NotFound, "that version is not there any more"};
  REALIZE_TRY(write(target, head->version, base));
  if (source != target) removeTree(source, Base::all());
  return {};
}

Result<EntryId> Tree::takeBackName(const EntryId& id, const EntryId& parent, const std::string& name,
                                   const Version& version, std::optional<Dot> head) {
  Call call(*this);
  Record* r = shown(id);
  if (!r) return {Code::NotFound, "the entry that had the name is not there"};
  std::optional<ShownHead> away = headNamed(r->entry, head);
  REALIZE_TRY(checkVersion(version, r->entry.kind));
  if (!away || r->entry.kind == EntryKind::Directory) return {Code::NotFound, "that version is not there any more"};
  const EntryId awayParent = r->shownParent;
  const std::string awayName = r->shownName;
  const EntryKind kind = r->entry.kind;
  REALIZE_TRY(move(id, parent, name));
  REALIZE_TRY(write(id, version, baseOfHead(records_.find(id)->entry, *away)));
  return create(awayParent, awayName, kind, away->version);
}

}  // namespace realize::logic
