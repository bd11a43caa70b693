#include <algorithm>

#include <doctest/doctest.h>

#include <random>

#include "librealize/store/arena_store.h"
#include "tests/store/entries.h"
#include "tests/support/temp_dir.h"

using namespace realize;
using namespace realize::store;
using test::blobNumber;
using test::TempDir;

namespace {

struct Opened {
  Opened() { reopen(); }
  void reopen() {
    store.reset();
    auto opened = ArenaStore::open(dir / "db");
    REQUIRE_MESSAGE(opened.ok(), opened.error().message);
    store = std::move(*opened);
  }
  ArenaStore* operator->() { return store.get(); }
  TempDir dir;
  std::unique_ptr<ArenaStore> store;
};

DiskRow diskRow(NodeId node, NodeId parent, const std::string& name) {
  DiskRow row;
  row.node = node;
  row.parentNode = parent;
  row.name = name;
  row.device = 0xfffffffffffffff0;
  row.inode = 1000 + node;
  row.birthNs = 5;
  row.sizeBytes = node;
  row.mtimeNs = -1;
  row.ctimeNs = 2'000'000'000'000'000'001;
  row.mode = 0644;
  row.blob = blobNumber(node);
  row.base = {{0xabcdef0123456789, 3}, {0xffffffffffffffff, 900}};
  return row;
}

template <size_t N>
ChunkHash chunkHash(const char (&text)[N]) {
  ChunkHash out;
  std::copy(text, text + N, out.bytes.begin());
  return out;
}

BlobRow blobOf(const std::vector<ChunkRef>& chunks) {
  ChunkList list{chunks};
  uint64_t size = 0;
  for (const auto& chunk : chunks) size += chunk.sizeBytes;
  return {blobIdOf(list), size, encodeChunkList(list)};
}

}  // namespace

TEST_CASE("a disk row comes back by node, name, inode and blob") {
  Opened store;
  DiskRow row = diskRow(5, 1, "\xff\n");
  DiskRow bare = diskRow(6, 1, "a");
  bare.blob = {};
  bare.base = {};
  bare.kind = EntryKind::Directory;
  store->transact([&] { store->disk().put(row); store->disk().put(bare); });

  store.reopen();

  CHECK(store->disk().get(5) == row);
  CHECK(store->disk().get(6) == bare);
  CHECK_FALSE(store->disk().get(7));
  CHECK(store->disk().getAt(1, "\xff\n") == row);
  CHECK_FALSE(store->disk().getAt(1, "\xff"));
  CHECK(store->disk().getByInode(row.device, row.inode) == std::vector{row});
  CHECK(store->disk().getByInode(3, row.inode).empty());
  CHECK(store->disk().childrenOf(1) == std::vector{bare, row});
  CHECK(store->disk().hasChildren(1));
  CHECK_FALSE(store->disk().hasChildren(5));
  CHECK(store->disk().withBlob(row.blob, 9) == std::vector{row});
  CHECK_FALSE(store->disk().anyWithBlob({}));
  CHECK(store->disk().files() == Totals{1, 5});
}

TEST_CASE("disk totals follow every put, replace and erase") {
  Opened store;
  std::mt19937_64 random(3);
  std::map<NodeId, DiskRow> known;
  auto matches = [&] {
    Totals totals;
    for (const auto& [node, row] : known)
      if (row.kind == EntryKind::File) { ++totals.count; totals.bytes += row.sizeBytes; }
    return store->disk().files() == totals && store->disk().all(0, SIZE_MAX).size() == known.size();
  };
  for (int round = 0; round < 400; ++round) {
    DiskRow row = diskRow(2 + random() % 20, 1 + random() % 3, std::string(1, char('a' + random() % 6)));
    row.sizeBytes = random() % 1000;
    row.kind = random() % 4 == 0 ? EntryKind::Directory : EntryKind::File;
    row.dirty = random() % 2 == 0;
    switch (random() % 4) {
      case 0:
        store->disk().erase(row.node);
        known.erase(row.node);
        break;
      case 1:
        if (known.contains(row.node)) {  // The same file, seen again.
          row.name = known[row.node].name;
          row.parentNode = known[row.node].parentNode;
          row.kind = known[row.node].kind;
        }
        [[fallthrough]];
      default:
        store->transact([&] { store->disk().put(row); });
        std::erase_if(known, [&](const auto& item) {
          return item.second.parentNode == row.parentNode && item.second.name == row.name;
        });
        known[row.node] = row;
    }
    REQUIRE(matches());
    if (auto it = known.find(row.node); it != known.end()) REQUIRE(store->disk().get(row.node) == it->second);
  }
  store.reopen();
  CHECK(matches());
}

