#include "frontends/fuse/mount.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include "frontends/fuse/mount_point.h"
#include "frontends/fuse/mount_table.h"
#include "frontends/fuse/session.h"

namespace realize::fuse {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kBusyRetry = std::chrono::milliseconds(50);
constexpr auto kSignalRecheck = std::chrono::milliseconds(200);

}  // namespace

/// Threads: `threads` workers that read and answer requests, the Invalidator's one, and a keeper that waits for the
/// end and takes everything down. The keeper holds a reference, so all is released even if nobody waits.
class Mount::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(FileSystem& fileSystem, std::shared_ptr<void> owner, MountOptions options)
      : options_(std::move(options)), session_(std::make_shared<Session>(fileSystem, std::move(owner))) {}
  ~Impl();

  Result<void> start(const std::string& mountPoint);
  Result<void> unmount();
  void end();

  const std::string& mountPoint() const { return mountPoint_; }
  bool wait(int64_t timeoutMs);
  void drain() { session_->invalidator->drain(); }
  std::thread& keeper() { return keeper_; }

 private:
  Result<void> makeSession(int fd);
  void work();
  void learnRoot();
  bool waitForRequest(int epoll);
  bool isMounted() const;
  void waitForEnd();
  void keep();

  MountOptions options_;
  std::shared_ptr<Session> session_;
  std::string mountPoint_;
  std::string device_;
  int stopEvent_ = -1;
  std::shared_ptr<void> subscription_;
  std::vector<std::thread> workers_;
  std::thread keeper_;

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t running_ = 0;       // workers
  bool stopWanted_ = false;  // by end()
  bool requested_ = false;   // by us
  bool ended_ = false;
  bool signalled_ = false;  // a request had a signal that did not end it: Pending::recheck()
};

Mount::Impl::~Impl() {
  if (stopEvent_ >= 0) ::close(stopEvent_);
}

Result<void> Mount::Impl::makeSession(int fd) {
  char name[] = "realize";
  char* argv[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, argv);
  fuse_session* fuse = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), session_.get());
  fuse_opt_free_args(&args);
  if (!fuse) {
    ::close(fd);
    return {Code::Internal, "libfuse refused to make a session"};
  }
  // Mounted already: libfuse is given the descriptor, as its documentation allows.
  std::string path = "/dev/fd/" + std::to_string(fd);
  if (fuse_session_mount(fuse, path.c_str()) != 0) {
    fuse_session_destroy(fuse);
    ::close(fd);
    return {Code::Internal, "libfuse refused the descriptor of the mount"};
  }
  // So that a worker waits in epoll, where it can be told to stop.
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  session_->fuse = fuse;
  return {};
}

Result<void> Mount::Impl::start(const std::string& mountPoint) {
  REALIZE_ASSIGN(mountPoint_, prepareMountPoint(mountPoint, options_.forbidden));
  stopEvent_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stopEvent_ < 0) return {Code::Io, std::string("eventfd: ") + std::strerror(errno)};

  session_->watchSignals = [this] {
    std::lock_guard lock(mutex_);
    signalled_ = true;
    changed_.notify_all();
  };
  session_->cacheSeconds = static_cast<double>(std::max<int64_t>(options_.cacheMs, 0)) / 1000;
  session_->negativeCacheSeconds = static_cast<double>(std::max<int64_t>(options_.negativeCacheMs, 0)) / 1000;

  bool allowOther = options_.allowOther.value_or(geteuid() == 0);
  auto mounted = mountFuse(mountPoint_, "realize:" + options_.arenaName, allowOther);
  if (!mounted.ok()) return mounted.error();
  device_ = mounted->device;
  if (auto made = makeSession(mounted->fd); !made.ok()) {
    (void)unmountFuse(mountPoint_, true);
    return made;
  }
  session_->invalidator = std::make_unique<Invalidator>(
      session_->fuse, session_->nodes, session_->fileSystem, std::max<size_t>(options_.queuedInvalidations, 16));

  running_ = std::clamp(options_.threads, 1u, 64u);
  for (size_t i = running_; i > 0; --i) workers_.emplace_back([this] { work(); });
  setReadAhead(device_, options_.readAheadKib);
  learnRoot();
  keeper_ = std::thread([self = shared_from_this()] { self->keep(); });
  return {};
}

// Until the kernel has read the root's attributes, it takes it for a directory that nobody may enter; and it ignores
// what it reads while an invalidation of it comes. So it reads them before the first one can.
void Mount::Impl::learnRoot() {
  struct stat st;
  (void)::stat(mountPoint_.c_str(), &st);  // Served by a worker; may fail, as while the arena is suspended.
  subscription_ = session_->fileSystem.subscribe(*session_->invalidator);
  session_->invalidator->nodeChanged(kRootNode, false);
}

bool Mount::Impl::waitForRequest(int epoll) {
  epoll_event event{};
  int n;
  while ((n = epoll_wait(epoll, &event, 1, -1)) < 0 && errno == EINTR) {
  }
  return n > 0 && event.data.fd != stopEvent_;
}

void Mount::Impl::work() {
  pthread_setname_np(pthread_self(), "realize-fuse");
  int fd = fuse_session_fd(session_->fuse);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event request{}, stop{};
  request.events = EPOLLIN | EPOLLEXCLUSIVE;  // One worker wakes for one request.
  request.data.fd = fd;
  stop.events = EPOLLIN;
  stop.data.fd = stopEvent_;
  bool ready = epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &request) == 0 &&
               epoll_ctl(epoll, EPOLL_CTL_ADD, stopEvent_, &stop) == 0;

  fuse_buf buffer{};
  while (ready && !fuse_session_exited(session_->fuse)) {
    int n = fuse_session_receive_buf(session_->fuse, &buffer);
    if (n > 0) {
      fuse_session_process_buf(session_->fuse, &buffer);
    } else if (n == -EAGAIN) {
      if (!waitForRequest(epoll)) break;
    } else if (n != -EINTR) {
      break;  // Unmounted, or the connection was aborted.
    }
  }
  std::free(buffer.mem);
  if (epoll >= 0) ::close(epoll);
  std::lock_guard lock(mutex_);
  --running_;
  changed_.notify_all();
}

