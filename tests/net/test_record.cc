#include <doctest/doctest.h>

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <cstring>
#include <string>
#include <vector>

#include "librealize/net/backoff.h"
#include "librealize/net/greeting.h"
#include "librealize/net/record.h"
#include "librealize/net/rpc_stream.h"

using namespace realize;
using namespace realize::net;

namespace {

Bytes bytesOf(const std::string& text) {
  auto span = std::as_bytes(std::span(text));
  return {span.begin(), span.end()};
}

/// Counts up, so that tests repeat.
class CountingRandom final : public Random {
 public:
  explicit CountingRandom(uint8_t start) : next_(start) {}
  void fill(std::span<uint8_t> out) override {
    for (auto& b : out) b = next_++;
  }

 private:
  uint8_t next_;
};

/// Lets two greetings talk until neither has anything to say; false if one fails.
bool talk(Greeting& dialer, Greeting& listener, Error* why = nullptr) {
  auto move = [&](Greeting& from, Greeting& to) {
    Bytes bytes = std::exchange(from.output(), {});
    std::span<const std::byte> rest(bytes);
    while (!rest.empty()) {
      auto taken = to.receive(rest);
      if (!taken.ok()) {
        if (why) *why = taken.error();
        return false;
      }
      if (to.state() == Greeting::State::Judging && !to.accept().ok()) return false;
      if (*taken == 0) return false;
      rest = rest.subspan(*taken);
    }
    return true;
  };
  while (!dialer.output().empty() || !listener.output().empty())
    if (!move(dialer, listener) || !move(listener, dialer)) return false;
  return true;
}

}  // namespace

TEST_CASE("record headers survive, and impossible ones are refused") {
  uint8_t bytes[4];
  writeRecordHeader({RecordType::Bulk, 0x012345}, bytes);
  auto header = parseRecordHeader(bytes);
  REQUIRE(header.ok());
  CHECK(header->type == RecordType::Bulk);
  CHECK(header->bodyBytes == 0x012345);

  auto refused = [](uint8_t type, uint32_t length) {
    uint8_t raw[4] = {type, uint8_t(length), uint8_t(length >> 8), uint8_t(length >> 16)};
    return !parseRecordHeader(raw).ok();
  };
  CHECK(refused(0, 16));
  CHECK(refused(7, 16));
  CHECK(refused(255, 16));
  for (uint8_t type = 1; type <= 6; ++type) {
    CHECK(refused(type, 15));
    CHECK(refused(type, 0xffffff));
  }
  CHECK(refused(uint8_t(RecordType::Ping), 17));
  CHECK(refused(uint8_t(RecordType::Rpc), kMaxStreamRecordBytes + 17));
  CHECK(refused(uint8_t(RecordType::Bulk), 16 + 27));
  CHECK_FALSE(refused(uint8_t(RecordType::Bulk), 16 + 28));
  CHECK(refused(uint8_t(RecordType::Bulk), 16 + 28 + kMaxBulkPayloadBytes + 1));
}

TEST_CASE("words without their zero bytes come back, and what cannot be packed words is refused") {
  std::vector<std::byte> plain(24);
  plain[0] = std::byte(7);
  plain[15] = std::byte(255);

  auto packed = packWords(plain);
  auto back = unpackWords(packed);

  CHECK(packed == std::vector<std::byte>{std::byte(1), std::byte(7), std::byte(0x80), std::byte(255), std::byte(0)});
  REQUIRE(back.ok());
  CHECK(*back == plain);
  CHECK(packWords(std::vector<std::byte>(64, std::byte(1))).empty());  // It would be longer.
  CHECK(packWords(std::vector<std::byte>(12)).empty());
  CHECK_FALSE(unpackWords(std::vector<std::byte>{std::byte(3), std::byte(1)}).ok());
  CHECK(unpackWords(std::vector<std::byte>(kMaxStreamRecordBytes / 8)).ok());
  CHECK_FALSE(unpackWords(std::vector<std::byte>(kMaxStreamRecordBytes / 8 + 1)).ok());
}

