// What status says is wrong is told as long as it is so, and no longer.

#include "librealize/peer/folder_state.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;
using realize::test::FakeOp;

namespace {
struct Settled : SimArenas {
  Settled() {
    write(*a, "plan.txt", "one");
    start();
    REQUIRE(settles());
  }
  Directory& folder(test::SimPeer& peer) {
    roots.push_back(*peer.disk.openRoot(test::kSimFolder));
    return *roots.back();
  }
  std::vector<std::unique_ptr<Directory>> roots;
};
}  // namespace

TEST_CASE_FIXTURE(Settled, "a special file is a problem of its own path until it is gone or ignored") {
  REQUIRE(folder(*a).makeDirectory("x", 0755).ok());
  a->disk.makeSpecial("/arena/x/pipe");
  a->disk.makeSpecial("/arena/x/socket");
  REQUIRE(settles());
  REQUIRE(problem(*a, "x/pipe", "special-file"));

  write(*a, "x/other", "another listing of the same folder");
  REQUIRE(settles());
  CHECK(problem(*a, "x/pipe", "special-file"));

  REQUIRE(folder(*a).unlink("x/pipe").ok());
  CHECK_FALSE(problem(*a, "x/pipe", "special-file"));
  CHECK(problem(*a, "x/socket", "special-file"));

  write(*a, ".realizeignore", "socket\n");
  REQUIRE(settles());
  write(*a, "x/third", "listed with the new patterns");
  REQUIRE(settles());
  CHECK_FALSE(problem(*a, "x/socket", "special-file"));
}

TEST_CASE_FIXTURE(Settled, "a removal that the disk refused is no problem once the file is gone, or wanted again") {
  ArenaSettings settings;
  settings.unlinkedDays = 0;  // Else it moves to the cache.
  b->core->setSettings(settings);
  b->disk.fail(FakeOp::Unlink, "/gone~", Code::Io, 0, 1'000'000);
  REQUIRE(folder(*a).unlink("plan.txt").ok());
  REQUIRE(until([&] { return problem(*b, "plan.txt", "not-removed"); }));
  pass(3000);
  REQUIRE(problem(*b, "plan.txt", "not-removed"));

  SUBCASE("the disk does it after all") {
    b->disk.clearFailures();
    REQUIRE(settles());
    CHECK_FALSE(has(*b, "plan.txt"));
  }
  SUBCASE("the peer makes it again") {
    write(*a, "plan.txt", "again");
    b->disk.clearFailures();
    REQUIRE(settles());
    CHECK(read(*b, "plan.txt") == "again");
  }
  CHECK(b->core->status().problemCount == 0);
}

TEST_CASE_FIXTURE(Settled, "a move that the disk refused is no problem once it is done") {
  b->disk.fail(FakeOp::Rename, "plan.txt", Code::Io, 0, 1'000'000);
  REQUIRE(folder(*a).rename("plan.txt", "done.txt", RenameKind::NoReplace).ok());
  REQUIRE(until([&] { return problem(*b, "plan.txt", "not-moved"); }));

  b->disk.clearFailures();
  REQUIRE(settles());
  CHECK(has(*b, "done.txt"));
  CHECK(b->core->status().problemCount == 0);
}

TEST_CASE_FIXTURE(Settled, "attributes that the disk refused are no problem once they are set") {
  b->disk.fail(FakeOp::SetMode, "plan.txt", Code::PermissionDenied, 0, 1'000'000);
  REQUIRE(folder(*a).setMode("plan.txt", 0600).ok());
  REQUIRE(until([&] { return problem(*b, "plan.txt", "attributes"); }));

  b->disk.clearFailures();
  REQUIRE(settles());
  CHECK((folder(*b).stat("plan.txt")->mode & 0777) == 0600);
  CHECK(b->core->status().problemCount == 0);
}

