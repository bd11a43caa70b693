#pragma once

// SQLite on the injected Disk: so that the simulator's crashes reach the database, too.
//
// There is no shared memory: open WAL databases with `PRAGMA locking_mode = EXCLUSIVE` before anything else (SQLite then
// keeps the log's index on the heap); without it, SQLite refuses WAL. Nor is there memory mapping.

#include <memory>
#include <string>

#include "librealize/base/clock.h"
#include "librealize/base/disk.h"
#include "librealize/base/random.h"

namespace realize::store {

/// An SQLite VFS over one directory, registered under `name` while this lives. File names given to SQLite are beneath
/// the directory ("index.db").
///
/// A file's first sync also syncs its directory, so that it keeps its name. Locks exclude other connections through
/// this instance only: that no other process comes near is for the state folder's lock to see to.
/// Thread: any. Lifetime: close all databases first; clock and random outlive it.
class DiskVfs {
 public:
  /// `name` must be unused: SQLite's table of them is the process's.
  DiskVfs(std::string name, std::unique_ptr<Directory> directory, Clock& clock, Random& random);
  ~DiskVfs();
  DiskVfs(const DiskVfs&) = delete;
  DiskVfs& operator=(const DiskVfs&) = delete;

  const std::string& name() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace realize::store
