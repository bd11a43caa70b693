// What realize-sim once found, told as the shortest story: power cuts in the wrong moment, users quicker than the program.

#include <algorithm>
#include <mutex>
#include <set>
#include <utility>

#include "librealize/peer/conflicts.h"
#include "tests/peer/sim_household.h"

namespace realize::test {

namespace {

constexpr size_t kA = 0, kB = 1;
const std::string kFile = std::string(kSimFolder) + "/f";

bool isRename(const FakeCall& call, const std::string& to) {
  return call.op == FakeOp::Rename && call.path.starts_with(std::string(kSimFolder) + "/.realize/") && call.path2 == to;
}

/// Of the versions of "f".
void take(SimHousehold& home, size_t number, const std::string& text) {
  std::lock_guard held(home.peers[number]->scheduler->coreLock());
  for (const auto& head : home.core(number).tree.shownHeads(home.core(number).recordAt("f")->entry.id)) {
    if (head.version.blob != SimHousehold::blobOf(text)) continue;
    CHECK(home.peers[number]->core->resolve("f", peer::labelOf(head.dot)).ok());
  }
}

/// Both have edited "f" while they were apart, and have met since.
void startInConflict(SimHousehold& home) {
  home.write(kA, "f", "first");
  home.startAndMeet();
  home.disconnect();
  home.write(kA, "f", "of A");
  home.write(kB, "f", "of B");
  home.connect();
  REQUIRE(home.settle());
}

}  // namespace

TEST_CASE("what was put back under its name is there after a power cut, too") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real}, seed + 1);
    home.write(kA, "f", "first");
    home.startAndMeet();
    int races = 0;
    home.peers[kB]->onCall = [&](const FakeCall& call) {
      if (!home.peers[kB]->userActing && isRename(call, kFile) && ++races == 1) home.write(kB, "f", "mine of B");
    };

    home.write(kA, "f", "second");
    auto told = [&] {
      for (const auto& head : home.core(kA).tree.shownHeads(home.core(kA).recordAt("f")->entry.id))
        if (head.version.blob == SimHousehold::blobOf("mine of B")) return true;
      return false;
    };
    for (int i = 0; i < 3000 && !told(); ++i) home.runFor(1);
    home.losePower(kB, seed);
    home.connect();

    REQUIRE(home.settle());
    REQUIRE(races > 0);
    CHECK(home.fetch(kA, "mine of B") == "mine of B");
    CHECK(home.fetch(kB, "second") == "second");
  }
}

TEST_CASE("what was written into a version that had a name for a moment only is given back, whenever the process ends") {
  for (int renames = 2; renames < 6; ++renames) {
    CAPTURE(renames);
    SimHousehold home({Mark::Real});
    home.write(kA, "f", "first");
    home.startAndMeet();
    int races = 0, seen = 0;
    bool over = false;
    auto& b = *home.peers[kB];
    b.onCall = [&](const FakeCall& call) {
      if (b.userActing || over || call.op != FakeOp::Rename) return;
      if (isRename(call, kFile) && races < 2) home.write(kB, "f", ++races == 1 ? "mine of B" : "mine once more");
      if (races && ++seen == renames) {
        over = true;
        b.disk.powerOff();
      }
    };

    home.write(kA, "f", "second");
    for (int i = 0; i < 3000 && !over; ++i) home.runFor(1);
    home.runFor(5);
    home.end(kB);
    b.onCall = nullptr;
    b.disk.settle();  // The process alone has ended.
    FakeRandom random(1);
    b.disk.crash(random);
    REQUIRE(b.start().ok());
    home.connect();

    REQUIRE(home.settle());
    CHECK(home.inFolder(kB, "mine of B"));
    if (races == 2) CHECK(home.inFolder(kB, "mine once more"));
  }
}

