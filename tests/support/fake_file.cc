#include <algorithm>
#include <utility>

#include "tests/support/fake_state.h"

namespace realize::test {
namespace {

#define FAKE_ENTER(op)                                                     \
  REALIZE_TRY(state_->enter(FakeCall{op, path_, ""}, generation_));        \
  std::lock_guard lock(state_->mutex)

class FakeFile final : public DiskFile {
 public:
  FakeFile(std::shared_ptr<FakeState> state, const FakeState::Place& at, std::string path, bool write)
      : state_(std::move(state)), generation_(state_->generation), inode_(at.inode), at_(at), path_(std::move(path)), write_(write) {
    ++node().handles;
    if (write_) ++node().writers;
  }
  ~FakeFile() override {
    std::lock_guard lock(state_->mutex);
    if (generation_ != state_->generation) return;
    --node().handles;
    if (write_) {
      --node().writers;
      state_->tellInode(inode_, at_);
    }
    state_->image.release(inode_);
  }

  Result<size_t> read(uint64_t offset, std::span<std::byte> dst) override {
    FAKE_ENTER(FakeOp::Read);
    if (offset >= node().sizeBytes) return size_t(0);
    size_t size = size_t(std::min<uint64_t>(dst.size(), node().sizeBytes - offset));
    state_->image.read(node(), offset, dst.first(size));
    return size;
  }

  Result<void> write(uint64_t offset, std::span<const std::byte> src) override {
    FAKE_ENTER(FakeOp::Write);
    REALIZE_TRY(writable());
    bool fits = state_->image.write(node(), offset, src);
    changed();
    return fits ? Result<void>() : full();
  }

  Result<void> truncate(uint64_t sizeBytes) override {
    FAKE_ENTER(FakeOp::Truncate);
    REALIZE_TRY(writable());
    state_->image.resize(node(), sizeBytes);
    changed();
    return {};
  }

  Result<FileStat> stat() override {
    FAKE_ENTER(FakeOp::FileStat);
    return state_->statOf(node());
  }

  Result<void> sync(bool metadata) override {
    bool injected = false;
    auto entered = state_->enter(FakeCall{FakeOp::FileSync, path_, ""}, generation_, &injected);
    std::lock_guard lock(state_->mutex);
    const bool here = generation_ == state_->generation && !state_->off;
    const bool untold = here && std::exchange(node().lossUntold, false);
    if (here && (injected || untold)) {
      state_->image.failSync(node());
      ++state_->syncsFailed;
    }
    if (!entered.ok()) return entered;
    if (untold) return Error{Code::Io, path_ + ": its pages could not be written"};
    state_->image.syncFile(node(), metadata);
    return {};
  }

  Result<void> setMode(uint32_t mode) override {
    FAKE_ENTER(FakeOp::SetMode);
    node().attributes.mode = mode & 07777;
    touched();
    return {};
  }

  Result<void> setTimes(int64_t mtimeNs) override {
    FAKE_ENTER(FakeOp::SetTimes);
    node().attributes.mtimeNs = mtimeNs;
    touched();
    return {};
  }

  Result<void> setOwner(int64_t uid, int64_t gid) override {
    FAKE_ENTER(FakeOp::SetOwner);
    if (uid >= 0) node().attributes.uid = uint32_t(uid);
    if (gid >= 0) node().attributes.gid = uint32_t(gid);
    touched();
    return {};
  }

  Result<void> allocate(uint64_t offset, uint64_t length, bool keepSize) override {
    FAKE_ENTER(FakeOp::Allocate);
    REALIZE_TRY(writable());
    bool fits = state_->image.reserve(node(), offset, length);
    if (fits && !keepSize && node().sizeBytes < offset + length) state_->image.resize(node(), offset + length);
    changed();
    return fits ? Result<void>() : full();
  }

  Result<void> punchHole(uint64_t offset, uint64_t length) override {
    FAKE_ENTER(FakeOp::PunchHole);
    REALIZE_TRY(writable());
    state_->image.punch(node(), offset, length);
    changed();
    return {};
  }

