#include "tests/support/fake_image.h"

#include <algorithm>
#include <cstring>

namespace realize::test {
namespace {

// So that a disk nobody syncs does not remember all its life: the kernel writes back by itself, too.
constexpr size_t kLogMax = 20'000;
constexpr size_t kEarlierMax = 4;

uint64_t below(Random& random, uint64_t bound) { return bound == 0 ? 0 : random.next64() % bound; }

uint64_t blocksFor(uint64_t sizeBytes) { return (sizeBytes + kFakeBlockBytes - 1) / kFakeBlockBytes; }

}  // namespace

FakeImage::FakeImage(uint64_t device) {
  FakeInode root;
  root.number = kRoot;
  root.device = device;
  root.type = FileStat::Type::Directory;
  root.birthNs = 1;
  root.attributes.mode = 0755;
  root.durableAttributes = root.attributes;
  inodes_.emplace(kRoot, std::move(root));
}

uint64_t FakeImage::create(uint64_t directory, const std::string& name, FileStat::Type type, uint32_t mode,
                           int64_t nowNs) {
  uint64_t number = nextInode_;
  if (reuseInodes && !freed_.empty()) {
    number = *freed_.begin();
    freed_.erase(freed_.begin());
  } else {
    ++nextInode_;
  }
  FakeInode inode;
  inode.number = number;
  inode.device = at(directory).device;
  inode.type = type;
  inode.birthNs = inode.ctimeNs = inode.atimeNs = nowNs;
  inode.attributes.mode = mode;
  inode.attributes.uid = inode.attributes.gid = 1000;
  inode.attributes.mtimeNs = nowNs;
  inode.durableAttributes = inode.attributes;
  inodes_[number] = std::move(inode);
  apply(NameOp{{{directory, name, 0, number}}}, nowNs);
  return number;
}

void FakeImage::link(uint64_t directory, const std::string& name, uint64_t inode, int64_t nowNs) {
  apply(NameOp{{{directory, name, 0, inode}}}, nowNs);
}

void FakeImage::remove(uint64_t directory, const std::string& name, int64_t nowNs) {
  uint64_t number = at(directory).entries.at(name);
  bool isDirectory = at(number).type == FileStat::Type::Directory;
  apply(NameOp{{{directory, name, number, 0}}, isDirectory}, nowNs);
  release(number);
}

void FakeImage::rename(uint64_t from, const std::string& fromName, uint64_t to, const std::string& toName,
                       bool exchange, int64_t nowNs) {
  uint64_t moved = at(from).entries.at(fromName);
  auto it = at(to).entries.find(toName);
  uint64_t other = it == at(to).entries.end() ? 0 : it->second;
  if (moved == other) return;
  NameOp op;
  op.changes.push_back({from, fromName, moved, exchange ? other : 0});
  op.changes.push_back({to, toName, other, moved});
  op.barrier = at(moved).type == FileStat::Type::Directory ||
               (other && at(other).type == FileStat::Type::Directory);
  apply(std::move(op), nowNs);
  if (other && !exchange) release(other);
}

void FakeImage::apply(NameOp op, int64_t nowNs) {
  for (const NameChange& change : op.changes) {
    FakeInode& directory = at(change.directory);
    directory.attributes.mtimeNs = directory.ctimeNs = nowNs;
    ++directory.pending;
    if (change.before) {
      directory.entries.erase(change.name);
      at(change.before).names.erase({change.directory, change.name});
    }
    for (uint64_t number : {change.before, change.after}) {
      if (!number) continue;
      at(number).ctimeNs = nowNs;
      ++at(number).pending;
    }
  }
  for (const NameChange& change : op.changes) {
    if (!change.after) continue;
    at(change.directory).entries[change.name] = change.after;
    at(change.after).names.insert({change.directory, change.name});
  }
  log_.push_back(std::move(op));
  if (log_.size() > kLogMax) {
    std::vector<bool> kept(log_.size());
    std::fill(kept.begin(), kept.begin() + kLogMax / 2, true);
    settle(kept, false);
  }
}

void FakeImage::release(uint64_t number) {
  auto it = inodes_.find(number);
  if (it == inodes_.end() || number == kRoot) return;
  const FakeInode& inode = it->second;
  if (!inode.names.empty() || inode.durableNames || inode.pending || inode.handles) return;
  usedBytes -= inode.allocatedBytes();
  inodes_.erase(it);
  freed_.insert(number);
}

void FakeImage::makeDurable(const NameOp& op) {
  for (const NameChange& change : op.changes) {
    FakeNames& names = at(change.directory).durableEntries;
    if (auto it = names.find(change.name); it != names.end()) {
      --at(it->second).durableNames;
      names.erase(it);
    }
  }
  for (const NameChange& change : op.changes) {
    if (!change.after) continue;
    at(change.directory).durableEntries[change.name] = change.after;
    ++at(change.after).durableNames;
  }
}

void FakeImage::settle(const std::vector<bool>& kept, bool dropOthers) {
  std::vector<NameOp> left;
  std::set<uint64_t> mentioned;
  for (size_t i = 0; i < log_.size(); ++i) {
    if (!kept[i] && !dropOthers) {
      left.push_back(std::move(log_[i]));
      continue;
    }
    if (kept[i]) makeDurable(log_[i]);
    for (const NameChange& change : log_[i].changes) {
      for (uint64_t number : {change.directory, change.before, change.after}) {
        if (!number) continue;
        --at(number).pending;
        mentioned.insert(number);
      }
    }
  }
  log_ = std::move(left);
  for (uint64_t number : mentioned) release(number);
}

// Walks the log from its end and marks what the marked ones build on.
struct FakeImage::Closure {
  std::set<uint64_t> inodes;
  std::set<std::pair<uint64_t, std::string>> names;
  std::set<uint64_t> places;  // directories that something was moved into: they must not be missing themselves
  bool everything = false;

