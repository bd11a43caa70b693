// Names that a disk could take for one are told before anybody copies them to such a disk.

#include <algorithm>

#include "librealize/peer/alike_names.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {
using Groups = std::vector<std::vector<std::string>>;

struct Alike : SimArenas {
  std::unique_ptr<Directory> folder(test::SimPeer& peer) { return *peer.disk.openRoot(test::kSimFolder); }
  Groups told(test::SimPeer& peer) {
    auto groups = peer.core->status().alikeNames;
    std::sort(groups.begin(), groups.end());
    return groups;
  }
  bool tells(test::SimPeer& peer, const Groups& wanted) {
    return until([&] { return told(peer) == wanted; }) && peer.core->status().alikeCount == wanted.size();
  }
};
}  // namespace

TEST_CASE_FIXTURE(Alike, "names that differ in case or Unicode form only are told on every peer, as long as they are there") {
  REQUIRE(folder(*a)->makeDirectory("sub", 0755).ok());
  write(*a, "plan.txt", "one");
  write(*a, "sub/caf\u00e9", "one letter");
  start();
  REQUIRE(settles());
  REQUIRE(told(*a).empty());
  std::vector<std::string> events;
  b->onEvent = [&](const Event& event) {
    if (event.type == "alike-names") events.push_back(event.path + " | " + event.detail);
  };

  write(*b, "PLAN.txt", "two");
  write(*a, "sub/cafe\u0301", "a letter and a mark");
  const Groups both{{"PLAN.txt", "plan.txt"}, {"sub/cafe\u0301", "sub/caf\u00e9"}};
  CHECK(tells(*a, both));
  CHECK(tells(*b, both));
  std::sort(events.begin(), events.end());
  CHECK(events == std::vector<std::string>{"PLAN.txt | plan.txt", "sub/cafe\u0301 | caf\u00e9"});
  b->onEvent = nullptr;

  SUBCASE("they are gone or renamed") {
    REQUIRE(folder(*a)->unlink("plan.txt").ok());
    REQUIRE(folder(*a)->rename("sub/caf\u00e9", "sub/tea", RenameKind::NoReplace).ok());
    CHECK(tells(*a, {}));
    CHECK(tells(*b, {}));
  }
  SUBCASE("their folder is renamed, and goes") {
    REQUIRE(folder(*b)->rename("sub", "SUP", RenameKind::NoReplace).ok());
    CHECK(tells(*a, {{"PLAN.txt", "plan.txt"}, {"SUP/cafe\u0301", "SUP/caf\u00e9"}}));
    for (const char* path : {"SUP/caf\u00e9", "SUP/cafe\u0301"}) REQUIRE(folder(*b)->unlink(path).ok());
    REQUIRE(folder(*b)->removeDirectory("SUP").ok());
    CHECK(tells(*a, {{"PLAN.txt", "plan.txt"}}));
  }
  SUBCASE("a new start knows them") {
    link->cut();
    b->stop();
    REQUIRE(b->start().ok());
    CHECK(tells(*b, both));
  }
}

TEST_CASE_FIXTURE(Alike, "in a large folder they are found in steps, while others come") {
  constexpr int kFiles = 5000;  // Three pages.
  for (int i = 0; i < kFiles; ++i) write(*a, "name" + std::to_string(i), "");
  write(*a, "NAME0", "");
  write(*a, "Name4999", "");
  REQUIRE(a->start().ok());
  CHECK(tells(*a, {{"NAME0", "name0"}, {"Name4999", "name4999"}}));

  write(*a, "nAme1", "");
  CHECK(tells(*a, {{"NAME0", "name0"}, {"Name4999", "name4999"}, {"nAme1", "name1"}}));
}
