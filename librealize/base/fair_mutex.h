#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace realize {

/// A mutex that serves in the order of arrival: a thread that takes it again and again cannot starve the others, as it
/// can with std::mutex. BasicLockable. Thread: any; not recursive.
class FairMutex {
 public:
  void lock() {
    std::unique_lock held(mutex_);
    const uint64_t ticket = next_++;
    turn_.wait(held, [&] { return serving_ == ticket; });
  }
  void unlock() {
    {
      std::lock_guard held(mutex_);
      ++serving_;
      if (serving_ == next_) return;
    }
    turn_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable turn_;
  uint64_t next_ = 0;
  uint64_t serving_ = 0;
};

}  // namespace realize
