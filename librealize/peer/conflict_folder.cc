#include "librealize/peer/conflict_folder.h"

#include <algorithm>
#include <ctime>
#include <string_view>

#include "librealize/base/hash.h"
#include "librealize/logic/names.h"
#include "librealize/peer/conflicts.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {

constexpr char kName[] = "conflicts";
constexpr NodeId kOurNodes = NodeId(1) << 62;  // Entries count from 1, and never come here. Positive also as a signed number.
constexpr uint32_t kReadable = 0444, kEnterable = 0555;
constexpr uint32_t kChoosable = 0755;  // The kernel lets nobody rename anything out of a folder that is not writable.
constexpr uint64_t kDirectoryBytes = 4096;
constexpr size_t kPeerBytes = 64, kShortHash = 8;
// What comes together is told together; and looking at very many conflicts again is no more than a tenth of all work.
constexpr int64_t kTellMs = 20, kTellMostMs = 5000, kCostShare = 10, kNsPerMs = 1'000'000;

const Error kReadOnly{Code::ReadOnly, "conflicts/ only shows the versions: rename one over its entry to choose it"};
const Error kGone{Code::NotFound, "there is no such conflict any more"};
const Error kStale{Code::Stale, kGone.message};
const Error kNoAttribute{Code::NotFound, "no such attribute"};

bool isVirtual(NodeId node) { return node >= kOurNodes; }

NodeId numbered(std::string_view kind, const EntryId& id, std::string_view content = "") {
  std::string text = "realize conflict " + std::string(kind) + id.hex() + std::string(content);
  FixedBytes<32, struct NumberTag> hash;
  blake2b(std::as_bytes(std::span(text)), std::span<uint8_t>(hash.bytes));
  NodeId number = 0;
  for (size_t i = 0; i < sizeof number; ++i) number = number << 8 | hash.bytes[i];
  return kOurNodes | (number & (kOurNodes - 1));
}

std::string contentOf(const Version& version) {
  if (version.linkTarget.empty() && version.target.isZero()) return version.blob.hex();
  FixedBytes<32, struct LinkTag> hash;
  const std::string text = version.linkTarget + version.target.hex();
  blake2b(std::as_bytes(std::span(text)), std::span<uint8_t>(hash.bytes));
  return hash.hex();
}

std::string timeText(int64_t ns) {
  const std::time_t seconds = ns / 1'000'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%d_%H.%M.%S", &parts);
  return text;
}

/// With what no shell and no other system minds.
std::string plain(const std::string& name) {
  std::string out = name.substr(0, kPeerBytes);
  for (char& c : out) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    if (!fine) c = '-';
  }
  return out;
}

}  // namespace

/// A folder, or a version. `entry` and `version` of a version and of the folder with an entry's versions.
struct ConflictFolder::Item {
  NodeId parent = kRootNode;
  std::string name;
  Attributes attributes;
  std::map<std::string, NodeId> children;
  std::optional<EntryId> entry;
  Dot dot;
  Version version;
};

/// Makes all anew.
class ConflictFolder::Builder {
 public:
  Builder(Core& core, ArenaFileSystem& inner, const std::string& name) : core_(core), owner_(inner.owner()), name_(name) {}

  void add(const logic::Record& record, const std::vector<logic::ShownHead>& heads) {
    int64_t newest = 0;
    for (const auto& head : heads) newest = std::max(newest, head.version.writtenNs);
    const NodeId above = folderFor(record.shownParent, newest);
    if (above == 0) return;
    const EntryId id = record.entry.id;
    const NodeId folder = numbered("entry ", id);
    put(above, folder, record.shownName, kChoosable, newest).entry = id;
    for (const auto& head : heads) {
      const Version& version = head.version;
      const std::string content = contentOf(version);
      const std::string front = timeText(version.writtenNs) + "_" + plain(peerName(version.author)) + "_";
      const std::string ending = logic::endingOf(record.shownName);
      std::string name = front + content.substr(0, kShortHash) + ending;
      if (items_[folder].children.contains(name)) name = front + content + ending;
      Item& item = put(folder, numbered("version ", id, content), name, 0, version.writtenNs);
      item.entry = id;
      item.dot = head.dot;
      item.version = version;
      auto& attributes = item.attributes;
      attributes.kind = record.entry.kind;
      const bool link = record.entry.kind == EntryKind::Symlink;
      attributes.mode = link ? 0777 : (version.mode & kEnterable) | kReadable;
      attributes.sizeBytes = link ? version.linkTarget.size() : version.sizeBytes;
      attributes.mtimeNs = attributes.atimeNs = version.mtimeNs;
      attributes.blocks512 = (attributes.sizeBytes + 511) / 512;
    }
  }
  Items take() { return std::move(items_); }

