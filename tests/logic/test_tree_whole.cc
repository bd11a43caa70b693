// Forgetting removed entries, and peers that come back after that (AGREEMENT.md 18-20).

#include <doctest/doctest.h>

#include "librealize/logic/tree_merge.h"
#include "tests/support/tree_peer.h"

using namespace realize;
using namespace realize::logic;

namespace {

bool mayForget(const Record&) { return true; }

void forget(TreePeer& p, const std::vector<PeerKey>& active) {
  p.tree.drainEffects();
  while (p.tree.trim(active, mayForget, 100) > 0) continue;
}

bool mustCompare(TreePeer& to, TreePeer& from) {
  return to.tree.needsWhole(from.key, from.tree.vector(), from.tree.trimmed());
}

/// One question and its answer.
Result<void> ask(TreePeer& to, TreePeer& from, WholeState& state) {
  const WholeRequest request = to.tree.wholeRequest(state);
  return to.tree.noteWhole(state, from.tree.wholeFor(request));
}

/// Compares and takes everything; how many entries were sent.
uint64_t compare(TreePeer& to, TreePeer& from) {
  WholeState state;
  while (!state.complete()) REQUIRE(ask(to, from, state).ok());
  REQUIRE(to.tree.applyWhole(from.key, state).ok());
  return state.changeCount();
}

void checkEqual(TreePeer& a, TreePeer& b) {
  CHECK(a.all() == b.all());
  CHECK(a.tree.digest() == b.tree.digest());
}

/// Each takes from each what it may, twice.
void meet(const std::vector<TreePeer*>& all) {
  for (int i = 0; i < 2; ++i) {
    for (TreePeer* from : all) {
      for (TreePeer* to : all) {
        if (to == from) continue;
        if (mustCompare(*to, *from)) compare(*to, *from);
        else to->pull(*from);
      }
    }
  }
}

/// All have a file, another name of it, and a file to remove.
void haveTwoNames(TreePeer& a, const std::vector<TreePeer*>& others, const std::string& name) {
  Version link;
  link.target = a.file("f", "1");
  REQUIRE(a.tree.create(kRootEntry, name, EntryKind::File, link).ok());
  a.file("other", "x");
  for (TreePeer* p : others) sync(a, *p);
}

/// A and B forget what they agree is removed; then C, who was away, and A compare, C or A first.
void forgetAndMeet(TreePeer& a, TreePeer& b, TreePeer& c, bool awayAsks) {
  for (int i = 0; i < 2; ++i) sync(a, b);
  forget(a, {b.key});
  forget(b, {a.key});
  TreePeer& asks = awayAsks ? c : a;
  TreePeer& asksThen = awayAsks ? a : c;
  compare(asks, asksThen);
  if (mustCompare(asksThen, asks)) compare(asksThen, asks);
  sync(a, c);
}

struct Away {
  TreePeer a{'a'}, b{'b'}, c{'c'};

  /// C was there, and went away; A and B removed half of it since, which both have forgotten.
  explicit Away(int files = 400) {
    a.folder("d");
    for (int i = 0; i < files; ++i) a.file("d/" + std::to_string(i), "text " + std::to_string(i));
    a.folder("old");
    a.file("old/x", "x");
    for (TreePeer* p : {&b, &c}) sync(a, *p);
    for (int i = 0; i < files; i += 2) REQUIRE(a.remove("d/" + std::to_string(i)));
    REQUIRE(a.remove("old"));
    for (int i = 0; i < 2; ++i) sync(a, b);
    forget(a, {b.key});
    forget(b, {a.key});
  }
};

}  // namespace

TEST_CASE("what all have seen removed is forgotten, and nothing shown changes") {
  TreePeer a('a'), b('b');
  a.folder("d");
  a.file("d/f", "1");
  a.file("kept", "2");
  sync(a, b);
  REQUIRE(a.remove("d"));
  forget(a, {b.key});
  CHECK(a.store.records().size() == 3);  // B has not said that it saw it.

  for (int i = 0; i < 2; ++i) sync(a, b);
  const TreeDigest before = a.tree.digest();
  forget(a, {b.key});

  CHECK(a.store.records().size() == 1);
  CHECK(a.tree.digest() == before);
  CHECK(a.tree.trimmed().geq(b.tree.trimmed()));
  CHECK_FALSE(a.tree.trimmed().empty());
  b.file("d", "a file now");
  CHECK_FALSE(mustCompare(a, b));
  sync(a, b);
  checkEqual(a, b);
}

