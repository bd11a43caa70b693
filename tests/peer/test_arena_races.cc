// What could lose, overwrite or misreport a user's bytes: others at the folder in the wrong moment, crashes, peers that
// vanish or lie. A test for each thing once found.

#include <algorithm>
#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

#include "librealize/peer/folder_state.h"
#include "librealize/store/database.h"
#include "tests/peer/two_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

namespace fs = std::filesystem;

/// Some file under the folder, ours included, has exactly this text.
bool anywhere(const std::string& folder, const std::string& text, bool visibleOnly = true) {
  for (auto it = fs::recursive_directory_iterator(folder); it != fs::recursive_directory_iterator(); ++it) {
    if (visibleOnly && it->path().filename() == ".realize") it.disable_recursion_pending();
    if (!it->is_regular_file()) continue;
    std::ifstream in(it->path(), std::ios::binary);
    if (std::string(std::istreambuf_iterator<char>(in), {}) == text) return true;
  }
  return false;
}

bool until(const std::function<bool()>& holds, int ms = 10'000) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

void markRoot(ArenaPeer& peer, Mark mark) {
  peer.with([&](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), mark); });
}

/// Two arenas that both keep everything real and have `plan.txt` with "old".
struct Planned : TwoArenas {
  Planned() {
    a->write("plan.txt", "old");
    connect();
    markRoot(*b, Mark::Real);
    REQUIRE(settle());
    REQUIRE(b->read("plan.txt") == "old");
  }
};

/// Any number of peers, connected as a test likes.
struct Several {
  explicit Several(int count, Mark others = Mark::Unreal) : pool(4) {
    for (int i = 0; i < count; ++i) {
      PeerKey key;
      key.bytes[0] = uint8_t('a' + i);
      const std::string at = dir.path() + "/" + char('A' + i);
      fs::create_directories(at);
      peers.push_back(std::make_unique<ArenaPeer>(pool, dir.path() + "/state" + char('A' + i), key, at, i ? others : Mark::Real));
    }
  }
  ~Several() {
    while (!links.empty()) disconnect(links.begin()->first.first, links.begin()->first.second);
    for (auto& peer : peers) peer->halt();
    for (auto& peer : peers) peer->stop();
  }
  void connect(int i, int j) {
    for (auto [x, y] : {std::pair(i, j), std::pair(j, i)}) {
      auto& link = links[{x, y}] = std::make_shared<DirectRemote>(*peers[x], *peers[y]);
      peers[x]->with([&](ArenaCore& core) { core.connected(*link); });
    }
  }
  void disconnect(int i, int j) {
    for (auto [x, y] : {std::pair(i, j), std::pair(j, i)}) {
      peers[x]->with([&, y = y](ArenaCore& core) { core.disconnected(peers[y]->key); });
      old.push_back(links[{x, y}]);
      links.erase({x, y});
    }
  }
  bool knows(int i, const std::string& path) {
    for (auto& peer : peers) peer->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
    return peers[i]->with([&](ArenaCore& core) { return core.core().recordAt(path).ok(); });
  }
  /// Reads the whole of a file, which nobody need have.
  std::shared_ptr<std::promise<Result<Bytes>>> read(int i, const std::string& path) {
    auto out = std::make_shared<std::promise<Result<Bytes>>>();
    peers[i]->with([&](ArenaCore& arena) {
      auto record = arena.core().recordAt(path);
      auto shown = arena.core().shownVersion(*record)->second;
      auto open = arena.core().transfers->open(shown.blob, shown.sizeBytes);
      arena.core().transfers->read(open, 0, shown.sizeBytes, [out, open](Result<Bytes> bytes) { out->set_value(std::move(bytes)); });
    });
    return out;
  }
  /// Until the peer knows the path; says why not.
  bool learns(int i, const std::string& path) {
    if (until([&] { return knows(i, path); })) return true;
    for (auto& peer : peers) {
      const auto status = peer->with([](ArenaCore& core) { return core.status(); });
      MESSAGE(peer->folder, ": ", status.files, " files, ", status.consensusWhy, " ", status.suspendedWhy);
      for (const auto& member : status.members)
        MESSAGE("  ", member.peer.key.hex().substr(0, 2), " ", member.connected, " ", member.behindChanges, " ", member.aheadChanges, " ", member.detail);
      for (const auto& problem : status.problems) MESSAGE("  ", problem.path, " ", problem.kind, " ", problem.detail);
    }
    return false;
  }
  test::TempDir dir;
  Pool pool;
  std::vector<std::unique_ptr<ArenaPeer>> peers;
  std::map<std::pair<int, int>, std::shared_ptr<DirectRemote>> links;
  std::vector<std::shared_ptr<DirectRemote>> old;
};

}  // namespace

