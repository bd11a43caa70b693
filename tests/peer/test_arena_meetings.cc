// A change made here meets one of a peer's that came before it was read.

#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {
struct Meeting : SimArenas {
  Meeting() {
    write(*a, "plan.txt", "one");
    REQUIRE(root(*a).makeSymlink("link", "old target").ok());
    REQUIRE(root(*a).makeDirectory("x", 0755).ok());
    start();
    REQUIRE(settles());
  }
  Directory& root(test::SimPeer& peer) {
    roots.push_back(*peer.disk.openRoot(test::kSimFolder));
    return *roots.back();
  }
  /// B knows that A removed it, and has not applied it; what `change` does is read after that.
  void meets(const std::string& path, const std::function<void()>& change) {
    REQUIRE(root(*a).stat(path).ok());
    const auto id = core(*b).recordAt(path)->entry.id;
    bool changed = false;
    b->onCall = [&](const test::FakeCall&) {
      auto record = core(*b).tree.get(id);
      if (changed || (record && record->shown)) return;
      changed = true;
      change();
    };
    REQUIRE((root(*a).stat(path)->type == FileStat::Type::Directory ? root(*a).removeDirectory(path) : root(*a).unlink(path)).ok());
    REQUIRE(until([&] { return changed; }));
    b->onCall = nullptr;
    REQUIRE(settles());
  }
  std::vector<std::unique_ptr<Directory>> roots;
};
}  // namespace

TEST_CASE_FIXTURE(Meeting, "a file that a peer removed goes, also when its mode was changed here at that moment") {
  meets("plan.txt", [&] { REQUIRE(root(*b).setMode("plan.txt", 0600).ok()); });

  CHECK_FALSE(has(*b, "plan.txt"));
  CHECK_FALSE(has(*a, "plan.txt"));
}

TEST_CASE_FIXTURE(Meeting, "a folder that a peer removed goes, also when its mode was changed here at that moment") {
  meets("x", [&] { REQUIRE(root(*b).setMode("x", 0700).ok()); });

  CHECK_FALSE(has(*b, "x"));
  CHECK_FALSE(has(*a, "x"));
}

TEST_CASE_FIXTURE(Meeting, "a rename here is not forgotten when a peer gives the old name to something else at that moment") {
  std::string made;
  SUBCASE("a folder") { made = "folder"; }
  SUBCASE("a link") { made = "link"; }
  SUBCASE("a file that was elsewhere") {
    made = "moved";
    write(*a, "other.txt", "new");
    REQUIRE(settles());
  }
  CAPTURE(made);
  bool renamed = false;
  b->onCall = [&](const test::FakeCall& call) {
    // Not while the database reads: it would be asked within its own question.
    if (renamed || !call.path.starts_with(test::kSimFolder) || !core(*b).recordAt("moved.txt").ok()) return;
    renamed = true;
    REQUIRE(root(*b).rename("plan.txt", "mine.txt", RenameKind::NoReplace).ok());
  };

  REQUIRE(root(*a).rename("plan.txt", "moved.txt", RenameKind::NoReplace).ok());
  if (made == "folder") REQUIRE(root(*a).makeDirectory("plan.txt", 0755).ok());
  if (made == "link") REQUIRE(root(*a).makeSymlink("plan.txt", "new").ok());
  if (made == "moved") REQUIRE(root(*a).rename("other.txt", "plan.txt", RenameKind::NoReplace).ok());
  REQUIRE(until([&] { return renamed; }));
  REQUIRE(settles());

  CHECK(has(*b, "plan.txt"));
  CHECK(int(has(*b, "moved.txt")) + int(has(*b, "mine.txt")) == 1);
  CHECK(int(has(*a, "moved.txt")) + int(has(*a, "mine.txt")) == 1);
}