TEST_CASE("what a rolled-back transaction had erased is found again, however much else was looked for in it") {
  Opened store;
  constexpr NodeId kRows = 400;
  store->transact([&] {
    for (NodeId node = 2; node < kRows; ++node) store->disk().put(diskRow(node, kRootNode, "n" + std::to_string(node)));
  });
  store.reopen();

  CHECK_THROWS(store->transact([&] {
    store->disk().erase(2);
    store->disk().erase(100);
    for (int i = 0; i < int(kRows); ++i) {
      CHECK_FALSE(store->disk().get(100));
      CHECK_FALSE(store->disk().get(2));
      CHECK_FALSE(store->disk().getAt(kRootNode, std::to_string(i)));
      CHECK_FALSE(store->disk().anyWithBlob(blobNumber(1000 + uint64_t(i))));
      store->disk().setDirty(100, true);  // No longer in memory, that it is not there.
    }
    throw DatabaseError(Code::NoSpace, "as a test wants it");
  }));

  CHECK(store->disk().get(100));
  CHECK(store->disk().getAt(kRootNode, "n2"));
  CHECK(store->disk().anyWithBlob(blobNumber(2)));
}

TEST_CASE("an exchange of two names is two puts of whole rows") {
  Opened store;
  DiskRow a = diskRow(2, 1, "a"), b = diskRow(3, 1, "b");
  store->transact([&] { store->disk().put(a); store->disk().put(b); });

  a.name = "b";
  b.name = "a";
  store->transact([&] { store->disk().put(a); store->disk().put(b); });

  CHECK(store->disk().childrenOf(1) == std::vector{b, a});
}

TEST_CASE("a file that may have changed is still dirty after a restart") {
  Opened store;
  store->transact([&] { store->disk().put(diskRow(2, 1, "a")); store->disk().put(diskRow(3, 1, "b")); });
  store->disk().setDirty(3, true);
  store->makeDurable();

  store.reopen();

  CHECK(store->disk().dirtyNodes() == std::vector<NodeId>{3});
  CHECK(store->disk().get(3)->dirty);
  store->disk().setDirty(3, false);
  CHECK(store->disk().dirtyNodes().empty());
}

TEST_CASE("a disk row matches the stat it was made from and no other") {
  FileStat stat;
  stat.type = FileStat::Type::File;
  stat.inode = 7;
  stat.sizeBytes = 10;
  stat.mtimeNs = 20;
  DiskRow row = diskRow(2, 1, "a");
  row.setStat(stat);

  CHECK(row.matches(stat));
  for (auto change : {+[](FileStat& s) { ++s.inode; }, +[](FileStat& s) { ++s.ctimeNs; }, +[](FileStat& s) { ++s.sizeBytes; },
                      +[](FileStat& s) { s.mode = 0755; }, +[](FileStat& s) { s.type = FileStat::Type::Symlink; },
                      +[](FileStat& s) { s.type = FileStat::Type::Other; }}) {
    FileStat changed = stat;
    change(changed);
    CHECK_FALSE(row.matches(changed));
  }
}

