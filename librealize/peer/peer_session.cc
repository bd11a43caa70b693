#include "librealize/peer/peer_session.h"

#include "librealize/base/compress.h"
#include "librealize/peer/chunk_pack.h"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/debug.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>

namespace realize::peer {

namespace {

constexpr kj::Duration kOpenAgain = 500 * kj::MILLISECONDS;
constexpr kj::Duration kTellingTime = 2 * kj::SECONDS;

struct IgnoreErrors final : kj::TaskSet::ErrorHandler {
  void taskFailed(kj::Exception&&) override {}  // The connection is gone; whoever waits is told by its end.
};
IgnoreErrors ignoreErrors;  // Without state: tasks may outlive their session by a turn.

kj::Exception broken(const std::string& text) { return KJ_EXCEPTION(FAILED, kj::StringPtr(text.c_str())); }

std::string text(capnp::Text::Reader in) { return std::string(in.cStr(), in.size()); }

// BulkFrame::flags.
constexpr uint32_t kPlain = 0;
constexpr uint32_t kCompressed = 1;  ///< one Zstandard frame that says its size
constexpr uint32_t kPacked = 2;      ///< several chunks, see chunk_pack.h

/// Sends a chunk; waits in the pool's thread while the connection's queue is full. The asker bounds what it has asked
/// for, so the queue is only ever full for one that does not: that one is given up after a while.
bool sendBulk(net::BulkSender& sender, net::BulkFrame& frame) {
  struct Room {
    std::mutex mutex;
    std::condition_variable there;
    bool is = false;
  };
  constexpr int kTries = 20;
  for (int left = kTries; left > 0; --left) {
    auto sent = sender.send(frame);
    if (sent.ok()) return true;
    if (sent.code() != Code::Busy) return false;
    auto room = std::make_shared<Room>();
    sender.whenWritable([room] {
      std::lock_guard held(room->mutex);
      room->is = true;
      room->there.notify_all();
    });
    std::unique_lock held(room->mutex);
    // The call back comes in the pool, which may be full of those who wait here: hence the time limit.
    room->there.wait_for(held, std::chrono::milliseconds(50), [&] { return room->is; });
  }
  return false;
}

}  // namespace

/// The arena as this connection may use it: ended with the link, while the arena itself goes on.
class PeerSession::SessionArena final : public HostedArena {
 public:
  explicit SessionArena(std::shared_ptr<HostedArena> arena) : arena_(std::move(arena)) {}
  const ArenaId& id() const override { return arena_->id(); }
  Scheduler& scheduler() override { return arena_->scheduler(); }
  ArenaService* service() override { return ended_ ? nullptr : arena_->service(); }
  const std::shared_ptr<HostedArena>& whole() const { return arena_; }
  void end() { ended_ = true; }
  bool ended() const { return ended_; }

 private:
  std::shared_ptr<HostedArena> arena_;
  std::atomic<bool> ended_{false};
};

class PeerSession::Server final : public schema::PeerService::Server {
 public:
  explicit Server(std::weak_ptr<PeerSession> session) : session_(std::move(session)) {}
  kj::Promise<void> hello(HelloContext context) override {
    auto session = session_.lock();
    return session ? session->answerHello(context) : broken("the connection is closing");
  }
  kj::Promise<void> update(UpdateContext context) override {
    auto session = session_.lock();
    return session ? session->takeUpdate(context) : broken("the connection is closing");
  }
  kj::Promise<void> openArena(OpenArenaContext context) override {
    auto session = session_.lock();
    return session ? session->answerOpen(context) : broken("the connection is closing");
  }

