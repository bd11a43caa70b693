#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "librealize/store/statement.h"

namespace realize::store {

/// How many rows of some kind there are, and the sum of their sizes.
struct Totals {
  uint64_t count = 0;
  uint64_t bytes = 0;
  bool operator==(const Totals&) const = default;
};

/// Totals kept in memory while rows change and written back once a commit, so that no status needs a scan.
class TotalsKeeper {
 public:
  TotalsKeeper(Database& db, std::string_view name);
  const Totals& get();
  void add(uint64_t bytes);
  void subtract(uint64_t bytes);
  void clear();                         ///< all rows are gone
  void writeBack();                     ///< before the outermost commit
  void forget() { known_.reset(); dirty_ = false; }  ///< after a rollback

 private:
  Totals& changing();
  std::string_view name_;  ///< a literal
  std::optional<Totals> known_;
  bool dirty_ = false;
  Statement select_, write_;
};

}  // namespace realize::store
