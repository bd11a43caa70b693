// What peers removed or replaced is kept for a while, and can be brought back.

#include <doctest/doctest.h>

#include "librealize/peer/undo.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

void removeAt(test::SimPeer& peer, const std::string& path) {
  auto root = *peer.disk.openRoot(test::kSimFolder);
  REQUIRE(root->unlink(path).ok());
}

CacheStatus cacheOf(test::SimPeer& peer) { return SimArenas::core(peer).transfers->cacheStatus(); }

std::vector<store::HistoryRow> planned(test::SimPeer& peer, const UndoRequest& request) {
  auto rows = planUndo(SimArenas::core(peer), request);
  return rows.ok() ? *rows : std::vector<store::HistoryRow>();
}

void undoAll(test::SimPeer& peer, const UndoRequest& request) {
  auto& core = SimArenas::core(peer);
  auto rows = planUndo(core, request);
  REQUIRE_MESSAGE(rows.ok(), (rows.ok() ? "" : rows.error().message));
  core.transact([&] {
    for (const auto& row : *rows) CHECK(undoOne(core, row).ok());
  });
}

}  // namespace

TEST_CASE("what a peer removes stays here as unlinked, and comes back as a new change") {
  SimArenas peers;
  SimArenas::write(*peers.a, "keep", "stays");
  SimArenas::write(*peers.a, "x", "to be removed");
  peers.start();
  REQUIRE(peers.settles());
  removeAt(*peers.a, "x");
  REQUIRE(peers.settles());
  REQUIRE_FALSE(SimArenas::has(*peers.b, "x"));
  CHECK(cacheOf(*peers.b).unlinkedBytes == 13);
  const auto rows = planned(*peers.b, {.path = "x"});
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].what == "remove");
  CHECK(rows[0].peer == peers.a->key);

  undoAll(*peers.b, {.path = "x"});
  REQUIRE(peers.settles());

  CHECK(SimArenas::read(*peers.a, "x") == "to be removed");
  CHECK(SimArenas::read(*peers.b, "x") == "to be removed");
  CHECK(cacheOf(*peers.b).unlinkedBytes == 0);
  CHECK(planned(*peers.b, {.path = "x"}).empty());
}

TEST_CASE("what all peers have forgotten comes back, with the folder that it was in") {
  SimArenas peers;
  auto root = *peers.a->disk.openRoot(test::kSimFolder);
  REQUIRE(root->makeDirectory("dir", 0755).ok());
  SimArenas::write(*peers.a, "dir/x", "to be removed");
  peers.start();
  REQUIRE(peers.settles());
  removeAt(*peers.a, "dir/x");
  REQUIRE(root->removeDirectory("dir").ok());
  REQUIRE(peers.settles());
  auto& core = SimArenas::core(*peers.b);
  core.transact([&] { while (core.tree.trim({}, [](const logic::Record&) { return true; }, 100) > 0) continue; });
  const auto rows = planned(*peers.b, {.path = "dir/x"});
  REQUIRE(rows.size() == 1);
  REQUIRE_FALSE(core.store.idOf(rows[0].node));
  const EntryId before = entryToUndo(core, rows[0]);

  undoAll(*peers.b, {.path = "dir/x"});
  CHECK(core.recordAt("dir/x")->entry.id == before);
  REQUIRE(peers.settles());
  CHECK(SimArenas::read(*peers.a, "dir/x") == "to be removed");
}

TEST_CASE("what a peer overwrites comes back, and what was undone can be undone") {
  SimArenas peers;
  SimArenas::write(*peers.a, "x", "first");
  peers.start();
  REQUIRE(peers.settles());
  SimArenas::write(*peers.a, "x", "second, longer");
  REQUIRE(peers.settles());
  REQUIRE(SimArenas::read(*peers.b, "x") == "second, longer");
  CHECK(cacheOf(*peers.b).unlinkedBytes == 5);

  undoAll(*peers.b, {.path = "x"});
  REQUIRE(peers.settles());
  CHECK(SimArenas::read(*peers.a, "x") == "first");
  CHECK(SimArenas::read(*peers.b, "x") == "first");

  undoAll(*peers.b, {.path = "x"});
  REQUIRE(peers.settles());
  CHECK(SimArenas::read(*peers.a, "x") == "second, longer");
}

