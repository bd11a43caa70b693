// What the cache keeps for a conflict, or for a file whose bytes another one has let go, and for how long.

#include <doctest/doctest.h>

#include "tests/peer/two_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

void mark(ArenaPeer& peer, Mark mark) {
  peer.with([&](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), mark); });
}

/// What is left in the cache when all is dropped that may be.
uint64_t leftCached(ArenaPeer& peer) {
  return peer.with([](ArenaCore& core) {
    core.core().transfers->shrink(0);
    return core.core().store.cache().totals().count;
  });
}

std::vector<BlobId> headsOf(ArenaPeer& peer, const std::string& path) {
  return peer.with([&](ArenaCore& core) {
    std::vector<BlobId> out;
    auto record = core.core().recordAt(path);
    if (!record.ok()) return out;
    for (const auto& head : core.core().tree.shownHeads(record->entry.id)) out.push_back(head.version.blob);
    return out;
  });
}

/// Both have edited `plan`, and know of it.
void makeConflict(TwoArenas& peers, size_t size) {
  peers.a->write("plan", "draft");
  peers.meet();
  peers.disconnect();
  peers.a->write("plan", std::string(size, 'a'));
  peers.b->write("plan", std::string(size, 'b'));
  peers.meet();
  REQUIRE(headsOf(*peers.a, "plan").size() == 2);
}

}  // namespace

TEST_CASE("both versions of a conflict are kept where it is real, until one is chosen") {
  for (const size_t size : {size_t(20'000), size_t(600'000)}) {
    CAPTURE(size);
    TwoArenas peers(true, Mark::Real);
    makeConflict(peers, size);
    CHECK(leftCached(*peers.a) == 1);
    CHECK(leftCached(*peers.b) == 1);

    const std::string other = peers.a->with([](ArenaCore& core) {
      const auto plan = core.stat("plan");
      REQUIRE(plan.ok());
      for (const auto& head : plan->heads)
        if (!head.shown) return head.label;
      return std::string();
    });
    REQUIRE(peers.a->with([&](ArenaCore& core) { return core.resolve("plan", other).ok(); }));
    REQUIRE(peers.settle());

    CHECK((peers.a->read("plan") == peers.b->read("plan")));
    CHECK(leftCached(*peers.a) == 0);
    CHECK(leftCached(*peers.b) == 0);
  }
}

TEST_CASE("versions of a conflict are kept no longer once the file is removed") {
  TwoArenas peers(true, Mark::Real);
  makeConflict(peers, 20'000);

  std::filesystem::remove(peers.a->folder + "/plan");
  REQUIRE(peers.settle());
  peers.disconnect();
  std::filesystem::remove(peers.b->folder + "/plan");
  peers.meet();

  CHECK(headsOf(*peers.a, "plan").empty());
  CHECK(leftCached(*peers.a) == 0);
  CHECK(leftCached(*peers.b) == 0);
}

TEST_CASE("a version of a conflict that was in the cache anyway is kept, too, from when the file is marked real") {
  TwoArenas peers(true, Mark::None);
  makeConflict(peers, 600'000);
  for (const auto& blob : headsOf(*peers.b, "plan")) {
    auto fetched = std::make_shared<std::promise<Result<void>>>();
    peers.b->with([&](ArenaCore& core) {
      core.core().transfers->fetchWhole(blob, 600'000, nullptr, [fetched](Result<void> done) { fetched->set_value(done); });
    });
    REQUIRE(fetched->get_future().get().ok());
  }

  mark(*peers.b, Mark::Real);
  REQUIRE(peers.settle());

  CHECK(leftCached(*peers.b) == 1);
  mark(*peers.b, Mark::Unreal);
  REQUIRE(peers.settle());
  CHECK(leftCached(*peers.b) >= 1);  // Still a version of a conflict, though it is to be unreal here.
}

TEST_CASE("the version that makes way for another of a conflict, which somebody opens for writing, is kept") {
  TwoArenas peers(true, Mark::None);
  makeConflict(peers, 20'000);

  auto made = std::make_shared<std::promise<Result<void>>>();
  const BlobId own = peers.b->with([&](ArenaCore& arena) {
    auto& core = arena.core();
    const auto plan = core.recordAt("plan");
    const auto row = core.store.disk().get(plan->node);
    for (const auto& head : core.tree.shownHeads(plan->entry.id)) {
      if (head.version.blob == row->blob) continue;
      core.transfers->makeReal(plan->entry.id, head.dot, head.version.blob, head.version.sizeBytes,
                               [made](Result<void> done) { made->set_value(done); });
    }
    return row->blob;
  });
  REQUIRE(made->get_future().get().ok());

  CHECK(leftCached(*peers.b) >= 1);
  CHECK(peers.b->with([&](ArenaCore& core) { return core.core().transfers->complete(own); }));
}

TEST_CASE("pins that an earlier version set are kept for whom they were, and end with him") {
  TwoArenas peers(true, Mark::Real);
  makeConflict(peers, 20'000);
  BlobId spare;
  spare.bytes[0] = 77;
  peers.b->with([&](ArenaCore& core) {
    auto& store = core.core().store;
    const auto cached = store.cache().all();
    REQUIRE(cached.size() == 1);
    REQUIRE(core.core().transact([&] {
      store.setValue("pins named", "");
      store.setValue("pin/" + cached.front().hex(), "1");
      store.setValue("pin/" + spare.hex(), "1");
      store.cache().put({.blob = spare, .sizeBytes = 1, .storedBytes = 1, .present = "", .complete = true, .lastReadNs = 0, .unlinked = false});
    }));
    store.makeDurable();
  });
  peers.disconnect();

  peers.b->restart(peers.pool);
  peers.meet();

  CHECK(leftCached(*peers.b) == 1);
  CHECK(headsOf(*peers.b, "plan").size() == 2);
}
