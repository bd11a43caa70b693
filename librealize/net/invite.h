#pragma once

// The code that `invite` prints and `join` takes: one word of letters and digits that a person can mail, paste or read out.
//
// "rlz", a version digit, then base32 (RFC 4648, lower case, no padding) of, numbers little-endian:
//   expiry        5 bytes, Unix time in seconds
//   inviter       32 bytes, Ed25519 key
//   secret        16 bytes
//   addresses     1 byte: how many; each: 1 byte length, "host:port"
//   check         4 bytes, BLAKE2b of "rlz1" and all before
// "rlz" and the place of the version digit never change.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "librealize/base/random.h"
#include "realize/result.h"
#include "realize/types.h"

namespace realize::net {

/// Whoever shows it is admitted, once.
using InviteSecret = FixedBytes<16, struct InviteSecretTag>;

constexpr size_t kMaxInviteAddresses = 8;
constexpr size_t kMaxAddressBytes = 255;
constexpr size_t kMaxInviteCodeBytes = 4096;

struct Invite {
  std::vector<std::string> addresses;  ///< host:port ("[...]:port" for IPv6), the likeliest first; none: the inviter is deaf
  PeerKey inviter;
  InviteSecret secret;
  int64_t expiresNs = 0;  ///< Unix time; kept to the second, rounded up
  bool operator==(const Invite&) const = default;
};

InviteSecret makeInviteSecret(Random& random);

/// Errors: InvalidArgument (too many addresses, or one that is no host:port).
Result<std::string> encodeInvite(const Invite& invite);
/// Spaces around the code and capital letters do no harm. The inviter checks the time again by its own clock.
/// Errors, each with a sentence for people: InvalidArgument (not a code, or mistyped), TimedOut (expired),
/// WrongVersion (made by a newer program).
Result<Invite> decodeInvite(std::string_view code, int64_t nowNs);

/// What the inviter keeps instead of the secret, and looks an admission up by.
std::array<uint8_t, 32> inviteSecretHash(const InviteSecret& secret);

/// What the one who joins brings in its handshake (encrypted for the inviter, who has proven its key by then, and signed
/// with the handshake).
Bytes encodeAdmission(const InviteSecret& secret);
/// Errors: Corrupt.
Result<InviteSecret> decodeAdmission(std::span<const std::byte> bytes);

}  // namespace realize::net