 private:
  std::weak_ptr<PeerSession> session_;
};

PeerSession::PeerSession(SessionHost& host, std::unique_ptr<net::Connection> connection, Admittance admittance)
    : host_(host), connection_(std::move(connection)), key_(connection_->remoteKey()), admittance_(std::move(admittance)),
      tasks_(std::make_unique<kj::TaskSet>(ignoreErrors)) {}

PeerSession::~PeerSession() = default;

void PeerSession::start(std::function<void(Result<void>)> ready) {
  told_ = std::move(ready);
  connection_->start(kj::heap<Server>(weak_from_this()), [chunks = chunks_](net::BulkFrame frame) {
    std::span<const std::byte> payload = frame.payload.payload();
    Bytes plain;
    if (frame.flags & kCompressed) {
      // What does not unpack is an empty chunk: no chunk is, so it is refused as any wrong one.
      if (auto unpacked = decompress(payload, net::kMaxBulkPayloadBytes); unpacked.ok()) plain = std::move(*unpacked);
      payload = plain;
    }
    const ChunkArrival alone{frame.item, frame.chunk, payload};
    if (!(frame.flags & kPacked)) return chunks->arrived(frame.request, {&alone, 1});
    const auto packed = unpackChunks(frame.item, payload);
    chunks->arrived(frame.request, packed.ok() ? ChunkArrivals(*packed) : ChunkArrivals());
  });
  if (dialled()) sayHello();
}

void PeerSession::close(const std::string& reason) {
  if (closed_) return;
  closed_ = true;
  reason_ = connection_->closed() ? connection_->closeReason().message : reason;
  while (!links_.empty()) endLink(links_.begin());
  opening_.clear();
  // What runs may be one of these tasks: they are dropped in a turn of their own.
  auto tasks = std::make_shared<std::unique_ptr<kj::TaskSet>>(std::move(tasks_));
  host_.loop().post([tasks] { *tasks = nullptr; });
  connection_->close(reason);
  chunks_->failAll(Error{Code::Unreachable, "the connection was lost"});
  ready_ = false;
  if (auto told = std::exchange(told_, nullptr)) told(Error{Code::Unreachable, reason_});
}

// --- hello --------------------------------------------------------------------------------------------------------

void PeerSession::writeHello(schema::Hello::Builder out) {
  const auto view = host_.view();
  const auto own = view->infoOf(view->self);
  out.setProtocol(schema::PROTOCOL_VERSION);
  out.setName(own.name.c_str());
  out.setAddress(own.address.c_str());
  out.setLife(host_.life());
  out.setProgram(std::string(libraryVersion()).c_str());
  out.setTwin(host_.hasTwin(key_));
  writeHousehold(out.initState(), rowsFor(*view, key_), shownRunning());
}

void PeerSession::sayHello() {
  auto request = connection_->bootstrap().castAs<schema::PeerService>().helloRequest();
  writeHello(request.initHello());
  auto weak = weak_from_this();
  tasks_->add(request.send().then(
      [weak](capnp::Response<schema::PeerService::HelloResults>&& response) {
        auto self = weak.lock();
        if (!self || self->closed_) return;
        const std::string refused = text(response.getRefused());
        if (!refused.empty()) {
          self->host_.toldOfTwin(self->key_, response.getTwin());
          if (const uint64_t life = response.getHello().getLife()) self->host_.refusedBy(self->key_, life);
          return self->becomeReady(Error{Code::Refused, refused});
        }
        self->takeHello(response.getHello(), [weak](Result<void> outcome) {
          auto again = weak.lock();
          if (!again || again->closed_) return;
          if (outcome.ok() && !again->host_.view()->isMember(again->key_))
            outcome = Error{Code::Refused, "the other peer is no member of this household any more"};
          again->becomeReady(std::move(outcome));
        });
      },
      [weak](kj::Exception&& e) {
        if (auto self = weak.lock(); self && !self->closed_)
          self->becomeReady(Error{Code::Unreachable, std::string("no answer to hello: ") + e.getDescription().cStr()});
      }));
}

void PeerSession::takeHello(schema::Hello::Reader hello, std::function<void(Result<void>)> done) {
  auto read = readHousehold(hello.getState());
  if (!read.ok()) return done(read.error());
  if (hello.getProtocol() < 1) return done(Error{Code::WrongVersion, "the other peer's program is too old"});
  remoteLife_ = hello.getLife();
  host_.toldOfTwin(key_, hello.getTwin());
  if (!updateSeen_) {
    theirRunning_ = read->running;
    theirRows_ = read->rows;
  }
  auto rows = std::make_shared<HouseholdRows>(std::move(read->rows));
  // A joiner's own wishes come with its hello; its row is written here, as the one who lets it in.
  const std::string name = text(hello.getName()), address = text(hello.getAddress());
  host_.onHousehold(
      [&host = host_, key = key_, rows, name, address, invite = admittance_.invite]() -> Result<void> {
        REALIZE_TRY(host.merge(key, *rows));
        return invite ? host.admitJoiner(*invite, key, name, address) : Result<void>();
      },
      std::move(done));
}

kj::Promise<void> PeerSession::answerHello(HelloCall context) {
  if (helloSeen_ || dialled()) return broken("hello comes once, from the dialer");
  helloSeen_ = true;
  if (!admittance_.refused.empty()) {
    context.getResults().setRefused(admittance_.refused.c_str());
    return kj::READY_NOW;
  }
  auto paf = kj::newPromiseAndFulfiller<void>();
  auto fulfiller = std::make_shared<kj::Own<kj::PromiseFulfiller<void>>>(kj::mv(paf.fulfiller));
  auto weak = weak_from_this();
  takeHello(context.getParams().getHello(), [weak, context, fulfiller](Result<void> outcome) mutable {
    auto self = weak.lock();
    // Nobody waiting means that the call was cut off, and its context gone.
    if (!(*fulfiller)->isWaiting()) return;
    if (!self || self->closed_) return (*fulfiller)->reject(broken("the connection is closing"));
    if (outcome.ok() && !self->host_.view()->isMember(self->key_))
      outcome = Error{Code::Refused, "you are no member of this household any more"};
    if (outcome.ok()) outcome = self->host_.sessionReady(*self);
    if (!outcome.ok()) {
      auto results = context.getResults();
      results.setRefused(outcome.error().message.c_str());
      results.setTwin(self->host_.hasTwin(self->key_));
      results.initHello().setLife(self->host_.life());
      (*fulfiller)->fulfill();
      return;
    }
    self->writeHello(context.getResults().initHello());
    (*fulfiller)->fulfill();
    self->ready_ = true;
    if (auto told = std::exchange(self->told_, nullptr)) told({});
  });
  return kj::mv(paf.promise);
}

void PeerSession::becomeReady(Result<void> outcome) {
  if (outcome.ok()) outcome = host_.sessionReady(*this);
  if (!outcome.ok()) {
    auto told = std::exchange(told_, nullptr);
    close(outcome.error().message);
    if (told) told(std::move(outcome));
    return;
  }
  ready_ = true;
  if (auto told = std::exchange(told_, nullptr)) told({});
}

// --- the household ------------------------------------------------------------------------------------------------

RunningArenas PeerSession::shownRunning() {
  const auto view = host_.view();
  RunningArenas out;
  for (const auto& [id, running] : host_.running())
    if (out.size() < kMaxRunningArenas && view->isAdmitted(id, key_) && view->isAdmitted(id, view->self))
      out[id] = running.life;
  return out;
}

void PeerSession::refresh() {
  if (!ready_ || closed_) return;
  mergeAgain();
  sendUpdate();
  reviewLinks();
}

/// Rows that we could not accept because their sender was not known to be admitted.
void PeerSession::mergeAgain() {
  const auto news = acceptable(*host_.view(), key_, theirRows_);
  if (news.roster.empty() && news.admissions.empty()) return;
  auto rows = std::make_shared<HouseholdRows>(theirRows_);
  host_.onHousehold([&host = host_, key = key_, rows] { return host.merge(key, *rows); }, [](Result<void>) {});
}

void PeerSession::sendUpdate() {
  capnp::MallocMessageBuilder message;
  writeHousehold(message.initRoot<schema::HouseholdState>(), rowsFor(*host_.view(), key_), shownRunning());
  auto words = capnp::messageToFlatArray(message);
  const auto bytes = words.asBytes(), last = lastSent_.asBytes();
  if (bytes.size() == last.size() && std::memcmp(bytes.begin(), last.begin(), bytes.size()) == 0) return;
  lastSent_ = kj::mv(words);
  auto request = connection_->bootstrap().castAs<schema::PeerService>().updateRequest();
  request.setState(message.getRoot<schema::HouseholdState>().asReader());
  ++untold_;
  tasks_->add(request.send().ignoreResult().then([weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self || self->closed_ || --self->untold_ > 0) return;
    // In a turn of its own: it may close this session, and with it this task.
    self->host_.loop().post([weak] {
      if (auto told = weak.lock(); told && !told->closed_ && told->onceTold_) std::exchange(told->onceTold_, nullptr)();
    });
  }));
}

