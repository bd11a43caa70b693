#pragma once

// One peer of a household: identity, roster, arenas. This header and what it includes is the whole library.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "realize/filesystem.h"
#include "realize/reports.h"
#include "realize/result.h"
#include "realize/types.h"

namespace realize {

struct PeerInfo {
  PeerKey key;
  std::string name;
  std::string address;  ///< host:port, or empty for one that does not listen
  bool self = false;
};

struct InitOptions {
  std::string name;    ///< unique in the household; the host name if empty
  std::string listen;  ///< "host:port" (port 0: the kernel picks, once), or empty: deaf
};

struct InviteOptions {
  int64_t lifetimeMs = 24LL * 3600 * 1000;
  bool allArenas = true;             ///< admit to every arena this peer is in
  std::vector<std::string> arenas;   ///< when `allArenas` is false: these only
};

struct ConnectionStatus {
  PeerInfo peer;
  bool connected = false;
  int64_t sinceNs = 0;        ///< Unix time since when connected, or last connected (0: never)
  std::string lastError;      ///< why the last try to connect failed
  uint64_t sentBytes = 0;     ///< on the wire, since this process started
  uint64_t receivedBytes = 0;
};

/// How far an arena and one other member are apart, as far as is known here.
struct MemberStatus {
  PeerInfo peer;
  bool connected = false;
  bool consensus = false;       ///< it said so since it connected: same vector, same tree
  uint64_t behindChanges = 0;   ///< changes known here that it has not acknowledged
  uint64_t aheadChanges = 0;    ///< changes it has that are not here yet
  uint64_t missingFiles = 0;    ///< marked real there, bytes not there yet (as it said last)
  uint64_t missingBytes = 0;
  bool settling = false;        ///< it has local changes not read yet (as it said last)
  std::string detail;           ///< for people: why not in consensus, where the above does not say it
};

struct Problem {
  std::string path;    ///< within the arena
  std::string kind;    ///< stable word: "unreadable", "special-file", "stale", "clash", "no-space", "corrupt", ...
  std::string detail;  ///< what is wrong and what to do
};

struct ArenaStatus {
  std::string name;
  ArenaId id;
  std::string folder;  ///< empty: no folder of the user's
  bool suspended = false;
  std::string suspendedWhy;
  bool scanning = false;
  uint64_t scannedEntries = 0;
  bool settling = false;  ///< local changes seen but not read yet
  bool consensus = false; ///< with every member ever heard of and active; false while one is not connected and behind
  std::string consensusWhy;  ///< why not
  uint64_t files = 0, directories = 0, symlinks = 0, bytes = 0;
  uint64_t realFiles = 0, realBytes = 0;
  uint64_t missingFiles = 0, missingBytes = 0;  ///< marked real, not here yet
  uint64_t unconfirmedFiles = 0, unconfirmedBytes = 0;  ///< kept here because no holder has confirmed them yet
  std::vector<Problem> staysReal;  ///< the first of these files that are marked unreal, and why they are still Real
  uint32_t copies = 1;  ///< so many peers are to have each file real
  bool copiesCounted = false;  ///< with more than one: they were counted, lately; status() begins a count where it was not so
  uint64_t filesBelowCopies = 0;  ///< fewer peers than that are known to have these real, as connected ones say
  std::vector<std::string> firstBelowCopies;  ///< paths of the first of them
  uint64_t promisedFiles = 0;  ///< kept real because another peer was promised so, for at most a minute
  bool lettingGo = false;  ///< marks are being applied, or peers asked to keep what is to become unreal
  uint64_t cachedBytes = 0;
  uint64_t conflicts = 0;
  uint64_t alikeCount = 0;  ///< groups of names in one folder that differ in case or Unicode form only
  std::vector<std::vector<std::string>> alikeNames;  ///< the first 100 of these groups: paths
  uint64_t heldRemovals = 0;  ///< entries of a mass removal held back until confirmed; 0: none
  uint64_t heldOverwrites = 0;  ///< files whose contents were replaced, many at once: held back until confirmed
  std::vector<MemberStatus> members;
  std::vector<Problem> problems;  ///< at most 1,000; `problemCount` has them all
  uint64_t problemCount = 0;
  std::vector<std::string> mounts;
};

struct PeerStatus {
  PeerInfo self;
  int pid = 0;
  std::string version;
  std::string stateDir;
  std::string listen;  ///< the address in use, "" if deaf
  std::vector<ConnectionStatus> peers;
  std::vector<ArenaStatus> arenas;
  std::vector<Problem> problems;  ///< of the peer itself; no paths
};

/// A place in an arena: its name and a path in it ("" is the root), '/' between components.
struct ArenaPath {
  std::string arena;
  std::string path;
};

struct HeadInfo {
  BlobId blob;
  uint64_t sizeBytes = 0;
  uint32_t mode = 0;
  int64_t mtimeNs = 0;
  int64_t writtenNs = 0;
  std::string symlinkTarget;
  std::string peer;   ///< who wrote it, by name where known
  std::string label;  ///< names the head in resolve(): "origin-seq" in hexadecimal
  bool here = false;  ///< all its bytes are on this peer
  bool shown = false; ///< this is the one that this peer shows
};

struct EntryInfo {
  std::string path;
  std::string id;  ///< entry id, hexadecimal
  NodeId node = 0;
  EntryKind kind = EntryKind::File;
  uint64_t sizeBytes = 0;
  uint32_t mode = 0;
  int64_t mtimeNs = 0;
  bool real = false;
  uint64_t cachedBytes = 0;  ///< of an Unreal file, bytes here
  Mark mark = Mark::None;           ///< set on this entry itself
  Mark effectiveMark = Mark::None;  ///< with what it inherits
  std::string staysReal;   ///< why it is still Real though marked unreal, for people; else empty
  bool consensus = false;  ///< one head, acknowledged by every active member
  std::vector<HeadInfo> heads;
  std::vector<std::string> holders;  ///< of a file, by stat() only: who has the shown version real, as they say when asked
  std::vector<std::string> holdersUnknown;  ///< members that could not be asked
};

struct HistoryItem {
  int64_t whenNs = 0;
  std::string peer;  ///< who did it; "" where that is not known
  std::string what;  ///< "create", "edit", "conflict" (an edit that left what was there beside it), "move", "remove", ...
  std::string path;
  std::string detail;
  std::string before{};  ///< the content of a file that it took away: the beginning of its id, ':', its bytes; "" for none
};

struct Acknowledgement {
  std::string peer;
  bool acknowledged = false;  ///< it said that it has seen all of the entry's changes
  int64_t lastSeenNs = 0;     ///< when it was connected last, Unix time; 0: never
};

/// How an entry came to be as it is.
struct WhyReport {
  std::string path;  ///< where it is shown, or was
  std::string id;    ///< entry id, hexadecimal
  bool shown = false;  ///< false: it was removed
  EntryKind kind = EntryKind::File;
  std::vector<HeadInfo> versions;     ///< what it holds now: several in a conflict
  std::vector<std::string> replaced;  ///< the contents before, newest first; only the last few are known
  std::vector<Acknowledgement> peers;
  std::vector<HistoryItem> changes;   ///< newest first, also under earlier names
};

/// Something that happened, for `watch` and for applications.
struct Event {
  int64_t whenNs = 0;
  std::string type;   ///< "change", "remove", "move", "real", "unreal", "conflict", "connected", "disconnected", "problem", ...
  std::string arena;
  std::string path;
  std::string peer;
  std::string detail;
  std::string before{};  ///< of a change of a file: the version shown until then, as the beginning of its id, ':', its bytes
  std::string after{};   ///< and from then on; "" for none
};

struct Progress {
  uint64_t doneBytes = 0, totalBytes = 0;
  uint64_t doneFiles = 0, totalFiles = 0;
};

struct WaitOutcome {
  bool reached = false;
  std::vector<std::string> missing;  ///< for people: what is not there yet
};

struct Setting {
  std::string name;
  std::string value;
  std::string defaultValue;
  std::string unit;
  std::string help;
};

class ArenaImpl;

/// An open arena. Thread: any. Lifetime: keeps the Peer's data open until dropped; after the Peer ended, calls fail.
class Arena {
 public:
  virtual ~Arena() = default;
  virtual std::string name() const = 0;
  virtual ArenaId id() const = 0;
  virtual std::string folder() const = 0;  ///< "" when without