TEST_CASE("a cached content that somebody took away is missing, not empty") {
  const std::string film(400'000, 'f');
  SimHousehold home({Mark::Unreal});
  home.write(kA, "film", film);
  home.startAndMeet();
  REQUIRE(home.fetch(kB, film) == film);
  home.runFor(20'000);  // Nobody has it open any more.
  home.disconnect();
  home.runFor(1000);
  REQUIRE(home.fetch(kB, film) == film);
  home.runFor(20'000);

  REQUIRE(home.folder(kB)->unlink(peer::Transfers::cachePath(SimHousehold::blobOf(film))).ok());

  CHECK(home.fetch(kB, film).starts_with("<no connected peer"));
  home.end(kB);
  REQUIRE(home.peers[kB]->start().ok());
  CHECK_FALSE(home.core(kB).transfers->complete(SimHousehold::blobOf(film)));
  CHECK(home.fetch(kB, film).starts_with("<no connected peer"));
  home.connect();
  CHECK(home.fetch(kB, film) == film);

  home.runFor(20'000);
  home.end(kB);
  REQUIRE(home.folder(kB)->unlink(peer::Transfers::cachePath(SimHousehold::blobOf(film))).ok());
  REQUIRE(home.peers[kB]->start().ok());
  CHECK_FALSE(home.core(kB).transfers->complete(SimHousehold::blobOf(film)));
}

TEST_CASE("what a power cut left of a cached content says nothing of its size") {
  const std::string text(20'000, 't');
  const BlobId blob = SimHousehold::blobOf(text);
  SimHousehold home({Mark::Unreal});
  home.write(kA, "f", text);
  home.start();
  home.connect();
  REQUIRE(home.settle());
  home.end(kB);
  auto left = home.folder(kB)->open(peer::Transfers::cachePath(blob), OpenMode::CreateOrOpen, 0600);
  REQUIRE(left.ok());
  const std::string piece(12'288, 't');
  REQUIRE((*left)->write(0, std::as_bytes(std::span(piece))).ok());
  REQUIRE(home.peers[kB]->start().ok());
  home.connect();
  home.runFor(1000);

  peer::GetRequest request;
  request.wants.push_back({blob, text.size(), {}});
  home.peers[kB]->scheduler->onCore([&] {
    home.core(kB).transfers->serveGet(home.core(kA).options.self, request, [](peer::ChunkArrivals) { return true; }, [](auto) {});
  });
  home.runFor(1000);

  CHECK((home.fetch(kB, text) == text));
}

TEST_CASE("what the cache got for good is not the empty file before it, after a power cut") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    const std::string theirs(3000, 't');
    SimHousehold home({Mark::Real}, seed + 1);
    home.write(kA, "f", "first");
    home.startAndMeet();
    home.disconnect();
    home.write(kB, "f", "mine of B");
    home.write(kA, "f", theirs);
    home.runFor(1000);
    auto& b = *home.peers[kB];
    bool asked = false;
    // Somebody reads it while it is being fetched: the cache has a file for it, with nothing in it yet.
    b.onCall = [&](const FakeCall& call) {
      if (asked || call.op != FakeOp::Create || call.path.find("/tmp/w") == std::string::npos) return;
      asked = true;
      auto file = home.folder(kB)->open(peer::Transfers::cachePath(SimHousehold::blobOf(theirs)), OpenMode::CreateOrOpen, 0600);
      REQUIRE(file.ok());
      REQUIRE((*file)->truncate(theirs.size()).ok());
    };

    home.connect();
    home.runFor(1500);
    home.losePower(kB, seed);

    REQUIRE(asked);
    const std::string got = home.fetch(kB, theirs);
    CHECK((got == theirs || got.starts_with("<no connected peer")));
  }
}

TEST_CASE("what is in a folder that moved below another mark is made real there, and unreal") {
  SimHousehold home({Mark::Unreal});
  home.write(kA, "keep/k", "k");
  home.write(kA, "trip/photos/p", "p");
  home.startAndMeet();
  home.core(kB).marks->set(*home.core(kB).recordAt("keep"), Mark::Real);
  REQUIRE(home.settle());
  REQUIRE_FALSE(home.inFolder(kB, "p"));

  REQUIRE(home.folder(kA)->rename("trip", "keep/trip", RenameKind::NoReplace).ok());
  REQUIRE(home.settle());
  CHECK(home.read(kB, "keep/trip/photos/p") == "p");

  REQUIRE(home.folder(kA)->rename("keep/trip", "trip", RenameKind::NoReplace).ok());
  REQUIRE(home.settle());
  home.runFor(10'000);
  CHECK_FALSE(home.inFolder(kB, "p"));
}

TEST_CASE("a name that a user cleared and a peer gave to another is told as both") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real}, seed + 1);
    home.write(kA, "one", "first");
    home.write(kA, "two/t", "t");
    home.startAndMeet();
    home.disconnect();
    auto a = home.folder(kA);
    REQUIRE(a->rename("one", "aside", RenameKind::NoReplace).ok());
    REQUIRE(a->rename("two", "one", RenameKind::NoReplace).ok());
    REQUIRE(a->rename("aside", "two", RenameKind::NoReplace).ok());
    home.runFor(1000);

    home.connect();
    home.runFor(int64_t(seed % 4) * 10);
    (void)home.folder(kB)->unlink("one").ok();  // Not read before the folder takes the name, or too late.

    REQUIRE(home.settle());
    CHECK(home.read(kA, "one/t") == "t");
    CHECK(home.read(kB, "one/t") == "t");
    CHECK(home.read(kB, "two") == home.read(kA, "two"));
    CHECK(home.core(kB).recordAt("two").ok() == (home.read(kB, "two") == "first"));
  }
}

TEST_CASE("bytes that another peer knows of outlive a power cut, also where a rename got further") {
  int cuts = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real}, seed + 1);
    home.write(kA, "f", "first");
    home.startAndMeet();
    const std::string mine(9000, 'm');
    auto& b = *home.peers[kB];
    // The rename that A's brings about here is on the disk, what the database says of it is not.
    bool moved = false;
    b.onCall = [&](const FakeCall& call) {
      if (moved && call.op == FakeOp::FileSync) b.disk.powerOff();
      moved = moved || (!b.userActing && call.op == FakeOp::Rename && call.path2 == std::string(kSimFolder) + "/g");
    };

    b.userActing = true;
    REQUIRE((*home.folder(kB)->open("f", OpenMode::ReadWrite))->write(0, std::as_bytes(std::span(mine))).ok());  // Not synced.
    b.userActing = false;
    auto known = [&](size_t peer) {
      auto record = home.core(peer).recordAt("f");
      return record.ok() && home.core(peer).shownVersion(*record)->second.blob == SimHousehold::blobOf(mine);
    };
    for (int i = 0; i < 400 && !known(kA); ++i) home.runFor(1);
    if (!known(kA)) continue;
    home.disconnect();  // Before its bytes came.
    REQUIRE(home.folder(kA)->rename("f", "g", RenameKind::NoReplace).ok());
    home.runFor(150);
    home.connect();
    for (int i = 0; i < 300 && !b.disk.isPowerOff(); ++i) home.runFor(1);
    if (!b.disk.isPowerOff()) continue;
    b.onCall = nullptr;
    home.losePower(kB, seed);
    home.connect();

    REQUIRE(home.settle());
    const std::string now = home.read(kB, "g");
    ++cuts;
    CHECK(now == mine);  // Its user has not synced it; who told of it has.
    CHECK(home.fetch(kA, now) == now);
  }
  CHECK(cuts > 0);
}

