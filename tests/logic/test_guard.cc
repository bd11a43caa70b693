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
  CHECK(guard.held().size() == 334);
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
  CHECK(guard.held().size() == 1000 - applied);
}

TEST_CASE("removals further apart than the window do not count together") {
  RemovalGuard guard;

  CHECK(guard.offer(0, 1000, nodes(1, 200)) == Verdict::Apply);
  CHECK(guard.offer(61 * kSecond, 800, nodes(201, 200)) == Verdict::Apply);
}

TEST_CASE("a removal that goes on for longer than the window is one") {
  RemovalGuard guard;
  uint64_t known = 1000;

  for (int batch = 0; batch < 50 && !guard.holding(); ++batch)
    if (guard.offer(batch * 30 * kSecond, known, nodes(NodeId(1 + batch * 20), 20)) == Verdict::Apply) known -= 20;

  CHECK(guard.holding());
  CHECK(known == 680);
  CHECK(guard.passed().entries == 320);
  CHECK(guard.passed().sinceNs == 0);
}

TEST_CASE("a folder that is worked off all day is never held back") {
  RemovalGuard guard;
  uint64_t known = 100'000;

  for (int batch = 0; batch < 3000 && known > 1000; ++batch) {
    REQUIRE(guard.offer(batch * 30 * kSecond, known, nodes(NodeId(1 + batch), 1)) == Verdict::Apply);
    known -= 1;
  }
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
  CHECK(guard.held().size() == 501);
}

TEST_CASE("the same removal reported twice is held once") {
  RemovalGuard guard;
  CHECK(guard.offer(0, 1000, nodes(1, 500)) == Verdict::Hold);

  CHECK(guard.offer(kSecond, 1000, nodes(1, 500)) == Verdict::Hold);

  CHECK(guard.held().size() == 500);
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

TEST_CASE("what is left of a held removal after a restart is held, however little it is") {
  RemovalGuard guard;
  guard.resume();

  CHECK(guard.offer(0, 700, nodes(1, 10)) == Verdict::Hold);
  guard.resumed();
  CHECK(guard.holding());
  for (NodeId node : nodes(1, 10)) guard.returned(node);
  CHECK(guard.offer(kSecond, 700, nodes(1, 10)) == Verdict::Apply);
}

TEST_CASE("new contents for more than the share are held, for the share they are not") {
  OverwriteGuard guard;

  CHECK(guard.offer(0, 1000, nodes(1, 333)) == Verdict::Apply);
  CHECK_FALSE(guard.holding());
  CHECK(guard.offer(kSecond, 1000, nodes(334, 1)) == Verdict::Hold);
  CHECK(guard.held().contains(334));
  CHECK(guard.held().size() == 1);
}

TEST_CASE("a file that is written again and again counts once") {
  OverwriteGuard guard;

  for (int round = 0; round < 100; ++round) CHECK(guard.offer(round * kSecond / 10, 400, nodes(1, 120)) == Verdict::Apply);
}

TEST_CASE("new contents further apart than the window do not count together") {
  OverwriteGuard guard;

  CHECK(guard.offer(0, 600, nodes(1, 200)) == Verdict::Apply);
  CHECK(guard.offer(61 * kSecond, 600, nodes(201, 200)) == Verdict::Apply);
  CHECK(guard.offer(62 * kSecond, 600, nodes(401, 1)) == Verdict::Hold);
}

TEST_CASE("what may be too many is suspect before any of it is offered") {
  OverwriteGuard guard;

  CHECK_FALSE(guard.suspects(0, 1000, 333));
  CHECK(guard.suspects(0, 1000, 334));
  CHECK(guard.offer(0, 1000, nodes(1, 300)) == Verdict::Apply);
  CHECK(guard.suspects(kSecond, 1000, 34));
  CHECK(guard.judge(kSecond, 1000, nodes(1, 300)) == Verdict::Apply);
  CHECK(guard.judge(kSecond, 1000, nodes(301, 34)) == Verdict::Hold);
  CHECK_FALSE(guard.holding());
}

TEST_CASE("while new contents are held, all others are too, until confirmed or returned") {
  OverwriteGuard guard;
  CHECK(guard.offer(0, 300, nodes(1, 200)) == Verdict::Hold);
  CHECK(guard.offer(1, 300, nodes(250, 1)) == Verdict::Hold);
  CHECK_FALSE(guard.suspects(1, 300, 300));
  CHECK(guard.confirm().size() == 201);
  CHECK(guard.offer(2, 300, nodes(1, 100)) == Verdict::Apply);

  CHECK(guard.offer(3, 300, nodes(101, 1)) == Verdict::Hold);
  guard.returned(101);
  CHECK_FALSE(guard.holding());
}

TEST_CASE("a share of one never holds new contents") {
  OverwriteGuard guard;
  guard.setSettings({.share = 1.0});

  CHECK(guard.offer(0, 500, nodes(1, 500)) == Verdict::Apply);
}
