#pragma once

// The public Peer: the household, the arenas run here, the connections, and the threads of it all.
//
// Threads: the loop (connections), the household's (writes peer.db for the loop), the events' (tells subscribers), the
// folder watch, one a running arena, the pool. Order of locks: core lock of an arena, then any of the small mutexes here;
// nothing is called to the outside under a small mutex.

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "librealize/base/pool.h"
#include "librealize/base/posix_disk.h"
#include "librealize/peer/cache_quota.h"
#include "librealize/peer/audit_log.h"
#include "librealize/peer/connector.h"
#include "librealize/peer/events.h"
#include "librealize/peer/hosted.h"
#include "librealize/peer/household.h"
#include "librealize/peer/serial_thread.h"
#include "realize/peer.h"

namespace realize::peer {

/// Tells subscribers what happened, from a thread of its own; the newest kMaxWaiting events wait for it.
class EventHub {
 public:
  /// `nameOf`: of a peer's key in hexadecimal. Called on the hub's own thread.
  explicit EventHub(std::function<std::string(const std::string&)> nameOf) : nameOf_(std::move(nameOf)) {}
  void emit(Events events);
  std::shared_ptr<void> subscribe(std::function<void(const Event&)> sink);
  void stop() { thread_.stop(); }

 private:
  struct Sink;
  static constexpr size_t kMaxWaiting = 4096;
  void deliver();
  struct Waiting {
    Events events;
    size_t from = 0;  ///< those before it had to go
  };
  const std::function<std::string(const std::string&)> nameOf_;
  std::mutex mutex_;  // guards what follows
  std::deque<Waiting> waiting_;
  size_t waitingEvents_ = 0;
  bool posted_ = false;
  std::vector<std::weak_ptr<Sink>> sinks_;
  SerialThread thread_{"realize-events"};
};

class PeerImpl final : public Peer, private ConnectorHost {
 public:
  static Result<std::unique_ptr<PeerImpl>> open(const std::string& stateDir);
  ~PeerImpl() override;

  PeerInfo self() override;
  std::vector<PeerInfo> peers() override;
  Result<std::string> invite(const InviteOptions& options) override;
  Result<std::vector<std::string>> join(const std::string& code) override;
  Result<void> addPeer(const std::string& name, const std::string& keyHex, const std::string& address) override;
  Result<void> removePeer(const std::string& nameOrKey) override;
  Result<void> createArena(const std::string& name, const std::string& folder) override;
  Result<void> joinArena(const std::string& name, const std::string& folder) override;
  Result<void> admit(const std::string& arena, const std::string& peer) override;
  Result<void> withdraw(const std::string& arena, const std::string& peer) override;
  Result<std::vector<std::string>> leaveArena(const std::string& name, bool force) override;
  std::vector<std::string> arenaNames() override;
  std::vector<std::string> offeredArenas() override;
  Result<std::shared_ptr<Arena>> arena(const std::string& name) override;
  Result<ArenaPath> resolvePath(const std::string& text) override;
  PeerStatus status() override;
  Result<WaitOutcome> wait(const std::string& arena, int64_t timeoutMs) override;
  std::vector<Setting> settings(const std::string& arena) override;
  Result<void> set(const std::string& arena, const std::string& name, const std::string& value) override;
  std::shared_ptr<void> subscribe(std::function<void(const Event&)> sink) override;
  void noteMount(const std::string& arena, const std::string& mountPoint, bool mounted) override;

  /// For people: keys become names, connections are filled in.
  ArenaStatus complete(ArenaStatus status, const std::map<PeerKey, PeerConnection>& connections);
  Result<ArenaStatus> arenaStatus(Hosted& arena);
  std::string nameOfKeyHex(const std::string& hex);

 private:
  PeerImpl(std::string stateDir, OwnedFd lock, std::unique_ptr<Household> household);
  Result<void> start();

