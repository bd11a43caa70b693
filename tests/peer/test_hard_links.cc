// Two names of one file are two files to the arena, and what is done through one of them is seen under the other.

#include <optional>

#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {
/// `one` and `x/two` are one file on A's disk.
struct Linked : SimArenas {
  Linked() {
    REQUIRE(folder(*a)->makeDirectory("x", 0755).ok());
    write(*a, "one", "as it was");
    a->disk.hardLink("/arena/one", "/arena/x/two");
    start();
    REQUIRE(settles());
    REQUIRE(read(*b, "x/two") == "as it was");
  }
  std::unique_ptr<Directory> folder(test::SimPeer& peer) { return std::move(*peer.disk.openRoot(test::kSimFolder)); }
  uint32_t mode(test::SimPeer& peer, const std::string& path) { return folder(peer)->stat(path)->mode; }
};
}  // namespace

TEST_CASE_FIXTURE(Linked, "an edit through one name of a hard link is an edit of the other, too") {
  write(*a, "one", "edited through the first name");
  REQUIRE(settles());
  CHECK(read(*b, "one") == "edited through the first name");
  CHECK(read(*b, "x/two") == "edited through the first name");

  write(*a, "x/two", "and through the second");
  REQUIRE(settles());
  CHECK(read(*b, "one") == "and through the second");
  CHECK(read(*b, "x/two") == "and through the second");
}

TEST_CASE_FIXTURE(Linked, "a mode set through one name of a hard link is the other's, too") {
  REQUIRE(folder(*a)->setMode("one", 0600).ok());
  REQUIRE(settles());
  CHECK(mode(*b, "x/two") == 0600);

  REQUIRE(folder(*b)->setMode("x/two", 0640).ok());
  REQUIRE(settles());
  CHECK(mode(*a, "one") == 0640);
  CHECK(mode(*b, "one") == 0640);
}

TEST_CASE_FIXTURE(Linked, "what a peer writes into one of two names leaves the other as it is") {
  write(*b, "one", "by the peer");
  REQUIRE(settles());
  CHECK(read(*a, "one") == "by the peer");
  CHECK(read(*a, "x/two") == "as it was");
  CHECK(read(*b, "x/two") == "as it was");
}

TEST_CASE_FIXTURE(Linked, "one of two names is removed, and the other stays") {
  REQUIRE(folder(*a)->unlink("one").ok());
  REQUIRE(settles());
  CHECK_FALSE(has(*b, "one"));
  CHECK(read(*b, "x/two") == "as it was");
}

TEST_CASE_FIXTURE(Linked, "one of two names is removed while a peer renames the other over it, and the bytes keep a name") {
  REQUIRE(folder(*b)->rename("one", "x/two", RenameKind::Replace).ok());
  pass(50);
  REQUIRE(folder(*a)->unlink("x/two").ok());  // Read after that of the peer has come.
  REQUIRE(settles());
  CHECK(read(*a, "x/two") == "as it was");
  CHECK(read(*b, "x/two") == "as it was");
}

TEST_CASE_FIXTURE(Linked, "what is done through a name that goes at that moment is seen under the other") {
  REQUIRE(folder(*a)->setMode("one", 0600).ok());
  SUBCASE("removed") { REQUIRE(folder(*a)->unlink("one").ok()); }
  SUBCASE("replaced") {
    write(*a, "new", "another file");
    REQUIRE(folder(*a)->rename("new", "one", RenameKind::Replace).ok());
  }
  REQUIRE(settles());
  CHECK(mode(*b, "x/two") == 0600);
}

TEST_CASE_FIXTURE(Linked, "what got a name elsewhere, of which no watch tells, is served at once") {
  for (const char* path : {"one", "x/two"}) {
    core(*b).marks->set(*core(*b).recordAt(path), Mark::Unreal);
    REQUIRE(until([&] { return !has(*b, path); }));
  }
  core(*b).transfers->shrink(0);
  a->disk.makeFolder("/backup");
  a->disk.hardLink("/arena/one", "/backup/one");

  const auto version = core(*b).shownVersion(*core(*b).recordAt("one"))->second;
  auto open = core(*b).transfers->open(version.blob, version.sizeBytes);
  std::optional<Result<Bytes>> got;
  core(*b).transfers->read(open, 0, version.sizeBytes, [&](Result<Bytes> bytes) { got = std::move(bytes); });
  REQUIRE(until([&] { return got.has_value(); }));
  CHECK(got->ok());
}

TEST_CASE_FIXTURE(Linked, "what got a name elsewhere is kept for others, and they may let theirs go") {
  a->disk.makeFolder("/backup");
  a->disk.hardLink("/arena/one", "/backup/one");

  core(*b).marks->set(*core(*b).recordAt("one"), Mark::Unreal);
  CHECK(until([&] { return !has(*b, "one"); }));
}

TEST_CASE_FIXTURE(Linked, "a version whose file got a name elsewhere can be chosen") {
  link->cut();
  write(*a, "one", "by A");
  write(*b, "one", "by B");
  pass(3000);
  link->connect();
  REQUIRE(until([&] { return core(*a).tree.shownHeads(core(*a).recordAt("one")->entry.id).size() == 2 && settled(); }));
  a->disk.makeFolder("/backup");
  a->disk.hardLink("/arena/one", "/backup/one");
  const auto mine = core(*a).shownVersion(*core(*a).recordAt("one"))->first;
  char label[64];
  snprintf(label, sizeof(label), "%llx-%llx", static_cast<unsigned long long>(mine.origin), static_cast<unsigned long long>(mine.seq));
  CHECK(until([&] { return a->core->resolve("one", label).ok(); }));
}

TEST_CASE_FIXTURE(Linked, "what is done to one of two names through a mount is seen under the other") {
  auto& fs = a->core->guardedFileSystem();
  const NodeId one = fs.lookup(kRootNode, "one")->node;
  std::optional<Result<Attributes>> set;
  AttributeChange change;
  change.mode = 0600;
  fs.setAttributes(one, 0, change, [&](Result<Attributes> done) { set = std::move(done); });
  REQUIRE(until([&] { return set.has_value(); }));
  REQUIRE(set->ok());
  REQUIRE(settles());
  CHECK(mode(*b, "x/two") == 0600);

  std::optional<Result<FileHandle>> file;
  OpenFlags flags;
  flags.write = true;
  fs.open(one, flags, [&](Result<FileHandle> opened) { file = std::move(opened); });
  REQUIRE(until([&] { return file.has_value(); }));
  REQUIRE(file->ok());
  REQUIRE(fs.write(**file, 0, std::as_bytes(std::span("new", 3))).ok());
  fs.release(**file);
  REQUIRE(settles());
  CHECK(read(*b, "x/two") == "newit was");
}

TEST_CASE_FIXTURE(Linked, "what is back from a backup, and has another time under each of two names, gets one of them") {
  const auto backup = a->disk.snapshot();
  link->cut();
  a->vanish();
  write(*b, "three", "as it was");
  pass(3000);
  a->restore(backup, true, true);
  ++a->boots;
  a->disk.hardLink("/arena/one", "/arena/three");

  REQUIRE(a->start().ok());
  link->connect();

  REQUIRE(settles());
  for (auto* peer : {a.get(), b.get()}) CHECK(folder(*peer)->stat("one")->mtimeNs == folder(*peer)->stat("three")->mtimeNs);
}
