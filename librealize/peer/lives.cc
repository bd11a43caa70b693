#include "librealize/peer/lives.h"

#include <algorithm>

namespace realize::peer {

bool Lives::othersThan(uint64_t life, int64_t nowMs) const {
  return std::any_of(heardMs_.begin(), heardMs_.end(),
                     [&](const auto& item) { return item.first != life && nowMs - item.second <= kQuietMs; });
}

bool Lives::met(uint64_t life, int64_t nowMs) {
  const bool again = heardMs_.contains(life);
  if (!again && heardMs_.size() >= kMaxLives) {
    auto oldest = std::min_element(heardMs_.begin(), heardMs_.end(), [](auto& a, auto& b) { return a.second < b.second; });
    heardMs_.erase(oldest);
  }
  if (again && life != current_) twins_ = true;
  current_ = life;
  heardMs_[life] = nowMs;
  if (!twins_) return true;
  if (othersThan(life, nowMs)) return false;
  twins_ = false;
  heardMs_ = {{life, nowMs}};
  return true;
}

void Lives::heard(uint64_t life, int64_t nowMs) {
  if (auto known = heardMs_.find(life); known != heardMs_.end()) known->second = nowMs;
}

bool Lives::twins(int64_t nowMs) const { return twins_ && othersThan(current_, nowMs); }

}  // namespace realize::peer
