// A disk that fails for a while: what could not be read then is read later, and nothing is concluded from it.

#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;
using realize::test::FakeOp;

namespace {
struct Settled : SimArenas {
  Settled() {
    REQUIRE(folder(*a)->makeDirectory("sub", 0755).ok());
    REQUIRE(folder(*a)->makeDirectory("sub/below", 0755).ok());
    write(*a, "sub/below/plan.txt", "one");
    start();
    REQUIRE(settles());
  }
  static std::unique_ptr<Directory> folder(test::SimPeer& peer) { return std::move(*peer.disk.openRoot(test::kSimFolder)); }
  void end(test::SimPeer& peer) {
    link->cut();
    peer.vanish();
  }
  void goOn(test::SimPeer& peer) {
    REQUIRE(peer.start().ok());
    link->connect();
  }
};
}  // namespace

// realize-sim --hard disk-errors, seeds 16, 676, 1137, 1445.
TEST_CASE_FIXTURE(Settled, "what is below a folder that a scan could not read is read with it later") {
  for (const char* path : {"", "/sub"}) {
    CAPTURE(path);
    end(*a);
    const std::string text = std::string("two") + path;
    write(*a, "sub/below/plan.txt", text);
    a->disk.fail(FakeOp::List, std::string("/arena") + path, Code::Io, *path ? 0 : 3);  // First are those of our own.
    goOn(*a);

    REQUIRE(until([&] { return core(*a).store.problems().count() > 0; }, 10'000));
    CHECK(until([&] { return read(*b, "sub/below/plan.txt") == text; }, 120'000));
    write(*a, "sub/below/plan.txt", "watched again");
    CHECK(until([&] { return read(*b, "sub/below/plan.txt") == "watched again"; }, 10'000));
  }
}

TEST_CASE_FIXTURE(Settled, "what is below a folder that a scan might not read is read as soon as it may") {
  a->disk.enforcePermissions(true);
  for (uint32_t mode : {0000, 0400}) {
    CAPTURE(mode);
    end(*a);
    const std::string text = "two " + std::to_string(mode);
    write(*a, "sub/below/plan.txt", text);
    REQUIRE(folder(*a)->setMode("sub", mode).ok());
    goOn(*a);
    pass(10'000);
    REQUIRE(read(*b, "sub/below/plan.txt") != text);

    REQUIRE(folder(*a)->setMode("sub", 0755).ok());
    CHECK(until([&] { return read(*b, "sub/below/plan.txt") == text; }, 10'000));
  }
}
