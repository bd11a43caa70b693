#include "librealize/peer/arena_session.h"

#include <kj/debug.h>

#include <optional>
#include <set>
#include <vector>

namespace realize::peer {

namespace {

Error lost() { return Error{Code::Unreachable, "the connection was lost"}; }

Error fromKj(const kj::Exception& e) {
  const Code code = e.getType() == kj::Exception::Type::OVERLOADED ? Code::Busy : Code::Unreachable;
  return Error{code, std::string("the other peer did not answer: ") + e.getDescription().cStr()};
}

/// What the callee said went wrong, to be thrown into its RPC.
kj::Exception toKj(const Error& error) {
  return KJ_EXCEPTION(FAILED, kj::StringPtr(error.message.c_str()));
}

}  // namespace

// --- chunk requests -----------------------------------------------------------------------------------------------

uint64_t ChunkRequests::begin(OnChunks onChunks,
                              std::function<void(Result<std::vector<WantStatus>>)> done) {
  auto open = std::make_shared<Open>();
  open->onChunks = std::move(onChunks);
  open->done = std::move(done);
  std::lock_guard held(mutex_);
  open_.emplace(++last_, std::move(open));
  return last_;
}

void ChunkRequests::arrived(uint64_t request, ChunkArrivals chunks) {
  std::unique_lock held(mutex_);
  auto it = open_.find(request);
  if (it == open_.end()) return;
  auto open = it->second;
  held.unlock();
  open->onChunks(chunks);
  held.lock();
  ++open->arrived;
  finishIfComplete(held, request);
}

void ChunkRequests::answered(uint64_t request, std::vector<WantStatus> statuses, uint64_t frames) {
  std::unique_lock held(mutex_);
  auto it = open_.find(request);
  if (it == open_.end()) return;
  it->second->expected = frames;
  it->second->outcome = std::move(statuses);
  finishIfComplete(held, request);
}

void ChunkRequests::finishIfComplete(std::unique_lock<std::mutex>& held, uint64_t request) {
  auto it = open_.find(request);
  if (it == open_.end() || !it->second->expected || it->second->arrived < *it->second->expected) return;
  auto open = std::move(it->second);
  open_.erase(it);
  held.unlock();
  open->done(std::move(open->outcome));
}

void ChunkRequests::failed(uint64_t request, Error error) {
  std::unique_lock held(mutex_);
  auto it = open_.find(request);
  if (it == open_.end()) return;
  auto open = std::move(it->second);
  open_.erase(it);
  held.unlock();
  open->done(std::move(error));
}

void ChunkRequests::failAll(Error error) {
  std::unique_lock held(mutex_);
  auto open = std::move(open_);
  open_.clear();
  held.unlock();
  for (auto& [number, request] : open) request->done(error);
}

// --- the other side -----------------------------------------------------------------------------------------------

struct RpcRemoteArena::LoopSide final : kj::TaskSet::ErrorHandler {
  explicit LoopSide(schema::ArenaService::Client c) : client(kj::mv(c)), tasks(*this) {}
  void taskFailed(kj::Exception&&) override {}  // Each task has told its caller.
  schema::ArenaService::Client client;
  uint64_t lastCall = 0;
  std::map<uint64_t, std::function<void()>> abandon;  // what to tell whose call is cut off
  kj::TaskSet tasks;
};

RpcRemoteArena::RpcRemoteArena(loop::Loop& loop, std::shared_ptr<HostedArena> arena, const PeerKey& key,
                               schema::ArenaService::Client client, std::shared_ptr<ChunkRequests> chunks)
    : loop_(loop), arena_(std::move(arena)), key_(key), chunks_(std::move(chunks)),
      side_(std::make_unique<LoopSide>(kj::mv(client))) {}

RpcRemoteArena::~RpcRemoteArena() = default;

void RpcRemoteArena::close() {
  if (!side_) return;
  auto side = std::move(side_);
  auto abandon = std::move(side->abandon);
  side = nullptr;
  for (auto& [number, tell] : abandon) tell();
}

template <typename T, typename Send>
void RpcRemoteArena::call(std::function<void(Result<T>)> done, Send send) {
  auto onCore = [arena = arena_, done = std::move(done)](Result<T> result) {
    auto shared = std::make_shared<Result<T>>(std::move(result));
    arena->scheduler().onCore([done, shared] { done(std::move(*shared)); });
  };
  const bool posted = loop_.post([self = shared_from_this(), onCore, send] {
    if (!self->side_) return onCore(Result<T>(lost()));
    auto& side = *self->side_;
    const uint64_t number = ++side.lastCall;
    side.abandon.emplace(number, [onCore] { onCore(Result<T>(lost())); });
    auto finish = [&side, number, onCore](Result<T> result) {
      if (side.abandon.erase(number)) onCore(std::move(result));
    };
    side.tasks.add(send(side.client)
                       .then([finish](Result<T> result) { finish(std::move(result)); },
                             [finish](kj::Exception&& e) { finish(Result<T>(fromKj(e))); }));
  });
  if (!posted) onCore(Result<T>(lost()));
}

void RpcRemoteArena::announce(const ArenaState& state) {
  call<bool>([](Result<bool>) {}, [state](schema::ArenaService::Client& client) {
    auto request = client.announceRequest();
    writeState(request.initState(), state);
    return request.send().then([](auto&&) { return Result<bool>(true); });
  });
}

void RpcRemoteArena::askState(bool barrier, std::function<void(Result<ArenaState>)> done) {
  call<ArenaState>(std::move(done), [barrier](schema::ArenaService::Client& client) {
    auto request = client.stateRequest();
    request.setBarrier(barrier);
    return request.send().then([](auto&& response) { return readState(response.getState()); });
  });
}

void RpcRemoteArena::pull(const PullRequest& wanted, std::function<void(Result<PullPage>)> done) {
  call<PullPage>(std::move(done), [wanted](schema::ArenaService::Client& client) {
    auto request = client.pullRequest();
    writeVector(request.initVector(), wanted.vector);
    writeVector(request.initTrimmed(), wanted.trimmed);
    request.setCursor(asData(wanted.cursor));
    request.setFresh(wanted.fresh);
    return request.send().then([](auto&& response) { return readPage(response); });
  });
}

void RpcRemoteArena::compare(const logic::WholeRequest& wanted, std::function<void(Result<logic::WholePage>)> done) {
  call<logic::WholePage>(std::move(done), [wanted](schema::ArenaService::Client& client) {
    auto request = client.compareRequest();
    writeCompare(request, wanted);
    return request.send().then([](auto&& response) { return readCompared(response); });
  });
}

void RpcRemoteArena::chunkList(const BlobId& blob, uint8_t hops, std::function<void(Result<ChunkList>)> done) {
  call<ChunkList>(std::move(done), [blob, hops](schema::ArenaService::Client& client) {
    auto request = client.chunkListRequest();
    request.setBlob(asData(blob));
    request.setHops(hops);
    return request.send().then([blob](auto&& response) -> Result<ChunkList> {
      REALIZE_ASSIGN(auto list, decodeChunkList(toString(response.getList())));
      if (blobIdOf(list) != blob) return Error{Code::Corrupt, "a peer sent a chunk list that is not the blob's"};
      return list;
    });
  });
}

uint64_t RpcRemoteArena::get(const GetRequest& wanted, OnChunks onChunks,
                             std::function<void(Result<std::vector<WantStatus>>)> done) {
  auto onCore = [arena = arena_, done = std::move(done)](Result<std::vector<WantStatus>> result) {
    auto shared = std::make_shared<Result<std::vector<WantStatus>>>(std::move(result));
    arena->scheduler().onCore([done, shared] { done(std::move(*shared)); });
  };
  // A frame may be on its way through the pool when the arena is left: it keeps alive what it uses.
  auto keeping = [arena = arena_, onChunks = std::move(onChunks)](ChunkArrivals chunks) { onChunks(chunks); };
  const uint64_t number = chunks_->begin(std::move(keeping), onCore);
  struct Answer {
    std::vector<WantStatus> statuses;
    uint64_t frames = 0;
  };
  const bool posted = loop_.post([self = shared_from_this(), wanted, number] {
    if (!self->side_) return self->chunks_->failed(number, lost());
    auto request = self->side_->client.getRequest();
    writeGet(request, number, wanted);
    auto chunks = self->chunks_;
    const size_t count = wanted.wants.size();
    auto& side = *self->side_;
    const uint64_t call = ++side.lastCall;
    side.abandon.emplace(call, [chunks, number] { chunks->failed(number, lost()); });
    side.tasks.add(request.send().then(
        [&side, call, chunks, number, count](auto&& response) {
          side.abandon.erase(call);
          std::vector<WantStatus> statuses;
          for (auto status : response.getStatuses()) statuses.push_back(fromWire(status));
          if (statuses.size() != count) return chunks->failed(number, Error{Code::Corrupt, "a peer answered other than asked"});
          chunks->answered(number, std::move(statuses), response.getFrames());
        },
        [&side, call, chunks, number](kj::Exception&& e) {
          side.abandon.erase(call);
          chunks->failed(number, fromKj(e));
        }));
  });
  if (!posted) chunks_->failed(number, lost());
  return number;
}

void RpcRemoteArena::cancel(uint64_t number) {
  chunks_->failed(number, Error{Code::Cancelled, "no longer needed"});
  call<bool>([](Result<bool>) {}, [number](schema::ArenaService::Client& client) {
    auto request = client.cancelRequest();
    request.setRequest(number);
    return request.send().then([](auto&&) { return Result<bool>(true); });
  });
}

namespace {
/// What is asked of a peer is named by blob and entry.
template <typename Request>
void writeContents(Request& request, const std::vector<EntryContent>& contents) {
  auto blobs = request.initBlobs(uint32_t(contents.size()));
  auto entries = request.initEntries(uint32_t(contents.size()));
  for (uint32_t i = 0; i < contents.size(); ++i) {
    blobs.set(i, asData(contents[i].blob));
    entries.set(i, asData(contents[i].entry));
  }
}

template <typename Params>
Result<std::vector<EntryContent>> readContents(Params params) {
  auto blobs = params.getBlobs();
  auto entries = params.getEntries();
  if (blobs.size() > kMaxWantsPerGet || entries.size() != blobs.size()) return Error{Code::Corrupt, "a peer asked for too many contents, or for half of one"};
  std::vector<EntryContent> out;
  for (uint32_t i = 0; i < blobs.size(); ++i) {
    REALIZE_ASSIGN(auto blob, readFixed<BlobId>(blobs[i]));
    REALIZE_ASSIGN(auto entry, readFixed<EntryId>(entries[i]));
    out.push_back({entry, blob});
  }
  return out;
}
}  // namespace

void RpcRemoteArena::promise(const std::vector<EntryContent>& asked, std::function<void(Result<KeepAnswers>)> done) {
  call<KeepAnswers>(std::move(done), [asked](schema::ArenaService::Client& client) {
    auto request = client.promiseRequest();
    writeContents(request, asked);
    return request.send().then([count = asked.size()](auto&& response) -> Result<KeepAnswers> {
      KeepAnswers out;
      for (bool promised : response.getPromised()) out.each.push_back(promised ? KeepAnswer::Promised : KeepAnswer::Refused);
      if (out.each.size() != count) return Error{Code::Corrupt, "a peer answered other than asked"};
      auto said = response.getAnswers();
      for (size_t i = 0; i < std::min<size_t>(said.size(), count); ++i)
        if (out.each[i] == KeepAnswer::Refused) out.each[i] = fromWire(said[uint32_t(i)]);
      out.copies = std::max<uint32_t>(1, response.getCopies());
      return out;
    });
  });
}

void RpcRemoteArena::release(const std::vector<EntryContent>& promised) {
  call<bool>([](Result<bool>) {}, [promised](schema::ArenaService::Client& client) {
    auto request = client.releaseRequest();
    writeContents(request, promised);
    return request.send().then([](auto&&) { return Result<bool>(true); });
  });
}

void RpcRemoteArena::holds(const std::vector<EntryContent>& asked, std::function<void(Result<std::vector<bool>>)> done) {
  call<std::vector<bool>>(std::move(done), [asked](schema::ArenaService::Client& client) {
    auto request = client.holdsRequest();
    writeContents(request, asked);
    return request.send().then([count = asked.size()](auto&& response) -> Result<std::vector<bool>> {
      std::vector<bool> out;
      for (bool held : response.getHeld()) out.push_back(held);
      if (out.size() != count) return Error{Code::Corrupt, "a peer answered other than asked"};
      return out;
    });
  });
}

void RpcRemoteArena::lacking(const LackRequest& wanted, std::function<void(Result<std::set<PeerKey>>)> done) {
  call<std::set<PeerKey>>(std::move(done), [wanted](schema::ArenaService::Client& client) {
    auto request = client.lackingRequest();
    writeLack(request, wanted);
    return request.send().then([](auto&& response) { return readPeers(response.getPeers()); });
  });
}

// --- our side -----------------------------------------------------------------------------------------------------

namespace {

class ArenaServer final : public schema::ArenaService::Server {
 public:
  ArenaServer(loop::Loop& loop, std::shared_ptr<HostedArena> arena, const PeerKey& from, SendChunks sendChunks)
      : loop_(loop), arena_(std::move(arena)), from_(from), sendChunks_(std::move(sendChunks)) {}

