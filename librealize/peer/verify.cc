#include "librealize/peer/verify.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "librealize/peer/exchange.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {

constexpr size_t kRowsAtOnce = 500;
constexpr size_t kMaxDamageTold = 1000;
constexpr auto kLook = std::chrono::milliseconds(50);
constexpr auto kRepairPatience = std::chrono::seconds(10);  // Since the last file that was repaired.
constexpr auto kProgressEvery = std::chrono::milliseconds(200);
constexpr char kDamaged[] = "damaged";      // Stays as it is.
constexpr char kRepairing[] = "repairing";  // The right bytes are asked for.

struct RealFile {
  store::DiskRow row;
  std::string path;
};

/// A damaged file, or (node 0) content of the cache, whose right bytes were asked for.
struct Awaited {
  NodeId node = 0;
  BlobId blob;
  size_t damage = 0;  ///< in the report
  std::shared_ptr<std::atomic<bool>> failed = std::make_shared<std::atomic<bool>>(false);  ///< nobody has them
};

class Verifier {
 public:
  Verifier(const UnderLock& locked, const std::function<bool(const Progress&)>& progress) : locked_(locked), progress_(progress) {}

  Result<VerifyReport> run() {
    REALIZE_TRY(locked_([&](Core& core) -> Result<void> {
      root_ = core.folder->root();
      if (!root_) return Error{Code::Suspended, core.suspendedWhy};
      total_.totalFiles = core.store.counts().files + core.store.cache().totals().count;
      return {};
    }));
    REALIZE_TRY(realFiles());
    if (report_.damagedCount == 0 && report_.changed == 0)
      REALIZE_TRY(locked_([](Core& core) -> Result<void> {
        core.folder->allRead();
        return {};
      }));
    REALIZE_TRY(cached());
    REALIZE_TRY(awaitRepairs());
    return std::move(report_);
  }

 private:
  Result<void> realFiles();
  Result<void> checkFile(const RealFile& file);
  Result<void> damaged(const RealFile& file, const FileStat& stat, const Content& found);
  Result<void> replaceable(Core& core, const RealFile& file, const Content& found, Damage& damage);
  Result<std::string> copyAside(const RealFile& file, const FileStat& stat);
  Result<void> cached();
  Result<void> checkCached(const BlobId& blob);
  void fetchAgain(Core& core, const store::CacheRow& row);
  Result<bool> cacheHolds(const store::CacheRow& row, const std::optional<ChunkList>& list);
  Result<void> awaitRepairs();
  Result<void> done(uint64_t bytes);
  void tell(Damage damage) {
    ++report_.damagedCount;
    if (report_.damaged.size() < kMaxDamageTold) report_.damaged.push_back(std::move(damage));
  }

  const UnderLock& locked_;
  const std::function<bool(const Progress&)>& progress_;
  std::shared_ptr<Directory> root_;
  VerifyReport report_;
  Progress total_;
  std::vector<Awaited> awaited_;
  std::chrono::steady_clock::time_point lastTold_{};
};

Result<void> Verifier::done(uint64_t bytes) {
  total_.doneBytes += bytes;
  const auto now = std::chrono::steady_clock::now();
  if (!progress_ || now - lastTold_ < kProgressEvery) return {};
  lastTold_ = now;
  if (!progress_(total_)) return Error{Code::Cancelled, "verifying was cancelled"};
  return {};
}

Result<void> Verifier::realFiles() {
  NodeId after = 0;
  while (true) {
    std::vector<RealFile> files;
    bool last = false;
    REALIZE_TRY(locked_([&](Core& core) -> Result<void> {
      const auto rows = core.store.disk().all(after, kRowsAtOnce);
      last = rows.empty();
      for (const auto& row : rows) {
        after = row.node;
        if (row.kind != EntryKind::File || row.dirty || row.blob.isZero()) continue;  // The scan will read it.
        if (auto path = core.folder->diskPath(row.node)) files.push_back({row, *path});
      }
      return {};
    }));
    if (last) return {};
    for (const auto& file : files) {
      REALIZE_TRY(checkFile(file));
      ++total_.doneFiles;
      REALIZE_TRY(done(file.row.sizeBytes));
    }
  }
}

Result<void> Verifier::checkFile(const RealFile& file) {
  auto stat = root_->stat(file.path);
  auto content = stat.ok() && file.row.matches(*stat) ? hashFile(*root_, file.path, *stat)
                                                     : Result<Content>(Error{Code::Busy, "changed"});
  if (!content.ok()) {
    if (content.code() == Code::Io || content.code() == Code::PermissionDenied) {
      tell({file.path, "folder", "left", "", content.error().message});
      return locked_([&](Core& core) -> Result<void> {
        core.transact([&] { core.store.problems().put({file.path, kDamaged, content.error().message}); });
        return {};
      });
    }
    ++report_.changed;
    return locked_([&](Core& core) -> Result<void> {
      auto row = core.store.disk().get(file.row.node);
      if (row && row->parentNode) core.folder->hintDirectory(row->parentNode);
      return {};
    });
  }
  ++report_.files;
  report_.bytes += content->sizeBytes;
  if (content->blob != file.row.blob) return damaged(file, *stat, *content);
  return locked_([&](Core& core) -> Result<void> {
    if (core.store.problems().count() > 0) core.transact([&] { core.store.problems().erase(file.path, kDamaged); });
    return {};
  });
}