 private:
  /// The folder that stands for an entry's; 0 where that is not shown.
  NodeId folderFor(const EntryId& directory, int64_t newest) {
    const NodeId node = numbered("folder ", directory);
    if (directory == kRootEntry) {
      put(kRootNode, node, name_, kEnterable, newest);
      return node;
    }
    const logic::Record* record = core_.tree.peek(directory);
    if (!record || !record->shown) return 0;
    const std::string name = record->shownName;
    const NodeId above = folderFor(EntryId(record->shownParent), newest);
    if (above == 0) return 0;
    put(above, node, name, kEnterable, newest);
    return node;
  }

  Item& put(NodeId parent, NodeId node, const std::string& name, uint32_t mode, int64_t timeNs) {
    if (parent != kRootNode) items_[parent].children[name] = node;
    Item& item = items_[node];
    item.parent = parent;
    item.name = name;
    auto& attributes = item.attributes;
    attributes.node = node;
    attributes.kind = EntryKind::Directory;
    attributes.mode = mode;
    std::tie(attributes.uid, attributes.gid) = owner_;
    attributes.sizeBytes = kDirectoryBytes;
    attributes.blocks512 = kDirectoryBytes / 512;
    attributes.ctimeNs = attributes.mtimeNs = attributes.atimeNs = std::max(attributes.mtimeNs, timeNs);
    return item;
  }

  const std::string& peerName(const PeerKey& key) {
    auto known = peers_.find(key);
    if (known == peers_.end()) known = peers_.emplace(key, core_.peerName(key)).first;
    return known->second;
  }

  Core& core_;
  std::pair<uint32_t, uint32_t> owner_;
  std::string name_;
  Items items_;
  std::map<PeerKey, std::string> peers_;
};

ConflictFolder::ConflictFolder(Core& core, ArenaFileSystem& inner) : core_(core), inner_(inner) {}
ConflictFolder::~ConflictFolder() { *alive_ = false; }

// --- what is there ------------------------------------------------------------------------------------------------

void ConflictFolder::noteChange(const logic::Effect& effect) {
  const logic::Record* record = effect.oldHeads.size() > 1 ? nullptr : core_.tree.peek(effect.id);
  const bool several = effect.oldHeads.size() > 1 || (record && record->entry.heads.size() > 1);
  const bool elsewhere = effect.appeared() || effect.gone() || effect.moved();
  const bool inTheWay = effect.kind == EntryKind::Directory || effect.parent == kRootEntry || effect.oldParent == kRootEntry;
  if (several || (!items_.empty() && elsewhere && inTheWay)) noteAll();
}

void ConflictFolder::noteAll() {
  stale_ = true;
  if (scheduled_ || !core_.invalidations->anybody()) return;
  scheduled_ = true;
  core_.env.scheduler.onCoreAfter(std::max(kTellMs, delayMs_), [this, alive = alive_] {
    if (!*alive) return;
    scheduled_ = false;
    if (!core_.stopping && !core_.suspended) refresh();
  });
}

/// The first that no entry of the user's has.
std::string ConflictFolder::freeName() {
  std::string name = kName;
  for (int n = 1; core_.tree.lookup(kRootEntry, name); ++n) name = std::string(kName) + "." + std::to_string(n);
  return name;
}

