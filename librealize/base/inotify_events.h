#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "realize/result.h"

namespace realize {

/// One record as the kernel queues it (inotify(7)).
struct InotifyEvent {
  int watch = -1;  ///< -1 with IN_Q_OVERFLOW
  uint32_t mask = 0;
  std::string_view name;  ///< into the buffer; empty when it is about the watched directory itself
};

/// The records of one read(2). Thread: any. Lifetime: the names live as long as `bytes`.
/// Errors: Corrupt when a record does not fit in what is left.
Result<std::vector<InotifyEvent>> parseInotifyEvents(std::span<const std::byte> bytes);

}  // namespace realize