  virtual FileSystem& fileSystem() = 0;

  virtual Result<EntryInfo> stat(const std::string& path) = 0;
  /// The children of a directory, or the entry itself if it is none, sorted by name.
  virtual Result<std::vector<EntryInfo>> list(const std::string& path) = 0;
  /// Reads up to `dst.size()` bytes; bytes not here are fetched and verified first. Fewer means end of file.
  virtual Result<size_t> read(const std::string& path, uint64_t offset, std::span<std::byte> dst) = 0;
  /// Brings all bytes below `path` into the cache. Blocks; `progress` is called now and then, returning false cancels.
  virtual Result<void> fetch(const std::string& path, std::function<bool(const Progress&)> progress) = 0;
  /// Sets the wish; work goes on in the background (see status().missingFiles).
  virtual Result<void> mark(const std::string& path, Mark mark) = 0;
  virtual Result<std::vector<EntryInfo>> conflicts() = 0;
  /// Makes the head named `label` the only one; with `label` empty, the one shown here. Its bytes are fetched first.
  /// Errors: NotFound, Busy (changes here are not read yet), Unreachable (nobody connected has its bytes).
  virtual Result<void> resolve(const std::string& path, const std::string& label) = 0;
  /// Lets a held mass removal or overwriting happen (or, with `keep`, brings the entries and their old contents back).
  /// Returns how many entries it concerns.
  virtual Result<uint64_t> confirm(bool keep) = 0;
  /// Newest first; of `path` and below.
  virtual Result<std::vector<HistoryItem>> history(const std::string& path, size_t limit) = 0;
  /// Of one entry: who changed it when, what that replaced, and who has acknowledged it. Also of a removed one, as long as
  /// the history has it. Errors: NotFound.
  virtual Result<WhyReport> why(const std::string& path) = 0;
  virtual Result<ArenaStatus> status() = 0;
  /// Newest first: changes since then at `path` and below that took something away. Blocks shortly.
  virtual Result<std::vector<UndoItem>> undoable(const std::string& path, int64_t sinceNs, size_t limit) = 0;
  /// Brings back what was removed or replaced, as new changes; bytes that are not here are fetched first. With `dryRun`
  /// nothing is done. `progress` may be empty, and is called now and then; returning false cancels what is not done yet.
  /// Errors: NotFound (nothing to undo), InvalidArgument (a folder that is there, without a time), Cancelled.
  virtual Result<UndoReport> undo(const UndoRequest& request, bool dryRun, std::function<bool(const Progress&)> progress = {}) = 0;
  /// Drops cached bytes down to `bytes`; returns how many were dropped.
  virtual Result<uint64_t> shrinkCache(uint64_t bytes) = 0;
  virtual Result<CacheStatus> cacheStatus() = 0;
  /// Reads all Real files and the cache, compares them with their hashes, and has what is damaged replaced by peers that
  /// have the right bytes; the damaged file is kept aside. A file that somebody changed is none of that. Blocks;
  /// `progress` is called now and then, returning false cancels. Errors: Suspended, Cancelled.
  virtual Result<VerifyReport> verify(std::function<bool(const Progress&)> progress) = 0;
  /// Looks at the whole folder again.
  virtual Result<void> rescan() = 0;
};

/// Thread: any. Blocking calls say so. Lifetime: the destructor stops all threads and closes connections.
class Peer {
 public:
  /// Makes identity and state folder (0700). Errors: Exists when one is there already.
  static Result<void> init(const std::string& stateDir, const InitOptions& options);
  /// Locks the state folder and starts. Errors: NotFound (init first), AlreadyRunning, WrongVersion, Corrupt.
  static Result<std::unique_ptr<Peer>> open(const std::string& stateDir);
  virtual ~Peer() = default;