  kj::Promise<void> announce(AnnounceContext context) override {
    auto state = readState(context.getParams().getState());
    if (!state.ok()) return toKj(state.error());
    onCore([from = from_, state = *state](ArenaService& service) { service.onAnnounce(from, state); });
    return kj::READY_NOW;
  }

  kj::Promise<void> state(StateContext context) override {
    const bool barrier = context.getParams().getBarrier();
    return ask<ArenaState>([from = from_, barrier](ArenaService& service, std::function<void(Result<ArenaState>)> reply) {
             service.serveState(from, barrier, std::move(reply));
           })
        .then([context](Result<ArenaState> state) mutable -> kj::Promise<void> {
          if (!state.ok()) return toKj(state.error());
          writeState(context.getResults().initState(), *state);
          return kj::READY_NOW;
        });
  }

  kj::Promise<void> pull(PullContext context) override {
    PullRequest request;
    auto params = context.getParams();
    auto vector = readVector(params.getVector());
    auto trimmed = readVector(params.getTrimmed());
    if (!vector.ok()) return toKj(vector.error());
    if (!trimmed.ok()) return toKj(trimmed.error());
    if (params.getCursor().size() > kMaxCursorBytes) return KJ_EXCEPTION(FAILED, "a cursor that is too long");
    request.vector = std::move(*vector);
    request.trimmed = std::move(*trimmed);
    request.cursor = toString(params.getCursor());
    request.fresh = params.getFresh();
    return ask<PullPage>([from = from_, request](ArenaService& service, std::function<void(Result<PullPage>)> reply) {
             reply(service.servePull(from, request));
           })
        .then([context](Result<PullPage> page) mutable -> kj::Promise<void> {
          if (!page.ok()) return toKj(page.error());
          writePage(context.getResults(), *page);
          return kj::READY_NOW;
        });
  }

