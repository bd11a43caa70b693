#include "librealize/peer/unwritten.h"

#include <algorithm>
#include <sstream>

#include "librealize/base/fault.h"
#include "librealize/peer/core.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder_state.h"

namespace realize::peer {

namespace {
constexpr char kUnwrittenKey[] = "folder: unwritten";
constexpr size_t kPieceBytes = 1 << 20;
constexpr uint64_t kAnyFile = 0;  ///< among inodes: a sync of all failed, then
}  // namespace

Result<void> SyncAll::sync(Directory& root, uint64_t failures) {
  std::lock_guard held(mutex_);
  auto synced = root.syncAll();
  if (!synced.ok() && !faulty(Fault::BelieveSync)) ++failures_;
  else if (failures_ != failures) synced = Error{Code::Io, "the disk failed to write something of late"};
  return synced;
}

void Unwritten::load(bool sameBoot) {
  if (!sameBoot) {
    files_.clear();
    lastFailedNs_ = 0;
    return save();
  }
  std::istringstream noted(core_.store.getValue(kUnwrittenKey).value_or(""));
  for (std::pair<uint64_t, int64_t> file; noted >> file.first >> file.second;) {
    if (file.first != kAnyFile) files_.insert(file);
    else lastFailedNs_ = std::max({lastFailedNs_, file.second, int64_t(1)});
  }
  if (lastFailedNs_ && core_.syncAll->failures() == 0) noted_ = core_.syncAll->failures_ = 1;
  save();  // What the database could not take before.
}

bool Unwritten::has(const FileStat& file) const {
  if (files_.contains({file.inode, file.birthNs})) return true;
  const int64_t failedNs = core_.syncAll->failures() == noted_ ? lastFailedNs_ : core_.env.clock.nowNs();
  // What came in its place since is another file.
  return failedNs && file.birthNs <= failedNs && std::max(file.mtimeNs, file.ctimeNs) > failedNs - kWrittenBackNs;
}

void Unwritten::noteFailures() {
  const uint64_t failures = core_.syncAll->failures();
  if (std::exchange(noted_, failures) == failures) return;
  lastFailedNs_ = core_.env.clock.nowNs();
  save();
}

void Unwritten::note(const FileStat& file) {
  if (faulty(Fault::BelieveSync)) return;
  if (files_.emplace(file.inode, file.birthNs).second) save();
}

void Unwritten::forget(const FileStat& file) {
  if (files_.erase({file.inode, file.birthNs})) save();
}

void Unwritten::save() {
  std::string text = lastFailedNs_ ? std::to_string(kAnyFile) + " " + std::to_string(lastFailedNs_) + "\n" : "";
  for (const auto& [inode, birthNs] : files_) text += std::to_string(inode) + " " + std::to_string(birthNs) + "\n";
  if (core_.store.getValue(kUnwrittenKey).value_or("") == text) return;
  core_.transact([&] { core_.store.setValue(kUnwrittenKey, text); });
}

std::string copyPathOf(const HashJob& job) { return std::string(kTempFolder) + "/copy-of-" + std::to_string(job.stat.inode) + "-" + std::to_string(job.number); }

Result<void> writeAgain(DiskFile& file, const std::vector<ByteRange>& ranges) {
  Bytes bytes(ranges.empty() ? 0 : kPieceBytes);
  for (const auto& range : ranges)
    for (uint64_t at = 0; at < range.bytes;) {
      const auto piece = std::span(bytes).first(size_t(std::min<uint64_t>(kPieceBytes, range.bytes - at)));
      REALIZE_ASSIGN(const size_t got, file.read(range.offset + at, piece));
      if (got == 0) return Error{Code::Io, "a file of the cache is shorter than it was"};
      REALIZE_TRY(file.write(range.offset + at, piece.first(got)));
      at += got;
    }
  return {};
}

Result<void> copyBytes(DiskFile& from, DiskFile& to, uint64_t sizeBytes) {
  Bytes bytes(size_t(std::min<uint64_t>(kPieceBytes, sizeBytes)));
  for (uint64_t at = 0; at < sizeBytes;) {
    REALIZE_ASSIGN(const size_t got, from.read(at, bytes));
    if (got == 0) return Error{Code::Busy, "a file got shorter while it was copied"};
    REALIZE_TRY(to.write(at, std::span(bytes).first(got)));
    at += got;
  }
  return {};
}

namespace {
/// Attributes and owner. What the disk does not take is left out: better without than not on the disk at all. Other hard links keep the old file.
void copyWhatIsTheUsers(Directory& root, const std::string& from, const FileStat& stat, const std::string& to) {
  (void)root.setOwner(to, stat.uid, stat.gid).ok();
  const auto names = root.listXattrs(from);
  if (!names.ok()) return;
  for (const auto& name : *names) {
    const auto value = name.starts_with("user.") ? root.getXattr(from, name) : Result<std::string>(Error{});
    if (value.ok()) (void)root.setXattr(to, name, *value, 0).ok();
  }
}

Result<void> copyTo(Directory& root, const std::string& to, HashJob& job) {
  REALIZE_ASSIGN(auto from, root.open(job.path, OpenMode::Read));
  REALIZE_ASSIGN(auto copy, root.open(to, OpenMode::CreateNew, 0600));
  REALIZE_TRY(copyBytes(*from, *copy, job.stat.sizeBytes));
  copyWhatIsTheUsers(root, job.path, job.stat, to);
  REALIZE_TRY(copy->setMode(job.stat.mode & 07777));
  REALIZE_TRY(copy->setTimes(job.stat.mtimeNs));
  REALIZE_TRY(copy->sync(true));
  REALIZE_ASSIGN(job.copy, copy->stat());
  REALIZE_ASSIGN(const auto content, hashOpenFile(*copy, job.copy.sizeBytes));
  if (!job.content.ok() || content.blob != job.content->blob) return Error{Code::Busy, job.path + ": changed while it was copied"};
  return {};
}
}  // namespace

Result<void> copyUnwritten(Directory& root, HashJob& job) {
  const std::string to = copyPathOf(job);
  (void)root.unlink(to).ok();  // Of an earlier try.
  auto copied = copyTo(root, to, job);
  if (!copied.ok()) (void)root.unlink(to).ok();
  return copied;
}

}  // namespace realize::peer