TEST_CASE_FIXTURE(Meeting, "what nobody has does not keep back what somebody has, however much it is") {
  core(*b).transact([&] {
    for (uint32_t i = 0; i < 20'000; ++i) {
      BlobId nobodyHas;
      nobodyHas.bytes[0] = uint8_t(i);
      nobodyHas.bytes[1] = uint8_t(i >> 8);
      nobodyHas.bytes[31] = 1;
      core(*b).store.wanted().put({kRootNode, nobodyHas, 100});
    }
  });
  write(*a, "new.txt", "new");

  CHECK(until([&] { return read(*b, "new.txt") == "new"; }, 30'000));
}

// realize-sim, seed 85037119.
TEST_CASE_FIXTURE(SimArenas, "a file that was renamed over another is told under that name together with the end of its own") {
  write(*a, "from", "its content");
  write(*a, "to", "another");
  start();
  REQUIRE(settles());
  const auto blobAt = [&](test::SimPeer& peer, const std::string& path) {
    return core(peer).recordAt(path).ok() ? versionAt(peer, path).blob : BlobId();
  };
  const BlobId content = blobAt(*a, "from");

  REQUIRE((*a->disk.openRoot(test::kSimFolder))->rename("from", "to", RenameKind::Replace).ok());
  bool inBetween = false;
  CHECK(until([&] {
    const bool gone = blobAt(*a, "from").isZero(), there = blobAt(*a, "to") == content;
    inBetween = inBetween || gone != there;
    return gone && there;
  }));
  CHECK_FALSE(inBetween);
  REQUIRE(settles());
  CHECK_FALSE(has(*b, "from"));
  CHECK(read(*b, "to") == "its content");
}

// realize-sim, seed 62077006.
TEST_CASE_FIXTURE(SimArenas, "who was never met may have what all others lack") {
  start();
  REQUIRE(settles());
  auto& exchange = *core(*a).exchange;
  CHECK(exchange.agreesWithAll());

  a->setMembers({a->key, b->key, PeerKey{{3}}});
  REQUIRE(settles());
  CHECK(exchange.agreesWith(b->key));
  CHECK_FALSE(exchange.agreesWithAll());
}

TEST_CASE_FIXTURE(SimArenas, "what was moved over a file of the same bytes is a version beside what a peer wrote there at that moment") {
  for (const char* path : {"here", "there"}) write(*a, path, "the same");
  REQUIRE((*a->disk.openRoot(test::kSimFolder))->setTimes("here", 1'000'000'000).ok());
  REQUIRE((*a->disk.openRoot(test::kSimFolder))->setTimes("there", 1'000'000'000).ok());
  start();
  REQUIRE(settles());
  link->cut();

  REQUIRE((*a->disk.openRoot(test::kSimFolder))->rename("here", "there", RenameKind::Replace).ok());
  write(*b, "there", "by B");
  pass(2000);
  link->connect();

  REQUIRE(settles());
  CHECK_FALSE(has(*b, "here"));
  CHECK(core(*b).tree.shownHeads(core(*b).recordAt("there")->entry.id).size() == 2);
  CHECK(read(*a, "there") == "the same");
}

// realize-sim, seed 62098152.
TEST_CASE("what was read whole is made real, though its mark came when nobody was connected any more") {
  SimArenas arenas(Mark::None);
  auto& b = *arenas.b;
  arenas.write(*arenas.a, "plan", std::string(100'000, 'x'));
  arenas.start();
  REQUIRE(arenas.settles());
  auto& core = SimArenas::core(b);
  const auto version = core.shownVersion(*core.recordAt("plan"))->second;
  bool got = false;
  {
    auto open = core.transfers->open(version.blob, version.sizeBytes);
    core.transfers->read(open, 0, version.sizeBytes, [&](Result<Bytes> bytes) { got = bytes.ok(); });
    REQUIRE(arenas.until([&] { return got; }));
  }

  arenas.link->cut();
  core.marks->set(*core.recordAt("plan"), Mark::Real);

  CHECK(arenas.until([&] { return SimArenas::has(b, "plan"); }, 30'000));
}

TEST_CASE_FIXTURE(Meeting, "a link that was given another target lives, whatever a peer removed at that moment") {
  meets("link", [&] {
    REQUIRE(root(*b).makeSymlink("new", "new target").ok());
    REQUIRE(root(*b).rename("new", "link", RenameKind::Replace).ok());
  });

  REQUIRE(root(*b).readSymlink("link").ok());
  CHECK(*root(*b).readSymlink("link") == "new target");
  REQUIRE(root(*a).readSymlink("link").ok());
  CHECK(*root(*a).readSymlink("link") == "new target");
}

TEST_CASE_FIXTURE(Meeting, "a file that a rename put in the place of one that a peer removed stays, though its bytes are the same") {
  write(*a, "plan.txt~", "one");
  REQUIRE(settles());

  meets("plan.txt", [&] { REQUIRE(root(*b).rename("plan.txt~", "plan.txt", RenameKind::Replace).ok()); });

  CHECK(read(*a, "plan.txt") == "one");
  CHECK(read(*b, "plan.txt") == "one");
}

TEST_CASE_FIXTURE(Meeting, "a folder takes the name of another that goes, out of which its files come") {
  bool known = false;
  SUBCASE("and that the other peer has") { known = true; }
  SUBCASE("and that is new to the other peer") {}
  write(*a, "x/plan.txt", "two");
  if (known) REQUIRE(root(*a).makeDirectory("y", 0755).ok());
  REQUIRE(settles());
  link->cut();

  if (!known) REQUIRE(root(*a).makeDirectory("y", 0755).ok());
  REQUIRE(root(*a).rename("x/plan.txt", "y/plan.txt", RenameKind::NoReplace).ok());
  pass(1000);
  REQUIRE(root(*a).removeDirectory("x").ok());
  pass(1000);
  REQUIRE(root(*a).rename("y", "x", RenameKind::NoReplace).ok());
  pass(1000);
  link->connect();
  REQUIRE(settles());

  CHECK(read(*b, "x/plan.txt") == "two");
  CHECK(root(*b).list("")->size() == root(*a).list("")->size());
}

// realize-sim, seed 88131130.
TEST_CASE_FIXTURE(SimArenas, "an edit of bytes that a peer gave another mode at that moment takes that mode over") {
  write(*a, "plan.txt", "one");
  start();
  REQUIRE(settles());
  link->cut();
  REQUIRE((*b->disk.openRoot(test::kSimFolder))->setMode("plan.txt", 0600).ok());
  pass(2000);
  bool edited = false;
  a->onCall = [&](const test::FakeCall& call) {
    // The tree has the new mode, and the folder not yet.
    if (edited || call.op != test::FakeOp::SetMode || !call.path.ends_with("plan.txt")) return;
    edited = true;
    write(*a, "plan.txt", "two");
  };
  link->connect();
  REQUIRE(until([&] { return edited; }));
  a->onCall = nullptr;

  REQUIRE(settles());
  for (auto* peer : {a.get(), b.get()}) {
    CHECK(read(*peer, "plan.txt") == "two");
    CHECK(((*peer->disk.openRoot(test::kSimFolder))->stat("plan.txt")->mode & 0777) == 0600);
    CHECK(core(*peer).tree.shownHeads(core(*peer).recordAt("plan.txt")->entry.id).size() == 1);
  }
}
