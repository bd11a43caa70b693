#include "librealize/peer/peer_impl.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "librealize/base/errno_code.h"
#include "librealize/loop/socket.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"

namespace realize {

namespace peer {
namespace {
/// Nothing is in it but what a peer or its daemon leaves there.
bool mayHoldPeer(const std::string& stateDir) {
  std::error_code failed;
  for (std::filesystem::directory_iterator it(stateDir, failed), end; !failed && it != end; it.increment(failed)) {
    const std::string name = it->path().filename();
    const bool ours = name == "lock" || name == "socket" || name == "arenas" || name.starts_with("log") || name.starts_with("audit.log") ||
                      name.starts_with("peer.db");
    if (!ours) return false;
  }
  return true;
}
}  // namespace
}  // namespace peer

Result<void> Peer::init(const std::string& stateDir, const InitOptions& options) {
  if (mkdir(stateDir.c_str(), 0700) != 0 && errno != EEXIST)
    return errno == ENOENT ? Error{Code::NotFound, stateDir + ": the folder that it would be in is not there; make that first (mkdir -p)"}
                           : errnoError(errno, stateDir);
  struct stat there{};
  if (stat(stateDir.c_str(), &there) != 0) return errnoError(errno, stateDir);
  if (!S_ISDIR(there.st_mode)) return Error{Code::NotDirectory, stateDir + ": is not a folder"};
  const std::string database = stateDir + "/peer.db";
  if (access(database.c_str(), F_OK) == 0)
    return Error{Code::Exists, stateDir + ": a peer is here already; use another --state folder, or remove this one"};
  if (!peer::mayHoldPeer(stateDir))
    return Error{Code::Refused, stateDir + ": has other things in it, and would be closed to other users; name a new or empty "
                                            "folder with --state"};
  if (chmod(stateDir.c_str(), 0700) != 0) return errnoError(errno, stateDir);
  std::string name = options.name;
  if (name.empty()) {
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) != 0 || !*host) std::snprintf(host, sizeof host, "peer");
    name = std::string(host).substr(0, std::string(host).find('.'));
    if (!peer::checkName("peer", name).ok()) name = "peer";
  }
  return peer::Household::create(database, name, options.listen, systemClock(), systemRandom());
}

Result<std::unique_ptr<Peer>> Peer::open(const std::string& stateDir) {
  REALIZE_ASSIGN(auto opened, peer::PeerImpl::open(stateDir));
  return std::unique_ptr<Peer>(std::move(opened));
}

std::string_view libraryVersion() { return REALIZE_VERSION; }

}  // namespace realize

namespace realize::peer {

namespace {

constexpr kj::Duration kTendEvery = 3 * kj::SECONDS;

/// Holds the state folder for this process. The pid in it is only for the message.
/// A process that was killed holds its lock for a moment yet. True once it has ended; false soon if it lives on.
bool endsNow(pid_t pid) {
  OwnedFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (process.get() < 0) return errno == ESRCH;
  pollfd ended{process.get(), POLLIN, 0};
  constexpr int kLivesMs = 100, kDiesMs = 10'000;
  if (poll(&ended, 1, kLivesMs) > 0) return true;
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string stat((std::istreambuf_iterator<char>(in)), {});
  std::istringstream fields(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));
  std::string word;
  unsigned long flags = 0;
  for (int i = 3; i <= 8 && fields >> word; ++i) {}
  constexpr unsigned long kExiting = 0x4;  // PF_EXITING, field 9 of proc_pid_stat(5)
  return fields >> flags && (flags & kExiting) && poll(&ended, 1, kDiesMs) > 0;
}

Error cannotWrite(const std::string& stateDir, const std::string& path) {
  const int number = errno;
  Error error = errnoError(number, path);
  if (number == EROFS) error.message = stateDir + ": the disk is read-only. A peer's state folder must be writable; --state DIR names another";
  if (number == EACCES || number == EPERM)
    error.message = stateDir + ": this user may not write there. Run it as the user who made this peer, or name another with --state DIR";
  return error;
}

Result<OwnedFd> lockState(const std::string& stateDir) {
  const std::string path = stateDir + "/lock";
  OwnedFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (fd.get() < 0) return cannotWrite(stateDir, path);
  bool locked = flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
  std::string pid;
  if (!locked) {
    if (errno != EWOULDBLOCK) return errnoError(errno, path);
    char text[32] = "";
    [[maybe_unused]] ssize_t got = pread(fd.get(), text, sizeof text - 1, 0);
    pid.assign(text, strcspn(text, "\n"));
    if (!pid.empty() && endsNow(std::atoi(pid.c_str()))) locked = flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
  }
  if (!locked) {
    return Error{Code::AlreadyRunning,
                 stateDir + ": another process" + (pid.empty() ? "" : " (pid " + pid + ")") + " runs this peer already; `realize status` asks it, `realize stop` ends it"};
  }
  pid = std::to_string(getpid()) + "\n";
  if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) != ssize_t(pid.size()))
    return errnoError(errno, path);
  return fd;
}

}  // namespace

