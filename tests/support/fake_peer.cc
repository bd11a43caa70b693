#include "tests/support/fake_peer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/support/fake_file_system.h"

namespace realize::test {

namespace fs = std::filesystem;

namespace {

PeerKey keyOf(const std::string& name) {
  PeerKey key;
  for (size_t i = 0; i < key.size(); ++i) key.bytes[i] = static_cast<uint8_t>(i + (name.empty() ? 0 : name[i % name.size()]));
  return key;
}

Error errnoError(const std::string& path) {
  Code code = errno == ENOENT || errno == ENOTDIR ? Code::NotFound : Code::Io;
  return {code, path + ": " + std::strerror(errno)};
}

std::string joined(const std::string& folder, const std::string& path) {
  return path.empty() ? folder : folder + "/" + path;
}

int64_t nowNs() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

FakeArena::FakeArena(std::string name, std::string folder)
    : name_(std::move(name)), folder_(std::move(folder)), fileSystem_(std::make_unique<FakeFileSystem>(folder_)) {}
FakeArena::~FakeArena() = default;

ArenaId FakeArena::id() const {
  ArenaId id;
  id.bytes[0] = static_cast<uint8_t>(name_.size());
  return id;
}

FileSystem& FakeArena::fileSystem() { return *fileSystem_; }

Result<EntryInfo> FakeArena::stat(const std::string& path) {
  struct stat info {};
  if (folder_.empty() || lstat(joined(folder_, path).c_str(), &info) != 0) return errnoError(name_ + ":" + path);
  EntryInfo entry;
  entry.path = path;
  entry.node = fileSystem_->nodeOf(path);
  entry.id = std::to_string(entry.node);
  entry.kind = S_ISDIR(info.st_mode) ? EntryKind::Directory : S_ISLNK(info.st_mode) ? EntryKind::Symlink : EntryKind::File;
  entry.sizeBytes = entry.kind == EntryKind::File ? static_cast<uint64_t>(info.st_size) : 0;
  entry.mode = info.st_mode & 07777;
  entry.mtimeNs = static_cast<int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec;
  entry.real = true;
  std::lock_guard lock(mutex_);
  if (auto mark = marks_.find(path); mark != marks_.end()) entry.mark = mark->second;
  entry.effectiveMark = entry.mark;
  HeadInfo head;
  head.label = "abc-1";
  head.sizeBytes = entry.sizeBytes;
  head.peer = "fake";
  head.here = head.shown = true;
  entry.heads = {head};
  return entry;
}

Result<std::vector<EntryInfo>> FakeArena::list(const std::string& path) {
  REALIZE_ASSIGN(EntryInfo self, stat(path));
  std::vector<EntryInfo> out;
  if (self.kind != EntryKind::Directory) return std::vector<EntryInfo>{self};
  for (auto& item : fs::directory_iterator(joined(folder_, path))) {
    std::string name = item.path().filename().string();
    REALIZE_ASSIGN(EntryInfo entry, stat(path.empty() ? name : path + "/" + name));
    out.push_back(std::move(entry));
  }
  std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a.path < b.path; });
  return out;
}

Result<size_t> FakeArena::read(const std::string& path, uint64_t offset, std::span<std::byte> dst) {
  std::ifstream file(joined(folder_, path), std::ios::binary);
  if (!file) return errnoError(path);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(reinterpret_cast<char*>(dst.data()), static_cast<std::streamsize>(dst.size()));
  return static_cast<size_t>(file.gcount());
}

Result<void> FakeArena::fetch(const std::string& path, std::function<bool(const Progress&)> progress) {
  REALIZE_TRY(stat(path));
  bool endless = name_.starts_with("slow");
  constexpr uint64_t kSteps = 10;
  for (uint64_t i = 0; endless || i <= kSteps; ++i) {
    if (!progress({i * 100, endless ? 0 : kSteps * 100, i, kSteps})) return Error{Code::Cancelled, "cancelled"};
    if (endless) usleep(1000);
  }
  return {};
}

