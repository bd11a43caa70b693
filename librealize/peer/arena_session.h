#pragma once

// One arena over one connection: RemoteArena as calls to the other side, and our ArenaService exported to it.

#include <capnp/capability.h>
#include <kj/async.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "librealize/loop/loop.h"
#include "librealize/peer/environment.h"
#include "librealize/peer/remote.h"
#include "librealize/peer/wire.h"

namespace realize::peer {

/// An arena that this process runs: what sessions answer with. Shared: a session may outlive the arena's being left,
/// then `scheduler` drops its jobs.
struct HostedArena {
  virtual ~HostedArena() = default;
  virtual const ArenaId& id() const = 0;
  virtual Scheduler& scheduler() = 0;
  /// Under the core lock; null once the arena is closed.
  virtual ArenaService* service() = 0;
};

/// Sends chunks as one bulk frame under a request number of the other side's choosing. False when the connection is
/// gone. Interactive chunks overtake the others. Thread: any.
using SendChunks = std::function<bool(uint64_t request, bool interactive, ChunkArrivals chunks)>;

/// Numbers requests for chunks on one connection, and takes the frames that answer them. Thread: any.
class ChunkRequests {
 public:
  struct Open {
    OnChunks onChunks;
    std::function<void(Result<std::vector<WantStatus>>)> done;
    uint64_t arrived = 0;                    // frames whose onChunks has returned
    std::optional<uint64_t> expected;        // told by the answer
    Result<std::vector<WantStatus>> outcome = Error{Code::Unreachable, "the connection was lost"};
  };
  uint64_t begin(OnChunks onChunks, std::function<void(Result<std::vector<WantStatus>>)> done);
  /// A frame came. Unknown numbers (cancelled) are dropped.
  void arrived(uint64_t request, ChunkArrivals chunks);
  /// The answer came: all is done once `frames` have arrived.
  void answered(uint64_t request, std::vector<WantStatus> statuses, uint64_t frames);
  void failed(uint64_t request, Error error);
  void failAll(Error error);

 private:
  void finishIfComplete(std::unique_lock<std::mutex>& held, uint64_t request);
  std::mutex mutex_;
  uint64_t last_ = 0;
  std::map<uint64_t, std::shared_ptr<Open>> open_;
};

/// The other peer's arena, reached by RPC. Made and closed on the loop; RemoteArena's methods on the core.
/// Lifetime: close() on the loop ends all calls with Unreachable; the last reference may be dropped anywhere after.
class RpcRemoteArena final : public RemoteArena, public std::enable_shared_from_this<RpcRemoteArena> {
 public:
  RpcRemoteArena(loop::Loop& loop, std::shared_ptr<HostedArena> arena, const PeerKey& key,
                 schema::ArenaService::Client client, std::shared_ptr<ChunkRequests> chunks);
  ~RpcRemoteArena() override;
  void close();

  PeerKey key() const override { return key_; }
  void announce(const ArenaState& state) override;
  void askState(bool barrier, std::function<void(Result<ArenaState>)> done) override;
  void pull(const PullRequest& request, std::function<void(Result<PullPage>)> done) override;
  void compare(const logic::WholeRequest& request, std::function<void(Result<logic::WholePage>)> done) override;
  void chunkList(const BlobId& blob, uint8_t hops, std::function<void(Result<ChunkList>)> done) override;
  uint64_t get(const GetRequest& request, OnChunks onChunks,
               std::function<void(Result<std::vector<WantStatus>>)> done) override;
  void cancel(uint64_t request) override;
  void promise(const std::vector<EntryContent>& asked, std::function<void(Result<KeepAnswers>)> done) override;
  void release(const std::vector<EntryContent>& promised) override;
  void holds(const std::vector<EntryContent>& asked, std::function<void(Result<std::vector<bool>>)> done) override;
  void lacking(const LackRequest& request, std::function<void(Result<std::set<PeerKey>>)> done) override;

 private:
  struct LoopSide;
  /// Runs `send` (returning kj::Promise<Result<T>>) on the loop; its outcome reaches `done` on the core, once.
  template <typename T, typename Send>
  void call(std::function<void(Result<T>)> done, Send send);

  loop::Loop& loop_;
  std::shared_ptr<HostedArena> arena_;
  PeerKey key_;
  std::shared_ptr<ChunkRequests> chunks_;
  std::unique_ptr<LoopSide> side_;  // used on the loop only; null after close()
};

/// Exports `arena` to the peer `from`.
schema::ArenaService::Client serveArena(loop::Loop& loop, std::shared_ptr<HostedArena> arena, const PeerKey& from,
                                        SendChunks sendChunks);

/// Settles a KJ promise from any thread; dropped unsettled, the promise fails. Copyable.
template <typename T>
class LoopReply {
 public:
  LoopReply(loop::Loop& loop, kj::Own<kj::PromiseFulfiller<T>> fulfiller)
      : state_(std::make_shared<State>(loop, kj::mv(fulfiller))) {}
  void operator()(T value) const {
    auto shared = std::make_shared<T>(std::move(value));
    state_->loop.post([state = state_, shared] { state->fulfiller->fulfill(kj::mv(*shared)); });
  }

 private:
  struct State {
    State(loop::Loop& loop, kj::Own<kj::PromiseFulfiller<T>> f) : loop(loop), fulfiller(kj::mv(f)) {}
    ~State() {
      if (loop.isLoopThread()) return;
      // The promise's other half lives on the loop: so must this one's end.
      auto* moved = new kj::Own<kj::PromiseFulfiller<T>>(kj::mv(fulfiller));
      if (!loop.post([moved] { delete moved; })) (void)moved;  // Leaked: its loop is gone.
    }
    loop::Loop& loop;
    kj::Own<kj::PromiseFulfiller<T>> fulfiller;
  };
  std::shared_ptr<State> state_;
};

}  // namespace realize::peer
