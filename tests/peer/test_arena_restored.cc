// Machines whose disk died, and what a backup brought back of it.

#include <algorithm>
#include <cstdio>
#include <utility>

#include "librealize/peer/arena_file_system.h"
#include "librealize/peer/file_hash.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

/// Both have the files f, g and h, and B's disk is backed up.
struct BackedUp : SimArenas {
  BackedUp() {
    for (const char* name : {"f", "g", "h", "i", "k"}) write(*a, name, std::string("first ") + name);
    start();
    REQUIRE(settles());
    pass(5000);
    backup = b->disk.snapshot();
  }
  /// The disk of B dies, and its user brings back what the backup has.
  void bringBack(bool database, bool folder) {
    link->cut();
    b->vanish();
    b->restore(*backup, database, folder);
    ++b->boots;
  }
  void goOn() {
    REQUIRE(b->start().ok());
    pass(3000);
    link->connect();
    REQUIRE(settles());
  }
  size_t conflicts() {
    size_t count = 0;
    for (const auto& id : core(*a).store.withSeveralHeads(0, 100)) {
      if (core(*a).tree.shownHeads(id).size() < 2) continue;
      ++count;
      MESSAGE(*core(*a).shownPath(id), " is in conflict");
    }
    return count;
  }
  void check(const std::string& path, const std::string& content) {
    CAPTURE(path);
    CHECK(read(*a, path) == content);
    CHECK(read(*b, path) == content);
  }
  std::optional<test::FakeImage> backup;
};

}  // namespace

TEST_CASE_FIXTURE(BackedUp, "a database and a folder from an old backup take the newest of all, without a conflict") {
  write(*a, "f", "second f");
  write(*b, "g", "second g");
  (void)(*a->disk.openRoot(test::kSimFolder))->unlink("h").ok();
  (void)(*a->disk.openRoot(test::kSimFolder))->rename("i", "j", RenameKind::Replace).ok();
  write(*a, "new", "new");
  REQUIRE(settles());

  bringBack(true, true);
  goOn();

  check("f", "second f");
  check("g", "second g");
  check("new", "new");
  check("j", "first i");
  CHECK_FALSE(has(*a, "h"));
  CHECK_FALSE(has(*b, "h"));
  CHECK_FALSE(has(*b, "i"));
  CHECK(conflicts() == 0);
}

TEST_CASE_FIXTURE(BackedUp, "a database from an old backup beside the folder of today removes nothing that it misses") {
  write(*a, "f", "second f");
  write(*b, "g", "second g");
  write(*b, "new", "new");
  (void)(*a->disk.openRoot(test::kSimFolder))->unlink("h").ok();
  REQUIRE(settles());
  core(*b).marks->set(*core(*b).recordAt("i"), Mark::Unreal);
  CHECK(settles());
  CHECK_FALSE(has(*b, "i"));

  bringBack(true, false);
  write(*b, "k", "second k");
  goOn();

  check("f", "second f");
  check("g", "second g");
  check("new", "new");
  check("k", "second k");
  check("i", "first i");
  CHECK_FALSE(has(*a, "h"));
  CHECK_FALSE(has(*b, "h"));
  CHECK(conflicts() == 0);
}

// realize-sim --hard failed-syncs, seed 599.
TEST_CASE_FIXTURE(BackedUp, "a file that is new under a name which only an old database knows in the folder is no edit of what it knows") {
  core(*b).marks->set(*core(*b).recordAt("f"), Mark::Unreal);
  REQUIRE(settles());
  REQUIRE_FALSE(has(*b, "f"));

  bringBack(true, false);
  write(*b, "f", "mine");  // He has not seen the first.
  goOn();

  CHECK(core(*a).tree.shownHeads(core(*a).recordAt("f")->entry.id).size() == 2);
}

// realize-sim, seed 21001511.
TEST_CASE_FIXTURE(BackedUp, "an old database reads nothing of the folder before the others' tree is here, though it puts something back there") {
  core(*b).marks->set(*core(*b).recordAt("i"), Mark::Unreal);
  REQUIRE(settles());
  REQUIRE_FALSE(has(*b, "i"));

  bringBack(true, false);
  write(*b, "k", "second k");
  REQUIRE(b->start().ok());
  const VersionVector before = core(*b).tree.vector();
  pass(3000);

  CHECK(has(*b, "i"));
  CHECK(core(*b).tree.vector() == before);
  link->connect();
  REQUIRE(settles());
  check("k", "second k");
}

