#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace realize {

/// BLAKE2b (RFC 7693), unkeyed, of 1 to 64 bytes' output. Thread: any.
void blake2b(std::span<const std::byte> input, std::span<uint8_t> out);

}  // namespace realize
