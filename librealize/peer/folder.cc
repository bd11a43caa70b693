#include "librealize/peer/folder.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <utility>

#include "librealize/base/fault.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr int64_t kFlushMs = 500;
constexpr int64_t kResumeMs = 1000;
constexpr uint64_t kNoDevice = INT64_MAX;  // Of a disk that had the number which another one has now.
constexpr char kBootIdKey[] = "folder: boot";
constexpr char kTakenBackKey[] = "folder: taken back";  // Numbers of nodes, each with a blank behind it.
constexpr uint8_t kRead = 2;     // Earlier programs: it was put there by the user, and only read. Now it is synced first.
constexpr uint8_t kLeaving = 1;  // It is about to leave, not just put there.
constexpr uint8_t kOnDisk = 4;   // After all: it did not leave, or who wrote to it since was synced with its name.
}

void SharedWatch::add(const std::string& path) {
  std::lock_guard held(mutex);
  if (!watcher) return;
  auto added = watcher->add(path);
  // What went meanwhile is the concern of the folder above; what may not be read is said when it is listed.
  if (added.ok() || added.code() == Code::NotFound || added.code() == Code::NotDirectory || added.code() == Code::PermissionDenied) return;
  exhausted = true;
  if (added.code() != Code::TooLarge) failed = added.error().message;
}

void SharedWatch::renamed(const std::string& from, const std::string& to) {
  std::lock_guard held(mutex);
  if (watcher) watcher->renamed(from, to);
}

bool SharedWatch::expect(const std::string& directory, uint64_t inode, const std::string& name) {
  std::lock_guard held(mutex);
  return watcher && watcher->expect(directory, inode, name);
}

Folder::State::State(Core& core) : core(core), markerText(core.options.id.hex() + "\n") {}

Folder::Folder(Core& core) : s_(std::make_unique<State>(core)) {}
Folder::~Folder() { *s_->alive = false; }

std::shared_ptr<Directory> Folder::root() { return s_->core.suspended ? nullptr : s_->root; }

int Folder::watchDescriptor() {
  std::lock_guard held(s_->watch->mutex);
  return s_->watch->watcher ? s_->watch->watcher->descriptor() : -1;
}

/// Of a folder that is the right one, and has lost only what is ours in it.
std::string Folder::State::rejoinHint() const {
  const std::string& name = core.options.name;
  return "If only .realize was removed: `realize arena leave " + name + "`, then `realize arena join " + name + " " +
         core.options.folder + "`; files that are there are recognised";
}

namespace {
std::string textOf(Directory& root, const std::string& path) {
  auto file = root.open(path, OpenMode::Read);
  Bytes bytes(64);
  auto got = file.ok() ? (*file)->read(0, bytes) : Result<size_t>(file.error());
  return {reinterpret_cast<const char*>(bytes.data()), got.ok() ? *got : 0};
}
}  // namespace

/// Of a folder that becomes this arena's, and whose marker says `there`.
Result<void> Folder::State::makeOwnFolder(Directory& directory, const std::string& there) {
  const std::string own = core.options.folder + "/" + kOwnFolder;
  if (!there.empty())
    return Error{Code::Refused, core.options.folder + ": this folder belongs to another arena, as " + kMarkerPath +
                                    " says. Leave that arena first, or take another folder; if no peer is in it any more, remove " + own};
  if (auto stat = directory.stat(kOwnFolder); stat.ok() && stat->type != FileStat::Type::Directory)
    return Error{Code::Refused, own + ": is no folder, and this program keeps its own under that name. Rename it, or take another folder"};
  for (const char* name : {kOwnFolder, kTempFolder, kCacheFolder}) {
    auto made = directory.makeDirectory(name, 0700);
    if (!made.ok() && made.code() != Code::Exists) return made.error();
  }
  REALIZE_ASSIGN(auto file, directory.open(kMarkerPath, OpenMode::CreateOrOpen, 0600));
  REALIZE_TRY(file->write(0, std::as_bytes(std::span(markerText))));
  REALIZE_TRY(file->sync(true));
  REALIZE_TRY(directory.syncDirectory(kOwnFolder));
  return directory.syncDirectory("");
}

