#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "librealize/store/arena_store.h"
#include "tests/store/entries.h"
#include "tests/support/memory_tree_store.h"
#include "tests/support/temp_dir.h"

using namespace realize;
using namespace realize::store;
using logic::Record;
using test::recordFor;
using test::TempDir;

namespace {

std::unique_ptr<ArenaStore> openStore(const std::string& path) {
  auto store = ArenaStore::open(path);
  REQUIRE_MESSAGE(store.ok(), store.error().message);
  return std::move(*store);
}

bool same(const std::optional<Record>& a, const std::optional<Record>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return a->entry == b->entry && a->shown == b->shown && a->shownParent == b->shownParent &&
         a->shownBase == b->shownBase && a->shownName == b->shownName && a->shownChildren == b->shownChildren;
}

template <typename T>
std::vector<T> sorted(std::vector<T> v) {
  std::sort(v.begin(), v.end());
  return v;
}

std::vector<std::pair<std::string, EntryId>> plain(const std::vector<logic::ShownName>& names) {
  std::vector<std::pair<std::string, EntryId>> out;
  for (const auto& n : names) out.emplace_back(n.name, n.id);
  return out;
}

}  // namespace

TEST_CASE("an entry comes back as it was put, also after reopening") {
  TempDir dir;
  Record record = recordFor(kRootEntry, "caf\xe9 \xff", EntryKind::File, 7, 1);
  record.entry.ctx.join(Dot{9, 5});
  record.entry.replaced = {test::blobNumber(3)};
  record.entry.heads.push_back({{8, 2}, record.entry.heads[0].second});
  {
    auto store = openStore(dir / "db");
    store->transact([&] { store->put(record); });
    CHECK(record.node > kRootNode);
  }

  auto store = openStore(dir / "db");

  CHECK(same(store->get(record.entry.id), record));
  CHECK(store->getByNode(record.node)->entry.id == record.entry.id);
  CHECK(store->shownAt(kRootEntry, "caf\xe9 \xff")->node == record.node);
  CHECK_FALSE(store->shownAt(kRootEntry, "caf\xe9"));
  CHECK(store->withContext() == std::vector{record.entry.id});
  CHECK(store->withSeveralHeads(0, 10) == std::vector{record.entry.id});
  CHECK(store->counts() == TreeCounts{1, 0, 0, 4096});
}

TEST_CASE("a node's number is never given again") {
  TempDir dir;
  NodeId last = 0;
  {
    auto store = openStore(dir / "db");
    Record a = recordFor(kRootEntry, "a", EntryKind::File, 1, 1), b = recordFor(kRootEntry, "b", EntryKind::File, 1, 2);
    store->transact([&] { store->put(a); store->put(b); });
    store->transact([&] { store->erase(b.entry.id); });
    last = b.node;
    CHECK_FALSE(store->getByNode(b.node));
  }

  auto store = openStore(dir / "db");
  Record c = recordFor(kRootEntry, "c", EntryKind::File, 1, 3);
  store->transact([&] { store->put(c); });

  CHECK(c.node > last);
}

TEST_CASE("a parent may be unknown, come later, and go before its children") {
  TempDir dir;
  auto store = openStore(dir / "db");
  Record folder = recordFor(kRootEntry, "folder", EntryKind::Directory, 1, 1);
  Record child = recordFor(folder.entry.id, "child", EntryKind::File, 1, 2);

  store->transact([&] { store->put(child); });
  CHECK_FALSE(store->get(folder.entry.id));
  CHECK(store->get(child.entry.id)->shownParent == folder.entry.id);
  CHECK(store->placedIn(folder.entry.id) == std::vector{child.entry.id});
  CHECK(store->allDirectories().empty());

  store->transact([&] { store->put(folder); });
  NodeId node = folder.node;
  CHECK(store->get(folder.entry.id)->node == node);
  CHECK(store->allDirectories() == std::vector{folder.entry.id});

  store->transact([&] { store->erase(folder.entry.id); });
  CHECK_FALSE(store->get(folder.entry.id));
  CHECK_FALSE(store->getByNode(node));
  CHECK(store->allEntries(0, 10) == std::vector{child.entry.id});
  CHECK(store->get(child.entry.id)->shownParent == folder.entry.id);
}

TEST_CASE("after a rollback memory and disk agree") {
  TempDir dir;
  auto store = openStore(dir / "db");
  Record a = recordFor(kRootEntry, "a", EntryKind::File, 1, 1), b = recordFor(kRootEntry, "b", EntryKind::File, 2, 1);
  store->transact([&] { store->put(a); });

  CHECK_THROWS_AS(store->transact([&] {
    Record changed = a;
    changed.shownName = changed.shownBase = "renamed";
    store->put(changed);
    store->put(b);
    CHECK(store->counts().files == 2);
    throw DatabaseError(Code::NoSpace, "full");
  }),
                  DatabaseError);

  CHECK(same(store->get(a.entry.id), a));
  CHECK_FALSE(store->get(b.entry.id));
  CHECK(store->touchOrigins() == std::vector<Origin>{1});
  CHECK(store->counts() == TreeCounts{1, 0, 0, 4096});
}

