#pragma once

// The compact binary form of the tree's values: what the database keeps per entry and what travels between peers.
//
// Every decode checks everything a hostile or damaged input could break: lengths and counts against the bounds below,
// order and uniqueness, names (isValidName), modes (no setuid or setgid, and sticky only on directories), and that a
// version fits its entry's kind. What decodes can be given to the tree's rules; what does not is Code::Corrupt, or
// Code::WrongVersion for a format number from a newer program.
//
// Format: one byte of format number; unsigned numbers as LEB128; origins as 8 bytes little-endian, in a table at the
// front to which dots refer by index; peer keys likewise.

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "librealize/model/tree.h"
#include "realize/result.h"

namespace realize {

/// Bounds of what decodes; also of what the tree's rules let grow.
constexpr size_t kMaxOrigins = 1 << 16;       ///< in one vector
constexpr size_t kMaxDots = 1 << 16;          ///< live dots, heads, tombs of one entry
constexpr size_t kMaxLinkTargetBytes = 4095;  ///< of a symlink
constexpr size_t kMaxPageChanges = 1 << 16;
constexpr uint64_t kMaxCount = uint64_t(1) << 62;  ///< sequence numbers, clocks, sizes: room to count on

std::string encodeVector(const VersionVector& vector);
Result<VersionVector> decodeVector(std::string_view bytes);

/// All of an entry, `ctx` and `replaced` too.
std::string encodeEntry(const Entry& entry);
Result<Entry> decodeEntry(std::string_view bytes);

/// Changes as they travel: origins, keys and equal `seen` vectors are written once for all of them.
std::string encodeChanges(const std::vector<Change>& changes);
Result<std::vector<Change>> decodeChanges(std::string_view bytes);

std::string encodeAcks(const std::map<PeerKey, VersionVector>& acks);
Result<std::map<PeerKey, VersionVector>> decodeAcks(std::string_view bytes);

/// Appends to a string. For formats built of these pieces.
class ByteWriter {
 public:
  explicit ByteWriter(size_t likelyBytes = 0) { out_.reserve(likelyBytes); }
  void byte(uint8_t b) { out_ += char(b); }
  void number(uint64_t n);
  void fixed64(uint64_t n);
  /// Zigzag: small magnitudes of either sign are short.
  void signedNumber(int64_t n) { number((uint64_t(n) << 1) ^ uint64_t(n >> 63)); }
  void text(std::string_view s) { number(s.size()); out_.append(s); }
  template <size_t N, typename Tag>
  void fixed(const FixedBytes<N, Tag>& v) { out_.append(reinterpret_cast<const char*>(v.data()), N); }
  void vector(const VersionVector& v);
  void raw(std::string_view s) { out_.append(s); }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

/// Reads what ByteWriter wrote. Once anything is wrong, `failed()` stays true and zeros come back.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}
  bool failed() const { return failed_; }
  /// Everything was read, and nothing failed.
  bool finished() const { return !failed_ && bytes_.empty(); }
  void fail() { failed_ = true; bytes_ = {}; }

  uint8_t byte() {
    std::string_view b = take(1);
    return b.empty() ? 0 : uint8_t(b[0]);
  }
  /// At most `max`, else it fails. Only the shortest form is accepted.
  uint64_t number(uint64_t max) {
    if (bytes_.empty() || uint8_t(bytes_[0]) >= 0x80 || uint8_t(bytes_[0]) > max) return longNumber(max);
    return byte();
  }
  uint64_t fixed64();
  int64_t signedNumber();
  std::string text(size_t maxBytes);
  template <size_t N, typename Tag>
  FixedBytes<N, Tag> fixed() {
    FixedBytes<N, Tag> v;
    std::string_view b = take(N);
    if (b.size() == N) memcpy(v.bytes.data(), b.data(), N);
    return v;
  }
  VersionVector vector();
  /// A count of things of at least `bytesEach` bytes: never more than the rest can hold, so a short input
  /// cannot ask for much memory.
  size_t count(size_t max, size_t bytesEach);

 private:
  uint64_t longNumber(uint64_t max);
  std::string_view take(size_t n) {
    if (bytes_.size() < n) fail();
    if (failed_) return {};
    std::string_view out = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return out;
  }
  std::string_view bytes_;
  bool failed_ = false;
};

}  // namespace realize