  kj::Promise<void> compare(CompareContext context) override {
    auto request = readCompare(context.getParams());
    if (!request.ok()) return toKj(request.error());
    return ask<logic::WholePage>([from = from_, request = std::move(*request)](
                                     ArenaService& service, std::function<void(Result<logic::WholePage>)> reply) {
             reply(service.serveCompare(from, request));
           })
        .then([context](Result<logic::WholePage> page) mutable -> kj::Promise<void> {
          if (!page.ok()) return toKj(page.error());
          writeCompared(context.getResults(), *page);
          return kj::READY_NOW;
        });
  }

  kj::Promise<void> chunkList(ChunkListContext context) override {
    auto blob = readFixed<BlobId>(context.getParams().getBlob());
    if (!blob.ok()) return toKj(blob.error());
    const uint8_t hops = std::min<uint8_t>(context.getParams().getHops(), 3);
    return ask<ChunkList>([from = from_, blob = *blob, hops](ArenaService& service,
                                                             std::function<void(Result<ChunkList>)> reply) {
             service.serveChunkList(from, blob, hops, std::move(reply));
           })
        .then([context](Result<ChunkList> list) mutable -> kj::Promise<void> {
          if (!list.ok()) return toKj(list.error());
          context.getResults().setList(asData(encodeChunkList(*list)));
          return kj::READY_NOW;
        });
  }

