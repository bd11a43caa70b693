#pragma once

#include <atomic>

#include "librealize/base/clock.h"

namespace realize::test {

/// Time that moves only when told to, or by `stepNs` at each look. Thread: any; with a drift, one.
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
    const int64_t passed = ns + drift(ns);
    unixNs_ += passed;
    monotonicNs_ += passed;
  }
  /// From now on it gains so many millionths of the time that passes; negative: it loses them. More than -1,000,000.
  void setDrift(int64_t ppm) { driftPpm_ = ppm; }
  /// How long it takes until so much has passed by this clock.
  int64_t trueNs(int64_t ns) const {
    const int64_t rate = 1'000'000 + driftPpm_;
    return ns / rate * 1'000'000 + ns % rate * 1'000'000 / rate;
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
  /// What is left of a nanosecond counts with the next.
  int64_t drift(int64_t ns) {
    if (driftPpm_ == 0) return 0;
    const int64_t millionths = ns % 1'000'000 * driftPpm_ + driftRest_;
    driftRest_ = millionths % 1'000'000;
    return ns / 1'000'000 * driftPpm_ + millionths / 1'000'000;
  }
  int64_t driftPpm_ = 0, driftRest_ = 0;
  std::atomic<int64_t> unixNs_;
  std::atomic<int64_t> monotonicNs_{1'000'000'000};
  std::atomic<int64_t> sleptNs_{0};
  std::atomic<int64_t> stepNs_;
};

}  // namespace realize::test
