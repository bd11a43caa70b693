#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <random>

#include "tests/support/plain_view.h"
#include "tests/support/tree_peer.h"

using namespace realize;
using namespace realize::logic;

namespace {

using Shadow = std::map<EntryId, std::pair<EntryId, std::string>>;

// A copy of the visible tree that knows only the effects.
void follow(Shadow& shadow, Tree& tree) {
  for (const Effect& effect : tree.drainEffects()) {
    auto it = shadow.find(effect.id);
    CHECK(effect.wasShown == (it != shadow.end()));
    if (effect.wasShown && it != shadow.end()) CHECK(it->second == std::pair(effect.oldParent, effect.oldName));
    if (effect.isShown) shadow[effect.id] = {effect.parent, effect.name};
    else shadow.erase(effect.id);
  }
}

Shadow plain(const MemoryTreeStore& store) {
  std::map<EntryId, Entry> entries;
  for (const auto& [id, record] : store.records()) entries[id] = record.entry;
  return plainView(entries);
}

struct Household {
  std::mt19937_64 random;
  std::vector<std::unique_ptr<TreePeer>> peers;
  std::vector<Shadow> shadows;

  explicit Household(uint64_t seed) : random(seed), shadows(3) {
    for (char name : {'a', 'b', 'c'}) peers.push_back(std::make_unique<TreePeer>(name));
  }
  size_t pick(size_t n) { return random() % n; }
  std::string name() { return std::string(1, char('a' + pick(3))); }

  EntryId anyShown(TreePeer& p, bool directory) {
    std::vector<EntryId> ids;
    if (directory) ids.push_back(kRootEntry);
    for (const auto& [id, r] : p.store.records()) {
      if (r.shown && directory == (r.entry.kind == EntryKind::Directory)) ids.push_back(id);
    }
    std::sort(ids.begin(), ids.end());
    return ids.empty() ? kRootEntry : ids[pick(ids.size())];
  }

  // Entries in no order, of a batch that never completes: parents may be missing.
  void takeSome(TreePeer& to, TreePeer& from) {
    std::vector<EntryId> ids;
    for (const auto& [id, r] : from.store.records()) ids.push_back(id);
    std::sort(ids.begin(), ids.end());
    std::shuffle(ids.begin(), ids.end(), random);
    ids.resize(pick(ids.size() + 1));
    for (const EntryId& id : ids) {
      Change change{from.tree.get(id)->entry, from.tree.vector()};
      change.seen.join(change.entry.ctx);
      change.entry.ctx = {};
      REQUIRE(to.tree.apply(change).ok());
    }
  }

  void step(TreePeer& p) {
    EntryId file = anyShown(p, false), folder = anyShown(p, true), other = anyShown(p, true);
    TreePeer& from = *peers[pick(peers.size())];
    switch (pick(9)) {
      case 0: (void)p.tree.create(folder, name(), EntryKind::File, textVersion(name())); break;
      case 1:
      case 2: (void)p.tree.create(folder, name(), EntryKind::Directory, directoryVersion()); break;
      case 3: (void)p.tree.move(folder, other, name()); break;
      case 4: (void)p.tree.move(file, folder, name()); break;
      case 5: (void)p.tree.remove(pick(3) ? file : folder); break;
      case 6: (void)p.tree.write(file, textVersion(name())); break;
      case 7: if (&from != &p) p.pull(from, 1 + pick(4), 1 + pick(4)); break;
      case 8: if (&from != &p) takeSome(p, from); break;
    }
  }
};

}  // namespace

TEST_CASE("the view that follows each change is the one computed from scratch, and effects tell all of it") {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    Household h(seed);
    for (int i = 0; i < 60; ++i) {
      size_t who = h.pick(3);
      TreePeer& p = *h.peers[who];
      h.step(p);
      REQUIRE(viewDifference(p.store) == "");
      follow(h.shadows[who], p.tree);
      REQUIRE(h.shadows[who] == plain(p.store));
    }
  }
}

TEST_CASE("a digest depends on the visible tree only, not on how it came about") {
  TreePeer a('a'), b('b');
  a.folder("d");
  a.file("d/f", "1");
  a.file("gone", "x");
  REQUIRE(a.remove("gone"));
  TreeDigest before = a.tree.digest();
  sync(a, b);

  CHECK(b.tree.digest() == before);
  REQUIRE(b.move("d/f", "f"));
  CHECK_FALSE(b.tree.digest() == before);
  sync(a, b);
  CHECK(a.tree.digest() == b.tree.digest());
  REQUIRE(a.remove("d"));
  REQUIRE(a.remove("f"));
  CHECK(a.tree.digest() == TreeDigest{});
}

TEST_CASE("what stands in a folder that has not come yet is not shown until it comes") {
  TreePeer a('a'), b('b');
  EntryId d = a.folder("d");
  EntryId f = a.file("d/f", "x");
  auto changeOf = [&](const EntryId& id) { return Change{a.tree.get(id)->entry, a.tree.vector()}; };

  REQUIRE(b.tree.apply(changeOf(f)).ok());
  CHECK(b.all().empty());
  REQUIRE(b.tree.apply(changeOf(d)).ok());

  CHECK(b.all() == "d d/f");
}

TEST_CASE("entries placed in a file are never shown, and do not hang the view") {
  TreePeer a('a'), b('b');
  EntryId f = a.file("f", "x"), d = a.folder("d");
  Change bad{a.tree.get(d)->entry, a.tree.vector()};
  bad.entry.place.parent = f;
  Change worse{a.tree.get(f)->entry, a.tree.vector()};
  worse.entry.place.parent = d;

  REQUIRE(b.tree.apply(bad).ok());
  REQUIRE(b.tree.apply(worse).ok());

  CHECK(b.all().empty());
  CHECK(viewDifference(b.store) == "");
}

TEST_CASE("an entry that is another kind here is refused") {
  TreePeer a('a'), b('b');
  EntryId f = a.file("f", "x");
  sync(a, b);
  Change change{a.tree.get(f)->entry, a.tree.vector()};
  change.entry.kind = EntryKind::Directory;

  CHECK(b.tree.apply(change).code() == Code::Corrupt);
}

TEST_CASE("a rename of a folder with many files writes one entry") {
  TreePeer a('a');
  a.folder("d");
  for (int i = 0; i < 1000; ++i) a.file("d/f" + std::to_string(i), "x");
  a.store.puts = 0;

  REQUIRE(a.move("d", "e"));

  CHECK(a.store.puts == 1);
  CHECK(a.tree.drainEffects().size() == 1001);
  TreePeer b('b');
  sync(a, b);
  b.received = 0;
  REQUIRE(a.move("e", "f"));
  sync(a, b);
  CHECK(b.received == 1);
}
