// What changed in the folder: hints, rest, listing on the pool, logic::reconcile. The steps are in folder_steps.cc.

#include <algorithm>
#include <unordered_map>

#include "librealize/peer/as_known.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {

constexpr int kMaxRounds = 6;
constexpr size_t kMostNewIn = 1 << 16;
constexpr size_t kMostLinked = 1 << 16;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kMoveRestMs = 5;  // Both ends of a rename are told within this.
constexpr int64_t kUnwatchedScanMs = 60'000;

/// The disk table as logic::reconcile reads it.
class KnownRows final : public logic::KnownDisk {
 public:
  explicit KnownRows(store::DiskTable& disk) : disk_(disk) {}
  std::optional<logic::KnownRow> byNode(NodeId node) override { return convert(disk_.get(node)); }
  std::optional<logic::KnownRow> byName(NodeId parent, const std::string& name) override {
    return convert(disk_.getAt(parent, name));
  }
  std::vector<logic::KnownRow> byObject(uint64_t device, uint64_t inode) override {
    return convertAll(disk_.getByInode(device, inode));
  }
  std::vector<logic::KnownRow> childrenOf(NodeId parent) override { return convertAll(disk_.childrenOf(parent)); }

 private:
  static logic::KnownRow convertRow(const store::DiskRow& row) {
    logic::KnownRow out;
    out.node = row.node;
    out.parentNode = row.parentNode;
    out.name = row.name;
    out.kind = row.kind;
    out.device = row.device;
    out.inode = row.inode;
    out.birthNs = row.birthNs;
    out.sizeBytes = row.sizeBytes;
    out.mtimeNs = row.mtimeNs;
    out.ctimeNs = row.ctimeNs;
    out.mode = row.mode;
    out.hasBlob = row.kind == EntryKind::File && !row.dirty && !row.blob.isZero();
    return out;
  }
  static std::optional<logic::KnownRow> convert(const std::optional<store::DiskRow>& row) {
    if (!row) return std::nullopt;
    return convertRow(*row);
  }
  static std::vector<logic::KnownRow> convertAll(const std::vector<store::DiskRow>& rows) {
    std::vector<logic::KnownRow> out;
    for (const auto& row : rows)
      if (row.node != kRootNode) out.push_back(convertRow(row));
    return out;
  }
  store::DiskTable& disk_;
};

/// Pattern files on the way down to a directory, each read once a batch.
class ScopeReader {
 public:
  explicit ScopeReader(Directory& root) : root_(root) {}
  /// Errors: TooLarge, or the file cannot be read: then nothing is known of what is ignored there.
  Result<logic::IgnoreScope> scopeOf(const std::string& directory) {
    if (auto known = scopes_.find(directory); known != scopes_.end()) return known->second;
    logic::IgnoreScope scope;
    if (!directory.empty()) {
      REALIZE_ASSIGN(auto above, scopeOf(parentPath(directory)));
      scope = above.enter(baseName(directory));
    }
    if (auto rules = read(joinPath(directory, std::string(logic::kIgnoreFileName))); rules.ok()) {
      scope.add(std::make_shared<logic::IgnoreRules>(std::move(*rules)));
    } else if (rules.code() != Code::NotFound && rules.code() != Code::NotDirectory) {
      return rules.error();
    }
    scopes_.emplace(directory, scope);
    return scope;
  }
  std::map<std::string, FileStat> files;  ///< that were read, by the directories that they are in

 private:
  Result<logic::IgnoreRules> read(const std::string& path) {
    REALIZE_ASSIGN(auto stat, root_.stat(path));
    if (stat.type != FileStat::Type::File) return Error{Code::NotFound, path};
    files.insert_or_assign(parentPath(path), stat);
    REALIZE_ASSIGN(auto file, root_.open(path, OpenMode::Read));
    Bytes bytes(logic::kMaxIgnoreFileBytes + 1);
    REALIZE_ASSIGN(const size_t got, file->read(0, bytes));
    return logic::IgnoreRules::parse(std::string_view(reinterpret_cast<const char*>(bytes.data()), got));
  }
  Directory& root_;
  std::map<std::string, logic::IgnoreScope> scopes_;
};

