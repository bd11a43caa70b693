#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "librealize/store/statement.h"
#include "tests/support/temp_dir.h"

using namespace realize;
using namespace realize::store;
using test::TempDir;

namespace {

const Migration kSteps[] = {{"first", "CREATE TABLE thing (number INTEGER PRIMARY KEY, name BLOB NOT NULL, text TEXT)"}};
constexpr int kMany = 20'000;  // Several batches.

struct Things {
  explicit Things(bool thread)
      : db(std::move(*Database::open(dir / "db", "things", 77, kSteps, {.create = true, .vfs = {}, .thread = thread}))),
        add(*db, "INSERT INTO thing (number, name, text) VALUES (?, ?, ?)"),
        count_(*db, "SELECT count(*) FROM thing"),
        sum_(*db, "SELECT sum(number) FROM thing"),
        nameOf_(*db, "SELECT name, text FROM thing WHERE number = ?") {}

  void addMany(int from, int to) {
    for (int i = from; i < to; ++i) add.run(i, "thing " + std::to_string(i), Text{"text"});
  }
  int count() { return single(count_); }
  int sum() { return single(sum_); }
  std::string nameOf(int number) {
    std::string out;
    nameOf_.first([&](Row row) { out = row.string(0) + (row.isNull(1) ? "" : ", " + row.string(1)); }, number);
    return out;
  }
  int single(Statement& statement) {
    int out = 0;
    statement.first([&](Row row) { out = int(row.integer(0)); });
    return out;
  }

  TempDir dir;
  std::unique_ptr<Database> db;
  Statement add, count_, sum_, nameOf_;
};

}  // namespace

TEST_CASE("what a transaction writes is there for its own reads, and after it, in order") {
  for (bool thread : {false, true}) {
    CAPTURE(thread);
    Things things(thread);
    Statement rename(*things.db, "UPDATE thing SET name = ?, text = ? WHERE number = ?");
    things.db->transact([&] {
      things.addMany(0, kMany);
      for (int i = 0; i < kMany; ++i) rename.run("renamed " + std::to_string(i), nullptr, i);
      CHECK(things.count() == kMany);
      things.addMany(kMany, 2 * kMany);
      CHECK(things.nameOf(7) == "renamed 7");
    });
    CHECK(things.count() == 2 * kMany);
    CHECK(things.nameOf(kMany - 1) == "renamed " + std::to_string(kMany - 1));
    CHECK(things.nameOf(2 * kMany - 1) == "thing " + std::to_string(2 * kMany - 1) + ", text");
  }
}

TEST_CASE("a write that fails fails the transaction that it is a part of, and only that") {
  for (bool thread : {false, true}) {
    CAPTURE(thread);
    Things things(thread);
    things.db->transact([&] { things.addMany(0, 10); });
    auto failed = catching([&] {
      things.db->transact([&] {
        things.addMany(10, kMany);
        things.add.run(3, "there already", nullptr);
        things.addMany(kMany, 2 * kMany);
      });
    });
    CHECK(!failed.ok());
    CHECK(things.count() == 10);

    auto seenByRead = catching([&] {
      things.db->transact([&] {
        things.add.run(3, "there already", nullptr);
        (void)things.count();
        FAIL("not reached");
      });
    });
    CHECK(!seenByRead.ok());

    things.db->transact([&] { things.addMany(10, kMany); });
    CHECK(things.count() == kMany);
  }
}

TEST_CASE("a transaction that is given up takes what was queued with it") {
  for (bool thread : {false, true}) {
    CAPTURE(thread);
    Things things(thread);
    struct GivenUp {};
    CHECK_THROWS_AS(things.db->transact([&] {
      things.addMany(0, kMany);
      throw GivenUp();
    }), GivenUp);
    CHECK(things.count() == 0);

    things.db->transact([&] {
      things.addMany(0, kMany);
      CHECK_THROWS_AS(things.db->transact([&] {
        things.addMany(kMany, 2 * kMany);
        throw GivenUp();
      }), GivenUp);
      things.addMany(2 * kMany, 2 * kMany + 5);
    });
    CHECK(things.count() == kMany + 5);
    CHECK(things.nameOf(kMany) == "");
  }
}

