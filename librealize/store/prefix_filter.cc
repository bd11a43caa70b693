#include "librealize/store/prefix_filter.h"

#include <cstring>

namespace realize::store {

namespace {
constexpr size_t kBitsPerId = 24, kProbes = 8;  // One of 25,000 is asked for in vain.

uint64_t wordOf(std::string_view prefix) {
  uint64_t out = 0;
  std::memcpy(&out, prefix.data(), sizeof out);
  return out;
}
}  // namespace

void PrefixFilter::reset(size_t ids) {
  size_t words = 1;
  while (words * 64 < ids * kBitsPerId) words *= 2;
  bits_.assign(words, 0);
  room_ = ids;
  added_ = 0;
}

void PrefixFilter::add(std::string_view prefix) {
  const uint64_t hash = wordOf(prefix), mask = bits_.size() * 64 - 1;
  for (uint64_t at = hash, i = 0; i < kProbes; ++i, at += (hash >> 32) | 1) bits_[(at & mask) / 64] |= uint64_t(1) << (at % 64);
  ++added_;
}

bool PrefixFilter::mayHave(std::string_view prefix) const {
  const uint64_t hash = wordOf(prefix), mask = bits_.size() * 64 - 1;
  for (uint64_t at = hash, i = 0; i < kProbes; ++i, at += (hash >> 32) | 1)
    if ((bits_[(at & mask) / 64] >> (at % 64) & 1) == 0) return false;
  return true;
}

}  // namespace realize::store