// --- somebody else at the folder in the wrong moment --------------------------------------------------------------

TEST_CASE("an edit at the moment a new version is put in place becomes a head beside it") {
  std::string text;
  SUBCASE("of a small file") { text = "new from a"; }
  SUBCASE("of a large file, which comes from the cache") { text.assign(3'000'000, 'n'); }
  Planned peers;
  std::atomic<bool> once{false};
  peers.b->disk.meddler.beforeRename = [&](const std::string&, const std::string& to, RenameKind kind) -> std::optional<Error> {
    if (kind == RenameKind::Exchange && to == "plan.txt" && !once.exchange(true)) peers.b->write("plan.txt", "mine, at this moment");
    return std::nullopt;
  };

  peers.a->write("plan.txt", text);
  REQUIRE(peers.settle());

  CHECK(once);
  CHECK(peers.b->read("plan.txt") == "mine, at this moment");
  CHECK_FALSE(peers.b->has("plan.txt~1"));
  CHECK(peers.b->with([](ArenaCore& core) { return core.conflicts(); })->size() == 1);
  CHECK((peers.a->read("plan.txt") == text));
}

TEST_CASE("bytes displaced by an exchange that cannot be undone stay in sight") {
  Planned peers;
  std::atomic<int> exchanges{0};
  peers.b->disk.meddler.beforeRename = [&](const std::string&, const std::string& to, RenameKind kind) -> std::optional<Error> {
    if (to != "plan.txt") return std::nullopt;
    if (kind != RenameKind::Exchange) return std::nullopt;
    if (++exchanges == 1) peers.b->write("plan.txt", "mine, at this moment");
    if (exchanges == 2) return Error{Code::Io, "the disk says no"};
    return std::nullopt;
  };

  peers.a->write("plan.txt", "new from a");
  REQUIRE(until([&] {
    peers.a->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
    return exchanges >= 2;
  }));
  peers.settle();

  CHECK(anywhere(peers.b->folder, "mine, at this moment"));
}

TEST_CASE("who opened a file for writing just before it was replaced does not write into nothing") {
  Planned peers;
  std::atomic<int> fd{-1};
  peers.b->disk.meddler.beforeRename = [&](const std::string&, const std::string& to, RenameKind kind) -> std::optional<Error> {
    if (kind == RenameKind::Exchange && to == "plan.txt" && fd < 0) fd = ::open((peers.b->folder + "/plan.txt").c_str(), O_WRONLY);
    return std::nullopt;
  };

  peers.a->write("plan.txt", "new from a");
  REQUIRE(until([&] {
    peers.b->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
    peers.a->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
    return fd >= 0;
  }));
  peers.b->with([](ArenaCore&) {});
  REQUIRE(::write(fd, "written later", 13) == 13);
  ::close(fd);
  peers.settle();

  CHECK(anywhere(peers.b->folder, "written later"));
}

TEST_CASE("who opened a file for writing just before a peer's removal was carried out keeps what he writes") {
  Planned peers;
  std::atomic<int> fd{-1};
  auto openIt = [&](const std::string& path) {
    if (path == "plan.txt" && fd < 0) fd = ::open((peers.b->folder + "/plan.txt").c_str(), O_WRONLY);
  };
  peers.b->disk.meddler.beforeUnlink = openIt;
  peers.b->disk.meddler.beforeRename = [&](const std::string& from, const std::string&, RenameKind) -> std::optional<Error> {
    openIt(from);
    return std::nullopt;
  };

  fs::remove(peers.a->folder + "/plan.txt");
  REQUIRE(until([&] {
    peers.a->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
    return fd >= 0;
  }));
  peers.b->with([](ArenaCore&) {});
  REQUIRE(::write(fd, "written later", 13) == 13);
  ::close(fd);
  peers.settle();

  CHECK(anywhere(peers.b->folder, "written later"));
}

