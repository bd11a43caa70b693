#pragma once

#include <cstddef>
#include <unordered_map>
#include <utility>

namespace realize::store {

/// Values used lately, in two generations: the older is dropped whole when the younger is full.
/// Thread: one at a time.
template <typename Key, typename Value, size_t kPerGeneration>
class Generations {
 public:
  /// Null where it is not kept. Stays where it is until the next put().
  Value* find(const Key& key) {
    if (auto it = young_.find(key); it != young_.end()) return &it->second;
    auto it = old_.find(key);
    if (it == old_.end()) return nullptr;
    return &young_.insert(old_.extract(it)).position->second;
  }
  Value* put(const Key& key, Value value) {
    if (Value* known = find(key)) {
      *known = std::move(value);
      return known;
    }
    if (young_.size() >= kPerGeneration) {
      old_ = std::move(young_);
      young_.clear();
    }
    return &young_.emplace(key, std::move(value)).first->second;
  }
  void erase(const Key& key) {
    young_.erase(key);
    old_.erase(key);
  }
  void clear() {
    young_.clear();
    old_.clear();
  }

 private:
  std::unordered_map<Key, Value> young_, old_;
};

}  // namespace realize::store