/// A directory to be read.
struct ToList {
  std::string path;
  bool below = false;  ///< with all that is below it
};

/// Where the arena's folder is, and that what is open is still that.
struct Place {
  Disk& disk;
  std::string folder;
  std::string marker;
};

Result<void> checkPlace(Directory& root, const Place& place) {
  REALIZE_ASSIGN(auto now, place.disk.openRoot(place.folder));
  REALIZE_ASSIGN(const auto there, now->stat(""));
  REALIZE_ASSIGN(const auto open, root.stat(""));
  if (there.device != open.device || there.inode != open.inode)
    return Error{Code::Suspended, "another folder is in its place"};
  auto file = root.open(kMarkerPath, OpenMode::Read);
  if (!file.ok()) return file.error();
  Bytes bytes(64);
  REALIZE_ASSIGN(const size_t got, (*file)->read(0, bytes));
  if (std::string_view(reinterpret_cast<const char*>(bytes.data()), got) != place.marker)
    return Error{Code::Suspended, "the marker is another arena's"};
  return {};
}

/// Thread: pool.
std::shared_ptr<ListingBatch> listAll(Directory& root, SharedWatch& watch, const Place& place, std::vector<ToList> directories) {
  auto batch = std::make_shared<ListingBatch>();
  batch->marker = checkPlace(root, place);
  if (!batch->marker.ok()) return batch;
  auto rootStat = root.stat("");
  if (!rootStat.ok()) {
    batch->marker = rootStat.error();
    return batch;
  }
  batch->root = *rootStat;
  ScopeReader scopes(root);
  while (!directories.empty()) {
    const auto [path, below] = std::move(directories.back());
    directories.pop_back();
    logic::Listing listing;
    listing.path = path;
    watch.add(path);  // Before it is read: what happens after is reported.
    auto self = root.stat(path);
    // No folder any more: what is there instead is the concern of the folder above.
    if (self.ok() && self->type != FileStat::Type::Directory) self = Error{Code::NotDirectory, path};
    auto items = self.ok() ? root.list(path) : Result<std::vector<DirectoryItem>>(self.error());
    auto scope = items.ok() ? scopes.scopeOf(path) : Result<logic::IgnoreScope>(items.error());
    if (self.ok()) listing.self = *self;
    if (!scope.ok()) {
      const bool gone = !items.ok() && (items.code() == Code::NotFound || items.code() == Code::NotDirectory);
      listing.state = gone ? logic::Listing::State::Gone : logic::Listing::State::Unreadable;
      listing.why = whyUnreadable(scope.error());
      batch->listings.push_back(std::move(listing));
      continue;
    }
    for (auto& item : *items) {
      const bool directory = !item.failed && item.stat.type == FileStat::Type::Directory;
      if (scope->ignored(item.name, directory)) {
        listing.ignored.push_back(item.name);
        continue;
      }
      ++batch->entries;
      if (!directory && item.stat.links > 1) batch->linked.insert({item.stat.device, item.stat.inode});
      if (directory && below) directories.push_back({joinPath(path, item.name), true});
      listing.items.push_back(std::move(item));
    }
    batch->listings.push_back(std::move(listing));
  }
  batch->patterns = std::move(scopes.files);
  batch->marker = checkPlace(root, place);
  return batch;
}

}  // namespace

std::string whyUnreadable(const Error& error) {
  if (error.code == Code::PermissionDenied) return "Give this program's user the right to read it";
  if (error.code == Code::TooLarge) return error.message + ": make it smaller";
  return "The disk has an error, and it is tried again once a minute: " + error.message;
}

bool canBeListed(Directory& root, const std::string& path) {
  return root.list(path).ok() && ScopeReader(root).scopeOf(path).ok();
}

// --- hints --------------------------------------------------------------------------------------------------------

int64_t Folder::State::Hint::dueNs(const ArenaSettings& settings) const {
  const int64_t rested = std::min(lastNs + settings.restMs * kNsPerMs, firstNs + settings.restMaxMs * kNsPerMs);
  return directoryMoved ? std::min(rested, lastNs + kMoveRestMs * kNsPerMs) : rested;
}

