#pragma once

#include <mutex>

#include "librealize/base/random.h"

namespace realize::test {

/// The same numbers for the same seed on every machine (SplitMix64; Steele, Lea and Flood 2014). Thread: any, though
/// the order of threads is then part of the seed.
class FakeRandom final : public Random {
 public:
  explicit FakeRandom(uint64_t seed) : state_(seed) {}

  void fill(std::span<uint8_t> out) override {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < out.size(); i += 8) {
      uint64_t value = step();
      for (size_t k = i; k < out.size() && k < i + 8; ++k) out[k] = uint8_t(value >> (8 * (k - i)));
    }
  }
  /// 0 to `bound` - 1; 0 for a bound of 0.
  uint64_t below(uint64_t bound) { return bound == 0 ? 0 : next64() % bound; }
  /// True once in `n` times on average.
  bool oneIn(uint64_t n) { return below(n) == 0; }
  /// What all that follows depends on.
  uint64_t state() const { return state_; }
  void setState(uint64_t state) { state_ = state; }

 private:
  uint64_t step() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  std::mutex mutex_;
  uint64_t state_;
};

}  // namespace realize::test