TEST_CASE("an entry that a rolled-back transaction had erased is found again, however many others were looked for in it") {
  TempDir dir;
  constexpr uint64_t kMany = 400;
  auto record = [](uint64_t n) { return recordFor(kRootEntry, "n" + std::to_string(n), EntryKind::File, 1, n + 1); };
  auto store = openStore(dir / "db");
  store->transact([&] {
    for (uint64_t n = 0; n < kMany; ++n) {
      Record r = record(n);
      store->put(r);
    }
  });
  store = nullptr;
  store = openStore(dir / "db");

  CHECK_THROWS(store->transact([&] {
    store->erase(record(7).entry.id);
    for (uint64_t n = kMany; n < 2 * kMany; ++n) CHECK_FALSE(store->get(record(n).entry.id));
    throw DatabaseError(Code::NoSpace, "as a test wants it");
  }));

  CHECK(store->get(record(7).entry.id));
  CHECK(store->nodeOf(record(7).entry.id));
}

TEST_CASE("an inner rollback keeps what the outer transaction counted") {
  TempDir dir;
  auto store = openStore(dir / "db");
  Record a = recordFor(kRootEntry, "a", EntryKind::File, 1, 1), b = recordFor(kRootEntry, "b", EntryKind::File, 1, 2);

  store->transact([&] {
    store->put(a);
    (void)store->transact([&]() -> Result<void> {
      store->put(b);
      return Error{Code::Refused, ""};
    });
  });

  CHECK(store->counts().files == 1);
  CHECK(store->allEntries(0, 10).size() == 1);
}

TEST_CASE("any series of changes answers as the store in memory does") {
  TempDir dir;
  auto store = openStore(dir / "db");
  logic::MemoryTreeStore memory;
  std::mt19937_64 random(20);
  std::vector<EntryId> ids;
  const std::vector<std::string> names = {"a", "b", "b~1", "\xff", "\xff\xff", "A", "long name that is long"};
  const Origin origins[] = {1, 2, 0xffffffffffffffff};
  uint64_t seq = 0;

  auto pick = [&](const auto& from) { return from[random() % std::size(from)]; };
  auto anyParent = [&] { return ids.empty() || random() % 3 == 0 ? kRootEntry : pick(ids); };
  auto change = [&] {
    Record r;
    if (ids.empty() || random() % 3 == 0) {
      EntryKind kind = EntryKind(random() % 3);
      r = recordFor(anyParent(), pick(names), kind, pick(origins), ++seq);
      if (memory.get(r.entry.id)) return;
      if (std::find(ids.begin(), ids.end(), r.entry.id) == ids.end()) ids.push_back(r.entry.id);
    } else {
      auto known = memory.get(pick(ids));
      if (!known) return;
      r = *known;
      r.node = 0;
      r.entry.touch.join(Dot{pick(origins), ++seq});
      switch (random() % 9) {
        case 0: r.shown = !r.shown; r.shownName = r.shown ? r.shownBase : ""; break;
        case 1: r.shownParent = anyParent(); break;
        case 2: r.shownBase = pick(names); break;
        case 3: if (r.shown) r.shownName = r.shownBase + "~" + pick(names); break;
        case 4: r.entry.ctx.join(Dot{5, seq}); break;
        case 5: r.entry.ctx = {}; r.shownChildren = uint32_t(random() % 9); break;
        case 6:
          if (r.entry.kind == EntryKind::File && !r.entry.heads.empty()) {
            auto v = r.entry.heads[0].second;
            v.target = pick(ids);
            if (v.target.isZero()) break;
            v.blob = {};
            v.sizeBytes = 0;
            r.entry.heads = {{r.entry.heads[0].first, v}};
          }
          break;
        case 7: r.entry.place.parent = r.shownParent; r.entry.place.name = r.shownBase; break;
        case 8:
          store->erase(r.entry.id);
          memory.erase(r.entry.id);
          return;
      }
      auto before = memory.get(r.entry.id);
      r.node = before->node;
    }
    // One name shows one entry: the tree's rules see to that.
    if (r.shown) {
      if (auto there = memory.shownAt(r.shownParent, r.shownName); there && there->id != r.entry.id) return;
      if (r.entry.id == r.shownParent) return;
    }
    Record forStore = r;
    forStore.node = 0;
    store->put(forStore);
    memory.put(r);
    CHECK(same(store->getByNode(forStore.node), r));
  };
  auto compare = [&] {
    ids.push_back(kRootEntry);
    for (const EntryId& id : ids) {
      REQUIRE(same(store->get(id), memory.get(id)));
      REQUIRE(sorted(store->placedIn(id)) == sorted(memory.placedIn(id)));
      REQUIRE(sorted(store->clashedIn(id)) == sorted(memory.clashedIn(id)));
      REQUIRE(sorted(store->linksTo(id)) == sorted(memory.linksTo(id)));
      auto all = memory.shownIn(id, "", 1000);
      REQUIRE(plain(store->shownIn(id, "", 1000)) == plain(all));
      REQUIRE(plain(store->shownIn(id, "b", 2)) == plain(memory.shownIn(id, "b", 2)));
      for (const auto& name : names) {
        REQUIRE(sorted(store->placedAt(id, name)) == sorted(memory.placedAt(id, name)));
        auto a = store->shownAt(id, name), b = memory.shownAt(id, name);
        REQUIRE(a.has_value() == b.has_value());
        if (a) REQUIRE(a->id == b->id);
      }
    }
    ids.pop_back();
    REQUIRE(sorted(store->displaced()) == sorted(memory.displaced()));
    REQUIRE(sorted(store->withContext()) == sorted(memory.withContext()));
    REQUIRE(sorted(store->allDirectories()) == sorted(memory.allDirectories()));
    REQUIRE(sorted(store->touchOrigins()) == sorted(memory.touchOrigins()));
    for (Origin origin : origins) {
      REQUIRE(store->touchedAfter(origin, 0, 1000) == memory.touchedAfter(origin, 0, 1000));
      REQUIRE(store->touchedAfter(origin, seq / 2, 5) == memory.touchedAfter(origin, seq / 2, 5));
    }
    TreeCounts counts;
    for (const auto& [id, r] : memory.records()) {
      if (!r.shown) continue;
      if (r.entry.kind == EntryKind::File) { ++counts.files; counts.bytes += r.entry.heads[0].second.sizeBytes; }
      if (r.entry.kind == EntryKind::Directory) ++counts.directories;
      if (r.entry.kind == EntryKind::Symlink) ++counts.symlinks;
    }
    REQUIRE(store->counts() == counts);
  };

  for (int round = 0; round < 12; ++round) {
    store->transact([&] { for (int i = 0; i < 60; ++i) change(); });
    compare();
    if (round % 4 == 3) {
      store.reset();
      store = openStore(dir / "db");
      compare();
    }
  }
  CHECK_NOTHROW(store->database().verify());
}