void ConflictFolder::refresh() {
  if (!stale_) return;
  const int64_t begunNs = core_.env.clock.monotonicNs();
  Builder builder(core_, inner_, freeName());
  eachConflict(core_, [&](const logic::Record& record, const std::vector<logic::ShownHead>& heads) { builder.add(record, heads); });
  auto before = std::exchange(items_, builder.take());
  stale_ = false;
  delayMs_ = std::min(kTellMostMs, (core_.env.clock.monotonicNs() - begunNs) * kCostShare / kNsPerMs);
  tell(before);
}

/// What a kernel may have kept of it.
void ConflictFolder::tell(const Items& before) {
  auto& invalidations = *core_.invalidations;
  for (const auto& [node, was] : before) {
    auto now = items_.find(node);
    const bool same = now != items_.end() && now->second.parent == was.parent && now->second.name == was.name;
    if (!same) invalidations.nameChanged(was.parent, was.name, node);
    else if (now->second.attributes.mtimeNs != was.attributes.mtimeNs || now->second.attributes.mode != was.attributes.mode)
      invalidations.nodeChanged(node, false);
  }
  for (const auto& [node, now] : items_) {
    auto was = before.find(node);
    if (was == before.end() || was->second.parent != now.parent || was->second.name != now.name)
      invalidations.nameChanged(now.parent, now.name, 0);
  }
}

Result<const ConflictFolder::Item*> ConflictFolder::item(NodeId node) {
  if (core_.stopping || core_.suspended) return Error{Code::Suspended, core_.suspendedWhy};
  refresh();
  auto found = items_.find(node);
  if (found == items_.end()) return kStale;
  return &found->second;
}

Result<Attributes> ConflictFolder::lookup(NodeId parent, const std::string& name) {
  if (!isVirtual(parent)) {
    auto found = inner_.lookup(parent, name);
    if (parent != kRootNode || found.ok() || found.code() != Code::NotFound || !name.starts_with(kName)) return found;
    std::lock_guard held(core_.env.scheduler.coreLock());
    auto root = item(numbered("folder ", kRootEntry));
    if (!root.ok() || (*root)->name != name) return found;
    return (*root)->attributes;
  }
  std::lock_guard held(core_.env.scheduler.coreLock());
  REALIZE_ASSIGN(const Item* folder, item(parent));
  if (folder->attributes.kind != EntryKind::Directory) return Error{Code::NotDirectory, "a version"};
  auto child = folder->children.find(name);
  if (child == folder->children.end()) return kGone;
  return items_.at(child->second).attributes;
}

Result<Attributes> ConflictFolder::attributes(NodeId node) {
  if (!isVirtual(node)) return inner_.attributes(node);
  std::lock_guard held(core_.env.scheduler.coreLock());
  REALIZE_ASSIGN(const Item* found, item(node));
  return found->attributes;
}

Result<std::vector<NamedNode>> ConflictFolder::readDirectory(NodeId directory) {
  std::vector<NamedNode> out;
  if (!isVirtual(directory)) {
    auto own = inner_.readDirectory(directory);
    if (directory != kRootNode || !own.ok()) return own;
    out = std::move(*own);
  }
  std::lock_guard held(core_.env.scheduler.coreLock());
  if (directory == kRootNode) {
    auto root = item(numbered("folder ", kRootEntry));
    if (!root.ok()) return out;
    auto at = std::lower_bound(out.begin(), out.end(), (*root)->name, [](const auto& a, const auto& name) { return a.name < name; });
    if (at == out.end() || at->name != (*root)->name) out.insert(at, {(*root)->name, (*root)->attributes});
    return out;
  }
  REALIZE_ASSIGN(const Item* folder, item(directory));
  if (folder->attributes.kind != EntryKind::Directory) return Error{Code::NotDirectory, "a version"};
  for (const auto& [name, node] : folder->children) out.push_back({name, items_.at(node).attributes});
  return out;
}

Result<NodeId> ConflictFolder::parentOf(NodeId node) {
  if (!isVirtual(node)) return inner_.parentOf(node);
  std::lock_guard held(core_.env.scheduler.coreLock());
  REALIZE_ASSIGN(const Item* found, item(node));
  return found->parent;
}

