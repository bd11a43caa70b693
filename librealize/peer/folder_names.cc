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
Result<void> Folder::State::syncChanges(Directory& root, const std::vector<ToSync>& changes, bool all) {
  if (all || changes.size() > kSyncedSingly) return root.syncAll();
  for (const auto& change : changes) {
    Result<void> synced = Error{Code::Unsupported, "a link cannot be synced"};
    if (change.kind == EntryKind::Directory) {
      synced = root.syncDirectory(change.path);
    } else if (change.kind == EntryKind::File) {
      auto file = root.open(change.path, OpenMode::Read);
      synced = file.ok() ? (*file)->sync(true) : Result<void>(file.error());
    }
    if (!synced.ok()) return root.syncAll();
  }
  return {};
}

void Folder::makeNamesDurable() {
  auto& s = *s_;
  if ((s.changedByUser.empty() && !s.allUnsynced) || !s.root) return;
  throwIfUnsynced(State::syncChanges(*s.root, s.changesToSync(), s.allUnsynced));
  s.changedByUser.clear();
  s.allUnsynced = false;
}

void Folder::makeNamesDurableThen(std::function<void()> done) {
  auto& s = *s_;
  if ((s.changedByUser.empty() && !s.allUnsynced) || !s.root) return done();
  auto& scheduler = s.core.env.scheduler;
  scheduler.onPool(true, [changes = s.changesToSync(), all = s.allUnsynced, turn = s.lastChange, root = s.root, &s, alive = s.alive,
                          done = std::move(done), &scheduler] {
    auto synced = State::syncChanges(*root, changes, all);
    scheduler.onCore([synced, all, turn, &s, alive, done] {
      if (*alive && synced.ok()) {
        std::erase_if(s.changedByUser, [&](const auto& change) { return change.second <= turn; });
        if (all) s.allUnsynced = false;
      }
      done();  // What is not synced yet, whoever tells of it syncs first.
    });
  });
}

}  // namespace realize::peer
