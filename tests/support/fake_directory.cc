#include <sys/xattr.h>

#include <algorithm>

#include "tests/support/fake_state.h"

namespace realize::test {
namespace {

// Enters the operation, then holds the lock to the end of the function.
#define FAKE_ENTER(op, path, path2)                                            \
  REALIZE_TRY(state_->enter(FakeCall{op, shown(path), path2}, generation_));   \
  std::lock_guard lock(state_->mutex)

class FakeDirectory final : public Directory {
 public:
  FakeDirectory(std::shared_ptr<FakeState> state, uint64_t inode, std::string path)
      : state_(std::move(state)), generation_(state_->generation), inode_(inode), path_(std::move(path)) {
    ++image().at(inode_).handles;
  }
  ~FakeDirectory() override {
    std::lock_guard lock(state_->mutex);
    if (generation_ != state_->generation) return;
    --image().at(inode_).handles;
    image().release(inode_);
  }

  Result<FileStat> stat(const std::string& path) override {
    FAKE_ENTER(FakeOp::Stat, path, "");
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(inode_, path));
    return state_->statOf(image().at(inode));
  }

  Result<std::unique_ptr<DiskFile>> open(const std::string& path, OpenMode mode, uint32_t permissions) override;

  Result<std::unique_ptr<Directory>> openDirectory(const std::string& path) override {
    FAKE_ENTER(FakeOp::OpenDirectory, path, "");
    REALIZE_ASSIGN(uint64_t inode, directoryAt(path));
    return openFakeDirectory(state_, inode, shown(path));
  }

  Result<std::vector<DirectoryItem>> list(const std::string& path) override {
    FAKE_ENTER(FakeOp::List, path, "");
    REALIZE_ASSIGN(uint64_t directory, directoryAt(path));
    const FakeInode& inode = image().at(directory);
    REALIZE_TRY(state_->mayRead(inode));
    auto search = state_->may(inode, 0100);
    std::vector<DirectoryItem> items;
    for (auto& [name, child] : inode.entries) {
      DirectoryItem item;
      item.name = name;
      if (search.ok()) item.stat = state_->statOf(image().at(child));
      else item.failed = search.error();
      items.push_back(std::move(item));
    }
    return items;
  }

  Result<void> makeDirectory(const std::string& path, uint32_t permissions) override {
    FAKE_ENTER(FakeOp::MakeDirectory, path, "");
    return make(path, FileStat::Type::Directory, permissions & 07777, "");
  }

  Result<void> makeSymlink(const std::string& path, const std::string& target) override {
    FAKE_ENTER(FakeOp::MakeSymlink, path, "");
    if (target.empty() || target.find('\0') != std::string::npos) return Error{Code::InvalidArgument, path};
    return make(path, FileStat::Type::Symlink, 0777, target);
  }

  Result<std::string> readSymlink(const std::string& path) override {
    FAKE_ENTER(FakeOp::ReadSymlink, path, "");
    REALIZE_ASSIGN(FakeState::Place at, placeOf(path));
    if (!at.inode) return gone(path);
    if (image().at(at.inode).type != FileStat::Type::Symlink) return Error{Code::InvalidArgument, path + ": no symlink"};
    return image().at(at.inode).target;
  }

  Result<void> unlink(const std::string& path) override {
    FAKE_ENTER(FakeOp::Unlink, path, "");
    REALIZE_ASSIGN(FakeState::Place at, placeOf(path));
    if (!at.inode) return gone(path);
    if (image().at(at.inode).type == FileStat::Type::Directory) return Error{Code::IsDirectory, path + ": a directory"};
    return drop(at);
  }

  Result<void> removeDirectory(const std::string& path) override {
    FAKE_ENTER(FakeOp::RemoveDirectory, path, "");
    REALIZE_ASSIGN(FakeState::Place at, placeOf(path));
    if (!at.inode) return gone(path);
    const FakeInode& inode = image().at(at.inode);
    if (inode.type != FileStat::Type::Directory) return Error{Code::NotDirectory, path + ": not a directory"};
    if (!inode.entries.empty()) return Error{Code::NotEmpty, path + ": not empty"};
    return drop(at);
  }

