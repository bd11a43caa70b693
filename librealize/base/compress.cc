#include "librealize/base/compress.h"

#include <zstd.h>

#include <memory>

namespace realize {

namespace {

constexpr int kLevel = 1;
constexpr size_t kWorthTrying = 512;
constexpr size_t kProbes = 4;
constexpr size_t kProbeBytes = 2048;

size_t worthIt(size_t plainBytes) { return plainBytes - plainBytes / 8; }

/// The size compressed into `out`, or nullopt where it does not fit: then it does not pay.
std::optional<size_t> squeeze(std::span<const std::byte> plain, std::span<std::byte> out) {
  thread_local const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(), ZSTD_freeCCtx);
  if (!context) return std::nullopt;
  const size_t got = ZSTD_compressCCtx(context.get(), out.data(), out.size(), plain.data(), plain.size(), kLevel);
  if (ZSTD_isError(got)) return std::nullopt;
  return got;
}

}  // namespace

std::optional<Bytes> compressIfItPays(std::span<const std::byte> plain) {
  if (plain.size() < kWorthTrying) return std::nullopt;
  if (plain.size() > 2 * kProbes * kProbeBytes) {
    // Photographs and archives are most of what is sent: do not work through all of one to learn that it is. They may lie
    // among others, so look in several places.
    std::byte probe[kProbeBytes];
    bool pays = false;
    for (size_t i = 0; i < kProbes && !pays; ++i) {
      const auto piece = plain.subspan((2 * i + 1) * plain.size() / (2 * kProbes), kProbeBytes);
      pays = squeeze(piece, std::span(probe).first(worthIt(kProbeBytes))).has_value();
    }
    if (!pays) return std::nullopt;
  }
  const size_t room = worthIt(plain.size());
  const auto out = std::make_unique_for_overwrite<std::byte[]>(room);
  const auto got = squeeze(plain, {out.get(), room});
  if (!got) return std::nullopt;
  return Bytes(out.get(), out.get() + *got);
}

Result<Bytes> decompress(std::span<const std::byte> compressed, size_t maxBytes) {
  const auto size = ZSTD_getFrameContentSize(compressed.data(), compressed.size());
  if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN)
    return Error{Code::Corrupt, "compressed bytes that are none"};
  if (size > maxBytes) return Error{Code::TooLarge, "compressed bytes that would become too many"};
  thread_local const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  Bytes out(size);
  const size_t got = context ? ZSTD_decompressDCtx(context.get(), out.data(), out.size(), compressed.data(), compressed.size())
                             : size + 1;
  if (got != size) return Error{Code::Corrupt, "compressed bytes that are damaged"};
  return out;
}

}  // namespace realize
