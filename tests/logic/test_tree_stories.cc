// What happens when two or three peers change one tree without knowing of each other (AGREEMENT.md, "Stories").

#include <doctest/doctest.h>

#include "tests/support/tree_peer.h"

using namespace realize;
using namespace realize::logic;

namespace {

void checkEqual(TreePeer& a, TreePeer& b) {
  CHECK(a.all() == b.all());
  CHECK(a.tree.digest() == b.tree.digest());
}

/// What a disk that shows this text has seen: all but the heads of other contents.
Base sawOnly(TreePeer& p, const std::string& path, const std::string& text) {
  auto record = p.tree.get(p.at(path));
  std::vector<Dot> dots = record->entry.live;
  for (const auto& [dot, version] : record->entry.heads) {
    std::erase(dots, dot);
    if (version.blob == textVersion(text).blob) dots.push_back(dot);
  }
  return Base::only(dots);
}

bool removeOnly(TreePeer& p, const std::string& path, const std::string& text) {
  return p.tree.remove(p.at(path), sawOnly(p, path, text)).ok();
}

}  // namespace

TEST_CASE("two offline edits of one file keep both versions, everywhere") {
  TreePeer a('a'), b('b');
  a.file("plan", "draft");
  sync(a, b);

  REQUIRE(a.write("plan", "draft A"));
  REQUIRE(b.write("plan", "draft B"));
  sync(a, b);

  for (TreePeer* p : {&a, &b}) {
    CHECK(p->heads("plan") == 2);
    CHECK(p->holds("plan", "draft A"));
    CHECK(p->holds("plan", "draft B"));
  }
  checkEqual(a, b);
}

TEST_CASE("two versions of which each was removed by who had it are gone") {
  TreePeer a('a'), b('b');
  a.file("plan", "draft A");
  b.file("plan", "draft B");
  sync(a, b);
  REQUIRE(a.heads("plan") == 2);
  REQUIRE(a.move("plan", "plans"));  // A claim that has seen both.
  sync(a, b);

  REQUIRE(removeOnly(a, "plans", "draft A"));
  REQUIRE(removeOnly(b, "plans", "draft B"));
  CHECK(a.holds("plans", "draft B"));
  CHECK(b.holds("plans", "draft A"));
  sync(a, b);

  CHECK(a.all() == "");
  checkEqual(a, b);
}

TEST_CASE("who removes one of three versions keeps the third, whoever removes the second") {
  TreePeer a('a'), b('b'), c('c');
  a.file("plan", "draft A");
  b.file("plan", "draft B");
  c.file("plan", "draft C");
  sync(a, b);
  REQUIRE(c.move("plan", "plans"));  // Draft C stands under a claim of its own.
  c.pull(a);

  REQUIRE(removeOnly(c, "plans", "draft A"));
  REQUIRE(b.remove("plan"));  // Has seen A and B only.
  sync(b, c);
  sync(a, c);

  CHECK(a.holds("plans", "draft C"));
  CHECK(c.heads("plans") == 1);
  checkEqual(a, c);
}

TEST_CASE("a version stays that nobody removed, though all who saw others removed theirs at once") {
  TreePeer a('a'), b('b'), c('c');
  a.file("plan", "draft");
  sync(a, b), sync(a, c);
  REQUIRE((a.write("plan", "draft A") && b.write("plan", "draft B") && c.write("plan", "draft C")));
  sync(a, b), sync(b, c), sync(a, b), sync(a, c);
  REQUIRE(c.heads("plan") == 3);
  REQUIRE(c.move("plan", "plans"));  // One claim for all of them.
  sync(a, c), sync(b, c);

  // Each edits and then removes what his own folder shows.
  REQUIRE(a.tree.write(a.at("plans"), textVersion("more of A"), sawOnly(a, "plans", "draft A")).ok());
  REQUIRE(b.tree.write(b.at("plans"), textVersion("more of B"), sawOnly(b, "plans", "draft B")).ok());
  sync(a, b);
  REQUIRE(removeOnly(a, "plans", "more of A"));
  REQUIRE(removeOnly(b, "plans", "more of B"));
  sync(a, b), sync(b, c), sync(a, c);

  for (TreePeer* p : {&a, &b, &c}) {
    CHECK(p->heads("plans") == 1);
    CHECK(p->holds("plans", "draft C"));
  }

  SUBCASE("who removes that one removes the file") {
    REQUIRE(removeOnly(c, "plans", "draft C"));
    sync(b, c), sync(a, c);
    for (TreePeer* p : {&a, &b, &c}) CHECK(p->all().empty());
  }
}