Result<void> FakeArena::mark(const std::string& path, Mark mark) {
  REALIZE_TRY(stat(path));
  std::lock_guard lock(mutex_);
  marks_[path] = mark;
  history_.insert(history_.begin(), {nowNs(), "fake", "mark", path, ""});
  return {};
}

Result<std::vector<EntryInfo>> FakeArena::conflicts() {
  std::vector<EntryInfo> out;
  if (name_ != "conflicted") return out;
  REALIZE_ASSIGN(auto entries, list(""));
  if (entries.empty()) return out;
  HeadInfo other = entries[0].heads[0];
  other.label = "def-2";
  other.peer = "other";
  other.here = other.shown = false;
  entries[0].heads.push_back(other);
  out.push_back(entries[0]);
  return out;
}

Result<void> FakeArena::resolve(const std::string& path, const std::string& label) {
  REALIZE_TRY(stat(path));
  if (!label.empty() && label != "abc-1" && label != "def-2")
    return Error{Code::NotFound, label + ": no version of this label"};
  return {};
}

Result<WhyReport> FakeArena::why(const std::string& path) {
  REALIZE_ASSIGN(auto entry, stat(path));
  WhyReport report;
  report.path = path;
  report.id = entry.id;
  report.shown = true;
  report.kind = entry.kind;
  report.versions = entry.heads;
  report.replaced = {std::string(64, 'e')};
  report.peers = {{"laptop", true, 5}, {"desktop", false, 0}};
  report.changes = {{nowNs(), "laptop", "edit", path, ""}};
  return report;
}

Result<VerifyReport> FakeArena::verify(std::function<bool(const Progress&)> progress) {
  VerifyReport report;
  report.files = 2;
  report.bytes = 300;
  if (progress) progress({300, 300, 2, 2});
  if (name_.starts_with("conflicted")) {
    report.damagedCount = 2;
    report.repairedCount = 1;
    report.damaged = {{"x", "folder", "repaired", ".realize/damaged/3~1-x", ""}, {"y", "folder", "left", "", "several versions"}};
  }
  return report;
}

Result<uint64_t> FakeArena::confirm(bool) { return uint64_t{3}; }

Result<std::vector<HistoryItem>> FakeArena::history(const std::string&, size_t limit) {
  std::lock_guard lock(mutex_);
  return std::vector<HistoryItem>(history_.begin(), history_.begin() + static_cast<long>(std::min(limit, history_.size())));
}

Result<ArenaStatus> FakeArena::status() {
  ArenaStatus out;
  out.name = name_;
  out.id = id();
  out.folder = folder_;
  out.consensus = name_.starts_with("ready");
  if (!out.consensus) out.consensusWhy = "nobody is connected";
  std::lock_guard lock(mutex_);
  out.mounts = mounts_;
  return out;
}

Result<uint64_t> FakeArena::shrinkCache(uint64_t bytes) { return bytes; }
Result<void> FakeArena::rescan() { return {}; }

Result<void> FakePeer::init(const std::string& stateDir, const InitOptions& options) {
  std::error_code failed;
  fs::create_directory(stateDir, failed);  // As the real one, not those above.
  if (failed) return Error{Code::NotFound, stateDir + ": " + failed.message()};
  if (fs::exists(stateDir + "/peer.db")) return Error{Code::Exists, stateDir + ": there is a peer here already"};
  chmod(stateDir.c_str(), 0700);
  std::ofstream(stateDir + "/peer.db") << options.name << "\n" << options.listen << "\n";
  return {};
}

Result<std::unique_ptr<Peer>> FakePeer::open(const std::string& stateDir) {
  std::ifstream file(stateDir + "/peer.db");
  if (!file) return Error{Code::NotFound, stateDir + ": no peer here; make one with 'realize init'"};
  if (getenv("REALIZE_FAKE_OPEN_FAILS")) return Error{Code::Corrupt, stateDir + "/peer.db: is damaged"};
  std::string name;
  std::string listen;
  std::getline(file, name);
  std::getline(file, listen);
  int lock = ::open((stateDir + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) != 0) {
    if (lock >= 0) close(lock);
    return Error{Code::AlreadyRunning, stateDir + ": another process uses this state folder"};
  }
  return std::unique_ptr<Peer>(new FakePeer(name, listen, stateDir, lock));
}

