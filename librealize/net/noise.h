#pragma once

// Noise_*_25519_ChaChaPoly_BLAKE2b on libsodium. Source: The Noise Protocol Framework, revision 34.
//
// A handshake is a fixed exchange of messages. Each is made by writeMessage() on one side and taken by readMessage()
// on the other, in turn; the initiator writes first. When finished(), split() gives the keys of the connection.
// Any failure (a wrong tag, a bad point, a message out of turn) ends the handshake for good.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "librealize/base/random.h"
#include "realize/result.h"
#include "realize/types.h"

namespace realize::net {

constexpr size_t kNoiseTagBytes = 16;
/// Of a whole handshake or transport message, with its tag.
constexpr size_t kNoiseMaxMessageBytes = 65535;

/// X25519 public key.
using DhPublicKey = FixedBytes<32, struct DhPublicTag>;
/// What both sides agree on about a handshake so far: signing it binds a signature to this one handshake.
using HandshakeHash = FixedBytes<64, struct HandshakeHashTag>;

/// 32 secret bytes, wiped when they go. Copies are wiped as well, each by itself. Not comparable on purpose.
class Secret32 {
 public:
  Secret32() = default;
  explicit Secret32(std::span<const uint8_t, 32> bytes);
  Secret32(const Secret32&) = default;
  Secret32& operator=(const Secret32&) = default;
  ~Secret32();
  const uint8_t* data() const { return bytes_.data(); }
  uint8_t* data() { return bytes_.data(); }
  static constexpr size_t size() { return 32; }
  static Secret32 random(Random& random);

 private:
  std::array<uint8_t, 32> bytes_{};
};

struct DhKeyPair {
  Secret32 secret;
  DhPublicKey publicKey;
  static DhKeyPair generate(Random& random);
  static DhKeyPair fromSecret(const Secret32& secret);
};

/// Who knows what beforehand: XX nothing; IK the initiator knows the responder's static key; KK each the other's.
/// With psk, both know a 32-byte secret besides; the number says after which message it is mixed in.
enum class NoisePattern : uint8_t { XX, IK, KK, XXpsk3, IKpsk1, IKpsk2 };

/// The outcome. `send` of one side is `receive` of the other.
struct NoiseKeys {
  Secret32 send;
  Secret32 receive;
  /// A second, independent pair for bulk frames, which are sealed by other threads with numbers of their own.
  Secret32 bulkSend;
  Secret32 bulkReceive;
  HandshakeHash handshakeHash;
};

/// One handshake. Thread: one at a time. Lifetime: refers to nothing given but `random`.
class NoiseHandshake {
 public:
  /// `prologue`: what both sides must agree on beforehand, may be empty. `remoteStatic`: required by IK (initiator)
  /// and KK, ignored where the pattern transmits it. `random` makes the ephemeral key.
  NoiseHandshake(NoisePattern pattern, bool initiator, std::span<const std::byte> prologue, const DhKeyPair& localStatic,
                 std::optional<DhPublicKey> remoteStatic = std::nullopt, Random& random = systemRandom());
  ~NoiseHandshake();
  NoiseHandshake(const NoiseHandshake&) = delete;
  NoiseHandshake& operator=(const NoiseHandshake&) = delete;

  /// The shared secret of a psk pattern; at the latest before the message that mixes it in.
  void setPsk(const Secret32& psk) { psk_ = psk; }

  /// Errors: Internal (out of turn, missing key), TooLarge (payload), Refused (a bad public key of the other's).
  Result<Bytes> writeMessage(std::span<const std::byte> payload);
  /// The same; the payload is made when everything that precedes it in the message is mixed in. What it is given is what
  /// payloadBinding() says on the other side after the message was read: sign that.
  Result<Bytes> writeMessage(const std::function<Bytes(const HandshakeHash&)>& makePayload);
  /// Takes a message and gives its payload. Whether the payload is secret and whose it is depends on pattern and turn.
  /// The first payload of IK and KK can be replayed: act on it only when the next message has come.
  /// Errors: Refused (not from a holder of the keys, or damaged), TooLarge, Internal (out of turn).
  Result<Bytes> readMessage(std::span<const std::byte> message);
  /// Of the message written or read last.
  const HandshakeHash& payloadBinding() const { return binding_; }

  bool initiator() const { return initiator_; }
  bool failed() const { return failed_; }
  bool finished() const;
  /// The next thing to do is writeMessage(). False when finished or failed.
  bool myTurn() const;
  /// The other's static key: given, or once received. It is proven only when the handshake is finished.
  const std::optional<DhPublicKey>& remoteStatic() const { return remoteStatic_; }
  /// Once, when finished(). Errors: Internal before that, or again.
  Result<NoiseKeys> split();

 private:
  enum class Token : uint8_t { E, S, EE, ES, SE, SS, Psk };
  struct Message { Token tokens[6]; uint8_t count; };
  struct Script;
  static const Script& scriptOf(NoisePattern pattern);

  Error fail(Code code, const char* why);
  void mixHash(std::span<const uint8_t> data);
  void mixKey(std::span<const uint8_t> input);
  void mixKeyAndHash(const Secret32& psk);
  bool mixDh(const Secret32& secret, const DhPublicKey& point);
  bool mixDhToken(Token token);
  void encryptAndHash(std::span<const uint8_t> plain, Bytes& out);
  bool decryptAndHash(std::span<const uint8_t> sealed, std::span<uint8_t> out);
  Result<void> writeTokens(Bytes& out);
  Result<void> readTokens(std::span<const uint8_t>& rest);
  void wipe();

  const Script& script_;
  const bool initiator_;
  Random& random_;
  DhKeyPair localStatic_;
  DhKeyPair localEphemeral_;
  std::optional<DhPublicKey> remoteStatic_;
  std::optional<DhPublicKey> remoteEphemeral_;
  std::optional<Secret32> psk_;
  uint8_t chainingKey_[64] = {};
  uint8_t hash_[64] = {};
  Secret32 key_;
  bool hasKey_ = false;
  uint64_t nonce_ = 0;
  HandshakeHash binding_;
  size_t step_ = 0;  ///< messages done
  bool failed_ = false;
  bool split_ = false;
};

/// ChaCha20-Poly1305 as Noise uses it: nonce = 4 zero bytes and `sequence` little-endian. Never seal twice with one
/// key and sequence. `out` has plain.size() + 16 bytes and may start where `plain` does. Thread: any.
void sealRecord(const Secret32& key, uint64_t sequence, std::span<const std::byte> additional,
                std::span<const std::byte> plain, std::span<std::byte> out);
/// `out` has sealed.size() - 16 bytes and may start where `sealed` does. False, and `out` undefined, when the tag is wrong
/// or `sealed` is shorter than a tag. Thread: any.
[[nodiscard]] bool openRecord(const Secret32& key, uint64_t sequence, std::span<const std::byte> additional,
                              std::span<const std::byte> sealed, std::span<std::byte> out);

}  // namespace realize::net
