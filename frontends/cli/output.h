#pragma once

// What people read: sizes, times, tables, progress.

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace realize::cli {

/// "0 B", "1.5 KiB", "12 GiB".
std::string sizeText(uint64_t bytes);
/// "12 s", "3 min 20 s", "2 h 5 min".
std::string durationText(int64_t seconds);
/// Local time, "2026-11-21 02:05:08"; "never" for 0.
std::string timeText(int64_t unixNs);
/// "drwxr-xr-x".
std::string modeText(std::string_view kind, uint32_t mode);
/// "1 file", "2 files".
std::string countText(uint64_t count, std::string_view one, std::string_view many);

/// Safe on a terminal: control characters as `\n`, `\x1b`. Where `raw` (not a terminal), the bytes themselves.
std::string nameText(std::string_view name, bool raw);

/// Columns as wide as their widest cell (characters, not bytes), two spaces apart; the last is not padded.
std::string tableText(const std::vector<std::vector<std::string>>& rows);

/// Progress of long work on stderr: a bar redrawn in place on a terminal, else a line every few seconds; nothing for
/// work that takes less than a second.
class ProgressLine {
 public:
  /// `nowMs`: a monotonic clock. `write`: takes the text.
  ProgressLine(bool terminal, std::function<int64_t()> nowMs, std::function<void(std::string_view)> write);
  /// `total` 0: not known.
  void update(std::string_view what, uint64_t doneBytes, uint64_t totalBytes);
  /// The same for work that cannot be counted.
  void say(std::string_view text);
  /// Clears the bar, so that what is printed next stands on a line of its own.
  void finish();

 private:
  bool due();
  void draw(const std::string& text);

  bool terminal_;
  std::function<int64_t()> nowMs_;
  std::function<void(std::string_view)> write_;
  int64_t startedMs_;
  int64_t shownMs_ = -1;
  uint64_t firstBytes_ = 0;  ///< done when we began: was not our rate
  bool any_ = false;
  bool drawn_ = false;
};

/// A ProgressLine on this process's stderr.
ProgressLine stderrProgress();

}  // namespace realize::cli
