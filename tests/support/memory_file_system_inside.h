#pragma once

// Of MemoryFileSystem alone.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "memory_file_system.h"

namespace realize::test {

inline int64_t nowNs() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

inline Error notFound() { return {Code::NotFound, "no such name or handle"}; }
inline Error stale() { return {Code::Stale, "no such node"}; }

class MemoryFileSystem::Content {
 public:
  explicit Content(bool descriptor) : fd_(descriptor ? memfd_create("content", MFD_CLOEXEC) : -1) {}
  ~Content() {
    if (fd_ >= 0) close(fd_);
  }
  Content(const Content&) = delete;
  Content& operator=(const Content&) = delete;

  int fd() const { return fd_; }
  uint64_t size() const {
    if (fd_ < 0) return bytes_.size();
    struct stat st {};
    fstat(fd_, &st);
    return static_cast<uint64_t>(st.st_size);
  }
  bool resize(uint64_t size) {
    if (fd_ >= 0) return ftruncate(fd_, static_cast<off_t>(size)) == 0;
    bytes_.resize(size);
    return true;
  }
  Bytes read(uint64_t offset, size_t size) const {
    uint64_t end = this->size();
    Bytes out(offset >= end ? 0 : std::min<uint64_t>(size, end - offset));
    if (out.empty()) return out;
    if (fd_ < 0)
      std::memcpy(out.data(), bytes_.data() + offset, out.size());
    else
      out.resize(static_cast<size_t>(std::max<ssize_t>(pread(fd_, out.data(), out.size(), static_cast<off_t>(offset)), 0)));
    return out;
  }
  void write(uint64_t offset, const std::byte* data, size_t size) {
    if (size == 0) return;
    if (fd_ >= 0) {
      (void)!pwrite(fd_, data, size, static_cast<off_t>(offset));
      return;
    }
    if (offset + size > bytes_.size()) bytes_.resize(offset + size);
    std::memcpy(bytes_.data() + offset, data, size);
  }

 private:
  const int fd_;
  Bytes bytes_;
};

struct MemoryFileSystem::Node {
  NodeId id = 0;
  EntryKind kind = EntryKind::File;
  uint32_t mode = 0, uid = 0, gid = 0;
  bool attached = false;
  int64_t mtimeNs = 0, ctimeNs = 0;
  NodeId parent = 0;
  std::shared_ptr<Content> content;
  std::string target;
  std::map<std::string, NodePtr> children;
  size_t directories = 0;
  std::map<std::string, std::string> xattrs;

  void touch() { mtimeNs = ctimeNs = nowNs(); }
};

}  // namespace realize::test
