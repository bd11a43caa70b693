#pragma once

// What the parts of the fake disk share; only they include this.

#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/support/fake_disk.h"

namespace realize::test {

constexpr size_t kFakeOps = size_t(FakeOp::Watch) + 1;

class FakeWatcher;

/// Thread: `mutex` guards all of it.
struct FakeState {
  FakeState(Clock& clockIn, FakeImage imageIn) : clock(clockIn), image(std::move(imageIn)) {}

  struct Failure {
    FakeOp op;
    std::string path;
    Code code;
    int skip, times;
  };
  struct Place {
    uint64_t directory = 0;
    std::string name;
    uint64_t inode = 0;  ///< 0: no such name
  };

  /// Before every operation: hook, power, injected failures. `injected` is set when it is a failure of fail().
  Result<void> enter(const FakeCall& call, uint64_t generation, bool* injected = nullptr);

  /// The inode that `path` names, beneath `base`.
  Result<uint64_t> resolve(uint64_t base, const std::string& path);
  /// The directory and last component; the name need not exist.
  Result<Place> place(uint64_t base, const std::string& path);
  Result<void> mayRead(const FakeInode& inode) const { return may(inode, 0400); }
  Result<void> mayWrite(const FakeInode& inode) const { return may(inode, 0200); }
  Result<void> may(const FakeInode& inode, uint32_t bit) const;
  FileStat statOf(const FakeInode& inode) const;
  uint64_t resolveAbsolute(const std::string& path);

  void tellName(uint64_t directory, const std::string& name);
  /// As inotify: only the name that was used hears of it, not others of the same file. After a rename that is not known
  /// here, and all hear.
  void tellInode(uint64_t inode, const Place& used);
  void tellGone(uint64_t inode);
  void tellMoved(uint64_t inode);
  /// All handles and watchers die.
  void newGeneration();

  mutable std::mutex mutex;
  Clock& clock;
  FakeImage image;
  uint64_t generation = 1;
  bool off = false;
  uint64_t offBefore = 0;  ///< 0: never
  FakeDisk::Hook hook;
  std::vector<Failure> failures;
  bool enforce = false;
  bool leases = true;
  bool mute = false;
  size_t watchLimit = 1'000'000;
  std::set<FakeWatcher*> watchers;
  uint64_t changes = 0;
  uint64_t syncsFailed = 0;      ///< each is told once by a sync of all, too
  uint64_t syncsFailedTold = 0;
  std::array<uint64_t, kFakeOps> calls{};
};

std::unique_ptr<Directory> openFakeDirectory(std::shared_ptr<FakeState> state, uint64_t inode, std::string path);
/// Counts the handle in the inode; the state is locked by the caller.
std::unique_ptr<DiskFile> openFakeFile(std::shared_ptr<FakeState> state, const FakeState::Place& at, std::string path, bool write);
/// The state is locked by the caller.
std::unique_ptr<Watcher> openFakeWatcher(std::shared_ptr<FakeState> state, uint64_t root, std::string path);
void fakeOverflow(FakeWatcher& watcher);
void fakeBreak(FakeWatcher& watcher);
void fakeTell(FakeWatcher& watcher, uint64_t directory, const std::string& name);
void fakeForget(FakeWatcher& watcher, uint64_t directory);

}  // namespace realize::test
