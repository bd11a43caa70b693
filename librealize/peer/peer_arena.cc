// The public Arena: calls into the arena's core under its lock, and waits for what takes time.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <future>

#include "librealize/peer/copies.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/peer_impl.h"
#include "librealize/peer/transfers.h"
#include "librealize/peer/undo.h"
#include "librealize/peer/unwritten.h"
#include "librealize/peer/verify.h"

namespace realize::peer {

namespace {

constexpr size_t kFetchesAtOnce = 4;
constexpr auto kHoldersPatience = std::chrono::seconds(2);
constexpr auto kProgressEvery = std::chrono::milliseconds(200);

class ArenaHandle final : public Arena {
 public:
  ArenaHandle(std::shared_ptr<Hosted> arena, ArenaQuestions ask) : arena_(std::move(arena)), ask_(std::move(ask)) {}

  std::string name() const override { return arena_->name(); }
  ArenaId id() const override { return arena_->id(); }
  std::string folder() const override { return arena_->userFolder() ? arena_->folder() : ""; }
  FileSystem& fileSystem() override { return arena_->fileSystem(); }

  Result<EntryInfo> stat(const std::string& path) override;
  Result<std::vector<EntryInfo>> list(const std::string& path) override;
  Result<size_t> read(const std::string& path, uint64_t offset, std::span<std::byte> dst) override;
  Result<void> fetch(const std::string& path, std::function<bool(const Progress&)> progress) override;
  Result<void> mark(const std::string& path, Mark mark) override;
  Result<std::vector<EntryInfo>> conflicts() override;
  Result<void> resolve(const std::string& path, const std::string& label) override;
  Result<uint64_t> confirm(bool keep) override;
  Result<std::vector<HistoryItem>> history(const std::string& path, size_t limit) override;
  Result<WhyReport> why(const std::string& path) override;
  Result<ArenaStatus> status() override { return ask_.status(*arena_); }
  Result<std::vector<UndoItem>> undoable(const std::string& path, int64_t sinceNs, size_t limit) override;
  Result<UndoReport> undo(const UndoRequest& request, bool dryRun, std::function<bool(const Progress&)> progress) override;
  Result<uint64_t> shrinkCache(uint64_t bytes) override;
  Result<CacheStatus> cacheStatus() override;
  Result<VerifyReport> verify(std::function<bool(const Progress&)> progress) override;
  Result<void> rescan() override;

 private:
  struct Wanted {
    std::string path;
    BlobId blob;
    uint64_t sizeBytes = 0;
  };
  void name(EntryInfo& entry);
  void askHolders(EntryInfo& entry, const std::string& path);
  UndoItem itemOf(Core& core, const store::HistoryRow& row, const std::string& state);
  Result<std::vector<Wanted>> filesBelow(const std::string& path);
  Error about(const std::string& path, const Error& error) const;
  using Fetching = std::future<Result<void>>;
  Result<Fetching> beginFetch(const std::function<Result<EntryId>(Core&)>& entry, const BlobId& blob, uint64_t sizeBytes);
  Result<void> endFetch(Fetching& fetched);
  Result<void> fetchContent(const std::function<Result<EntryId>(Core&)>& entry, const BlobId& blob, uint64_t sizeBytes);