TEST_CASE("who opened a file for writing just before it became unreal keeps what he writes") {
  Planned peers;
  std::atomic<int> fd{-1};
  peers.b->disk.meddler.beforeRename = [&](const std::string& from, const std::string&, RenameKind) -> std::optional<Error> {
    if (from == "plan.txt" && fd < 0) fd = ::open((peers.b->folder + "/plan.txt").c_str(), O_WRONLY);
    return std::nullopt;
  };

  markRoot(*peers.b, Mark::Unreal);
  REQUIRE(until([&] { return fd >= 0; }));
  peers.b->with([](ArenaCore&) {});
  REQUIRE(::write(fd, "written later", 13) == 13);
  ::close(fd);
  peers.settle();

  CHECK((anywhere(peers.b->folder, "written later") || anywhere(peers.a->folder, "written later")));
}

TEST_CASE("an edit while a peer's time is set is read, and not taken for what was there") {
  Planned peers;
  std::string edited = peers.b->read("plan.txt");
  std::reverse(edited.begin(), edited.end());
  std::atomic<int> opened{0};
  peers.b->disk.meddler.beforeOpen = [&](const std::string& path, OpenMode) -> std::optional<Error> {
    // First it is seen that nobody writes; then the file is opened to have its time set.
    if (path == "plan.txt" && ++opened == 2) peers.b->write("plan.txt", edited);
    return std::nullopt;
  };

  fs::last_write_time(peers.a->folder + "/plan.txt", fs::file_time_type::clock::now() - std::chrono::hours(5));
  REQUIRE(until([&] {
    peers.a->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
    return opened.load() >= 2;
  }));
  REQUIRE(peers.settle());

  CHECK(peers.b->read("plan.txt") == edited);
  CHECK(peers.a->read("plan.txt") == edited);
  // It had not seen the new time, but the bytes: nothing is left to stand beside it.
  CHECK(peers.a->with([](ArenaCore& core) { return core.conflicts(); })->empty());
}

TEST_CASE("a link that replaces another does not replace what somebody put there meanwhile") {
  Planned peers;
  fs::create_symlink("one", peers.a->folder + "/link");
  REQUIRE(peers.settle());
  std::atomic<bool> once{false};
  peers.b->disk.meddler.beforeRename = [&](const std::string&, const std::string& to, RenameKind) -> std::optional<Error> {
    if (to != "link" || once.exchange(true)) return std::nullopt;
    fs::remove(peers.b->folder + "/link");
    peers.b->write("link", "no link any more");
    return std::nullopt;
  };

  fs::remove(peers.a->folder + "/link");
  fs::create_symlink("two", peers.a->folder + "/link");
  peers.settle();

  CHECK(once);
  CHECK(anywhere(peers.b->folder, "no link any more"));
}

TEST_CASE("a folder renamed away and made anew elsewhere is two folders here, and nothing moves back") {
  Planned peers;
  peers.a->write("d/inside", "in d");
  REQUIRE(peers.settle());
  peers.disconnect();
  fs::rename(peers.a->folder + "/d", peers.a->folder + "/e");
  peers.a->write("d/fresh", "in the new d");
  std::promise<void> read;
  peers.a->with([&](ArenaCore& core) { core.core().folder->barrier([&] { read.set_value(); }); });
  read.get_future().wait();
  peers.meet();

  for (auto* peer : {peers.a.get(), peers.b.get()}) {
    CHECK(peer->read("e/inside") == "in d");
    CHECK(peer->read("d/fresh") == "in the new d");
    CHECK(!peer->has("d/inside"));
  }
}

