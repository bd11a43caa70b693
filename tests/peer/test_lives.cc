#include "librealize/peer/lives.h"

#include <doctest/doctest.h>

namespace realize::peer {

TEST_CASE("a peer that is started again is no second one") {
  Lives lives;

  CHECK(lives.met(1, 0));
  CHECK(lives.met(1, 10));
  CHECK(lives.met(2, 20));
  CHECK(lives.met(3, 30));
  CHECK(lives.met(3, 40));
  CHECK_FALSE(lives.twins(50));
}

TEST_CASE("a process that is met after a newer one shows that both run") {
  Lives lives;
  CHECK(lives.met(1, 0));
  CHECK(lives.met(2, 10));

  CHECK_FALSE(lives.met(1, 20));
  CHECK(lives.twins(20));
  CHECK_FALSE(lives.met(2, 30));
  CHECK_FALSE(lives.met(1, 40));
}

TEST_CASE("what was connected for long counts as heard until its connection ended") {
  Lives lives;
  const int64_t hour = 3'600'000;
  CHECK(lives.met(1, 0));
  CHECK(lives.met(2, 10));

  lives.heard(2, hour);

  CHECK_FALSE(lives.met(1, hour));
}

TEST_CASE("when one of two has been silent, the other may come back") {
  Lives lives;
  CHECK(lives.met(1, 0));
  CHECK(lives.met(2, 10));
  CHECK_FALSE(lives.met(1, 20));

  CHECK_FALSE(lives.met(1, 10 + Lives::kQuietMs));
  CHECK(lives.met(1, 11 + Lives::kQuietMs));

  CHECK_FALSE(lives.twins(12 + Lives::kQuietMs));
  CHECK(lives.met(1, 13 + Lives::kQuietMs));
  CHECK(lives.met(2, 14 + Lives::kQuietMs));
  CHECK_FALSE(lives.met(1, 15 + Lives::kQuietMs));
}

TEST_CASE("a peer that is started over and over again takes no more room") {
  Lives lives;
  for (uint64_t life = 1; life <= 1000; ++life) CHECK(lives.met(life, int64_t(life)));

  CHECK_FALSE(lives.met(999, 1001));
}

}  // namespace realize::peer