TEST_CASE("what may not be forgotten yet stays") {
  TreePeer a('a');
  a.file("f", "1");
  REQUIRE(a.remove("f"));
  a.tree.drainEffects();
  while (a.tree.trim({}, [](const Record&) { return false; }, 100) > 0) continue;
  CHECK(a.store.records().size() == 1);
}

TEST_CASE("who was away while removals were forgotten learns of them, and sends back nothing that was removed") {
  Away w;
  REQUIRE(mustCompare(w.c, w.a));
  CHECK(w.a.tree.changesFor(w.c.tree.requestFor(w.a.key)).code() == Code::Refused);

  compare(w.c, w.a);
  CHECK_FALSE(mustCompare(w.c, w.a));
  CHECK_FALSE(w.c.has("d/0"));
  CHECK_FALSE(w.c.has("old"));
  CHECK(w.c.has("d/1"));
  for (TreePeer* p : {&w.a, &w.b}) sync(w.c, *p);
  checkEqual(w.a, w.c);
  checkEqual(w.b, w.c);
}

TEST_CASE("what somebody did while away survives: new files, edits, and what was put into a removed folder") {
  Away w;
  w.c.file("new", "made away");
  REQUIRE(w.c.write("d/0", "edited, and removed by the others"));
  REQUIRE(w.c.write("d/1", "edited"));
  w.c.file("old/y", "put into it");

  compare(w.c, w.a);
  compare(w.a, w.c);
  for (int i = 0; i < 3; ++i) {
    for (auto [p, q] : {std::pair(&w.a, &w.b), std::pair(&w.b, &w.c), std::pair(&w.a, &w.c)}) {
      if (mustCompare(*p, *q)) compare(*p, *q);
      if (mustCompare(*q, *p)) compare(*q, *p);
      sync(*p, *q);
    }
  }
  for (TreePeer* p : {&w.a, &w.b, &w.c}) {
    CHECK(p->holds("new", "made away"));
    CHECK(p->holds("d/0", "edited, and removed by the others"));
    CHECK(p->holds("d/1", "edited"));
    CHECK(p->has("old/y"));
    CHECK_FALSE(p->has("old/x"));
    CHECK_FALSE(p->has("d/2"));
  }
  checkEqual(w.a, w.b);
  checkEqual(w.a, w.c);
}

TEST_CASE("of two versions the one that was removed and forgotten elsewhere does not come back with the other") {
  for (bool awayAsks : {true, false}) {
    CAPTURE(awayAsks);
    TreePeer a('a'), b('b'), c('c');
    a.file("f", "1");
    for (TreePeer* p : {&b, &c}) sync(a, *p);
    const logic::Base first = logic::Base::only({c.tree.shownHeads(c.at("f")).front().dot});
    REQUIRE(a.write("f", "2"));
    REQUIRE(c.pull(a));
    REQUIRE(c.tree.write(c.at("f"), textVersion("3, by who saw 1 only"), first).ok());
    REQUIRE(c.heads("f") == 2);
    REQUIRE(a.remove("f"));
    forgetAndMeet(a, b, c, awayAsks);

    for (TreePeer* p : {&a, &c}) {
      CHECK(p->heads("f") == 1);
      CHECK(p->holds("f", "3, by who saw 1 only"));
    }
    checkEqual(a, c);
  }
}

