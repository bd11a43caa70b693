// Many files get other contents at once: held back until confirmed, and nothing is lost by either answer.

#include <doctest/doctest.h>

#include <set>

#include "librealize/peer/undo.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

constexpr int kFiles = 30;

std::string name(int i) { return "file" + std::to_string(i); }
std::string old(int i) { return "what stood in " + std::to_string(i); }

/// Two peers with thirty files, all old; from ten on at once is a mass.
struct Overwritten : SimArenas {
  Overwritten() {
    for (auto* peer : {a.get(), b.get()}) peer->options.settings.guardMinimum = 10;
    for (int i = 0; i < kFiles; ++i) write(*a, name(i), old(i));
    start();
    REQUIRE(settles());
    pass(120'000);
  }
  void overwrite(int from, int to, const std::string& with = "rubbish ") {
    for (int i = from; i < to; ++i) write(*a, name(i), with + std::to_string(i));
  }
  uint64_t held(test::SimPeer& peer) { return peer.core->status().heldOverwrites; }
  int oldAt(test::SimPeer& peer) {
    int count = 0;
    for (int i = 0; i < kFiles; ++i) count += read(peer, name(i)) == old(i);
    return count;
  }
  bool allOldAt(test::SimPeer& peer) { return oldAt(peer) == kFiles; }
  /// What the files there hold, wherever they stand.
  std::multiset<std::string> contents(test::SimPeer& peer, const std::string& folder = "") {
    std::multiset<std::string> all;
    const auto items = *(*peer.disk.openRoot(test::kSimFolder))->list(folder);
    for (const auto& item : items) {
      if (item.name == ".realize") continue;
      const std::string path = folder.empty() ? item.name : folder + "/" + item.name;
      if (item.stat.type == FileStat::Type::Directory) all.merge(contents(peer, path));
      else all.insert(read(peer, path));
    }
    return all;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Overwritten, "new contents for most files stay where they were written until confirmed, all of them") {
  overwrite(0, 25);
  REQUIRE(until([&] { return held(*a) == 25; }));
  pass(60'000);

  CHECK(oldAt(*b) == kFiles);
  CHECK(read(*a, name(3)) == "rubbish 3");
  const auto status = a->core->status();
  CHECK_FALSE(status.consensus);
  CHECK(status.consensusWhy == "new contents of many files wait to be confirmed");
  CHECK(problem(*a, "", "held-overwrite"));

  CHECK(*core(*a).folder->confirmHeld(false) == 25);
  REQUIRE(settles());
  CHECK(held(*a) == 0);
  CHECK_FALSE(problem(*a, "", "held-overwrite"));
  CHECK(read(*b, name(3)) == "rubbish 3");
  CHECK(read(*b, name(28)) == old(28));
}

TEST_CASE_FIXTURE(Overwritten, "a confirmed mass overwriting is undone, with the bytes that the other peer kept") {
  const int64_t before = a->clock.nowNs();
  overwrite(0, 25);
  REQUIRE(until([&] { return held(*a) == 25; }));
  REQUIRE(core(*a).folder->confirmHeld(false).ok());
  REQUIRE(settles());
  REQUIRE(oldAt(*b) == kFiles - 25);

  auto& there = core(*b);
  auto rows = planUndo(there, {.path = "", .sinceNs = before});
  REQUIRE(rows.ok());
  CHECK(rows->size() == 25);
  there.transact([&] {
    for (const auto& row : *rows) CHECK(undoOne(there, row).ok());
  });
  REQUIRE(settles());

  CHECK(allOldAt(*a));
  CHECK(allOldAt(*b));
}

TEST_CASE_FIXTURE(Overwritten, "held contents are put back by --keep, and what had replaced them can still be had") {
  overwrite(0, 25);
  REQUIRE(until([&] { return held(*a) == 25; }));
  CHECK(*core(*a).folder->confirmHeld(true) == 25);
  REQUIRE(until([&] { return allOldAt(*a); }));
  REQUIRE(settles());

  CHECK(held(*a) == 0);
  CHECK(allOldAt(*b));
  auto& here = core(*a);
  auto rows = planUndo(here, {.path = name(3)});
  REQUIRE(rows.ok());
  REQUIRE(rows->size() == 1);
  here.transact([&] { CHECK(undoOne(here, rows->front()).ok()); });
  REQUIRE(settles());
  CHECK(read(*b, name(3)) == "rubbish 3");
}

TEST_CASE_FIXTURE(Overwritten, "held contents are held after a restart, also where few were left to hold") {
  overwrite(0, 9);
  REQUIRE(settles());
  overwrite(9, 12);
  REQUIRE(until([&] { return held(*a) == 3; }));
  link->cut();
  a->stop();
  REQUIRE(a->start().ok());
  link->connect();
  REQUIRE(until([&] { return held(*a) == 3; }));
  pass(10'000);

  CHECK(read(*b, name(8)) == "rubbish 8");
  CHECK(read(*b, name(9)) == old(9));
  CHECK(problem(*a, "", "held-overwrite"));

  for (int i = 9; i < 12; ++i) write(*a, name(i), old(i));
  REQUIRE(until([&] { return held(*a) == 0; }));
  REQUIRE(settles());
  CHECK_FALSE(problem(*a, "", "held-overwrite"));
}

TEST_CASE_FIXTURE(Overwritten, "what is left of a held removal is held after a restart") {
  auto root = *a->disk.openRoot(test::kSimFolder);
  for (int i = 0; i < 9; ++i) REQUIRE(root->unlink(name(i)).ok());
  REQUIRE(settles());
  for (int i = 9; i < 12; ++i) REQUIRE(root->unlink(name(i)).ok());
  REQUIRE(until([&] { return a->core->status().heldRemovals == 3; }));
  link->cut();
  a->stop();
  REQUIRE(a->start().ok());
  link->connect();
  pass(10'000);

  CHECK(a->core->status().heldRemovals == 3);
  CHECK(has(*b, name(9)));
  CHECK_FALSE(has(*b, name(8)));
}

TEST_CASE_FIXTURE(Overwritten, "a rename of everything, a touch of everything and rewriting the same replace nothing") {
  auto root = *a->disk.openRoot(test::kSimFolder);
  REQUIRE(root->makeDirectory("dir", 0755).ok());
  for (int i = 0; i < kFiles; ++i) REQUIRE(root->rename(name(i), "dir/" + name(i), RenameKind::NoReplace).ok());
  REQUIRE(settles());
  CHECK(held(*a) == 0);
  CHECK(read(*b, "dir/" + name(5)) == old(5));

  for (int i = 0; i < kFiles; ++i) write(*a, "dir/" + name(i), old(i));
  REQUIRE(settles());
  CHECK(held(*a) == 0);
}

TEST_CASE_FIXTURE(Overwritten, "below the share contents are replaced again and again, and young files as often as one likes") {
  for (int round = 0; round < 5; ++round) {
    overwrite(0, 10, "build " + std::to_string(round) + " of ");
    REQUIRE(settles());
    CHECK(held(*a) == 0);
    CHECK(read(*b, name(4)) == "build " + std::to_string(round) + " of 4");
  }
  pass(120'000);

  for (int i = 0; i < 60; ++i) write(*a, "unpacked" + std::to_string(i), "as it came");
  pass(2000);
  for (int i = 0; i < 60; ++i) write(*a, "unpacked" + std::to_string(i), "patched");
  REQUIRE(settles());
  CHECK(held(*a) == 0);
  CHECK(read(*b, "unpacked59") == "patched");
}

TEST_CASE_FIXTURE(Overwritten, "files that are renamed and overwritten are held under their new names, and can be removed") {
  auto root = *a->disk.openRoot(test::kSimFolder);
  for (int i = 0; i < 20; ++i) {
    write(*a, name(i), "locked");
    REQUIRE(root->rename(name(i), name(i) + ".locked", RenameKind::NoReplace).ok());
  }
  REQUIRE(until([&] { return held(*a) == 20; }));
  REQUIRE(until([&] { return has(*b, name(3) + ".locked"); }));
  CHECK(read(*b, name(3) + ".locked") == old(3));

  for (int i = 0; i < 5; ++i) REQUIRE(root->unlink(name(i) + ".locked").ok());
  REQUIRE(until([&] { return held(*a) == 15; }));
  CHECK(*core(*a).folder->confirmHeld(true) == 15);
  REQUIRE(until([&] { return read(*a, name(7) + ".locked") == old(7); }));
  REQUIRE(settles());
}

TEST_CASE_FIXTURE(Overwritten, "an edit by another peer of a file whose new content is held is kept beside it") {
  overwrite(0, 25);
  REQUIRE(until([&] { return held(*a) == 25; }));
  write(*b, name(3), "edited by B");
  pass(30'000);
  CHECK(read(*a, name(3)) == "rubbish 3");

  REQUIRE(core(*a).folder->confirmHeld(false).ok());
  REQUIRE(until([&] { return a->core->status().conflicts == 1 && b->core->status().conflicts == 1; }));
  CHECK(read(*b, name(3)) == "edited by B");
}

TEST_CASE_FIXTURE(Overwritten, "what was written a moment before is held with the rest, though it does not count") {
  overwrite(0, 5, "built ");
  REQUIRE(settles());
  a->stop();
  overwrite(0, 25);
  REQUIRE(a->start().ok());
  link->cut();
  link->connect();
  REQUIRE(until([&] { return held(*a) == 25; }));
  pass(10'000);
  CHECK(read(*b, name(3)) == "built 3");
}

TEST_CASE_FIXTURE(Overwritten, "what is renamed over a file while contents are held is held with its old name, too") {
  bool keep = false, first = false;
  SUBCASE("confirmed") {}
  SUBCASE("kept") { keep = true; }
  SUBCASE("kept, and renames are all there is") { keep = first = true; }
  auto root = *a->disk.openRoot(test::kSimFolder);
  const int from = first ? 15 : 28;
  if (!first) {
    overwrite(0, 25);
    REQUIRE(until([&] { return held(*a) == 25; }));
  }
  for (int i = from; i < kFiles; ++i) REQUIRE(root->rename(name(i), name(i - from), RenameKind::Replace).ok());
  const uint64_t gone = uint64_t(kFiles - from);
  CHECK(until([&] { return a->core->status().heldRemovals == gone; }));
  pass(10'000);
  CHECK(allOldAt(*b));

  REQUIRE(core(*a).folder->confirmHeld(keep).ok());
  REQUIRE(settles());
  CHECK(a->core->status().heldRemovals == 0);
  for (auto* peer : {a.get(), b.get()}) {
    if (keep) CHECK(allOldAt(*peer));
    else CHECK(read(*peer, name(0)) == old(from));
    CHECK(has(*peer, name(from)) == keep);
  }
}

TEST_CASE_FIXTURE(Overwritten, "what is renamed over files goes with its old name or not at all, also where that makes a share of fewer files") {
  auto root = *a->disk.openRoot(test::kSimFolder);
  const int from = 20;  // A third of thirty, and half of twenty.
  for (int i = from; i < kFiles; ++i) REQUIRE(root->rename(name(i), name(i - from), RenameKind::Replace).ok());

  REQUIRE(settles());
  CHECK(held(*a) == a->core->status().heldRemovals);
  for (auto* peer : {a.get(), b.get()})
    for (int i = from; i < kFiles; ++i) {
      CHECK(read(*peer, name(i - from)) == old(i));
      CHECK_FALSE(has(*peer, name(i)));
    }
}

TEST_CASE_FIXTURE(Overwritten, "a link that is renamed over another while contents are held is one change") {
  auto root = *a->disk.openRoot(test::kSimFolder);
  REQUIRE(root->makeSymlink("link", "to/old").ok());
  REQUIRE(root->makeSymlink("new", "to/new").ok());
  REQUIRE(settles());
  overwrite(0, 25);
  REQUIRE(until([&] { return held(*a) == 25; }));
  REQUIRE(root->rename("new", "link", RenameKind::Replace).ok());
  pass(10'000);
  REQUIRE(core(*a).folder->confirmHeld(true).ok());

  REQUIRE(settles());
  auto there = *b->disk.openRoot(test::kSimFolder);
  CHECK(there->readSymlink("link").ok());
  CHECK_FALSE(there->readSymlink("new").ok());
}

TEST_CASE_FIXTURE(Overwritten, "what is under its name again when removals are taken back is what was written there") {
  auto root = *a->disk.openRoot(test::kSimFolder);
  for (int i = 0; i < 12; ++i) REQUIRE(root->unlink(name(i)).ok());
  REQUIRE(until([&] { return a->core->status().heldRemovals == 12; }));
  write(*a, name(0), "anew");
  CHECK(*core(*a).folder->confirmHeld(true) == 11);
  REQUIRE(root->unlink(name(0)).ok());

  REQUIRE(settles());
  CHECK_FALSE(has(*b, name(0)));
  CHECK(read(*a, name(1)) == old(1));
}

TEST_CASE_FIXTURE(Overwritten, "a removal that was confirmed is one, though more is held in the meantime") {
  auto root = *a->disk.openRoot(test::kSimFolder);
  REQUIRE(root->makeDirectory("d", 0755).ok());
  for (int i = 0; i < 30; ++i) write(*a, "d/" + name(i), old(i));
  REQUIRE(settles());
  pass(120'000);
  for (int i = 0; i < 25; ++i) REQUIRE(root->unlink(name(i)).ok());
  REQUIRE(until([&] { return a->core->status().heldRemovals == 25; }));
  for (int i = 0; i < 30; ++i) REQUIRE(root->unlink("d/" + name(i)).ok());
  REQUIRE(core(*a).folder->confirmHeld(false).ok());
  REQUIRE(until([&] { return a->core->status().heldRemovals == 30; }));
  for (int i = 0; i < 30; ++i) write(*a, "d/" + name(i), old(i));

  REQUIRE(settles());
  for (int i = 0; i < 25; ++i) CHECK_FALSE(has(*b, name(i)));
  CHECK(read(*b, "d/" + name(12)) == old(12));
}

TEST_CASE_FIXTURE(Overwritten, "who removes a file has removed its version, though that was issued again meanwhile") {
  bool unread = false;
  SUBCASE("that was read") {}
  SUBCASE("that was to be read") { unread = true; }
  auto root = *a->disk.openRoot(test::kSimFolder);
  auto& disk = core(*a).store.disk();
  for (int i = 0; i < 20; ++i) REQUIRE(root->unlink(name(i)).ok());
  REQUIRE(until([&] { return a->core->status().heldRemovals == 20; }));
  if (unread)
    core(*a).transact([&] { for (int i = 0; i < 20; ++i) disk.setDirty(core(*a).recordAt(name(i))->node, true); });

  core(*b).transact([&] {
    for (int i = 0; i < 20; ++i) {
      const auto record = core(*b).recordAt(name(i));
      REQUIRE(core(*b).tree.resolve(record->entry.id, record->entry.heads[0].first).ok());
    }
  });
  pass(10'000);
  REQUIRE(core(*a).folder->confirmHeld(false).ok());

  REQUIRE(settles());
  for (int i = 0; i < 20; ++i)
    for (auto* peer : {a.get(), b.get()}) CHECK_FALSE(has(*peer, name(i)));
}

TEST_CASE_FIXTURE(Overwritten, "a held content is kept, though its file was removed elsewhere and its first name is made anew") {
  auto here = *a->disk.openRoot(test::kSimFolder);
  auto there = *b->disk.openRoot(test::kSimFolder);
  REQUIRE(here->makeDirectory("d", 0755).ok());
  for (int i = 0; i < 20; ++i) REQUIRE(here->rename(name(i), "d/" + name(i), RenameKind::NoReplace).ok());
  REQUIRE(settles());
  pass(120'000);
  for (int i = 0; i < 20; ++i) write(*a, "d/" + name(i), "rubbish " + std::to_string(i));
  REQUIRE(until([&] { return held(*a) == 20; }));
  for (int i = 0; i < 20; ++i) REQUIRE(there->unlink("d/" + name(i)).ok());
  REQUIRE(there->removeDirectory("d").ok());
  REQUIRE(until([&] { return b->core->status().heldRemovals == 21; }));
  REQUIRE(core(*b).folder->confirmHeld(false).ok());
  pass(1000);

  REQUIRE(core(*a).folder->confirmHeld(false).ok());
  for (int i = 0; i < 20; ++i) write(*a, name(i), "new " + std::to_string(i));

  REQUIRE(settles());
  for (int i = 0; i < 20; ++i) CHECK(read(*b, name(i)) == "new " + std::to_string(i));
  for (int i = 0; i < 20; ++i) CHECK(read(*b, "d/" + name(i)) == "rubbish " + std::to_string(i));
}

TEST_CASE_FIXTURE(Overwritten, "files that became something else are held, and go when confirmed") {
  auto root = *a->disk.openRoot(test::kSimFolder);
  for (int i = 0; i < 20; ++i) {
    REQUIRE(root->unlink(name(i)).ok());
    REQUIRE(root->makeSymlink(name(i), "elsewhere").ok());
  }
  REQUIRE(until([&] { return a->core->status().heldRemovals == 20; }));
  write(*a, "more", "something else to read");
  pass(10'000);
  CHECK(a->core->status().heldRemovals == 20);

  REQUIRE(core(*a).folder->confirmHeld(false).ok());
  REQUIRE(settles());
  auto there = (*b->disk.openRoot(test::kSimFolder))->readSymlink(name(5));
  REQUIRE(there.ok());
  CHECK(*there == "elsewhere");
}

TEST_CASE_FIXTURE(Overwritten, "what a peer took out of a folder whose removal is held back is where he put it, whatever the answer") {
  bool keep = false;
  SUBCASE("confirmed") {}
  SUBCASE("kept") { keep = true; }
  auto here = *a->disk.openRoot(test::kSimFolder);
  auto there = *b->disk.openRoot(test::kSimFolder);
  REQUIRE(here->makeDirectory("trip", 0755).ok());
  for (int i = 0; i < 20; ++i) write(*a, "trip/" + name(i), "of the trip " + old(i));
  REQUIRE(settles());
  for (int i = 0; i < 20; ++i) REQUIRE(here->unlink("trip/" + name(i)).ok());
  REQUIRE(here->removeDirectory("trip").ok());
  REQUIRE(until([&] { return a->core->status().heldRemovals == 21; }));

  for (int i = 0; i < 20; ++i) REQUIRE(there->rename("trip/" + name(i), "out-" + name(i), RenameKind::NoReplace).ok());
  REQUIRE(there->removeDirectory("trip").ok());
  pass(10'000);
  REQUIRE(core(*a).folder->confirmHeld(keep).ok());

  REQUIRE(settles());
  for (int i = 0; i < 20; ++i)
    for (auto* peer : {a.get(), b.get()}) CHECK(read(*peer, "out-" + name(i)) == "of the trip " + old(i));
}

TEST_CASE_FIXTURE(Overwritten, "a link that a peer makes or changes in a folder whose removal is held back is not tried without end") {
  bool keep = false, made = false;
  SUBCASE("made, confirmed") { made = true; }
  SUBCASE("made, kept") { keep = made = true; }
  SUBCASE("changed, confirmed") {}
  SUBCASE("changed, kept") { keep = true; }
  auto here = *a->disk.openRoot(test::kSimFolder);
  auto there = *b->disk.openRoot(test::kSimFolder);
  REQUIRE(here->makeDirectory("trip", 0755).ok());
  for (int i = 0; i < 20; ++i) write(*a, "trip/" + name(i), "of the trip " + old(i));
  if (!made) REQUIRE(here->makeSymlink("trip/link", "old").ok());
  REQUIRE(settles());
  for (int i = 0; i < 20; ++i) REQUIRE(here->unlink("trip/" + name(i)).ok());
  if (!made) REQUIRE(here->unlink("trip/link").ok());
  REQUIRE(here->removeDirectory("trip").ok());
  REQUIRE(until([&] { return a->core->status().heldRemovals == (made ? 21 : 22); }));
  if (!made) REQUIRE(there->unlink("trip/link").ok());
  REQUIRE(there->makeSymlink("trip/link", "new").ok());
  pass(20'000);
  int calls = 0;
  a->onCall = [&](const test::FakeCall& call) { calls += call.path.starts_with(test::kSimFolder); };

  pass(60'000);

  CHECK(calls < 200);
  CHECK_FALSE(core(*a).folder->settling());
  a->onCall = nullptr;
  REQUIRE(core(*a).folder->confirmHeld(keep).ok());
  REQUIRE(settles());
  for (auto* peer : {a.get(), b.get()}) {
    const auto link = (*peer->disk.openRoot(test::kSimFolder))->readSymlink("trip/link");
    REQUIRE(link.ok());
    CHECK(*link == "new");
    CHECK(has(*peer, "trip/" + name(3)) == keep);
  }
}

TEST_CASE_FIXTURE(Overwritten, "another folder that took the name of one whose removal is held is not that one come back") {
  bool keep = false;
  SUBCASE("confirmed") {}
  SUBCASE("kept") { keep = true; }
  auto here = *a->disk.openRoot(test::kSimFolder);
  for (const std::string folder : {"trip", "new"}) {
    REQUIRE(here->makeDirectory(folder, 0755).ok());
    for (int i = 0; i < 40; ++i) write(*a, folder + "/" + name(i), folder + " " + old(i));
  }
  REQUIRE(settles());
  pass(120'000);
  for (int i = 0; i < 40; ++i) REQUIRE(here->unlink("trip/" + name(i)).ok());
  REQUIRE(here->removeDirectory("trip").ok());
  REQUIRE(here->rename("new", "trip", RenameKind::NoReplace).ok());
  REQUIRE(until([&] { return a->core->status().heldRemovals == 41; }));
  pass(10'000);
  CHECK(a->core->status().heldRemovals == 41);

  REQUIRE(core(*a).folder->confirmHeld(keep).ok());

  REQUIRE(settles());
  for (auto* peer : {a.get(), b.get()}) {
    CHECK_FALSE(has(*peer, "new"));
    for (int i = 0; i < 40; ++i) CHECK(contents(*peer).count("new " + old(i)) == 1);
    for (int i = 0; i < 40; ++i) CHECK(contents(*peer).count("trip " + old(i)) == (keep ? 1 : 0));
  }
}

TEST_CASE_FIXTURE(Overwritten, "a held removal is held no more once peers have removed the same") {
  bool folder = false;
  int removedThere = 20;
  SUBCASE("files") {}
  SUBCASE("a folder with its files") { folder = true; }
  SUBCASE("part of them, and the rest is confirmed") { removedThere = 15; }
  auto here = *a->disk.openRoot(test::kSimFolder);
  auto there = *b->disk.openRoot(test::kSimFolder);
  const std::string in = folder ? "trip/" : "";
  if (folder) {
    REQUIRE(here->makeDirectory("trip", 0755).ok());
    for (int i = 0; i < 20; ++i) REQUIRE(here->rename(name(i), in + name(i), RenameKind::NoReplace).ok());
    REQUIRE(settles());
    pass(120'000);
  }
  for (int i = 0; i < 20; ++i) REQUIRE(here->unlink(in + name(i)).ok());
  if (folder) REQUIRE(here->removeDirectory("trip").ok());
  REQUIRE(until([&] { return a->core->status().heldRemovals == 20u + folder; }));

  for (int i = 0; i < removedThere; ++i) REQUIRE(there->unlink(in + name(i)).ok());
  if (folder) REQUIRE(there->removeDirectory("trip").ok());
  REQUIRE(until([&] { return b->core->status().heldRemovals == uint64_t(removedThere) + folder; }));
  REQUIRE(core(*b).folder->confirmHeld(false).ok());
  pass(10'000);

  const uint64_t left = 20 - uint64_t(removedThere);
  CHECK(a->core->status().heldRemovals == left);
  CHECK(problem(*a, "", "held-removal") == (left > 0));
  if (left > 0) CHECK(*core(*a).folder->confirmHeld(false) == left);
  REQUIRE(settles());
  CHECK_FALSE(problem(*a, "", "held-removal"));
  pass(120'000);
  REQUIRE(here->unlink(name(25)).ok());
  REQUIRE(settles());
  for (int i = 0; i < 20; ++i)
    for (auto* peer : {a.get(), b.get()}) CHECK_FALSE(has(*peer, in + name(i)));
  CHECK_FALSE(has(*b, name(25)));
}