void PeerSession::onceTold(std::function<void()> then) {
  if (closed_ || onceTold_) return;
  if (untold_ == 0) return then();
  onceTold_ = std::move(then);
  tasks_->add(host_.loop().timer().afterDelay(kTellingTime).then([weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self || self->closed_ || !self->onceTold_) return;
    self->host_.loop().post([weak] {
      if (auto late = weak.lock(); late && !late->closed_ && late->onceTold_) std::exchange(late->onceTold_, nullptr)();
    });
  }));
}

kj::Promise<void> PeerSession::takeUpdate(UpdateCall context) {
  if (!ready_ && !dialled()) return broken("hello comes first");
  auto read = readHousehold(context.getParams().getState());
  if (!read.ok()) return broken(read.error().message);
  updateSeen_ = true;
  // Before the rows are merged: an openArena that follows may rely on it.
  theirRunning_ = read->running;
  theirRows_ = read->rows;
  auto rows = std::make_shared<HouseholdRows>(std::move(read->rows));
  host_.onHousehold([&host = host_, key = key_, rows] { return host.merge(key, *rows); },
                    [weak = weak_from_this()](Result<void>) {
                      if (auto self = weak.lock()) self->refresh();
                    });
  return kj::READY_NOW;
}

// --- arenas -------------------------------------------------------------------------------------------------------

