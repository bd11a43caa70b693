#include "librealize/base/clock.h"

#include <time.h>

namespace realize {
namespace {

int64_t read(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return int64_t(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

class SystemClock final : public Clock {
 public:
  int64_t nowNs() override { return read(CLOCK_REALTIME); }
  int64_t monotonicNs() override { return read(CLOCK_MONOTONIC); }
  int64_t elapsedNs() override { return read(CLOCK_BOOTTIME); }
};

}  // namespace

Clock& systemClock() {
  static SystemClock clock;
  return clock;
}

}  // namespace realize
