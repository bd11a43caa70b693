#include <doctest/doctest.h>

#include "librealize/peer/trimmer.h"
#include "tests/peer/two_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

TEST_CASE("a peer that marks everything real gets all files of the other") {
  TwoArenas peers;
  peers.a->write("plan.txt", "draft");
  peers.a->write("photos/2024/cat.jpg", std::string(300'000, 'x'));
  peers.a->write("empty", "");
  peers.connect();
  peers.b->with([](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), Mark::Real); });

  REQUIRE(peers.settle());

  CHECK(peers.b->read("plan.txt") == "draft");
  CHECK(peers.b->read("photos/2024/cat.jpg") == std::string(300'000, 'x'));
  CHECK(peers.b->read("empty") == "");
}

TEST_CASE("edits, renames and removals on either side arrive on the other") {
  TwoArenas peers;
  for (int i = 0; i < 50; ++i) peers.a->write("dir/sub/file" + std::to_string(i), "content " + std::to_string(i));
  peers.connect();
  peers.b->with([](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), Mark::Real); });
  REQUIRE(peers.settle());

  peers.b->write("dir/sub/file7", "edited on b");
  REQUIRE(peers.settle());
  CHECK(peers.a->read("dir/sub/file7") == "edited on b");

  std::filesystem::rename(peers.a->folder + "/dir", peers.a->folder + "/renamed");
  REQUIRE(peers.settle());
  CHECK(peers.b->read("renamed/sub/file7") == "edited on b");
  CHECK(!peers.b->has("dir"));

  std::filesystem::remove(peers.b->folder + "/renamed/sub/file3");
  REQUIRE(peers.settle());
  CHECK(!peers.a->has("renamed/sub/file3"));
  CHECK(peers.a->has("renamed/sub/file4"));
}

TEST_CASE("who is announced to at each answer is asked again when that ends") {
  TwoArenas peers;
  peers.meet();
  const auto saidOfA = [&](ArenaCore& core) { return *core.core().exchange->members().at(peers.a->key).said; };
  const ArenaState old = peers.b->with(saidOfA);
  peers.a->write("plan.txt", "draft");
  REQUIRE(peers.settle());
  const ArenaState now = peers.b->with(saidOfA);
  REQUIRE_FALSE(now.vector == old.vector);

  std::atomic<int> late = 4;  // More than one asks at once.
  peers.ba->lateState = [&](std::function<void()> give) {
    if (late-- > 0) peers.b->scheduler->onCore([&] { peers.b->core->onAnnounce(peers.a->key, old); });
    give();
  };
  peers.b->with([&](ArenaCore& core) { core.core().exchange->refresh([] {}); });
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while ((late > 0 || !(peers.b->with(saidOfA).vector == now.vector)) && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  CHECK(late <= 0);
  CHECK(peers.b->with(saidOfA).vector == now.vector);
}

TEST_CASE("an answer that was overtaken by an announcement does not hide it") {
  TwoArenas peers;
  peers.a->write("plan.txt", "draft");
  peers.meet();
  std::promise<void> asked;
  std::function<void()> giveFirst;
  peers.ba->lateState = [&](std::function<void()> give) {
    if (giveFirst) return give();
    giveFirst = std::move(give);
    asked.set_value();
  };
  auto refreshed = std::make_shared<std::promise<void>>();
  auto done = refreshed->get_future();
  peers.b->with([&](ArenaCore& core) { core.core().exchange->refresh([refreshed] { refreshed->set_value(); }); });
  REQUIRE(asked.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  const auto saidOfA = [&] {
    return peers.b->with([&](ArenaCore& core) { return core.core().exchange->members().at(peers.a->key).said->vector; });
  };
  const auto before = saidOfA();

  peers.a->write("plan.txt", "written since");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (saidOfA() == before && std::chrono::steady_clock::now() < end) {
    peers.a->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
    std::this_thread::yield();
  }
  const auto announced = saidOfA();
  REQUIRE_FALSE(announced == before);
  giveFirst();
  REQUIRE(done.wait_for(std::chrono::seconds(20)) == std::future_status::ready);

  CHECK(saidOfA() == announced);
}

TEST_CASE("who was away while removals were forgotten comes back: nothing returns, and nothing it did is lost") {
  TwoArenas peers;
  for (int i = 0; i < 300; ++i) peers.a->write("dir/" + std::to_string(i), "content " + std::to_string(i));
  peers.connect();
  peers.b->with([](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), Mark::Real); });
  REQUIRE(peers.settle());
  peers.disconnect();

  for (int i = 0; i < 60; ++i) std::filesystem::remove(peers.a->folder + "/dir/" + std::to_string(i));
  peers.b->write("dir/7", "edited on b meanwhile");
  peers.b->write("new", "made on b meanwhile");
  peers.b->restart(peers.pool);
  auto removed = [&] {
    peers.a->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
    return peers.a->with([](ArenaCore& core) { return !core.core().folder->settling() && core.stat("dir/59").code() == Code::NotFound; });
  };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!removed() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  const auto inactive = peers.a->with([&](ArenaCore& arena) {
    auto& core = arena.core();
    core.settings.inactiveAfterMs = -1;
    core.trimmer->turn();
    return std::pair(!core.store.members().get(peers.b->key)->active, !core.tree.trimmed().empty());
  });
  CHECK(inactive.first);
  REQUIRE(inactive.second);
  peers.meet();

  for (auto* peer : {peers.a.get(), peers.b.get()}) {
    CHECK_FALSE(peer->has("dir/0"));
    CHECK_FALSE(peer->has("dir/59"));
    CHECK(peer->has("dir/60"));
    CHECK(peer->read("dir/7") == "edited on b meanwhile");
    CHECK(peer->read("new") == "made on b meanwhile");
  }
  CHECK(peers.a->with([&](ArenaCore& core) { return core.core().store.members().get(peers.b->key)->active; }));
}