TEST_CASE("equal folders made apart merge into one without a conflict") {
  TreePeer a('a'), b('b');
  for (TreePeer* p : {&a, &b}) {
    p->folder("photos");
    p->file("photos/1", "same");
  }

  sync(a, b);

  CHECK(a.all() == "photos photos/1");
  CHECK(a.heads("photos/1") == 1);
  checkEqual(a, b);
}

TEST_CASE("a removal does not remove an edit it has not seen, and brings back the folders above it, and only those") {
  TreePeer a('a'), b('b');
  a.folder("d");
  a.folder("d/e");
  a.file("d/e/f", "x");
  a.file("d/other", "x");
  sync(a, b);

  REQUIRE(a.remove("d"));
  REQUIRE(b.write("d/e/f", "edited"));
  sync(a, b);

  CHECK(a.all() == "d d/e d/e/f");
  CHECK(a.holds("d/e/f", "edited"));
  checkEqual(a, b);
}

TEST_CASE("a removal against a rename leaves the file, with its content, under the new name") {
  TreePeer a('a'), b('b');
  a.file("f", "precious");
  sync(a, b);

  REQUIRE(a.remove("f"));
  REQUIRE(b.move("f", "g"));
  sync(a, b);
  sync(a, b);

  CHECK(a.all() == "g");
  CHECK(a.holds("g", "precious"));
  checkEqual(a, b);
}

TEST_CASE("A into B against B into A shows both, the later move void") {
  TreePeer a('a'), b('b');
  a.folder("x");
  a.folder("y");
  a.file("x/in-x", "1");
  a.file("y/in-y", "2");
  sync(a, b);

  REQUIRE(a.move("x", "y/x"));
  REQUIRE(b.move("y", "x/y"));
  sync(a, b);

  CHECK(a.all() == "y y/in-y y/x y/x/in-x");
  checkEqual(a, b);
}

TEST_CASE("a move that a cycle made void does not come true because of a later one") {
  TreePeer a('a'), b('b');
  for (const char* name : {"x", "y", "z"}) a.folder(name);
  sync(a, b);
  REQUIRE(a.move("x", "y/x"));
  REQUIRE(b.move("y", "x/y"));
  sync(a, b);
  REQUIRE(a.all() == "y y/x z");

  REQUIRE(a.move("y/x", "z/x"));  // Nothing holds y out of x any more.
  sync(a, b);

  CHECK(a.all() == "y z z/x");
  checkEqual(a, b);
}

// realize-sim --wide, seed 21050045.
TEST_CASE("a move beside a cycle is not void") {
  TreePeer a('a'), b('b');
  for (const char* name : {"x", "y"}) a.folder(name);
  sync(a, b);
  REQUIRE(a.move("x", "y/x"));
  REQUIRE(b.move("y", "x/y"));
  sync(a, b);
  REQUIRE(a.all() == "y y/x");

  SUBCASE("a new name in the folder that a cycle keeps where it is") {
    REQUIRE(a.move("y/x", "y/a"));
    CHECK(a.all() == "y y/a");
  }
  SUBCASE("into a folder of that folder") {
    a.folder("y/z");
    REQUIRE(a.move("y/x", "y/z/a"));
    CHECK(a.all() == "y y/z y/z/a");
  }
  const std::string shown = a.all();
  sync(a, b);

  CHECK(b.all() == shown);
  checkEqual(a, b);
}

TEST_CASE("one folder renamed two ways gets one of the names") {
  TreePeer a('a'), b('b');
  a.folder("d");
  a.file("d/f", "x");
  sync(a, b);

  REQUIRE(a.move("d", "from-a"));
  REQUIRE(b.move("d", "from-b"));
  sync(a, b);

  CHECK(a.all() == "from-b from-b/f");
  checkEqual(a, b);
}

TEST_CASE("two entries that claim one name are both shown, the earlier keeps it") {
  TreePeer a('a'), b('b');
  a.file("f", "1");
  b.file("g", "2");
  sync(a, b);
  REQUIRE(a.move("f", "same"));
  REQUIRE(b.move("g", "same"));

  sync(a, b);

  CHECK(a.all().rfind("same same~", 0) == 0);
  checkEqual(a, b);
  REQUIRE(a.remove("same"));
  CHECK(a.all() == "same");  // The name is free: the other takes it.
  sync(a, b);
  checkEqual(a, b);
}

