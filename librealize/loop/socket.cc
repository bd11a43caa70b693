#include "librealize/loop/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <utility>

#include "librealize/loop/failure.h"

namespace realize::loop {
namespace {

constexpr auto kDisconnected = kj::Exception::Type::DISCONNECTED;

std::string errnoText(int error) { return strerrordesc_np(error) ? strerrordesc_np(error) : "unknown error"; }

template <typename Handle>
void closeAndFree(Handle* handle) {
  uv_close(reinterpret_cast<uv_handle_t*>(&handle->uv),
           [](uv_handle_t* closed) { delete static_cast<Handle*>(closed->data); });
}

std::vector<SocketAddress> addressesOf(const addrinfo* list) {
  std::vector<SocketAddress> out;
  for (; list; list = list->ai_next) {
    if (list->ai_family != AF_INET && list->ai_family != AF_INET6) continue;
    SocketAddress a;
    memcpy(&a.storage, list->ai_addr, list->ai_addrlen);
    a.length = list->ai_addrlen;
    out.push_back(a);
  }
  return out;
}

addrinfo streamHints(int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  return hints;
}

/// On the calling thread; without AI_NUMERICHOST in `flags` this may ask a name server.
std::vector<SocketAddress> lookUpNow(const HostPort& where, int flags) {
  addrinfo hints = streamHints(flags);
  addrinfo* list = nullptr;
  auto port = std::to_string(where.port);
  if (getaddrinfo(where.host.empty() ? nullptr : where.host.c_str(), port.c_str(), &hints, &list) != 0) return {};
  auto out = addressesOf(list);
  freeaddrinfo(list);
  return out;
}

using Addresses = std::vector<SocketAddress>;

/// A look-up on libuv's threads.
class LookUp {
 public:
  LookUp(kj::PromiseFulfiller<Addresses>& fulfiller, Loop& loop, const HostPort& where) : fulfiller_(fulfiller) {
    request_ = new Request{{}, this};
    request_->uv.data = request_;
    addrinfo hints = streamHints(0);
    auto port = std::to_string(where.port);
    if (uv_getaddrinfo(loop.uv(), &request_->uv, done, where.host.c_str(), port.c_str(), &hints) != 0) {
      delete std::exchange(request_, nullptr);
      fulfiller_.reject(failure(kDisconnected, "cannot look up names"));
    }
  }
  ~LookUp() noexcept {
    if (!request_) return;
    request_->owner = nullptr;
    uv_cancel(reinterpret_cast<uv_req_t*>(&request_->uv));
  }

 private:
  struct Request {
    uv_getaddrinfo_t uv;
    LookUp* owner;
  };

  static void done(uv_getaddrinfo_t* uv, int status, addrinfo* list) {
    auto* request = static_cast<Request*>(uv->data);
    if (LookUp* self = request->owner) {
      self->request_ = nullptr;
      if (status != 0)
        self->fulfiller_.reject(failure(kDisconnected, std::string("the name is not known: ") + uv_strerror(status)));
      else
        self->fulfiller_.fulfill(addressesOf(list));
    }
    uv_freeaddrinfo(list);
    delete request;
  }

  kj::PromiseFulfiller<Addresses>& fulfiller_;
  Request* request_;
};

/// One connect(2) under way.
class Connecting {
 public:
  Connecting(kj::PromiseFulfiller<kj::AutoCloseFd>& fulfiller, Loop& loop, const SocketAddress& to)
      : fulfiller_(fulfiller), fd_(socket(to.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    start(loop, to);
  }
  ~Connecting() noexcept { stop(); }

 private:
  struct Poll {
    uv_poll_t uv;
    Connecting* owner;
  };

  void start(Loop& loop, const SocketAddress& to) {
    if (fd_.get() < 0) return fail(errno);
    int one = 1;
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.length) == 0)
      return fulfiller_.fulfill(kj::mv(fd_));
    if (errno != EINPROGRESS) return fail(errno);
    poll_ = new Poll{{}, this};
    poll_->uv.data = poll_;
    if (uv_poll_init(loop.uv(), &poll_->uv, fd_.get()) != 0) {
      delete std::exchange(poll_, nullptr);
      return fail(ENOMEM);
    }
    uv_poll_start(&poll_->uv, UV_WRITABLE, [](uv_poll_t* uv, int, int) {
      if (Connecting* self = static_cast<Poll*>(uv->data)->owner) self->finished();
    });
  }
  void stop() {
    if (!poll_) return;
    poll_->owner = nullptr;
    closeAndFree(std::exchange(poll_, nullptr));
  }
  void finished() {
    int error = 0;
    socklen_t length = sizeof(error);
    if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
    stop();
    if (error != 0) return fail(error);
    fulfiller_.fulfill(kj::mv(fd_));
  }
  void fail(int error) {
    fulfiller_.reject(failure(kDisconnected, errnoText(error)));
  }

