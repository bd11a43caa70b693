// One household in thirteen has users who give files a second name, and then edit, move, replace and remove one of the two.

#include <algorithm>

#include "tests/sim/world.h"

namespace realize::test {

namespace {
constexpr int64_t kReadWithinNs = 5'000'000'000;  ///< what happens in a folder, by the program
}

/// How many names its user knows of each file that has several. One that the program keeps aside, or that the disk did not let it remove,
/// is none of them.
std::map<uint64_t, size_t> World::namesOf(Directory& root) {
  std::map<uint64_t, size_t> names;
  for (const auto& [path, stat] : walk(root))
    if (stat.type == FileStat::Type::File && stat.links > 1) ++names[stat.inode];
  return names;
}

/// A name whose file has another one, too.
std::string World::pickLinked(size_t number) {
  std::vector<std::string> found;
  doing(number, [&](Directory& root) {
    auto names = namesOf(root);
    for (const auto& [path, stat] : walk(root))
      if (stat.type == FileStat::Type::File && names[stat.inode] > 1) found.push_back(path);
  });
  return found.empty() ? "" : found[below(found.size())];
}

/// Under this one of its names; of what is done in an ignored folder no event tells, whatever other name the file has.
void World::noteChanged(size_t number, Directory& root, const std::string& path) {
  auto& machine = machines_[number];
  machine.changedAs[path] = queue_.nowNs();
  const auto stat = root.stat(path);
  if (ignoring() && stat.ok() && stat->links > 1 && patternsAt(root).ignored(path, false)) machine.changedUnseen = true;
}

/// What goes when this name goes, or leads to another file: nothing of a file that has a second name, unless on another machine
/// somebody takes away that one. That may not be on the disk yet: who takes away the one that he synced has synced nothing of it.
std::set<Token> World::tokensGoing(size_t number, Directory& root, const std::string& path) {
  const auto tokens = tokensAt(root, path);
  const auto stat = root.stat(path);
  if (!stat.ok() || stat->type != FileStat::Type::File || stat->links <= 1 || namesOf(root)[stat->inode] <= 1) return tokens;
  auto& machine = machines_[number];
  machine.unsynced.insert(tokens.begin(), tokens.end());
  machine.unnamed.insert(stat->inode);
  // No event names the other, and what this one was cannot be asked any more.
  const auto changed = machine.changedAs.find(path);
  if (changed != machine.changedAs.end() && queue_.nowNs() - changed->second < kReadWithinNs) machine.changedUnseen = true;
  std::set<Token> going;
  for (const Token token : tokens) {
    auto& gone = linkGone_[token];
    if (std::any_of(gone.begin(), gone.end(), [&](const auto& one) { return one.first != path && one.second != number; })) going.insert(token);
    gone[path] = number;
  }
  return going;
}

void World::makeLink(size_t number) {
  const std::string path = pick(number, FileStat::Type::File), to = newPath(number);
  if (path.empty()) return;
  const bool only = oneIn(4);
  say(number, "links " + path + " as " + to + (only ? " and removes its first name" : ""));
  act(number, {[=, this] {
                 doing(number, [&](Directory& root) {
                   if (!root.stat(path).ok() || root.stat(to).ok()) return;
                   const std::string folder = std::string(kSimFolder) + "/";
                   machines_[number].peer->disk.hardLink(folder + path, folder + to);
                   count("hard links made");
                 });
               },
               [=, this] {
                 doing(number, [&](Directory& root) {
                   if (only && root.stat(to).ok()) removeAll(number, root, path);
                 });
               }});
}

void World::linkStep(size_t number) {
  const std::string path = oneIn(3) ? "" : pickLinked(number);
  if (path.empty()) return makeLink(number);
  switch (below(5)) {
    case 0: {
      const std::string content = newContent(someSize());
      say(number, "rewrites " + path + ", which has another name");
      count("edits through one of two names");
      doing(number, [&](Directory& root) { put(number, root, path, content); });
      break;
    }
    case 1: {
      say(number, "changes " + path + " in place, which has another name");
      count("edits through one of two names");
      const std::string content = newContent(20);
      doing(number, [&](Directory& root) { patch(number, root, path, content); });
      break;
    }
    case 2:
      say(number, "removes " + path + ", which has another name");
      count("one of two names removed");
      doing(number, [&](Directory& root) { removeAll(number, root, path); });
      break;
    case 3: {  // Replaced as an editor does it, or by the other name, which does nothing.
      const std::string from = pick(number, FileStat::Type::File);
      if (from == path) return;
      say(number, "moves " + from + " over " + path + ", which has another name");
      count("one of two names replaced");
      doing(number, [&](Directory& root) { move(number, root, from, path); });
      break;
    }
    case 4: {
      const uint32_t mode = oneIn(2) ? 0600 : 0640;
      say(number, "chmods " + path + ", which has another name");
      count("modes set through one of two names");
      doing(number, [&](Directory& root) {
        if (root.setMode(path, mode).ok()) noteChanged(number, root, path);
      });
      break;
    }
  }
}

}  // namespace realize::test
