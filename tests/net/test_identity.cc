#include <doctest/doctest.h>

#include <cstring>

#include "librealize/net/identity.h"

using namespace realize;
using namespace realize::net;

namespace {

class CountingRandom final : public Random {
 public:
  explicit CountingRandom(uint8_t start) : next_(start) {}
  void fill(std::span<uint8_t> out) override { for (auto& b : out) b = next_++; }

 private:
  uint8_t next_;
};

Bytes bytesOf(std::string_view text) {
  Bytes out(text.size());
  std::memcpy(out.data(), text.data(), text.size());
  return out;
}

struct Fixture {
  CountingRandom random{1};
  Identity a = Identity::generate(random), b = Identity::generate(random);
  HandshakeHash hash;
  Fixture() { random.fill(hash.bytes); }
};

}  // namespace

TEST_CASE("an XX handshake with proofs ends with each side knowing the other's identity") {
  Fixture f;
  NoiseHandshake i(NoisePattern::XX, true, {}, f.a.dh()), r(NoisePattern::XX, false, {}, f.b.dh());

  REQUIRE(r.readMessage(*i.writeMessage(Bytes{})).ok());
  auto second = r.writeMessage([&](const HandshakeHash& h) { return makeIdentityProof(f.b, h, false, bytesOf("b")); });
  REQUIRE(second.ok());
  auto payload = i.readMessage(*second);
  REQUIRE(payload.ok());
  auto responder = verifyIdentityProof(*payload, i.payloadBinding(), false, *i.remoteStatic());
  auto third = i.writeMessage([&](const HandshakeHash& h) { return makeIdentityProof(f.a, h, true, bytesOf("a")); });
  payload = r.readMessage(*third);
  REQUIRE(payload.ok());
  auto initiator = verifyIdentityProof(*payload, r.payloadBinding(), true, *r.remoteStatic());

  REQUIRE(responder.ok());
  CHECK(responder->key() == f.b.key());
  CHECK(responder->data == bytesOf("b"));
  CHECK(responder->binding == f.b.binding());
  REQUIRE(initiator.ok());
  CHECK(initiator->key() == f.a.key());
  CHECK(initiator->data == bytesOf("a"));
}

TEST_CASE("a proof made for one handshake, role or handshake key does not verify for another") {
  Fixture f;
  const Bytes proof = makeIdentityProof(f.a, f.hash, true, bytesOf("data"));
  HandshakeHash otherHash = f.hash;
  otherHash.bytes[63] ^= 1;

  CHECK(verifyIdentityProof(proof, f.hash, true, f.a.dh().publicKey).ok());
  CHECK(verifyIdentityProof(proof, otherHash, true, f.a.dh().publicKey).code() == Code::Refused);
  CHECK(verifyIdentityProof(proof, f.hash, false, f.a.dh().publicKey).code() == Code::Refused);
  CHECK(verifyIdentityProof(proof, f.hash, true, f.b.dh().publicKey).code() == Code::Refused);
}

TEST_CASE("every byte of a proof matters") {
  Fixture f;
  const Bytes proof = makeIdentityProof(f.a, f.hash, true, bytesOf("data"));
  for (size_t at = 0; at < proof.size(); ++at) {
    CAPTURE(at);
    Bytes bad = proof;
    bad[at] ^= std::byte(0x10);
    CHECK_FALSE(verifyIdentityProof(bad, f.hash, true, f.a.dh().publicKey).ok());
  }
  for (size_t n = 0; n < proof.size(); ++n)
    CHECK_FALSE(verifyIdentityProof(std::span(proof).first(n), f.hash, true, f.a.dh().publicKey).ok());
  Bytes longer = proof;
  longer.push_back(std::byte(0));
  CHECK(verifyIdentityProof(longer, f.hash, true, f.a.dh().publicKey).code() == Code::Corrupt);
}

TEST_CASE("a proof of another protocol version says both versions") {
  Fixture f;
  Bytes proof = makeIdentityProof(f.a, f.hash, true);
  proof[4] = std::byte(9);
  proof.resize(40);  // Whatever a future version may look like behind the number.

  auto result = verifyIdentityProof(proof, f.hash, true, f.a.dh().publicKey);

  CHECK(result.code() == Code::WrongVersion);
  CHECK(result.error().message.find("version 9") != std::string::npos);
}

TEST_CASE("a handshake key signed by another identity is refused") {
  Fixture f;
  // a's proof with b's signature over b's own key pair put in place of a's.
  Bytes proof = makeIdentityProof(f.a, f.hash, true);
  const DhBinding& other = f.b.binding();
  std::memcpy(proof.data() + 4 + 2 + 32, other.dh.data(), 32);
  std::memcpy(proof.data() + 4 + 2 + 64, other.signature.data(), 64);

  CHECK(verifyIdentityProof(proof, f.hash, true, other.dh).code() == Code::Refused);
  CHECK(f.a.binding().valid());
  DhBinding crossed = f.a.binding();
  crossed.dh = other.dh;
  CHECK_FALSE(crossed.valid());
}

TEST_CASE("data beyond the bound is never read from a proof") {
  Fixture f;
  const Bytes most = makeIdentityProof(f.a, f.hash, true, Bytes(kMaxProofDataBytes));
  CHECK(verifyIdentityProof(most, f.hash, true, f.a.dh().publicKey).ok());

  Bytes over = most;
  over.resize(over.size() + 1);
  const size_t length = 4 + 2 + 32 + 32 + 64 + 64;
  over[length] = std::byte((kMaxProofDataBytes + 1) & 255);
  over[length + 1] = std::byte((kMaxProofDataBytes + 1) >> 8);
  CHECK(verifyIdentityProof(over, f.hash, true, f.a.dh().publicKey).code() == Code::Corrupt);
}

TEST_CASE("an identity comes back from its secret file, and a damaged file is refused") {
  Fixture f;
  const Bytes file = f.a.encodeSecret();

  auto back = Identity::decodeSecret(file);
  REQUIRE(back.ok());
  CHECK(back->key() == f.a.key());
  CHECK(back->binding() == f.a.binding());

  for (size_t at = 0; at < file.size(); ++at) {
    Bytes bad = file;
    bad[at] ^= std::byte(1);
    CHECK_FALSE(Identity::decodeSecret(bad).ok());
    CHECK_FALSE(Identity::decodeSecret(std::span(file).first(at)).ok());
  }
  Bytes newer = file;
  newer[16] = std::byte(2);
  CHECK(Identity::decodeSecret(newer).code() == Code::WrongVersion);
}

TEST_CASE("the wire form of identities has not changed") {
  Fixture f;
  CHECK(f.a.key().hex() == "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664");
  CHECK(f.a.binding().dh.hex() == "5869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67b");
  CHECK(f.a.binding().signature.hex() ==
        "71c60c708c757b29aa4307e454c717b1095551f4bfd8973fe5449f1ee67c82b8"
        "17820009d6cf38d4acc3e8380d69aaccfd0b46c3529144f5f91ed56454980801");
}

TEST_CASE("a key for people is 64 hexadecimal digits") {
  Fixture f;
  CHECK(*parsePeerKey(f.a.key().hex()) == f.a.key());
  CHECK(parsePeerKey(f.a.key().hex().substr(1)).code() == Code::InvalidArgument);
  std::string odd = f.a.key().hex();
  odd[0] = 'g';
  CHECK(parsePeerKey(odd).code() == Code::InvalidArgument);
  CHECK(parsePeerKey("").code() == Code::InvalidArgument);
}
