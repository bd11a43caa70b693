#pragma once

// What the parts of ArenaFileSystem share. `handles` and `requests` have locks of their own, which are taken last; all
// else is core state.

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "librealize/base/path.h"
#include "librealize/peer/arena_file_system.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

/// Answers that are still owed: each is given once, by whoever comes first of the work, its cancelling and the end.
class OwedAnswers {
 public:
  using Answer = std::function<void(std::optional<Error>)>;  ///< an error instead of the work's result
  uint64_t add(Answer giveUp);
  /// True for the one who may answer now.
  bool take(uint64_t number);
  void noteTransfer(uint64_t number, uint64_t transfer);
  /// The number of the transfer to cancel, 0 for none; nullopt when already answered.
  std::optional<uint64_t> giveUp(uint64_t number, const Error& error);
  void giveUpAll(const Error& error);

 private:
  struct Owed {
    Answer giveUp;
    uint64_t transfer = 0;
  };
  std::mutex mutex_;
  std::map<uint64_t, Owed> owed_;
  uint64_t last_ = 0;
};

/// One open file. It keeps what it opened, whatever becomes of the name.
struct OpenHandle {
  NodeId node = 0;
  std::shared_ptr<DiskFile> file;  ///< of a Real file; null for an Unreal one
  OpenBlob blob;                   ///< of an Unreal one
  Attributes atOpen;               ///< of an Unreal one
  bool writable = false;
  std::atomic<bool> wrote = false;
  std::atomic<int64_t> hintedNs = 0;  ///< monotonic; when the folder was last told that bytes change
};

struct ArenaFileSystem::State {
  explicit State(Core& core) : core(core) {}

  Core& core;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  std::atomic<bool> closed = false;
  std::shared_ptr<OwedAnswers> owed = std::make_shared<OwedAnswers>();

  std::mutex handlesMutex;
  std::unordered_map<FileHandle, std::shared_ptr<OpenHandle>> handles;
  FileHandle lastHandle = 0;

  /// Files that were renamed away, by the place they had: see takeBack().
  struct RenamedAway {
    EntryId id;
    int64_t atNs = 0;
  };
  std::map<std::pair<EntryId, std::string>, RenamedAway> renamedAway;
  std::unordered_map<NodeId, int64_t> directoryTimes;  ///< of directories that are not on disk: last change seen here
  std::unordered_map<NodeId, int64_t> hinted;          ///< when an unexpected file was last reported
  std::optional<std::pair<uint32_t, uint32_t>> owner;  ///< of the backing folder
  std::map<EntryId, std::vector<std::function<void(Result<void>)>>> becomingReal;

  // arena_file_system.cc: for all
  FairMutex& lock() { return core.env.scheduler.coreLock(); }
  /// The folder, if all is well. Errors: Suspended.
  Result<std::shared_ptr<Directory>> usable();
  /// The same for who changes what is in it.
  Result<std::shared_ptr<Directory>> changeable();
  /// Errors: NotFound when not shown.
  Result<logic::Record> recordOf(NodeId node);
  Result<logic::Record> directoryOf(NodeId node);
  Result<void> noteMark(const logic::Record& record, Mark mark);
  struct Found {
    logic::Record record;
    std::optional<store::DiskRow> row;
    std::string path;  ///< in the backing folder, of a Real one
  };
  Found found(logic::Record record);
  Result<Found> find(NodeId node);
  std::shared_ptr<OpenHandle> handleOf(FileHandle handle);
  FileHandle keep(std::shared_ptr<OpenHandle> handle);
  int64_t monotonicNs() { return core.env.clock.monotonicNs(); }
  int64_t restNs() const { return core.settings.restMs * 1'000'000; }

  // fs_lookup.cc
  Attributes ofStat(NodeId node, const FileStat& stat);
  Attributes ofVersion(const logic::Record& record);
  Result<Attributes> attributesOf(Directory& root, const Found& entry);
  Attributes mend(const logic::Record& record, const store::DiskRow& row, Attributes attributes);
  void unexpected(const store::DiskRow& row);
  std::pair<uint32_t, uint32_t> folderOwner();

  // fs_names.cc
  Result<void> checkNewName(const std::string& name);
  void renumber(const EntryId& id, NodeId to = 0);
  /// Call before a create of (parent, name): an entry that was removed there would come back with its old number, which
  /// somebody may still have open.
  bool comesBack(const EntryId& parent, const std::string& name, EntryKind kind);
  std::optional<logic::Record> takenBack(const EntryId& parent, const std::string& name);
  struct MadeEntry {
    EntryId id;
    NodeId node = 0;
  };
  Result<MadeEntry> makeEntry(const EntryId& parent, const std::string& name, EntryKind kind, const Version& version);
  Result<MadeEntry> takeBack(const logic::Record& away, const EntryId& parent, const std::string& name,
                             const Version& version);
  store::DiskRow rowOf(NodeId node, NodeId parent, const std::string& name, const FileStat& stat);
  void changedIn(NodeId directory, const std::string& diskPath);
  bool onDisk(const EntryId& directory);
  void own(Directory& root, const std::string& path, uint32_t uid, uint32_t gid);
  void removeEntry(const Found& entry, NodeId parent, const std::string& name);

  // fs_rename.cc
  std::vector<Dot> fullBase(const EntryId& id);
  std::vector<Dot> seenBase(const EntryId& id, const BlobId& blob);
  Version versionFor(const Found& entry);
  std::vector<Dot> seenAt(const Found& entry);
  logic::Base baseFor(const Found& entry);
  void putMoved(const Found& source, NodeId parent, const std::string& name, const std::optional<FileStat>& moved,
                std::vector<Dot> base);
  Result<void> replaceEntry(const Found& source, const Found& target, NodeId newParent, const std::string& newName,
                            const std::optional<FileStat>& moved);
  Result<void> renameTree(const Found& source, const std::optional<Found>& target, const logic::Record& newParent,
                          const std::string& newName, const std::optional<FileStat>& moved);
  Result<std::optional<FileStat>> renameOnDisk(Directory& root, Found& source, const std::optional<Found>& target,
                                               const logic::Record& newParent, const std::string& newName);
  Result<void> exchange(Directory& root, Found source, Found target, const logic::Record& parent,
                        const logic::Record& newParent, const std::string& name, const std::string& newName);
  bool isWithin(EntryId inner, const EntryId& outer);

  // fs_files.cc
  Result<FileHandle> openReal(Directory& root, const Found& entry, OpenFlags flags);
  Result<FileHandle> openEmptied(Directory& root, const Found& entry, OpenFlags flags);
  void openForWriting(const Found& entry, OpenFlags flags, std::function<void(Result<FileHandle>)> done);
  void becomeReal(const Found& entry, std::function<void(Result<void>)> done);
  Result<void> beforeWrite(OpenHandle& handle);

  // fs_attributes.cc
  Result<Attributes> change(NodeId node, FileHandle handle, const AttributeChange& change);
  Result<void> changeReal(Directory& root, Found& entry, DiskFile* file, const AttributeChange& change);
  Result<void> changeUnreal(const Found& entry, const AttributeChange& change);
  Result<Attributes> changeNameless(OpenHandle& handle, const AttributeChange& change);
};

}  // namespace realize::peer
