// Arenas between real peers: offered, joined, admitted, shared, left.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/peer/two_peers.h"

namespace realize::test {

namespace {

void createArena(TestPeer& peer, const std::string& name) {
  auto created = peer->createArena(name, peer.folder / name);
  REQUIRE_MESSAGE(created.ok(), (created.ok() ? "" : created.error().message));
}

void joinArena(TestPeer& peer, const std::string& name, bool withFolder) {
  auto joined = peer->joinArena(name, withFolder ? peer.folder / name : "");
  REQUIRE_MESSAGE(joined.ok(), (joined.ok() ? "" : joined.error().message));
}

std::string waited(TestPeer& peer, const std::string& arena) {
  auto outcome = peer->wait(arena, 20'000);
  if (!outcome.ok()) return outcome.error().message;
  std::string missing;
  for (auto& what : outcome->missing) missing += what + "; ";
  return outcome->reached ? "reached" : missing;
}

}  // namespace

TEST_CASE("an arena is offered to who joins by invite, and shared once joined with a folder") {
  TestPeer a("a"), b("b");
  createArena(a, "docs");
  a.write("docs/letter.txt", "dear you");
  auto code = a->invite({});
  REQUIRE(code.ok());
  auto admitted = b->join(*code);
  REQUIRE(admitted.ok());
  CHECK(*admitted == std::vector<std::string>{"docs"});
  CHECK(b->offeredArenas() == std::vector<std::string>{"docs"});

  joinArena(b, "docs", true);

  CHECK(waited(b, "docs") == "reached");
  auto arena = b->arena("docs");
  REQUIRE(arena.ok());
  auto entry = (*arena)->stat("letter.txt");
  REQUIRE_MESSAGE(entry.ok(), (entry.ok() ? "" : entry.error().message));
  CHECK(entry->sizeBytes == 8);
}

TEST_CASE("an arena joined without a folder shows files that are read from the other peer") {
  TestPeer a("a"), b("b");
  createArena(a, "docs");
  a.write("docs/letter.txt", "dear you");
  join(b, a);

  joinArena(b, "docs", false);

  REQUIRE(waited(b, "docs") == "reached");
  auto arena = b->arena("docs");
  REQUIRE(arena.ok());
  Bytes bytes(100);
  auto got = (*arena)->read("letter.txt", 0, bytes);
  REQUIRE_MESSAGE(got.ok(), (got.ok() ? "" : got.error().message));
  CHECK(std::string(reinterpret_cast<char*>(bytes.data()), *got) == "dear you");
}

TEST_CASE("what is marked real on the other peer comes to its folder, also what is written later") {
  TestPeer a("a"), b("b");
  createArena(a, "docs");
  a.write("docs/one.txt", "one");
  join(b, a);
  joinArena(b, "docs", true);
  REQUIRE(waited(b, "docs") == "reached");
  auto arena = b->arena("docs");
  REQUIRE(arena.ok());

  REQUIRE((*arena)->mark("", Mark::Real).ok());
  a.write("docs/two.txt", "two");

  CHECK(eventually([&] { return b.read("docs/one.txt") == "one" && b.read("docs/two.txt") == "two"; }));
  CHECK(waited(a, "docs") == "reached");
}

TEST_CASE("admitting a peer later offers it the arena at once") {
  TestPeer a("a"), b("b");
  join(b, a);
  createArena(a, "docs");
  CHECK_FALSE(b.isOffered("docs"));

  REQUIRE(a->admit("docs", "b").ok());

  CHECK(eventually([&] { return b.isOffered("docs"); }));
  joinArena(b, "docs", false);
  CHECK(waited(b, "docs") == "reached");
}

TEST_CASE("arenas find each other again after a restart") {
  TestPeer a("a"), b("b");
  createArena(a, "docs");
  join(b, a);
  joinArena(b, "docs", true);
  REQUIRE(waited(b, "docs") == "reached");

  b.stop();
  a.write("docs/later.txt", "later");
  b.start();

  CHECK(eventually([&] { return b.connectedTo("a"); }));
  CHECK(waited(b, "docs") == "reached");
  auto arena = b->arena("docs");
  REQUIRE(arena.ok());
  CHECK((*arena)->stat("later.txt").ok());
}

TEST_CASE("leaving an arena leaves the user's files and nothing of ours") {
  TestPeer a("a"), b("b");
  createArena(a, "docs");
  a.write("docs/letter.txt", "dear you");
  join(b, a);
  joinArena(b, "docs", true);
  REQUIRE(waited(b, "docs") == "reached");

  auto left = a->leaveArena("docs", true);

  REQUIRE_MESSAGE(left.ok(), (left.ok() ? "" : left.error().message));
  CHECK(a.read("docs/letter.txt") == "dear you");
  CHECK(access((a.folder / "docs/.realize").c_str(), F_OK) != 0);
  CHECK(a->arenaNames().empty());
  CHECK(eventually([&] { return a.isOffered("docs"); }));
}

TEST_CASE("an arena whose cache has a version that nobody else keeps is left only by force, which says so") {
  TestPeer a("a"), b("b");
  createArena(a, "docs");
  a.write("docs/plan.txt", "first");
  join(b, a);
  joinArena(b, "docs", true);
  REQUIRE(b->arena("docs").ok());
  REQUIRE((*b->arena("docs"))->mark("", Mark::Real).ok());
  REQUIRE(waited(b, "docs") == "reached");
  b.stop();
  a.write("docs/plan.txt", "as a has it");
  std::ofstream(b.folder / "docs/plan.txt") << "as b has it";
  b.start();
  REQUIRE(eventually([&] { return (*b->arena("docs"))->conflicts()->size() == 1; }));
  REQUIRE(waited(b, "docs") == "reached");

  a.stop();
  REQUIRE(eventually([&] { return !b.connectedTo("a"); }));
  auto alone = b->leaveArena("docs", false);
  REQUIRE_FALSE(alone.ok());
  CHECK(alone.code() == Code::Refused);
  CHECK_MESSAGE(alone.error().message.find("plan.txt") != std::string::npos, alone.error().message);
  auto forced = b->leaveArena("docs", true);
  REQUIRE(forced.ok());
  CHECK(*forced == std::vector<std::string>{"plan.txt"});
  CHECK(b.read("docs/plan.txt") == "as b has it");
}

TEST_CASE("an arena whose versions a connected peer keeps real is left without more ado") {
  TestPeer a("a"), b("b");
  createArena(a, "docs");
  a.write("docs/plan.txt", "first");
  join(b, a);
  joinArena(b, "docs", true);
  REQUIRE((*b->arena("docs"))->mark("", Mark::Real).ok());
  REQUIRE(waited(b, "docs") == "reached");
  b.stop();
  a.write("docs/plan.txt", "as a has it");
  std::ofstream(b.folder / "docs/plan.txt") << "as b has it";
  b.start();
  REQUIRE(eventually([&] { return (*b->arena("docs"))->conflicts()->size() == 1; }));
  REQUIRE(waited(b, "docs") == "reached");

  auto left = b->leaveArena("docs", false);

  REQUIRE_MESSAGE(left.ok(), (left.ok() ? "" : left.error().message));
  CHECK(left->empty());
}

TEST_CASE("folders that overlap with an arena or the state folder are refused") {
  TestPeer a("a");
  createArena(a, "docs");

  auto inside = a->createArena("inner", a.folder / "docs/inner");
  auto around = a->createArena("outer", a.folder.path());
  auto state = a->createArena("state", a.folder / "state/x");
  auto relative = a->createArena("relative", "docs2");
  auto nowhere = a->createArena("nowhere", a.folder / "no/where");

  CHECK((!inside.ok() && inside.code() == Code::Refused));
  CHECK((!around.ok() && around.code() == Code::Refused));
  CHECK((!state.ok() && state.code() == Code::Refused));
  CHECK((!relative.ok() && relative.code() == Code::InvalidArgument));
  CHECK((!nowhere.ok() && nowhere.code() == Code::NotFound));
}

TEST_CASE("what other arenas, or those of old, keep for themselves is neither taken for an arena nor changed") {
  namespace fs = std::filesystem;
  TestPeer a("a");
  const auto made = [&](const char* folder) { return a->createArena("docs", a.folder / folder); };
  const auto make = [&](const char* file, const char* text) {
    fs::create_directories(fs::path(a.folder / file).parent_path());
    std::ofstream(a.folder / file) << text;
  };
  make("outer/.realize/cache/old", "bytes");
  make("other/.realize/arena", "0123\n");
  make("file/.realize", "text");
  fs::create_directories(a.folder / "link");
  fs::create_directory_symlink(a.folder / "outer", a.folder / "link/.realize");

  for (const char* folder : {"outer/.realize/cache", "outer/.realize", "other", "file", "link"}) {
    CAPTURE(folder);
    auto created = made(folder);
    REQUIRE_FALSE(created.ok());
    CHECK(created.code() == Code::Refused);
    CHECK(created.error().message.find(".realize") != std::string::npos);
  }

  CHECK(a->arenaNames().empty());
  CHECK(std::distance(fs::recursive_directory_iterator(a.folder / "other"), {}) == 2);
  CHECK(std::distance(fs::recursive_directory_iterator(a.folder / "outer"), {}) == 3);
  CHECK(std::distance(fs::recursive_directory_iterator(a.folder / "link"), {}) == 1);
}

TEST_CASE("paths are found by arena, by folder and by mount") {
  TestPeer a("a");
  createArena(a, "docs");
  a->noteMount("docs", "/mnt/docs", true);

  auto byName = a->resolvePath("docs:/letters//x/");
  auto byFolder = a->resolvePath(a.folder / "docs/letters/x");
  auto byMount = a->resolvePath("/mnt/docs/letters/x");
  auto elsewhere = a->resolvePath("/etc/passwd");

  for (auto* found : {&byName, &byFolder, &byMount}) {
    REQUIRE(found->ok());
    CHECK((*found)->arena == "docs");
    CHECK((*found)->path == "letters/x");
  }
  CHECK_FALSE(elsewhere.ok());
  const auto noArena = a->resolvePath("letters:x");
  CHECK(noArena.code() == Code::NotFound);
  CHECK(noArena.error().message.find("./letters:x") != std::string::npos);
}

TEST_CASE("waiting without anyone connected ends with the reason") {
  TestPeer a("a");
  createArena(a, "docs");

  auto outcome = a->wait("docs", 50);

  REQUIRE(outcome.ok());
  CHECK_FALSE(outcome->reached);
  REQUIRE_FALSE(outcome->missing.empty());
  CHECK(outcome->missing.front() == "no other member of the arena is connected");
}

TEST_CASE("settings are checked, kept and have defaults") {
  TestPeer a("a");
  createArena(a, "docs");

  CHECK_FALSE(a->set("docs", "rest_ms", "soon").ok());
  CHECK_FALSE(a->set("docs", "no_such", "1").ok());
  REQUIRE(a->set("docs", "rest_ms", "20").ok());
  a.stop();
  a.start();

  for (auto& setting : a->settings("docs")) {
    if (setting.name != "rest_ms") continue;
    CHECK(setting.value == "20");
    CHECK(setting.defaultValue == "100");
  }
}

}  // namespace realize::test
