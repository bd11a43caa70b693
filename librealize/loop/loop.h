#pragma once

// The event loop: libuv underneath, KJ's promises on top, on one thread of its own. KJ's UnixEventPort is not used: it
// takes SIGPIPE and another signal for the whole process, which a library must not.

#include <kj/async.h>
#include <kj/exception.h>
#include <kj/timer.h>

#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

struct uv_loop_s;

namespace realize::loop {

namespace detail {
template <typename T>
struct Outcome;
}

/// Called at the end of a turn: when no promise is ready any more, before the loop sleeps. What was written during
/// the turn leaves in one piece there. Thread: the loop's.
class TurnEnd {
 public:
  virtual ~TurnEnd() = default;
  /// Must not throw.
  virtual void turnEnd() = 0;
};

/// A thread that runs KJ's event loop over libuv.
///
/// Everything KJ (promises, capabilities, timers) and every socket is created, used and destroyed on this thread; other
/// threads reach it by post() and run(). Code on the loop never blocks: no disk, no lock that is held for long, no
/// waiting for another thread.
/// Lifetime: whoever made objects on the loop destroys them there (through run()) before the Loop is destroyed. The
/// destructor runs what was posted before it, then joins; a name look-up under way is waited for.
class Loop {
 public:
  using Log = std::function<void(const std::string&)>;

  /// `log` gets the text of failures nobody waits for (default: stderr). Thread of `log`: the loop's.
  explicit Loop(Log log = {});
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Runs `job` on the loop, in the order posted. False, and never runs it, once the loop is ending. A caller from
  /// another thread waits while very many (kMaxPosted) are queued; the loop's own calls never wait. `job` must not throw
  /// (it is caught and logged). Thread: any.
  bool post(std::function<void()> job);

  /// Runs `f()` on the loop and returns what it returns; an exception is passed on as a
  /// kj::Exception. If `f` returns a kj::Promise, waits
  /// for it. Thread: any but the loop's.
  template <typename F>
  auto run(F f);

  /// Lets a promise run to its end; a failure is logged. Thread: the loop's.
  void detach(kj::Promise<void> promise);

  bool isLoopThread() const { return std::this_thread::get_id() == thread_.get_id(); }
  /// Ticks as the loop turns. Thread: the loop's.
  kj::Timer& timer();
  /// Calls hook.turnEnd() once, at the end of this turn. Asking again before then does nothing. Thread: the loop's.
  void atTurnEnd(TurnEnd& hook);
  /// Must be called by a hook that dies. Thread: the loop's.
  void forget(TurnEnd& hook);
  /// For this folder only. Thread: the loop's.
  uv_loop_s* uv();
  void log(const std::string& text) { log_(text); }

  static constexpr size_t kMaxPosted = 65536;

 private:
  class Port;
  struct Running;
  template <typename T>
  void settle(kj::Promise<T> promise, std::shared_ptr<std::promise<detail::Outcome<T>>> result);

  void threadMain(std::promise<void>& started);
  void runPosted();

  Log log_;
  std::mutex mutex_;
  std::condition_variable hasRoom_;
  std::vector<std::function<void()>> posted_;
  bool wakePending_ = false;
  bool ending_ = false;
  Running* running_ = nullptr;  // on the loop thread's stack
  std::thread thread_;
};

// Implementation of run().

namespace detail {

template <typename T>
struct PromisedType {
  using Type = T;
  static constexpr bool isPromise = false;
};
template <typename T>
struct PromisedType<kj::Promise<T>> {
  using Type = T;
  static constexpr bool isPromise = true;
};

/// What a job ended with, handed from the loop's thread to the waiting one. The failure is handed over rather than
/// shared, as a std::exception_ptr would be.
template <typename T>
struct Outcome {
  std::optional<std::conditional_t<std::is_void_v<T>, bool, T>> value;
  std::unique_ptr<kj::Exception> failure;
};

/// Inside a catch block.
std::unique_ptr<kj::Exception> caughtFailure();

}  // namespace detail

template <typename T>
void Loop::settle(kj::Promise<T> promise, std::shared_ptr<std::promise<detail::Outcome<T>>> result) {
  auto fail = [result](kj::Exception&& e) { result->set_value({{}, std::make_unique<kj::Exception>(kj::mv(e))}); };
  if constexpr (std::is_void_v<T>)
    detach(promise.then([result] { result->set_value({true, nullptr}); }, kj::mv(fail)));
  else
    detach(promise.then([result](T&& value) { result->set_value({kj::mv(value), nullptr}); }, kj::mv(fail)));
}

template <typename F>
auto Loop::run(F f) {
  using Returned = std::invoke_result_t<F&>;
  using Promised = detail::PromisedType<Returned>;
  using T = typename Promised::Type;
  using Outcome = detail::Outcome<T>;

  if (isLoopThread()) std::abort();  // It would wait for itself.
  auto result = std::make_shared<std::promise<Outcome>>();
  auto future = result->get_future();
  auto body = std::make_shared<F>(std::move(f));
  post([this, result, body]() mutable {
    (void)this;  // Settles promises only.
    try {
      if constexpr (Promised::isPromise) {
        settle<T>((*body)(), result);
      } else if constexpr (std::is_void_v<T>) {
        (*body)();
        body = nullptr;
        result->set_value({true, nullptr});
      } else {
        result->set_value({(*body)(), nullptr});
      }
    } catch (...) {
      result->set_value({{}, detail::caughtFailure()});
    }
  });
  result = nullptr;  // If the loop refused the job, the future says "broken promise".
  Outcome outcome = future.get();
  if (outcome.failure) kj::throwFatalException(kj::mv(*outcome.failure));
  if constexpr (!std::is_void_v<T>) return std::move(*outcome.value);
}

}  // namespace realize::loop
