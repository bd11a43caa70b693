// Open files: bytes of Real ones straight from the disk, of Unreal ones through Transfers.

#include <algorithm>

#include "librealize/model/blob.h"
#include "librealize/peer/arena_file_system_state.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/unwritten.h"
#include "librealize/store/database.h"

namespace realize::peer {

namespace {
const Error kNoHandle{Code::InvalidArgument, "no such open file"};
}

Result<FileHandle> ArenaFileSystem::State::openReal(Directory& root, const Found& entry, OpenFlags flags) {
  const bool write = flags.write || flags.truncate;
  auto opened = root.open(entry.path, write ? OpenMode::ReadWrite : OpenMode::Read);
  if (!opened.ok()) {
    if (opened.code() == Code::NotFound) unexpected(*entry.row);
    return opened.error();
  }
  auto handle = std::make_shared<OpenHandle>();
  handle->node = entry.record.node;
  handle->file = std::move(*opened);
  handle->writable = write;
  if (flags.truncate) {
    if (!core.folder->hintContent(handle->node)) return Error{Code::Suspended, core.suspendedWhy};
    REALIZE_TRY(handle->file->truncate(0));
    handle->wrote = true;
    handle->hintedNs = monotonicNs();
  }
  return keep(std::move(handle));
}

/// Of an Unreal file nothing is needed when it is emptied anyway.
Result<FileHandle> ArenaFileSystem::State::openEmptied(Directory& root, const Found& entry, OpenFlags flags) {
  const auto& record = entry.record;
  const NodeId node = record.node;
  auto shown = core.shownVersion(record);
  const uint32_t mode = shown ? shown->second.mode & 0777 : 0644;
  REALIZE_ASSIGN(const std::string parentPath, core.folder->materialize(record.shownParent));
  const std::string path = joinPath(parentPath, record.shownName);
  const NodeId parent = core.store.nodeOf(record.shownParent).value_or(0);
  auto made = root.open(path, OpenMode::CreateNew, mode);
  if (!made.ok()) {
    if (made.code() != Code::Exists) return made.error();
    core.folder->hintDirectory(parent);
    return Error{Code::Busy, path + ": a file that has not been read yet is there"};
  }
  std::shared_ptr<DiskFile> file = std::move(*made);
  auto prepared = [&]() -> Result<FileStat> {
    REALIZE_TRY(file->setMode(mode));
    return file->stat();
  }();
  Result<void> done = prepared.ok() ? Result<void>() : Result<void>(prepared.error());
  const bool noted = done.ok() && core.transact([&] {
    Version version;
    version.blob = emptyBlobId();
    version.mode = mode;
    version.mtimeNs = prepared->mtimeNs;
    done = core.tree.write(record.entry.id, version);
    if (!done.ok()) return;
    auto row = rowOf(node, parent, record.shownName, *prepared);
    row.blob = version.blob;
    row.dirty = true;
    row.base = seenBase(record.entry.id, version.blob);
    core.store.disk().put(row);
  }, false);
  if (!noted || !done.ok()) {
    auto gone = root.unlink(path);
    (void)gone;  // Else it is read as an edit.
    return done.ok() ? Error{Code::Suspended, core.suspendedWhy} : done.error();
  }
  changedIn(parent, parentPath);
  core.folder->hintDirectory(parent);
  auto handle = std::make_shared<OpenHandle>();
  handle->node = node;
  handle->file = file;
  handle->writable = flags.write;
  handle->wrote = true;
  handle->hintedNs = monotonicNs();
  return keep(std::move(handle));
}

/// All who want it now share one fetch.
void ArenaFileSystem::State::becomeReal(const Found& entry, std::function<void(Result<void>)> done) {
  const EntryId id = entry.record.entry.id;
  auto shown = core.shownVersion(entry.record);
  if (!shown) return done(Error{Code::NotFound, "the file has no content yet"});
  auto& waiting = becomingReal[id];
  waiting.push_back(std::move(done));
  if (waiting.size() > 1) return;
  auto tell = [this, alive = alive, id](Result<void> made) {
    if (!*alive) return;
    auto all = std::move(becomingReal[id]);
    becomingReal.erase(id);
    for (auto& one : all) one(made);
  };
  auto begun = store::catching([&] {
    core.transfers->makeReal(id, shown->first, shown->second.blob, shown->second.sizeBytes, tell);
  });
  if (!begun.ok()) tell(begun.error());
}

void ArenaFileSystem::open(NodeId node, OpenFlags flags, std::function<void(Result<FileHandle>)> done) {
  auto& s = *s_;
  auto now = [&]() -> std::optional<Result<FileHandle>> {
    std::lock_guard held(s.lock());
    auto root = s.usable();
    if (!root.ok()) return Result<FileHandle>(root.error());
    auto entry = s.find(node);
    if (!entry.ok()) return Result<FileHandle>(entry.error());
    if (entry->record.entry.kind == EntryKind::Directory) return Result<FileHandle>(Error{Code::IsDirectory, "a folder"});
    if (entry->record.entry.kind != EntryKind::File) return Result<FileHandle>(Error{Code::Unsupported, "a symlink"});
    if (entry->row) return s.openReal(**root, *entry, flags);
    if (flags.truncate) return s.openEmptied(**root, *entry, flags);
    if (!flags.write) {
      auto shown = s.core.shownVersion(entry->record);
      if (!shown) return Result<FileHandle>(Error{Code::NotFound, "the file has no content yet"});
      auto handle = std::make_shared<OpenHandle>();
      handle->node = node;
      handle->atOpen = s.ofVersion(entry->record);
      handle->blob = s.core.transfers->open(shown->second.blob, shown->second.sizeBytes);
      return Result<FileHandle>(s.keep(std::move(handle)));
    }
    s.openForWriting(*entry, flags, done);
    return std::nullopt;
  }();
  if (now) done(std::move(*now));
}

FileHandle ArenaFileSystem::openVersion(const Attributes& attributes, const BlobId& blob) {
  auto handle = std::make_shared<OpenHandle>();
  handle->node = attributes.node;
  handle->atOpen = attributes;
  handle->blob = s_->core.transfers->open(blob, attributes.sizeBytes);
  return s_->keep(std::move(handle));
}

void ArenaFileSystem::State::openForWriting(const Found& entry, OpenFlags flags, std::function<void(Result<FileHandle>)> done) {
  auto& scheduler = core.env.scheduler;
  const uint64_t number = owed->add([done](std::optional<Error> error) { done(*error); });
  becomeReal(entry, [this, owed = owed, number, id = entry.record.entry.id, flags, done, &scheduler](Result<void> made) {
    // On the core.
    Result<FileHandle> opened = Error{Code::Stale, "removed meanwhile"};
    auto root = usable();
    auto node = core.store.nodeOf(id);
    if (!made.ok()) {
      opened = made.error();
    } else if (root.ok() && node) {
      auto now = find(*node);
      if (now.ok() && now->row) opened = openReal(**root, *now, flags);
      else if (now.ok()) opened = Error{Code::Busy, "it became Unreal again"};
      core.invalidations->nodeChanged(*node, false);
    }
    auto answer = std::make_shared<Result<FileHandle>>(std::move(opened));
    scheduler.onPool(true, [owed, number, answer, done] {
      if (owed->take(number)) done(std::move(*answer));
    });
  });
}

// --- bytes --------------------------------------------------------------------------------------------------------

uint64_t ArenaFileSystem::read(FileHandle number, uint64_t offset, size_t size, std::function<void(Result<Bytes>)> done) {
  auto& s = *s_;
  auto handle = s.handleOf(number);
  if (!handle) {
    done(s.closed ? Error{Code::Suspended, "the arena is closed"} : kNoHandle);
    return 0;
  }
  if (handle->file) {
    Bytes bytes(size);
    auto got = handle->file->read(offset, bytes);
    if (!got.ok()) {
      done(got.error());
      return 0;
    }
    bytes.resize(*got);
    done(std::move(bytes));
    return 0;
  }
  // The answer may come while we still hold the lock, or from the core, which holds it, too: then it is told later.
  struct Delivery {
    std::mutex mutex;
    bool returned = false;
    std::optional<Result<Bytes>> early;
  };
  auto delivery = std::make_shared<Delivery>();
  const uint64_t request = s.owed->add([done](std::optional<Error> error) { done(*error); });
  auto answer = [delivery, owed = s.owed, request, done, &scheduler = s.core.env.scheduler](Result<Bytes> bytes) {
    {
      std::lock_guard held(delivery->mutex);
      if (!delivery->returned) {
        delivery->early = std::move(bytes);
        return;
      }
    }
    if (bytes.ok()) {
      if (owed->take(request)) done(std::move(bytes));  // Bytes come from the pool.
      return;
    }
    scheduler.onPool(true, [owed, request, done, error = bytes.error()] {
      if (owed->take(request)) done(error);
    });
  };
  Result<void> started;
  {
    std::lock_guard held(s.lock());
    auto root = s.usable();
    if (!root.ok()) started = root.error();
    else started = store::catching([&] { s.owed->noteTransfer(request, s.core.transfers->read(handle->blob, offset, size, std::move(answer))); });
  }
  std::optional<Result<Bytes>> early;
  {
    std::lock_guard held(delivery->mutex);
    delivery->returned = true;
    early = std::move(delivery->early);
  }
  if (!started.ok()) early = started.error();
  if (!early) return request;
  if (s.owed->take(request)) done(std::move(*early));
  return 0;
}

void ArenaFileSystem::cancel(uint64_t request) {
  auto& s = *s_;
  auto transfer = s.owed->giveUp(request, Error{Code::Cancelled, "interrupted"});
  if (!transfer || *transfer == 0) return;
  std::lock_guard held(s.lock());
  if (s.usable().ok()) s.core.transfers->cancel(*transfer);
}

/// That bytes change is known to the database before they do, so that a crash leaves no edit nobody looks for; and again
/// while they go on, so that the file is read after it has rested.
Result<void> ArenaFileSystem::State::beforeWrite(OpenHandle& handle) {
  if (closed) return Error{Code::Suspended, "the arena is closed"};
  if (!handle.file || !handle.writable) return Error{Code::InvalidArgument, "not open for writing"};
  const int64_t now = monotonicNs();
  if (handle.wrote && now - handle.hintedNs < restNs() / 2) return {};
  std::lock_guard held(lock());
  auto root = usable();
  if (!root.ok()) return root.error();
  if (!core.folder->hintContent(handle.node)) return Error{Code::Suspended, core.suspendedWhy};
  handle.hintedNs = now;
  handle.wrote = true;
  return {};
}

Result<size_t> ArenaFileSystem::write(FileHandle number, uint64_t offset, std::span<const std::byte> bytes) {
  auto handle = s_->handleOf(number);
  if (!handle) return s_->closed ? Error{Code::Suspended, "the arena is closed"} : kNoHandle;
  REALIZE_TRY(s_->beforeWrite(*handle));
  REALIZE_TRY(handle->file->write(offset, bytes));
  return bytes.size();
}

Result<void> ArenaFileSystem::allocate(FileHandle number, uint64_t offset, uint64_t length, bool punch, bool keepSize) {
  auto handle = s_->handleOf(number);
  if (!handle) return s_->closed ? Error{Code::Suspended, "the arena is closed"} : kNoHandle;
  REALIZE_TRY(s_->beforeWrite(*handle));
  return punch ? handle->file->punchHole(offset, length) : handle->file->allocate(offset, length, keepSize);
}

Result<void> ArenaFileSystem::sync(FileHandle number, bool dataOnly) {
  auto handle = s_->handleOf(number);
  if (!handle) return s_->closed ? Error{Code::Suspended, "the arena is closed"} : kNoHandle;
  if (!handle->file) return {};
  auto synced = handle->file->sync(!dataOnly);
  const auto file = synced.ok() ? Result<FileStat>(Error{}) : handle->file->stat();
  if (!file.ok()) return synced;
  // That was told to who asked, and will not be told to us.
  auto& s = *s_;
  std::lock_guard held(s.lock());
  if (!s.usable().ok()) return synced;
  s.core.unwritten->note(*file);
  (void)s.core.folder->hintContent(handle->node);
  return synced;
}

Result<void> ArenaFileSystem::syncDirectory(NodeId node) {
  auto& s = *s_;
  std::shared_ptr<Directory> root;
  std::string path;
  bool real = false;
  {
    std::lock_guard held(s.lock());
    REALIZE_ASSIGN(root, s.usable());
    REALIZE_ASSIGN(auto directory, s.directoryOf(node));
    const auto entry = s.found(std::move(directory));
    real = entry.row.has_value();
    path = entry.path;
    REALIZE_TRY(store::catching([&] { s.core.store.makeDurable(); }));
  }
  return real ? root->syncDirectory(path) : Result<void>();
}

void ArenaFileSystem::release(FileHandle number) {
  auto& s = *s_;
  std::shared_ptr<OpenHandle> handle;
  {
    std::lock_guard held(s.handlesMutex);
    auto it = s.handles.find(number);
    if (it == s.handles.end()) return;
    handle = std::move(it->second);
    s.handles.erase(it);
  }
  if (!handle->wrote) return;
  std::lock_guard held(s.lock());
  if (s.usable().ok()) s.core.folder->hintContent(handle->node);
}

int ArenaFileSystem::descriptor(FileHandle number) {
  auto handle = s_->handleOf(number);
  return handle && handle->file ? handle->file->descriptor() : -1;
}

}  // namespace realize::peer