TEST_CASE("folders that changed places are watched where they are") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real}, seed + 1);
    home.write(kA, "one/1", "1");
    home.write(kA, "two/2", "2");
    home.startAndMeet();
    home.write(kA, "c", "c");
    home.runFor(int64_t(80 + seed));  // This has rested in a moment, and is read with what follows.
    auto a = home.folder(kA);
    REQUIRE(a->rename("one", "aside", RenameKind::NoReplace).ok());
    REQUIRE(a->rename("two", "one", RenameKind::NoReplace).ok());
    REQUIRE(a->rename("aside", "two", RenameKind::NoReplace).ok());
    REQUIRE(home.settle());

    home.write(kA, "one/new", "in one");
    REQUIRE(home.settle());
    home.write(kA, "two/new", "in two");
    REQUIRE(home.settle());

    CHECK(home.read(kB, "one/new") == "in one");
    CHECK(home.read(kB, "two/new") == "in two");
  }
}

TEST_CASE("a folder that has to make way stands beside under a name of whole characters") {
  SimHousehold home({Mark::Real});
  std::string name = "x";
  while (name.size() < 250) name += "\u00e9";
  home.write(kA, name + "/1", "1");
  home.startAndMeet();
  std::vector<std::string> aside;
  auto& b = *home.peers[kB];
  b.onCall = [&](const FakeCall& call) {
    if (call.op != FakeOp::Rename) return;
    const std::string last = call.path2.substr(call.path2.rfind('/') + 1);
    if (const size_t mark = last.rfind('~'); mark != std::string::npos && last.starts_with("x")) aside.push_back(last.substr(0, mark));
  };

  // The old one moves into the new one of its name.
  auto a = home.folder(kA);
  REQUIRE(a->rename(name, "old", RenameKind::NoReplace).ok());
  REQUIRE(a->makeDirectory(name, 0755).ok());
  REQUIRE(a->rename("old", name + "/in", RenameKind::NoReplace).ok());
  REQUIRE(home.settle());

  CHECK(home.read(kB, name + "/in/1") == "1");
  REQUIRE(aside.size() > 0);
  for (const auto& front : aside) CHECK(front.size() % 2 == 1);  // The first one, and characters of two bytes.
}

