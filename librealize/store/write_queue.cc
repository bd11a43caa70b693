#include "librealize/store/write_queue.h"

#include <pthread.h>

#include <system_error>

namespace realize::store {

WriteQueue::~WriteQueue() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  given_.notify_one();
  thread_.join();
}

bool WriteQueue::begin() {
  if (thread_.joinable() || !wantsThread_) return wantsThread_;
  try {
    thread_ = std::thread([this] { loop(); });
  } catch (const std::system_error&) {
    wantsThread_ = false;  // A process with too many: slower, no worse.
  }
  return wantsThread_;
}

void WriteQueue::handOver() {
  if (!begin()) {
    run(filling_);
    filling_.clear();
    return;
  }
  giveToThread();
}

bool WriteQueue::handOn() {
  if (held_ > 0 || !begin()) return false;
  if (!filling_.empty()) giveToThread();
  return true;
}

void WriteQueue::giveToThread() {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return batches_.size() < kMaxBatches; });
  batches_.push_back(std::exchange(filling_, std::exchange(spare_, {})));
  handedOver_ = true;
  const bool asleep = batches_.size() == 1;
  lock.unlock();
  if (asleep) given_.notify_one();
}

void WriteQueue::await() {
  if (!std::exchange(handedOver_, false)) return;
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return batches_.empty(); });
}

void WriteQueue::settle() {
  await();
  if (!filling_.empty() && !failure_) run(filling_);
  filling_.clear();
  if (failure_) std::rethrow_exception(failure_);
}

void WriteQueue::drop() noexcept {
  filling_.clear();
  if (handedOver_) {
    std::lock_guard lock(mutex_);
    if (batches_.size() > 1) batches_.erase(batches_.begin() + 1, batches_.end());
  }
  await();
  failure_ = nullptr;
}

void WriteQueue::run(std::string_view jobs) noexcept {
  try {
    if (!failure_) work_(jobs);
  } catch (...) {
    failure_ = std::current_exception();
  }
  if (failure_) failed_();
}

void WriteQueue::loop() {
  pthread_setname_np(pthread_self(), "realize-store");
  std::unique_lock lock(mutex_);
  while (true) {
    given_.wait(lock, [&] { return ending_ || !batches_.empty(); });
    if (ending_) return;
    std::string& jobs = batches_.front();  // A deque leaves the others where they are.
    lock.unlock();
    run(jobs);
    jobs.clear();
    lock.lock();
    spare_ = std::move(jobs);
    batches_.pop_front();
    done_.notify_one();
  }
}

}  // namespace realize::store
