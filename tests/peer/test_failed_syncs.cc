// Syncs that fail: the kernel tells it once, and whoever asks next is told that all is well.

#include "librealize/peer/arena_file_system.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;
using realize::test::FakeOp;

namespace {
constexpr int kManyFiles = 12;  // Synced together.

struct Failing : SimArenas {
  Failing() {
    write(*a, "plan.txt", "one");
    start();
    REQUIRE(settles());
  }
  /// For the sake of a name, soon: what was written before is lost, and only who asked for names is told.
  void failsToSyncAll(test::SimPeer& peer) {
    peer.disk.fail(FakeOp::SyncDirectory, "/arena", Code::Io);
    peer.disk.fail(FakeOp::SyncAll, "/arena", Code::Io);
    core(peer).folder->changedByUser(kRootNode);
    core(peer).folder->makeNamesDurableThen([] {});
  }
  static std::string nameOf(int i) { return "of many " + std::to_string(i); }
  void writeMany() {
    for (int i = 0; i < kManyFiles; ++i) write(*a, nameOf(i), std::string(5000, char('a' + i)));
  }
  void checkMany() {
    for (int i = 0; i < kManyFiles; ++i) {
      CAPTURE(i);
      CHECK(read(*b, nameOf(i)) == std::string(5000, char('a' + i)));
      CHECK_FALSE(a->disk.hasLost("/arena/" + nameOf(i)));
    }
  }
};
}  // namespace

// realize-sim --hard failed-syncs,disk-errors, seed 25001485.
TEST_CASE_FIXTURE(Failing, "what came from a peer is written again where a sync of all failed that was asked for something else") {
  bool written = false, placed = false, failed = false;
  b->onCall = [&](const test::FakeCall& call) {
    if (call.op == FakeOp::SetTimes && call.path.starts_with("/arena/.realize/tmp/w") && !std::exchange(written, true)) failsToSyncAll(*b);
    placed = placed || call.path2 == "/arena/new.txt";
    failed = failed || (call.op == FakeOp::SyncAll && !placed);
  };
  write(*a, "new.txt", "new");
  REQUIRE(settles());

  CHECK(failed);
  CHECK(read(*b, "new.txt") == "new");
  CHECK_FALSE(b->disk.hasLost("/arena/new.txt"));
}

TEST_CASE_FIXTURE(Failing, "what a user wrote is copied where a sync of all failed that was asked for something else") {
  writeMany();
  pass(10);
  failsToSyncAll(*a);
  SUBCASE("and the process goes on") {}
  SUBCASE("and another process reads it") {
    pass(60);
    REQUIRE_FALSE(core(*a).recordAt(nameOf(0)).ok());
    link->cut();
    a->vanish();
    REQUIRE(a->start().ok());
    link->connect();
  }

  REQUIRE(settles());
  checkMany();
}

// realize-sim --hard failed-syncs,disk-errors, seed 75009550.
TEST_CASE_FIXTURE(Failing, "what was lost as all was synced is copied also where its user's own sync was told of it first") {
  write(*a, "new.txt", "new");
  pass(10);
  failsToSyncAll(*a);
  pass(10);
  REQUIRE_FALSE(core(*a).recordAt("new.txt").ok());
  REQUIRE(a->disk.hasLost("/arena/new.txt"));
  SUBCASE("and it was written to since") { write(*a, "new.txt", "new and more"); }
  const auto folder = *a->disk.openRoot(test::kSimFolder);
  a->userActing = true;
  CHECK_FALSE((*folder->open("new.txt", OpenMode::ReadWrite))->sync(true).ok());
  a->userActing = false;
  SUBCASE("and the process goes on") {}
  SUBCASE("and another process reads it") {
    pass(60);
    REQUIRE_FALSE(core(*a).recordAt("new.txt").ok());
    link->cut();
    a->vanish();
    REQUIRE(a->start().ok());
    link->connect();
  }

  REQUIRE(settles());
  CHECK(read(*b, "new.txt").starts_with("new"));
  CHECK_FALSE(a->disk.hasLost("/arena/new.txt"));
}

