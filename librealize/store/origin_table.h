#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "librealize/model/tree.h"
#include "librealize/store/statement.h"

namespace realize::store {

/// Small numbers for origins, which are 8 random bytes and stand in every row of some tables. Kept in memory whole:
/// an arena sees as many as its members had lives.
class OriginTable {
 public:
  explicit OriginTable(Database& db);
  /// Given on first use.
  int64_t numberOf(Origin origin);
  /// Without giving one.
  std::optional<int64_t> findNumber(Origin origin);
  Origin originOf(int64_t number);
  /// Dots in few bytes, and back. Throws Corrupt.
  std::string packDots(const std::vector<Dot>& dots);
  std::vector<Dot> unpackDots(std::string_view bytes);
  void forget();  ///< after a rollback

 private:
  void load();
  bool loaded_ = false;
  std::unordered_map<Origin, int64_t> numbers_;
  std::unordered_map<int64_t, Origin> origins_;
  Statement select_, insert_;
};

}  // namespace realize::store
