#pragma once

// The arena's backing folder (DESIGN 5). Inbound: hints from the watch, the mount and scans are collected until their
// directories have rested, the directories are listed on the pool, logic::reconcile says what happened, contents are
// hashed on the pool, and the tree is changed in one transaction. Outbound: entries whose visible state changed are
// compared with the disk table and the folder is made to follow: rename(2) for moves, exchange for new contents,
// removal only of what is on disk exactly as we know it.
//
// Every local change carries its base (DiskRow::base, the dots that the folder was showing), so that a change made here
// before a remote one was applied to the folder is concurrent with it, as it truly was.

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "librealize/peer/core.h"
#include "librealize/peer/wish.h"

namespace realize::peer {

/// Names inside the backing folder that are ours.
inline constexpr char kOwnFolder[] = ".realize";
inline constexpr char kMarkerPath[] = ".realize/arena";   ///< the arena's id in hexadecimal, a newline
inline constexpr char kTempFolder[] = ".realize/tmp";     ///< emptied at start
inline constexpr char kCacheFolder[] = ".realize/cache";  ///< one sparse file per blob, named by hex id

/// A folder of the user's that files are put into, kept open.
struct PlacingFolder {
  std::unique_ptr<Directory> open;
  EntryId id;
  NodeId node = 0;
  uint64_t inode = 0;
  std::string path;    ///< on the disk
  std::string shown;   ///< in the tree
};

/// What was put into one.
struct PlacedFile {
  std::shared_ptr<PlacingFolder> folder;
  store::DiskRow row;
};

/// A complete, synced file among our own that is new in its folder.
struct NewFile {
  Plan plan;
  NodeId node = 0;
  std::string tempName;  ///< in kTempFolder
  FileStat fresh;        ///< what it is there
  std::shared_ptr<PlacingFolder> folder;
  Result<void> put = Error{Code::Busy, "not put in place yet"};
  Result<FileStat> seen = Error{Code::Busy, "not looked at yet"};  ///< at its place, after it or another came there
  bool followed = false;  ///< another came to its place after it
  bool expected = false;  ///< the watch leaves out that it came
};

/// Several that the pool puts in place one after another.
struct NewFiles {
  std::shared_ptr<Directory> temp;
  std::vector<NewFile> files;
  std::mutex mutex;  ///< held while they are put in place
  std::atomic<bool> cancelled = false;
};

/// Thread: core. Lifetime: the ArenaCore's.
class Folder {
 public:
  explicit Folder(Core& core);
  ~Folder();

  /// Polls readable when drainWatch() has something to do; -1 without a watch.
  int watchDescriptor();
  struct Beginning {
    bool fresh = false;        ///< the arena was created or joined right now: `.realize/` and the marker are made
    bool joining = false;      ///< the folder is matched with a tree that is still to come: the first scan waits for it
    bool oldDatabase = false;  ///< a copy, as from a backup: the folder has a life that it knows nothing of
    bool newDatabase = false;  ///< the former one was lost
    bool killed = false;       ///< the process before did not end in order: what it had still to sync is not known
    std::set<NodeId> stayed{};  ///< as the Folder before this one knew (noteStayed())
  };
  /// Makes or checks the marker; removes leftovers in tmp/; starts the watch and the first scan. An absent folder suspends
  /// the arena. Where the database or the folder was brought back from a backup or the database was lost, the others' tree
  /// is waited for, too, if there are others; what is missing then is not removed, and what is old is no edit.
  Result<void> start(const Beginning& how);
  /// Within the transaction that notes which database this is: durable until the folder has been read once after that.
  void noteBroughtBack(const Beginning& how);
  /// A peer's whole tree has arrived.
  void treeReceived();
  /// A connected peer knows no more than we do, and may be waiting for a tree itself.
  void nobodyTellsMore();
  void stop();

  /// The folder's root; null while suspended. Shared: pool jobs keep it open.
  std::shared_ptr<Directory> root();

  // --- inbound
  /// The watch has events, or `tick` of a timer: drains and schedules.
  void drainWatch();
  /// Look at this directory again after the rest.
  void hintDirectory(NodeId directory);
  /// A file was changed under one name: the watch tells of no other that it may have here.
  void lookAtOtherNames(const FileStat& file);
  /// The file's bytes may have changed (the mount wrote): durable in DiskRow::dirty before the write is answered. False
  /// if that could not be noted.
  bool hintContent(NodeId file);
  /// The mount changed names in this directory: a listing of it that is under way is old, and read again.
  void changedByMount(const std::string& directory);
  /// The mount renamed a directory on disk: the watch follows.
  void directoryRenamed(const std::string& from, const std::string& to);
  void rescanAll();
  /// Local changes are known to exist that are not in the tree yet, or tree changes not in the folder yet (other than
  /// missing bytes).
  bool settling() const;
  bool scanning() const;
  /// What is in the folder is still being matched with a tree; and that has not come yet. See start().
  bool joining() const;
  bool waitingForTree() const;
  uint64_t scannedEntries() const;
  /// Reads what is queued as soon as it has rested and then calls `done` (on the core); used by wait and askState.
  void barrier(std::function<void()> done);
  /// The arena is suspended: nothing will be read before it goes on, and who waits is told.
  void answerBarriers();
  /// Forgets problems that are none any more. Throws DatabaseError.
  void reviewProblems();
  /// Looks whether the folder's path still leads to the folder that is open here: a disk that was unmounted lazily, or
  /// another one mounted over it, raises no event. If not, the arena is suspended until it does. Cheap; for now and then.
  void reviewRoot();
  /// Removals and new contents held back by the guards. confirm: apply them (or with keep: bring the entries, and their
  /// known contents, back to disk).
  uint64_t heldRemovals() const;
  uint64_t heldOverwrites() const;
  /// As far as is known the file has what the row says. Not where a backup came back, before it was read since.
  bool isAsKnown(const store::DiskRow& row);
  /// The machine stopped under this arena, and not all files were read since: one that was being written then may have other bytes
  /// than before under the same times. allRead(): they were.
  bool mayBeTorn() const;
  void allRead();
  /// What is in the cache under that name may be something else: it is read, and counts as whole if it is not.
  void recognise(const BlobId& blob);
  /// Of the entries whose rows say that they have it, those whose file may have changed since; some, where there are many.
  std::vector<EntryId> unreadWith(const BlobId& blob);
  /// Whether what the file at that path of the folder has is held back.
  bool holdsContent(const std::string& path);
  Result<uint64_t> confirmHeld(bool keep);

