#pragma once

#include <algorithm>
#include <cstdint>

#include "librealize/base/random.h"

namespace realize::net {

/// When to dial again: 0.2 s, 0.4 s, 0.8 s, ... at most 30 s, each between three quarters and the whole of that, so
/// that two peers which lost each other do not meet in step for ever. Thread: one at a time.
class Backoff {
 public:
  explicit Backoff(Random& random, int64_t firstMs = 200, int64_t capMs = 30'000)
      : random_(random), firstMs_(firstMs), capMs_(capMs), nextMs_(firstMs) {}

  /// How long to wait now, after a failure.
  int64_t nextDelayMs() {
    int64_t whole = nextMs_;
    nextMs_ = std::min(capMs_, nextMs_ * 2);
    return whole - int64_t(random_.next64() % uint64_t(whole / 4 + 1));
  }
  /// After a success, or when there is a reason to try at once.
  void reset() { nextMs_ = firstMs_; }

 private:
  Random& random_;
  int64_t firstMs_;
  int64_t capMs_;
  int64_t nextMs_;
};

}  // namespace realize::net
