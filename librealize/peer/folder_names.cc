// Names that the user gave, changed or removed are on the disk before a peer is told of them: else a power cut would bring
// back what they were, and that would be read as the user's newest wish.

#include "librealize/peer/folder_state.h"

namespace realize::peer {

namespace {
constexpr size_t kSyncedSingly = 8;

/// A folder that cannot be synced by itself (it moved meanwhile, or may not be read) is synced with all others.
Result<void> syncFolders(Directory& root, const std::vector<std::string>& folders) {
  if (folders.size() > kSyncedSingly) return root.syncAll();
  for (const auto& folder : folders)
    if (!root.syncDirectory(folder).ok()) return root.syncAll();
  return {};
}

void throwIfUnsynced(const Result<void>& synced) {
  if (!synced.ok())
    throw store::DatabaseError(Code::Io, "names in the arena's folder cannot be brought to its disk: " + synced.error().message);
}
}  // namespace

void Folder::nameChanged(NodeId folder) { s_->changedNames[folder] = ++s_->lastChangedName; }

/// One that has gone is a changed name in the folder above it.
std::vector<std::string> Folder::State::foldersOfChangedNames() {
  std::vector<std::string> folders;
  for (const auto& [node, turn] : changedNames)
    if (auto path = core.folder->diskPath(node)) folders.push_back(*path);
  return folders;
}

void Folder::makeNamesDurable() {
  auto& s = *s_;
  if (s.changedNames.empty() || !s.root) return;
  throwIfUnsynced(syncFolders(*s.root, s.foldersOfChangedNames()));
  s.changedNames.clear();
}

void Folder::makeNamesDurableThen(std::function<void()> done) {
  auto& s = *s_;
  if (s.changedNames.empty() || !s.root) return done();
  auto& scheduler = s.core.env.scheduler;
  scheduler.onPool(true, [folders = s.foldersOfChangedNames(), turn = s.lastChangedName, root = s.root, &s, alive = s.alive,
                          done = std::move(done), &scheduler] {
    auto synced = syncFolders(*root, folders);
    scheduler.onCore([synced, turn, &s, alive, done] {
      if (*alive && synced.ok()) std::erase_if(s.changedNames, [&](const auto& name) { return name.second <= turn; });
      done();  // What is not synced yet, whoever tells of it syncs first.
    });
  });
}

}  // namespace realize::peer
