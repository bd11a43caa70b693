#pragma once

// Who a peer is: an Ed25519 key pair. Handshakes are done with a separate X25519 key which the identity has signed;
// besides, each side signs the handshake itself, so that a stolen X25519 key alone is of no use.

#include <cstdint>
#include <span>
#include <string>

#include "librealize/base/random.h"
#include "librealize/net/noise.h"
#include "realize/result.h"
#include "realize/types.h"

namespace realize::net {

/// Of everything that peers say to each other. Peers of different versions part with WrongVersion.
constexpr uint16_t kProtocolVersion = 1;

/// Ed25519 signature.
using Signature = FixedBytes<64, struct SignatureTag>;

/// Says that `dh` is the handshake key of `key`. Public: the roster may carry it, so that others can use IK.
struct DhBinding {
  PeerKey key;
  DhPublicKey dh;
  Signature signature;
  bool valid() const;
  bool operator==(const DhBinding&) const = default;
};

/// The secrets of this peer. Thread: any, once made. Lifetime: secrets are wiped when it goes.
class Identity {
 public:
  static Identity generate(Random& random);
  /// For the state folder only: holds the secrets.
  Bytes encodeSecret() const;
  /// Errors: Corrupt, WrongVersion (written by a newer program).
  static Result<Identity> decodeSecret(std::span<const std::byte> bytes);

  const PeerKey& key() const { return binding_.key; }
  const DhKeyPair& dh() const { return dh_; }
  const DhBinding& binding() const { return binding_; }
  /// Signs `message` under `domain`, a literal that no other use of the key shares.
  Signature sign(std::string_view domain, std::span<const std::byte> message) const;

 private:
  Identity() = default;
  static Identity fromSeeds(const Secret32& signSeed, const Secret32& dhSecret);
  Secret32 signSeed_;
  DhKeyPair dh_;
  DhBinding binding_;
};

/// Constant time is not needed: all inputs are public. Thread: any.
bool verifySignature(const PeerKey& key, std::string_view domain, std::span<const std::byte> message,
                     const Signature& signature);

/// At most so many bytes of the caller's travel with a proof.
constexpr size_t kMaxProofDataBytes = 4096;

/// The payload with which the writer of a handshake message proves its identity. `handshake` is what writeMessage()
/// gives its callback. `data`: the caller's, signed along, at most kMaxProofDataBytes (else it is cut off: a bug).
Bytes makeIdentityProof(const Identity& identity, const HandshakeHash& handshake, bool initiator,
                        std::span<const std::byte> data = {});

struct ProvenPeer {
  DhBinding binding;
  Bytes data;
  const PeerKey& key() const { return binding.key; }
};

/// Checks a proof out of a handshake payload: `handshake` is payloadBinding() after the message was read,
/// `senderIsInitiator` the sender's role, `remoteStatic` the key that the handshake itself proves.
/// A proof holds for one message of one handshake only. Whether the key is a welcome one is the caller's question.
/// Errors: Corrupt (malformed), WrongVersion (the message says both versions), Refused (does not verify).
Result<ProvenPeer> verifyIdentityProof(std::span<const std::byte> payload, const HandshakeHash& handshake,
                                       bool senderIsInitiator, const DhPublicKey& remoteStatic);

/// A key as people see it: 64 hexadecimal digits. Errors: InvalidArgument.
Result<PeerKey> parsePeerKey(std::string_view text);

}  // namespace realize::net
