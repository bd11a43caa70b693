// Three machines in a row: A and C know of each other, and meet through B only.

#include "librealize/peer/lacking.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {
struct Row : SimArenas {
  Row() {
    test::SimPeerOptions options;
    options.name = "C";
    options.number = 3;
    options.seed = 3;
    options.joining = true;
    c = std::make_unique<test::SimPeer>(queue, options);
    far = std::make_unique<test::SimLink>(*b, *c);
    write(*a, "plan.txt", "one");
    start();
    REQUIRE(c->start().ok());
    far->connect();
    for (auto* peer : {a.get(), b.get(), c.get()}) peer->setMembers({a->key, b->key, c->key});
    REQUIRE(settles());
    REQUIRE(until([&] { return agree(); }));
  }
  ~Row() {
    far = nullptr;
    c->vanish();
  }
  bool agree() { return core(*a).exchange->agreesWith(b->key) && core(*c).exchange->agreesWith(b->key); }
  bool allLack(test::SimPeer& peer, const BlobId& blob) {
    std::optional<bool> all;
    core(peer).lacking->ask({blob}, [&](bool answer) { all = answer; });
    REQUIRE(until([&] { return all.has_value(); }));
    return *all;
  }
  const BlobId nobodys{{7}};
  std::unique_ptr<test::SimPeer> c;
  std::unique_ptr<test::SimLink> far;
};
}  // namespace

TEST_CASE_FIXTURE(Row, "that nobody has a content is heard of members who are met through others") {
  CHECK_FALSE(core(*a).exchange->agreesWithAll());
  CHECK(allLack(*a, nobodys));
  CHECK(allLack(*b, nobodys));
  CHECK(allLack(*c, nobodys));
}

TEST_CASE_FIXTURE(Row, "who has it, near or far, or is not reached, does not say that he lacks it") {
  const BlobId content = versionAt(*a, "plan.txt").blob;
  SUBCASE("near") { CHECK_FALSE(allLack(*b, content)); }
  SUBCASE("far") {
    REQUIRE_FALSE(core(*c).transfers->complete(content));
    CHECK_FALSE(allLack(*c, content));
  }
  SUBCASE("here") { CHECK_FALSE(allLack(*a, content)); }
  SUBCASE("not reached") {
    far->cut();
    CHECK_FALSE(allLack(*a, nobodys));
    far->connect();
    REQUIRE(until([&] { return agree(); }));
    CHECK_FALSE(allLack(*a, nobodys));  // Not asked at once again.
    pass(11'000);
    CHECK(allLack(*a, nobodys));
  }
  SUBCASE("its tree is another") {
    core(*c).transact([&] { REQUIRE(core(*c).tree.create(kRootEntry, "new", EntryKind::Directory, Version()).ok()); });
    CHECK_FALSE(allLack(*a, nobodys));
  }
}
