#include <doctest/doctest.h>

#include <numeric>

#include "librealize/logic/guard.h"

using namespace realize;
using namespace realize::logic;
using Verdict = RemovalGuard::Verdict;

namespace {

constexpr int64_t kSecond = 1'000'000'000;

std::vector<NodeId> nodes(NodeId from, size_t count) {
  std::vector<NodeId> out(count);
  std::iota(out.begin(), out.end(), from);
  return out;
}

}  // namespace

TEST_CASE("a small share of an arena may be removed") {
  RemovalGuard guard;

  CHECK(guard.offer(0, 1000, nodes(1, 333)) == Verdict::Apply);
  CHECK_FALSE(guard.holding());
}

TEST_CASE("more than the share is held back") {
  RemovalGuard guard;

  CHECK(guard.offer(0, 1000, nodes(1, 334)) == Verdict::Hold);
  CHECK(guard.heldEntries() == 334);
}

TEST_CASE("exactly the share is not more than the share") {
  RemovalGuard guard;

  CHECK(guard.offer(0, 300, nodes(1, 100)) == Verdict::Apply);
}

TEST_CASE("few entries are never held back, even if they are all there are") {
  RemovalGuard guard;

  CHECK(guard.offer(0, 99, nodes(1, 99)) == Verdict::Apply);
}

TEST_CASE("small batches of one large removal count together") {
  RemovalGuard guard;
  uint64_t known = 1000;
  uint64_t applied = 0;

  for (int batch = 0; batch < 20; ++batch) {
    auto removed = nodes(NodeId(1 + batch * 50), 50);
    if (guard.offer(batch * kSecond / 10, known, removed) != Verdict::Apply) continue;
    known -= 50;
    applied += 50;
  }

  CHECK(applied <= 333);
  CHECK(guard.holding());
  CHECK(guard.heldEntries() == 1000 - applied);
}

TEST_CASE("removals further apart than the window do not count together") {
  RemovalGuard guard;

  CHECK(guard.offer(0, 1000, nodes(1, 200)) == Verdict::Apply);
  CHECK(guard.offer(61 * kSecond, 800, nodes(201, 200)) == Verdict::Apply);
}

TEST_CASE("a build that removes and creates as much is never held back") {
  RemovalGuard guard;
  NodeId next = 1;

  for (int round = 0; round < 100; ++round) {
    CHECK(guard.offer(round * kSecond, 1000, nodes(next, 100)) == Verdict::Apply);
    next += 100;
    CHECK(guard.offer(round * kSecond + 1, 1000, {}) == Verdict::Apply);
  }
}

TEST_CASE("while something is held, every further removal is held too") {
  RemovalGuard guard;
  CHECK(guard.offer(0, 1000, nodes(1, 500)) == Verdict::Hold);

  CHECK(guard.offer(kSecond, 1000, nodes(600, 1)) == Verdict::Hold);
  CHECK(guard.heldEntries() == 501);
}

TEST_CASE("the same removal reported twice is held once") {
  RemovalGuard guard;
  CHECK(guard.offer(0, 1000, nodes(1, 500)) == Verdict::Hold);

  CHECK(guard.offer(kSecond, 1000, nodes(1, 500)) == Verdict::Hold);

  CHECK(guard.heldEntries() == 500);
}

TEST_CASE("when all that was held is there again, nothing is held") {
  RemovalGuard guard;
  CHECK(guard.offer(0, 300, nodes(1, 200)) == Verdict::Hold);

  for (NodeId node : nodes(1, 200)) guard.returned(node);

  CHECK_FALSE(guard.holding());
  CHECK(guard.offer(kSecond, 300, nodes(1, 1)) == Verdict::Apply);
}

TEST_CASE("confirming gives out what was held and starts counting afresh") {
  RemovalGuard guard;
  CHECK(guard.offer(0, 1000, nodes(1, 500)) == Verdict::Hold);

  auto confirmed = guard.confirm();

  CHECK(confirmed.size() == 500);
  CHECK_FALSE(guard.holding());
  CHECK(guard.offer(kSecond, 500, nodes(501, 100)) == Verdict::Apply);
}
