// What a peer takes over of others' rows, without database or connection.

#include <doctest/doctest.h>

#include <capnp/message.h>

#include "librealize/peer/roster.h"

namespace realize::peer {

namespace {

PeerKey keyOf(uint8_t number) {
  PeerKey key;
  key.bytes[0] = number;
  return key;
}
ArenaId arenaOf(uint8_t number) {
  ArenaId arena;
  arena.bytes[0] = number;
  return arena;
}

store::RosterRow member(uint8_t number, const std::string& name, int64_t whenNs, uint8_t writer) {
  store::RosterRow row;
  row.peer = keyOf(number);
  row.name = name;
  row.stamp = {whenNs, keyOf(writer)};
  return row;
}
store::AdmissionRow admission(uint8_t arena, uint8_t peer, int64_t whenNs, bool admitted = true) {
  return {arenaOf(arena), keyOf(peer), "docs", admitted, {whenNs, keyOf(9)}};
}

/// Self is 1; 2 and 3 are members.
HouseholdView smallHousehold() {
  HouseholdView view;
  view.self = keyOf(1);
  for (uint8_t number : {1, 2, 3}) view.roster[keyOf(number)] = member(number, "p" + std::to_string(number), 100, number);
  return view;
}

void put(HouseholdView& view, const store::AdmissionRow& row) { view.admissions[{row.arena, row.peer}] = row; }

}  // namespace

TEST_CASE("the later stamp wins, and of equal times the greater writer") {
  const auto view = smallHousehold();

  CHECK(acceptable(view, keyOf(2), {{member(3, "new", 101, 2)}, {}}).roster.size() == 1);
  CHECK(acceptable(view, keyOf(2), {{member(3, "new", 100, 4)}, {}}).roster.size() == 1);
  CHECK(acceptable(view, keyOf(2), {{member(3, "new", 100, 2)}, {}}).roster.empty());
  CHECK(acceptable(view, keyOf(2), {{member(3, "new", 99, 4)}, {}}).roster.empty());
}

TEST_CASE("rows that make no sense are not taken over") {
  const auto view = smallHousehold();
  auto named = [&](const std::string& name) { return acceptable(view, keyOf(2), {{member(4, name, 1, 2)}, {}}).roster.size(); };
  auto future = member(4, "x", INT64_MAX, 2);
  auto past = member(4, "x", -1, 2);
  auto address = member(4, "x", 1, 2);
  address.address = "nowhere";

  CHECK(named("fine") == 1);
  CHECK(named("") == 0);
  CHECK(named("a/b") == 0);
  CHECK(named("a:b") == 0);
  CHECK(named("..") == 0);
  CHECK(named("line\nbreak") == 0);
  CHECK(named(std::string(64, 'x')) == 1);
  CHECK(named(std::string(65, 'x')) == 0);
  CHECK(acceptable(view, keyOf(2), {{future, past, address}, {}}).roster.empty());
}

TEST_CASE("a household does not grow without end") {
  auto view = smallHousehold();
  HouseholdRows rows;
  for (size_t i = 0; i < 2 * kMaxRosterEntries; ++i) {
    auto row = member(7, "x", 1, 2);
    row.peer.bytes[1] = uint8_t(i);
    row.peer.bytes[2] = uint8_t(i >> 8);
    rows.roster.push_back(row);
  }

  CHECK(acceptable(view, keyOf(2), rows).roster.size() == kMaxRosterEntries - view.roster.size());
}

TEST_CASE("of an arena that this peer is in, only those admitted to it may tell") {
  auto view = smallHousehold();
  view.arenas[arenaOf(5)] = {};
  put(view, admission(5, 1, 10));
  put(view, admission(5, 2, 10));
  const HouseholdRows rows{{}, {admission(5, 3, 20)}};

  CHECK(acceptable(view, keyOf(2), rows).admissions.size() == 1);
  CHECK(acceptable(view, keyOf(3), rows).admissions.empty());
}

TEST_CASE("of another arena, whoever says to be in it may tell") {
  const auto view = smallHousehold();

  CHECK(acceptable(view, keyOf(2), {{}, {admission(5, 2, 20), admission(5, 1, 20)}}).admissions.size() == 2);
  CHECK(acceptable(view, keyOf(2), {{}, {admission(5, 1, 20)}}).admissions.empty());
}

TEST_CASE("admissions are told only to those admitted, and their own to those who were") {
  auto view = smallHousehold();
  put(view, admission(5, 1, 10));
  put(view, admission(5, 2, 10));
  put(view, admission(6, 1, 10));
  put(view, admission(6, 3, 10, false));

  CHECK(rowsFor(view, keyOf(2)).admissions.size() == 2);
  const auto withdrawn = rowsFor(view, keyOf(3)).admissions;
  REQUIRE(withdrawn.size() == 2);  // Its own, and that of who tells it: else it would not be believed.
  CHECK(withdrawn[0].peer == keyOf(1));
  CHECK(withdrawn[1].peer == keyOf(3));
  CHECK_FALSE(withdrawn[1].admitted);
  CHECK(rowsFor(view, keyOf(4)).admissions.empty());
  CHECK(rowsFor(view, keyOf(3)).roster.size() == 3);
}

TEST_CASE("a removed peer is a member no more, and admitted nowhere") {
  auto view = smallHousehold();
  put(view, admission(5, 2, 10));
  view.roster[keyOf(2)].removed = true;

  CHECK_FALSE(view.isMember(keyOf(2)));
  CHECK_FALSE(view.isAdmitted(arenaOf(5), keyOf(2)));
  CHECK_FALSE(view.find("p2").ok());
}

TEST_CASE("peers are found by name, by key and by the beginning of it") {
  const auto view = smallHousehold();

  CHECK(view.find("p2").value() == keyOf(2));
  CHECK(view.find(keyOf(2).hex()).value() == keyOf(2));
  CHECK(view.find(keyOf(2).hex().substr(0, 8)).value() == keyOf(2));
  CHECK_FALSE(view.find(keyOf(2).hex().substr(0, 7)).ok());
}

TEST_CASE("a name that is taken gets a number that fits") {
  auto view = smallHousehold();
  const std::string longest(64, 'y');
  view.roster[keyOf(3)].name = longest;

  CHECK(view.freeName("other", keyOf(4)) == "other");
  CHECK(view.freeName("p2", keyOf(4)) == "p2-2");
  CHECK(view.freeName("p2", keyOf(2)) == "p2");
  CHECK(view.freeName(longest, keyOf(4)) == std::string(62, 'y') + "-2");
}

TEST_CASE("a change made here is later than what it replaces, whatever the clock says") {
  const store::RosterStamp before{1000, keyOf(2)};

  CHECK(stampAfter(&before, 500, keyOf(1)).whenNs == 1001);
  CHECK(stampAfter(&before, 5000, keyOf(1)).whenNs == 5000);
  CHECK(stampAfter(nullptr, -5, keyOf(1)).whenNs == 0);
}

TEST_CASE("a household survives the wire") {
  auto view = smallHousehold();
  view.roster[keyOf(2)].address = "example.org:4711";
  view.roster[keyOf(3)].removed = true;
  put(view, admission(5, 1, 10));
  put(view, admission(5, 2, 10, false));
  put(view, admission(5, 3, 10));
  HouseholdRows rows;
  for (auto& [key, row] : view.roster) rows.roster.push_back(row);
  for (auto& [key, row] : view.admissions) rows.admissions.push_back(row);
  capnp::MallocMessageBuilder message;
  writeHousehold(message.initRoot<schema::HouseholdState>(), rows, {{arenaOf(5), 77}});

  auto read = readHousehold(message.getRoot<schema::HouseholdState>().asReader());

  REQUIRE(read.ok());
  CHECK(read->rows.roster == rows.roster);
  CHECK(read->rows.admissions == rows.admissions);
  CHECK(read->running == RunningArenas{{arenaOf(5), 77}});
}

TEST_CASE("keys of the wrong length are refused") {
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::HouseholdState>().initRoster(1);

  CHECK_FALSE(readHousehold(message.getRoot<schema::HouseholdState>().asReader()).ok());
}

}  // namespace realize::peer