TEST_CASE("what was forgotten as removed elsewhere is as the others have it where an edit brings it back") {
  TreePeer a('a'), b('b'), d('d'), e('e');
  a.file("f", "one");
  for (TreePeer* p : {&b, &d, &e}) sync(a, *p);
  REQUIRE(a.write("f", "two"));
  for (TreePeer* p : {&b, &d}) sync(a, *p);
  REQUIRE(e.write("f", "three"));
  REQUIRE(d.remove("f"));
  sync(a, d);
  forget(d, {a.key});
  REQUIRE(mustCompare(b, d));
  compare(b, d);
  CHECK_FALSE(b.has("f"));

  sync(a, e);
  REQUIRE(b.pull(a));
  REQUIRE(d.pull(a));

  for (TreePeer* p : {&a, &b, &d, &e}) {
    CHECK(p->heads("f") == 1);
    CHECK(p->holds("f", "three"));
    checkEqual(a, *p);
  }
}

TEST_CASE("... also where that comes with the whole tree of who had not heard of the removal either") {
  TreePeer a('a'), b('b'), c('c'), d('d');
  a.file("f", "one");
  for (TreePeer* p : {&b, &d}) sync(a, *p);
  REQUIRE(c.pull(a));
  REQUIRE(c.tree.write(c.at("f"), textVersion("two, by who saw nothing of it"), logic::Base::only({})).ok());
  REQUIRE(c.heads("f") == 2);
  REQUIRE(b.remove("f"));
  for (int i = 0; i < 2; ++i) sync(b, d);
  forget(b, {d.key});
  REQUIRE(mustCompare(a, b));
  compare(a, b);
  REQUIRE_FALSE(a.has("f"));

  REQUIRE(mustCompare(a, c));
  compare(a, c);
  if (mustCompare(c, a)) compare(c, a);
  sync(a, c);

  for (TreePeer* p : {&a, &c}) {
    CHECK(p->heads("f") == 1);
    CHECK(p->holds("f", "two, by who saw nothing of it"));
  }
  checkEqual(a, c);
}

// realize-sim, seed 110013695.
TEST_CASE("... but not where it is shown for what stands in it: nobody has forgotten that") {
  TreePeer a('a'), b('b'), c('c');
  a.folder("old");
  a.file("old/f", "1");
  a.file("other", "x");
  for (TreePeer* p : {&b, &c}) sync(a, *p);
  REQUIRE(a.move("old", "new"));
  sync(a, b);
  REQUIRE(b.write("new/f", "2"));
  REQUIRE(a.remove("new"));
  REQUIRE(a.remove("other"));
  for (int i = 0; i < 2; ++i) sync(a, b);
  forget(b, {a.key});
  REQUIRE(c.remove("old"));  // While away.
  REQUIRE(mustCompare(b, c));

  meet({&c, &a, &b});

  for (TreePeer* p : {&a, &b, &c}) {
    CHECK(p->all() == "new new/f");
    checkEqual(a, *p);
  }
}

TEST_CASE("... nor where another name has its versions") {
  bool edited = true;  // By who was away, or removed.
  SUBCASE("edited") {}
  SUBCASE("removed") { edited = false; }
  TreePeer a('a'), b('b'), c('c');
  haveTwoNames(a, {&b, &c}, "link");
  REQUIRE(a.write("link", "2"));
  REQUIRE(a.remove("f"));
  REQUIRE(a.remove("other"));
  for (int i = 0; i < 2; ++i) sync(a, b);
  forget(b, {a.key});
  REQUIRE((edited ? c.write("f", "3") : c.remove("f")));
  REQUIRE(mustCompare(b, c));

  meet({&c, &b, &a});

  for (TreePeer* p : {&a, &b, &c}) {
    CHECK(p->holds("link", "2"));
    CHECK(p->holds("link", "3") == edited);
    CHECK(p->heads("link") == (edited ? 2 : 1));
    checkEqual(a, *p);
  }
}

TEST_CASE("... also where that name goes with the same comparison, before or after it") {
  for (const std::string name : {"g", "h"}) {  // By their ids.
    CAPTURE(name);
    TreePeer a('a'), b('b'), c('c');
    haveTwoNames(a, {&b, &c}, name);
    REQUIRE(a.write("f", "2"));
    REQUIRE(a.remove("f"));
    REQUIRE(a.remove("other"));
    for (int i = 0; i < 2; ++i) sync(a, b);
    forget(b, {a.key});
    REQUIRE(c.write("f", "3"));
    REQUIRE(c.remove(name));
    REQUIRE(mustCompare(b, c));

    meet({&c, &b, &a});

    for (TreePeer* p : {&a, &b, &c}) {
      CHECK(p->all() == "f");
      CHECK(p->holds("f", "2"));
      CHECK(p->holds("f", "3"));
      checkEqual(a, *p);
    }
  }
}

