// Handshake messages and identity proofs from strangers. The first byte chooses pattern, role and turn.

#include <cstdlib>
#include <cstring>

#include "librealize/net/identity.h"
#include "librealize/net/noise.h"

using namespace realize;
using namespace realize::net;

namespace {

class CountingRandom final : public Random {
 public:
  void fill(std::span<uint8_t> out) override { for (auto& b : out) b = next_++; }

 private:
  uint8_t next_ = 1;
};

void playHandshake(uint8_t choice, std::span<const std::byte> input) {
  CountingRandom random;
  const DhKeyPair a = DhKeyPair::generate(random), b = DhKeyPair::generate(random);
  const auto pattern = NoisePattern(choice % 6);
  NoiseHandshake initiator(pattern, true, {}, a, b.publicKey, random), responder(pattern, false, {}, b, a.publicKey, random);
  const Secret32 psk = Secret32::random(random);
  initiator.setPsk(psk);
  responder.setPsk(psk);
  // Good messages up to the chosen turn, then the input.
  NoiseHandshake* from = &initiator;
  NoiseHandshake* to = &responder;
  for (int good = choice / 6 % 3; good > 0 && !from->finished(); --good, std::swap(from, to)) {
    auto message = from->writeMessage(Bytes{});
    if (!message.ok() || !to->readMessage(*message).ok()) std::abort();
  }
  if (to->finished()) return;
  const bool ok = to->readMessage(input).ok();
  if (ok == to->failed()) std::abort();
  if (!ok && to->split().ok()) std::abort();
  if (to->myTurn()) (void)to->writeMessage(Bytes{});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span(data, size)).subspan(1);
  if (data[0] & 0x80) {
    static const HandshakeHash hash{};
    static const DhPublicKey key{};
    (void)verifyIdentityProof(input, hash, true, key);
    (void)Identity::decodeSecret(input);
    return 0;
  }
  playHandshake(data[0], input);
  return 0;
}