bool Mount::Impl::isMounted() const {
  auto entry = mountedAt(mountPoint_);
  return entry && entry->device == device_;
}

Result<void> Mount::Impl::unmount() {
  {
    std::lock_guard lock(mutex_);
    if (ended_) return {};
    requested_ = true;
  }
  if (!isMounted()) return {};
  auto result = unmountFuse(mountPoint_, false);
  if (result.ok()) {
    wait(-1);
    return {};
  }
  std::lock_guard lock(mutex_);
  requested_ = false;
  if (result.code() == Code::Busy)
    return {Code::Busy, mountPoint_ + " is in use: close what is open in it (fuser -vm " + mountPoint_ + " lists it)"};
  return result;
}

void Mount::Impl::end() {
  {
    std::lock_guard lock(mutex_);
    requested_ = true;
  }
  auto deadline = Clock::now() + std::chrono::milliseconds(options_.unmountGraceMs);
  while (isMounted()) {
    if (unmountFuse(mountPoint_, false).ok()) break;
    if (Clock::now() >= deadline) {
      (void)unmountFuse(mountPoint_, true);
      break;
    }
    std::this_thread::sleep_for(kBusyRetry);
  }
  std::lock_guard lock(mutex_);
  stopWanted_ = true;
  changed_.notify_all();
}

void Mount::Impl::waitForEnd() {
  std::unique_lock lock(mutex_);
  auto ending = [&] { return stopWanted_ || running_ < workers_.size(); };
  while (!ending()) {
    if (!signalled_) {
      changed_.wait(lock);
      continue;
    }
    changed_.wait_for(lock, kSignalRecheck, ending);
    signalled_ = false;
    lock.unlock();
    bool more = session_->pending.recheck();
    lock.lock();
    signalled_ |= more;
  }
}

// Waits for the end, then takes things down in an order in which nothing waits for what is gone: first every kept
// request is answered, then nothing more is reported, then the invalidator ends (it may wait in the kernel for a
// request, so the workers must still serve), then the workers.
void Mount::Impl::keep() {
  pthread_setname_np(pthread_self(), "realize-keeper");
  waitForEnd();
  session_->pending.failAll(ENOTCONN);
  subscription_.reset();
  session_->invalidator->stop();
  uint64_t one = 1;
  (void)!::write(stopEvent_, &one, sizeof one);
  for (std::thread& worker : workers_) worker.join();
  for (FileHandle handle : session_->nodes.takeAllHandles()) session_->fileSystem.release(handle);
  fuse_session_destroy(session_->fuse);  // Closes the descriptor: what is still open in a detached mount fails.
  session_->fuse = nullptr;

  MountEnd how;
  {
    std::lock_guard lock(mutex_);
    how.requested = requested_;
    how.why = requested_ ? "unmounted" : mountPoint_ + " was unmounted from outside";
    ended_ = true;
    changed_.notify_all();
  }
  if (options_.onEnd) options_.onEnd(how);
}

bool Mount::Impl::wait(int64_t timeoutMs) {
  std::unique_lock lock(mutex_);
  auto done = [&] { return ended_; };
  if (timeoutMs >= 0) return changed_.wait_for(lock, std::chrono::milliseconds(timeoutMs), done);
  changed_.wait(lock, done);
  return true;
}

Mount::Mount(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Mount::~Mount() {
  impl_->end();
  if (impl_->keeper().get_id() == std::this_thread::get_id())
    impl_->keeper().detach();  // Destroyed from onEnd; the keeper's own reference ends it.
  else
    impl_->keeper().join();
}

Result<std::unique_ptr<Mount>> Mount::start(std::shared_ptr<Arena> arena, const std::string& mountPoint,
                                            MountOptions options) {
  options.arenaName = arena->name();
  if (std::string folder = arena->folder(); !folder.empty()) options.forbidden.push_back(folder);
  FileSystem& fileSystem = arena->fileSystem();
  auto impl = std::make_shared<Impl>(fileSystem, std::move(arena), std::move(options));
  REALIZE_TRY(impl->start(mountPoint));
  return std::unique_ptr<Mount>(new Mount(std::move(impl)));
}

Result<std::unique_ptr<Mount>> Mount::start(FileSystem& fileSystem, const std::string& mountPoint,
                                            MountOptions options) {
  auto impl = std::make_shared<Impl>(fileSystem, nullptr, std::move(options));
  REALIZE_TRY(impl->start(mountPoint));
  return std::unique_ptr<Mount>(new Mount(std::move(impl)));
}

const std::string& Mount::mountPoint() const { return impl_->mountPoint(); }
Result<void> Mount::unmount() { return impl_->unmount(); }
bool Mount::ended() const { return impl_->wait(0); }
bool Mount::waitUntilEnded(int64_t timeoutMs) { return impl_->wait(timeoutMs); }
void Mount::drainInvalidations() { impl_->drain(); }

Result<void> unmountPath(const std::string& mountPoint, bool lazy) {
  std::string path = canonicalMountPoint(mountPoint);
  auto entry = mountedAt(path);
  if (!entry || entry->type != kMountType) return {Code::NotFound, "no arena is mounted on " + path};
  return unmountFuse(path, lazy);
}

}  // namespace realize::fuse