// realize-sim, seed 9211583.
TEST_CASE_FIXTURE(BackedUp, "a file that took another's name after its database was backed up is no edit of that other one") {
  const auto folder = *a->disk.openRoot(test::kSimFolder);
  REQUIRE(folder->rename("f", "old", RenameKind::NoReplace).ok());
  REQUIRE(folder->rename("g", "f", RenameKind::NoReplace).ok());
  REQUIRE(settles());
  core(*b).marks->set(*core(*b).recordAt("old"), Mark::Unreal);
  REQUIRE(settles());
  REQUIRE_FALSE(has(*b, "old"));
  write(*b, "saved", "second g");
  REQUIRE((*b->disk.openRoot(test::kSimFolder))->rename("saved", "f", RenameKind::Replace).ok());
  REQUIRE(settles());
  const EntryId first = core(*a).recordAt("old")->entry.id, second = core(*a).recordAt("f")->entry.id;

  bringBack(true, false);
  std::string now = "second g";
  bool known = true;
  SUBCASE("as others know it") {}
  SUBCASE("as nobody knows it") {
    known = false;
    now = "third g";
    write(*b, "f", now);
  }
  goOn();

  CHECK(core(*a).recordAt("old")->entry.id == first);
  CHECK(core(*a).recordAt("f")->entry.id == second);
  const auto heads = core(*a).tree.shownHeads(first);
  const auto bytes = std::as_bytes(std::span(std::string_view("first f")));
  const auto blob = blobIdOf(ChunkRef{hashChunk(bytes), uint32_t(bytes.size())});
  CHECK(std::any_of(heads.begin(), heads.end(), [&](const auto& head) { return head.version.blob == blob; }));
  CHECK(conflicts() == (known ? 0 : 1));
  if (known) check("f", now);
  if (known) check("old", "first f");
}

TEST_CASE_FIXTURE(BackedUp, "a folder from an old backup under the database of today removes nothing and takes the newest") {
  write(*a, "f", "second f");
  write(*b, "g", "second g");
  write(*a, "new", "new");
  (void)(*a->disk.openRoot(test::kSimFolder))->unlink("h").ok();
  REQUIRE(settles());

  bringBack(false, true);
  goOn();

  check("f", "second f");
  check("g", "second g");
  check("new", "new");
  CHECK_FALSE(has(*a, "h"));
  CHECK_FALSE(has(*b, "h"));
  CHECK(conflicts() == 0);
}

