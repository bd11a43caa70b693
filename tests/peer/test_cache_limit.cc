// The cache keeps to its limit, whatever is read; Real files win.

#include <doctest/doctest.h>

#include "librealize/peer/cache_quota.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

constexpr uint64_t kLargestChunk = 256 << 10;

/// Bytes that no chunker finds twice.
std::string noise(size_t size, uint64_t seed) {
  test::FakeRandom random(seed);
  std::string out(size, '\0');
  random.fill(std::span(reinterpret_cast<uint8_t*>(out.data()), out.size()));
  return out;
}

/// What the files of B's cache take on its disk, those of tmp/ too, and the most that it was.
struct Watched {
  explicit Watched(test::SimPeer& peer) : peer(peer) {}
  uint64_t bytesNow() {
    uint64_t sum = 0;
    auto root = *peer.disk.openRoot(test::kSimFolder);
    for (const char* folder : {kCacheFolder, kTempFolder}) {
      auto items = root->list(folder);
      REQUIRE(items.ok());
      for (const auto& item : *items) sum += item.stat.allocatedBytes;
    }
    return sum;
  }
  test::SimPeer& peer;
};

struct Limited : SimArenas {
  explicit Limited(uint64_t limitBytes) : SimArenas(Mark::Unreal), limitBytes(limitBytes) {}
  void begin() {
    start();
    REQUIRE(settles());
    limit(limitBytes);
  }
  void limit(uint64_t bytes) {
    ArenaSettings settings;
    settings.cacheLimitBytes = bytes;
    b->core->setSettings(settings);
    pass(10);
  }
  OpenBlob open(const std::string& path) {
    auto& core = SimArenas::core(*b);
    const auto version = core.shownVersion(*core.recordAt(path))->second;
    return core.transfers->open(version.blob, version.sizeBytes);
  }
  Result<Bytes> readOf(const OpenBlob& blob, uint64_t offset, size_t size) {
    auto got = std::make_shared<std::optional<Result<Bytes>>>();
    SimArenas::core(*b).transfers->read(blob, offset, size, [got](Result<Bytes> bytes) { *got = std::move(bytes); });
    Watched watched(*b);
    REQUIRE(until([&] {
      most = std::max(most, watched.bytesNow());
      return got->has_value();
    }));
    return std::move(**got);
  }
  /// The whole file is as A wrote it, read in pieces of this size.
  void readsAs(const std::string& path, const std::string& content, size_t step) {
    auto blob = open(path);
    for (size_t at = 0; at < content.size(); at += step) {
      auto bytes = readOf(blob, at, step);
      REQUIRE_MESSAGE(bytes.ok(), (bytes.ok() ? "" : bytes.error().message));
      CHECK(std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) == content.substr(at, step));
    }
  }
  /// As what the policy took away.
  BlobId keeps(const std::string& path) {
    auto& core = SimArenas::core(*b);
    const auto version = core.shownVersion(*core.recordAt(path))->second;
    std::optional<Result<void>> fetched;
    core.transfers->fetchWhole(version.blob, version.sizeBytes, nullptr, [&](Result<void> done) { fetched = done; });
    REQUIRE(until([&] { return fetched.has_value(); }));
    REQUIRE(core.transact([&] { core.transfers->keepForDays(version.blob); }));
    pass(60'000);  // Until it is not open any more.
    return version.blob;
  }
  bool has(const BlobId& blob) { return SimArenas::core(*b).transfers->cachedForGood(blob); }
  CacheStatus status() { return SimArenas::core(*b).transfers->cacheStatus(); }
  uint64_t limitBytes;
  uint64_t most = 0;
};

}  // namespace

