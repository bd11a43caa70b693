// A disk that fails for a while: what could not be read then is read later, and nothing is concluded from it.

#include <algorithm>

#include "librealize/peer/conflicts.h"
#include "librealize/peer/file_hash.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;
using realize::test::FakeOp;

namespace {
struct Settled : SimArenas {
  Settled() {
    REQUIRE(folder(*a)->makeDirectory("sub", 0755).ok());
    REQUIRE(folder(*a)->makeDirectory("sub/below", 0755).ok());
    write(*a, "sub/below/plan.txt", "one");
    start();
    REQUIRE(settles());
  }
  static std::unique_ptr<Directory> folder(test::SimPeer& peer) { return std::move(*peer.disk.openRoot(test::kSimFolder)); }
  void end(test::SimPeer& peer) {
    link->cut();
    peer.vanish();
  }
  void goOn(test::SimPeer& peer) {
    REQUIRE(peer.start().ok());
    link->connect();
  }
};
}  // namespace

// realize-sim --hard disk-errors, seeds 16, 676, 1137, 1445.
TEST_CASE_FIXTURE(Settled, "what is below a folder that a scan could not read is read with it later") {
  for (const char* path : {"", "/sub"}) {
    CAPTURE(path);
    end(*a);
    const std::string text = std::string("two") + path;
    write(*a, "sub/below/plan.txt", text);
    a->disk.fail(FakeOp::List, std::string("/arena") + path, Code::Io, *path ? 0 : 3);  // First are those of our own.
    goOn(*a);

    REQUIRE(until([&] { return core(*a).store.problems().count() > 0; }, 10'000));
    CHECK(until([&] { return read(*b, "sub/below/plan.txt") == text; }, 120'000));
    write(*a, "sub/below/plan.txt", "watched again");
    CHECK(until([&] { return read(*b, "sub/below/plan.txt") == "watched again"; }, 10'000));
  }
}

TEST_CASE_FIXTURE(Settled, "what is below a folder that a scan might not read is read as soon as it may") {
  a->disk.enforcePermissions(true);
  for (uint32_t mode : {0000, 0400}) {
    CAPTURE(mode);
    end(*a);
    const std::string text = "two " + std::to_string(mode);
    write(*a, "sub/below/plan.txt", text);
    REQUIRE(folder(*a)->setMode("sub", mode).ok());
    goOn(*a);
    pass(10'000);
    REQUIRE(read(*b, "sub/below/plan.txt") != text);

    REQUIRE(folder(*a)->setMode("sub", 0755).ok());
    CHECK(until([&] { return read(*b, "sub/below/plan.txt") == text; }, 10'000));
  }
}

// realize-sim --hard disk-errors, seed 643.
TEST_CASE_FIXTURE(Settled, "a folder that came back from a backup is known as that, also where the disk fails as it is begun with") {
  const auto backup = b->disk.snapshot();
  write(*a, "sub/below/plan.txt", "two");
  REQUIRE(settles());
  end(*b);
  b->restore(backup, false, true);
  REQUIRE(read(*b, "sub/below/plan.txt") == "one");
  b->disk.fail(FakeOp::Stat, "/arena/.realize/arena", Code::Io);
  goOn(*b);

  REQUIRE(settles());
  CHECK(read(*a, "sub/below/plan.txt") == "two");
  CHECK(read(*b, "sub/below/plan.txt") == "two");
}

TEST_CASE_FIXTURE(Settled, "what a crash left is looked at also where the disk fails to list it first") {
  for (const char* own : {"tmp", "cache"}) {
    CAPTURE(own);
    end(*b);
    write(*b, ".realize/tmp/w1-0", "half a version");
    b->disk.fail(FakeOp::List, std::string("/arena/.realize/") + own, Code::Io);
    goOn(*b);
    CHECK(b->core->status().suspendedWhy.find("tried again") != std::string::npos);

    REQUIRE(settles());
    CHECK_FALSE(has(*b, ".realize/tmp/w1-0"));
  }
}

// realize-sim --hard disk-errors, seeds 735, 904.
TEST_CASE_FIXTURE(Settled, "what a user wrote and the disk did not let go of our own folder goes back later") {
  const std::string path = "/arena/sub/below/plan.txt";
  bool over = false;
  b->onCall = [&](const test::FakeCall& call) {
    if (b->userActing || over || call.op != FakeOp::Rename || call.path2 != path) return;
    over = true;
    write(*b, "sub/below/plan.txt", "mine");
    b->disk.fail(FakeOp::Rename, "", Code::Io, 1, 1000);  // After this one.
  };
  write(*a, "sub/below/plan.txt", "two");
  REQUIRE(until([&] { return b->core->status().problemCount > 0; }, 10'000));
  const auto problems = b->core->status().problems;
  REQUIRE(problems.at(0).kind == "rescued");
  CHECK(problems.at(0).path.starts_with(".realize/tmp/"));
  pass(100'000);
  CHECK(b->core->status().problems.at(0).path == problems.at(0).path);

  b->disk.clearFailures();
  CHECK(until([&] { return read(*b, "sub/below/plan.txt~1") == "mine"; }, 120'000));
  REQUIRE(settles());
  CHECK(read(*a, "sub/below/plan.txt~1") == "mine");
  CHECK_FALSE(problem(*b, problems.at(0).path, "rescued"));
}

// realize-sim --hard failed-syncs,disk-errors, seed 75032796.
TEST_CASE_FIXTURE(Settled, "what the disk did not let go of our own folder goes beside what its user made under the name meanwhile") {
  bool made = false;
  b->disk.fail(FakeOp::Rename, "/tmp/gone~", Code::Io, 1);  // To the cache; then it is to go back.
  b->onCall = [&](const test::FakeCall& call) {
    if (b->userActing || made || call.op != FakeOp::Rename || call.path2 != "/arena/sub/below/plan.txt") return;
    made = true;
    write(*b, "sub/below/plan.txt", "mine");
    b->disk.fail(FakeOp::Rename, "", Code::Io, 1, 1'000'000);  // After this one.
  };
  core(*b).marks->set(*core(*b).recordAt("sub/below/plan.txt"), Mark::Unreal);
  REQUIRE(until([&] { return made && b->core->status().problemCount > 0; }, 10'000));
  REQUIRE(until([&] { return read(*a, "sub/below/plan.txt") == "mine"; }, 10'000));

  b->disk.clearFailures();
  CHECK(until([&] { return !has(*b, "sub/below/plan.txt"); }, 40'000));
  CHECK(until([&] { return read(*a, "sub/below/plan.txt~1") == "one"; }, 120'000));
  REQUIRE(settles());
  CHECK(read(*a, "sub/below/plan.txt") == "mine");
}

// realize-sim --hard disk-errors, seed 631.
TEST_CASE_FIXTURE(Settled, "an edit that a new version had to make way for again has not seen it, though the disk did not let go of that") {
  const std::string path = "/arena/sub/below/plan.txt";
  bool over = false;
  b->onCall = [&](const test::FakeCall& call) {
    if (b->userActing || over || call.op != FakeOp::Rename || call.path2 != path) return;
    over = true;
    write(*b, "sub/below/plan.txt", "mine");
    b->disk.fail(FakeOp::Rename, "undo-", Code::Io, 2);  // It is called that, and gives the name back.
  };
  write(*a, "sub/below/plan.txt", "two");
  REQUIRE(until([&] { return over; }, 10'000));
  REQUIRE(settles());

  const auto record = core(*a).recordAt("sub/below/plan.txt");
  REQUIRE(record.ok());
  CHECK(core(*a).tree.shownHeads(record->entry.id).size() == 2);
}

// realize-sim --hard failed-syncs,disk-errors, seed 75001434.
TEST_CASE_FIXTURE(Settled, "what could not be moved out of the cache is known to be there, also where the disk fails to look") {
  core(*b).marks->set(*core(*b).recordAt("sub/below/plan.txt"), Mark::Unreal);
  REQUIRE(until([&] { return !has(*b, "sub/below/plan.txt"); }));
  const BlobId blob = core(*b).shownVersion(*core(*b).recordAt("sub/below/plan.txt"))->second.blob;
  REQUIRE(core(*b).transfers->cachedForGood(blob));
  link->cut();
  int looks = 0;
  b->onCall = [&](const test::FakeCall& call) {
    if (call.op == FakeOp::Rename && call.path.find(Transfers::cachePath(blob)) != std::string::npos && looks++ == 0)
      b->disk.fail(FakeOp::Stat, Transfers::cachePath(blob), Code::Io);
  };
  b->disk.fail(FakeOp::Rename, Transfers::cachePath(blob), Code::Io);

  core(*b).marks->set(*core(*b).recordAt("sub/below/plan.txt"), Mark::Real);

  CHECK(until([&] { return has(*b, "sub/below/plan.txt"); }, 120'000));
  CHECK(looks > 0);
}

// realize-sim --hard failed-syncs,disk-errors, seed 75006641.
TEST_CASE_FIXTURE(Settled, "what was to come out of the cache and can neither take a file's place nor go back is still known") {
  const std::string path = "sub/below/plan.txt";
  link->cut();
  write(*a, path, "two, by A");
  write(*b, path, "two, by B");
  pass(1000);
  link->connect();
  pass(10'000);
  const auto record = *core(*b).recordAt(path);
  const auto heads = core(*b).tree.shownHeads(record.entry.id);
  REQUIRE(heads.size() == 2);
  const auto byA = std::find_if(heads.begin(), heads.end(), [&](const auto& head) { return core(*b).transfers->cachedForGood(head.version.blob); });
  REQUIRE(byA != heads.end());
  const std::string cached = Transfers::cachePath(byA->version.blob), shown = read(*b, path);
  link->cut();
  b->disk.fail(FakeOp::Rename, cached + "~", Code::Io, 1, 2);  // Into the folder, and back.
  bool failed = false;
  b->onCall = [&](const test::FakeCall& call) { failed = failed || (call.op == FakeOp::Rename && call.path2.ends_with(cached)); };

  REQUIRE(b->core->resolve(path, labelOf(byA->dot)).ok());
  CHECK(until([&] { return read(*b, path) != shown; }, 120'000));
  CHECK(failed);
  CHECK(read(*b, path).starts_with("two, by "));
}

TEST_CASE("a file of our own that its mode forbids to read is read all the same, and has that mode again") {
  test::FakeClock clock;
  test::FakeDisk disk(clock);
  disk.makeFolder(test::kSimFolder);
  disk.enforcePermissions(true);
  auto root = std::move(*disk.openRoot(test::kSimFolder));
  auto file = *root->open("ours", OpenMode::CreateOrOpen, 0644);
  const std::string text = "what nobody may read";
  REQUIRE(file->write(0, std::as_bytes(std::span(text))).ok());
  REQUIRE(root->setMode("ours", 0200).ok());
  FileStat stat = *root->stat("ours");
  CHECK(hashFile(*root, "ours", stat).code() == Code::PermissionDenied);

  const auto content = hashOurFile(*root, "ours", stat);

  REQUIRE(content.ok());
  CHECK(content->sizeBytes == text.size());
  CHECK(stat.mode == 0200);
  CHECK(root->stat("ours")->unchanged(stat));
}
