#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "librealize/net/noise.h"

using namespace realize;
using namespace realize::net;

namespace {

Bytes unhex(const std::string& text) {
  Bytes out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) out.push_back(std::byte(std::stoi(text.substr(i, 2), nullptr, 16)));
  return out;
}

std::string hex(std::span<const std::byte> bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string out;
  for (auto b : bytes) { out += digits[uint8_t(b) >> 4]; out += digits[uint8_t(b) & 15]; }
  return out;
}

Secret32 secretOf(const std::string& text) {
  const Bytes bytes = unhex(text);
  REQUIRE(bytes.size() == 32);
  return Secret32(std::span<const uint8_t, 32>(reinterpret_cast<const uint8_t*>(bytes.data()), 32));
}

DhPublicKey publicOf(const std::string& text) {
  DhPublicKey out;
  std::memcpy(out.data(), secretOf(text).data(), 32);
  return out;
}

// Gives what it was told to give: a vector's ephemeral secret.
class FixedRandom final : public Random {
 public:
  explicit FixedRandom(Bytes bytes) : bytes_(std::move(bytes)) {}
  void fill(std::span<uint8_t> out) override {
    REQUIRE(out.size() == bytes_.size());
    std::memcpy(out.data(), bytes_.data(), out.size());
  }

 private:
  Bytes bytes_;
};

class CountingRandom final : public Random {
 public:
  explicit CountingRandom(uint8_t start) : next_(start) {}
  void fill(std::span<uint8_t> out) override { for (auto& b : out) b = next_++; }

 private:
  uint8_t next_;
};

const std::map<std::string, NoisePattern> kPatterns = {
    {"Noise_XX_25519_ChaChaPoly_BLAKE2b", NoisePattern::XX},
    {"Noise_IK_25519_ChaChaPoly_BLAKE2b", NoisePattern::IK},
    {"Noise_KK_25519_ChaChaPoly_BLAKE2b", NoisePattern::KK},
    {"Noise_XXpsk3_25519_ChaChaPoly_BLAKE2b", NoisePattern::XXpsk3},
    {"Noise_IKpsk1_25519_ChaChaPoly_BLAKE2b", NoisePattern::IKpsk1},
    {"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2b", NoisePattern::IKpsk2},
};

// Two sides of one pattern that know of each other what the pattern asks for.
struct Sides {
  CountingRandom randomA{1}, randomB{101};
  DhKeyPair keyA = DhKeyPair::generate(randomA), keyB = DhKeyPair::generate(randomB);
  std::unique_ptr<NoiseHandshake> a, b;
  explicit Sides(NoisePattern pattern, const Bytes& prologueA = {}, const Bytes& prologueB = {}) {
    a = std::make_unique<NoiseHandshake>(pattern, true, prologueA, keyA, keyB.publicKey, randomA);
    b = std::make_unique<NoiseHandshake>(pattern, false, prologueB, keyB, keyA.publicKey, randomB);
  }
};

Bytes bytesOf(std::string_view text) {
  Bytes out(text.size());
  std::memcpy(out.data(), text.data(), text.size());
  return out;
}

}  // namespace

