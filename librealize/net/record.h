#pragma once

// What travels once the handshake is done: records, each a 4-byte header (type, 24-bit little-endian body length) and a
// sealed body. The header is authenticated with the body.
//
// Stream records (Ready, Rpc, RpcPacked, Ping, Close) are numbered by an implicit counter and sealed with ChaCha20-Poly1305.
// Bulk records start with their own 8-byte little-endian number, counted per lane, because other threads seal them
// under a key of their own; see bulk.h. A number out of turn or a wrong tag ends the connection.

#include <sodium.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "librealize/net/noise.h"
#include "realize/result.h"

namespace realize::net {

enum class RecordType : uint8_t {
  Ready = 1,            ///< first of all: the sender has accepted the receiver. Empty.
  Rpc = 2,              ///< a piece of the Cap'n Proto stream
  Ping = 3,             ///< nothing to say, but alive. Empty.
  Close = 4,            ///< a text for people; the sender closes
  Bulk = 5,             ///< a bulk frame of the background lane
  BulkInteractive = 6,  ///< a bulk frame of the lane that overtakes it
  RpcPacked = 7,        ///< like Rpc, without its zero bytes: see packWords. Never empty.
};

constexpr size_t kRecordHeaderBytes = 4;
constexpr size_t kRecordTagBytes = 16;
/// Of a stream record's plaintext.
constexpr size_t kMaxStreamRecordBytes = 64 * 1024;
constexpr size_t kMaxCloseTextBytes = 512;
constexpr size_t kBulkSequenceBytes = 8;
/// request (8), item (4), chunk (4), flags (4), little-endian, in front of the payload.
constexpr size_t kBulkHeaderBytes = 20;
constexpr size_t kMaxBulkPayloadBytes = 4 * 1024 * 1024;  // The largest chunk of the largest files.

struct RecordHeader {
  RecordType type = RecordType::Ping;
  uint32_t bodyBytes = 0;  ///< with number (bulk) and tag
  bool isBulk() const { return type == RecordType::Bulk || type == RecordType::BulkInteractive; }
};

/// Errors: Corrupt (unknown type, or a length that this type cannot have). Thread: any.
Result<RecordHeader> parseRecordHeader(std::span<const uint8_t, kRecordHeaderBytes> bytes);
void writeRecordHeader(RecordHeader header, uint8_t* out);

/// Leaves out the zero bytes, which half of a Cap'n Proto message is: for each 8 bytes one whose bits say which of them
/// are not zero (the lowest bit: the first), then those. Nothing where that is no shorter, or `plain` not made of words.
std::vector<std::byte> packWords(std::span<const std::byte> plain);
/// The reverse, at most kMaxStreamRecordBytes. Errors: Corrupt. Thread: any.
Result<std::vector<std::byte>> unpackWords(std::span<const std::byte> packed);

/// Seals and opens stream records of one direction, counting. Thread: one at a time.
class StreamCipher {
 public:
  explicit StreamCipher(const Secret32& key) : key_(key) {}
  /// Bytes that seal() writes for so much plaintext.
  static constexpr size_t sealedBytes(size_t plainBytes) { return kRecordHeaderBytes + plainBytes + kRecordTagBytes; }
  /// Writes a whole record. `plain` at most kMaxStreamRecordBytes.
  void seal(RecordType type, std::span<const std::byte> plain, uint8_t* out);
  /// Opens a whole record in place. Errors: Corrupt.
  Result<std::span<std::byte>> open(std::span<uint8_t> record);

 private:
  Secret32 key_;
  uint64_t sequence_ = 0;
};

/// The algorithm of bulk frames, agreed in the handshake: AES where both machines have instructions for it.
enum class BulkAlgorithm : uint8_t { ChaCha20Poly1305, Aes256Gcm };

/// Seals and opens bulk frames of one direction, in place. Thread: any, several at once.
class BulkCipher {
 public:
  BulkCipher(const Secret32& key, BulkAlgorithm algorithm);
  ~BulkCipher();
  BulkCipher(const BulkCipher&) = delete;
  BulkCipher& operator=(const BulkCipher&) = delete;

  static bool aesAvailable();
  /// `body` holds the plaintext and room for the tag behind it. Never twice with one number.
  void seal(uint64_t number, std::span<const uint8_t> additional, std::span<uint8_t> body) const;
  /// `body` holds ciphertext and tag; false, and `body` undefined, if the tag is wrong.
  [[nodiscard]] bool open(uint64_t number, std::span<const uint8_t> additional, std::span<uint8_t> body) const;

 private:
  Secret32 key_;
  BulkAlgorithm algorithm_;
  alignas(16) crypto_aead_aes256gcm_state aes_;
};

}  // namespace realize::net