/// Both wrote into x before they met again.
static void editApart(SimArenas& peers) {
  SimArenas::write(*peers.a, "x", "first");
  peers.start();
  REQUIRE(peers.settles());
  peers.link->cut();
  SimArenas::write(*peers.a, "x", "of A");
  SimArenas::write(*peers.b, "x", "of B");
  peers.pass(2000);
  peers.link->connect();
  REQUIRE(peers.settles());
}

TEST_CASE("a version that comes beside another is told as a conflict, and took nothing away") {
  SimArenas peers;
  editApart(peers);
  for (auto* peer : {peers.a.get(), peers.b.get()}) {
    const auto rows = SimArenas::core(*peer).store.history().list("x", 2);
    REQUIRE(rows.size() == 2);
    CHECK(rows[0].what == "conflict");
    CHECK(rows[1].what == "edit");
  }
  undoAll(*peers.a, {.path = "x"});  // As it was before: one version, the one that was shown here.
  REQUIRE(peers.settles());
  CHECK(SimArenas::read(*peers.b, "x") == "of A");
}

TEST_CASE("of several versions the history tells the one that an edit took away") {
  SimArenas peers;
  editApart(peers);
  for (auto* peer : {peers.a.get(), peers.b.get()}) {
    auto& core = SimArenas::core(*peer);
    const BlobId before = core.shownVersion(*core.recordAt("x"))->second.blob;
    SimArenas::write(*peer, "x", "more of " + peer->options.name);
    REQUIRE(peers.settles());
    const auto row = core.store.history().list("x", 1).front();
    CHECK(row.what == "edit");
    CHECK(row.old->blob == before);
  }
}

TEST_CASE("who chooses one of several versions has taken away another one") {
  SimArenas peers;
  editApart(peers);
  auto& core = SimArenas::core(*peers.a);
  const auto record = *core.recordAt("x");
  const auto shown = *core.shownVersion(record);
  const auto heads = core.tree.shownHeads(record.entry.id);
  REQUIRE(heads.size() == 2);
  const BlobId other = heads[heads[0].version.blob == shown.second.blob].version.blob;

  core.transact([&] { REQUIRE(core.tree.resolve(record.entry.id, shown.first).ok()); });
  REQUIRE(peers.settles());

  CHECK(core.store.history().list("x", 1).front().old->blob == other);
  undoAll(*peers.a, {.path = "x"});
  REQUIRE(peers.settles());
  CHECK(core.shownVersion(*core.recordAt("x"))->second.blob == other);
}

TEST_CASE("a folder comes back with what was removed together with it, and since a time with what was replaced") {
  SimArenas peers;
  {
    auto root = *peers.a->disk.openRoot(test::kSimFolder);
    REQUIRE(root->makeDirectory("d", 0750).ok());
    REQUIRE(root->makeDirectory("d/e", 0755).ok());
    REQUIRE(root->makeSymlink("d/link", "to").ok());
  }
  SimArenas::write(*peers.a, "d/e/x", "one");
  SimArenas::write(*peers.a, "d/y", "two");
  SimArenas::write(*peers.a, "d/long-gone", "before");
  SimArenas::write(*peers.a, "z", "three");
  peers.start();
  REQUIRE(peers.settles());
  removeAt(*peers.a, "d/long-gone");
  REQUIRE(peers.settles());
  peers.pass(3'600'000);
  const int64_t before = peers.b->clock.nowNs();
  SimArenas::write(*peers.a, "z", "replaced");
  for (const char* path : {"d/e/x", "d/y", "d/link"}) removeAt(*peers.a, path);
  {
    auto root = *peers.a->disk.openRoot(test::kSimFolder);
    REQUIRE(root->removeDirectory("d/e").ok());
    REQUIRE(root->removeDirectory("d").ok());
  }
  REQUIRE(peers.settles());
  REQUIRE_FALSE(SimArenas::has(*peers.b, "d"));

  undoAll(*peers.b, {.path = "d"});
  REQUIRE(peers.settles());
  CHECK(SimArenas::read(*peers.a, "d/e/x") == "one");
  CHECK(SimArenas::read(*peers.b, "d/y") == "two");
  CHECK(SimArenas::has(*peers.b, "d/link"));
  CHECK_FALSE(SimArenas::has(*peers.b, "d/long-gone"));
  CHECK(SimArenas::read(*peers.b, "z") == "replaced");
  CHECK(planUndo(SimArenas::core(*peers.b), {.path = ""}).code() == Code::InvalidArgument);
  CHECK(planUndo(SimArenas::core(*peers.b), {.path = "d"}).code() == Code::InvalidArgument);

  undoAll(*peers.b, {.path = "", .sinceNs = before});
  REQUIRE(peers.settles());
  CHECK(SimArenas::read(*peers.a, "z") == "three");
}