// --- threads ------------------------------------------------------------------------------------------------------

struct EventHub::Sink {
  std::recursive_mutex mutex;  // held during a call; a sink may drop its own token
  std::function<void(const Event&)> call;
};

void EventHub::emit(Events events) {
  {
    std::lock_guard held(mutex_);
    if (sinks_.empty()) return;
    waitingEvents_ += events->size();
    waiting_.push_back({std::move(events)});
    while (waitingEvents_ > kMaxWaiting) {
      auto& [oldest, from] = waiting_.front();
      const size_t gone = std::min(waitingEvents_ - kMaxWaiting, oldest->size() - from);
      waitingEvents_ -= gone;
      from += gone;
      if (from == oldest->size()) waiting_.pop_front();
    }
    if (std::exchange(posted_, true)) return;
  }
  thread_.post([this] { deliver(); });
}

void EventHub::deliver() {
  std::deque<Waiting> waiting;
  std::vector<std::shared_ptr<Sink>> sinks;
  {
    std::lock_guard held(mutex_);
    waiting.swap(waiting_);
    waitingEvents_ = 0;
    posted_ = false;
    std::erase_if(sinks_, [](const auto& sink) { return sink.expired(); });
    for (auto& weak : sinks_)
      if (auto sink = weak.lock()) sinks.push_back(std::move(sink));
  }
  std::string key, name;  // Mostly the same peer's.
  Event named;            // Keeps its memory.
  for (const auto& [events, from] : waiting)
    for (size_t i = from; i < events->size(); ++i) {
      named = (*events)[i];
      if (!named.peer.empty() && named.peer != key) name = nameOf_(key = named.peer);
      if (!named.peer.empty()) named.peer = name;
      for (auto& sink : sinks) {
        std::lock_guard held(sink->mutex);
        if (sink->call) sink->call(named);
      }
    }
}

std::shared_ptr<void> EventHub::subscribe(std::function<void(const Event&)> call) {
  auto sink = std::make_shared<Sink>();
  sink->call = std::move(call);
  std::lock_guard held(mutex_);
  sinks_.push_back(sink);
  return std::shared_ptr<void>(sink.get(), [sink](void*) {
    std::lock_guard calling(sink->mutex);
    sink->call = nullptr;
  });
}

// --- life ---------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<PeerImpl>> PeerImpl::open(const std::string& stateDir) {
  char* real = realpath(stateDir.c_str(), nullptr);
  const std::string folder = real ? real : stateDir;
  free(real);
  if (access((folder + "/peer.db").c_str(), F_OK) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) return errnoError(errno, folder);
    return Error{Code::NotFound, stateDir + ": there is no peer here yet; make one with `realize init`"};
  }
  REALIZE_ASSIGN(auto lock, lockState(folder));
  REALIZE_ASSIGN(auto household, Household::open(folder + "/peer.db", systemClock(), systemRandom()));
  std::unique_ptr<PeerImpl> out(new PeerImpl(folder, std::move(lock), std::move(household)));
  REALIZE_TRY(out->start());
  return out;
}