void PeerSession::reviewLinks() {
  const auto view = host_.view();
  const auto running = host_.running();
  auto wanted = [&](const ArenaId& id) {
    return view->isAdmitted(id, key_) && view->isAdmitted(id, view->self) && running.contains(id) &&
           theirRunning_.contains(id);
  };
  for (auto link = links_.begin(); link != links_.end();) {
    auto next = std::next(link);
    const bool same = wanted(link->first) && running.at(link->first).life == link->second.ourLife &&
                      theirRunning_.at(link->first) == link->second.theirLife;
    if (!same) endLink(link);
    link = next;
  }
  if (!(view->self < key_)) return;
  for (const auto& [id, life] : theirRunning_)
    if (wanted(id) && !links_.contains(id) && !opening_.contains(id)) openArena(id, running.at(id), life);
}

SendChunks PeerSession::chunkSender(std::shared_ptr<SessionArena> arena) {
  return [sender = connection_->bulk(), arena = std::move(arena)](uint64_t request, bool interactive, ChunkArrivals chunks) {
    const bool alone = chunks.size() == 1;
    const size_t size = alone ? chunks[0].bytes.size() : packedBytes(chunks);
    if (arena->ended() || size > net::kMaxBulkPayloadBytes) return false;
    net::BulkFrame frame{request, uint32_t(chunks.size()), 0, kPacked, interactive, {}};
    if (alone) frame.item = chunks[0].item, frame.chunk = chunks[0].chunk, frame.flags = kPlain;
    std::span<const std::byte> plain = chunks[0].bytes;
    if (!alone) {
      frame.payload = net::BulkBuffer(size);
      packChunks(chunks, frame.payload.payload());
      plain = frame.payload.payload();
    }
    if (const auto compressed = compressIfItPays(plain)) {
      frame.flags |= kCompressed;
      frame.payload = net::BulkBuffer(compressed->size());
      std::copy(compressed->begin(), compressed->end(), frame.payload.payload().begin());
    } else if (alone) {
      frame.payload = net::BulkBuffer(size);
      std::copy(plain.begin(), plain.end(), frame.payload.payload().begin());
    }
    return sendBulk(*sender, frame);
  };
}