TEST_CASE("a folder that was moved, removed and forgotten elsewhere is in one place for all where something came to stand in it") {
  bool removed = false;  // By another who was away, too.
  SUBCASE("and nobody else changed it") {}
  SUBCASE("and another removed it, too") { removed = true; }
  for (bool awayAsks : {true, false}) {
    CAPTURE(awayAsks);
    TreePeer a('a'), b('b'), c('c'), d('d');
    a.folder("old");
    a.folder("top");
    for (TreePeer* p : {&b, &c, &d}) sync(a, *p);
    REQUIRE(a.move("old", "new"));
    REQUIRE(a.remove("new"));
    for (int i = 0; i < 2; ++i) sync(a, b);
    forget(a, {b.key});  // B has it still, as removed in its last place.
    REQUIRE(c.move("top", "old/top"));  // While away.
    if (removed) {
      REQUIRE(d.remove("old"));
      REQUIRE(c.pull(d));
    }
    REQUIRE(mustCompare(c, a));

    if (awayAsks) compare(c, a);
    else compare(a, c);
    meet({&c, &a, &b});

    for (TreePeer* p : {&a, &b, &c}) {
      CHECK(p->all() == "old old/top");
      checkEqual(a, *p);
    }
  }
}

TEST_CASE("who removed an older version while away claims nothing for the sake of one that was removed and forgotten elsewhere") {
  for (bool awayAsks : {true, false}) {
    CAPTURE(awayAsks);
    TreePeer a('a'), b('b'), c('c');
    a.file("f", "1");
    for (TreePeer* p : {&b, &c}) sync(a, *p);
    const logic::Base first = logic::Base::only({c.tree.shownHeads(c.at("f")).front().dot});
    REQUIRE(a.write("f", "2"));
    REQUIRE(c.pull(a));
    REQUIRE(c.tree.remove(c.at("f"), first).ok());
    REQUIRE(c.holds("f", "2"));
    REQUIRE(a.remove("f"));
    forgetAndMeet(a, b, c, awayAsks);

    for (TreePeer* p : {&a, &c}) CHECK_FALSE(p->has("f"));
    checkEqual(a, c);
  }
}

TEST_CASE("... nor for the sake of one that was removed, too, by who did not know of that") {
  for (bool awayAsks : {true, false}) {
    CAPTURE(awayAsks);
    TreePeer a('a'), b('b'), c('c'), d('d'), e('e');
    a.file("f", "1");
    a.file("other", "x");
    for (TreePeer* p : {&b, &c, &d, &e}) sync(a, *p);
    REQUIRE(a.write("f", "2"));
    for (TreePeer* p : {&b, &c, &d}) sync(a, *p);
    REQUIRE(e.write("f", "3"));
    const Base own = Base::only({e.tree.shownHeads(e.at("f")).front().dot});
    REQUIRE(e.pull(d));
    REQUIRE(e.tree.remove(e.at("f"), own).ok());  // For the sake of "2".
    REQUIRE(d.remove("f"));
    REQUIRE(c.move("f", "g"));
    sync(a, c);
    REQUIRE(a.remove("g"));
    REQUIRE(a.remove("other"));
    for (TreePeer* p : {&d, &e}) REQUIRE(c.pull(*p));
    REQUIRE(c.has("g"));
    forgetAndMeet(a, b, c, awayAsks);

    for (TreePeer* p : {&a, &c}) CHECK_FALSE(p->has("g"));
    checkEqual(a, c);
  }
}

