#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace realize {

/// Randomness, injected: the simulator's follows a seed. Thread: any.
class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(std::span<uint8_t> out) = 0;
  uint64_t next64() {
    uint8_t b[8];
    fill(b);
    uint64_t v = 0;
    for (int i = 0; i < 8; ++i) v |= uint64_t(b[i]) << (8 * i);
    return v;
  }
};

/// The operating system's, through libsodium. Lifetime: the process.
Random& systemRandom();

}  // namespace realize