void Folder::State::hint(const std::string& directory, bool directoryMoved) {
  const int64_t at = now();
  auto [it, fresh] = dirty.emplace(directory, Hint{at, at});
  it->second.lastNs = at;
  // A directory that changes in other ways, too, takes its rest.
  it->second.directoryMoved = directoryMoved && (fresh || it->second.directoryMoved);
  schedulePass();
}

void Folder::drainWatch() {
  auto& s = *s_;
  Result<std::vector<WatchEvent>> events = std::vector<WatchEvent>();
  bool expecting = false;
  {
    std::lock_guard held(s.watch->mutex);
    if (s.watch->watcher) {
      events = s.watch->watcher->drain();
      expecting = s.watch->watcher->expecting();
    }
  }
  for (const auto& [folder, row] : s.lastPlaced) {
    auto there = folder->open->stat(row.name);
    if (!there.ok() || !row.matches(*there)) hintDirectory(folder->node);
  }
  if (!expecting) s.lastPlaced.clear();
  if (!events.ok()) return s.watchFailed(events.error());
  const std::string own = kOwnFolder;
  const bool anyMoved = std::any_of(events->begin(), events->end(), [](const auto& event) { return event.directoryMoved; });
  for (const auto& event : *events) {
    if (event.overflow) {
      s.problem("", "stale", "the kernel's queue of changes overflowed; the folder is scanned again");
      rescanAll();
      continue;
    }
    // Of our own folder it matters only whether it is there, which every look at the root finds out.
    if (event.directory == own || event.directory.starts_with(own + "/")) continue;
    const bool self = event.name.empty();
    s.hint(event.directory, event.directoryMoved || (self && anyMoved));
    // A directory that moved or went reports itself: what matters is where it was.
    if (self && !event.directory.empty()) s.hint(parentPath(event.directory), anyMoved);
  }
}

void Folder::hintDirectory(NodeId directory) {
  if (auto path = diskPath(directory)) s_->hint(*path);
}

void Folder::lookAtOtherNames(const FileStat& file) {
  if (file.links <= 1) return;
  for (const auto& row : s_->core.store.disk().getByInode(file.device, file.inode))
    if (!row.sameBytes(file) || row.mode != file.mode) hintDirectory(row.parentNode);
}

/// What was done through the name that it had is seen under the others only.
void Folder::State::nameLeft(const store::DiskRow& row) {
  if (linked.empty() || !linked.contains({row.device, row.inode})) return;
  for (const auto& other : core.store.disk().getByInode(row.device, row.inode))
    if (other.node != row.node) core.folder->hintDirectory(other.parentNode);
}

bool Folder::hintContent(NodeId file) {
  auto& core = s_->core;
  auto row = core.store.disk().get(file);
  if (!row) return true;
  if (!row->dirty && !core.transact([&] { core.store.disk().setDirty(file, true); })) return false;
  hintDirectory(row->parentNode);
  return true;
}

void Folder::changedByMount(const std::string& directory) { s_->changedByUs(directory); }

void Folder::State::changedByUs(const std::string& directory) {
  if (passRunning) changedMeanwhile.insert(directory);
}

void Folder::directoryRenamed(const std::string& from, const std::string& to) { s_->directoryMoved(from, to, true); }

/// What is noted by path follows; what a pass under way has listed under the old one is listed again.
void Folder::State::directoryMoved(const std::string& from, const std::string& to, bool byUs) {
  watch->renamed(from, to);
  auto within = [&](const std::string& path) { return path == from || path.starts_with(from + "/"); };
  std::vector<std::pair<std::string, Hint>> moved;
  for (auto it = dirty.lower_bound(from); it != dirty.end() && it->first.starts_with(from);) {
    if (!within(it->first)) {
      ++it;
      continue;
    }
    moved.emplace_back(to + it->first.substr(from.size()), it->second);
    it = dirty.erase(it);
  }
  for (const auto& [path, hint] : moved) dirty.insert_or_assign(path, hint);
  for (const auto& path : std::set<std::string>(unreadable))
    if (within(path)) unreadableMoved(path, to + path.substr(from.size()));
  readWhereItIs(from, to);
  if (!passRunning) return;
  if (scanning && byUs) scanWanted = true;
  for (const auto& path : passPaths)
    if (within(path)) hint(to + path.substr(from.size()));
}

