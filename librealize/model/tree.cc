#include "librealize/model/tree.h"

#include <algorithm>

#include "librealize/base/hash.h"

namespace realize {

namespace {
auto lowerBound(auto& items, Origin origin) {
  return std::lower_bound(items.begin(), items.end(), origin, [](const auto& item, Origin o) { return item.first < o; });
}
}  // namespace

uint64_t VersionVector::get(Origin origin) const {
  auto it = lowerBound(items_, origin);
  return it != items_.end() && it->first == origin ? it->second : 0;
}

bool VersionVector::geq(const VersionVector& other) const {
  auto mine = items_.begin();
  for (const auto& [origin, seq] : other.items_) {
    while (mine != items_.end() && mine->first < origin) ++mine;
    if (mine == items_.end() || mine->first != origin || mine->second < seq) return false;
  }
  return true;
}

void VersionVector::join(Dot dot) {
  if (dot.seq == 0) return;
  auto it = lowerBound(items_, dot.origin);
  if (it != items_.end() && it->first == dot.origin) it->second = std::max(it->second, dot.seq);
  else items_.insert(it, {dot.origin, dot.seq});
}

void VersionVector::join(const VersionVector& other) {
  for (const auto& [origin, seq] : other.items_) join(Dot{origin, seq});
}

void VersionVector::set(Origin origin, uint64_t seq) {
  auto it = lowerBound(items_, origin);
  bool found = it != items_.end() && it->first == origin;
  if (seq == 0) { if (found) items_.erase(it); }
  else if (found) it->second = seq;
  else items_.insert(it, {origin, seq});
}

EntryId entryIdFor(const EntryId& parent, const std::string& name, EntryKind kind, uint32_t n) {
  std::string input = "realize entry 1";
  input.append(reinterpret_cast<const char*>(parent.data()), EntryId::size());
  input += char(kind);
  for (int i = 0; i < 4; ++i) input += char(n >> (8 * i));
  input += name;
  EntryId id;
  blake2b(std::as_bytes(std::span(input)), std::span<uint8_t>(id.bytes));
  return id;
}

std::string contentText(const Version& version) { return version.blob.hex(16) + ":" + std::to_string(version.sizeBytes); }

bool isValidName(const std::string& name) {
  if (name.empty() || name.size() > 255 || name == "." || name == ".." || name == ".realize") return false;
  return name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

}  // namespace realize
