#pragma once

// What the parts of Folder share: core state, but for `watch`, which has a lock of its own.

#include <deque>
#include <map>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "librealize/base/path.h"
#include "librealize/logic/guard.h"
#include "librealize/logic/ignore.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/folder_nobody.h"
#include "librealize/peer/folder_reading.h"
#include "librealize/peer/unwritten.h"

namespace realize::peer {

/// Tries after which an entry that cannot be applied no longer holds up a wait, and is told as a problem.
constexpr int kPatience = 20;
/// By then the kernel has written what was written.
constexpr int64_t kWrittenBackNs = 600'000'000'000;

/// Of what a disk failed to do.
constexpr int64_t kReadAgainMs = 60'000;

/// In kTempFolder: a file that was in the folder for a moment, and the number of its node.
constexpr char kUndoPrefix[] = "undo-";

/// The content that a file in the cache is named by; nothing for another name.
std::optional<BlobId> blobNamed(const std::string& name);

struct Folder::State {
  explicit State(Core& core);

  Core& core;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  std::shared_ptr<Directory> root;
  std::shared_ptr<SharedWatch> watch = std::make_shared<SharedWatch>();
  std::string markerText;

  // Inbound (folder_inbound.cc, folder_steps.cc)
  struct Hint {
    int64_t firstNs = 0;
    int64_t lastNs = 0;
    bool directoryMoved = false;  ///< seen soon: nobody saves files by renaming directories
    int64_t dueNs(const ArenaSettings& settings) const;
  };
  std::map<std::string, Hint> dirty;  ///< directories to list, by path
  bool scanWanted = false, scanning = false;
  std::set<std::pair<uint64_t, uint64_t>> linked;  ///< files that had several names when they were listed: device, inode
  bool waitingForTree = false, joining = false;  ///< `joining`: the first scan of a folder that was joined
  std::set<NodeId> takenBack, stayed;  ///< by a power cut, with rows: older files may have their names; see noteStayed()
  std::set<NodeId> replacedUnsynced;   ///< what had come lately, of which another file has the name after a power cut
  BroughtBack broughtBack = BroughtBack::Nothing;
  std::optional<std::set<std::string>> broughtBackBelow;  ///< all else was read; these could not be
  bool nobodyTellsMore = false;      ///< it will not be waited for the tree much longer
  bool passRunning = false, parkedFolder = false;  ///< a folder has left its name since the watch was told
  std::vector<std::string> passPaths;    ///< what it was started for
  std::set<std::string> readBelow;       ///< folders that are listed with all known ones below them
  std::set<std::string> changedMeanwhile;  ///< by us, while a pass is running: these directories' listings are old
  std::vector<PlacedFile> lastPlaced;  ///< of each batch: looked at once more when the watch was drained
  std::unordered_set<NodeId> newIn;  ///< folders into which something was put by us; a pass will find nothing else, mostly
  int64_t timerAtNs = 0;             ///< when the next pass is scheduled; 0: it is not
  std::string mounts;                ///< within the folder, as of the last look (Disk::mountsWithin)
  uint64_t scannedEntries = 0;
  std::deque<std::shared_ptr<std::vector<HashJob>>> toHash;
  uint32_t hashing = 0;              ///< batches on the pool
  std::set<NodeId> hashingNodes;
  uint64_t lastHash = 0;
  std::vector<std::function<void()>> barriers;
  logic::RemovalGuard guard;
  std::set<NodeId> confirmed;        ///< removals that someone confirmed
  logic::OverwriteGuard overwrites;
  std::map<NodeId, HeldContent> heldContents;
  std::set<NodeId> confirmedContents;  ///< to be taken whatever their number
  bool suspecting = false;             ///< the plan that is carried out is suspicious
  std::set<NodeId> suspects;           ///< maybe replaced, and too many: none is taken before all are read
  std::vector<HashJob> suspectJobs;    ///< of these, what was read and is replaced

  // Outbound (folder_outbound.cc)
  std::deque<EntryId> toApply;
  std::unordered_set<EntryId> toApplySet;
  bool applying = false;
  std::set<EntryId> retrying;        ///< tried again soon
  std::map<EntryId, int> retries;    ///< entries that wait for the disk to calm down
  std::set<NodeId> emptyLater;       ///< directories to remove once their children have gone
  std::set<NodeId> leftCandidates;   ///< removed by a peer, but not empty: what is in them is looked at
  bool flushScheduled = false;