void Folder::rescanAll() {
  s_->scanWanted = true;
  s_->schedulePass();
}

/// The next pass: as soon as some directory has rested (or waited for the longest time), with all that are dirty then,
/// so that a rename is seen from both ends.
void Folder::State::schedulePass() {
  if (passRunning || core.stopping || core.suspended || !root || waitingForTree) return;
  if (!scanWanted && dirty.empty()) return;
  int64_t due = scanWanted ? now() : INT64_MAX;
  for (const auto& [path, hint] : dirty) due = std::min(due, hint.dueNs(core.settings));
  if (timerAtNs != 0 && timerAtNs <= due) return;
  timerAtNs = due;
  const int64_t delayMs = std::max<int64_t>(0, (due - now() + kNsPerMs - 1) / kNsPerMs);
  auto job = [this, alive = alive, due] {
    if (!*alive || timerAtNs != due) return;
    timerAtNs = 0;
    // More may have happened meanwhile, and then the rest begins anew.
    bool ready = scanWanted;
    for (const auto& [path, hint] : dirty) ready = ready || hint.dueNs(core.settings) <= now();
    if (ready) startPass();
    else schedulePass();
  };
  if (delayMs == 0) core.env.scheduler.onCore(job);
  else core.env.scheduler.onCoreAfter(delayMs, job);
}

void Folder::State::startPass() {
  if (passRunning || core.stopping || core.suspended || !root || waitingForTree) return;
  passRunning = true;
  changedMeanwhile.clear();
  timerAtNs = 0;
  std::vector<std::string> paths;
  const bool full = scanWanted;
  if (full) {
    scanWanted = false;
    scanning = true;
    scannedEntries = 0;
    beginWatch(false);
    dirty.clear();
    readBelow.clear();
    paths.push_back("");
  } else {
    // Before anything has rested only directories moved: what else is going on is not disturbed.
    const bool movesOnly = std::none_of(dirty.begin(), dirty.end(), [&](const auto& item) {
      return !item.second.directoryMoved && item.second.dueNs(core.settings) <= now();
    });
    const bool anyDue = std::any_of(dirty.begin(), dirty.end(),
                                    [&](const auto& item) { return item.second.dueNs(core.settings) <= now(); });
    std::erase_if(dirty, [&](const auto& item) {
      const bool taken = !anyDue || !movesOnly || item.second.directoryMoved;
      if (taken) paths.push_back(item.first);
      return taken;
    });
  }
  passPaths = withFoldersBelow(std::move(paths));
  listThen(passPaths, full, std::make_shared<logic::ReconcileInput>(), 0);
}

void Folder::State::listThen(const std::vector<std::string>& paths, bool scan, std::shared_ptr<logic::ReconcileInput> input, int round) {
  const auto comesAlong = [&](const std::string& path) {  // None is listed twice.
    return std::any_of(paths.begin(), paths.end(), [&](const auto& above) {
      return unreadable.contains(above) && path != above && (above.empty() || path.starts_with(above + "/"));
    });
  };
  std::vector<ToList> directories;
  for (const auto& path : paths)
    if (unreadable.empty() || !comesAlong(path)) directories.push_back({path, scan || unreadable.contains(path)});
  core.env.scheduler.onPool(true, [this, alive = alive, directories = std::move(directories), input, round, root = root,
                                   watch = watch, place = Place{core.env.disk, core.options.folder, markerText},
                                   &scheduler = core.env.scheduler] {
    auto batch = listAll(*root, *watch, place, directories);
    scheduler.onCore([this, alive, batch, input, round] {
      if (*alive && !core.stopping) onListed(batch, input, round);
    });
  });
}

/// The watch tells of it as of what anybody does there.
void Folder::State::putInto(NodeId folder) {
  if (newIn.size() >= kMostNewIn) newIn.clear();
  newIn.insert(folder);
}

