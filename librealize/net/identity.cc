#include "librealize/net/identity.h"

#include <sodium.h>

#include <cstring>
#include <string_view>

namespace realize::net {
namespace {

constexpr std::string_view kBindingDomain = "realize handshake key 1";
constexpr std::string_view kProofDomain = "realize identity proof 1";

// The secret file: this, then the Ed25519 seed, the X25519 secret, and 8 bytes of BLAKE2b over all before.
constexpr std::string_view kSecretMagic = "realize identity";
constexpr uint8_t kSecretFormat = 1;
constexpr size_t kSecretBytes = 16 + 1 + 32 + 32 + 8;

// The proof: magic, version (little-endian), key, dh, two signatures, length of data (little-endian), data.
// Magic and the place of the version never change, so that any two versions can tell each other apart.
constexpr std::string_view kProofMagic = "RLZP";
constexpr size_t kProofHeadBytes = 4 + 2;
constexpr size_t kProofFixedBytes = kProofHeadBytes + 32 + 32 + 64 + 64 + 2;

void append(Bytes& out, const void* data, size_t n) {
  const size_t at = out.size();
  out.resize(at + n);
  if (n > 0) std::memcpy(out.data() + at, data, n);
}
void append(Bytes& out, std::string_view s) { append(out, s.data(), s.size()); }
template <size_t N, typename Tag>
void append(Bytes& out, const FixedBytes<N, Tag>& v) { append(out, v.data(), N); }
void append16(Bytes& out, uint16_t v) {
  const uint8_t b[2] = {uint8_t(v), uint8_t(v >> 8)};
  append(out, b, 2);
}

// Reads a fixed layout whose total length was checked before.
class Taker {
 public:
  explicit Taker(std::span<const std::byte> bytes) : at_(bytes.data()) {}
  void take(void* to, size_t n) { std::memcpy(to, at_, n); at_ += n; }
  template <size_t N, typename Tag>
  void take(FixedBytes<N, Tag>& to) { take(to.data(), N); }
  uint16_t take16() { uint8_t b[2]; take(b, 2); return uint16_t(b[0] | b[1] << 8); }

