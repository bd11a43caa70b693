#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "librealize/peer/environment.h"

namespace realize::peer {

/// Jobs of the pool that would only wait for each other there: they run one after another. Thread: any.
class InTurn : public std::enable_shared_from_this<InTurn> {
 public:
  void post(Scheduler& scheduler, std::function<void()> job) {
    {
      std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
      if (std::exchange(running_, true)) return;
    }
    next(scheduler);
  }

 private:
  void next(Scheduler& scheduler) {
    std::function<void()> job;
    {
      std::lock_guard lock(mutex_);
      running_ = !jobs_.empty();
      if (!running_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    scheduler.onPool(false, [self = shared_from_this(), job = std::move(job), &scheduler] {
      job();
      self->next(scheduler);
    });
  }

  std::mutex mutex_;
  std::deque<std::function<void()>> jobs_;
  bool running_ = false;
};

}  // namespace realize::peer
