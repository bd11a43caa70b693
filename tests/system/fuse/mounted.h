#pragma once

// A mount over a MemoryFileSystem in a temporary folder, for one test.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include <doctest/doctest.h>

#include "frontends/fuse/mount.h"
#include "tests/support/memory_file_system.h"

namespace realize::test {

/// An empty folder, removed with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* base = std::getenv("TMPDIR");
    std::string pattern = std::string(base ? base : "/tmp") + "/mount.XXXXXX";
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct Mounted {
  explicit Mounted(fuse::MountOptions options = {}, bool descriptors = false) : fs(descriptors) {
    if (options.arenaName.empty()) options.arenaName = "test";
    auto started = fuse::Mount::start(fs, folder.path(), options);
    if (!started.ok()) FAIL(started.error().message);
    mount = std::move(*started);
  }

  std::string at(const std::string& path) const { return folder.path() + "/" + path; }

  TemporaryFolder folder;
  MemoryFileSystem fs;
  std::unique_ptr<fuse::Mount> mount;
};

/// A descriptor that is closed at the end.
class File {
 public:
  File(const std::string& path, int flags, mode_t mode = 0644) : fd_(open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~File() { close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

inline bool writeFile(const std::string& path, const std::string& content, int flags = O_WRONLY | O_CREAT | O_TRUNC) {
  File file(path, flags);
  return file.ok() && write(file.fd(), content.data(), content.size()) == static_cast<ssize_t>(content.size());
}

/// The content, or "errno N".
inline std::string readFile(const std::string& path) {
  File file(path, O_RDONLY);
  if (!file.ok()) return "errno " + std::to_string(errno);
  std::string out;
  char buffer[65536];
  for (ssize_t n; (n = read(file.fd(), buffer, sizeof buffer)) != 0;) {
    if (n < 0) return "errno " + std::to_string(errno);
    out.append(buffer, static_cast<size_t>(n));
  }
  return out;
}

inline int errorOf(int result) { return result == 0 ? 0 : errno; }

inline struct stat statOf(const std::string& path) {
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0) st.st_nlink = 0, st.st_ino = 0;
  return st;
}

inline bool exists(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0;
}

}  // namespace realize::test