  Result<void> rename(const std::string& from, const std::string& to, RenameKind kind) override {
    return renameInto(from, *this, to, kind);
  }
  Result<void> renameInto(const std::string& from, Directory& directory, const std::string& to, RenameKind kind) override;

  Result<void> setMode(const std::string& path, uint32_t mode) override {
    FAKE_ENTER(FakeOp::SetMode, path, "");
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(inode_, path));
    if (image().at(inode).type == FileStat::Type::Symlink) return Error{Code::Unsupported, path + ": a symlink"};
    image().at(inode).attributes.mode = mode & 07777;
    return touched(inode, path);
  }

  Result<void> setTimes(const std::string& path, int64_t mtimeNs) override {
    FAKE_ENTER(FakeOp::SetTimes, path, "");
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(inode_, path));
    image().at(inode).attributes.mtimeNs = mtimeNs;
    return touched(inode, path);
  }

  Result<void> setOwner(const std::string& path, int64_t uid, int64_t gid) override {
    FAKE_ENTER(FakeOp::SetOwner, path, "");
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(inode_, path));
    if (uid >= 0) image().at(inode).attributes.uid = uint32_t(uid);
    if (gid >= 0) image().at(inode).attributes.gid = uint32_t(gid);
    return touched(inode, path);
  }

  Result<std::string> getXattr(const std::string& path, const std::string& name) override {
    FAKE_ENTER(FakeOp::GetXattr, path, "");
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(inode_, path));
    REALIZE_TRY(state_->mayRead(image().at(inode)));
    auto& xattrs = image().at(inode).attributes.xattrs;
    auto it = xattrs.find(name);
    if (it == xattrs.end()) return Error{Code::NotFound, path + ": no attribute " + name};
    return it->second;
  }

  Result<void> setXattr(const std::string& path, const std::string& name, const std::string& value,
                        int flags) override {
    FAKE_ENTER(FakeOp::SetXattr, path, "");
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(inode_, path));
    REALIZE_TRY(state_->mayWrite(image().at(inode)));
    auto& xattrs = image().at(inode).attributes.xattrs;
    if ((flags & XATTR_CREATE) && xattrs.count(name)) return Error{Code::Exists, path + ": has " + name};
    if ((flags & XATTR_REPLACE) && !xattrs.count(name)) return Error{Code::NotFound, path + ": has no " + name};
    xattrs[name] = value;
    return touched(inode, path);
  }

  Result<std::vector<std::string>> listXattrs(const std::string& path) override {
    FAKE_ENTER(FakeOp::ListXattrs, path, "");
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(inode_, path));
    std::vector<std::string> names;
    for (auto& [name, value] : image().at(inode).attributes.xattrs) names.push_back(name);
    return names;
  }

  Result<void> removeXattr(const std::string& path, const std::string& name) override {
    FAKE_ENTER(FakeOp::RemoveXattr, path, "");
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(inode_, path));
    REALIZE_TRY(state_->mayWrite(image().at(inode)));
    if (!image().at(inode).attributes.xattrs.erase(name)) return Error{Code::NotFound, path + ": has no " + name};
    return touched(inode, path);
  }

  Result<void> syncDirectory(const std::string& path) override {
    FAKE_ENTER(FakeOp::SyncDirectory, path, "");
    REALIZE_ASSIGN(uint64_t inode, directoryAt(path));
    image().syncNames(inode);
    return {};
  }

  Result<void> syncAll() override {
    bool injected = false;
    auto entered = state_->enter(FakeCall{FakeOp::SyncAll, shown(""), ""}, generation_, &injected);
    std::lock_guard lock(state_->mutex);
    if (injected && generation_ == state_->generation && !state_->off) image().failSyncAll();
    if (!entered.ok()) return entered;
    image().syncAll();
    const bool told = state_->syncsFailedTold == state_->syncsFailed;
    state_->syncsFailedTold = state_->syncsFailed;
    return told ? Result<void>() : Error{Code::Io, path_ + ": pages of a file could not be written before"};
  }

  Result<Space> space() override {
    FAKE_ENTER(FakeOp::Space, "", "");
    Space s;
    s.totalBytes = image().capacityBytes;
    s.freeBytes = s.availableBytes = image().capacityBytes - std::min(image().capacityBytes, image().usedBytes);
    s.totalInodes = 1'000'000'000;
    s.freeInodes = s.totalInodes - image().inodeCount();
    return s;
  }

  std::string displayPath() const override { return ""; }

 private:
  FakeImage& image() const { return state_->image; }
  int64_t now() const { return state_->clock.nowNs(); }
  std::string shown(const std::string& path) const { return path.empty() ? path_ : path_ + "/" + path; }
  static Error gone(const std::string& path) { return Error{Code::NotFound, path + ": no such name"}; }

  Result<FakeState::Place> placeOf(const std::string& path) { return state_->place(inode_, path); }
  Result<uint64_t> directoryAt(const std::string& path) {
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(inode_, path));
    FileStat::Type type = image().at(inode).type;
    if (type == FileStat::Type::Symlink) return Error{Code::PermissionDenied, path + ": a symlink"};
    if (type != FileStat::Type::Directory) return Error{Code::NotDirectory, path + ": not a directory"};
    return inode;
  }
  Result<void> make(const std::string& path, FileStat::Type type, uint32_t mode, const std::string& target) {
    REALIZE_ASSIGN(FakeState::Place at, placeOf(path));
    if (at.inode) return Error{Code::Exists, path + ": exists"};
    REALIZE_TRY(state_->mayWrite(image().at(at.directory)));
    uint64_t inode = image().create(at.directory, at.name, type, mode, now());
    image().at(inode).target = target;
    state_->tellName(at.directory, at.name);
    return {};
  }
  Result<void> drop(const FakeState::Place& at) {
    REALIZE_TRY(state_->mayWrite(image().at(at.directory)));
    if (image().at(at.inode).type == FileStat::Type::Directory) state_->tellGone(at.inode);
    image().remove(at.directory, at.name, now());
    state_->tellName(at.directory, at.name);
    return {};
  }
  Result<void> touched(uint64_t inode, const std::string& path) {
    image().at(inode).ctimeNs = now();
    const auto used = path.empty() ? Result<FakeState::Place>(FakeState::Place{}) : placeOf(path);
    state_->tellInode(inode, used.ok() ? *used : FakeState::Place{});
    return {};
  }
  bool isAbove(uint64_t above, uint64_t inode) const {
    while (inode != above) {
      const FakeInode& at = image().at(inode);
      if (at.names.empty()) return false;
      inode = at.names.begin()->first;
    }
    return true;
  }

  std::shared_ptr<FakeState> state_;
  uint64_t generation_;
  uint64_t inode_;
  std::string path_;
};