  int64_t now() { return core.env.clock.monotonicNs(); }
  void hint(const std::string& directory, bool directoryMoved = false);
  void problem(const std::string& path, const std::string& kind, const std::string& detail);
  void settled();
  std::string childPath(NodeId parent, const std::string& name), pathToRead(NodeId parent, std::string path);

  // folder.cc
  std::string rejoinHint() const;
  Result<void> makeOwnFolder(Directory& directory, const std::string& there);
  Result<void> openRoot(bool fresh);
  Result<void> begin();
  void lost(const std::string& why);
  /// That it took its place is known, its transaction is lost.
  struct Placed {
    NodeId node = 0;
    Dot dot;
    FileStat file;
    NodeId parent = 0;
    std::string name;
    bool undone = false;  ///< its place was given back; somebody had written into it there
  };
  Result<void> noteWhatIsThere(), clearLeftovers(const std::vector<Placed>& placed);
  void changeDevices(const std::map<uint64_t, uint64_t>& changes);
  Result<void> checkCache();
  bool sameBootAsBefore();
  Result<void> forgetUnsynced();
  void noteUnsynced(NodeId node, uint8_t how = 0), noteTakenBack(bool sameBoot), noteTookAway(const char* what, const store::DiskRow& row, const std::string& path);
  void flushUnsyncedSoon();

  // folder_names.cc
  std::map<NodeId, uint64_t> changedByUser;  ///< with names, modes or times not synced since then; the turn of the last change
  uint64_t lastChange = 0;
  bool allUnsynced = false;  ///< maybe anything is not
  struct ToSync {
    std::string path;
    EntryKind kind = EntryKind::Directory;  ///< of a folder, its names, too
  };
  struct SyncedChanges {
    Result<void> done;
    std::vector<FileStat> unwritten;  ///< files of which the sync failed
  };
  std::vector<ToSync> changesToSync();
  static SyncedChanges syncChanges(Directory& root, SyncAll& syncAll, const std::vector<ToSync>& changes, bool all);  ///< thread: any
  void noteUnwritten(const SyncedChanges& synced);

  // folder_restored.cc
  Result<void> lookWhatWasBroughtBack();
  void bringBack(BroughtBack what), forgetCache(), recogniseNext(const BlobId& after), recognised(const BlobId& blob, const Result<Content>& content);
  std::set<BlobId> unrecognised;  ///< of the cache: see isUnrecognised()
  bool recognising = false, moreToRecognise = false;
  void noteWitnessed(NodeId node);  ///< read, or put in place: the folder tells what its user does to it from now on
  void leaveOutAbsent(logic::Plan& plan);
  bool isOld(const Entry& entry, const BlobId& blob), cacheUnread();
  static bool mayBeWhole(const store::CacheRow& row, const FileStat& stat, bool unread);
  bool removedMeanwhile(const HashJob& job, const EntryId& parent);
  bool takeOldContent(const HashJob& job, const logic::Record& before, store::DiskRow& row), isOfAnother(const HashJob& job, const EntryId& id);
  BroughtBack broughtBackAt(const std::string& path) const;
  void endBroughtBack();

  // folder_placing.cc
  std::string placingNew;  ///< the notes of what the pool puts in place
  std::string notesOf(const std::vector<Placing>& files);
  bool anyPlacing();
  Result<std::vector<Placed>> placedBefore();
  void keepPlacing(const std::vector<Placed>& placed);
  void takePlaced(const std::vector<Placed>& placed, uint64_t device);

  // folder_inbound.cc
  void schedulePass();
  void startPass();
  void listThen(const std::vector<std::string>& paths, bool scan, std::shared_ptr<logic::ReconcileInput> input, int round);
  void onListed(std::shared_ptr<ListingBatch> batch, std::shared_ptr<logic::ReconcileInput> input, int round);
  void leaveOutKnown(logic::ReconcileInput& input);
  void endPass();
  void beginWatch(bool anew);
  void watchFailed(const Error& error);
  void sayIfUnwatched();
  void noteRead(const logic::Listing& listing), readAgainLater(const std::string& path), readAgain();
  void unreadableMoved(const std::string& from, const std::string& to);
  std::set<std::string> unreadable;  ///< read again when a while has passed, or sooner; folders with all that is below
  bool readingAgain = false;         ///< that is scheduled
  bool unwatchedSaid = false;     ///< since the last scan began
  bool unwatchedScanDue = false;  ///< a scan is scheduled because of it
  void changedByUs(const std::string& directory), putInto(NodeId folder), nameLeft(const store::DiskRow& row);
  void directoryMoved(const std::string& from, const std::string& to, bool byUs);
  void takeNotes(const std::vector<logic::Note>& notes);

