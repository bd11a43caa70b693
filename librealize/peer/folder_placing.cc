// Between a version's taking its place in the folder and the transaction that says so the process can end, or the
// database fail; and the user goes on. What he does then he does to that version: it was seen. So it is noted before.

#include <algorithm>

#include "librealize/base/fault.h"
#include "librealize/model/codec.h"
#include "librealize/peer/file_hash.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/marks.h"

namespace realize::peer {

namespace {

constexpr char kPlacingKey[] = "folder: placing";  // node, dot, inode, birth, named of each file; empty at other times

struct Noted {
  NodeId node = 0;
  Dot dot;
  FileStat file;  // inode and birth
  bool named = false;
};

std::vector<Noted> decode(const std::string& bytes) {
  std::vector<Noted> out;
  ByteReader reader(bytes);
  while (!bytes.empty() && !reader.finished() && !reader.failed()) {
    Noted noted;
    noted.node = reader.number(INT64_MAX);
    noted.dot.origin = reader.fixed64();
    noted.dot.seq = reader.number(UINT64_MAX);
    noted.file.inode = reader.fixed64();
    noted.file.birthNs = reader.signedNumber();
    noted.named = reader.byte() != 0;
    if (!reader.failed()) out.push_back(noted);
  }
  return out;
}

std::string encode(const std::vector<Noted>& files) {
  ByteWriter writer;
  for (const auto& file : files) {
    writer.number(file.node);
    writer.fixed64(file.dot.origin);
    writer.number(file.dot.seq);
    writer.fixed64(file.file.inode);
    writer.signedNumber(file.file.birthNs);
    writer.byte(file.named ? 1 : 0);
  }
  return writer.take();
}

bool sameFile(const FileStat& a, const FileStat& b) { return a.inode == b.inode && a.birthNs == b.birthNs; }

/// Of what was on its way to the folder, or back: somebody had it under his name for a moment, and it is to be given back.
Result<bool> writtenInto(Directory& root, const std::string& path, DirectoryItem& item, const logic::Record& record, Dot dot) {
  const bool onItsWay = item.name.starts_with(kUndoPrefix) || item.name.find('~') != std::string::npos;
  const auto& heads = record.entry.heads;
  const auto head = std::find_if(heads.begin(), heads.end(), [&](const auto& h) { return h.first == dot; });
  if (!onItsWay || head == heads.end() || item.stat.type != FileStat::Type::File) return false;
  REALIZE_ASSIGN(const auto content, hashOurFile(root, path, item.stat));
  return content.blob != head->second.blob;
}

}  // namespace

std::string Folder::State::notesOf(const std::vector<Placing>& files) {
  std::vector<Noted> noted;
  for (const auto& file : files)
    if (const auto node = file.node ? file.node : core.store.nodeOf(file.id)) noted.push_back({*node, file.dot, file.file, file.named});
  return encode(noted);
}

bool Folder::notePlacing(const std::vector<Placing>& files) {
  auto& s = *s_;
  return s.core.transact([&] { s.core.store.setValue(kPlacingKey, s.placingNew + s.notesOf(files)); });
}

void Folder::notePlacingNew(const std::vector<Placing>& files) {
  s_->placingNew = s_->notesOf(files);
  s_->core.store.setValue(kPlacingKey, s_->placingNew);
}

void Folder::placingDone() { s_->core.store.setValue(kPlacingKey, s_->placingNew); }

/// Which of those that were noted came to their place. Before anything among our own is cleared away: what is still there
/// did not, unless somebody wrote into it; what is not went to the folder, if a power cut did not take its name.
Result<std::vector<Folder::State::Placed>> Folder::State::placedBefore() {
  const bool sameBoot = sameBootAsBefore();
  const auto noted = decode(core.store.getValue(kPlacingKey).value_or(""));
  std::vector<Placed> out;
  if (noted.empty()) return out;
  std::vector<std::pair<std::string, DirectoryItem>> ours;
  for (const char* folder : {kTempFolder, kCacheFolder}) {
    REALIZE_ASSIGN(const auto items, root->list(folder));
    for (const auto& item : items)
      if (!item.failed) ours.emplace_back(joinPath(folder, item.name), item);
  }
  for (const auto& [node, dot, file, named] : noted) {
    const auto id = core.store.idOf(node);
    const auto record = id ? core.tree.get(*id) : std::nullopt;
    if (!record || record->entry.kind != EntryKind::File) continue;
    auto row = core.store.disk().get(node);
    if (!row && !record->shown) continue;
    const NodeId parent = row ? row->parentNode : core.store.nodeOf(record->shownParent).value_or(0);
    const std::string name = row ? row->name : record->shownName;
    const auto above = core.folder->diskPath(parent);
    if (!above || (row && row->inode == file.inode && row->birthNs == file.birthNs)) continue;
    const auto there = root->stat(joinPath(*above, name));
    if (!there.ok() && there.code() == Code::Io) return there.error();
    const bool before = there.ok() && row && there->inode == row->inode && there->birthNs == row->birthNs;
    const auto kept = std::find_if(ours.begin(), ours.end(), [&file = file](const auto& item) { return sameFile(item.second.stat, file); });
    bool undone = before && sameBoot;
    if (kept != ours.end()) {
      REALIZE_ASSIGN(undone, writtenInto(*root, kept->first, kept->second, *record, dot));
      if (!undone) continue;
    }
    const bool asPlaced = there.ok() && sameFile(*there, file);
    if (!undone && (before || (!asPlaced && !named && !sameBoot))) continue;
    out.push_back({node, dot, file, parent, name, undone});
  }
  return out;
}

bool Folder::State::anyPlacing() { return !core.store.getValue(kPlacingKey).value_or("").empty(); }

/// Of the others it is known that they did not come to their place; what told that goes next.
void Folder::State::keepPlacing(const std::vector<Placed>& placed) {
  auto noted = decode(core.store.getValue(kPlacingKey).value_or(""));
  std::erase_if(noted, [&](const Noted& file) {
    return std::none_of(placed.begin(), placed.end(), [&](const Placed& p) { return p.node == file.node && p.dot == file.dot; });
  });
  core.store.setValue(kPlacingKey, encode(noted));
}

/// As the transaction would have done that did not come to its end. What is in the folder is read anew.
void Folder::State::takePlaced(const std::vector<Placed>& placed, uint64_t device) {
  for (const auto& file : placed) {
    const auto id = core.store.idOf(file.node);
    const auto record = id ? core.tree.get(*id) : std::nullopt;
    if (!record) continue;
    auto known = core.store.disk().get(file.node);
    if (file.undone && !known) continue;
    store::DiskRow row = known.value_or(store::DiskRow());
    row.dirty = true;
    const auto heads = core.tree.shownHeads(*id);
    const auto head = std::find_if(heads.begin(), heads.end(), [&](const auto& h) {
      return std::binary_search(h.dots.begin(), h.dots.end(), file.dot);
    });
    std::vector<Dot> seen{file.dot};
    if (head != heads.end()) seen = Core::baseOf(record->entry, &*head);
    if (file.undone) {
      row.addSeen(seen);
      core.store.disk().put(row);
      core.folder->hintDirectory(row.parentNode);
      continue;
    }
    row.node = file.node;
    row.parentNode = file.parent;
    row.name = file.name;
    row.kind = EntryKind::File;
    row.device = device;
    row.inode = file.file.inode;
    row.birthNs = file.file.birthNs;
    if (head != heads.end()) {
      row.blob = head->version.blob;
      row.sizeBytes = head->version.sizeBytes;
      row.mtimeNs = head->version.mtimeNs;
      row.mode = head->version.mode & 0777;
    }
    row.addSeen(seen);
    putAtName(row);
    core.marks->entryChanged(*id);
    core.folder->entryChanged(*id);
  }
  core.folder->placingDone();
}

// --- new files

std::shared_ptr<PlacingFolder> Folder::placeForNew(const Plan& plan, NodeId node, const FileStat& fresh,
                                                   const std::shared_ptr<PlacingFolder>& last) {
  auto& s = *s_;
  auto& core = s.core;
  if (!s.root || core.store.disk().peek(node)) return nullptr;
  if ((fresh.mode & 07777) != (plan.mode & 0777) || fresh.mtimeNs != plan.mtimeNs) return nullptr;
  if (last && last->id == plan.parent) return last;
  const auto path = materialize(plan.parent);
  const auto shown = core.shownPath(plan.parent);
  const auto parentNode = core.store.nodeOf(plan.parent);
  const auto* row = parentNode ? core.store.disk().peek(*parentNode) : nullptr;
  auto opened = path.ok() ? s.root->openDirectory(*path) : Result<std::unique_ptr<Directory>>(path.error());
  auto stat = opened.ok() ? (*opened)->stat("") : Result<FileStat>(opened.error());
  // Another folder may have its name by now.
  if (!row || !shown.ok() || !stat.ok() || stat->device != row->device || stat->inode != row->inode) return nullptr;
  return std::make_shared<PlacingFolder>(PlacingFolder{std::move(*opened), plan.parent, *parentNode, stat->inode, *path, *shown});
}

std::function<void()> Folder::putNew(std::shared_ptr<NewFiles> files) {
  return [files, watch = s_->watch] {
    const auto kind = faulty(Fault::OverwriteUnknown) ? RenameKind::Replace : RenameKind::NoReplace;
    std::lock_guard held(files->mutex);
    NewFile* before = nullptr;
    for (auto& file : files->files) {
      if (files->cancelled) break;
      {
        // The watch is not drained meanwhile: it would take what is expected for told. Other patterns are to be told.
        std::lock_guard watching(watch->mutex);
        const auto& folder = *file.folder;
        file.expected = file.plan.name != logic::kIgnoreFileName && watch->watcher && watch->watcher->expect(folder.path, folder.inode, file.plan.name);
        file.put = files->temp->renameInto(file.tempName, *folder.open, file.plan.name, kind);
      }
      if (!file.put.ok()) continue;
      // The kernel tells what comes to a name after another event apart from what came there before it.
      if (before) before->seen = before->folder->open->stat(before->plan.name);
      if (before) before->followed = true;
      before = &file;
    }
  };
}

void Folder::noteNew(const NewFile& file) {
  auto& s = *s_;
  const auto& folder = *file.folder;
  s.changedByUs(folder.path);
  s.noteUnsynced(file.node);
  store::DiskRow row;
  row.node = file.node;
  row.parentNode = folder.node;
  row.name = file.plan.name;
  row.blob = file.plan.blob;
  row.base = file.plan.base;
  const auto seen = file.followed ? file.seen : folder.open->stat(row.name);
  // As in place(): somebody may have been quicker.
  const auto& fresh = file.fresh;
  const bool ours = seen.ok() && seen->bytesUnchanged(fresh) && seen->mode == fresh.mode;
  row.setStat(ours ? *seen : fresh);
  s.putRow(row);
  s.putInto(folder.node);
  if (!ours) s.hint(folder.path);
  else if (!file.followed && file.expected) s.lastPlaced.push_back({file.folder, std::move(row)});
}

}  // namespace realize::peer