// realize-sim, seed 21008267: the others let go the bytes, and who was away may never have had them.
TEST_CASE("a version that was removed and forgotten elsewhere is a last resort where who was away had renamed its file") {
  for (bool awayAsks : {true, false}) {
    CAPTURE(awayAsks);
    TreePeer a('a'), b('b'), c('c');
    a.file("f", "1");
    for (TreePeer* p : {&b, &c}) sync(a, *p);
    REQUIRE(c.move("f", "g"));
    REQUIRE(a.remove("f"));
    forgetAndMeet(a, b, c, awayAsks);

    for (TreePeer* p : {&a, &c}) {
      CHECK(p->all() == "g");
      CHECK(p->holds("g", "1"));
      const Entry entry = p->tree.get(p->at("g"))->entry;
      REQUIRE(entry.tombs.size() == 1);
      CHECK(entry.tombs.front().second.size() == entry.heads.size());
    }
    checkEqual(a, c);
    a.write("g", "2");
    sync(a, c);
    CHECK(c.heads("g") == 1);
    CHECK(c.holds("g", "2"));
    CHECK(c.tree.get(c.at("g"))->entry.tombs.empty());
  }
}

TEST_CASE("... and so is one that was never seen there, if it was removed, too") {
  for (bool awayAsks : {true, false}) {
    CAPTURE(awayAsks);
    TreePeer a('a'), b('b'), c('c'), d('d');
    a.file("f", "1");
    a.file("other", "x");
    for (TreePeer* p : {&b, &c, &d}) sync(a, *p);
    REQUIRE(a.write("f", "2"));
    REQUIRE(a.remove("f"));
    REQUIRE(d.write("f", "3"));
    REQUIRE(d.remove("f"));
    REQUIRE(c.move("f", "g"));
    for (TreePeer* p : {&a, &d}) REQUIRE(c.pull(*p));
    REQUIRE(a.remove("other"));  // So that C has missed something.
    forgetAndMeet(a, b, c, awayAsks);

    for (TreePeer* p : {&a, &c}) {
      CHECK(p->all() == "g");
      CHECK(p->heads("g") == 2);
      CHECK(allLetGo(p->tree.get(p->at("g"))->entry));
    }
    checkEqual(a, c);
    REQUIRE(a.write("g", "4"));
    meet({&a, &c, &d});
    for (TreePeer* p : {&a, &c, &d}) CHECK(p->heads("g") == 1);
  }
}

TEST_CASE("... also if it is the only one, and what was forgotten there had but the same name") {
  for (bool awayAsks : {true, false}) {
    CAPTURE(awayAsks);
    TreePeer a('a'), b('b'), c('c'), d('d');
    a.file("f", "1");
    sync(a, b);
    REQUIRE(a.remove("f"));
    d.file("f", "2");
    sync(c, d);
    REQUIRE(c.move("f", "g"));
    REQUIRE(d.remove("f"));
    REQUIRE(c.pull(d));
    forgetAndMeet(a, b, c, awayAsks);

    for (TreePeer* p : {&a, &c}) {
      CHECK(p->all() == "g");
      CHECK(p->holds("g", "2"));
      CHECK(allLetGo(p->tree.get(p->at("g"))->entry));
    }
    checkEqual(a, c);
  }
}

TEST_CASE("a folder that was removed, forgotten and made anew elsewhere has one mode for all when who was away takes it again") {
  TreePeer a{'a'}, b{'b'}, c{'c'};
  a.folder("d");
  a.file("f", "text");
  for (TreePeer* p : {&b, &c}) p->pull(a);
  REQUIRE(a.move("f", "d/f"));  // While away.
  REQUIRE(c.remove("d"));
  for (int i = 0; i < 3; ++i) sync(b, c);
  forget(b, {c.key});
  forget(c, {b.key});
  b.folder("d");
  REQUIRE(b.remove("d"));
  sync(b, c);
  sync(b, c);
  forget(b, {c.key});

  compare(a, b);
  REQUIRE(a.move("d/f", "f"));
  for (int i = 0; i < 3; ++i) {
    for (auto [p, q] : {std::pair(&b, &a), std::pair(&c, &a), std::pair(&c, &b)}) {
      if (mustCompare(*p, *q)) compare(*p, *q);
      if (mustCompare(*q, *p)) compare(*q, *p);
      sync(*p, *q);
    }
  }

  checkEqual(a, b);
  checkEqual(a, c);
  CHECK(c.heads("d") == 1);
}

