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

/// Of most keys that no row has, says so without a look-up: a PrefixFilter of the rows' keys, filled once so many were
/// looked up in vain that it is worth it. Keys are as good as random. Thread: one at a time.
class AbsenceFilter {
 public:
  /// `rows`: how many there are, about; `fill(PrefixFilter&)` adds the keys of all.
  template <typename Fill>
  bool surelyAbsent(std::string_view key, size_t rows, Fill&& fill) {
    if (!filtering_) {
      if (!growing_ && ++missed_ * kFillPerMiss < rows) return false;
      filter_.reset(rows < kLeastRoom / 2 ? kLeastRoom : 2 * rows);
      fill(filter_);
      filtering_ = true;
    }
    return !filter_.mayHave(key);
  }
  /// A row has it now.
  void add(std::string_view key) {
    if (!filtering_) return;
    filter_.add(key);
    growing_ = filter_.full();  // It is filled anew, with more room.
    filtering_ = !growing_;
  }
  /// After a rollback: filled meanwhile, it lacks what had been taken out and is there again.
  void forget() {
    filtering_ = growing_ = false;
    missed_ = 0;
  }

 private:
  static constexpr size_t kLeastRoom = 1 << 15;
  static constexpr size_t kFillPerMiss = 4;  // To read a row in passing costs a fraction of looking one up.
  PrefixFilter filter_;
  bool filtering_ = false;
  bool growing_ = false;
  size_t missed_ = 0;
};

}  // namespace realize::store
