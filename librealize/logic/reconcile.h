#pragma once

// Reads what changed in an arena's folder: what was listed there is compared with what is known to be there, and local
// steps come out (DESIGN 5). Pure; every watch event is only a hint for what to list, and scans use the same function.
//
// What must be listed together, for renames to be seen as renames: all directories that changed in one rest period, or
// the whole tree (a scan). An object that moved to a directory that is not listed looks like a removal now and like a
// new file later: bytes are safe, the identity is not. What a listing shows to be missing for a sure answer (the
// contents of a new directory, the other name of a hard link, a directory caught in motion) is named in
// Plan::alsoList: list these as well and call again with all.
//
// Protocol: stat the root and check its marker. List. Look at each listed directory's stat again afterwards: one whose
// mtime or ctime moved is listed again. Call reconcile. While alsoList is not empty, list more and call again, at most
// a few rounds, then with `askMore` false. Rename `deviceChanges` in the table, then carry out the steps in their order
// in one transaction. A step that fails (the tree knows better, or the disk has changed) is left out; its directory is
// looked at again.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "librealize/base/disk.h"
#include "librealize/model/tree.h"

namespace realize::logic {

/// One name that is known to be in the folder: a row of the disk table.
struct KnownRow {
  NodeId node = 0;
  NodeId parentNode = 0;
  std::string name;
  EntryKind kind = EntryKind::File;
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t birthNs = 0;  ///< Unix time; 0 where unknown
  uint64_t sizeBytes = 0;
  int64_t mtimeNs = 0;  ///< Unix time
  int64_t ctimeNs = 0;  ///< Unix time
  uint32_t mode = 0;
  bool hasBlob = false;  ///< of a file: its bytes were hashed and nothing is known to have changed since (not dirty)
};

/// The disk table, as far as it is needed here. Includes the root's row (kRootNode) if there is one.
class KnownDisk {
 public:
  virtual ~KnownDisk() = default;
  virtual std::optional<KnownRow> byNode(NodeId node) = 0;
  virtual std::optional<KnownRow> byName(NodeId parent, const std::string& name) = 0;
  /// Asked for each item that is not where it is known to be: on a first scan, for every one.
  virtual std::vector<KnownRow> byObject(uint64_t device, uint64_t inode) = 0;
  virtual std::vector<KnownRow> childrenOf(NodeId parent) = 0;
};

/// One directory as it was read.
struct Listing {
  enum class State : uint8_t {
    Complete,    ///< `items` and `ignored` are all names in it
    Unreadable,  ///< it is there, and could not be read, or is suspended: nothing below it is a removal
    Gone,        ///< there was nothing under that path, or no directory
  };
  std::string path;  ///< beneath the root, "" for the root itself
  State state = State::Complete;
  FileStat self;  ///< the directory's own, from before it was read; inode 0 if not known
  std::vector<DirectoryItem> items;
  std::vector<std::string> ignored;  ///< names that are there and not ours: never a removal, never new
  std::string why;  ///< it is Unreadable, and what to do, for people
};

struct ReconcileInput {
  FileStat root;                    ///< the arena's folder, whose marker was checked
  std::vector<Listing> listings;    ///< each path once, in any order
  bool askMore = true;              ///< false: decide with what is here, alsoList stays empty
  std::set<NodeId> acceptedMounts;  ///< directories whose other disk someone confirmed: no longer Absent
};

constexpr size_t kNoStep = SIZE_MAX;

/// One local change. Steps are sequential: each can be carried out as the tree stands after those before it. A target
/// name is free of known entries, a parent exists, a directory is emptied before it is removed, and no directory goes
/// below itself.
struct Step {
  enum class Kind : uint8_t {
    New,          ///< make an entry at (parent, name)
    Park,         ///< take `node` out of (fromParent, fromName) for now, its Move follows: only where names are swapped or
                  ///< a place is needed before it can be left. To the root under parkName() is a way to do it.
    Move,         ///< `node` from (fromParent, fromName) to (parent, name), with all below it
    TypeChanged,  ///< `node` at (parent, name) is gone (with no one below it left), an object of `entryKind` is there
    Replaced,     ///< another object holds the name of `node`: an edit (editors save that way); look at bytes and mode
    Content,      ///< the bytes of `node` may have changed: hash them. Mode may have changed, too.
    Attributes,   ///< only mode or times of `node` have changed
    Vanished,     ///< `node` is gone; those below it have gone in earlier steps
  };
  Kind kind = Kind::New;
  NodeId node = 0;              ///< 0 for New
  NodeId parent = 0;            ///< of New, Move, TypeChanged; 0 if it is made by an earlier step:
  size_t parentStep = kNoStep;  ///< the New or TypeChanged that makes the parent
  std::string name;
  NodeId fromParent = 0;  ///< of Park, Move and Vanished: the place left, for a Move also if parked since
  std::string fromName;
  EntryKind entryKind = EntryKind::File;
  /// As listed, for the row: of New and TypeChanged at once, of Attributes when done, of Replaced and Content only with
  /// the new hash (until then the row is marked dirty). A Move changes the place only; if the rest of the row has to
  /// follow, another step says so.
  FileStat stat;
  /// Of New and Replaced: this known entry's object it was (0: an unknown one). If that row's size and mtime are those
  /// of `stat`, so are its bytes.
  NodeId source = 0;
  /// Of Attributes: ctime alone has moved, and nothing here explains it. The bytes may have been changed and the times
  /// set back: hash when there is time.
  bool verify = false;
};

/// What the folder holds that is not, or not for sure, a change. For status.
struct Note {
  enum class Kind : uint8_t {
    Special,      ///< a socket, fifo or device: skipped
    InvalidName,  ///< a name that an arena cannot hold: skipped
    SecondName,   ///< a hard link to another name here: taken as a file of its own
    Unreadable,   ///< a directory: what is below is unknown
    Unknown,      ///< a name whose stat failed
    Absent,       ///< a directory whose disk is missing, another one, or has been mounted over it
    Unread,       ///< a directory that was not listed though it should have been (`askMore` false)
  };
  Kind kind = Kind::Special;
  std::string path;
  NodeId node = 0;  ///< the known entry it concerns, or 0
};

struct Plan {
  std::vector<Step> steps;  ///< empty while `alsoList` is not
  std::vector<Note> notes;
  std::vector<std::string> alsoList;  ///< paths; sorted, each once, possibly some that were listed (again, then)
  /// Disks whose numbers are others since a restart, (then, now): to be changed in all rows at once.
  std::vector<std::pair<uint64_t, uint64_t>> deviceChanges;

  /// What the steps remove: Vanished and TypeChanged, for the guard.
  std::vector<NodeId> removed() const;
};

Plan reconcile(const ReconcileInput& input, KnownDisk& known);

/// Where something is on the disk that is known elsewhere still: `path` in the folder `parent`.
struct Standing {
  NodeId parent = 0;
  std::string path;
};

/// Takes the removals out but those that are meant, with every step that needs one of them: what may be done while the guard
/// holds them. Returns where those stand whose moves were such steps.
std::map<NodeId, Standing> dropRemovals(Plan& plan, const std::function<bool(NodeId)>& meant = nullptr);

/// A name for Step::Park in the root; nobody else's.
std::string parkName(NodeId node);

/// The kind of entry, or nothing for special files.
std::optional<EntryKind> entryKindOf(FileStat::Type type);

}  // namespace realize::logic