TEST_CASE("what is new with who was away is one version, though it is edited while it is taken") {
  Away w(2);
  w.c.file("new", "made away");
  const logic::Base made = logic::Base::only({w.c.tree.shownHeads(w.c.at("new")).front().dot});
  compare(w.a, w.c);
  REQUIRE(w.a.holds("new", "made away"));
  REQUIRE(w.c.tree.write(w.c.at("new"), textVersion("and edited at once"), made).ok());

  if (mustCompare(w.c, w.a)) compare(w.c, w.a);
  if (mustCompare(w.a, w.c)) compare(w.a, w.c);
  for (int i = 0; i < 2; ++i) sync(w.a, w.c);

  for (TreePeer* p : {&w.a, &w.c}) {
    CHECK(p->heads("new") == 1);
    CHECK(p->holds("new", "and edited at once"));
  }
  checkEqual(w.a, w.c);
}

TEST_CASE("of two large trees only what differs is sent") {
  Away w(4000);
  CHECK(compare(w.c, w.a) < 2500);  // Half of it differs, nearly everywhere.

  TreePeer d('d');
  REQUIRE(d.pull(w.a));
  checkEqual(w.a, d);
  WholeState again;
  while (!again.complete()) REQUIRE(ask(d, w.a, again).ok());
  CHECK(again.changeCount() == 0);
}

TEST_CASE("who has nothing yet takes ordinary pages, whatever was forgotten") {
  Away w;
  TreePeer d('d');
  CHECK_FALSE(mustCompare(d, w.a));
  CHECK(d.pull(w.a, 50));
  checkEqual(w.a, d);
  CHECK(d.tree.trimmed() == w.a.tree.trimmed());
}

TEST_CASE("... unless the sender forgets more meanwhile") {
  Away w;
  TreePeer d('d');
  CHECK_FALSE(d.pull(w.a, 50, 2));
  REQUIRE(w.a.remove("d/1"));
  for (int i = 0; i < 2; ++i) sync(w.a, w.b);
  forget(w.a, {w.b.key});

  CHECK(w.a.tree.changesFor(d.tree.requestFor(w.a.key)).code() == Code::Refused);
  d.tree.forgetBatch(w.a.key);
  REQUIRE(mustCompare(d, w.a));
  compare(d, w.a);
  CHECK_FALSE(d.has("d/1"));
  checkEqual(w.a, d);
}

TEST_CASE("a comparison that breaks off changes nothing, and one during which a side forgets begins anew") {
  Away w;
  const std::string before = w.c.all();
  WholeState state;
  REQUIRE(ask(w.c, w.a, state).ok());
  CHECK(w.c.all() == before);

  REQUIRE(w.a.remove("d/1"));
  for (int i = 0; i < 2; ++i) sync(w.a, w.b);
  forget(w.a, {w.b.key});
  CHECK(ask(w.c, w.a, state).code() == Code::Busy);
  CHECK_FALSE(state.began());
  while (!state.complete()) REQUIRE(ask(w.c, w.a, state).ok());
  REQUIRE(w.c.tree.applyWhole(w.a.key, state).ok());
  CHECK_FALSE(w.c.has("d/1"));
  checkEqual(w.a, w.c);
}

TEST_CASE("answers that cannot be are refused") {
  Away w;
  WholeState state;
  WholePage page = w.a.tree.wholeFor(w.c.tree.wholeRequest(state));
  SUBCASE("more than was asked for") { page.outcomes.resize(1000, RangeOutcome::Equal); }
  SUBCASE("nothing") { page.outcomes.clear(); }
  SUBCASE("an entry of another range") {
    REQUIRE_FALSE(page.page.changes.empty());
    page.page.changes[0].entry.id = EntryId{};
    page.page.changes[0].entry.id.bytes[15] = 1;
    page.outcomes.assign(page.outcomes.size(), RangeOutcome::Equal);
  }
  CHECK(w.c.tree.noteWhole(state, page).code() == Code::Corrupt);
}