  Result<uint64_t> seek(uint64_t offset, bool hole) override {
    FAKE_ENTER(FakeOp::Seek);
    uint64_t size = node().sizeBytes;
    if (offset >= size) return size;
    uint64_t index = offset / kFakeBlockBytes;
    if (hole) {
      while (node().blocks.count(index)) ++index;
    } else {
      auto it = node().blocks.lower_bound(index);
      if (it == node().blocks.end()) return size;
      index = it->first;
    }
    return std::min(size, std::max(offset, index * kFakeBlockBytes));
  }

  Result<bool> nobodyWrites() override {
    FAKE_ENTER(FakeOp::NobodyWrites);
    return !state_->leases || node().writers == 0;
  }

  Result<FileStat> setTimesOfUnwritten(const FileStat& known, int64_t mtimeNs) override {
    FAKE_ENTER(FakeOp::SetTimes);
    const FileStat now = state_->statOf(node());
    if (state_->leases && node().writers > 0) return Error{Code::Busy, path_ + ": open for writing"};
    if (!now.bytesUnchanged(known)) return Error{Code::Busy, path_ + ": written to meanwhile"};
    node().attributes.mtimeNs = mtimeNs;
    touched();
    return state_->statOf(node());
  }

  Result<void> cloneRange(DiskFile& from, uint64_t offset, uint64_t length, uint64_t dstOffset) override;

 private:
  FakeInode& node() { return state_->image.at(inode_); }
  Result<void> writable() const {
    if (!write_) return Error{Code::InvalidArgument, path_ + ": open for reading only"};
    return {};
  }
  Error full() const { return Error{Code::NoSpace, path_ + ": no space left"}; }
  void changed() {
    node().attributes.mtimeNs = state_->clock.nowNs();
    touched();
  }
  void touched() {
    node().ctimeNs = state_->clock.nowNs();
    state_->tellInode(inode_, at_);
  }

  std::shared_ptr<FakeState> state_;
  uint64_t generation_;
  uint64_t inode_;
  FakeState::Place at_;  ///< when it was opened
  std::string path_;
  bool write_;
};

Result<void> FakeFile::cloneRange(DiskFile& from, uint64_t offset, uint64_t length, uint64_t dstOffset) {
  // The source is read without our lock: it may be on this disk as well.
  REALIZE_ASSIGN(FileStat source, from.stat());
  if (offset > source.sizeBytes || length > source.sizeBytes - offset)
    return Error{Code::InvalidArgument, "copy: the source ends before the range does"};
  std::vector<std::pair<uint64_t, Bytes>> pieces;
  uint64_t end = offset + length;
  for (uint64_t at = offset; at < end;) {
    REALIZE_ASSIGN(uint64_t data, from.seek(at, false));
    if (data >= end) break;
    REALIZE_ASSIGN(uint64_t hole, from.seek(data, true));
    Bytes bytes(size_t(std::min(hole, end) - data));
    REALIZE_ASSIGN(size_t got, from.read(data, bytes));
    bytes.resize(got);
    pieces.emplace_back(data - offset, std::move(bytes));
    at = std::max(hole, at + 1);
  }
  FAKE_ENTER(FakeOp::CloneRange);
  REALIZE_TRY(writable());
  state_->image.punch(node(), dstOffset, length);
  bool fits = true;
  for (auto& [at, bytes] : pieces) fits = fits && state_->image.write(node(), dstOffset + at, bytes);
  if (fits && node().sizeBytes < dstOffset + length) state_->image.resize(node(), dstOffset + length);
  changed();
  return fits ? Result<void>() : full();
}

}  // namespace

std::unique_ptr<DiskFile> openFakeFile(std::shared_ptr<FakeState> state, const FakeState::Place& at, std::string path, bool write) {
  return std::make_unique<FakeFile>(std::move(state), at, std::move(path), write);
}

}  // namespace realize::test