  // folder_patterns.cc
  std::vector<std::string> keepKnownNames(logic::ReconcileInput& input), withFoldersBelow(std::vector<std::string> paths);
  std::optional<store::DiskRow> rowOfListed(const logic::Listing& listing);
  void lookWhatItIsElsewhere(const FileStat& file, const std::string& listed);
  void notePatterns(const ListingBatch& batch), readWhereItIs(const std::string& from, const std::string& to);
  void inTheWay(const std::string& directory, const std::string& name);
  void tellIgnoredInTheWay(const logic::ReconcileInput& input);
  enum class Holds : uint8_t { Nothing, NotOurs, Ours, Unread };
  Holds whatHolds(const logic::ReconcileInput& input, const std::string& path);
  bool isLeft(const logic::ReconcileInput& input, const std::string& path);
  void takeLeft(const std::string& path), leaveBehind(const logic::ReconcileInput& input);
  std::map<std::string, std::set<std::string>> namesInTheWay;  ///< by their directories, which are listed next
  std::map<std::string, FileStat> patterns;  ///< the pattern files as they were last read, by their directories

  // folder_steps.cc
  void carryOut(logic::Plan& plan, const logic::ReconcileInput& input);
  void watchAgain(const logic::Plan& plan, const logic::ReconcileInput& input);
  void removeEmptied();
  bool stepNew(const logic::Step& step, NodeId parent, NodeId& made, const logic::ReconcileInput& input);
  void stepMove(const logic::Step& step, NodeId parent);
  void stepChanged(const logic::Step& step, const Content* asMoved = nullptr);
  std::optional<Content> contentOfMoved(const logic::Step& step);
  void stepAttributes(const logic::Step& step);
  void keepMode(NodeId node, uint32_t mode);
  void useKeptMode(NodeId node, const std::string& path);
  std::optional<logic::Record> bindable(const EntryId& parent, const std::string& name, EntryKind kind);
  NodeId bindDirectory(NodeId parent, const std::string& name, const FileStat& stat);
  void bindSymlink(NodeId parent, const std::string& name, const FileStat& stat);
  /// The entry of a directory on disk, revived if a peer removed it meanwhile: its row can have another node then.
  std::optional<EntryId> directoryEntry(NodeId node);
  void addHash(HashJob job), lookAgain(const HashJob& job), pumpHashes(), finishHashes(std::vector<HashJob>& jobs);
  bool putCopy(HashJob& job);
  void newFile(const HashJob& job), changedFile(const HashJob& job);
  static void addSameVersion(const Entry& entry, store::DiskRow& row);
  void followUnread(const logic::Record& record, const store::DiskRow& row);
  logic::Base seenByRemoval(const EntryId& id, const store::DiskRow& row);
  void putRow(NodeId node, NodeId parent, const std::string& name, EntryKind kind, const FileStat& stat, const BlobId& blob,
              std::vector<Dot> base);
  void putRow(const store::DiskRow& row), putAtName(const store::DiskRow& row), park(store::DiskRow& left);
  void vacate(NodeId parent, const std::string& name);
  Version versionOf(const FileStat& stat, const Content* content);

  // folder_problems.cc
  std::optional<store::DiskRow> rowAtPath(const std::string& path);
  bool stillTrue(const store::ProblemRow& problem);
  void tellIfClosed(const std::string& path, uint32_t mode);
  Error tellInUse(const std::string& path);

  // folder_guard.cc
  logic::GuardSettings guardSettings(double share) const;
  void beginGuards(), guardsRest(), noteReturned(), holdNoMore(const std::vector<NodeId>& nodes), sayHeldRemovals();
  bool isThere(NodeId node, std::map<NodeId, bool>& folders), waitsForGuard(const EntryId& id);
  std::set<EntryId> behindGuard;  ///< what peers changed in what is held back
  void tryBehindGuard(), holdBack(logic::Plan& plan), keepOrigins(logic::Plan& plan), releaseOrigin(NodeId replaced);
  std::map<NodeId, logic::Standing> standing;  ///< of the plan that is carried out
  std::map<NodeId, NodeId> origins;  ///< of files that were renamed over another whose new content may be held: by that other
  bool suspicious(const logic::Plan& plan, uint64_t ofFiles);
  enum class Replaces : uint8_t {
    Nothing,
    Young,  ///< what was written here a moment ago: not counted, but held with what is
    Old,
  };
  Replaces replaces(const HashJob& job);
  void judge(std::vector<HashJob> jobs), judgeSuspects();
  void holdContents(const std::vector<HashJob>& jobs);
  bool heldAsRead(NodeId node, const FileStat& stat) const;
  void contentReturned(NodeId node);
  void sayHeldContents();
  uint64_t toldHeldContents = 0;
  void putBack(NodeId node, const HeldContent& held);

