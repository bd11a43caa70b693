#pragma once

// A machine of the simulated household: its disk, its user's folder, and the arena running on it (or not).

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "librealize/peer/arena_core.h"
#include "librealize/store/disk_vfs.h"
#include "tests/support/fake_disk.h"
#include "tests/support/sim_queue.h"

namespace realize::test {

struct SimPeerOptions {
  std::string name;
  uint8_t number = 1;
  uint64_t seed = 0;
  int64_t driftPpm = 0;  ///< how much its clock gains, and its timers are early, in millionths
  Mark rootMark = Mark::None;
  bool joining = false;
  peer::ArenaSettings settings{};
  std::shared_ptr<peer::CacheQuota> quota{};  ///< that other arenas share
  uint32_t changesPerPage = 0;  ///< of a batch of changes; 0: as many as usual, which is all
  /// Absolute: the machine's folders are `arena` and `state` in it, on the system's disk, with the system's SQLite files.
  std::string onSystemDisk;
  bool watched = true;  ///< on the system's disk: closing a watch waits for the kernel, 10 ms each time
};

inline constexpr char kSimFolder[] = "/arena";
inline constexpr char kSimState[] = "/state";

class SimPeer {
 public:
  SimPeer(SimQueue& queue, const SimPeerOptions& options);
  ~SimPeer();

  /// Opens the arena and starts it. Errors: as ArenaCore::open, and whatever the disk was told to do.
  Result<void> start();
  /// Ends it in good order.
  void stop();
  /// The process is gone, at whatever moment.
  void vanish();
  bool running() const { return core != nullptr; }
  /// Who is admitted to the arena, from now on and at each start. Before, everyone counts of whom it heard.
  void setMembers(std::set<PeerKey> members);

  /// While it does not run: the database, the folder with all that is in it, or both are as they were then, brought back
  /// as files made now.
  void restore(const FakeImage& backup, bool database, bool wholeFolder);
  /// While it does not run.
  void loseDatabase();
  /// While it does not run, and its database is lost: its next start joins the arena as another peer, with what is in the folder.
  void joinAnew(uint8_t number);
  std::string folder() const { return options.onSystemDisk.empty() ? kSimFolder : options.onSystemDisk + "/arena"; }
  peer::ArenaService* service() { return core.get(); }

  SimQueue& queue;
  SimPeerOptions options;
  PeerKey key;
  FakeClock clock;
  FakeRandom random;
  FakeDisk disk;
  std::unique_ptr<SimScheduler> scheduler;
  std::unique_ptr<peer::ArenaCore> core;
  bool started = false;     ///< once, ever
  bool userActing = false;  ///< the operation on the disk is the user's
  /// Called before each operation on the disk, of the arena and of the user.
  std::function<void(const FakeCall&)> onCall;
  /// Called after that: the disk's answer, where it fails.
  std::function<std::optional<Error>(const FakeCall&)> failing;
  /// What the arena tells its subscribers.
  std::function<void(const Event&)> onEvent;
  uint64_t lives = 0;
  uint64_t boots = 1;  ///< of the machine

 private:
  void drainSoon();
  void drainNowAndThen();
  std::unique_ptr<store::DiskVfs> vfs_;
  std::optional<std::set<PeerKey>> members_;
  bool draining_ = false;
};

}  // namespace realize::test