  kj::Promise<void> get(GetContext context) override {
    auto request = readGet(context.getParams());
    if (!request.ok()) return toKj(request.error());
    const uint64_t number = context.getParams().getRequest();
    using Statuses = std::vector<WantStatus>;
    auto frames = std::make_shared<std::atomic<uint32_t>>(0);
    // Who does not know of packs gets each chunk in a frame of its own.
    const size_t together = context.getParams().getPacks() ? SIZE_MAX : 1;
    auto sink = [send = sendChunks_, number, interactive = request->interactive, frames, together,
                 cancelled = cancelled_](ChunkArrivals chunks) {
      while (!chunks.empty()) {
        if (cancelled->has(number)) return false;
        const size_t count = std::min(chunks.size(), together);
        ++*frames;  // Before it is sent: the answer, which counts them, comes after the last.
        if (!send(number, interactive, chunks.first(count))) {
          --*frames;
          return false;
        }
        chunks = chunks.subspan(count);
      }
      return true;
    };
    return ask<Statuses>([from = from_, request = std::make_shared<GetRequest>(std::move(*request)), sink](
                             ArenaService& service, std::function<void(Result<Statuses>)> reply) {
             service.serveGet(from, *request, sink, std::move(reply));
           })
        .then([context, frames, number, cancelled = cancelled_](Result<Statuses> statuses) mutable -> kj::Promise<void> {
          cancelled->forget(number);
          if (!statuses.ok()) return toKj(statuses.error());
          auto out = context.getResults().initStatuses(statuses->size());
          for (size_t i = 0; i < statuses->size(); ++i) out.set(i, toWire((*statuses)[i]));
          context.getResults().setFrames(*frames);
          return kj::READY_NOW;
        });
  }

