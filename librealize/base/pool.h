#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace realize {

/// Interactive work (somebody waits for it) is taken before bulk work.
enum class Priority : uint8_t { Interactive = 0, Bulk = 1 };

/// Somewhere that work runs. Injected: Pool in a running peer; tests and the simulator bring one that runs inline or
/// when told to. Thread: any.
class Executor {
 public:
  using Job = std::function<void()>;

  virtual ~Executor() = default;
  /// Runs `job` later, or at once for an executor that is inline. May wait while the queue is full, so: not from the
  /// loop's thread. Jobs must not throw.
  virtual void post(Job job, Priority priority = Priority::Bulk) = 0;
  /// False, and `job` untouched, if the queue is full. Never waits.
  virtual bool tryPost(Job& job, Priority priority = Priority::Bulk) = 0;
  /// Never waits and never refuses: only for those who themselves bound what they have posted and not seen finished.
  virtual void postCounted(Job job, Priority priority = Priority::Bulk) = 0;
};

/// A fixed number of threads over one bounded queue. Jobs of one priority start in the order posted.
///
/// A job that posts never waits (it could be the last thread left to drain the queue), so a job must not post without
/// end. Lifetime: the destructor runs everything that is still queued, and what that posts, then joins.
class Pool final : public Executor {
 public:
  /// `threads` 0: as many as the machine has processors, at least 2.
  explicit Pool(size_t threads = 0, size_t maxQueued = 4096);
  ~Pool() override;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void post(Job job, Priority priority = Priority::Bulk) override;
  bool tryPost(Job& job, Priority priority = Priority::Bulk) override;
  void postCounted(Job job, Priority priority = Priority::Bulk) override;

  /// The calling thread is one of this pool's.
  bool isPoolThread() const;
  /// Waits until nothing is queued and nothing runs. Not from a job.
  void waitIdle();

 private:
  void run();
  size_t queued() const { return jobs_[0].size() + jobs_[1].size(); }
  void push(Job job, Priority priority);

  const size_t maxQueued_;
  std::mutex mutex_;
  std::condition_variable hasWork_;
  std::condition_variable hasRoom_;
  std::condition_variable idle_;
  std::deque<Job> jobs_[2];  // by Priority
  size_t running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

/// Runs each job in the caller's thread before post() returns. For tests.
class InlineExecutor final : public Executor {
 public:
  void post(Job job, Priority = Priority::Bulk) override { job(); }
  bool tryPost(Job& job, Priority = Priority::Bulk) override {
    job();
    return true;
  }
  void postCounted(Job job, Priority = Priority::Bulk) override { job(); }
};

}  // namespace realize
