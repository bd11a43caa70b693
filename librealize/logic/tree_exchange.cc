// Exchange between peers (AGREEMENT.md 13-17, 21, 22), in pages that can be resumed.
//
// The resume rule, searched by tests/model_oracle/agreement_model.py (see the README there):
//   A batch has a base (the receiver's vector when it began), a snapshot (the sender's vector when it began) and a
//   position. The sender goes through its touch index, origin by origin, its own last, each from the base upwards
//   without an upper bound, so that what moves on while the batch runs is met later, not missed. An entry is left out
//   where it has a touch between base and snapshot that the position is past (it was sent there), or where the
//   receiver's vector of now covers all its touches. The receiver's vector takes in the snapshot, never more, when the
//   position is at the end. Base, snapshot and position travel as a cursor that the receiver keeps in the transaction
//   that took the page; it is good on any later connection while the sender's life is the same, its vector is at least
//   the snapshot and the receiver's at least the base.

#include <algorithm>
#include <unordered_set>

#include "librealize/base/fault.h"
#include "librealize/logic/tree.h"
#include "librealize/logic/tree_call.h"
#include "librealize/model/codec.h"

namespace realize::logic {

namespace {

struct Cursor {
  Origin sender = 0;
  VersionVector base, snapshot;
  VersionVector trimmed;  ///< the sender's T when it began
  Origin origin = 0;  ///< being gone through; 0: before the first
  uint64_t seq = 0;   ///< the last one done

  std::string encode() const {
    ByteWriter w;
    w.byte(2);
    w.fixed64(sender);
    w.vector(base);
    w.vector(snapshot);
    w.vector(trimmed);
    w.fixed64(origin);
    w.number(seq);
    return w.take();
  }
  static std::optional<Cursor> decode(const std::string& bytes) {
    ByteReader r(bytes);
    Cursor c;
    if (r.byte() != 2) return std::nullopt;
    c.sender = r.fixed64();
    c.base = r.vector();
    c.snapshot = r.vector();
    c.trimmed = r.vector();
    c.origin = r.fixed64();
    c.seq = r.number(kMaxCount);
    if (!r.finished()) return std::nullopt;
    return c;
  }
};

std::string cursorKey(const PeerKey& sender) { return "tree-batch:" + sender.hex(); }
// Whose batch brought all that is here, while that is so.
constexpr const char* kFreshKey = "tree-fresh";

Error wholeNeeded() { return {Code::Refused, "one side has forgotten deletions that the other never saw: whole state must be exchanged"}; }

}  // namespace

VersionVector beyond(const VersionVector& ctx, const VersionVector& vector) {
  VersionVector out;
  for (const auto& [origin, seq] : ctx.items()) if (seq > vector.get(origin)) out.set(origin, seq);
  return out;
}

size_t roughBytes(const Change& change) {
  const Entry& e = change.entry;
  size_t bytes = 96 + e.place.name.size() + e.place.oldName.size() + 12 * (e.touch.size() + e.live.size());
  for (const auto& [dot, version] : e.heads) bytes += 64 + version.linkTarget.size();
  for (const auto& [dot, gone] : e.tombs) bytes += 8 + 8 * gone.size();
  return bytes;
}

struct Tree::PageBuilder {
  Tree& tree;
  const PageRequest& request;
  Cursor cursor;
  std::vector<Origin> order;  ///< origins ascending, the sender's own last
  ChangePage page;
  std::unordered_set<EntryId> sent;
  size_t bytes = 0;

  bool full() const { return page.changes.size() >= request.maxChanges || bytes >= request.maxBytes; }

  bool before(Origin a, Origin b) const {
    if (a == b) return false;
    if (b == cursor.sender) return true;
    return a != cursor.sender && a < b;
  }

  // Gone through earlier in this batch, and not moved since: see the head of this file.
  bool sentBefore(const Entry& e) const {
    for (const auto& [origin, seq] : e.touch.items()) {
      bool inBatch = seq > cursor.base.get(origin) && seq <= cursor.snapshot.get(origin);
      if (inBatch && (before(origin, cursor.origin) || (origin == cursor.origin && seq <= cursor.seq))) return true;
    }
    return false;
  }
  bool wanted(const Entry& e) const { return !request.vector.geq(e.touch) && !sentBefore(e); }