  kj::Promise<void> cancel(CancelContext context) override {
    cancelled_->add(context.getParams().getRequest());
    return kj::READY_NOW;
  }

  kj::Promise<void> promise(PromiseContext context) override {
    if (context.getParams().getEntries().size() == 0) {  // Nothing is promised without.
      context.getResults().initPromised(std::min<uint32_t>(context.getParams().getBlobs().size(), kMaxWantsPerGet));
      return kj::READY_NOW;
    }
    auto asked = readContents(context.getParams());
    if (!asked.ok()) return toKj(asked.error());
    return ask<KeepAnswers>([from = from_, asked = *asked](ArenaService& service, std::function<void(Result<KeepAnswers>)> reply) {
             service.servePromise(from, asked, std::move(reply));
           })
        .then([context](Result<KeepAnswers> answers) mutable -> kj::Promise<void> {
          if (!answers.ok()) return toKj(answers.error());
          const uint32_t count = uint32_t(answers->each.size());
          auto promised = context.getResults().initPromised(count);
          auto reasons = context.getResults().initAnswers(count);
          for (uint32_t i = 0; i < count; ++i) {
            promised.set(i, answers->each[i] == KeepAnswer::Promised);
            reasons.set(i, toWire(answers->each[i]));
          }
          context.getResults().setCopies(answers->copies);
          return kj::READY_NOW;
        });
  }