TEST_CASE("handshakes and records match the published vectors byte for byte") {
  std::ifstream file(REALIZE_VECTORS "/noise_25519_chachapoly_blake2b.json");
  REQUIRE(file.good());
  const auto vectors = nlohmann::json::parse(file)["vectors"];
  REQUIRE(vectors.size() == kPatterns.size());

  for (const auto& v : vectors) {
    const std::string name = v["protocol_name"];
    CAPTURE(name);
    const NoisePattern pattern = kPatterns.at(name);
    auto side = [&](const std::string& prefix, bool initiator, FixedRandom& random) {
      std::optional<DhPublicKey> remote;
      if (v.contains(prefix + "_remote_static")) remote = publicOf(v[prefix + "_remote_static"]);
      auto out = std::make_unique<NoiseHandshake>(pattern, initiator, unhex(v[prefix + "_prologue"]),
                                                  DhKeyPair::fromSecret(secretOf(v[prefix + "_static"])), remote, random);
      if (v.contains(prefix + "_psks")) out->setPsk(secretOf(v[prefix + "_psks"][0]));
      return out;
    };
    FixedRandom initRandom(unhex(v["init_ephemeral"])), respRandom(unhex(v["resp_ephemeral"]));
    auto initiator = side("init", true, initRandom);
    auto responder = side("resp", false, respRandom);

    std::optional<NoiseKeys> keysI, keysR;
    uint64_t sequence[2] = {0, 0};
    size_t index = 0;
    for (const auto& message : v["messages"]) {
      CAPTURE(index);
      const bool fromInitiator = index++ % 2 == 0;
      const Bytes payload = unhex(message["payload"]);
      const std::string expected = message["ciphertext"];
      if (!keysI) {
        auto& from = fromInitiator ? *initiator : *responder;
        auto& to = fromInitiator ? *responder : *initiator;
        REQUIRE(from.myTurn());
        auto wire = from.writeMessage(payload);
        REQUIRE(wire.ok());
        CHECK(hex(*wire) == expected);
        auto got = to.readMessage(*wire);
        REQUIRE(got.ok());
        CHECK(*got == payload);
        CHECK(from.payloadBinding() == to.payloadBinding());
        if (!from.finished()) continue;
        REQUIRE(to.finished());
        keysI.emplace(*initiator->split());
        keysR.emplace(*responder->split());
        CHECK(keysI->handshakeHash.hex() == std::string(v["handshake_hash"]));
        CHECK(keysR->handshakeHash == keysI->handshakeHash);
      } else {
        uint64_t& n = sequence[fromInitiator];
        Bytes sealed(payload.size() + kNoiseTagBytes), opened(payload.size());
        sealRecord(fromInitiator ? keysI->send : keysR->send, n, {}, payload, sealed);
        CHECK(hex(sealed) == expected);
        REQUIRE(openRecord(fromInitiator ? keysR->receive : keysI->receive, n, {}, sealed, opened));
        CHECK(opened == payload);
        ++n;
      }
    }
    CHECK(keysI.has_value());
  }
}

TEST_CASE("a finished handshake gives both sides the same keys and each other's static key") {
  for (auto pattern : {NoisePattern::XX, NoisePattern::IK, NoisePattern::KK}) {
    Sides s(pattern, bytesOf("same"), bytesOf("same"));

    while (!s.a->finished() || !s.b->finished()) {
      auto& from = s.a->myTurn() ? *s.a : *s.b;
      auto& to = s.a->myTurn() ? *s.b : *s.a;
      auto wire = from.writeMessage(bytesOf("hello"));
      REQUIRE(wire.ok());
      REQUIRE(to.readMessage(*wire).ok());
    }
    auto keysA = s.a->split(), keysB = s.b->split();

    REQUIRE(keysA.ok());
    REQUIRE(keysB.ok());
    auto same = [](const Secret32& x, const Secret32& y) { return std::memcmp(x.data(), y.data(), 32) == 0; };
    CHECK(same(keysA->send, keysB->receive));
    CHECK(same(keysA->receive, keysB->send));
    CHECK(same(keysA->bulkSend, keysB->bulkReceive));
    CHECK(same(keysA->bulkReceive, keysB->bulkSend));
    CHECK_FALSE(same(keysA->send, keysA->receive));
    CHECK_FALSE(same(keysA->send, keysA->bulkSend));
    CHECK_FALSE(same(keysA->bulkSend, keysA->bulkReceive));
    CHECK(s.a->remoteStatic() == s.keyB.publicKey);
    CHECK(s.b->remoteStatic() == s.keyA.publicKey);
    CHECK(s.a->split().code() == Code::Internal);  // only once
  }
}

TEST_CASE("any changed bit of an authenticated message ends the handshake for good") {
  for (size_t bit = 0; bit < 8 * (32 + 16 + 32 + 16 + 5); bit += 37) {
    Sides s(NoisePattern::IK);
    auto wire = s.a->writeMessage(bytesOf("hello"));
    REQUIRE(wire.ok());
    Bytes bad = *wire;
    REQUIRE(bit / 8 < bad.size());
    bad[bit / 8] ^= std::byte(1 << bit % 8);

    CHECK(s.b->readMessage(bad).code() == Code::Refused);

    CHECK(s.b->failed());
    CHECK_FALSE(s.b->myTurn());
    CHECK(s.b->readMessage(*wire).code() == Code::Internal);
    CHECK(s.b->writeMessage(Bytes{}).code() == Code::Internal);
    CHECK(s.b->split().code() == Code::Internal);
  }
}

