// Scrubbing: rotten files are told from edits, and repaired by who has the right bytes.

#include <doctest/doctest.h>

#include "librealize/peer/verify.h"
#include "tests/peer/two_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;
namespace fs = std::filesystem;

namespace {

UnderLock lockOf(ArenaPeer& peer) {
  return [&peer](const std::function<Result<void>(Core&)>& work) { return peer.with([&](ArenaCore& core) { return work(core.core()); }); };
}

VerifyReport verified(ArenaPeer& peer) {
  auto report = verifyArena(lockOf(peer), {});
  REQUIRE_MESSAGE(report.ok(), report.error().message);
  return *report;
}

/// Other bytes under the same times, as far as the peer knows: what a failing disk does.
void rot(ArenaPeer& peer, const std::string& path, const std::string& content) {
  peer.with([&](ArenaCore& core) {
    auto& store = core.core().store;
    for (auto row : store.disk().all(0, 1000)) {
      if (row.name != path) continue;
      peer.write(path, content);
      row.setStat(*core.core().folder->root()->stat(path));
      core.core().transact([&] { store.disk().put(row); });
    }
  });
}

std::vector<std::string> keptOf(ArenaPeer& peer) {
  std::vector<std::string> out;
  if (!fs::exists(peer.folder + "/" + kDamagedFolder)) return out;
  for (const auto& item : fs::directory_iterator(peer.folder + "/" + kDamagedFolder)) {
    std::ifstream in(item.path(), std::ios::binary);
    out.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return out;
}

/// Both have the file real, and agree.
struct Shared : TwoArenas {
  Shared() : TwoArenas(true, Mark::Real) {
    a->write("plan.txt", "the right bytes");
    a->write("film", std::string(600'000, 'f') + "end");
    connect();
    a->with([](ArenaCore& core) { core.core().folder->rescanAll(); });
    REQUIRE(settle());
    REQUIRE(b->read("plan.txt") == "the right bytes");
  }
  std::vector<Problem> problems() {
    return b->with([](ArenaCore& core) { return core.status(); }).problems;
  }
};

}  // namespace

TEST_CASE("a whole arena is said to be whole") {
  Shared peers;

  const auto report = verified(*peers.b);

  CHECK(report.whole());
  CHECK(report.files == 2);
  CHECK(report.bytes == 600'018);
  CHECK(report.damagedCount == 0);
  CHECK(keptOf(*peers.b).empty());
}

TEST_CASE("rotten files are repaired by a peer that has the bytes, and what they held is kept") {
  Shared peers;
  rot(*peers.b, "plan.txt", "the wrong bytes");
  rot(*peers.b, "film", std::string(600'000, 'g') + "end");

  const auto report = verified(*peers.b);

  CHECK(report.whole());
  CHECK(report.damagedCount == 2);
  CHECK(report.repairedCount == 2);
  CHECK(peers.b->read("plan.txt") == "the right bytes");
  CHECK(peers.b->read("film") == std::string(600'000, 'f') + "end");
  CHECK(keptOf(*peers.b).size() == 2);
  CHECK(peers.problems().empty());
  REQUIRE(peers.settle());
  CHECK(peers.a->read("plan.txt") == "the right bytes");
  CHECK(peers.a->with([](ArenaCore& core) { return core.conflicts(); })->empty());
  CHECK(verified(*peers.b).damagedCount == 0);
}

TEST_CASE("what nobody has the right bytes of stays as it is, is told, and repaired when who has them comes") {
  Shared peers;
  peers.disconnect();
  rot(*peers.b, "plan.txt", "the wrong bytes");

  const auto report = verified(*peers.b);

  CHECK_FALSE(report.whole());
  REQUIRE(report.damaged.size() == 1);
  CHECK(report.damaged[0].state == "wanted");
  CHECK(peers.b->read("plan.txt") == "the wrong bytes");
  REQUIRE(peers.problems().size() == 1);
  CHECK(peers.problems()[0].kind == "repairing");
  CHECK(peers.b->with([](ArenaCore& core) { return core.status(); }).missingFiles == 1);

  peers.meet();

  CHECK(peers.b->read("plan.txt") == "the right bytes");
  CHECK(keptOf(*peers.b) == std::vector<std::string>{"the wrong bytes"});
  CHECK(verified(*peers.b).whole());
  CHECK(peers.problems().empty());
}

TEST_CASE("an edit is an edit, not damage") {
  Shared peers;
  peers.disconnect();
  peers.b->write("plan.txt", "edited by hand, in place");

  const auto report = verified(*peers.b);

  CHECK(report.damagedCount == 0);
  CHECK(report.changed + report.files == 2);
  peers.connect();
  peers.b->with([](ArenaCore& core) { core.core().folder->rescanAll(); });
  REQUIRE(peers.settle());
  CHECK(peers.a->read("plan.txt") == "edited by hand, in place");
  CHECK(keptOf(*peers.b).empty());
}

TEST_CASE("what somebody writes while a rotten file is being repaired is his") {
  Shared peers;
  rot(*peers.b, "plan.txt", "the wrong bytes");
  std::atomic<bool> once{false};
  peers.b->disk.meddler.beforeRename = [&](const std::string&, const std::string& to, RenameKind) -> std::optional<Error> {
    if (to == "plan.txt" && !once.exchange(true)) peers.b->write("plan.txt", "saved meanwhile");
    return std::nullopt;
  };

  (void)verifyArena(lockOf(*peers.b), {});
  peers.b->with([](ArenaCore& core) { core.core().folder->rescanAll(); });
  peers.settle(10);

  CHECK(once);
  CHECK(peers.b->read("plan.txt") == "saved meanwhile");
}

TEST_CASE("a rotten file in the cache is fetched again from a peer that has it, and dropped where nobody has") {
  for (const bool connected : {true, false}) {
    CAPTURE(connected);
    TwoArenas peers(true, Mark::Unreal);
    peers.a->write("film", std::string(600'000, 'f'));
    peers.connect();
    peers.a->with([](ArenaCore& core) { core.core().folder->rescanAll(); });
    REQUIRE(peers.settle());
    auto fetched = std::make_shared<std::promise<void>>();
    BlobId blob;
    peers.b->with([&](ArenaCore& core) {
      blob = core.stat("film")->heads.at(0).blob;
      core.core().transfers->fetchWhole(blob, 600'000, {}, [fetched](Result<void>) { fetched->set_value(); });
    });
    REQUIRE(fetched->get_future().wait_for(std::chrono::seconds(10)) == std::future_status::ready);
    const std::string path = Transfers::cachePath(blob);
    peers.b->write(path, std::string(600'000, 'g'));
    if (!connected) peers.disconnect();
    VerifyReport report;

    // What was just read is in use for a moment, and says so.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    do report = verified(*peers.b);
    while (report.damaged.size() == 1 && report.damaged[0].state == "left" && std::chrono::steady_clock::now() < deadline);

    REQUIRE(report.damaged.size() == 1);
    CHECK(report.damaged[0].state == (connected ? "repaired" : "dropped"));
    CHECK(report.whole());
    CHECK(peers.b->has(path) == connected);
    if (connected) CHECK(peers.b->read(path) == std::string(600'000, 'f'));
  }
}

TEST_CASE("rotten versions of a conflict are repaired, the one in the folder and the one in the cache") {
  Shared peers;
  peers.disconnect();
  peers.a->write("plan.txt", "as a wants it");
  peers.b->write("plan.txt", "as b wants it");
  peers.connect();
  REQUIRE(peers.settle());
  REQUIRE(peers.b->with([](ArenaCore& core) { return core.conflicts(); })->size() == 1);
  std::map<std::string, BlobId> versions;
  peers.b->with([&](ArenaCore& core) {
    const auto plan = core.stat("plan.txt");
    REQUIRE(plan.ok());
    for (const auto& head : plan->heads) versions[head.shown ? "shown" : "other"] = head.blob;
  });
  const std::string cached = Transfers::cachePath(versions["other"]);
  REQUIRE(peers.b->read(cached) == "as a wants it");
  peers.b->write(cached, "As a wants it");
  rot(*peers.b, "plan.txt", "As b wants it");
  // A has both as they should be.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  VerifyReport report;
  do report = verified(*peers.b);
  while (!report.whole() && std::chrono::steady_clock::now() < deadline);

  CHECK(report.whole());
  REQUIRE(peers.settle());
  peers.b->with([&](ArenaCore& core) {
    for (const auto& [name, blob] : versions) CHECK_MESSAGE(core.core().transfers->complete(blob), name);
  });
  const std::string shown = peers.b->read("plan.txt");
  CHECK_MESSAGE((shown == "as a wants it" || shown == "as b wants it"), shown);
  CHECK(verified(*peers.b).damagedCount == 0);
  CHECK(peers.b->with([](ArenaCore& core) { return core.conflicts(); })->size() == 1);
}