TEST_CASE("what is written for each row that is read does not disturb the reading") {
  for (bool thread : {false, true}) {
    CAPTURE(thread);
    Things things(thread);
    Statement each(*things.db, "SELECT number FROM thing ORDER BY number LIMIT ?");
    things.db->transact([&] { things.addMany(0, kMany); });
    int seen = 0;
    things.db->transact([&] {
      each.each(
          [&](Row row) {
            CHECK(row.integer(0) == seen++);
            things.add.run(kMany + row.integer(0), "a second", nullptr);
          },
          kMany);
    });
    CHECK(seen == kMany);
    CHECK(things.count() == 2 * kMany);
    CHECK(things.sum() == kMany * (2 * kMany - 1));
  }
}

TEST_CASE("a statement may end before what it queued was run") {
  for (bool thread : {false, true}) {
    CAPTURE(thread);
    Things things(thread);
    things.db->transact([&] {
      things.addMany(0, kMany);
      Statement(*things.db, "DELETE FROM thing WHERE number >= ?").run(5);
    });
    CHECK(things.count() == 5);
  }
}

TEST_CASE("what may be committed later is before anything is read, made durable or begun, and when the database is closed") {
  for (bool thread : {false, true}) {
    CAPTURE(thread);
    std::atomic<int> committed = 0, due = 0;
    auto open = std::make_unique<Things>(thread);
    Things& things = *open;
    things.db->onSettleDue([&] { ++due; });
    const auto addLater = [&](int from, int to) {
      things.db->transactLater([&] { things.addMany(from, to); return true; }, [&] { ++committed; });
    };
    addLater(0, 10);
    if (!thread) CHECK(committed == 0);
    CHECK(due == (thread ? 0 : 1));
    CHECK(things.count() == 10);
    CHECK(committed == 1);

    addLater(10, kMany);
    addLater(kMany, 2 * kMany);
    things.db->makeDurable();
    CHECK(committed == 3);

    addLater(2 * kMany, 2 * kMany + 10);
    things.db->transact([&] {
      CHECK(committed == 4);
      things.addMany(2 * kMany + 10, 2 * kMany + 20);
    });
    things.db->transactLater([&] { things.addMany(2 * kMany + 20, 2 * kMany + 30); return false; }, [&] { ++committed; });
    CHECK(committed == 5);
    CHECK(!things.db->inTransaction());

    addLater(2 * kMany + 30, 3 * kMany);
    open.reset();
    CHECK(committed == 6);
  }
}

TEST_CASE("of what may be committed later, what is given up takes only itself along") {
  for (bool thread : {false, true}) {
    CAPTURE(thread);
    Things things(thread);
    struct GivenUp {};
    things.db->transactLater([&] { things.addMany(0, kMany); return true; }, [] {});
    CHECK_THROWS_AS(things.db->transactLater([&]() -> bool {
      things.addMany(kMany, 2 * kMany);
      throw GivenUp();
    }, [] {}), GivenUp);
    CHECK(things.count() == kMany);
  }
}

TEST_CASE("where what was to be committed later fails, so does all that follows, until the database is opened anew") {
  for (bool thread : {false, true}) {
    CAPTURE(thread);
    Things things(thread);
    std::atomic<int> committed = 0, due = 0;
    things.db->onSettleDue([&] { ++due; });
    things.db->transact([&] { things.addMany(0, 10); });
    const auto addLater = [&](int from, int to) {
      return catching([&] { things.db->transactLater([&] { things.addMany(from, to); return true; }, [&] { ++committed; }); });
    };
    CHECK(addLater(9, 20).ok());  // 9 is there.
    CHECK((addLater(20, kMany).ok() || thread));  // It may be known already.
    CHECK(!catching([&] { things.db->settle(); }).ok());
    CHECK(due > 0);
    CHECK(!catching([&] { things.db->makeDurable(); }).ok());
    CHECK(!catching([&] { (void)things.count(); }).ok());
    CHECK(!catching([&] { things.db->transact([&] { things.addMany(kMany, kMany + 1); }); }).ok());
    CHECK(!addLater(kMany, kMany + 1).ok());
    CHECK(committed == 0);

    things.db->reopen();
    CHECK(things.count() == 10);
    CHECK(addLater(10, 20).ok());
    CHECK(things.count() == 20);
    CHECK(committed == 1);
  }
}
