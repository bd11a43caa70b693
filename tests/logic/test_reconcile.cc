#include <doctest/doctest.h>

#include <algorithm>

#include "tests/support/folder_world.h"

using namespace realize;
using namespace realize::logic;

TEST_CASE("a first scan makes everything, directories before what is in them") {
  World world = worldWith({"a/", "a/b/", "a/b/f", "g"});

  CHECK(world.table.rows.size() == 5);
  CHECK(world.look().steps.empty());
}

TEST_CASE("an edit in place is content to be hashed, a chmod only attributes") {
  World world = worldWith({"f", "g", "d/"});
  world.folder.edit("f");
  world.folder.chmod("g", 0600);
  world.folder.chmod("d", 0700);

  Plan plan = world.look(false);

  CHECK(plan.steps.size() == 3);
  CHECK(count(plan, Kind::Content) == 1);
  CHECK(count(plan, Kind::Attributes) == 2);
  world.checkSame();
}

TEST_CASE("a file whose ctime alone moved is to be verified") {
  World world = worldWith({"f"});
  world.folder.chmod("f", 0644);

  Plan plan = world.look();

  REQUIRE(plan.steps.size() == 1);
  CHECK(plan.steps[0].verify);
}

TEST_CASE("a file that was never hashed is hashed though nothing changed") {
  World world = worldWith({"f"});
  world.table.rows[world.node("f")].hasBlob = false;

  CHECK(count(world.look(), Kind::Content) == 1);
}

TEST_CASE("a renamed directory is one step whatever is below it") {
  World world = worldWith({"a/", "a/b/", "a/b/f", "a/g", "z/"});
  NodeId a = world.node("a"), f = world.node("a/b/f");
  world.folder.rename("a", "z/c");

  SUBCASE("by a scan") {
    Plan plan = world.look(true);
    CHECK(plan.steps.size() == 1);
  }
  SUBCASE("by its two dirty directories") {
    Plan plan = world.look(false);
    CHECK(plan.steps.size() == 1);
  }
  CHECK(world.node("z/c") == a);
  CHECK(world.node("z/c/b/f") == f);
  world.checkSame();
}

TEST_CASE("what went into a directory before that was renamed is moved, whatever has its old name now") {
  World world = worldWith({"x/", "x/z/", "y"});
  NodeId x = world.node("x"), y = world.node("y");
  std::string into = "x";
  SUBCASE("in itself") {}
  SUBCASE("in one below") { into = "x/z"; }
  world.folder.rename("y", into + "/y");
  world.folder.rename("x", "a");
  SUBCASE("nothing") {}
  SUBCASE("another directory") { world.folder.directory("x"); }

  Plan plan = world.plan({"", into}, false);

  CHECK(count(plan, Kind::Vanished) == 0);
  world.table.apply(plan);
  CHECK(world.node("a") == x);
  CHECK(world.node("a" + into.substr(1) + "/y") == y);
}

TEST_CASE("two names that were swapped keep their entries") {
  World world = worldWith({"a", "b", "d/", "e/", "d/x", "e/y"});
  NodeId a = world.node("a"), d = world.node("d");
  world.folder.swap("a", "b");
  world.folder.swap("d", "e");

  Plan plan = world.look(false);

  CHECK(count(plan, Kind::Move) == 4);
  CHECK(count(plan, Kind::Park) == 2);
  CHECK(world.node("b") == a);
  CHECK(world.node("e") == d);
  world.checkSame();
}

TEST_CASE("a rotation into a free name needs no parking") {
  World world = worldWith({"a", "b", "c"});
  NodeId a = world.node("a"), c = world.node("c");
  world.folder.rename("c", "d");
  world.folder.rename("b", "c");
  world.folder.rename("a", "b");

  Plan plan = world.look(false);

  CHECK(plan.steps.size() == 6);  // three moves, three times of ctime
  CHECK(count(plan, Kind::Move) == 3);
  CHECK(world.node("b") == a);
  CHECK(world.node("d") == c);
  world.checkSame();
}

