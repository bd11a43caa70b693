#include "librealize/loop/loop.h"

#include <pthread.h>
#include <uv.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

#include "librealize/loop/failure.h"

namespace realize::loop {
namespace {

kj::TimePoint uvNow() { return kj::origin<kj::TimePoint>() + int64_t(uv_hrtime()) * kj::NANOSECONDS; }

}  // namespace

/// KJ asks here for events; libuv brings them.
class Loop::Port final : public kj::EventPort {
 public:
  explicit Port(Loop& owner) : timers(uvNow()), owner_(owner) {
    if (uv_loop_init(&uv) != 0 ||
        uv_async_init(&uv, &async_, [](uv_async_t* handle) { static_cast<Port*>(handle->data)->woken(); }) != 0) {
      owner.log("out of file descriptors or memory");
      std::abort();
    }
    async_.data = this;
    uv_timer_init(&uv, &timer_);
  }

  ~Port() {
    uv_close(reinterpret_cast<uv_handle_t*>(&async_), nullptr);
    uv_close(reinterpret_cast<uv_handle_t*>(&timer_), nullptr);
    uv_run(&uv, UV_RUN_DEFAULT);  // Closing callbacks, and look-ups that could not be cancelled.
    uv_loop_close(&uv);
  }

  bool wait() override {
    runHooks();
    turn(loop->isRunnable() ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    return std::exchange(kjWoken_, false);
  }

  bool poll() override {
    turn(UV_RUN_NOWAIT);
    return std::exchange(kjWoken_, false);
  }

  void wake() const override {
    // Only for kj::Executor, which we do not use; post() has its own way.
    uv_async_send(const_cast<uv_async_t*>(&async_));
  }

  void wakeForPosted() { uv_async_send(&async_); }

  uv_loop_t uv;
  kj::EventLoop* loop = nullptr;
  std::vector<TurnEnd*> hooks;
  kj::TimerImpl timers;

 private:
  void woken() {
    kjWoken_ = true;
    owner_.runPosted();
  }

  void runHooks() {
    // A hook may remove others or ask again, so no iterator survives a call.
    for (size_t budget = hooks.size(); budget > 0 && !hooks.empty(); --budget) {
      TurnEnd* hook = hooks.front();
      hooks.erase(hooks.begin());
      hook->turnEnd();
    }
  }

  void turn(uv_run_mode mode) {
    uv_update_time(&uv);
    if (!hooks.empty()) mode = UV_RUN_NOWAIT;
    KJ_IF_MAYBE(ms, timers.timeoutToNextEvent(uvNow(), kj::MILLISECONDS, 1'000'000'000)) {
      // libuv before 1.45 runs due timers first and then sleeps all the same; a repeating one ends that sleep.
      if (*ms == 0) mode = UV_RUN_NOWAIT;
      uv_timer_start(&timer_, [](uv_timer_t*) {}, *ms, 1);
    } else {
      uv_timer_stop(&timer_);
    }
    uv_run(&uv, mode);
    timers.advanceTo(std::max(uvNow(), timers.now()));
  }

  Loop& owner_;
  uv_async_t async_;
  uv_timer_t timer_;
  bool kjWoken_ = false;
};

/// What lives on the loop thread's stack while it runs.
struct Loop::Running final : private kj::TaskSet::ErrorHandler {
  explicit Running(Loop& owner)
      : owner(owner), port(owner), eventLoop(port), waitScope(eventLoop),
        tasks(kj::heap<kj::TaskSet>(static_cast<kj::TaskSet::ErrorHandler&>(*this))) {
    port.loop = &eventLoop;
    // Sockets and posted jobs get their turn also while promises keep each other busy.
    waitScope.setBusyPollInterval(256);
    auto paf = kj::newPromiseAndFulfiller<void>();
    ended = kj::mv(paf.promise);
    end = kj::mv(paf.fulfiller);
  }

  void taskFailed(kj::Exception&& e) override { owner.log(std::string("unexpected: ") + e.getDescription().cStr()); }

  Loop& owner;
  Port port;
  kj::EventLoop eventLoop;
  kj::WaitScope waitScope;
  kj::Own<kj::TaskSet> tasks;
  kj::Promise<void> ended = nullptr;
  kj::Own<kj::PromiseFulfiller<void>> end;
};

Loop::Loop(Log log) : log_(std::move(log)) {
  if (!log_) log_ = [](const std::string& text) { std::fprintf(stderr, "realize: %s\n", text.c_str()); };
  std::promise<void> started;
  auto isStarted = started.get_future();
  // thread_ is set before anything on the loop can ask isLoopThread(): the loop starts to turn only after `go`.
  std::promise<void> go;
  thread_ = std::thread([this, &started, going = go.get_future()]() mutable {
    pthread_setname_np(pthread_self(), "realize-loop");
    going.wait();
    threadMain(started);
  });
  go.set_value();
  isStarted.wait();
}

Loop::~Loop() {
  {
    std::lock_guard lock(mutex_);
    posted_.push_back([this] { running_->end->fulfill(); });
    ending_ = true;
    running_->port.wakeForPosted();
  }
  hasRoom_.notify_all();
  thread_.join();
}

void Loop::threadMain(std::promise<void>& started) {
  Running running(*this);
  running_ = &running;
  started.set_value();
  running.ended.wait(running.waitScope);
  running.tasks = nullptr;
  running_ = nullptr;
}

bool Loop::post(std::function<void()> job) {
  bool wake;
  {
    std::unique_lock lock(mutex_);
    if (!isLoopThread()) hasRoom_.wait(lock, [this] { return posted_.size() < kMaxPosted || ending_; });
    if (ending_) return false;
    posted_.push_back(std::move(job));
    wake = !std::exchange(wakePending_, true);
    // Under the lock, so that the loop cannot end and take the handle away meanwhile.
    if (wake) running_->port.wakeForPosted();
  }
  return true;
}

void Loop::runPosted() {
  std::vector<std::function<void()>> jobs;
  {
    std::lock_guard lock(mutex_);
    jobs.swap(posted_);
    wakePending_ = false;
  }
  hasRoom_.notify_all();
  for (auto& job : jobs) {
    try {
      job();
    } catch (const kj::Exception& e) {
      log_(std::string("unexpected: ") + e.getDescription().cStr());
    } catch (const std::exception& e) {
      log_(std::string("unexpected: ") + e.what());
    }
    job = nullptr;
  }
}

void Loop::detach(kj::Promise<void> promise) { running_->tasks->add(kj::mv(promise)); }

kj::Timer& Loop::timer() { return running_->port.timers; }

void Loop::atTurnEnd(TurnEnd& hook) {
  auto& hooks = running_->port.hooks;
  if (std::find(hooks.begin(), hooks.end(), &hook) == hooks.end()) hooks.push_back(&hook);
}

void Loop::forget(TurnEnd& hook) { std::erase(running_->port.hooks, &hook); }

uv_loop_s* Loop::uv() { return &running_->port.uv; }

std::unique_ptr<kj::Exception> detail::caughtFailure() {
  try {
    throw;
  } catch (const kj::Exception& e) {
    return std::make_unique<kj::Exception>(e);
  } catch (const std::exception& e) {
    return std::make_unique<kj::Exception>(failure(kj::Exception::Type::FAILED, e.what()));
  } catch (...) {
    return std::make_unique<kj::Exception>(failure(kj::Exception::Type::FAILED, "an exception of unknown type"));
  }
}

}  // namespace realize::loop
