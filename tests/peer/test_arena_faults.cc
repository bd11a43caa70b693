// What a full or failing disk does to an arena's database, and how the arena goes on when it is over.

#include <algorithm>

#include "librealize/peer/arena_file_system.h"
#include "librealize/store/database.h"
#include "tests/peer/sim_arenas.h"
#include "tests/support/fake_random.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;
using realize::test::FakeOp;

TEST_CASE("what is wanted and in the cache finds its place after a start, also where nobody is connected") {
  SimArenas arenas(Mark::Unreal);
  auto& b = *arenas.b;
  arenas.write(*arenas.a, "plan.txt", "one");
  arenas.start();
  REQUIRE(arenas.settles());
  auto& core = SimArenas::core(b);
  const auto version = SimArenas::versionAt(b, "plan.txt");
  core.transfers->fetchWhole(version.blob, version.sizeBytes, nullptr, [](Result<void>) {});
  REQUIRE(arenas.until([&] { return core.transfers->complete(version.blob); }));
  b.disk.fail(test::FakeOp::Rename, "", Code::Io, 0, 1'000'000);
  core.marks->set(Core::rootRecord(), Mark::Real);
  arenas.pass(500);
  arenas.link->cut();
  b.stop();
  b.disk.clearFailures();

  REQUIRE(b.start().ok());
  CHECK(arenas.until([&] { return arenas.read(b, "plan.txt") == "one"; }));
}