TEST_CASE_FIXTURE(Settled, "what was rescued is told until its user has taken it away, and a new start leaves it there") {
  const std::string where = std::string(kTempFolder) + "/kept";
  write(*b, where, "what a user wrote");
  core(*b).transact([&] {
    core(*b).store.problems().put({where, "rescued", "kept here"});
    core(*b).store.problems().put({"plan.txt~1", "rescued", "kept there"});
  });
  write(*b, "plan.txt~1", "more of it");
  REQUIRE(settles());
  CHECK(problem(*b, "plan.txt~1", "rescued"));

  link->cut();
  b->stop();
  REQUIRE(b->start().ok());
  link->connect();
  REQUIRE(settles());
  CHECK(read(*b, "rescued") == "what a user wrote");
  CHECK(problem(*b, "rescued", "rescued"));
  CHECK(problem(*b, "plan.txt~1", "rescued"));
  CHECK_FALSE(problem(*b, where, "rescued"));

  REQUIRE(folder(*b).rename("plan.txt~1", "mine.txt", RenameKind::NoReplace).ok());
  CHECK_FALSE(problem(*b, "plan.txt~1", "rescued"));
}

TEST_CASE_FIXTURE(Settled, "a peer that sent something else is a problem until it sends what it should, or nobody wants that any more") {
  write(*a, "new.txt", std::string(5000, 'n'));
  link->onChunk = [](test::HeldChunk& chunk) { chunk.bytes[0] ^= std::byte(1); };
  REQUIRE(until([&] { return problem(*b, "new.txt", "corrupt"); }));
  pass(10'000);
  CHECK(problem(*b, "new.txt", "corrupt"));

  SUBCASE("it sends it") {
    link->onChunk = nullptr;
    REQUIRE(settles());
  }
  SUBCASE("it is removed") {
    REQUIRE(folder(*a).unlink("new.txt").ok());
    REQUIRE(settles());
  }
  SUBCASE("a day later") {
    link->cut();
    b->clock.jump(25 * 3600 * 1'000'000'000LL);
  }
  CHECK(b->core->status().problemCount == 0);
}

TEST_CASE_FIXTURE(Settled, "a file that can be read again is read, and is no problem") {
  a->disk.fail(FakeOp::Read, "/arena/new.txt", Code::Io, 0, 1'000'000);
  a->disk.fail(FakeOp::Open, "/arena/new.txt", Code::PermissionDenied, 0, 1'000'000);
  write(*a, "late.txt", "one");
  {
    a->disk.clearFailures();
    write(*a, "new.txt", "hidden");
    a->disk.fail(FakeOp::Open, "/arena/new.txt", Code::PermissionDenied, 0, 1'000'000);
  }
  REQUIRE(until([&] { return problem(*a, "new.txt", "unreadable"); }));

  a->disk.clearFailures();
  CHECK_FALSE(problem(*a, "new.txt", "unreadable"));
  REQUIRE(until([&] { return read(*b, "new.txt") == "hidden"; }));
}

TEST_CASE_FIXTURE(Settled, "a folder that the disk fails to read loses nothing, is told, and is read when the disk can") {
  REQUIRE(folder(*a).makeDirectory("sub", 0755).ok());
  write(*a, "sub/kept.txt", "kept");
  REQUIRE(settles());
  a->disk.fail(FakeOp::List, "/arena/sub", Code::Io, 0, 1'000'000);
  write(*a, "sub/new.txt", "written meanwhile");
  REQUIRE(until([&] { return problem(*a, "sub", "unreadable"); }));
  pass(300'000);
  CHECK(problem(*a, "sub", "unreadable"));
  CHECK(a->core->status().problems.at(0).detail.find("The disk has an error") != std::string::npos);
  CHECK(read(*b, "sub/kept.txt") == "kept");

  a->disk.clearFailures();
  CHECK(until([&] { return read(*b, "sub/new.txt") == "written meanwhile"; }, 120'000));  // Nobody asked for its status.
  CHECK(a->core->status().problemCount == 0);
}

TEST_CASE_FIXTURE(Settled, "a folder whose names only can be read is told as long as it is so, however often status is asked") {
  REQUIRE(folder(*a).makeDirectory("sub", 0755).ok());
  write(*a, "sub/kept.txt", "kept");
  REQUIRE(settles());
  const auto openFails = [&](Code code) { a->disk.fail(FakeOp::Stat, "/arena/sub/.realizeignore", code, 0, 1'000'000); };
  openFails(Code::PermissionDenied);
  write(*a, "sub/new.txt", "written meanwhile");
  REQUIRE(until([&] { return problem(*a, "sub", "unreadable"); }));

  for (int asked = 0; asked < 3; ++asked) {
    const auto status = a->core->status();
    REQUIRE(status.problemCount == 1);
    CHECK(status.problems.at(0).detail.find("the right to read it") != std::string::npos);
    CHECK_FALSE(status.settling);
  }

  a->disk.clearFailures();
  CHECK(until([&] { return read(*b, "sub/new.txt") == "written meanwhile"; }, 120'000));
  CHECK(a->core->status().problemCount == 0);
}

TEST_CASE_FIXTURE(Settled, "a status that finds a problem to be over says that it is being read, not that trees differ") {
  a->disk.fail(FakeOp::Open, "/arena/new.txt", Code::PermissionDenied, 0, 1'000'000);
  write(*a, "new.txt", "hidden");
  REQUIRE(until([&] { return problem(*a, "new.txt", "unreadable"); }));

  a->disk.clearFailures();
  CHECK(a->core->status().consensusWhy == "local changes are being read");
}

TEST_CASE_FIXTURE(Settled, "patterns that are too long to be read are told as such") {
  REQUIRE(folder(*a).makeDirectory("sub", 0755).ok());
  write(*a, "sub/.realizeignore", std::string(300 << 10, '#'));
  REQUIRE(until([&] { return problem(*a, "sub", "unreadable"); }));

  CHECK(a->core->status().problems.at(0).detail.find(".realizeignore file may have at most 256 KiB: make it smaller") !=
        std::string::npos);

  write(*a, "sub/.realizeignore", "#");
  CHECK(until([&] { return a->core->status().problemCount == 0 && read(*b, "sub/.realizeignore") == "#"; }));
}

TEST_CASE_FIXTURE(Settled, "our own name within a folder is told as skipped") {
  REQUIRE(folder(*a).makeDirectory("sub", 0755).ok());
  REQUIRE(folder(*a).makeDirectory("sub/.realize", 0755).ok());
  write(*a, "sub/other", "x");
  REQUIRE(settles());
  CHECK(problem(*a, "sub/.realize", "invalid-name"));

  REQUIRE(folder(*a).removeDirectory("sub/.realize").ok());
  CHECK_FALSE(problem(*a, "sub/.realize", "invalid-name"));
}

TEST_CASE_FIXTURE(Settled, "the arena's own folder that the disk fails to read loses nothing, and is read when the disk can") {
  a->disk.fail(FakeOp::List, "/arena", Code::Io, 0, 1'000'000);
  a->disk.fail(FakeOp::Stat, "/arena", Code::Io, 0, 1'000'000);
  write(*a, "new.txt", "written meanwhile");
  pass(300'000);
  const auto status = a->core->status();
  CHECK((status.suspended || status.problemCount > 0));
  CHECK(read(*b, "plan.txt") == "one");

  a->disk.clearFailures();
  CHECK(until([&] { return read(*b, "new.txt") == "written meanwhile"; }, 120'000));
  CHECK(a->core->status().problemCount == 0);
}

TEST_CASE_FIXTURE(Settled, "a folder that cannot be watched is said to be stale, and scanned, until it can") {
  a->disk.fail(FakeOp::Watch, "/arena/sub", Code::Io, 0, 1'000'000);
  REQUIRE(folder(*a).makeDirectory("sub", 0755).ok());
  REQUIRE(until([&] { return problem(*a, "", "stale"); }));
  REQUIRE(settles());
  CHECK(problem(*a, "", "stale"));
  write(*a, "sub/x", "no event tells of it");
  CHECK(until([&] { return read(*b, "sub/x") == "no event tells of it"; }, 120'000));
  CHECK(problem(*a, "", "stale"));

  a->disk.clearFailures();
  CHECK(until([&] { return !problem(*a, "", "stale"); }, 120'000));
  write(*a, "sub/y", "seen at once");
  CHECK(until([&] { return read(*b, "sub/y") == "seen at once"; }, 10'000));
}

TEST_CASE_FIXTURE(Settled, "a watch that fails is made anew, and what it should have told is found by a scan") {
  a->disk.breakWatchers();
  write(*a, "x", "told by nothing");
  CHECK(until([&] { return read(*b, "x") == "told by nothing"; }, 10'000));
  CHECK(until([&] { return a->core->status().problemCount == 0; }, 120'000));
  write(*a, "y", "told by the new one");
  CHECK(until([&] { return read(*b, "y") == "told by the new one"; }, 10'000));
}
