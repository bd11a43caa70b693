// What the patterns of a .realizeignore leave out: nothing that the arena has already, and nothing once they are gone.

#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer::testing;

namespace {
struct Ignoring : SimArenas {
  void makeDirectory(const std::string& path) { REQUIRE((*a->disk.openRoot(test::kSimFolder))->makeDirectory(path, 0755).ok()); }
  void rename(const std::string& from, const std::string& to) {
    REQUIRE((*a->disk.openRoot(test::kSimFolder))->rename(from, to, RenameKind::Replace).ok());
  }
  /// `sub` and `sub/deep`, which has a file.
  void ignoreKnownFolders() {
    makeDirectory("sub");
    makeDirectory("sub/deep");
    write(*a, "sub/deep/plan", "one");
    start();
    REQUIRE(settles());
    write(*a, ".realizeignore", "sub\n");
    REQUIRE(settles());
  }
  bool arrives(const std::string& path, const std::string& text) {
    return until([&] { return read(*b, path) == text; }, 30'000);
  }
};
}  // namespace

TEST_CASE_FIXTURE(Ignoring, "a file that the arena has stays followed however it is saved") {
  makeDirectory("sub");
  write(*a, "sub/plan.log", "one");
  start();
  REQUIRE(settles());
  write(*a, ".realizeignore", "*.log\n*.tmp\n");
  REQUIRE(settles());

  write(*a, "sub/plan.log", "written in place");
  CHECK(arrives("sub/plan.log", "written in place"));
  write(*a, "sub/plan.tmp", "saved by a rename");
  rename("sub/plan.tmp", "sub/plan.log");
  CHECK(arrives("sub/plan.log", "saved by a rename"));

  write(*a, "sub/new.log", "not known before");
  write(*a, "sub/other", "listed with it");
  REQUIRE(settles());
  CHECK_FALSE(has(*b, "sub/new.log"));

  rename("sub/plan.log", "sub/old.log");  // As logs are turned.
  write(*a, "sub/plan.log", "begun anew");
  REQUIRE(settles());
  CHECK(read(*b, "sub/plan.log") == "begun anew");
  CHECK_FALSE(has(*b, "sub/old.log"));
}

TEST_CASE_FIXTURE(Ignoring, "a file that the arena has stays followed where its folder was renamed before it was replaced") {
  makeDirectory("sub");
  write(*a, "sub/plan.log", "one");
  write(*a, "other", "two");
  start();
  REQUIRE(settles());
  write(*a, "sub/.realizeignore", "*.log\n");
  REQUIRE(settles());
  const auto renameBoth = [&] {
    rename("sub", "moved");
    rename("other", "moved/plan.log");
  };

  SUBCASE("at once") { renameBoth(); }
  SUBCASE("while it was down") {
    link->cut();
    a->stop();
    renameBoth();
    REQUIRE(a->start().ok());
    link->connect();
  }

  CHECK(arrives("moved/plan.log", "two"));
  REQUIRE(settles());
  CHECK_FALSE(has(*b, "other"));
}

TEST_CASE_FIXTURE(Ignoring, "a folder that the arena has stays followed with all in it, also where other patterns, or a start, have it scanned") {
  ignoreKnownFolders();

  SUBCASE("at once") {}
  SUBCASE("after a start") {
    link->cut();
    a->stop();
    REQUIRE(a->start().ok());
    link->connect();
    REQUIRE(settles());
  }
  SUBCASE("what was done meanwhile") {
    link->cut();
    a->stop();
    write(*a, "sub/deep/plan", "while it was down");
    REQUIRE(a->start().ok());
    link->connect();
    CHECK(arrives("sub/deep/plan", "while it was down"));
  }
  write(*a, "sub/deep/plan", "two");
  CHECK(arrives("sub/deep/plan", "two"));
  write(*a, "sub/deep/new", "not known before");
  write(*a, "sub/deep/plan", "three");
  CHECK(arrives("sub/deep/plan", "three"));
  CHECK_FALSE(has(*b, "sub/deep/new"));
}

TEST_CASE_FIXTURE(Ignoring, "a folder that patterns ignore while a scan is reading it is read once") {
  makeDirectory("x");
  makeDirectory("x/a");
  makeDirectory("x/a/b");
  write(*a, "x/a/b/plan", "one");
  start();
  REQUIRE(settles());
  write(*a, "x/a/b/plan", "two");
  write(*a, "x/a/other", "new");
  bool once = false;
  a->onCall = [&](const test::FakeCall& call) {
    if (call.op != test::FakeOp::List || call.path != std::string(test::kSimFolder) + "/x/a/b" || std::exchange(once, true)) return;
    write(*a, "x/.realizeignore", "a\n");
    a->core->core().folder->changedByMount("x");
  };

  a->core->core().folder->rescanAll();

  CHECK(arrives("x/a/b/plan", "two"));
  CHECK(once);
  REQUIRE(settles());
}

TEST_CASE_FIXTURE(Ignoring, "what an ignored name of another kind took the place of is removed") {
  makeDirectory("folder");
  write(*a, "folder/plan", "one");
  write(*a, "file", "one");
  start();
  REQUIRE(settles());
  write(*a, ".realizeignore", "folder\nfile\n");
  REQUIRE(settles());
  auto root = *a->disk.openRoot(test::kSimFolder);

  REQUIRE(root->unlink("file").ok());
  REQUIRE(root->makeDirectory("file", 0755).ok());
  REQUIRE(root->unlink("folder/plan").ok());
  REQUIRE(root->removeDirectory("folder").ok());
  write(*a, "folder", "not known before");
  REQUIRE(settles());

  CHECK_FALSE(has(*b, "file"));
  CHECK_FALSE(has(*b, "folder"));
  CHECK_FALSE(a->core->core().recordAt("file").ok());
  CHECK_FALSE(a->core->core().recordAt("folder").ok());
  CHECK(read(*a, "folder") == "not known before");
  CHECK(root->stat("file").ok());
}

TEST_CASE_FIXTURE(Ignoring, "what other patterns no longer ignore is read, however deep it is") {
  makeDirectory("sub");
  makeDirectory("sub/deep");
  write(*a, "sub/.realizeignore", "*.log\n*.tmp\n");
  write(*a, "sub/deep/x.log", "a log");
  write(*a, "sub/deep/x.tmp", "of the moment");
  start();
  REQUIRE(settles());
  REQUIRE_FALSE(has(*b, "sub/deep/x.log"));

  SUBCASE("changed") {
    write(*a, "sub/.realizeignore", "*.tmp\n");
    CHECK(arrives("sub/deep/x.log", "a log"));
    CHECK_FALSE(has(*b, "sub/deep/x.tmp"));
  }
  SUBCASE("changed by a peer") {
    write(*b, "sub/.realizeignore", "*.tmp\n");
    CHECK(arrives("sub/deep/x.log", "a log"));
    CHECK_FALSE(has(*b, "sub/deep/x.tmp"));
  }
  SUBCASE("gone") {
    REQUIRE((*a->disk.openRoot(test::kSimFolder))->unlink("sub/.realizeignore").ok());
    CHECK(arrives("sub/deep/x.log", "a log"));
    CHECK(arrives("sub/deep/x.tmp", "of the moment"));
  }
  SUBCASE("appeared, and lets pass what those above ignore") {
    write(*a, "sub/deep/.realizeignore", "!x.log\n");
    CHECK(arrives("sub/deep/x.log", "a log"));
    CHECK_FALSE(has(*b, "sub/deep/x.tmp"));
  }
  SUBCASE("ignored itself") {
    write(*a, "sub/.realizeignore", "*.tmp\n.realizeignore\n");
    CHECK(arrives("sub/deep/x.log", "a log"));
  }
  REQUIRE(settles());
}

TEST_CASE_FIXTURE(Ignoring, "what was ignored for where its folder stood is read where that stands now, however deep it is") {
  ignoreKnownFolders();
  write(*a, "sub/deep/new", "not known before");
  REQUIRE(settles());
  REQUIRE_FALSE(has(*b, "sub/deep/new"));

  SUBCASE("moved here") { rename("sub", "moved"); }
  SUBCASE("moved by a peer") {
    REQUIRE((*b->disk.openRoot(test::kSimFolder))->rename("sub", "moved", RenameKind::NoReplace).ok());
  }
  CHECK(arrives("moved/deep/new", "not known before"));
  REQUIRE(settles());
}

TEST_CASE_FIXTURE(Ignoring, "folders that a peer removed stay for what is not the arena's, however deep it is, and are told") {
  makeDirectory("x");
  makeDirectory("x/y");
  makeDirectory("x/y/z");
  write(*a, ".realizeignore", "*.log\n");
  start();
  REQUIRE(settles());
  SUBCASE("an ignored file") { write(*a, "x/y/z/a.log", "mine"); }
  SUBCASE("a pipe") { a->disk.makeSpecial(std::string(test::kSimFolder) + "/x/y/z/pipe"); }
  REQUIRE(settles());

  auto onB = *b->disk.openRoot(test::kSimFolder);
  for (const char* path : {"x/y/z", "x/y", "x"}) REQUIRE(onB->removeDirectory(path).ok());
  REQUIRE(settles());
  pass(5000);

  for (const char* path : {"x", "x/y", "x/y/z"}) {
    CHECK(has(*a, path));
    CHECK(problem(*a, path, "left-behind"));
    CHECK_FALSE(core(*a).recordAt(path).ok());
  }
  CHECK_FALSE(core(*a).store.disk().getAt(kRootNode, "x"));

  core(*a).folder->rescanAll();
  REQUIRE(settles());
  CHECK_FALSE(has(*b, "x"));

  write(*a, "x/y/new", "of the arena");
  REQUIRE(settles());
  CHECK(read(*b, "x/y/new") == "of the arena");
  CHECK_FALSE(has(*b, "x/y/z"));
  CHECK_FALSE(has(*b, "x/y/z/a.log"));
}

namespace {
struct InTheWay : Ignoring {
  InTheWay() : onB(*b->disk.openRoot(test::kSimFolder)) {
    makeDirectory("sub");
    write(*a, "sub/known", "of the peer");
    start();
    REQUIRE(settles());
    link->cut();
    write(*a, "sub/.realizeignore", "*.log\n");
    write(*a, "sub/x.log", "mine");
  }
  void meet() {
    pass(10'000);
    link->connect();
    pass(60'000);
    CHECK(problem(*a, "sub/x.log", "ignored-in-the-way"));
    CHECK(read(*a, "sub/x.log") == "mine");
  }
  std::unique_ptr<Directory> onB;
};
}  // namespace

TEST_CASE_FIXTURE(InTheWay, "what has the name of an ignored file here is told until that has another name") {
  SUBCASE("a file") { write(*b, "sub/x.log", "of the peer"); }
  SUBCASE("one that was renamed") { REQUIRE(onB->rename("sub/known", "sub/x.log", RenameKind::NoReplace).ok()); }
  SUBCASE("a folder") { REQUIRE(onB->makeDirectory("sub/x.log", 0755).ok()); }
  SUBCASE("a symlink") { REQUIRE(onB->makeSymlink("sub/x.log", "there").ok()); }
  meet();

  rename("sub/x.log", "sub/y.log");
  CHECK(settles());
  CHECK(read(*a, "sub/y.log") == "mine");
  CHECK(has(*a, "sub/x.log"));
  CHECK(a->core->status().problemCount == 0);
}

TEST_CASE_FIXTURE(InTheWay, "what has the name of an ignored file here is told until that is no longer ignored") {
  write(*b, "sub/x.log", "of the peer");
  meet();

  write(*a, "sub/.realizeignore", "*.tmp\n");
  CHECK(settles());
  const auto seen = core(*a).recordAt("sub/x.log");  // A conflict like any other.
  REQUIRE(seen.ok());
  CHECK(core(*a).tree.shownHeads(seen->entry.id).size() == 2);
  CHECK(a->core->status().problemCount == 0);
}

TEST_CASE_FIXTURE(Ignoring, "what is written through an ignored name of a file that the arena has is an edit of that file") {
  makeDirectory("sub");
  write(*a, "plan", "one");
  write(*a, ".realizeignore", "*.log\n");
  start();
  REQUIRE(settles());
  a->disk.hardLink("/arena/plan", "/arena/sub/plan.log");
  REQUIRE(settles());

  write(*a, "sub/plan.log", "through the other name");

  CHECK(arrives("plan", "through the other name"));
  CHECK_FALSE(has(*b, "sub/plan.log"));
}

TEST_CASE_FIXTURE(Ignoring, "a folder that stays for what is ignored in it is told where a peer has something else of its name") {
  makeDirectory("sub");
  write(*a, ".realizeignore", "*.log\n");
  start();
  REQUIRE(settles());
  write(*a, "sub/x.log", "mine");
  auto onB = *b->disk.openRoot(test::kSimFolder);
  REQUIRE(onB->removeDirectory("sub").ok());
  SUBCASE("a file") { write(*b, "sub", "of the peer"); }
  SUBCASE("a symlink") { REQUIRE(onB->makeSymlink("sub", "there").ok()); }
  pass(60'000);
  CHECK(problem(*a, "sub", "ignored-in-the-way"));
  CHECK(read(*a, "sub/x.log") == "mine");

  rename("sub", "mine");

  CHECK(settles());
  CHECK(read(*a, "mine/x.log") == "mine");
  CHECK((*a->disk.openRoot(test::kSimFolder))->stat("sub")->type != FileStat::Type::Directory);
  CHECK(a->core->status().problemCount == 0);
}

// realize-sim, seed 90115428.
TEST_CASE_FIXTURE(Ignoring, "what the patterns that a peer sends no longer ignore is read at once") {
  makeDirectory("sub");
  write(*a, ".realizeignore", "*.tmp\n");
  start();
  REQUIRE(settles());
  write(*b, "sub/x.tmp", "mine");
  REQUIRE(settles());
  pass(5000);
  REQUIRE_FALSE(has(*a, "sub/x.tmp"));

  write(*a, "sub/.realizeignore", "!x.tmp\n");
  CHECK(until([&] { return read(*a, "sub/x.tmp") == "mine"; }, 30'000));
}
