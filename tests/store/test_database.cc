#include "librealize/store/database.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "librealize/store/arena_store.h"
#include "librealize/store/migrations.h"
#include "librealize/store/statement.h"
#include "tests/support/temp_dir.h"

using namespace realize;
using namespace realize::store;
using test::TempDir;

namespace {

const Migration kSteps[] = {
    {"001_first", "CREATE TABLE thing (number INTEGER PRIMARY KEY, name BLOB NOT NULL);"},
    {"002_colour", "ALTER TABLE thing ADD COLUMN colour INTEGER NOT NULL DEFAULT 7; CREATE INDEX c ON thing (colour);"},
};
constexpr uint32_t kKind = 77;

std::unique_ptr<Database> openThings(const std::string& path, size_t steps = 1) {
  auto db = Database::open(path, "things", kKind, std::span(kSteps).first(steps), {});
  REQUIRE_MESSAGE(db.ok(), db.error().message);
  return std::move(*db);
}

struct Things {
  explicit Things(Database& db)
      : insert(db, "INSERT INTO thing (name) VALUES (?)"),
        select(db, "SELECT name FROM thing ORDER BY name"),
        count_(db, "SELECT count(*) FROM thing") {}
  int64_t count() {
    int64_t out = 0;
    count_.first([&](Row row) { out = row.integer(0); });
    return out;
  }
  std::vector<std::string> names() {
    std::vector<std::string> out;
    select.each([&](Row row) { out.push_back(row.string(0)); });
    return out;
  }
  Statement insert, select, count_;
};

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void spill(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("names of any bytes come back and sort bytewise") {
  TempDir dir;
  auto db = openThings(dir / "db");
  Things things(*db);
  std::vector<std::string> names = {std::string("\0", 1), "", "A", "a", "\x7f", "\x80\x81", "\xc3\x28", "\xff", "\xff\xff"};

  for (auto it = names.rbegin(); it != names.rend(); ++it) things.insert.run(*it);

  std::sort(names.begin(), names.end());
  CHECK(things.names() == names);
}

TEST_CASE("a dropped transaction leaves nothing and a committed one stays") {
  TempDir dir;
  {
    auto db = openThings(dir / "db");
    Things things(*db);
    {
      Transaction dropped(*db);
      things.insert.run("gone");
      CHECK(db->inTransaction());
    }
    CHECK_FALSE(db->inTransaction());
    db->transact([&] { things.insert.run("kept"); });
  }

  auto db = openThings(dir / "db");

  CHECK(Things(*db).names() == std::vector<std::string>{"kept"});
}

TEST_CASE("an inner transaction can be undone alone") {
  TempDir dir;
  auto db = openThings(dir / "db");
  Things things(*db);

  db->transact([&] {
    things.insert.run("outer");
    auto inner = db->transact([&]() -> Result<void> {
      things.insert.run("inner");
      return Error{Code::Refused, "changed my mind"};
    });
    CHECK(inner.code() == Code::Refused);
    CHECK_THROWS_AS(db->transact([&] {
      things.insert.run("inner 2");
      throw DatabaseError(Code::Io, "no");
    }),
                    DatabaseError);
    db->transact([&] { things.insert.run("inner 3"); });
  });

  CHECK(things.names() == std::vector<std::string>{"inner 3", "outer"});
}

TEST_CASE("what is kept in memory is written before a nested transaction and forgotten after a rollback") {
  TempDir dir;
  auto db = openThings(dir / "db");
  std::string calls;
  db->setHooks([&] { calls += 'w'; }, [&] { calls += 'f'; });

  db->transact([&] {
    Transaction inner(*db);
    calls += '.';
  });

  CHECK(calls == "w.fw");
}

TEST_CASE("making durable within a transaction is refused and otherwise works again and again") {
  TempDir dir;
  auto db = openThings(dir / "db");
  Things things(*db);
  db->makeDurable();
  things.insert.run("one");
  db->makeDurable();
  db->transact([&] {
    things.insert.run("two");
    CHECK_THROWS_AS(db->makeDurable(), DatabaseError);
  });
  db->makeDurable();
  db->checkpoint();
  db->makeDurable();

  CHECK(things.count() == 2);
  CHECK_NOTHROW(db->verify());
}

TEST_CASE("a statement used within its own rows is an error and not a loop") {
  TempDir dir;
  auto db = openThings(dir / "db");
  Things things(*db);
  things.insert.run("one");

  CHECK_THROWS_AS(things.select.each([&](Row) { (void)things.names(); }), DatabaseError);

  CHECK(things.names().size() == 1);
}

TEST_CASE("a database error becomes a Result where asked") {
  TempDir dir;
  auto db = openThings(dir / "db");
  Statement twice(*db, "INSERT INTO thing (number, name) VALUES (1, x'')");
  twice.run();

  auto failed = catching([&] { twice.run(); });
  auto fine = catching([&] { return 5; });
  auto passed = catching([&]() -> Result<int> { return Error{Code::Refused, ""}; });

  CHECK(failed.code() == Code::Internal);
  CHECK(*fine == 5);
  CHECK(passed.code() == Code::Refused);
}

TEST_CASE("a later migration runs once on an old database and keeps its rows") {
  TempDir dir;
  {
    auto db = openThings(dir / "db", 1);
    Things(*db).insert.run("old");
  }
  for (int round = 0; round < 2; ++round) {
    auto db = openThings(dir / "db", 2);
    Statement colours(*db, "SELECT name, colour FROM thing");

    CHECK(colours.first([&](Row row) { CHECK(row.string(0) == "old"); CHECK(row.integer(1) == 7); }));
  }
}

TEST_CASE("a failing migration leaves the database as it was") {
  TempDir dir;
  { auto db = openThings(dir / "db", 1); }
  const Migration broken[] = {kSteps[0], {"002_broken", "CREATE TABLE other (a); CREATE TABLE thing (a);"}};

  auto failed = Database::open(dir / "db", "things", kKind, broken, {});

  CHECK_FALSE(failed.ok());
  auto db = openThings(dir / "db", 2);
  CHECK(Things(*db).count() == 0);
}

TEST_CASE("a database of a newer program is refused with the remedy") {
  TempDir dir;
  { auto db = openThings(dir / "db", 2); }

  auto old = Database::open(dir / "db", "things", kKind, std::span(kSteps).first(1), {});

  REQUIRE(old.code() == Code::WrongVersion);
  CHECK(old.error().message.find("update realize") != std::string::npos);
}

TEST_CASE("a database of another kind is not taken for ours") {
  TempDir dir;
  { auto db = openThings(dir / "db"); }

  CHECK(ArenaStore::open(dir / "db").code() == Code::Corrupt);
}

TEST_CASE("a missing database is made only when asked") {
  TempDir dir;

  CHECK(ArenaStore::open(dir / "db", {.create = false, .vfs = {}}).code() == Code::NotFound);
  CHECK(ArenaStore::open(dir / "no/such/folder/db").code() == Code::NotFound);
  CHECK(ArenaStore::open(dir / "db").ok());
  CHECK(ArenaStore::open(dir / "db", {.create = false, .vfs = {}}).ok());
}

TEST_CASE("an emptied database is damage and not a new one") {
  TempDir dir;
  { CHECK(ArenaStore::open(dir / "db").ok()); }
  spill(dir / "db", "");

  CHECK(ArenaStore::open(dir / "db", {.create = false, .vfs = {}}).code() == Code::Corrupt);
}

TEST_CASE("a database that somebody else has open is busy") {
  TempDir dir;
  auto first = openThings(dir / "db");

  auto second = Database::open(dir / "db", "things", kKind, std::span(kSteps).first(1), {});

  CHECK(second.code() == Code::Busy);
}

TEST_CASE("a damaged database says so and does not crash") {
  TempDir dir;
  {
    auto store = std::move(*ArenaStore::open(dir / "db"));
    store->transact([&] {
      for (NodeId node = 2; node < 2000; ++node) {
        DiskRow row;
        row.node = node;
        row.parentNode = node / 10;
        row.name = "name " + std::to_string(node);
        row.blob.bytes[0] = uint8_t(node);
        store->disk().put(row);
      }
    });
  }
  const std::string good = slurp(dir / "db");
  std::mt19937_64 random(1);
  auto use = [&](const std::string& bytes) {
    spill(dir / "bad", bytes);
    std::filesystem::remove(dir / "bad-wal");
    auto store = ArenaStore::open(dir / "bad", {.create = false, .vfs = {}});
    if (!store.ok()) return store.code();
    auto used = catching([&] {
      (void)(*store)->disk().all(0, SIZE_MAX);
      (void)(*store)->disk().childrenOf(7);
      (*store)->transact([&] {
        for (NodeId node = 2; node < 2000; node += 7) (*store)->disk().erase(node);
      });
      (*store)->database().verify();
    });
    return used.ok() ? Code::NotFound : used.code();  // NotFound stands for "nothing wrong".
  };

  SUBCASE("garbage") { CHECK(use("this is not a database, however long it may be " + std::string(5000, 'x')) == Code::Corrupt); }
  SUBCASE("cut in half") { CHECK(use(good.substr(0, good.size() / 2)) == Code::Corrupt); }
  SUBCASE("cut within a page") { CHECK(use(good.substr(0, good.size() - 1000)) == Code::Corrupt); }
  SUBCASE("cut within the header") { CHECK(use(good.substr(0, 50)) == Code::Corrupt); }
  SUBCASE("zeros from the second page on") {
    CHECK(use(good.substr(0, 4096) + std::string(good.size() - 4096, '\0')) == Code::Corrupt);
  }
  SUBCASE("a page of random bytes, any page") {
    for (size_t page = 0; page < good.size() / 4096; ++page) {
      std::string bad = good;
      for (size_t i = 0; i < 4096; ++i) bad[page * 4096 + i] = char(random());
      // Tables of a few pages: damage may lie where nothing of this use looks, but never passes verify().
      CHECK(use(bad) == Code::Corrupt);
    }
  }
  SUBCASE("single bytes changed anywhere") {
    for (int round = 0; round < 100; ++round) {
      std::string bad = good;
      bad[random() % bad.size()] ^= char(1 + random() % 255);
      Code code = use(bad);
      // In a value's middle nobody can know; elsewhere the error must be one of these.
      CHECK((code == Code::Corrupt || code == Code::NotFound || code == Code::WrongVersion || code == Code::Internal));
    }
  }
}

TEST_CASE("a log of garbage is ignored") {
  TempDir dir;
  { CHECK(ArenaStore::open(dir / "db").ok()); }
  spill(dir / "db-wal", std::string(100000, 'w'));

  auto store = ArenaStore::open(dir / "db");

  REQUIRE(store.ok());
  CHECK_NOTHROW((*store)->database().verify());
}