TEST_CASE("two edits while apart keep both versions and each side goes on showing its own") {
  TwoArenas peers;
  peers.a->write("plan.txt", "old");
  peers.connect();
  peers.b->with([](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), Mark::Real); });
  REQUIRE(peers.settle());

  peers.disconnect();
  peers.a->write("plan.txt", "draft A");
  peers.b->write("plan.txt", "draft B!");
  peers.a->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
  peers.meet();

  CHECK(peers.a->read("plan.txt") == "draft A");
  CHECK(peers.b->read("plan.txt") == "draft B!");
  auto conflicts = peers.a->with([](ArenaCore& core) { return core.conflicts(); });
  REQUIRE(conflicts.ok());
  REQUIRE(conflicts->size() == 1);
  CHECK(conflicts->front().heads.size() == 2);

  auto resolved = peers.a->with([](ArenaCore& core) { return core.resolve("plan.txt", ""); });
  REQUIRE(resolved.ok());
  REQUIRE(peers.settle());
  CHECK(peers.b->read("plan.txt") == "draft A");
}

TEST_CASE("a version whose bytes are elsewhere is not chosen before they are here") {
  TwoArenas peers;
  peers.a->write("plan.txt", "old");
  peers.connect();
  peers.b->with([](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), Mark::Real); });
  REQUIRE(peers.settle());
  peers.disconnect();
  peers.a->write("plan.txt", "draft A");
  peers.b->write("plan.txt", "draft B!");
  peers.a->with([](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), Mark::None); });
  peers.meet();
  auto label = peers.a->with([](ArenaCore& core) {
    const auto info = core.stat("plan.txt");
    for (const auto& head : info->heads)
      if (!head.here) return head.label;
    return std::string();
  });
  REQUIRE(!label.empty());

  std::optional<HeadInfo> missing;
  auto resolved = peers.a->with([&](ArenaCore& core) { return core.resolve("plan.txt", label, &missing); });

  CHECK(resolved.code() == Code::Unreachable);
  REQUIRE(missing);
  CHECK(missing->sizeBytes == 8);
  CHECK(peers.a->with([](ArenaCore& core) { return core.conflicts(); })->size() == 1);
  std::promise<Result<void>> fetched;
  peers.a->with([&](ArenaCore& core) {
    core.core().transfers->fetchWhole(missing->blob, 8, nullptr, [&](Result<void> result) { fetched.set_value(std::move(result)); });
  });
  REQUIRE(fetched.get_future().get().ok());
  CHECK(peers.a->with([&](ArenaCore& core) { return core.resolve("plan.txt", label); }).ok());
  REQUIRE(peers.settle());
  CHECK(peers.a->read("plan.txt") == "draft B!");
  CHECK(peers.b->read("plan.txt") == "draft B!");
}