TEST_CASE("what was read least recently goes when the cache is full") {
  Limited peers(300'000);
  for (int i = 0; i < 5; ++i) SimArenas::write(*peers.a, "f" + std::to_string(i), noise(100'000, 10 + i));
  peers.begin();

  for (int i = 0; i < 3; ++i) {
    peers.readsAs("f" + std::to_string(i), noise(100'000, 10 + i), 100'000);
    peers.pass(11'000);
  }
  peers.readsAs("f0", noise(100'000, 10), 100'000);
  peers.pass(11'000);
  peers.readsAs("f3", noise(100'000, 13), 100'000);
  peers.pass(11'000);

  auto& core = SimArenas::core(*peers.b);
  auto cached = [&](const std::string& path) {
    return core.transfers->cachedBytes(core.shownVersion(*core.recordAt(path))->second.blob);
  };
  CHECK(cached("f0") == 100'000);
  CHECK(cached("f1") == 0);
  CHECK(cached("f2") == 100'000);
  CHECK(cached("f3") == 100'000);
  CHECK(peers.most <= 300'000 + kLargestChunk);
  CHECK(peers.status().cachedBytes == 300'000);
  CHECK(peers.status().evictableBytes == 300'000);
}

TEST_CASE("a file larger than the limit is read through it, whatever the size of a read") {
  const std::string content = noise(6'000'000, 3);
  for (const size_t step : {size_t(4096 * 16), size_t(1) << 20, content.size()}) {
    CAPTURE(step);
    Limited peers(500'000);
    SimArenas::write(*peers.a, "film", content);
    peers.begin();

    peers.readsAs("film", content, step);
    peers.pass(20'000);

    CHECK(peers.most <= 500'000 + kLargestChunk);
    CHECK(peers.status().cachedBytes <= 500'000);
    auto root = *peers.b->disk.openRoot(test::kSimFolder);
    CHECK(root->list(kTempFolder)->empty());
  }
}

TEST_CASE("with no room at all a read still gets its bytes, a chunk at a time") {
  const std::string content = noise(1'500'000, 4);
  Limited peers(1);
  SimArenas::write(*peers.a, "film", content);
  peers.begin();

  peers.readsAs("film", content, 300'000);
  peers.pass(20'000);

  CHECK(peers.most <= 1 + kLargestChunk);
  CHECK(peers.status().cachedBytes == 0);
}

TEST_CASE("several readers of files larger than the limit have a chunk each beyond it, and read what was written") {
  Limited peers(400'000);
  std::vector<std::string> contents;
  for (int i = 0; i < 3; ++i) {
    contents.push_back(noise(1'500'000, 20 + i));
    SimArenas::write(*peers.a, "f" + std::to_string(i), contents.back());
  }
  peers.begin();
  Watched watched(*peers.b);
  std::vector<OpenBlob> open;
  for (int i = 0; i < 3; ++i) open.push_back(peers.open("f" + std::to_string(i)));

  uint64_t most = 0;
  for (size_t at = 0; at < 1'500'000; at += 500'000) {
    std::vector<std::optional<Result<Bytes>>> got(3);
    for (size_t i = 0; i < 3; ++i)
      SimArenas::core(*peers.b).transfers->read(open[i], at, 500'000, [&got, i](Result<Bytes> bytes) { got[i] = std::move(bytes); });
    REQUIRE(peers.until([&] {
      most = std::max(most, watched.bytesNow());
      return got[0] && got[1] && got[2];
    }));
    for (size_t i = 0; i < 3; ++i) {
      REQUIRE(got[i]->ok());
      CHECK(std::string(reinterpret_cast<const char*>((*got[i])->data()), (*got[i])->size()) == contents[i].substr(at, 500'000));
    }
  }
  CHECK(most <= 400'000 + 3 * kLargestChunk);
}

TEST_CASE("the version of an open file stays while another is read through what is left") {
  Limited peers(300'000);
  SimArenas::write(*peers.a, "open", noise(200'000, 5));
  SimArenas::write(*peers.a, "film", noise(2'000'000, 6));
  peers.begin();
  auto held = peers.open("open");
  REQUIRE(peers.readOf(held, 0, 200'000).ok());
  peers.pass(11'000);

  peers.readsAs("film", noise(2'000'000, 6), 1 << 20);
  peers.link->cut();
  auto again = peers.readOf(held, 0, 200'000);

  REQUIRE(again.ok());
  CHECK(again->size() == 200'000);
  CHECK(peers.most <= 300'000 + kLargestChunk);
  CHECK(peers.status().openBytes == 200'000);
}

TEST_CASE("Real files win over the cache, and a smaller limit is kept at once") {
  Limited peers(600'000);
  for (int i = 0; i < 3; ++i) SimArenas::write(*peers.a, "f" + std::to_string(i), noise(200'000, 30 + i));
  SimArenas::write(*peers.a, "real", noise(300'000, 40));
  peers.begin();
  for (int i = 0; i < 3; ++i) peers.readsAs("f" + std::to_string(i), noise(200'000, 30 + i), 200'000);
  peers.pass(11'000);
  REQUIRE(peers.status().cachedBytes == 600'000);

  auto& core = SimArenas::core(*peers.b);
  core.marks->set(*core.recordAt("real"), Mark::Real);
  REQUIRE(peers.until([&] { return SimArenas::has(*peers.b, "real") && core.marks->missingFiles() == 0; }));
  peers.pass(11'000);

  CHECK(peers.status().cachedBytes == 200'000);
  peers.limit(400'000);
  CHECK(peers.status().cachedBytes == 0);
  peers.limit(100'000);
  CHECK(SimArenas::read(*peers.b, "real") == noise(300'000, 40));
  CHECK(peers.status().allowedBytes == 0);
  CHECK(peers.status().why.find("Real files") != std::string::npos);
}

TEST_CASE("what is larger than the cache may be is not fetched into it, but made Real") {
  Limited peers(300'000);
  SimArenas::write(*peers.a, "film", noise(900'000, 6));
  peers.begin();
  auto& core = SimArenas::core(*peers.b);
  const auto version = core.shownVersion(*core.recordAt("film"))->second;
  std::optional<Result<void>> fetched;
  core.transfers->fetchWhole(version.blob, version.sizeBytes, nullptr, [&](Result<void> done) { fetched = done; });
  REQUIRE(peers.until([&] { return fetched.has_value(); }));
  CHECK(fetched->code() == Code::NoSpace);

  auto open = peers.open("film");
  REQUIRE(peers.readOf(open, 0, 700'000).ok());  // Begins to pass through, and is wanted after all.
  core.marks->set(*core.recordAt("film"), Mark::Real);
  REQUIRE(peers.until([&] { return SimArenas::has(*peers.b, "film"); }));
  CHECK(SimArenas::read(*peers.b, "film") == noise(900'000, 6));
}

TEST_CASE("a crash while a file passes through leaves nothing that counts, and nothing wrong") {
  const std::string content = noise(3'000'000, 7);
  Limited peers(500'000);
  SimArenas::write(*peers.a, "film", content);
  peers.begin();
  auto open = peers.open("film");
  REQUIRE(peers.readOf(open, 0, 2'000'000).ok());

  peers.link->cut();
  peers.b->vanish();
  open = {};
  REQUIRE(peers.b->start().ok());
  peers.limit(500'000);
  peers.link->connect();
  REQUIRE(peers.settles());

  Watched watched(*peers.b);
  CHECK(watched.bytesNow() <= 500'000);
  peers.readsAs("film", content, 1 << 20);
}

TEST_CASE("arenas share a limit: one takes no room that another has") {
  CacheQuota quota;
  ArenaId one, two;
  one.bytes[0] = 1;
  two.bytes[0] = 2;
  uint64_t askedOfTwo = 0;
  quota.join(one, [](uint64_t, int64_t) {});
  quota.join(two, [&](uint64_t bytes, int64_t) { askedOfTwo += bytes; });
  quota.setLimit(1000);

  CHECK(quota.allow(one, 100, 0, 300) == 900);
  CHECK(quota.allow(two, 200, 0, 900) == 400);   // 100 + 300 are taken.
  CHECK(quota.allow(one, 100, 300, 500) == 300); // And two took the rest.
  quota.askOthers(one, 200, 5);
  CHECK(askedOfTwo == 200);
  CHECK(quota.allow(two, 200, 100, 100) == 400);
  CHECK(quota.allow(one, 100, 300, 500) == 600);
  quota.leave(two);
  CHECK(quota.usedByOthers(one) == 0);
}

TEST_CASE("a cached file that cannot be opened for the moment is not forgotten") {
  Limited peers(0);
  SimArenas::write(*peers.a, "x", "the only copy, maybe");
  peers.begin();
  auto& core = SimArenas::core(*peers.b);
  const auto version = core.shownVersion(*core.recordAt("x"))->second;
  std::optional<Result<void>> fetched;
  core.transfers->fetchWhole(version.blob, version.sizeBytes, nullptr, [&](Result<void> done) { fetched = done; });
  REQUIRE(peers.until([&] { return fetched.has_value(); }));
  REQUIRE(core.transfers->cachedForGood(version.blob));
  peers.pass(60'000);  // Until it is not open any more.
  peers.link->cut();
  peers.b->disk.fail(test::FakeOp::Open, kCacheFolder, Code::Io);

  CHECK_FALSE(peers.readOf(peers.open("x"), 0, 100).ok());
  peers.b->disk.clearFailures();

  CHECK(core.transfers->cachedForGood(version.blob));
  CHECK(peers.readOf(peers.open("x"), 0, 100).ok());
}

TEST_CASE("a cached file that somebody empties as it is about to become the Real one is fetched again") {
  Limited peers(0);
  SimArenas::write(*peers.a, "x", "what is in the file");
  peers.begin();
  auto& core = SimArenas::core(*peers.b);
  const auto version = core.shownVersion(*core.recordAt("x"))->second;
  std::optional<Result<void>> fetched;
  core.transfers->fetchWhole(version.blob, version.sizeBytes, nullptr, [&](Result<void> done) { fetched = done; });
  REQUIRE(peers.until([&] { return fetched.has_value(); }));
  SUBCASE("known in memory") {}
  SUBCASE("known to the database") { peers.pass(60'000); }
  bool emptied = false;
  peers.b->onCall = [&](const test::FakeCall& call) {
    if (call.op != test::FakeOp::SyncDirectory || !call.path.ends_with(kCacheFolder) || std::exchange(emptied, true)) return;
    auto file = (*peers.b->disk.openRoot(test::kSimFolder))->open(Transfers::cachePath(version.blob), OpenMode::ReadWrite);
    REQUIRE(file.ok());
    REQUIRE((*file)->truncate(0).ok());
  };

  core.marks->set(*core.recordAt("x"), Mark::Real);

  CHECK(peers.until([&] { return SimArenas::read(*peers.b, "x") == "what is in the file"; }));
  CHECK(emptied);
  CHECK(peers.settles());
}

TEST_CASE("what a policy took away goes last of all, after pieces of a film that were seen") {
  const std::string content = noise(3'000'000, 3);
  Limited peers(500'000);
  SimArenas::write(*peers.a, "kept", noise(100'000, 1));
  SimArenas::write(*peers.a, "film", content);
  peers.begin();
  const BlobId kept = peers.keeps("kept");

  peers.readsAs("film", content, 1 << 16);
  CHECK(peers.has(kept));
  CHECK(peers.most <= 500'000 + kLargestChunk);
  peers.pass(60'000);
  auto& transfers = *SimArenas::core(*peers.b).transfers;
  transfers.shrink(100'000);
  CHECK(peers.has(kept));

  SUBCASE("the limit takes it") { peers.limit(50'000); }
  SUBCASE("somebody who shrinks the cache takes it") { CHECK(transfers.shrink(50'000) == 100'000); }
  CHECK_FALSE(peers.has(kept));
}

TEST_CASE("what a policy took away goes for another arena only when that has nothing else to give") {
  Limited peers(0);
  auto quota = std::make_shared<CacheQuota>();
  quota->setLimit(1'000'000);
  peers.b->options.quota = quota;
  ArenaId other;
  other.bytes[0] = 1;
  quota->join(other, [](uint64_t, int64_t) {});
  SimArenas::write(*peers.a, "kept", noise(100'000, 1));
  SimArenas::write(*peers.a, "read", noise(100'000, 2));
  peers.begin();
  const BlobId kept = peers.keeps("kept");
  peers.readsAs("read", noise(100'000, 2), 100'000);
  peers.pass(60'000);
  REQUIRE(peers.status().cachedBytes == 200'000);

  quota->askOthers(other, 200'000, peers.b->clock.nowNs());
  peers.pass(1000);
  CHECK(peers.has(kept));
  CHECK(peers.status().cachedBytes == 100'000);

  quota->askOthers(other, 200'000, CacheQuota::kLastOfAll);
  peers.pass(1000);
  CHECK_FALSE(peers.has(kept));
}
