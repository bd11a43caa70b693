#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace realize {

using Bytes = std::vector<std::byte>;

/// A fixed number of bytes with an order and a hexadecimal form; `Tag` keeps the kinds apart.
template <size_t N, typename Tag>
struct FixedBytes {
  std::array<uint8_t, N> bytes{};

  auto operator<=>(const FixedBytes&) const = default;
  // By words: these are compared most of all, and the array's own way calls memcmp.
  bool operator==(const FixedBytes& other) const {
    uint64_t differ = 0;
    for (size_t at = 0; at < N; at += sizeof(uint64_t)) differ |= word(at) ^ other.word(at);
    return differ == 0;
  }
  bool isZero() const {
    uint64_t any = 0;
    for (size_t at = 0; at < N; at += sizeof(uint64_t)) any |= word(at);
    return any == 0;
  }
  const uint8_t* data() const { return bytes.data(); }
  uint8_t* data() { return bytes.data(); }
  static constexpr size_t size() { return N; }
  /// Lower-case hexadecimal, two digits a byte; or the front of that, an even number of digits.
  std::string hex(size_t most = 2 * N) const {
    static const char digits[] = "0123456789abcdef";
    std::string out;
    out.reserve(most);
    for (size_t i = 0; i < most / 2 && i < N; ++i) { out += digits[bytes[i] >> 4]; out += digits[bytes[i] & 15]; }
    return out;
  }
  /// Up to eight of the bytes from `at` on, in the machine's order.
  uint64_t word(size_t at) const {
    uint64_t out = 0;
    std::memcpy(&out, bytes.data() + at, N - at < sizeof(out) ? N - at : sizeof(out));
    return out;
  }
};

/// BLAKE2b-256 name of a content (a Merkle root over its chunks), see librealize/model/blob.h.
using BlobId = FixedBytes<32, struct BlobTag>;
/// Ed25519 public key: who a peer is.
using PeerKey = FixedBytes<32, struct PeerKeyTag>;
/// Names an arena in its household; random, made once.
using ArenaId = FixedBytes<16, struct ArenaTag>;

/// A persistent number for an entry on this peer: FUSE nodeid, st_ino. Never reused. The arena's root is 1.
using NodeId = uint64_t;
constexpr NodeId kRootNode = 1;

enum class EntryKind : uint8_t { File = 0, Directory = 1, Symlink = 2 };

/// The wish for an entry on this peer. `None` inherits from the folder above; at the root it means: leave
/// Real files Real and Unreal ones Unreal.
enum class Mark : uint8_t { None = 0, Real = 1, Unreal = 2 };

}  // namespace realize

template <size_t N, typename Tag>
struct std::hash<realize::FixedBytes<N, Tag>> {
  size_t operator()(const realize::FixedBytes<N, Tag>& v) const noexcept {
    return size_t(v.word(0));  // The bytes are hashes or random already.
  }
};
