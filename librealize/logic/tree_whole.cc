// Forgetting what everyone has seen removed, and comparing whole states with a peer that was away meanwhile
// (AGREEMENT.md 18-20), as tests/model_oracle/agreement_model.py has them (take_all, trim).

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "librealize/base/hash.h"
#include "librealize/logic/tree.h"
#include "librealize/logic/tree_call.h"
#include "librealize/logic/tree_merge.h"
#include "librealize/model/codec.h"

namespace realize::logic {

namespace {

constexpr uint8_t kDigits = 2 * EntryId::size();
constexpr size_t kRangesAtOnce = 64;         // In one request.
constexpr uint64_t kLooksAtOnce = 20'000;    // Entries summed up for one request or answer, about.
constexpr uint64_t kEntriesSent = 64;        // A range of more is asked for in parts.
constexpr size_t kBytesAtOnce = 512 << 10;
constexpr uint64_t kMaxChanges = 50'000'000;

void setDigit(EntryId& id, uint8_t at, uint8_t digit) {
  uint8_t& byte = id.bytes[at / 2];
  byte = at % 2 == 0 ? uint8_t((byte & 0x0f) | digit << 4) : uint8_t((byte & 0xf0) | digit);
}

bool anyBeyond(const std::vector<Dot>& dots, const VersionVector& vector) {
  return std::any_of(dots.begin(), dots.end(), [&](Dot dot) { return !vector.covers(dot); });
}

/// A claim is left that was not seen where it was removed and forgotten; one for the sake of others, with such a version.
bool outlives(const Entry& entry, const VersionVector& seenThere) {
  bool forOthers = false;
  for (const Dot& claim : entry.live) {
    if (seenThere.covers(claim)) continue;
    if (!isForOthers(entry, claim)) return true;
    forOthers = true;
  }
  return forOthers && std::any_of(entry.heads.begin(), entry.heads.end(), [&](const auto& head) {
    return !seenThere.covers(head.first) && !isLetGo(entry, head.first);
  });
}

/// What was removed and forgotten had let go the versions that were seen there, where another is left: not one that was let go here.
void forgetHeads(Entry& entry, const VersionVector& seenThere) {
  if (allLetGo(entry)) return;
  auto left = realHeads(entry);
  std::erase_if(left, [&](const auto& head) { return seenThere.covers(head.first); });
  if (left.empty() || left.size() == entry.heads.size()) return;
  const auto before = std::exchange(entry.heads, std::move(left));
  entry.tombs.clear();
  for (const auto& [dot, version] : before) rememberReplaced(entry, version.blob);
}

Error begunAnew() { return {Code::Busy, "one of two peers that compare their whole trees has forgotten deletions meanwhile: they begin anew"}; }

}  // namespace

EntryId IdRange::last() const {
  EntryId out = prefix;
  for (uint8_t at = digits; at < kDigits; ++at) setDigit(out, at, 15);
  return out;
}

bool IdRange::valid() const {
  if (digits > kDigits) return false;
  EntryId cut = prefix;
  for (uint8_t at = digits; at < kDigits; ++at) setDigit(cut, at, 0);
  return cut == prefix;
}

std::vector<IdRange> IdRange::split() const {
  std::vector<IdRange> out(16, IdRange{prefix, uint8_t(digits + 1)});
  for (uint8_t digit = 0; digit < 16; ++digit) setDigit(out[digit].prefix, digits, digit);
  return out;
}

// --- Comparing

// What others cannot tell by the vector alone. What was replaced before (`replaced`) each remembers as it likes.
TreeDigest Tree::hashOf(const Record& record) {
  Entry entry = record.entry;
  entry.replaced.clear();
  entry.ctx = beyond(entry.ctx, state_.vector);
  const std::string bytes = encodeEntry(entry);
  TreeDigest out;
  blake2b(std::as_bytes(std::span(bytes)), std::span<uint8_t>(out.bytes));
  return out;
}

RangeSum Tree::sumOf(const IdRange& range) {
  RangeSum out{range, 0, {}};
  for (const EntryId& id : records_.store().idsBetween(range.prefix, range.last())) {
    ++out.entries;
    add(out.sum, hashOf(*records_.find(id)), false);
  }
  return out;
}

bool Tree::needsWhole(const PeerKey& sender, const VersionVector& theirs, const VersionVector& theirTrimmed) {
  if (state_.vector.geq(theirTrimmed) && theirs.geq(state_.trimmed)) return false;
  return !requestFor(sender).fresh;
}

WholePage Tree::wholeFor(const WholeRequest& request) {
  Call call(*this);
  records_.flush();
  if (request.vector.get(state_.origin) > state_.seq) beginLife();
  WholePage out;
  uint64_t looked = 0;
  size_t bytes = 0;
  for (const RangeSum& theirs : request.ranges) {
    if (looked >= kLooksAtOnce || bytes >= kBytesAtOnce) break;
    const RangeSum mine = sumOf(theirs.range);
    looked += mine.entries;
    if (mine.entries == theirs.entries && mine.sum == theirs.sum) {
      out.outcomes.push_back(RangeOutcome::Equal);
    } else if (mine.entries > kEntriesSent && theirs.range.digits < kDigits) {
      out.outcomes.push_back(RangeOutcome::Split);
    } else {
      out.outcomes.push_back(RangeOutcome::Sent);
      for (const EntryId& id : records_.store().idsBetween(theirs.range.prefix, theirs.range.last())) {
        Change change{records_.find(id)->entry, state_.vector};
        change.seen.join(change.entry.ctx);
        change.entry.ctx = {};
        bytes += roughBytes(change);
        out.page.changes.push_back(std::move(change));
      }
    }
  }
  out.origin = state_.origin;
  out.page.done = true;
  out.page.snapshot = state_.vector;
  out.page.trimmed = state_.trimmed;
  tellLast(out.page);
  return out;
}

WholeRequest Tree::wholeRequest(WholeState& state) {
  Call call(*this);
  records_.flush();
  if (!state.began_ && state.left_.empty()) {
    for (const IdRange& first : IdRange{}.split()) {
      for (const IdRange& second : first.split()) state.left_.push_back(second);
    }
  }
  WholeRequest out;
  out.vector = state_.vector;
  state.asked_.clear();
  for (uint64_t looked = 0; !state.left_.empty() && state.asked_.size() < kRangesAtOnce && looked < kLooksAtOnce;) {
    state.asked_.push_back(state.left_.back());
    state.left_.pop_back();
    out.ranges.push_back(sumOf(state.asked_.back()));
    looked += out.ranges.back().entries;
  }
  return out;
}

Result<void> Tree::noteWhole(WholeState& state, const WholePage& page) {
  const ChangePage& told = page.page;
  const bool still = !state.began_ || (page.origin == state.sender_ && told.trimmed == state.told_.trimmed &&
                                       told.snapshot.geq(state.told_.snapshot) && state_.trimmed == state.mine_);
  if (!still) {
    state = {};
    return begunAnew();
  }
  if (page.outcomes.empty() || page.outcomes.size() > state.asked_.size()) {
    return {Code::Corrupt, "a peer answered ranges that it was not asked for"};
  }
  if (!state.began_) {
    state.began_ = true;
    state.sender_ = page.origin;
    state.mine_ = state_.trimmed;
    state.told_ = told;
    state.told_.changes.clear();
  }
  // What was not answered is asked for again.
  for (size_t i = state.asked_.size(); i-- > page.outcomes.size();) state.left_.push_back(state.asked_[i]);
  std::vector<IdRange> sent;
  for (size_t i = 0; i < page.outcomes.size(); ++i) {
    const IdRange& range = state.asked_[i];
    if (page.outcomes[i] == RangeOutcome::Sent) sent.push_back(range);
    if (page.outcomes[i] != RangeOutcome::Split) continue;
    if (range.digits >= kDigits) return {Code::Corrupt, "a peer has several entries of one id"};
    for (const IdRange& part : range.split()) state.left_.push_back(part);
  }
  state.asked_.clear();
  state.differing_.insert(state.differing_.end(), sent.begin(), sent.end());
  for (const Change& change : told.changes) {
    const bool asked = std::any_of(sent.begin(), sent.end(), [&](const IdRange& r) { return r.contains(change.entry.id); });
    if (!asked) return {Code::Corrupt, "a peer sent an entry of a range that it was not asked for"};
  }
  state.changeCount_ += told.changes.size();
  if (state.changeCount_ > kMaxChanges) return {Code::TooLarge, "a peer sends more entries than any tree has"};
  if (!told.changes.empty()) state.pages_.push_back(encodeChanges(told.changes));
  return {};
}

// --- Taking

Result<void> Tree::applyWhole(const PeerKey& sender, const WholeState& state) {
  Call call(*this);
  if (!state.complete()) return {Code::Internal, "a comparison of whole trees is not complete"};
  if (state_.trimmed != state.mine_) return begunAnew();
  const VersionVector& theirs = state.told_.snapshot;
  const bool senderWasAway = !theirs.geq(state_.trimmed), wereAway = !state_.vector.geq(state.told_.trimmed);

  std::unordered_set<EntryId> sent, gone;  // `gone`: forgotten on one side; here before anything is taken, whatever comes first.
  for (const std::string& bytes : state.pages_) {
    REALIZE_ASSIGN(auto changes, decodeChanges(bytes));
    for (const Change& change : changes) {
      REALIZE_TRY(checkChange(change));
      const Record* known = records_.find(change.entry.id);
      if (known && known->entry.kind != change.entry.kind) return {Code::Corrupt, "a peer sent an entry as something else than it is here"};
      sent.insert(change.entry.id);
      if (known && countsAsForgotten(*known)) gone.insert(change.entry.id);
    }
  }
  const VersionVector mine = state_.vector;
  std::map<EntryId, const VersionVector*> again;  // What survives is issued again, for those who have forgotten what it stands on (19).
  // No record there: made here meanwhile, or removed and forgotten there, which we may have missed.
  records_.flush();
  for (const IdRange& range : wereAway ? state.differing_ : std::vector<IdRange>()) {
    for (const EntryId& id : records_.store().idsBetween(range.prefix, range.last())) {
      if (sent.count(id)) continue;
      Record& record = *records_.find(id);
      const bool survives = outlives(record.entry, theirs);
      if (survives) again.emplace(id, &theirs);
      else gone.insert(id);
      if (record.entry.live.empty()) continue;
      const Claimed before = claimedOf(&record);
      beginEdit(record);
      if (survives) forgetHeads(record.entry, theirs);
      else record.entry.live.clear();
      endEdit(record, before);
    }
  }
  std::unordered_map<EntryId, Change> forgotten;  // No record here, and no news of it there.
  for (const std::string& bytes : state.pages_) {
    REALIZE_ASSIGN(auto changes, decodeChanges(bytes));
    for (Change& change : changes) {
      const EntryId id = change.entry.id;
      const Record* known = records_.find(id);
      if (known && !gone.count(id)) {
        REALIZE_TRY(apply(change));
        continue;
      }
      if (state_.vector.geq(change.entry.touch)) {
        if (!known) forgotten.emplace(id, std::move(change));
        continue;
      }
      const bool dead = senderWasAway ? !outlives(change.entry, state_.vector) : !anyBeyond(change.entry.live, state_.vector);
      if (!dead && senderWasAway) forgetHeads(change.entry, state_.vector);
      if (dead) {
        change.entry.live.clear();
        gone.insert(id);
      }
      REALIZE_TRY(apply(change, true));  // As it comes.
      if (!dead && senderWasAway) again.emplace(id, &mine);
    }
  }
  // Of what was forgotten here, what something stands in or links to comes back, removed as it is.
  for (bool found = !forgotten.empty(); found;) {
    found = false;
    for (auto it = forgotten.begin(); it != forgotten.end();) {
      if (isNamed(it->first)) {
        takeUnknown(it->second, true);
        gone.insert(it->first);
        it = forgotten.erase(it);
        found = true;
      } else {
        ++it;
      }
    }
  }
  completeBatch(sender, state.told_);
  state_.trimmed.join(state.told_.trimmed);
  // Others may have it where it was when it was removed, which is forgotten here or there.
  for (const EntryId& id : gone) {
    const Record* record = records_.find(id);
    if (record && record->entry.live.empty() && (record->shown || isLinked(id))) again.emplace(id, &state_.vector);
  }
  issueAgain(again);
  return {};
}

// Those entries, each with what was seen where it was forgotten; and what they stand in or link to where that is not alive.
void Tree::issueAgain(const std::map<EntryId, const VersionVector*>& entries) {
  std::unordered_set<EntryId> done;
  for (const auto& [first, seenThere] : entries) {
    std::vector<EntryId> chain{first};
    for (size_t i = 0; i < chain.size(); ++i) {
      const Record* record = records_.find(chain[i]);
      if (!record || !done.insert(chain[i]).second) continue;
      auto need = [&](const EntryId& id) {
        const Record* r = records_.find(id);
        if (r && r->entry.live.empty()) chain.push_back(id);
      };
      need(record->entry.place.parent);
      for (const auto& [dot, version] : record->entry.heads) need(version.target);
      reissue(chain[i], {}, i == 0 ? seenThere : &state_.vector);
    }
  }
}

// --- Forgetting

// Another record has it as parent or as target.
bool Tree::isNamed(const EntryId& id) {
  if (!records_.placedIn(id).empty() || !records_.linksTo(id).empty()) return true;
  return std::any_of(displaced_.begin(), displaced_.end(),
                     [&](const EntryId& other) { return other != id && records_.find(other)->entry.place.parent == id; });
}

size_t Tree::trim(const std::vector<PeerKey>& active, const std::function<bool(const Record&)>& mayForget, size_t limit) {
  Call call(*this);
  VersionVector stable;
  for (const auto& [origin, seq] : state_.vector.items()) {
    uint64_t least = seq;
    for (const PeerKey& peer : active) {
      auto ack = acks_.find(peer);
      least = std::min(least, ack == acks_.end() ? 0 : ack->second.get(origin));
    }
    if (least > 0) stable.set(origin, least);
  }
  if (stable != trimming_.stable) trimming_ = {std::move(stable), 0, false, false};
  if (trimming_.done || trimming_.stable.empty()) return 0;
  records_.flush();
  const auto hidden = records_.store().hiddenAfter(trimming_.after, limit);
  for (const auto& [node, id] : hidden) {
    trimming_.after = node;
    const Record& record = *records_.find(id);
    const Entry& e = record.entry;
    if (!e.live.empty() || record.shown || !trimming_.stable.geq(e.touch) || effects_.count(id) || !mayForget(record)) continue;
    const bool open = std::any_of(e.ctx.items().begin(), e.ctx.items().end(), [&](const auto& item) {
      return item.second > state_.vector.get(item.first) && !closed_.count(item.first);
    });
    if (open || isNamed(id)) continue;
    countOut(record);
    displaced_.erase(id);
    records_.erase(id);
    state_.trimmed.join(trimming_.stable);
    trimming_.any = true;
  }
  if (hidden.size() < limit) {  // Once more from the beginning if folders may have become empty.
    trimming_.done = !trimming_.any;
    trimming_.after = 0;
    trimming_.any = false;
  }
  return std::max(hidden.size(), size_t(1));
}

}  // namespace realize::logic