Result<std::unique_ptr<DiskFile>> FakeDirectory::open(const std::string& path, OpenMode mode, uint32_t permissions) {
  bool mayCreate = mode == OpenMode::CreateNew || mode == OpenMode::CreateOrOpen;
  FakeOp op = FakeOp::Open;
  if (mayCreate) {
    // Only what really creates counts as a change.
    std::lock_guard lock(state_->mutex);
    if (generation_ == state_->generation && state_->resolve(inode_, path).ok()) mayCreate = mode == OpenMode::CreateNew;
    if (mayCreate) op = FakeOp::Create;
  }
  FAKE_ENTER(op, path, "");
  if (path.empty()) return Error{Code::IsDirectory, path_ + ": a directory"};
  REALIZE_ASSIGN(FakeState::Place at, placeOf(path));
  bool write = mode != OpenMode::Read;
  if (!at.inode) {
    if (mode == OpenMode::Read || mode == OpenMode::ReadWrite) return gone(path);
    REALIZE_TRY(state_->mayWrite(image().at(at.directory)));
    at.inode = image().create(at.directory, at.name, FileStat::Type::File, permissions & 07777, now());
    state_->tellName(at.directory, at.name);
    return openFakeFile(state_, at, shown(path), write);
  }
  if (mode == OpenMode::CreateNew) return Error{Code::Exists, path + ": exists"};
  const FakeInode& inode = image().at(at.inode);
  switch (inode.type) {
    case FileStat::Type::File: break;
    case FileStat::Type::Directory: return Error{Code::IsDirectory, path + ": a directory"};
    case FileStat::Type::Symlink: return Error{Code::PermissionDenied, path + ": a symlink"};
    case FileStat::Type::Other: return Error{Code::Unsupported, path + ": a special file"};
  }
  REALIZE_TRY(state_->mayRead(inode));
  if (write) REALIZE_TRY(state_->mayWrite(inode));
  return openFakeFile(state_, at, shown(path), write);
}

