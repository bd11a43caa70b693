#include "librealize/net/bulk.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace realize::net {
namespace {

void put(uint8_t*& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) *out++ = uint8_t(value >> (8 * i));
}

uint64_t get(const uint8_t*& in, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= uint64_t(*in++) << (8 * i);
  return value;
}

/// The lanes count each by itself under one key: the highest bit keeps their numbers apart in the nonce.
uint64_t nonceNumber(bool interactive, uint64_t number) { return number | uint64_t(interactive) << 63; }

constexpr size_t kClearBytes = kRecordHeaderBytes + kBulkSequenceBytes;

size_t laneOf(bool interactive) { return size_t(interactive ? Priority::Interactive : Priority::Bulk); }

}  // namespace

BulkBuffer::BulkBuffer(size_t payloadBytes) : payloadBytes_(payloadBytes) {
  if (payloadBytes > kMaxBulkPayloadBytes) std::abort();
  memory_ = std::make_unique_for_overwrite<uint8_t[]>(kFront + payloadBytes + kRecordTagBytes);
}

BulkSender::BulkSender(loop::Loop& loop, Executor& pool, const Secret32& key, BulkAlgorithm algorithm,
                       size_t maxQueuedBytes)
    : loop_(loop), pool_(pool), cipher_(key, algorithm), maxQueuedBytes_(maxQueuedBytes) {}

Result<void> BulkSender::send(BulkFrame& frame) {
  if (frame.payload.record().data() == nullptr) frame.payload = BulkBuffer(0);
  auto record = frame.payload.record();
  auto slot = std::make_shared<Slot>();
  Lane& lane = lanes_[laneOf(frame.interactive)];
  uint64_t number;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return Error{Code::Unreachable, reason_};
    if (queuedBytes_ >= maxQueuedBytes_) return Error{Code::Busy, "the connection's queue is full"};
    queuedBytes_ += record.size();
    number = lane.nextNumber++;
    lane.slots.push_back(slot);
  }
  auto type = frame.interactive ? RecordType::BulkInteractive : RecordType::Bulk;
  writeRecordHeader({type, uint32_t(record.size() - kRecordHeaderBytes)}, record.data());
  uint8_t* out = record.data() + kRecordHeaderBytes;
  put(out, number, 8);
  put(out, frame.request, 8);
  put(out, frame.item, 4);
  put(out, frame.chunk, 4);
  put(out, frame.flags, 4);
  slot->buffer = std::move(frame.payload);
  uint64_t nonce = nonceNumber(frame.interactive, number);
  if (loop_.isLoopThread())
    pool_.postCounted([self = shared_from_this(), slot, &lane, nonce] { self->seal(slot, lane, nonce); },
                      frame.interactive ? Priority::Interactive : Priority::Bulk);
  else
    seal(slot, lane, nonce);
  return {};
}

void BulkSender::seal(const std::shared_ptr<Slot>& slot, Lane& lane, uint64_t nonce) {
  auto record = slot->buffer.record();
  cipher_.seal(nonce, record.first(kClearBytes), record.subspan(kClearBytes));
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    slot->sealed = true;
    if (!closed_ && !lane.slots.empty() && lane.slots.front()->sealed) wake = !std::exchange(wakePending_, true);
  }
  if (wake)
    loop_.post([self = shared_from_this()] {
      {
        std::lock_guard lock(self->mutex_);
        self->wakePending_ = false;
      }
      if (self->ready_) self->ready_();
    });
}

bool BulkSender::writable() const {
  std::lock_guard lock(mutex_);
  return !closed_ && queuedBytes_ < maxQueuedBytes_;
}

size_t BulkSender::queuedBytes() const {
  std::lock_guard lock(mutex_);
  return queuedBytes_;
}

void BulkSender::whenWritable(std::function<void()> resume) {
  std::unique_lock lock(mutex_);
  waiting_.push_back(std::move(resume));
  if (closed_ || queuedBytes_ <= maxQueuedBytes_ / 2) resumeWaiters(lock);
}

void BulkSender::resumeWaiters(std::unique_lock<std::mutex>& lock) {
  auto waiting = std::exchange(waiting_, {});
  lock.unlock();
  for (auto& resume : waiting) pool_.postCounted(std::move(resume));
}