  virtual PeerInfo self() = 0;
  virtual std::vector<PeerInfo> peers() = 0;
  virtual Result<std::string> invite(const InviteOptions& options) = 0;
  /// Blocks until paired or failed. Returns the arenas that the invite admits to.
  virtual Result<std::vector<std::string>> join(const std::string& code) = 0;
  virtual Result<void> addPeer(const std::string& name, const std::string& keyHex, const std::string& address) = 0;
  virtual Result<void> removePeer(const std::string& nameOrKey) = 0;

  virtual Result<void> createArena(const std::string& name, const std::string& folder) = 0;
  /// Blocks shortly for a connected member to answer. `folder` empty: everything Unreal.
  /// Errors: NotFound (no connected peer admits us to an arena of that name; the message lists what is offered).
  virtual Result<void> joinArena(const std::string& name, const std::string& folder) = 0;
  virtual Result<void> admit(const std::string& arena, const std::string& peer) = 0;
  /// The opposite. What is under way with that peer in the arena is cut off when this returns; what it has, it keeps.
  /// Errors: NotFound (no such arena or peer, or one that is not admitted), Refused (this peer itself: leave instead).
  virtual Result<void> withdraw(const std::string& arena, const std::string& peer) = 0;
  /// Forgets the arena here; Real files in a folder of the user's stay where they are. Blocks while connected peers are asked
  /// what they keep. Returns the paths of files with bytes that are lost by it, as far as is known; only with `force`.
  /// Errors: Refused while bytes would be lost that no connected peer promises to keep, Busy (no answer in time).
  virtual Result<std::vector<std::string>> leaveArena(const std::string& name, bool force) = 0;
  virtual std::vector<std::string> arenaNames() = 0;
  /// Arenas that connected peers admit us to and that we have not joined.
  virtual std::vector<std::string> offeredArenas() = 0;
  virtual Result<std::shared_ptr<Arena>> arena(const std::string& name) = 0;
  /// "ARENA:path", or an absolute path inside an arena's folder or one of its mounts.
  virtual Result<ArenaPath> resolvePath(const std::string& text) = 0;

  virtual PeerStatus status() = 0;
  /// Blocks until at least one peer is connected, the arena is in consensus with every connected one, and all bytes
  /// marked real on either side are there; or until the time is over.
  virtual Result<WaitOutcome> wait(const std::string& arena, int64_t timeoutMs) = 0;

  virtual std::vector<Setting> settings(const std::string& arena) = 0;  ///< arena "": of the peer
  virtual Result<void> set(const std::string& arena, const std::string& name, const std::string& value) = 0;

  /// Called from a thread of the library; must not block long. Dropping the token ends the calls.
  virtual std::shared_ptr<void> subscribe(std::function<void(const Event&)> sink) = 0;

  /// Frontends note where they mounted an arena, so that paths in it resolve and status shows it.
  virtual void noteMount(const std::string& arena, const std::string& mountPoint, bool mounted) = 0;
};

/// The program's version, from meson.build.
std::string_view libraryVersion();

}  // namespace realize
