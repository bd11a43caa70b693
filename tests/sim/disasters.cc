// What befalls a machine once in years: its disk dies and a backup comes back, it is away for months, its clock is set to
// another year.

#include <algorithm>

#include "librealize/peer/exchange.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/trimmer.h"
#include "tests/sim/world.h"

namespace realize::test {

namespace {
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kYearNs = int64_t(365) * 24 * 3600 * 1'000'000'000;
}  // namespace

/// One household in four.
void World::planDisasters() {
  if (!disasters_) return;
  const int64_t length = int64_t(stepsLeft_) * 700 * kNsPerMs;
  for (size_t i = 0; i < machines_.size(); ++i)
    for (uint64_t n = 1 + below(3); n > 0; --n) plan(int64_t(below(uint64_t(length))), [this, i] { takeBackup(i); });
  for (uint64_t n = 1 + below(2); n > 0; --n)
    plan(length / 4 + int64_t(below(uint64_t(length) * 3 / 4)), [this] { disaster(); });
}

void World::takeBackup(size_t number) {
  auto& machine = machines_[number];
  if (!machine.peer->started || machine.peer->disk.isPowerOff()) return;
  say(number, "is backed up");
  machine.backup = machine.peer->disk.snapshot();
}

void World::disaster() {
  if (healing_) return;
  const size_t number = below(machines_.size());
  auto& machine = machines_[number];
  switch (below(6)) {
    case 0: return loseDisk(number, "loses its database", "databases lost", false, false);
    case 1:
      if (machine.backup) loseDisk(number, "gets its database back from a backup", "databases restored", true, false);
      return;
    case 2:
      if (machine.backup) loseDisk(number, "gets its folder back from a backup", "folders restored", false, true);
      return;
    case 3:
      if (machine.backup) loseDisk(number, "gets all back from a backup", "databases and folders restored", true, true);
      return;
    case 4: {
      if (!machine.peer->running() || machine.full) return;
      say(number, "goes away for long");
      count("long absences");
      machine.awayUntilNs = queue_.nowNs() + int64_t(10'000 + below(50'000)) * kNsPerMs;
      endProcess(number);
      queue_.at(machine.awayUntilNs, [this, number] { startPeer(number); });
      return;
    }
    case 5: {
      const bool back = oneIn(2);
      say(number, std::string("its clock is a year ") + (back ? "late" : "early"));
      count("clocks a year off");
      machine.peer->disk.settle();  // As with smaller jumps.
      machine.peer->clock.jump(back ? -kYearNs : kYearNs);
      return;
    }
  }
}

/// At once, and the disk keeps what was written.
void World::endProcess(size_t number) {
  auto& sim = *machines_[number].peer;
  for (auto& link : links_)
    if (&link->end(0) == &sim || &link->end(1) == &sim) link->cut();
  sim.vanish();
  sim.disk.settle();
  sim.disk.crash(random_, true);
  machines_[number].suspended = false;
}

void World::loseDisk(size_t number, const std::string& what, const std::string& counter, bool database, bool folder) {
  auto& machine = machines_[number];
  auto& sim = *machine.peer;
  if (!sim.started || sim.disk.isPowerOff() || machine.full) return;
  say(number, what);
  count(counter);
  ++machine.userLife;
  ++sim.boots;
  endProcess(number);
  sim.disk.powerOffBefore(UINT64_MAX >> 1);
  machine.powerCut = false;
  const auto before = bytesEverywhere();
  for (const auto& [blob, content] : before) contents_.emplace(blob, tokensIn(content));
  const Knowledge lost = knowledgeOf(number);
  exposeDisk(number);
  if (database || folder) sim.restore(*machine.backup, database, folder);
  else sim.loseDatabase();
  expose(number, lost, database || !folder);
  if (folder) loseTokens(number, before, database);
  if (database || !folder) loseNames(number, lost, before);
  // All is on the disk by now, but for what a failed sync lost.
  std::set<Token> unwritten;
  doing(number, [&](Directory& root) {
    for (const auto& [path, stat] : walk(root))
      if (sim.disk.hasLost(std::string(kSimFolder) + "/" + path)) unwritten.merge(tokensAt(root, path));
  });
  for (auto* tokens : {&machine.unsynced, &machine.rewritten}) std::erase_if(*tokens, [&](Token token) { return !unwritten.contains(token); });
  machine.unnamed.clear();
  machine.torn.clear();
  queue_.after(int64_t(below(4000)) * kNsPerMs, [this, number] { startPeer(number); });
}

