#include "frontends/daemon/daemon.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>

#include "frontends/daemon/control_protocol.h"
#include "frontends/daemon/verbs.h"

namespace realize::daemon {

using nlohmann::json;

namespace {

constexpr int kHousekeepingMs = 10'000;
constexpr auto kStopPatience = std::chrono::seconds(10);

/// One request's way to its client.
class SocketReply : public Reply {
 public:
  SocketReply(int fd, uint64_t id, const std::atomic<bool>& stopping) : fd_(fd), id_(id), stopping_(stopping) {}

  bool progress(const json& value) override { return part("progress", value); }
  bool event(const json& value) override { return part("event", value); }
  bool items(const json& values) override { return part("items", values); }
  bool raw(std::span<const std::byte> bytes) override {
    return part("raw", bytes.size()) && sent(sendAll(fd_, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  }
  bool wanted() override { return !gone_ && !stopping_.load() && !hungUp(fd_); }
  int descriptor() const override { return fd_; }

  bool finish(const Result<json>& result) {
    json line = {{"id", id_}, {"ok", result.ok()}};
    if (result) line["result"] = *result;
    else line["error"] = errorToJson(result.error());
    return sent(sendAll(fd_, toLine(line) + "\n"));
  }

 private:
  bool part(const char* key, const json& value) {
    if (!wanted()) return false;
    return sent(sendAll(fd_, toLine(json{{"id", id_}, {key, value}}) + "\n"));
  }
  bool sent(const Result<void>& result) {
    if (!result) gone_ = true;
    return result.ok();
  }

  int fd_;
  uint64_t id_;
  const std::atomic<bool>& stopping_;
  bool gone_ = false;
};

}  // namespace

struct Daemon::Client {
  explicit Client(Fd socketFd) : fd(std::move(socketFd)) {}
  Fd fd;
  std::thread thread;
  std::atomic<bool> done{false};
};

Daemon::Daemon(std::string stateDir, Log& log)
    : stateDir_(std::move(stateDir)), log_(log), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Daemon::~Daemon() {
  stopping_ = true;
  shutDown();
  // Whoever destroys us wants all threads gone, however long they take.
  for (auto& client : clients_)
    if (client->thread.joinable()) client->thread.join();
}

Result<std::unique_ptr<Daemon>> Daemon::start(const std::string& stateDir, const Library& library, Log& log) {
  std::unique_ptr<Daemon> self(new Daemon(stateDir, log));
  if (!self->wake_) return Error{Code::Io, std::string("eventfd: ") + std::strerror(errno)};
  REALIZE_ASSIGN(self->peer_, library.open(stateDir));
  Daemon* daemon = self.get();
  self->mounts_ = std::make_unique<MountTable>(*self->peer_, library.mount, stateDir, [daemon] { daemon->wake(); });
  self->events_ = self->peer_->subscribe([daemon](const Event& event) { daemon->logEvent(event); });
  REALIZE_ASSIGN(self->listener_, listenControl(stateDir));
  self->mounts_->restore();
  for (auto& lost : self->mounts_->lost()) log.line(printable(lost.mount.mountPoint) + ": was not mounted again: " + lost.why);
  auto me = self->peer_->self();
  log.line("peer '" + me.name + "' is up (version " + library.version + "), " +
           (me.address.empty() ? "not listening" : "listening on " + me.address));
  return self;
}

void Daemon::logEvent(const Event& event) {
  // A line for every file would bury what an operator looks for.
  for (auto quiet : {"change", "remove", "move", "create", "edit", "real", "unreal"})
    if (event.type == quiet) return;
  std::string text = event.type;
  if (!event.peer.empty()) text += " peer '" + event.peer + "'";
  if (!event.arena.empty()) text += " " + event.arena + ":" + printable(event.path);
  if (!event.detail.empty()) text += ": " + event.detail;
  log_.line(text);
}

void Daemon::wake() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t n = write(wake_.get(), &one, sizeof one);
}

void Daemon::requestStop() {
  stopping_ = true;
  wake();
}

bool Daemon::run(int stopFd) {
  while (!stopping_) {
    pollfd entries[] = {{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}, {stopFd, POLLIN, 0}};
    int n = poll(entries, 3, kHousekeepingMs);
    if (n < 0 && errno != EINTR) break;
    if (n > 0 && (entries[2].revents & POLLIN) != 0) break;
    if (n > 0 && (entries[1].revents & POLLIN) != 0) {
      uint64_t count = 0;
      [[maybe_unused]] ssize_t got = read(wake_.get(), &count, sizeof count);
    }
    mounts_->reap();
    reapClients();
    log_.checkSize();
    if (n > 0 && (entries[0].revents & POLLIN) != 0) accept();
  }
  stopping_ = true;
  log_.line("stopping");
  bool clean = shutDown();
  log_.line(clean ? "stopped" : "stopped, with a call still under way");
  return clean;
}

void Daemon::accept() {
  Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd) {
    // Out of descriptors: poll would report the same connection at once, for ever.
    if (errno == EMFILE || errno == ENFILE) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return;
  }
  auto who = peerIdentity(fd.get());
  if (!who || !mayCommand(who->uid, geteuid())) {
    log_.line("a control client of another user was sent away");
    return;
  }
  if (clients_.size() >= kMaxClients) {
    json line = {{"id", 0}, {"ok", false}, {"error", errorToJson({Code::Busy, "too many clients; try again"})}};
    std::string text = toLine(line) + "\n";
    [[maybe_unused]] ssize_t n = send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return;
  }
  auto& client = *clients_.emplace_back(std::make_unique<Client>(std::move(fd)));
  client.thread = std::thread([this, &client] {
    pthread_setname_np(pthread_self(), "realize-client");
    serve(client);
    client.done = true;
    wake();
  });
}

void Daemon::serve(Client& client) {
  LineReader reader(client.fd.get(), kMaxRequestBytes);
  while (!stopping_) {
    auto line = reader.line();
    if (line && !*line) break;
    Result<Request> request = line ? parseRequest(**line) : Result<Request>(line.error());
    SocketReply reply(client.fd.get(), request ? request->id : 0, stopping_);
    if (!request) {
      // After nonsense, where the next request begins is anybody's guess.
      reply.finish(request.error());
      break;
    }
    VerbContext context{*peer_, *mounts_, reply};
    bool sent = reply.finish(runVerb(context, *request));
    if (context.stopAfterwards) requestStop();
    if (!sent) break;
  }
  shutdown(client.fd.get(), SHUT_RDWR);
}

void Daemon::reapClients() {
  clients_.remove_if([](auto& client) {
    if (!client->done) return false;
    client->thread.join();
    return true;
  });
}

bool Daemon::shutDown() {
  if (listener_) {
    listener_.reset();
    unlink((stateDir_ + "/socket").c_str());
  }
  if (mounts_) mounts_->endAll();
  for (auto& client : clients_) shutdown(client->fd.get(), SHUT_RDWR);
  auto deadline = std::chrono::steady_clock::now() + kStopPatience;
  while (!clients_.empty() && std::chrono::steady_clock::now() < deadline) {
    reapClients();
    if (clients_.empty()) break;
    pollfd entry{wake_.get(), POLLIN, 0};
    poll(&entry, 1, 100);
    uint64_t count = 0;
    [[maybe_unused]] ssize_t n = read(wake_.get(), &count, sizeof count);
  }
  if (!clients_.empty()) return false;
  events_.reset();
  mounts_.reset();
  peer_.reset();
  return true;
}

}  // namespace realize::daemon
