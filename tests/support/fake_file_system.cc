#include "tests/support/fake_file_system.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace realize::test {

FakeFileSystem::~FakeFileSystem() {
  for (auto& [handle, fd] : open_) close(fd);
}

NodeId FakeFileSystem::nodeOf(const std::string& path) {
  std::lock_guard lock(mutex_);
  auto [slot, fresh] = nodes_.emplace(path, nodes_.size() + 1);
  if (fresh) paths_[slot->second] = path;
  return slot->second;
}

void FakeFileSystem::open(NodeId node, OpenFlags, std::function<void(Result<FileHandle>)> done) {
  std::string path;
  {
    std::lock_guard lock(mutex_);
    path = folder_ + "/" + paths_[node];
  }
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return done(Error{Code::Io, path + ": " + std::strerror(errno)});
  FileHandle handle = 0;
  {
    std::lock_guard lock(mutex_);
    handle = ++lastHandle_;
    open_[handle] = fd;
  }
  done(handle);
}

uint64_t FakeFileSystem::read(FileHandle handle, uint64_t offset, size_t size, std::function<void(Result<Bytes>)> done) {
  int fd = -1;
  {
    std::lock_guard lock(mutex_);
    fd = open_.at(handle);
  }
  Bytes bytes(size);
  ssize_t n = pread(fd, bytes.data(), size, static_cast<off_t>(offset));
  if (n < 0) {
    done(Error{Code::Io, std::strerror(errno)});
    return 0;
  }
  bytes.resize(static_cast<size_t>(n));
  done(std::move(bytes));
  return 0;
}

void FakeFileSystem::release(FileHandle handle) {
  std::lock_guard lock(mutex_);
  close(open_.at(handle));
  open_.erase(handle);
}

}  // namespace realize::test
