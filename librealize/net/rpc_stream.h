#pragma once

// Cap'n Proto messages in and out of a transport's RPC records.

#include <capnp/serialize-async.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "realize/result.h"

namespace realize::net {

/// Cuts a byte stream into messages of the standard framing, with a bound on their size. Thread: one at a time.
class MessageCutter {
 public:
  explicit MessageCutter(size_t maxMessageBytes) : maxBytes_(maxMessageBytes) {}

  void append(std::span<const std::byte> bytes);
  /// The next whole message, if there is one. Errors: TooLarge, Corrupt (too many segments). An error is final.
  Result<std::optional<kj::Array<capnp::word>>> next();
  /// Bytes appended and not handed out.
  size_t heldBytes() const { return filled_ - taken_; }

 private:
  size_t maxBytes_;
  std::vector<uint64_t> words_;  // for alignment
  size_t filled_ = 0;            // bytes
  size_t taken_ = 0;             // bytes, whole words
};

class Transport;

/// What the RPC system reads from and writes to. Thread: the loop's. Lifetime: the transport may go first, after fail().
class RpcStream final : public capnp::MessageStream {
 public:
  RpcStream(Transport& transport, size_t maxMessageBytes) : transport_(&transport), cutter_(maxMessageBytes) {}

  Result<void> received(std::span<const std::byte> bytes);
  void roomAgain();
  void fail(const Error& reason);

  kj::Promise<kj::Maybe<capnp::MessageReaderAndFds>> tryReadMessage(kj::ArrayPtr<kj::AutoCloseFd> fdSpace,
                                                                    capnp::ReaderOptions options,
                                                                    kj::ArrayPtr<capnp::word> scratchSpace) override;
  kj::Promise<void> writeMessage(kj::ArrayPtr<const int> fds,
                                 kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments) override;
  kj::Promise<void> writeMessages(
      kj::ArrayPtr<kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>> messages) override;
  kj::Maybe<int> getSendBufferSize() override { return nullptr; }
  kj::Promise<void> end() override { return kj::READY_NOW; }

 private:
  using Message = kj::Maybe<capnp::MessageReaderAndFds>;
  Result<std::optional<Message>> nextMessage();
  void send(kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments);
  kj::Promise<void> room();

  Transport* transport_;
  MessageCutter cutter_;
  std::optional<Error> failed_;
  capnp::ReaderOptions options_;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<Message>>> reader_;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> writer_;
};

}  // namespace realize::net