  // What it stands in or links to goes first: the dead always (rule 16), the live where the receiver lacks something.
  void send(const EntryId& first) {
    if (!sent.insert(first).second) return;
    std::vector<EntryId> order{first};
    for (size_t i = 0; i < order.size(); ++i) {
      auto need = [&](const EntryId& id) {
        if (sent.count(id)) return;
        const Record* r = tree.records_.look(id);
        if (!r || !(r->entry.live.empty() || wanted(r->entry))) return;
        sent.insert(id);
        order.push_back(id);
      };
      const Entry& e = tree.records_.look(order[i])->entry;
      std::vector<EntryId> targets;
      for (const auto& [dot, version] : e.heads)
        if (version.target != EntryId()) targets.push_back(version.target);
      need(EntryId(e.place.parent));
      for (const auto& target : targets) need(target);
    }
    for (size_t i = order.size(); i-- > 0;) {
      const Entry& e = tree.records_.look(order[i])->entry;
      Change change{e, tree.state_.vector};
      change.seen.join(e.ctx);
      change.entry.ctx = {};
      bytes += roughBytes(change);
      page.changes.push_back(std::move(change));
    }
  }

  void run() {
    constexpr size_t kLook = 512;
    for (Origin origin : order) {
      if (cursor.origin != 0 && before(origin, cursor.origin)) continue;
      if (origin != cursor.origin) {
        cursor.origin = origin;
        cursor.seq = cursor.base.get(origin);
      }
      while (true) {
        auto touched = tree.records_.store().touchedAfter(origin, cursor.seq, kLook);
        for (const auto& [seq, id] : touched) {
          if (full()) return;
          const Record* r = tree.records_.look(id);
          if (r && wanted(r->entry)) send(id);
          cursor.seq = seq;
        }
        if (touched.size() < kLook) break;
      }
    }
    page.done = true;
  }
};

Result<ChangePage> Tree::changesFor(const PageRequest& request) {
  Call call(*this);
  records_.flush();
  const bool covered = request.vector.geq(state_.trimmed) && state_.vector.geq(request.trimmed);
  if (!covered && !request.fresh) return wholeNeeded();
  // Numbers of ours that we do not know: this database was restored or copied, and must not use them again.
  if (request.vector.get(state_.origin) > state_.seq) beginLife();

  PageBuilder builder{*this, request, {}, {}, {}, {}, 0};
  std::optional<Cursor> resumed;
  if (!request.cursor.empty()) resumed = Cursor::decode(request.cursor);
  const bool good = resumed && resumed->sender == state_.origin && state_.vector.geq(resumed->snapshot) &&
                    request.vector.geq(resumed->base);
  // Who has nothing yet misses nothing that was forgotten, unless more of it was since the batch began.
  if (!covered && !request.cursor.empty() && !(good && resumed->trimmed == state_.trimmed)) return wholeNeeded();
  if (good) builder.cursor = std::move(*resumed);
  else builder.cursor = {state_.origin, request.vector, state_.vector, state_.trimmed, 0, 0};
  builder.order = records_.store().touchOrigins();
  std::sort(builder.order.begin(), builder.order.end(), [&](Origin a, Origin b) { return builder.before(a, b); });
  builder.run();

  ChangePage page = std::move(builder.page);
  page.cursor = builder.cursor.encode();
  page.snapshot = builder.cursor.snapshot;
  page.trimmed = covered ? state_.trimmed : builder.cursor.trimmed;
  if (page.done) tellLast(page);
  return page;
}

// What completeBatch() takes beside the snapshot.
void Tree::tellLast(ChangePage& page) const {
  page.acks = acks_;
  page.closed.assign(closed_.begin(), closed_.end());
  page.clock = state_.clock;
}

PageRequest Tree::requestFor(const PeerKey& sender) {
  PageRequest request;
  request.vector = state_.vector;
  request.trimmed = state_.trimmed;
  request.cursor = records_.store().getValue(cursorKey(sender)).value_or("");
  request.fresh = isFreshFor(sender);
  return request;
}

// Nothing is here but what the batch of that sender has brought that is under way.
bool Tree::isFreshFor(const PeerKey& sender) {
  if (!state_.vector.empty()) return false;
  TreeStore& store = records_.store();
  if (!store.getValue(cursorKey(sender)).value_or("").empty() && store.getValue(kFreshKey) == sender.hex()) return true;
  return records_.dirtyCount() == 0 && store.touchOrigins().empty();
}

Result<void> Tree::applyPage(const PeerKey& sender, const ChangePage& page) {
  Call call(*this);
  TreeStore& store = records_.store();
  const bool covered = state_.vector.geq(page.trimmed);  // The other direction the sender has looked at.
  const bool fresh = isFreshFor(sender);
  if (!covered && !fresh) {
    noteCursor(sender, "");
    return wholeNeeded();
  }
  // Pages of a second sender among the first one's: then it is not one batch that is here.
  if (const std::string batch = fresh ? sender.hex() : ""; store.getValue(kFreshKey).value_or("") != batch) store.setValue(kFreshKey, batch);
  for (const Change& change : page.changes) REALIZE_TRY(apply(change, std::nullopt));
  if (page.done || faulty(Fault::VectorEarly)) {
    completeBatch(sender, page);
    if (!covered) state_.trimmed.join(page.trimmed);
  } else {
    noteCursor(sender, page.cursor);
  }
  return {};
}

void Tree::forgetBatch(const PeerKey& sender) {
  Call call(*this);
  noteCursor(sender, "");
}

void Tree::noteCursor(const PeerKey& sender, const std::string& cursor) {
  TreeStore& store = records_.store();
  if (store.getValue(cursorKey(sender)).value_or("") != cursor) store.setValue(cursorKey(sender), cursor);
}

Result<void> Tree::checkChange(const Change& change) {
  const Entry& theirs = change.entry;
  if (theirs.id == kRootEntry || theirs.touch.empty() || !isValidName(theirs.place.name)) {
    return {Code::Corrupt, "a peer sent an entry that cannot be"};
  }
  return {};
}

namespace {
/// But that contents which were here are known as such.
Entry takenAsItComes(const Entry& mine, const Entry& theirs, const VersionVector& mySeen, const VersionVector& theirSeen) {
  Entry e = theirs;
  e.ctx = mySeen;
  e.ctx.join(theirSeen);
  for (auto it = mine.replaced.rbegin(); it != mine.replaced.rend(); ++it) rememberReplaced(e, *it);
  for (const auto& [dot, version] : mine.heads) rememberReplaced(e, version.blob);
  return e;
}
}  // namespace

/// What somebody has forgotten as removed may lack here what let its versions go (rule 14). What is shown for what stands in it, or
/// has another name, nobody has forgotten: its place, and the versions that others have, are here.
bool Tree::countsAsForgotten(const Record& record) {
  const Entry& e = record.entry;
  if (!e.live.empty() || record.shown || !state_.trimmed.geq(e.touch) || !state_.vector.geq(e.ctx)) return false;
  return !isLinked(e.id);
}

Result<void> Tree::apply(const Change& change, std::optional<bool> asItComes) {
  Call call(*this);
  const Entry& theirs = change.entry;
  Record* known = records_.find(theirs.id);
  if (known && known->entry.kind != theirs.kind) {
    return {Code::Corrupt, "a peer sent entry " + theirs.id.hex() + " as something else than it is here"};
  }
  REALIZE_TRY(checkChange(change));
  if (change.seen.get(state_.origin) > state_.seq) beginLife();

  if (!known) {
    takeUnknown(change, false);
    return {};
  }
  Claimed before = claimedOf(known);
  VersionVector seen = state_.vector;
  seen.join(known->entry.ctx);
  if (seen.geq(change.seen) && known->entry.touch.geq(theirs.touch) && known->entry.ctx.empty() && theirs == known->entry) {
    return {};  // Sent again, as after a broken connection.
  }
  const bool gone = asItComes ? *asItComes : countsAsForgotten(*known);
  Entry merged = gone ? takenAsItComes(known->entry, theirs, seen, change.seen) : mergeEntries(known->entry, seen, theirs, change.seen);
  merged.ctx = beyond(merged.ctx, state_.vector);
  // A touch that was forgotten when the entry was issued again does not come back: it would stand behind the position of
  // batches that run, as if the entry had been sent there; or go round between several that issue it again.
  for (const auto& [origin, seq] : theirs.touch.items()) {
    const uint64_t mine = known->entry.touch.get(origin);
    if (!gone && seq > mine && seq <= seen.get(origin)) merged.touch.set(origin, mine);
  }
  state_.clock = std::max(state_.clock, merged.place.stamp.clock);
  beginEdit(*known);
  known->entry = std::move(merged);
  endEdit(*known, before);
  return {};
}

// An entry without any record here (rule 14); `dead`: of which nobody claims the name any more.
void Tree::takeUnknown(const Change& change, bool dead) {
  Entry blank;
  blank.id = change.entry.id;
  blank.kind = change.entry.kind;
  Record& record = records_.insert(std::move(blank));
  beginEdit(record);
  record.entry = change.entry;
  record.entry.ctx = beyond(change.seen, state_.vector);
  if (dead) record.entry.live.clear();
  state_.clock = std::max(state_.clock, record.entry.place.stamp.clock);
  endEdit(record, claimedOf(nullptr));
}

void Tree::completeBatch(const PeerKey& sender, const ChangePage& page) {
  Call call(*this);
  // Contexts that the vector covers now stay until their entry is next written: they say nothing any more.
  state_.vector.join(page.snapshot);
  acks_[sender] = page.snapshot;
  for (const auto& [peer, vector] : page.acks) {
    if (peer != self_) acks_[peer].join(vector);
  }
  state_.clock = std::max(state_.clock, page.clock);
  closed_.insert(page.closed.begin(), page.closed.end());
  // Somebody goes on with a copy of this very database: what is done here from now on must not look like what was closed.
  if (closed_.contains(state_.origin)) beginLife();
  noteCursor(sender, "");
  saveAcks();
  reissueOrphans();
}

void Tree::closeLost(const std::vector<Origin>& lives) {
  Call call(*this);
  records_.flush();
  const size_t before = closed_.size();
  for (Origin life : lives)
    if (!records_.store().touchedAfter(life, state_.vector.get(life), 1).empty()) closed_.insert(life);
  if (closed_.size() == before) return;
  saveAcks();
  reissueOrphans();
}

size_t Tree::tidy(size_t limit) {
  Call call(*this);
  records_.flush();
  size_t done = 0;
  for (const EntryId& id : records_.store().withContext()) {
    if (done >= limit) break;
    Record* r = records_.find(id);
    if (!r || !state_.vector.geq(r->entry.ctx)) continue;
    r->entry.ctx = {};
    records_.markDirty(*r);
    ++done;
  }
  return done;
}

// Rule 22: what a closed origin did after the point that can still be complete lives on only here and there. Who has
// it issues it again as its own.
void Tree::reissueOrphans() {
  constexpr size_t kPage = 1000;
  std::map<EntryId, std::vector<Origin>> lost;
  records_.flush();
  for (Origin origin : closed_) {
    uint64_t after = state_.vector.get(origin);
    while (true) {
      auto page = records_.store().touchedAfter(origin, after, kPage);
      for (const auto& [seq, id] : page) {
        lost[id].push_back(origin);
        after = seq;
      }
      if (page.size() < kPage) break;
    }
  }
  for (const auto& [id, origins] : lost) reissue(id, origins, nullptr);
}

namespace {
/// Equal contents count as one, with the attributes of the greatest: where each of several peers issued all of them again, they
/// would be ever more.
std::vector<std::pair<Dot, Version>> greatestOfEqual(std::vector<std::pair<Dot, Version>> versions) {
  std::sort(versions.begin(), versions.end(), [](const auto& a, const auto& b) {
    return std::pair(b.second.stamp, b.first) < std::pair(a.second.stamp, a.first);
  });
  std::vector<std::pair<Dot, Version>> out;
  for (auto& version : versions)
    if (std::none_of(out.begin(), out.end(), [&](const auto& one) { return one.second.sameContent(version.second); }))
      out.push_back(std::move(version));
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return out;
}
}  // namespace

void Tree::reissue(const EntryId& id, const std::vector<Origin>& lost, const VersionVector* seenThere) {
  Record* r = records_.find(id);
  if (!r) return;
  LocalChange again;
  const bool place = seenThere != nullptr;
  std::vector<std::pair<Dot, Version>> versions;
  if (place) again.place = {r->entry.place.parent, r->entry.place.name};
  if (!r->entry.live.empty() || place) {
    versions = realHeads(r->entry);
    again.claim = !r->entry.live.empty();
  } else {
    again.remove = true;
    again.letGo = !r->entry.tombs.empty();
  }
  // What was never seen there is new as it is: whoever edits it meanwhile has seen it.
  const auto unseen = std::stable_partition(versions.begin(), versions.end(),
                                            [&](const auto& head) { return !seenThere || seenThere->covers(head.first); });
  std::vector<std::pair<Dot, Version>> fresh(unseen, versions.end());
  versions.erase(unseen, versions.end());
  versions = greatestOfEqual(std::move(versions));
  // All were let go, where the entry was removed and forgotten or here: they are so again.
  const bool letGo = place && again.claim && (fresh.empty() || allLetGo(r->entry));
  if (letGo && versions.empty()) fresh.clear();  // They stay as they are.
  Dot last = change(id, again);
  // Every other head again: each has seen the old ones, none the others.
  for (const auto& [dot, version] : versions) {
    LocalChange write;
    write.version = version;
    last = change(id, write);
    fresh.emplace_back(last, version);
  }
  Claimed before = claimedOf(r);
  beginEdit(*r);
  std::sort(fresh.begin(), fresh.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  if (!fresh.empty()) {
    r->entry.heads = std::move(fresh);
    r->entry.tombs.clear();
    std::vector<Dot> dots;
    for (const auto& [dot, version] : r->entry.heads) dots.push_back(dot);
    if (letGo) r->entry.tombs.emplace_back(last, dots);
    for (const auto& [dot, version] : r->entry.heads) std::erase(r->entry.replaced, version.blob);
  }
  for (Origin origin : lost) {
    if (r->entry.touch.get(origin) > state_.vector.get(origin)) r->entry.touch.set(origin, 0);
  }
  endEdit(*r, before);
}

}  // namespace realize::logic
