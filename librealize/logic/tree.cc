#include "librealize/logic/tree.h"

#include <stdexcept>

#include "librealize/logic/tree_call.h"
#include "librealize/model/codec.h"

namespace realize::logic {

namespace {
constexpr uint8_t kStateFormat = 1;
constexpr const char* kStateKey = "tree";
constexpr const char* kAcksKey = "tree-acks";
constexpr const char* kClosedKey = "tree-closed";
constexpr size_t kDirtyLimit = 8192;

std::set<Dot> dotsOf(const std::vector<ShownHead>& heads) {
  std::set<Dot> out;
  for (const auto& h : heads) out.insert(h.dots.begin(), h.dots.end());
  return out;
}

std::set<std::tuple<BlobId, uint64_t, std::string, EntryId>> contentsOf(const std::vector<ShownHead>& heads) {
  std::set<std::tuple<BlobId, uint64_t, std::string, EntryId>> out;
  for (const auto& [dot, v, dots] : heads) out.emplace(v.blob, v.sizeBytes, v.linkTarget, v.target);
  return out;
}
}  // namespace

Tree::Tree(TreeStore& store, Clock& clock, Random& random, const PeerKey& self)
    : records_(store), clock_(clock), random_(random), self_(self) {
  loadState();
}

void Tree::beginBatch() {
  if (!batch_) records_.trim();
  batch_ = true;
}

void Tree::writeBack() {
  records_.flush();
  saveState();
}

void Tree::flush() {
  batch_ = false;
  writeBack();
}

void Tree::reload() {
  records_.clear();
  effects_.clear();
  trimming_ = {};
  effectOrder_.clear();
  edited_.clear();
  editedSet_.clear();
  slots_.clear();
  newcomers_.clear();
  unneeded_.clear();
  movedBefore_.clear();
  moving_ = false;
  batch_ = false;
  loadState();
}

Tree::Call::Call(Tree& tree) : tree_(tree), exceptions_(std::uncaught_exceptions()) { ++tree_.depth_; }

Tree::Call::~Call() noexcept(false) {
  if (--tree_.depth_ > 0) return;
  // While an exception passes through, the transaction is lost: reload() follows.
  if (std::uncaught_exceptions() > exceptions_) return;
  if (!tree_.batch_) {
    tree_.flush();
    tree_.records_.trim();
  } else if (tree_.records_.dirtyCount() >= kDirtyLimit) {
    tree_.records_.flush();
    tree_.records_.trim();
  }
}

std::string Tree::encodeState(const State& state) {
  ByteWriter w;
  w.byte(kStateFormat);
  w.fixed64(state.origin);
  w.number(state.seq);
  w.number(state.clock);
  w.vector(state.vector);
  w.vector(state.trimmed);
  w.number(state.formerOrigins.size());
  for (Origin origin : state.formerOrigins) w.fixed64(origin);
  w.fixed(state.digest);
  w.number(state.clashed);
  w.number(state.orphans);
  w.number(state.links);
  return w.take();
}

std::optional<Tree::State> Tree::decodeState(const std::string& bytes) {
  ByteReader r(bytes);
  State s;
  if (r.byte() != kStateFormat) return std::nullopt;
  s.origin = r.fixed64();
  s.seq = r.number(kMaxCount);
  s.clock = r.number(kMaxCount);
  s.vector = r.vector();
  s.trimmed = r.vector();
  for (size_t n = r.count(kMaxOrigins, 8); n > 0; --n) s.formerOrigins.push_back(r.fixed64());
  s.digest = r.fixed<16, TreeDigestTag>();
  s.clashed = r.number(kMaxCount);
  s.orphans = r.number(kMaxCount);
  s.links = r.number(kMaxCount);
  if (!r.finished()) return std::nullopt;
  return s;
}

void Tree::loadState() {
  TreeStore& store = records_.store();
  state_ = {};
  acks_.clear();
  closed_.clear();
  savedAcks_ = store.getValue(kAcksKey).value_or("");
  savedClosed_ = store.getValue(kClosedKey).value_or("");
  if (auto bytes = store.getValue(kStateKey)) {
    auto state = decodeState(*bytes);
    if (!state) throw std::runtime_error("the arena's database is damaged: its tree state does not decode");
    state_ = std::move(*state);
  }
  if (!savedAcks_.empty()) {
    auto acks = decodeAcks(savedAcks_);
    if (!acks) throw std::runtime_error("the arena's database is damaged: " + acks.error().message);
    acks_ = std::move(*acks);
  }
  for (ByteReader r(savedClosed_); !r.failed() && !r.finished();) closed_.insert(r.fixed64());
  savedState_ = state_;
  // Chosen long before it is used, so that a backup made before the first change knows what to close when restored.
  if (state_.origin == 0) newOrigin();
  std::vector<EntryId> displaced = store.displaced();
  displaced_ = std::set<EntryId>(displaced.begin(), displaced.end());
}

void Tree::saveState() {
  if (state_ == savedState_) return;
  records_.store().setValue(kStateKey, encodeState(state_));
  savedState_ = state_;
}

void Tree::saveAcks() {
  std::string acks = encodeAcks(acks_);
  ByteWriter w;
  for (Origin origin : closed_) w.fixed64(origin);
  std::string closed = w.take();
  // Pulls that bring nothing are frequent, and write nothing.
  if (acks != savedAcks_) records_.store().setValue(kAcksKey, acks);
  if (closed != savedClosed_) records_.store().setValue(kClosedKey, closed);
  savedAcks_ = std::move(acks);
  savedClosed_ = std::move(closed);
}

void Tree::newOrigin() {
  do state_.origin = random_.next64();
  while (state_.origin == 0 || state_.vector.get(state_.origin) != 0);
  state_.seq = 0;
}

void Tree::beginLife() {
  Call call(*this);
  state_.formerOrigins.push_back(state_.origin);
  closed_.insert(state_.origin);
  saveAcks();
  newOrigin();
}

void Tree::setNode(const EntryId& id, NodeId node) {
  if (Record* record = records_.find(id)) record->node = node;
}

std::optional<Record> Tree::get(const EntryId& id) {
  Call call(*this);
  Record* record = records_.find(id);
  return record ? std::optional(*record) : std::nullopt;
}

const Record* Tree::peek(const EntryId& id) { return records_.find(id); }

std::optional<Record> Tree::lookup(const EntryId& parent, const std::string& name) {
  Call call(*this);
  Record* record = records_.shownAt(parent, name);
  return record ? std::optional(*record) : std::nullopt;
}

std::vector<ShownName> Tree::children(const EntryId& parent, const std::string& after, size_t limit) {
  Call call(*this);
  return records_.shownIn(parent, after, limit);
}

std::vector<ShownHead> Tree::shownHeads(const EntryId& id) {
  Call call(*this);
  Record* record = records_.find(id);
  if (!record) return {};
  std::vector<ShownHead> heads = logic::shownHeads(record->entry);
  if (heads.size() != 1 || heads[0].version.target.isZero()) return heads;
  Record* target = records_.find(heads[0].version.target);
  return target ? logic::shownHeads(target->entry) : heads;
}

std::vector<Effect> Tree::drainEffects(std::vector<EntryId>* quiet) {
  Call call(*this);
  std::vector<Effect> out;
  for (const EntryId& id : effectOrder_) {
    auto known = effects_.find(id);
    if (known == effects_.end()) continue;
    Before& before = known->second;
    Record* record = records_.find(id);
    Effect e;
    e.id = id;
    e.wasShown = before.shown;
    e.oldParent = before.parent;
    e.oldName = std::move(before.name);
    std::vector<ShownHead> heads;
    if (record) {
      e.kind = record->entry.kind;
      e.isShown = record->shown;
      if (record->shown) {
        e.parent = record->shownParent;
        e.name = record->shownName;
        heads = logic::shownHeads(record->entry);
      }
    }
    if (!e.wasShown && !e.isShown) continue;
    if (e.wasShown && e.isShown) {
      e.headsChanged = dotsOf(before.heads) != dotsOf(heads);
      e.contentChanged = e.headsChanged && contentsOf(before.heads) != contentsOf(heads);
    }
    if (e.wasShown && e.isShown && !e.moved() && !e.headsChanged) {
      if (quiet && record->entry.live != before.live) quiet->push_back(id);
      continue;
    }
    e.oldHeads = std::move(before.heads);
    const bool link = heads.size() == 1 && !heads[0].version.target.isZero();
    e.heads = link ? shownHeads(id) : std::move(heads);
    if (record) {
      for (const auto& [origin, seq] : record->entry.touch.items())
        if (seq > before.touch.get(origin)) e.touchedBy.push_back(origin);
    }
    out.push_back(std::move(e));
  }
  effects_.clear();
  effectOrder_.clear();
  return out;
}

std::vector<PeerKey> Tree::acknowledgedBy(const EntryId& id) {
  Call call(*this);
  std::vector<PeerKey> out;
  if (Record* record = records_.find(id)) {
    for (const auto& [peer, vector] : acks_) if (vector.geq(record->entry.touch)) out.push_back(peer);
  }
  return out;
}

}  // namespace realize::logic