  kj::PromiseFulfiller<kj::AutoCloseFd>& fulfiller_;
  kj::AutoCloseFd fd_;
  Poll* poll_ = nullptr;
};

/// Each address gets an equal share of the time, so that one which swallows packets leaves some for the next.
kj::Promise<kj::AutoCloseFd> connectFirst(Loop& loop, std::shared_ptr<Addresses> list, size_t index, kj::Timer& timer,
                                          kj::Duration share) {
  if (index >= list->size()) return failure(kDisconnected, "the name has no address");
  return timer.timeoutAfter(share, kj::newAdaptedPromise<kj::AutoCloseFd, Connecting>(loop, (*list)[index]))
      .catch_([&loop, list, index, &timer, share](kj::Exception&& e) -> kj::Promise<kj::AutoCloseFd> {
        if (index + 1 == list->size()) return kj::mv(e);
        return connectFirst(loop, list, index + 1, timer, share);
      });
}

}  // namespace

uint16_t SocketAddress::port() const {
  if (storage.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);
  if (storage.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(storage).sin6_port);
  return 0;
}

std::string SocketAddress::text() const {
  char host[NI_MAXHOST];
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&storage), length, host, sizeof(host), nullptr, 0, NI_NUMERICHOST) != 0)
    return "?";
  std::string name = storage.ss_family == AF_INET6 ? "[" + std::string(host) + "]" : std::string(host);
  return name + ":" + std::to_string(port());
}

Result<HostPort> parseHostPort(const std::string& text) {
  Error bad{Code::InvalidArgument, "\"" + text + "\" is not an address: HOST:PORT or [IPV6]:PORT is wanted"};
  HostPort out;
  size_t colon = text.rfind(':');
  if (colon == std::string::npos) return bad;
  out.host = text.substr(0, colon);
  if (!out.host.empty() && out.host.front() == '[') {
    if (out.host.size() < 3 || out.host.back() != ']') return bad;
    out.host = out.host.substr(1, out.host.size() - 2);
  } else if (out.host.find(':') != std::string::npos) {
    return bad;
  }
  if (out.host.find('\0') != std::string::npos || out.host.size() > 255) return bad;
  std::string digits = text.substr(colon + 1);
  if (digits.empty() || digits.size() > 5) return bad;
  uint32_t port = 0;
  for (char c : digits) {
    if (c < '0' || c > '9') return bad;
    port = port * 10 + uint32_t(c - '0');
  }
  if (port > 65535) return bad;
  out.port = uint16_t(port);
  return out;
}

kj::Promise<kj::AutoCloseFd> connectTcp(Loop& loop, const std::string& address, kj::Timer& timer, kj::Duration timeout) {
  auto where = parseHostPort(address);
  if (!where.ok() || where->host.empty() || where->port == 0)
    return failure(kj::Exception::Type::FAILED, "\"" + address + "\" is not an address to connect to");
  auto numeric = lookUpNow(*where, AI_NUMERICHOST | AI_NUMERICSERV);
  kj::Promise<Addresses> found = numeric.empty() ? kj::newAdaptedPromise<Addresses, LookUp>(loop, *where)
                                                 : kj::Promise<Addresses>(kj::mv(numeric));
  auto connected = found.then([&loop, &timer, timeout](Addresses&& list) {
    auto share = timeout / int64_t(std::max<size_t>(1, list.size()));
    return connectFirst(loop, std::make_shared<Addresses>(kj::mv(list)), 0, timer, share);
  });
  return timer.timeoutAfter(timeout, kj::mv(connected));
}

struct Socket::Poll {
  uv_poll_t uv;
  Socket* owner;
};

Socket::Socket(Loop& loop, kj::AutoCloseFd fd, Observer& observer)
    : loop_(loop), fd_(kj::mv(fd)), observer_(observer), poll_(new Poll{{}, this}) {
  int one = 1;
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  // Little waits unsent in the kernel, so that what is urgent need not queue behind bulk there.
  int unsentBytes = 256 * 1024;
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsentBytes, sizeof(unsentBytes));
  poll_->uv.data = poll_;
  if (uv_poll_init(loop_.uv(), &poll_->uv, fd_.get()) != 0) {
    delete std::exchange(poll_, nullptr);
    kj::throwFatalException(failure(kj::Exception::Type::FAILED, "cannot poll the socket"));
  }
}

Socket::~Socket() {
  poll_->owner = nullptr;
  closeAndFree(poll_);
}

void Socket::wantRead(bool on) {
  if (std::exchange(wantRead_, on) != on) update();
}

void Socket::wantWrite(bool on) {
  if (std::exchange(wantWrite_, on) != on) update();
}

void Socket::update() {
  int events = (wantRead_ ? UV_READABLE : 0) | (wantWrite_ ? UV_WRITABLE : 0);
  if (events == 0) {
    uv_poll_stop(&poll_->uv);
    return;
  }
  uv_poll_start(&poll_->uv, events, [](uv_poll_t* uv, int status, int ready) {
    auto* poll = static_cast<Poll*>(uv->data);
    // After an error libuv stops polling; the observer's next receive or send learns which error it was.
    if (status != 0) ready = UV_READABLE | UV_WRITABLE;
    if (poll->owner && (ready & UV_WRITABLE)) poll->owner->observer_.socketWritable();
    if (poll->owner && (ready & UV_READABLE)) poll->owner->observer_.socketReadable();
  });
}

