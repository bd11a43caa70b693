#pragma once

// BLAKE2b of several inputs at once, one in each 64-bit lane of a vector register. For hash.cc only.

#include <span>

#include "librealize/base/hash.h"

#if defined(__x86_64__)
#define REALIZE_HASH_LANES 1
#else
#define REALIZE_HASH_LANES 0  // Elsewhere libsodium does it, one after the other.
#endif

namespace realize {

#if REALIZE_HASH_LANES
/// The CPU must have the instructions: see hashEngineAvailable().
void hashLanesAvx2(const HashDomain& domain, std::span<const HashJob> jobs);
void hashLanesAvx512(const HashDomain& domain, std::span<const HashJob> jobs);
#endif

}  // namespace realize
