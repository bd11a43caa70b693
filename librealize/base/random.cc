#include "librealize/base/random.h"

#include <sodium.h>

#include <cstdlib>

namespace realize {
namespace {

class SystemRandom final : public Random {
 public:
  SystemRandom() {
    if (sodium_init() < 0) std::abort();  // No randomness: nothing here may run.
  }
  void fill(std::span<uint8_t> out) override {
    if (!out.empty()) randombytes_buf(out.data(), out.size());
  }
};

}  // namespace

Random& systemRandom() {
  static SystemRandom random;
  return random;
}

}  // namespace realize