TEST_CASE("stream records open in order only, and not when altered") {
  Secret32 key = Secret32::random(systemRandom());
  auto sealed = [](StreamCipher& cipher, RecordType type, const std::string& text) {
    std::vector<uint8_t> out(StreamCipher::sealedBytes(text.size()));
    cipher.seal(type, bytesOf(text), out.data());
    return out;
  };
  StreamCipher sender(key);
  auto first = sealed(sender, RecordType::Rpc, "first");
  auto second = sealed(sender, RecordType::Rpc, "second");

  {
    StreamCipher receiver(key);
    auto a = first;
    auto b = second;
    auto opened = receiver.open(a);
    REQUIRE(opened.ok());
    CHECK(Bytes(opened->begin(), opened->end()) == bytesOf("first"));
    CHECK(receiver.open(b).ok());
  }
  {
    StreamCipher receiver(key);
    auto skipped = second;
    CHECK(receiver.open(skipped).code() == Code::Corrupt);
  }
  {
    StreamCipher receiver(key);
    auto once = first;
    auto again = first;
    CHECK(receiver.open(once).ok());
    CHECK_FALSE(receiver.open(again).ok());
  }
  for (size_t i = 0; i < first.size(); ++i) {
    StreamCipher receiver(key);
    auto altered = first;
    altered[i] ^= 1;  // In the header too: its type and length are authenticated.
    CHECK_FALSE(receiver.open(altered).ok());
  }
}

TEST_CASE("bulk bodies open under their own number and header only, with either algorithm") {
  for (auto algorithm : {BulkAlgorithm::ChaCha20Poly1305, BulkAlgorithm::Aes256Gcm}) {
    if (algorithm == BulkAlgorithm::Aes256Gcm && !BulkCipher::aesAvailable()) continue;
    BulkCipher cipher(Secret32::random(systemRandom()), algorithm);
    for (size_t size : {0, 1, 15, 16, 17, 127, 128, 129, 1000, 65536}) {
      CAPTURE(size);
      std::vector<uint8_t> plain(size);
      for (size_t i = 0; i < size; ++i) plain[i] = uint8_t(i * 7);
      std::vector<uint8_t> body = plain;
      body.resize(size + kRecordTagBytes);
      std::vector<uint8_t> additional = {1, 2, 3};

      cipher.seal(42, additional, body);
      if (size >= 16) CHECK_FALSE(std::equal(plain.begin(), plain.end(), body.begin()));

      auto copy = body;
      CHECK_FALSE(cipher.open(43, additional, copy));
      copy = body;
      CHECK_FALSE(cipher.open(42, std::vector<uint8_t>{1, 2, 4}, copy));
      copy = body;
      copy[size / 2] ^= 0x80;
      CHECK_FALSE(cipher.open(42, additional, copy));
      CHECK(cipher.open(42, additional, body));
      CHECK(std::equal(plain.begin(), plain.end(), body.begin()));
    }
  }
}

TEST_CASE("messages are cut out of a stream however it is split") {
  std::vector<std::byte> stream;
  std::vector<size_t> sizes = {1, 100, 3000, 0, 20000};
  for (size_t size : sizes) {
    capnp::MallocMessageBuilder builder(16);
    builder.initRoot<capnp::AnyPointer>().setAs<capnp::Data>(kj::heapArray<kj::byte>(size).asPtr());
    auto flat = capnp::messageToFlatArray(builder);
    auto span = std::as_bytes(std::span(flat.asBytes().begin(), flat.asBytes().size()));
    stream.insert(stream.end(), span.begin(), span.end());
  }

  for (size_t step : {size_t(1), size_t(7), size_t(8), size_t(1000), stream.size()}) {
    CAPTURE(step);
    MessageCutter cutter(1 << 20);
    std::vector<size_t> found;
    for (size_t at = 0; at < stream.size(); at += step) {
      cutter.append(std::span(stream).subspan(at, std::min(step, stream.size() - at)));
      for (;;) {
        auto message = cutter.next();
        REQUIRE(message.ok());
        if (!message->has_value()) break;
        capnp::FlatArrayMessageReader reader(**message);
        found.push_back(reader.getRoot<capnp::AnyPointer>().getAs<capnp::Data>().size());
      }
    }
    CHECK(found == sizes);
    CHECK(cutter.heldBytes() == 0);
  }
}

TEST_CASE("a stream that announces too large a message, or too many segments, is refused before it is held") {
  auto cut = [](std::vector<uint32_t> words) {
    MessageCutter cutter(1 << 20);
    cutter.append(std::as_bytes(std::span(words)));
    return cutter.next();
  };
  CHECK(cut({0, (1 << 17) + 1}).code() == Code::TooLarge);
  CHECK(cut({0, 0xffffffff}).code() == Code::TooLarge);
  CHECK(cut({600, 1}).code() == Code::Corrupt);
  CHECK(cut({0xffffffff, 1}).code() == Code::Corrupt);
  CHECK(cut({0, 5}).ok());
}

