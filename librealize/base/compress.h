#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "realize/result.h"
#include "realize/types.h"

namespace realize {

/// Zstandard (RFC 8878) at its quickest level, where it pays: nullopt where the result would not be at least an eighth
/// shorter, found out on some pieces of longer inputs. Thread: any; a context is kept for each.
std::optional<Bytes> compressIfItPays(std::span<const std::byte> plain);

/// Errors: Corrupt (not a frame, or its size is not said); TooLarge (more than `maxBytes`, before anything is allocated).
Result<Bytes> decompress(std::span<const std::byte> compressed, size_t maxBytes);

}  // namespace realize
