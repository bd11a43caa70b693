// The store on a disk that loses what was not synced.

#include <doctest/doctest.h>

#include "librealize/store/arena_store.h"
#include "librealize/store/disk_vfs.h"
#include "tests/store/entries.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_disk.h"
#include "tests/support/fake_random.h"

using namespace realize;
using namespace realize::store;
using test::recordFor;

namespace {

/// One machine whose power can be cut.
struct Machine {
  explicit Machine(uint64_t seed) : random(seed), disk(clock) { disk.makeFolder("/state"); }

  Result<std::unique_ptr<ArenaStore>> open() {
    store.reset();
    vfs.reset();
    auto folder = disk.openRoot("/state");
    REQUIRE(folder.ok());
    vfs = std::make_unique<DiskVfs>("store-crash-test", std::move(*folder), clock, random);
    return ArenaStore::open("index.db", {.create = true, .vfs = vfs->name()});
  }

  test::FakeClock clock;
  test::FakeRandom random;
  test::FakeDisk disk;
  std::unique_ptr<DiskVfs> vfs;
  std::unique_ptr<ArenaStore> store;
};

}  // namespace

TEST_CASE("what was made durable is there after a power cut, and what is there is whole") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Machine machine(seed);
    uint64_t tried = 0, durable = 0, found = 0;
    for (int life = 0; life < 4; ++life) {
      machine.disk.powerOffBefore(1 + machine.random.below(life == 0 ? 60 : 200));
      auto opened = machine.open();
      if (opened.ok()) {
        auto worked = catching([&] {
          ArenaStore& store = **opened;
          for (int round = 0; round < 12; ++round) {
            store.transact([&] {
              for (int i = 0; i < 3; ++i) {
                ++tried;
                auto record = recordFor(kRootEntry, "file " + std::to_string(tried), EntryKind::File, 1, tried);
                store.put(record);
                DiskRow row;
                row.node = record.node;
                row.parentNode = 1;
                row.name = record.shownName;
                row.sizeBytes = 4096;
                store.disk().put(row);
              }
              store.setValue("seq", std::to_string(tried));
            });
            if (machine.random.oneIn(2)) {
              store.makeDurable();
              durable = tried;
            }
            if (machine.random.oneIn(6)) store.database().checkpoint();
          }
        });
        opened = Error{Code::Cancelled, ""};
      } else {
        CHECK(opened.code() != Code::Corrupt);
      }
      machine.disk.crash(machine.random);

      auto after = machine.open();
      REQUIRE_MESSAGE(after.ok(), after.error().message);
      ArenaStore& store = **after;
      found = std::stoull(store.getValue("seq").value_or("0"));
      CHECK(found >= durable);
      CHECK(found <= tried);
      CHECK(store.counts().files == store.allEntries(0, SIZE_MAX).size());
      CHECK(store.disk().files().count == store.disk().all(0, SIZE_MAX).size());
      CHECK(store.touchedAfter(1, 0, SIZE_MAX).size() == store.counts().files);
      CHECK_NOTHROW(store.database().verify());
      store.makeDurable();
      tried = durable = found;
    }
  }
}

TEST_CASE("a full disk fails the transaction, and the store goes on when there is space") {
  Machine machine(1);
  auto opened = machine.open();
  REQUIRE(opened.ok());
  ArenaStore& store = **opened;
  uint64_t seq = 0;
  auto fill = [&] {
    store.transact([&] {
      for (int i = 0; i < 50; ++i) {
        ++seq;
        auto record = recordFor(kRootEntry, "file " + std::to_string(seq), EntryKind::File, 1, seq);
        store.put(record);
      }
    });
  };
  fill();

  machine.disk.setFreeBytes(20'000);
  Result<void> failed;
  for (int i = 0; i < 50 && failed.ok(); ++i) failed = catching(fill);
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.code() == Code::NoSpace);
  CHECK(store.counts().files % 50 == 0);
  CHECK(store.counts().files == store.allEntries(0, SIZE_MAX).size());
  uint64_t before = store.counts().files;
  machine.disk.setFreeBytes(1 << 30);

  CHECK_NOTHROW(fill());
  CHECK_NOTHROW(store.makeDurable());
  CHECK(store.counts().files == before + 50);
  CHECK_NOTHROW(store.database().verify());
}

