#include "librealize/peer/thread_scheduler.h"

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <thread>

#include "librealize/base/pool.h"

namespace realize::peer {

using SteadyClock = std::chrono::steady_clock;

struct ThreadScheduler::State {
  explicit State(Executor& pool) : pool(pool) {}

  Executor& pool;
  FairMutex core;

  std::mutex mutex;  // guards what follows
  std::condition_variable wake;
  std::deque<std::function<void()>> jobs;
  std::multimap<SteadyClock::time_point, std::function<void()>> timers;
  bool stopping = false;
  size_t onPool = 0;  // jobs posted there and not ended
  std::condition_variable poolDone;
  std::thread thread;

  void run() {
    pthread_setname_np(pthread_self(), "realize-core");
    std::unique_lock held(mutex);
    while (!stopping) {
      const auto now = SteadyClock::now();
      while (!timers.empty() && timers.begin()->first <= now) {
        jobs.push_back(std::move(timers.begin()->second));
        timers.erase(timers.begin());
      }
      if (jobs.empty()) {
        if (timers.empty()) wake.wait(held);
        else wake.wait_until(held, timers.begin()->first);
        continue;
      }
      auto job = std::move(jobs.front());
      jobs.pop_front();
      held.unlock();
      {
        std::lock_guard owner(core);
        job();
        job = nullptr;  // What it captured may want the lock held, too.
      }
      held.lock();
    }
  }
};

ThreadScheduler::ThreadScheduler(Executor& pool) : s_(std::make_unique<State>(pool)) {
  s_->thread = std::thread([s = s_.get()] { s->run(); });
}

ThreadScheduler::~ThreadScheduler() { stop(); }

void ThreadScheduler::stop() {
  {
    std::lock_guard held(s_->mutex);
    s_->stopping = true;
  }
  s_->wake.notify_all();
  if (s_->thread.joinable()) s_->thread.join();
  {
    // They may still look at what the arena lent them.
    std::unique_lock held(s_->mutex);
    s_->poolDone.wait(held, [&] { return s_->onPool == 0; });
  }
  std::deque<std::function<void()>> jobs;
  std::multimap<SteadyClock::time_point, std::function<void()>> timers;
  std::lock_guard held(s_->mutex);
  jobs.swap(s_->jobs);
  timers.swap(s_->timers);
}

void ThreadScheduler::onCore(std::function<void()> job) {
  {
    std::lock_guard held(s_->mutex);
    if (s_->stopping) return;
    s_->jobs.push_back(std::move(job));
  }
  s_->wake.notify_one();
}

void ThreadScheduler::onCoreAfter(int64_t delayMs, std::function<void()> job) {
  {
    std::lock_guard held(s_->mutex);
    if (s_->stopping) return;
    s_->timers.emplace(SteadyClock::now() + std::chrono::milliseconds(delayMs), std::move(job));
  }
  s_->wake.notify_one();
}

void ThreadScheduler::onPool(bool interactive, std::function<void()> job) {
  {
    std::lock_guard held(s_->mutex);
    ++s_->onPool;
  }
  // The arena bounds what it has on the pool; waiting here would hold up its core.
  s_->pool.postCounted(
      [s = s_.get(), job = std::move(job)]() mutable {
        job();
        job = nullptr;
        std::lock_guard held(s->mutex);
        if (--s->onPool == 0) s->poolDone.notify_all();
      },
      interactive ? Priority::Interactive : Priority::Bulk);
}

FairMutex& ThreadScheduler::coreLock() { return s_->core; }

}  // namespace realize::peer
