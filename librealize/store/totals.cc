#include "librealize/store/totals.h"

namespace realize::store {

TotalsKeeper::TotalsKeeper(Database& db, std::string_view name)
    : name_(name),
      select_(db, "SELECT rows, bytes FROM total WHERE name = ?"),
      write_(db, "INSERT OR REPLACE INTO total (name, rows, bytes) VALUES (?, ?, ?)") {}

const Totals& TotalsKeeper::get() {
  if (!known_) {
    Totals totals;
    select_.first([&](Row row) { totals = {row.unsignedInteger(0), row.unsignedInteger(1)}; }, Text{name_});
    known_ = totals;
  }
  return *known_;
}

Totals& TotalsKeeper::changing() {
  get();
  dirty_ = true;
  return *known_;
}

void TotalsKeeper::add(uint64_t bytes) {
  Totals& totals = changing();
  ++totals.count;
  totals.bytes += bytes;
}

void TotalsKeeper::subtract(uint64_t bytes) {
  Totals& totals = changing();
  --totals.count;
  totals.bytes -= bytes;
}

void TotalsKeeper::clear() { changing() = {}; }

void TotalsKeeper::writeBack() {
  if (!dirty_) return;
  write_.run(Text{name_}, known_->count, known_->bytes);
  dirty_ = false;
}

}  // namespace realize::store
