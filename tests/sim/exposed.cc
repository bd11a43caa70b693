// Which versions may be nobody's any more because a disk or a database was lost, though no user let them go. All others
// must be there.

#include <algorithm>

#include "librealize/logic/tree.h"
#include "librealize/logic/tree_merge.h"
#include "librealize/store/arena_store.h"
#include "librealize/store/disk_vfs.h"
#include "tests/sim/world.h"

namespace realize::test {

/// As the database on its disk has it at this moment, whether its process runs or not.
World::Knowledge World::knowledgeOf(size_t number) {
  auto& sim = *machines_[number].peer;
  Knowledge out;
  FakeDisk copy(sim.clock, sim.disk.snapshot());
  copy.setFreeBytes(1 << 30);  // Else the database of a full one does not open.
  auto state = copy.openRoot(kSimState);
  if (!state.ok()) return out;
  FakeRandom random(1);
  store::DiskVfs vfs("look-at-" + sim.options.name, std::move(*state), sim.clock, random);
  auto opened = store::ArenaStore::open("index.db", {.create = false, .vfs = vfs.name()});
  if (!opened.ok()) opened = store::ArenaStore::open("index.db", {.create = false, .vfs = vfs.name()});  // A failed sync is told once.
  if (!opened.ok()) return out;
  auto& store = **opened;
  out.seen = logic::Tree(store, sim.clock, random, sim.key).vector();
  for (const auto& id : store.allEntries(0, 100'000)) {
    const auto record = store.get(id);
    if (record) out.replaced.insert(record->entry.replaced.begin(), record->entry.replaced.end());
    if (!record || record->entry.live.empty()) continue;
    for (const auto& [dot, version] : logic::realHeads(record->entry)) {
      out.heads.emplace(dot, version.blob);
      if (logic::isLetGo(record->entry, dot)) out.lastResorts.insert(dot);
    }
  }
  for (const auto& row : store.disk().all(0, 100'000)) {
    out.files.insert(row.blob);
    if (!store.unsynced().has(row.node)) out.durable.insert(row.blob);
  }
  return out;
}

/// What is on that disk its user may replace, or a backup has replaced, and nobody learns which version he had.
void World::exposeDisk(size_t number) {
  std::map<BlobId, std::string> there;
  addBytesOn(number, false, there);
  for (const auto& [blob, content] : there) exposed_.insert(blob);
}

bool World::Knowledge::letGo(const Dot& dot) const { return seen.covers(dot) && (!heads.contains(dot) || lastResorts.contains(dot)); }

/// The versions that the machines but one know, and that none of these knows to be replaced or removed.
std::set<BlobId> World::currentBut(size_t number) {
  std::vector<Knowledge> all;
  for (size_t i = 0; i < machines_.size(); ++i)
    if (i != number) all.push_back(knowledgeOf(i));
  std::set<BlobId> out;
  for (const auto& one : all)
    for (const auto& [dot, blob] : one.heads)
      if (std::none_of(all.begin(), all.end(), [&dot = dot](const auto& other) { return other.letGo(dot); })) out.insert(blob);
  return out;
}

/// `lost`: what its disk knew until a moment ago. What its user removed and the program had not read yet comes back; and what
/// its database alone knew to be replaced or removed. And a backup may tell of what a power cut, or the loss of a database,
/// had taken from all since: nobody knows what became of it.
void World::expose(size_t number, const Knowledge& lost, bool database) {
  exposeDisk(number);
  exposed_.insert(lost.files.begin(), lost.files.end());
  VersionVector seen = lost.seen;
  for (size_t i = 0; database && i < machines_.size(); ++i) {
    const Knowledge now = knowledgeOf(i);
    if (i != number) seen.join(now.seen);
    for (const auto& [dot, blob] : now.heads)
      if (lost.letGo(dot)) exposed_.insert(blob);
  }
  for (const auto& [dot, blob] : database ? knowledgeOf(number).heads : std::map<Dot, BlobId>())
    if (!seen.covers(dot)) exposed_.insert(blob);
}

/// What was in caches only, under a version that the databases of two machines named, which both went before anybody else heard of
/// it. Its bytes may still be there, for nobody. That one database goes is no excuse.
void World::loseNames(size_t number, const Knowledge& lost, const std::map<BlobId, std::string>& before) {
  for (const auto& [dot, blob] : lost.heads) forgotBy_[blob].insert(number);
  std::set<BlobId> named;
  std::set<Token> kept;
  for (size_t i = 0; i < machines_.size(); ++i) {
    for (const auto& [dot, blob] : knowledgeOf(i).heads) named.insert(blob);
    doing(i, [&](Directory& root) { kept.merge(tokensAt(root, "")); });
  }
  for (const auto& blob : named)
    if (const auto content = before.find(blob); content != before.end()) kept.merge(tokensIn(content->second));
  std::string gone;
  for (const auto& [dot, blob] : lost.heads) {
    const auto content = before.find(blob);
    if (content == before.end() || named.contains(blob) || forgotBy_[blob].size() < 2) continue;
    for (auto token : tokensIn(content->second))
      if (!kept.contains(token) && excused_.emplace(token, "in caches only, under a version that no database names any more").second)
        gone += " T" + std::to_string(token);
  }
  if (!gone.empty()) say(number, "  and no database names any more" + gone);
}

/// What a disk that was lost or came back had, and a power cut takes from who was putting it in place, and has not said that it has
/// it. Its temporary files go.
std::string World::loseUnsynced(size_t number, const std::map<uint64_t, std::string>& before) {
  if (!keepsContents()) return "";
  std::string gone;
  std::map<BlobId, std::string> left;
  for (size_t i = 0; i < machines_.size(); ++i)
    if (!isApart(*machines_[i].peer)) addBytesOn(i, i == number, left);
  std::set<Token> there;
  for (const auto& [blob, content] : left) there.merge(tokensIn(content));
  const Knowledge own = knowledgeOf(number);
  for (const auto& [inode, content] : before) {
    const BlobId blob = blobOf(content);
    if (left.contains(blob) || !exposed_.contains(blob) || own.durable.contains(blob)) continue;
    for (auto token : tokensIn(content))
      if (!there.contains(token) && excused_.emplace(token, "on a disk that was restored only, and on its way to " + name(number)).second)
        gone += " T" + std::to_string(token);
  }
  return gone;
}

}  // namespace realize::test
