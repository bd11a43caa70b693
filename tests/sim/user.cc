// What users do. Each act is a few steps with pauses between, as programs make them; each step is one moment.

#include <algorithm>

#include "librealize/logic/reconcile.h"
#include "librealize/peer/conflicts.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"
#include "tests/sim/world.h"

namespace realize::test {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;

std::span<const std::byte> bytesOf(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string parentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string joined(const std::string& parent, const std::string& name) { return parent.empty() ? name : parent + "/" + name; }

std::string listed(const std::set<Token>& tokens) {
  std::string out;
  for (auto token : tokens) out += (out.empty() ? "T" : " T") + std::to_string(token);
  return out.empty() ? "no token" : out;
}

/// Something of its kind has its name. In a folder that has moved there, that is another file, and this one is gone.
bool standsThere(peer::Core& core, Directory& root, const store::DiskRow& row) {
  const auto path = core.folder->diskPath(row.node);
  const auto stat = path ? root.stat(*path) : Result<FileStat>(Error{Code::NotFound, ""});
  if (!stat.ok() || logic::entryKindOf(stat->type) != row.kind) return false;
  for (const auto& other : core.store.disk().getByInode(stat->device, stat->inode))
    if (row.kind == EntryKind::Directory && other.node != row.node && other.birthNs == stat->birthNs) return false;
  const auto above = core.store.disk().get(row.parentNode);
  return !above || standsThere(core, root, *above);
}

}  // namespace

std::set<Token> tokensIn(const std::string& content) {
  std::set<Token> out;
  for (size_t at = content.find("<T"); at != std::string::npos; at = content.find("<T", at + 1)) {
    const size_t end = content.find('>', at);
    if (end != at + 8) continue;  // Torn.
    const std::string digits = content.substr(at + 2, 6);
    if (std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) out.insert(Token(std::stoul(digits)));
  }
  return out;
}

/// A new token, and as many bytes after it.
std::string World::newContent(size_t bytes) {
  char head[16];
  snprintf(head, sizeof(head), "<T%06u>\n", ++lastToken_);
  std::string out = head;
  out.reserve(out.size() + bytes);
  uint64_t word = 0;
  for (size_t i = 0; i < bytes; ++i) {
    if (i % 16 == 0) word = random_.next64();
    out += char('a' + (word >> (4 * (i % 16)) & 15));
  }
  return out;
}

size_t World::someSize() {
  switch (below(10)) {
    case 0: case 1: case 2: return 0;
    case 3: case 4: case 5: return below(60);
    case 6: case 7: return below(9000);
    case 8: return below(60'000);
    default: return oneIn(2) ? 300'000 + below(500'000) : below(200'000);
  }
}

std::vector<std::pair<std::string, FileStat>> World::walk(Directory& root, const std::string& below) {
  std::vector<std::pair<std::string, FileStat>> out;
  auto items = root.list(below);
  if (!items.ok()) return out;
  std::sort(items->begin(), items->end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (const auto& item : *items) {
    if (item.name == peer::kOwnFolder) continue;
    const std::string path = joined(below, item.name);
    out.emplace_back(path, item.stat);
    if (item.stat.type != FileStat::Type::Directory) continue;
    auto inside = walk(root, path);
    out.insert(out.end(), inside.begin(), inside.end());
  }
  return out;
}

void World::doing(size_t number, const std::function<void(Directory&)>& work) {
  auto& peer = *machines_[number].peer;
  if (peer.disk.isPowerOff()) return;
  auto root = peer.disk.openRoot(kSimFolder);
  if (!root.ok()) return;
  const bool before = peer.userActing;
  peer.userActing = true;
  work(**root);
  peer.userActing = before;
}

/// The steps one after the other, at once or with pauses; a crash ends them.
void World::act(size_t number, Steps steps) {
  if (steps.empty()) return;
  auto shared = std::make_shared<Steps>(std::move(steps));
  auto next = std::make_shared<std::function<void(size_t)>>();
  const int64_t pause = oneIn(2) ? 0 : oneIn(4) ? 300 * kNsPerMs : 20 * kNsPerMs;
  const uint64_t life = machines_[number].userLife;
  *next = [this, number, shared, weak = std::weak_ptr(next), pause, life](size_t i) {
    if (machines_[number].userLife != life || i >= shared->size() || machines_[number].peer->disk.isPowerOff()) return;
    (*shared)[i]();
    auto self = weak.lock();
    if (i + 1 < shared->size()) {
      if (pause == 0) (*self)(i + 1);
      else queue_.after(int64_t(below(uint64_t(pause))), [self, i] { (*self)(i + 1); });
    }
  };
  (*next)(0);
}

std::string World::pick(size_t number, FileStat::Type type) {
  std::vector<std::string> found;
  doing(number, [&](Directory& root) {
    for (const auto& [path, stat] : walk(root))
      if (stat.type == type) found.push_back(path);
  });
  return found.empty() ? "" : found[below(found.size())];
}

std::string World::pickFolder(size_t number) { return oneIn(3) ? "" : pick(number, FileStat::Type::Directory); }

std::string World::newPath(size_t number) {
  static const char* const kNames[] = {"a", "b", "c", "d", "e.txt", "x", "y"};
  return joined(pickFolder(number), kNames[below(options_.rush ? 3 : std::size(kNames))]);
}

std::string World::contentOf(Directory& root, const std::string& path) {
  auto bytes = readFile(root, path, 64 << 20);
  if (!bytes.ok()) return "";
  return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

std::string World::contentOf(DiskFile& file) {
  auto stat = file.stat();
  if (!stat.ok()) return "";
  Bytes bytes(stat->sizeBytes);
  auto got = file.read(0, bytes);
  return got.ok() ? std::string(reinterpret_cast<const char*>(bytes.data()), *got) : "";
}

/// Of a file, or of all that is below a folder.
std::set<Token> World::tokensAt(Directory& root, const std::string& path) {
  auto stat = root.stat(path);
  if (!stat.ok()) return {};
  if (stat->type == FileStat::Type::File) return tokensIn(contentOf(root, path));
  std::set<Token> out;
  if (stat->type == FileStat::Type::Directory)
    for (const auto& [below, s] : walk(root, path))
      if (s.type == FileStat::Type::File) out.merge(tokensIn(contentOf(root, below)));
  return out;
}

/// The user saw these and replaced or removed them.
void World::letGo(size_t number, const std::set<Token>& tokens) {
  for (auto token : tokens) excused_.emplace(token, "let go by the user of " + name(number));
}

/// What the file has now was written by this machine's user.
void World::wrote(size_t number, Directory& root, const std::string& path) {
  const auto tokens = tokensAt(root, path);
  if (keepsContents()) contents_.emplace(blobOf(contentOf(root, path)), tokens);
  noteChanged(number, root, path);
  wrote(number, tokens, path);
}

void World::wrote(size_t number, const std::set<Token>& tokens, const std::string& path) {
  for (auto token : tokens) {
    const bool fresh = written_.emplace(token, name(number) + ":" + path).second;
    machines_[number].unsynced.insert(token);
    if (!fresh) machines_[number].rewritten.insert(token);
  }
  say(number, "  " + path + " has " + listed(tokens));
}

/// The whole content into the file. False when the disk did not let him.
bool World::fill(size_t number, Directory& root, const std::string& path, const std::string& content) {
  const auto before = tokensAt(root, path);
  auto file = root.open(path, OpenMode::CreateOrOpen, 0644);
  if (!file.ok()) return false;
  letGo(number, before);
  const bool done = (*file)->truncate(0).ok() && (*file)->write(0, bytesOf(content)).ok();
  file->reset();
  wrote(number, root, path);
  return done;
}

/// As an editor without a plan does it.
bool World::put(size_t number, Directory& root, const std::string& path, const std::string& content) {
  const bool done = fill(number, root, path, content);
  if (done && oneIn(2)) syncFile(number, root, path);
  return done;
}

void World::syncFile(size_t number, Directory& root, const std::string& path) {
  auto file = root.open(path, OpenMode::ReadWrite);
  if (!file.ok() || !(*file)->sync(true).ok()) return;
  if (machines_[number].peer->disk.hasLost(std::string(kSimFolder) + "/" + path)) return;  // Had he it open before, he was told.
  for (std::string at = parentOf(path);; at = parentOf(at)) {
    if (!root.syncDirectory(at).ok()) return;
    if (at.empty()) break;
  }
  for (auto token : tokensAt(root, path)) machines_[number].unsynced.erase(token);
  say(number, "  synced " + path);
}

void World::removeAll(size_t number, Directory& root, const std::string& path) {
  letGo(number, tokensGoing(number, root, path));
  auto stat = root.stat(path);
  if (!stat.ok()) return;
  if (stat->type == FileStat::Type::Directory) {
    auto inside = walk(root, path);
    std::reverse(inside.begin(), inside.end());
    for (const auto& [below, s] : inside) {
      auto gone = s.type == FileStat::Type::Directory ? root.removeDirectory(below) : root.unlink(below);
      (void)gone;
    }
    auto gone = root.removeDirectory(path);
    (void)gone;
  } else {
    auto gone = root.unlink(path);
    (void)gone;
  }
}

void World::userStep() {
  const size_t number = below(machines_.size());
  count("user steps");
  if (guarded() && answers_.oneIn(2)) answerGuards(number, answers_.oneIn(3));
  if (ignoring() && oneIn(3)) return ignoreStep(number);
  if (linking() && oneIn(3)) return linkStep(number);
  if (options_.wide && oneIn(2)) return mountStep(number);
  if (options_.wide && oneIn(3)) return wideStep(number);
  switch (below(16)) {
    case 0: case 1: case 2: {
      const std::string path = newPath(number), content = newContent(someSize());
      say(number, "writes " + path);
      act(number, {[=, this] { doing(number, [&](Directory& root) { put(number, root, path, content); }); }});
      break;
    }
    case 3: case 4: case 5: case 6: editSomething(number); break;
    case 7: case 8: saveLikeAProgram(number); break;
    case 9: case 10: moveSomething(number); break;
    case 11: case 12: removeSomething(number); break;
    case 13: {
      const std::string path = newPath(number);
      say(number, "makes folder " + path);
      doing(number, [&](Directory& root) { (void)root.makeDirectory(path, 0755).ok(); });
      break;
    }
    case 14: markSomething(number); break;
    case 15:
      if (!resolveSomething(number)) readSomething(number);
      break;
  }
}

void World::editSomething(size_t number) {
  const std::string path = pick(number, FileStat::Type::File);
  if (path.empty()) return;
  const uint64_t how = below(9);
  switch (how) {
    case 0: case 1: {
      const std::string content = newContent(someSize());
      say(number, "rewrites " + path);
      doing(number, [&](Directory& root) { put(number, root, path, content); });
      break;
    }
    case 2: case 3: {
      const std::string content = newContent(below(50));
      say(number, "appends to " + path);
      act(number, {[=, this] {
        doing(number, [&](Directory& root) {
          auto file = root.open(path, OpenMode::ReadWrite);
          auto stat = file.ok() ? (*file)->stat() : Result<FileStat>(Error{});
          if (!stat.ok() || !(*file)->write(stat->sizeBytes, bytesOf(content)).ok()) return;
          file->reset();
          wrote(number, root, path);
          if (oneIn(2)) syncFile(number, root, path);
        });
      }});
      break;
    }
    case 4: {
      say(number, "truncates " + path);
      doing(number, [&](Directory& root) {
        const auto before = tokensAt(root, path);
        auto file = root.open(path, OpenMode::ReadWrite);
        auto stat = file.ok() ? (*file)->stat() : Result<FileStat>(Error{});
        if (!stat.ok() || !(*file)->truncate(below(stat->sizeBytes + 1)).ok()) return;
        file->reset();
        const auto after = tokensAt(root, path);
        for (auto token : before)
          if (!after.contains(token)) letGo(number, {token});
        wrote(number, root, path);
      });
      break;
    }
    case 5: {  // In the middle or in front, as a program that rewrites what follows.
      say(number, "inserts into " + path);
      doing(number, [&](Directory& root) {
        std::string content = contentOf(root, path);
        const auto before = tokensIn(content);
        const std::string more = newContent(below(20));
        const size_t at = oneIn(2) ? 0 : content.size() / 2;
        content.insert(at, more);
        for (auto token : before)
          if (!tokensIn(content).contains(token)) letGo(number, {token});
        auto file = root.open(path, OpenMode::ReadWrite);
        if (!file.ok() || !(*file)->write(0, bytesOf(content)).ok()) return letGo(number, before);
        file->reset();
        wrote(number, root, path);
      });
      break;
    }
    case 6: {
      const uint32_t modes[] = {0644, 0600, 0755, 0444};
      const uint32_t mode = modes[below(4)];
      say(number, "chmods " + path);
      doing(number, [&](Directory& root) {
        if (root.setMode(path, mode).ok()) noteChanged(number, root, path);
      });
      break;
    }
    case 7: {  // Writes slowly, with the file open all the while.
      const std::string first = newContent(below(3000)), second = newContent(below(3000));
      say(number, "writes slowly to " + path);
      auto file = std::make_shared<std::shared_ptr<DiskFile>>();
      act(number, {[=, this] {
                     doing(number, [&](Directory& root) {
                       auto opened = root.open(path, OpenMode::ReadWrite);
                       if (!opened.ok()) return;
                       letGo(number, tokensAt(root, path));
                       *file = std::move(*opened);
                       (void)(*file)->truncate(0).ok();
                       (void)(*file)->write(0, bytesOf(first)).ok();
                       wrote(number, root, path);
                     });
                   },
                   [=, this] {
                     if (!*file) return;
                     doing(number, [&](Directory& root) {
                       // The name may have gone to another file meanwhile, and this one to another name: what he
                       // overwrites is his own loss, and what he writes is lost to nobody while the file has a name.
                       auto here = (*file)->stat();
                       auto there = root.stat(path);
                       const bool same = here.ok() && there.ok() && here->sameObject(*there);
                       const auto before = tokensIn(contentOf(**file));
                       (void)(*file)->write(first.size(), bytesOf(second)).ok();
                       const std::string content = contentOf(**file);
                       const auto after = tokensIn(content);
                       file->reset();
                       for (auto token : before)
                         if (!after.contains(token)) letGo(number, {token});
                       if (keepsContents()) contents_.emplace(blobOf(content), after);
                       if (same) wrote(number, root, path);
                       else if (here.ok() && here->links > 0) wrote(number, after, path + " under another name");
                     });
                   }});
      break;
    }
    case 8: {
      const std::string to = newPath(number);
      say(number, "copies " + path + " to " + to);
      doing(number, [&](Directory& root) { put(number, root, to, contentOf(root, path)); });
      break;
    }
  }
}

void World::moveSomething(size_t number) {
  const bool folder = oneIn(2);
  const std::string from = pick(number, folder ? FileStat::Type::Directory : FileStat::Type::File);
  if (from.empty()) return;
  if (oneIn(4)) {
    const std::string other = pick(number, oneIn(4) ? FileStat::Type::Directory : FileStat::Type::File);
    if (other.empty() || other == from || other.starts_with(from + "/") || from.starts_with(other + "/")) return;
    const std::string aside = joined(parentOf(from), ".swap");
    say(number, "swaps " + from + " and " + other);
    auto move = [=, this](const std::string& a, const std::string& b) {
      return [=, this] { doing(number, [&](Directory& root) { (void)root.rename(a, b, RenameKind::NoReplace).ok(); }); };
    };
    return act(number, {move(from, aside), move(other, from), move(aside, other)});
  }
  const std::string to = oneIn(2) ? newPath(number) : joined(pickFolder(number), from.substr(from.rfind('/') + 1));
  say(number, "moves " + from + " to " + to);
  doing(number, [&](Directory& root) { move(number, root, from, to); });
}

/// What has the name there already is let go.
void World::move(size_t number, Directory& root, const std::string& from, const std::string& to) {
  const auto before = tokensGoing(number, root, to);
  const auto moved = tokensAt(root, from);
  if (!root.rename(from, to, RenameKind::Replace).ok()) return;
  for (auto token : before)
    if (!moved.contains(token)) letGo(number, {token});
}

void World::removeSomething(size_t number) {
  const bool folder = oneIn(4);
  const std::string path = pick(number, folder ? FileStat::Type::Directory : FileStat::Type::File);
  if (path.empty()) return;
  const uint64_t then = below(6);
  say(number, "removes " + path + (then < 4 ? "" : then == 4 ? ", then makes another kind of it" : ", then makes a link of it"));
  const std::string content = newContent(below(30));
  act(number, {[=, this] { doing(number, [&](Directory& root) { removeAll(number, root, path); }); },
               [=, this] {
                 doing(number, [&](Directory& root) {
                   if (then == 4 && folder) put(number, root, path, content);
                   else if (then == 4) (void)root.makeDirectory(path, 0755).ok();
                   else if (then == 5) (void)root.makeSymlink(path, "to/T" + std::to_string(lastToken_)).ok();
                 });
               }});
}

void World::markSomething(size_t number) {
  auto& peer = *machines_[number].peer;
  if (!peer.running() || peer.core->core().suspended) return;
  auto& core = peer.core->core();
  std::vector<std::pair<std::string, EntryId>> found;
  std::function<void(const EntryId&, const std::string&)> collect = [&](const EntryId& directory, const std::string& path) {
    for (const auto& child : core.tree.children(directory, "", 100)) {
      const std::string here = joined(path, child.name);
      found.emplace_back(here, child.id);
      if (child.kind == EntryKind::Directory) collect(child.id, here);
    }
  };
  std::lock_guard held(peer.scheduler->coreLock());
  collect(kRootEntry, "");
  if (found.empty()) return;
  const auto& [path, id] = found[below(found.size())];
  const Mark mark = Mark(below(3));
  auto record = core.tree.get(id);
  if (!record) return;
  say(number, "marks " + path + (mark == Mark::Real ? " real" : mark == Mark::Unreal ? " unreal" : " as the folder above"));
  count("marks set");
  core.marks->set(*record, mark);
}

/// Of a file with several versions the user takes one, and so lets go what only the others hold.
bool World::resolveSomething(size_t number) {
  auto& peer = *machines_[number].peer;
  if (!peer.running() || peer.core->core().suspended) return false;
  std::lock_guard held(peer.scheduler->coreLock());
  auto& core = peer.core->core();
  std::vector<std::pair<EntryId, std::vector<logic::ShownHead>>> conflicts;
  for (const auto& id : core.store.withSeveralHeads(0, 1000)) {
    auto record = core.tree.get(id);
    auto heads = core.tree.shownHeads(id);
    if (record && record->shown && heads.size() > 1) conflicts.emplace_back(id, std::move(heads));
  }
  if (conflicts.empty()) return false;
  const auto& [id, heads] = conflicts[below(conflicts.size())];
  takeVersion(number, id, heads[below(heads.size())].dot, false);
  return true;
}

/// As ArenaHandle::resolve does it: if its bytes are not safe here, they are brought, and then it is taken.
void World::takeVersion(size_t number, const EntryId& id, const Dot& dot, bool brought) {
  auto& peer = *machines_[number].peer;
  auto& core = peer.core->core();
  const auto path = core.shownPath(id);
  const auto heads = core.tree.shownHeads(id);
  const auto chosen = std::find_if(heads.begin(), heads.end(), [&](const auto& head) { return head.dot == dot; });
  if (!path.ok() || heads.size() < 2 || chosen == heads.end()) return;
  const auto bytes = bytesEverywhere();
  std::set<Token> kept, gone;
  for (const auto& head : heads) {
    auto content = bytes.find(head.version.blob);
    if (content == bytes.end() && !(head.dot != dot && isLost(head.version.blob, bytes))) return;  // Nobody could have looked at it.
    // Who gives it up knows what he wrote into it, and what he has in its place still, which waited for it.
    if (content == bytes.end()) {
      gone.merge(std::set<Token>(contents_[head.version.blob]));
      doing(number, [&](Directory& root) { gone.merge(tokensAt(root, *path)); });
    } else (head.dot == dot ? kept : gone).merge(tokensIn(content->second));
  }
  std::optional<HeadInfo> missing;
  auto resolved = peer.core->resolve(*path, peer::labelOf(dot), brought ? nullptr : &missing);
  say(number, "takes " + chosen->version.blob.hex().substr(0, 8) + " of the versions of " + *path + (resolved.ok() ? "" : ": " + resolved.error().message));
  if (missing) {
    core.transfers->keep(id, missing->blob, missing->sizeBytes, [this, number, id, dot, life = peer.lives](Result<void> fetched) {
      if (fetched.ok() && life == machines_[number].peer->lives) takeVersion(number, id, dot, true);
    });
    return;
  }
  if (!resolved.ok()) return;
  std::string left;
  for (auto token : kept) gone.erase(token);
  for (auto token : gone) left += " T" + std::to_string(token);
  if (!left.empty()) say(number, "  and lets go" + left);
  letGo(number, gone);
  count("conflicts resolved");
}

/// What the guards hold back is meant, or (keep) is not: then its user lets go what he wrote. Nobody takes back what he
/// overwrote where only he had it.
void World::answerGuards(size_t number, bool keep) {
  auto& peer = *machines_[number].peer;
  if (!peer.running() || peer.core->core().suspended) return;
  std::lock_guard held(peer.scheduler->coreLock());
  auto& core = peer.core->core();
  const uint64_t removals = core.folder->heldRemovals(), contents = core.folder->heldOverwrites();
  if (removals + contents == 0) return;
  std::set<Token> written;
  std::set<BlobId> wantedBack;
  auto hadElsewhere = [&](const EntryId& id) {
    const auto known = core.tree.get(id);
    const auto shown = known ? core.shownVersion(*known) : std::nullopt;
    if (shown) wantedBack.insert(shown->second.blob);
    for (size_t i = 0; shown && i < machines_.size(); ++i) {
      if (i == number || !machines_[i].peer->running() || machines_[i].peer->core->core().suspended) continue;
      auto& other = machines_[i].peer->core->core();
      for (const auto& row : other.store.disk().withBlob(shown->second.blob, 10)) {
        if (row.dirty) continue;
        bool there = false;  // Its user may have removed it, and that is held, too.
        doing(i, [&](Directory& root) { there = standsThere(other, root, row); });
        if (there) return true;
      }
    }
    return false;
  };
  doing(number, [&](Directory& root) {
    for (const auto& row : core.store.disk().all(0, 10'000)) {
      const auto id = core.store.idOf(row.node);
      const std::string path = core.folder->diskPath(row.node).value_or("");
      if (row.kind != EntryKind::File || path.empty() || !id) continue;
      const bool content = core.folder->holdsContent(path);
      if (content || !standsThere(core, root, row)) keep = keep && hadElsewhere(*id);
      if (content) written.merge(tokensAt(root, path));
    }
  });
  say(number, std::string(keep ? "takes back " : "confirms ") + std::to_string(removals) + " removals, " + std::to_string(contents) + " contents");
  if (removals) count(keep ? "held removals taken back" : "held removals confirmed");
  if (contents) count(keep ? "held contents taken back" : "held contents confirmed");
  if (keep) letGo(number, written);
  if (keep) exposed_.merge(wantedBack);  // Who had them may replace them before they are here.
  auto answered = core.folder->confirmHeld(keep);
  (void)answered;  // There is something, as was seen above.
}

void World::readSomething(size_t number) {
  auto& peer = *machines_[number].peer;
  if (!peer.running() || peer.core->core().suspended) return;
  auto& core = peer.core->core();
  std::lock_guard held(peer.scheduler->coreLock());
  std::vector<logic::ShownHead> heads;
  for (const auto& id : core.store.allEntries(0, 1000)) {
    auto record = core.tree.get(id);
    if (!record || !record->shown || record->entry.kind != EntryKind::File) continue;
    for (const auto& head : core.tree.shownHeads(id)) heads.push_back(head);
  }
  if (heads.empty()) return;
  const auto version = heads[below(heads.size())].version;
  const uint64_t offset = below(version.sizeBytes + 1);
  say(number, "reads " + version.blob.hex().substr(0, 8) + " from " + std::to_string(offset));
  count("reads");
  auto open = core.transfers->open(version.blob, version.sizeBytes);
  core.transfers->read(open, offset, 1 + below(400'000), [this, number](Result<Bytes> bytes) {
    say(number, bytes.ok() ? "  got " + std::to_string(bytes->size()) + " bytes" : "  could not read: " + bytes.error().message);
    count(bytes.ok() ? "reads answered" : "reads failed");
  });
}

}  // namespace realize::test