Result<void> Verifier::damaged(const RealFile& file, const FileStat& stat, const Content& found) {
  Damage damage{file.path, "folder", "left", "", ""};
  auto kept = copyAside(file, stat);
  if (kept.ok()) damage.keptAs = *kept;
  auto told = locked_([&](Core& core) -> Result<void> {
    Result<void> asked = kept.ok() ? replaceable(core, file, found, damage) : Result<void>(kept.error());
    if (!asked.ok()) damage.detail = asked.error().message;
    core.transact([&] {
      core.store.problems().put({file.path, asked.ok() ? kRepairing : kDamaged,
                                 "its bytes are not those that it had when it was last changed, though its times are: " +
                                     (asked.ok() ? "the right ones are asked for; " : damage.detail + "; ") +
                                     (damage.keptAs.empty() ? "" : "a copy is in " + damage.keptAs)});
    });
    core.emit(Event{.whenNs = 0, .type = "problem", .arena = "", .path = file.path, .peer = "", .detail = "damaged"});
    return {};
  });
  tell(std::move(damage));
  return told;
}

/// From here on the table says what the file holds: the version that is shown is missing, and comes from who has it.
Result<void> Verifier::replaceable(Core& core, const RealFile& file, const Content& found, Damage& damage) {
  auto row = core.store.disk().get(file.row.node);
  auto stat = root_->stat(file.path);
  if (!row || *row != file.row || !stat.ok() || !row->matches(*stat)) return Error{Code::Busy, "it is being changed"};
  auto id = core.store.idOf(row->node);
  auto record = id ? core.tree.get(*id) : std::nullopt;
  if (!record || !record->shown) return Error{Code::Busy, "it is being removed"};
  const auto heads = core.tree.shownHeads(*id);
  // Of several versions this one may end in the cache, and the newest under the name; all of them are here then.
  if (std::none_of(heads.begin(), heads.end(), [&](const auto& head) { return head.version.blob == row->blob; }))
    return Error{Code::Busy, "another version is on its way"};
  if (core.marks->effective(*record) == Mark::Unreal) return Error{Code::Refused, "it is marked unreal, and not replaced"};
  const bool noted = core.transact([&] {
    row->blob = found.blob;
    core.store.disk().put(*row);
    core.marks->entryChanged(*id);
  });
  if (!noted) return Error{Code::Suspended, core.suspendedWhy};
  core.store.makeDurable();
  core.transfers->wakeWanted();
  damage.state = "wanted";
  awaited_.push_back({row->node, file.row.blob, report_.damaged.size()});
  return {};
}

Result<std::string> Verifier::copyAside(const RealFile& file, const FileStat& stat) {
  auto made = root_->makeDirectory(kDamagedFolder, 0700);
  if (!made.ok() && made.code() != Code::Exists) return made.error();
  const std::string name(baseName(file.path).substr(0, 200));
  REALIZE_ASSIGN(auto from, root_->open(file.path, OpenMode::Read));
  for (int i = 1;; ++i) {
    const std::string to = std::string(kDamagedFolder) + "/" + std::to_string(file.row.node) + "~" + std::to_string(i) + "-" + name;
    auto copy = root_->open(to, OpenMode::CreateNew, 0600);
    if (!copy.ok() && copy.code() == Code::Exists && i < 1000) continue;
    if (!copy.ok()) return copy.error();
    auto copied = stat.sizeBytes > 0 ? (*copy)->cloneRange(*from, 0, stat.sizeBytes, 0) : Result<void>();
    if (copied.ok()) copied = (*copy)->sync(true);
    if (copied.ok()) copied = root_->syncDirectory(kDamagedFolder);
    if (copied.ok()) return to;
    auto gone = root_->unlink(to);
    (void)gone;  // A part of a copy is of no use.
    return Error{copied.code(), "no copy of it can be kept (" + copied.error().message + "), so it is not replaced"};
  }
}

Result<void> Verifier::cached() {
  std::vector<BlobId> blobs;
  REALIZE_TRY(locked_([&](Core& core) -> Result<void> {
    blobs = core.store.cache().all();
    return {};
  }));
  for (const auto& blob : blobs) {
    REALIZE_TRY(checkCached(blob));
    ++total_.doneFiles;
  }
  return {};
}