  bool makesPlace(const NameOp& op) const {
    return std::any_of(op.changes.begin(), op.changes.end(),
                       [&](const NameChange& change) { return places.count(change.after) != 0; });
  }
  bool needs(const NameOp& op) const {
    if (everything || makesPlace(op)) return true;
    for (const NameChange& change : op.changes) {
      if (names.count({change.directory, change.name})) return true;
      if (inodes.count(change.before) || inodes.count(change.after)) return true;
    }
    return false;
  }
  void add(const NameOp& op) {
    everything |= op.barrier;
    bool place = op.changes.size() > 1 || makesPlace(op);
    for (const NameChange& change : op.changes) {
      names.insert({change.directory, change.name});
      if (place) places.insert(change.directory);
      if (change.before) inodes.insert(change.before);
      if (change.after) inodes.insert(change.after);
    }
  }
};

void FakeImage::syncNames(uint64_t directory) {
  std::vector<bool> kept(log_.size());
  Closure closure;
  for (size_t i = log_.size(); i-- > 0;) {
    bool touches = std::any_of(log_[i].changes.begin(), log_[i].changes.end(),
                               [&](const NameChange& change) { return change.directory == directory; });
    if (!touches && !closure.needs(log_[i])) continue;
    kept[i] = true;
    closure.add(log_[i]);
  }
  settle(kept, false);
  if (auto it = inodes_.find(directory); it != inodes_.end()) it->second.durableAttributes = it->second.attributes;
}

void FakeImage::syncAll() {
  settle(std::vector<bool>(log_.size(), true), false);
  for (auto& [number, inode] : inodes_) syncFile(inode, true);
}

void FakeImage::read(const FakeInode& inode, uint64_t offset, std::span<std::byte> dst) const {
  for (size_t done = 0; done < dst.size();) {
    uint64_t index = (offset + done) / kFakeBlockBytes;
    size_t within = size_t((offset + done) % kFakeBlockBytes);
    size_t piece = std::min(dst.size() - done, kFakeBlockBytes - within);
    auto it = inode.blocks.find(index);
    if (it == inode.blocks.end()) memset(dst.data() + done, 0, piece);
    else memcpy(dst.data() + done, it->second->data() + within, piece);
    done += piece;
  }
}

// All changes of blocks go through here, so that what was durable is remembered.
void FakeImage::setBlock(FakeInode& inode, uint64_t index, FakeBlockRef block) {
  auto it = inode.blocks.find(index);
  FakeBlockRef before = it == inode.blocks.end() ? nullptr : it->second;
  if (auto lost = inode.lost.find(index); lost != inode.lost.end()) {
    inode.dirty.emplace(index, lost->second);
    inode.lost.erase(lost);
  } else {
    inode.dirty.emplace(index, before);
  }
  if (before && !block) usedBytes -= kFakeBlockBytes;
  if (!before && block) usedBytes += kFakeBlockBytes;
  if (block) inode.blocks[index] = std::move(block);
  else if (it != inode.blocks.end()) inode.blocks.erase(it);
}

FakeBlock* FakeImage::writable(FakeInode& inode, uint64_t index) {
  auto it = inode.blocks.find(index);
  if (it == inode.blocks.end()) {
    if (usedBytes + kFakeBlockBytes > capacityBytes) return nullptr;
    setBlock(inode, index, std::make_shared<FakeBlock>());
    it = inode.blocks.find(index);
  } else if (it->second.use_count() > 1 || !inode.dirty.count(index)) {
    setBlock(inode, index, std::make_shared<FakeBlock>(*it->second));
    it = inode.blocks.find(index);
  }
  return it->second.get();
}

bool FakeImage::write(FakeInode& inode, uint64_t offset, std::span<const std::byte> src) {
  for (size_t done = 0; done < src.size();) {
    size_t within = size_t((offset + done) % kFakeBlockBytes);
    size_t piece = std::min(src.size() - done, kFakeBlockBytes - within);
    FakeBlock* block = writable(inode, (offset + done) / kFakeBlockBytes);
    if (!block) return false;
    memcpy(block->data() + within, src.data() + done, piece);
    done += piece;
    if (offset + done >= inode.sizeBytes) {  // Its last page goes to the disk once more, and the size with it.
      inode.sizeBytes = offset + done;
      inode.sizeLost = false;
    }
  }
  return true;
}

bool FakeImage::reserve(FakeInode& inode, uint64_t offset, uint64_t length) {
  for (uint64_t index = offset / kFakeBlockBytes; index < blocksFor(offset + length); ++index)
    if (!inode.blocks.count(index) && !writable(inode, index)) return false;
  return true;
}

void FakeImage::resize(FakeInode& inode, uint64_t sizeBytes) {
  if (sizeBytes != inode.sizeBytes) inode.sizeLost = false;
  if (sizeBytes < inode.sizeBytes) {
    // The first is what is durable; of those between, the latest will do.
    if (inode.earlier.size() >= kEarlierMax) inode.earlier.erase(inode.earlier.begin() + 1);
    inode.earlier.push_back({inode.blocks, inode.dirty, inode.lost, inode.sizeBytes, inode.durableSizeBytes});
    uint64_t end = blocksFor(sizeBytes);
    auto cut = inode.blocks.lower_bound(end);
    usedBytes -= kFakeBlockBytes * uint64_t(std::distance(cut, inode.blocks.end()));
    inode.blocks.erase(cut, inode.blocks.end());
    inode.dirty.erase(inode.dirty.lower_bound(end), inode.dirty.end());
    inode.lost.erase(inode.lost.lower_bound(end), inode.lost.end());
    inode.durableSizeBytes = std::min(inode.durableSizeBytes, sizeBytes);
    size_t tail = size_t(sizeBytes % kFakeBlockBytes);
    uint64_t last = sizeBytes / kFakeBlockBytes;
    if (tail && inode.blocks.count(last)) {
      FakeBlock* block = writable(inode, last);
      memset(block->data() + tail, 0, kFakeBlockBytes - tail);
    }
  }
  inode.sizeBytes = sizeBytes;
}

void FakeImage::punch(FakeInode& inode, uint64_t offset, uint64_t length) {
  uint64_t end = std::min(offset + length, blocksFor(inode.sizeBytes) * kFakeBlockBytes);
  for (uint64_t at = offset; at < end;) {
    uint64_t index = at / kFakeBlockBytes;
    uint64_t within = at % kFakeBlockBytes;
    uint64_t piece = std::min(end - at, kFakeBlockBytes - within);
    if (inode.blocks.count(index)) {
      if (piece == kFakeBlockBytes) setBlock(inode, index, nullptr);
      else memset(writable(inode, index)->data() + within, 0, size_t(piece));
    }
    at += piece;
  }
}

void FakeImage::syncFile(FakeInode& inode, bool attributes) {
  inode.dirty.clear();
  if (!inode.sizeLost) {
    inode.durableSizeBytes = inode.sizeBytes;
    inode.earlier.clear();
  }
  if (attributes) inode.durableAttributes = inode.attributes;
}

void FakeImage::failSync(FakeInode& inode) {
  inode.lost.merge(inode.dirty);
  inode.dirty.clear();
  inode.sizeLost = inode.sizeBytes != inode.durableSizeBytes || !inode.earlier.empty();
}

void FakeImage::failSyncAll() {
  for (auto& [number, inode] : inodes_) {
    const bool unwritten = !inode.dirty.empty() || inode.sizeBytes != inode.durableSizeBytes || !inode.earlier.empty();
    if (inode.type != FileStat::Type::File || !unwritten || inode.sizeLost) continue;
    failSync(inode);
    inode.lossUntold = true;
  }
}

void FakeImage::crashBytes(FakeInode& inode, Random& random) {
  if (size_t which = size_t(below(random, inode.earlier.size() + 1)); which < inode.earlier.size()) {
    FakeInode::Earlier& then = inode.earlier[which];
    inode.blocks = std::move(then.blocks);
    inode.dirty = std::move(then.dirty);
    inode.lost = std::move(then.lost);
    inode.sizeBytes = then.sizeBytes;
    inode.durableSizeBytes = then.durableSizeBytes;
  }
  inode.earlier.clear();
  inode.dirty.merge(inode.lost);
  inode.lost.clear();
  uint64_t live = inode.sizeBytes, durable = inode.durableSizeBytes;
  uint64_t size = live;
  switch (below(random, 3)) {
    case 0: size = durable; break;
    case 1: break;
    default:
      size = durable + below(random, live - durable + 1);
      size -= std::min(size - durable, size % kFakeBlockBytes);
  }
  static const FakeBlock zeros{};
  uint64_t fate = below(random, 3);  // 0: all old, 1: all new, 2: each for itself
  for (auto& [index, before] : inode.dirty) {
    auto it = inode.blocks.find(index);
    FakeBlockRef now = it == inode.blocks.end() ? nullptr : it->second;
    bool takeNew = fate == 1 || (fate == 2 && below(random, 2) == 0);
    bool torn = fate == 2 && below(random, 8) == 0;
    if (!torn) {
      const FakeBlockRef& taken = takeNew ? now : before;
      if (taken) inode.blocks[index] = taken;
      else inode.blocks.erase(index);
      continue;
    }
    auto mixed = std::make_shared<FakeBlock>();
    for (size_t sector = 0; sector < kFakeBlockBytes; sector += kFakeSectorBytes) {
      const FakeBlockRef& from = below(random, 2) == 0 ? now : before;
      memcpy(mixed->data() + sector, (from ? *from : zeros).data() + sector, kFakeSectorBytes);
    }
    inode.blocks[index] = std::move(mixed);
  }
  inode.dirty.clear();
  inode.blocks.erase(inode.blocks.lower_bound(blocksFor(size)), inode.blocks.end());
  if (size_t tail = size_t(size % kFakeBlockBytes); tail && inode.blocks.count(size / kFakeBlockBytes)) {
    auto& last = inode.blocks[size / kFakeBlockBytes];
    last = std::make_shared<FakeBlock>(*last);
    memset(last->data() + tail, 0, kFakeBlockBytes - tail);
  }
  inode.sizeBytes = inode.durableSizeBytes = size;
  inode.sizeLost = inode.lossUntold = false;
}

void FakeImage::crash(Random& random, bool processOnly) {
  std::vector<bool> kept(log_.size());
  if (below(random, 2) == 0) {
    // As a journal does it: up to some point.
    std::fill(kept.begin(), kept.begin() + long(below(random, log_.size() + 1)), true);
  } else {
    Closure closure;
    uint64_t odds = 1 + below(random, 4);
    for (size_t i = log_.size(); i-- > 0;) {
      if (!closure.needs(log_[i]) && below(random, odds) != 0) continue;
      kept[i] = true;
      closure.add(log_[i]);
    }
  }
  dropHandles();
  settle(kept, true);
  for (auto& [number, inode] : inodes_) {
    inode.names.clear();
    inode.entries = inode.durableEntries;
    if (below(random, 2) == 0) inode.attributes = inode.durableAttributes;
    inode.durableAttributes = inode.attributes;
    if (!processOnly || (inode.lost.empty() && !inode.sizeLost)) crashBytes(inode, random);
  }
  dropUnreachable();
}

void FakeImage::dropUnreachable() {
  std::set<uint64_t> reached{kRoot};
  std::vector<uint64_t> todo{kRoot};
  while (!todo.empty()) {
    uint64_t directory = todo.back();
    todo.pop_back();
    for (auto& [name, number] : at(directory).entries) {
      at(number).names.insert({directory, name});
      if (reached.insert(number).second) todo.push_back(number);
    }
  }
  usedBytes = 0;
  for (auto it = inodes_.begin(); it != inodes_.end();) {
    if (reached.count(it->first)) {
      it->second.durableNames = uint32_t(it->second.names.size());
      usedBytes += it->second.allocatedBytes();
      ++it;
    } else {
      freed_.insert(it->first);
      it = inodes_.erase(it);
    }
  }
}

void FakeImage::dropHandles() {
  std::vector<uint64_t> held;
  for (auto& [number, inode] : inodes_) {
    if (inode.handles) held.push_back(number);
    inode.handles = inode.writers = 0;
  }
  for (uint64_t number : held) release(number);
}

uint64_t FakeImage::fileHandles() const {
  uint64_t count = 0;
  for (auto& [number, inode] : inodes_)
    if (inode.type == FileStat::Type::File) count += inode.handles;
  return count;
}

void FakeImage::renumber(int64_t nowNs) {
  syncAll();
  dropHandles();
  std::map<uint64_t, uint64_t> renamed{{kRoot, kRoot}};
  for (auto& [number, inode] : inodes_)
    if (number != kRoot) renamed[number] = nextInode_++;
  std::map<uint64_t, FakeInode> out;
  for (auto& [number, inode] : inodes_) {
    inode.number = renamed.at(number);
    if (number != kRoot) inode.birthNs = inode.ctimeNs = nowNs;
    for (auto& [name, child] : inode.entries) child = renamed.at(child);
    inode.durableEntries = inode.entries;
    std::set<std::pair<uint64_t, std::string>> names;
    for (auto& [directory, name] : inode.names) names.insert({renamed.at(directory), name});
    inode.names = std::move(names);
    out.emplace(inode.number, std::move(inode));
  }
  inodes_ = std::move(out);
}

void FakeImage::setDevice(uint64_t directory, uint64_t device) {
  at(directory).device = device;
  for (auto& [name, child] : at(directory).entries) setDevice(child, device);
}

}  // namespace realize::test