TEST_CASE("a folder that a peer removed goes once its user has taken out what he was still writing") {
  SimHousehold home({Mark::Real});
  home.write(kA, "trip/f", "first");
  home.startAndMeet();
  auto b = home.folder(kB);
  auto open = b->open("trip/f", OpenMode::ReadWrite);
  REQUIRE(open.ok());

  auto a = home.folder(kA);
  REQUIRE(a->unlink("trip/f").ok());
  REQUIRE(a->removeDirectory("trip").ok());
  home.runFor(2000);
  REQUIRE(home.read(kB, "trip/f") == "first");  // In use.
  REQUIRE((*open)->write(5, std::as_bytes(std::span("!", 1))).ok());
  open->reset();
  REQUIRE(b->rename("trip/f", "f", RenameKind::NoReplace).ok());

  REQUIRE(home.settle());
  CHECK(home.read(kA, "f") == "first!");
  CHECK_FALSE(b->stat("trip").ok());
}

TEST_CASE("a version that was removed before anyone had it gives way to what who renamed the file has") {
  SimHousehold home({Mark::Real});
  home.write(kA, "f", "first");
  home.startAndMeet();
  home.disconnect();

  home.write(kB, "f", "second");
  home.runFor(400);  // Read, and told to nobody yet.
  REQUIRE(home.folder(kB)->unlink("f").ok());
  home.runFor(400);
  REQUIRE(home.folder(kA)->rename("f", "g", RenameKind::NoReplace).ok());
  home.runFor(400);
  home.connect();

  REQUIRE(home.settle());
  CHECK(home.read(kA, "g") == "first");
  CHECK(home.read(kB, "g") == "first");
}

TEST_CASE("a file that was removed before anyone had its bytes goes, though somebody renamed it") {
  SimHousehold home({Mark::Real});
  home.startAndMeet();
  home.write(kB, "f", "only here");
  for (int i = 0; i < 1000 && !home.core(kA).recordAt("f").ok(); ++i) home.runFor(1);
  home.disconnect();
  REQUIRE(home.core(kA).marks->missingFiles() == 1);

  auto& a = home.core(kA);
  a.transact([&] { REQUIRE(a.tree.move(a.recordAt("f")->entry.id, kRootEntry, "g").ok()); });
  REQUIRE(home.folder(kB)->unlink("f").ok());
  home.runFor(400);
  home.connect();

  REQUIRE(home.settle());
  CHECK_FALSE(home.core(kA).recordAt("g").ok());
  CHECK_FALSE(home.core(kB).recordAt("g").ok());
}

