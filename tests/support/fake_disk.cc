#include "tests/support/fake_disk.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "librealize/base/posix_disk.h"
#include "tests/support/fake_state.h"

namespace realize::test {
namespace {

// A hook's own operations are those of another process: not hooked, so that it cannot call itself for ever.
thread_local int hookDepth = 0;

std::string relative(const std::string& absolutePath) {
  size_t start = absolutePath.find_first_not_of('/');
  if (start == std::string::npos) return "";
  size_t end = absolutePath.find_last_not_of('/');
  return absolutePath.substr(start, end - start + 1);
}

void dumpInto(const FakeImage& image, uint64_t directory, const std::string& path, std::string& out) {
  for (auto& [name, number] : image.at(directory).entries) {
    const FakeInode& inode = image.at(number);
    std::string here = path + "/" + name;
    char line[64];
    switch (inode.type) {
      case FileStat::Type::Directory:
        snprintf(line, sizeof(line), " dir %o\n", inode.attributes.mode);
        out += here + line;
        dumpInto(image, number, here, out);
        break;
      case FileStat::Type::Symlink: out += here + " -> " + inode.target + "\n"; break;
      case FileStat::Type::Other: out += here + " special\n"; break;
      case FileStat::Type::File: {
        uint64_t hash = 1469598103934665603u;  // FNV-1a
        Bytes bytes(size_t(std::min<uint64_t>(inode.sizeBytes, 1 << 20)));
        image.read(inode, 0, bytes);
        for (std::byte b : bytes) hash = (hash ^ uint64_t(b)) * 1099511628211u;
        snprintf(line, sizeof(line), " file %o %llu bytes ", inode.attributes.mode,
                 static_cast<unsigned long long>(inode.sizeBytes));
        out += here + line;
        if (bytes.size() <= 40) {
          out += "'" + std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) + "'\n";
        } else {
          snprintf(line, sizeof(line), "#%016llx\n", static_cast<unsigned long long>(hash));
          out += line;
        }
      }
    }
  }
}

}  // namespace

bool FakeCall::changes() const {
  switch (op) {
    case FakeOp::Create: case FakeOp::MakeDirectory: case FakeOp::MakeSymlink: case FakeOp::HardLink: case FakeOp::Unlink:
    case FakeOp::RemoveDirectory: case FakeOp::Rename: case FakeOp::SetMode: case FakeOp::SetTimes:
    case FakeOp::SetOwner: case FakeOp::SetXattr: case FakeOp::RemoveXattr: case FakeOp::SyncDirectory:
    case FakeOp::SyncAll: case FakeOp::Write: case FakeOp::Truncate: case FakeOp::FileSync: case FakeOp::Allocate:
    case FakeOp::PunchHole: case FakeOp::CloneRange:
      return true;
    case FakeOp::Stat: case FakeOp::Open: case FakeOp::OpenDirectory: case FakeOp::List: case FakeOp::ReadSymlink:
    case FakeOp::GetXattr: case FakeOp::ListXattrs: case FakeOp::Space: case FakeOp::Read: case FakeOp::FileStat:
    case FakeOp::Seek: case FakeOp::NobodyWrites: case FakeOp::Watch:
      return false;
  }
  return false;
}

Result<void> FakeState::enter(const FakeCall& call, uint64_t handleGeneration, bool* injected) {
  FakeDisk::Hook now;
  {
    std::lock_guard lock(mutex);
    if (hookDepth == 0) now = hook;
  }
  if (now) {
    ++hookDepth;
    auto answer = now(call);
    --hookDepth;
    if (answer) {
      if (injected) *injected = true;
      return *answer;
    }
  }
  std::lock_guard lock(mutex);
  if (handleGeneration != generation) return Error{Code::Io, call.path + ": opened before the power was cut"};
  if (offBefore && call.changes() && changes + 1 == offBefore) off = true;
  if (off) return Error{Code::Io, call.path + ": the power is off"};
  ++calls[size_t(call.op)];
  if (call.changes()) ++changes;
  for (Failure& failure : failures) {
    if (failure.op != call.op || failure.times == 0) continue;
    if (call.path.find(failure.path) == std::string::npos && call.path2.find(failure.path) == std::string::npos) continue;
    if (failure.skip > 0) {
      --failure.skip;
      continue;
    }
    --failure.times;
    if (injected) *injected = true;
    return Error{failure.code, call.path + ": injected"};
  }
  return {};
}

