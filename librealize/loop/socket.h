#pragma once

// TCP on the loop: addresses, connecting, listening, and a socket that says when it can be read or written.

#include <kj/async.h>
#include <kj/io.h>
#include <kj/timer.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "librealize/loop/loop.h"
#include "realize/result.h"

namespace realize::loop {

/// An IPv4 or IPv6 address with a port.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  uint16_t port() const;
  /// "192.0.2.1:80" or "[2001:db8::1]:80".
  std::string text() const;
};

struct HostPort {
  std::string host;  ///< without brackets; empty: any
  uint16_t port = 0;
};

/// Takes "host:port", "1.2.3.4:port", "[v6]:port", ":port". Errors: InvalidArgument. Thread: any.
Result<HostPort> parseHostPort(const std::string& text);

/// Connects to the first address of `address` ("host:port") that answers, names looked up off the loop. Broken with
/// DISCONNECTED (nobody answered), OVERLOADED (not before `timeout` ended) or FAILED (bad address); dropping the promise
/// gives up. Thread: the loop's.
kj::Promise<kj::AutoCloseFd> connectTcp(Loop& loop, const std::string& address, kj::Timer& timer, kj::Duration timeout);

/// A connected, non-blocking stream socket. Never raises SIGPIPE. Thread: the loop's; it may be destroyed inside a call
/// of its observer.
class Socket {
 public:
  /// Its functions must not throw: they are called from libuv.
  class Observer {
   public:
    virtual ~Observer() = default;
    /// Asked for by wantRead(); comes again as long as there is something (or the end) to read.
    virtual void socketReadable() = 0;
    /// Asked for by wantWrite().
    virtual void socketWritable() = 0;
  };

  Socket(Loop& loop, kj::AutoCloseFd fd, Observer& observer);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  void wantRead(bool on);
  void wantWrite(bool on);
  /// nullopt: nothing there now; 0: the other side has ended its stream. Errors: Unreachable.
  Result<std::optional<size_t>> receive(const iovec* parts, size_t count);
  /// How much the kernel took, perhaps 0. Errors: Unreachable.
  Result<size_t> send(const iovec* parts, size_t count);
  std::string remoteText() const;
  /// The own end's address without port and scope, an IPv4 one as such also through IPv6; empty where unknown.
  std::string localHost() const;

 private:
  struct Poll;
  void update();

  Loop& loop_;
  kj::AutoCloseFd fd_;
  Observer& observer_;
  Poll* poll_;  // Frees itself once libuv lets go of it.
  bool wantRead_ = false;
  bool wantWrite_ = false;
};

/// A listening port. Thread: the loop's.
class Acceptor {
 public:
  using OnAccept = std::function<void(kj::AutoCloseFd)>;

  /// `address` as parseHostPort() takes it; port 0 lets the kernel choose; a name is looked up at once and may
  /// block for it. Errors: InvalidArgument, Busy (the port is taken), PermissionDenied, Io.
  static Result<std::unique_ptr<Acceptor>> listen(Loop& loop, const std::string& address, OnAccept onAccept);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  /// With the port that the kernel chose.
  const SocketAddress& address() const { return address_; }

 private:
  struct Poll;
  Acceptor(Loop& loop, kj::AutoCloseFd fd, SocketAddress address, OnAccept onAccept);
  void start();
  void ready();

  Loop& loop_;
  kj::AutoCloseFd fd_;
  SocketAddress address_;
  OnAccept onAccept_;
  Poll* poll_;
  kj::Promise<void> pause_ = nullptr;
};

}  // namespace realize::loop
