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
