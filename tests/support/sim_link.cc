#include "tests/support/sim_link.h"

#include <algorithm>
#include <map>
#include <utility>

namespace realize::test {

using peer::ArenaService;
using peer::ArenaState;
using peer::WantStatus;

namespace {
const Error kLost{Code::Unreachable, "the connection was lost"};
}

/// One session. Whatever is under way holds it; nothing passes once it is not open.
struct SimLink::Connection : std::enable_shared_from_this<SimLink::Connection> {
  SimPeer* ends[2];
  PeerKey keys[2];  // under which they met: a peer may join anew before the other has heard that this is cut
  uint64_t lives[2];
  bool open = true;
  int64_t lastNs[2] = {0, 0};  // when the last message of each side arrives
  uint64_t lastCall = 0;
  uint64_t* messages = nullptr;
  SimLink* link = nullptr;

  void talk(int side, uint64_t number, const std::string& what) {
    if (!open || !link->onTalk) return;
    link->onTalk(ends[side]->options.name + " and " + ends[1 - side]->options.name + " " + std::to_string(number) + ": " + what);
  }
  std::unique_ptr<Remote> remotes[2];                          // what each side sees of the other
  std::map<uint64_t, std::function<void(Error)>> waiting[2];   // calls of each side

  bool up(int side) const { return ends[side]->running() && ends[side]->lives == lives[side] && !ends[side]->disk.isPowerOff(); }

  /// Runs the job on the other side's core, once it has arrived.
  void send(int from, std::function<void()> job) {
    if (!open || !up(from)) return;
    ++*messages;
    auto& queue = ends[from]->queue;
    const uint64_t most = queue.random.oneIn(30) ? 400'000'000 : 8'000'000;
    lastNs[from] = std::max(lastNs[from], queue.nowNs() + 100'000 + int64_t(queue.random.below(most)));
    queue.at(lastNs[from], [self = shared_from_this(), from, job = std::move(job)] {
      if (!self->open || !self->up(1 - from)) return;
      self->ends[1 - from]->scheduler->onCore([self, job] {
        if (self->open) job();
      });
    });
  }

  template <typename T>
  using Reply = std::function<void(Result<T>)>;

  template <typename T>
  void call(int from, std::function<void(ArenaService&, Reply<T>)> serve, Reply<T> done) {
    const uint64_t number = ++lastCall;
    if (!open) {
      ends[from]->scheduler->onCore([done] { done(kLost); });
      return;
    }
    // The other side may be killed with its half of this in memory: what it holds of the caller's is let go here.
    auto caller = std::make_shared<Reply<T>>(std::move(done));
    waiting[from][number] = [caller](Error error) { std::exchange(*caller, nullptr)(error); };
    send(from, [self = shared_from_this(), from, serve, caller, number] {
      auto* service = self->ends[1 - from]->service();
      if (!service) return;
      serve(*service, [self, from, caller, number](Result<T> result) {
        self->send(1 - from, [self, from, caller, number, result] {
          if (self->waiting[from].erase(number)) std::exchange(*caller, nullptr)(result);
        });
      });
    });
  }
};

class SimLink::Remote final : public peer::RemoteArena {
 public:
  Remote(Connection& connection, int side) : c_(connection), side_(side) {}

  PeerKey key() const override { return c_.keys[1 - side_]; }
  void announce(const ArenaState& state) override {
    c_.send(side_, [self = c_.shared_from_this(), side = side_, state] {
      if (auto* service = self->ends[1 - side]->service()) service->onAnnounce(self->keys[side], state);
    });
  }
  void askState(bool barrier, std::function<void(Result<ArenaState>)> done) override {
    c_.call<ArenaState>(side_, [from = me(), barrier](ArenaService& s, auto reply) { s.serveState(from, barrier, reply); }, done);
  }
  void pull(const peer::PullRequest& request, std::function<void(Result<peer::PullPage>)> done) override {
    c_.call<peer::PullPage>(side_, [from = me(), request](ArenaService& s, auto reply) { reply(s.servePull(from, request)); }, done);
  }
  void compare(const logic::WholeRequest& request, std::function<void(Result<logic::WholePage>)> done) override {
    ++c_.link->compares_;
    c_.call<logic::WholePage>(side_, [from = me(), request](ArenaService& s, auto reply) { reply(s.serveCompare(from, request)); }, done);
  }
  void chunkList(const BlobId& blob, uint8_t hops, std::function<void(Result<ChunkList>)> done) override {
    c_.call<ChunkList>(side_, [from = me(), blob, hops](ArenaService& s, auto reply) { s.serveChunkList(from, blob, hops, reply); }, done);
  }
  void promise(const std::vector<peer::EntryContent>& asked, std::function<void(Result<peer::KeepAnswers>)> done) override {
    c_.call<peer::KeepAnswers>(side_, [from = me(), asked](ArenaService& s, auto reply) { s.servePromise(from, asked, reply); }, done);
  }
  void release(const std::vector<peer::EntryContent>& promised) override {
    c_.send(side_, [self = c_.shared_from_this(), side = side_, promised] {
      if (auto* service = self->ends[1 - side]->service()) service->onRelease(self->keys[side], promised);
    });
  }
  void holds(const std::vector<peer::EntryContent>& asked, std::function<void(Result<std::vector<bool>>)> done) override {
    c_.call<std::vector<bool>>(side_, [from = me(), asked](ArenaService& s, auto reply) { reply(s.serveHolds(from, asked)); }, done);
  }
  void lacking(const peer::LackRequest& request, std::function<void(Result<std::set<PeerKey>>)> done) override {
    c_.call<std::set<PeerKey>>(side_, [from = me(), request](ArenaService& s, auto reply) { s.serveLacking(from, request, reply); }, done);
  }
  void cancel(uint64_t request) override { c_.waiting[side_].erase(request); }

