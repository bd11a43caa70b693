#pragma once

// One clock and one queue of events for a whole household in one thread: what happens when follows from the seed alone.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <vector>

#include "librealize/peer/environment.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_random.h"

namespace realize::test {

class SimQueue {
 public:
  explicit SimQueue(uint64_t seed) : random(seed) {}

  /// Nanoseconds since the simulation began.
  int64_t nowNs() const { return nowNs_; }
  /// Runs the job then, or now if that has passed; of equal times the first asked for goes first.
  void at(int64_t whenNs, std::function<void()> job);
  void after(int64_t delayNs, std::function<void()> job) { at(nowNs_ + delayNs, std::move(job)); }
  /// Each clock goes with the queue's time. Lifetime: the clock's, past the queue.
  void addClock(FakeClock& clock) { clocks_.push_back(&clock); }

  /// Runs the next event. False when there is none.
  bool step();
  uint64_t steps() const { return steps_; }
  int64_t nextNs() const { return events_.empty() ? INT64_MAX : events_.top().atNs; }
  /// Forgets all that was to come.
  void clear();

  /// For delays. Everything random in a run comes from generators seeded alike.
  FakeRandom random;

 private:
  struct Event {
    int64_t atNs;
    uint64_t order;
    std::shared_ptr<std::function<void()>> job;
    bool operator<(const Event& o) const { return atNs != o.atNs ? atNs > o.atNs : order > o.order; }
  };
  std::priority_queue<Event> events_;
  std::vector<FakeClock*> clocks_;
  int64_t nowNs_ = 0;
  uint64_t order_ = 0;
  uint64_t steps_ = 0;
};

/// One life of one peer's process: its jobs end with it. Core jobs run one by one in the order posted, pool jobs in any.
class SimScheduler final : public peer::Scheduler {
 public:
  /// `clock`: timers go by it. Lifetime: the clock's, past this.
  SimScheduler(SimQueue& queue, const FakeClock& clock) : queue_(queue), clock_(clock) {}
  /// No job runs after this, and what they captured is gone.
  ~SimScheduler() override;

  void onCore(std::function<void()> job) override;
  void onCoreAfter(int64_t delayMs, std::function<void()> job) override;
  void onPool(bool interactive, std::function<void()> job) override;
  FairMutex& coreLock() override { return lock_; }

 private:
  std::function<void()> kept(std::function<void()> job, bool core);
  SimQueue& queue_;
  const FakeClock& clock_;
  using Jobs = std::map<uint64_t, std::function<void()>>;
  std::shared_ptr<Jobs> jobs_ = std::make_shared<Jobs>();
  uint64_t lastJob_ = 0;
  int64_t lastCoreNs_ = 0;
  FairMutex lock_;
};

}  // namespace realize::test