TEST_CASE("chunks are found in the blobs that have them") {
  Opened store;
  ChunkHash a = chunkHash("aaaaaaaaaaaa"), b = chunkHash("bbbbbbbbbbbb"), clash = chunkHash("aaaaaaaaXXXX");
  BlobRow first = blobOf({{a, 100}, {b, 200}, {a, 100}}), second = blobOf({{b, 200}, {clash, 50}});
  store->transact([&] {
    store->blobs().put(first);
    store->blobs().put(second);
    store->blobs().put(second);  // again: nothing
  });
  store.reopen();

  CHECK(store->blobs().get(first.blob) == first);
  CHECK(store->blobs().count() == 2);
  auto places = store->blobs().findChunks(std::vector{clash, chunkHash("unknown"), a, b}, 5);
  REQUIRE(places.size() == 5);
  CHECK(places[0].asked == 0);
  CHECK(places[0].blob == second.blob);
  CHECK(places[0].offset == 200);
  CHECK(places[0].sizeBytes == 50);
  CHECK(places[1].asked == 2);
  CHECK(places[1].offset == 0);
  CHECK(places[2].asked == 2);
  CHECK(places[2].index == 2);
  CHECK(places[2].offset == 300);
  CHECK(places[3].asked == 3);
  CHECK(places[4].asked == 3);
  CHECK(store->blobs().findChunks(std::vector{a, b}, 1).size() == 2);

  store->transact([&] { store->blobs().erase(first.blob); });
  CHECK_FALSE(store->blobs().has(first.blob));
  CHECK(store->blobs().findChunks(std::vector{a}).empty());
  CHECK(store->blobs().findChunks(std::vector{b}).size() == 1);
}

TEST_CASE("a chunk list that does not decode is refused and leaves nothing") {
  Opened store;

  CHECK_THROWS_AS(store->blobs().put({blobNumber(1), 10, "\x01short"}), DatabaseError);

  CHECK(store->blobs().count() == 0);
}

TEST_CASE("unlinked blobs are evicted first and then the least recently read") {
  Opened store;
  auto row = [](uint64_t n, int64_t read, bool unlinked) {
    return CacheRow{blobNumber(n), 1000, 10 * n, std::string("\x05\0", 2), n % 2 == 0, read, unlinked};
  };
  store->transact([&] {
    store->cache().put(row(1, 300, false));
    store->cache().put(row(2, 100, false));
    store->cache().put(row(3, 900, true));
    store->cache().put(row(4, 200, false));
    store->cache().put(row(4, 200, false));
  });
  store->cache().setLastRead(blobNumber(2), 400);
  store->cache().setUnlinked(blobNumber(1), true, 200);  // Its age stays what it was, 300.
  store.reopen();

  std::vector<BlobId> order;
  for (const auto& r : store->cache().evictionOrder(9)) order.push_back(r.blob);
  CHECK(order == std::vector{blobNumber(1), blobNumber(3), blobNumber(4), blobNumber(2)});
  CHECK(store->cache().evictionOrder(1).size() == 1);
  CHECK(store->cache().totals() == Totals{4, 100});
  CHECK(store->cache().unlinkedTotals() == Totals{2, 40});
  CHECK(store->cache().get(blobNumber(4)) == row(4, 200, false));

  store->transact([&] { store->cache().erase(blobNumber(4)); store->cache().erase(blobNumber(4)); });
  CHECK(store->cache().totals() == Totals{3, 60});
  CHECK(store->cache().all().size() == 3);
}