  // folder_outbound.cc
  void applySoon(), applySlice();
  bool applyOne(const EntryId& id, int depth);
  bool leftWithFolder(const store::DiskRow& row, const std::string& path);
  bool applyGone(const store::DiskRow& row, std::set<std::string>& parents, std::vector<NodeId>& gone);
  bool applyMove(const logic::Record& record, store::DiskRow& row, int depth);
  struct DiskMove {
    NodeId parentNode = 0;
    std::string from, to;
    bool done = false;
  };
  std::optional<DiskMove> nextMove(const logic::Record& record, store::DiskRow& row);
  void stepOut(const DiskMove& move, const logic::Record& record, store::DiskRow& row);
  bool moveOnDisk(const logic::Record& record, store::DiskRow& row, int depth);
  std::optional<store::DiskRow> inEachOthersWay(const DiskMove& move, const std::string& name);
  Result<void> setTimesOf(store::DiskRow& row, const std::string& path, int64_t mtimeNs);
  bool applyAttributes(const logic::Record& record, store::DiskRow& row);
  bool applySymlink(const logic::Record& record, const std::optional<store::DiskRow>& row);
  bool keepUnlinked(const store::DiskRow& row, const std::string& path), keepLeftover(const std::string& path, FileStat& stat);
  bool isOneOfSeveral(const EntryId& id, const store::DiskRow& row);
  Result<void> spoil(const std::string& cachePath, uint64_t sizeBytes), letGo(const store::DiskRow& row, const std::string& path);
  bool leftAlone(const store::DiskRow& row, const std::string& path);
  bool nobodyWrites(const std::string& path);
  bool asKnown(const store::DiskRow& row, const std::string& path);
  static std::string asideName(const std::string& from, const store::DiskRow& row, const FileStat* ours, const BlobId& blob);
  /// What asideName() made of a name, and whose file is found under it.
  struct Aside {
    enum Whose : uint8_t { Unsaid, Ours, Known, Users } whose = Unsaid;
    NodeId node = 0;
    std::string from;
    std::string blob;  ///< of ours: how its content's id begins, in hexadecimal; empty: not said
  };
  static Aside readAside(const std::string& name, const FileStat& stat);
  std::optional<std::string> givenBackTo(DirectoryItem& item, const std::string& from, const Aside& aside);
  Result<bool> isAsMade(DirectoryItem& item, const std::string& from, const Aside& aside);
  Result<std::string> swapIn(const std::string& tempPath, const FileStat& fresh, const BlobId& blob, const store::DiskRow& row,
                             const std::string& path);
  Result<void> exchangeIn(const std::string& tempPath, const FileStat& fresh, const BlobId& blob, const store::DiskRow& row,
                          const std::string& path);
  Result<std::string> takeAside(const store::DiskRow& row, const std::string& path);
  void giveBack(const std::string& from, const std::string& path, bool beside = false), giveBackLater(const std::string& from, const std::string& path);
  /// What did not go back to where it was. `made`: the user may have written into it under `path`; the disk has not said yet.
  struct LeftAside {
    std::string at, path;
    std::optional<FileStat> made;
  };
  std::map<std::string, LeftAside> leftAside;  ///< by where it was
  Result<bool> stillOurs(const FileStat& made, const std::string& aside);
  bool settleAside(const std::string& tempPath);
  void settleAsideLater(const std::string& tempPath);
  void syncNames(const std::string& ours, const std::string& path), takeBack(const std::string& aside, const std::string& tempPath);
  bool undoPlacing(NodeId node, const FileStat& fresh, const std::string& from, const std::string& tempPath, const std::string& path);
  bool outOfTheWay(NodeId parent, const std::string& name), isGoingAround(NodeId parent, const std::string& name);
  bool standBeside(store::DiskRow folder);
  void retry(const EntryId& id), applied(const EntryId& id);
  void nobodyHas(const EntryId& id, const Refused& refusedByAll, Asked asked), askFarther(const EntryId& id, const Refused& refusedByAll, Asked then);
  void askForLastResort(const EntryId& id, int64_t delayMs, uint64_t had = 0);
  Nobody nobody;
  std::set<EntryId> moving;              ///< on their way now; others are moved out of theirs meanwhile
  std::vector<NodeId> goneNow;           ///< removed in this slice; rows go once their folders are synced
  std::set<std::string> goneParents;
};

}  // namespace realize::peer