  kj::Promise<void> release(ReleaseContext context) override {
    auto contents = readContents(context.getParams());
    if (!contents.ok()) return toKj(contents.error());
    onCore([from = from_, contents = *contents](ArenaService& service) { service.onRelease(from, contents); });
    return kj::READY_NOW;
  }

  kj::Promise<void> holds(HoldsContext context) override {
    auto asked = readContents(context.getParams());
    if (!asked.ok()) return toKj(asked.error());
    return ask<std::vector<bool>>([from = from_, asked = *asked](ArenaService& service,
                                                                 std::function<void(Result<std::vector<bool>>)> reply) {
             reply(service.serveHolds(from, asked));
           })
        .then([context](Result<std::vector<bool>> held) mutable -> kj::Promise<void> {
          if (!held.ok()) return toKj(held.error());
          auto out = context.getResults().initHeld(uint32_t(held->size()));
          for (size_t i = 0; i < held->size(); ++i) out.set(uint32_t(i), (*held)[i]);
          return kj::READY_NOW;
        });
  }

  kj::Promise<void> lacking(LackingContext context) override {
    auto request = readLack(context.getParams());
    if (!request.ok()) return toKj(request.error());
    using Peers = std::set<PeerKey>;
    return ask<Peers>([from = from_, request = std::move(*request)](ArenaService& service, std::function<void(Result<Peers>)> reply) {
             service.serveLacking(from, request, std::move(reply));
           })
        .then([context](Result<Peers> peers) mutable -> kj::Promise<void> {
          if (!peers.ok()) return toKj(peers.error());
          writePeers(context.getResults().initPeers(uint32_t(peers->size())), *peers);
          return kj::READY_NOW;
        });
  }

 private:
  static constexpr size_t kMaxCursorBytes = 64 << 10;

  /// Requests that the other side no longer needs; a bounded memory of them.
  class Cancelled {
   public:
    void add(uint64_t number) {
      std::lock_guard held(mutex_);
      if (numbers_.size() < 4096) numbers_.insert(number);
    }
    bool has(uint64_t number) {
      std::lock_guard held(mutex_);
      return numbers_.contains(number);
    }
    void forget(uint64_t number) {
      std::lock_guard held(mutex_);
      numbers_.erase(number);
    }

   private:
    std::mutex mutex_;
    std::set<uint64_t> numbers_;
  };

  void onCore(std::function<void(ArenaService&)> job) {
    arena_->scheduler().onCore([arena = arena_, job = std::move(job)] {
      if (auto* service = arena->service()) job(*service);
    });
  }

  template <typename T>
  kj::Promise<Result<T>> ask(std::function<void(ArenaService&, std::function<void(Result<T>)>)> work) {
    auto paf = kj::newPromiseAndFulfiller<Result<T>>();
    LoopReply<Result<T>> reply(loop_, kj::mv(paf.fulfiller));
    arena_->scheduler().onCore([arena = arena_, work = std::move(work), reply] {
      if (auto* service = arena->service()) work(*service, reply);
      else reply(Result<T>(Error{Code::Suspended, "the arena was left"}));
    });
    return kj::mv(paf.promise);
  }

  loop::Loop& loop_;
  std::shared_ptr<HostedArena> arena_;
  PeerKey from_;
  SendChunks sendChunks_;
  std::shared_ptr<Cancelled> cancelled_ = std::make_shared<Cancelled>();
};

}  // namespace

schema::ArenaService::Client serveArena(loop::Loop& loop, std::shared_ptr<HostedArena> arena, const PeerKey& from,
                                        SendChunks sendChunks) {
  return kj::heap<ArenaServer>(loop, std::move(arena), from, std::move(sendChunks));
}

}  // namespace realize::peer