TEST_CASE("a message cut anywhere is refused") {
  Sides whole(NoisePattern::IK);
  const Bytes wire = *whole.a->writeMessage(bytesOf("hello"));
  for (size_t n = 0; n < wire.size(); ++n) {
    Sides s(NoisePattern::IK);
    CHECK(s.b->readMessage(std::span(wire).first(n)).code() == Code::Refused);
  }
}

TEST_CASE("public keys of small order abort the handshake") {
  // From RFC 7748, section 6.1, and the list of points of order dividing 8.
  const std::string points[] = {
      "0000000000000000000000000000000000000000000000000000000000000000",
      "0100000000000000000000000000000000000000000000000000000000000000",
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  };
  for (const auto& point : points) {
    CAPTURE(point);
    Sides s(NoisePattern::XX);

    REQUIRE(s.b->readMessage(unhex(point)).ok());  // The first message of XX is only the key.
    CHECK(s.b->writeMessage(Bytes{}).code() == Code::Refused);

    CHECK(s.b->failed());
  }
}

TEST_CASE("sides with different prologues do not come together") {
  Sides s(NoisePattern::IK, bytesOf("realize 1"), bytesOf("realize 2"));

  auto wire = s.a->writeMessage(Bytes{});

  CHECK(s.b->readMessage(*wire).code() == Code::Refused);
}

TEST_CASE("sides with different shared secrets do not come together") {
  CountingRandom random(9);
  Sides s(NoisePattern::XXpsk3);
  s.a->setPsk(Secret32::random(random));
  s.b->setPsk(Secret32::random(random));

  REQUIRE(s.b->readMessage(*s.a->writeMessage(Bytes{})).ok());
  REQUIRE(s.a->readMessage(*s.b->writeMessage(Bytes{})).ok());

  CHECK(s.b->readMessage(*s.a->writeMessage(Bytes{})).code() == Code::Refused);
}

TEST_CASE("a handshake that lacks what its pattern needs fails instead of going on without") {
  CountingRandom random(1);
  const DhKeyPair key = DhKeyPair::generate(random);

  NoiseHandshake noRemote(NoisePattern::IK, true, {}, key, std::nullopt, random);
  CHECK(noRemote.failed());
  CHECK(noRemote.writeMessage(Bytes{}).code() == Code::Internal);

  Sides noPsk(NoisePattern::IKpsk1);
  CHECK(noPsk.a->writeMessage(Bytes{}).code() == Code::Internal);
}

TEST_CASE("messages and payloads beyond 65,535 bytes are refused") {
  Sides s(NoisePattern::XX);
  CHECK(s.b->readMessage(Bytes(kNoiseMaxMessageBytes + 1)).code() == Code::TooLarge);
  CHECK(s.a->writeMessage(Bytes(kNoiseMaxMessageBytes)).code() == Code::TooLarge);
}

TEST_CASE("a record opens only under its own key, sequence number and additional data") {
  CountingRandom random(5);
  const Secret32 key = Secret32::random(random), other = Secret32::random(random);
  const Bytes plain = bytesOf("forty-two bytes or so"), additional = bytesOf("head");
  Bytes sealed(plain.size() + kNoiseTagBytes), out(plain.size());

  sealRecord(key, 7, additional, plain, sealed);

  CHECK(openRecord(key, 7, additional, sealed, out));
  CHECK(out == plain);
  CHECK_FALSE(openRecord(key, 8, additional, sealed, out));
  CHECK_FALSE(openRecord(other, 7, additional, sealed, out));
  CHECK_FALSE(openRecord(key, 7, {}, sealed, out));
  CHECK_FALSE(openRecord(key, 7, additional, std::span(sealed).first(15), out));

  Bytes inPlace = plain;
  inPlace.resize(plain.size() + kNoiseTagBytes);
  sealRecord(key, 7, additional, std::span(inPlace).first(plain.size()), inPlace);
  CHECK(inPlace == sealed);
  REQUIRE(openRecord(key, 7, additional, inPlace, std::span(inPlace).first(plain.size())));
  inPlace.resize(plain.size());
  CHECK(inPlace == plain);
}