 private:
  const std::byte* at_;
};

// What is signed: the domain with its length, so that no domain is the beginning of another's message.
Bytes signedForm(std::string_view domain, std::span<const std::byte> message) {
  Bytes out;
  out.reserve(1 + domain.size() + message.size());
  out.push_back(std::byte(domain.size()));
  append(out, domain);
  append(out, message.data(), message.size());
  return out;
}

Bytes bindingMessage(const PeerKey& key, const DhPublicKey& dh) {
  Bytes out;
  append(out, key);
  append(out, dh);
  return out;
}

Bytes proofMessage(const HandshakeHash& handshake, bool initiator, const DhBinding& binding,
                   std::span<const std::byte> data) {
  Bytes out;
  append16(out, kProtocolVersion);
  out.push_back(std::byte(initiator ? 1 : 2));  // A proof cannot be sent back to its maker.
  append(out, handshake);
  append(out, binding.key);
  append(out, binding.dh);
  append(out, data.data(), data.size());
  return out;
}

const uint8_t* raw(const Bytes& b) { return reinterpret_cast<const uint8_t*>(b.data()); }

}  // namespace

bool verifySignature(const PeerKey& key, std::string_view domain, std::span<const std::byte> message,
                     const Signature& signature) {
  const Bytes form = signedForm(domain, message);
  return crypto_sign_verify_detached(signature.data(), raw(form), form.size(), key.data()) == 0;
}

bool DhBinding::valid() const { return verifySignature(key, kBindingDomain, bindingMessage(key, dh), signature); }

Identity Identity::fromSeeds(const Secret32& signSeed, const Secret32& dhSecret) {
  Identity out;
  out.signSeed_ = signSeed;
  out.dh_ = DhKeyPair::fromSecret(dhSecret);
  uint8_t secret[crypto_sign_SECRETKEYBYTES];
  crypto_sign_seed_keypair(out.binding_.key.data(), secret, signSeed.data());
  sodium_memzero(secret, sizeof secret);
  out.binding_.dh = out.dh_.publicKey;
  out.binding_.signature = out.sign(kBindingDomain, bindingMessage(out.binding_.key, out.binding_.dh));
  return out;
}

Identity Identity::generate(Random& random) {
  const Secret32 signSeed = Secret32::random(random);
  const Secret32 dhSecret = Secret32::random(random);
  return fromSeeds(signSeed, dhSecret);
}

Signature Identity::sign(std::string_view domain, std::span<const std::byte> message) const {
  PeerKey key;
  uint8_t secret[crypto_sign_SECRETKEYBYTES];
  crypto_sign_seed_keypair(key.data(), secret, signSeed_.data());
  const Bytes form = signedForm(domain, message);
  Signature out;
  crypto_sign_detached(out.data(), nullptr, raw(form), form.size(), secret);
  sodium_memzero(secret, sizeof secret);
  return out;
}

Bytes Identity::encodeSecret() const {
  Bytes out;
  out.reserve(kSecretBytes);  // No reallocation: that would leave a copy of the secrets behind.
  append(out, kSecretMagic);
  out.push_back(std::byte(kSecretFormat));
  append(out, signSeed_.data(), 32);
  append(out, dh_.secret.data(), 32);
  uint8_t check[16];
  crypto_generichash_blake2b(check, sizeof check, raw(out), out.size(), nullptr, 0);
  append(out, check, 8);
  return out;
}

Result<Identity> Identity::decodeSecret(std::span<const std::byte> bytes) {
  const size_t head = kSecretMagic.size();
  if (bytes.size() <= head || std::memcmp(bytes.data(), kSecretMagic.data(), head) != 0)
    return Error{Code::Corrupt, "the identity file is damaged: it does not begin as one"};
  if (uint8_t(bytes[head]) > kSecretFormat)
    return Error{Code::WrongVersion, "the identity file was written by a newer version of realize"};
  if (bytes.size() != kSecretBytes || uint8_t(bytes[head]) != kSecretFormat)
    return Error{Code::Corrupt, "the identity file is damaged: wrong length or format"};
  uint8_t check[16];
  crypto_generichash_blake2b(check, sizeof check, reinterpret_cast<const uint8_t*>(bytes.data()), kSecretBytes - 8,
                             nullptr, 0);
  if (sodium_memcmp(check, bytes.data() + kSecretBytes - 8, 8) != 0)
    return Error{Code::Corrupt, "the identity file is damaged: its checksum does not match"};
  Secret32 signSeed, dhSecret;
  Taker taker(bytes.subspan(head + 1));
  taker.take(signSeed.data(), 32);
  taker.take(dhSecret.data(), 32);
  return fromSeeds(signSeed, dhSecret);
}

Bytes makeIdentityProof(const Identity& identity, const HandshakeHash& handshake, bool initiator,
                        std::span<const std::byte> data) {
  if (data.size() > kMaxProofDataBytes) data = data.first(kMaxProofDataBytes);
  const DhBinding& binding = identity.binding();
  Bytes out;
  out.reserve(kProofFixedBytes + data.size());
  append(out, kProofMagic);
  append16(out, kProtocolVersion);
  append(out, binding.key);
  append(out, binding.dh);
  append(out, binding.signature);
  append(out, identity.sign(kProofDomain, proofMessage(handshake, initiator, binding, data)));
  append16(out, uint16_t(data.size()));
  append(out, data.data(), data.size());
  return out;
}

Result<ProvenPeer> verifyIdentityProof(std::span<const std::byte> payload, const HandshakeHash& handshake,
                                       bool senderIsInitiator, const DhPublicKey& remoteStatic) {
  if (payload.size() < kProofHeadBytes || std::memcmp(payload.data(), kProofMagic.data(), kProofMagic.size()) != 0)
    return Error{Code::Corrupt, "not an identity proof"};
  Taker taker(payload.subspan(kProofMagic.size()));
  const uint16_t version = taker.take16();
  if (version != kProtocolVersion)
    return Error{Code::WrongVersion, "the other peer speaks protocol version " + std::to_string(version) +
                                         ", this one " + std::to_string(kProtocolVersion) +
                                         ": run the same version of realize on both"};
  if (payload.size() < kProofFixedBytes) return Error{Code::Corrupt, "identity proof too short"};
  ProvenPeer peer;
  Signature proof;
  taker.take(peer.binding.key);
  taker.take(peer.binding.dh);
  taker.take(peer.binding.signature);
  taker.take(proof);
  const size_t dataBytes = taker.take16();
  if (dataBytes > kMaxProofDataBytes || payload.size() != kProofFixedBytes + dataBytes)
    return Error{Code::Corrupt, "identity proof of wrong length"};
  const auto data = payload.subspan(kProofFixedBytes);
  if (sodium_memcmp(peer.binding.dh.data(), remoteStatic.data(), DhPublicKey::size()) != 0)
    return Error{Code::Refused, "identity proof names another handshake key"};
  if (!peer.binding.valid()) return Error{Code::Refused, "handshake key is not signed by its identity"};
  if (!verifySignature(peer.key(), kProofDomain, proofMessage(handshake, senderIsInitiator, peer.binding, data), proof))
    return Error{Code::Refused, "identity proof does not belong to this handshake"};
  peer.data.assign(data.begin(), data.end());
  return peer;
}

Result<PeerKey> parsePeerKey(std::string_view text) {
  PeerKey key;
  auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  bool good = text.size() == 2 * PeerKey::size();
  for (size_t i = 0; good && i < PeerKey::size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    good = high >= 0 && low >= 0;
    key.bytes[i] = uint8_t(high << 4 | low);
  }
  if (!good) return Error{Code::InvalidArgument, "a peer's key is 64 hexadecimal digits"};
  return key;
}

}  // namespace realize::net
