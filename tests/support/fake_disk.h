#pragma once

// A disk in memory for tests and the simulator: deterministic, with crashes, races, full disks and failing syncs.

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "librealize/base/clock.h"
#include "librealize/base/disk.h"
#include "tests/support/fake_image.h"

namespace realize::test {

enum class FakeOp : uint8_t {
  Stat, Open, Create, OpenDirectory, List, MakeDirectory, MakeSymlink, HardLink, ReadSymlink, Unlink, RemoveDirectory, Rename,
  SetMode, SetTimes, SetOwner, GetXattr, SetXattr, ListXattrs, RemoveXattr, SyncDirectory, SyncAll, Space,
  Read, Write, Truncate, FileStat, FileSync, Allocate, PunchHole, Seek, NobodyWrites, CloneRange, Watch,
};

/// What is about to happen. Paths are absolute on the fake disk; a file goes by the path it was opened with.
struct FakeCall {
  FakeOp op;
  std::string path;
  std::string path2;  ///< of Rename and HardLink: the new name
  /// It changes what is on the disk, or makes it durable.
  bool changes() const;
};

struct FakeState;

/// Thread: any, one call at a time inside. Lifetime: handles outlive it.
class FakeDisk final : public Disk {
 public:
  explicit FakeDisk(Clock& clock, uint64_t device = 1);
  /// A disk that starts as the snapshot, as a cloned machine would.
  FakeDisk(Clock& clock, const FakeImage& image);
  ~FakeDisk() override;

  /// "/" exists; make others with makeFolder(). Errors: NotFound, NotDirectory, InvalidArgument.
  Result<std::unique_ptr<Directory>> openRoot(const std::string& absolutePath) override;
  /// Makes an absolute path with all above it, durably, without hooks.
  void makeFolder(const std::string& absolutePath);

  /// Called before each operation, without the disk's lock: it may operate on the disk (another process's race; not
  /// hooked itself), cut the power, or answer with an error instead of the operation.
  using Hook = std::function<std::optional<Error>(const FakeCall&)>;
  void setHook(Hook hook);

  /// Fails calls of that kind whose path contains `path` ("" is all): lets `skip` of them pass, then fails `times`.
  /// A failed FileSync loses the dirty bytes as Linux does: a later sync that succeeds does not bring them to the disk.
  void fail(FakeOp op, std::string path, Code code, int skip = 0, int times = 1);
  void clearFailures();

  /// From now on every operation fails with Io and nothing on the disk changes, until crash().
  void powerOff();
  /// Power fails before the n-th changing operation from now (1: the next one).
  void powerOffBefore(uint64_t n);
  bool isPowerOff() const;
  /// Loses what was not durable, at random; handles and watchers die; power is back.
  /// `processOnly`: the machine goes on, and shows what it shows.
  void crash(Random& random, bool processOnly = false);
  /// A sync of that file failed, and what went with it has not been written again.
  bool hasLost(const std::string& absolutePath) const;
  /// The next sync of all tells of a file's sync that failed before.
  bool owesFailure() const;
  /// Everything so far becomes durable, as after half a minute on a real machine.
  void settle();

  /// Bytes free from now on; files that are there stay.
  void setFreeBytes(uint64_t bytes);
  /// As for a user who is not root: modes are enforced for the owner.
  void enforcePermissions(bool on);
  void reuseInodes(bool on);
  /// As another file system mounted there: that device for all under `absolutePath`; renames across are refused.
  void setDevice(const std::string& absolutePath, uint64_t device);
  /// Where the file system has no leases, nobodyWrites() says true.
  void supportLeases(bool on);
  /// Nothing happens where the power is off.
  void hardLink(const std::string& from, const std::string& to);
  /// A socket, device or FIFO: FileStat::Type::Other.
  void makeSpecial(const std::string& absolutePath);

  FakeImage snapshot() const;
  /// The disk is as it was then; handles and watchers die. With `newInodes`, as a backup program would bring files
  /// back: all inodes and birth times are new.
  void restore(const FakeImage& image, bool newInodes = false);

  std::unique_ptr<Watcher> watch(const std::string& absolutePath);
  /// Each watcher's queue overflows: its events are replaced by the overflow.
  void overflowWatchers();
  /// Each watcher that there is answers with Io from now on.
  void breakWatchers();
  /// Events are lost without a word, as for writes through a mapping.
  void muteWatchers(bool on);
  void setWatchLimit(size_t directories);

  /// Operations so far that changed something, for choosing where to crash.
  uint64_t changeCount() const;
  uint64_t callCount(FakeOp op) const;
  /// Files open now.
  uint64_t openHandles() const;
  /// The whole tree, one line a name: for comparing, and for printing when a test fails.
  std::string dump(const std::string& absolutePath = "/") const;

 private:
  std::shared_ptr<FakeState> state_;
};

}  // namespace realize::test
