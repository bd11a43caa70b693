#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <vector>

#include "librealize/base/pool.h"

using namespace realize;

namespace {

/// Keeps one pool thread busy until released.
struct Plug {
  explicit Plug(Pool& pool) {
    pool.post([this] {
      started.set_value();
      release.get_future().wait();
    });
    started.get_future().wait();
  }
  std::promise<void> started, release;
};

}  // namespace

TEST_CASE("a pool runs everything posted before its destructor returns, also what jobs post") {
  std::atomic<int> ran{0};

  {
    Pool pool(3);
    for (int i = 0; i < 100; ++i) pool.post([&] {
      ++ran;
      pool.post([&] { ++ran; });
    });
  }

  CHECK(ran == 200);
}

TEST_CASE("interactive jobs overtake queued bulk jobs") {
  Pool pool(1);
  Plug plug(pool);
  std::vector<int> order;

  pool.post([&] { order.push_back(1); }, Priority::Bulk);
  pool.post([&] { order.push_back(2); }, Priority::Bulk);
  pool.post([&] { order.push_back(3); }, Priority::Interactive);
  plug.release.set_value();
  pool.waitIdle();

  CHECK(order == std::vector<int>{3, 1, 2});
}

TEST_CASE("a full queue refuses tryPost and takes postCounted") {
  Pool pool(1, 2);
  Plug plug(pool);
  std::atomic<int> ran{0};
  Executor::Job job = [&] { ++ran; };

  pool.post(job);
  pool.post(job);
  CHECK_FALSE(pool.tryPost(job));
  CHECK(job);
  pool.postCounted(job);
  plug.release.set_value();
  pool.waitIdle();

  CHECK(ran == 3);
}

TEST_CASE("post waits for room, but not on a pool thread") {
  Pool pool(1, 1);
  Plug plug(pool);
  std::atomic<int> ran{0};

  pool.post([&] {
    for (int i = 0; i < 10; ++i) pool.post([&] { ++ran; });
  });
  auto waiting = std::async(std::launch::async, [&] { pool.post([&] { ++ran; }); });
  plug.release.set_value();
  waiting.wait();
  pool.waitIdle();

  CHECK(ran == 11);
}
