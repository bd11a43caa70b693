#pragma once

// What the daemon says to its operator: lines with a time on stderr, which `serve --detach` points at STATE/log.

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace realize::daemon {

/// Thread: any.
class Log {
 public:
  /// When a log file has grown beyond this it becomes `log.1`, and a new one begins: at most twice this is kept.
  static constexpr uint64_t kLimitBytes = 8 << 20;

  /// To descriptor 2 as it is. With `file`, descriptors 1 and 2 are that file's (they are redirected again when it is
  /// rotated), so that what libraries print lands in it too.
  explicit Log(std::string file = "", uint64_t limitBytes = kLimitBytes);

  /// One line; control characters in it are replaced.
  void line(std::string_view text);
  /// Rotates where others have written much to stderr.
  void checkSize();

 private:
  void rotateIfLarge();

  std::mutex mutex_;
  std::string file_;
  uint64_t limitBytes_;
};

/// Points descriptors 1 and 2 at `file`, opened for appending, 0600. False: it could not be opened (errno).
bool redirectOutput(const std::string& file);

}  // namespace realize::daemon
