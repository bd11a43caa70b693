#pragma once

// Requests that are answered later, from another thread.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "frontends/fuse/fuse_api.h"
#include "realize/filesystem.h"

namespace realize::fuse {

/// Keeps requests until they are answered: by their callback, by an interrupt, or by the end of the mount; whichever
/// is first, and only once. So a callback may come late or after the session is gone. Thread: any.
/// Bound: the kernel's own (max_background and one request a waiting thread).
class Pending {
 public:
  explicit Pending(FileSystem& fileSystem) : fileSystem_(fileSystem) {}

  /// Returns a number for the request; 0 after failAll(): answer it at once.
  uint64_t add(fuse_req_t req);
  /// Runs `answer` on the request if it is still to be answered. `answer` must reply. False: it was answered before.
  bool answer(uint64_t id, const std::function<void(fuse_req_t)>& answer);
  /// The library's number of the request, so that an interrupt can cancel it.
  void started(uint64_t id, uint64_t request);
  /// A signal came for who waits. If it means to give up, answers EINTR and cancels at the library. If not, the kernel
  /// will tell of no further one: then returns false, and recheck() is to be called now and then.
  [[nodiscard]] bool interrupted(uint64_t id);
  /// Looks again at those who had a signal. True while there are some.
  bool recheck();
  /// Answers all with `error` and takes no more; returns once no reply is under way.
  void failAll(int error);

 private:
  struct Entry {
    fuse_req_t req = nullptr;
    uint64_t request = 0;
    bool signalled = false;
  };

  FileSystem& fileSystem_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_map<uint64_t, Entry> entries_;
  uint64_t lastId_ = 0;
  size_t answering_ = 0;
  bool closed_ = false;
};

}  // namespace realize::fuse