Result<void> Verifier::checkCached(const BlobId& blob) {
  std::optional<store::CacheRow> row;
  std::optional<ChunkList> list;
  REALIZE_TRY(locked_([&](Core& core) -> Result<void> {
    row = core.store.cache().get(blob);
    if (auto known = core.store.blobs().get(blob); known && !known->chunkList.empty()) {
      auto decoded = decodeChunkList(known->chunkList);
      if (decoded.ok()) list = std::move(*decoded);
    }
    return {};
  }));
  if (!row || (!row->complete && !list)) return {};
  auto holds = cacheHolds(*row, list);
  if (!holds.ok() && holds.code() == Code::Cancelled) return holds.error();
  ++report_.cachedBlobs;
  report_.cachedBytes += row->storedBytes;
  if (holds.ok() && *holds) return {};
  Damage damage{"", "cache", "dropped", "", blob.hex() + ": fetched again when it is needed"};
  bool another = false;
  REALIZE_TRY(locked_([&](Core& core) -> Result<void> {
    auto made = root_->makeDirectory(kDamagedFolder, 0700);
    if (!made.ok() && made.code() != Code::Exists) return made;
    const std::string aside = std::string(kDamagedFolder) + "/" + blob.hex();
    if (!core.transfers->discard(*row, aside)) {
      another = core.store.cache().get(blob) != row;
      damage.state = "left";
      damage.detail = blob.hex() + ": somebody reads it; verify again";
      return {};
    }
    if (root_->stat(aside).ok()) damage.keptAs = aside;
    core.marks->recheckAll();
    if (row->complete && !row->unlinked && !row->keptHours) fetchAgain(core, *row);
    return {};
  }));
  if (!another) tell(std::move(damage));
  return {};
}

/// What an entry shows, from who has it. Under the lock, before the damage is told.
void Verifier::fetchAgain(Core& core, const store::CacheRow& row) {
  if (core.exchange->remotes().empty()) return;
  Awaited wanted{0, row.blob, report_.damaged.size()};
  core.transfers->fetchWhole(row.blob, row.sizeBytes, {}, [failed = wanted.failed](Result<void> fetched) {
    if (!fetched.ok()) *failed = true;
  });
  awaited_.push_back(std::move(wanted));
}

/// All that is said to be in the cache file is there.
Result<bool> Verifier::cacheHolds(const store::CacheRow& row, const std::optional<ChunkList>& list) {
  REALIZE_ASSIGN(auto file, root_->open(Transfers::cachePath(row.blob), OpenMode::Read));
  REALIZE_ASSIGN(const auto stat, file->stat());
  if (stat.sizeBytes != row.sizeBytes) return false;
  if (row.complete) {
    auto content = hashOpenFile(*file, row.sizeBytes, [&](uint64_t bytes) { return done(bytes); });
    if (!content.ok() && content.code() != Code::Busy) return content.error();
    return content.ok() && content->blob == row.blob;
  }
  uint64_t offset = 0;
  for (size_t i = 0; i < list->chunks.size(); offset += list->chunks[i].sizeBytes, ++i) {
    if (i / 8 >= row.present.size() || !(uint8_t(row.present[i / 8]) >> (i % 8) & 1)) continue;
    Bytes chunk(list->chunks[i].sizeBytes);
    REALIZE_ASSIGN(const size_t got, file->read(offset, chunk));
    if (got != chunk.size() || hashChunk(chunk) != list->chunks[i].hash) return false;
    REALIZE_TRY(done(got));
  }
  return true;
}

/// Until all that was asked for has come, nobody is connected, or nothing comes any more.
Result<void> Verifier::awaitRepairs() {
  auto last = std::chrono::steady_clock::now();
  while (!awaited_.empty()) {
    bool connected = false;
    REALIZE_TRY(locked_([&](Core& core) -> Result<void> {
      connected = !core.exchange->remotes().empty();
      std::erase_if(awaited_, [&](const Awaited& file) {
        if (*file.failed) return true;
        auto row = core.store.disk().get(file.node);
        if (!(row && row->blob == file.blob) && !core.transfers->cachedForGood(file.blob)) return false;
        last = std::chrono::steady_clock::now();
        ++report_.repairedCount;
        if (file.damage < report_.damaged.size()) {
          auto& damage = report_.damaged[file.damage];
          damage.state = "repaired";
          if (file.node == 0) damage.detail = file.blob.hex() + ": fetched again";
          else core.transact([&] { core.store.problems().erase(damage.path, kRepairing); });
        }
        return true;
      });
      return {};
    }));
    if (awaited_.empty() || !connected || std::chrono::steady_clock::now() - last > kRepairPatience) break;
    REALIZE_TRY(done(0));
    std::this_thread::sleep_for(kLook);
  }
  return {};
}

}  // namespace

Result<VerifyReport> verifyArena(const UnderLock& locked, const std::function<bool(const Progress&)>& progress) {
  return Verifier(locked, progress).run();
}

}  // namespace realize::peer