  uint64_t get(const peer::GetRequest& request, peer::OnChunks onChunks,
               std::function<void(Result<std::vector<WantStatus>>)> done) override {
    struct Get {
      uint64_t sent = 0, arrived = 0;
      bool answered = false;
      std::vector<WantStatus> statuses;
      peer::OnChunks onChunks;  // Let go with the end of the call, as in call().
      std::function<void(Result<std::vector<WantStatus>>)> done;

      void end(Result<std::vector<WantStatus>> result) {
        onChunks = nullptr;
        std::exchange(done, nullptr)(std::move(result));
      }
    };
    auto get = std::make_shared<Get>();
    auto self = c_.shared_from_this();
    const int side = side_;
    const uint64_t number = ++c_.lastCall;
    if (!c_.open) {
      c_.ends[side]->scheduler->onCore([done] { done(kLost); });
      return number;
    }
    get->onChunks = std::move(onChunks);
    get->done = std::move(done);
    c_.waiting[side][number] = [get](Error error) { get->end(error); };
    std::string wants;
    for (const auto& want : request.wants) wants += " " + want.blob.hex().substr(0, 8);
    c_.talk(side, number, "asks for" + wants + ", hops " + std::to_string(request.hops));
    auto finish = [self, side, number, get] {
      if (!get->answered || get->arrived < get->sent || !self->waiting[side].contains(number)) return;
      self->ends[side]->scheduler->onCore([self, side, number, get] {
        if (self->waiting[side].erase(number)) get->end(get->statuses);
      });
    };
    // Frames come on the pool, in no order; what they hold counts as arrived when onChunks has returned.
    auto sink = [self, side, number, get, finish](peer::ChunkArrivals chunks) {
      if (!self->open) return false;
      ++get->sent;
      auto held = std::make_shared<std::vector<HeldChunk>>(HeldChunk::of(chunks));
      if (self->link->onChunk)
        for (auto& chunk : *held) self->link->onChunk(chunk);
      self->send(1 - side, [self, side, number, get, finish, held] {
        self->ends[side]->scheduler->onPool(true, [self, side, number, get, finish, held] {
          if (!self->waiting[side].contains(number)) return;
          HeldChunk::deliver(*held, get->onChunks);
          ++get->arrived;
          finish();
        });
      });
      return true;
    };
    c_.send(side, [self, side, number, request, sink, get, finish] {
      auto* service = self->ends[1 - side]->service();
      if (!service) return;
      service->serveGet(self->keys[side], request, sink, [self, side, number, get, finish](Result<std::vector<WantStatus>> result) {
        self->send(1 - side, [self, side, number, get, finish, result] {
          std::string statuses;
          if (result.ok())
            for (auto status : *result) statuses += status == WantStatus::Sent ? " sent" : " not";
          self->talk(side, number, "is answered" + statuses);
          get->answered = true;
          if (result.ok()) get->statuses = *result;
          finish();
        });
      });
    });
    return number;
  }

 private:
  PeerKey me() const { return c_.keys[side_]; }
  Connection& c_;
  int side_;
};

void SimLink::connect() {
  if (connection_ || !ends_[0]->running() || !ends_[1]->running()) return;
  connection_ = std::make_shared<Connection>();
  auto& c = *connection_;
  c.messages = &messages_;
  c.link = this;
  for (int side : {0, 1}) {
    c.ends[side] = ends_[side];
    c.keys[side] = ends_[side]->key;
    c.lives[side] = ends_[side]->lives;
    c.remotes[side] = std::make_unique<Remote>(c, side);
  }
  for (int side : {0, 1})
    ends_[side]->scheduler->onCore([self = connection_, side] {
      if (self->open) self->ends[side]->core->connected(*self->remotes[side]);
    });
}

void SimLink::cut() {
  if (!connection_) return;
  auto c = std::move(connection_);
  connection_ = nullptr;
  c->open = false;
  for (int side : {0, 1}) {
    if (!c->up(side)) continue;
    auto lost = std::move(c->waiting[side]);
    c->waiting[side].clear();
    const bool first = c->ends[side]->queue.random.oneIn(2);
    auto tell = [c, side] { c->ends[side]->core->disconnected(c->keys[1 - side]); };
    auto& scheduler = *c->ends[side]->scheduler;
    if (first) scheduler.onCore(tell);
    for (auto& [number, fail] : lost) scheduler.onCore([fail = fail] { fail(kLost); });
    if (!first) scheduler.onCore(tell);
  }
}

}  // namespace realize::test
