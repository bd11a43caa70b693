// Names, modes and times that the user set, changed or removed are on the disk before a peer is told of them: else a power cut
// would bring back what they were, and that would be read as the user's newest wish.

#include "librealize/peer/folder_state.h"

namespace realize::peer {

namespace {
constexpr size_t kSyncedSingly = 8;

void throwIfUnsynced(const Result<void>& synced) {
  if (!synced.ok())
    throw store::DatabaseError(Code::Io, "names in the arena's folder cannot be brought to its disk: " + synced.error().message);
}
}  // namespace

void Folder::changedByUser(NodeId node) { s_->changedByUser[node] = ++s_->lastChange; }

/// One that has gone is a changed name in the folder above it.
std::vector<Folder::State::ToSync> Folder::State::changesToSync() {
  std::vector<ToSync> out;
  for (const auto& [node, turn] : changedByUser) {
    const auto* row = core.store.disk().peek(node);
    const EntryKind kind = row ? row->kind : EntryKind::Directory;
    if (auto path = core.folder->diskPath(node)) out.push_back({*path, kind});
  }
  return out;
}

/// What cannot be synced by itself (a link; it moved meanwhile, or may not be read) is synced with all others.
Folder::State::SyncedChanges Folder::State::syncChanges(Directory& root, SyncAll& syncAll, const std::vector<ToSync>& changes, bool all) {
  SyncedChanges out;
  bool singly = !all && changes.size() <= kSyncedSingly;
  for (size_t i = 0; i < changes.size() && singly; ++i) {
    const auto& change = changes[i];
    Result<void> synced = Error{Code::Unsupported, "a link cannot be synced"};
    if (change.kind == EntryKind::Directory) {
      synced = root.syncDirectory(change.path);
    } else if (change.kind == EntryKind::File) {
      auto file = root.open(change.path, OpenMode::Read);
      const auto stat = file.ok() ? (*file)->stat() : Result<FileStat>(file.error());
      synced = stat.ok() ? (*file)->sync(true) : Result<void>(stat.error());
      if (stat.ok() && !synced.ok()) out.unwritten.push_back(*stat);
    }
    singly = synced.ok();
  }
  if (!singly) out.done = syncAll.sync(root, syncAll.failures());
  return out;
}

/// The user may have written into these what is not read yet, and no later sync of it will tell.
void Folder::State::noteUnwritten(const SyncedChanges& synced) {
  core.unwritten->noteFailures();
  for (const auto& file : synced.unwritten) core.unwritten->note(file);
}

void Folder::makeNamesDurable() {
  auto& s = *s_;
  if ((s.changedByUser.empty() && !s.allUnsynced) || !s.root) return;
  const auto synced = State::syncChanges(*s.root, *s.core.syncAll, s.changesToSync(), s.allUnsynced);
  s.noteUnwritten(synced);
  throwIfUnsynced(synced.done);
  s.changedByUser.clear();
  s.allUnsynced = false;
}

void Folder::makeNamesDurableThen(std::function<void()> done) {
  auto& s = *s_;
  if ((s.changedByUser.empty() && !s.allUnsynced) || !s.root) return done();
  auto& scheduler = s.core.env.scheduler;
  scheduler.onPool(true, [changes = s.changesToSync(), all = s.allUnsynced, turn = s.lastChange, root = s.root, syncAll = s.core.syncAll, &s, alive = s.alive,
                          done = std::move(done), &scheduler] {
    auto synced = State::syncChanges(*root, *syncAll, changes, all);
    scheduler.onCore([synced, all, turn, &s, alive, done] {
      if (*alive) s.noteUnwritten(synced);
      if (*alive && synced.done.ok()) {
        std::erase_if(s.changedByUser, [&](const auto& change) { return change.second <= turn; });
        if (all) s.allUnsynced = false;
      }
      done();  // What is not synced yet, whoever tells of it syncs first.
    });
  });
}

}  // namespace realize::peer
