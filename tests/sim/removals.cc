// In one household of thirteen a peer is removed by the user of another, while others are away and hear of it later. It is told
// nothing, its user works on, and so do the others, who must come to agree without it; then it is added again, with the identity
// and the database that it has, and brings what it did meanwhile.

#include <algorithm>

#include "librealize/peer/exchange.h"
#include "tests/sim/world.h"

namespace realize::test {

namespace {
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int kRounds = 30;
}  // namespace

void World::planRemoval() {
  if (!leaving()) return;
  const int64_t length = int64_t(stepsLeft_) * 700 * kNsPerMs, at = int64_t(below(uint64_t(length) * 3 / 4));
  plan(at, [this] { removePeer(); });
  if (oneIn(2)) plan(at + int64_t(below(uint64_t(length - at))), [this] { addAgain(); });
}

void World::removePeer() {
  const size_t number = below(machines_.size()), by = below(machines_.size());
  if (healing_ || leaver_ || number == by || !machines_[by].peer->running()) return;
  say(by, "removes " + name(number) + " from the household");
  count("peers removed");
  leaver_ = number;
  // Who met the others through it meets them himself.
  for (size_t a = 0; a < machines_.size(); ++a)
    for (size_t b = a + 1; b < machines_.size(); ++b) {
      auto &one = *machines_[a].peer, &other = *machines_[b].peer;
      const auto joinsThem = [&](const auto& link) { return &link->end(0) == &one && &link->end(1) == &other; };
      if (a == number || b == number || std::any_of(links_.begin(), links_.end(), joinsThem)) continue;
      links_.push_back(std::make_unique<SimLink>(one, other));
      watchLink(*links_.back());
      reconnectSoon(*links_.back());
    }
  hears(by, 1);
  tellEachOther();
}

/// Somebody who knows that it is no member invites it again.
void World::addAgain() {
  const auto knows = std::find_if(machines_.begin(), machines_.end(), [](auto& machine) { return machine.roster % 2 && machine.peer->running(); });
  if (knows == machines_.end()) return;
  const size_t by = size_t(knows - machines_.begin());
  auto& peer = *machines_[*leaver_].peer;
  say(by, "adds " + name(*leaver_) + " again");
  count("peers added again");
  if (peer.running() && !knows->peer->core->core().tree.vector().geq(peer.core->core().tree.vector())) count("peers added again with something new");
  ++knows->roster;
  hears(*leaver_, knows->roster);
  for (auto& link : links_) connect(*link);
}

/// Of the household's list of members, which all pass on to each other.
void World::hears(size_t number, int news) {
  machines_[number].roster = news;
  tellMembers();
  for (auto& link : links_)
    if (link->connected() && refuses(*link)) link->cut();
  if (allKnow()) noteParting();
}

void World::tellEachOther() {
  for (bool again = leaver_.has_value(); std::exchange(again, false);)
    for (auto& link : links_) {
      auto &one = machineOf(link->end(0)), &other = machineOf(link->end(1));
      if (!link->connected() || one.roster == other.roster) continue;
      if (one.roster > other.roster) hears(size_t(&other - machines_.data()), one.roster);
      else hears(size_t(&one - machines_.data()), other.roster);
      again = true;
    }
}

/// Whether a side has heard that the other is no member.
bool World::refuses(const SimLink& link) {
  for (int side : {0, 1})
    if (isLeaver(link.end(side)) && machineOf(link.end(1 - side)).roster % 2) return true;
  return false;
}

bool World::allKnow() const {
  return std::all_of(machines_.begin(), machines_.end(), [&](const auto& machine) { return isLeaver(*machine.peer) || machine.roster % 2; });
}

/// From here on none of the others has anything to do with it: what they have in their folders, they keep without it.
void World::noteParting() {
  std::map<BlobId, std::string> there;
  for (size_t i = 0; i < machines_.size(); ++i)
    if (i != *leaver_) doing(i, [&](Directory& root) { addFolder(root, there); });
  stayed_.clear();
  const auto current = currentBut(*leaver_);
  for (const auto& [blob, content] : there)
    if (current.contains(blob)) stayed_.merge(tokensIn(content));
}

/// While it is apart: what none of the others has, or what is a version that it alone knows: a file that it moved to an ignored
/// name, which counted as removed, and that is not ignored any more. Others may have the bytes of that in their caches.
std::map<BlobId, std::string> World::bytesAtLeaver() {
  std::map<BlobId, std::string> out;
  if (!apart_) return out;
  addBytesOn(*leaver_, false, out);
  VersionVector told;
  for (size_t i = 0; i < machines_.size(); ++i)
    if (i != *leaver_) told.join(knowledgeOf(i).seen);
  std::set<BlobId> fresh;
  for (const auto& [dot, blob] : knowledgeOf(*leaver_).heads)
    if (!told.covers(dot)) fresh.insert(blob);
  for (const auto& [blob, content] : bytesEverywhere())
    if (!fresh.contains(blob)) out.erase(blob);
  return out;
}

/// Nobody waits for who is removed; what only it has is not there, and all else is. Then it is added again.
void World::agreeWithout() {
  const auto latest = std::max_element(machines_.begin(), machines_.end(), [](auto& one, auto& other) { return one.roster < other.roster; });
  if (latest->roster % 2 == 0) return;
  for (int i = 0; i < kRounds && !allKnow(); ++i) {
    for (auto& link : links_) connect(*link);
    runFor(1000 * kNsPerMs);
  }
  if (!allKnow()) throw Broken("not all have heard that " + name(*leaver_) + " was removed");
  apart_ = true;
  settleDown("without who was removed");
  checkConsensus();
  checkTrees();
  checkFolders();
  checkTokens();
  count("agreed without a peer");
  apart_ = false;
  addAgain();
}

}  // namespace realize::test