Result<std::optional<size_t>> Socket::receive(const iovec* parts, size_t count) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  for (;;) {
    ssize_t n = recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    if (n >= 0) return std::optional<size_t>(size_t(n));
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::optional<size_t>();
    return Error{Code::Unreachable, "the connection broke: " + errnoText(errno)};
  }
}

Result<size_t> Socket::send(const iovec* parts, size_t count) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  for (;;) {
    ssize_t n = sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) return size_t(n);
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return size_t(0);
    return Error{Code::Unreachable, "the connection broke: " + errnoText(errno)};
  }
}

std::string Socket::remoteText() const {
  SocketAddress a;
  a.length = sizeof(a.storage);
  if (getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&a.storage), &a.length) != 0) return "?";
  return a.text();
}

std::string Socket::localHost() const {
  SocketAddress a;
  a.length = sizeof(a.storage);
  if (getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&a.storage), &a.length) != 0) return "";
  auto parsed = parseHostPort(a.text());
  if (!parsed.ok()) return "";
  std::string host = parsed->host.substr(0, parsed->host.find('%'));
  constexpr std::string_view kMapped = "::ffff:";
  return host.starts_with(kMapped) && host.find('.') != std::string::npos ? host.substr(kMapped.size()) : host;
}

struct Acceptor::Poll {
  uv_poll_t uv;
  Acceptor* owner;
};

Result<std::unique_ptr<Acceptor>> Acceptor::listen(Loop& loop, const std::string& address, OnAccept onAccept) {
  REALIZE_ASSIGN(HostPort where, parseHostPort(address));
  auto list = lookUpNow(where, AI_PASSIVE);
  std::stable_partition(list.begin(), list.end(),
                        [](const SocketAddress& a) { return a.storage.ss_family == AF_INET6; });
  Error last{Code::InvalidArgument, "\"" + address + "\" is not known on this machine"};
  for (const auto& a : list) {
    kj::AutoCloseFd fd(socket(a.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    int on = 1;
    int off = 0;
    if (fd.get() >= 0) {
      setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
      if (a.storage.ss_family == AF_INET6) {
        // "Any" takes both families (IPv6 comes first in the list; IPv4 is tried where that fails).
        setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, where.host.empty() ? &off : &on, sizeof(int));
      }
      SocketAddress bound;
      bound.length = sizeof(bound.storage);
      if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&a.storage), a.length) == 0 && ::listen(fd.get(), 128) == 0 &&
          getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) == 0)
        return std::unique_ptr<Acceptor>(new Acceptor(loop, kj::mv(fd), bound, std::move(onAccept)));
    }
    Code code = errno == EADDRINUSE ? Code::Busy : errno == EACCES ? Code::PermissionDenied : Code::Io;
    last = Error{code, "cannot listen on " + a.text() + ": " + errnoText(errno)};
  }
  return last;
}

Acceptor::Acceptor(Loop& loop, kj::AutoCloseFd fd, SocketAddress address, OnAccept onAccept)
    : loop_(loop), fd_(kj::mv(fd)), address_(address), onAccept_(std::move(onAccept)), poll_(new Poll{{}, this}) {
  poll_->uv.data = poll_;
  if (uv_poll_init(loop_.uv(), &poll_->uv, fd_.get()) != 0) {
    delete std::exchange(poll_, nullptr);
    kj::throwFatalException(failure(kj::Exception::Type::FAILED, "cannot poll the socket"));
  }
  start();
}

Acceptor::~Acceptor() {
  poll_->owner = nullptr;
  closeAndFree(poll_);
}

void Acceptor::start() {
  uv_poll_start(&poll_->uv, UV_READABLE, [](uv_poll_t* uv, int, int) {
    if (Acceptor* self = static_cast<Poll*>(uv->data)->owner) self->ready();
  });
}

void Acceptor::ready() {
  // A bound per turn, so that a flood of connections leaves the others their share.
  for (int i = 0; i < 16; ++i) {
    int fd = accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      Poll* poll = poll_;
      Loop& loop = loop_;
      // Nothing may be thrown through libuv's frames.
      KJ_IF_MAYBE(e, kj::runCatchingExceptions([&] { onAccept_(kj::AutoCloseFd(fd)); }))
        loop.log(std::string("cannot take a connection: ") + e->getDescription().cStr());
      if (!poll->owner) return;
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
      // Out of descriptors or memory: the connection stays in the kernel's queue; asking again at once would spin.
      uv_poll_stop(&poll_->uv);
      pause_ = loop_.timer().afterDelay(100 * kj::MILLISECONDS).then([this] { start(); }).eagerlyEvaluate(nullptr);
    }
    return;
  }
}

}  // namespace realize::loop
