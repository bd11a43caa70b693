// Who did what, as the history says.

#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {
struct Authors : SimArenas {
  Authors() {
    write(*a, "plan.txt", "one");
    write(*a, "old.txt", "old");
    REQUIRE((*a->disk.openRoot(test::kSimFolder))->makeDirectory("x", 0755).ok());
    write(*a, "x/deep.txt", "deep");
    start();
    REQUIRE(settles());
  }
  std::string nameOf(const std::string& hex) {
    return hex == a->key.hex() ? "A" : hex == b->key.hex() ? "B" : hex.empty() ? "nobody" : "somebody";
  }
  /// What happened to a path last, and by whom.
  std::string last(test::SimPeer& peer, const std::string& path) {
    auto items = peer.core->history(path, 1);
    return items.ok() && !items->empty() ? items->front().what + " by " + nameOf(items->front().peer) : "nothing";
  }
};
}  // namespace

TEST_CASE_FIXTURE(Authors, "of two edits that did not know of each other, each is by who made it") {
  link->cut();
  write(*a, "plan.txt", "two, by A");
  pass(1000);
  write(*b, "plan.txt", "two, by B");
  pass(1000);
  CHECK(last(*a, "plan.txt") == "edit by A");
  CHECK(last(*b, "plan.txt") == "edit by B");

  link->connect();
  pass(10'000);

  CHECK(last(*a, "plan.txt") == "conflict by B");
  CHECK(last(*b, "plan.txt") == "conflict by A");
  auto why = a->core->why("plan.txt");
  REQUIRE(why.ok());
  REQUIRE(why->changes.size() == 3);
  CHECK(nameOf(why->changes[0].peer) == "B");
  CHECK(nameOf(why->changes[1].peer) == "A");
}

TEST_CASE_FIXTURE(Authors, "a removal and a rename are by who did them, not by who wrote the file") {
  auto root = *b->disk.openRoot(test::kSimFolder);
  REQUIRE(root->unlink("old.txt").ok());
  REQUIRE(root->rename("plan.txt", "renamed.txt", RenameKind::Replace).ok());
  REQUIRE(root->unlink("x/deep.txt").ok());
  REQUIRE(root->removeDirectory("x").ok());

  REQUIRE(settles());

  for (auto* peer : {a.get(), b.get()}) {
    CHECK(last(*peer, "old.txt") == "remove by B");
    CHECK(last(*peer, "renamed.txt") == "move by B");
    CHECK(last(*peer, "x/deep.txt") == "remove by B");
    CHECK(last(*peer, "x") == "remove by B");
  }
}

TEST_CASE_FIXTURE(Authors, "a mode is changed by who changed it, and a choice made by who chose") {
  REQUIRE((*b->disk.openRoot(test::kSimFolder))->setMode("plan.txt", 0600).ok());
  REQUIRE((*b->disk.openRoot(test::kSimFolder))->setMode("x", 0700).ok());
  REQUIRE(settles());
  CHECK(last(*a, "plan.txt") == "attributes by B");
  CHECK(last(*a, "x") == "attributes by B");

  link->cut();
  write(*a, "plan.txt", "two, by A");
  write(*b, "plan.txt", "two, by B");
  pass(1000);
  link->connect();
  pass(10'000);
  REQUIRE(b->core->resolve("plan.txt", "").ok());
  REQUIRE(settles());

  CHECK(last(*a, "plan.txt") == "edit by B");
  CHECK(last(*b, "plan.txt") == "edit by B");
}

TEST_CASE_FIXTURE(Authors, "an edit that brings back what a peer removed is by who edited") {
  link->cut();
  REQUIRE((*a->disk.openRoot(test::kSimFolder))->unlink("plan.txt").ok());
  write(*b, "plan.txt", "two, by B");
  pass(1000);
  link->connect();
  REQUIRE(settles());

  CHECK(last(*a, "plan.txt") == "create by B");
  CHECK(has(*a, "plan.txt"));
}