Result<void> FakeState::may(const FakeInode& inode, uint32_t bit) const {
  if (enforce && !(inode.attributes.mode & bit)) return Error{Code::PermissionDenied, "not permitted by the mode"};
  return {};
}

Result<FakeState::Place> FakeState::place(uint64_t base, const std::string& path) {
  REALIZE_TRY(checkBeneath(path));
  if (path.empty()) return Error{Code::InvalidArgument, "the directory itself cannot be changed through itself"};
  uint64_t directory = base;
  for (size_t start = 0;;) {
    size_t end = std::min(path.find('/', start), path.size());
    std::string name = path.substr(start, end - start);
    const FakeInode& inode = image.at(directory);
    if (inode.type == FileStat::Type::Symlink) return Error{Code::PermissionDenied, path + ": a symlink on the way"};
    if (inode.type != FileStat::Type::Directory) return Error{Code::NotDirectory, path + ": not a directory"};
    REALIZE_TRY(may(inode, 0100));
    if (name.size() > 255) return Error{Code::NameTooLong, path + ": a name over 255 bytes"};
    auto it = inode.entries.find(name);
    uint64_t found = it == inode.entries.end() ? 0 : it->second;
    if (end == path.size()) {
      // A removed directory takes no new names; it has no old ones.
      if (directory != FakeImage::kRoot && inode.names.empty()) return Error{Code::NotFound, path + ": the directory is gone"};
      return Place{directory, std::move(name), found};
    }
    if (!found) return Error{Code::NotFound, path + ": no such name"};
    directory = found;
    start = end + 1;
  }
}

Result<uint64_t> FakeState::resolve(uint64_t base, const std::string& path) {
  if (path.empty()) return base;
  REALIZE_ASSIGN(Place at, place(base, path));
  if (!at.inode) return Error{Code::NotFound, path + ": no such name"};
  return at.inode;
}

uint64_t FakeState::resolveAbsolute(const std::string& path) {
  auto found = resolve(FakeImage::kRoot, relative(path));
  if (!found.ok()) abort();  // A test names what is not there.
  return *found;
}

FileStat FakeState::statOf(const FakeInode& inode) const {
  FileStat s;
  s.type = inode.type;
  s.device = inode.device;
  s.inode = inode.number;
  s.birthNs = inode.birthNs;
  s.mtimeNs = inode.attributes.mtimeNs;
  s.ctimeNs = inode.ctimeNs;
  s.atimeNs = inode.atimeNs;
  s.mode = inode.attributes.mode;
  s.uid = inode.attributes.uid;
  s.gid = inode.attributes.gid;
  s.links = uint32_t(inode.names.size());
  switch (inode.type) {
    case FileStat::Type::File:
      s.sizeBytes = inode.sizeBytes;
      s.allocatedBytes = inode.allocatedBytes();
      break;
    case FileStat::Type::Symlink: s.sizeBytes = inode.target.size(); break;
    case FileStat::Type::Directory:
      s.sizeBytes = s.allocatedBytes = kFakeBlockBytes;
      s.links = 2;
      for (auto& [name, child] : inode.entries) s.links += image.at(child).type == FileStat::Type::Directory;
      break;
    case FileStat::Type::Other: break;
  }
  return s;
}

void FakeState::tellName(uint64_t directory, const std::string& name) {
  if (mute) return;
  for (FakeWatcher* watcher : watchers) fakeTell(*watcher, directory, name);
}

