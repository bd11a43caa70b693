#pragma once

#include <memory>

#include "librealize/peer/environment.h"

namespace realize {
class Executor;
}

namespace realize::peer {

/// The real scheduler of one arena: its core thread, the peer's pool. Lifetime: stop() (or the destructor) runs no
/// further core job, joins, and waits for the pool jobs of this arena; core jobs posted later are dropped.
class ThreadScheduler final : public Scheduler {
 public:
  explicit ThreadScheduler(Executor& pool);
  ~ThreadScheduler() override;
  void stop();

  void onCore(std::function<void()> job) override;
  void onCoreAfter(int64_t delayMs, std::function<void()> job) override;
  void onPool(bool interactive, std::function<void()> job) override;
  FairMutex& coreLock() override;

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace realize::peer
