#include <algorithm>

#include "librealize/peer/conflict_policy.h"
#include "librealize/peer/conflicts.h"
#include "tests/peer/sim_arenas.h"
#include "tests/peer/sim_household.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

std::map<std::string, std::string> files(test::SimPeer& peer) {
  std::map<std::string, std::string> out;
  auto root = peer.disk.openRoot(test::kSimFolder);
  auto items = (*root)->list("");
  for (const auto& item : *items)
    if (item.name != ".realize") out[item.name] = SimArenas::read(peer, item.name);
  return out;
}

size_t conflicts(test::SimPeer& peer) { return peer.core->status().conflicts; }

/// "plan.txt" is "by a" on one side, and "by b, twice" on the other, which was written later.
void disagree(SimArenas& peers, ConflictRule a, ConflictRule b) {
  peers.a->options.settings.conflicts = a;
  peers.b->options.settings.conflicts = b;
  peers.start();
  SimArenas::write(*peers.a, "plan.txt", "draft");
  REQUIRE(peers.settles());
  peers.link->cut();
  SimArenas::write(*peers.a, "plan.txt", "by a");
  SimArenas::write(*peers.b, "plan.txt", "by b");
  peers.pass(2000);
  SimArenas::write(*peers.b, "plan.txt", "by b, twice");
  peers.pass(2000);
  peers.link->connect();
}

}  // namespace

TEST_CASE("with the policy newest all have the newest version, and the other can be brought back") {
  SimArenas peers;
  disagree(peers, ConflictRule::Newest, ConflictRule::Newest);
  REQUIRE(peers.settles());

  CHECK(conflicts(*peers.a) == 0);
  CHECK(files(*peers.a) == std::map<std::string, std::string>{{"plan.txt", "by b, twice"}});
  CHECK(files(*peers.b) == files(*peers.a));
  // A's own version has been taken away, which its history and its cache know.
  auto& core = peers.a->core->core();
  const auto rows = core.store.history().undoable("plan.txt", 0, 0, 10);
  REQUIRE(!rows.empty());
  CHECK(rows.front().old->sizeBytes == 4);
  CHECK(core.transfers->cachedForGood(rows.front().old->blob));
}

TEST_CASE("with the policy copies the other version is beside the newest under one name everywhere") {
  SimArenas peers;
  disagree(peers, ConflictRule::Copies, ConflictRule::Copies);
  REQUIRE(peers.settles());

  CHECK(conflicts(*peers.a) == 0);
  const auto there = files(*peers.a);
  CHECK(there == files(*peers.b));
  REQUIRE(there.size() == 2);
  CHECK(there.at("plan.txt") == "by b, twice");
  const auto copy = *std::find_if(there.begin(), there.end(), [](const auto& file) { return file.first != "plan.txt"; });
  CHECK(copy.second == "by a");
  CHECK(copy.first.starts_with("plan~"));
  CHECK(copy.first.ends_with(".txt"));
}