TEST_CASE("blobs that are kept for hours are evicted last, and are unlinked when these are over") {
  Opened store;
  auto row = [](uint64_t n, bool unlinked) { return CacheRow{blobNumber(n), 1000, 10 * n, "", true, int64_t(n), unlinked}; };
  store->transact([&] {
    for (uint64_t n = 1; n <= 4; ++n) store->cache().put(row(n, n == 4));
  });
  CHECK(!store->cache().anyKept());
  store->cache().setKeptHours(blobNumber(1), 2);
  store->cache().setKeptHours(blobNumber(4), 1);
  store->cache().setUnlinked(blobNumber(1), true, 5);  // Not yet.
  store.reopen();
  auto order = [&] {
    std::vector<BlobId> out;
    for (const auto& r : store->cache().evictionOrder(9)) out.push_back(r.blob);
    return out;
  };

  CHECK(order() == std::vector{blobNumber(2), blobNumber(3), blobNumber(4), blobNumber(1)});
  CHECK(store->cache().evictionOrder(3).back().blob == blobNumber(4));
  CHECK(store->cache().get(blobNumber(1))->keptHours == 2);
  CHECK(store->cache().unlinkedTotals() == Totals{});
  CHECK(store->cache().totals() == Totals{4, 100});

  store->cache().hourPassed();
  CHECK(order() == std::vector{blobNumber(4), blobNumber(2), blobNumber(3), blobNumber(1)});
  CHECK(store->cache().unlinkedTotals() == Totals{1, 40});

  store->cache().setUnlinked(blobNumber(1), false, 0);  // Somebody shows it.
  CHECK(!store->cache().anyKept());
  store.reopen();
  CHECK(store->cache().unlinkedTotals() == Totals{1, 40});
}

TEST_CASE("marks are set, listed and taken away") {
  Opened store;
  store->marks().set(1, Mark::Unreal);
  store->marks().set(9, Mark::Real);
  store->marks().set(9, Mark::Unreal);
  store->marks().set(5, Mark::Real);
  store->marks().set(5, Mark::None);
  store.reopen();

  CHECK(store->marks().get(9) == Mark::Unreal);
  CHECK(store->marks().get(5) == Mark::None);
  CHECK(store->marks().all() == std::vector<std::pair<NodeId, Mark>>{{1, Mark::Unreal}, {9, Mark::Unreal}});
}

TEST_CASE("queues of bytes keep apart, survive a restart, and are read in batches") {
  Opened store;
  auto task = [](NodeId node, uint64_t n) { return BlobTask{node, blobNumber(n), 10 * n}; };
  store->transact([&] {
    for (NodeId node = 2; node < 12; ++node) store->wanted().put(task(node, 1));
    store->wanted().put(task(5, 2));
    store->wanted().put(task(5, 2));
    store->wanted().keep();
    store->unconfirmed().put(task(3, 7));
  });
  store.reopen();

  CHECK(store->wanted().totals() == Totals{11, 120});
  CHECK(store->unconfirmed().totals() == Totals{1, 70});
  std::vector<BlobTask> seen;
  for (auto page = store->wanted().next({}, 3); !page.empty(); page = store->wanted().next(seen.back(), 3))
    seen.insert(seen.end(), page.begin(), page.end());
  CHECK(seen.size() == 11);
  CHECK(store->wanted().ofNode(5).size() == 2);
  CHECK(store->wanted().ofBlob(blobNumber(1)).size() == 10);
  CHECK(store->wanted().has(5, blobNumber(2)));
  CHECK_FALSE(store->unconfirmed().has(5, blobNumber(2)));
  CHECK_FALSE(store->unconfirmed().hasBlob(blobNumber(1)));
  CHECK(store->unconfirmed().hasNode(3));

  store->transact([&] {
    store->wanted().eraseNode(5);
    store->wanted().erase(2, blobNumber(1));
    store->wanted().erase(2, blobNumber(1));
  });
  CHECK(store->wanted().totals() == Totals{8, 80});
  CHECK(store->unconfirmed().totals() == Totals{1, 70});
}

