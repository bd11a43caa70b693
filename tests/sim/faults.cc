// Bad luck: power, connections, space, clocks, watches, and a user who is quicker than the program.

#include <algorithm>

#include "librealize/peer/folder.h"
#include "tests/sim/world.h"

namespace realize::test {

namespace {
constexpr int64_t kNsPerMs = 1'000'000;
}

void World::planFaults() {
  const int64_t length = int64_t(stepsLeft_) * 700 * kNsPerMs;
  const int faults = int(below(uint64_t(stepsLeft_) / 4 + 2));
  for (int i = 0; i < faults; ++i) plan(int64_t(below(uint64_t(length))), [this] { fault(); });
}

void World::reconnectSoon(SimLink& link) {
  queue_.after(int64_t(below(6000)) * kNsPerMs, [this, &link] {
    if (!link.connected()) connect(link);
    reconnectSoon(link);
  });
}

void World::fault() {
  if (healing_) return;
  const size_t number = below(machines_.size());
  auto& machine = machines_[number];
  auto& disk = machine.peer->disk;
  switch (below(10)) {
    case 0: case 1: case 2: {
      machine.powerCut = oneIn(2);
      const uint64_t n = 1 + below(oneIn(2) ? 20 : 300);
      say(number, std::string(machine.powerCut ? "loses power" : "is killed") + " before its change number " + std::to_string(n) +
                      " from here");
      disk.powerOffBefore(n);
      break;
    }
    case 3: case 4: case 5: {
      auto& link = *links_[below(links_.size())];
      if (!link.connected()) return;
      say("the connection of " + link.end(0).options.name + " and " + link.end(1).options.name + " is cut");
      count("connections cut");
      link.cut();
      break;
    }
    case 6: {
      const uint64_t left = below(200'000);
      say(number, "has " + std::to_string(left) + " bytes left on its disk");
      count("disks full");
      machine.full = true;
      disk.setFreeBytes(left);
      queue_.after(int64_t(1000 + below(8000)) * kNsPerMs, [this, number] {
        auto& again = machines_[number];
        if (!again.full) return;
        say(number, "has space again");
        again.full = false;
        again.peer->disk.setFreeBytes(uint64_t(1) << 40);
        startPeer(number);  // If it could not start before. Who runs goes on by himself.
      });
      break;
    }
    case 7: {
      const int64_t jump = (oneIn(2) ? 1 : -1) * int64_t(below(100'000)) * 1000 * kNsPerMs;
      say(number, "its clock jumps by " + std::to_string(jump / 1000 / kNsPerMs) + " s");
      count("clocks jumped");
      machine.peer->disk.settle();  // Whoever sets a clock takes his time: the kernel has written what there was.
      machine.peer->clock.jump(jump);
      break;
    }
    case 8: {
      say(number, "its watch overflows");
      count("watches overflowed");
      disk.overflowWatchers();
      if (machine.peer->running()) {
        auto& peer = *machine.peer;
        doing(number, [&](Directory& root) { (void)root.makeDirectory(".realize/tmp", 0700).ok(); });  // Wakes the watch.
        (void)peer;
      }
      break;
    }
    case 9: {
      if (!machine.peer->running() || machine.full) return;
      say(number, "is stopped in good order");
      count("clean stops");
      for (auto& link : links_)
        if (&link->end(0) == machine.peer.get() || &link->end(1) == machine.peer.get()) link->cut();
      machine.peer->stop();
      queue_.after(int64_t(below(5000)) * kNsPerMs, [this, number] { startPeer(number); });
      break;
    }
  }
}

/// By inode; all that is in the folder, and what the program has there of its own.
std::map<uint64_t, std::string> World::contentsAt(Directory& root) {
  std::map<uint64_t, std::string> out;
  auto add = [&](const std::string& path, const FileStat& stat) {
    if (stat.type == FileStat::Type::File) out[stat.inode] = contentOf(root, path);
  };
  for (const auto& [path, stat] : walk(root)) add(path, stat);
  // Where the program had them at that moment, too: on their way out of the folder, or back. Not what it was still copying,
  // as a sync of the user's file had failed (peer::copyUnwritten): that may be part of it, and is made again.
  for (const char* ours : {peer::kTempFolder, peer::kCacheFolder})
    if (auto items = root.list(ours); items.ok())
      for (const auto& item : *items)
        if (!item.name.starts_with("copy-of-") || item.name.find('~') != std::string::npos) add(std::string(ours) + "/" + item.name, item.stat);
  return out;
}

namespace {
/// What is among the program's own under the name that it was made or fetched with, by inode: nobody asks whether a user has
/// written into it. What comes from his folder is called otherwise there.
std::set<uint64_t> namedAsOurs(Directory& root) {
  std::set<uint64_t> out;
  for (const char* ours : {peer::kTempFolder, peer::kCacheFolder})
    if (auto items = root.list(ours); items.ok())
      for (const auto& item : *items)
        if (item.name.find('~') == std::string::npos && !item.name.starts_with("undo-")) out.insert(item.stat.inode);
  return out;
}
}  // namespace

/// Whether others have heard of that content under one of these names.
bool World::isToldOf(size_t number, const std::set<std::string>& names, const BlobId& blob) {
  for (size_t other = 0; other < machines_.size(); ++other) {
    auto& peer = *machines_[other].peer;
    if (other == number || !peer.running() || peer.core->core().suspended) continue;
    for (const auto& path : names) {
      const auto record = peer.core->core().recordAt(path);
      const auto heads = record.ok() ? peer.core->core().tree.shownHeads(record->entry.id) : std::vector<logic::ShownHead>();
      if (std::any_of(heads.begin(), heads.end(), [&](const auto& head) { return head.version.blob == blob; })) return true;
    }
  }
  return false;
}

void World::losePower(size_t number) {
  auto& machine = machines_[number];
  auto& sim = *machine.peer;
  count("power cuts");
  ++machine.userLife;
  ++sim.boots;
  auto all = [](const std::map<uint64_t, std::string>& contents) {
    std::set<Token> tokens;
    for (const auto& [inode, content] : contents) tokens.merge(tokensIn(content));
    return tokens;
  };
  std::map<uint64_t, std::string> before, after;
  FakeDisk lookedAt(sim.clock, sim.disk.snapshot());
  std::map<uint64_t, int64_t> times;
  std::map<uint64_t, std::set<std::string>> names;
  std::set<uint64_t> timesBack, named, oursBefore, oursAfter;
  if (auto root = lookedAt.openRoot(kSimFolder); root.ok()) {
    before = contentsAt(**root);
    oursBefore = namedAsOurs(**root);
    for (const auto& [path, stat] : walk(**root)) {
      times[stat.inode] = stat.mtimeNs;
      names[stat.inode].insert(path);
    }
  }
  sim.disk.crash(random_);
  doing(number, [&](Directory& root) {
    after = contentsAt(root);
    oursAfter = namedAsOurs(root);
    for (const auto& [path, stat] : walk(root)) {
      named.insert(stat.inode);
      if (auto then = times.find(stat.inode); then != times.end() && then->second != stat.mtimeNs) timesBack.insert(stat.inode);
    }
  });
  // Torn, it is another content than anybody wrote.
  for (const auto& [inode, content] : after)
    if (keepsContents()) contents_.emplace(blobOf(content), tokensIn(content));
  // What had got its name lately, which the power took back, is one of our own again: no place for what its user never synced.
  std::set<uint64_t> ownAgain;
  for (const auto& [inode, content] : after)
    if (!named.contains(inode) && oursAfter.contains(inode) && !oursBefore.contains(inode)) ownAgain.insert(inode);
  std::erase_if(after, [&](const auto& item) { return ownAgain.contains(item.first); });
  const auto here = all(after);
  // What others have is no less theirs for that.
  std::set<Token> elsewhere;
  for (size_t other = 0; other < machines_.size(); ++other)
    if (other != number) doing(other, [&](Directory& root) { elsewhere.merge(all(contentsAt(root))); });
  std::string lost;
  for (const auto& [inode, content] : before) {
    const auto now = after.find(inode);
    // He took away one of its names, and the power those that were left: that reads as his removal, whoever else has it. What the
    // program had told of by such a name it was to sync.
    const bool removed = now == after.end() && machine.unnamed.contains(inode) && !isToldOf(number, names[inode], blobOf(content));
    const auto kept = now == after.end() ? std::set<Token>() : tokensIn(now->second);
    for (auto token : tokensIn(content)) {
      if (kept.contains(token) || !machine.unsynced.contains(token)) continue;
      // A torn write takes along what was in the file before, as a removal does: an older copy of that elsewhere is nobody's any more.
      const bool gone = removed || (now != after.end() && machine.rewritten.contains(token));
      const bool others = elsewhere.contains(token) && (ownAgain.contains(inode) || !machine.rewritten.contains(token));
      if (!gone && (here.contains(token) || others)) continue;
      excused_.emplace(token, "never synced by its user before " + name(number) + " lost power");
      lost += " T" + std::to_string(token);
    }
    // Its size and times may be those from before, its bytes are not, all of them or some: nobody but its user can tell.
    const auto written = tokensIn(content);
    const bool byUser = std::any_of(written.begin(), written.end(), [&](Token token) { return machine.unsynced.contains(token); });
    if (!byUser || now == after.end() || (now->second == content && !timesBack.contains(inode))) continue;
    auto& left = machine.torn[inode];
    for (auto token : kept)
      if (machine.unsynced.contains(token)) left.insert(token);
  }
  machine.unsynced.clear();
  machine.rewritten.clear();
  machine.unnamed.clear();
  lost += loseUnsynced(number, before);
  say(number, "lost power" + (lost.empty() ? "" : ", and with it what was not synced:" + lost));
}

/// Who was writing when the power went looks at it, and saves what there is. Where another version took its place before, for
/// its size and times were those of before, what he had never synced went with it.
void World::saveTornAgain(size_t number) {
  auto& machine = machines_[number];
  doing(number, [&](Directory& root) {
    for (const auto& [path, stat] : walk(root)) {
      if (!machine.torn.erase(stat.inode)) continue;
      say(number, "saves what is left of " + path);
      count("torn files saved again");
      (void)root.setTimes(path, machine.peer->clock.nowNs()).ok();
    }
  });
  for (const auto& [inode, tokens] : machine.torn)
    for (auto token : tokens) excused_.emplace(token, "never synced, in a file that was torn when " + name(number) + " lost power");
  machine.torn.clear();
}

/// The power went, or the process: what follows is what the disk kept.
void World::crashed(size_t number) {
  auto& machine = machines_[number];
  auto& sim = *machine.peer;
  for (auto& link : links_)
    if (&link->end(0) == &sim || &link->end(1) == &sim) link->cut();
  sim.vanish();
  if (!machine.powerCut) {
    count("kills");
    sim.disk.settle();
    sim.disk.crash(random_, true);
    say(number, "was killed");
  } else {
    losePower(number);
  }
  machine.powerCut = false;
  machine.suspended = false;
  const int64_t wait = healing_ ? 0 : int64_t(below(oneIn(2) ? 100 : 6000)) * kNsPerMs;
  queue_.after(wait, [this, number] { startPeer(number); });
}

void World::tell(size_t number, const FakeCall& call) {
  static const char* const kNames[] = {"stat", "open", "create", "openDirectory", "list", "makeDirectory", "makeSymlink",
    "hardLink", "readSymlink", "unlink", "removeDirectory", "rename", "setMode", "setTimes", "setOwner", "getXattr", "setXattr", "listXattrs",
    "removeXattr", "syncDirectory", "syncAll", "space", "read", "write", "truncate", "fileStat", "fileSync", "allocate",
    "punchHole", "seek", "nobodyWrites", "cloneRange", "watch"};
  const bool told = call.changes() || call.op == FakeOp::List || call.op == FakeOp::Watch;
  if (!told || machines_[number].peer->userActing || !call.path.starts_with(kSimFolder)) return;
  say(number, std::string("    . ") + kNames[size_t(call.op)] + " " + call.path.substr(6) +
                  (call.path2.empty() ? "" : " -> " + call.path2.substr(6)));
}

/// What its tree shows by now.
void World::tellEvent(size_t number, const Event& event) {
  say(number, "    * " + event.type + " " + event.path + (event.detail.empty() ? "" : " (" + event.detail + ")"));
}

/// Just before the program changes a file of the user's, the user does.
void World::raceWith(size_t number, const FakeCall& call) {
  auto& peer = *machines_[number].peer;
  if (racing_ || healing_ || peer.userActing || !options_.faults || !options_.races || peer.disk.isPowerOff()) return;
  if (call.op != FakeOp::Rename && call.op != FakeOp::Unlink) return;
  std::string path = call.op == FakeOp::Rename && call.path.find("/.realize/") != std::string::npos ? call.path2 : call.path;
  const std::string folder = std::string(kSimFolder) + "/";
  if (!path.starts_with(folder) || path.find("/.realize") != std::string::npos || !oneIn(6)) return;
  path = path.substr(folder.size());
  racing_ = true;
  doing(number, [&](Directory& root) {
    auto stat = root.stat(path);
    if (stat.ok() && stat->type != FileStat::Type::File) return;
    count("races");
    say(number, "races for " + path);
    const std::string content = newContent(below(30));
    if (!stat.ok() || oneIn(2)) {
      put(number, root, path, content);
    } else {
      auto file = root.open(path, OpenMode::ReadWrite);
      if (!file.ok() || !(*file)->write(stat->sizeBytes, std::as_bytes(std::span(content))).ok()) return;
      file->reset();
      wrote(number, root, path);
    }
  });
  racing_ = false;
}

}  // namespace realize::test
