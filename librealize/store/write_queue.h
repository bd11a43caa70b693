#pragma once

// What a transaction writes, run a little later and in order, mostly by a thread of its own: who changes 100,000 rows
// prepares the next ones while SQLite, which takes as long again, writes these. Nothing shows outside: a read, a commit
// that is not itself among the jobs, or a rollback settles it first.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace realize::store {

class WriteQueue {
 public:
  /// `work` runs all jobs of a batch, as append() made them one after another; never two at once, and what it throws
  /// ends the batch. With `thread`, a thread begun at the first full batch may call it, else only who calls here.
  using Work = std::function<void(std::string_view jobs)>;
  /// `failed`: called after each batch that failed or did not run because an earlier one had, by who was to run it.
  WriteQueue(Work work, std::function<void()> failed, bool thread)
      : work_(std::move(work)), failed_(std::move(failed)), wantsThread_(thread) {}
  /// What is not settled is forgotten.
  ~WriteQueue();
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;

  // By one thread at a time:

  /// `write(std::string&)` appends one job to the batch.
  template <typename F>
  void append(F&& write) {
    write(filling_);
    if (filling_.size() >= kBatchBytes && held_ == 0) handOver();
  }
  /// Nothing runs until as many calls of letGo(): who reads rows has the connection meanwhile.
  void hold() { ++held_; }
  void letGo() { --held_; }
  /// A thread runs what was appended so far, without anybody's waiting. False: there is none.
  bool handOn();
  bool empty() const { return filling_.empty() && !handedOver_; }
  /// Returns when all has run. Throws what the first job that failed threw, again and again until drop(); those after
  /// it do not run.
  void settle();
  /// Forgets what has not run, and a failure.
  void drop() noexcept;

 private:
  static constexpr size_t kBatchBytes = 16 << 10;  // Some 100 rows: a few of the times it takes to wake a thread.
  static constexpr size_t kMaxBatches = 64;        // A MiB; then who appends waits.
  void handOver();
  void giveToThread();
  bool begin();
  void await();
  void run(std::string_view jobs) noexcept;
  void loop();

  Work work_;
  std::function<void()> failed_;
  bool wantsThread_;
  std::string filling_;
  int held_ = 0;
  bool handedOver_ = false;  ///< since the last time that all had run
  std::mutex mutex_;
  std::condition_variable given_, done_;
  std::deque<std::string> batches_;  ///< the first is being run
  std::string spare_;                ///< one that was run, for its memory
  bool ending_ = false;
  std::exception_ptr failure_;  ///< by who runs, while something runs; else by who calls
  std::thread thread_;
};

}  // namespace realize::store
