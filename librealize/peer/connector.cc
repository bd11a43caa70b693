#include "librealize/peer/connector.h"

#include <algorithm>

namespace realize::peer {

namespace {

constexpr kj::Duration kHelloTime = 15 * kj::SECONDS;
// Should who met our twin never be met again: longer than Lives::kQuietMs, so that it is not we who break the silence.
constexpr kj::Duration kForgetTwin = 5 * kj::MINUTES;
constexpr int64_t kSteadyNs = 5'000'000'000;  // What ended sooner is not dialled again at once, or two could spin.
constexpr kj::Duration kPairLook = 100 * kj::MILLISECONDS;
constexpr int kPairLooks = 50;

}  // namespace

struct Connector::Known {
  explicit Known(Random& random) : backoff(random) {}
  std::shared_ptr<PeerSession> session;  // ready
  uint64_t number = 0;                   // of that session
  Lives lives;
  bool twins = false;                    // as said last to the host
  std::string address;
  std::optional<net::DhPublicKey> dh;  // proven by the last connection: the next dial is one exchange shorter
  bool withDh = true;
  net::Backoff backoff;
  uint64_t attempt = 0;  // counts: what an older one brings is dropped
  bool trying = false;
  bool waiting = false;  // for the time of the next try
  int64_t sinceNs = 0;
  std::string lastError;
  bool refuses = false;
  uint64_t sentBytes = 0, receivedBytes = 0;  // of connections that are gone
};

Connector::Connector(ConnectorHost& host, const net::Local& local, Clock& clock)
    : host_(host), local_(local), clock_(clock) {
  struct Log final : kj::TaskSet::ErrorHandler {
    explicit Log(ConnectorHost& host) : host(host) {}
    void taskFailed(kj::Exception&& e) override { host.log(std::string("unexpected: ") + e.getDescription().cStr()); }
    ConnectorHost& host;
  };
  ignoreErrors_ = std::make_unique<Log>(host_);
  tasks_ = std::make_unique<kj::TaskSet>(*ignoreErrors_);
}

Connector::~Connector() = default;

Connector::Known& Connector::known(const PeerKey& key) {
  auto& slot = known_[key];
  if (!slot) slot = std::make_unique<Known>(local_.random);
  return *slot;
}

// --- listening ----------------------------------------------------------------------------------------------------

Result<std::string> Connector::listen(const std::string& address) {
  auto made = net::Listener::listen(
      local_, address, [this](const PeerKey& key, Bytes admission) { return authorize(key, std::move(admission)); },
      [this](std::unique_ptr<net::Connection> connection) { accepted(std::move(connection)); },
      [this](const std::string& text) { host_.log(text); });
  if (!made.ok()) return made.error();
  listener_ = std::move(*made);
  return listener_->address();
}

void Connector::stopListening() { listener_ = nullptr; }

kj::Promise<bool> Connector::authorize(const PeerKey& key, Bytes admission) {
  if (stopping_ || key == host_.view()->self) return false;
  if (admission.empty()) {
    if (host_.view()->isMember(key)) {
      admittances_.erase(key);
      return true;
    }
    return false;
  }
  auto secret = net::decodeAdmission(admission);
  if (!secret.ok()) return false;
  auto paf = kj::newPromiseAndFulfiller<bool>();
  auto fulfiller = std::make_shared<kj::Own<kj::PromiseFulfiller<bool>>>(kj::mv(paf.fulfiller));
  host_.useInvite(*secret, key, [this, key, secret = *secret, fulfiller](Result<void> used) {
    if (stopping_ || !(*fulfiller)->isWaiting()) return;
    constexpr size_t kMaxWaiting = 1024;
    if (admittances_.size() >= kMaxWaiting) admittances_.clear();
    // Whoever knows a secret that was once given out is told why it does not help any more.
    admittances_[key] = used.ok() ? Admittance{secret, ""} : Admittance{std::nullopt, used.error().message};
    (*fulfiller)->fulfill(true);
  });
  return kj::mv(paf.promise);
}

void Connector::accepted(std::unique_ptr<net::Connection> connection) {
  Admittance admittance;
  auto waiting = admittances_.find(connection->remoteKey());
  if (waiting != admittances_.end()) {
    admittance = std::move(waiting->second);
    admittances_.erase(waiting);
  }
  adopt(std::move(connection), std::move(admittance), [](Result<void>) {});
}

// --- sessions -----------------------------------------------------------------------------------------------------

std::shared_ptr<PeerSession> Connector::adopt(std::unique_ptr<net::Connection> connection, Admittance admittance,
                                              std::function<void(Result<void>)> ready) {
  auto& met = known(connection->remoteKey());
  met.dh = connection->remoteBinding().dh;
  met.withDh = true;
  const net::DhBinding proven = connection->remoteBinding();
  auto session = std::make_shared<PeerSession>(host_, std::move(connection), std::move(admittance));
  const uint64_t number = ++lastNumber_;
  sessions_[number] = session;
  tasks_->add(session->onClosed().then([this, number] { ended(number); }));
  tasks_->add(local_.timer.afterDelay(kHelloTime).then([weak = std::weak_ptr(session)] {
    if (auto late = weak.lock(); late && !late->ready()) late->close("no hello in time");
  }));
  session->start([this, number, proven, key = session->key(), ready = std::move(ready)](Result<void> outcome) {
    if (outcome.ok()) {
      auto& peer = known(key);
      peer.number = number;
      peer.sinceNs = clock_.nowNs();
      peer.lastError.clear();
      peer.refuses = false;
      host_.peerConnected(key);
      host_.peerProven(proven);
      // In a turn of its own: the answer to hello leaves first.
      host_.loop().post([weak = std::weak_ptr(peer.session)] {
        if (auto up = weak.lock()) up->refresh();
      });
    }
    ready(std::move(outcome));
  });
  if (stopping_) session->close("this peer is stopping");
  return session;
}

bool Connector::dialledBySmaller(const PeerSession& session) const {
  const bool weAreSmaller = host_.view()->self < session.key();
  return session.dialled() == weAreSmaller;
}

Result<void> Connector::sessionReady(PeerSession& session) {
  if (stopping_) return Error{Code::Cancelled, "this peer is stopping"};
  if (!alone(session))
    return Error{Code::Refused, "two running peers have one identity, " + host_.view()->nameOf(session.key()) +
                                    "'s: a state folder was copied. Nothing is sent or taken until one of them is stopped"};
  if (witness_)
    return Error{Code::Refused, "another running peer has this one's identity: nothing is sent or taken until one of them is stopped"};
  auto& peer = known(session.key());
  auto old = peer.session;
  if (old && !old->closed() && old.get() != &session) {
    const bool sameProcess = old->remoteLife() == session.remoteLife();
    // Both have dialled at once. Later, who dials has lost the old one, which this side may not know for a while.
    const bool crossing = clock_.nowNs() - peer.sinceNs < kSteadyNs;
    if (sameProcess && crossing && dialledBySmaller(*old) && !dialledBySmaller(session))
      return Error{Code::Exists, "there is a connection already"};
  }
  peer.session = session.shared_from_this();
  ++peer.attempt;  // A dial under way is not needed any more.
  peer.trying = peer.waiting = false;
  if (old && old.get() != &session) old->close("replaced by a newer connection");
  return {};
}

void Connector::ended(uint64_t number) {
  auto found = sessions_.find(number);
  if (found == sessions_.end()) return;
  auto session = std::move(found->second);
  sessions_.erase(found);
  const std::string why = session->closeReason();
  session->close(why);
  auto& peer = known(session->key());
  if (session == peer.session) peer.lives.heard(session->remoteLife(), nowMs());
  peer.sentBytes += session->sentBytes();
  peer.receivedBytes += session->receivedBytes();
  if (peer.session == session) {
    const bool steady = clock_.nowNs() - peer.sinceNs > kSteadyNs;
    peer.session = nullptr;
    peer.sinceNs = clock_.nowNs();
    peer.lastError = why;
    host_.peerDisconnected(session->key(), why);
    if (steady) peer.backoff.reset();
    else if (!stopping_) dialLater(session->key(), why);
  }
  if (!stopping_) dial(session->key());
  if (stopping_ && sessions_.empty() && allEnded_) allEnded_->fulfill();
}

// --- two processes with one identity -----------------------------------------------------------------------------

/// Of the peer that has just said hello, no other process is known to run.
bool Connector::alone(PeerSession& session) {
  if (session.remoteLife() == 0) return true;
  auto& peer = known(session.key());
  const auto old = peer.session;
  const bool connected = old && !old->closed() && old.get() != &session;
  if (connected) peer.lives.heard(old->remoteLife(), nowMs());
  const bool before = peer.twins;
  peer.twins = !peer.lives.met(session.remoteLife(), nowMs());
  if (peer.twins != before) host_.twinsChanged(session.key(), peer.twins);
  if (peer.twins && connected) old->close("another running peer has your identity");
  return !peer.twins;
}

void Connector::refusedBy(const PeerKey& key, uint64_t life) {
  // As if it had said hello itself: it does so to tell us that it is there.
  if (known(key).twins) known(key).lives.met(life, nowMs());
}

bool Connector::hasTwin(const PeerKey& key) { return known(key).lives.twins(nowMs()); }

void Connector::toldOfTwin(const PeerKey& by, bool twin) {
  if (twin) stopForTwin(by);
  else if (witness_ == by) goOnAlone();
}

void Connector::stopForTwin(const PeerKey& witness) {
  const bool news = !witness_;
  witness_ = witness;
  const uint64_t told = ++timesTold_;
  tasks_->add(local_.timer.afterDelay(kForgetTwin).then([this, told] {
    if (told == timesTold_ && witness_ && !stopping_) goOnAlone();
  }));
  if (!news) return;
  host_.twinsChanged(host_.view()->self, true);
  // In a turn of its own: who has told us is one of them.
  host_.loop().post([this] {
    auto sessions = sessions_;
    for (auto& [number, session] : sessions)
      if (witness_ && session->ready()) session->close("another running peer has this one's identity");
  });
}

void Connector::goOnAlone() {
  witness_.reset();
  host_.twinsChanged(host_.view()->self, false);
  host_.loop().post([this] {
    hurry();
    for (auto& [key, peer] : known_) dial(key);
  });
}

// --- dialling -----------------------------------------------------------------------------------------------------

void Connector::refresh() {
  if (stopping_) return;
  const auto view = host_.view();
  for (auto& [key, row] : view->roster) {
    if (key == view->self) continue;
    auto& peer = known(key);
    const net::DhBinding proven{key, {row.dhKey}, {row.dhSignature}};
    if (!peer.dh && !proven.dh.isZero() && proven.valid()) peer.dh = proven.dh;
    if (row.removed) {
      peer.address.clear();
      ++peer.attempt;
      peer.trying = peer.waiting = false;
    } else if (peer.address != row.address) {
      peer.address = row.address;
      ++peer.attempt;
      peer.trying = peer.waiting = false;
      peer.backoff.reset();
      dial(key);
    }
  }
  // A copy: sessions end and begin on the way.
  auto sessions = sessions_;
  for (auto& [number, session] : sessions) {
    session->refresh();
    if (!session->ready() || view->isMember(session->key())) continue;
    // Its arenas are cut off now. That it was removed is told it first, so that it knows.
    session->onceTold([weak = std::weak_ptr(session)] {
      if (auto told = weak.lock()) told->close("you were removed from the household");
    });
  }
}

void Connector::hurry() {
  for (auto& [key, peer] : known_) {
    if (!peer->waiting) continue;
    ++peer->attempt;
    peer->waiting = false;
    peer->backoff.reset();
    dial(key);
  }
}

void Connector::addressesChanged(const std::set<std::string>& hosts, bool more) {
  if (stopping_) return;
  auto sessions = sessions_;
  for (auto& [number, session] : sessions) {
    const std::string host = session->localHost();
    const bool known = !host.empty() && !host.starts_with("fe80:");  // Link-local ones are not among the hosts.
    if (known && !hosts.contains(host)) session->close("this machine's address " + host + " is gone");
  }
  if (more) hurry();
}

void Connector::dial(const PeerKey& key) {
  auto& peer = known(key);
  if (stopping_ || peer.address.empty() || peer.trying || peer.waiting || (peer.session && !peer.session->closed())) return;
  if (witness_ && *witness_ != key) return;  // goOnAlone() comes back here.
  // One that it has dialled may be about to be ready; when it ends, we come back here.
  for (const auto& [number, session] : sessions_)
    if (session->key() == key && !session->dialled() && !session->closed()) return;
  peer.trying = true;
  const uint64_t attempt = ++peer.attempt;
  auto dialled = net::dial(local_, peer.address, net::Expected{key, peer.withDh ? peer.dh : std::nullopt, {}});
  tasks_->add(dialled.then([this, key, attempt](Result<std::unique_ptr<net::Connection>>&& outcome) {
    auto& now = known(key);
    if (now.attempt != attempt || stopping_) return;
    now.refuses = !outcome.ok() && outcome.code() == Code::Refused;
    if (!outcome.ok()) {
      now.withDh = !now.withDh;  // Should it have another handshake key now, the next try finds out.
      return dialLater(key, outcome.error().message);
    }
    adopt(std::move(*outcome), {}, [this, key, attempt](Result<void> ready) {
      auto& then = known(key);
      then.refuses = !ready.ok() && ready.code() == Code::Refused;
      if (then.attempt == attempt && !ready.ok()) dialLater(key, ready.error().message);
    });
  }));
}

void Connector::dialLater(const PeerKey& key, const std::string& why) {
  auto& peer = known(key);
  peer.trying = false;
  peer.waiting = true;
  peer.lastError = why;
  const uint64_t attempt = ++peer.attempt;
  auto delay = local_.timer.afterDelay(peer.backoff.nextDelayMs() * kj::MILLISECONDS);
  tasks_->add(delay.then([this, key, attempt] {
    auto& now = known(key);
    if (now.attempt != attempt) return;
    now.waiting = false;
    dial(key);
  }));
}

kj::Promise<Result<void>> Connector::pair(net::Invite invite) {
  return pairAt(std::make_shared<net::Invite>(std::move(invite)), 0, 0,
                Error{Code::Unreachable, "the invite names no address"});
}

kj::Promise<Result<void>> Connector::pairAt(std::shared_ptr<net::Invite> invite, size_t index, int looks, Error last) {
  if (stopping_) return Result<void>(Code::Cancelled, "this peer is stopping");
  if (index >= invite->addresses.size()) return Result<void>(last);
  net::Expected expected{invite->inviter, std::nullopt, net::encodeAdmission(invite->secret)};
  auto dialled = net::dial(local_, invite->addresses[index], std::move(expected));
  return dialled.then([this, invite, index, looks](Result<std::unique_ptr<net::Connection>>&& outcome) -> kj::Promise<Result<void>> {
    if (!outcome.ok()) return pairAt(invite, index + 1, looks, outcome.error());
    auto paf = kj::newPromiseAndFulfiller<Result<void>>();
    auto fulfiller = std::make_shared<kj::Own<kj::PromiseFulfiller<Result<void>>>>(kj::mv(paf.fulfiller));
    adopt(std::move(*outcome), {}, [fulfiller](Result<void> ready) { (*fulfiller)->fulfill(kj::mv(ready)); });
    return paf.promise.then([this, invite, index, looks](Result<void>&& ready) -> kj::Promise<Result<void>> {
      if (ready.ok()) return ready;
      return pairOtherwise(invite, index, looks, ready.error());
    });
  });
}

/// Once the inviter knows us, it or we may dial besides, and of two connections one is closed: the other is as good.
kj::Promise<Result<void>> Connector::pairOtherwise(std::shared_ptr<net::Invite> invite, size_t index, int looks, Error failed) {
  bool underWay = false;
  for (const auto& [number, session] : sessions_) {
    if (session->key() != invite->inviter || session->closed()) continue;
    if (session->ready()) return Result<void>();
    underWay = true;
  }
  const bool cutOff = failed.code == Code::Unreachable;
  if (stopping_ || looks == kPairLooks || !(underWay || cutOff)) return Result<void>(failed);
  return local_.timer.afterDelay(kPairLook).then([this, invite, index, looks, failed, underWay]() -> kj::Promise<Result<void>> {
    return underWay ? pairOtherwise(invite, index, looks + 1, failed) : pairAt(invite, index, looks + 1, failed);
  });
}

// --- the rest -----------------------------------------------------------------------------------------------------

std::map<PeerKey, PeerConnection> Connector::status() const {
  std::map<PeerKey, PeerConnection> out;
  for (const auto& [key, peer] : known_) {
    auto& status = out[key];
    status.connected = peer->session && peer->session->ready() && !peer->session->closed();
    status.trying = peer->trying;
    status.sinceNs = peer->sinceNs;
    status.lastError = status.connected ? "" : peer->lastError;
    status.refuses = !status.connected && peer->refuses;
    status.sentBytes = peer->sentBytes;
    status.receivedBytes = peer->receivedBytes;
    if (peer->session) status.openArenas = peer->session->openArenas();
    status.twins = peer->lives.twins(nowMs());
  }
  for (const auto& [number, session] : sessions_) {
    auto& status = out[session->key()];
    status.sentBytes += session->sentBytes();
    status.receivedBytes += session->receivedBytes();
  }
  return out;
}

kj::Promise<void> Connector::shutdown() {
  stopping_ = true;
  listener_ = nullptr;
  admittances_.clear();
  auto sessions = sessions_;
  for (auto& [number, session] : sessions) session->close("this peer is stopping");
  if (sessions_.empty()) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  allEnded_ = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

}  // namespace realize::peer
