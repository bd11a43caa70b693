#include "librealize/net/transport.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "librealize/loop/failure.h"

namespace realize::net {
namespace {

constexpr size_t kHandshakeBufferBytes = 16 * 1024;
constexpr size_t kInputBufferBytes = 2 * (kRecordHeaderBytes + kMaxStreamRecordBytes + kRecordTagBytes);
/// Sealed and given to the socket at once; what is urgent waits for no more than this and a frame.
constexpr size_t kOutgoingBytes = 128 * 1024;
constexpr size_t kTurnBytes = 4 * 1024 * 1024;  ///< one connection's share of a turn, each way

/// A text from outside, fit for a log.
std::string printable(std::span<const std::byte> bytes) {
  std::string out;
  for (auto b : bytes) out += char(b) >= ' ' && char(b) < 127 ? char(b) : '?';
  return out;
}

std::span<const std::byte> asBytes(std::span<const uint8_t> bytes) { return std::as_bytes(bytes); }

}  // namespace

Transport::Transport(const Local& local, kj::AutoCloseFd fd, std::optional<Expected> expected, Authorize authorize)
    : local_(local), authorize_(std::move(authorize)), dials_(expected.has_value()),
      greeting_(local.identity, std::move(expected), BulkCipher::aesAvailable() ? Greeting::kAbilityAes : 0, local.random),
      input_(kHandshakeBufferBytes), lastHeard_(local.timer.now()), lastSent_(lastHeard_) {
  auto open = kj::newPromiseAndFulfiller<Result<void>>();
  openPromise_ = kj::mv(open.promise);
  open_ = kj::mv(open.fulfiller);
  auto closed = kj::newPromiseAndFulfiller<void>();
  closedPromise_ = kj::mv(closed.promise);
  closedFulfiller_ = kj::mv(closed.fulfiller);
  socket_.emplace(local_.loop, kj::mv(fd), static_cast<loop::Socket::Observer&>(*this));
  remoteAddress_ = socket_->remoteText();
  localHost_ = socket_->localHost();
  socket_->wantRead(true);
  deadline_ = local_.timer.afterDelay(local_.limits.handshakeTime)
                  .then([this] { fail({Code::TimedOut, "the other side did not finish the handshake in time"}); })
                  .eagerlyEvaluate(nullptr);
  sendClear(greeting_.output());
  local_.loop.atTurnEnd(*this);
}

Transport::~Transport() noexcept {
  local_.loop.forget(*this);
  sink_ = nullptr;
  fail({Code::Cancelled, "closed"});
}

// ---- Receiving

/// Out of memory, or a bug below: ends this connection, not the process.
template <typename F>
void Transport::guarded(F f) {
  KJ_IF_MAYBE(e, kj::runCatchingExceptions([&] { f(); })) fail(loop::toError(*e));
}

void Transport::socketReadable() {
  guarded([this] { receive(); });
}

void Transport::socketWritable() {
  guarded([this] { flush(); });
}

void Transport::turnEnd() {
  guarded([this] { flush(); });
}

void Transport::receive() {
  for (size_t taken = 0; taken < kTurnBytes && state_ != State::Closed && reading_;) {
    if (begin_ > 0) {
      std::memmove(input_.data(), input_.data() + begin_, end_ - begin_);
      end_ -= std::exchange(begin_, 0);
    }
    iovec parts[2];
    size_t count = 0;
    size_t wanted = 0;
    if (frame_) {
      auto rest = frame_->record().subspan(frameFilled_);
      parts[count++] = {rest.data(), rest.size()};
      wanted += rest.size();
    }
    // Behind a frame only the beginning of the next record is wanted here: its body goes where it belongs.
    size_t staged = frame_ ? std::min<size_t>(4096, input_.size() - end_) : input_.size() - end_;
    parts[count++] = {input_.data() + end_, staged};
    wanted += staged;
    auto got = socket_->receive(parts, count);
    if (!got.ok()) return lost(got.error().message);
    if (!got->has_value()) return;
    size_t n = **got;
    if (n == 0) return lost("the other side ended the connection");
    taken += n;
    receivedBytes.fetch_add(n, std::memory_order_relaxed);
    lastHeard_ = local_.timer.now();
    bool drained = n < wanted;
    if (frame_) {
      size_t into = std::min(n, frame_->record().size() - frameFilled_);
      frameFilled_ += into;
      n -= into;
    }
    end_ += n;
    if (!takeInput() || drained) return;
  }
}

bool Transport::takeInput() {
  while (state_ != State::Closed) {
    if (frame_) {
      auto rest = frame_->record().subspan(frameFilled_);
      size_t n = std::min(rest.size(), end_ - begin_);
      std::memcpy(rest.data(), input_.data() + begin_, n);
      begin_ += n;
      frameFilled_ += n;
      if (n < rest.size()) return true;
      if (!takeBulkFrame()) return false;
      continue;
    }
    std::span<uint8_t> input(input_.data() + begin_, end_ - begin_);
    size_t used = 0;
    bool goOn = true;
    if (state_ == State::Greeting)
      goOn = takeGreeting(input, used);
    else if (state_ == State::Opening || (state_ == State::Open && started_))
      goOn = takeRecord(input, used);
    if (!goOn) return false;
    if (used == 0) return true;
    begin_ += used;
  }
  return false;
}

bool Transport::takeGreeting(std::span<uint8_t> input, size_t& used) {
  auto taken = greeting_.receive(asBytes(input));
  bool any = !greeting_.output().empty();
  sendClear(greeting_.output());
  if (!taken.ok()) {
    if (any) flush();
    fail(taken.error());
    return false;
  }
  used = *taken;
  if (any) local_.loop.atTurnEnd(*this);
  if (greeting_.state() == Greeting::State::Judging)
    judge();
  else if (greeting_.state() == Greeting::State::Done)
    keysReady();
  return true;
}

void Transport::judge() {
  state_ = State::Judging;
  auto admission = greeting_.admission();
  auto verdict = kj::evalNow([&] { return authorize_(remoteKey(), Bytes(admission.begin(), admission.end())); });
  judging_ = verdict
                 .then(
                     [this](bool welcome) {
                       if (!welcome)
                         return fail({Code::Refused, "refused the key " + remoteKey().hex() + ": it is not a member"});
                       if (auto accepted = greeting_.accept(); !accepted.ok()) return fail(accepted.error());
                       sendClear(greeting_.output());
                       keysReady();
                       if (takeInput()) updateReading();
                     },
                     [this](kj::Exception&& e) { fail(loop::toError(e)); })
                 .eagerlyEvaluate(nullptr);
}

void Transport::keysReady() {
  state_ = State::Opening;
  const NoiseKeys& keys = greeting_.keys();
  sealing_.emplace(keys.send);
  opening_.emplace(keys.receive);
  auto algorithm = greeting_.bothHaveAes() ? BulkAlgorithm::Aes256Gcm : BulkAlgorithm::ChaCha20Poly1305;
  sender_ = std::make_shared<BulkSender>(local_.loop, local_.pool, keys.bulkSend, algorithm,
                                         local_.limits.maxQueuedBulkBytes);
  receiver_ = std::make_shared<BulkReceiver>(local_.loop, local_.pool, keys.bulkReceive, algorithm);
  sender_->attach([this] { local_.loop.atTurnEnd(*this); });
  receiver_->attach([this](Error error) { fail(std::move(error)); }, [this] { updateReading(); });
  input_.resize(kInputBufferBytes);
  sendStream(RecordType::Ready, {});
  local_.loop.atTurnEnd(*this);
}

bool Transport::takeRecord(std::span<uint8_t> input, size_t& used) {
  if (input.size() < kRecordHeaderBytes) return true;
  auto header = parseRecordHeader(input.first<kRecordHeaderBytes>());
  if (!header.ok()) {
    fail(header.error());
    return false;
  }
  size_t whole = kRecordHeaderBytes + header->bodyBytes;
  if (header->isBulk()) {
    if (state_ != State::Open) {
      fail({Code::Corrupt, "bulk before the handshake was complete"});
      return false;
    }
    frame_.emplace(whole - BulkBuffer::kFront - kRecordTagBytes);
    frameType_ = header->type;
    frameFilled_ = std::min(input.size(), whole);
    std::memcpy(frame_->record().data(), input.data(), frameFilled_);
    used = frameFilled_;
    return frameFilled_ < whole || takeBulkFrame();
  }
  if (input.size() < whole) return true;
  used = whole;
  return takeStreamRecord(*header, input.first(whole));
}

bool Transport::takeBulkFrame() {
  BulkBuffer record = std::move(*std::exchange(frame_, std::nullopt));
  if (auto accepted = receiver_->accept(frameType_, std::move(record)); !accepted.ok()) {
    fail(accepted.error());
    return false;
  }
  updateReading();
  return state_ != State::Closed;
}

bool Transport::takeStreamRecord(RecordHeader header, std::span<uint8_t> record) {
  auto plain = opening_->open(record);
  Result<void> outcome;
  if (!plain.ok())
    outcome = plain.error();
  else if ((header.type == RecordType::Ready) != (state_ == State::Opening))
    outcome = Error{Code::Corrupt, "a record that is out of turn"};
  else if (header.type == RecordType::Ready) {
    state_ = State::Open;
    deadline_ = nullptr;
    heartbeat_ = beat().eagerlyEvaluate(nullptr);
    open_->fulfill(Result<void>());
    updateReading();
  } else if (header.type == RecordType::Close)
    outcome = Error{Code::Unreachable, "the other side closed: " + printable(*plain)};
  else if (header.type == RecordType::Rpc)
    outcome = sink_->rpcReceived(*plain);
  else if (header.type == RecordType::RpcPacked) {
    auto words = unpackWords(*plain);
    outcome = words.ok() ? sink_->rpcReceived(*words) : Result<void>(words.error());
  }
  if (!outcome.ok()) fail(outcome.error());
  return outcome.ok();
}

void Transport::start(Sink& sink, BulkHandler onBulk) {
  if (state_ == State::Closed) return sink.transportClosed(reason_);
  sink_ = &sink;
  receiver_->setHandler(std::move(onBulk));
  started_ = true;
  if (takeInput()) updateReading();
}

void Transport::pauseForRpc(bool pause) {
  if (std::exchange(rpcPaused_, pause) != pause) updateReading();
}

void Transport::updateReading() {
  if (state_ == State::Closed) return;
  bool full = receiver_ && receiver_->backlogBytes() >= local_.limits.maxBacklogBytes;
  if (full) {
    receiver_->wantChange();
    full = receiver_->backlogBytes() >= local_.limits.maxBacklogBytes;  // It may have shrunk before we asked.
  }
  bool waiting = state_ == State::Judging || (state_ == State::Open && !started_);
  reading_ = !full && !rpcPaused_ && !waiting;
  // Silence that we caused ourselves is not the other's death.
  if (!reading_) lastHeard_ = local_.timer.now();
  socket_->wantRead(reading_);
}

// ---- Sending

void Transport::sendClear(Bytes& bytes) {
  if (bytes.empty()) return;
  Outgoing out;
  auto data = reinterpret_cast<const uint8_t*>(bytes.data());
  out.bytes.assign(data, data + bytes.size());
  outgoingBytes_ += out.bytes.size();
  outgoing_.push_back(std::move(out));
  bytes.clear();
}

void Transport::sendStream(RecordType type, std::span<const std::byte> plain) {
  // Never joined to a piece without bound, or under a steady stream it would never be all sent and freed.
  if (outgoing_.empty() || outgoing_.back().isFrame || outgoing_.back().bytes.size() >= kOutgoingBytes)
    outgoing_.emplace_back();
  auto& bytes = outgoing_.back().bytes;
  size_t at = bytes.size();
  size_t size = StreamCipher::sealedBytes(plain.size());
  bytes.resize(at + size);
  sealing_->seal(type, plain, bytes.data() + at);
  outgoingBytes_ += size;
}

void Transport::sendRpc(std::span<const std::byte> bytes) {
  if (state_ == State::Closed) return;
  waitingRpc_.insert(waitingRpc_.end(), bytes.begin(), bytes.end());
  local_.loop.atTurnEnd(*this);
}

void Transport::fill() {
  while (outgoingBytes_ < kOutgoingBytes && waitingRpcTaken_ < waitingRpc_.size()) {
    size_t n = std::min(kMaxStreamRecordBytes, waitingRpc_.size() - waitingRpcTaken_);
    const auto plain = std::span<const std::byte>(waitingRpc_).subspan(waitingRpcTaken_, n);
    const auto packed = packWords(plain);
    if (packed.empty()) sendStream(RecordType::Rpc, plain);
    else sendStream(RecordType::RpcPacked, packed);
    waitingRpcTaken_ += n;
  }
  if (waitingRpcTaken_ == waitingRpc_.size() || waitingRpcTaken_ >= 4 * kMaxStreamRecordBytes) {
    waitingRpc_.erase(waitingRpc_.begin(), waitingRpc_.begin() + ptrdiff_t(waitingRpcTaken_));
    waitingRpcTaken_ = 0;
  }
  while (sender_ && state_ == State::Open && outgoingBytes_ < kOutgoingBytes) {
    BulkBuffer frame = sender_->take();
    if (frame.record().data() == nullptr) break;
    Outgoing out;
    out.isFrame = true;
    out.frame = std::move(frame);
    outgoingBytes_ += out.frame.record().size();
    outgoing_.push_back(std::move(out));
  }
}

void Transport::flush() {
  size_t turn = 0;
  bool blocked = false;
  while (state_ != State::Closed && !blocked) {
    fill();
    if (outgoing_.empty()) break;
    iovec parts[16];
    size_t count = 0;
    size_t wanted = 0;
    for (auto it = outgoing_.begin(); it != outgoing_.end() && count < 16; ++it) {
      auto rest = it->rest();
      parts[count++] = {const_cast<uint8_t*>(rest.data()), rest.size()};
      wanted += rest.size();
    }
    auto sent = socket_->send(parts, count);
    if (!sent.ok()) return lost(sent.error().message);
    wroteOut(*sent);
    turn += *sent;
    blocked = *sent < wanted || turn >= kTurnBytes;
  }
  if (state_ == State::Closed) return;
  socket_->wantWrite(blocked);
  if (sink_ && hasRoom()) sink_->roomAgain();
}

void Transport::wroteOut(size_t bytes) {
  if (bytes == 0) return;
  sentBytes.fetch_add(bytes, std::memory_order_relaxed);
  lastSent_ = local_.timer.now();
  outgoingBytes_ -= bytes;
  while (bytes > 0) {
    Outgoing& first = outgoing_.front();
    size_t rest = first.rest().size();
    if (bytes < rest) {
      first.sent += bytes;
      return;
    }
    bytes -= rest;
    if (first.isFrame) sender_->written(first.frame.record().size());
    outgoing_.pop_front();
  }
}

// ---- Life and death

kj::Promise<void> Transport::beat() {
  if (state_ == State::Closed) return kj::READY_NOW;
  auto now = local_.timer.now();
  if (!reading_) lastHeard_ = now;
  if (now - lastHeard_ >= local_.limits.deadAfter) {
    fail({Code::TimedOut, "nothing heard from the other side for a while"});
    return kj::READY_NOW;
  }
  if (now - lastSent_ >= local_.limits.pingAfter && outgoing_.empty()) {
    sendStream(RecordType::Ping, {});
    local_.loop.atTurnEnd(*this);
  }
  auto next = std::min(lastHeard_ + local_.limits.deadAfter, lastSent_ + local_.limits.pingAfter);
  // With something stuck on the way out, lastSent_ stays behind.
  next = std::max(next, now + local_.limits.pingAfter / 8);
  return local_.timer.atTime(next).then([this] { return beat(); });
}

void Transport::close(const Error& reason) {
  if (state_ == State::Closed) return;
  if (state_ == State::Open) {
    auto text = std::as_bytes(std::span(reason.message)).first(std::min(reason.message.size(), kMaxCloseTextBytes));
    sendStream(RecordType::Close, text);
    sender_->close(reason.message);
    flush();
  }
  fail(reason);
}

void Transport::lost(const std::string& how) {
  if (state_ == State::Open) return fail({Code::Unreachable, how});
  // Whoever does not welcome us says nothing; see greeting.h.
  if (dials_)
    return fail({Code::Refused, how + " during the handshake: it may not know this peer's key, or the invite is used or "
                                      "expired"});
  fail({Code::Unreachable, how + " during the handshake"});
}

void Transport::closeSoon(const Error& reason) {
  closing_ = kj::evalLater([this, reason] { close(reason); }).eagerlyEvaluate(nullptr);
}

void Transport::fail(Error error) {
  if (std::exchange(state_, State::Closed) == State::Closed) return;
  reason_ = std::move(error);
  socket_.reset();
  outgoing_.clear();
  waitingRpc_.clear();
  frame_.reset();
  if (sender_) sender_->close(reason_.message);
  auto closed = std::make_shared<kj::Own<kj::PromiseFulfiller<void>>>(kj::mv(closedFulfiller_));
  auto drained = [closed] { (*closed)->fulfill(); };
  if (receiver_)
    receiver_->close(drained);
  else
    drained();
  if (open_->isWaiting()) open_->fulfill(Result<void>(reason_));
  if (sink_) sink_->transportClosed(reason_);
}

}  // namespace realize::net
