#pragma once

// A Peer without a network or a store, for tests of what stands on the public API. An arena is a folder of real files
// that is read as it is now; everything else is plain fields that a test sets.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "realize/peer.h"

namespace realize::test {

/// Nodes are numbered by path on first sight. Reads; refuses all changes with Unsupported.
class FakeFileSystem;

class FakeArena : public Arena {
 public:
  FakeArena(std::string name, std::string folder);
  ~FakeArena() override;

  std::string name() const override { return name_; }
  ArenaId id() const override;
  std::string folder() const override { return folder_; }
  FileSystem& fileSystem() override;
  Result<EntryInfo> stat(const std::string& path) override;
  Result<std::vector<EntryInfo>> list(const std::string& path) override;
  Result<size_t> read(const std::string& path, uint64_t offset, std::span<std::byte> dst) override;
  Result<void> fetch(const std::string& path, std::function<bool(const Progress&)> progress) override;
  Result<void> mark(const std::string& path, Mark mark) override;
  Result<std::vector<EntryInfo>> conflicts() override;
  Result<void> resolve(const std::string& path, const std::string& label) override;
  Result<uint64_t> confirm(bool keep) override;
  Result<std::vector<HistoryItem>> history(const std::string& path, size_t limit) override;
  Result<WhyReport> why(const std::string& path) override;
  Result<ArenaStatus> status() override;
  Result<std::vector<UndoItem>> undoable(const std::string&, int64_t, size_t) override { return std::vector<UndoItem>(); }
  Result<UndoReport> undo(const UndoRequest&, bool, std::function<bool(const Progress&)>) override { return UndoReport(); }
  Result<uint64_t> shrinkCache(uint64_t bytes) override;
  Result<CacheStatus> cacheStatus() override { return CacheStatus(); }
  Result<VerifyReport> verify(std::function<bool(const Progress&)> progress) override;
  Result<void> rescan() override;

 private:
  friend class FakePeer;
  std::string name_;
  std::string folder_;
  std::mutex mutex_;
  std::map<std::string, Mark> marks_;
  std::vector<HistoryItem> history_;
  std::vector<std::string> mounts_;
  std::unique_ptr<FakeFileSystem> fileSystem_;
};

/// Words with a meaning: join("good-code") pairs, others are Refused; joinArena("offered") works, others are NotFound;
/// wait() is reached at once for arenas whose name starts with "ready", else never; an arena whose name starts with
/// "slow" fetches for ever, until cancelled; an arena "conflicted" has its first file in conflict.
class FakePeer : public Peer {
 public:
  /// As Peer::init and Peer::open, with a lock and the same errors. `REALIZE_FAKE_OPEN_FAILS` in the environment makes
  /// open() fail with Corrupt.
  static Result<void> init(const std::string& stateDir, const InitOptions& options);
  static Result<std::unique_ptr<Peer>> open(const std::string& stateDir);
  /// Without a state folder, for tests in one process.
  explicit FakePeer(std::string name = "fake", std::string listen = "", std::string stateDir = "", int lockFd = -1);
  ~FakePeer() override;

  PeerInfo self() override;
  std::vector<PeerInfo> peers() override;
  Result<std::string> invite(const InviteOptions& options) override;
  Result<std::vector<std::string>> join(const std::string& code) override;
  Result<void> addPeer(const std::string& name, const std::string& keyHex, const std::string& address) override;
  Result<void> removePeer(const std::string& nameOrKey) override;
  Result<void> createArena(const std::string& name, const std::string& folder) override;
  Result<void> joinArena(const std::string& name, const std::string& folder) override;
  Result<void> admit(const std::string& arena, const std::string& peer) override;
  Result<void> withdraw(const std::string& arena, const std::string& peer) override;
  Result<std::vector<std::string>> leaveArena(const std::string& name, bool force) override;
  std::vector<std::string> arenaNames() override;
  std::vector<std::string> offeredArenas() override;
  Result<std::shared_ptr<Arena>> arena(const std::string& name) override;
  Result<ArenaPath> resolvePath(const std::string& text) override;
  PeerStatus status() override;
  Result<WaitOutcome> wait(const std::string& arena, int64_t timeoutMs) override;
  std::vector<Setting> settings(const std::string& arena) override;
  Result<void> set(const std::string& arena, const std::string& name, const std::string& value) override;
  std::shared_ptr<void> subscribe(std::function<void(const Event&)> sink) override;
  void noteMount(const std::string& arena, const std::string& mountPoint, bool mounted) override;

  /// Tells all subscribers.
  void emit(const Event& event);

 private:
  std::string name_;
  std::string listen_;
  std::string stateDir_;
  int lockFd_;
  std::mutex mutex_;
  std::vector<PeerInfo> peers_;
  std::map<std::string, std::shared_ptr<FakeArena>> arenas_;
  std::map<std::string, std::string> settings_;
  std::map<int, std::function<void(const Event&)>> sinks_;
  int lastSink_ = 0;
};

}  // namespace realize::test
