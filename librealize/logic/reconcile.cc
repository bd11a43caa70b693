#include "librealize/logic/reconcile.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "librealize/base/path.h"

// In five passes. 1: from the root down, directories find out which known one they are, and items which known object.
// 2: names of files that were replaced keep their entry, whatever object holds them now. 3: what is known and was not
// found is gone. 4: new, moved and gone ones are put in an order that works. 5: what stayed the same object is compared.

namespace realize::logic {

namespace {

constexpr int kNone = -1;
// Names that wait for one another are followed this far; then one is parked, so that recursion stays bounded.
constexpr int kMaxChain = 100;
constexpr size_t kMostPathBytes = 65536;  // Folders of an old database may be in each other.

struct ObjectKey {
  uint64_t device, inode;
  bool operator==(const ObjectKey&) const = default;
};
struct ObjectHash {
  size_t operator()(const ObjectKey& k) const { return size_t(k.inode * 0x9e3779b97f4a7c15u ^ k.device * 0xc2b2ae3d27d4eb4fu); }
};

struct Item {
  const DirectoryItem* on = nullptr;
  int dir = kNone;         ///< the listing it is in
  int row = kNone;         ///< which known entry it is
  int nameRow = kNone;     ///< the entry known under its name
  int sameObject = kNone;  ///< the next item that is the same object
  EntryKind kind = EntryKind::File;
  bool skip = false;      ///< not to be placed: nothing of ours, or its state is not known
  bool replaced = false;  ///< its entry is that of its name, though it is another object
  NodeId source = 0;
  enum class Placing : uint8_t { Todo, Busy, Done, Never } placing = Placing::Todo;
  size_t step = kNoStep;  ///< the New or TypeChanged that makes it
};

struct Row {
  KnownRow known;
  int item = kNone;    ///< where the entry is now
  int holder = kNone;  ///< the item that has its name
  bool covered = false;   ///< its directory was read in full
  bool kept = false;      ///< there, or not known not to be there: never a removal
  bool vanished = false;
  bool out = false;  ///< it has left its name: moved, parked or removed
  std::vector<int> below;  ///< of a vanished directory
};

struct Dir {
  const Listing* listing = nullptr;
  int anchor = kNone;  ///< the item of the nearest listed ancestor that leads here
  NodeId node = 0;     ///< 0 for a new one
  int row = kNone;
  bool resolved = false;
  bool usable = false;  ///< read in full, and it is known which it is
  bool outside = false;  ///< ignored, or in what is: no part of the arena
};

class Reconciler {
 public:
  Reconciler(const ReconcileInput& input, KnownDisk& known) : input_(input), known_(known) {}
  Plan run();

 private:
  using Placing = Item::Placing;
  using StepKind = Step::Kind;
  /// What a path leads to: a known directory, a new one (node 0), or nothing that could be told.
  struct Where {
    bool found = false;
    NodeId node = 0;
    int row = kNone;
    int anchor = kNone;
  };

  // Pass 1
  void collect();
  void resolve(Dir& dir);
  Where lookup(std::string_view path);
  int itemNamed(int dir, std::string_view name);
  void readItems(int dirIndex);
  bool skipSpecial(const Dir& dir, Item& item);
  void identify(int itemIndex);
  bool isAbsent(const Dir& dir, const Item& item, const Row& row);
  int rowOfObject(int itemIndex);
  bool heldAtOwnPlace(const KnownRow& row, int exceptItem);
  bool isLocated(const KnownRow& row);
  bool isSeenSomewhere(const KnownRow& row);
  void askForHardLinks();
  void askForContents();
  void askForMoved();
  std::string pathThen(const KnownRow& known);
  // Identity
  int intern(const KnownRow& known);
  bool sameObject(const KnownRow& row, const FileStat& stat) const;
  uint64_t deviceNow(uint64_t then) const;
  void renameDevice(uint64_t then, uint64_t now);
  bool wasMount(const KnownRow& row, int parentRow) const;
  // Pass 2
  void keepNames();
  void keepName(int itemIndex, std::vector<int>& again);
  // Pass 3
  void findVanished();
  bool vanish(int rowIndex, int parentRow, const std::string& path);
  // Pass 4
  void placeAll();
  Placing place(int itemIndex, int depth);
  Placing makeRoom(int itemIndex, int depth);
  bool staysInPlace(const Item& item) const;
  void emitPlaced(Item& item);
  void park(Row& row);
  void emitVanished(int rowIndex, bool withStep, int depth);
  // Pass 5
  void compare(const Item& item);

