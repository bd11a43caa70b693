#include "librealize/base/hash_lanes.h"

#if REALIZE_HASH_LANES

#include <algorithm>
#include <cstring>

// Everything below is inlined into the two functions at the end, each compiled for its instruction set. So vectors
// are passed by reference only (by value they would need an ABI), and there are no lambdas (which would not take
// over the instruction set).
#define REALIZE_INLINE [[gnu::always_inline]] static inline

namespace realize {
namespace {

constexpr size_t kBlockBytes = 128;

constexpr uint64_t kIv[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                             0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};

// RFC 7693, 2.7. Rounds 10 and 11 use the rows of 0 and 1 again.
constexpr uint8_t kSigma[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

template <int N>
struct Lanes {
  typedef uint64_t Vector __attribute__((vector_size(8 * N)));
  typedef uint8_t Octets __attribute__((vector_size(8 * N)));
};

// AVX-512 rotates in one instruction, which compilers find behind the shifts; AVX2 has byte shuffles for multiples of 8.
template <int N, int Bits>
REALIZE_INLINE void rotateRight(typename Lanes<N>::Vector& x) {
  using Octets = typename Lanes<N>::Octets;
  using Vector = typename Lanes<N>::Vector;
  if constexpr (N == 4 && Bits == 32) {
    const Octets y = (Octets)x;
    x = (Vector)__builtin_shufflevector(y, y, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11, 20, 21, 22, 23, 16,
                                        17, 18, 19, 28, 29, 30, 31, 24, 25, 26, 27);
  } else if constexpr (N == 4 && Bits == 24) {
    const Octets y = (Octets)x;
    x = (Vector)__builtin_shufflevector(y, y, 3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10, 19, 20, 21, 22, 23,
                                        16, 17, 18, 27, 28, 29, 30, 31, 24, 25, 26);
  } else if constexpr (N == 4 && Bits == 16) {
    const Octets y = (Octets)x;
    x = (Vector)__builtin_shufflevector(y, y, 2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9, 18, 19, 20, 21, 22,
                                        23, 16, 17, 26, 27, 28, 29, 30, 31, 24, 25);
  } else {
    x = (x >> Bits) | (x << (64 - Bits));
  }
}

template <int N>
REALIZE_INLINE void mix(typename Lanes<N>::Vector& a, typename Lanes<N>::Vector& b, typename Lanes<N>::Vector& c,
                        typename Lanes<N>::Vector& d, const typename Lanes<N>::Vector& x,
                        const typename Lanes<N>::Vector& y) {
  a += b + x;
  d ^= a;
  rotateRight<N, 32>(d);
  c += d;
  b ^= c;
  rotateRight<N, 24>(b);
  a += b + y;
  d ^= a;
  rotateRight<N, 16>(d);
  c += d;
  b ^= c;
  rotateRight<N, 63>(b);
}

template <int N, int Round>
REALIZE_INLINE void round(typename Lanes<N>::Vector (&v)[16], const typename Lanes<N>::Vector (&m)[16]) {
  constexpr const uint8_t* s = kSigma[Round % 10];
  mix<N>(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
  mix<N>(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
  mix<N>(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
  mix<N>(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
  mix<N>(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
  mix<N>(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
  mix<N>(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
  mix<N>(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
}

// N rows of N words, from each lane's block, become N words of all lanes.
REALIZE_INLINE void transpose(Lanes<4>::Vector* r) {
  Lanes<4>::Vector t[4];
  for (int i = 0; i < 4; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 4, 2, 6);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 5, 3, 7);
  }
  for (int i = 0; i < 2; ++i) {
    r[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 4, 5);
    r[i + 2] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 6, 7);
  }
}

REALIZE_INLINE void transpose(Lanes<8>::Vector* r) {
  Lanes<8>::Vector t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int half = 0; half < 8; half += 4) {
    for (int i = half; i < half + 2; ++i) {
      u[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      u[i + 2] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// RFC 7693, 3.2, for N inputs. `counted`: bytes of each input up to the end of its block; `last`: all ones in the
// lanes whose block is the last.
template <int N>
REALIZE_INLINE void compress(typename Lanes<N>::Vector (&h)[8], const std::byte* const (&block)[N],
                             const typename Lanes<N>::Vector& counted, const typename Lanes<N>::Vector& last) {
  using Vector = typename Lanes<N>::Vector;
  Vector m[16], v[16];
#pragma GCC unroll 4
  for (int group = 0; group < 16; group += N) {
#pragma GCC unroll 8
    for (int l = 0; l < N; ++l) std::memcpy(&m[group + l], block[l] + 8 * group, sizeof(Vector));
    transpose(m + group);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    v[i] = h[i];
    v[i + 8] = Vector{} + kIv[i];
  }
  v[12] ^= counted;
  v[14] ^= last;
  round<N, 0>(v, m);
  round<N, 1>(v, m);
  round<N, 2>(v, m);
  round<N, 3>(v, m);
  round<N, 4>(v, m);
  round<N, 5>(v, m);
  round<N, 6>(v, m);
  round<N, 7>(v, m);
  round<N, 8>(v, m);
  round<N, 9>(v, m);
  round<N, 10>(v, m);
  round<N, 11>(v, m);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) h[i] ^= v[i] ^ v[i + 8];
}

constexpr std::byte kZeroBlock[kBlockBytes] = {};

struct Lane {
  const std::byte* at = kZeroBlock;
  size_t left = 0;
  uint8_t* out = nullptr;  // null: idle, fed with zeros
  size_t stride = 0;       // 0 while idle
};

// Gives each lane a job; a lane whose job ends takes the next one, so that lengths may differ.
template <int N>
REALIZE_INLINE void hashLanes(const HashDomain& domain, std::span<const HashJob> jobs) {
  using Vector = typename Lanes<N>::Vector;
  uint64_t initial[8];
  std::memcpy(initial, kIv, sizeof initial);
  initial[0] ^= 0x01010000 ^ kHashBytes;  // depth 1, fanout 1, no key, length of digest
  uint64_t words[4];
  std::memcpy(words, domain.salt.data(), 16);
  std::memcpy(words + 2, domain.personal.data(), 16);
  for (int i = 0; i < 4; ++i) initial[4 + i] ^= words[i];

  Vector h[8], counted{}, last{};
  for (int i = 0; i < 8; ++i) h[i] = Vector{} + initial[i];
  Lane lanes[N];
  const std::byte* blocks[N];
  alignas(64) std::byte padded[N][kBlockBytes];
  size_t next = 0, active = 0;
  for (int l = 0; l < N && next < jobs.size(); ++l, ++next, ++active)
    lanes[l] = {jobs[next].data, jobs[next].sizeBytes, jobs[next].out, kBlockBytes};

  while (active > 0) {
    size_t steps = SIZE_MAX;  // whole blocks that are the last of no lane
    for (const auto& lane : lanes)
      if (lane.out) steps = std::min(steps, lane.left == 0 ? 0 : (lane.left - 1) / kBlockBytes);
    for (int l = 0; l < N; ++l) blocks[l] = lanes[l].at;
    for (size_t s = 0; s < steps; ++s) {
      counted += kBlockBytes;
      compress<N>(h, blocks, counted, last);
      for (int l = 0; l < N; ++l) blocks[l] += lanes[l].stride;
    }

    for (int l = 0; l < N; ++l) {
      auto& lane = lanes[l];
      if (lane.out) lane.left -= steps * kBlockBytes;
      lane.at = blocks[l];
      const bool ends = lane.out && lane.left <= kBlockBytes;
      counted[l] += ends ? lane.left : kBlockBytes;
      last[l] = ends ? ~uint64_t(0) : 0;
      if (ends && lane.left < kBlockBytes) {
        std::memset(padded[l], 0, kBlockBytes);
        if (lane.left > 0) std::memcpy(padded[l], lane.at, lane.left);
        blocks[l] = padded[l];
      }
    }
    compress<N>(h, blocks, counted, last);
    for (int l = 0; l < N; ++l) {
      auto& lane = lanes[l];
      if (!lane.out) continue;
      if (lane.left > kBlockBytes) {
        lane.at += kBlockBytes;
        lane.left -= kBlockBytes;
        continue;
      }
      for (int i = 0; i < 4; ++i) {
        const uint64_t word = h[i][l];
        std::memcpy(lane.out + 8 * i, &word, 8);
      }
      for (int i = 0; i < 8; ++i) h[i][l] = initial[i];
      counted[l] = 0;
      if (next < jobs.size()) {
        lane = {jobs[next].data, jobs[next].sizeBytes, jobs[next].out, kBlockBytes};
        ++next;
      } else {
        lane = {};
        --active;
      }
    }
    last = Vector{};
  }
}

}  // namespace

[[gnu::target("avx2")]] void hashLanesAvx2(const HashDomain& domain, std::span<const HashJob> jobs) {
  hashLanes<4>(domain, jobs);
}

[[gnu::target("avx512f")]] void hashLanesAvx512(const HashDomain& domain, std::span<const HashJob> jobs) {
  hashLanes<8>(domain, jobs);
}

}  // namespace realize

#endif
