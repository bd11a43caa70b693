#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace realize {

/// BLAKE2b (RFC 7693), unkeyed, of 1 to 64 bytes' output. Thread: any.
void blake2b(std::span<const std::byte> input, std::span<uint8_t> out);

/// What a hash is for. Hashes of different domains never meet, whatever their inputs: both fields go into BLAKE2b's
/// parameter block (RFC 7693, 2.5; the BLAKE2 paper, 2.8).
struct HashDomain {
  std::array<uint8_t, 16> personal{};
  std::array<uint8_t, 16> salt{};
  /// `name`: at most 16 bytes, filled up with zeros. `number`: the first byte of the salt.
  constexpr explicit HashDomain(std::string_view name, uint8_t number = 0) {
    for (size_t i = 0; i < name.size(); ++i) personal[i] = uint8_t(name[i]);  // Too long does not compile.
    salt[0] = number;
  }
};

constexpr size_t kHashBytes = 32;

/// BLAKE2b-256 in a domain. Thread: any.
void blake2b256(const HashDomain& domain, std::span<const std::byte> input, uint8_t* out);

struct HashJob {
  const std::byte* data = nullptr;
  size_t sizeBytes = 0;
  uint8_t* out = nullptr;  ///< kHashBytes of it
};

/// blake2b256() of each job's data, several at once in the CPU's vector lanes where it has AVX2 or AVX-512.
/// Quickest when the jobs are many; their lengths may differ. Outputs must not overlap inputs. Thread: any.
void blake2b256Many(const HashDomain& domain, std::span<const HashJob> jobs);

/// The ways to do it, for tests and benchmarks; the fastest that this CPU can do is the default.
enum class HashEngine : uint8_t { Sodium, Avx2, Avx512 };
bool hashEngineAvailable(HashEngine engine);
HashEngine fastestHashEngine();
void blake2b256Many(const HashDomain& domain, std::span<const HashJob> jobs, HashEngine engine);

}  // namespace realize
