#include "frontends/fuse/pending.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace realize::fuse {

namespace {

// The kernel sends an interrupt for any signal, also for the timers and child signals that programs restart after
// without looking; read(2) of a file is not expected to fail then. Only who is dying or was asked to stop gives up.
bool givesUp(pid_t thread) {
  std::ifstream status("/proc/" + std::to_string(thread) + "/status");
  if (!status) return true;  // Gone, or in another pid namespace.
  uint64_t pending = 0;
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("SigPnd:") || line.starts_with("ShdPnd:"))
      pending |= std::strtoull(line.c_str() + 7, nullptr, 16);
  auto bit = [](int signal) { return uint64_t{1} << (signal - 1); };
  return (pending & (bit(SIGKILL) | bit(SIGINT) | bit(SIGTERM) | bit(SIGQUIT) | bit(SIGHUP))) != 0;
}

}  // namespace

uint64_t Pending::add(fuse_req_t req) {
  std::lock_guard lock(mutex_);
  if (closed_) return 0;
  uint64_t id = ++lastId_;
  entries_.emplace(id, Entry{req, 0, false});
  return id;
}

bool Pending::answer(uint64_t id, const std::function<void(fuse_req_t)>& answer) {
  fuse_req_t req;
  {
    std::lock_guard lock(mutex_);
    auto it = entries_.find(id);
    if (it == entries_.end()) return false;
    req = it->second.req;
    entries_.erase(it);
    ++answering_;
  }
  answer(req);
  std::lock_guard lock(mutex_);
  if (--answering_ == 0) idle_.notify_all();
  return true;
}

void Pending::started(uint64_t id, uint64_t request) {
  if (request == 0) return;
  {
    std::lock_guard lock(mutex_);
    auto it = entries_.find(id);
    if (it != entries_.end()) {
      it->second.request = request;
      return;
    }
  }
  fileSystem_.cancel(request);  // Interrupted before it had a number; or answered, and then this does nothing.
}

bool Pending::interrupted(uint64_t id) {
  uint64_t request;
  {
    std::lock_guard lock(mutex_);
    auto it = entries_.find(id);
    if (it == entries_.end()) return true;
    it->second.signalled = true;
    if (!givesUp(fuse_req_ctx(it->second.req)->pid)) return false;
    request = it->second.request;
  }
  // Answer first: the caller is waiting, and the library's answer then finds nothing to do.
  answer(id, [](fuse_req_t req) { fuse_reply_err(req, EINTR); });
  if (request != 0) fileSystem_.cancel(request);
  return true;
}

bool Pending::recheck() {
  std::vector<uint64_t> signalled;
  {
    std::lock_guard lock(mutex_);
    for (auto& [id, entry] : entries_)
      if (entry.signalled) signalled.push_back(id);
  }
  bool left = false;
  for (uint64_t id : signalled) left |= !interrupted(id);
  return left;
}

void Pending::failAll(int error) {
  std::vector<Entry> left;
  std::unique_lock lock(mutex_);
  closed_ = true;
  for (auto& [id, entry] : entries_) left.push_back(entry);
  entries_.clear();
  lock.unlock();
  for (const Entry& entry : left) {
    fuse_reply_err(entry.req, error);
    if (entry.request != 0) fileSystem_.cancel(entry.request);
  }
  lock.lock();
  idle_.wait(lock, [&] { return answering_ == 0; });
}

}  // namespace realize::fuse
