#include "librealize/net/noise.h"

#include <sodium.h>

#include <cstring>
#include <string_view>

namespace realize::net {
namespace {

constexpr size_t kHashBytes = 64;
constexpr size_t kBlockBytes = 128;  // of BLAKE2b, for HMAC
constexpr size_t kDhBytes = 32;

using Hash64 = std::array<uint8_t, kHashBytes>;

const uint8_t* raw(std::span<const std::byte> s) { return reinterpret_cast<const uint8_t*>(s.data()); }

std::span<const uint8_t> rawSpan(std::span<const std::byte> s) { return {raw(s), s.size()}; }

std::array<uint8_t, 12> nonceOf(uint64_t sequence) {
  std::array<uint8_t, 12> nonce{};
  for (int i = 0; i < 8; ++i) nonce[4 + i] = uint8_t(sequence >> (8 * i));
  return nonce;
}

// HMAC (RFC 2104) over BLAKE2b-512. The keyed mode of BLAKE2b is another function and not what Noise asks for.
class HmacBlake2b {
 public:
  explicit HmacBlake2b(std::span<const uint8_t> key) {
    uint8_t pad[kBlockBytes] = {};
    std::memcpy(pad, key.data(), key.size());  // Keys here are at most 64 bytes: never longer than a block.
    for (auto& b : pad) b ^= 0x36;
    crypto_generichash_blake2b_init(&inner_, nullptr, 0, kHashBytes);
    crypto_generichash_blake2b_update(&inner_, pad, sizeof pad);
    for (auto& b : pad) b ^= 0x36 ^ 0x5c;
    crypto_generichash_blake2b_init(&outer_, nullptr, 0, kHashBytes);
    crypto_generichash_blake2b_update(&outer_, pad, sizeof pad);
    sodium_memzero(pad, sizeof pad);
  }
  ~HmacBlake2b() {
    sodium_memzero(&inner_, sizeof inner_);
    sodium_memzero(&outer_, sizeof outer_);
  }
  void update(std::span<const uint8_t> data) {
    crypto_generichash_blake2b_update(&inner_, data.data(), data.size());
  }
  void finish(Hash64& out) {
    crypto_generichash_blake2b_final(&inner_, out.data(), out.size());
    crypto_generichash_blake2b_update(&outer_, out.data(), out.size());
    crypto_generichash_blake2b_final(&outer_, out.data(), out.size());
  }

