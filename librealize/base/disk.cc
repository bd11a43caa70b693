#include "librealize/base/disk.h"

#include <algorithm>
#include <cstring>

#include "librealize/base/path.h"

namespace realize {

Result<bool> exists(Directory& directory, const std::string& path) {
  auto stat = directory.stat(path);
  if (stat.ok()) return true;
  if (stat.code() == Code::NotFound) return false;
  return stat.error();
}

namespace {

constexpr size_t kBlockBytes = 4096;

bool isZero(std::span<const std::byte> bytes) {
  return bytes.front() == std::byte(0) && memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace

Result<void> writeSparse(DiskFile& file, uint64_t offset, std::span<const std::byte> src) {
  size_t written = 0;  // What comes before `at` and has not been written is data.
  for (size_t at = 0; at < src.size();) {
    size_t end = at;  // of the zeros that begin here
    while (end < src.size()) {
      const auto block = src.subspan(end, std::min<size_t>(src.size() - end, kBlockBytes - (offset + end) % kBlockBytes));
      if (!isZero(block)) break;
      end += block.size();
    }
    // Freed, not merely left out: after a crash other bytes may be there.
    if (end - at >= kShortestHoleBytes && file.punchHole(offset + at, end - at).ok()) {
      if (at > written) REALIZE_TRY(file.write(offset + written, src.subspan(written, at - written)));
      written = end;
    }
    at = std::min<size_t>(src.size(), end + kBlockBytes - (offset + end) % kBlockBytes);
  }
  if (written < src.size()) REALIZE_TRY(file.write(offset + written, src.subspan(written)));
  return {};
}

Result<Bytes> readFile(Directory& directory, const std::string& path, size_t maxBytes) {
  REALIZE_ASSIGN(auto file, directory.open(path, OpenMode::Read));
  REALIZE_ASSIGN(FileStat stat, file->stat());
  if (stat.sizeBytes > maxBytes) return Error{Code::TooLarge, path + ": larger than " + std::to_string(maxBytes) + " bytes"};
  Bytes bytes(stat.sizeBytes);
  REALIZE_ASSIGN(size_t got, file->read(0, bytes));
  bytes.resize(got);
  return bytes;
}

Result<TempFile> openTemp(Directory& directory, const std::string& folder, Random& random, uint32_t permissions) {
  static const char digits[] = "0123456789abcdef";
  for (int tries = 0;; ++tries) {
    TempFile temp;
    temp.path = folder.empty() ? "tmp-" : folder + "/tmp-";
    uint64_t value = random.next64();
    for (int shift = 60; shift >= 0; shift -= 4) temp.path += digits[(value >> shift) & 15];
    auto file = directory.open(temp.path, OpenMode::CreateNew, permissions);
    if (file.ok()) {
      temp.file = std::move(file).value();
      return temp;
    }
    if (file.code() != Code::Exists || tries == 16) return file.error();
  }
}

namespace {

Result<void> fillAndRename(Directory& directory, TempFile& temp, const std::string& path,
                           std::span<const std::byte> bytes) {
  REALIZE_TRY(temp.file->write(0, bytes));
  REALIZE_TRY(temp.file->sync(true));
  return directory.rename(temp.path, path, RenameKind::Replace);
}

}  // namespace

Result<void> replaceFile(Directory& directory, const std::string& path, std::span<const std::byte> bytes, Random& random,
                         uint32_t permissions) {
  const std::string parent = parentPath(path);
  REALIZE_ASSIGN(TempFile temp, openTemp(directory, parent, random, permissions));
  if (auto done = fillAndRename(directory, temp, path, bytes); !done.ok()) {
    (void)directory.unlink(temp.path);
    return done;
  }
  return directory.syncDirectory(parent);
}

}  // namespace realize
