#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace realize::peer {

/// Runs jobs one after another on a thread of its own. Thread: any. Lifetime: stop() runs what is queued, and joins.
class SerialThread {
 public:
  /// `name`: as in ps, of at most 15 bytes, a literal.
  explicit SerialThread(const char* name);
  ~SerialThread();
  void post(std::function<void()> job);
  void stop();

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace realize::peer
