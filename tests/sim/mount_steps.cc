// What users do through a mount: the operations that a kernel would ask for, of real files and of unreal ones.

#include <algorithm>

#include "librealize/peer/folder.h"
#include "tests/sim/world.h"

namespace realize::test {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;

std::span<const std::byte> bytesOf(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string textOf(const Bytes& bytes) { return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }

std::pair<std::string, std::string> parted(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::pair(std::string(), path) : std::pair(path.substr(0, slash), path.substr(slash + 1));
}

std::string joined(const std::string& parent, const std::string& name) { return parent.empty() ? name : parent + "/" + name; }

void listBelow(FileSystem& fs, NodeId directory, const std::string& path, std::vector<std::pair<std::string, Attributes>>& out) {
  auto items = fs.readDirectory(directory);
  if (!items.ok()) return;
  for (const auto& item : *items) {
    if (path.empty() && item.name == "conflicts") continue;  // The versions: no entries of their own.
    out.emplace_back(joined(path, item.name), item.attributes);
    if (item.attributes.kind == EntryKind::Directory) listBelow(fs, item.attributes.node, joined(path, item.name), out);
  }
}

}  // namespace

/// An operation of a process in the mount. Not while the program does not run.
void World::mounted(size_t number, const std::function<void(FileSystem&)>& work) {
  auto& peer = *machines_[number].peer;
  if (!peer.running() || peer.disk.isPowerOff()) return;
  const bool before = peer.userActing;
  peer.userActing = true;
  work(peer.core->guardedFileSystem());
  peer.userActing = before;
}

/// What the program knows, for us: nobody learns of a database that fails just then by that. False: it did.
bool World::looked(size_t number, const std::function<void(peer::Core&)>& look) {
  auto& peer = *machines_[number].peer;
  std::lock_guard held(peer.scheduler->coreLock());
  return store::catching([&] { look(peer.core->core()); }).ok();
}

/// As act(), and the end of the program is the end of it.
void World::actMounted(size_t number, Steps steps) {
  const uint64_t life = machines_[number].peer->lives;
  for (auto& step : steps)
    step = [this, number, life, step = std::move(step)] {
      if (machines_[number].peer->lives == life) step();
    };
  act(number, std::move(steps));
}

std::string World::pickMounted(size_t number, std::optional<EntryKind> kind) {
  std::vector<std::pair<std::string, Attributes>> found;
  mounted(number, [&](FileSystem& fs) { listBelow(fs, kRootNode, "", found); });
  if (kind) std::erase_if(found, [&](const auto& one) { return one.second.kind != *kind; });
  return found.empty() ? "" : found[below(found.size())].first;
}

std::string World::newMountedPath(size_t number) {
  static const char* const kNames[] = {"a", "b", "c", "d", "e.txt", "x", "y"};
  const std::string folder = oneIn(3) ? "" : pickMounted(number, EntryKind::Directory);
  return joined(folder, kNames[below(std::size(kNames))]);
}

Result<NodeId> World::nodeAt(FileSystem& fs, const std::string& path) {
  NodeId node = kRootNode;
  for (size_t from = 0; from < path.size();) {
    const size_t to = std::min(path.find('/', from), path.size());
    REALIZE_ASSIGN(auto found, fs.lookup(node, path.substr(from, to - from)));
    node = found.node;
    from = to + 1;
  }
  return node;
}

/// What is read there now: of a file in the folder that, of an unreal one all versions, as it stands for all. Nothing: nobody
/// could read it.
std::optional<std::set<Token>> World::tokensMounted(size_t number, const std::string& path) {
  std::optional<std::string> onDisk;
  BlobId known;
  std::vector<BlobId> blobs;
  const bool told = looked(number, [&](peer::Core& core) {
    auto record = core.recordAt(path);
    if (!record.ok() || record->entry.kind != EntryKind::File) return;
    if (auto row = core.store.disk().get(record->node)) {
      onDisk = core.folder->diskPath(record->node);
      known = row->blob;
    }
    for (const auto& head : core.tree.shownHeads(record->entry.id)) blobs.push_back(head.version.blob);
  });
  if (!told) return std::nullopt;
  std::set<Token> out;
  if (onDisk) {
    doing(number, [&](Directory& root) { out = tokensAt(root, *onDisk); });
    // A folder that came back from a backup may have an older one, for a moment, than the mount says.
    if (disasters_) out.merge(std::set<Token>(contents_[known]));
    return out;
  }
  const auto bytes = bytesEverywhere();
  for (const auto& blob : blobs) {
    auto content = bytes.find(blob);
    if (content == bytes.end()) return std::nullopt;
    out.merge(tokensIn(content->second));
  }
  return out;
}

/// A token that was written through a handle counts where a file has it: what is written to a file without a name is gone.
void World::wroteMounted(size_t number, Token token, const std::string& path) {
  std::set<Token> here;
  doing(number, [&](Directory& root) {
    for (const auto& [inode, content] : contentsAt(root)) {
      const auto tokens = tokensIn(content);
      if (!tokens.contains(token)) continue;
      here = tokens;
      if (keepsContents()) contents_.emplace(blobOf(content), tokens);
    }
  });
  if (!here.empty()) wrote(number, here, path + " through the mount");
}

/// Fsync of the file and of all folders above.
void World::syncMounted(size_t number, FileSystem& fs, FileHandle handle, const std::string& path, const std::set<Token>& tokens) {
  if (!fs.sync(handle, false).ok()) return;
  bool lost = false;  // As in syncFile().
  doing(number, [&](Directory& root) {
    lost = root.stat(path).ok() && machines_[number].peer->disk.hasLost(std::string(kSimFolder) + "/" + path);
  });
  if (lost) return;
  for (std::string at = parted(path).first;; at = parted(at).first) {
    auto node = nodeAt(fs, at);
    if (!node.ok() || !fs.syncDirectory(*node).ok()) return;
    if (at.empty()) break;
  }
  for (auto token : tokens) machines_[number].unsynced.erase(token);
  say(number, "  synced " + path);
}

void World::mountStep(size_t number) {
  if (!machines_[number].peer->running()) return;
  count("mount steps");
  switch (below(14)) {
    case 0: case 1: {
      const std::string path = newMountedPath(number);
      say(number, "mount: creates " + path);
      return actMounted(number, createSteps(number, path, true, oneIn(2)));
    }
    case 2: case 3: case 4: return writeMounted(number);
    case 5: case 6: return changeMounted(number);
    case 7: case 8: return removeMounted(number, pickMounted(number, std::nullopt));
    case 9: case 10: return renameMounted(number);
    case 11: return saveMounted(number);
    case 12: return readMounted(number);
    case 13: {
      const std::string path = newMountedPath(number);
      return makeMounted(number, path, oneIn(2) ? "to/" + std::to_string(below(9)) : "");
    }
  }
}

/// A link to there, or a folder.
void World::makeMounted(size_t number, const std::string& path, const std::string& target) {
  const bool link = !target.empty();
  say(number, std::string("mount: makes ") + (link ? "link " : "folder ") + path);
  mounted(number, [&](FileSystem& fs) {
    auto parent = nodeAt(fs, parted(path).first);
    if (!parent.ok()) return;
    const std::string name = parted(path).second;
    auto made = link ? fs.makeSymlink(*parent, name, target, 0, 0) : fs.makeDirectory(*parent, name, 0755, 0, 0);
    tellMounted(number, made.ok() ? Result<void>() : Result<void>(made.error()), link ? "mount makes links" : "mount makes folders");
    if (made.ok()) mustBe(number, fs, path, made->node);
  });
}

void World::tellMounted(size_t number, const Result<void>& done, const std::string& counter) {
  if (done.ok()) return count(counter);
  count("mount refusals");
  say(number, "  " + done.error().message);
}

/// What was done through the mount is seen there at once.
void World::mustBe(size_t number, FileSystem& fs, const std::string& path, NodeId node) {
  if (machines_[number].peer->disk.isPowerOff()) return;
  auto found = nodeAt(fs, path);
  if (node != 0 && (!found.ok() || *found != node)) throw Broken(name(number) + ": the mount has lost " + path + " at once");
  if (node == 0 && found.ok()) throw Broken(name(number) + ": the mount still has " + path);
}

/// Opened and written; what is there is emptied, or (exclusive) not touched.
World::Steps World::createSteps(size_t number, const std::string& path, bool exclusive, bool sync) {
  const std::string content = newContent(someSize());
  const Token token = lastToken_;
  auto handle = std::make_shared<FileHandle>(0);
  return {[=, this] {
            bool there = false;
            mounted(number, [&](FileSystem& fs) {
              there = !exclusive && nodeAt(fs, path).ok();
              auto parent = nodeAt(fs, parted(path).first);
              if (there || !parent.ok()) return;
              auto made = fs.create(*parent, parted(path).second, 0644, 0, 0, true);
              tellMounted(number, made.ok() ? Result<void>() : Result<void>(made.error()), "mount creates");
              if (!made.ok()) return;
              mustBe(number, fs, path, made->attributes.node);
              *handle = made->handle;
            });
            if (there) writeMounted(number, path, Writing::Emptied, content, 0, sync);
          },
          [=, this] {
            if (*handle == 0) return;
            mounted(number, [&](FileSystem& fs) {
              // Somebody may have written to it meanwhile.
              auto there = fs.handleAttributes(*handle);
              letGo(number, tokensOver(readWhole(fs, *handle, there.ok() ? there->sizeBytes : 0), content));
              (void)fs.write(*handle, 0, bytesOf(content)).ok();
              wroteMounted(number, token, path);
              if (sync) syncMounted(number, fs, *handle, path, {token});
              fs.release(*handle);
            });
          }};
}

/// At once or slowly.
void World::writeMounted(size_t number) {
  const std::string path = pickMounted(number, EntryKind::File);
  if (path.empty()) return;
  const Writing how = oneIn(3) ? Writing::Emptied : oneIn(3) ? Writing::Over : Writing::Behind;
  const bool sync = oneIn(3);
  const std::string content = newContent(below(3000));
  writeMounted(number, path, how, content, oneIn(2) ? 0 : int64_t(below(oneIn(3) ? 2000 : 40)) * kNsPerMs, sync);
}

/// `content` begins with its token.
void World::writeMounted(size_t number, const std::string& path, Writing how, const std::string& content, int64_t pause, bool sync) {
  const Token token = *tokensIn(content).begin();
  const bool empties = how == Writing::Emptied, overwrites = how == Writing::Over;
  const auto before = tokensMounted(number, path);
  if (!before) return;
  say(number, std::string("mount: ") + (empties ? "rewrites " : overwrites ? "overwrites " : "appends to ") + path);
  mounted(number, [&](FileSystem& fs) {
    auto node = nodeAt(fs, path);
    if (!node.ok()) return;
    if (empties) letGo(number, *before);
    OpenFlags flags{.read = true, .write = true, .truncate = empties, .append = false};
    const bool real = onDiskAt(number, *node);
    fs.open(*node, flags, [=, this, life = machines_[number].peer->lives](Result<FileHandle> opened) {
      tellMounted(number, opened.ok() ? Result<void>() : Result<void>(opened.error()), real ? "mount writes real files" : "mount writes unreal files");
      if (!opened.ok()) return;
      queue_.after(pause, [=, this, handle = *opened] {  // Callbacks may hold the core's lock.
        if (machines_[number].peer->lives != life) return;
        mounted(number, [&](FileSystem& mount) {
          auto there = mount.handleAttributes(handle);
          const std::string was = readWhole(mount, handle, there.ok() ? there->sizeBytes : 0);
          (void)mount.write(handle, overwrites || !there.ok() ? 0 : there->sizeBytes, bytesOf(content)).ok();
          if (overwrites) letGo(number, tokensOver(was, content));
          wroteMounted(number, token, path);
          if (sync) syncMounted(number, mount, handle, path, {token});
          mount.release(handle);
        });
      });
    });
  });
}

/// Of a file that is in the folder, opened for that.
void World::syncMounted(size_t number, const std::string& path) {
  mounted(number, [&](FileSystem& fs) {
    auto node = nodeAt(fs, path);
    if (!node.ok() || !onDiskAt(number, *node)) return;
    fs.open(*node, {.read = true, .write = true}, [=, this, life = machines_[number].peer->lives](Result<FileHandle> opened) {
      if (!opened.ok()) return;
      queue_.after(0, [=, this, handle = *opened] {
        if (machines_[number].peer->lives != life) return;
        mounted(number, [&](FileSystem& mount) {
          auto there = mount.handleAttributes(handle);
          syncMounted(number, mount, handle, path, tokensIn(readWhole(mount, handle, there.ok() ? there->sizeBytes : 0)));
          mount.release(handle);
        });
      });
    });
  });
}

bool World::onDiskAt(size_t number, NodeId node) {
  bool there = false;
  looked(number, [&](peer::Core& core) { there = core.store.disk().get(node).has_value(); });
  return there;
}

/// Of a real file: answered within the call.
std::string World::readWhole(FileSystem& fs, FileHandle handle, uint64_t size) {
  std::string out;
  fs.read(handle, 0, size, [&out](Result<Bytes> bytes) {
    if (bytes.ok()) out = textOf(*bytes);
  });
  return out;
}

/// What is lost of the old bytes when the new ones are written over their beginning.
std::set<Token> World::tokensOver(const std::string& was, const std::string& content) {
  std::string now = was;
  now.replace(0, std::min(was.size(), content.size()), content);
  const auto after = tokensIn(now);
  std::set<Token> lost;
  for (auto token : tokensIn(was))
    if (!after.contains(token)) lost.insert(token);
  return lost;
}

/// Mode, size, or a hole.
void World::changeMounted(size_t number) {
  const std::string path = pickMounted(number, EntryKind::File);
  if (path.empty()) return;
  const auto before = tokensMounted(number, path);
  if (!before) return;
  const bool size = oneIn(2);
  const uint32_t modes[] = {0644, 0600, 0755, 0444};
  AttributeChange change;
  if (!size) change.mode = modes[below(4)];
  say(number, std::string("mount: ") + (size ? "cuts " : "chmods ") + path);
  mounted(number, [&](FileSystem& fs) {
    auto node = nodeAt(fs, path);
    auto there = node.ok() ? fs.attributes(*node) : Result<Attributes>(node.error());
    if (!there.ok()) return;
    const bool real = onDiskAt(number, *node);
    if (size) change.sizeBytes = below(there->sizeBytes + 1);
    if (size && real) letGo(number, *before);
    if (!size && !real) exposeShown(number, path);
    Result<void> done;
    fs.setAttributes(*node, 0, change, [&](Result<Attributes> changed) {
      if (!changed.ok()) done = changed.error();
    });
    tellMounted(number, done, size ? "mount cuts files" : real ? "mount chmods real files" : "mount chmods unreal files");
    if (!size || !real) return;
    doing(number, [&](Directory& root) {  // What was in front of the cut is there still.
      if (auto stat = root.stat(path); stat.ok() && stat->type == FileStat::Type::File) wrote(number, root, path);
    });
  });
}

/// Who has not the bytes makes a version of them: whoever has them may be replacing them at this moment, and then nobody has.
void World::exposeShown(size_t number, const std::string& path) {
  looked(number, [&](peer::Core& core) {
    auto record = core.recordAt(path);
    auto shown = record.ok() ? core.shownVersion(*record) : std::nullopt;
    if (shown) exposed_.insert(shown->second.blob);
  });
}

void World::removeMounted(size_t number, const std::string& path) {
  if (path.empty()) return;
  const auto before = tokensMounted(number, path);
  if (!before) return;
  say(number, "mount: removes " + path);
  mounted(number, [&](FileSystem& fs) {
    auto parent = nodeAt(fs, parted(path).first);
    auto node = nodeAt(fs, path);
    auto there = node.ok() ? fs.attributes(*node) : Result<Attributes>(node.error());
    if (!there.ok() || !parent.ok()) return;
    const bool real = onDiskAt(number, *node), folder = there->kind == EntryKind::Directory;
    letGo(number, *before);
    auto gone = folder ? fs.removeDirectory(*parent, parted(path).second) : fs.unlink(*parent, parted(path).second);
    tellMounted(number, gone, folder ? "mount removes folders" : real ? "mount removes real files" : "mount removes unreal files");
    // Of several versions those live on that were not seen.
    if (gone.ok() && nodeAt(fs, path).ok() && *nodeAt(fs, path) == *node) throw Broken(name(number) + ": the mount still has " + path);
  });
}

void World::renameMounted(size_t number) {
  const std::string from = pickMounted(number, std::nullopt);
  const uint64_t how = below(4);
  const RenameFlag flag = how == 0 ? RenameFlag::Exchange : how == 1 ? RenameFlag::NoReplace : RenameFlag::Replace;
  const std::string to = flag == RenameFlag::Exchange || oneIn(3) ? pickMounted(number, std::nullopt) : newMountedPath(number);
  if (from.empty() || to.empty() || from == to || from.starts_with(to + "/") || to.starts_with(from + "/")) return;
  renameMounted(number, from, to, flag);
}

void World::renameMounted(size_t number, const std::string& from, const std::string& to, RenameFlag flag) {
  const auto before = tokensMounted(number, to), moved = tokensMounted(number, from);
  if (!before || !moved) return;
  say(number, std::string("mount: ") + (flag == RenameFlag::Exchange ? "exchanges " : "moves ") + from + (flag == RenameFlag::Exchange ? " and " : " to ") +
                  to + (flag == RenameFlag::NoReplace ? ", if nothing is there" : ""));
  mounted(number, [&](FileSystem& fs) {
    auto fromParent = nodeAt(fs, parted(from).first), toParent = nodeAt(fs, parted(to).first);
    auto node = nodeAt(fs, from);
    if (!fromParent.ok() || !toParent.ok() || !node.ok()) return;
    if (flag == RenameFlag::Replace)
      for (auto token : *before)
        if (!moved->contains(token)) letGo(number, {token});
    const bool real = onDiskAt(number, *node);
    auto done = fs.rename(*fromParent, parted(from).second, *toParent, parted(to).second, flag);
    tellMounted(number, done, flag == RenameFlag::Exchange ? "mount exchanges" : real ? "mount moves real entries" : "mount moves unreal entries");
    if (!done.ok() || flag == RenameFlag::Exchange) return;
    // Under that name, or beside what was not seen there.
    auto beside = fs.readDirectory(*toParent);
    const bool there = beside.ok() && std::any_of(beside->begin(), beside->end(), [&](const auto& one) { return one.attributes.node == *node; });
    if (!there && !machines_[number].peer->disk.isPowerOff()) throw Broken(name(number) + ": the mount has lost " + to + " at once");
    // It has the name that it claims, and is shown beside another; or replaces one that is, which has that name now.
    const bool suffixed = from.find('~') != std::string::npos || to.find('~') != std::string::npos;
    if (auto left = nodeAt(fs, from); !suffixed && left.ok() && *left == *node) throw Broken(name(number) + ": the mount still has " + from);
  });
}

/// The whole, from a handle that stays open for a while: it must be a version that the file had.
void World::readMounted(size_t number) {
  const std::string path = pickMounted(number, EntryKind::File);
  if (path.empty()) return;
  say(number, "mount: reads " + path);
  const int64_t pause = int64_t(below(300)) * kNsPerMs;
  mounted(number, [&](FileSystem& fs) {
    auto node = nodeAt(fs, path);
    if (!node.ok() || onDiskAt(number, *node)) return;
    std::optional<BlobId> blob;
    looked(number, [&](peer::Core& core) {
      auto record = core.recordAt(path);
      auto shown = record.ok() ? core.shownVersion(*record) : std::nullopt;
      if (shown) blob = shown->second.blob;
    });
    fs.open(*node, {}, [=, this, life = machines_[number].peer->lives](Result<FileHandle> opened) {
      if (!opened.ok() || !blob) return;
      queue_.after(pause, [=, this, handle = *opened] {
        if (machines_[number].peer->lives != life) return;
        mounted(number, [&](FileSystem& mount) {
          auto there = mount.handleAttributes(handle);
          mount.read(handle, 0, there.ok() ? there->sizeBytes + 1 : 1, [=, this](Result<Bytes> bytes) {
            count(bytes.ok() ? "mount reads unreal files" : "mount reads fail");
            if (bytes.ok() && blobOf(textOf(*bytes)) != *blob) throw Broken(name(number) + ": the mount reads " + path + " as another content than it opened");
            queue_.after(0, [=, this] {
              if (machines_[number].peer->lives == life) mounted(number, [&](FileSystem& again) { again.release(handle); });
            });
          });
        });
      });
    });
  });
}

}  // namespace realize::test
