#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace realize::store {

/// Of most ids that are not there, says so without a look into an index: a Bloom filter (Bloom 1970) over the first 8
/// bytes of ids that are hashes, so as good as random. What was taken out stays in it.
/// Thread: one at a time.
class PrefixFilter {
 public:
  /// Empty, with room for so many; for more of them it errs more often.
  void reset(size_t ids);
  void add(std::string_view prefix);
  bool mayHave(std::string_view prefix) const;
  bool full() const { return added_ >= room_; }

 private:
  std::vector<uint64_t> bits_;  ///< a power of two of them
  size_t room_ = 0, added_ = 0;
};

}  // namespace realize::store