TEST_CASE("what is wanted is in memory first, and how much of it a killed process had is known after it") {
  Opened store;
  auto task = [](NodeId node, uint64_t n) { return BlobTask{node, blobNumber(n), 10 * n}; };
  store->transact([&] {
    for (NodeId node = 2; node < 6; ++node) store->wanted().put(task(node, 1));
    store->wanted().keep();
    for (NodeId node = 4; node < 8; ++node) store->wanted().put(task(node, 2));
    store->wanted().put(task(3, 3));
    store->wanted().erase(7, blobNumber(2));
  });
  CHECK(store->wanted().totals() == Totals{8, 130});
  CHECK_FALSE(store->wanted().someLost());
  CHECK(store->wanted().ofNode(4) == [&] {
    auto both = std::vector{task(4, 1), task(4, 2)};
    std::sort(both.begin(), both.end(), [](const auto& a, const auto& b) { return a.blob < b.blob; });
    return both;
  }());
  CHECK(store->wanted().ofBlob(blobNumber(2)) == std::vector{task(4, 2), task(5, 2), task(6, 2)});
  std::vector<BlobTask> seen;
  for (auto page = store->wanted().next({}, 3); !page.empty(); page = store->wanted().next(seen.back(), 3))
    seen.insert(seen.end(), page.begin(), page.end());
  CHECK(seen.size() == 8);
  CHECK(std::is_sorted(seen.begin(), seen.end(), [](const auto& a, const auto& b) { return a.node < b.node; }));

  store.reopen();

  CHECK(store->wanted().totals() == Totals{4, 40});
  CHECK(store->wanted().toTell() == Totals{8, 130});
  store->transact([&] { store->wanted().put(task(4, 2)); });
  store.reopen();
  CHECK(store->wanted().toTell() == Totals{8, 130});  // Until somebody has looked.
  store->transact([&] { store->wanted().noneLost(); });
  CHECK(store->wanted().toTell() == Totals{4, 40});
  store.reopen();
  CHECK_FALSE(store->wanted().someLost());
}

TEST_CASE("what is wanted in memory is rolled back with its transaction, and with a nested one alone") {
  Opened store;
  auto task = [](NodeId node) { return BlobTask{node, blobNumber(node), 10}; };
  auto nodes = [&] {
    std::vector<NodeId> out;
    for (const auto& each : store->wanted().next({}, 100)) out.push_back(each.node);
    return out;
  };
  store->transact([&] {
    for (NodeId node : {2, 3, 4}) store->wanted().put(task(node));
  });
  auto fail = [] { throw DatabaseError(Code::Io, "as a test wants it"); };

  CHECK_THROWS(store->transact([&] {
    store->wanted().erase(2, blobNumber(2));
    store->wanted().put({3, blobNumber(3), 70});
    store->wanted().put(task(9));
    store->wanted().erase(9, blobNumber(9));
    store->wanted().put(task(8));
    fail();
  }));
  CHECK(nodes() == std::vector<NodeId>{2, 3, 4});
  CHECK(store->wanted().totals() == Totals{3, 30});
  CHECK(store->wanted().ofBlob(blobNumber(8)).empty());

  store->transact([&] {
    store->wanted().put(task(5));
    CHECK_THROWS(store->transact([&] {
      store->wanted().put(task(6));
      store->transact([&] { store->wanted().erase(5, blobNumber(5)); });
      fail();
    }));
    CHECK(nodes() == std::vector<NodeId>{2, 3, 4, 5});
    CHECK_THROWS(store->transact([&] {
      store->wanted().keep();
      fail();
    }));
    store->wanted().erase(4, blobNumber(4));
  });
  CHECK(nodes() == std::vector<NodeId>{2, 3, 5});
  CHECK(store->wanted().totals() == Totals{3, 30});
  CHECK_FALSE(store->wanted().someLost());
}

TEST_CASE("of very much that is wanted only some is in memory") {
  Opened store;
  const size_t many = WantedQueue::kInMemory + 100;
  auto task = [](size_t n) { return BlobTask{NodeId(n + 2), blobNumber(n), 1}; };
  store->transact([&] {
    for (size_t n = 0; n < many; ++n) store->wanted().put(task(n));
  });

  CHECK(store->wanted().totals() == Totals{many, many});
  CHECK(store->wanted().next(task(many - 102), 200).size() == 101);
  store->transact([&] {
    for (size_t n = 0; n < many; ++n) store->wanted().erase(task(n));
  });
  CHECK(store->wanted().totals() == Totals());
  CHECK(store->wanted().next({}, 1).empty());
}