TEST_CASE("what is wanted is asked for once") {
  SimHousehold home({Mark::Real});
  for (int i = 0; i < 10; ++i) home.write(kA, "f" + std::to_string(i), "text " + std::to_string(i));
  home.start();
  size_t asked = 0;
  home.links[0]->onTalk = [&](const std::string& what) {
    if (const size_t at = what.find("asks for "); at != std::string::npos) asked += size_t(std::count(what.begin() + long(at) + 9, what.end(), ' ')) - 1;
  };
  home.connect();

  REQUIRE(home.settle());
  CHECK(asked == 10);
}

TEST_CASE("what a user wrote into a version that the database forgot with the power is given back") {
  int met = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real}, seed + 1);
    home.write(kA, "f", "first");
    home.startAndMeet();
    auto& b = *home.peers[kB];
    int placed = 0;
    bool off = false;
    b.onCall = [&](const FakeCall& call) {
      if (b.userActing || off || !isRename(call, kFile)) return;
      if (++placed < 2) return;
      home.write(kB, "f", "mine of B");  // Into what was put there a moment ago, and not long enough to be durable.
      b.disk.powerOffBefore(2);          // In our folder, and not back yet.
      off = true;
    };

    home.write(kA, "f", "second");
    for (int i = 0; i < 3000 && !placed; ++i) home.runFor(1);
    home.write(kA, "f", "third");
    for (int i = 0; i < 3000 && !b.disk.isPowerOff(); ++i) home.runFor(1);
    if (!b.disk.isPowerOff()) continue;
    ++met;
    b.onCall = nullptr;
    home.losePower(kB, seed);
    home.connect();

    REQUIRE(home.settle());
    CHECK(home.fetch(kA, "mine of B") == "mine of B");
  }
  CHECK(met > 0);
}

TEST_CASE("a folder that a peer removed, and that its user filled and emptied again at that moment, goes") {
  SimHousehold home({Mark::Real});
  home.write(kA, "x/b", "in x");
  home.startAndMeet();
  auto& b = *home.peers[kB];
  bool filled = false, emptied = false;
  auto act = [&](const std::function<void()>& what) {
    b.userActing = true;
    what();
    b.userActing = false;
  };
  b.onCall = [&](const FakeCall& call) {
    if (b.userActing || call.path != std::string(kSimFolder) + "/x") return;
    if (call.op == FakeOp::RemoveDirectory && !std::exchange(filled, true)) home.write(kB, "x/y", "of B");
    else if (call.op == FakeOp::List && filled && !std::exchange(emptied, true))
      act([&] { CHECK(home.folder(kB)->unlink("x/y").ok()); });
  };

  CHECK(home.folder(kA)->unlink("x/b").ok());
  CHECK(home.folder(kA)->removeDirectory("x").ok());

  REQUIRE(home.settle());
  CHECK(emptied);
  CHECK_FALSE(home.folder(kB)->stat("x").ok());
  CHECK(home.core(kB).store.problems().count() == 0);
}

TEST_CASE("who wrote into a version that had a name for a moment has seen it, whatever is chosen elsewhere") {
  SimHousehold home({Mark::Real});
  startInConflict(home);
  auto& b = *home.peers[kB];
  int races = 0;
  b.onCall = [&](const FakeCall& call) {
    if (!b.userActing && isRename(call, kFile) && races < 2) home.write(kB, "f", ++races == 1 ? "mine" : "mine once more");
  };

  take(home, kA, "of B");
  take(home, kB, "of A");

  REQUIRE(home.settle());
  CHECK(races == 2);
  CHECK(home.core(kA).recordAt("f")->entry.heads.size() == 1);
}