Result<std::string> ConflictFolder::readSymlink(NodeId node) {
  if (!isVirtual(node)) return inner_.readSymlink(node);
  std::lock_guard held(core_.env.scheduler.coreLock());
  REALIZE_ASSIGN(const Item* found, item(node));
  if (found->attributes.kind != EntryKind::Symlink) return Error{Code::InvalidArgument, "not a symlink"};
  return found->version.linkTarget;
}

void ConflictFolder::open(NodeId node, OpenFlags flags, std::function<void(Result<FileHandle>)> done) {
  if (!isVirtual(node)) return inner_.open(node, flags, std::move(done));
  auto opened = [&]() -> Result<FileHandle> {
    std::lock_guard held(core_.env.scheduler.coreLock());
    REALIZE_ASSIGN(const Item* found, item(node));
    if (found->attributes.kind == EntryKind::Directory) return Error{Code::IsDirectory, "a folder"};
    if (found->attributes.kind == EntryKind::Symlink) return Error{Code::Unsupported, "a symlink"};
    if (flags.write || flags.truncate) return kReadOnly;
    return inner_.openVersion(found->attributes, found->version.blob);
  }();
  done(std::move(opened));
}

// --- extended attributes ------------------------------------------------------------------------------------------

std::map<std::string, std::string> ConflictFolder::describe(Core& core, const Item& item) {
  std::map<std::string, std::string> out;
  if (!item.entry || item.attributes.kind == EntryKind::Directory) return out;
  const auto record = core.tree.get(*item.entry);
  const auto shown = record ? core.shownVersion(*record) : std::nullopt;
  const bool file = item.attributes.kind == EntryKind::File;
  const auto row = record ? core.store.disk().get(record->node) : std::nullopt;
  const bool here = !file || (row && row->blob == item.version.blob) || core.transfers->complete(item.version.blob);
  out["user.realize.label"] = labelOf(item.dot);
  out["user.realize.peer"] = core.peerName(item.version.author);
  out["user.realize.written"] = timeText(item.version.writtenNs);
  if (file) out["user.realize.blob"] = item.version.blob.hex();
  out["user.realize.status"] = std::string(here ? "here" : "elsewhere") + (shown && shown->first == item.dot ? ", shown" : "");
  return out;
}

Result<std::string> ConflictFolder::getXattr(NodeId node, const std::string& name) {
  if (!isVirtual(node)) return inner_.getXattr(node, name);
  std::lock_guard held(core_.env.scheduler.coreLock());
  REALIZE_ASSIGN(const Item* found, item(node));
  const auto all = describe(core_, *found);
  auto one = all.find(name);
  if (one == all.end()) return kNoAttribute;
  return one->second;
}

Result<std::vector<std::string>> ConflictFolder::listXattrs(NodeId node) {
  if (!isVirtual(node)) return inner_.listXattrs(node);
  std::lock_guard held(core_.env.scheduler.coreLock());
  REALIZE_ASSIGN(const Item* found, item(node));
  std::vector<std::string> names;
  for (const auto& [name, value] : describe(core_, *found)) names.push_back(name);
  return names;
}

// --- what is refused, and choosing --------------------------------------------------------------------------------

/// Nothing of the user's has that name, and something of ours does.
bool ConflictFolder::isOurs(NodeId parent, const std::string& name) {
  if (isVirtual(parent)) return true;
  if (parent != kRootNode || !name.starts_with(kName)) return false;
  auto found = lookup(parent, name);
  return found.ok() && isVirtual(found->node);
}

