// What realize-sim once found of databases and processes that end half way through, told as the shortest story.

#include <algorithm>

#include "tests/peer/sim_household.h"

namespace realize::test {

namespace {

constexpr size_t kA = 0, kB = 1, kC = 2;
const std::string kFile = std::string(kSimFolder) + "/f";

bool isOfProgram(SimPeer& peer, FakeOp op, const FakeCall& call) { return !peer.userActing && call.op == op; }
bool isOfProgram(SimPeer& peer, const FakeCall& call) { return isOfProgram(peer, FakeOp::Rename, call); }

/// What the peer shows of it: the only version's text hash, or none.
std::vector<BlobId> shown(SimHousehold& home, size_t peer, const std::string& path) {
  std::vector<BlobId> out;
  auto record = home.core(peer).recordAt(path);
  if (!record.ok()) return out;
  for (const auto& head : home.core(peer).tree.shownHeads(record->entry.id)) out.push_back(head.version.blob);
  return out;
}

/// The process ends; what it did to its disk stays.
void kill(SimHousehold& home, size_t peer) {
  home.peers[peer]->onCall = nullptr;
  home.end(peer);
  FakeRandom random(1);
  home.peers[peer]->disk.settle();
  home.peers[peer]->disk.crash(random);
}

}  // namespace

TEST_CASE("who overwrites a version that took its place when the database failed has seen it") {
  SimHousehold home({Mark::Real});
  home.write(kA, "f", "first");
  home.startAndMeet();
  auto& b = *home.peers[kB];
  b.onCall = [&](const FakeCall& call) {
    if (isOfProgram(b, call) && call.path2 == kFile) b.disk.setFreeBytes(0);
  };

  home.write(kA, "f", std::string(9000, '2'));
  for (int i = 0; i < 3000 && !home.core(kB).suspended; ++i) home.runFor(1);
  REQUIRE(home.core(kB).suspended);
  b.onCall = nullptr;
  b.disk.setFreeBytes(uint64_t(1) << 40);
  REQUIRE(home.read(kB, "f") == std::string(9000, '2'));
  home.write(kB, "f", "third");

  REQUIRE(home.settle());
  CHECK(shown(home, kA, "f") == std::vector{SimHousehold::blobOf("third")});
}

TEST_CASE("who renames, removes or saves over a version that took its place when the process ended has seen it") {
  for (int how = 0; how < 4; ++how) {
    for (uint64_t after = 2; after < 4; ++after) {
      CAPTURE(how);
      CAPTURE(after);
      const bool known = how < 3;
      SimHousehold home({Mark::Real});
      if (known) home.write(kA, "f", "first");
      home.startAndMeet();
      auto& b = *home.peers[kB];
      bool over = false;
      b.onCall = [&](const FakeCall& call) {
        if (over || !isOfProgram(b, call) || call.path2 != kFile) return;
        b.disk.powerOffBefore(after);
        over = true;
      };
      home.write(kA, "f", "second");
      for (int i = 0; i < 3000 && !b.disk.isPowerOff(); ++i) home.runFor(1);
      REQUIRE(b.disk.isPowerOff());
      kill(home, kB);
      if (home.read(kB, "f") != "second") continue;

      auto folder = home.folder(kB);
      if (how == 0) REQUIRE(folder->unlink("f").ok());
      if (how == 1) REQUIRE(folder->rename("f", "g", RenameKind::NoReplace).ok());
      if (how >= 2) {
        home.write(kB, "f.new", "third");
        REQUIRE(folder->rename("f.new", "f", RenameKind::Replace).ok());
      }
      REQUIRE(b.start().ok());
      home.connect();

      REQUIRE(home.settle());
      if (how < 2) CHECK(shown(home, kA, "f").empty());
      if (how == 1) CHECK(home.read(kA, "g") == "second");
      if (how >= 2) CHECK(shown(home, kA, "f") == std::vector{SimHousehold::blobOf("third")});
    }
  }
}

TEST_CASE("what a user writes before a version takes its place has not seen it") {
  for (uint64_t before = 1; before < 3; ++before) {
    CAPTURE(before);
    SimHousehold home({Mark::Real});
    home.write(kA, "f", "first");
    home.startAndMeet();
    auto& b = *home.peers[kB];
    bool over = false;
    b.onCall = [&](const FakeCall& call) {
      if (over || !isOfProgram(b, call) || call.path2.find("/.realize/tmp/w") == std::string::npos) return;
      b.disk.powerOffBefore(before);
      over = true;
    };
    home.write(kA, "f", "second");
    for (int i = 0; i < 3000 && !b.disk.isPowerOff(); ++i) home.runFor(1);
    REQUIRE(b.disk.isPowerOff());
    kill(home, kB);
    REQUIRE(home.read(kB, "f") == "first");

    home.write(kB, "f.new", "mine");
    REQUIRE(home.folder(kB)->rename("f.new", "f", RenameKind::Replace).ok());
    REQUIRE(b.start().ok());
    home.connect();

    REQUIRE(home.settle());
    CHECK(shown(home, kA, "f").size() == 2);
  }
}

TEST_CASE("a file that was to leave the folder, and stayed, can be removed while the program is down") {
  SimHousehold home({Mark::Real});
  home.write(kA, "f", "first");
  home.startAndMeet();
  auto& b = *home.peers[kB];
  std::unique_ptr<DiskFile> open;
  b.onCall = [&](const FakeCall& call) {
    if (open || !isOfProgram(b, call) || call.path != kFile) return;
    b.userActing = true;
    open = std::move(*home.folder(kB)->open("f", OpenMode::ReadWrite));
    b.userActing = false;
  };
  home.core(kB).marks->set(peer::Core::rootRecord(), Mark::Unreal);
  for (int i = 0; i < 3000 && !open; ++i) home.runFor(1);
  REQUIRE(open);
  home.runFor(5);
  REQUIRE(home.read(kB, "f") == "first");

  home.disconnect();
  b.stop();
  open = nullptr;
  REQUIRE(home.folder(kB)->unlink("f").ok());
  REQUIRE(b.start().ok());
  home.connect();

  REQUIRE(home.settle());
  CHECK_FALSE(home.core(kA).recordAt("f").ok());
}

TEST_CASE("what was written into a file just put there can be removed after a power cut") {
  int met = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real}, seed + 1);
    home.write(kA, "f", "first");
    home.startAndMeet();
    home.write(kA, "f", "second");
    for (int i = 0; i < 3000 && home.read(kB, "f") != "second"; ++i) home.runFor(1);
    home.write(kB, "f", "third");
    for (int i = 0; i < 400 && shown(home, kA, "f") != std::vector{SimHousehold::blobOf("third")}; ++i) home.runFor(1);
    if (shown(home, kA, "f") != std::vector{SimHousehold::blobOf("third")}) continue;  // Written a moment too early.
    ++met;
    home.end(kB);
    auto& b = *home.peers[kB];
    FakeRandom random(seed);
    b.disk.crash(random);
    ++b.boots;

    REQUIRE(home.folder(kB)->unlink("f").ok());
    REQUIRE(b.start().ok());
    home.connect();

    REQUIRE(home.settle());
    CHECK_FALSE(home.core(kA).recordAt("f").ok());
  }
  CHECK(met > 0);
}

