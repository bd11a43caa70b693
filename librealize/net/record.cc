#include "librealize/net/record.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace realize::net {
namespace {

std::array<uint8_t, 12> nonceOf(uint64_t number) {
  std::array<uint8_t, 12> nonce{};
  for (int i = 0; i < 8; ++i) nonce[4 + i] = uint8_t(number >> (8 * i));
  return nonce;
}

}  // namespace

Result<RecordHeader> parseRecordHeader(std::span<const uint8_t, kRecordHeaderBytes> bytes) {
  RecordHeader header;
  header.type = RecordType(bytes[0]);
  header.bodyBytes = uint32_t(bytes[1]) | uint32_t(bytes[2]) << 8 | uint32_t(bytes[3]) << 16;
  size_t least = kRecordTagBytes;
  size_t most = kRecordTagBytes;
  switch (header.type) {
    case RecordType::Ready:
    case RecordType::Ping:
      break;
    case RecordType::Rpc:
      most += kMaxStreamRecordBytes;
      break;
    case RecordType::RpcPacked:
      least += 1;
      most += kMaxStreamRecordBytes;
      break;
    case RecordType::Close:
      most += kMaxCloseTextBytes;
      break;
    case RecordType::Bulk:
    case RecordType::BulkInteractive:
      least += kBulkSequenceBytes + kBulkHeaderBytes;
      most += kBulkSequenceBytes + kBulkHeaderBytes + kMaxBulkPayloadBytes;
      break;
    default:
      return Error{Code::Corrupt, "a record of unknown type " + std::to_string(bytes[0])};
  }
  if (header.bodyBytes < least || header.bodyBytes > most)
    return Error{Code::Corrupt, "a record of impossible length " + std::to_string(header.bodyBytes)};
  return header;
}

void writeRecordHeader(RecordHeader header, uint8_t* out) {
  out[0] = uint8_t(header.type);
  for (int i = 0; i < 3; ++i) out[1 + i] = uint8_t(header.bodyBytes >> (8 * i));
}

std::vector<std::byte> packWords(std::span<const std::byte> plain) {
  std::vector<std::byte> out;
  if (plain.size() % 8 != 0) return out;
  out.reserve(plain.size());
  for (size_t at = 0; at < plain.size(); at += 8) {
    if (out.size() + 9 > plain.size()) return {};
    const size_t tagAt = out.size();
    uint8_t tag = 0;
    out.push_back(std::byte(0));
    for (int i = 0; i < 8; ++i) {
      if (plain[at + i] == std::byte(0)) continue;
      tag |= uint8_t(1u << i);
      out.push_back(plain[at + i]);
    }
    out[tagAt] = std::byte(tag);
  }
  return out;
}

Result<std::vector<std::byte>> unpackWords(std::span<const std::byte> packed) {
  std::vector<std::byte> out;
  out.reserve(std::min(2 * packed.size(), kMaxStreamRecordBytes));
  for (size_t at = 0; at < packed.size();) {
    const auto tag = uint8_t(packed[at++]);
    if (packed.size() - at < size_t(std::popcount(tag))) return Error{Code::Corrupt, "a packed record that is cut off"};
    if (out.size() + 8 > kMaxStreamRecordBytes) return Error{Code::Corrupt, "a packed record that is too long"};
    for (int i = 0; i < 8; ++i) out.push_back(tag >> i & 1 ? packed[at++] : std::byte(0));
  }
  return out;
}

void StreamCipher::seal(RecordType type, std::span<const std::byte> plain, uint8_t* out) {
  writeRecordHeader({type, uint32_t(plain.size() + kRecordTagBytes)}, out);
  std::span<std::byte> body(reinterpret_cast<std::byte*>(out + kRecordHeaderBytes), plain.size() + kRecordTagBytes);
  sealRecord(key_, sequence_++, {reinterpret_cast<std::byte*>(out), kRecordHeaderBytes}, plain, body);
}

Result<std::span<std::byte>> StreamCipher::open(std::span<uint8_t> record) {
  auto bytes = std::as_writable_bytes(record);
  auto body = bytes.subspan(kRecordHeaderBytes);
  auto plain = body.first(body.size() - kRecordTagBytes);
  if (!openRecord(key_, sequence_++, bytes.first(kRecordHeaderBytes), body, plain))
    return Error{Code::Corrupt, "a record that was altered on the way, or is out of turn"};
  return plain;
}

BulkCipher::BulkCipher(const Secret32& key, BulkAlgorithm algorithm) : key_(key), algorithm_(algorithm) {
  if (algorithm_ == BulkAlgorithm::Aes256Gcm) crypto_aead_aes256gcm_beforenm(&aes_, key_.data());
}

BulkCipher::~BulkCipher() { sodium_memzero(&aes_, sizeof(aes_)); }

bool BulkCipher::aesAvailable() {
  return sodium_init() >= 0 && crypto_aead_aes256gcm_is_available() != 0;
}

void BulkCipher::seal(uint64_t number, std::span<const uint8_t> additional, std::span<uint8_t> body) const {
  auto nonce = nonceOf(number);
  size_t plain = body.size() - kRecordTagBytes;
  uint8_t* tag = body.data() + plain;
  if (algorithm_ == BulkAlgorithm::Aes256Gcm)
    crypto_aead_aes256gcm_encrypt_detached_afternm(body.data(), tag, nullptr, body.data(), plain, additional.data(),
                                                   additional.size(), nullptr, nonce.data(), &aes_);
  else
    crypto_aead_chacha20poly1305_ietf_encrypt_detached(body.data(), tag, nullptr, body.data(), plain, additional.data(),
                                                       additional.size(), nullptr, nonce.data(), key_.data());
}

bool BulkCipher::open(uint64_t number, std::span<const uint8_t> additional, std::span<uint8_t> body) const {
  if (body.size() < kRecordTagBytes) return false;
  auto nonce = nonceOf(number);
  size_t plain = body.size() - kRecordTagBytes;
  const uint8_t* tag = body.data() + plain;
  if (algorithm_ == BulkAlgorithm::Aes256Gcm)
    return crypto_aead_aes256gcm_decrypt_detached_afternm(body.data(), nullptr, body.data(), plain, tag, additional.data(),
                                                          additional.size(), nonce.data(), &aes_) == 0;
  return crypto_aead_chacha20poly1305_ietf_decrypt_detached(body.data(), nullptr, body.data(), plain, tag,
                                                            additional.data(), additional.size(), nonce.data(),
                                                            key_.data()) == 0;
}

}  // namespace realize::net
