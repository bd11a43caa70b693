#pragma once

// What is on a fake disk: what a running system sees, and what of it a power cut would leave.
//
// Names: each change of names is a NameOp; those not durable yet wait in a log. A sync of a directory makes durable
// the ops that touch it and those they build on. An op builds on earlier ones that share a name or an inode with it; a
// move also on those that made the directory it goes to; the rename or removal of a directory on everything before it.
// The sync of a new directory does not make its own name durable: that takes the sync of its parent. A crash keeps a random part of the log that is
// closed under that, so a rename happened or did not, and nothing is left hanging.
// Bytes: an inode remembers what its blocks held when last synced. A crash mixes old and new by block, tears a few
// inside, and takes any size that the file had while it grew. A truncation is one step, as on a journaling file system:
// it happened, or the file is what it was before it.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "librealize/base/disk.h"
#include "librealize/base/random.h"

namespace realize::test {

constexpr size_t kFakeBlockBytes = 4096;
constexpr size_t kFakeSectorBytes = 512;

using FakeBlock = std::array<std::byte, kFakeBlockBytes>;
/// Shared between snapshots; copied before it is written while anyone else has it. Null: a hole.
using FakeBlockRef = std::shared_ptr<FakeBlock>;
using FakeNames = std::map<std::string, uint64_t>;

struct FakeAttributes {
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtimeNs = 0;
  std::map<std::string, std::string> xattrs;
};

struct FakeInode {
  uint64_t number = 0;
  uint64_t device = 0;
  FileStat::Type type = FileStat::Type::File;
  int64_t birthNs = 0, ctimeNs = 0, atimeNs = 0;
  FakeAttributes attributes, durableAttributes;
  std::string target;  ///< of a symlink

  FakeNames entries, durableEntries;                  ///< of a directory
  std::set<std::pair<uint64_t, std::string>> names;   ///< where it is now: (directory, name)
  uint32_t durableNames = 0;
  uint32_t pending = 0;  ///< mentions in the log
  uint32_t handles = 0, writers = 0;

  std::map<uint64_t, FakeBlockRef> blocks;  ///< by index; no holes in it
  uint64_t sizeBytes = 0, durableSizeBytes = 0;
  std::map<uint64_t, FakeBlockRef> dirty;        ///< what the blocks written since the last sync held then
  std::map<uint64_t, FakeBlockRef> lost;         ///< dirty when a sync failed: no later sync brings them to the disk
  bool sizeLost = false;
  bool lossUntold = false;  ///< pages went when all was synced: the next sync of this file tells it, once
  /// As it was before each truncation since the last sync, the oldest first: a crash goes back to one of them or stays.
  struct Earlier {
    std::map<uint64_t, FakeBlockRef> blocks, dirty, lost;
    uint64_t sizeBytes, durableSizeBytes;
  };
  std::vector<Earlier> earlier;

  uint64_t allocatedBytes() const { return blocks.size() * kFakeBlockBytes; }
};

/// Copyable: a copy is a snapshot. Thread: one at a time. Nothing here checks permissions or paths.
class FakeImage {
 public:
  explicit FakeImage(uint64_t device);

  FakeInode& at(uint64_t number) { return inodes_.at(number); }
  const FakeInode& at(uint64_t number) const { return inodes_.at(number); }
  static constexpr uint64_t kRoot = 2;

  uint64_t create(uint64_t directory, const std::string& name, FileStat::Type type, uint32_t mode, int64_t nowNs);
  void link(uint64_t directory, const std::string& name, uint64_t inode, int64_t nowNs);
  void remove(uint64_t directory, const std::string& name, int64_t nowNs);
  void rename(uint64_t from, const std::string& fromName, uint64_t to, const std::string& toName, bool exchange,
              int64_t nowNs);
  /// The inode goes when nothing names or holds it, now or after a crash.
  void release(uint64_t number);

  void read(const FakeInode& inode, uint64_t offset, std::span<std::byte> dst) const;
  /// False when space ran out; what went before it is written.
  bool write(FakeInode& inode, uint64_t offset, std::span<const std::byte> src);
  bool reserve(FakeInode& inode, uint64_t offset, uint64_t length);
  void resize(FakeInode& inode, uint64_t sizeBytes);
  void punch(FakeInode& inode, uint64_t offset, uint64_t length);

  void syncFile(FakeInode& inode, bool attributes);
  void failSync(FakeInode& inode);
  /// Of a sync of all: what each file had not on the disk yet is lost, and each says so once.
  void failSyncAll();
  void syncNames(uint64_t directory);
  void syncAll();
  /// Power is cut: only what was durable stays, and a random part of the rest. No handles are left.
  /// `processOnly`: what failed syncs lost can still be read.
  void crash(Random& random, bool processOnly = false);
  /// As if its files had been copied elsewhere by a backup program: other inodes, born now.
  void renumber(int64_t nowNs);
  void setDevice(uint64_t directory, uint64_t device);
  void dropHandles();

  uint64_t usedBytes = 0;
  uint64_t capacityBytes = 1ull << 40;
  bool reuseInodes = false;  ///< as ext4 does, at once; birth times still differ
  size_t pendingOps() const { return log_.size(); }
  size_t inodeCount() const { return inodes_.size(); }
  uint64_t fileHandles() const;

 private:
  struct NameChange {
    uint64_t directory;
    std::string name;
    uint64_t before, after;  ///< inodes; 0: none
  };
  struct NameOp {
    std::vector<NameChange> changes;
    bool barrier = false;  ///< builds on everything before it
  };
  struct Closure;

  void apply(NameOp op, int64_t nowNs);
  void makeDurable(const NameOp& op);
  void settle(const std::vector<bool>& kept, bool dropOthers);
  void setBlock(FakeInode& inode, uint64_t index, FakeBlockRef block);
  FakeBlock* writable(FakeInode& inode, uint64_t index);
  void crashBytes(FakeInode& inode, Random& random);
  void dropUnreachable();

  std::map<uint64_t, FakeInode> inodes_;
  std::vector<NameOp> log_;
  std::set<uint64_t> freed_;
  uint64_t nextInode_ = kRoot + 1;
};

}  // namespace realize::test
