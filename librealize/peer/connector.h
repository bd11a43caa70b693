#pragma once

// Who this peer is connected to: listening, dialling every peer with an address again and again, one connection each.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "librealize/net/backoff.h"
#include "librealize/net/connection.h"
#include "librealize/peer/lives.h"
#include "librealize/peer/peer_session.h"

namespace realize::peer {

/// What the connector tells and asks its peer, beside SessionHost. Thread: the loop's.
class ConnectorHost : public SessionHost {
 public:
  /// Someone who is no member shows this. Runs on the household's thread; `then` on the loop.
  virtual void useInvite(const net::InviteSecret& secret, const PeerKey& by, std::function<void(Result<void>)> then) = 0;
  virtual void peerConnected(const PeerKey& key) = 0;
  /// It has proven this in a handshake that led to a connection.
  virtual void peerProven(const net::DhBinding& binding) = 0;
  virtual void peerDisconnected(const PeerKey& key, const std::string& why) = 0;
  /// Two running processes were found to have the identity of `key`, which may be our own; or that has ended.
  virtual void twinsChanged(const PeerKey& key, bool twins) = 0;
  virtual void log(const std::string& text) = 0;
};

struct PeerConnection {
  bool connected = false;
  bool trying = false;         ///< a dial is under way
  int64_t sinceNs = 0;         ///< Unix time
  std::string lastError;
  bool refuses = false;        ///< it was reached at the last try, and did not want us
  uint64_t sentBytes = 0;      ///< of all connections of this process
  uint64_t receivedBytes = 0;
  size_t openArenas = 0;
  bool twins = false;          ///< two running processes have its identity: nothing is sent to them or taken
};

/// Thread: the loop's. Lifetime: after shutdown() has resolved it may be destroyed.
///
/// When two peers have dialled each other at once, the connection dialled by the smaller key stays: both sides see which
/// one that is. A new connection by the same dialer, or from another process of that peer, replaces the old one.
class Connector final {
 public:
  Connector(ConnectorHost& host, const net::Local& local, Clock& clock);
  ~Connector();

  /// Errors: as net::Listener::listen. Listens there instead of where it did before. Returns the address with its port.
  Result<std::string> listen(const std::string& address);
  void stopListening();
  std::string listening() const { return listener_ ? listener_->address() : ""; }

  /// The household, or the arenas run here, changed: dials newcomers, cuts off the removed, tells all sessions.
  void refresh();
  /// Dials now whom it would dial later.
  void hurry();
  /// The machine's addresses are these now, with new ones among them if `more`: what went through one that is gone is
  /// closed, without waiting for its silence; and others may be within reach now.
  void addressesChanged(const std::set<std::string>& hosts, bool more);
  /// Joins with an invite: tries its addresses in turn. Errors: Unreachable, Refused, TimedOut, ...
  kj::Promise<Result<void>> pair(net::Invite invite);

  std::map<PeerKey, PeerConnection> status() const;
  /// No new connections; ends all there are. Resolves when nothing of them runs any more.
  kj::Promise<void> shutdown();

  /// For PeerSession, by way of the host: one connection a peer.
  Result<void> sessionReady(PeerSession& session);
  void refusedBy(const PeerKey& key, uint64_t life);
  bool hasTwin(const PeerKey& key);
  void toldOfTwin(const PeerKey& by, bool twin);
  /// Who has met another running process with our identity. While there is one, nobody else is talked to.
  std::optional<PeerKey> ownTwinMetBy() const { return witness_; }

 private:
  struct Known;
  Known& known(const PeerKey& key);
  kj::Promise<bool> authorize(const PeerKey& key, Bytes admission);
  void accepted(std::unique_ptr<net::Connection> connection);
  std::shared_ptr<PeerSession> adopt(std::unique_ptr<net::Connection> connection, Admittance admittance,
                                     std::function<void(Result<void>)> ready);
  void ended(uint64_t number);
  void dial(const PeerKey& key);
  void dialLater(const PeerKey& key, const std::string& why);
  bool dialledBySmaller(const PeerSession& session) const;
  bool alone(PeerSession& session);
  void stopForTwin(const PeerKey& witness);
  void goOnAlone();
  int64_t nowMs() const { return (local_.timer.now() - kj::origin<kj::TimePoint>()) / kj::MILLISECONDS; }
  kj::Promise<Result<void>> pairAt(std::shared_ptr<net::Invite> invite, size_t index, int looks, Error last);
  kj::Promise<Result<void>> pairOtherwise(std::shared_ptr<net::Invite> invite, size_t index, int looks, Error failed);

  ConnectorHost& host_;
  const net::Local& local_;
  Clock& clock_;
  bool stopping_ = false;
  std::optional<PeerKey> witness_;
  uint64_t timesTold_ = 0;  // of our twin
  std::unique_ptr<net::Listener> listener_;
  std::map<PeerKey, std::unique_ptr<Known>> known_;
  std::map<PeerKey, Admittance> admittances_;  // between the handshake's decision and its connection
  uint64_t lastNumber_ = 0;
  std::map<uint64_t, std::shared_ptr<PeerSession>> sessions_;
  kj::Own<kj::PromiseFulfiller<void>> allEnded_;
  std::unique_ptr<kj::TaskSet::ErrorHandler> ignoreErrors_;
  std::unique_ptr<kj::TaskSet> tasks_;
};

}  // namespace realize::peer
