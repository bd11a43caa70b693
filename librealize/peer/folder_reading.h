#pragma once

// What is read of a folder: its watch, directories, and files to be hashed.

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "librealize/logic/reconcile.h"
#include "librealize/model/blob.h"
#include "librealize/peer/folder.h"

namespace realize::peer {

/// A watcher that scans add to from the pool.
struct SharedWatch {
  std::mutex mutex;
  std::unique_ptr<Watcher> watcher;
  bool exhausted = false;  ///< a directory could not be watched
  std::string failed{};    ///< for another reason than too few watches: the error
  void add(const std::string& path);
  void renamed(const std::string& from, const std::string& to);
  bool expect(const std::string& directory, uint64_t inode, const std::string& name);
};

/// Directories as they were read, with what their pattern files say.
struct ListingBatch {
  FileStat root;
  std::vector<logic::Listing> listings;
  Result<void> marker;   ///< still the arena's folder, before and after
  uint64_t entries = 0;
  std::map<std::string, FileStat> patterns;  ///< the pattern files that were read, by their directories, from before that
  std::set<std::pair<uint64_t, uint64_t>> linked;  ///< device and inode of files that have several names
};

/// Said of a path, before why.
inline constexpr char kUnreadable[] = ": cannot be read; it is left as it was. ";
std::string whyUnreadable(const Error& error);

/// What a file holds that was to replace its known content, and may not yet.
struct HeldContent {
  FileStat stat;  ///< when it was read
  BlobId blob;
};

/// What a backup brought back, or was lost; until the folder was read once with the tree of others.
enum class BroughtBack : uint8_t {
  Nothing,
  Database,  ///< the folder may be newer than it
  Folder,    ///< and perhaps the database: what is in the folder may be older than what is known
};

/// A file to be hashed: one that is new, or one whose bytes may have changed.
struct HashJob {
  NodeId node = 0;    ///< 0: new
  NodeId parent = 0;  ///< of a new one
  std::string name;
  std::string path;
  FileStat stat;
  bool joining = false;      ///< read to be matched with a tree that others have
  BroughtBack broughtBack = BroughtBack::Nothing;
  Result<Content> content = Error{Code::Busy, "not read"};
  bool movedHere = false;    ///< over another, and has left the name of its own entry
  bool replacesOld = false;  ///< to be judged by the guard
  uint64_t number = 0;
  bool unwritten = false;    ///< a sync of it failed: a copy is to take its place (unwritten.h)
  FileStat copy;             ///< of that, in tmp/
};

/// All that a pass needs of a folder can be read: its names, and the patterns in it and above.
bool canBeListed(Directory& root, const std::string& path);

}  // namespace realize::peer
