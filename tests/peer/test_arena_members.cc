// Who is removed from the household, or admitted no more, is not waited for.

#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {
struct Members : SimArenas {
  void admit(std::set<PeerKey> members) {
    a->setMembers(members);
    b->setMembers(members);
  }
  bool consensusOfA() {
    const auto status = a->core->status();
    INFO(status.consensusWhy);
    return status.consensus;
  }
};
}  // namespace

TEST_CASE_FIXTURE(Members, "who is removed while he is behind holds up nobody's consensus") {
  write(*a, "plan.txt", "one");
  admit({a->key, b->key});
  start();
  REQUIRE(settles());
  link->cut();
  write(*a, "plan.txt", "two");
  REQUIRE(until([&] { return !consensusOfA(); }));
  pass(3000);
  REQUIRE(a->core->status().consensusWhy.find("a member is behind") == 0);

  admit({a->key});
  CHECK(consensusOfA());
  CHECK(a->core->status().members.empty());

  admit({a->key, b->key});  // Not before he has seen it.
  CHECK_FALSE(consensusOfA());
  link->connect();
  REQUIRE(settles());
  CHECK(consensusOfA());
  CHECK(read(*b, "plan.txt") == "two");
}

TEST_CASE_FIXTURE(Members, "who waits for the tree of a member that is removed goes on alone") {
  write(*b, "plan.txt", "of B");
  admit({a->key, b->key});
  start();
  link->cut();
  pass(3000);
  REQUIRE(b->core->core().folder->waitingForTree());

  admit({b->key});

  CHECK(until([&] { return b->core->status().consensus; }));
  CHECK(b->core->core().recordAt("plan.txt").ok());
}

TEST_CASE_FIXTURE(Members, "who is removed while the database fails is waited for by nobody after that") {
  admit({a->key, b->key});
  start();
  REQUIRE(settles());
  link->cut();
  a->disk.setFreeBytes(0);
  write(*a, "plan.txt", "");
  REQUIRE(until([&] { return a->core->core().suspended; }));

  admit({a->key});
  a->disk.setFreeBytes(uint64_t(1) << 30);

  CHECK(until([&] { return consensusOfA(); }));
  CHECK(a->core->status().members.empty());
}

TEST_CASE_FIXTURE(Members, "who is removed before he had anything to tell holds up nobody's consensus") {
  admit({a->key, b->key});
  start();
  REQUIRE(settles());
  admit({a->key});
  link->cut();

  write(*a, "plan.txt", "one");
  pass(3000);
  CHECK(consensusOfA());
  REQUIRE(a->start().ok());
  pass(3000);
  CHECK(consensusOfA());
}
