#include "librealize/peer/file_hash.h"

#include <algorithm>

namespace realize::peer {

namespace {

constexpr uint64_t kReadBytes = 1 << 20;

/// Where the data ends that `offset` is in, or, if it is in a hole, begins. Files that cannot say are data.
struct Extent {
  bool hole = false;
  uint64_t end = 0;
};

Extent extentAt(DiskFile& file, uint64_t offset, uint64_t sizeBytes) {
  auto data = file.seek(offset, false);
  if (!data.ok() || *data < offset) return {false, sizeBytes};
  if (*data > offset) return {true, std::min(*data, sizeBytes)};
  auto hole = file.seek(offset, true);
  return {false, hole.ok() && *hole > offset ? std::min(*hole, sizeBytes) : sizeBytes};
}

}  // namespace

Result<Content> hashOpenFile(DiskFile& file, uint64_t sizeBytes, const std::function<Result<void>(uint64_t)>& progress) {
  ContentHasher hasher(sizeBytes);
  Bytes buffer(std::min(sizeBytes, kReadBytes));
  // To look for holes costs small files more than to read them.
  bool sparse = false;
  if (sizeBytes > kReadBytes) {
    REALIZE_ASSIGN(const auto stat, file.stat());
    sparse = stat.allocatedBytes < sizeBytes;
  }
  Extent extent{false, sparse ? 0 : sizeBytes};
  for (uint64_t offset = 0; offset < sizeBytes;) {
    if (offset >= extent.end) extent = extentAt(file, offset, sizeBytes);
    uint64_t passed = extent.end - offset;
    if (extent.hole) {
      hasher.addZeros(passed);
    } else {
      REALIZE_ASSIGN(passed, file.read(offset, std::span(buffer).first(std::min<uint64_t>(buffer.size(), passed))));
      if (passed == 0) return Error{Code::Busy, "the file became shorter while it was read"};
      hasher.add(std::span(buffer).first(passed));
    }
    offset += passed;
    if (progress) REALIZE_TRY(progress(passed));
  }
  return hasher.finish();
}

Result<Content> hashFile(Directory& root, const std::string& path, const FileStat& expected) {
  REALIZE_ASSIGN(auto file, root.open(path, OpenMode::Read));
  REALIZE_ASSIGN(const auto before, file->stat());
  if (!before.unchanged(expected)) return Error{Code::Busy, path + ": changed before it was read"};
  REALIZE_ASSIGN(auto content, hashOpenFile(*file, before.sizeBytes));
  REALIZE_ASSIGN(const auto after, file->stat());
  if (!after.unchanged(before)) return Error{Code::Busy, path + ": changed while it was read"};
  return content;
}

Result<Content> hashOurFile(Directory& root, const std::string& path, FileStat& stat) {
  auto content = hashFile(root, path, stat);
  if (content.ok() || content.code() != Code::PermissionDenied) return content;
  REALIZE_ASSIGN(const auto before, root.stat(path));
  if (!before.unchanged(stat)) return Error{Code::Busy, path + ": changed before it was read"};
  REALIZE_TRY(root.setMode(path, 0600));
  auto readable = root.stat(path);
  content = readable.ok() ? hashFile(root, path, *readable) : Result<Content>(readable.error());
  REALIZE_TRY(root.setMode(path, before.mode & 07777));
  REALIZE_ASSIGN(stat, root.stat(path));
  return content;
}

}  // namespace realize::peer