Result<void> Folder::State::openRoot(bool fresh) {
  const std::string& folder = core.options.folder;
  auto opened = core.env.disk.openRoot(folder);
  if (!opened.ok())
    return Error{Code::Suspended, folder + ": the arena's folder cannot be opened (" + opened.error().message +
                                      "). Nothing was removed; mount or restore it and the arena goes on, or leave the arena"};
  std::shared_ptr<Directory> directory = std::move(*opened);
  const std::string there = textOf(*directory, kMarkerPath);
  if (fresh && there != markerText) REALIZE_TRY(makeOwnFolder(*directory, there));
  if (!fresh && there != markerText)
    return Error{Code::Suspended, folder + ": the arena's marker " + kMarkerPath +
                                      " is not there: the disk is not mounted, or the folder was replaced. Nothing was "
                                      "removed; bring the folder back and the arena goes on. " + rejoinHint()};
  root = std::move(directory);
  mounts = core.env.disk.mountsWithin(folder);
  return {};
}

/// What a crash left among our own is of no use, unless it is a file of the user's: one displaced by a version that was
/// being put in its place, or on its way out. That one goes back.
Result<void> Folder::State::clearLeftovers(const std::vector<Placed>& placed) {
  auto rowOf = [&](const FileStat& item) -> std::optional<store::DiskRow> {
    for (auto& row : core.store.disk().getByInode(item.device, item.inode)) {
      if (row.birthNs == item.birthNs && row.kind != EntryKind::Directory) return row;
    }
    return std::nullopt;
  };
  const auto problems = core.store.problems().list(1000);
  for (const char* folder : {kTempFolder, kCacheFolder}) {
    REALIZE_ASSIGN(auto items, root->list(folder));
    for (auto& item : items) {
      if (item.failed) continue;
      const std::string from = std::string(folder) + "/" + item.name;
      if (auto row = rowOf(item.stat)) {
        const std::string path = core.folder->diskPath(row->node).value_or(row->name);
        auto there = root->stat(path);
        const bool replaced = there.ok() && !there->sameObject(item.stat);
        const bool madeWay = std::any_of(placed.begin(), placed.end(), [&](const auto& file) { return file.node == row->node && !file.undone; });
        if (madeWay && asKnown(*row, from) && letGo(*row, from).ok()) continue;  // Whoever moved the other away since.
        if (!there.ok() || (replaced && (row->dirty || !asKnown(*row, from)))) {
          giveBack(from, path);
          continue;
        }
        if (replaced && letGo(*row, from).ok()) continue;
      }
      Aside aside = readAside(item.name, item.stat);
      if (aside.whose == Aside::Ours) {
        const auto asMade = isAsMade(item, from, aside);
        if (!asMade.ok()) continue;  // Cannot be read: not to be judged yet.
        if (!*asMade) aside.whose = Aside::Users;
      }
      const bool temporary = folder == std::string_view(kTempFolder);
      if (aside.whose == Aside::Users) {
        giveBack(from, core.folder->diskPath(aside.node).value_or("rescued"));
        continue;
      }
      if (!temporary && aside.whose == Aside::Ours) {
        auto back = root->rename(from, std::string(folder) + "/" + aside.from, RenameKind::NoReplace);
        (void)back;  // Fetched again.
      }
      if (!temporary && aside.whose != Aside::Known) continue;
      const bool told = std::any_of(problems.begin(), problems.end(), [&](const auto& problem) {
        return problem.path == from && problem.kind == "rescued";
      });
      if (told) {  // The user was told that what he wrote is here.
        giveBack(from, "rescued");
        if (auto there = root->stat("rescued"); there.ok() && there->sameObject(item.stat))
          problem("rescued", "rescued", "what was kept as " + from + ": changed here while another peer's version took its place");
        continue;
      }
      if (const auto path = givenBackTo(item, from, aside)) {
        giveBack(from, *path);
        continue;
      }
      // It made way for another, and was on its way to the cache; or came from there, and was on its way back.
      const bool toCache = aside.whose == Aside::Known || item.name.starts_with(kUndoPrefix);
      if (toCache && item.stat.type == FileStat::Type::File && keepLeftover(from, item.stat)) continue;
      auto gone = root->unlink(from);
      (void)gone;  // Only takes space.
    }
  }
  return {};
}

