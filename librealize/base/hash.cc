#include "librealize/base/hash.h"

#include <sodium.h>

namespace realize {

void blake2b(std::span<const std::byte> input, std::span<uint8_t> out) {
  crypto_generichash_blake2b(out.data(), out.size(), reinterpret_cast<const unsigned char*>(input.data()), input.size(),
                             nullptr, 0);
}

}  // namespace realize
