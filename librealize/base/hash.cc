#include "librealize/base/hash.h"

#include <sodium.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "librealize/base/hash_lanes.h"

namespace realize {
namespace {

// libsodium chooses its own vector code in sodium_init(); without it, results are the same but slower.
bool sodiumReady() {
  static const bool ready = sodium_init() >= 0;
  return ready;
}

const unsigned char* raw(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }

}  // namespace

void blake2b(std::span<const std::byte> input, std::span<uint8_t> out) {
  if (!sodiumReady()) std::abort();
  crypto_generichash_blake2b(out.data(), out.size(), raw(input.data()), input.size(), nullptr, 0);
}

void blake2b256(const HashDomain& domain, std::span<const std::byte> input, uint8_t* out) {
  if (!sodiumReady()) std::abort();
  crypto_generichash_blake2b_salt_personal(out, kHashBytes, raw(input.data()), input.size(), nullptr, 0,
                                           domain.salt.data(), domain.personal.data());
}

bool hashEngineAvailable(HashEngine engine) {
  switch (engine) {
    case HashEngine::Sodium: return true;
#if REALIZE_HASH_LANES
    case HashEngine::Avx2: return __builtin_cpu_supports("avx2");
    case HashEngine::Avx512: return __builtin_cpu_supports("avx512f");
#else
    case HashEngine::Avx2: case HashEngine::Avx512: return false;
#endif
  }
  return false;
}

HashEngine fastestHashEngine() {
  static const HashEngine fastest = hashEngineAvailable(HashEngine::Avx512) ? HashEngine::Avx512
                                    : hashEngineAvailable(HashEngine::Avx2) ? HashEngine::Avx2
                                                                            : HashEngine::Sodium;
  return fastest;
}

void blake2b256Many(const HashDomain& domain, std::span<const HashJob> jobs, HashEngine engine) {
#if REALIZE_HASH_LANES
  if (engine == HashEngine::Avx512) return hashLanesAvx512(domain, jobs);
  if (engine == HashEngine::Avx2) return hashLanesAvx2(domain, jobs);
#else
  (void)engine;
#endif
  for (const auto& job : jobs) blake2b256(domain, {job.data, job.sizeBytes}, job.out);
}

void blake2b256Many(const HashDomain& domain, std::span<const HashJob> jobs) {
  // One alone fills one lane only: libsodium does it as quickly.
  if (jobs.size() == 1) return blake2b256(domain, {jobs[0].data, jobs[0].sizeBytes}, jobs[0].out);
  blake2b256Many(domain, jobs, fastestHashEngine());
}

}  // namespace realize
