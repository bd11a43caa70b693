#include "librealize/net/greeting.h"

#include <algorithm>
#include <array>
#include <string>

namespace realize::net {
namespace {

constexpr char kMagic[4] = {'r', 'l', 'z', '\n'};
using GreetingBytes = std::array<std::byte, kGreetingBytes>;

GreetingBytes greetingFor(NoisePattern pattern) {
  GreetingBytes out{};
  for (int i = 0; i < 4; ++i) out[i] = std::byte(kMagic[i]);
  out[4] = std::byte(kProtocolVersion & 255);
  out[5] = std::byte(kProtocolVersion >> 8);
  out[6] = std::byte(pattern == NoisePattern::IK ? 1 : 0);
  return out;
}

}  // namespace

Greeting::Greeting(const Identity& identity, std::optional<Expected> expected, uint8_t abilities, Random& random)
    : identity_(identity), expected_(std::move(expected)), abilities_(abilities), random_(random) {
  if (!expected_) return;
  // What admits us must not be seen by whoever replays an opening, so it never travels in one.
  if (expected_->dh && expected_->admission.empty()) pattern_ = NoisePattern::IK;
  if (!start().ok()) state_ = State::Failed;
}

Error Greeting::fail(Error error) {
  state_ = State::Failed;
  return error;
}

std::span<const std::byte> Greeting::admission() const { return std::span<const std::byte>(peer_->data).subspan(1); }

bool Greeting::bothHaveAes() const {
  return (abilities_ & uint8_t(peer_->data[0]) & kAbilityAes) != 0;
}

Result<void> Greeting::start() {
  auto greeting = greetingFor(pattern_);
  output_.insert(output_.end(), greeting.begin(), greeting.end());
  noise_ = std::make_unique<NoiseHandshake>(pattern_, true, greeting, identity_.dh(),
                                            pattern_ == NoisePattern::IK ? expected_->dh : std::nullopt, random_);
  return send(pattern_ == NoisePattern::IK);
}

Result<void> Greeting::send(bool withProof) {
  auto payload = [&](const HandshakeHash& binding) -> Bytes {
    if (!withProof) return {};
    Bytes data{std::byte(abilities_)};
    if (expected_) data.insert(data.end(), expected_->admission.begin(), expected_->admission.end());
    return makeIdentityProof(identity_, binding, noise_->initiator(), data);
  };
  REALIZE_ASSIGN(Bytes message, noise_->writeMessage(payload));
  if (message.size() > kMaxHandshakeMessageBytes) return Error{Code::TooLarge, "the proof of admission is too long"};
  // Not insert: g++ 14 warns of an overflow in its inlined growth.
  size_t at = output_.size();
  output_.resize(at + 2 + message.size());
  output_[at] = std::byte(message.size() & 255);
  output_[at + 1] = std::byte(message.size() >> 8);
  std::copy(message.begin(), message.end(), output_.begin() + ptrdiff_t(at + 2));
  return {};
}

Result<size_t> Greeting::receive(std::span<const std::byte> input) {
  if (state_ == State::Failed) return Error{Code::Internal, "the handshake has failed before"};
  if (state_ != State::Reading) return size_t(0);
  if (await_ == Await::Greeting) {
    // A stranger that speaks something else is told apart by its first bytes already.
    size_t seen = std::min(input.size(), sizeof(kMagic));
    for (size_t i = 0; i < seen; ++i)
      if (input[i] != std::byte(kMagic[i])) return fail({Code::Corrupt, "this is not a peer: it speaks something else"});
    if (input.size() < kGreetingBytes) return size_t(0);
    if (auto taken = takeGreeting(input.first(kGreetingBytes)); !taken.ok()) return fail(taken.error());
    await_ = Await::Message;
    return kGreetingBytes;
  }
  if (input.size() < 2) return size_t(0);
  size_t length = size_t(input[0]) | size_t(input[1]) << 8;
  if (length > kMaxHandshakeMessageBytes) return fail({Code::Corrupt, "a handshake message that is too long"});
  if (input.size() < 2 + length) return size_t(0);
  if (auto taken = takeMessage(input.subspan(2, length)); !taken.ok()) return fail(taken.error());
  return 2 + length;
}

Result<void> Greeting::takeGreeting(std::span<const std::byte> bytes) {
  uint32_t version = uint32_t(bytes[4]) | uint32_t(bytes[5]) << 8;
  uint8_t pattern = uint8_t(bytes[6]);
  if (version != kProtocolVersion) {
    // The dialer learns from our greeting why this ends.
    if (!expected_) {
      auto ours = greetingFor(NoisePattern::XX);
      output_.insert(output_.end(), ours.begin(), ours.end());
    }
    return Error{Code::WrongVersion, "the other peer speaks protocol version " + std::to_string(version) +
                                         ", this one " + std::to_string(kProtocolVersion) +
                                         ": update the older program"};
  }
  if (pattern > 1 || bytes[7] != std::byte(0)) return Error{Code::Corrupt, "a greeting that makes no sense"};
  NoisePattern named = pattern == 1 ? NoisePattern::IK : NoisePattern::XX;
  if (expected_) {
    if (named != pattern_) return Error{Code::Corrupt, "the other peer answered with another handshake"};
    return {};
  }
  pattern_ = named;
  noise_ = std::make_unique<NoiseHandshake>(pattern_, false, bytes, identity_.dh(), std::nullopt, random_);
  auto ours = greetingFor(pattern_);
  output_.insert(output_.end(), ours.begin(), ours.end());
  return {};
}

Result<void> Greeting::takeMessage(std::span<const std::byte> message) {
  REALIZE_ASSIGN(Bytes payload, noise_->readMessage(message));
  if (expected_) {
    REALIZE_TRY(takeProof(payload));
    if (peer_->key() != expected_->key)
      return Error{Code::Refused, "another peer answers at this address: its key is " + peer_->key().hex()};
    if (pattern_ == NoisePattern::XX) REALIZE_TRY(send(true));
    return finish();
  }
  if (pattern_ == NoisePattern::XX && noise_->myTurn() && !noise_->remoteStatic()) {
    if (!payload.empty()) return Error{Code::Corrupt, "an opening that says too much"};
    return send(true);
  }
  REALIZE_TRY(takeProof(payload));
  if (pattern_ == NoisePattern::IK && !admission().empty())
    return Error{Code::Corrupt, "an opening that says too much"};
  state_ = State::Judging;
  return {};
}

Result<void> Greeting::takeProof(std::span<const std::byte> payload) {
  if (!noise_->remoteStatic()) return Error{Code::Internal, "a handshake without the other's key"};
  REALIZE_ASSIGN(ProvenPeer proven, verifyIdentityProof(payload, noise_->payloadBinding(), !noise_->initiator(),
                                                        *noise_->remoteStatic()));
  if (proven.data.empty() || proven.data.size() > 1 + kMaxAdmissionBytes)
    return Error{Code::Corrupt, "a proof of identity with too little or too much beside it"};
  if (proven.key() == identity_.key())
    return Error{Code::Refused, "this is ourselves, or a second peer with our identity"};
  peer_ = std::move(proven);
  return {};
}

Result<void> Greeting::accept() {
  if (state_ != State::Judging) return Error{Code::Internal, "nobody to accept"};
  if (pattern_ == NoisePattern::IK)
    if (auto sent = send(true); !sent.ok()) return fail(sent.error());
  if (auto finished = finish(); !finished.ok()) return fail(finished.error());
  return {};
}

Result<void> Greeting::finish() {
  REALIZE_ASSIGN(NoiseKeys keys, noise_->split());
  keys_ = std::move(keys);
  state_ = State::Done;
  return {};
}

}  // namespace realize::net