// realize-sim, seed 62094601.
TEST_CASE("a store ends whole whose last transaction was to be committed later, and cannot be") {
  Machine machine(1);
  bool committed = false;
  {
    auto opened = machine.open();
    REQUIRE(opened.ok());
    ArenaStore& store = **opened;
    store.setValue("a", "b");
    store.database().onSettleDue([] {});
    store.transactLater(
        [&] {
          for (uint64_t seq = 1; seq <= 100; ++seq) {
            auto record = recordFor(kRootEntry, "file " + std::to_string(seq), EntryKind::File, 1, seq);
            store.put(record);
          }
          return true;
        },
        [&] { committed = true; });
    machine.disk.fail(test::FakeOp::Write, "/state", Code::NoSpace, 0, 1'000'000);
  }
  machine.disk.clearFailures();

  CHECK_FALSE(committed);
  auto opened = machine.open();
  REQUIRE(opened.ok());
  CHECK((*opened)->counts().files == 0);
  CHECK((*opened)->getValue("a") == "b");
}

TEST_CASE("a failed sync is never reported as durable") {
  Machine machine(1);
  auto opened = machine.open();
  REQUIRE(opened.ok());
  (*opened)->setValue("a", "b");

  machine.disk.fail(test::FakeOp::FileSync, "index.db", Code::Io);

  CHECK_THROWS_AS((*opened)->makeDurable(), DatabaseError);
  // What the kernel dropped is not brought to the disk by a second sync that succeeds.
  CHECK_THROWS_AS((*opened)->makeDurable(), DatabaseError);
}

TEST_CASE("after syncs that failed a power cut leaves a whole database, however its process went on") {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    CAPTURE(seed);
    Machine machine(seed);
    uint64_t seq = 0;
    auto fill = [&](ArenaStore& store) {
      store.transact([&] {
        for (int i = 0; i < 50; ++i) {
          ++seq;
          auto record = recordFor(kRootEntry, "file " + std::to_string(seq), EntryKind::File, 1, seq);
          store.put(record);
        }
      });
    };
    auto opened = machine.open();
    REQUIRE(opened.ok());
    auto store = std::move(*opened);
    for (int i = 0; i < 10; ++i) fill(*store);
    REQUIRE_NOTHROW(store->database().checkpoint());
    fill(*store);
    machine.disk.fail(test::FakeOp::FileSync, "index.db-wal", Code::Io, 0, 1 + int(seed / 2 % 2));
    REQUIRE_THROWS_AS(store->makeDurable(), DatabaseError);

    const bool killed = seed % 2;
    if (killed) machine.disk.powerOff();  // Nothing of what its destructor would do.
    if (killed) {
      store.reset();
      machine.disk.restore(machine.disk.snapshot());
      for (int i = 0; i < 3 && !store; ++i)
        if (auto again = machine.open(); again.ok()) store = std::move(*again);
      REQUIRE(store);
      machine.disk.powerOffBefore(1 + machine.random.below(20));
    } else {
      machine.disk.powerOffBefore(1 + machine.random.below(30));
      Result<void> again = Error{};
      for (int i = 0; i < 3 && !again.ok(); ++i) again = catching([&] { store->reopen(); });
    }
    (void)catching([&] {
      (void)store->counts();  // Throws where it could not be opened again.
      store->database().checkpoint();
    }).ok();
    machine.disk.powerOff();
    store.reset();
    machine.disk.crash(machine.random);
    machine.disk.clearFailures();

    auto after = machine.open();
    REQUIRE(after.ok());
    CHECK_NOTHROW((*after)->database().verify());
    CHECK((*after)->counts().files >= 500);
  }
}
