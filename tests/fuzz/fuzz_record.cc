// What comes in over a connection before anybody is known to be a peer, and what a peer itself may send: greetings,
// record headers, the framing of RPC messages.

#include <capnp/any.h>
#include <capnp/serialize.h>
#include <sodium.h>

#include <cstdint>
#include <cstdlib>
#include <span>

#include "librealize/net/greeting.h"
#include "librealize/net/record.h"
#include "librealize/net/rpc_stream.h"

using namespace realize;
using namespace realize::net;

namespace {

class ZeroRandom final : public Random {
 public:
  void fill(std::span<uint8_t> out) override {
    for (auto& b : out) b = 9;
  }
};

void greet(std::span<const std::byte> input, std::optional<Expected> expected) {
  static ZeroRandom random;
  static const Identity identity = Identity::generate(random);
  Greeting greeting(identity, std::move(expected), Greeting::kAbilityAes, random);
  while (greeting.state() == Greeting::State::Reading) {
    auto taken = greeting.receive(input);
    if (!taken.ok() || *taken == 0) break;
    if (*taken > input.size()) std::abort();
    input = input.subspan(*taken);
  }
  // Nobody gets in without the keys.
  if (greeting.state() == Greeting::State::Done) std::abort();
}

void cut(std::span<const std::byte> input, size_t step) {
  MessageCutter cutter(64 * 1024);
  while (!input.empty()) {
    auto piece = input.first(std::min(step, input.size()));
    input = input.subspan(piece.size());
    cutter.append(piece);
    for (;;) {
      auto message = cutter.next();
      if (!message.ok()) return;
      if (!message->has_value()) break;
      if ((*message)->size() > 64 * 1024 / 8) std::abort();
      kj::runCatchingExceptions([&] {
        capnp::ReaderOptions options;
        options.traversalLimitInWords = 64 * 1024;
        capnp::FlatArrayMessageReader reader(**message, options);
        (void)reader.getRoot<capnp::AnyPointer>().targetSize();
      });
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  uint8_t kind = data[0];
  std::span<const uint8_t> rest(data + 1, size - 1);
  switch (kind & 3) {
    case 0:
      greet(std::as_bytes(rest), std::nullopt);
      break;
    case 1:
      greet(std::as_bytes(rest), Expected{});
      break;
    case 2:
      cut(std::as_bytes(rest), 1 + (kind >> 2));
      break;
    case 3:
      if (kind & 4) {
        auto words = unpackWords(std::as_bytes(rest));
        if (words.ok() && words->size() > kMaxStreamRecordBytes) std::abort();
      } else if (rest.size() >= kRecordHeaderBytes) {
        auto header = parseRecordHeader(rest.first<kRecordHeaderBytes>());
        if (header.ok() && header->bodyBytes > kMaxBulkPayloadBytes + 64) std::abort();
      }
      break;
  }
  return 0;
}