TEST_CASE("one member with the policy is enough: after a while it acts for the newest version's author") {
  SimArenas peers;
  disagree(peers, ConflictRule::Copies, ConflictRule::Keep);
  REQUIRE(peers.settles());
  CHECK(conflicts(*peers.a) == 1);
  CHECK(peers.a->core->core().conflictPolicy->busy());
  CHECK(files(*peers.a).at("plan.txt") == "by a");

  CHECK(peers.until([&] { return conflicts(*peers.a) == 0 && conflicts(*peers.b) == 0; }, 120'000));
  REQUIRE(peers.settles());

  CHECK(files(*peers.a).size() == 2);
  CHECK(files(*peers.a) == files(*peers.b));
}

TEST_CASE("two peers that settle a conflict apart make the same copy, also where one of them has renamed the file") {
  SimArenas peers;
  disagree(peers, ConflictRule::Keep, ConflictRule::Keep);
  REQUIRE(peers.settles());
  CHECK(conflicts(*peers.a) == 1);
  peers.link->cut();
  auto root = peers.b->disk.openRoot(test::kSimFolder);
  REQUIRE((*root)->rename("plan.txt", "renamed.txt", RenameKind::NoReplace).ok());
  peers.pass(2000);
  for (auto* peer : {peers.a.get(), peers.b.get()}) {
    ArenaSettings settings = peer->core->core().settings;
    settings.conflicts = ConflictRule::Copies;
    peer->core->setSettings(settings);
  }
  CHECK(peers.until([&] { return files(*peers.a).size() == 2 && files(*peers.b).size() == 2; }, 120'000));

  peers.link->connect();
  REQUIRE(peers.settles());

  CHECK(files(*peers.a).size() == 2);
  CHECK(files(*peers.a).at("renamed.txt") == "by b, twice");
  CHECK(files(*peers.a) == files(*peers.b));
  CHECK(conflicts(*peers.a) == 0);
}

TEST_CASE("peers with different policies end with the same, in whichever order they act") {
  for (const bool apart : {false, true}) {
    CAPTURE(apart);
    SimArenas peers;
    disagree(peers, ConflictRule::Keep, ConflictRule::Keep);
    REQUIRE(peers.settles());
    if (apart) peers.link->cut();
    const std::pair<test::SimPeer*, ConflictRule> rules[] = {{peers.a.get(), ConflictRule::Newest}, {peers.b.get(), ConflictRule::Copies}};
    for (const auto& [peer, rule] : rules) {
      ArenaSettings settings = peer->core->core().settings;
      settings.conflicts = rule;
      peer->core->setSettings(settings);
    }
    CHECK(peers.until([&] { return conflicts(*peers.a) == 0 && conflicts(*peers.b) == 0; }, 120'000));

    if (apart) peers.link->connect();
    REQUIRE(peers.settles());

    CHECK(files(*peers.a) == files(*peers.b));
    CHECK(files(*peers.a).at("plan.txt") == "by b, twice");
    if (apart) CHECK(files(*peers.a).size() == 2);  // B made its copy, and everybody has it.
    CHECK(conflicts(*peers.a) + conflicts(*peers.b) == 0);
  }
}

TEST_CASE("a conflict whose bytes nobody connected had for long is settled as soon as they come through another") {
  test::SimHousehold household({Mark::Unreal, Mark::Real});  // B, in the middle, keeps nothing.
  household.peers[2]->options.settings.conflicts = ConflictRule::Newest;
  auto &ab = *household.links[0], &bc = *household.links[2];
  household.start();
  ab.connect();
  bc.connect();
  household.write(0, "plan.txt", "draft");
  REQUIRE(household.settle());
  bc.cut();
  household.write(0, "plan.txt", "by a");
  household.write(2, "plan.txt", "by c");
  household.runFor(2000);
  household.write(2, "plan.txt", "by c, twice");
  household.runFor(2000);
  ab.cut();
  bc.connect();
  household.runFor(100'000);
  CHECK(conflicts(*household.peers[2]) == 1);

  ab.connect();
  household.runFor(10'000);

  CHECK(conflicts(*household.peers[2]) == 0);
  CHECK(household.read(0, "plan.txt") == "by c, twice");
}

TEST_CASE("what waited to be settled is no more waited for once somebody chose the version that is here") {
  SimArenas peers;
  disagree(peers, ConflictRule::Newest, ConflictRule::Keep);
  REQUIRE(peers.settles());
  CHECK(peers.a->core->core().conflictPolicy->busy());

  auto& core = peers.b->core->core();
  eachConflict(core, [&](const logic::Record& record, const std::vector<logic::ShownHead>& heads) {
    REQUIRE(heads.back().version.sizeBytes == 4);
    REQUIRE(chooseVersion(core, record, heads.back().dot, "plan.txt").ok());
  });
  REQUIRE(peers.settles());

  CHECK(conflicts(*peers.a) == 0);
  CHECK(files(*peers.b).at("plan.txt") == "by a");
  CHECK(!peers.a->core->core().conflictPolicy->busy());
}

TEST_CASE("a conflict in a file that is being worked on is settled soon after its bytes can be had") {
  test::SimHousehold household({Mark::Unreal, Mark::Unreal});  // B, in the middle, keeps nothing, and C wants nothing itself.
  household.peers[2]->options.settings.conflicts = ConflictRule::Newest;
  auto &ab = *household.links[0], &bc = *household.links[2];
  household.start();
  ab.connect();
  bc.connect();
  household.write(0, "plan.txt", "draft");
  REQUIRE(household.settle());
  bc.cut();
  household.write(0, "plan.txt", "by a");
  household.write(2, "plan.txt", "by c");
  household.runFor(2000);
  ab.cut();
  bc.connect();
  for (int i = 0; i < 10; ++i) {
    household.write(2, "plan.txt", "by c, " + std::to_string(i));
    household.runFor(1000);
  }
  CHECK(conflicts(*household.peers[2]) == 1);

  ab.connect();
  household.runFor(10'000);

  CHECK(conflicts(*household.peers[2]) == 0);
  CHECK(household.read(0, "plan.txt") == "by c, 9");
}

TEST_CASE("a conflict is settled where the cache has no room for its versions, and they are brought there once") {
  SimArenas peers;
  peers.a->options.settings.cacheLimitBytes = 1;
  int copies = 0;
  peers.a->onCall = [&](const test::FakeCall& call) { copies += call.op == test::FakeOp::Create && call.path.find("/.realize/tmp/k") != std::string::npos; };
  disagree(peers, ConflictRule::Newest, ConflictRule::Keep);
  peers.pass(120'000);  // A waits for the newest version's author first.

  CHECK(copies == 1);
  CHECK(conflicts(*peers.a) == 0);
  CHECK(files(*peers.a).at("plan.txt") == "by b, twice");
  CHECK(peers.a->core->core().transfers->cachedBytesTotal() == 0);
}

TEST_CASE("what the policy newest took away stays while the disk is full, and while a clock is wrong") {
  SimArenas peers;
  disagree(peers, ConflictRule::Newest, ConflictRule::Newest);
  for (char name : {'x', 'y', 'z'}) SimArenas::write(*peers.a, std::string(1, name), std::string(60'000, name));
  REQUIRE(peers.settles());
  const auto rows = peers.a->core->core().store.history().undoable("plan.txt", 0, 0, 10);
  REQUIRE(!rows.empty());
  const BlobId lost = rows.front().old->blob;
  auto& transfers = *peers.b->core->core().transfers;  // The newest version's author has settled it.
  REQUIRE(transfers.cachedForGood(lost));

  SUBCASE("what a peer removes is kept, too, as far as there is space") {
    peers.b->disk.setFreeBytes(1'000'000);
    for (const char* name : {"x", "y", "z"}) {
      REQUIRE((*peers.a->disk.openRoot(test::kSimFolder))->unlink(name).ok());
      REQUIRE(peers.settles());
    }
    CHECK(transfers.cacheStatus().unlinkedBytes == 60'000);
  }
  SUBCASE("Real files need the space") { transfers.dropUnlinked(); }
  SUBCASE("a year passes for a clock") {
    peers.b->clock.advance(366LL * 24 * 3600 * 1'000'000'000);
    peers.pass(2 * 3'600'000);
  }

  CHECK(transfers.cachedForGood(lost));
}

TEST_CASE("what the policy newest took away goes after its days") {
  SimArenas peers;
  for (auto* peer : {peers.a.get(), peers.b.get()}) peer->options.settings.unlinkedDays = 1;
  disagree(peers, ConflictRule::Newest, ConflictRule::Newest);
  REQUIRE(peers.settles());
  auto& transfers = *peers.b->core->core().transfers;
  REQUIRE(transfers.cachedBytesTotal() > 0);
  peers.link->cut();

  peers.pass(23 * 3'600'000);
  CHECK(transfers.cachedBytesTotal() > 0);
  peers.pass(3 * 3'600'000);

  CHECK(transfers.cachedBytesTotal() == 0);
}