 private:
  crypto_generichash_blake2b_state inner_, outer_;
};

// HKDF of the specification (section 4.3), two or three outputs.
template <size_t N>
struct HkdfOutputs {
  std::array<Hash64, N> out;
  HkdfOutputs(std::span<const uint8_t> chainingKey, std::span<const uint8_t> input) {
    Hash64 temp;
    HmacBlake2b extract(chainingKey);
    extract.update(input);
    extract.finish(temp);
    for (size_t i = 0; i < N; ++i) {
      HmacBlake2b expand(temp);
      if (i > 0) expand.update(out[i - 1]);
      const uint8_t number = uint8_t(i + 1);
      expand.update({&number, 1});
      expand.finish(out[i]);
    }
    sodium_memzero(temp.data(), temp.size());
  }
  ~HkdfOutputs() { sodium_memzero(out.data(), sizeof out); }
  Secret32 key(size_t i) const { return Secret32(std::span<const uint8_t, 32>(out[i].data(), 32)); }
};

}  // namespace

Secret32::Secret32(std::span<const uint8_t, 32> bytes) { std::memcpy(bytes_.data(), bytes.data(), 32); }

Secret32::~Secret32() { sodium_memzero(bytes_.data(), bytes_.size()); }

Secret32 Secret32::random(Random& random) {
  Secret32 out;
  random.fill({out.data(), out.size()});
  return out;
}

DhKeyPair DhKeyPair::fromSecret(const Secret32& secret) {
  DhKeyPair pair{secret, {}};
  crypto_scalarmult_base(pair.publicKey.data(), pair.secret.data());
  return pair;
}

DhKeyPair DhKeyPair::generate(Random& random) { return fromSecret(Secret32::random(random)); }

void sealRecord(const Secret32& key, uint64_t sequence, std::span<const std::byte> additional,
                std::span<const std::byte> plain, std::span<std::byte> out) {
  if (out.size() != plain.size() + kNoiseTagBytes) std::abort();
  const auto nonce = nonceOf(sequence);
  crypto_aead_chacha20poly1305_ietf_encrypt(reinterpret_cast<uint8_t*>(out.data()), nullptr, raw(plain), plain.size(),
                                            raw(additional), additional.size(), nullptr, nonce.data(), key.data());
}

bool openRecord(const Secret32& key, uint64_t sequence, std::span<const std::byte> additional,
                std::span<const std::byte> sealed, std::span<std::byte> out) {
  if (sealed.size() < kNoiseTagBytes) return false;
  if (out.size() != sealed.size() - kNoiseTagBytes) std::abort();
  const auto nonce = nonceOf(sequence);
  return crypto_aead_chacha20poly1305_ietf_decrypt(reinterpret_cast<uint8_t*>(out.data()), nullptr, nullptr, raw(sealed),
                                                   sealed.size(), raw(additional), additional.size(), nonce.data(),
                                                   key.data()) == 0;
}

struct NoiseHandshake::Script {
  std::string_view name;
  bool initiatorKnown;  ///< pre-message "-> s"
  bool responderKnown;  ///< pre-message "<- s"
  bool psk;
  size_t messages;
  Message message[3];
};

const NoiseHandshake::Script& NoiseHandshake::scriptOf(NoisePattern pattern) {
  using enum Token;
  static const Script xx{"Noise_XX_25519_ChaChaPoly_BLAKE2b", false, false, false, 3,
                         {{{E}, 1}, {{E, EE, S, ES}, 4}, {{S, SE}, 2}}};
  static const Script ik{"Noise_IK_25519_ChaChaPoly_BLAKE2b", false, true, false, 2,
                         {{{E, ES, S, SS}, 4}, {{E, EE, SE}, 3}, {}}};
  static const Script kk{"Noise_KK_25519_ChaChaPoly_BLAKE2b", true, true, false, 2,
                         {{{E, ES, SS}, 3}, {{E, EE, SE}, 3}, {}}};
  static const Script xxPsk3{"Noise_XXpsk3_25519_ChaChaPoly_BLAKE2b", false, false, true, 3,
                             {{{E}, 1}, {{E, EE, S, ES}, 4}, {{S, SE, Psk}, 3}}};
  static const Script ikPsk1{"Noise_IKpsk1_25519_ChaChaPoly_BLAKE2b", false, true, true, 2,
                             {{{E, ES, S, SS, Psk}, 5}, {{E, EE, SE}, 3}, {}}};
  static const Script ikPsk2{"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2b", false, true, true, 2,
                             {{{E, ES, S, SS}, 4}, {{E, EE, SE, Psk}, 4}, {}}};
  switch (pattern) {
    case NoisePattern::XX: return xx;
    case NoisePattern::IK: return ik;
    case NoisePattern::KK: return kk;
    case NoisePattern::XXpsk3: return xxPsk3;
    case NoisePattern::IKpsk1: return ikPsk1;
    case NoisePattern::IKpsk2: return ikPsk2;
  }
  std::abort();
}

NoiseHandshake::NoiseHandshake(NoisePattern pattern, bool initiator, std::span<const std::byte> prologue,
                               const DhKeyPair& localStatic, std::optional<DhPublicKey> remoteStatic, Random& random)
    : script_(scriptOf(pattern)), initiator_(initiator), random_(random), localStatic_(localStatic) {
  static_assert(sizeof("Noise_XXpsk3_25519_ChaChaPoly_BLAKE2b") - 1 <= kHashBytes);  // So h is the name, not its hash.
  std::memcpy(hash_, script_.name.data(), script_.name.size());
  std::memcpy(chainingKey_, hash_, sizeof hash_);
  mixHash(rawSpan(prologue));

  const bool needsRemote = initiator_ ? script_.responderKnown : script_.initiatorKnown;
  if (needsRemote) {
    if (!remoteStatic) { failed_ = true; return; }
    remoteStatic_ = remoteStatic;
  }
  auto mixStatic = [&](bool ofInitiator) {
    const DhPublicKey& key = ofInitiator == initiator_ ? localStatic_.publicKey : *remoteStatic_;
    mixHash({key.data(), key.size()});
  };
  if (script_.initiatorKnown) mixStatic(true);
  if (script_.responderKnown) mixStatic(false);
}

NoiseHandshake::~NoiseHandshake() { wipe(); }

void NoiseHandshake::wipe() {
  sodium_memzero(chainingKey_, sizeof chainingKey_);
  sodium_memzero(key_.data(), key_.size());
  localEphemeral_ = {};
  psk_.reset();
}

Error NoiseHandshake::fail(Code code, const char* why) {
  failed_ = true;
  wipe();
  return {code, why};
}

bool NoiseHandshake::finished() const { return !failed_ && step_ == script_.messages; }

bool NoiseHandshake::myTurn() const { return !failed_ && step_ < script_.messages && (step_ % 2 == 0) == initiator_; }

void NoiseHandshake::mixHash(std::span<const uint8_t> data) {
  crypto_generichash_blake2b_state state;
  crypto_generichash_blake2b_init(&state, nullptr, 0, kHashBytes);
  crypto_generichash_blake2b_update(&state, hash_, sizeof hash_);
  crypto_generichash_blake2b_update(&state, data.data(), data.size());
  crypto_generichash_blake2b_final(&state, hash_, sizeof hash_);
}

void NoiseHandshake::mixKey(std::span<const uint8_t> input) {
  HkdfOutputs<2> keys(chainingKey_, input);
  std::memcpy(chainingKey_, keys.out[0].data(), sizeof chainingKey_);
  key_ = keys.key(1);
  hasKey_ = true;
  nonce_ = 0;
}

void NoiseHandshake::mixKeyAndHash(const Secret32& psk) {
  HkdfOutputs<3> keys(chainingKey_, {psk.data(), psk.size()});
  std::memcpy(chainingKey_, keys.out[0].data(), sizeof chainingKey_);
  mixHash(keys.out[1]);
  key_ = keys.key(2);
  hasKey_ = true;
  nonce_ = 0;
}

bool NoiseHandshake::mixDh(const Secret32& secret, const DhPublicKey& point) {
  Secret32 shared;
  // Fails for points of small order, whose shared secret would be the same for everybody.
  if (crypto_scalarmult(shared.data(), secret.data(), point.data()) != 0) return false;
  mixKey({shared.data(), shared.size()});
  return true;
}

bool NoiseHandshake::mixDhToken(Token token) {
  // The first letter is the initiator's key, the second the responder's.
  const bool initiatorEphemeral = token == Token::EE || token == Token::ES;
  const bool responderEphemeral = token == Token::EE || token == Token::SE;
  const bool mineEphemeral = initiator_ ? initiatorEphemeral : responderEphemeral;
  const bool theirsEphemeral = initiator_ ? responderEphemeral : initiatorEphemeral;
  const auto& theirs = theirsEphemeral ? remoteEphemeral_ : remoteStatic_;
  if (!theirs) return false;
  return mixDh(mineEphemeral ? localEphemeral_.secret : localStatic_.secret, *theirs);
}

void NoiseHandshake::encryptAndHash(std::span<const uint8_t> plain, Bytes& out) {
  const size_t at = out.size();
  if (!hasKey_) {
    out.resize(at + plain.size());
    if (!plain.empty()) std::memcpy(out.data() + at, plain.data(), plain.size());
  } else {
    out.resize(at + plain.size() + kNoiseTagBytes);
    sealRecord(key_, nonce_++, std::as_bytes(std::span(hash_)), std::as_bytes(plain), std::span(out).subspan(at));
  }
  mixHash(rawSpan(std::span(out).subspan(at)));
}

bool NoiseHandshake::decryptAndHash(std::span<const uint8_t> sealed, std::span<uint8_t> out) {
  if (!hasKey_) {
    if (!sealed.empty()) std::memcpy(out.data(), sealed.data(), sealed.size());
  } else if (!openRecord(key_, nonce_++, std::as_bytes(std::span(hash_)), std::as_bytes(sealed),
                         std::as_writable_bytes(out))) {
    return false;
  }
  mixHash(sealed);
  return true;
}

Result<void> NoiseHandshake::writeTokens(Bytes& out) {
  const Message& message = script_.message[step_];
  for (size_t i = 0; i < message.count; ++i) {
    switch (message.tokens[i]) {
      case Token::E: {
        localEphemeral_ = DhKeyPair::generate(random_);
        const auto& key = localEphemeral_.publicKey;
        const auto bytes = std::as_bytes(std::span(key.bytes));
        out.insert(out.end(), bytes.begin(), bytes.end());
        mixHash(key.bytes);
        if (script_.psk) mixKey(key.bytes);
        break;
      }
      case Token::S: encryptAndHash(localStatic_.publicKey.bytes, out); break;
      case Token::Psk:
        if (!psk_) return fail(Code::Internal, "the handshake needs a shared secret that was not given");
        mixKeyAndHash(*psk_);
        break;
      case Token::EE: case Token::ES: case Token::SE: case Token::SS:
        if (!mixDhToken(message.tokens[i])) return fail(Code::Refused, "the other side sent an unusable public key");
        break;
    }
  }
  return {};
}

Result<void> NoiseHandshake::readTokens(std::span<const uint8_t>& rest) {
  const Message& message = script_.message[step_];
  for (size_t i = 0; i < message.count; ++i) {
    switch (message.tokens[i]) {
      case Token::E: {
        if (rest.size() < kDhBytes) return fail(Code::Refused, "handshake message too short");
        remoteEphemeral_.emplace();
        std::memcpy(remoteEphemeral_->data(), rest.data(), kDhBytes);
        rest = rest.subspan(kDhBytes);
        mixHash(remoteEphemeral_->bytes);
        if (script_.psk) mixKey(remoteEphemeral_->bytes);
        break;
      }
      case Token::S: {
        const size_t sealed = kDhBytes + (hasKey_ ? kNoiseTagBytes : 0);
        if (rest.size() < sealed) return fail(Code::Refused, "handshake message too short");
        DhPublicKey key;
        if (!decryptAndHash(rest.first(sealed), key.bytes))
          return fail(Code::Refused, "handshake message does not authenticate");
        remoteStatic_ = key;
        rest = rest.subspan(sealed);
        break;
      }
      case Token::Psk:
        if (!psk_) return fail(Code::Internal, "the handshake needs a shared secret that was not given");
        mixKeyAndHash(*psk_);
        break;
      case Token::EE: case Token::ES: case Token::SE: case Token::SS:
        if (!mixDhToken(message.tokens[i])) return fail(Code::Refused, "the other side sent an unusable public key");
        break;
    }
  }
  return {};
}

Result<Bytes> NoiseHandshake::writeMessage(const std::function<Bytes(const HandshakeHash&)>& makePayload) {
  if (!myTurn()) return fail(Code::Internal, "handshake message written out of turn");
  Bytes out;
  REALIZE_TRY(writeTokens(out));
  std::memcpy(binding_.data(), hash_, sizeof hash_);
  const Bytes payload = makePayload(binding_);
  if (out.size() + payload.size() + kNoiseTagBytes > kNoiseMaxMessageBytes)
    return fail(Code::TooLarge, "handshake payload too large");
  encryptAndHash(rawSpan(payload), out);
  ++step_;
  return out;
}

Result<Bytes> NoiseHandshake::writeMessage(std::span<const std::byte> payload) {
  return writeMessage([&](const HandshakeHash&) { return Bytes(payload.begin(), payload.end()); });
}

Result<Bytes> NoiseHandshake::readMessage(std::span<const std::byte> message) {
  if (failed_ || finished() || myTurn()) return fail(Code::Internal, "handshake message read out of turn");
  if (message.size() > kNoiseMaxMessageBytes) return fail(Code::TooLarge, "handshake message too large");
  auto rest = rawSpan(message);
  REALIZE_TRY(readTokens(rest));
  const size_t tag = hasKey_ ? kNoiseTagBytes : 0;
  if (rest.size() < tag) return fail(Code::Refused, "handshake message too short");
  std::memcpy(binding_.data(), hash_, sizeof hash_);
  Bytes payload(rest.size() - tag);
  if (!decryptAndHash(rest, {reinterpret_cast<uint8_t*>(payload.data()), payload.size()}))
    return fail(Code::Refused, "handshake message does not authenticate");
  ++step_;
  return payload;
}

Result<NoiseKeys> NoiseHandshake::split() {
  if (!finished() || split_) return Error{Code::Internal, "handshake keys asked for out of turn"};
  split_ = true;
  NoiseKeys keys;
  HkdfOutputs<2> main(chainingKey_, {});
  // Not of the specification: further keys from the same secret, apart by a label where it has the empty string.
  static constexpr std::string_view label = "realize bulk frames 1";
  HkdfOutputs<2> bulk(chainingKey_, rawSpan(std::as_bytes(std::span(label))));
  keys.send = main.key(initiator_ ? 0 : 1);
  keys.receive = main.key(initiator_ ? 1 : 0);
  keys.bulkSend = bulk.key(initiator_ ? 0 : 1);
  keys.bulkReceive = bulk.key(initiator_ ? 1 : 0);
  std::memcpy(keys.handshakeHash.data(), hash_, sizeof hash_);
  wipe();
  return keys;
}

}  // namespace realize::net