/// Where a leftover belongs that a user may have written into while it had a name of his: of an exchange that was being
/// undone, or of one that made way for it and that the database has forgotten with the power, or given back without
/// success. Nothing for what is our own.
std::optional<std::string> Folder::State::givenBackTo(DirectoryItem& item, const std::string& from, const Aside& aside) {
  if (item.name.starts_with("rescued")) return "rescued";
  const bool undone = item.name.starts_with(kUndoPrefix);
  if ((!undone && aside.whose != Aside::Known) || item.stat.type != FileStat::Type::File) return std::nullopt;
  const NodeId node = undone ? strtoull(item.name.c_str() + strlen(kUndoPrefix), nullptr, 10) : aside.node;
  auto id = core.store.idOf(node);
  auto record = id ? core.tree.get(*id) : std::nullopt;
  const auto content = hashOurFile(*root, from, item.stat);
  if (record && content.ok()) {
    const auto& heads = record->entry.heads;
    const auto& replaced = record->entry.replaced;
    const bool fetched = std::any_of(heads.begin(), heads.end(), [&](const auto& head) { return head.second.blob == content->blob; });
    if (fetched || std::find(replaced.begin(), replaced.end(), content->blob) != replaced.end()) return std::nullopt;
  }
  return core.folder->diskPath(node).value_or("rescued");
}

/// The content that a cache file is named by.
std::optional<BlobId> blobNamed(const std::string& name) {
  BlobId blob;
  if (name.size() != 2 * BlobId::size()) return std::nullopt;
  for (size_t i = 0; i < BlobId::size(); ++i) {
    const char* digits = name.data() + 2 * i;
    if (std::from_chars(digits, digits + 2, blob.bytes[i], 16).ptr != digits + 2) return std::nullopt;
  }
  return blob.hex() == name ? std::optional(blob) : std::nullopt;
}

/// Bytes of which the database speaks are in their files: a power cut can take the names of those. What is in a file that
/// it does not speak of is found out; if that is nothing whole, it takes space, and goes first when that is needed.
Result<void> Folder::State::checkCache() {
  REALIZE_ASSIGN(const auto items, root->list(kCacheFolder));
  std::map<std::string, const DirectoryItem*> there;
  for (const auto& item : items) {
    there[item.name] = &item;
    if (item.failed) continue;
    const auto blob = blobNamed(item.name);
    if (!blob || item.stat.allocatedBytes == 0 || core.store.cache().get(*blob)) continue;
    store::CacheRow row;
    row.blob = *blob;
    row.sizeBytes = item.stat.sizeBytes;
    row.storedBytes = std::min(item.stat.allocatedBytes, item.stat.sizeBytes);
    row.unlinked = true;
    core.store.cache().put(row);
  }
  unrecognised.clear();
  const bool unread = cacheUnread();
  for (const auto& blob : core.store.cache().all()) {
    const auto row = core.store.cache().get(blob);
    const auto found = there.find(blob.hex());
    if (!row || (found != there.end() && found->second->failed)) continue;  // The disk does not show it now.
    if (found == there.end() || found->second->stat.sizeBytes != row->sizeBytes) core.store.cache().erase(blob);
    else if (mayBeWhole(*row, found->second->stat, unread)) unrecognised.insert(blob);
  }
  if (!recognising) recogniseNext({});
  return {};
}

namespace {
bool isEmpty(Directory& root) {
  auto items = root.list("");
  return items.ok() && std::all_of(items->begin(), items->end(), [](const auto& item) { return item.name == kOwnFolder; });
}
}  // namespace

Result<void> Folder::start(const Beginning& how) {
  s_->joining = how.joining && s_->core.options.userFolder;
  s_->waitingForTree = s_->joining;
  s_->allUnsynced = how.killed;
  s_->stayed = how.stayed;
  auto opened = s_->openRoot(how.fresh);
  if (opened.ok() && s_->joining && isEmpty(*s_->root)) s_->joining = s_->waitingForTree = false;  // Nothing to match with it.
  if (opened.ok()) opened = s_->begin();
  if (!opened.ok() && !how.fresh) {
    s_->lost(opened.error().message);
    return {};
  }
  return opened;
}

