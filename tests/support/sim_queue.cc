#include "tests/support/sim_queue.h"

#include <algorithm>

namespace realize::test {

namespace {
constexpr int64_t kNsPerMs = 1'000'000;
}

void SimQueue::at(int64_t whenNs, std::function<void()> job) {
  events_.push({std::max(whenNs, nowNs_), ++order_, std::make_shared<std::function<void()>>(std::move(job))});
}

bool SimQueue::step() {
  if (events_.empty()) return false;
  Event event = events_.top();
  events_.pop();
  const int64_t passed = event.atNs - nowNs_;
  nowNs_ = event.atNs;
  if (passed > 0)
    for (auto* clock : clocks_) clock->advance(passed);
  ++steps_;
  (*event.job)();
  return true;
}

void SimQueue::clear() { events_ = {}; }

SimScheduler::~SimScheduler() {
  auto jobs = std::move(*jobs_);
  jobs_->clear();
}

std::function<void()> SimScheduler::kept(std::function<void()> job, bool core) {
  const uint64_t number = ++lastJob_;
  jobs_->emplace(number, std::move(job));
  return [this, weak = std::weak_ptr<Jobs>(jobs_), number, core] {
    auto jobs = weak.lock();
    if (!jobs) return;
    auto found = jobs->find(number);
    if (found == jobs->end()) return;
    auto now = std::move(found->second);
    jobs->erase(found);
    if (!core) return now();
    std::lock_guard held(lock_);
    now();
    now = nullptr;  // What it captured may want the lock held, too.
  };
}

void SimScheduler::onCore(std::function<void()> job) {
  lastCoreNs_ = std::max(lastCoreNs_, queue_.nowNs() + int64_t(queue_.random.below(200'000)));
  queue_.at(lastCoreNs_, kept(std::move(job), true));
}

void SimScheduler::onCoreAfter(int64_t delayMs, std::function<void()> job) {
  queue_.after(clock_.trueNs(delayMs * kNsPerMs) + int64_t(queue_.random.below(kNsPerMs)), kept(std::move(job), true));
}

void SimScheduler::onPool(bool interactive, std::function<void()> job) {
  const int64_t most = queue_.random.oneIn(16) ? 60 * kNsPerMs : interactive ? kNsPerMs : 4 * kNsPerMs;
  queue_.after(int64_t(queue_.random.below(uint64_t(most))), kept(std::move(job), false));
}

}  // namespace realize::test
