// Databases as each released version wrote them, opened by this one. golden/make.sh writes them, once a version.

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "librealize/store/peer_store.h"
#include "tests/store/entries.h"
#include "tests/support/temp_dir.h"

using namespace realize;
using namespace realize::store;
using test::blobNumber;
using test::recordFor;
using test::TempDir;

namespace {

// Who adds a migration raises this, after golden/make.sh has written what came before: each version has its file.
constexpr size_t kArenaVersions = 5, kPeerVersions = 1;

struct Contents {
  logic::Record folder = recordFor(kRootEntry, "folder", EntryKind::Directory, 11, 1);
  logic::Record file = recordFor(folder.entry.id, "caf\xe9", EntryKind::File, 11, 2);
  logic::Record link = recordFor(kRootEntry, "link", EntryKind::Symlink, 0xffffffffffffffff, 1);
  DiskRow disk;
  MemberRow member;
  HistoryRow history{1, 5, {}, "create", 3, "folder/caf\xe9", ""};
  BlobTask task{3, blobNumber(9), 77};
  CacheRow cache{blobNumber(4), 1000, 500, "\x01", false, 6, true};

  Contents() {
    file.entry.ctx.join(Dot{5, 6});
    file.entry.tombs = {{{11, 3}, {{11, 1}}}};
    file.entry.replaced = {blobNumber(1)};
    folder.shownChildren = 1;
    disk.node = 3;
    disk.parentNode = 2;
    disk.name = "caf\xe9";
    disk.inode = 123;
    disk.sizeBytes = 4096;
    disk.blob = blobNumber(2);
    disk.dirty = true;
    disk.base = {{11, 2}};
    member.peer.bytes[0] = 1;
    member.acked.join(Dot{11, 2});
  }
  ArenaRow arena{{}, "docs", "/home/x", false, 5};
  RosterRow roster{member.peer, "laptop", "a:1", {}, {}, 5, false, {100, {}}};
};

bool same(const std::optional<logic::Record>& a, const logic::Record& b) {
  return a && a->entry == b.entry && a->node == b.node && a->shown == b.shown && a->shownParent == b.shownParent &&
         a->shownBase == b.shownBase && a->shownName == b.shownName && a->shownChildren == b.shownChildren;
}

/// Copies of what each version wrote, the oldest first.
std::vector<std::string> copiesOf(const std::string& kind, const TempDir& to) {
  const char* folder = std::getenv("REALIZE_GOLDEN");
  REQUIRE_MESSAGE(folder != nullptr, "run through meson test, or set REALIZE_GOLDEN=tests/store/golden");
  std::vector<std::string> out;
  for (int version = 1;; ++version) {
    const std::string name = kind + "-" + std::to_string(version) + ".db", from = std::string(folder) + "/" + name;
    if (!std::filesystem::exists(from)) break;
    std::filesystem::copy_file(from, to / name);
    out.push_back(to / name);
  }
  return out;
}

std::vector<std::string> schemaOf(Database& db) {
  std::vector<std::string> out;
  Statement all(db, "SELECT name || ': ' || coalesce(sql, '') FROM sqlite_master ORDER BY name");
  all.each([&](Row row) { out.push_back(row.string(0)); });
  return out;
}

}  // namespace

TEST_CASE("an arena's databases of all versions open with all that was in them, and get the tables that a new one has") {
  TempDir dir;
  auto fresh = std::move(*ArenaStore::open(dir / "new.db"));
  const auto wantSchema = schemaOf(fresh->database());
  Contents want;
  want.folder.node = 2;
  want.file.node = 3;
  want.link.node = 4;
  const auto copies = copiesOf("arena", dir);
  REQUIRE(copies.size() == kArenaVersions);
  for (const auto& path : copies) {
    CAPTURE(path);

    auto arena = ArenaStore::open(path, {.create = false, .vfs = {}});

    REQUIRE_MESSAGE(arena.ok(), arena.error().message);
    ArenaStore& a = **arena;
    CHECK_NOTHROW(a.database().verify());
    CHECK(schemaOf(a.database()) == wantSchema);  // Else a migration was edited.
    CHECK(same(a.get(want.folder.entry.id), want.folder));
    CHECK(same(a.get(want.file.entry.id), want.file));
    CHECK(same(a.get(want.link.entry.id), want.link));
    CHECK(a.counts() == TreeCounts{1, 1, 1, 4096});
    CHECK(a.touchedAfter(0xffffffffffffffff, 0, 9).size() == 1);
    CHECK(a.getValue("vector") == std::string("\0\xff", 2));
    CHECK(a.disk().get(3) == want.disk);
    CHECK(a.members().all() == std::vector{want.member});
    CHECK(a.history().list("folder", 9) == std::vector{want.history});
    CHECK(a.wanted().next({}, 9) == std::vector{want.task});
    CHECK(a.cache().evictionOrder(9) == std::vector{want.cache});
    CHECK(a.marks().get(2) == Mark::Real);
  }
}

TEST_CASE("a peer's databases of all versions open with all that was in them, and get the tables that a new one has") {
  TempDir dir;
  auto fresh = std::move(*PeerStore::open(dir / "new.db"));
  const auto wantSchema = schemaOf(fresh->database());
  const Contents want;
  const auto copies = copiesOf("peer", dir);
  REQUIRE(copies.size() == kPeerVersions);
  for (const auto& path : copies) {
    CAPTURE(path);

    auto peer = PeerStore::open(path, {.create = false, .vfs = {}});

    REQUIRE_MESSAGE(peer.ok(), peer.error().message);
    CHECK(schemaOf((*peer)->database()) == wantSchema);
    CHECK((*peer)->arenas() == std::vector{want.arena});
    CHECK((*peer)->roster() == std::vector{want.roster});
    CHECK((*peer)->name() == "me");
  }
}

TEST_CASE("write the golden databases" * doctest::skip()) {
  const char* folder = std::getenv("REALIZE_GOLDEN_OUT");
  REQUIRE(folder != nullptr);
  Contents have;
  {
    auto a = std::move(*ArenaStore::open(std::string(folder) + "/arena.db"));
    a->transact([&] {
      a->put(have.folder);
      a->put(have.file);
      a->put(have.link);
      a->setValue("vector", std::string("\0\xff", 2));
      a->disk().put(have.disk);
      a->members().put(have.member);
      a->history().add(have.history);
      a->wanted().put(have.task);
      a->wanted().keep();
      a->cache().put(have.cache);
      a->marks().set(2, Mark::Real);
    });
  }
  auto p = std::move(*PeerStore::open(std::string(folder) + "/peer.db"));
  p->transact([&] {
    p->setName("me");
    p->putArena(have.arena);
    p->mergeRoster(have.roster);
  });
}
