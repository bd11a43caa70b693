#pragma once

// How two peers meet, as a state machine over bytes: no socket, no clock.
//
// Both sides begin with 8 clear bytes (magic, protocol version, pattern); the dialer's are the Noise prologue. Then come
// the Noise messages, each with a 2-byte little-endian length. The pattern is IK where the dialer knows the listener's
// handshake key (the roster carries it), else XX, as when pairing by invite. In both, each side proves its Ed25519 key
// by signing this very handshake inside an encrypted payload (identity.h). An IK opening can be replayed, and an XX
// dialer cannot know whether it was welcome, so the connection counts only when the other's first sealed record (Ready)
// has come. Whoever asks by XX learns the listener's key, and nothing else. What else goes with the proof: one byte of abilities, then what the dialer brings for its admission.

#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "librealize/net/identity.h"
#include "librealize/net/noise.h"
#include "realize/result.h"

namespace realize::net {

constexpr size_t kGreetingBytes = 8;
constexpr size_t kMaxHandshakeMessageBytes = 8192;
constexpr size_t kMaxAdmissionBytes = 1024;

/// Whom a dialer wants to reach.
struct Expected {
  PeerKey key;
  std::optional<DhPublicKey> dh;  ///< if known: IK
  Bytes admission;                ///< for the listener's decision, such as an invite's proof; needs XX
};

/// One side's part of one handshake. Thread: one at a time. Lifetime: `identity` and `random` must outlive it.
class Greeting {
 public:
  /// `expected` for the dialer, nothing for the listener. `abilities`: see kAbilityAes.
  Greeting(const Identity& identity, std::optional<Expected> expected, uint8_t abilities, Random& random);

  static constexpr uint8_t kAbilityAes = 1;

  enum class State : uint8_t {
    Reading,  ///< wants more bytes
    Judging,  ///< listener only: peer() is proven; accept() or drop it
    Done,     ///< keys() is there
    Failed,
  };

  /// Takes what it can use from `input` and says how much that was; call until it takes nothing. Appends to output().
  /// Errors: Corrupt, WrongVersion, Refused (not the expected key, no valid proof). Then nothing more may be sent but
  /// what output() holds.
  Result<size_t> receive(std::span<const std::byte> input);
  /// The listener welcomes peer().
  Result<void> accept();

  State state() const { return state_; }
  /// Bytes to send; the caller clears it.
  Bytes& output() { return output_; }
  /// From Judging (listener) or Done (dialer) on.
  const ProvenPeer& peer() const { return *peer_; }
  std::span<const std::byte> admission() const;
  /// Of both sides together. When Done.
  bool bothHaveAes() const;
  const NoiseKeys& keys() const { return *keys_; }

 private:
  enum class Await : uint8_t { Greeting, Message };

  Result<void> start();
  Result<void> takeGreeting(std::span<const std::byte> bytes);
  Result<void> takeMessage(std::span<const std::byte> message);
  Result<void> takeProof(std::span<const std::byte> payload);
  Result<void> send(bool withProof);
  Result<void> finish();
  Error fail(Error error);

  const Identity& identity_;
  const std::optional<Expected> expected_;
  const uint8_t abilities_;
  Random& random_;
  NoisePattern pattern_ = NoisePattern::XX;
  State state_ = State::Reading;
  Await await_ = Await::Greeting;
  std::unique_ptr<NoiseHandshake> noise_;
  std::optional<ProvenPeer> peer_;
  std::optional<NoiseKeys> keys_;
  Bytes output_;
};

}  // namespace realize::net