TEST_CASE("many that come back from the cache share their syncs") {
  constexpr int kFiles = 90;  // Not held back as a mass removal.
  SimArenas peers;
  SimArenas::write(*peers.a, "keep", "stays");
  for (int i = 0; i < kFiles; ++i) SimArenas::write(*peers.a, "x" + std::to_string(i), "bytes of " + std::to_string(i));
  peers.start();
  REQUIRE(peers.settles());
  for (int i = 0; i < kFiles; ++i) removeAt(*peers.a, "x" + std::to_string(i));
  REQUIRE(peers.settles());
  REQUIRE(cacheOf(*peers.b).unlinkedBytes > 0);
  int syncs = 0;
  peers.b->onCall = [&](const test::FakeCall& call) {
    syncs += call.op == test::FakeOp::FileSync || call.op == test::FakeOp::SyncDirectory || call.op == test::FakeOp::SyncAll;
  };

  undoAll(*peers.b, {.path = "", .sinceNs = 1});
  REQUIRE(peers.settles());

  for (int i = 0; i < kFiles; ++i) {
    CHECK(SimArenas::read(*peers.a, "x" + std::to_string(i)) == "bytes of " + std::to_string(i));
    CHECK(SimArenas::read(*peers.b, "x" + std::to_string(i)) == "bytes of " + std::to_string(i));
  }
  CHECK(cacheOf(*peers.b).unlinkedBytes == 0);
  CHECK(syncs < kFiles);
}

TEST_CASE("unlinked bytes are the first to go: for the limit, after their days, and none where none are wanted") {
  SimArenas peers;
  ArenaSettings settings;
  settings.cacheLimitBytes = 100'000;
  peers.b->options.settings = settings;
  SimArenas::write(*peers.a, "keep", std::string(40'000, 'k'));
  SimArenas::write(*peers.a, "x", std::string(30'000, 'x'));
  SimArenas::write(*peers.a, "y", std::string(20'000, 'y'));
  peers.start();
  REQUIRE(peers.settles());
  for (const char* path : {"x", "y"}) {
    removeAt(*peers.a, path);
    REQUIRE(peers.settles());
  }
  CHECK(cacheOf(*peers.b).unlinkedBytes == 50'000);

  SimArenas::write(*peers.a, "more", std::string(30'000, 'm'));  // Real files win: the older one goes.
  REQUIRE(peers.settles());
  peers.pass(10'000);
  CHECK(cacheOf(*peers.b).unlinkedBytes == 20'000);

  const int64_t end = peers.queue.nowNs() + 31LL * 24 * 3600 * 1'000'000'000;
  peers.b->clock.advance(31LL * 24 * 3600 * 1'000'000'000);
  (void)end;
  CHECK(peers.until([&] { return cacheOf(*peers.b).unlinkedBytes == 0; }, 2 * 3'600'000));

  settings.cacheLimitBytes = 0;
  settings.unlinkedDays = 0;
  peers.b->core->setSettings(settings);
  peers.pass(10'000);
  removeAt(*peers.a, "more");
  REQUIRE(peers.settles());
  CHECK(cacheOf(*peers.b).cachedBytes == 0);
}