  std::shared_ptr<Hosted> arena_;
  ArenaQuestions ask_;
};

/// Who has no file at hand says only what is wrong.
Error ArenaHandle::about(const std::string& path, const Error& error) const {
  return {error.code, arena_->name() + ":" + path + ": " + error.message};
}

/// Keys become names, where known.
void ArenaHandle::name(EntryInfo& entry) {
  for (auto& head : entry.heads) head.peer = ask_.nameOf(head.peer);
  for (auto* peers : {&entry.holders, &entry.holdersUnknown}) {
    for (auto& peer : *peers) peer = ask_.nameOf(peer);
    std::sort(peers->begin(), peers->end());
  }
}

Result<EntryInfo> ArenaHandle::stat(const std::string& path) {
  REALIZE_ASSIGN(auto tidy, tidyPath(path));
  REALIZE_ASSIGN(auto entry, arena_->locked([&](ArenaCore& core) { return core.stat(tidy); }));
  askHolders(entry, tidy);
  name(entry);
  return entry;
}

/// Connected peers are asked, for a moment; who does not answer is among the unknown.
void ArenaHandle::askHolders(EntryInfo& entry, const std::string& path) {
  if (entry.kind != EntryKind::File) return;
  auto answer = std::make_shared<std::promise<Copies::Holders>>();
  auto asked = answer->get_future();
  auto members = arena_->locked([&](ArenaCore& arena) -> Result<std::vector<std::string>> {
    auto& core = arena.core();
    REALIZE_ASSIGN(auto record, core.recordAt(path));
    std::vector<std::string> out;
    for (const auto& member : core.store.members().all())
      if (member.admitted && member.peer != core.options.self) out.push_back(member.peer.hex());
    if (const auto shown = core.shownVersion(record))
      core.copies->holders({record.entry.id, shown->second.blob}, [answer](Copies::Holders found) { answer->set_value(std::move(found)); });
    else answer->set_value({});
    return out;
  });
  if (!members.ok()) return;
  if (asked.wait_for(kHoldersPatience) != std::future_status::ready) {
    entry.holdersUnknown = *members;
    return;
  }
  try {
    const auto found = asked.get();
    for (const auto& peer : found.have) entry.holders.push_back(peer.hex());
    for (const auto& peer : found.unknown) entry.holdersUnknown.push_back(peer.hex());
  } catch (const std::future_error&) {  // The arena was left meanwhile.
    entry.holdersUnknown = *members;
  }
}

Result<std::vector<EntryInfo>> ArenaHandle::list(const std::string& path) {
  REALIZE_ASSIGN(auto tidy, tidyPath(path));
  REALIZE_ASSIGN(auto entries, arena_->locked([&](ArenaCore& core) { return core.list(tidy); }));
  for (auto& entry : entries) name(entry);
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return entries;
}

Result<size_t> ArenaHandle::read(const std::string& path, uint64_t offset, std::span<std::byte> dst) {
  REALIZE_ASSIGN(auto tidy, tidyPath(path));
  REALIZE_ASSIGN(auto entry, arena_->locked([&](ArenaCore& core) { return core.stat(tidy); }));
  if (entry.kind == EntryKind::Directory) return Error{Code::IsDirectory, name() + ":" + path + ": is a folder"};
  if (entry.kind == EntryKind::Symlink)
    return Error{Code::InvalidArgument, name() + ":" + path + ": is a symlink; read what it points to"};
  auto& files = arena_->fileSystem();
  auto opened = std::make_shared<std::promise<Result<FileHandle>>>();
  auto handle = opened->get_future();
  files.open(entry.node, OpenFlags{}, [opened](Result<FileHandle> result) { opened->set_value(std::move(result)); });
  auto file = handle.get();
  if (!file.ok()) return about(path, file.error());
  auto got = std::make_shared<std::promise<Result<Bytes>>>();
  auto answer = got->get_future();
  files.read(*file, offset, dst.size(), [got](Result<Bytes> result) { got->set_value(std::move(result)); });
  auto bytes = answer.get();
  files.release(*file);
  if (!bytes.ok()) return about(path, bytes.error());
  const size_t size = std::min(bytes->size(), dst.size());
  std::memcpy(dst.data(), bytes->data(), size);
  return size;
}

Result<std::vector<ArenaHandle::Wanted>> ArenaHandle::filesBelow(const std::string& path) {
  std::vector<Wanted> out;
  std::vector<std::string> folders;
  auto take = [&](const EntryInfo& entry) {
    if (entry.kind == EntryKind::Directory) folders.push_back(entry.path);
    if (entry.kind != EntryKind::File || entry.real) return;
    for (const auto& head : entry.heads)
      if (head.shown && !head.here && head.sizeBytes > 0) out.push_back({entry.path, head.blob, head.sizeBytes});
  };
  REALIZE_ASSIGN(auto top, stat(path));
  take(top);
  while (!folders.empty()) {
    const std::string folder = std::move(folders.back());
    folders.pop_back();
    auto entries = list(folder);
    if (!entries.ok() && entries.code() == Code::NotFound) continue;  // Gone meanwhile.
    if (!entries.ok()) return entries.error();
    for (const auto& entry : *entries) take(entry);
  }
  return out;
}

Result<void> ArenaHandle::fetch(const std::string& path, std::function<bool(const Progress&)> progress) {
  REALIZE_ASSIGN(auto files, filesBelow(path));
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::map<size_t, uint64_t> partBytes;  // of those under way
    std::map<size_t, uint64_t> requests;
    uint64_t doneBytes = 0, doneFiles = 0;
    Result<void> outcome;
    size_t failed = 0;
  };
  auto shared = std::make_shared<Shared>();
  Progress total;
  total.totalFiles = files.size();
  for (const auto& file : files) total.totalBytes += file.sizeBytes;
  size_t next = 0;
  bool cancelled = false;
  std::unique_lock held(shared->mutex);
  while (shared->doneFiles < files.size() && !cancelled && shared->outcome.ok()) {
    while (next < files.size() && shared->partBytes.size() < kFetchesAtOnce) {
      const size_t number = next++;
      shared->partBytes[number] = 0;
      held.unlock();
      auto started = arena_->locked([&](ArenaCore& core) -> Result<uint64_t> {
        auto note = [shared, number](uint64_t bytes) {
          std::lock_guard guard(shared->mutex);
          if (auto part = shared->partBytes.find(number); part != shared->partBytes.end()) part->second = bytes;
        };
        auto done = [shared, number, size = files[number].sizeBytes](Result<void> result) {
          std::lock_guard guard(shared->mutex);
          shared->partBytes.erase(number);
          shared->requests.erase(number);
          if (result.ok()) {
            ++shared->doneFiles;
            shared->doneBytes += size;
          } else if (shared->outcome.ok()) {
            shared->outcome = result;
            shared->failed = number;
          }
          shared->changed.notify_all();
        };
        return core.core().transfers->fetchWhole(files[number].blob, files[number].sizeBytes, note, done);
      });
      if (!started.ok()) return started.error();
      held.lock();
      if (shared->partBytes.contains(number)) shared->requests[number] = *started;
    }
    shared->changed.wait_for(held, kProgressEvery);
    total.doneFiles = shared->doneFiles;
    total.doneBytes = shared->doneBytes;
    for (const auto& [number, bytes] : shared->partBytes) total.doneBytes += bytes;
    held.unlock();
    cancelled = progress && !progress(total);
    // An arena that was closed answers nothing any more.
    auto alive = arena_->locked([](ArenaCore&) { return Result<void>(); });
    held.lock();
    if (!alive.ok() && shared->outcome.ok()) shared->outcome = alive;
  }
  const auto outcome = shared->outcome;
  const size_t failed = shared->failed;
  const auto rest = shared->requests;
  held.unlock();
  auto ended = arena_->locked([&](ArenaCore& core) -> Result<void> {
    for (const auto& [number, request] : rest) core.core().transfers->cancel(request);
    return {};
  });
  (void)ended;  // Nothing to cancel in an arena that is closed.
  if (cancelled) return Error{Code::Cancelled, name() + ":" + path + ": fetching was cancelled"};
  if (!outcome.ok() && outcome.code() != Code::Suspended) return about(files[failed].path, outcome.error());
  return outcome;
}

Result<void> ArenaHandle::mark(const std::string& path, Mark mark) {
  REALIZE_ASSIGN(auto tidy, tidyPath(path));
  return arena_->locked([&](ArenaCore& core) -> Result<void> {
    REALIZE_ASSIGN(auto record, core.core().recordAt(tidy));
    if (!core.core().marks->set(record, mark)) return Error{Code::Suspended, core.core().suspendedWhy};
    return {};
  });
}

Result<std::vector<EntryInfo>> ArenaHandle::conflicts() {
  REALIZE_ASSIGN(auto entries, arena_->locked([](ArenaCore& core) { return core.conflicts(); }));
  for (auto& entry : entries) name(entry);
  return entries;
}

/// Brings one content into the cache, for that entry. Blocks.
Result<ArenaHandle::Fetching> ArenaHandle::beginFetch(const std::function<Result<EntryId>(Core&)>& entry, const BlobId& blob,
                                                      uint64_t sizeBytes) {
  auto outcome = std::make_shared<std::promise<Result<void>>>();
  auto fetched = outcome->get_future();
  REALIZE_TRY(arena_->locked([&](ArenaCore& core) -> Result<void> {
    REALIZE_ASSIGN(const EntryId id, entry(core.core()));
    core.core().transfers->keep(id, blob, sizeBytes, [outcome](Result<void> result) { outcome->set_value(std::move(result)); });
    return {};
  }));
  return fetched;
}

Result<void> ArenaHandle::endFetch(Fetching& fetched) {
  // An arena that was closed answers nothing any more.
  while (fetched.wait_for(kProgressEvery) != std::future_status::ready)
    REALIZE_TRY(arena_->locked([](ArenaCore&) { return Result<void>(); }));
  return fetched.get();
}

Result<void> ArenaHandle::fetchContent(const std::function<Result<EntryId>(Core&)>& entry, const BlobId& blob, uint64_t sizeBytes) {
  REALIZE_ASSIGN(auto fetching, beginFetch(entry, blob, sizeBytes));
  return endFetch(fetching);
}

Result<void> ArenaHandle::resolve(const std::string& path, const std::string& label) {
  REALIZE_ASSIGN(auto tidy, tidyPath(path));
  std::optional<HeadInfo> missing;
  auto resolved = arena_->locked([&](ArenaCore& core) { return core.resolve(tidy, label, &missing); });
  if (!missing) return resolved;
  auto entryAt = [&](Core& core) -> Result<EntryId> {
    REALIZE_ASSIGN(auto record, core.recordAt(tidy));
    return record.entry.id;
  };
  if (auto here = fetchContent(entryAt, missing->blob, missing->sizeBytes); !here.ok())
    return here.code() == Code::Unreachable ? resolved : here;
  return arena_->locked([&](ArenaCore& core) { return core.resolve(tidy, label); });
}

Result<uint64_t> ArenaHandle::confirm(bool keep) {
  // What is still being removed belongs to what is confirmed: it is read first.
  auto read = std::make_shared<std::promise<void>>();
  auto ready = read->get_future();
  REALIZE_TRY(arena_->locked([&](ArenaCore& core) -> Result<void> {
    core.core().folder->barrier([read] { read->set_value(); });
    return {};
  }));
  ready.wait_for(std::chrono::seconds(10));
  return arena_->locked([&](ArenaCore& core) { return core.core().folder->confirmHeld(keep); });
}

Result<std::vector<HistoryItem>> ArenaHandle::history(const std::string& path, size_t limit) {
  REALIZE_ASSIGN(auto tidy, tidyPath(path));
  REALIZE_ASSIGN(auto items, arena_->locked([&](ArenaCore& core) { return core.history(tidy, limit); }));
  for (auto& item : items) item.peer = ask_.nameOf(item.peer);
  return items;
}

Result<WhyReport> ArenaHandle::why(const std::string& path) {
  REALIZE_ASSIGN(auto tidy, tidyPath(path));
  REALIZE_ASSIGN(auto report, arena_->locked([&](ArenaCore& core) { return core.why(tidy); }));
  for (auto& head : report.versions) head.peer = ask_.nameOf(head.peer);
  for (auto& peer : report.peers) peer.peer = ask_.nameOf(peer.peer);
  for (auto& item : report.changes) item.peer = ask_.nameOf(item.peer);
  return report;
}

UndoItem ArenaHandle::itemOf(Core& core, const store::HistoryRow& row, const std::string& state) {
  UndoItem item;
  item.change = row.number;
  item.whenNs = row.whenNs;
  item.peer = row.peer == PeerKey() ? "" : ask_.nameOf(row.peer.hex());
  item.what = row.what;
  item.path = row.path;
  item.kind = row.kind;
  item.sizeBytes = row.old->sizeBytes;
  item.here = row.kind != EntryKind::File || row.old->sizeBytes == 0 || core.transfers->complete(row.old->blob);
  item.state = state;
  return item;
}

Result<std::vector<UndoItem>> ArenaHandle::undoable(const std::string& path, int64_t sinceNs, size_t limit) {
  REALIZE_ASSIGN(auto tidy, tidyPath(path));
  return arena_->locked([&](ArenaCore& arena) -> Result<std::vector<UndoItem>> {
    std::vector<UndoItem> out;
    for (const auto& row : arena.core().store.history().undoable(tidy, sinceNs, 0, limit)) out.push_back(itemOf(arena.core(), row, "listed"));
    return out;
  });
}

Result<UndoReport> ArenaHandle::undo(const UndoRequest& request, bool dryRun, std::function<bool(const Progress&)> progress) {
  constexpr size_t kAtOnce = 200;
  UndoRequest tidied = request;
  REALIZE_ASSIGN(tidied.path, tidyPath(request.path));
  REALIZE_ASSIGN(auto rows, arena_->locked([&](ArenaCore& core) { return planUndo(core.core(), tidied); }));
  UndoReport report;
  Progress sofar{.totalFiles = rows.size()};
  for (const auto& row : rows) sofar.totalBytes += row.old->sizeBytes;
  for (size_t at = 0; at < rows.size(); at += kAtOnce) {
    if (progress && !progress(sofar)) return Error{Code::Cancelled, "undo was ended; what it had brought back stays"};
    const size_t end = std::min(rows.size(), at + kAtOnce);
    std::map<size_t, Result<Fetching>> fetching;
    for (size_t i = at; i < end && !dryRun; ++i) {
      if (rows[i].kind != EntryKind::File || rows[i].old->sizeBytes == 0) continue;
      auto entry = [&](Core& core) -> Result<EntryId> {
        return entryToUndo(core, rows[i]);
      };
      fetching.emplace(i, beginFetch(entry, rows[i].old->blob, rows[i].old->sizeBytes));
    }
    std::map<size_t, std::string> unreachable;
    for (auto& [i, begun] : fetching) {
      auto fetched = begun.ok() ? endFetch(*begun) : Result<void>(begun.error());
      if (!fetched.ok()) unreachable[i] = fetched.code() == Code::Unreachable ? "no connected peer has its bytes any more" : fetched.error().message;
    }
    // The bytes and their names are on the disk before a version speaks of them.
    std::shared_ptr<SyncAll> all;
    REALIZE_ASSIGN(auto root, arena_->locked([&all](ArenaCore& arena) -> Result<std::shared_ptr<Directory>> {
      all = arena.core().syncAll;
      return arena.core().folder->root();
    }));
    if (!dryRun && root) REALIZE_TRY(all->sync(*root, all->failures()));
    REALIZE_TRY(arena_->locked([&](ArenaCore& arena) -> Result<void> {
      auto& core = arena.core();
      const bool done = core.transact([&] {
        for (size_t i = at; i < end; ++i) {
          auto item = itemOf(core, rows[i], dryRun ? "would" : "restored");
          item.detail = unreachable.contains(i) ? unreachable[i] : whyNotUndone(core, rows[i]);
          if (dryRun && item.detail.empty() && !item.here) item.detail = "its bytes are asked of other peers";
          else if (!dryRun && item.detail.empty() && !item.here) item.detail = "its bytes went away again";
          bool left = !item.detail.empty() && !(dryRun && !item.here);
          if (!left && !dryRun)
            if (auto undone = undoOne(core, rows[i]); !undone.ok()) {
              left = true;
              item.detail = undone.error().message;
            }
          if (left) item.state = "left";
          ++(left ? report.left : report.restored);
          report.items.push_back(std::move(item));
        }
      });
      if (!done) return Error{Code::Suspended, core.suspendedWhy};
      return {};
    }));
    for (size_t i = at; i < end; ++i) sofar.doneBytes += rows[i].old->sizeBytes;
    sofar.doneFiles = end;
  }
  if (progress) progress(sofar);
  return report;
}

Result<uint64_t> ArenaHandle::shrinkCache(uint64_t bytes) {
  return arena_->locked([&](ArenaCore& core) -> Result<uint64_t> { return core.core().transfers->shrink(bytes); });
}

Result<CacheStatus> ArenaHandle::cacheStatus() {
  return arena_->locked([&](ArenaCore& core) -> Result<CacheStatus> { return core.core().transfers->cacheStatus(); });
}

Result<VerifyReport> ArenaHandle::verify(std::function<bool(const Progress&)> progress) {
  const UnderLock locked = [this](const std::function<Result<void>(Core&)>& work) {
    return arena_->locked([&](ArenaCore& core) { return work(core.core()); });
  };
  return verifyArena(locked, progress);
}

Result<void> ArenaHandle::rescan() {
  return arena_->locked([](ArenaCore& core) -> Result<void> {
    core.core().folder->rescanAll();
    return {};
  });
}

}  // namespace

std::shared_ptr<Arena> makeArena(std::shared_ptr<Hosted> arena, ArenaQuestions ask) {
  return std::make_shared<ArenaHandle>(std::move(arena), std::move(ask));
}

}  // namespace realize::peer