TEST_CASE("a directory and the one in it trade places") {
  World world = worldWith({"a/", "a/b/", "a/b/f", "a/g"});
  NodeId a = world.node("a"), b = world.node("a/b");
  world.folder.rename("a/b", "t");
  world.folder.rename("a", "t/b");
  world.folder.rename("t", "a");

  world.look(false);

  CHECK(world.node("a") == b);
  CHECK(world.node("a/b") == a);
  world.checkSame();
}

TEST_CASE("a directory that is unwrapped survives its removed parent") {
  World world = worldWith({"d/", "d/d/", "d/d/f", "d/old"});
  NodeId inner = world.node("d/d"), f = world.node("d/d/f");
  world.folder.rename("d/d", "t");
  world.folder.remove("d");
  world.folder.rename("t", "d");

  world.look(false);

  CHECK(world.node("d") == inner);
  CHECK(world.node("d/f") == f);
  world.checkSame();
}

TEST_CASE("a directory is wrapped into a new one of its own name") {
  World world = worldWith({"d/", "d/f"});
  NodeId d = world.node("d");
  world.folder.rename("d", "t");
  world.folder.directory("d");
  world.folder.rename("t", "d/d");

  world.look(false);

  CHECK(world.node("d/d") == d);
  world.checkSame();
}

TEST_CASE("an editor's save is an edit of the entry") {
  for (const Save& save : kSaves) {
    CAPTURE(save.editor);
    World world = worldWith({"f", "other"});
    NodeId f = world.node("f");
    for (auto& operation : save.operations) perform(world.folder, operation);

    Plan plan = world.look(false);

    CHECK(world.node("f") == f);
    CHECK(count(plan, Kind::Replaced) + count(plan, Kind::Content) == 1);
    CHECK(count(plan, Kind::Move) == 0);
    CHECK(count(plan, Kind::Vanished) == 0);
    world.checkSame();
  }
}

TEST_CASE("a temporary file that was seen before it replaced another is not that other") {
  World world = worldWith({"f", "f.tmp"});
  NodeId f = world.node("f"), temporary = world.node("f.tmp");
  world.folder.rename("f.tmp", "f");

  Plan plan = world.look(false);

  CHECK(world.node("f") == f);
  CHECK(count(plan, Kind::Vanished) == 1);
  REQUIRE(count(plan, Kind::Replaced) == 1);
  for (auto& step : plan.steps)
    if (step.kind == Kind::Replaced) CHECK(step.source == temporary);
  world.checkSame();
}

TEST_CASE("rotated logs keep their names' entries once a new one begins") {
  World world = worldWith({"log", "log.1", "log.2"});
  NodeId log = world.node("log"), log2 = world.node("log.2");
  world.folder.rename("log.1", "log.2");
  world.folder.rename("log", "log.1");
  world.folder.file("log");

  Plan plan = world.look(false);

  CHECK(count(plan, Kind::Replaced) == 3);
  CHECK(plan.steps.size() == 3);
  CHECK(world.node("log") == log);
  CHECK(world.node("log.2") == log2);
  world.checkSame();
}

TEST_CASE("a file that became a directory is another entry, and so the other way round") {
  World world = worldWith({"f", "d/", "d/x", "d/e/", "d/e/y"});
  NodeId f = world.node("f"), y = world.node("d/e/y");
  world.folder.remove("f");
  world.folder.directory("f");
  world.folder.rename("d/e/y", "f/y");
  world.folder.remove("d");
  world.folder.file("d");

  Plan plan = world.look(false);

  CHECK(count(plan, Kind::TypeChanged) == 2);
  CHECK(count(plan, Kind::Vanished) == 2);
  CHECK(world.node("f") != f);
  CHECK(world.node("f/y") == y);
  world.checkSame();
}

TEST_CASE("a directory removed and made again is the same entry") {
  World world = worldWith({"d/", "d/x"});
  NodeId d = world.node("d");
  world.folder.remove("d");
  world.folder.directory("d");
  world.folder.file("d/n");

  world.look(false);

  CHECK(world.node("d") == d);
  world.checkSame();
}