  // --- outbound
  /// These entries' visible state (place, shown, heads) or mark changed: make the folder follow. Cheap; work is queued.
  void entryChanged(const EntryId& id);
  /// Relative path of a node in the folder by the disk table; nullopt if it (or a folder above) is not on disk.
  std::optional<std::string> diskPath(NodeId node);
  /// Makes the directory and those above it exist on disk. Returns its path.
  Result<std::string> materialize(const EntryId& directory);

  /// Nodes whose files are about to leave the folder by our doing: durable before they do, so that a crash in between
  /// is not read as a removal by the user. Takes effect with the next Core::store.makeDurable().
  void noteLeaving(NodeId node);
  /// It did not leave: remembered by this process (Beginning) also where the database fails before that is durable.
  void noteStayed(NodeId node);
  const std::set<NodeId>& stayed() const;
  /// It did not leave after all, or was read and synced since it was put there: from here on its absence is a removal by
  /// the user again.
  void noteOnDisk(NodeId node);
  /// A version whose file is about to take its place.
  struct Placing {
    EntryId id;
    Dot dot;
    FileStat file;
    bool named = false;  ///< its name among our own is on the disk
    NodeId node = 0;     ///< of the entry; 0: it is looked up
  };
  /// Before place(), in a transaction of its own: should the one of place() not come to its end, what the user does to
  /// these files meanwhile has seen them. False: the database fails, and nothing is to be placed.
  bool notePlacing(const std::vector<Placing>& files);
  /// Before putNew(), within a transaction that has ended by then: these stay noted until the next call.
  void notePlacingNew(const std::vector<Placing>& files);
  /// In the transaction that placed them, after all were. What was not placed stays where it is until that has ended.
  void placingDone();
  /// The user made, changed or removed a name in that folder, or gave that entry another mode or time: synced before a peer
  /// is told.
  void changedByUser(NodeId node);
  /// All of those are on the disk. Call it before a change leaves for a peer. Throws DatabaseError.
  void makeNamesDurable();
  /// The same on the pool, so that the core needs not wait for the disk; `done` runs on the core, also if it failed.
  void makeNamesDurableThen(std::function<void()> done);
  /// A name that was made just now, and is not on the disk yet: should a power cut take it, that is no removal by the user.
  void noteNew(NodeId node);
  /// A complete, synced file at `tempPath` (in kTempFolder or kCacheFolder, beneath the root) with the content of head
  /// `dot` of `id`: put in place by rename or exchange. What was displaced, if not as we knew it, stays (the exchange is
  /// undone and it is read as a local edit). On success the disk table has the row and `tempPath` is gone.
  /// Errors: Busy (somebody writes; retried later by the caller), NotFound (entry gone or changed meanwhile), disk errors.
  /// `known`: what the file at `tempPath` is, if the caller has just looked.
  Result<void> place(const EntryId& id, Dot dot, const std::string& tempPath, const FileStat* known = nullptr);
  /// Which bytes the cache's file has is not known yet, after the process was killed, or the database or the folder came back
  /// from a backup or went: it may be the only copy of them.
  bool isUnrecognised(const BlobId& blob) const;
  /// What place() was given from the cache is under another name of ours, as the disk did not let it go back; tries that again.
  bool stillAside(const std::string& cachePath);
  /// The same for a file that is new here, in three steps, of which the second needs no core (Transfers::finishPlacing()).
  /// Where it goes: null where it is not as simple as a new name for it in a folder that is there. `last`: where the one
  /// before went, or null.
  std::shared_ptr<PlacingFolder> placeForNew(const Plan& plan, NodeId node, const FileStat& fresh,
                                             const std::shared_ptr<PlacingFolder>& last);
  /// Puts them in place, in their order. May outlive this. Thread: of what it returns, any.
  std::function<void()> putNew(std::shared_ptr<NewFiles> files);
  /// Of one that was put there: the disk table has the row. Within a transaction.
  void noteNew(const NewFile& file);
  /// The reverse: moves the Real file (unchanged, nobody writing) to `cachePath`, or removes it where that is empty, and
  /// forgets its disk row.
  /// Errors: Busy (changed, dirty or open for writing), disk errors.
  Result<void> displace(const EntryId& id, const std::string& cachePath);
  /// It is shown as a last resort, has no bytes here and is not wanted, or may have been removed here: asks now and then whether anybody has some, and so
  /// comes to nobodyHas(). Cheap.
  void lastResort(const EntryId& id);
  /// Whether any of those is not answered yet.
  bool askingForLastResorts() const;
  /// Some version of it is wanted here and every connected peer was asked in vain, as `refusedByAll` tells of each of them.
  /// If all were let go (rule 9: they are shown as a last resort), the entry goes back to what the folder has of it, or goes.
  /// What may be given up only if no member has it waits until each has said so, whom this peer does not meet through others.
  void nobodyHas(const EntryId& id, const std::function<bool(const BlobId&)>& refusedByAll);

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace realize::peer
