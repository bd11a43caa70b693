#pragma once

// A secured connection to one peer: Cap'n Proto both ways, and bulk frames beside it. How it is made secure stands in
// greeting.h and record.h.

#include <capnp/capability.h>
#include <kj/async.h>

#include <functional>
#include <memory>
#include <string>

#include "librealize/net/backoff.h"
#include "librealize/net/bulk.h"
#include "librealize/net/transport.h"
#include "realize/result.h"

namespace realize::net {

/// Thread: the loop's, but for bulk()'s object and the counters, which any thread may use. Lifetime: destroying it
/// closes it; capabilities got through it then fail with DISCONNECTED. A bulk handler may still be running then: wait for
/// onClosed() before destroying what the handler uses.
class Connection {
 public:
  explicit Connection(const Local& local, std::unique_ptr<Transport> transport, bool dialled);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Proven by the handshake.
  const PeerKey& remoteKey() const;
  /// The other's handshake key, signed by it: for the next dial's Expected::dh.
  const DhBinding& remoteBinding() const;
  /// "address:port" of the socket's other end.
  const std::string& remoteAddress() const;
  /// The address of the socket's own end.
  const std::string& localHost() const;
  bool dialled() const { return dialled_; }

  /// Once: exports `service` to the other peer and begins to read. Nothing that came earlier is lost.
  void start(capnp::Capability::Client service, BulkHandler onBulk);
  /// What the other peer exports. After start().
  capnp::Capability::Client bootstrap();
  /// For sending bulk frames from any thread, also after this connection is gone (then Unreachable).
  const std::shared_ptr<BulkSender>& bulk() const;

  /// Once: resolves when closed, by whichever side, and the last bulk handler has returned. Never breaks.
  kj::Promise<void> onClosed();
  bool closed() const;
  /// Why, once closed.
  const Error& closeReason() const;
  /// Tells the other side the reason, if it can be told at once, and closes.
  void close(const std::string& reason);

  /// On the wire, with everything. Thread: any.
  uint64_t sentBytes() const;
  uint64_t receivedBytes() const;

 private:
  struct Rpc;
  const Local& local_;
  const bool dialled_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Rpc> rpc_;
};

/// Connects to `address` ("host:port") and to nobody but `expected.key`; dropping the promise gives up. Never breaks.
/// Errors: InvalidArgument (address), Unreachable (nobody there), TimedOut, Refused (another peer answers there, or it
/// does not want us), WrongVersion, Corrupt (something else listens there). Thread: the loop's. Lifetime: `local` outlives
/// the connection.
kj::Promise<Result<std::unique_ptr<Connection>>> dial(const Local& local, std::string address, Expected expected);

/// Listens, and hands over connections whose peers `authorize` welcomes. Failed and refused handshakes end in `log`.
/// Thread: the loop's. Lifetime: destroying it closes the port and unfinished handshakes, not the connections.
class Listener {
 public:
  using OnConnection = std::function<void(std::unique_ptr<Connection>)>;
  using Log = std::function<void(const std::string&)>;

  /// `address` as loop::Acceptor::listen() takes it; its errors too.
  static Result<std::unique_ptr<Listener>> listen(const Local& local, const std::string& address, Authorize authorize,
                                                  OnConnection onConnection, Log log = {});
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  /// "address:port", with the port that the kernel chose.
  std::string address() const;
  size_t pendingHandshakes() const;

 private:
  class Impl;
  explicit Listener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace realize::net