/// A version renamed over its own entry is chosen.
Result<void> ConflictFolder::choose(NodeId parent, const std::string& name, NodeId newParent, const std::string& newName) {
  std::lock_guard held(core_.env.scheduler.coreLock());
  REALIZE_ASSIGN(const Item* folder, item(parent));
  auto child = folder->children.find(name);
  if (child == folder->children.end()) return kGone;
  const Item version = items_.at(child->second);
  if (!version.entry || version.attributes.kind == EntryKind::Directory) return kReadOnly;
  auto record = core_.tree.get(*version.entry);
  if (!record || !record->shown) return kGone;
  if (core_.store.nodeOf(record->shownParent).value_or(0) != newParent || record->shownName != newName) return kReadOnly;
  const auto path = core_.shownPath(*version.entry);
  const std::string where = core_.options.name + ":" + (path.ok() ? *path : newName);
  std::optional<HeadInfo> missing;
  auto chosen = chooseVersion(core_, *record, version.dot, where, &missing);
  if (missing) {
    // Nobody waits here for other peers; who tries again finds the bytes here.
    auto failed = std::make_shared<std::optional<Error>>();
    core_.transfers->keep(*version.entry, missing->blob, missing->sizeBytes, [failed](Result<void> kept) {
      if (!kept.ok()) *failed = kept.error();
    });
    return *failed ? **failed : Error{Code::Busy, where + ": the bytes of that version are being fetched; try again in a moment"};
  }
  REALIZE_TRY(chosen);
  // The kernel takes the version for what has the name now.
  core_.invalidations->nameChanged(newParent, newName, 0);
  core_.invalidations->nodeChanged(record->node, true);
  return {};
}

Result<void> ConflictFolder::rename(NodeId parent, const std::string& name, NodeId newParent, const std::string& newName,
                                    RenameFlag flag) {
  if (isVirtual(parent) && !isVirtual(newParent) && flag == RenameFlag::Replace) return choose(parent, name, newParent, newName);
  if (isOurs(parent, name) || isOurs(newParent, newName)) return kReadOnly;
  return inner_.rename(parent, name, newParent, newName, flag);
}

/// Of a change of `node`. One that was chosen is no more, but the kernel may still have it under its entry's name.
Error ConflictFolder::refusal(NodeId node) {
  std::lock_guard held(core_.env.scheduler.coreLock());
  auto found = item(node);
  return found.ok() ? kReadOnly : found.error();
}

void ConflictFolder::setAttributes(NodeId node, FileHandle handle, const AttributeChange& change,
                                   std::function<void(Result<Attributes>)> done) {
  if (isVirtual(node)) return done(refusal(node));
  inner_.setAttributes(node, handle, change, std::move(done));
}

Result<OpenedFile> ConflictFolder::create(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid, uint32_t gid,
                                          bool exclusive) {
  if (isVirtual(parent)) return kReadOnly;
  return inner_.create(parent, name, mode, uid, gid, exclusive);
}

Result<Attributes> ConflictFolder::makeDirectory(NodeId parent, const std::string& name, uint32_t mode, uint32_t uid,
                                                 uint32_t gid) {
  if (isVirtual(parent)) return kReadOnly;
  return inner_.makeDirectory(parent, name, mode, uid, gid);
}

Result<Attributes> ConflictFolder::makeSymlink(NodeId parent, const std::string& name, const std::string& target, uint32_t uid,
                                               uint32_t gid) {
  if (isVirtual(parent)) return kReadOnly;
  return inner_.makeSymlink(parent, name, target, uid, gid);
}

Result<void> ConflictFolder::unlink(NodeId parent, const std::string& name) {
  if (isOurs(parent, name)) return kReadOnly;
  return inner_.unlink(parent, name);
}

Result<void> ConflictFolder::removeDirectory(NodeId parent, const std::string& name) {
  if (isOurs(parent, name)) return kReadOnly;
  return inner_.removeDirectory(parent, name);
}

Result<void> ConflictFolder::syncDirectory(NodeId directory) {
  return isVirtual(directory) ? Result<void>() : inner_.syncDirectory(directory);
}

Result<void> ConflictFolder::setXattr(NodeId node, const std::string& name, const std::string& value, int flags) {
  if (isVirtual(node)) return refusal(node);
  return inner_.setXattr(node, name, value, flags);
}

Result<void> ConflictFolder::removeXattr(NodeId node, const std::string& name) {
  if (isVirtual(node)) return refusal(node);
  return inner_.removeXattr(node, name);
}

}  // namespace realize::peer
