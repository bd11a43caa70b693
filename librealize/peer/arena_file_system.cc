#include "librealize/peer/arena_file_system.h"

#include "librealize/peer/arena_file_system_state.h"
#include "librealize/peer/invalidations.h"

namespace realize::peer {

// --- answers ------------------------------------------------------------------------------------------------------

uint64_t OwedAnswers::add(Answer giveUp) {
  std::lock_guard held(mutex_);
  owed_.emplace(++last_, Owed{std::move(giveUp), 0});
  return last_;
}

bool OwedAnswers::take(uint64_t number) {
  std::lock_guard held(mutex_);
  return owed_.erase(number) > 0;
}

void OwedAnswers::noteTransfer(uint64_t number, uint64_t transfer) {
  std::lock_guard held(mutex_);
  if (auto it = owed_.find(number); it != owed_.end()) it->second.transfer = transfer;
}

std::optional<uint64_t> OwedAnswers::giveUp(uint64_t number, const Error& error) {
  Owed owed;
  {
    std::lock_guard held(mutex_);
    auto it = owed_.find(number);
    if (it == owed_.end()) return std::nullopt;
    owed = std::move(it->second);
    owed_.erase(it);
  }
  owed.giveUp(error);
  return owed.transfer;
}

void OwedAnswers::giveUpAll(const Error& error) {
  std::map<uint64_t, Owed> all;
  {
    std::lock_guard held(mutex_);
    all.swap(owed_);
  }
  for (auto& [number, owed] : all) owed.giveUp(error);
}

// --- the object ---------------------------------------------------------------------------------------------------

ArenaFileSystem::ArenaFileSystem(Core& core) : s_(std::make_shared<State>(core)) {}

ArenaFileSystem::~ArenaFileSystem() {
  close();
  *s_->alive = false;
}

void ArenaFileSystem::close() {
  s_->closed = true;
  s_->owed->giveUpAll(Error{Code::Suspended, "the arena is being closed"});
  std::unordered_map<FileHandle, std::shared_ptr<OpenHandle>> handles;
  std::lock_guard held(s_->handlesMutex);
  handles.swap(s_->handles);
}

Result<std::shared_ptr<Directory>> ArenaFileSystem::State::usable() {
  if (closed || core.stopping) return Error{Code::Suspended, "the arena is closed"};
  auto root = core.folder->root();
  if (!root) return Error{Code::Suspended, core.suspendedWhy};
  return root;
}

Result<std::shared_ptr<Directory>> ArenaFileSystem::State::changeable() {
  auto root = usable();
  if (root.ok()) core.transfers->finishPlacing();
  return root;
}

Result<logic::Record> ArenaFileSystem::State::recordOf(NodeId node) {
  if (node == kRootNode) return Core::rootRecord();
  auto id = core.store.idOf(node);
  auto record = id ? core.tree.get(*id) : std::nullopt;
  if (!record || !record->shown || record->node != node) return Error{Code::Stale, "the entry is gone"};
  return std::move(*record);
}

Result<logic::Record> ArenaFileSystem::State::directoryOf(NodeId node) {
  REALIZE_ASSIGN(auto record, recordOf(node));
  if (record.entry.kind != EntryKind::Directory) return Error{Code::NotDirectory, "not a folder"};
  return record;
}

ArenaFileSystem::State::Found ArenaFileSystem::State::found(logic::Record record) {
  Found out;
  out.row = core.store.disk().get(record.node);
  if (out.row && record.node != kRootNode) {
    auto path = core.folder->diskPath(record.node);
    if (path) out.path = std::move(*path);
    else out.row.reset();
  }
  out.record = std::move(record);
  return out;
}

Result<ArenaFileSystem::State::Found> ArenaFileSystem::State::find(NodeId node) {
  REALIZE_ASSIGN(auto record, recordOf(node));
  return found(std::move(record));
}

std::shared_ptr<OpenHandle> ArenaFileSystem::State::handleOf(FileHandle handle) {
  std::lock_guard held(handlesMutex);
  auto it = handles.find(handle);
  return it == handles.end() ? nullptr : it->second;
}

FileHandle ArenaFileSystem::State::keep(std::shared_ptr<OpenHandle> handle) {
  std::lock_guard held(handlesMutex);
  handles.emplace(++lastHandle, std::move(handle));
  return lastHandle;
}

std::shared_ptr<void> ArenaFileSystem::subscribe(InvalidationSink& sink) {
  return s_->core.invalidations->subscribe(sink);
}

}  // namespace realize::peer