  Step stepFor(StepKind kind, const Item& item) const;
  std::string pathOf(const Item& item) const { return joinPath(dirs_[item.dir].listing->path, item.on->name); }
  void note(Note::Kind kind, std::string path, int row) {
    plan_.notes.push_back({kind, std::move(path), row == kNone ? 0 : rows_[row].known.node});
  }
  void ask(std::string_view path) {
    if (input_.askMore) asked_.insert(std::string(path));
  }

  const ReconcileInput& input_;
  KnownDisk& known_;
  Plan plan_;
  std::vector<Dir> dirs_;
  std::vector<Item> items_;
  std::vector<Row> rows_;
  std::unordered_map<std::string_view, int> dirByPath_;
  std::unordered_map<ObjectKey, int, ObjectHash> itemByObject_;
  std::unordered_map<NodeId, int> rowByNode_;
  std::unordered_map<NodeId, int> dirByNode_;
  std::unordered_map<int, std::unordered_map<std::string_view, int>> itemsByName_;
  std::vector<std::pair<int, int>> itemsOfDir_;  ///< (first, past the last) in items_
  std::map<uint64_t, uint64_t> deviceNow_, deviceThen_;
  std::vector<int> hardLinks_;  ///< items that took over an entry whose old name may still be there
  std::set<std::string> asked_;
};

// ---------------------------------------------------------------------------------------------------------------------
// Identity

int Reconciler::intern(const KnownRow& known) {
  auto [it, isNew] = rowByNode_.try_emplace(known.node, int(rows_.size()));
  if (isNew) rows_.emplace_back().known = known;
  return it->second;
}

uint64_t Reconciler::deviceNow(uint64_t then) const {
  auto it = deviceNow_.find(then);
  return it == deviceNow_.end() ? then : it->second;
}

void Reconciler::renameDevice(uint64_t then, uint64_t now) {
  if (then == now || deviceNow_.count(then)) return;
  deviceNow_[then] = now;
  deviceThen_[now] = then;
}

bool Reconciler::sameObject(const KnownRow& row, const FileStat& stat) const {
  if (row.inode != stat.inode || deviceNow(row.device) != stat.device) return false;
  if (entryKindOf(stat.type) != row.kind) return false;
  if (row.birthNs && stat.birthNs) return row.birthNs == stat.birthNs;
  // Inode numbers are used again. Without birth times only what looks untouched is taken for the same file.
  return row.kind == EntryKind::Directory || (row.sizeBytes == stat.sizeBytes && row.mtimeNs == stat.mtimeNs);
}

bool Reconciler::wasMount(const KnownRow& row, int parentRow) const {
  return row.kind == EntryKind::Directory && parentRow != kNone && rows_[parentRow].known.device != row.device;
}

// ---------------------------------------------------------------------------------------------------------------------
// Pass 1

void Reconciler::collect() {
  size_t count = 0;
  std::vector<const Listing*> order;
  for (const Listing& listing : input_.listings) {
    order.push_back(&listing);
    count += listing.items.size();
  }
  auto depth = [](const Listing* l) {
    return l->path.empty() ? 0 : 1 + std::count(l->path.begin(), l->path.end(), '/');
  };
  std::stable_sort(order.begin(), order.end(), [&](auto* a, auto* b) { return depth(a) < depth(b); });

  items_.reserve(count);
  itemByObject_.reserve(count);
  dirs_.resize(order.size());
  itemsOfDir_.resize(order.size());
  for (size_t d = 0; d < order.size(); ++d) {
    dirs_[d].listing = order[d];
    dirByPath_.emplace(order[d]->path, int(d));
    itemsOfDir_[d].first = int(items_.size());
    if (order[d]->state == Listing::State::Complete) {
      for (const DirectoryItem& on : order[d]->items) {
        Item& item = items_.emplace_back();
        item.on = &on;
        item.dir = int(d);
        auto kind = entryKindOf(on.stat.type);
        item.skip = on.failed || !kind || !isValidName(on.name);
        if (item.skip) continue;
        item.kind = *kind;
        auto [it, isNew] = itemByObject_.try_emplace({on.stat.device, on.stat.inode}, int(items_.size()) - 1);
        if (isNew) continue;
        item.sameObject = items_[it->second].sameObject;
        items_[it->second].sameObject = int(items_.size()) - 1;
      }
    }
    itemsOfDir_[d].second = int(items_.size());
  }
}

int Reconciler::itemNamed(int dir, std::string_view name) {
  auto [it, isNew] = itemsByName_.try_emplace(dir);
  if (isNew)
    for (int i = itemsOfDir_[dir].first; i < itemsOfDir_[dir].second; ++i) it->second.emplace(items_[i].on->name, i);
  auto found = it->second.find(name);
  return found == it->second.end() ? kNone : found->second;
}

// By the listings where there are some, else by the table.
Reconciler::Where Reconciler::lookup(std::string_view path) {
  auto listed = dirByPath_.find(path);
  if (listed != dirByPath_.end() && dirs_[listed->second].resolved) {
    const Dir& dir = dirs_[listed->second];
    if (dir.usable || (dir.node && dir.listing->state == Listing::State::Unreadable))
      return {true, dir.node, dir.row, dir.anchor};
    return {};
  }
  if (path.empty()) {
    auto root = known_.byNode(kRootNode);
    return {true, kRootNode, root ? intern(*root) : kNone, kNone};
  }
  auto above = dirByPath_.find(parentPath(path));
  if (above != dirByPath_.end() && dirs_[above->second].usable) {
    int item = itemNamed(above->second, baseName(path));
    if (item == kNone || items_[item].skip || items_[item].kind != EntryKind::Directory) return {};
    int row = items_[item].row;
    return {true, row == kNone ? 0 : rows_[row].known.node, row, item};
  }
  Where parent = lookup(parentPath(path));
  if (!parent.found || !parent.node) return {};
  auto row = known_.byName(parent.node, std::string(baseName(path)));
  if (!row || row->kind != EntryKind::Directory) return {};
  return {true, row->node, intern(*row), parent.anchor};
}

void Reconciler::resolve(Dir& dir) {
  const std::string& path = dir.listing->path;
  auto above = path.empty() ? dirByPath_.end() : dirByPath_.find(parentPath(path));
  bool linked = above != dirByPath_.end() && dirs_[above->second].usable;
  Where where = lookup(path);
  dir.resolved = true;
  if (where.found) {
    dir.node = where.node;
    dir.row = where.row;
    dir.anchor = where.anchor;
  }
  const FileStat& self = dir.listing->self;
  bool sure = where.found;
  if (sure && linked) {
    sure = self.inode == 0 || self.sameObject(items_[where.anchor].on->stat);
  } else if (sure && !path.empty() && self.inode != 0) {
    const KnownRow row = rows_[where.row].known;
    auto parent = known_.byNode(row.parentNode);
    int parentRow = parent ? intern(*parent) : kNone;
    if (row.birthNs && row.birthNs == self.birthNs && row.inode == self.inode && wasMount(row, parentRow))
      renameDevice(row.device, self.device);
    sure = sameObject(row, self);
  }
  if (dir.listing->state == Listing::State::Unreadable) note(Note::Kind::Unreadable, path, dir.row);
  if (sure && dir.listing->state == Listing::State::Complete) {
    dir.usable = true;
    return;
  }
  if (dir.listing->state == Listing::State::Unreadable) return;
  // Something moved while it was read, or above it. What is skipped (absent, ignored) is settled, and so is what lies
  // below anything unsettled.
  dir.outside = above != dirByPath_.end() && dirs_[above->second].outside;
  if (linked) {
    int item = itemNamed(above->second, baseName(path));
    const bool gone = dir.listing->state == Listing::State::Gone;
    bool settled = item == kNone ? gone : items_[item].skip || (gone && items_[item].kind != EntryKind::Directory);
    const auto& ignored = dirs_[above->second].listing->ignored;
    dir.outside = std::find(ignored.begin(), ignored.end(), baseName(path)) != ignored.end();
    if (settled || dir.outside) return;
    ask(path);
  }
  if (above == dirByPath_.end() || linked) ask(parentPath(path));
}

bool Reconciler::skipSpecial(const Dir& dir, Item& item) {
  if (!item.skip) return false;
  const std::string& name = item.on->name;
  if (item.nameRow != kNone && item.on->failed) rows_[item.nameRow].kept = true;
  if (name == ".realize") return true;
  auto kind = !isValidName(name) ? Note::Kind::InvalidName : item.on->failed ? Note::Kind::Unknown : Note::Kind::Special;
  note(kind, joinPath(dir.listing->path, name), item.nameRow);
  return true;
}

void Reconciler::readItems(int dirIndex) {
  Dir& dir = dirs_[dirIndex];
  std::unordered_map<std::string_view, int> byName;
  if (dir.node) {
    dirByNode_[dir.node] = dirIndex;
    auto children = known_.childrenOf(dir.node);
    std::vector<int> indices;
    for (const KnownRow& child : children) indices.push_back(intern(child));
    byName.reserve(indices.size());
    // The names in rows_ may move while it grows; these views are taken from `children`, which does not.
    for (size_t i = 0; i < children.size(); ++i) {
      rows_[indices[i]].covered = true;
      byName.emplace(children[i].name, indices[i]);
    }
    for (const std::string& name : dir.listing->ignored)
      if (auto it = byName.find(name); it != byName.end()) rows_[it->second].kept = true;
    for (int i = itemsOfDir_[dirIndex].first; i < itemsOfDir_[dirIndex].second; ++i) {
      auto it = byName.find(items_[i].on->name);
      if (it == byName.end()) continue;
      items_[i].nameRow = it->second;
      if (!items_[i].skip) rows_[it->second].holder = i;
    }
  }
  for (int i = itemsOfDir_[dirIndex].first; i < itemsOfDir_[dirIndex].second; ++i)
    if (!skipSpecial(dirs_[dirIndex], items_[i])) identify(i);
}

void Reconciler::identify(int itemIndex) {
  Item& item = items_[itemIndex];
  const Dir& dir = dirs_[item.dir];
  int nameRow = item.nameRow;
  if (nameRow != kNone && item.kind == EntryKind::Directory &&
      rows_[nameRow].known.kind == EntryKind::Directory && isAbsent(dir, item, rows_[nameRow])) {
    rows_[nameRow].kept = true;
    item.skip = true;
    note(Note::Kind::Absent, pathOf(item), nameRow);
    return;
  }
  int row = kNone;
  if (nameRow != kNone && rows_[nameRow].item == kNone && sameObject(rows_[nameRow].known, item.on->stat)) row = nameRow;
  else row = rowOfObject(itemIndex);
  // A directory made anew under a known name is the known one, unless that one is elsewhere.
  if (row == kNone && nameRow != kNone && item.kind == EntryKind::Directory &&
      rows_[nameRow].known.kind == EntryKind::Directory && rows_[nameRow].item == kNone &&
      !isLocated(rows_[nameRow].known)) {
    row = nameRow;
    item.replaced = true;
  }
  if (row == kNone) return;
  item.row = row;
  rows_[row].item = itemIndex;
}

// A disk that was mounted here and is not, or another disk than then, or one mounted over what is known.
bool Reconciler::isAbsent(const Dir& dir, const Item& item, const Row& row) {
  bool was = wasMount(row.known, dir.row);
  bool is = item.on->stat.device != dir.listing->self.device && dir.listing->self.inode != 0;
  if (!was && !is) return false;
  const FileStat& stat = item.on->stat;
  if (was && is && row.known.inode == stat.inode && row.known.birthNs == stat.birthNs &&
      (stat.birthNs != 0 || deviceNow(row.known.device) == stat.device)) {
    renameDevice(row.known.device, stat.device);
    return false;
  }
  if (input_.acceptedMounts.count(row.known.node) || isLocated(row.known)) return false;
  return was || !known_.childrenOf(row.known.node).empty();
}

bool Reconciler::isLocated(const KnownRow& row) {
  auto it = itemByObject_.find({deviceNow(row.device), row.inode});
  return it != itemByObject_.end() && sameObject(row, items_[it->second].on->stat);
}

// Its object is in a directory that could not be told: it is somewhere. Where that is none of the arena's, it has left.
bool Reconciler::isSeenSomewhere(const KnownRow& row) {
  auto it = itemByObject_.find({deviceNow(row.device), row.inode});
  for (int i = it == itemByObject_.end() ? kNone : it->second; i != kNone; i = items_[i].sameObject)
    if (const Dir& dir = dirs_[items_[i].dir]; !dir.usable && !dir.outside && sameObject(row, items_[i].on->stat)) return true;
  return false;
}

bool Reconciler::heldAtOwnPlace(const KnownRow& row, int exceptItem) {
  auto it = itemByObject_.find({deviceNow(row.device), row.inode});
  std::optional<KnownRow> parent;
  for (int i = it == itemByObject_.end() ? kNone : it->second; i != kNone; i = items_[i].sameObject) {
    if (i == exceptItem || items_[i].on->name != row.name) continue;
    const Dir& dir = dirs_[items_[i].dir];
    if (dir.node && dir.node == row.parentNode) return true;
    if (!parent && !(parent = known_.byNode(row.parentNode))) return false;
    if (!dir.resolved && sameObject(*parent, dir.listing->self)) return true;
  }
  return false;
}

// The known entry whose object this item is, if it has left its place.
int Reconciler::rowOfObject(int itemIndex) {
  const Item& item = items_[itemIndex];
  const FileStat& stat = item.on->stat;
  auto then = deviceThen_.find(stat.device);
  if (then == deviceThen_.end() && deviceNow_.count(stat.device)) return kNone;  // That number was another disk.
  bool alone = itemByObject_.find({stat.device, stat.inode})->second == itemIndex && item.sameObject == kNone;
  for (const KnownRow& known : known_.byObject(then == deviceThen_.end() ? stat.device : then->second, stat.inode)) {
    if (known.node == kRootNode || !sameObject(known, stat)) continue;
    int row = intern(known);
    if (rows_[row].item != kNone) continue;
    if (!alone && heldAtOwnPlace(known, itemIndex)) {
      // One object cannot have two names unless it is linked: it was moved while the folder was being read.
      if (item.kind == EntryKind::Directory || stat.links <= 1) {
        ask(dirs_[item.dir].listing->path);
        auto dir = dirByNode_.find(known.parentNode);
        if (dir != dirByNode_.end()) ask(dirs_[dir->second].listing->path);
      }
      continue;
    }
    if (item.kind != EntryKind::Directory && stat.links > 1) hardLinks_.push_back(itemIndex);
    return row;
  }
  return kNone;
}

// A name that is not listed may still be there beside the one that is: then this one is new.
void Reconciler::askForHardLinks() {
  for (int i : hardLinks_) {
    Item& item = items_[i];
    if (item.row == kNone || rows_[item.row].covered) continue;
    if (!input_.askMore) {
      rows_[item.row].item = kNone;
      item.row = kNone;
      continue;
    }
    std::string path;
    NodeId node = rows_[item.row].known.parentNode;
    while (node != kRootNode) {
      auto interned = rowByNode_.find(node);
      int at = interned == rowByNode_.end() ? kNone : rows_[interned->second].item;
      if (at != kNone) {
        path = path.empty() ? pathOf(items_[at]) : joinPath(pathOf(items_[at]), path);
        break;
      }
      auto row = known_.byNode(node);
      if (!row) break;
      path = path.empty() ? row->name : joinPath(row->name, path);
      node = row->parentNode;
    }
    if (!dirByPath_.count(path)) {
      ask(path);
    } else {  // Listed, and could not be read or told: the name may be there.
      rows_[item.row].item = kNone;
      item.row = kNone;
    }
  }
}

void Reconciler::askForContents() {
  for (Item& item : items_)
    if (!dirs_[item.dir].usable) item.skip = true;  // Seen, but it is not known where.
  for (Item& item : items_) {
    if (item.skip || item.kind != EntryKind::Directory || (item.row != kNone && !item.replaced)) continue;
    std::string path = pathOf(item);
    if (dirByPath_.count(path)) continue;
    ask(path);
    if (!input_.askMore) note(Note::Kind::Unread, std::move(path), item.row);
  }
}

std::string Reconciler::pathThen(const KnownRow& known) {
  std::string path = known.name;
  for (NodeId node = known.parentNode; node != kRootNode && path.size() < kMostPathBytes;) {
    const auto above = known_.byNode(node);
    if (!above) break;
    path = joinPath(above->name, path);
    node = above->parentNode;
  }
  return path;
}

// A path that is listed may have been told for a directory that has left it since: what is missed may have gone in there.
void Reconciler::askForMoved() {
  if (std::none_of(rows_.begin(), rows_.end(), [](const Row& row) { return row.covered && !row.kept && row.item == kNone; })) return;
  std::unordered_map<std::string, int> moved;  // By where they are known.
  for (size_t i = 0; i < items_.size(); ++i)
    if (const Item& item = items_[i]; !item.skip && item.kind == EntryKind::Directory && item.row != kNone && !staysInPlace(item))
      moved.emplace(pathThen(rows_[item.row].known), int(i));
  for (size_t d = 0; d < dirs_.size() && !moved.empty(); ++d) {
    const std::string& then = dirs_[d].listing->path;
    std::string above = then;
    while (!above.empty() && !moved.contains(above)) above = parentPath(above);
    if (above.empty()) continue;
    const Item& item = items_[moved[above]];
    std::string now = pathOf(item) + then.substr(above.size());
    if (dirByPath_.contains(now)) continue;
    ask(now);
    if (!input_.askMore) note(Note::Kind::Unread, std::move(now), item.row);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Pass 2

// A file's name keeps its entry if the entry's own object is destroyed (something was renamed over it), or if what
// holds the name now is nothing known (the old file was renamed away and a new one made). Both can free another entry
// of its object, or an object of its entry, so it goes on from there.
void Reconciler::keepName(int itemIndex, std::vector<int>& again) {
  Item& item = items_[itemIndex];
  int row = item.nameRow;
  if (item.skip || row == kNone || item.row == row || item.kind == EntryKind::Directory) return;
  if (rows_[row].known.kind != item.kind) return;
  if (rows_[row].item != kNone && item.row != kNone) return;  // Both are known and both moved.

  if (item.row != kNone) {
    Row& freed = rows_[item.row];
    freed.item = kNone;
    item.source = freed.known.node;
    if (freed.holder != kNone) again.push_back(freed.holder);
    else if (!freed.covered) freed.kept = true;
  }
  if (rows_[row].item != kNone) {
    Item& other = items_[rows_[row].item];
    other.row = kNone;
    other.replaced = false;
    other.source = rows_[row].known.node;
    again.push_back(rows_[row].item);
  }
  item.row = row;
  item.replaced = true;
  rows_[row].item = itemIndex;
}

void Reconciler::keepNames() {
  std::vector<int> again;
  for (size_t i = 0; i < items_.size(); ++i) {
    keepName(int(i), again);
    while (!again.empty()) {
      int next = again.back();
      again.pop_back();
      keepName(next, again);
    }
  }
  for (const Item& item : items_) {
    if (item.skip || item.row != kNone || item.kind == EntryKind::Directory || item.on->stat.links <= 1) continue;
    const FileStat& stat = item.on->stat;
    if (items_[itemByObject_.find({stat.device, stat.inode})->second].sameObject != kNone)
      note(Note::Kind::SecondName, pathOf(item), kNone);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Pass 3

// Returns whether all of it is gone: what lies below a missing disk is not, nor are the directories above that.
bool Reconciler::vanish(int rowIndex, int parentRow, const std::string& path) {
  if (wasMount(rows_[rowIndex].known, parentRow) && !input_.acceptedMounts.count(rows_[rowIndex].known.node)) {
    note(Note::Kind::Absent, path, rowIndex);
    rows_[rowIndex].kept = true;
    return false;
  }
  if (isSeenSomewhere(rows_[rowIndex].known)) {
    rows_[rowIndex].kept = true;
    return false;
  }
  bool all = true;
  if (rows_[rowIndex].known.kind == EntryKind::Directory) {
    for (const KnownRow& known : known_.childrenOf(rows_[rowIndex].known.node)) {
      int child = intern(known);
      rows_[rowIndex].below.push_back(child);
      if (rows_[child].item == kNone && !vanish(child, rowIndex, joinPath(path, known.name))) all = false;
    }
  }
  rows_[rowIndex].kept = !all;
  rows_[rowIndex].vanished = all;
  return all;
}

void Reconciler::findVanished() {
  size_t count = rows_.size();  // Those that are found below vanished ones are dealt with there.
  for (size_t r = 0; r < count; ++r) {
    Row& row = rows_[r];
    if (!row.covered || row.kept || row.vanished || row.item != kNone) continue;
    auto dir = dirByNode_.find(row.known.parentNode);
    vanish(int(r), dirs_[dir->second].row, joinPath(dirs_[dir->second].listing->path, row.known.name));
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Pass 4

Step Reconciler::stepFor(StepKind kind, const Item& item) const {
  Step step;
  step.kind = kind;
  const Dir& dir = dirs_[item.dir];
  step.parent = dir.node;
  if (!dir.node) step.parentStep = items_[dir.anchor].step;
  step.name = item.on->name;
  step.entryKind = item.kind;
  step.stat = item.on->stat;
  step.source = item.source;
  if (item.row != kNone) step.node = rows_[item.row].known.node;
  return step;
}

bool Reconciler::staysInPlace(const Item& item) const {
  return item.row != kNone && item.row == item.nameRow;
}

void Reconciler::park(Row& row) {
  Step step;
  step.kind = StepKind::Park;
  step.node = row.known.node;
  step.fromParent = row.known.parentNode;
  step.fromName = row.known.name;
  plan_.steps.push_back(std::move(step));
  row.out = true;
}

// What was below first: moved to where it is now, or removed too.
void Reconciler::emitVanished(int rowIndex, bool withStep, int depth) {
  if (rows_[rowIndex].out) return;
  for (int child : rows_[rowIndex].below) {
    int item = rows_[child].item;
    if (item == kNone) {
      emitVanished(child, true, depth);
      continue;
    }
    Placing done = depth < kMaxChain ? place(item, depth + 1) : Placing::Busy;
    if (done == Placing::Busy && !rows_[child].out) park(rows_[child]);
  }
  Row& row = rows_[rowIndex];
  row.out = true;
  if (!withStep) return;
  Step step;
  step.kind = StepKind::Vanished;
  step.node = row.known.node;
  step.entryKind = row.known.kind;
  step.fromParent = row.known.parentNode;
  step.fromName = row.known.name;
  plan_.steps.push_back(std::move(step));
}

// Whoever is known under the name that the item needs leaves it.
Item::Placing Reconciler::makeRoom(int itemIndex, int depth) {
  Item& item = items_[itemIndex];
  if (item.nameRow == kNone || rows_[item.nameRow].out) return Placing::Done;
  Row& holder = rows_[item.nameRow];
  if (holder.vanished) {
    emitVanished(item.nameRow, item.row != kNone || item.kind == holder.known.kind, depth);
    return Placing::Done;
  }
  if (holder.item == kNone) return Placing::Never;  // It has to stay: a missing disk is below it.
  Placing done = depth < kMaxChain ? place(holder.item, depth + 1) : Placing::Busy;
  if (done == Placing::Never) return done;
  if (!holder.out) park(holder);
  return Placing::Done;
}

// First the directories above it, so that what an entry goes into is where it will be; then the holder of its name.
// Busy: it waits for one that waits for it; that one parks it.
Item::Placing Reconciler::place(int itemIndex, int depth) {
  Item& item = items_[itemIndex];
  if (item.skip) return Placing::Never;
  if (item.placing != Placing::Todo) return item.placing;
  item.placing = Placing::Busy;
  Placing done = Placing::Done;
  if (int above = dirs_[item.dir].anchor; above != kNone) done = place(above, depth);
  if (done == Placing::Done && !staysInPlace(item)) done = makeRoom(itemIndex, depth);
  if (done == Placing::Busy) {
    item.placing = Placing::Todo;
    return done;
  }
  if (done == Placing::Done && !staysInPlace(item)) emitPlaced(item);
  item.placing = done;
  return done;
}

void Reconciler::emitPlaced(Item& item) {
  if (item.row == kNone) {
    bool changed = item.nameRow != kNone && rows_[item.nameRow].vanished && rows_[item.nameRow].known.kind != item.kind;
    item.step = plan_.steps.size();
    plan_.steps.push_back(stepFor(changed ? StepKind::TypeChanged : StepKind::New, item));
    if (changed) plan_.steps.back().node = rows_[item.nameRow].known.node;
    return;
  }
  Row& row = rows_[item.row];
  Step step = stepFor(StepKind::Move, item);
  step.fromParent = row.known.parentNode;
  step.fromName = row.known.name;
  row.out = true;
  plan_.steps.push_back(std::move(step));
}

void Reconciler::placeAll() {
  for (size_t i = 0; i < items_.size(); ++i) place(int(i), 0);
  for (size_t r = 0; r < rows_.size(); ++r)
    if (rows_[r].vanished) emitVanished(int(r), true, 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Pass 5

void Reconciler::compare(const Item& item) {
  if (item.skip || item.row == kNone || item.placing != Placing::Done) return;
  const KnownRow& row = rows_[item.row].known;
  const FileStat& stat = item.on->stat;
  bool modeChanged = row.mode != stat.mode;
  if (item.kind == EntryKind::Directory) {
    // Their times and sizes change with what is in them. A replaced one needs its row written.
    if (modeChanged || item.replaced) plan_.steps.push_back(stepFor(StepKind::Attributes, item));
    return;
  }
  if (item.replaced) {
    plan_.steps.push_back(stepFor(StepKind::Replaced, item));
    return;
  }
  bool unread = item.kind == EntryKind::File && !row.hasBlob;
  if (unread || row.sizeBytes != stat.sizeBytes || row.mtimeNs != stat.mtimeNs) {
    plan_.steps.push_back(stepFor(StepKind::Content, item));
    return;
  }
  if (!modeChanged && row.ctimeNs == stat.ctimeNs) return;
  plan_.steps.push_back(stepFor(StepKind::Attributes, item));
  plan_.steps.back().verify = !modeChanged && staysInPlace(item);
}

Plan Reconciler::run() {
  collect();
  if (auto root = known_.byNode(kRootNode)) {
    intern(*root);
    renameDevice(root->device, input_.root.device);
  }
  for (size_t d = 0; d < dirs_.size(); ++d) {
    resolve(dirs_[d]);
    if (dirs_[d].usable) readItems(int(d));
  }
  askForHardLinks();
  askForContents();
  askForMoved();
  plan_.deviceChanges.assign(deviceNow_.begin(), deviceNow_.end());
  if (!asked_.empty()) {
    plan_.alsoList.assign(asked_.begin(), asked_.end());
    return std::move(plan_);
  }
  keepNames();
  findVanished();
  placeAll();
  for (const Item& item : items_) compare(item);
  return std::move(plan_);
}

}  // namespace

Plan reconcile(const ReconcileInput& input, KnownDisk& known) { return Reconciler(input, known).run(); }

std::vector<NodeId> Plan::removed() const {
  std::vector<NodeId> nodes;
  for (const Step& step : steps)
    if (step.kind == Step::Kind::Vanished || step.kind == Step::Kind::TypeChanged) nodes.push_back(step.node);
  return nodes;
}

std::map<NodeId, Standing> dropRemovals(Plan& plan, const std::function<bool(NodeId)>& meant) {
  std::map<NodeId, Standing> standing;
  std::vector<bool> dropped(plan.steps.size(), false);
  std::set<std::pair<NodeId, std::string>> kept;  // Names whose holder stays after all.
  std::unordered_set<NodeId> staying;             // Moves that are not done.
  // Dropping a move keeps its old name taken, which can drop a step before it: until nothing changes.
  for (bool again = true; again;) {
    again = false;
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      const Step& step = plan.steps[i];
      if (dropped[i]) continue;
      bool arrives = step.kind == Step::Kind::New || step.kind == Step::Kind::Move;
      const bool removes = step.kind == Step::Kind::Vanished || step.kind == Step::Kind::TypeChanged;
      bool drop = (removes && !(meant && meant(step.node))) ||
                  (step.parentStep != kNoStep && dropped[step.parentStep]) ||
                  (arrives && step.parent && kept.count({step.parent, step.name})) ||
                  (step.node && staying.count(step.node));
      if (!drop) continue;
      dropped[i] = again = true;
      if (step.kind == Step::Kind::TypeChanged) kept.insert({step.parent, step.name});
      if (step.kind == Step::Kind::Vanished || step.kind == Step::Kind::Move || step.kind == Step::Kind::Park)
        kept.insert({step.fromParent, step.fromName});
      if (step.kind != Step::Kind::Move) continue;
      staying.insert(step.node);
      const Step* outermost = &step;
      std::string path = step.name;
      for (; outermost->parentStep != kNoStep; path = joinPath(outermost->name, path)) outermost = &plan.steps[outermost->parentStep];
      standing[step.node] = {outermost->parent, path};
    }
  }
  std::vector<size_t> newIndex(plan.steps.size(), kNoStep);
  std::vector<Step> steps;
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    if (dropped[i]) continue;
    newIndex[i] = steps.size();
    steps.push_back(std::move(plan.steps[i]));
    if (steps.back().parentStep != kNoStep) steps.back().parentStep = newIndex[steps.back().parentStep];
  }
  plan.steps = std::move(steps);
  return standing;
}

std::string parkName(NodeId node) { return ".realize-parked-" + std::to_string(node); }

std::optional<EntryKind> entryKindOf(FileStat::Type type) {
  switch (type) {
    case FileStat::Type::File: return EntryKind::File;
    case FileStat::Type::Directory: return EntryKind::Directory;
    case FileStat::Type::Symlink: return EntryKind::Symlink;
    case FileStat::Type::Other: return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace realize::logic