PeerImpl::PeerImpl(std::string stateDir, OwnedFd lock, std::unique_ptr<Household> household)
    : stateDir_(std::move(stateDir)), lock_(std::move(lock)), life_(systemRandom().next64()),
      household_(std::move(household)), pool_(std::make_shared<Pool>()) {}

Result<void> PeerImpl::start() {
  self_->peer = this;
  loop_ = std::make_unique<loop::Loop>([](const std::string& text) { std::fprintf(stderr, "realize: %s\n", text.c_str()); });
  householdThread_ = std::make_unique<SerialThread>("realize-peerdb");
  watch_ = std::make_unique<FolderWatch>();
  sharedQuota_->setLimit(std::stoull("0" + household_->setting("", "cache_limit_bytes", "0")));
  const auto arenas = household_->view()->arenas;
  for (const auto& [id, row] : arenas) {
    auto run = runArena(row, false, !household_->value("joining " + id.hex()).empty(), Mark::None);
    if (run.ok()) continue;
    log("arena " + row.name + ": " + run.error().message);
    std::lock_guard held(mutex_);
    broken_.emplace(id, run.error());
  }
  loop_->run([&] {
    net::Limits limits;
    limits.maxQueuedBulkBytes = 64u << 20;  // What one well-behaved peer may have asked for, and more.
    local_.reset(new net::Local{*loop_, loop_->timer(), *pool_, household_->identity(), systemRandom(), limits});
    ConnectorHost& host = *this;
    connector_ = std::make_unique<Connector>(host, *local_, systemClock());
  });
  household_->onChanged([this] {
    refreshConnections();
    householdThread_->post([this] { reviewMembers(); });
  });
  audit_.configure(auditSettings());
  tell(Event{.whenNs = systemClock().nowNs(), .type = "started", .arena = "", .path = "", .peer = self().key.hex(), .detail = ""});
  hosts_ = machineHosts();
  householdThread_->post([this] { reviewMembers(); });
  auto listening = startListening();
  if (!listening.ok()) log(listening.error().message);
  refreshConnections();
  tendLater();
  return {};
}