TEST_CASE("who wrote into a version that had a name for a moment has seen it, whenever the process ends") {
  int met = 0;
  for (int calls = 2; calls < 16; ++calls) {
    CAPTURE(calls);
    SimHousehold home({Mark::Real});
    startInConflict(home);
    home.disconnect();
    auto& b = *home.peers[kB];
    int races = 0, seen = 0;
    b.onCall = [&](const FakeCall& call) {
      if (b.userActing || b.disk.isPowerOff()) return;
      if (isRename(call, kFile) && races < 2) home.write(kB, "f", ++races == 1 ? "mine" : "mine once more");
      if (races && ++seen == calls) b.disk.powerOff();
    };

    take(home, kB, "of A");
    home.write(kA, "f", "of A no more");
    home.runFor(900);
    met += races == 2 && b.disk.isPowerOff();
    home.end(kB);
    b.onCall = nullptr;
    b.disk.settle();  // The process alone has ended.
    FakeRandom random(1);
    b.disk.crash(random);
    REQUIRE(b.start().ok());
    home.connect();

    REQUIRE(home.settle());
    for (const char* text : {"mine", races == 2 ? "mine once more" : "mine", "of A no more"}) CHECK(home.fetch(kB, text) == text);
  }
  CHECK(met > 0);
}

TEST_CASE("what could not take its place is in the cache after a power cut, too") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real}, seed + 1);
    startInConflict(home);
    home.disconnect();
    auto& b = *home.peers[kB];
    int races = 0;
    b.onCall = [&](const FakeCall& call) {
      if (!b.userActing && isRename(call, kFile) && ++races == 1) home.write(kB, "f", "mine");
    };

    take(home, kB, "of A");
    home.write(kA, "f", "of A no more");
    home.runFor(900);
    home.losePower(kB, seed);
    home.connect();

    REQUIRE(home.settle());
    REQUIRE(races > 0);
    CHECK(home.fetch(kA, "of A") == "of A");
  }
}

TEST_CASE("what a backup brings to who compares its whole tree with another at that moment is removed where that one forgot it") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real, Mark::Real}, seed + 1);
    std::set<PeerKey> all;
    for (auto& peer : home.peers) all.insert(peer->key);
    for (auto& peer : home.peers) {
      peer->options.settings.inactiveAfterMs = 2000;
      peer->setMembers(all);
    }
    home.write(kA, "f", "first");
    home.startAndMeet();
    constexpr size_t kAway = 2;
    for (size_t link : {1, 2}) home.links[link]->cut();  // Its own.
    home.peers[kAway]->stop();
    home.write(kA, "g", "short-lived");
    home.runFor(3000);
    const FakeImage backup = home.peers[kB]->disk.snapshot();
    REQUIRE((*home.peers[kA]->disk.openRoot(kSimFolder))->unlink("g").ok());
    home.runFor(20'000);
    home.write(kB, "h", "more");  // So that A hears that B knows of it.
    home.runFor(20'000);
    REQUIRE(!home.core(kA).tree.trimmed().empty());

    home.disconnect();
    home.peers[kB]->vanish();
    home.peers[kB]->restore(backup, true, true);
    ++home.peers[kB]->boots;
    home.start();
    home.connect();

    CHECK(home.settle());
    CHECK(!home.core(kAway).recordAt("g").ok());
  }
}

TEST_CASE("a file that went into a folder that was renamed then is where that is, also after a backup brought back the one before") {
  SimHousehold home({Mark::Unreal});
  home.write(kA, "y", "text");
  home.write(kA, "x/b", "b");
  home.startAndMeet();
  const FakeImage backup = home.peers[kA]->disk.snapshot();
  REQUIRE(home.folder(kA)->rename("y", "x/y", RenameKind::NoReplace).ok());
  REQUIRE(home.folder(kA)->rename("x", "a", RenameKind::NoReplace).ok());
  for (int ms = 0; ms < 1000 && home.core(kA).recordAt("y").ok(); ++ms) home.runFor(1);

  home.end(kA);
  home.peers[kA]->restore(backup, false, true);
  ++home.peers[kA]->boots;
  home.start();
  home.connect();

  CHECK(home.settle());
  CHECK(home.read(kA, "a/y") == "text");
}

}  // namespace realize::test
