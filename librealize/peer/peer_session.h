#pragma once

// One connection to another peer of the household: hello, updates of the household, and the arenas open over it.

#include <capnp/capability.h>
#include <kj/async.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "librealize/net/connection.h"
#include "librealize/net/invite.h"
#include "librealize/peer/arena_session.h"
#include "librealize/peer/roster.h"

namespace realize::peer {

class PeerSession;

struct RunningArena {
  std::shared_ptr<HostedArena> arena;
  uint64_t life = 0;
};

/// What a session needs of its peer. Thread: the loop's, unless noted.
class SessionHost {
 public:
  virtual ~SessionHost() = default;
  virtual loop::Loop& loop() = 0;
  virtual std::shared_ptr<const HouseholdView> view() = 0;
  /// Random, of this process.
  virtual uint64_t life() = 0;
  virtual std::map<ArenaId, RunningArena> running() = 0;
  /// Runs `work` on the household's thread, one after another, then `then` on the loop with what it returned.
  virtual void onHousehold(std::function<Result<void>()> work, std::function<void(Result<void>)> then) = 0;
  /// For `work` above. Thread: the household's.
  virtual Result<void> merge(const PeerKey& from, const HouseholdRows& rows) = 0;
  virtual Result<void> admitJoiner(const net::InviteSecret& secret, const PeerKey& key, const std::string& name,
                                   const std::string& address) = 0;
  /// The other side has said hello. An error: this connection is not wanted, another one to that peer is.
  virtual Result<void> sessionReady(PeerSession& session) = 0;
  /// That peer does not go on with us; this is the life of its process.
  virtual void refusedBy(const PeerKey& key, uint64_t life) = 0;
  /// Two processes with that identity are running, as we have met both.
  virtual bool hasTwin(const PeerKey& key) = 0;
  /// `by` has met two processes with our identity, or says that it has not, or not any more.
  virtual void toldOfTwin(const PeerKey& by, bool twin) = 0;
};

/// How a listener's handshake was decided.
struct Admittance {
  std::optional<net::InviteSecret> invite;  ///< it came with this, and is no member yet
  std::string refused;                      ///< not empty: why the invite is of no use
};

/// Thread: the loop's. Lifetime: shared, and close()d before the last reference goes.
class PeerSession final : public std::enable_shared_from_this<PeerSession> {
 public:
  PeerSession(SessionHost& host, std::unique_ptr<net::Connection> connection, Admittance admittance);
  ~PeerSession();

  /// Exports our service; the dialer then says hello. `ready` is told once: everything is exchanged, or why not.
  void start(std::function<void(Result<void>)> ready);
  /// Ends the arenas and the connection. Idempotent. The session is of no use from then on.
  void close(const std::string& reason);
  /// Once: resolves when the connection is gone and nothing of it runs any more.
  kj::Promise<void> onClosed() { return connection_->onClosed(); }

  /// The household or what we run changed: tell the other side what is new for it, open and end arenas.
  void refresh();
  /// Once the other side has taken the last update, or is too slow with it. `then` on the loop, unless it is closed.
  void onceTold(std::function<void()> then);

  const PeerKey& key() const { return key_; }
  uint64_t remoteLife() const { return remoteLife_; }
  bool dialled() const { return connection_->dialled(); }
  bool ready() const { return ready_; }
  bool closed() const { return closed_ || connection_->closed(); }
  std::string closeReason() const { return reason_.empty() ? connection_->closeReason().message : reason_; }
  /// This machine's address that it goes through, without the port; empty if that cannot be told any more.
  const std::string& localHost() const { return connection_->localHost(); }
  uint64_t sentBytes() const { return connection_->sentBytes(); }
  uint64_t receivedBytes() const { return connection_->receivedBytes(); }
  /// Arenas open over this connection.
  size_t openArenas() const { return links_.size(); }

 private:
  class Server;
  class SessionArena;
  /// One arena over this connection.
  struct Link {
    uint64_t ourLife = 0;
    uint64_t theirLife = 0;
    std::shared_ptr<SessionArena> arena;
    std::shared_ptr<RpcRemoteArena> remote;
  };

  using Service = schema::PeerService;
  using HelloCall = capnp::CallContext<Service::HelloParams, Service::HelloResults>;
  using UpdateCall = capnp::CallContext<Service::UpdateParams, Service::UpdateResults>;
  using OpenCall = capnp::CallContext<Service::OpenArenaParams, Service::OpenArenaResults>;
  kj::Promise<void> answerHello(HelloCall context);
  kj::Promise<void> takeUpdate(UpdateCall context);
  kj::Promise<void> answerOpen(OpenCall context);
  void sayHello();
  void writeHello(schema::Hello::Builder out);
  /// What the other side said in its hello. `done` on the loop.
  void takeHello(schema::Hello::Reader hello, std::function<void(Result<void>)> done);
  void becomeReady(Result<void> outcome);
  RunningArenas shownRunning();
  void sendUpdate();
  void mergeAgain();
  void reviewLinks();
  void openArena(const ArenaId& id, const RunningArena& running, uint64_t theirLife);
  SendChunks chunkSender(std::shared_ptr<SessionArena> arena);
  void addLink(const ArenaId& id, Link link);
  void endLink(std::map<ArenaId, Link>::iterator link);

  SessionHost& host_;
  std::unique_ptr<net::Connection> connection_;
  const PeerKey key_;
  const Admittance admittance_;
  std::shared_ptr<ChunkRequests> chunks_ = std::make_shared<ChunkRequests>();
  std::function<void(Result<void>)> told_;
  bool helloSeen_ = false;
  bool updateSeen_ = false;
  bool ready_ = false;
  bool closed_ = false;
  std::string reason_;
  uint64_t remoteLife_ = 0;
  HouseholdRows theirRows_;  // as they sent them last: what we could not accept then may become acceptable
  RunningArenas theirRunning_;
  kj::Array<capnp::word> lastSent_;
  size_t untold_ = 0;  // updates that were not answered yet
  std::function<void()> onceTold_;
  std::map<ArenaId, Link> links_;
  std::map<ArenaId, uint64_t> opening_;  // by the life of theirs
  std::unique_ptr<kj::TaskSet> tasks_;
};

}  // namespace realize::peer
