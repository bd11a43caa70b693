#pragma once

// A socket with a handshake and records over it. The state machine of one connection: Greeting, then Opening (keys are
// there, the other's Ready is not), Open, Closed. connection.h is what others use.

#include <kj/async.h>
#include <kj/io.h>
#include <kj/timer.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "librealize/base/pool.h"
#include "librealize/base/random.h"
#include "librealize/loop/loop.h"
#include "librealize/loop/socket.h"
#include "librealize/net/bulk.h"
#include "librealize/net/greeting.h"
#include "librealize/net/record.h"
#include "realize/result.h"

namespace realize::net {

/// Bounds and times of a connection. The defaults are for use, other values for tests.
struct Limits {
  kj::Duration handshakeTime = 10 * kj::SECONDS;  ///< from the TCP connection to the other's Ready
  kj::Duration pingAfter = 5 * kj::SECONDS;       ///< of having sent nothing
  kj::Duration deadAfter = 20 * kj::SECONDS;      ///< of having heard nothing
  size_t maxHandshakes = 64;                      ///< at once, of those who dial us; the oldest makes room
  size_t maxQueuedBulkBytes = BulkSender::kDefaultMaxQueuedBytes;
  size_t maxBacklogBytes = 32 * 1024 * 1024;      ///< bulk received and not handled; beyond it nothing is read
  size_t maxMessageBytes = 8 * 1024 * 1024;       ///< of one RPC message
};

/// What all connections of one peer share. Lifetime: outlives them.
struct Local {
  loop::Loop& loop;
  kj::Timer& timer;  ///< of the loop, or a test's
  Executor& pool;
  const Identity& identity;
  Random& random;
  Limits limits{};
};

/// The listener's decision about a proven key. Must not act on anything lasting but `admission`: without one, the
/// opening may be a replay, and the connection never comes.
using Authorize = std::function<kj::Promise<bool>(const PeerKey& key, Bytes admission)>;

/// Thread: the loop's, but for the counters. Lifetime: may be destroyed any time but inside rpcReceived.
class Transport final : private loop::Socket::Observer, private loop::TurnEnd {
 public:
  /// With `expected` the dialer's side, else the listener's, which asks `authorize`.
  Transport(const Local& local, kj::AutoCloseFd fd, std::optional<Expected> expected, Authorize authorize);
  ~Transport() noexcept override;

  /// Once: resolves when open, or with why not.
  kj::Promise<Result<void>> onOpen() { return kj::mv(openPromise_); }
  /// Once: resolves when closed and no bulk handler runs any more. Never breaks.
  kj::Promise<void> onClosed() { return kj::mv(closedPromise_); }
  bool closed() const { return state_ == State::Closed; }
  const Error& reason() const { return reason_; }
  const PeerKey& remoteKey() const { return greeting_.peer().key(); }
  const DhBinding& remoteBinding() const { return greeting_.peer().binding; }
  const std::string& remoteAddress() const { return remoteAddress_; }
  const std::string& localHost() const { return localHost_; }

  /// Once, when open: begins to read records. `rpcReceived` gets the bytes of the RPC stream; it must not destroy the
  /// transport. `roomAgain`: after every turn that
  /// leaves hasRoom().
  struct Sink {
    virtual ~Sink() = default;
    virtual Result<void> rpcReceived(std::span<const std::byte> bytes) = 0;
    virtual void roomAgain() = 0;
    virtual void transportClosed(const Error& reason) = 0;
  };
  void start(Sink& sink, BulkHandler onBulk);
  /// Sent at the end of this turn, together.
  void sendRpc(std::span<const std::byte> bytes);
  bool hasRoom() const { return waitingRpc_.size() - waitingRpcTaken_ < kMaxWaitingRpcBytes; }
  /// The RPC side has too much that it has not read.
  void pauseForRpc(bool pause);
  const std::shared_ptr<BulkSender>& bulk() const { return sender_; }
  /// Tells the other side why, if it can be told at once, and closes.
  void close(const Error& reason);
  /// The same in a turn of its own, for those whom closing would call back.
  void closeSoon(const Error& reason);

  std::atomic<uint64_t> sentBytes{0};
  std::atomic<uint64_t> receivedBytes{0};

  static constexpr size_t kMaxWaitingRpcBytes = 1024 * 1024;

 private:
  enum class State : uint8_t { Greeting, Judging, Opening, Open, Closed };
  /// In wire order and sealed; either small records together or one bulk frame.
  struct Outgoing {
    std::vector<uint8_t> bytes;
    BulkBuffer frame;
    size_t sent = 0;
    bool isFrame = false;
    std::span<const uint8_t> rest() { return (isFrame ? frame.record() : std::span<uint8_t>(bytes)).subspan(sent); }
  };

  void socketReadable() override;
  void socketWritable() override;
  void turnEnd() override;
  template <typename F>
  void guarded(F f);

  void receive();
  bool takeInput();
  bool takeGreeting(std::span<uint8_t> input, size_t& used);
  bool takeRecord(std::span<uint8_t> input, size_t& used);
  bool takeStreamRecord(RecordHeader header, std::span<uint8_t> record);
  bool takeBulkFrame();
  void judge();
  void keysReady();
  void sendStream(RecordType type, std::span<const std::byte> plain);
  void sendClear(Bytes& bytes);
  void fill();
  void flush();
  void wroteOut(size_t bytes);
  void updateReading();
  kj::Promise<void> beat();
  void lost(const std::string& how);
  void fail(Error error);

  const Local& local_;
  const Authorize authorize_;
  const bool dials_;
  State state_ = State::Greeting;
  Error reason_;
  Greeting greeting_;
  std::string remoteAddress_, localHost_;
  std::optional<loop::Socket> socket_;
  std::optional<StreamCipher> sealing_, opening_;
  std::shared_ptr<BulkSender> sender_;
  std::shared_ptr<BulkReceiver> receiver_;
  Sink* sink_ = nullptr;

  // Receiving: input_[begin_, end_) is read and not taken. A bulk frame under way is received where it will be opened.
  std::vector<uint8_t> input_;
  size_t begin_ = 0, end_ = 0;
  std::optional<BulkBuffer> frame_;
  RecordType frameType_ = RecordType::Bulk;
  size_t frameFilled_ = 0;
  bool started_ = false;
  bool rpcPaused_ = false;
  bool reading_ = true;

  // Sending.
  std::vector<std::byte> waitingRpc_;
  size_t waitingRpcTaken_ = 0;
  std::deque<Outgoing> outgoing_;
  size_t outgoingBytes_ = 0;

  kj::TimePoint lastHeard_, lastSent_;
  kj::Own<kj::PromiseFulfiller<Result<void>>> open_;
  kj::Promise<Result<void>> openPromise_ = nullptr;
  kj::Own<kj::PromiseFulfiller<void>> closedFulfiller_;
  kj::Promise<void> closedPromise_ = nullptr;
  kj::Promise<void> deadline_ = nullptr;
  kj::Promise<void> judging_ = nullptr;
  kj::Promise<void> heartbeat_ = nullptr;
  kj::Promise<void> closing_ = nullptr;
};

}  // namespace realize::net
