#include <doctest/doctest.h>

#include <kj/debug.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "librealize/loop/loop.h"

using namespace realize;
using loop::Loop;

TEST_CASE("jobs posted from several threads all run on the loop's thread, each thread's in order") {
  Loop loop;
  std::vector<int> seen[4];
  bool onLoop = true;

  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 1000; ++i)
        loop.post([&, t, i] {
          seen[t].push_back(i);
          onLoop = onLoop && loop.isLoopThread();
        });
    });
  for (auto& thread : threads) thread.join();
  loop.run([] {});

  CHECK(onLoop);
  for (auto& list : seen) {
    REQUIRE(list.size() == 1000);
    CHECK(std::is_sorted(list.begin(), list.end()));
  }
}

TEST_CASE("run returns values, waits for promises and passes exceptions on") {
  Loop loop;

  CHECK(loop.run([] { return 7; }) == 7);
  CHECK(loop.run([&] { return loop.timer().afterDelay(1 * kj::MILLISECONDS).then([] { return 8; }); }) == 8);
  CHECK_THROWS_AS(loop.run([] { throw std::runtime_error("no"); }), kj::Exception);
  CHECK_THROWS_AS(loop.run([]() -> kj::Promise<int> { return KJ_EXCEPTION(FAILED, "no"); }), kj::Exception);
}

TEST_CASE("jobs posted before the end run, later ones are refused") {
  std::atomic<int> ran{0};
  bool accepted = true;

  {
    Loop loop;
    loop.post([&] {
      ++ran;
      // The destructor has begun by the time this is asked often enough.
      while (accepted) accepted = loop.post([&] { ++ran; });
    });
  }

  CHECK_FALSE(accepted);
  CHECK(ran >= 1);
}

TEST_CASE("a failing job or promise is logged and the loop goes on") {
  std::vector<std::string> log;
  Loop loop([&](const std::string& text) { log.push_back(text); });

  loop.post([] { KJ_FAIL_REQUIRE("first"); });
  loop.run([&] { loop.detach(KJ_EXCEPTION(FAILED, "second")); });
  loop.run([&] { return loop.timer().afterDelay(1 * kj::MILLISECONDS); });

  REQUIRE(log.size() == 2);
  CHECK(log[0].find("first") != std::string::npos);
  CHECK(log[1].find("second") != std::string::npos);
}

TEST_CASE("a turn's end comes once for any number of requests, after the promises that were ready") {
  struct Hook : loop::TurnEnd {
    void turnEnd() override { events += "end "; }
    std::string events;
  } hook;
  Loop loop;

  loop.run([&] {
    loop.atTurnEnd(hook);
    loop.atTurnEnd(hook);
    loop.detach(kj::evalLater([&] { hook.events += "promise "; }));
  });
  loop.run([&] { return kj::evalLater([] {}).then([&] { return loop.timer().afterDelay(0 * kj::MILLISECONDS); }); });

  CHECK(hook.events == "promise end ");
}
