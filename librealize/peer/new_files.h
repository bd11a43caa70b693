#pragma once

// Small files that are new here, on their way into the folder: renamed one after the other, ahead of who notes them, since a
// rename takes the kernel as long as noting it takes us.

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "librealize/base/disk.h"
#include "librealize/peer/environment.h"
#include "librealize/peer/wish.h"

namespace realize::peer {

/// A folder that such files go to. Only within one job of the core.
struct PlacingFolder {
  std::shared_ptr<Directory> directory;
  EntryId id;
  NodeId node = 0;
  std::string path;   ///< on the disk
  std::string shown;  ///< in the tree
};

/// Kept open from one to the next.
struct PlacingFolders {
  std::shared_ptr<Directory> temp;
  std::shared_ptr<const PlacingFolder> last;
};

/// See Folder::prepareNew().
struct NewFile {
  Plan plan;
  NodeId node = 0;
  std::string tempName;
  FileStat fresh;  ///< as it was written
  std::shared_ptr<Directory> temp;
  std::shared_ptr<const PlacingFolder> folder;
  bool moved = false;
  std::optional<FileStat> there{};  ///< what has its name just after

  /// To its name, if nothing has that. Any thread.
  void move();
};

/// Some of them, all moved within one job of the core, by it and where the scheduler has other threads by one of those.
/// Thread: core.
class NewFiles {
 public:
  explicit NewFiles(Scheduler& scheduler) : scheduler_(scheduler) {}
  /// Nothing moves any more after this.
  ~NewFiles() { finish(); }
  NewFiles(const NewFiles&) = delete;
  NewFiles& operator=(const NewFiles&) = delete;

  /// Lets them move, after those before. Nulls are places that nothing stands at.
  void begin(std::vector<std::unique_ptr<NewFile>> files);
  /// Of those begun last: returns once it has moved, or could not. May be null.
  const NewFile* await(size_t index);

 private:
  struct Shared {
    bool moveNext();  ///< false: all are claimed
    std::vector<std::unique_ptr<NewFile>> files;
    std::unique_ptr<std::atomic<bool>[]> done;
    std::atomic<size_t> next{0};
  };
  void finish();
  Scheduler& scheduler_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace realize::peer
