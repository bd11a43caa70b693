#include "frontends/cli/output.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace realize::cli {

namespace {

constexpr int64_t kQuietMs = 1000;
constexpr int64_t kRedrawMs = 100;
constexpr int64_t kLineEveryMs = 5000;

template <typename... Values>
std::string formatted(const char* format, Values... values) {
  char buffer[128];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

size_t widthOf(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string sizeText(uint64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  // 1023.96 KiB would print as 1024 KiB: go on to the next unit.
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return formatted(value < 99.95 ? "%.1f %s" : "%.0f %s", value, kUnits[unit]);
}

std::string durationText(int64_t seconds) {
  long long s = std::max<int64_t>(seconds, 0);
  if (s < 60) return formatted("%lld s", s);
  if (s < 3600) return formatted("%lld min %lld s", s / 60, s % 60);
  if (s < 48 * 3600) return formatted("%lld h %lld min", s / 3600, s / 60 % 60);
  return formatted("%lld days", s / 86400);
}

std::string timeText(int64_t unixNs) {
  if (unixNs == 0) return "never";
  time_t seconds = static_cast<time_t>(unixNs / 1'000'000'000);
  tm parts{};
  if (!localtime_r(&seconds, &parts)) return "?";
  char buffer[64];
  strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", &parts);
  return buffer;
}

std::string modeText(std::string_view kind, uint32_t mode) {
  std::string out = kind == "directory" ? "d" : kind == "symlink" ? "l" : "-";
  const char letters[] = "rwxrwxrwx";
  for (int i = 0; i < 9; ++i) out += mode & (0400u >> i) ? letters[i] : '-';
  return out;
}

std::string countText(uint64_t count, std::string_view one, std::string_view many) {
  return std::to_string(count) + " " + std::string(count == 1 ? one : many);
}

std::string nameText(std::string_view name, bool raw) {
  if (raw) return std::string(name);
  std::string out;
  for (char c : name) {
    auto b = static_cast<unsigned char>(c);
    if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (b < 0x20 || b == 0x7f) out += formatted("\\x%02x", unsigned{b});
    else out += c;
  }
  return out;
}

std::string tableText(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (auto& row : rows) {
    if (row.size() > widths.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], widthOf(row[i]));
  }
  std::string out;
  for (auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - widthOf(row[i]) + 2, ' ');
    }
    out.erase(out.find_last_not_of(' ') + 1);
    out += '\n';
  }
  return out;
}

ProgressLine::ProgressLine(bool terminal, std::function<int64_t()> nowMs, std::function<void(std::string_view)> write)
    : terminal_(terminal), nowMs_(std::move(nowMs)), write_(std::move(write)), startedMs_(nowMs_()) {}

bool ProgressLine::due() {
  int64_t now = nowMs_();
  if (now - startedMs_ < kQuietMs) return false;
  if (shownMs_ >= 0 && now - shownMs_ < (terminal_ ? kRedrawMs : kLineEveryMs)) return false;
  shownMs_ = now;
  return true;
}

void ProgressLine::draw(const std::string& text) {
  write_(terminal_ ? "\r\033[K" + text : text + "\n");
  drawn_ = terminal_;
}

void ProgressLine::say(std::string_view text) {
  if (due()) draw(std::string(text));
}

void ProgressLine::update(std::string_view what, uint64_t doneBytes, uint64_t totalBytes) {
  if (!any_) {
    any_ = true;
    firstBytes_ = doneBytes;
  }
  if (!due()) return;
  int64_t elapsed = shownMs_ - startedMs_;

  std::string text(what);
  text += " " + sizeText(doneBytes);
  if (totalBytes > 0) {
    double share = std::min(1.0, static_cast<double>(doneBytes) / static_cast<double>(totalBytes));
    text += " of " + sizeText(totalBytes) + formatted(" (%d%%)", static_cast<int>(share * 100));
    if (terminal_) {
      constexpr int kBarWidth = 20;
      int filled = static_cast<int>(share * kBarWidth);
      text += " [" + std::string(static_cast<size_t>(filled), '#') +
              std::string(static_cast<size_t>(kBarWidth - filled), '.') + "]";
    }
  }
  double rate = static_cast<double>(doneBytes - std::min(doneBytes, firstBytes_)) * 1000 / static_cast<double>(elapsed);
  if (rate >= 1) {
    text += ", " + sizeText(static_cast<uint64_t>(rate)) + "/s";
    if (totalBytes > doneBytes)
      text += ", " + durationText(static_cast<int64_t>(static_cast<double>(totalBytes - doneBytes) / rate)) + " left";
  }
  draw(text);
}

void ProgressLine::finish() {
  if (drawn_) write_("\r\033[K");
  drawn_ = false;
}

ProgressLine stderrProgress() {
  auto now = [] {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<int64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000;
  };
  auto write = [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); };
  return ProgressLine(isatty(2) != 0, now, write);
}

}  // namespace realize::cli