FakePeer::FakePeer(std::string name, std::string listen, std::string stateDir, int lockFd)
    : name_(std::move(name)), listen_(std::move(listen)), stateDir_(std::move(stateDir)), lockFd_(lockFd) {}

FakePeer::~FakePeer() {
  if (lockFd_ >= 0) close(lockFd_);
}

PeerInfo FakePeer::self() { return {keyOf(name_), name_, listen_, true}; }

std::vector<PeerInfo> FakePeer::peers() {
  std::lock_guard lock(mutex_);
  std::vector<PeerInfo> out = {self()};
  out.insert(out.end(), peers_.begin(), peers_.end());
  return out;
}

Result<std::string> FakePeer::invite(const InviteOptions& options) {
  return "code-" + std::to_string(options.lifetimeMs) + (options.allArenas ? "-all" : "") +
         (options.arenas.empty() ? "" : "-" + options.arenas[0]);
}

Result<std::vector<std::string>> FakePeer::join(const std::string& code) {
  if (code != "good-code") return Error{Code::Refused, "the invite is not valid (any more); ask for a new one"};
  return std::vector<std::string>{"offered"};
}

Result<void> FakePeer::addPeer(const std::string& name, const std::string& keyHex, const std::string& address) {
  if (keyHex.size() != 64) return Error{Code::InvalidArgument, keyHex + ": a key has 64 hexadecimal digits"};
  std::lock_guard lock(mutex_);
  peers_.push_back({keyOf(name), name, address, false});
  return {};
}

Result<void> FakePeer::removePeer(const std::string& nameOrKey) {
  std::lock_guard lock(mutex_);
  if (std::erase_if(peers_, [&](auto& peer) { return peer.name == nameOrKey; }) == 0)
    return Error{Code::NotFound, nameOrKey + ": no such peer"};
  return {};
}

Result<void> FakePeer::createArena(const std::string& name, const std::string& folder) {
  if (!folder.empty() && !fs::is_directory(folder)) return Error{Code::NotFound, folder + ": no such folder"};
  {
    std::lock_guard lock(mutex_);
    if (arenas_.contains(name)) return Error{Code::Exists, name + ": there is an arena of this name"};
    arenas_[name] = std::make_shared<FakeArena>(name, folder);
  }
  Event event;
  event.whenNs = nowNs();
  event.type = "arena";
  event.arena = name;
  emit(event);
  return {};
}

Result<void> FakePeer::joinArena(const std::string& name, const std::string& folder) {
  if (name != "offered") return Error{Code::NotFound, name + ": no connected peer offers it"};
  return createArena(name, folder);
}

Result<void> FakePeer::admit(const std::string&, const std::string& peer) {
  for (auto& known : peers())
    if (known.name == peer) return {};
  return Error{Code::NotFound, peer + ": no such peer"};
}

Result<void> FakePeer::withdraw(const std::string& arena, const std::string& peer) { return admit(arena, peer); }

Result<std::vector<std::string>> FakePeer::leaveArena(const std::string& name, bool force) {
  if (name == "precious" && !force) return Error{Code::Refused, name + ": has bytes that no other peer has"};
  std::lock_guard lock(mutex_);
  if (arenas_.erase(name) == 0) return Error{Code::NotFound, name + ": no such arena"};
  return std::vector<std::string>();
}

std::vector<std::string> FakePeer::arenaNames() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (auto& [name, arena] : arenas_) out.push_back(name);
  return out;
}

std::vector<std::string> FakePeer::offeredArenas() {
  std::lock_guard lock(mutex_);
  return arenas_.contains("offered") ? std::vector<std::string>{} : std::vector<std::string>{"offered"};
}

