#pragma once

#include <atomic>

#include "librealize/base/clock.h"

namespace realize::test {

/// Time that moves only when told to, or by `stepNs` at each look. Thread: any.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(int64_t startNs = 1'700'000'000'000'000'000, int64_t stepNs = 0)
      : unixNs_(startNs), stepNs_(stepNs) {}

  int64_t nowNs() override {
    int64_t step = stepNs_;
    monotonicNs_ += step;
    return unixNs_ += step;
  }
  int64_t monotonicNs() override { return monotonicNs_; }
  int64_t elapsedNs() override { return monotonicNs_ + sleptNs_; }

  void advance(int64_t ns) {
    unixNs_ += ns;
    monotonicNs_ += ns;
  }
  /// The wall clock is set, forward or back; the monotonic one does not notice.
  void jump(int64_t ns) { unixNs_ += ns; }
  /// The machine sleeps: no timer notices.
  void suspendFor(int64_t ns) {
    unixNs_ += ns;
    sleptNs_ += ns;
  }
  void setStep(int64_t ns) { stepNs_ = ns; }

 private:
  std::atomic<int64_t> unixNs_;
  std::atomic<int64_t> monotonicNs_{1'000'000'000};
  std::atomic<int64_t> sleptNs_{0};
  std::atomic<int64_t> stepNs_;
};

}  // namespace realize::test
