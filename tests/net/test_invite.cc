#include <doctest/doctest.h>

#include <cctype>
#include <string>

#include "librealize/net/invite.h"

using namespace realize;
using namespace realize::net;

namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kNow = 1'800'000'000 * kSecondNs;

Invite sample(std::vector<std::string> addresses = {"192.168.1.5:4711", "[fd00::1]:4711"}) {
  Invite invite;
  invite.addresses = std::move(addresses);
  for (size_t i = 0; i < 32; ++i) invite.inviter.bytes[i] = uint8_t(i * 7 + 1);
  for (size_t i = 0; i < 16; ++i) invite.secret.bytes[i] = uint8_t(250 - i * 3);
  invite.expiresNs = kNow + 24 * 3600 * kSecondNs;
  return invite;
}

std::string codeOf(const Invite& invite) {
  auto code = encodeInvite(invite);
  REQUIRE(code.ok());
  return *code;
}

}  // namespace

TEST_CASE("an invite comes back from its code") {
  for (size_t count = 0; count <= kMaxInviteAddresses; ++count) {
    std::vector<std::string> addresses;
    for (size_t i = 0; i < count; ++i) addresses.push_back("host-" + std::to_string(i) + ".example:" + std::to_string(i + 1));
    const Invite invite = sample(addresses);

    auto back = decodeInvite(codeOf(invite), kNow);

    REQUIRE(back.ok());
    CHECK(*back == invite);
  }
}

TEST_CASE("a code is one word that no shell reads otherwise") {
  for (char c : codeOf(sample())) CHECK(((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')));
}

TEST_CASE("the form of the code has not changed") {
  CHECK(codeOf(sample({"10.0.0.1:4711"})) ==
        "rlz1qaruw2yaaeea6fq5eqvteokai5hfkxddnjyxq74grwkjxivjwc335rom2pnp"
        "v57u6hxox2hf4lp5zwow2pim2aingeyc4mbogaxdcorug4ytd7ita6eq");
}

TEST_CASE("spaces around a code and capital letters do no harm") {
  std::string code = codeOf(sample());
  for (char& c : code) c = char(std::toupper(c));
  CHECK(decodeInvite(" \n" + code + "\r\n", kNow).ok());
}

TEST_CASE("any mistyped, missing, doubled or swapped character is noticed") {
  const std::string code = codeOf(sample());
  for (size_t at = 4; at < code.size(); ++at) {
    CAPTURE(at);
    for (char c : std::string("a7q-0 ")) {
      if (code[at] == c) continue;
      std::string bad = code;
      bad[at] = c;
      CHECK(decodeInvite(bad, kNow).code() == Code::InvalidArgument);
    }
    CHECK(decodeInvite(code.substr(0, at), kNow).code() == Code::InvalidArgument);
    CHECK(decodeInvite(code.substr(0, at) + code[at] + code.substr(at), kNow).code() == Code::InvalidArgument);
    if (at + 1 < code.size() && code[at] != code[at + 1]) {
      std::string bad = code;
      std::swap(bad[at], bad[at + 1]);
      CHECK_FALSE(decodeInvite(bad, kNow).ok());
    }
  }
}

TEST_CASE("the last character has one right value, though it holds bits to spare") {
  const std::string code = codeOf(sample({"ab:1"}));
  size_t accepted = 0;
  for (char c : std::string("abcdefghijklmnopqrstuvwxyz234567")) {
    std::string other = code;
    other.back() = c;
    accepted += decodeInvite(other, kNow).ok();
  }
  CHECK(accepted == 1);
}

TEST_CASE("what is no code at all is told apart") {
  for (const char* text : {"", " ", "rlz", "hello", "https://example.org/rlz1abc"}) {
    CAPTURE(text);
    CHECK(decodeInvite(text, kNow).code() == Code::InvalidArgument);
  }
  CHECK(decodeInvite(std::string(100000, 'a'), kNow).code() == Code::InvalidArgument);
}

TEST_CASE("an expired invite says so, to the second") {
  Invite invite = sample();
  invite.expiresNs = kNow + 1;  // rounded up to a second
  const std::string code = codeOf(invite);

  CHECK(decodeInvite(code, kNow).ok());
  CHECK(decodeInvite(code, kNow + kSecondNs - 1).ok());
  CHECK(decodeInvite(code, kNow + kSecondNs).code() == Code::TimedOut);
}

TEST_CASE("times at the edges of their range neither overflow nor wrap") {
  Invite invite = sample();
  invite.expiresNs = INT64_MAX;
  CHECK(decodeInvite(codeOf(invite), INT64_MAX - kSecondNs).ok());
  invite.expiresNs = INT64_MIN;
  CHECK(decodeInvite(codeOf(invite), 0).code() == Code::TimedOut);
}

TEST_CASE("a code of a newer version says so") {
  std::string code = codeOf(sample());
  code[3] = '2';
  CHECK(decodeInvite(code, kNow).code() == Code::WrongVersion);
  CHECK(decodeInvite("rlz9whatever", kNow).code() == Code::WrongVersion);
}

TEST_CASE("addresses that could not be dialled are not put into a code") {
  for (const char* address : {"", "host", ":1", "host:", "host:0", "host:65536", "host:1x", "ho st:1", "h\x01:1"}) {
    CAPTURE(address);
    CHECK(encodeInvite(sample({address})).code() == Code::InvalidArgument);
  }
  CHECK(encodeInvite(sample({std::string(250, 'a') + ":12345"})).code() == Code::InvalidArgument);
  CHECK(encodeInvite(sample(std::vector<std::string>(9, "a:1"))).code() == Code::InvalidArgument);
}

TEST_CASE("an admission carries the secret, and its hash names it without telling it") {
  const InviteSecret secret = sample().secret;
  const Bytes bytes = encodeAdmission(secret);

  auto back = decodeAdmission(bytes);

  REQUIRE(back.ok());
  CHECK(*back == secret);
  InviteSecret other = secret;
  other.bytes[15] ^= 1;
  CHECK(inviteSecretHash(other) != inviteSecretHash(secret));
  for (size_t n = 0; n < bytes.size(); ++n)
    CHECK(decodeAdmission(std::span(bytes).first(n)).code() == Code::Corrupt);
  Bytes wrong = bytes;
  wrong[0] ^= std::byte(1);
  CHECK(decodeAdmission(wrong).code() == Code::Corrupt);
}
