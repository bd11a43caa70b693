#include "librealize/peer/authors.h"

#include <algorithm>

#include "librealize/model/codec.h"

namespace realize::peer {

namespace {
constexpr char kAuthorsKey[] = "authors";  // Origin (8 bytes) and key (32 bytes), again and again.
}

Authors::Authors(store::ArenaStore& store, const logic::Tree& tree, const PeerKey& self)
    : store_(store), tree_(tree), self_(self) {
  const std::string saved = store_.getValue(kAuthorsKey).value_or("");
  for (ByteReader reader(saved); !reader.failed() && !reader.finished();) {
    const Origin origin = reader.fixed64();
    const PeerKey peer = reader.fixed<PeerKey::size(), PeerKeyTag>();
    if (!reader.failed()) known_[origin] = peer;
  }
}

void Authors::save() {
  ByteWriter writer;
  for (const auto& [origin, peer] : known_) {
    writer.fixed64(origin);
    writer.fixed(peer);
  }
  store_.setValue(kAuthorsKey, writer.take());
}

void Authors::learn(Origin origin, const PeerKey& peer, bool certain) {
  auto known = known_.find(origin);
  if (origin == 0 || (known != known_.end() && (known->second == peer || !certain))) return;
  if (known == known_.end() && known_.size() >= kMost) return;
  known_[origin] = peer;
  save();
}

std::optional<PeerKey> Authors::of(Origin origin) const {
  if (origin == tree_.origin()) return self_;
  auto known = known_.find(origin);
  return known == known_.end() ? std::nullopt : std::optional(known->second);
}

std::vector<Origin> Authors::earlierLives(const PeerKey& peer, Origin now) const {
  std::vector<Origin> lives;
  for (const auto& [origin, whose] : known_)
    if (whose == peer && origin != now) lives.push_back(origin);
  return lives;
}

PeerKey Authors::of(const logic::Effect& effect, logic::Tree& tree) const {
  auto touched = [&](Origin origin) {
    return std::find(effect.touchedBy.begin(), effect.touchedBy.end(), origin) != effect.touchedBy.end();
  };
  if (effect.isShown && !effect.moved()) {
    // The version that came; of several, the last. What made an old one be shown again has left its mark in touchedBy.
    const logic::ShownHead* newest = nullptr;
    for (const auto& head : effect.heads) {
      const bool before = std::any_of(effect.oldHeads.begin(), effect.oldHeads.end(), [&](auto& old) { return old.dot == head.dot; });
      if (before || !touched(head.dot.origin)) continue;
      if (!newest || std::pair(newest->version.stamp, newest->dot) < std::pair(head.version.stamp, head.dot)) newest = &head;
    }
    if (newest) return newest->version.author;
  }
  const auto* record = tree.peek(effect.id);
  if (record && effect.moved() && touched(record->entry.place.stamp.origin))
    return of(record->entry.place.stamp.origin).value_or(PeerKey());
  if (record && effect.gone()) {
    const auto& tombs = record->entry.tombs;
    auto by = std::find_if(tombs.begin(), tombs.end(), [&](const auto& tomb) { return touched(tomb.first.origin); });
    if (by == tombs.end() && effect.touchedBy.empty()) by = tombs.begin();
    if (by != tombs.end()) return of(by->first.origin).value_or(PeerKey());
  }
  if (effect.moved() || effect.touchedBy.empty()) return {};
  return of(effect.touchedBy.front()).value_or(PeerKey());
}

std::map<Origin, PeerKey> Authors::ofNews(const std::vector<Change>& changes, const VersionVector& seen) const {
  std::map<Origin, PeerKey> out;
  for (const auto& change : changes)
    for (const auto& [origin, seq] : change.entry.touch.items()) {
      if (seq <= seen.get(origin) || origin == tree_.origin() || out.contains(origin)) continue;
      if (auto peer = of(origin)) out.emplace(origin, *peer);
    }
  return out;
}

}  // namespace realize::peer
