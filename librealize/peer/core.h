#pragma once

// The state of one arena that its parts share. Everything here is guarded by the arena's core lock
// (Scheduler::coreLock): jobs posted with onCore hold it already, frontends' threads take it for short operations.
//
//   ArenaCore   composes the parts, runs transactions, answers other peers          arena_core.h
//   Folder      the backing folder: reads local changes (inbound), applies the tree (outbound)    folder.h
//   Transfers   blobs: fetching, the cache, serving; real and unreal                transfers.h
//   Marks       which entries are to be real here; the queue of missing bytes       marks.h
//   Exchange    announcing, pulling, acknowledgements with connected peers          exchange.h
//   Lacking     who has none of some bytes, also of those met through others only   lacking.h
//   ArenaFileSystem   the numbered nodes a mount sees                               file_system.h

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "librealize/logic/tree.h"
#include "librealize/model/tree.h"
#include "librealize/peer/environment.h"
#include "librealize/peer/remote.h"
#include "librealize/store/arena_store.h"
#include "realize/peer.h"

namespace realize::peer {

class Folder;
class Transfers;
class Marks;
class Exchange;
class Invalidations;
class Authors;
class Lacking;
class Trimmer;
class CacheQuota;
class Copies;
class ConflictPolicy;
class AlikeNames;
class SyncAll;
class Unwritten;

struct ArenaOptions {
  ArenaId id;
  std::string name;
  std::string databaseDirectory;  ///< absolute; holds index.db
  std::string folder;             ///< absolute path of the backing folder
  bool userFolder = true;         ///< false: a folder in the state folder, made here, not watched
  PeerKey self;
  std::shared_ptr<CacheQuota> sharedQuota{};  ///< null: there is no other arena
  bool shared = false;  ///< others are admitted to it: where a backup was brought back, what they know is waited for
  uint32_t maxChangesPerPage = 2000;  ///< a page is one transaction under the core lock: a few tens of ms
};

/// What becomes of an entry with several versions.
enum class ConflictRule : uint8_t {
  Keep,    ///< all are kept, each peer shows its own, until somebody chooses
  Newest,  ///< the newest is chosen; the others can be brought back for a while, as whatever is replaced
  Copies,  ///< the newest is chosen, and the others become entries beside
};

/// Settings of an arena (`realize config ARENA:`), all with defaults. Stored in the peer's database.
struct ArenaSettings {
  int64_t inactiveAfterMs = int64_t(90) * 24 * 3600 * 1000;  ///< nobody waits with forgetting for a member away for longer
  int64_t restMs = 100;           ///< a change is read when its directory has been quiet this long
  int64_t restMaxMs = 10'000;     ///< but read at the latest after this, even if writes go on (directories, not open files)
  double guardShare = 1.0 / 3;    ///< a removal of more than this share is held back
  double overwriteShare = 1.0 / 3;  ///< as is the replacing of the contents of more than this share of the files
  uint64_t guardMinimum = 100;    ///< and of at least this many entries
  uint64_t cacheLimitBytes = 0;   ///< Real files and the cache together; 0: as all arenas together (sharedQuota)
  uint32_t copies = 1;            ///< so many other peers are to keep a file before this one makes it unreal
  double unlinkedShare = 0.1;     ///< what was removed or replaced may take this share of the free space,
  int64_t unlinkedDays = 30;      ///< for so long
  ConflictRule conflicts = ConflictRule::Keep;
};

struct Core {
  Environment& env;
  ArenaOptions options;
  ArenaSettings settings;
  store::ArenaStore& store;
  logic::Tree& tree;

  Folder* folder = nullptr;
  Transfers* transfers = nullptr;
  Marks* marks = nullptr;
  Exchange* exchange = nullptr;
  Invalidations* invalidations = nullptr;
  Authors* authors = nullptr;
  Lacking* lacking = nullptr;
  Trimmer* trimmer = nullptr;
  Copies* copies = nullptr;
  ConflictPolicy* conflictPolicy = nullptr;
  AlikeNames* alikeNames = nullptr;
  Unwritten* unwritten = nullptr;
  std::shared_ptr<SyncAll> syncAll{};  ///< pool jobs keep it

  /// Runs `work` in one transaction of the store, then hands what changed in the visible tree to folder, marks,
  /// invalidations and history, and schedules an announcement: at once if the change has `rested` (it was read from
  /// the folder, or came from a peer), else after the rest. Nested calls join the outer one. A failing database
  /// suspends the arena until it can be written again; false then.
  bool transact(const std::function<void()>& work, bool rested = true) { return transactHook(work, rested); }
  std::function<bool(const std::function<void()>& work, bool rested)> transactHook{};
  /// The same for work that others need not hear of at once, and on which nothing outside the database rests before
  /// `committed`, which is called a little later, by any thread, and never where that fails; or before the next
  /// transact() or settle(). See Database::transactLater. Not within another.
  std::function<bool(const std::function<void()>& work, std::function<void()> committed)> transactLater{};
  /// What was committed is on the disk. A database that fails in that suspends the arena, too; false then.
  bool makeDurable() { return makeDurableHook(); }
  std::function<bool()> makeDurableHook{};
  /// For `watch` and applications. Cheap.
  std::function<void(Event)> emit{};
  std::function<std::string(const PeerKey&)> nameOf{};  ///< for peerName(); may be empty
  std::function<void()> watchChanged{};  ///< the folder's watch is another one; may be empty
  /// The arena cannot be trusted now (folder gone, database failing): everything stops but status. Idempotent.
  std::function<void(std::string why)> suspend{};
  bool suspended = false;
  std::string suspendedWhy{};
  bool stopping = false;

  /// For people; the front of its key where no name is known.
  std::string peerName(const PeerKey& key) const;
  /// Path of an entry in the visible tree, from the root, '/' between; "" for the root.
  /// Errors: NotFound when not shown.
  Result<std::string> shownPath(const EntryId& id);
  /// The root is no entry and never changes; this stands for it where a record is asked for.
  static logic::Record rootRecord();
  /// The entry at a path in the visible tree ("": rootRecord()). Errors: NotFound, NotDirectory.
  Result<logic::Record> recordAt(const std::string& path);
  /// Some of its bytes are not here.
  bool isLacking(const Version& version);
  /// This peer wrote that version, and has it not any more: what is older here came back with a backup.
  bool lostHere(const Version& version);
  /// It is not here, and this peer may have replaced it: its own, or one with the bytes of its own that another gave the entry.
  bool maybeReplacedHere(const Entry& entry, const Version& version);
  /// Which of an entry's heads this peer shows: what its folder has if that is one of them, or is older than; else the newest stamp.
  std::optional<std::pair<Dot, Version>> shownVersion(const logic::Record& record);
  /// What a change made in the folder has seen of an entry when the folder shows `head` of it (null: a directory or a
  /// symlink, all of it): every claim and head but those of other contents. For DiskRow::base.
  static std::vector<Dot> baseOf(const Entry& entry, const logic::ShownHead* head);
  /// `base` after a change made here to what was `before`: with the change itself.
  std::vector<Dot> rebased(const std::vector<Dot>& base, const std::optional<logic::Record>& before, const EntryId& id);
};

}  // namespace realize::peer