TEST_CASE("a second name of a file is a file of its own, and the first one stays") {
  World world = worldWith({"a", "d/", "d/f"});
  NodeId f = world.node("d/f");
  world.folder.link("d/f", "a.link");

  SUBCASE("listed alone, the other directory is asked for") {
    Plan plan = world.look(false);
    CHECK(count(plan, Kind::New) == 1);
  }
  SUBCASE("by a scan") {
    Plan plan = world.look(true);
    CHECK(count(plan, Note::Kind::SecondName) == 1);
  }
  CHECK(world.node("d/f") == f);
  CHECK(world.node("a.link") != 0);
  CHECK(count(world.look(), Kind::Vanished) == 0);
}

TEST_CASE("an inode number that is used again is another file") {
  World world = worldWith({"a", "z"});
  uint64_t inode = world.folder.at("a")->stat.inode;
  world.folder.remove("a");
  world.folder.file("b", 5);
  world.folder.at("b")->stat.inode = inode;

  SUBCASE("told by its birth time") {}
  SUBCASE("or, without one, by size and mtime") {
    world.folder.at("b")->stat.birthNs = 0;
    world.table.rows[world.node("a")].birthNs = 0;
  }
  Plan plan = world.look(false);

  CHECK(count(plan, Kind::New) == 1);
  CHECK(count(plan, Kind::Vanished) == 1);
  world.checkSame();
}

TEST_CASE("nothing below an unreadable directory is removed") {
  World world = worldWith({"d/", "d/e/", "d/e/f", "d/g"});
  world.folder.at("d")->unreadable = true;
  world.folder.remove("d/g");

  Plan plan = world.look(true);

  CHECK(plan.steps.empty());
  CHECK(count(plan, Note::Kind::Unreadable) == 1);
}

TEST_CASE("a name whose stat fails is there") {
  World world = worldWith({"f"});
  ReconcileInput input;
  input.root = world.folder.root->stat;
  world.folder.list("", true, input.listings);
  input.listings[0].items[0].stat = {};
  input.listings[0].items[0].failed = Error{Code::Io, ""};

  Plan plan = reconcile(input, world.table);

  CHECK(plan.steps.empty());
  CHECK(count(plan, Note::Kind::Unknown) == 1);
}

TEST_CASE("what is ignored is neither new nor removed") {
  World world = worldWith({"f", "g"});
  world.folder.file("new.o");
  world.folder.root->ignored = {"f", "new.o"};

  CHECK(world.look().steps.empty());
}

TEST_CASE("what was moved into an ignored folder is gone, also where that is read with the rest") {
  World world = worldWith({"f", "g"});
  world.folder.directory("left");
  world.folder.directory("left/below");
  world.folder.root->ignored = {"left"};
  std::string to = "left/f";
  SUBCASE("into it") {}
  SUBCASE("deeper") { to = "left/below/f"; }
  world.folder.rename("f", to);
  world.folder.edit(to);  // All that is above it has changed, and is listed.
  if (to != "left/f") world.folder.dirty(world.folder.at("left"));

  Plan plan = world.look(false);

  REQUIRE(plan.steps.size() == 1);
  CHECK(plan.steps[0].kind == Kind::Vanished);
  CHECK_FALSE(world.table.byName(kRootNode, "f").has_value());
}

namespace {

void setDevice(Folder& folder, const std::string& path, uint64_t device) {
  folder.walk(path, folder.at(path), [&](auto&, const Folder::Ref& object) { object->stat.device = device; });
}

/// d is a disk mounted in the arena.
World worldWithDisk() {
  World world;
  world.folder.directory("p");
  world.folder.directory("p/d");
  world.folder.file("p/d/f");
  world.folder.file("p/x");
  setDevice(world.folder, "p/d", 2);
  world.look();
  return world;
}

}  // namespace

TEST_CASE("a missing disk is absent, not removed") {
  World world = worldWithDisk();

  SUBCASE("its mount point is an empty directory") { world.folder.directory("p/d"); }
  SUBCASE("its mount point is gone") { world.folder.remove("p/d"); }
  SUBCASE("another disk is there") {
    world.folder.directory("p/d");
    setDevice(world.folder, "p/d", 3);
    world.folder.file("p/d/other");
  }
  Plan plan = world.look(true);

  CHECK(plan.steps.empty());
  CHECK(count(plan, Note::Kind::Absent) == 1);
}

TEST_CASE("what is above a missing disk is not removed either") {
  World world = worldWithDisk();
  world.folder.remove("p");

  Plan plan = world.look(true);

  CHECK(plan.steps.size() == 1);  // p/x
  CHECK(world.node("p/d/f") != 0);
}

