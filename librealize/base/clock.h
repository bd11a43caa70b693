#pragma once

#include <cstdint>

namespace realize {

/// Time, injected: the simulator's is fake. Thread: any.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Unix time in nanoseconds; may jump.
  virtual int64_t nowNs() = 0;
  /// Nanoseconds since some start; never goes back.
  virtual int64_t monotonicNs() = 0;
  /// The same, and goes on while the machine sleeps: for what other machines wait for meanwhile.
  virtual int64_t elapsedNs() = 0;
};

/// The machine's clock. Lifetime: the process.
Clock& systemClock();

}  // namespace realize