TEST_CASE("a folder just made, in which its user wrote, can be removed after a power cut") {
  int met = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real}, seed + 1);
    home.startAndMeet();
    REQUIRE(home.folder(kA)->makeDirectory("x", 0755).ok());
    for (int i = 0; i < 3000 && !home.folder(kB)->stat("x").ok(); ++i) home.runFor(1);
    home.write(kB, "x/f", "mine");
    for (int i = 0; i < 3000 && !home.core(kA).recordAt("x/f").ok(); ++i) home.runFor(1);
    REQUIRE(home.core(kA).recordAt("x/f").ok());
    if (home.core(kB).store.unsynced().count() == 0) continue;
    home.end(kB);
    auto& b = *home.peers[kB];
    FakeRandom random(seed);
    b.disk.crash(random);
    ++b.boots;
    if (home.read(kB, "x/f") != "mine") continue;
    ++met;

    REQUIRE(home.folder(kB)->unlink("x/f").ok());
    REQUIRE(home.folder(kB)->removeDirectory("x").ok());
    REQUIRE(b.start().ok());
    home.connect();

    REQUIRE(home.settle());
    CHECK_FALSE(home.core(kA).recordAt("x/f").ok());
    CHECK_FALSE(home.core(kB).recordAt("x").ok());
  }
  CHECK(met > 0);
}