/// The root is open: notes what it is, watches it and scans it.
Result<void> Folder::State::begin() {
  guard.setSettings(guardSettings(core.settings.guardShare));
  if (auto noted = noteWhatIsThere(); !noted.ok())
    return Error{noted.code(), core.options.folder + ": what this program keeps there cannot be read (" + noted.error().message +
                                   "). Nothing was removed; it is tried again"};
  beginWatch(true);
  beginGuards();
  core.folder->rescanAll();
  return {};
}

/// What a crash left, what a backup brought back, what the power took. Nothing is concluded from what cannot be read; it may
/// be done anew from its beginning.
Result<void> Folder::State::noteWhatIsThere() {
  REALIZE_ASSIGN(const auto stat, root->stat(""));
  placingNew.clear();
  std::vector<Placed> placed;
  Result<void> read;
  if (anyPlacing()) {
    core.transact([&] {
      auto found = placedBefore();
      if (!found.ok()) return void(read = found.error());
      placed = std::move(*found);
      keepPlacing(placed);
    });
    REALIZE_TRY(read);
    // Before the files go that tell what was not placed.
    REALIZE_TRY(store::catching([&] { core.store.makeDurable(); }));
  }
  core.transact([&] {
    auto row = core.store.disk().get(kRootNode).value_or(store::DiskRow());
    // What lies on it has its number. A disk that is mounted in it and had that number before has another one now, too.
    if (row.device != stat.device) changeDevices({{row.device, stat.device}, {stat.device, kNoDevice}});
    row.node = kRootNode;
    row.kind = EntryKind::Directory;
    row.setStat(stat);
    core.store.disk().put(row);
    read = clearLeftovers(placed);
    if (read.ok()) read = lookWhatWasBroughtBack();
    if (read.ok()) read = checkCache();
    if (!read.ok()) return;
    takePlaced(placed, stat.device);
    read = forgetUnsynced();
  });
  return read;
}

/// Before a scan, which adds all directories. Without a watch, or with one that failed, it is tried anew.
void Folder::State::beginWatch(bool anew) {
  if (!core.options.userFolder) return;
  bool changed = false;
  {
    std::lock_guard held(watch->mutex);
    if (anew || !watch->watcher) {
      auto watcher = core.env.watch ? core.env.watch(core.options.folder)
                                    : Result<std::unique_ptr<Watcher>>(Error{Code::Unsupported, "no watch"});
      watch->watcher = watcher.ok() ? std::move(*watcher) : nullptr;
      changed = anew || watch->watcher;
    }
    watch->exhausted = !watch->watcher;
    if (watch->watcher) watch->failed.clear();
  }
  if (changed && core.watchChanged) core.watchChanged();
}

/// What it had to tell is not known.
void Folder::State::watchFailed(const Error& error) {
  {
    std::lock_guard held(watch->mutex);
    watch->watcher = nullptr;
    watch->exhausted = true;
    watch->failed = error.message;
  }
  if (core.watchChanged) core.watchChanged();
  problem("", "stale", "the watch for changes failed (" + error.message + "); the folder is scanned again");
  core.folder->rescanAll();
}

/// The folder is gone, or is another one. What it held is not removed from anywhere; when it is back, all goes on.
void Folder::State::lost(const std::string& why) {
  core.suspend(why);
  core.env.scheduler.onCoreAfter(kResumeMs, [this, alive = alive, why] {
    if (!*alive || core.stopping || core.suspendedWhy != why) return;
    auto opened = openRoot(false);
    for (const char* own : {kTempFolder, kCacheFolder})
      if (opened.ok() && !root->list(own).ok()) return lost(why);
    if (!opened.ok()) return lost(why);
    core.suspended = false;
    core.suspendedWhy.clear();
    dirty.clear();
    timerAtNs = 0;
    if (auto begun = begin(); !begun.ok()) return lost(why);
    core.emit(Event{.whenNs = 0, .type = "resumed", .arena = "", .path = "", .peer = "", .detail = core.options.folder});
    applySoon();
    core.exchange->resumed();
    core.transfers->wakeWanted();
    core.transfers->limitChanged();  // What is in the cache was looked at anew.
  });
}

void Folder::stop() { s_->toHash.clear(); }

