#include "librealize/peer/serial_thread.h"

#include <pthread.h>

namespace realize::peer {

SerialThread::SerialThread(const char* name) {
  thread_ = std::thread([this, name] {
    pthread_setname_np(pthread_self(), name);
    std::unique_lock held(mutex_);
    while (true) {
      wake_.wait(held, [&] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      auto job = std::move(jobs_.front());
      jobs_.pop_front();
      held.unlock();
      job();
      job = nullptr;
      held.lock();
    }
  });
}

SerialThread::~SerialThread() { stop(); }

void SerialThread::post(std::function<void()> job) {
  {
    std::lock_guard held(mutex_);
    if (stopping_) return;
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void SerialThread::stop() {
  {
    std::lock_guard held(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

}  // namespace realize::peer