BulkBuffer BulkSender::take() {
  std::lock_guard lock(mutex_);
  for (auto& lane : lanes_) {
    if (lane.slots.empty() || !lane.slots.front()->sealed) continue;
    BulkBuffer out = std::move(lane.slots.front()->buffer);
    lane.slots.pop_front();
    return out;
  }
  return {};
}

void BulkSender::written(size_t recordBytes) {
  std::unique_lock lock(mutex_);
  queuedBytes_ -= recordBytes;
  if (queuedBytes_ <= maxQueuedBytes_ / 2 && !waiting_.empty()) resumeWaiters(lock);
}

void BulkSender::close(const std::string& reason) {
  ready_ = nullptr;
  std::unique_lock lock(mutex_);
  if (std::exchange(closed_, true)) return;
  reason_ = reason;
  for (auto& lane : lanes_) lane.slots.clear();
  resumeWaiters(lock);
}

BulkReceiver::BulkReceiver(loop::Loop& loop, Executor& pool, const Secret32& key, BulkAlgorithm algorithm)
    : loop_(loop), pool_(pool), cipher_(key, algorithm) {}

void BulkReceiver::attach(std::function<void(Error)> failed, std::function<void()> changed) {
  failed_ = std::move(failed);
  changed_ = std::move(changed);
}

Result<void> BulkReceiver::accept(RecordType type, BulkBuffer record) {
  const uint8_t* in = record.record().data() + kRecordHeaderBytes;
  uint64_t number = get(in, 8);
  bool interactive = type == RecordType::BulkInteractive;
  if (number != nextNumber_[laneOf(interactive)]++)
    return Error{Code::Corrupt, "a bulk frame is out of turn"};
  {
    std::lock_guard lock(mutex_);
    ++jobs_;
  }
  backlogBytes_ += record.record().size();
  auto carried = std::make_shared<BulkBuffer>(std::move(record));  // std::function wants copyable captures.
  pool_.postCounted(
      [self = shared_from_this(), type, number, carried] { self->openAndHandle(type, number, std::move(*carried)); },
      interactive ? Priority::Interactive : Priority::Bulk);
  return {};
}

void BulkReceiver::openAndHandle(RecordType type, uint64_t number, BulkBuffer buffer) {
  auto record = buffer.record();
  size_t bytes = record.size();
  bool interactive = type == RecordType::BulkInteractive;
  bool opened =
      cipher_.open(nonceNumber(interactive, number), record.first(kClearBytes), record.subspan(kClearBytes));
  bool closed;
  {
    std::lock_guard lock(mutex_);
    closed = closed_;
  }
  if (!opened) {
    loop_.post([self = shared_from_this()] {
      auto failed = self->failed_;  // Calling it takes it away from us.
      if (failed) failed({Code::Corrupt, "a bulk frame that was altered on the way"});
    });
  } else if (!closed && handler_) {
    BulkFrame frame;
    const uint8_t* in = record.data() + kClearBytes;
    frame.request = get(in, 8);
    frame.item = uint32_t(get(in, 4));
    frame.chunk = uint32_t(get(in, 4));
    frame.flags = uint32_t(get(in, 4));
    frame.interactive = interactive;
    frame.payload = std::move(buffer);
    handler_(std::move(frame));
  }
  finished(bytes);
}

void BulkReceiver::finished(size_t bytes) {
  backlogBytes_ -= bytes;
  std::function<void()> drained;
  {
    std::lock_guard lock(mutex_);
    --jobs_;
    if (closed_ && jobs_ == 0) drained = std::exchange(drained_, nullptr);
  }
  if (drained) loop_.post(std::move(drained));
  if (changeWanted_.exchange(false))
    loop_.post([self = shared_from_this()] {
      auto changed = self->changed_;
      if (changed) changed();
    });
}

void BulkReceiver::close(std::function<void()> drained) {
  failed_ = nullptr;
  changed_ = nullptr;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    if (jobs_ > 0) {
      drained_ = std::move(drained);
      return;
    }
  }
  drained();
}

}  // namespace realize::net