TEST_CASE_FIXTURE(Failing, "what a user writes as the sync of another mode of the file fails is copied") {
  bool failed = false;
  a->onCall = [&](const test::FakeCall& call) {
    if (a->userActing || call.op != FakeOp::FileSync || call.path != "/arena/plan.txt" || std::exchange(failed, true)) return;
    a->userActing = true;
    write(*a, "plan.txt", "two");
    a->userActing = false;
    a->disk.fail(FakeOp::FileSync, "/arena/plan.txt", Code::Io);
  };
  REQUIRE((*a->disk.openRoot(test::kSimFolder))->setMode("plan.txt", 0600).ok());
  REQUIRE(settles());

  CHECK(failed);
  CHECK(read(*b, "plan.txt") == "two");
  CHECK_FALSE(a->disk.hasLost("/arena/plan.txt"));
}

TEST_CASE_FIXTURE(Failing, "what is written through a mount and cannot be synced there is copied") {
  auto& fs = a->core->guardedFileSystem();
  const auto found = fs.lookup(kRootNode, "plan.txt");
  REQUIRE(found.ok());
  OpenFlags flags;
  flags.write = true;
  Result<FileHandle> handle = Error{Code::Busy, "not open yet"};
  fs.open(found->node, flags, [&](Result<FileHandle> opened) { handle = std::move(opened); });
  REQUIRE(handle.ok());
  REQUIRE(fs.write(*handle, 0, std::as_bytes(std::span(std::string_view("two")))).ok());
  a->disk.fail(FakeOp::FileSync, "/arena/plan.txt", Code::Io);
  CHECK_FALSE(fs.sync(*handle, false).ok());
  fs.release(*handle);

  REQUIRE(settles());
  CHECK(read(*b, "plan.txt") == "two");
  CHECK_FALSE(a->disk.hasLost("/arena/plan.txt"));
}

// realize-sim --hard failed-syncs,disk-errors, seed 1457.
TEST_CASE_FIXTURE(Failing, "what came together with a file that found no place is asked for again where the database fails just then") {
  auto open = (*b->disk.openRoot(test::kSimFolder))->open("plan.txt", OpenMode::ReadWrite);  // So it finds none.
  bool failed = false;
  b->onCall = [&](const test::FakeCall& call) {
    if (call.op != FakeOp::SyncAll || (*b->disk.openRoot(test::kSimFolder))->list(kTempFolder)->size() < 2) return;
    if (!std::exchange(failed, true)) b->disk.fail(FakeOp::FileSync, test::kSimState, Code::Io);
  };
  write(*a, "plan.txt", "two");
  write(*a, "new.txt", "new");
  REQUIRE(until([&] { return core(*b).suspended; }, 10'000));
  open->reset();
  REQUIRE(settles());

  CHECK(read(*b, "plan.txt") == "two");
  CHECK(read(*b, "new.txt") == "new");
}

// realize-sim --hard failed-syncs,disk-errors, seed 25005335.
TEST_CASE_FIXTURE(Failing, "each name of a file whose sync failed gets a copy") {
  write(*a, "new.txt", "new");
  for (const char* name : {"second.txt", "third.txt"}) a->disk.hardLink("/arena/new.txt", std::string("/arena/") + name);
  a->disk.fail(FakeOp::FileSync, "/arena/new.txt", Code::Io);
  REQUIRE(settles());

  for (const char* name : {"new.txt", "second.txt", "third.txt"}) {
    CAPTURE(name);
    CHECK(read(*b, name) == "new");
    CHECK_FALSE(a->disk.hasLost(std::string("/arena/") + name));
  }
}

// realize-sim --hard failed-syncs,disk-errors, seed 25005358.
TEST_CASE_FIXTURE(Failing, "a file that could not be written to its disk is read with the folder that it moves with") {
  const auto folder = *a->disk.openRoot(test::kSimFolder);
  REQUIRE(folder->makeDirectory("sub", 0755).ok());
  write(*a, "sub/new.txt", "new");
  a->disk.fail(FakeOp::FileSync, "/arena/sub/new.txt", Code::Io);
  a->disk.fail(FakeOp::FileSync, "/arena/.realize/tmp/copy-of-", Code::Io);
  REQUIRE(until([&] { return core(*a).store.problems().count() == 1; }, 10'000));  // To ask for its status would hasten it.

  REQUIRE(folder->rename("sub", "moved", RenameKind::NoReplace).ok());
  CHECK(until([&] { return read(*b, "moved/new.txt") == "new"; }, 10'000));
  CHECK(core(*a).store.problems().count() == 0);
}
