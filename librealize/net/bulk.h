#pragma once

// Bulk frames: blob bytes beside the RPC stream. They are sealed by whoever sends them and opened in the pool, so that
// the loop's thread only moves bytes. RPC records overtake all queued frames; interactive frames overtake the others.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "librealize/base/pool.h"
#include "librealize/loop/loop.h"
#include "librealize/net/record.h"
#include "realize/result.h"

namespace realize::net {

/// A payload with room around it for what the wire needs, so that it is read, hashed, sealed and sent where it lies.
/// Not zeroed.
class BulkBuffer {
 public:
  BulkBuffer() = default;
  /// `payloadBytes` at most kMaxBulkPayloadBytes, else the process ends (a bug).
  explicit BulkBuffer(size_t payloadBytes);

  std::span<std::byte> payload() { return {reinterpret_cast<std::byte*>(memory_.get()) + kFront, payloadBytes_}; }
  std::span<const std::byte> payload() const {
    return {reinterpret_cast<const std::byte*>(memory_.get()) + kFront, payloadBytes_};
  }
  size_t size() const { return payloadBytes_; }
  /// Makes the payload shorter.
  void truncate(size_t payloadBytes) { payloadBytes_ = std::min(payloadBytes, payloadBytes_); }

  /// The whole record: header, number, bulk header, payload, tag. For bulk.cc and transport.cc.
  std::span<uint8_t> record() { return {memory_.get(), kFront + payloadBytes_ + kRecordTagBytes}; }

  static constexpr size_t kFront = kRecordHeaderBytes + kBulkSequenceBytes + kBulkHeaderBytes;

 private:
  std::unique_ptr<uint8_t[]> memory_;
  size_t payloadBytes_ = 0;
};

struct BulkFrame {
  uint64_t request = 0;
  uint32_t item = 0;
  uint32_t chunk = 0;
  uint32_t flags = 0;
  bool interactive = false;
  BulkBuffer payload;
};

/// Called on a pool thread, several at once, in no promised order. Must not throw, nor wait for the network.
using BulkHandler = std::function<void(BulkFrame)>;

/// The sending end of one connection. Thread: any, for the public part. Lifetime: shared; it outlives its connection
/// and then refuses everything. The pool and the loop must outlive it.
class BulkSender : public std::enable_shared_from_this<BulkSender> {
 public:
  /// Beyond so many queued bytes send() refuses; under half of it, whenWritable() calls back.
  static constexpr size_t kDefaultMaxQueuedBytes = 8 * 1024 * 1024;

  BulkSender(loop::Loop& loop, Executor& pool, const Secret32& key, BulkAlgorithm algorithm, size_t maxQueuedBytes);

  /// Queues the frame; takes it only if it succeeds. Sealed in the calling thread, or in the pool for the loop's thread.
  /// Errors: Busy (the queue is full: see whenWritable), Unreachable (closed).
  Result<void> send(BulkFrame& frame);
  bool writable() const;
  size_t queuedBytes() const;
  /// Calls `resume` once, in the pool, as soon as the queue is half empty or the connection closed (then send() says so).
  void whenWritable(std::function<void()> resume);

  // For the transport. Thread: the loop's.
  /// Called, on the loop, whenever there may be something to take.
  void attach(std::function<void()> ready) { ready_ = std::move(ready); }
  /// The next frame to write if it is sealed already, or an empty buffer.
  BulkBuffer take();
  /// So many bytes that were taken have been written.
  void written(size_t recordBytes);
  void close(const std::string& reason);

 private:
  struct Slot {
    BulkBuffer buffer;
    bool sealed = false;
  };
  struct Lane {
    std::deque<std::shared_ptr<Slot>> slots;
    uint64_t nextNumber = 0;
  };

  void seal(const std::shared_ptr<Slot>& slot, Lane& lane, uint64_t number);
  void resumeWaiters(std::unique_lock<std::mutex>& lock);

  loop::Loop& loop_;
  Executor& pool_;
  const BulkCipher cipher_;
  const size_t maxQueuedBytes_;
  mutable std::mutex mutex_;
  Lane lanes_[2];  // by Priority
  size_t queuedBytes_ = 0;
  bool wakePending_ = false;
  bool closed_ = false;
  std::string reason_;
  std::vector<std::function<void()>> waiting_;
  std::function<void()> ready_;  // loop thread only
};

/// The receiving end. Thread: the loop's, but for what runs in the pool. Lifetime: shared with the pool's jobs.
class BulkReceiver : public std::enable_shared_from_this<BulkReceiver> {
 public:
  BulkReceiver(loop::Loop& loop, Executor& pool, const Secret32& key, BulkAlgorithm algorithm);

  void setHandler(BulkHandler handler) { handler_ = std::move(handler); }
  /// `failed`: a frame did not verify; `changed`: see wantChange. Both on the loop's thread.
  void attach(std::function<void(Error)> failed, std::function<void()> changed);
  /// Takes a complete record. Errors: Corrupt (number out of turn).
  Result<void> accept(RecordType type, BulkBuffer record);
  /// Bytes accepted and not yet handled.
  size_t backlogBytes() const { return backlogBytes_.load(); }
  /// Calls `changed` once, after the next frame was handled.
  void wantChange() { changeWanted_ = true; }
  /// From now on no handler is called; `drained` is called on the loop when none runs any more.
  void close(std::function<void()> drained);

 private:
  void openAndHandle(RecordType type, uint64_t number, BulkBuffer record);
  void finished(size_t bytes);

  loop::Loop& loop_;
  Executor& pool_;
  const BulkCipher cipher_;
  BulkHandler handler_;
  uint64_t nextNumber_[2] = {0, 0};
  std::atomic<size_t> backlogBytes_{0};
  std::mutex mutex_;
  size_t jobs_ = 0;
  bool closed_ = false;
  std::atomic<bool> changeWanted_{false};
  std::function<void()> drained_;
  std::function<void(Error)> failed_;  // loop thread only
  std::function<void()> changed_;      // loop thread only
};

}  // namespace realize::net