/// Folders that are as they are known, where that is likely: the rest of a scan, and what we put there ourselves.
void Folder::State::leaveOutKnown(logic::ReconcileInput& input) {
  if (!leftCandidates.empty() || core.store.problems().count() > 0) return;  // Of which each listing tells something.
  std::erase_if(input.listings, [&](const logic::Listing& listing) {
    const auto ours = [](const std::string& name) { return name == kOwnFolder; };
    if (!std::all_of(listing.ignored.begin(), listing.ignored.end(), ours)) return false;
    const auto row = listing.path.empty() ? core.store.disk().get(kRootNode) : rowAtPath(listing.path);
    if (!row || (newIn.erase(row->node) == 0 && !scanning)) return false;
    return listedAsKnown(core.store.disk(), row->node, listing);
  });
}

void Folder::State::onListed(std::shared_ptr<ListingBatch> batch, std::shared_ptr<logic::ReconcileInput> input, int round) {
  if (!batch->marker.ok()) {
    passRunning = false;
    lost(core.options.folder + ": the arena's folder, or .realize in it, is gone or not readable (" +
         batch->marker.error().message + "). Nothing was removed; bring it back and the arena goes on. " + rejoinHint());
    return;
  }
  core.transfers->finishPlacing();  // What has a name there by now has a row.
  scannedEntries += batch->entries;
  if (linked.size() < kMostLinked) linked.merge(batch->linked);
  input->root = batch->root;
  notePatterns(*batch);
  // Under the lock that we change the folder under: else what we did meanwhile would be undone as if done by someone.
  if (!changedMeanwhile.empty()) {
    std::vector<ToList> again;
    for (const auto* listings : {&input->listings, &batch->listings})
      for (const auto& listing : *listings)
        if (changedMeanwhile.contains(listing.path)) again.push_back({listing.path});
    if (!again.empty()) {
      auto fresh = listAll(*root, *watch, Place{core.env.disk, core.options.folder, markerText}, std::move(again));
      for (auto* listings : {&input->listings, &batch->listings})
        for (auto& listing : *listings)
          for (const auto& now : fresh->listings)
            if (fresh->marker.ok() && now.path == listing.path) listing = now;
    }
    changedMeanwhile.clear();
  }
  std::unordered_map<std::string, size_t> before;
  for (size_t i = 0; i < input->listings.size(); ++i) before.emplace(input->listings[i].path, i);
  for (auto& listing : batch->listings) {
    noteRead(listing);
    const auto same = before.find(listing.path);
    if (same != before.end()) input->listings[same->second] = std::move(listing);
    else input->listings.push_back(std::move(listing));
  }
  if (round == 0) core.transact([&] { leaveOutKnown(*input); });
  const auto kept = keepKnownNames(*input);
  if (scanning && !kept.empty()) return listThen(kept, true, input, round);
  input->askMore = round < kMaxRounds;
  KnownRows known(core.store.disk());
  logic::Plan plan;
  core.transact([&] { plan = logic::reconcile(*input, known); });
  if (!plan.alsoList.empty()) return listThen(plan.alsoList, false, input, round + 1);
  core.transact([&] {
    const bool anyProblem = core.store.problems().count() > 0;
    for (const auto& listing : input->listings) {
      if (listing.state == logic::Listing::State::Unreadable) {
        problem(listing.path, "unreadable", joinPath(core.options.folder, listing.path) + kUnreadable + listing.why);
        readAgainLater(listing.path);
      } else if (anyProblem)
        for (const char* kind : {"unreadable", "absent"}) core.store.problems().erase(listing.path, kind);
      for (const auto& name : listing.ignored) {
        const std::string path = joinPath(listing.path, name);
        if (name == kOwnFolder && !listing.path.empty()) problem(path, "invalid-name", "the name is this program's own, as where an arena has or had its folder: neither read nor sent");
        else if (anyProblem)  // What is ignored is no problem, whatever it is.
          for (const char* kind : {"special-file", "invalid-name", "unreadable"}) core.store.problems().erase(path, kind);
      }
    }
  });
  tellIgnoredInTheWay(*input);
  carryOut(plan, *input);
  leaveBehind(*input);
  takeNotes(plan.notes);
  endPass();
}

