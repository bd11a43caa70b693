#include "tests/support/sim_peer.h"

#include <unistd.h>

#include <utility>

#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"

namespace realize::test {

namespace {
PeerKey keyOf(uint8_t number) {
  PeerKey key;
  key.bytes.fill(number);
  return key;
}
constexpr ArenaId kSimArena{{0x51, 0x4d}};
constexpr int64_t kDrainNs = 20'000'000;

void removeBelow(Directory& root, const std::string& path) {
  auto items = root.list(path);
  for (const auto& item : items.ok() ? *items : std::vector<DirectoryItem>()) {
    const std::string below = path.empty() ? item.name : path + "/" + item.name;
    const bool directory = item.stat.type == FileStat::Type::Directory;
    if (directory) removeBelow(root, below);
    auto gone = directory ? root.removeDirectory(below) : root.unlink(below);
    (void)gone;
  }
}

/// With modes and times, as `cp -a` does it.
void copyBelow(Directory& from, Directory& to, const std::string& path) {
  auto items = from.list(path);
  for (const auto& item : items.ok() ? *items : std::vector<DirectoryItem>()) {
    const std::string below = path.empty() ? item.name : path + "/" + item.name;
    if (item.stat.type == FileStat::Type::Directory) {
      (void)to.makeDirectory(below, item.stat.mode & 0777).ok();
      copyBelow(from, to, below);
    } else if (item.stat.type == FileStat::Type::Symlink) {
      if (auto target = from.readSymlink(below); target.ok()) (void)to.makeSymlink(below, *target).ok();
    } else {
      auto bytes = readFile(from, below, 64 << 20);
      auto file = to.open(below, OpenMode::CreateNew, item.stat.mode & 0777);
      if (!bytes.ok() || !file.ok()) continue;
      (void)(*file)->write(0, *bytes).ok();
      file->reset();
    }
    if (item.stat.type != FileStat::Type::Symlink) (void)to.setTimes(below, item.stat.mtimeNs).ok();
  }
}
}  // namespace

SimPeer::SimPeer(SimQueue& queue, const SimPeerOptions& options)
    : queue(queue), options(options), key(keyOf(options.number)),
      clock(1'700'000'000'000'000'000 + int64_t(options.number) * 3'333'333), random(options.seed),
      disk(clock, options.number) {
  queue.addClock(clock);
  clock.setDrift(options.driftPpm);
  disk.makeFolder(kSimFolder);
  disk.makeFolder(kSimState);
  disk.setHook([this](const FakeCall& call) -> std::optional<Error> {
    if (call.changes() && call.path.starts_with(kSimFolder)) drainSoon();
    if (onCall) onCall(call);
    return failing ? failing(call) : std::nullopt;
  });
}

SimPeer::~SimPeer() {
  disk.setHook(nullptr);
  vanish();
}

void SimPeer::drainSoon() {
  if (draining_ || !core) return;
  draining_ = true;
  const int64_t delayNs = int64_t(queue.random.below(queue.random.oneIn(20) ? 200'000'000 : 3'000'000));
  queue.after(delayNs, [this, life = lives] {
    if (life != lives || !core) return;
    draining_ = false;
    scheduler->onCore([this] { core->drainWatch(); });
  });
}

/// The kernel's watch calls nobody by itself.
void SimPeer::drainNowAndThen() {
  queue.after(kDrainNs, [this, life = lives] {
    if (life != lives || !core) return;
    scheduler->onCore([this] { core->drainWatch(); });
    drainNowAndThen();
  });
}

Result<void> SimPeer::start() {
  vanish();
  const bool real = !options.onSystemDisk.empty();
  if (!real) {
    REALIZE_ASSIGN(auto state, disk.openRoot(kSimState));
    vfs_ = std::make_unique<store::DiskVfs>("sim-" + options.name, std::move(state), clock, random);
  }
  scheduler = std::make_unique<SimScheduler>(queue, clock);
  auto watch = [this, real](const std::string& root) -> Result<std::unique_ptr<Watcher>> {
    if (real && !options.watched) return Error{Code::Unsupported, "not watched"};
    if (real) return watchFolder(root);
    return disk.watch(root);
  };
  peer::Environment env{clock, random, real ? systemDisk() : disk, *scheduler, watch, "boot " + std::to_string(boots)};
  peer::ArenaOptions arena;
  arena.id = kSimArena;
  arena.name = "docs";
  arena.databaseDirectory = real ? options.onSystemDisk + "/state" : kSimState;
  arena.folder = folder();
  arena.self = key;
  arena.shared = true;
  arena.sharedQuota = options.quota;
  if (options.changesPerPage) arena.maxChangesPerPage = options.changesPerPage;
  peer::ArenaCore::Hooks hooks{[this](const peer::Events& events) {
    if (!onEvent) return;
    for (const auto& event : *events) onEvent(event);
  }};
  auto opened = peer::ArenaCore::open(env, arena, options.settings, hooks, !started, real ? "" : vfs_->name());
  if (!opened.ok()) {
    vanish();
    return opened.error();
  }
  core = std::move(*opened);
  std::lock_guard held(scheduler->coreLock());
  core->start(started ? Mark::None : options.rootMark, options.joining);
  started = true;
  if (members_) core->core().exchange->setMembers(*members_);
  if (real) drainNowAndThen();
  return {};
}

void SimPeer::setMembers(std::set<PeerKey> members) {
  members_ = std::move(members);
  if (!core) return;
  std::lock_guard held(scheduler->coreLock());
  auto told = store::catching([&] { core->core().exchange->setMembers(*members_); });
  (void)told;  // A failing arena says so itself, as in PeerImpl::reviewMembers().
}

void SimPeer::stop() {
  if (core) {
    std::lock_guard held(scheduler->coreLock());
    core->stop();
  }
  vanish();
}

void SimPeer::restore(const FakeImage& backup, bool database, bool wholeFolder) {
  const bool before = std::exchange(userActing, true);
  FakeDisk then(clock, backup);
  for (const char* path : {database ? kSimState : nullptr, wholeFolder ? kSimFolder : nullptr}) {
    if (!path) continue;
    auto from = then.openRoot(path);
    auto to = disk.openRoot(path);
    if (!from.ok() || !to.ok()) continue;
    removeBelow(**to, "");
    copyBelow(**from, **to, "");
  }
  disk.settle();
  userActing = before;
}

void SimPeer::loseDatabase() {
  const bool before = std::exchange(userActing, true);
  if (auto state = disk.openRoot(kSimState); state.ok()) removeBelow(**state, "");
  disk.settle();
  userActing = before;
}

void SimPeer::joinAnew(uint8_t number) {
  key = keyOf(number);
  options.joining = true;
  started = false;
}

void SimPeer::vanish() {
  ++lives;
  draining_ = false;
  core.reset();
  scheduler.reset();
  vfs_.reset();
}

}  // namespace realize::test