void FakeState::tellInode(uint64_t number, const Place& used) {
  const FakeInode& inode = image.at(number);
  if (inode.names.contains({used.directory, used.name})) tellName(used.directory, used.name);
  else for (auto& [directory, name] : inode.names) tellName(directory, name);
  if (inode.type == FileStat::Type::Directory) tellName(number, "");
}

void FakeState::tellGone(uint64_t inode) {
  tellName(inode, "");
  for (FakeWatcher* watcher : watchers) fakeForget(*watcher, inode);
}

void FakeState::tellMoved(uint64_t inode) { tellName(inode, ""); }

void FakeState::newGeneration() {
  ++generation;
  off = false;
  offBefore = 0;
}

FakeDisk::FakeDisk(Clock& clock, uint64_t device) : FakeDisk(clock, FakeImage(device)) {}

FakeDisk::FakeDisk(Clock& clock, const FakeImage& image) : state_(std::make_shared<FakeState>(clock, image)) {
  state_->image.dropHandles();
}

FakeDisk::~FakeDisk() = default;

Result<std::unique_ptr<Directory>> FakeDisk::openRoot(const std::string& absolutePath) {
  if (absolutePath.empty() || absolutePath[0] != '/')
    return Error{Code::InvalidArgument, "'" + absolutePath + "': not an absolute path"};
  uint64_t generation;
  {
    std::lock_guard lock(state_->mutex);
    generation = state_->generation;
  }
  REALIZE_TRY(state_->enter({FakeOp::OpenDirectory, absolutePath, ""}, generation));
  std::lock_guard lock(state_->mutex);
  REALIZE_ASSIGN(uint64_t inode, state_->resolve(FakeImage::kRoot, relative(absolutePath)));
  if (state_->image.at(inode).type != FileStat::Type::Directory)
    return Error{Code::NotDirectory, absolutePath + ": not a directory"};
  std::string path = relative(absolutePath);
  return openFakeDirectory(state_, inode, path.empty() ? "" : "/" + path);
}

void FakeDisk::makeFolder(const std::string& absolutePath) {
  std::lock_guard lock(state_->mutex);
  std::string path = relative(absolutePath);
  for (size_t end = 0; end < path.size();) {
    end = std::min(path.find('/', end + 1), path.size());
    auto at = state_->place(FakeImage::kRoot, path.substr(0, end));
    if (!at.ok()) abort();
    if (!at->inode)
      state_->image.create(at->directory, at->name, FileStat::Type::Directory, 0755, state_->clock.nowNs());
  }
  state_->image.syncAll();
}

void FakeDisk::setHook(Hook hook) {
  std::lock_guard lock(state_->mutex);
  state_->hook = std::move(hook);
}

void FakeDisk::fail(FakeOp op, std::string path, Code code, int skip, int times) {
  std::lock_guard lock(state_->mutex);
  state_->failures.push_back({op, std::move(path), code, skip, times});
}

void FakeDisk::clearFailures() {
  std::lock_guard lock(state_->mutex);
  state_->failures.clear();
}

void FakeDisk::powerOff() {
  std::lock_guard lock(state_->mutex);
  state_->off = true;
}

void FakeDisk::powerOffBefore(uint64_t n) {
  std::lock_guard lock(state_->mutex);
  state_->offBefore = state_->changes + n;
}

bool FakeDisk::isPowerOff() const {
  std::lock_guard lock(state_->mutex);
  return state_->off;
}

bool FakeDisk::hasLost(const std::string& absolutePath) const {
  std::lock_guard lock(state_->mutex);
  const auto& inode = state_->image.at(state_->resolveAbsolute(absolutePath));
  return !inode.lost.empty() || inode.sizeLost;
}

bool FakeDisk::owesFailure() const {
  std::lock_guard lock(state_->mutex);
  return state_->syncsFailedTold != state_->syncsFailed;
}

void FakeDisk::crash(Random& random, bool processOnly) {
  std::lock_guard lock(state_->mutex);
  state_->image.crash(random, processOnly);
  state_->newGeneration();
}

