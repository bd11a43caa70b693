// What one peer relies on when it lets its copy go: another's word, given for the very entry, durable, and not too old.

#include <algorithm>
#include <optional>

#include "librealize/peer/copies.h"
#include "tests/peer/sim_arenas.h"
#include "tests/peer/sim_household.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;
using realize::test::FakeOp;

namespace {
/// Both keep `x` and `y`, which have the same bytes.
struct Keepers : SimArenas {
  Keepers() {
    write(*a, "x", "the same bytes");
    write(*a, "y", "the same bytes");
    start();
    REQUIRE(settles());
    REQUIRE(read(*b, "y") == "the same bytes");
    REQUIRE(until([&] { return core(*a).store.unsynced().count() == 0 && core(*b).store.unsynced().count() == 0; }));
  }
  void mark(test::SimPeer& peer, const std::string& path, Mark mark) {
    core(peer).marks->set(*core(peer).recordAt(path), mark);
  }
  EntryContent content(test::SimPeer& peer, const std::string& path) {
    auto record = *core(peer).recordAt(path);
    return {record.entry.id, core(peer).shownVersion(record)->second.blob};
  }
  /// What A says when it is asked to keep it.
  bool promised(const EntryContent& asked) {
    std::optional<bool> answer;
    a->core->servePromise(b->key, {asked}, [&](Result<KeepAnswers> said) { answer = said.ok() && said->each.at(0) == KeepAnswer::Promised; });
    REQUIRE(until([&] { return answer.has_value(); }));
    return *answer;
  }
};
}  // namespace

