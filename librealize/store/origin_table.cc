#include "librealize/store/origin_table.h"

#include "librealize/model/codec.h"

namespace realize::store {

OriginTable::OriginTable(Database& db)
    : select_(db, "SELECT number, origin FROM origin"), insert_(db, "INSERT INTO origin (number, origin) VALUES (?, ?)") {}

void OriginTable::load() {
  if (loaded_) return;
  select_.each([&](Row row) {
    numbers_[row.unsignedInteger(1)] = row.integer(0);
    origins_[row.integer(0)] = row.unsignedInteger(1);
  });
  loaded_ = true;
}

void OriginTable::forget() {
  loaded_ = false;
  numbers_.clear();
  origins_.clear();
}

std::optional<int64_t> OriginTable::findNumber(Origin origin) {
  load();
  auto it = numbers_.find(origin);
  if (it == numbers_.end()) return std::nullopt;
  return it->second;
}

int64_t OriginTable::numberOf(Origin origin) {
  if (auto known = findNumber(origin)) return *known;
  // Rows are never deleted, so the count is free.
  auto number = int64_t(numbers_.size()) + 1;
  insert_.run(number, origin);
  numbers_[origin] = number;
  origins_[number] = origin;
  return number;
}

Origin OriginTable::originOf(int64_t number) {
  load();
  auto it = origins_.find(number);
  if (it == origins_.end()) throw DatabaseError(Code::Corrupt, "the database is damaged: an origin is missing");
  return it->second;
}

std::string OriginTable::packDots(const std::vector<Dot>& dots) {
  ByteWriter writer;
  for (const Dot& dot : dots) {
    writer.number(uint64_t(numberOf(dot.origin)));
    writer.number(dot.seq);
  }
  return writer.take();
}

std::vector<Dot> OriginTable::unpackDots(std::string_view bytes) {
  std::vector<Dot> out;
  ByteReader reader(bytes);
  while (!reader.finished()) {
    auto number = int64_t(reader.number(kMaxCount));
    uint64_t seq = reader.number(kMaxCount);
    if (reader.failed()) throw DatabaseError(Code::Corrupt, "the database is damaged: dots do not decode");
    out.push_back({originOf(number), seq});
  }
  return out;
}

}  // namespace realize::store