/// The machine runs since before the folder was last begun with: only the process ended.
bool Folder::State::sameBootAsBefore() {
  return !core.env.bootId.empty() && core.store.getValue(kBootIdKey) == core.env.bootId;
}

/// What was put in place shortly before a crash may not have reached the disk, and what was about to leave may have
/// left: neither is a removal by the user.
Result<void> Folder::State::forgetUnsynced() {
  auto& unsynced = core.store.unsynced();
  // Without a new start of the machine nothing was lost; only what was leaving may be gone by our own doing.
  const bool sameBoot = sameBootAsBefore();
  core.store.setValue(kBootIdKey, core.env.bootId);
  core.unwritten->load(sameBoot);
  const uint64_t last = unsynced.lastTurn();
  auto forget = [&](NodeId node) {
    core.store.disk().erase(node);
    if (auto id = core.store.idOf(node)) core.marks->entryChanged(*id);
  };
  std::vector<NodeId> folders;
  for (const auto& [node, how] : unsynced.all()) {
    auto row = core.store.disk().get(node);
    if (!row || how == kOnDisk || (sameBoot && (!(how & kLeaving) || stayed.contains(node)))) continue;
    auto path = core.folder->diskPath(node);
    auto stat = path ? root->stat(*path) : Result<FileStat>(Error{Code::NotFound, ""});
    if (!stat.ok() && stat.code() == Code::Io) return stat.error();
    const bool there = stat.ok() && stat->inode == row->inode && stat->device == row->device && stat->birthNs == row->birthNs;
    // Its bytes may have been hashed before they were on the disk, and then the disk has others under those times: also where
    // it has another name, as a crash between a rename and its transaction leaves it.
    if (row->kind == EntryKind::File && !sameBoot && (there || how & kRead)) core.store.disk().setDirty(node, true);
    // The object is there: what differs was done to it since, and the scan reads it as that.
    if (there && sameBoot) unsynced.put(node, kOnDisk);  // It was leaving.
    if (there) continue;
    // A file of the user's own that is not there: removed, or lost with the power before he synced it. The scan reads it.
    if (how & kRead) continue;
    if (row->kind == EntryKind::Directory) {
      folders.push_back(node);
      continue;
    }
    if (stat.ok() && stat->type == FileStat::Type::File) {
      // Somebody wrote into it as it was leaving, and the power took the note of that: for when nobody turns out to have it.
      const bool read = row->kind == EntryKind::File && !row->blob.isZero();
      if (!(how & kLeaving)) replacedUnsynced.insert(node);
      else if (read) noteTookAway("edit", *row, *path);
    }
    forget(node);
  }
  // Of a folder that has something known in it, that is the proof that it was on the disk: its user removed it, with all.
  for (bool again = true; again;) {
    again = false;
    for (auto& node : folders) {
      if (!node || core.store.disk().hasChildren(node)) continue;
      forget(std::exchange(node, 0));
      again = true;
    }
  }
  noteTakenBack(sameBoot);
  // What the machine found when it started is on its disk. What only another process put there may still be lost.
  if (!sameBoot) unsynced.clearThrough(last);
  else if (unsynced.count()) flushUnsyncedSoon();
  return {};
}

/// What the row says is no more: a line of the history that no change of the tree tells.
void Folder::State::noteTookAway(const char* what, const store::DiskRow& row, const std::string& path) {
  store::HistoryRow line;
  line.whenNs = core.env.clock.nowNs();
  line.peer = core.options.self;
  line.what = what;
  line.node = row.node;
  line.path = path;
  line.old = row.version();
  core.store.history().add(line);
}

/// What was there before may be under their names again, until all was read.
void Folder::State::noteTakenBack(bool sameBoot) {
  std::istringstream before(core.store.getValue(kTakenBackKey).value_or(""));
  for (NodeId node = 0; before >> node;) takenBack.insert(node);
  std::string now;
  for (const auto& [node, how] : core.store.unsynced().all())
    if (!sameBoot && how != kOnDisk && !core.store.disk().get(node)) takenBack.insert(node);
  for (const NodeId node : takenBack) now += std::to_string(node) + " ";
  if (!now.empty()) core.store.setValue(kTakenBackKey, now);
}