TEST_CASE("nodes are unsynced until the sync that began after they were noted, across restarts and rollbacks") {
  Opened store;
  store->transact([&] {
    for (NodeId node : {5, 7, 900}) store->unsynced().put(node, 0);
    store->unsynced().put(7, 2);
  });
  const uint64_t before = store->unsynced().lastTurn();
  store->transact([&] { store->unsynced().put(7, 1); });
  CHECK_THROWS(store->transact([&] {
    store->unsynced().put(8, 0);
    throw DatabaseError(Code::NoSpace, "full");
  }));
  store.reopen();
  using Notes = std::vector<std::pair<NodeId, uint8_t>>;
  CHECK(store->unsynced().all() == Notes{{5, 0}, {7, 1}, {900, 0}});
  store->transact([&] { store->unsynced().clearThrough(before); });
  CHECK(store->unsynced().all() == Notes{{7, 1}});
  store.reopen();
  CHECK(store->unsynced().has(7));
  CHECK(store->unsynced().count() == 1);
  store->transact([&] { store->unsynced().clearThrough(store->unsynced().lastTurn()); });
  store.reopen();
  CHECK(store->unsynced().count() == 0);
}

TEST_CASE("problems end for a path and all below it but not beside it") {
  Opened store;
  for (std::string path : {"a", "a/b", "a/\xff", "a.txt", "a0", "ab/c"}) store->problems().put({path, "unreadable", "why"});
  store->problems().put({"a", "stale", "x"});
  store->problems().put({"a", "stale", "y"});
  CHECK(store->problems().count() == 7);

  store->problems().eraseUnder("a");
  store.reopen();

  std::vector<std::string> left;
  for (const auto& row : store->problems().list(10)) left.push_back(row.path);
  CHECK(left == std::vector<std::string>{"a.txt", "a0", "ab/c"});
  store->problems().erase("a0", "unreadable");
  CHECK(store->problems().list(1).size() == 1);
  store->problems().eraseKind("unreadable");
  CHECK(store->problems().count() == 0);
  store->problems().put({"", "suspended", ""});
  store->problems().eraseUnder("");
  CHECK(store->problems().count() == 0);
}

TEST_CASE("members keep what they acknowledged") {
  Opened store;
  MemberRow row;
  row.peer.bytes[0] = 1;
  row.acked.join(Dot{0xffffffffffffffff, 12});
  row.acked.join(Dot{1, 1});
  row.origin = 0x8000000000000000;
  row.lastSeenNs = 77;
  row.missingFiles = 3;
  store->members().put(row);
  store.reopen();

  CHECK(store->members().get(row.peer) == row);
  CHECK(store->members().all().size() == 1);
  store->members().erase(row.peer);
  CHECK(store->members().all().empty());
}

TEST_CASE("the history lists a path and below, newest first, in pages") {
  Opened store;
  for (std::string path : {"a", "a/b", "ab", "a/\xff/c", "a"}) {
    HistoryRow row;
    row.path = path;
    row.what = "edit";
    row.whenNs = 5;
    row.node = 3;
    row.detail = "\xff";
    store->history().add(row);
  }
  store.reopen();

  auto paths = [&](const std::string& path, size_t limit, uint64_t before = UINT64_MAX) {
    std::vector<std::string> out;
    for (const auto& row : store->history().list(path, limit, before)) out.push_back(row.path);
    return out;
  };
  CHECK(paths("a", 9) == std::vector<std::string>{"a", "a/\xff/c", "a/b", "a"});
  CHECK(paths("", 2) == std::vector<std::string>{"a", "a/\xff/c"});
  CHECK(paths("", 2, store->history().list("", 2).back().number) == std::vector<std::string>{"ab", "a/b"});
  CHECK(paths("b", 2).empty());
  CHECK(store->history().list("ab", 1)[0].detail == "\xff");
}

TEST_CASE("the history is bounded") {
  Opened store;
  store->transact([&] {
    for (uint64_t i = 0; i < HistoryTable::kKept + 1000; ++i) store->history().add({0, 0, {}, "edit", i, "p", ""});
  });

  CHECK(store->history().count() <= HistoryTable::kKept + 256);
  CHECK(store->history().list("p", 1)[0].node == HistoryTable::kKept + 999);
}