/// What was on that disk only. A cache keeps nothing for others; nor does a folder that has an older version of what went, be it
/// that only the database of this disk knows that, where that stays; nor what a backup brought back that others have replaced since.
void World::loseTokens(size_t number, const std::map<BlobId, std::string>& before, bool database) {
  std::map<BlobId, std::string> now;
  for (size_t i = 0; i < machines_.size(); ++i) doing(i, [&](Directory& root) { addFolder(root, now); });
  const auto current = currentBut(machines_.size()), shown = database ? currentBut(number) : current;
  const Knowledge own = knowledgeOf(number);
  std::set<BlobId> replaced = own.replaced;
  for (const auto& [dot, blob] : own.heads) replaced.insert(blob);
  std::erase_if(replaced, [&](const BlobId& blob) { return current.contains(blob); });
  std::set<Token> kept;
  std::map<BlobId, std::string> back;
  doing(number, [&](Directory& root) { addFolder(root, back); });
  for (const auto& [blob, content] : back)
    if (!replaced.contains(blob)) kept.merge(tokensIn(content));
  for (const auto& [blob, content] : now)
    if (shown.contains(blob)) kept.merge(tokensIn(content));
  std::string lost;
  for (const auto& [blob, content] : before) {
    if (now.contains(blob) || !exposed_.contains(blob)) continue;
    for (auto token : tokensIn(content)) {
      if (kept.contains(token) || excused_.contains(token)) continue;
      excused_.emplace(token, "on the disk of " + name(number) + " only, before it was restored");
      lost += " T" + std::to_string(token);
    }
  }
  if (!lost.empty()) say(number, "  with that disk went" + lost);
}

/// Nobody has these bytes, a disk that was lost or came back had them, and nothing was in them that is missed, or that another
/// content does not have.
bool World::isLost(const BlobId& blob, const std::map<BlobId, std::string>& bytes) {
  const auto known = contents_.find(blob);
  if (bytes.contains(blob) || known == contents_.end() || !exposed_.contains(blob)) return false;
  std::set<Token> there;
  for (const auto& [other, content] : bytes) there.merge(tokensIn(content));
  return std::all_of(known->second.begin(), known->second.end(),
                     [&](Token token) { return excused_.contains(token) || there.contains(token); });
}

/// A version whose bytes went with a disk, or were replaced while the database was gone that knew of them, or while somebody
/// who has them not set a mode through a mount, is waited for until somebody gives it up: he writes what he still has of the file,
/// or removes it.
bool World::giveUpLost() {
  if (!keepsContents() || apart_ || givenUp_ > 30) return false;
  const auto bytes = bytesEverywhere(true);
  auto& tree = machines_[0].peer->core->core().tree;
  for (const auto& id : machines_[0].peer->core->core().store.allEntries(0, 100'000)) {
    auto record = tree.get(id);
    if (!record || !record->shown || record->entry.kind != EntryKind::File) continue;
    const auto heads = tree.shownHeads(id);
    const auto lost = [&](const logic::ShownHead& head) { return isLost(head.version.blob, bytes); };
    if (std::none_of(heads.begin(), heads.end(), lost)) continue;
    const auto whole = std::find_if(heads.begin(), heads.end(), [&](const auto& head) { return bytes.contains(head.version.blob); });
    if (whole != heads.end()) {
      takeVersion(0, id, whole->dot, false);
    } else {
      const auto path = machines_[0].peer->core->core().shownPath(id);
      if (path.ok()) giveUp(*path);
    }
    count("versions given up");
    ++givenUp_;
    return true;
  }
  return false;
}

void World::giveUp(const std::string& path) {
  for (size_t i = 0; i < machines_.size(); ++i) {
    bool saved = false;
    doing(i, [&](Directory& root) {
      auto stat = root.stat(path);
      if (!stat.ok() || stat->type != FileStat::Type::File) return;
      auto& core = machines_[i].peer->core->core();
      const auto record = core.recordAt(path);
      if (record.ok() && !core.store.disk().get(record->node) && mayStay(i, root, path)) return;  // Another file, which is ignored there.
      say(i, "saves what there is of " + path);
      saved = true;
      auto file = root.open(path, OpenMode::ReadWrite);
      if (file.ok()) (void)(*file)->write(stat->sizeBytes, std::as_bytes(std::span("\n", 1))).ok();
      file->reset();
      wrote(i, root, path);
    });
    if (saved) return;
  }
  auto& peer = *machines_[0].peer;
  auto record = peer.core->core().recordAt(path);
  if (!record.ok()) return;
  say(0, "gives up " + path);
  for (const auto& head : peer.core->core().tree.shownHeads(record->entry.id)) letGo(0, contents_[head.version.blob]);
  const NodeId parent = peer.core->core().store.nodeOf(record->shownParent).value_or(kRootNode);
  auto gone = peer.core->guardedFileSystem().unlink(parent, record->shownName);
  if (!gone.ok()) say(0, "  " + gone.error().message);
}

/// What the household did about it.
void World::countAbsences() {
  for (auto& machine : machines_) {
    if (!machine.peer->running()) continue;
    auto& core = machine.peer->core->core();
    if (!disasters_ || core.suspended) continue;
    for (const auto& row : core.store.members().all())
      if (!row.active) count("members found inactive");
  }
}

}  // namespace realize::test