void Folder::State::flushUnsyncedSoon() {
  if (flushScheduled) return;
  flushScheduled = true;
  core.env.scheduler.onCoreAfter(kFlushMs, [this, alive = alive] {
    if (!*alive || !root) return;
    // What is noted again once the sync has begun is not synced by it.
    const uint64_t last = core.store.unsynced().lastTurn();
    core.env.scheduler.onPool(false, [this, alive = this->alive, last, root = root, all = core.syncAll, &scheduler = core.env.scheduler] {
      const bool synced = all->sync(*root, all->failures()).ok();
      scheduler.onCore([this, alive, last, synced] {
        if (!*alive) return;
        core.unwritten->noteFailures();
        flushScheduled = false;
        if (synced) core.transact([&] { core.store.unsynced().clearThrough(last); });
        if (core.store.unsynced().count()) flushUnsyncedSoon();
      });
    });
  });
}

void Folder::State::noteUnsynced(NodeId node, uint8_t how) {
  if (faulty(Fault::ForgetUnsynced)) return;
  core.store.unsynced().put(node, how);
  flushUnsyncedSoon();
}

void Folder::noteLeaving(NodeId node) {
  s_->stayed.erase(node);
  s_->noteUnsynced(node, kLeaving);
}

const std::set<NodeId>& Folder::stayed() const { return s_->stayed; }

void Folder::noteStayed(NodeId node) {
  s_->stayed.insert(node);
  noteOnDisk(node);
}
void Folder::noteNew(NodeId node) { s_->noteUnsynced(node); }
void Folder::noteOnDisk(NodeId node) {
  if (s_->core.store.unsynced().has(node)) s_->noteUnsynced(node, kOnDisk);
}

std::optional<std::string> Folder::diskPath(NodeId node) {
  std::vector<std::string> names;
  while (node != kRootNode) {
    const auto* row = s_->core.store.disk().peek(node);
    if (!row || names.size() > 4096) return std::nullopt;
    names.push_back(row->name);
    node = row->parentNode;
  }
  std::string path;
  for (auto name = names.rbegin(); name != names.rend(); ++name) path = joinPath(path, *name);
  return path;
}

std::string Folder::State::childPath(NodeId parent, const std::string& name) {
  return joinPath(core.folder->diskPath(parent).value_or(""), name);
}

void Folder::State::problem(const std::string& path, const std::string& kind, const std::string& detail) {
  core.transact([&] { core.store.problems().put({path, kind, detail}); });
}

bool Folder::settling() const {
  const auto& s = *s_;
  if (s.core.suspended) return false;
  return !s.dirty.empty() || s.scanWanted || s.passRunning || !s.toHash.empty() || s.hashing > 0 || !s.toApply.empty() ||
         std::any_of(s.retries.begin(), s.retries.end(), [](const auto& retry) { return retry.second < kPatience; });
}

bool Folder::joining() const { return s_->joining; }
bool Folder::waitingForTree() const { return s_->waitingForTree; }
bool Folder::scanning() const { return s_->scanning || s_->scanWanted; }
uint64_t Folder::scannedEntries() const { return s_->scannedEntries; }

void Folder::barrier(std::function<void()> done) {
  drainWatch();
  if (!settling()) return done();
  s_->barriers.push_back(std::move(done));
}

void Folder::answerBarriers() {
  auto waiting = std::move(s_->barriers);
  s_->barriers.clear();
  for (auto& done : waiting)
    s_->core.env.scheduler.onCore([done = std::move(done)] { done(); });
}

/// Called whenever something that settling() looks at has ended.
void Folder::State::settled() {
  if (core.folder->settling()) return;
  guardsRest();
  if (!barriers.empty()) {
    core.folder->drainWatch();  // What came while the rest was read belongs to the answer, too.
    if (core.folder->settling()) return;
  }
  endBroughtBack();
  if (!core.suspended) replacedUnsynced.clear();
  if (!core.suspended && !std::exchange(takenBack, {}).empty()) core.transact([&] { core.store.setValue(kTakenBackKey, ""); });
  core.exchange->changed(true);
  auto waiting = std::move(barriers);
  barriers.clear();
  for (auto& done : waiting) done();
}

}  // namespace realize::peer