  // ConnectorHost
  loop::Loop& loop() override { return *loop_; }
  std::shared_ptr<const HouseholdView> view() override { return household_->view(); }
  uint64_t life() override { return life_; }
  std::map<ArenaId, RunningArena> running() override;
  void onHousehold(std::function<Result<void>()> work, std::function<void(Result<void>)> then) override;
  Result<void> merge(const PeerKey& from, const HouseholdRows& rows) override;
  Result<void> admitJoiner(const net::InviteSecret& secret, const PeerKey& key, const std::string& name,
                           const std::string& address) override;
  Result<void> sessionReady(PeerSession& session) override { return connector_->sessionReady(session); }
  void useInvite(const net::InviteSecret& secret, const PeerKey& by, std::function<void(Result<void>)> then) override;
  void peerConnected(const PeerKey& key) override;
  void peerProven(const net::DhBinding& binding) override;
  void peerDisconnected(const PeerKey& key, const std::string& why) override;
  void refusedBy(const PeerKey& key, uint64_t life) override { connector_->refusedBy(key, life); }
  bool hasTwin(const PeerKey& key) override { return connector_->hasTwin(key); }
  void toldOfTwin(const PeerKey& by, bool twin) override { connector_->toldOfTwin(by, twin); }
  void twinsChanged(const PeerKey& key, bool twins) override;
  void log(const std::string& text) override;

  /// Something that connections look at has changed: they look, once for many changes.
  void refreshConnections();
  std::map<PeerKey, PeerConnection> connections();
  void tell(Events events);
  void tell(Event event) { tell(eventsOf(std::move(event))); }
  AuditSettings auditSettings();
  Result<void> setAudit(const std::string& name, const std::string& value);
  Result<void> startListening();
  void tendLater();
  void tend();
  void openBroken();
  Result<void> announceAddress(const std::string& address);
  void followAddresses();
  static std::set<std::string> machineHosts();
  void reviewMembers();
  std::string dialableAddress(const std::string& listening);
  std::vector<std::string> allAddresses(const std::string& listening);

  std::shared_ptr<Hosted> hostedByName(const std::string& name);
  std::vector<std::shared_ptr<Hosted>> allHosted();
  Result<std::string> prepareFolder(const std::string& name, const std::string& folder, bool& made);
  Result<void> runArena(store::ArenaRow row, bool fresh, bool joining, Mark rootMark);
  Result<void> addArena(store::ArenaRow row, bool joining, Mark rootMark);
  ArenaSettings readSettings(const ArenaId& id);
  std::map<ArenaId, std::string> offered(const std::map<PeerKey, PeerConnection>& connections);
  Error unknownArena(const std::string& name);
  std::string arenaDirectory(const ArenaId& id) const { return stateDir_ + "/arenas/" + id.hex(); }

  /// What public Arenas reach this by; emptied when it ends.
  struct BackReference {
    std::mutex mutex;
    PeerImpl* peer = nullptr;
  };

  const std::string stateDir_;
  const OwnedFd lock_;
  const uint64_t life_;
  std::unique_ptr<Household> household_;
  std::shared_ptr<CacheQuota> sharedQuota_ = std::make_shared<CacheQuota>();
  std::shared_ptr<Pool> pool_;
  EventHub events_{[this](const std::string& hex) { return nameOfKeyHex(hex); }};
  AuditLog audit_{[this](const std::string& hex) { return nameOfKeyHex(hex); }, systemClock()};
  std::unique_ptr<loop::Loop> loop_;
  std::unique_ptr<SerialThread> householdThread_;
  std::unique_ptr<net::Local> local_;      // on the loop
  std::unique_ptr<Connector> connector_;   // on the loop
  std::unique_ptr<FolderWatch> watch_;
  std::shared_ptr<BackReference> self_ = std::make_shared<BackReference>();
  std::set<std::string> hosts_;  // the machine's addresses as looked at last; on the household's thread
  std::mutex changing_;  // one creation, joining or leaving of an arena, or change of address, at a time

  std::mutex mutex_;  // guards what follows, for moments
  std::condition_variable changed_;
  uint64_t changes_ = 0;
  std::atomic<uint64_t> told_ = 0;  ///< states, to or by peers
  bool refreshPosted_ = false;
  bool stopping_ = false;
  std::string listening_;       // in use
  std::map<ArenaId, std::shared_ptr<Hosted>> arenas_;
  std::map<ArenaId, Error> broken_;  // arenas that could not be opened
  std::multimap<std::string, std::string> mounts_;  // by arena: mount points
};

/// What a public Arena asks of its peer, which may be gone before it. Thread: any.
struct ArenaQuestions {
  std::function<std::string(const std::string& keyHex)> nameOf;
  std::function<Result<ArenaStatus>(Hosted&)> status;
};
std::shared_ptr<Arena> makeArena(std::shared_ptr<Hosted> arena, ArenaQuestions ask);

/// A path as the arena has it: no leading, trailing or doubled '/', no "." Errors: InvalidArgument ("..").
Result<std::string> tidyPath(const std::string& path);

}  // namespace realize::peer