void PeerSession::openArena(const ArenaId& id, const RunningArena& running, uint64_t theirLife) {
  opening_[id] = theirLife;
  auto arena = std::make_shared<SessionArena>(running.arena);
  auto request = connection_->bootstrap().castAs<schema::PeerService>().openArenaRequest();
  request.setArena(asData(id));
  request.setLife(running.life);
  request.setService(serveArena(host_.loop(), arena, key_, chunkSender(arena)));
  auto weak = weak_from_this();
  tasks_->add(request.send().then(
      [weak, id, arena, life = running.life, theirLife](capnp::Response<schema::PeerService::OpenArenaResults>&& response) {
        auto self = weak.lock();
        if (!self || self->closed_) return;
        self->opening_.erase(id);
        auto remote = std::make_shared<RpcRemoteArena>(self->host_.loop(), arena, self->key_, response.getService(),
                                                       self->chunks_);
        self->addLink(id, {life, theirLife, arena, remote});
        self->reviewLinks();  // Something may have changed meanwhile.
      },
      [weak, id](kj::Exception&&) {
        auto self = weak.lock();
        if (!self || self->closed_) return;
        // It does not know yet of an admission that we know of, or is just leaving: look again soon.
        auto later = self->host_.loop().timer().afterDelay(kOpenAgain);
        self->tasks_->add(later.then([weak, id] {
          auto again = weak.lock();
          if (!again || again->closed_) return;
          again->opening_.erase(id);
          again->refresh();
        }));
      }));
}

kj::Promise<void> PeerSession::answerOpen(OpenCall context) {
  if (!ready_) return broken("hello comes first");
  auto id = readFixed<ArenaId>(context.getParams().getArena());
  if (!id.ok()) return broken(id.error().message);
  auto paf = kj::newPromiseAndFulfiller<void>();
  auto fulfiller = std::make_shared<kj::Own<kj::PromiseFulfiller<void>>>(kj::mv(paf.fulfiller));
  // Behind the updates that came before it.
  host_.onHousehold([]() -> Result<void> { return {}; }, [weak = weak_from_this(), id = *id, context, fulfiller](Result<void>) mutable {
    auto self = weak.lock();
    if (!(*fulfiller)->isWaiting()) return;
    if (!self || self->closed_) return (*fulfiller)->reject(broken("the connection is closing"));
    const auto view = self->host_.view();
    const auto running = self->host_.running();
    auto found = running.find(id);
    if (found == running.end() || !view->isAdmitted(id, self->key_) || !view->isAdmitted(id, view->self))
      return (*fulfiller)->reject(broken("no such arena is running here, or you are not admitted to it"));
    if (auto before = self->links_.find(id); before != self->links_.end()) self->endLink(before);
    auto arena = std::make_shared<SessionArena>(found->second.arena);
    context.getResults().setService(serveArena(self->host_.loop(), arena, self->key_, self->chunkSender(arena)));
    auto remote = std::make_shared<RpcRemoteArena>(self->host_.loop(), arena, self->key_,
                                                   context.getParams().getService(), self->chunks_);
    self->addLink(id, {found->second.life, context.getParams().getLife(), arena, remote});
    (*fulfiller)->fulfill();
  });
  return kj::mv(paf.promise);
}

void PeerSession::addLink(const ArenaId& id, Link link) {
  link.arena->scheduler().onCore([arena = link.arena, remote = link.remote] {
    if (auto* service = arena->service()) service->connected(*remote);
  });
  links_[id] = std::move(link);
}

void PeerSession::endLink(std::map<ArenaId, Link>::iterator it) {
  Link link = std::move(it->second);
  links_.erase(it);
  // From here on the other side is answered nothing; the arena itself hears of it in its turn, and only then may the
  // remote go.
  link.arena->end();
  link.arena->scheduler().onCore([arena = link.arena->whole(), remote = link.remote, key = key_] {
    if (auto* service = arena->service()) service->disconnected(key);
  });
  link.remote->close();
}

}  // namespace realize::peer