TEST_CASE("a disk mounted over known files hides them") {
  World world = worldWith({"d/", "d/f"});
  world.folder.directory("d");
  setDevice(world.folder, "d", 5);

  Plan plan = world.look(true);

  CHECK(plan.steps.empty());
  CHECK(count(plan, Note::Kind::Absent) == 1);
}

TEST_CASE("another disk that someone accepted takes the place of the missing one") {
  World world = worldWithDisk();
  world.folder.directory("p/d");
  setDevice(world.folder, "p/d", 3);
  NodeId d = world.node("p/d");

  Plan plan = world.plan(true, {d});
  world.table.apply(plan);

  CHECK(count(plan, Kind::Vanished) == 1);
  CHECK(world.node("p/d") == d);
  world.checkSame();
}

TEST_CASE("disks that got other numbers at a restart are the same disks") {
  World world = worldWithDisk();
  setDevice(world.folder, "", 2);
  setDevice(world.folder, "p/d", 9);
  world.folder.rename("p/d/f", "p/d/g");

  Plan plan = world.plan(true);

  CHECK(count(plan, Kind::Move) == 1);
  CHECK(count(plan, Kind::Vanished) == 0);
  CHECK(plan.deviceChanges == std::vector<std::pair<uint64_t, uint64_t>>{{1, 2}, {2, 9}});
}

TEST_CASE("a folder restored onto another disk is known by its names") {
  World world = worldWith({"d/", "d/f", "g"});
  NodeId f = world.node("d/f");
  Folder copy;
  copy.make(FileStat::Type::File);
  copy.directory("d");
  copy.file("d/f");
  copy.file("g");
  setDevice(copy, "", 7);
  copy.root->stat.inode = 5555;
  world.folder = copy;

  Plan plan = world.look(true);

  CHECK(count(plan, Kind::Replaced) == 2);
  CHECK(count(plan, Kind::Vanished) == 0);
  CHECK(count(plan, Kind::New) == 0);
  CHECK(world.node("d/f") == f);
}

TEST_CASE("special files and impossible names are skipped and noted") {
  World world = worldWith({"f"});
  world.folder.slot("socket") = world.folder.make(FileStat::Type::Other);
  world.folder.file(std::string(256, 'n'));
  world.folder.directory(".realize");

  Plan plan = world.look(true);

  CHECK(plan.steps.empty());
  CHECK(plan.notes.size() == 2);
}

TEST_CASE("removals can be held back without the rest of a plan") {
  World world = worldWith({"a", "b", "d/", "d/x", "f"});
  NodeId x = world.node("d/x");
  world.folder.remove("a");
  world.folder.edit("b");
  world.folder.remove("f");
  world.folder.directory("f");
  world.folder.file("f/new");
  world.folder.file("d/new");
  Plan plan = world.plan(false);
  CHECK(plan.removed().size() == 2);

  dropRemovals(plan);
  world.table.apply(plan);

  CHECK(plan.steps.size() == 2);
  CHECK(world.node("a") != 0);
  CHECK(world.node("f") != 0);
  CHECK(world.node("d/x") == x);
  CHECK(world.node("d/new") != 0);
  world.look();
  world.checkSame();
}

TEST_CASE("a folder whose move waits for a removal is said to stand where it is") {
  World world = worldWith({"d/", "d/x", "f", "x"});
  NodeId d = world.node("d");
  world.folder.rename("f", "d/x");
  world.folder.remove("x");
  std::string path;
  SUBCASE("under that name") {
    world.folder.rename("d", "x");
    path = "x";
  }
  SUBCASE("in a new folder of that name") {
    world.folder.directory("x");
    world.folder.rename("d", "x/d");
    path = "x/d";
  }
  Plan plan = world.plan(true);

  auto standing = dropRemovals(plan);

  REQUIRE(standing.size() == 1);
  CHECK(standing[d].parent == kRootNode);
  CHECK(standing[d].path == path);
  CHECK(std::any_of(plan.steps.begin(), plan.steps.end(), [](const Step& s) { return s.kind == Step::Kind::Replaced; }));
  CHECK(world.node("d") == d);
}