Result<void> FakeDirectory::renameInto(const std::string& from, Directory& directory, const std::string& to, RenameKind kind) {
  auto& onto = dynamic_cast<FakeDirectory&>(directory);
  FAKE_ENTER(FakeOp::Rename, from, onto.shown(to));
  REALIZE_ASSIGN(FakeState::Place source, placeOf(from));
  REALIZE_ASSIGN(FakeState::Place target, onto.placeOf(to));
  if (!source.inode) return gone(from);
  if (image().at(source.directory).device != image().at(target.directory).device)
    return Error{Code::Unsupported, from + ": on another file system"};
  bool exchange = kind == RenameKind::Exchange;
  if (exchange && !target.inode) return gone(to);
  bool movesDirectory = image().at(source.inode).type == FileStat::Type::Directory;
  if (movesDirectory && isAbove(source.inode, target.directory)) return Error{Code::InvalidArgument, to + ": into itself"};
  if (target.inode) {
    if (kind == RenameKind::NoReplace) return Error{Code::Exists, to + ": exists"};
    const FakeInode& other = image().at(target.inode);
    bool overDirectory = other.type == FileStat::Type::Directory;
    bool ofAncestor = overDirectory && isAbove(target.inode, source.directory);
    if (exchange && ofAncestor) return Error{Code::InvalidArgument, from + ": into itself"};
    if (!exchange && source.inode != target.inode) {
      if (ofAncestor) return Error{Code::NotEmpty, to + ": not empty"};
      if (movesDirectory && !overDirectory) return Error{Code::NotDirectory, to + ": not a directory"};
      if (!movesDirectory && overDirectory) return Error{Code::IsDirectory, to + ": a directory"};
      if (overDirectory && !other.entries.empty()) return Error{Code::NotEmpty, to + ": not empty"};
    }
  }
  REALIZE_TRY(state_->mayWrite(image().at(source.directory)));
  REALIZE_TRY(state_->mayWrite(image().at(target.directory)));
  if (source.inode == target.inode) return {};
  if (movesDirectory) state_->tellMoved(source.inode);
  if (target.inode && image().at(target.inode).type == FileStat::Type::Directory) {
    if (exchange) state_->tellMoved(target.inode);
    else state_->tellGone(target.inode);
  }
  image().rename(source.directory, source.name, target.directory, target.name, exchange, now());
  state_->tellName(source.directory, source.name);
  state_->tellName(target.directory, target.name);
  return {};
}

}  // namespace

std::unique_ptr<Directory> openFakeDirectory(std::shared_ptr<FakeState> state, uint64_t inode, std::string path) {
  return std::make_unique<FakeDirectory>(std::move(state), inode, std::move(path));
}

}  // namespace realize::test