TEST_CASE("the suffix of a clash gives way to an entry of that very name") {
  TreePeer a('a'), b('b');
  EntryId f = a.file("f", "1"), g = b.file("g", "2");
  sync(a, b);
  REQUIRE(a.move("f", "same"));
  REQUIRE(b.move("g", "same"));
  sync(a, b);
  std::string suffix = "same~" + g.hex().substr(0, 4);
  if (!a.has(suffix)) suffix = "same~" + f.hex().substr(0, 4);
  REQUIRE(a.has(suffix));

  REQUIRE(b.tree.create(kRootEntry, suffix.substr(0, 9), EntryKind::File, textVersion("3")).ok());
  sync(a, b);

  // On b the name was shown, so that creating it was an edit of the clashing entry.
  CHECK(a.all() == "same " + suffix);
  CHECK(a.holds(suffix, "3"));
  checkEqual(a, b);
}

TEST_CASE("a long name that clashes is cut so that a folder can hold it with its suffix") {
  TreePeer a('a'), b('b');
  std::string longName = std::string(252, 'n') + "\xc3\xa9";  // 254 bytes, the last two one character
  a.file("f", "1");
  b.file("g", "2");
  sync(a, b);
  REQUIRE(a.move("f", longName));
  REQUIRE(b.move("g", longName));

  sync(a, b);

  auto names = a.tree.children(kRootEntry, "", 10);
  REQUIRE(names.size() == 2);
  for (const auto& name : names) CHECK(isValidName(name.name));
  checkEqual(a, b);
}

TEST_CASE("in a chain, what A and C never told each other flows through B") {
  TreePeer a('a'), b('b'), c('c');
  a.folder("d");
  a.file("d/f", "1");
  sync(a, b);
  sync(b, c);
  REQUIRE(c.write("d/f", "2"));
  REQUIRE(a.move("d", "e"));

  sync(a, b);
  sync(b, c);
  sync(a, b);

  CHECK(a.all() == "e e/f");
  CHECK(a.holds("e/f", "2"));
  checkEqual(a, c);
}

TEST_CASE("a batch that broke off makes no one forget what it does not hold") {
  TreePeer a('a'), b('b'), c('c');
  for (int i = 0; i < 6; ++i) a.file("f" + std::to_string(i), "x");
  c.pull(a);

  CHECK_FALSE(b.pull(a, 2, 1));
  sync(b, c);
  sync(a, b);

  CHECK(b.all() == "f0 f1 f2 f3 f4 f5");
  CHECK(c.all() == "f0 f1 f2 f3 f4 f5");
}

TEST_CASE("an entry from a broken batch is not undone by an older state from another peer") {
  TreePeer a('a'), b('b'), c('c');
  a.file("f", "old");
  a.file("g", "other");
  c.pull(a);
  REQUIRE(a.write("f", "new"));
  a.file("h", "more");

  CHECK_FALSE(b.pull(a, 2, 1));
  b.pull(c);

  CHECK(b.heads("f") == 1);
  CHECK(b.holds("f", "new"));
}

TEST_CASE("a restored database begins a new life, and its lost edits are taken up again") {
  TreePeer a('a'), b('b');
  a.file("f", "1");
  MemoryTreeStore backup = a.store;
  REQUIRE(a.write("f", "2"));
  a.file("g", "made after the backup");
  sync(a, b);

  a.store = backup;
  a.tree.reload();
  sync(a, b);  // The other peer knows more of this origin than it does itself.
  a.file("h", "after the restore");
  sync(a, b);

  CHECK(a.all() == "f g h");
  CHECK(a.holds("f", "2"));
  checkEqual(a, b);
}

TEST_CASE("what a closed origin left behind in a broken batch is issued again by who holds it") {
  TreePeer a('a'), b('b');
  a.file("f", "1");
  sync(a, b);
  MemoryTreeStore backup = a.store;
  a.file("g", "2");
  a.file("h", "3");
  CHECK_FALSE(b.pull(a, 1, 1));  // "g" only; no peer will ever see "h".

  a.store = backup;
  a.tree.reload();
  a.tree.beginLife();
  for (int i = 0; i < 3; ++i) sync(a, b);

  CHECK(a.all() == "f g");
  checkEqual(a, b);
  a.received = b.received = 0;
  sync(a, b);
  CHECK(a.received + b.received == 0);
}

TEST_CASE("what a lost life left behind in a broken batch is issued again by who holds it, what is complete is not") {
  TreePeer a('a'), b('b'), again('c');
  a.file("f", "1");
  sync(a, b);
  a.file("g", "2");
  a.file("h", "3");
  CHECK_FALSE(b.pull(a, 1, 1));  // "g" only.
  const Origin lost = a.tree.origin();
  again.key = a.key;
  const uint64_t complete = b.tree.vector().get(lost);
  auto received = [&] {
    for (int i = 0; i < 2; ++i) sync(again, b);
    again.received = b.received = 0;
    sync(again, b);
    return again.received + b.received;
  };
  CHECK(received() > 0);  // Never complete, and so again and again.

  b.tree.closeLost({lost, again.tree.origin()});

  CHECK(received() == 0);
  CHECK(again.all() == "f g");
  checkEqual(again, b);
  CHECK(b.tree.vector().get(lost) == complete);
  CHECK_FALSE(b.tree.isClosed(again.tree.origin()));
}

