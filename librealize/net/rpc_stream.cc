#include "librealize/net/rpc_stream.h"

#include <capnp/serialize.h>

#include <cstring>
#include <utility>

#include "librealize/loop/failure.h"
#include "librealize/net/transport.h"

namespace realize::net {
namespace {

constexpr uint32_t kMaxSegments = 512;
/// Received and not yet read by the RPC system; beyond it the transport stops to read.
constexpr size_t kMaxHeldBytes = 4 * 1024 * 1024;

kj::Exception disconnected(const Error& reason) {
  return loop::failure(kj::Exception::Type::DISCONNECTED, reason.message);
}

}  // namespace

void MessageCutter::append(std::span<const std::byte> bytes) {
  auto* base = reinterpret_cast<uint8_t*>(words_.data());
  if (taken_ > 0 && (taken_ == filled_ || taken_ >= kMaxStreamRecordBytes)) {
    std::memmove(base, base + taken_, filled_ - taken_);
    filled_ -= std::exchange(taken_, 0);
  }
  size_t words = (filled_ + bytes.size() + 7) / 8;
  if (words_.size() < words) words_.resize(words);
  std::memcpy(reinterpret_cast<uint8_t*>(words_.data()) + filled_, bytes.data(), bytes.size());
  filled_ += bytes.size();
}

Result<std::optional<kj::Array<capnp::word>>> MessageCutter::next() {
  using Cut = std::optional<kj::Array<capnp::word>>;
  size_t available = (filled_ - taken_) / 8;
  if (available == 0) return Cut();
  auto* first = reinterpret_cast<const capnp::word*>(words_.data() + taken_ / 8);
  uint32_t segmentsLessOne;
  std::memcpy(&segmentsLessOne, first, sizeof(segmentsLessOne));
  if (segmentsLessOne >= kMaxSegments) return Error{Code::Corrupt, "an RPC message of too many segments"};
  size_t size = capnp::expectedSizeInWordsFromPrefix(kj::arrayPtr(first, available));
  if (size > maxBytes_ / 8) return Error{Code::TooLarge, "an RPC message that is too large"};
  if (size > available) return Cut();
  auto message = kj::heapArray<capnp::word>(size);
  std::memcpy(message.begin(), first, size * 8);
  taken_ += size * 8;
  return Cut(kj::mv(message));
}

Result<std::optional<RpcStream::Message>> RpcStream::nextMessage() {
  auto cut = cutter_.next();
  if (!cut.ok()) return cut.error();
  if (!cut->has_value()) return std::optional<Message>();
  auto words = kj::mv(**cut);
  kj::Own<capnp::MessageReader> reader = kj::heap<capnp::FlatArrayMessageReader>(words.asPtr(), options_).attach(kj::mv(words));
  return std::optional<Message>(Message(capnp::MessageReaderAndFds{kj::mv(reader), nullptr}));
}

Result<void> RpcStream::received(std::span<const std::byte> bytes) {
  cutter_.append(bytes);
  KJ_IF_MAYBE(reader, reader_) {
    auto message = nextMessage();
    if (!message.ok()) return message.error();
    if (message->has_value()) {
      (*reader)->fulfill(kj::mv(**message));
      reader_ = nullptr;
    }
  }
  // One message under way may hold more than that; then its reader waits and must be fed.
  if (transport_ && reader_ == nullptr) transport_->pauseForRpc(cutter_.heldBytes() > kMaxHeldBytes);
  return {};
}

kj::Promise<RpcStream::Message> RpcStream::tryReadMessage(kj::ArrayPtr<kj::AutoCloseFd>, capnp::ReaderOptions options,
                                                          kj::ArrayPtr<capnp::word>) {
  if (failed_) return disconnected(*failed_);
  options_ = options;
  auto message = nextMessage();
  if (!message.ok()) {
    Error error = message.error();
    // Not at once: closing calls back into whoever is calling.
    transport_->closeSoon(error);
    return disconnected(error);
  }
  if (transport_) transport_->pauseForRpc(false);
  if (message->has_value()) return kj::mv(**message);
  auto paf = kj::newPromiseAndFulfiller<Message>();
  reader_ = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

void RpcStream::send(kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments) {
  std::vector<uint32_t> table((segments.size() + 2) & ~size_t(1));
  table[0] = uint32_t(segments.size() - 1);
  for (size_t i = 0; i < segments.size(); ++i) table[i + 1] = uint32_t(segments[i].size());
  transport_->sendRpc(std::as_bytes(std::span(table)));
  for (auto segment : segments) {
    auto bytes = segment.asBytes();
    transport_->sendRpc({reinterpret_cast<const std::byte*>(bytes.begin()), bytes.size()});
  }
}

kj::Promise<void> RpcStream::room() {
  if (transport_->hasRoom()) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  writer_ = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

kj::Promise<void> RpcStream::writeMessage(kj::ArrayPtr<const int>,
                                          kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments) {
  if (failed_) return disconnected(*failed_);
  send(segments);
  return room();
}

kj::Promise<void> RpcStream::writeMessages(
    kj::ArrayPtr<kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>> messages) {
  if (failed_) return disconnected(*failed_);
  for (auto& segments : messages) send(segments);
  return room();
}

void RpcStream::roomAgain() {
  KJ_IF_MAYBE(writer, writer_) {
    (*writer)->fulfill();
    writer_ = nullptr;
  }
}

void RpcStream::fail(const Error& reason) {
  if (failed_) return;
  failed_ = reason;
  transport_ = nullptr;
  KJ_IF_MAYBE(reader, reader_) { (*reader)->reject(disconnected(reason)); }
  KJ_IF_MAYBE(writer, writer_) { (*writer)->reject(disconnected(reason)); }
  reader_ = nullptr;
  writer_ = nullptr;
}

}  // namespace realize::net
