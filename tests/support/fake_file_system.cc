#include "tests/support/fake_file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace realize::test {

FakeFileSystem::~FakeFileSystem() {
  for (auto& [handle, file] : open_) close(file.fd);
}

NodeId FakeFileSystem::nodeOf(const std::string& path) {
  std::lock_guard lock(mutex_);
  auto [slot, fresh] = nodes_.emplace(path, nodes_.size() + 1);
  if (fresh) paths_[slot->second] = path;
  return slot->second;
}

std::string FakeFileSystem::pathOf(NodeId node) {
  std::lock_guard lock(mutex_);
  return paths_[node];
}

Result<Attributes> FakeFileSystem::attributesOf(const std::string& path) {
  struct stat info {};
  if (lstat((folder_ + "/" + path).c_str(), &info) != 0)
    return Error{errno == ENOENT ? Code::NotFound : Code::Io, path + ": " + std::strerror(errno)};
  Attributes out;
  out.node = nodeOf(path);
  out.kind = S_ISDIR(info.st_mode) ? EntryKind::Directory : S_ISLNK(info.st_mode) ? EntryKind::Symlink : EntryKind::File;
  out.mode = info.st_mode & 07777;
  out.uid = info.st_uid;
  out.gid = info.st_gid;
  out.sizeBytes = static_cast<uint64_t>(info.st_size);
  out.blocks512 = (out.sizeBytes + 511) / 512;
  out.mtimeNs = static_cast<int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec;
  out.ctimeNs = out.atimeNs = out.mtimeNs;
  return out;
}

Result<Attributes> FakeFileSystem::lookup(NodeId parent, const std::string& name) {
  std::string folder = pathOf(parent);
  return attributesOf(folder.empty() ? name : folder + "/" + name);
}

Result<Attributes> FakeFileSystem::attributes(NodeId node) { return attributesOf(pathOf(node)); }

Result<Attributes> FakeFileSystem::handleAttributes(FileHandle handle) {
  NodeId node = 0;
  {
    std::lock_guard lock(mutex_);
    node = open_.at(handle).node;
  }
  return attributes(node);
}

Result<std::vector<NamedNode>> FakeFileSystem::readDirectory(NodeId directory) {
  std::vector<NamedNode> out;
  std::error_code failed;
  for (auto& item : std::filesystem::directory_iterator(folder_ + "/" + pathOf(directory), failed)) {
    std::string name = item.path().filename().string();
    if (auto found = lookup(directory, name)) out.push_back({name, *found});
  }
  if (failed) return Error{Code::Io, failed.message()};
  std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a.name < b.name; });
  return out;
}

Result<NodeId> FakeFileSystem::parentOf(NodeId node) {
  std::string path = pathOf(node);
  size_t slash = path.rfind('/');
  return nodeOf(slash == std::string::npos ? "" : path.substr(0, slash));
}

Result<std::string> FakeFileSystem::readSymlink(NodeId node) {
  std::error_code failed;
  auto target = std::filesystem::read_symlink(folder_ + "/" + pathOf(node), failed);
  if (failed) return Error{Code::InvalidArgument, failed.message()};
  return target.string();
}

void FakeFileSystem::open(NodeId node, OpenFlags, std::function<void(Result<FileHandle>)> done) {
  std::string path = folder_ + "/" + pathOf(node);
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return done(Error{Code::Io, path + ": " + std::strerror(errno)});
  FileHandle handle = 0;
  {
    std::lock_guard lock(mutex_);
    handle = ++lastHandle_;
    open_[handle] = {fd, node};
  }
  done(handle);
}

uint64_t FakeFileSystem::read(FileHandle handle, uint64_t offset, size_t size, std::function<void(Result<Bytes>)> done) {
  int fd = -1;
  {
    std::lock_guard lock(mutex_);
    fd = open_.at(handle).fd;
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
  close(open_.at(handle).fd);
  open_.erase(handle);
}

}  // namespace realize::test