// realize-sim --hard disk-errors, seed 25004435.
TEST_CASE_FIXTURE(BackedUp, "what a folder from an old backup lacks is not removed where the disk fails to list it at first") {
  write(*a, "new", "new");
  REQUIRE(settles());

  bringBack(false, true);
  bool failed = false;
  b->onCall = [&](const test::FakeCall& call) {
    if (call.op == test::FakeOp::List && call.path == test::kSimFolder && !std::exchange(failed, true)) b->disk.fail(call.op, call.path, Code::Io);
  };
  REQUIRE(b->start().ok());
  link->connect();
  REQUIRE(until([&] { return core(*b).store.problems().count() > 0; }, 20'000));
  pass(120'000);

  CHECK(settles());
  check("new", "new");
  REQUIRE((*b->disk.openRoot(test::kSimFolder))->unlink("new").ok());  // Its user does that.
  CHECK(settles());
  CHECK_FALSE(has(*a, "new"));
}

/// While B was gone, a link took the place of a folder: for a while B is not through with what the backup brought back.
struct StillAtIt : BackedUp {
  StillAtIt() {
    auto folder = *a->disk.openRoot(test::kSimFolder);
    REQUIRE(folder->makeDirectory("x", 0755).ok());
    write(*a, "x/b", "first");
    REQUIRE(settles());
    backup = b->disk.snapshot();
    bringBack(true, true);
    REQUIRE(folder->rename("x/b", "moved", RenameKind::Replace).ok());
    REQUIRE(folder->removeDirectory("x").ok());
    REQUIRE(folder->makeSymlink("x", "to").ok());
    pass(3000);
  }
};

TEST_CASE_FIXTURE(StillAtIt, "who writes twice into a file that a backup brought back has seen what he wrote first") {
  write(*b, "x/b", "mine");
  bool again = false;
  b->onCall = [&](const test::FakeCall& call) {
    if (!b->userActing && call.op == test::FakeOp::Rename && call.path2.ends_with("/moved") && !std::exchange(again, true))
      write(*b, "x/b", "mine again");
  };
  goOn();

  CHECK(again);
  CHECK(read(*b, "moved") == "mine again");
  const auto record = core(*a).recordAt("moved");
  REQUIRE(record.ok());
  CHECK(record->entry.heads.size() == 2);  // With the first one, of which nobody knows that he saw it.
}

// realize-sim, seed 8028455.
TEST_CASE_FIXTURE(StillAtIt, "who writes into what he wrote after a backup came back has seen that, also when the process ended meanwhile") {
  write(*b, "new", "of B");
  bool read = false;
  b->onCall = [&](const test::FakeCall& call) { read = read || call.path2.ends_with("/moved"); };
  REQUIRE(b->start().ok());
  link->connect();
  REQUIRE(until([&] { return read; }));
  CHECK(core(*b).recordAt("new").ok());
  link->cut();
  b->vanish();
  write(*b, "new", "of B, again");
  goOn();

  check("new", "of B, again");
  CHECK(conflicts() == 0);
}

TEST_CASE_FIXTURE(StillAtIt, "who removes what he wrote after a backup brought back the rest has removed it") {
  write(*b, "new", "of B");
  write(*b, "x/b", "mine");
  bool removed = false;
  b->onCall = [&](const test::FakeCall& call) {
    if (b->userActing || call.op != test::FakeOp::Rename || !call.path2.ends_with("/moved") || std::exchange(removed, true)) return;
    CHECK(core(*b).recordAt("new").ok());
    CHECK((*b->disk.openRoot(test::kSimFolder))->unlink("new").ok());
  };
  goOn();

  CHECK(removed);
  CHECK_FALSE(core(*a).recordAt("new").ok());
  CHECK_FALSE(has(*b, "new"));
}

TEST_CASE_FIXTURE(BackedUp, "an unreal file that only this peer had newer stays as the backup brought it back") {
  core(*a).marks->set(*core(*a).recordAt("f"), Mark::Unreal);
  REQUIRE(until([&] { return !has(*a, "f"); }));
  core(*b).marks->set(*core(*b).recordAt("f"), Mark::Unreal);
  pass(5000);
  backup = b->disk.snapshot();
  write(*b, "f", "second f");
  REQUIRE(settles());

  bringBack(true, true);
  REQUIRE(b->start().ok());
  link->connect();
  pass(30'000);

  CHECK(read(*b, "f") == "first f");
  CHECK(core(*b).marks->missingFiles() == 1);
}

TEST_CASE_FIXTURE(BackedUp, "of a file in conflict a backup's content makes way for the version that it is older than, no other") {
  link->cut();
  write(*b, "f", "B's");
  for (const char* content : {"A's", "A's second"}) {
    write(*a, "f", content);
    pass(2000);
  }
  core(*a).marks->set(*core(*a).recordAt("f"), Mark::Unreal);
  link->connect();
  REQUIRE(settles());
  REQUIRE(conflicts() == 1);

  bringBack(false, true);
  REQUIRE(b->start().ok());
  link->connect();
  pass(30'000);

  CHECK(read(*b, "f") == "first f");
  CHECK(core(*b).marks->missingFiles() == 1);
}

TEST_CASE_FIXTURE(BackedUp, "two names that a file from a backup got meanwhile come to one mode") {
  REQUIRE((*b->disk.openRoot(test::kSimFolder))->setMode("f", 0600).ok());
  REQUIRE(settles());

  bringBack(false, true);
  b->disk.hardLink("/arena/f", "/arena/second");
  goOn();

  auto root = *b->disk.openRoot(test::kSimFolder);
  CHECK((root->stat("f")->mode & 0777) == (core(*a).recordAt("second")->entry.heads.front().second.mode & 0777));
}

TEST_CASE_FIXTURE(BackedUp, "what is given back beside a user's file takes no name of another that is not there") {
  write(*a, "f~1", "else");  // Later in the cache than f, by its hash.
  REQUIRE(settles());
  pass(5000);
  backup = b->disk.snapshot();
  for (const char* name : {"f", "f~1"}) core(*b).marks->set(*core(*b).recordAt(name), Mark::Unreal);
  REQUIRE(until([&] { return !has(*b, "f") && !has(*b, "f~1"); }));

  bringBack(true, false);  // That knows f in the folder, finds it in the cache and gives it back.
  bool written = false;
  b->onCall = [&](const test::FakeCall& call) {
    if (written || call.op != test::FakeOp::Rename || call.path2 != std::string(test::kSimFolder) + "/f") return;
    written = true;
    write(*b, "f", "new");
  };
  goOn();
  b->onCall = nullptr;

  CHECK(written);
  check("f~1", "else");
  CHECK(read(*b, "f") == "new");
  CHECK(core(*a).tree.shownHeads(core(*a).recordAt("f")->entry.id).size() == 2);  // He had not seen the other.
}

TEST_CASE_FIXTURE(BackedUp, "who lost the database matches the folder with the tree of the others") {
  write(*a, "f", "second f");
  REQUIRE(settles());
  link->cut();
  b->vanish();
  write(*a, "g", "second g");
  b->loseDatabase();

  goOn();

  check("f", "second f");
  check("g", "second g");
  check("h", "first h");
  CHECK(conflicts() == 0);
}

TEST_CASE_FIXTURE(BackedUp, "who made the arena and lost the database waits for the others' tree, too") {
  write(*b, "f", "second f");
  REQUIRE(settles());
  link->cut();
  a->vanish();
  write(*b, "g", "second g");
  pass(2000);
  a->loseDatabase();

  REQUIRE(a->start().ok());
  pass(3000);
  link->connect();
  REQUIRE(settles());

  CHECK(read(*b, "f") == "second f");
  CHECK(read(*b, "g") == "second g");
  CHECK(conflicts() == 0);
}

// realize-sim, seed 12875.
TEST_CASE_FIXTURE(BackedUp, "what a backup brought back is not held back by a guard, to be taken for an edit when it is confirmed") {
  b->options.settings.guardMinimum = 1;
  b->options.settings.overwriteShare = 0.2;
  for (const char* path : {"f", "g", "h"}) write(*a, path, std::string("second ") + path);
  REQUIRE(settles());
  pass(120'000);

  bringBack(false, true);
  write(*b, "h", "nobody knows this");
  REQUIRE(b->start().ok());
  pass(3000);
  link->connect();
  pass(20'000);
  CHECK(core(*b).folder->heldOverwrites() == 0);
  (void)core(*b).folder->confirmHeld(false).ok();
  REQUIRE(settles());

  check("f", "second f");
  check("g", "second g");
  CHECK(conflicts() == 1);
  CHECK(core(*a).tree.shownHeads(core(*a).recordAt("h")->entry.id).size() == 2);
}

TEST_CASE_FIXTURE(BackedUp, "a backup may have what a power cut took from the disk after it was made") {
  link->cut();
  const test::FakeImage onDisk = b->disk.snapshot();
  auto makeFolder = [&](const char* name) {
    REQUIRE((*b->disk.openRoot(test::kSimFolder))->makeDirectory(name, 0755).ok());
    pass(5000);
  };
  makeFolder("lost");
  backup = b->disk.snapshot();
  b->vanish();
  b->disk.restore(onDisk);
  ++b->boots;
  REQUIRE(b->start().ok());
  makeFolder("kept");  // Not under the number that the other has in the backup.
  link->connect();
  REQUIRE(settles());

  bringBack(true, false);
  goOn();

  for (auto* peer : {a.get(), b.get()}) {
    CHECK(has(*peer, "lost"));
    CHECK(has(*peer, "kept"));
  }
  CHECK(conflicts() == 0);
}

TEST_CASE_FIXTURE(BackedUp, "a database is another life after a power cut only, not after an end in order or of the process alone") {
  const auto origin = core(*b).tree.origin();
  b->vanish();
  REQUIRE(b->start().ok());
  CHECK(core(*b).tree.origin() == origin);
  b->stop();
  ++b->boots;
  REQUIRE(b->start().ok());
  CHECK(core(*b).tree.origin() == origin);
  b->vanish();
  ++b->boots;
  REQUIRE(b->start().ok());
  CHECK(core(*b).tree.origin() != origin);
}

TEST_CASE_FIXTURE(BackedUp, "a disk that has another number after a boot is the same disk") {
  REQUIRE((*b->disk.openRoot(test::kSimFolder))->makeDirectory("x", 0755).ok());
  REQUIRE((*b->disk.openRoot(test::kSimFolder))->makeDirectory("x/y", 0755).ok());
  write(*b, "x/f", "first f");
  REQUIRE(settles());
  const uint64_t before = (*b->disk.openRoot(test::kSimFolder))->stat("")->device;
  bool mounted = false;
  SUBCASE("the only one") {}
  SUBCASE("the one that the number was of before is mounted in it") {
    mounted = true;
    core(*b).transact([&] {
      for (const char* path : {"x", "x/y", "x/f"}) {
        auto row = *core(*b).store.disk().get(core(*b).recordAt(path)->node);
        row.device = before + 1;
        core(*b).store.disk().put(row);
      }
    });
  }
  link->cut();
  b->stop();
  b->disk.setDevice(test::kSimFolder, before + 1);
  if (mounted) b->disk.setDevice(std::string(test::kSimFolder) + "/x", before + 2);
  ++b->boots;
  goOn();

  CHECK_FALSE(problem(*b, "x", "absent"));
  check("x/f", "first f");
  CHECK(conflicts() == 0);
  if (mounted) return;  // What is done there is not watched.
  write(*b, "g", "second g");
  write(*b, "x/f", "second f");
  (void)(*b->disk.openRoot(test::kSimFolder))->rename("x/y", "x/z", RenameKind::NoReplace).ok();
  REQUIRE(settles());
  check("g", "second g");
  check("x/f", "second f");
  CHECK(has(*a, "x/z"));
  CHECK_FALSE(has(*a, "x/y"));
  CHECK(conflicts() == 0);
}

// realize-sim --conflicts copies, seed 72008811.
TEST_CASE_FIXTURE(BackedUp, "what is in the cache of a folder is known there when another peer joins with that folder") {
  link->cut();
  write(*a, "f", "by a");
  write(*b, "f", "by b, whose it is");
  pass(3000);
  link->connect();
  REQUIRE(settles());
  std::optional<BlobId> others;
  for (const auto& head : core(*b).tree.shownHeads(core(*b).recordAt("f")->entry.id))
    if (core(*b).transfers->cachedForGood(head.version.blob)) others = head.version.blob;
  REQUIRE(others.has_value());

  link->cut();
  b->vanish();
  b->loseDatabase();
  b->joinAnew(3);
  REQUIRE(b->start().ok());

  CHECK(until([&] { return core(*b).transfers->cachedForGood(*others); }, 10'000));
}

TEST_CASE_FIXTURE(BackedUp, "an older content is an edit where no backup brought it back, but its user put it") {
  core(*b).marks->set(*core(*b).recordAt("f"), Mark::Unreal);
  REQUIRE(until([&] { return !has(*b, "f"); }));
  write(*a, "f", "second f");
  REQUIRE(settles());

  write(*b, "f", "first f");
  REQUIRE(settles());

  CHECK(core(*a).tree.shownHeads(core(*a).recordAt("f")->entry.id).size() == 2);
}

TEST_CASE_FIXTURE(BackedUp, "a folder that is away while what a backup brought back is read is no less brought back when it is there again") {
  write(*b, "f", "second f");
  REQUIRE(settles());
  bringBack(true, false);
  write(*a, "f", "third f");
  bool read = false;
  b->onCall = [&](const test::FakeCall& call) {
    if (call.op != test::FakeOp::Read || call.path != "/arena/f" || std::exchange(read, true)) return;
    REQUIRE((*b->disk.openRoot(test::kSimFolder))->setMode("f", 0600).ok());  // So that it is to be read again.
  };
  REQUIRE(b->start().ok());
  link->connect();
  REQUIRE(until([&] { return read; }));
  b->disk.fail(test::FakeOp::OpenDirectory, test::kSimFolder, Code::NotFound, 0, 1000);
  core(*b).folder->reviewRoot();
  REQUIRE(core(*b).suspended);
  pass(500);
  b->disk.clearFailures();

  CHECK(settles());
  check("f", "third f");
  CHECK(conflicts() == 0);
}

namespace {
/// B has one of the two versions of a file in its cache, among thousands of files of which nobody knows anything.
struct OnlyCopyInCache : BackedUp {
  OnlyCopyInCache() {
    link->cut();
    write(*a, "f", content + "a");
    write(*b, "f", content + "b");
    pass(3000);
    link->connect();
    REQUIRE(settles());
    for (const auto& head : core(*b).tree.shownHeads(core(*b).recordAt("f")->entry.id))
      if (core(*b).transfers->cachedForGood(head.version.blob)) cached = head.version.blob, sizeBytes = head.version.sizeBytes;
    REQUIRE(!cached.isZero());
    link->cut();
    b->vanish();
    b->loseDatabase();
    b->joinAnew(3);
    auto root = *b->disk.openRoot(test::kSimFolder);
    path = std::string(kCacheFolder) + "/" + cached.hex();
    bytes = *readFile(*root, path, 1 << 24);
    for (int i = 0; i < 4000; ++i) {
      char name[65];
      snprintf(name, sizeof(name), "%064x", i);
      REQUIRE((*root->open(std::string(kCacheFolder) + "/" + name, OpenMode::CreateNew, 0600))->write(0, std::as_bytes(std::span("?", 1))).ok());
    }
  }
  bool isThere() {
    const auto now = readFile(**b->disk.openRoot(test::kSimFolder), path, 1 << 24);
    return now.ok() && *now == bytes;
  }
  std::string content = "first " + std::string(3 << 20, '\0') + " by ";
  BlobId cached;
  uint64_t sizeBytes = 0;
  std::string path;
  Bytes bytes;
};
}  // namespace

TEST_CASE_FIXTURE(OnlyCopyInCache, "what is not recognised in the cache yet makes way for nothing") {
  REQUIRE(b->start().ok());
  BlobId other;
  other.bytes.back() = 1;
  core(*b).transfers->open(other, 1);  // The cache is looked through after use.
  pass(5500);
  REQUIRE_FALSE(core(*b).transfers->cachedForGood(cached));  // Not reached yet.
  CHECK(isThere());
  CHECK(until([&] { return core(*b).transfers->cachedForGood(cached); }, 60'000));
}

TEST_CASE_FIXTURE(OnlyCopyInCache, "what is read before it is recognised in the cache stays what it is") {
  REQUIRE(b->start().ok());
  {
    auto root = *b->disk.openRoot(test::kSimFolder);
    auto file = *root->open(path, OpenMode::Read);
    core(*b).transfers->noteChunkList(cached, hashOpenFile(*file, sizeBytes)->list);
  }
  const auto open = core(*b).transfers->open(cached, sizeBytes);
  core(*b).transfers->read(open, 1 << 20, 1, [](Result<Bytes>) {});  // In a hole.
  pass(100);
  CHECK(isThere());
  CHECK(until([&] { return core(*b).transfers->cachedForGood(cached); }, 60'000));
  CHECK(isThere());
}

TEST_CASE_FIXTURE(OnlyCopyInCache, "a process that ends before all is recognised in the cache goes on with it") {
  REQUIRE(b->start().ok());
  pass(1000);
  REQUIRE_FALSE(core(*b).transfers->cachedForGood(cached));
  b->vanish();
  REQUIRE(b->start().ok());
  CHECK(until([&] { return core(*b).transfers->cachedForGood(cached); }, 60'000));
}