void Folder::State::takeNotes(const std::vector<logic::Note>& notes) {
  for (const auto& note : notes) {
    switch (note.kind) {
      case logic::Note::Kind::Special:
        problem(note.path, "special-file", "a socket, pipe or device: not part of the arena");
        break;
      case logic::Note::Kind::InvalidName:
        problem(note.path, "invalid-name", "a name that an arena cannot hold: skipped. Rename it");
        break;
      case logic::Note::Kind::SecondName: break;  // A file of its own; nothing to mend.
      case logic::Note::Kind::Unreadable: break;  // Said above, with the remedy.
      case logic::Note::Kind::Unknown:
        problem(note.path, "unreadable", "its state cannot be read; it is left as it was");
        readAgainLater(note.path);
        break;
      case logic::Note::Kind::Absent:
        problem(note.path, "absent", "another disk than before is mounted there, or none: what was in it is left as it was");
        break;
      case logic::Note::Kind::Unread: hint(note.path); break;
    }
  }
}

/// Of what could not be read, all that is below was not either.
void Folder::State::noteRead(const logic::Listing& listing) {
  if (listing.state == logic::Listing::State::Unreadable || unreadable.empty()) return;
  unreadable.erase(listing.path);
  for (const auto& item : listing.items) {
    const bool folder = !item.failed && item.stat.type == FileStat::Type::Directory;
    if (const auto path = joinPath(listing.path, item.name); folder && unreadable.contains(path)) hint(path);
  }
}

/// No event says that a disk reads again what it did not.
void Folder::State::readAgainLater(const std::string& path) {
  unreadable.insert(path);
  if (std::exchange(readingAgain, true)) return;
  core.env.scheduler.onCoreAfter(kReadAgainMs, [this, alive = alive] {
    if (!*alive) return;
    readingAgain = false;
    if (root) readAgain();
  });
}

/// Read at once, as it would be told under its old path for a while.
void Folder::State::unreadableMoved(const std::string& from, const std::string& to) {
  unreadable.erase(from);
  unreadable.insert(to);
  core.transact([&] { core.store.problems().erase(from, "unreadable"); });
  for (const auto& path : {to, parentPath(to)}) hint(path);
}

void Folder::State::readAgain() {
  for (const auto& path : std::set<std::string>(unreadable)) {
    const auto there = root->stat(path);
    hint(parentPath(path));
    const bool gone = !there.ok() && (there.code() == Code::NotFound || there.code() == Code::NotDirectory);
    if (there.ok() ? there->type == FileStat::Type::Directory : !gone) {
      hint(path);
      continue;
    }
    unreadable.erase(path);
    if (!there.ok()) core.folder->rescanAll();  // It moved with a folder above it, maybe.
  }
}

/// Also of a folder that was made since the scan. The next scan tries to watch all of them again.
void Folder::State::sayIfUnwatched() {
  std::string failed;
  {
    std::lock_guard held(watch->mutex);
    if (!watch->exhausted || scanWanted) return;
    failed = watch->failed;
  }
  if (std::exchange(unwatchedSaid, true)) return;
  const std::string scans = "changes are noticed by a scan once a minute only", again = "`realize arena rescan " + core.options.name +
                            "` tries again at once";
  problem("", "stale", failed.empty() ? "too few inotify watches: " + scans + ". Raise fs.inotify.max_user_watches (sysctl); " + again
                                      : "folders cannot be watched (" + failed + "): " + scans + "; " + again);
  if (std::exchange(unwatchedScanDue, true)) return;
  core.env.scheduler.onCoreAfter(kUnwatchedScanMs, [this, alive = alive] {
    if (!*alive) return;
    unwatchedScanDue = false;
    core.folder->rescanAll();
  });
}

void Folder::State::endPass() {
  passRunning = false;
  if (scanning) {
    scanning = false;
    joining = false;
    core.transact([&] { core.store.problems().eraseKind("stale"); });
    unwatchedSaid = false;
  }
  sayIfUnwatched();
  pumpHashes();
  schedulePass();
  settled();
}

}  // namespace realize::peer