TEST_CASE_FIXTURE(Keepers, "who keeps the bytes under one name only does not promise them under another") {
  mark(*a, "y", Mark::Unreal);
  REQUIRE(until([&] { return !has(*a, "y"); }));

  CHECK(promised(content(*a, "x")));
  CHECK_FALSE(promised(content(*a, "y")));

  mark(*b, "y", Mark::Unreal);
  pass(10'000);
  CHECK(has(*b, "y"));
}

TEST_CASE_FIXTURE(Keepers, "a promised file is on the disk for good before it is said") {
  auto asked = content(*a, "x");
  uint64_t syncs = 0;
  a->onCall = [&](const test::FakeCall& call) { syncs += call.op == FakeOp::FileSync && call.path == "/arena/x"; };
  CHECK(promised(asked));
  CHECK(syncs == 1);

  a->disk.fail(FakeOp::FileSync, "/arena/x", Code::Io);
  const auto before = (*a->disk.openRoot(test::kSimFolder))->stat("x");
  CHECK_FALSE(promised(asked));

  // No later sync of it is believed.
  pass(5000);
  CHECK(promised(asked));
  CHECK_FALSE((*a->disk.openRoot(test::kSimFolder))->stat("x")->sameObject(*before));
}

TEST_CASE_FIXTURE(Keepers, "a promise is kept after a restart, and for its time only") {
  REQUIRE(promised(content(*a, "x")));
  link->cut();
  a->vanish();
  a->disk.crash(a->random);
  ++a->boots;
  REQUIRE(a->start().ok());
  link->connect();
  pass(2000);

  mark(*a, "x", Mark::Unreal);
  pass(40'000);
  CHECK(has(*a, "x"));
  CHECK(until([&] { return !has(*a, "x"); }, 60'000));
}

TEST_CASE_FIXTURE(Keepers, "the time of a lock passes while the machine sleeps") {
  REQUIRE(promised(content(*a, "x")));
  a->clock.suspendFor(2 * kPromiseMs * 1'000'000);

  mark(*a, "x", Mark::Unreal);
  CHECK(until([&] { return !has(*a, "x"); }, 10'000));
}

TEST_CASE_FIXTURE(Keepers, "a promise that took long is none") {
  // A has said it, and the word is under way.
  mark(*b, "x", Mark::Unreal);
  bool said = false;
  a->onCall = [&](const test::FakeCall& call) { said = said || (call.op == FakeOp::FileSync && call.path == "/arena/x"); };
  REQUIRE(until([&] { return said; }));
  a->onCall = nullptr;
  REQUIRE(has(*b, "x"));
  bool dropped = false;
  b->onCall = [&](const test::FakeCall& call) { dropped = dropped || (call.op == FakeOp::Rename && call.path == "/arena/x"); };
  SUBCASE("while it ran") { b->clock.advance(2 * kPromiseMs * 1'000'000); }
  SUBCASE("while it slept") { b->clock.suspendFor(2 * kPromiseMs * 1'000'000); }
  pass(450);  // No message takes longer.
  CHECK_FALSE(dropped);
  CHECK(until([&] { return !has(*b, "x"); }));
}

TEST_CASE("bytes that another entry got from a name that went are not lost, also with a restart between") {
  SimArenas peers(Mark::None);
  auto& a = *peers.a;
  auto& b = *peers.b;
  auto core = [](test::SimPeer& peer) -> Core& { return SimArenas::core(peer); };
  SimArenas::write(a, "x", "the only bytes");
  SimArenas::write(a, "z", "to be replaced");
  peers.start();
  REQUIRE(peers.settles());
  core(b).marks->set(*core(b).recordAt("x"), Mark::Real);
  REQUIRE(peers.until([&] { return SimArenas::read(b, "x") == "the only bytes"; }));
  core(a).marks->set(Core::rootRecord(), Mark::Unreal);
  REQUIRE(peers.until([&] { return !SimArenas::has(a, "x"); }));
  core(a).transfers->shrink(0);

  // Through A's mount: z gets what x has, which A has not, and x goes. B hears of it, and ends before it has applied it.
  b.disk.fail(FakeOp::Rename, "/arena/x", Code::Busy, 0, 1'000'000);
  REQUIRE(a.core->guardedFileSystem().rename(kRootNode, "x", kRootNode, "z", RenameFlag::Replace).ok());
  REQUIRE(peers.until([&] { return !core(b).recordAt("x").ok(); }));
  peers.pass(2000);
  peers.link->cut();
  b.stop();
  b.disk.clearFailures();
  REQUIRE(SimArenas::has(b, "x"));
  REQUIRE(b.start().ok());
  REQUIRE_FALSE(core(b).recordAt("x").ok());
  peers.link->connect();
  REQUIRE(peers.settles());
  peers.pass(10'000);

  auto shown = core(a).shownVersion(*core(a).recordAt("z"))->second;
  auto open = core(a).transfers->open(shown.blob, shown.sizeBytes);
  std::optional<Result<Bytes>> got;
  core(a).transfers->read(open, 0, shown.sizeBytes, [&](Result<Bytes> bytes) { got = std::move(bytes); });
  REQUIRE(peers.until([&] { return got.has_value(); }));
  REQUIRE_MESSAGE(got->ok(), (got->ok() ? "" : got->error().message));
  CHECK((*got)->size() == std::string("the only bytes").size());
}

TEST_CASE_FIXTURE(Keepers, "what all mark unreal at once stays everywhere, is said so, and is asked for ever more seldom") {
  mark(*a, "x", Mark::Unreal);
  mark(*b, "x", Mark::Unreal);
  pass(300'000);
  CHECK(has(*a, "x"));
  CHECK(has(*b, "x"));
  for (auto* peer : {a.get(), b.get()}) {
    const auto status = peer->core->status();
    REQUIRE(status.staysReal.size() == 1);
    CHECK(status.staysReal[0].path == "x");
    CHECK(status.staysReal[0].detail.starts_with("no other connected peer promises to keep it: "));
    CHECK(status.staysReal[0].detail.ends_with(" has it not marked real"));
    const auto entry = peer->core->stat("x");
    REQUIRE(entry.ok());
    CHECK(entry->staysReal == status.staysReal[0].detail);
  }
  const uint64_t before = link->messages();
  pass(600'000);
  CHECK(link->messages() - before <= 100);  // An ask and an answer a minute, from each.

  mark(*b, "x", Mark::Real);
  CHECK(until([&] { return !has(*a, "x"); }, 5'000));
  CHECK(has(*b, "x"));
  CHECK(a->core->status().staysReal.empty());
  CHECK(a->core->stat("x")->staysReal.empty());
}

TEST_CASE_FIXTURE(Keepers, "alone, a file that is marked unreal stays, and is said to want a peer") {
  link->cut();
  mark(*a, "x", Mark::Unreal);
  pass(10'000);

  CHECK(has(*a, "x"));
  CHECK(a->core->stat("x")->staysReal == "no other peer is connected that could keep it");
}

TEST_CASE_FIXTURE(Keepers, "a lock ends when the one that it was for says so, and not when another does") {
  const auto asked = content(*a, "x");
  REQUIRE(promised(asked));
  CHECK(core(*a).marks->promisedFiles() == 1);
  mark(*a, "x", Mark::Unreal);
  pass(5'000);
  CHECK(has(*a, "x"));

  a->core->onRelease(a->key, {asked});
  a->core->onRelease(b->key, {content(*a, "y")});
  CHECK(core(*a).marks->promised(asked.blob));

  a->core->onRelease(b->key, {asked});
  CHECK_FALSE(core(*a).marks->promised(asked.blob));
  CHECK(until([&] { return !has(*a, "x"); }, 20'000));  // B keeps it.
  CHECK(has(*b, "x"));
}

// realize-sim --wide, seed 43020136; --conflicts newest, seed 73021711.
TEST_CASE_FIXTURE(Keepers, "who was given a lock twice may rely on either") {
  const auto asked = content(*a, "x");
  REQUIRE(promised(asked));
  REQUIRE(promised(asked));  // By another machine under the same key, or before the disk was full.

  a->core->onRelease(b->key, {asked});
  CHECK(core(*a).marks->promised(asked.blob));

  a->core->onRelease(b->key, {asked});
  CHECK_FALSE(core(*a).marks->promised(asked.blob));
}

TEST_CASE_FIXTURE(Keepers, "who let its copy go says so, and the lock for it ends at once") {
  mark(*b, "x", Mark::Unreal);
  REQUIRE(until([&] { return !has(*b, "x"); }));
  CHECK(until([&] { return core(*a).marks->promisedFiles() == 0; }, 2'000));
  CHECK(core(*a).store.promised().totals().count == 0);
}

TEST_CASE_FIXTURE(Keepers, "where two others are to keep it and one does, a copy stays, with the reason, and the lock is given back") {
  for (auto* peer : {a.get(), b.get()}) {
    ArenaSettings settings = core(*peer).settings;
    settings.copies = peer == a.get() ? 2 : 1;  // The one that is asked may want it, too.
    peer->core->setSettings(settings);
  }
  mark(*b, "x", Mark::Unreal);
  pass(10'000);
  CHECK(has(*b, "x"));
  CHECK(b->core->stat("x")->staysReal.starts_with("only 1 of the 2 other peers that are to keep it do: "));
  CHECK(until([&] { return core(*a).marks->promisedFiles() == 0; }, 5'000));

  ArenaSettings settings = core(*a).settings;
  settings.copies = 1;
  a->core->setSettings(settings);
  core(*b).marks->wakeUnrealize();
  CHECK(until([&] { return !has(*b, "x"); }));
}

TEST_CASE("a lock of who is no member any more does not count") {
  test::SimHousehold home({Mark::Real, Mark::Real});
  home.write(0, "x", "one");
  std::set<PeerKey> members;
  for (const auto& peer : home.peers) members.insert(peer->key);
  for (const auto& peer : home.peers) peer->setMembers(members);
  home.startAndMeet();
  for (const auto& peer : home.peers) {
    ArenaSettings settings = peer->core->core().settings;
    settings.copies = 2;
    peer->core->setSettings(settings);
  }
  std::vector<size_t> asked;  // One after the other.
  for (size_t i : {1, 2})
    home.peers[i]->onCall = [&asked, i](const test::FakeCall& call) {
      if (call.op == FakeOp::FileSync && call.path == "/arena/x") asked.push_back(i);
    };
  home.core(0).marks->set(*home.core(0).recordAt("x"), Mark::Unreal);
  while (asked.size() < 2) REQUIRE(home.queue.step());
  REQUIRE(home.folder(0)->stat("x").ok());

  // The first one has given it, and the other's word is under way.
  members.erase(home.peers[asked[0]]->key);
  home.peers[0]->setMembers(members);
  home.links[asked[0] - 1]->cut();
  home.runFor(20'000);

  CHECK(home.folder(0)->stat("x").ok());
}

TEST_CASE_FIXTURE(Keepers, "who has a file real is asked of those that are connected") {
  auto holders = [&] {
    std::optional<Copies::Holders> found;
    core(*a).copies->holders(content(*a, "x"), [&](Copies::Holders said) { found = std::move(said); });
    REQUIRE(until([&] { return found.has_value(); }));
    std::sort(found->have.begin(), found->have.end());
    return *found;
  };
  std::vector<PeerKey> both{a->key, b->key};
  std::sort(both.begin(), both.end());
  CHECK(holders().have == both);

  mark(*b, "x", Mark::Unreal);
  REQUIRE(until([&] { return !has(*b, "x"); }));
  CHECK(holders().have == std::vector<PeerKey>{a->key});
  CHECK(holders().unknown.empty());
}

TEST_CASE_FIXTURE(Keepers, "files that too few have are counted") {
  ArenaSettings settings = core(*a).settings;
  settings.copies = 2;
  a->core->setSettings(settings);
  CHECK_FALSE(a->core->status().copiesCounted);
  REQUIRE(until([&] { return a->core->status().copiesCounted; }));
  CHECK(a->core->status().filesBelowCopies == 0);

  // B lets one go: A did not want two when it was asked.
  settings.copies = 1;
  a->core->setSettings(settings);
  mark(*b, "x", Mark::Unreal);
  REQUIRE(until([&] { return !has(*b, "x"); }));
  settings.copies = 2;
  a->core->setSettings(settings);
  pass(6'000);  // Who asks after some seconds has them counted anew.
  REQUIRE(until([&] { return a->core->status().filesBelowCopies == 1; }));
  CHECK(a->core->status().firstBelowCopies == std::vector<std::string>{"x"});
  link->cut();
  REQUIRE(until([&] { return a->core->status().filesBelowCopies == 2; }));
}
