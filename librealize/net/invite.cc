#include "librealize/net/invite.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "librealize/base/hash.h"

namespace realize::net {
namespace {

constexpr std::string_view kPrefix = "rlz";
constexpr char kVersion = '1';
constexpr size_t kExpiryBytes = 5;
constexpr size_t kCheckBytes = 4;
constexpr size_t kFixedBytes = kExpiryBytes + 32 + 16 + 1 + kCheckBytes;
constexpr int64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kMaxExpiry = (uint64_t(1) << (8 * kExpiryBytes)) - 1;
constexpr std::string_view kDigits = "abcdefghijklmnopqrstuvwxyz234567";
constexpr std::string_view kAdmissionMagic = "invite 1";

using Octets = std::vector<uint8_t>;

std::string base32(const Octets& bytes) {
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (uint8_t b : bytes) {
    bits = (bits << 8 | b) & 0xffff;
    for (held += 8; held >= 5; held -= 5) out += kDigits[bits >> (held - 5) & 31];
  }
  if (held > 0) out += kDigits[bits << (5 - held) & 31];
  return out;
}

// Nothing for a character that is no digit, and for anything that base32() would have written differently.
std::optional<Octets> fromBase32(std::string_view text) {
  Octets out;
  uint32_t bits = 0;
  int held = 0;
  for (char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = (bits << 5 | uint32_t(digit)) & 0xffff;
    held += 5;
    if (held < 8) continue;
    held -= 8;
    out.push_back(uint8_t(bits >> held));
  }
  if (held >= 5 || (bits & ((1u << held) - 1)) != 0) return std::nullopt;
  return out;
}

std::array<uint8_t, kCheckBytes> checkOf(std::span<const uint8_t> body) {
  Octets input(kPrefix.begin(), kPrefix.end());
  input.push_back(uint8_t(kVersion));
  input.insert(input.end(), body.begin(), body.end());
  std::array<uint8_t, 32> digest;
  blake2b(std::as_bytes(std::span(input)), digest);
  std::array<uint8_t, kCheckBytes> out;
  std::copy_n(digest.begin(), kCheckBytes, out.begin());
  return out;
}

// Printable, no spaces, and a port: whether the host exists is found out by dialling.
bool isAddress(std::string_view text) {
  if (text.empty() || text.size() > kMaxAddressBytes) return false;
  for (char c : text)
    if (c <= ' ' || c >= 127) return false;
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const std::string_view port = text.substr(colon + 1);
  if (port.empty() || port.size() > 5) return false;
  uint32_t number = 0;
  for (char c : port) {
    if (c < '0' || c > '9') return false;
    number = 10 * number + uint32_t(c - '0');
  }
  return number >= 1 && number <= 65535;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

Error mistyped() {
  return {Code::InvalidArgument, "the invite code has a mistake in it: copy it again, whole, from where it was printed"};
}

// The addresses after the fixed part; `rest` is what is left of the checked body and must be used up.
Result<std::vector<std::string>> takeAddresses(std::span<const uint8_t> rest, size_t count) {
  std::vector<std::string> out;
  if (count > kMaxInviteAddresses) return mistyped();
  for (size_t i = 0; i < count; ++i) {
    if (rest.empty() || rest.size() < size_t(1) + rest[0]) return mistyped();
    std::string address(rest.begin() + 1, rest.begin() + 1 + rest[0]);
    rest = rest.subspan(1 + address.size());
    if (!isAddress(address)) return mistyped();
    out.push_back(std::move(address));
  }
  if (!rest.empty()) return mistyped();
  return out;
}

}  // namespace

InviteSecret makeInviteSecret(Random& random) {
  InviteSecret secret;
  random.fill(secret.bytes);
  return secret;
}

Result<std::string> encodeInvite(const Invite& invite) {
  if (invite.addresses.size() > kMaxInviteAddresses)
    return Error{Code::InvalidArgument, "an invite holds at most " + std::to_string(kMaxInviteAddresses) + " addresses"};
  const uint64_t expiry =
      invite.expiresNs <= 0 ? 0 : std::min(kMaxExpiry, uint64_t(invite.expiresNs - 1) / kSecondNs + 1);
  Octets body;
  for (size_t i = 0; i < kExpiryBytes; ++i) body.push_back(uint8_t(expiry >> (8 * i)));
  body.insert(body.end(), invite.inviter.bytes.begin(), invite.inviter.bytes.end());
  body.insert(body.end(), invite.secret.bytes.begin(), invite.secret.bytes.end());
  body.push_back(uint8_t(invite.addresses.size()));
  for (const auto& address : invite.addresses) {
    if (!isAddress(address)) return Error{Code::InvalidArgument, "\"" + address + "\" is not an address as host:port"};
    body.push_back(uint8_t(address.size()));
    body.insert(body.end(), address.begin(), address.end());
  }
  const auto check = checkOf(body);
  body.insert(body.end(), check.begin(), check.end());
  return std::string(kPrefix) + kVersion + base32(body);
}

Result<Invite> decodeInvite(std::string_view code, int64_t nowNs) {
  code = trimmed(code);
  if (code.size() > kMaxInviteCodeBytes) return Error{Code::InvalidArgument, "this is not an invite code: too long"};
  std::string text(code);
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  if (!text.starts_with(kPrefix) || text.size() <= kPrefix.size())
    return Error{Code::InvalidArgument, "this is not an invite code: those begin with \"rlz\""};
  const char version = text[kPrefix.size()];
  if (version > kVersion && version <= '9')
    return Error{Code::WrongVersion, "the invite code was made by a newer version of realize: update this one"};
  if (version != kVersion) return mistyped();
  const auto octets = fromBase32(std::string_view(text).substr(kPrefix.size() + 1));
  if (!octets || octets->size() < kFixedBytes) return mistyped();
  const std::span<const uint8_t> body = std::span(*octets).first(octets->size() - kCheckBytes);
  const auto check = checkOf(body);
  if (!std::equal(check.begin(), check.end(), octets->end() - kCheckBytes)) return mistyped();

  Invite invite;
  uint64_t expiry = 0;
  for (size_t i = 0; i < kExpiryBytes; ++i) expiry |= uint64_t(body[i]) << (8 * i);
  // 5 bytes of seconds reach beyond what 64 bits of nanoseconds can say: that is for ever.
  invite.expiresNs = expiry > uint64_t(INT64_MAX / kSecondNs) ? INT64_MAX : int64_t(expiry) * kSecondNs;
  std::copy_n(body.begin() + kExpiryBytes, 32, invite.inviter.bytes.begin());
  std::copy_n(body.begin() + kExpiryBytes + 32, 16, invite.secret.bytes.begin());
  const size_t count = body[kExpiryBytes + 48];
  REALIZE_ASSIGN(invite.addresses, takeAddresses(body.subspan(kExpiryBytes + 49), count));
  if (nowNs >= invite.expiresNs)
    return Error{Code::TimedOut, "the invite has expired (by this machine's clock): ask for a new one"};
  return invite;
}

std::array<uint8_t, 32> inviteSecretHash(const InviteSecret& secret) {
  std::array<uint8_t, 32> out;
  blake2b256(HashDomain("realize invite 1"), std::as_bytes(std::span(secret.bytes)), out.data());
  return out;
}

Bytes encodeAdmission(const InviteSecret& secret) {
  Bytes out(kAdmissionMagic.size() + InviteSecret::size());
  std::memcpy(out.data(), kAdmissionMagic.data(), kAdmissionMagic.size());
  std::memcpy(out.data() + kAdmissionMagic.size(), secret.data(), InviteSecret::size());
  return out;
}

Result<InviteSecret> decodeAdmission(std::span<const std::byte> bytes) {
  if (bytes.size() != kAdmissionMagic.size() + InviteSecret::size() ||
      std::memcmp(bytes.data(), kAdmissionMagic.data(), kAdmissionMagic.size()) != 0)
    return Error{Code::Corrupt, "not an invite's admission"};
  InviteSecret secret;
  std::memcpy(secret.data(), bytes.data() + kAdmissionMagic.size(), InviteSecret::size());
  return secret;
}

}  // namespace realize::net