TEST_CASE("what is put into folders that a peer removes meanwhile is served from where it lies") {
  TwoArenas t(true, Mark::Real);
  t.a->write("old/sub/theirs.txt", "theirs");
  t.connect();
  REQUIRE(t.settle());
  fs::rename(t.a->folder + "/old", t.a->folder + "/new");
  REQUIRE(t.settle());
  REQUIRE(t.b->read("new/sub/theirs.txt") == "theirs");
  ArenaSettings slow;
  slow.restMs = 1000;
  t.b->with([&](ArenaCore& core) { core.setSettings(slow); });

  t.disconnect();
  fs::remove_all(t.a->folder + "/new");
  REQUIRE(until([&] { return t.a->with([](ArenaCore& core) {
    core.core().folder->drainWatch();
    return !core.core().folder->settling() && !core.core().recordAt("new").ok();
  }); }));
  t.b->write("new/sub/mine.txt", "mine");  // Not read before the removal comes.
  t.connect();

  CHECK(t.settle());
  CHECK(anywhere(t.a->folder, "mine"));
  t.b->with([](ArenaCore& core) {
    for (const auto& row : core.core().store.disk().all(0, 100)) CHECK((row.node == kRootNode || core.core().folder->diskPath(row.node)));
  });
}

TEST_CASE("the cache has no file that somebody's hard link could change") {
  TwoArenas peers;
  peers.a->write("film", std::string(600'000, 'f'));
  peers.connect();
  markRoot(*peers.b, Mark::Real);
  REQUIRE(peers.settle());
  fs::create_hard_link(peers.b->folder + "/film", peers.b->folder + "/second");
  REQUIRE(peers.settle());
  peers.b->with([](ArenaCore& core) { core.core().marks->set(*core.core().recordAt("film"), Mark::Unreal); });
  // Not while it is on its way: what is written to it then is an edit of it, too, and brings it back.
  REQUIRE(until([&] { return peers.b->with([&](ArenaCore&) { return !peers.b->has("film"); }); }));

  std::ofstream(peers.b->folder + "/second", std::ios::binary | std::ios::trunc) << "short";
  REQUIRE(peers.settle());
  std::promise<Result<Bytes>> answer;
  peers.b->with([&](ArenaCore& arena) {
    auto shown = arena.core().shownVersion(*arena.core().recordAt("film"))->second;
    auto open = arena.core().transfers->open(shown.blob, shown.sizeBytes);
    arena.core().transfers->read(open, 0, shown.sizeBytes, [&answer, open](Result<Bytes> bytes) { answer.set_value(std::move(bytes)); });
  });
  auto bytes = answer.get_future().get();

  CHECK(peers.b->read("second") == "short");
  REQUIRE(bytes.ok());
  CHECK(std::all_of(bytes->begin(), bytes->end(), [](std::byte b) { return b == std::byte('f'); }));
}

TEST_CASE("a folder moved away under a running arena suspends it") {
  Planned peers;
  fs::rename(peers.b->folder, peers.b->folder + "-away");
  fs::create_directories(peers.b->folder);

  CHECK(until([&] {
    return peers.b->with([](ArenaCore& core) {
      core.core().folder->drainWatch();
      return core.core().suspended;
    });
  }));
  CHECK(peers.a->read("plan.txt") == "old");
}

// --- crashes ------------------------------------------------------------------------------------------------------

TEST_CASE("an edited file that a crash left displaced among our own comes back into sight") {
  Planned peers;
  peers.disconnect();
  peers.b->restart(peers.pool, [&] {
    fs::rename(peers.b->folder + "/plan.txt", peers.b->folder + "/.realize/tmp/w1-0");
    std::ofstream(peers.b->folder + "/.realize/tmp/w1-0", std::ios::app) << " and edited";
    peers.b->write("plan.txt", "new from a");
  });
  peers.connect();
  peers.settle();

  CHECK(anywhere(peers.b->folder, "old and edited"));
}

TEST_CASE("a file that a crash left on its way to the cache is back at its place") {
  Planned peers;
  peers.disconnect();
  const BlobId blob = peers.b->with([](ArenaCore& arena) { return arena.core().shownVersion(*arena.core().recordAt("plan.txt"))->second.blob; });
  peers.b->restart(peers.pool, [&] {
    fs::rename(peers.b->folder + "/plan.txt", peers.b->folder + "/.realize/cache/" + blob.hex());
    std::ofstream(peers.b->folder + "/.realize/cache/" + blob.hex(), std::ios::app) << " and edited";
  });
  peers.meet();

  CHECK(peers.b->read("plan.txt") == "old and edited");
  CHECK(peers.a->read("plan.txt") == "old and edited");
}

// --- failures that must not end the process or leave anyone waiting ----------------------------------------------

TEST_CASE("a database that fails in a job of the core suspends the arena and no more") {
  TwoArenas peers;
  auto answered = std::make_shared<std::promise<void>>();
  peers.a->with([&](ArenaCore& arena) {
    arena.core().env.scheduler.onCore([] { throw store::DatabaseError(Code::NoSpace, "the disk is full"); });
  });

  CHECK(until([&] { return peers.a->with([](ArenaCore& arena) { return arena.core().suspended; }); }));
  CHECK(!peers.a->with([](ArenaCore& arena) { return arena.status().consensus; }));
}

TEST_CASE("who waits for the folder to settle is told when the arena is suspended instead") {
  Planned peers;
  auto answered = std::make_shared<std::promise<void>>();
  auto future = answered->get_future();
  peers.b->with([&](ArenaCore& arena) {
    arena.core().folder->rescanAll();
    arena.core().folder->barrier([answered] { answered->set_value(); });
    arena.core().suspend("the test says so");
  });

  CHECK(future.wait_for(std::chrono::seconds(5)) == std::future_status::ready);
}

TEST_CASE("a suspended arena answers who asks it for bytes") {
  Several peers(2);
  peers.peers[0]->write("film", std::string(500'000, 'f'));
  peers.peers[0]->write("note", "small");
  peers.peers[0]->with([](ArenaCore& core) { core.core().folder->rescanAll(); });
  peers.connect(0, 1);
  REQUIRE(peers.learns(1, "film"));
  REQUIRE(peers.learns(1, "note"));
  peers.peers[0]->with([](ArenaCore& core) { core.core().suspend("the test says so"); });

  auto film = peers.read(1, "film")->get_future();
  auto note = peers.read(1, "note")->get_future();

  REQUIRE(film.wait_for(std::chrono::seconds(5)) == std::future_status::ready);
  CHECK(!film.get().ok());
  REQUIRE(note.wait_for(std::chrono::seconds(5)) == std::future_status::ready);
  CHECK(!note.get().ok());
}

TEST_CASE("what a peer announced before this side knew of the connection is not lost") {
  Several peers(2);
  peers.peers[0]->write("note", "small");
  REQUIRE(until([&] { return peers.knows(0, "note"); }));
  auto there = std::make_shared<DirectRemote>(*peers.peers[0], *peers.peers[1]);
  auto back = std::make_shared<DirectRemote>(*peers.peers[1], *peers.peers[0]);
  peers.old = {there, back};
  peers.peers[0]->with([&](ArenaCore& core) { core.connected(*there); });
  std::promise<void> heard;
  peers.peers[1]->scheduler->onCore([&] { heard.set_value(); });
  heard.get_future().wait();
  peers.peers[1]->with([&](ArenaCore& core) { core.connected(*back); });

  CHECK(peers.learns(1, "note"));

  peers.peers[0]->with([&](ArenaCore& core) { core.disconnected(peers.peers[1]->key); });
  peers.peers[1]->with([&](ArenaCore& core) { core.disconnected(peers.peers[0]->key); });
}

TEST_CASE("three peers that all ask each other for what none has are all told so") {
  Several peers(4);
  for (int i = 0; i < 8; ++i) peers.peers[0]->write("film" + std::to_string(i), std::string(100'000 + i, 'f'));
  peers.peers[0]->with([](ArenaCore& core) { core.core().folder->rescanAll(); });
  for (int i = 1; i < 4; ++i) peers.connect(0, i);
  for (int i = 1; i < 4; ++i) REQUIRE(peers.learns(i, "film7"));
  for (int i = 1; i < 4; ++i) peers.disconnect(0, i);
  peers.connect(1, 2);
  peers.connect(2, 3);
  peers.connect(3, 1);

  std::vector<std::future<Result<Bytes>>> reads;
  for (int file = 0; file < 8; ++file)
    for (int i = 1; i < 4; ++i) reads.push_back(peers.read(i, "film" + std::to_string(file))->get_future());
  for (auto& one : reads) {
    REQUIRE(one.wait_for(std::chrono::seconds(10)) == std::future_status::ready);
    CHECK(!one.get().ok());
  }

  peers.connect(0, 3);
  auto later = peers.read(1, "film0")->get_future();
  REQUIRE(later.wait_for(std::chrono::seconds(10)) == std::future_status::ready);
  CHECK(later.get().ok());
}

TEST_CASE("a chain fetches through the peer between, and only what was asked") {
  Several peers(3);
  std::string text(3'000'000, ' ');
  for (size_t i = 0; i < text.size(); ++i) text[i] = char(i * 2654435761u >> 13);
  peers.peers[0]->write("film", text);
  peers.peers[0]->with([](ArenaCore& core) { core.core().folder->rescanAll(); });
  peers.connect(0, 1);
  peers.connect(1, 2);
  REQUIRE(peers.learns(2, "film"));

  auto read = peers.read(2, "film")->get_future();

  REQUIRE(read.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  auto bytes = read.get();
  REQUIRE(bytes.ok());
  CHECK(std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) == text);
}

TEST_CASE("bytes that come damaged are refused, said, and had from another peer") {
  Several peers(3);
  peers.peers[0]->write("film", std::string(500'000, 'f'));
  peers.peers[0]->with([](ArenaCore& core) { core.core().folder->rescanAll(); });
  peers.connect(0, 1);
  peers.connect(0, 2);
  REQUIRE(peers.learns(1, "film"));
  REQUIRE(peers.learns(2, "film"));
  markRoot(*peers.peers[1], Mark::Real);
  REQUIRE(until([&] { return peers.peers[1]->has("film"); }));
  peers.connect(1, 2);
  peers.links[{2, 0}]->corrupts = true;

  auto read = peers.read(2, "film")->get_future();

  REQUIRE(read.wait_for(std::chrono::seconds(10)) == std::future_status::ready);
  auto bytes = read.get();
  REQUIRE(bytes.ok());
  CHECK(bytes->size() == 500'000);
  auto status = peers.peers[2]->with([](ArenaCore& core) { return core.status(); });
  const auto key = peers.peers[0]->key.hex();
  CHECK(std::any_of(status.problems.begin(), status.problems.end(), [&](const auto& p) { return p.detail.find(key) != std::string::npos; }));
}

TEST_CASE("a chunk that comes once more does not end up in the file that was made of it") {
  TwoArenas peers;
  peers.a->write("film", std::string(600'000, 'f'));
  peers.meet();
  peers.ba->beforeDone = [&](const std::function<void()>& again) {
    if (!until([&] { return peers.b->has("film"); }, 1000)) return;
    std::ofstream(peers.b->folder + "/film", std::ios::binary | std::ios::in) << std::string(600'000, 'e');
    again();
  };
  markRoot(*peers.b, Mark::Real);
  REQUIRE(until([&] { return peers.b->has("film"); }));
  peers.settle();

  const std::string text = peers.b->read("film");
  CHECK((text == std::string(600'000, 'f') || text == std::string(600'000, 'e')));
}

TEST_CASE("a file kept open by a writer is not fetched over and over, and status says what is waited for") {
  Planned peers;
  const int fd = ::open((peers.b->folder + "/plan.txt").c_str(), O_WRONLY);
  REQUIRE(fd >= 0);
  peers.a->write("plan.txt", "new from a");
  const uint64_t before = peers.ba->gets;
  REQUIRE(until([&] {
    peers.a->with([](ArenaCore& core) { core.core().folder->drainWatch(); });
    return peers.ba->gets > before;
  }));

  until([&] { return peers.ba->gets > before + 20; }, 1500);
  CHECK(peers.ba->gets <= before + 20);
  const auto problems = [&] { return peers.b->with([](ArenaCore& core) { return core.status().problems; }); };
  REQUIRE(problems().size() == 1);
  CHECK(problems()[0].path == "plan.txt");
  CHECK(problems()[0].kind == "in-use");
  CHECK(problems()[0].detail.find(peers.b->folder + "/plan.txt: is open for writing") == 0);

  ::close(fd);
  REQUIRE(peers.settle(30));
  CHECK(peers.b->read("plan.txt") == "new from a");
  CHECK(problems().empty());
}
