#include "frontends/daemon/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>

namespace realize::daemon {

bool redirectOutput(const std::string& file) {
  int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return false;
  bool done = dup2(fd, 1) >= 0 && dup2(fd, 2) >= 0;
  close(fd);
  return done;
}

Log::Log(std::string file, uint64_t limitBytes) : file_(std::move(file)), limitBytes_(limitBytes) {}

void Log::line(std::string_view text) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  char stamp[40];
  size_t n = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(stamp + n, sizeof stamp - n, ".%03ldZ ", now.tv_nsec / 1000000);
  std::string out = stamp;
  for (char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  out += '\n';
  std::lock_guard lock(mutex_);
  // One write a line: lines of several threads do not mix. A full disk must not end the daemon.
  [[maybe_unused]] ssize_t written = write(2, out.data(), out.size());
  rotateIfLarge();
}

void Log::checkSize() {
  std::lock_guard lock(mutex_);
  rotateIfLarge();
}

void Log::rotateIfLarge() {
  if (file_.empty()) return;
  struct stat info {};
  if (fstat(2, &info) != 0 || static_cast<uint64_t>(info.st_size) <= limitBytes_) return;
  std::string old = file_ + ".1";
  if (rename(file_.c_str(), old.c_str()) == 0) redirectOutput(file_);
}

}  // namespace realize::daemon