PeerImpl::~PeerImpl() {
  {
    std::lock_guard held(self_->mutex);
    self_->peer = nullptr;
  }
  {
    std::lock_guard held(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  // Connections first, so that nothing new comes in; their ends are queued for the arenas, which then stop.
  if (connector_) loop_->run([&] { return connector_->shutdown(); });
  watch_ = nullptr;
  for (auto& arena : allHosted()) arena->close();
  if (householdThread_) householdThread_->stop();
  if (pool_) pool_->waitIdle();
  if (loop_) {
    loop_->run([&] {
      connector_ = nullptr;
      local_ = nullptr;
    });
  }
  arenas_.clear();
  events_.stop();
  if (loop_) audit_.note(Event{.whenNs = systemClock().nowNs(), .type = "stopped", .arena = "", .path = "",
                               .peer = household_->identity().key().hex(), .detail = ""});
  audit_.stop();
  loop_ = nullptr;
}

// --- what the connections ask -------------------------------------------------------------------------------------

std::map<ArenaId, RunningArena> PeerImpl::running() {
  std::map<ArenaId, RunningArena> out;
  std::lock_guard held(mutex_);
  for (const auto& [id, arena] : arenas_) out[id] = {arena, arena->life()};
  return out;
}

void PeerImpl::onHousehold(std::function<Result<void>()> work, std::function<void(Result<void>)> then) {
  householdThread_->post([this, work = std::move(work), then = std::move(then)]() mutable {
    auto outcome = std::make_shared<Result<void>>(work());
    // A callback may hold what lives on the loop: it ends there as well, so no copy of it stays here.
    loop_->post([then = std::move(then), outcome] { then(std::move(*outcome)); });
  });
}

Result<void> PeerImpl::merge(const PeerKey& from, const HouseholdRows& rows) {
  auto merged = household_->merge(from, rows);
  if (!merged.ok()) return merged.error();
  // Another peer's news may have changed our own row: only the name is others' to change.
  std::string address;
  {
    std::lock_guard held(mutex_);
    address = listening_;
  }
  const auto own = household_->view()->infoOf(household_->identity().key());
  if (address.empty() ? !own.address.empty() : own.address.empty()) return household_->setOwnAddress(dialableAddress(address));
  return {};
}

Result<void> PeerImpl::admitJoiner(const net::InviteSecret& secret, const PeerKey& key, const std::string& name,
                                   const std::string& address) {
  return household_->admitJoiner(secret, key, name, address);
}

void PeerImpl::useInvite(const net::InviteSecret& secret, const PeerKey& by, std::function<void(Result<void>)> then) {
  onHousehold([this, secret, by] { return household_->useInvite(secret, by); }, std::move(then));
}

void PeerImpl::tell(Events events) {
  audit_.note(events);
  events_.emit(std::move(events));
}

void PeerImpl::peerConnected(const PeerKey& key) {
  tell(Event{.whenNs = systemClock().nowNs(), .type = "connected", .arena = "", .path = "", .peer = key.hex(), .detail = ""});
  std::lock_guard held(mutex_);
  ++changes_;
  changed_.notify_all();
}

void PeerImpl::peerProven(const net::DhBinding& binding) {
  const auto known = view();
  auto row = known->roster.find(binding.key);
  if (row == known->roster.end() || row->second.dhKey == binding.dh.bytes) return;
  onHousehold([this, binding] { return household_->noteHandshakeKey(binding); }, [](Result<void>) {});
}

void PeerImpl::peerDisconnected(const PeerKey& key, const std::string& why) {
  tell(Event{.whenNs = systemClock().nowNs(), .type = "disconnected", .arena = "", .path = "", .peer = key.hex(), .detail = why});
  std::lock_guard held(mutex_);
  ++changes_;
  changed_.notify_all();
}

void PeerImpl::twinsChanged(const PeerKey& key, bool twins) {
  const bool own = key == view()->self;
  if (own && twins) {
    householdThread_->post([this] {
      for (auto& arena : allHosted()) {
        auto begun = arena->locked([](ArenaCore& core) -> Result<void> {
          core.beginLife();
          return {};
        });
        (void)begun;  // A closed arena changes nothing.
      }
    });
  }
  const std::string whose = own ? "this peer" : view()->nameOf(key);
  const std::string what = twins ? "another running process has the identity of " + whose + ": a state folder was copied"
                                 : "only one process has the identity of " + whose + " again";
  log(what);
  tell(Event{.whenNs = systemClock().nowNs(), .type = "problem", .arena = "", .path = "", .peer = key.hex(), .detail = what});
}

void PeerImpl::log(const std::string& text) { loop_->log(text); }

void PeerImpl::refreshConnections() {
  {
    std::lock_guard held(mutex_);
    ++changes_;
    changed_.notify_all();
    if (stopping_ || refreshPosted_) return;
    refreshPosted_ = true;
  }
  loop_->post([this] {
    {
      std::lock_guard held(mutex_);
      refreshPosted_ = false;
    }
    if (connector_) connector_->refresh();
  });
}

/// Arenas need not wait for the agreement of those who are members no more.
void PeerImpl::reviewMembers() {
  const auto view = household_->view();
  for (auto& arena : allHosted()) {
    auto reviewed = arena->locked([&](ArenaCore& core) -> Result<void> {
      std::set<PeerKey> admitted;
      for (const auto& [key, row] : view->admissions)
        if (key.first == arena->id() && view->isAdmitted(key.first, key.second)) admitted.insert(key.second);
      core.core().exchange->setMembers(std::move(admitted));
      return {};
    });
    (void)reviewed;  // A closed or failing arena says so itself.
  }
}

std::map<PeerKey, PeerConnection> PeerImpl::connections() {
  return loop_->run([&] { return connector_->status(); });
}

// --- what is tried again -------------------------------------------------------------------------------------------

void PeerImpl::tendLater() {
  loop_->post([this] {
    loop_->detach(loop_->timer().afterDelay(kTendEvery).then([this] { householdThread_->post([this] { tend(); }); }));
  });
}

/// What could not be done for a reason that may pass is tried again. On the household's thread.
void PeerImpl::tend() {
  bool deaf = false;
  {
    std::lock_guard held(mutex_);
    if (stopping_) return;
    deaf = listening_.empty();
  }
  auto recovered = household_->recover();
  (void)recovered;  // Its status says so.
  openBroken();
  followAddresses();
  for (auto& arena : allHosted()) {
    auto looked = arena->locked([](ArenaCore& core) -> Result<void> {
      core.core().folder->reviewRoot();
      return {};
    });
    (void)looked;  // A closed or failing arena says so itself.
  }
  if (deaf && !household_->listenAddress().empty()) {
    auto listening = startListening();
    (void)listening;  // As it was; said at the start.
  }
  tendLater();
}

/// Arenas that could not be opened, unless only people can mend them.
void PeerImpl::openBroken() {
  std::unique_lock one(changing_, std::try_to_lock);
  if (!one.owns_lock()) return;
  std::map<ArenaId, Error> broken;
  {
    std::lock_guard held(mutex_);
    broken = broken_;
  }
  for (const auto& [id, error] : broken) {
    if (error.code == Code::Corrupt || error.code == Code::WrongVersion) continue;
    const auto arenas = household_->view()->arenas;
    auto row = arenas.find(id);
    if (row == arenas.end()) continue;
    auto run = runArena(row->second, false, !household_->value("joining " + id.hex()).empty(), Mark::None);
    {
      std::lock_guard held(mutex_);
      if (run.ok()) broken_.erase(id);
      else broken_.insert_or_assign(id, run.error());
    }
    if (!run.ok()) continue;
    log("arena " + row->second.name + ": could be opened now");
    reviewMembers();
    refreshConnections();
  }
}

// --- the household ------------------------------------------------------------------------------------------------

PeerInfo PeerImpl::self() {
  const auto view = household_->view();
  return view->infoOf(view->self);
}

std::vector<PeerInfo> PeerImpl::peers() { return household_->view()->peers(); }

Result<std::string> PeerImpl::invite(const InviteOptions& options) {
  std::string listening;
  {
    std::lock_guard held(mutex_);
    listening = listening_;
  }
  if (listening.empty())
    return Error{Code::Refused, "this peer does not listen, so nobody could join through it; invite from the other side, or "
                                "let it listen first: `realize config listen HOST:PORT` (or `realize init --listen`)"};
  return household_->makeInvite(options, allAddresses(listening));
}

Result<std::vector<std::string>> PeerImpl::join(const std::string& code) {
  REALIZE_ASSIGN(auto invite, net::decodeInvite(code, systemClock().nowNs()));
  const PeerKey inviter = invite.inviter;
  if (inviter == household_->identity().key())
    return Error{Code::InvalidArgument, "this invite was made by this very peer: use it on another machine"};
  Result<void> paired = loop_->run([&] { return connector_->pair(std::move(invite)); });
  if (!paired.ok()) return paired.error();
  refreshConnections();
  const auto view = household_->view();
  std::vector<std::string> out;
  for (const auto& [id, name] : view->sharedWith(inviter))
    if (!view->arenas.contains(id)) out.push_back(name);
  std::sort(out.begin(), out.end());
  return out;
}

Result<void> PeerImpl::addPeer(const std::string& name, const std::string& keyHex, const std::string& address) {
  REALIZE_ASSIGN(auto key, net::parsePeerKey(keyHex));
  return household_->addPeer(name, key, address);
}

Result<void> PeerImpl::removePeer(const std::string& nameOrKey) {
  auto removed = household_->removePeer(nameOrKey);
  if (!removed.ok()) return removed.error();
  // Cut off when this returns.
  loop_->run([&] { connector_->refresh(); });
  return {};
}

std::shared_ptr<void> PeerImpl::subscribe(std::function<void(const Event&)> sink) {
  return events_.subscribe(std::move(sink));
}

std::string PeerImpl::nameOfKeyHex(const std::string& hex) {
  auto key = net::parsePeerKey(hex);
  return key.ok() ? household_->view()->nameOf(*key) : hex;
}

}  // namespace realize::peer
