#include "librealize/store/peer_store.h"

#include <doctest/doctest.h>

#include "tests/support/temp_dir.h"

using namespace realize;
using namespace realize::store;
using test::TempDir;

namespace {

struct Opened {
  Opened() { reopen(); }
  void reopen() {
    store.reset();
    auto opened = PeerStore::open(dir / "peer.db");
    REQUIRE_MESSAGE(opened.ok(), opened.error().message);
    store = std::move(*opened);
  }
  PeerStore* operator->() { return store.get(); }
  TempDir dir;
  std::unique_ptr<PeerStore> store;
};

PeerKey key(uint8_t n) {
  PeerKey out;
  out.bytes[31] = n;
  return out;
}

ArenaId arenaId(uint8_t n) {
  ArenaId out;
  out.bytes[0] = n;
  return out;
}

}  // namespace

TEST_CASE("a peer's own facts stay") {
  Opened store;
  CHECK_FALSE(store->keys());
  CHECK(store->name().empty());
  IdentityKeys keys;
  keys.signSecret[63] = 9;
  keys.dhSecret[0] = 255;
  store->transact([&] {
    store->setKeys(keys);
    store->setName("laptop");
    store->setListenAddress("0.0.0.0:1");
    store->recordIdentity({7, 8});
    store->setValue("other", "x");
  });
  store->makeDurable();
  store.reopen();

  CHECK(store->keys()->signSecret == keys.signSecret);
  CHECK(store->keys()->dhSecret == keys.dhSecret);
  CHECK(store->name() == "laptop");
  CHECK(store->listenAddress() == "0.0.0.0:1");
  CHECK(store->recordedIdentity() == FileIdentity{7, 8});
  CHECK(store->getValue("other") == "x");
}

TEST_CASE("of two roster rows the later written wins, in either order") {
  RosterRow older{key(1), "old name", "a:1", {}, {}, 5, false, {100, key(2)}};
  RosterRow newer = older;
  newer.name = "new name";
  newer.removed = true;
  newer.dhKey[0] = 1;
  newer.stamp = {100, key(3)};
  for (bool forward : {true, false}) {
    Opened store;

    bool first = store->mergeRoster(forward ? older : newer);
    bool second = store->mergeRoster(forward ? newer : older);
    store.reopen();

    CHECK(first);
    CHECK(second == forward);
    CHECK_FALSE(store->mergeRoster(newer));
    CHECK(store->rosterOf(key(1)) == newer);
    CHECK(store->roster().size() == 1);
    CHECK_FALSE(store->rosterOf(key(2)));
  }
}

TEST_CASE("admission to an arena is by the last word") {
  Opened store;
  AdmissionRow row{arenaId(1), key(1), "docs", true, {5, key(9)}};

  CHECK_FALSE(store->isAdmitted(arenaId(1), key(1)));
  CHECK(store->mergeAdmission(row));
  CHECK(store->isAdmitted(arenaId(1), key(1)));
  CHECK_FALSE(store->isAdmitted(arenaId(2), key(1)));
  row.admitted = false;
  CHECK_FALSE(store->mergeAdmission(row));
  row.stamp.whenNs = 6;
  CHECK(store->mergeAdmission(row));

  CHECK_FALSE(store->isAdmitted(arenaId(1), key(1)));
  CHECK(store->admissionsTo(arenaId(1)) == std::vector{row});
  CHECK(store->admissions() == std::vector{row});
}

TEST_CASE("joined arenas stay until left") {
  Opened store;
  ArenaRow docs{arenaId(1), "docs", "/home/\xff/docs", false, 5}, films{arenaId(2), "a films", "/x", true, 6};
  store->putArena(docs);
  store->putArena(films);
  store.reopen();

  CHECK(store->arenas() == std::vector{films, docs});
  CHECK(store->arena(arenaId(1)) == docs);
  store->eraseArena(arenaId(1));
  CHECK_FALSE(store->arena(arenaId(1)));
}

TEST_CASE("an invite admits one peer, before it expires") {
  Opened store;
  InviteRow row;
  row.secretHash[5] = 5;
  row.expiryNs = 100;
  row.allArenas = false;
  row.arenas = {arenaId(1), arenaId(2)};
  store->putInvite(row);
  store.reopen();

  CHECK(store->invite(row.secretHash) == row);
  CHECK_FALSE(store->useInvite({}, key(1), 50));
  CHECK_FALSE(store->useInvite(row.secretHash, key(1), 100));
  CHECK(store->useInvite(row.secretHash, key(1), 99));
  CHECK_FALSE(store->useInvite(row.secretHash, key(2), 99));
  CHECK(store->useInvite(row.secretHash, key(1), 99));  // cut off before the answer, it asks again
  CHECK(store->invite(row.secretHash)->usedBy == key(1));
  CHECK(store->invite(row.secretHash)->arenas == row.arenas);

  store->eraseInvitesExpiredBefore(100);
  CHECK(store->invite(row.secretHash));
  store->eraseInvitesExpiredBefore(101);
  CHECK_FALSE(store->invite(row.secretHash));
}

TEST_CASE("settings are kept by scope") {
  Opened store;
  store->setSetting("", "rest", "100");
  store->setSetting("ab", "rest", "200");
  store->setSetting("ab", "copies", "2");
  store->setSetting("ab", "copies", "3");
  store.reopen();

  CHECK(store->setting("", "rest") == "100");
  CHECK_FALSE(store->setting("", "copies"));
  CHECK(store->settings("ab") == std::vector<std::pair<std::string, std::string>>{{"copies", "3"}, {"rest", "200"}});
  store->eraseSetting("ab", "rest");
  CHECK(store->settings("ab").size() == 1);
}