TEST_CASE("a greeting split into single bytes succeeds, and both sides hold matching keys") {
  CountingRandom random(1);
  auto a = Identity::generate(systemRandom());
  auto b = Identity::generate(systemRandom());
  for (bool ik : {false, true}) {
    Expected expected{a.key(), std::nullopt, {}};
    if (ik) expected.dh = a.binding().dh;
    Greeting dialer(b, expected, Greeting::kAbilityAes, systemRandom());
    Greeting listener(a, std::nullopt, 0, random);
    Bytes held;
    for (int round = 0; round < 4; ++round) {
      for (auto [from, to] : {std::pair(&dialer, &listener), std::pair(&listener, &dialer)}) {
        held.clear();
        for (auto byte : std::exchange(from->output(), {})) {
          held.push_back(byte);
          auto taken = to->receive(held);
          REQUIRE(taken.ok());
          if (to->state() == Greeting::State::Judging) REQUIRE(to->accept().ok());
          held.erase(held.begin(), held.begin() + ptrdiff_t(*taken));
        }
      }
    }
    REQUIRE(dialer.state() == Greeting::State::Done);
    REQUIRE(listener.state() == Greeting::State::Done);
    CHECK(std::memcmp(dialer.keys().send.data(), listener.keys().receive.data(), 32) == 0);
    CHECK(std::memcmp(dialer.keys().bulkReceive.data(), listener.keys().bulkSend.data(), 32) == 0);
    CHECK_FALSE(dialer.bothHaveAes());
    CHECK(listener.peer().key() == b.key());
  }
}

TEST_CASE("no byte of a greeting can be altered unnoticed") {
  auto a = Identity::generate(systemRandom());
  auto b = Identity::generate(systemRandom());
  for (bool ik : {false, true}) {
    Expected expected{a.key(), std::nullopt, {}};
    if (ik) expected.dh = a.binding().dh;
    size_t openingBytes = Greeting(b, expected, 0, systemRandom()).output().size();
    for (size_t i = 0; i < openingBytes; ++i) {
      Greeting dialer(b, expected, 0, systemRandom());
      Greeting listener(a, std::nullopt, 0, systemRandom());
      dialer.output()[i] ^= std::byte(1);
      bool bothDone = talk(dialer, listener) && dialer.state() == Greeting::State::Done &&
                      listener.state() == Greeting::State::Done;
      CHECK_FALSE(bothDone);
    }
  }
}

TEST_CASE("a handshake message that announces too much is refused before it is held") {
  auto a = Identity::generate(systemRandom());
  Greeting listener(a, std::nullopt, 0, systemRandom());
  Bytes greeting = bytesOf(std::string("rlz\n\1\0\0\0", 8));
  REQUIRE(listener.receive(greeting).ok());

  CHECK(listener.receive(bytesOf(std::string("\x01\x20", 2))).code() == Code::Corrupt);
}

TEST_CASE("a peer does not connect to itself, and an admission never travels in an opening that can be replayed") {
  auto a = Identity::generate(systemRandom());
  auto b = Identity::generate(systemRandom());
  Error why;

  Greeting self(a, Expected{a.key(), a.binding().dh, {}}, 0, systemRandom());
  Greeting same(a, std::nullopt, 0, systemRandom());
  CHECK_FALSE(talk(self, same, &why));
  CHECK(why.code == Code::Refused);

  Greeting dialer(b, Expected{a.key(), a.binding().dh, bytesOf("secret")}, 0, systemRandom());
  CHECK(dialer.output()[6] == std::byte(0));  // XX
  Greeting listener(a, std::nullopt, 0, systemRandom());
  CHECK(talk(dialer, listener));
  auto admission = listener.admission();
  CHECK(Bytes(admission.begin(), admission.end()) == bytesOf("secret"));
}

TEST_CASE("retries start quickly, double up to the cap, are spread, and start anew after a success") {
  CountingRandom random(0);
  Backoff backoff(random);
  int64_t expected = 200;
  for (int i = 0; i < 12; ++i) {
    int64_t delay = backoff.nextDelayMs();
    CHECK(delay <= expected);
    CHECK(delay >= expected * 3 / 4);
    expected = std::min<int64_t>(30'000, expected * 2);
  }

  backoff.reset();

  CHECK(backoff.nextDelayMs() <= 200);
}