TEST_CASE("joining with a folder that has the files already sends no bytes") {
  auto prepare = [](const std::string& folder) {
    std::filesystem::create_directories(folder + "/before");
    std::ofstream(folder + "/before/a.txt") << "same";
    std::ofstream(folder + "/b.txt") << "same too";
  };
  TwoArenas peers(true, Mark::None, prepare);
  peers.a->write("before/a.txt", "same");
  peers.a->write("b.txt", "same too");
  REQUIRE(peers.a->with([](ArenaCore& core) { return core.core().folder->root() != nullptr; }));
  peers.connect();

  REQUIRE(peers.settle());

  CHECK(peers.b->read("before/a.txt") == "same");
  auto list = peers.b->with([](ArenaCore& core) { return core.list(""); });
  REQUIRE(list.ok());
  CHECK(list->size() == 2);
  for (const auto& entry : *list) CHECK(entry.real);
  auto conflicts = peers.b->with([](ArenaCore& core) { return core.conflicts(); });
  CHECK(conflicts->empty());
}

TEST_CASE("a file marked unreal leaves the folder once the other keeps it and can still be read") {
  TwoArenas peers;
  peers.a->write("film", std::string(600'000, 'f'));
  peers.connect();
  peers.b->with([](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), Mark::Real); });
  REQUIRE(peers.settle());
  REQUIRE(peers.b->has("film"));

  peers.b->with([](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), Mark::Unreal); });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (peers.b->has("film") && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();

  CHECK(!peers.b->has("film"));
  auto info = peers.b->with([](ArenaCore& core) { return core.stat("film"); });
  REQUIRE(info.ok());
  CHECK(!info->real);
  CHECK(peers.a->has("film"));
}

TEST_CASE("a mode set on a file that makes way for a newer version is that version's once its bytes are here") {
  TwoArenas t(true, Mark::Real);
  t.a->write("plan.txt", "draft");
  t.connect();
  REQUIRE(t.settle());
  auto settled = [&](ArenaPeer& peer, const std::function<bool(Core&)>& holds) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      if (peer.with([&](ArenaCore& arena) {
            arena.core().folder->drainWatch();
            return !arena.core().folder->settling() && holds(arena.core());
          }))
        return true;
      std::this_thread::yield();
    }
    return false;
  };
  auto versions = [](Core& core) { return core.tree.shownHeads(core.recordAt("plan.txt")->entry.id); };

  t.ba->corrupts = true;  // The newer bytes do not come to B.
  t.a->write("plan.txt", "newer");
  REQUIRE(settled(*t.a, [](Core&) { return true; }));
  REQUIRE(settled(*t.b, [&](Core& core) { return core.marks->missingFiles() == 1; }));
  std::filesystem::permissions(t.b->folder + "/plan.txt", std::filesystem::perms(0600));
  REQUIRE(settled(*t.b, [&](Core& core) { return core.store.disk().get(core.recordAt("plan.txt")->node)->mode == 0600; }));
  t.disconnect();
  t.a->write("plan.txt", "newest");
  REQUIRE(settled(*t.a, [&](Core& core) { return versions(core).front().version.sizeBytes == 6; }));
  t.connect();

  CHECK(t.settle());
  CHECK(t.a->with([&](ArenaCore& arena) { return versions(arena.core()).size(); }) == 1);
  CHECK(t.b->read("plan.txt") == "newest");
  CHECK(t.settle());
  CHECK(std::filesystem::status(t.a->folder + "/plan.txt").permissions() == std::filesystem::perms(0600));
}