TEST_CASE("what several peers issue again, time after time, is not ever more versions") {
  TreePeer a('a'), b('b'), c('c'), d('d');
  a.file("f", "1");
  for (auto* peer : {&b, &c, &d}) sync(a, *peer);

  for (int round = 0; round < 6; ++round) {
    MemoryTreeStore backup = a.store;
    REQUIRE(a.move(round % 2 ? "g" : "f", round % 2 ? "f" : "g"));
    a.file("later", "2");
    for (auto* peer : {&b, &c, &d}) CHECK_FALSE(peer->pull(a, 1, 1));
    a.store = backup;
    a.tree.reload();
    a.tree.beginLife();
    for (auto* peer : {&b, &c, &d}) peer->pull(a);  // Each hears of it before it knows what the others make of it.
    for (int i = 0; i < 3; ++i)
      for (auto* peer : {&b, &c, &d}) sync(a, *peer);
  }

  const std::string name = a.all();
  CHECK(a.heads(name) == 1);
  CHECK(a.tree.get(a.at(name))->entry.heads.size() <= 3);
  for (auto* peer : {&b, &c, &d}) checkEqual(a, *peer);
}

TEST_CASE("what was issued again while batches run is not taken for sent before when its old author's change comes back") {
  TreePeer x('x'), s('s'), r('r'), w('w');
  x.file("f", "1");
  x.file("g", "1");
  for (auto* peer : {&s, &r, &w}) sync(*peer, x);
  MemoryTreeStore backup = x.store;
  x.write("f", "2");
  x.write("g", "2");
  w.pull(x);
  CHECK_FALSE(s.pull(w, 1, 1));  // "f" only.
  x.store = backup;
  x.tree.reload();
  x.tree.beginLife();
  x.file("h", "3");
  s.pull(x);  // Issues "f" again.
  s.pull(w);  // "f" came before.

  CHECK_FALSE(r.pull(s, 1, 2));  // "g" and "h".
  w.write("f", "4");
  s.pull(w);
  r.pull(s, 1);
  for (int i = 0; i < 3; ++i)
    for (auto* one : {&x, &s, &r, &w})
      for (auto* other : {&x, &s, &r, &w})
        if (one != other) one->pull(*other);

  CHECK(r.holds("f", "2"));
  CHECK(r.holds("f", "4"));
  checkEqual(s, r);
}

TEST_CASE("what was issued again is not issued again each time that another's state of it comes") {
  TreePeer x('x'), s('s'), w('w');
  x.file("f", "1");
  for (auto* peer : {&s, &w}) sync(*peer, x);
  MemoryTreeStore backup = x.store;
  x.write("f", "2");
  x.file("later", "2");
  for (auto* peer : {&s, &w}) CHECK_FALSE(peer->pull(x, 1, 1));  // "f" only.
  x.store = backup;
  x.tree.reload();
  x.tree.beginLife();
  s.pull(x);
  const uint64_t issued = s.tree.vector().get(s.tree.origin());
  CHECK(issued > 0);

  s.pull(w);  // W has not heard of it, and sends "f" as it came from X.

  CHECK(s.tree.vector().get(s.tree.origin()) == issued);
  for (int i = 0; i < 3; ++i)
    for (auto* peer : {&s, &w}) sync(*peer, x);
  CHECK(s.holds("f", "2"));
  checkEqual(s, w);
  checkEqual(s, x);
}

TEST_CASE("who learns that a copy of its database closed its origin goes on under a new one") {
  TreePeer a('a'), copy('c'), b('b');
  a.file("f", "1");
  sync(a, b);
  copy.store = a.store;
  copy.tree.reload();
  copy.tree.beginLife();
  copy.file("g", "of the copy");
  sync(copy, b);
  const Origin before = a.tree.origin();

  a.pull(b);
  a.file("h", "of the first");
  for (int i = 0; i < 2; ++i) sync(a, b);

  CHECK(a.tree.origin() != before);
  CHECK(a.all() == "f g h");
  checkEqual(a, b);
}

TEST_CASE("peers that have forgotten different deletions say so instead of mixing their states") {
  TreePeer a('a'), b('b');
  a.file("f", "1");
  PageRequest request = b.tree.requestFor(a.key);
  request.trimmed.join(Dot{77, 1});
  request.fresh = false;

  CHECK(a.tree.changesFor(request).code() == Code::Refused);
}
