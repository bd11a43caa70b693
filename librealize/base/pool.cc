#include "librealize/base/pool.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace realize {
namespace {

thread_local const Pool* currentPool = nullptr;

}  // namespace

Pool::Pool(size_t threads, size_t maxQueued) : maxQueued_(std::max<size_t>(1, maxQueued)) {
  if (threads == 0) threads = std::max(2u, std::thread::hardware_concurrency());
  threads_.reserve(threads);
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

Pool::~Pool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  hasWork_.notify_all();
  hasRoom_.notify_all();
  for (auto& thread : threads_) thread.join();
}

bool Pool::isPoolThread() const { return currentPool == this; }

void Pool::push(Job job, Priority priority) {
  jobs_[size_t(priority)].push_back(std::move(job));
  hasWork_.notify_one();
}

void Pool::post(Job job, Priority priority) {
  std::unique_lock lock(mutex_);
  if (!isPoolThread()) hasRoom_.wait(lock, [this] { return queued() < maxQueued_ || stopping_; });
  push(std::move(job), priority);
}

bool Pool::tryPost(Job& job, Priority priority) {
  std::lock_guard lock(mutex_);
  if (queued() >= maxQueued_) return false;
  push(std::move(job), priority);
  return true;
}

void Pool::postCounted(Job job, Priority priority) {
  std::lock_guard lock(mutex_);
  push(std::move(job), priority);
}

void Pool::waitIdle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return queued() == 0 && running_ == 0; });
}

void Pool::run() {
  pthread_setname_np(pthread_self(), "realize-pool");
  currentPool = this;
  std::unique_lock lock(mutex_);
  for (;;) {
    // A job that still runs may post more, so threads stay until nothing runs either.
    hasWork_.wait(lock, [this] { return queued() > 0 || (stopping_ && running_ == 0); });
    if (queued() == 0) break;
    auto& jobs = jobs_[0].empty() ? jobs_[1] : jobs_[0];
    Job job = std::move(jobs.front());
    jobs.pop_front();
    ++running_;
    hasRoom_.notify_one();
    lock.unlock();
    job();
    job = nullptr;  // What it captured may post too, and must not die under our lock.
    lock.lock();
    --running_;
    if (running_ == 0 && queued() == 0) {
      idle_.notify_all();
      if (stopping_) hasWork_.notify_all();
    }
  }
}

}  // namespace realize