Result<std::shared_ptr<Arena>> FakePeer::arena(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto found = arenas_.find(name);
  if (found == arenas_.end()) return Error{Code::NotFound, name + ": no such arena"};
  return std::shared_ptr<Arena>(found->second);
}

Result<ArenaPath> FakePeer::resolvePath(const std::string& text) {
  std::lock_guard lock(mutex_);
  auto within = [&](const std::string& folder) -> std::optional<std::string> {
    if (folder.empty()) return std::nullopt;
    if (text == folder) return "";
    if (text.starts_with(folder + "/")) return text.substr(folder.size() + 1);
    return std::nullopt;
  };
  if (!text.starts_with("/")) {
    size_t colon = text.find(':');
    std::string name = text.substr(0, colon);
    if (colon == std::string::npos || !arenas_.contains(name)) return Error{Code::NotFound, text + ": no such arena"};
    return ArenaPath{name, text.substr(colon + 1)};
  }
  for (auto& [name, arena] : arenas_) {
    if (auto path = within(arena->folder())) return ArenaPath{name, *path};
    for (auto& mount : arena->mounts_)
      if (auto path = within(mount)) return ArenaPath{name, *path};
  }
  return Error{Code::NotFound, text + ": is in no arena and no mount"};
}

PeerStatus FakePeer::status() {
  PeerStatus out;
  out.self = self();
  out.pid = static_cast<int>(getpid());
  out.version = "fake";
  out.stateDir = stateDir_;
  out.listen = listen_;
  for (auto& peer : peers())
    if (!peer.self) {
      ConnectionStatus connection;
      connection.peer = peer;
      out.peers.push_back(connection);
    }
  std::vector<std::shared_ptr<FakeArena>> arenas;
  {
    std::lock_guard lock(mutex_);
    for (auto& [name, arena] : arenas_) arenas.push_back(arena);
  }
  for (auto& arena : arenas) out.arenas.push_back(*arena->status());
  return out;
}

Result<WaitOutcome> FakePeer::wait(const std::string& arena, int64_t timeoutMs) {
  if (arena.starts_with("ready")) return WaitOutcome{true, {}};
  usleep(static_cast<useconds_t>(std::min<int64_t>(timeoutMs, 20) * 1000));
  return WaitOutcome{false, {"no peer is connected"}};
}

std::vector<Setting> FakePeer::settings(const std::string& arena) {
  std::lock_guard lock(mutex_);
  std::string key = arena + ":rest_ms";
  return {{"rest_ms", settings_.contains(key) ? settings_[key] : "100", "100", "ms", "how long changes rest"}};
}

Result<void> FakePeer::set(const std::string& arena, const std::string& name, const std::string& value) {
  if (name != "rest_ms") return Error{Code::NotFound, name + ": no such setting"};
  if (value.find_first_not_of("0123456789") != std::string::npos)
    return Error{Code::InvalidArgument, value + ": a number of milliseconds is needed"};
  std::lock_guard lock(mutex_);
  settings_[arena + ":" + name] = value;
  return {};
}

std::shared_ptr<void> FakePeer::subscribe(std::function<void(const Event&)> sink) {
  std::lock_guard lock(mutex_);
  int id = ++lastSink_;
  sinks_[id] = std::move(sink);
  return std::shared_ptr<void>(nullptr, [this, id](void*) {
    std::lock_guard inner(mutex_);
    sinks_.erase(id);
  });
}

void FakePeer::emit(const Event& event) {
  std::lock_guard lock(mutex_);
  for (auto& [id, sink] : sinks_) sink(event);
}

void FakePeer::noteMount(const std::string& arenaName, const std::string& mountPoint, bool mounted) {
  std::lock_guard lock(mutex_);
  auto found = arenas_.find(arenaName);
  if (found == arenas_.end()) return;
  auto& mounts = found->second->mounts_;
  std::lock_guard inner(found->second->mutex_);
  std::erase(mounts, mountPoint);
  if (mounted) mounts.push_back(mountPoint);
}

}  // namespace realize::test