TEST_CASE("what was put in place is not edited back by a power cut after the program was started again") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Real}, seed + 1);
    home.write(kA, "f", "first");
    home.startAndMeet();
    home.write(kA, "f", "second");
    for (int i = 0; i < 3000 && home.read(kB, "f") != "second"; ++i) home.runFor(1);
    home.runFor(20);
    home.disconnect();
    home.peers[kB]->stop();
    REQUIRE(home.peers[kB]->start().ok());
    home.runFor(200);

    home.losePower(kB, seed);
    home.connect();

    REQUIRE(home.settle());
    CHECK(home.read(kA, "f") == "second");
    CHECK(home.read(kB, "f") == "second");
  }
}

// Seed 9406315.
TEST_CASE("what came of a life whose database was lost before all had come is not waited for") {
  SimHousehold home({Mark::Real, Mark::Real});
  home.write(kA, "f", "first");
  home.startAndMeet();
  auto& b = *home.peers[kB];
  home.disconnect();
  b.stop();
  b.options.changesPerPage = 1;
  REQUIRE(b.start().ok());
  home.write(kB, "m", "first m");
  home.runFor(2000);
  REQUIRE(home.folder(kB)->rename("m", "n", RenameKind::NoReplace).ok());
  home.runFor(2000);
  home.write(kB, "m", "second m");
  home.runFor(2000);
  auto& withC = *home.links[2];
  withC.connect();
  for (int i = 0; i < 3000 && !home.core(kC).recordAt("n").ok(); ++i) home.runFor(1);
  withC.cut();
  REQUIRE(home.core(kC).recordAt("n").ok());
  REQUIRE_FALSE(home.core(kC).recordAt("m").ok());

  home.end(kB);
  b.loseDatabase();
  ++b.boots;
  REQUIRE(home.folder(kB)->unlink("m").ok());
  REQUIRE(b.start().ok());
  home.links[0]->connect();
  home.runFor(10'000);
  home.links[1]->connect();
  home.runFor(10'000);
  home.connect();

  REQUIRE(home.settle());
}

TEST_CASE("who relays asks for the chunk list that it has not") {
  SimHousehold home({Mark::Unreal, Mark::Real});
  home.startAndMeet();
  home.disconnect();
  std::string film;
  for (uint32_t i = 0, word = 1; i < 600'000; ++i) film += char(word = word * 1664525 + 1013904223 + (word >> 24));
  home.write(kC, "film", film);
  home.runFor(1000);
  const BlobId blob = SimHousehold::blobOf(film);

  home.links[1]->connect();  // A and C: the list comes, and no bytes.
  home.links[1]->onChunk = [](HeldChunk& chunk) { chunk.bytes[0] ^= std::byte(1); };
  for (int i = 0; i < 3000 && !home.core(kA).store.blobs().has(blob); ++i) home.runFor(1);
  REQUIRE(home.core(kA).store.blobs().has(blob));
  home.links[1]->cut();
  home.links[0]->connect();
  home.links[2]->connect();

  REQUIRE(home.settle());
  CHECK(home.read(kA, "film") == film);
}

TEST_CASE("a cache file that a power cut left is no hole where the content is zeros") {
  SimHousehold home({Mark::Unreal});
  const std::string film = std::string(300'000, 'f') + std::string(1'000'000, '\0') + std::string(300'000, 'g');
  home.start();
  home.write(kB, ".realize/cache/" + SimHousehold::blobOf(film).hex(), std::string(film.size(), 'x'));
  home.write(kA, "film", film);
  home.connect();
  REQUIRE(home.settle());

  CHECK((home.fetch(kB, film) == film));
}

TEST_CASE("a file whose folder its user moved is looked for there, though a peer removed it meanwhile") {
  for (int after = 0; after < 130; after += 10) {
    CAPTURE(after);
    SimHousehold home({Mark::Real});
    home.write(kA, "x/d/f", "f");
    home.write(kA, "x/other", "o");
    home.startAndMeet();

    REQUIRE(home.folder(kA)->unlink("x/d/f").ok());
    home.runFor(after);
    REQUIRE(home.folder(kB)->rename("x", "y", RenameKind::NoReplace).ok());

    REQUIRE(home.settle());
    CHECK(home.inFolder(kB, "f") == home.inFolder(kA, "f"));
    CHECK(home.read(kA, "y/other") == "o");
  }
}

TEST_CASE("a folder that its user renamed while a peer gave away its name is watched where it is") {
  for (int after = 90; after < 130; after += 2) {
    CAPTURE(after);
    SimHousehold home({Mark::Real});
    home.write(kA, "one/1", "1");
    home.write(kA, "two", "2");
    home.startAndMeet();

    auto a = home.folder(kA);
    REQUIRE(a->rename("one", "aside", RenameKind::NoReplace).ok());
    REQUIRE(a->rename("two", "one", RenameKind::NoReplace).ok());
    REQUIRE(a->rename("aside", "two", RenameKind::NoReplace).ok());
    home.runFor(after);
    if (!home.folder(kB)->rename("one", "mine", RenameKind::NoReplace).ok()) continue;
    REQUIRE(home.settle());
    for (const char* folder : {"one", "two", "mine"}) {
      auto stat = home.folder(kB)->stat(folder);
      if (stat.ok() && stat->type == FileStat::Type::Directory) home.write(kB, std::string(folder) + "/new", "new");
    }

    REQUIRE(home.settle());
    CHECK(home.inFolder(kA, "new"));
  }
}

TEST_CASE("what nobody has and nobody wants goes, too, if its author removed it") {
  SimHousehold home({Mark::Unreal});
  home.startAndMeet();
  home.core(kA).marks->set(peer::Core::rootRecord(), Mark::Unreal);
  home.write(kB, "f", "only here");
  for (int i = 0; i < 1000 && !home.core(kA).recordAt("f").ok(); ++i) home.runFor(1);
  home.disconnect();

  auto& a = home.core(kA);
  a.transact([&] { REQUIRE(a.tree.move(a.recordAt("f")->entry.id, kRootEntry, "g").ok()); });
  REQUIRE(home.folder(kB)->unlink("f").ok());
  home.runFor(400);
  home.connect();
  home.runFor(60'000);

  REQUIRE(home.settle());
  CHECK_FALSE(home.core(kA).recordAt("g").ok());
  CHECK_FALSE(home.core(kB).recordAt("g").ok());
}

TEST_CASE("what nobody has is given up where it is wanted, too, however large it was") {
  for (size_t size : {10, 500'000}) {
    CAPTURE(size);
    SimHousehold home({Mark::Real});
    home.startAndMeet();
    home.write(kB, "f", std::string(size, 'x'));
    for (int i = 0; i < 1000 && !home.core(kA).recordAt("f").ok(); ++i) home.runFor(1);
    home.disconnect();

    auto& a = home.core(kA);
    a.transact([&] { REQUIRE(a.tree.move(a.recordAt("f")->entry.id, kRootEntry, "g").ok()); });
    REQUIRE(home.folder(kB)->unlink("f").ok());
    home.runFor(400);
    home.connect();

    REQUIRE(home.settle());
    CHECK_FALSE(home.core(kA).recordAt("g").ok());
    CHECK_FALSE(home.core(kB).recordAt("g").ok());
  }
}

TEST_CASE("a version that was removed while another issued it again goes, when nobody has it") {
  SimHousehold home({Mark::Unreal});
  home.write(kA, "d/f", "first");
  home.startAndMeet();
  home.disconnect();

  REQUIRE(home.folder(kA)->unlink("d/f").ok());
  home.runFor(400);
  auto& b = home.core(kB);
  b.transact([&] {
    const auto record = b.recordAt("d/f");
    REQUIRE(b.tree.resolve(record->entry.id, record->entry.heads[0].first).ok());
    REQUIRE(b.tree.move(record->shownParent, kRootEntry, "e").ok());
  });
  home.connect();

  REQUIRE(home.settle());
  for (size_t peer : {kA, kB}) CHECK(shown(home, peer, "e/f").empty());
}

TEST_CASE("what was let go beside what others have is missed by nobody") {
  SimHousehold home({Mark::Unreal});
  std::string body;  // Of several pieces.
  for (FakeRandom random(7); body.size() < 1'000'000;) body += char(random.below(256));
  home.write(kA, "f", body);
  home.startAndMeet();
  home.disconnect();

  auto &a = home.core(kA), &b = home.core(kB);
  const auto id = b.recordAt("f")->entry.id;
  b.transact([&] { REQUIRE(b.tree.remove(id).ok()); });
  home.write(kB, "f", "second");
  home.runFor(400);
  REQUIRE(home.folder(kB)->unlink("f").ok());
  home.runFor(400);
  a.transact([&] { REQUIRE(a.tree.resolve(id, a.tree.get(id)->entry.heads[0].first).ok()); });
  home.connect();
  REQUIRE(home.settle());
  REQUIRE(b.tree.get(id)->entry.heads.size() == 2);
  const auto before = b.tree.vector();

  b.folder->lastResort(id);
  home.runFor(20'000);

  CHECK(b.tree.vector() == before);
  CHECK_FALSE(b.folder->askingForLastResorts());
}

TEST_CASE("a read that suspends the arena half way does not end the process, where another file has the same bytes") {
  SimHousehold home({Mark::None});
  auto& b = *home.peers[kB];
  std::string body, other;
  for (FakeRandom random(7); body.size() < 600'000;) body += char(random.below(256));
  for (FakeRandom random(8); other.size() < 500'000;) other += char(random.below(256));
  b.options.settings.cacheLimitBytes = 1'300'000;  // Of which "body" has half.
  home.startAndMeet();
  home.write(kB, "body", body);
  home.write(kA, "like it", body + "and more");
  home.write(kA, "other", other);
  REQUIRE(home.settle());
  REQUIRE(home.fetch(kB, other) == other);
  b.onCall = [&](const FakeCall& call) {
    if (isOfProgram(b, FakeOp::Unlink, call) && call.path.find("/cache/") != std::string::npos)
      b.disk.fail(FakeOp::Write, kSimState, Code::NoSpace, 0, 1'000'000);
  };

  (void)home.fetch(kB, body + "and more");

  CHECK(home.core(kB).suspended);
  b.onCall = nullptr;
  b.disk.clearFailures();
  REQUIRE(home.settle());
  CHECK(home.fetch(kB, body + "and more") == body + "and more");
}

// Seed 91188226.
TEST_CASE("a power cut that brings back what the database said of an evicted content does not speak of the empty file after it") {
  const std::string text(3000, 't');
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Unreal}, seed + 1);
    auto& b = *home.peers[kB];
    home.write(kA, "f", text);
    home.startAndMeet();
    REQUIRE(home.fetch(kB, text) == text);
    home.runFor(20'000);
    home.disconnect();
    b.disk.settle();
    auto losePower = [&] {
      REQUIRE(home.folder(kB)->syncDirectory(peer::kCacheFolder).ok());
      b.disk.powerOff();
      home.losePower(kB, seed);
    };

    REQUIRE(home.core(kB).transfers->shrink(0) == text.size());
    if (seed % 2) losePower();  // Then it is a start that finds that it has gone.
    REQUIRE(home.fetch(kB, text).starts_with("<no connected peer"));
    auto empty = home.folder(kB)->open(peer::Transfers::cachePath(SimHousehold::blobOf(text)), OpenMode::Read);
    REQUIRE((empty.ok() && (*empty)->sync(true).ok()));
    losePower();

    CHECK_FALSE(home.core(kB).transfers->complete(SimHousehold::blobOf(text)));
    home.connect();
    CHECK((home.fetch(kB, text) == text));
  }
}

// Seed 97018171.
TEST_CASE("a power cut that brings back a dropped cache file does not have it taken for the one fetched since") {
  const std::string text(3000, 't');
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    SimHousehold home({Mark::Unreal}, seed + 1);
    auto& b = *home.peers[kB];
    const std::string path = peer::Transfers::cachePath(SimHousehold::blobOf(text));
    home.write(kA, "f", text);
    home.startAndMeet();
    REQUIRE(home.fetch(kB, text) == text);
    home.runFor(20'000);
    {
      auto torn = home.folder(kB)->open(path, OpenMode::ReadWrite);
      REQUIRE((torn.ok() && (*torn)->write(0, Bytes(text.size())).ok()));
    }
    b.disk.settle();

    REQUIRE(home.core(kB).transfers->shrink(0) == text.size());
    REQUIRE(home.fetch(kB, text) == text);
    home.runFor(20'000);
    home.write(kA, "g", "makes what the database has durable");
    home.runFor(5'000);
    b.disk.powerOff();
    home.losePower(kB, seed);

    home.connect();
    CHECK((home.fetch(kB, text) == text));
  }
}

}  // namespace realize::test