TEST_CASE_FIXTURE(SimArenas, "an arena whose database met a full disk says so, and goes on by itself once there is space") {
  write(*a, "plan.txt", "one");
  start();
  REQUIRE(settles());

  b->disk.fail(FakeOp::Write, test::kSimState, Code::NoSpace, 0, 1'000'000);
  write(*b, "here.txt", "written while the disk is full");
  write(*a, "plan.txt", "two, which does not reach a full disk");
  pass(30'000);

  auto status = b->core->status();
  CHECK(status.suspended);
  CHECK(status.suspendedWhy.find("full") != std::string::npos);
  CHECK_FALSE(status.consensus);
  CHECK_FALSE(a->core->status().consensus);

  b->disk.clearFailures();
  REQUIRE(settles());
  status = b->core->status();
  CHECK_FALSE(status.suspended);
  CHECK(status.consensus);
  CHECK(read(*b, "plan.txt") == "two, which does not reach a full disk");
  CHECK(read(*a, "here.txt") == "written while the disk is full");
}

TEST_CASE_FIXTURE(SimArenas, "what was to be committed later, and could not be, keeps nobody from reading what was") {
  write(*a, "plan.txt", "one");
  start();
  REQUIRE(settles());

  b->disk.fail(FakeOp::Write, test::kSimState, Code::NoSpace, 0, 1'000'000);
  bool committed = false;
  CHECK(core(*b).transactLater([&] { core(*b).store.setValue("test: later", "written"); }, [&] { committed = true; }));
  pass(5'000);
  CHECK_FALSE(committed);
  CHECK(b->core->status().suspended);
  CHECK(b->core->status().suspendedWhy.find("full") != std::string::npos);
  CHECK(core(*b).recordAt("plan.txt").ok());
  CHECK_FALSE(core(*b).store.getValue("test: later"));
  CHECK_FALSE(core(*b).transact([] {}));

  b->disk.clearFailures();
  write(*a, "plan.txt", "two");
  REQUIRE(settles());
  CHECK_FALSE(b->core->status().suspended);
  CHECK(read(*b, "plan.txt") == "two");
}

TEST_CASE_FIXTURE(SimArenas, "whichever write of the database fails, nothing is lost") {
  write(*a, "plan.txt", "one");
  start();
  REQUIRE(settles());

  for (int skip = 0; skip < 60; ++skip) {
    CAPTURE(skip);
    const std::string text = "round " + std::to_string(skip);
    auto& full = skip % 2 ? *a : *b;
    full.disk.fail(FakeOp::Write, test::kSimState, skip % 3 ? Code::NoSpace : Code::Io, skip / 2, 1'000'000);
    auto root = *full.disk.openRoot(test::kSimFolder);
    write(*a, "plan.txt", text + " of plan");
    write(*b, "b" + std::to_string(skip), text + " of b");
    if (skip) (void)root->rename("b" + std::to_string(skip - 1), "moved" + std::to_string(skip - 1), RenameKind::NoReplace).ok();
    if (skip > 1) (void)root->unlink("moved" + std::to_string(skip - 2)).ok();
    pass(5'000);
    full.disk.clearFailures();
    REQUIRE(settles(300'000));
    CHECK(read(*b, "plan.txt") == text + " of plan");
    CHECK(read(*a, "b" + std::to_string(skip)) == text + " of b");
    if (skip) CHECK(read(skip % 2 ? *b : *a, "moved" + std::to_string(skip - 1)) == "round " + std::to_string(skip - 1) + " of b");
    if (skip > 1) CHECK_FALSE(has(skip % 2 ? *b : *a, "moved" + std::to_string(skip - 2)));
  }
}

TEST_CASE("a restored database that a full disk keeps from noting it begins another life once there is space") {
  for (int skip = 0; skip < 12; ++skip) {
    CAPTURE(skip);
    SimArenas arenas;
    auto& a = *arenas.a;
    arenas.write(a, "plan.txt", "one");
    arenas.start();
    REQUIRE(arenas.settles());
    arenas.link->cut();
    a.stop();
    const auto backup = a.disk.snapshot();
    REQUIRE(a.start().ok());
    arenas.link->connect();
    const uint64_t before = SimArenas::core(a).tree.origin();
    arenas.write(a, "plan.txt", "two");
    REQUIRE(arenas.settles());
    arenas.link->cut();
    a.vanish();
    a.disk.restore(backup, true);

    a.disk.fail(FakeOp::Write, test::kSimState, Code::NoSpace, skip, 1'000'000);
    const bool opened = a.start().ok();
    arenas.pass(5'000);
    a.disk.clearFailures();
    if (!opened) REQUIRE(a.start().ok());
    REQUIRE(arenas.until([&] { return !SimArenas::core(a).suspended; }));

    CHECK(SimArenas::core(a).tree.origin() != before);
    arenas.link->connect();
    REQUIRE(arenas.settles());
    CHECK(arenas.read(a, "plan.txt") == "two");
    CHECK(arenas.read(*arenas.b, "plan.txt") == "two");
  }
}

TEST_CASE_FIXTURE(SimArenas, "a mark that the disk has no room for is not said to be set") {
  write(*a, "plan.txt", "one");
  start();
  REQUIRE(settles());
  auto& files = b->core->guardedFileSystem();

  b->disk.fail(FakeOp::Write, test::kSimState, Code::NoSpace, 0, 1'000'000);
  CHECK_FALSE(core(*b).marks->set(Core::rootRecord(), Mark::Unreal));
  CHECK(core(*b).marks->own(kRootNode) == Mark::Real);
  CHECK(files.setXattr(kRootNode, "user.realize.mark", "unreal", 0).code() == Code::Suspended);

  b->disk.clearFailures();
  REQUIRE(settles());
  CHECK(core(*b).marks->own(kRootNode) == Mark::Real);
  CHECK(files.setXattr(kRootNode, "user.realize.mark", "unreal", 0).ok());
}

TEST_CASE_FIXTURE(SimArenas, "after a failed sync, what was committed is on the disk before anyone is told of it") {
  start();
  REQUIRE(settles());

  a->disk.fail(FakeOp::FileSync, test::kSimState, Code::Io, 0, 1);
  write(*a, "plan.txt", "written as the sync fails");
  REQUIRE(settles());
  REQUIRE(read(*b, "plan.txt") == "written as the sync fails");
  const auto vector = core(*b).tree.vector();
  link->cut();
  a->vanish();
  a->disk.crash(a->random);
  ++a->boots;

  // Had B been told of a change that A's disk has not, A would give its number to another one.
  REQUIRE(a->start().ok());
  CHECK(core(*a).tree.vector().geq(vector));
}

TEST_CASE_FIXTURE(SimArenas, "a database that cannot be read is an error of the mount's calls, and no end of the process") {
  write(*a, "plan.txt", "one");
  start();
  REQUIRE(settles());

  a->disk.fail(FakeOp::Read, test::kSimState, Code::Io, 0, 1'000'000);
  auto& files = a->core->guardedFileSystem();
  for (int i = 0; i < 100; ++i) {
    (void)files.lookup(kRootNode, "name " + std::to_string(i)).ok();
    (void)files.readDirectory(kRootNode).ok();
    files.setAttributes(kRootNode, 0, AttributeChange{.mode = 0700, .sizeBytes = {}, .mtimeNs = {}, .uid = {}, .gid = {}}, [](auto) {});
  }
  write(*b, "other.txt", "from b");
  pass(10'000);
  a->disk.clearFailures();
  REQUIRE(settles());
  CHECK(read(*a, "other.txt") == "from b");
  CHECK(files.lookup(kRootNode, "plan.txt").ok());
}

// realize-sim, seed 17307.
TEST_CASE_FIXTURE(SimArenas, "a database that fails while a peer's answer is taken ends the arena's work, and not the process") {
  write(*a, "plan.txt", "one");
  start();
  REQUIRE(settles());

  const auto remotes = core(*b).exchange->remotes();
  REQUIRE(remotes.size() == 1);
  bool answered = false;
  remotes.front()->askState(false, [&](Result<ArenaState>) {
    answered = true;
    throw store::DatabaseError(Code::NoSpace, "the disk is full");
  });
  CHECK(until([&] { return b->core->status().suspended; }, 5000));
  CHECK(answered);

  write(*a, "plan.txt", "two");
  REQUIRE(settles());
  CHECK_FALSE(b->core->status().suspended);
  CHECK(read(*b, "plan.txt") == "two");
}

// realize-sim, seed 62043652.
TEST_CASE_FIXTURE(SimArenas, "bytes that came damaged while the database failed are asked for again") {
  start();
  REQUIRE(settles());
  bool asked = false, damaged = false;
  link->onChunk = [&](test::HeldChunk& chunk) {
    if (std::exchange(damaged, true)) return;
    chunk.bytes[0] ^= std::byte(1);
  };
  link->onTalk = [&](const std::string&) {
    if (std::exchange(asked, true)) return;
    b->disk.fail(FakeOp::Write, test::kSimState, Code::NoSpace, 0, 1'000'000);
    queue.at(queue.nowNs() + 1, [&] { core(*b).transactLater([&] { core(*b).store.setValue("test", std::string(1 << 20, 'x')); }, [] {}); });
  };

  write(*a, "plan.txt", "one");
  pass(5000);
  CHECK(b->core->status().suspended);
  b->disk.clearFailures();

  REQUIRE(settles());
  CHECK(damaged);
  CHECK(read(*b, "plan.txt") == "one");
}

// realize-sim --conflicts newest, seed 73020874.
TEST_CASE_FIXTURE(SimArenas, "the chunk list that came while the database failed is known with the bytes") {
  start();
  REQUIRE(settles());
  std::string text;
  for (int i = 0; i < 60'000; ++i) text += std::to_string(i * 7919) + " ";
  write(*a, "plan.txt", text);
  REQUIRE(until([&] { return core(*b).store.wanted().totals().count > 0; }));
  b->disk.fail(FakeOp::Write, test::kSimState, Code::NoSpace, 0, 1'000'000);
  pass(3000);
  CHECK(b->core->status().suspended);
  b->disk.clearFailures();

  REQUIRE(settles());
  CHECK(read(*b, "plan.txt") == text);
  CHECK(core(*b).store.blobs().has(core(*b).shownVersion(*core(*b).recordAt("plan.txt"))->second.blob));
}

TEST_CASE_FIXTURE(SimArenas, "what others told while the folder was away is pulled when it is back") {
  start();
  REQUIRE(settles());
  b->disk.fail(FakeOp::Read, "/arena/.realize/arena", Code::Io, 0, 1'000'000);
  core(*b).folder->rescanAll();
  REQUIRE(until([&] { return core(*b).suspended; }));

  write(*a, "plan.txt", "told meanwhile");
  pass(5000);
  b->disk.clearFailures();

  CHECK(settles());
  CHECK(read(*b, "plan.txt") == "told meanwhile");
}

TEST_CASE_FIXTURE(SimArenas, "the copy of a file whose sync failed has its owner and its attributes") {
  start();
  REQUIRE(settles());

  auto folder = std::move(*a->disk.openRoot(test::kSimFolder));
  a->disk.fail(FakeOp::FileSync, "/arena/plan.txt", Code::Io);
  write(*a, "plan.txt", "text");
  REQUIRE(folder->setXattr("plan.txt", "user.note", "mine", 0).ok());
  REQUIRE(folder->setOwner("plan.txt", 7, 8).ok());
  const auto before = folder->stat("plan.txt");
  REQUIRE(until([&] { return read(*b, "plan.txt") == "text"; }, 120'000));

  const auto copy = folder->stat("plan.txt");
  CHECK_FALSE(copy->sameObject(*before));
  CHECK(folder->getXattr("plan.txt", "user.note").ok());
  CHECK(copy->uid == 7);
  CHECK(copy->gid == 8);
}

TEST_CASE_FIXTURE(SimArenas, "of a file whose sync failed a copy is told, and no later sync is believed") {
  uint64_t lost = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    SimArenas peers;
    peers.start();
    REQUIRE(peers.settles());
    const std::string content(20'000, char('a' + seed));
    peers.a->disk.fail(FakeOp::FileSync, "/arena/plan.txt", Code::Io);
    peers.write(*peers.a, "plan.txt", content);
    REQUIRE(peers.until([&] { return peers.read(*peers.b, "plan.txt") == content; }, 120'000));

    peers.link->cut();
    peers.a->vanish();
    test::FakeRandom random(seed);
    peers.a->disk.crash(random);
    ++peers.a->boots;
    lost += peers.read(*peers.a, "plan.txt") != content;
  }
  CHECK(lost == 0);
}

namespace {
struct Telling : SimArenas {
  Telling() {
    start();
    REQUIRE(settles());
    b->onEvent = [this](const Event& event) { told.push_back(event.type); };
  }
  ~Telling() { b->onEvent = nullptr; }
  std::function<void()> tells(const char* what) {
    return [this, what] { core(*b).emit(Event{.whenNs = 0, .type = what, .arena = "", .path = "", .peer = "", .detail = ""}); };
  }
  std::vector<std::string> told;
};
}  // namespace

TEST_CASE_FIXTURE(Telling, "what a transaction that is committed later tells comes before what the next one tells") {
  CHECK(core(*b).transactLater(tells("first"), [] {}));
  CHECK(core(*b).transactLater(tells("second"), [] {}));
  CHECK(core(*b).transact(tells("third")));
  CHECK(core(*b).transactLater(tells("fourth"), [] {}));
  pass(1000);

  CHECK(told == std::vector<std::string>{"first", "second", "third", "fourth"});
}

TEST_CASE_FIXTURE(Telling, "nothing is told of what could not be committed later, also not with what is told after that") {
  b->disk.fail(FakeOp::Write, test::kSimState, Code::NoSpace, 0, 1'000'000);

  CHECK(core(*b).transactLater(
      [&] {
        core(*b).store.setValue("test: later", "written");
        tells("lost")();
      },
      [] {}));
  pass(5'000);
  b->disk.clearFailures();
  REQUIRE(settles());
  CHECK(core(*b).transact(tells("after")));

  CHECK(std::count(told.begin(), told.end(), "lost") == 0);
  CHECK(std::count(told.begin(), told.end(), "after") == 1);
}