void FakeDisk::settle() {
  std::lock_guard lock(state_->mutex);
  state_->image.syncAll();
}

void FakeDisk::setFreeBytes(uint64_t bytes) {
  std::lock_guard lock(state_->mutex);
  state_->image.capacityBytes = state_->image.usedBytes + bytes;
}

void FakeDisk::enforcePermissions(bool on) {
  std::lock_guard lock(state_->mutex);
  state_->enforce = on;
}

void FakeDisk::reuseInodes(bool on) {
  std::lock_guard lock(state_->mutex);
  state_->image.reuseInodes = on;
}

void FakeDisk::setDevice(const std::string& absolutePath, uint64_t device) {
  std::lock_guard lock(state_->mutex);
  state_->image.setDevice(state_->resolveAbsolute(absolutePath), device);
}

void FakeDisk::supportLeases(bool on) {
  std::lock_guard lock(state_->mutex);
  state_->leases = on;
}

void FakeDisk::hardLink(const std::string& from, const std::string& to) {
  if (!state_->enter({FakeOp::HardLink, from, to}, state_->generation).ok()) return;
  std::lock_guard lock(state_->mutex);
  uint64_t inode = state_->resolveAbsolute(from);
  auto at = state_->place(FakeImage::kRoot, relative(to));
  if (!at.ok() || at->inode) abort();
  state_->image.link(at->directory, at->name, inode, state_->clock.nowNs());
  state_->tellName(at->directory, at->name);
}

void FakeDisk::makeSpecial(const std::string& absolutePath) {
  std::lock_guard lock(state_->mutex);
  auto at = state_->place(FakeImage::kRoot, relative(absolutePath));
  if (!at.ok() || at->inode) abort();
  state_->image.create(at->directory, at->name, FileStat::Type::Other, 0644, state_->clock.nowNs());
  state_->tellName(at->directory, at->name);
}

FakeImage FakeDisk::snapshot() const {
  std::lock_guard lock(state_->mutex);
  return state_->image;
}

void FakeDisk::restore(const FakeImage& image, bool newInodes) {
  std::lock_guard lock(state_->mutex);
  state_->image = image;
  state_->image.dropHandles();
  if (newInodes) state_->image.renumber(state_->clock.nowNs());
  state_->newGeneration();
}

std::unique_ptr<Watcher> FakeDisk::watch(const std::string& absolutePath) {
  std::lock_guard lock(state_->mutex);
  return openFakeWatcher(state_, state_->resolveAbsolute(absolutePath), absolutePath);
}

void FakeDisk::overflowWatchers() {
  std::lock_guard lock(state_->mutex);
  for (FakeWatcher* watcher : state_->watchers) fakeOverflow(*watcher);
}

void FakeDisk::breakWatchers() {
  std::lock_guard lock(state_->mutex);
  for (FakeWatcher* watcher : state_->watchers) fakeBreak(*watcher);
}

void FakeDisk::muteWatchers(bool on) {
  std::lock_guard lock(state_->mutex);
  state_->mute = on;
}

void FakeDisk::setWatchLimit(size_t directories) {
  std::lock_guard lock(state_->mutex);
  state_->watchLimit = directories;
}

uint64_t FakeDisk::changeCount() const {
  std::lock_guard lock(state_->mutex);
  return state_->changes;
}

uint64_t FakeDisk::callCount(FakeOp op) const {
  std::lock_guard lock(state_->mutex);
  return state_->calls[size_t(op)];
}

uint64_t FakeDisk::openHandles() const {
  std::lock_guard lock(state_->mutex);
  return state_->image.fileHandles();
}

std::string FakeDisk::dump(const std::string& absolutePath) const {
  std::lock_guard lock(state_->mutex);
  std::string out;
  dumpInto(state_->image, state_->resolveAbsolute(absolutePath), "", out);
  return out;
}

}  // namespace realize::test