TEST_CASE("what is known is found and what is not is not, however many are asked for") {
  TempDir dir;
  constexpr uint64_t kMany = 40'000;
  auto record = [](uint64_t n) { return recordFor(kRootEntry, "n" + std::to_string(n), EntryKind::File, 7, n + 1); };
  auto store = openStore(dir / "db");
  for (uint64_t n = 0; n < kMany;) {
    store->transact([&] {
      for (const uint64_t end = n + 4000; n < end; ++n) {
        Record r = record(n);
        if (store->get(r.entry.id)) FAIL("never put");
        store->put(r);
      }
    });
    CHECK_THROWS(store->transact([&] {
      Record r = record(kMany + n);
      store->put(r);
      throw DatabaseError(Code::Io, "as a test wants it");
    }));
    CHECK_FALSE(store->get(record(kMany + n).entry.id));
  }
  // A number may be kept for a parent that is not known itself.
  Record inside = recordFor(record(kMany).entry.id, "x", EntryKind::File, 7, kMany + 1);
  store->transact([&] { store->put(inside); });
  CHECK(store->nodeOf(record(kMany).entry.id));

  for (int again = 0; again < 2; ++again) {
    size_t missing = 0, unexpected = 0;
    for (uint64_t n = 0; n < kMany; ++n) {
      missing += !store->get(record(n).entry.id);
      unexpected += store->get(record(2 * kMany + n).entry.id).has_value();
    }
    CHECK(missing == 0);
    CHECK(unexpected == 0);
    CHECK(store->nodeOf(record(kMany).entry.id));
    store = nullptr;
    store = openStore(dir / "db");
  }
}

TEST_CASE("a directory of many names is listed in pages and in order") {
  TempDir dir;
  auto store = openStore(dir / "db");
  constexpr size_t kMany = 20'000;
  store->transact([&] {
    for (size_t i = 0; i < kMany; ++i) {
      Record r = recordFor(kRootEntry, "file " + std::to_string(i), EntryKind::File, 1, i + 1);
      store->put(r);
    }
  });

  std::vector<std::string> names;
  for (auto page = store->shownIn(kRootEntry, "", 999); !page.empty();
       page = store->shownIn(kRootEntry, names.back(), 999)) {
    for (const auto& n : page) names.push_back(n.name);
  }

  CHECK(names.size() == kMany);
  CHECK(std::is_sorted(names.begin(), names.end()));
  CHECK(store->counts() == TreeCounts{kMany, 0, 0, kMany * 4096});
  CHECK(store->touchedAfter(1, kMany - 5, 100).size() == 5);
  CHECK(store->touchedAfter(1, UINT64_MAX, 100).empty());
}

TEST_CASE("values of the arena stay") {
  TempDir dir;
  {
    auto store = openStore(dir / "db");
    CHECK_FALSE(store->recordedIdentity());
    store->transact([&] {
      store->setValue("vector", std::string("\0\xff", 2));
      store->setValue("empty", "");
      store->recordIdentity({42, -1});
    });
    store->makeDurable();
  }

  auto store = openStore(dir / "db");

  CHECK(store->getValue("vector") == std::string("\0\xff", 2));
  CHECK(store->getValue("empty") == "");
  CHECK_FALSE(store->getValue("other"));
  CHECK(store->recordedIdentity() == FileIdentity{42, -1});
}
