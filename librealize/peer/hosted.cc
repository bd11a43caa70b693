#include "librealize/peer/hosted.h"

#include <fstream>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "librealize/peer/arena_file_system.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr int kLookAgainMs = 1000;  // For folders without a watch now: they may have one again.

std::string bootId() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");  // random(4)
  std::string id;
  std::getline(in, id);
  return id;
}
}  // namespace

Result<std::shared_ptr<Hosted>> Hosted::open(std::shared_ptr<Pool> pool, Start start) {
  std::shared_ptr<Hosted> out(new Hosted);
  out->pool_ = std::move(pool);
  out->id_ = start.options.id;
  out->name_ = start.options.name;
  out->folder_ = start.options.folder;
  out->userFolder_ = start.options.userFolder;
  out->life_ = systemRandom().next64();
  out->scheduler_ = std::make_unique<ThreadScheduler>(*out->pool_);
  Environment environment{systemClock(), systemRandom(), systemDisk(), *out->scheduler_, watchFolder, bootId(), true};
  std::lock_guard held(out->lock());
  REALIZE_ASSIGN(out->core_, ArenaCore::open(std::move(environment), std::move(start.options), start.settings,
                                             {std::move(start.emit), [weak = std::weak_ptr(out)] {
                                                if (auto hosted = weak.lock(); hosted && hosted->watchChanged_) hosted->watchChanged_();
                                              }, std::move(start.nameOf)}, start.fresh));
  auto started = store::catching([&] {
    out->core_->start(start.rootMark, start.joining);
  });
  if (!started.ok()) return started.error();
  if (start.fresh && out->core_->core().suspended) return Error{Code::Refused, out->core_->core().suspendedWhy};
  return out;
}

Hosted::~Hosted() { close(); }

void Hosted::close() {
  std::lock_guard once(closing_);
  if (!scheduler_) return;
  if (core_) {
    {
      std::lock_guard held(lock());
      if (closed_) return;
      closed_ = true;
    }
    core_->fileSystem().close();
    std::lock_guard held(lock());
    core_->stop();
  }
  scheduler_->stop();
}

Scheduler& Hosted::scheduler() { return *scheduler_; }
FairMutex& Hosted::lock() { return scheduler_->coreLock(); }
ArenaService* Hosted::service() { return closed_ ? nullptr : core_.get(); }
FileSystem& Hosted::fileSystem() { return core_->guardedFileSystem(); }

void Hosted::onWatchChanged(std::function<void()> changed) {
  std::lock_guard held(lock());
  watchChanged_ = std::move(changed);
}

// --- watching -----------------------------------------------------------------------------------------------------

struct FolderWatch::Shared {
  Shared() : wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  OwnedFd wake;
  std::mutex mutex;  // guards what follows
  std::vector<std::shared_ptr<Watched>> watched;
  bool stopping = false;
};

FolderWatch::FolderWatch() : s_(std::make_shared<Shared>()) {
  thread_ = std::thread([this] { run(); });
}

FolderWatch::~FolderWatch() {
  {
    std::lock_guard held(s_->mutex);
    s_->stopping = true;
  }
  wake();
  thread_.join();
}

void FolderWatch::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(s_->wake.get(), &one, sizeof one);
}

void FolderWatch::add(std::shared_ptr<Hosted> arena) {
  if (!arena->userFolder()) return;
  auto watched = std::make_shared<Watched>();
  watched->arena = std::move(arena);
  {
    std::lock_guard held(s_->mutex);
    s_->watched.push_back(watched);
    drain(s_, watched);  // Says which descriptor to poll.
  }
  watched->arena->onWatchChanged([all = std::weak_ptr(s_), one = std::weak_ptr(watched)] {
    auto shared = all.lock();
    auto changed = one.lock();
    if (!shared || !changed) return;
    std::lock_guard held(shared->mutex);
    if (!shared->stopping && !changed->draining) drain(shared, changed);
  });
  wake();
}

void FolderWatch::remove(const std::shared_ptr<Hosted>& arena) {
  std::lock_guard held(s_->mutex);
  std::erase_if(s_->watched, [&](const auto& watched) { return watched->arena == arena; });
}

/// Lets the arena read what its watch has. Called with the mutex held.
void FolderWatch::drain(const std::shared_ptr<Shared>& shared, const std::shared_ptr<Watched>& watched) {
  watched->draining = true;
  std::weak_ptr<Hosted> arena = watched->arena;
  watched->arena->scheduler().onCore([shared, watched, arena] {
    auto hosted = arena.lock();
    auto* core = hosted ? static_cast<ArenaCore*>(hosted->service()) : nullptr;
    const auto goOn = [shared] {
      const uint64_t one = 1;
      [[maybe_unused]] ssize_t written = write(shared->wake.get(), &one, sizeof one);
    };
    if (!core) return goOn();
    core->core().transfers->afterPlacing([shared, watched, goOn, core] {
      core->drainWatch();
      {
        std::lock_guard held(shared->mutex);
        watched->descriptor = core->core().folder->watchDescriptor();
        watched->draining = false;
      }
      goOn();
    });
  });
}

void FolderWatch::run() {
  pthread_setname_np(pthread_self(), "realize-watch");
  while (true) {
    std::vector<pollfd> polled{{s_->wake.get(), POLLIN, 0}};
    std::vector<std::shared_ptr<Watched>> order;
    bool lookAgain = false;
    {
      std::lock_guard held(s_->mutex);
      if (s_->stopping) return;
      for (auto& watched : s_->watched) {
        if (watched->draining) continue;
        lookAgain = lookAgain || watched->descriptor < 0;
        polled.push_back({watched->descriptor, POLLIN, 0});  // poll() passes over a negative one.
        order.push_back(watched);
      }
    }
    const int count = poll(polled.data(), polled.size(), lookAgain ? kLookAgainMs : -1);
    if (polled[0].revents) {
      uint64_t counted;
      [[maybe_unused]] ssize_t got = read(s_->wake.get(), &counted, sizeof counted);
    }
    std::lock_guard held(s_->mutex);
    for (size_t i = 0; i < order.size(); ++i) {
      const bool still = std::find(s_->watched.begin(), s_->watched.end(), order[i]) != s_->watched.end();
      if (still && (polled[i + 1].revents || (count == 0 && order[i]->descriptor < 0))) drain(s_, order[i]);
    }
  }
}

}  // namespace realize::peer
