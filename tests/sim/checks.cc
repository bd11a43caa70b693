// What must hold when everything is connected and quiet.

#include <algorithm>

#include "librealize/model/blob.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"
#include "tests/sim/world.h"

namespace realize::test {

namespace {

constexpr int kLooks = 20;

std::string kindName(EntryKind kind) {
  return kind == EntryKind::File ? "file" : kind == EntryKind::Directory ? "folder" : "link";
}

}  // namespace

BlobId blobOf(const std::string& content) {
  ContentHasher hasher(content.size());
  hasher.add(std::as_bytes(std::span(content)));
  return hasher.finish()->blob;
}

void World::treeBelow(size_t number, const EntryId& directory, const std::string& path, std::string& out) {
  auto& tree = machines_[number].peer->core->core().tree;
  for (const auto& child : tree.children(directory, "", 10'000)) {
    const std::string here = path.empty() ? child.name : path + "/" + child.name;
    out += here + " " + kindName(child.kind);
    for (const auto& head : tree.shownHeads(child.id)) {
      char attributes[64];
      snprintf(attributes, sizeof(attributes), " %o %lld", head.version.mode, static_cast<long long>(head.version.mtimeNs));
      out += " [" + head.version.blob.hex().substr(0, 8) + " " + std::to_string(head.version.sizeBytes) + attributes +
             head.version.linkTarget + "]";
    }
    out += "\n";
    if (child.kind == EntryKind::Directory) treeBelow(number, child.id, here, out);
  }
}

std::string World::treeOf(size_t number) {
  std::string out;
  treeBelow(number, kRootEntry, "", out);
  return out;
}

/// What each says of it, too, once it has read again what it could not read before, as that is asked for with it.
void World::checkConsensus() {
  std::string denied;
  for (int looks = 0; looks < kLooks; ++looks) {
    denied.clear();
    for (size_t i = 0; i < machines_.size(); ++i) {
      if (isApart(*machines_[i].peer)) continue;
      const auto status = machines_[i].peer->core->status();
      if (!status.consensus && status.conflicts == 0) denied = name(i) + " says that there is no consensus: " + status.consensusWhy;
    }
    if (denied.empty()) return;
    runFor(500'000'000);
  }
  throw Broken(denied);
}

void World::checkTrees() {
  const std::string tree = treeOf(first());
  for (size_t i = first() + 1; i < machines_.size(); ++i) {
    const std::string other = isApart(*machines_[i].peer) ? tree : treeOf(i);
    if (other != tree) throw Broken(name(first()) + " shows\n" + tree + "and " + name(i) + " shows\n" + other);
  }
  say("all show\n" + tree);
}

/// What its status says cannot be read, and has not been; and what of the user's it still has among its own, to be given back. A folder, and what is not there any more, is read again within a minute;
/// status may say so longer, until somebody asks.
std::string World::unreadAt(size_t number) {
  auto& core = machines_[number].peer->core->core();
  auto& store = core.store;
  const bool lately = machines_[number].failedNs > queue_.nowNs() - 80'000'000'000;  // By the slowest clock.
  std::string unread;
  doing(number, [&](Directory& root) {
    for (const auto& problem : store.problems().list(100)) {
      const auto there = root.stat(problem.path);
      if (problem.kind == "rescued" && problem.path.starts_with(std::string(peer::kOwnFolder) + "/") && there.ok()) unread = "/" + problem.path;
      if (problem.kind != "unreadable") continue;
      const bool file = there.ok() && there->type == FileStat::Type::File;
      const auto rows = file ? store.disk().getByInode(there->device, there->inode) : std::vector<store::DiskRow>();
      // Under this name: another one of the same file may have been read.
      const bool read = std::any_of(rows.begin(), rows.end(), [&](const auto& row) {
        return row.matches(*there) && !row.dirty && core.folder->diskPath(row.node) == problem.path;
      });
      if (file ? !read : lately) unread = "/" + problem.path;
    }
  });
  return unread;
}

void World::checkFolders() {
  const auto bytes = apart_ ? bytesEverywhere(true) : std::map<BlobId, std::string>();
  for (size_t i = 0; i < machines_.size(); ++i) {
    if (isApart(*machines_[i].peer)) continue;
    auto& core = machines_[i].peer->core->core();
    std::map<std::string, FileStat> onDisk;
    std::string wrong;
    doing(i, [&](Directory& root) {
      for (auto& [path, stat] : walk(root)) onDisk[path] = stat;
      auto temporary = root.list(peer::kTempFolder);
      // What passes through the cache goes a little after it was read: see checkCaches.
      if (temporary.ok()) std::erase_if(*temporary, [](const auto& item) { return item.name.starts_with("pass-"); });
      if (!temporary.ok()) wrong = std::string(peer::kTempFolder) + " cannot be read";
      else if (!temporary->empty() && !machines_[i].failedSinceStart) wrong = "a file is left in .realize/tmp: " + temporary->front().name;
      if (!wrong.empty()) return;
      for (const auto& id : core.store.allEntries(0, 100'000)) {
        auto record = core.tree.get(id);
        if (!record || !record->shown || id == kRootEntry) continue;
        auto path = core.shownPath(id);
        if (!path.ok()) {
          wrong = "a shown entry has no path";
          return;
        }
        const Mark mark = core.marks->effective(*record);
        auto found = onDisk.find(*path);
        const auto shown = core.shownVersion(*record);
        const bool waits = apart_ && shown && !bytes.contains(shown->second.blob);
        if (found == onDisk.end()) {
          if (mark == Mark::Real && !waits) wrong = *path + " is marked real and not in the folder";
          if (!wrong.empty()) return;
          continue;
        }
        const FileStat stat = found->second;
        onDisk.erase(found);
        if (!core.store.disk().get(record->node) && mayStay(i, root, *path)) {
          const auto problems = core.store.problems().list(100);
          if (mark == Mark::Real && !waits && std::none_of(problems.begin(), problems.end(), [&](const auto& problem) { return problem.path == *path; }))
            wrong = *path + " is ignored and in the way, and nothing says so";
          if (!wrong.empty()) return;
          continue;
        }
        const auto heads = core.tree.shownHeads(id);
        if (record->entry.kind == EntryKind::Directory) {
          if (stat.type != FileStat::Type::Directory) wrong = *path + " is a folder in the tree, and something else on disk";
        } else if (record->entry.kind == EntryKind::Symlink) {
          auto target = root.readSymlink(*path);
          if (!target.ok() || !shown || *target != shown->second.linkTarget) wrong = *path + " is another link in the tree";
        } else if (stat.type != FileStat::Type::File || !shown) {
          wrong = *path + " is a file in the tree, and something else on disk";
        } else {
          const BlobId blob = blobOf(contentOf(root, *path));
          if (waits) continue;  // An older version is there.
          if (blob != shown->second.blob)
            wrong = *path + " holds " + blob.hex().substr(0, 8) + " on disk, and " + shown->second.blob.hex().substr(0, 8) + " in the tree";
          else if ((stat.mode & 0777) != (shown->second.mode & 0777)) wrong = *path + " has another mode on disk";
          else if (stat.mtimeNs != shown->second.mtimeNs) wrong = *path + " has another time on disk";
        }
        if (!wrong.empty()) return;
      }
      for (const auto& [path, stat] : onDisk) {
        if (mayStay(i, root, path)) continue;
        std::string why;
        for (const auto& problem : core.store.problems().list(100))
          if (problem.path == path) why += " (" + problem.kind + ")";
        wrong = path + " is in the folder, and not in the tree" + why;
        return;
      }
    });
    if (!wrong.empty()) throw Broken(name(i) + ": " + wrong + "\n" + rowsOf(i) + machines_[i].peer->disk.dump(kSimFolder));
  }
}

namespace {
std::string dotText(const Dot& dot) {
  char text[32];
  snprintf(text, sizeof(text), "%04x.%llu", unsigned(dot.origin & 0xffff), static_cast<unsigned long long>(dot.seq));
  return text;
}

std::string vectorText(const VersionVector& vector) {
  std::string out;
  for (const auto& [origin, seq] : vector.items()) out += " " + dotText({origin, seq});
  return out;
}

/// The replicated state of an entry, for people.
std::string entryText(const Entry& entry) {
  std::string out = "  live";
  for (const auto& dot : entry.live) out += " " + dotText(dot);
  for (const auto& [dot, version] : entry.heads)
    out += "\n  head " + dotText(dot) + " " + version.blob.hex().substr(0, 8) + " by " +
           std::string(1, char('A' + version.author.bytes[0] - 1));
  for (const auto& [dot, gone] : entry.tombs) {
    out += "\n  tomb " + dotText(dot) + " of";
    for (const auto& let : gone) out += " " + dotText(let);
  }
  out += "\n  replaced";
  for (const auto& blob : entry.replaced) out += " " + blob.hex().substr(0, 8);
  return out + "\n  touch" + vectorText(entry.touch) + (entry.ctx.empty() ? "" : "\n  context" + vectorText(entry.ctx)) + "\n";
}
}  // namespace

/// Tells what a peer has of the entries of the name that is followed, if that is another than before.
void World::follow(size_t number) {
  auto& store = machines_[number].peer->core->core().store;
  std::string now;
  const auto read = store::catching([&] {
    for (const auto& id : store.allEntries(0, 1000)) {
      const auto record = store.get(id);
      if (!record || record->entry.place.name != options_.follow) continue;
      const auto row = store.disk().get(record->node);
      now += "entry " + id.hex().substr(0, 4) + (record->shown ? "" : ", not shown") +
             (row ? ", row " + row->blob.hex().substr(0, 8) + (row->dirty ? " dirty" : "") : "") + "\n" + entryText(record->entry);
    }
  });
  if (!read.ok() || now == std::exchange(machines_[number].followed, now)) return;
  say(number, "has of " + options_.follow + "\n" + now);
}

/// What it has seen, the entries, the disk table, what is wanted and the problems, for people.
std::string World::rowsOf(size_t number) {
  auto& core = machines_[number].peer->core->core();
  auto& store = core.store;
  std::string out = "is " + dotText({core.tree.origin(), 0}) + ", has seen" + vectorText(core.tree.vector()) + ", forgot" + vectorText(core.tree.trimmed()) + "\n";
  for (const auto& id : store.allEntries(0, 1000)) {
    if (id == kRootEntry) continue;
    const auto record = store.get(id);
    if (record) out += "entry " + id.hex().substr(0, 4) + " '" + record->entry.place.name + "' placed " + dotText({record->entry.place.stamp.origin, record->entry.place.stamp.clock}) + (record->shown ? "" : ", not shown") + "\n" + entryText(record->entry);
  }
  for (const auto& row : store.disk().all(0, 10'000)) {
    auto id = store.idOf(row.node);
    auto record = id ? store.get(*id) : std::nullopt;
    out += "row " + std::to_string(row.node) + " in " + std::to_string(row.parentNode) + " '" + row.name + "' " + kindName(row.kind) +
           (row.dirty ? " dirty" : "") + " " + row.blob.hex().substr(0, 8);
    if (record) out += record->shown ? ", shown in " + std::to_string(store.nodeOf(record->shownParent).value_or(0)) + " as " + record->shownName : ", not shown";
    out += "\n";
  }
  for (const auto& task : store.wanted().next({}, 1000)) {
    out += "wants " + task.blob.hex().substr(0, 8) + " for " + std::to_string(task.node) + "\n";
  }
  for (const auto& problem : store.problems().list(100)) out += "problem " + problem.path + ": " + problem.kind + ", " + problem.detail + "\n";
  return out;
}

void World::addContent(Directory& root, const std::string& path, std::map<BlobId, std::string>& out) {
  std::string content = contentOf(root, path);
  const BlobId blob = blobOf(content);
  out.emplace(blob, std::move(content));
}

/// What its user sees there.
void World::addFolder(Directory& root, std::map<BlobId, std::string>& out) {
  for (const auto& [path, stat] : walk(root))
    if (stat.type == FileStat::Type::File) addContent(root, path, out);
}

/// All contents that are whole on a machine, in its folder, in its cache and on the way between; `known`: of what is in the cache, only what its database
/// knows to be whole.
void World::addBytesOn(size_t number, bool known, std::map<BlobId, std::string>& out) {
  doing(number, [&](Directory& root) {
    std::set<std::string> whole;
    if (auto& peer = *machines_[number].peer; known && peer.running() && !peer.core->core().suspended)
      for (const auto& blob : peer.core->core().store.cache().all())
        if (auto row = peer.core->core().store.cache().get(blob); row && row->complete) whole.insert(blob.hex());
    addFolder(root, out);
    if (auto cached = root.list(peer::kCacheFolder); cached.ok())
      for (const auto& item : *cached)
        if (!known || whole.contains(item.name)) addContent(root, std::string(peer::kCacheFolder) + "/" + item.name, out);
    // A process that ended on its way had a user's file there, perhaps.
    if (auto placing = root.list(peer::kTempFolder); !known && placing.ok())
      for (const auto& item : *placing)
        if (item.stat.type == FileStat::Type::File) addContent(root, std::string(peer::kTempFolder) + "/" + item.name, out);
  });
}

std::map<BlobId, std::string> World::bytesEverywhere(bool known) {
  std::map<BlobId, std::string> out;
  for (size_t i = 0; i < machines_.size(); ++i)
    if (!isApart(*machines_[i].peer)) addBytesOn(i, known, out);
  return out;
}

void World::checkTokens() {
  const auto bytes = bytesEverywhere();
  std::set<Token> found, elsewhere;
  for (const auto& [blob, content] : bytesAtLeaver()) elsewhere.merge(tokensIn(content));
  auto& core = machines_[first()].peer->core->core();
  for (const auto& id : core.store.allEntries(0, 100'000)) {
    auto record = core.tree.get(id);
    if (!record || !record->shown || record->entry.kind != EntryKind::File) continue;
    for (const auto& head : core.tree.shownHeads(id)) {
      auto content = bytes.find(head.version.blob);
      if (content == bytes.end() && head.version.sizeBytes && !apart_)
        throw Broken("nobody has the bytes " + head.version.blob.hex().substr(0, 8) + " of " + *core.shownPath(id));
      if (content != bytes.end()) found.merge(tokensIn(content->second));
    }
  }
  // What a policy replaced is in some cache, to be undone, unless its user wants that small.
  std::set<Token> undone;
  const auto ignored = tokensIgnored();
  const bool small = options_.seed % 7 == 3;
  if (options_.conflicts == peer::ConflictRule::Newest && small)
    for (const auto& [token, where] : written_) undone.insert(token);
  if (options_.conflicts == peer::ConflictRule::Newest)
    for (const auto& [blob, content] : bytes) undone.merge(tokensIn(content));
  uint64_t kept = 0;
  for (const auto& [token, where] : written_) {
    if (found.contains(token)) ++kept;
    else if (elsewhere.contains(token) && !stayed_.contains(token)) count("tokens that only a removed peer had");
    else if (undone.contains(token)) count("tokens a policy let go");
    else if (ignored.contains(token)) count("tokens in ignored files");
    else if (!excused_.contains(token)) throw Broken("T" + std::to_string(token) + " is lost, written at " + where);
  }
  if (apart_) return;  // All are counted at the end.
  count("tokens kept", kept);
  count("tokens let go", written_.size() - kept);
}

/// Every version can be read on every peer. Of one that is nobody's any more, the last cached copy may have gone by now.
void World::checkReading() {
  const size_t number = below(machines_.size());
  auto& peer = *machines_[number].peer;
  auto& core = peer.core->core();
  auto left = std::make_shared<size_t>(0);
  auto failed = std::make_shared<std::string>();
  for (const auto& id : core.store.allEntries(0, 100'000)) {
    auto record = core.tree.get(id);
    if (!record || !record->shown || record->entry.kind != EntryKind::File) continue;
    for (const auto& head : core.tree.shownHeads(id)) {
      const auto version = head.version;
      ++*left;
      peer.scheduler->onCore([this, &core, version, left, failed] {
        auto open = core.transfers->open(version.blob, version.sizeBytes);
        core.transfers->read(open, 0, version.sizeBytes + 1, [this, left, failed, version, open](Result<Bytes> bytes) {
          --*left;
          const std::string what = version.blob.hex().substr(0, 8);
          if (!bytes.ok() && bytes.error().code == Code::Unreachable && isLost(version.blob, bytesEverywhere(true)))
            count("versions that went with a cached copy");
          else if (!bytes.ok()) *failed = what + " cannot be read: " + bytes.error().message;
          else if (blobOf(std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size())) != version.blob)
            *failed = what + " was read as something else";
        });
      });
    }
  }
  for (int i = 0; i < 60 && *left; ++i) runFor(1'000'000'000);
  if (failed->empty() && *left) *failed = std::to_string(*left) + " reads have no answer";
  if (!failed->empty()) throw Broken(name(number) + ": " + *failed);
}

/// What may go has gone, where it is more than the limit.
void World::checkCaches() {
  runFor(20'000'000'000);
  for (size_t i = 0; i < machines_.size(); ++i) {
    const auto status = machines_[i].peer->core->core().transfers->cacheStatus();
    if (status.limitBytes == 0) continue;
    count("caches with a limit");
    const uint64_t kept = status.openBytes + status.comingBytes + status.pinnedBytes;
    if (status.cachedBytes > status.allowedBytes && status.cachedBytes > kept)
      throw Broken(name(i) + ": the cache has " + std::to_string(status.cachedBytes) + " bytes, needs " + std::to_string(kept) +
                   " of them, could let go " + std::to_string(status.evictableBytes + status.unlinkedBytes) + " and may have " +
                   std::to_string(status.allowedBytes));
    doing(i, [&](Directory& root) {
      if (auto left = root.list(peer::kTempFolder); left.ok() && !left->empty() && !machines_[i].failedSinceStart)
        throw Broken(name(i) + ": a file is left in .realize/tmp: " + left->front().name);
    });
    if (status.cachedBytes > 0) count("caches with a limit that have something");
  }
}

/// A new content takes the place of what had the name: at no moment is there nothing under it. What somebody renamed has
/// another name, and what comes after it is another file.
void World::watchName(size_t number, const FakeCall& call) {
  auto& machine = machines_[number];
  if (machine.peer->userActing || machine.peer->disk.isPowerOff() || (call.op != FakeOp::Rename && call.op != FakeOp::Unlink)) return;
  const std::string own = std::string(kSimFolder) + "/" + peer::kOwnFolder + "/", folder = std::string(kSimFolder) + "/";
  auto objectAt = [&](const std::string& path) {
    uint64_t inode = 0;
    doing(number, [&](Directory& root) {
      if (auto stat = root.stat(path.substr(folder.size())); stat.ok() && stat->type != FileStat::Type::Directory) inode = stat->inode;
    });
    return inode;
  };
  if (call.path.starts_with(folder) && !call.path.starts_with(own)) {
    machine.takenAway.erase(call.path2);  // Another has the name now.
    const bool renamed = call.op == FakeOp::Rename && (objectAt(call.path2) != 0 || !call.path2.starts_with(own));
    if (const uint64_t inode = renamed ? 0 : objectAt(call.path)) machine.takenAway[call.path] = {queue_.steps(), inode};
    return;
  }
  if (call.op != FakeOp::Rename || !call.path.starts_with(own) || !call.path2.starts_with(folder) || call.path2.starts_with(own)) return;
  // What was the user's, and goes back to him or beside, replaces nothing: ours is named by its inode, or has no second name.
  const size_t tilde = call.path.rfind('~');
  unsigned long long node = 0, ours = 0;
  const bool given = call.path.find("/undo-") != std::string::npos || call.path.find("/rescued") != std::string::npos;
  if (given || (tilde != std::string::npos && (sscanf(call.path.c_str() + tilde, "~%llx-%llx.", &node, &ours) != 2 || ours != objectAt(call.path)))) return;
  if (objectAt(call.path2) != 0) count("names watched while replaced");
  const auto away = machine.takenAway.find(call.path2);
  if (away == machine.takenAway.end() || away->second.first != queue_.steps()) return;
  if (away->second.second != objectAt(call.path)) machine.nameVanished = call.path2;
}

/// Once more: everyone leaves, looks at all again, meets again, and nothing changes.
void World::checkQuiet() {
  std::vector<VersionVector> before;
  for (auto& machine : machines_) before.push_back(machine.peer->core->core().tree.vector());
  for (auto& link : links_) link->cut();
  // A file that the disk did not let go of may be the user's, and comes back now.
  const bool leftovers = std::any_of(machines_.begin(), machines_.end(), [](const auto& machine) { return machine.failedSinceStart; });
  for (size_t i = 0; i < machines_.size(); ++i) {
    if (oneIn(2)) machines_[i].peer->stop();
    else machines_[i].peer->vanish();
    startPeer(i);
  }
  for (auto& link : links_) connect(*link);
  settleDown("after another start");
  for (size_t i = 0; i < machines_.size(); ++i)
    if (!leftovers && machines_[i].peer->core->core().tree.vector() != before[i])
      throw Broken("the vector of " + name(i) + " changed without a reason");
  checkTrees();
  checkFolders();
}

}  // namespace realize::test
