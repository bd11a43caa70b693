#pragma once

// Whether one process or two run under the identity of one other peer.

#include <cstddef>
#include <cstdint>
#include <map>

namespace realize::peer {

/// Each process of a peer says a random number, its life, in its hello. A process that ended never comes back, and one
/// state folder has one process at a time: so a life that is met again after another one was, means two that run at once,
/// with a copied state folder. No clock of theirs is believed and no connection's end waited for.
/// Thread: one at a time. Times: of one steady clock, ms.
class Lives {
 public:
  /// It said hello. False: another one is running, too, and none of both may go on here.
  bool met(uint64_t life, int64_t nowMs);
  /// It was connected until now.
  void heard(uint64_t life, int64_t nowMs);
  /// As the last met() said, until one of both has kept silent for kQuietMs.
  bool twins(int64_t nowMs) const;

  /// Longer than two peers that cannot connect wait before they try again (net::Backoff).
  static constexpr int64_t kQuietMs = 90'000;

 private:
  static constexpr size_t kMaxLives = 16;
  bool othersThan(uint64_t life, int64_t nowMs) const;

  uint64_t current_ = 0;                ///< met last, while there is one; 0: none yet
  bool twins_ = false;
  std::map<uint64_t, int64_t> heardMs_; ///< when each was heard of last
};

}  // namespace realize::peer
