// In one household of seventeen users write, change and remove files of patterns, and have files that these ignore: such a file
// stays where it is and is no peer's, until other patterns say otherwise.

#include "librealize/logic/ignore.h"
#include "librealize/peer/folder.h"
#include "tests/sim/world.h"

namespace realize::test {

namespace {

const std::string kPatternFile(logic::kIgnoreFileName);

std::string folderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

bool isPatternFile(const std::string& path) { return path.substr(path.rfind('/') + 1) == kPatternFile; }

}  // namespace

/// As its folder has them now.
logic::IgnoreTree World::patternsAt(Directory& root) {
  logic::IgnoreTree out;
  for (const auto& [path, stat] : walk(root)) {
    if (stat.type != FileStat::Type::File || !isPatternFile(path)) continue;
    if (auto rules = logic::IgnoreRules::parse(contentOf(root, path)); rules.ok()) out.set(folderOf(path), std::move(*rules));
  }
  return out;
}

/// What is in the user's files that the arena may not know.
std::set<Token> World::tokensIgnored() {
  std::set<Token> out;
  for (size_t i = 0; ignoring() && i < machines_.size(); ++i)
    doing(i, [&](Directory& root) {
      const auto patterns = patternsAt(root);
      for (const auto& [path, stat] : walk(root))
        if (stat.type == FileStat::Type::File && patterns.ignored(path, false)) out.merge(tokensAt(root, path));
    });
  return out;
}

void World::ignoreStep(size_t number) {
  switch (below(4)) {
    case 0: return writePatterns(number);
    case 1: {
      std::vector<std::string> found;
      doing(number, [&](Directory& root) {
        for (const auto& [path, stat] : walk(root))
          if (isPatternFile(path)) found.push_back(path);
      });
      if (found.empty()) return writePatterns(number);
      const std::string path = found[below(found.size())];
      say(number, "removes " + path);
      count("patterns removed");
      return doing(number, [&](Directory& root) { removeAll(number, root, path); });
    }
    case 2: case 3: {
      std::string path;
      doing(number, [&](Directory& root) {
        const auto patterns = patternsAt(root);
        for (int i = 0; i < 5 && !patterns.ignored(path, false); ++i) path = newPath(number);
        if (patterns.ignored(path, false)) count("ignored names written");
      });
      const std::string from = oneIn(2) ? "" : pick(number, FileStat::Type::File), content = newContent(someSize());
      say(number, (from.empty() ? "writes " : "moves " + from + " to ") + path);
      return doing(number, [&](Directory& root) {
        if (from.empty()) put(number, root, path, content);
        else move(number, root, from, path);
      });
    }
  }
}

void World::writePatterns(size_t number) {
  static const char* const kPatterns[] = {"a", "/b", "x/b", "c*", "!c", "[de]*", "*.txt", "x/", "y", "/y/", "**/x/d", "*~", ".save.tmp"};
  const std::string folder = pickFolder(number), path = folder.empty() ? kPatternFile : folder + "/" + kPatternFile;
  std::string content = newContent(0), told;
  for (uint64_t n = 1 + below(3); n > 0; --n) {
    const std::string pattern = kPatterns[below(std::size(kPatterns))];
    content += pattern + "\n";
    told += " " + pattern;
  }
  say(number, "has other patterns in " + path + ":" + told);
  count("patterns written");
  doing(number, [&](Directory& root) { put(number, root, path, content); });
}

/// As the status says: what is in the way of a peer's file gets another name, and patterns too large to be read are made smaller.
void World::clearWay(size_t number) {
  auto& peer = *machines_[number].peer;
  if (!ignoring() || !peer.running() || peer.core->core().suspended) return;
  doing(number, [&](Directory& root) {
    for (const auto& [path, stat] : walk(root)) {
      if (!isPatternFile(path) || stat.type != FileStat::Type::File || logic::IgnoreRules::parse(contentOf(root, path)).ok()) continue;
      say(number, "makes " + path + " smaller");
      count("patterns made smaller");
      put(number, root, path, newContent(0));
    }
  });
  peer.core->core().folder->reviewProblems();  // As who asks for the status.
  for (const auto& problem : peer.core->core().store.problems().list(100)) {
    if (problem.kind != "ignored-in-the-way") continue;
    say(number, "moves " + problem.path + " out of the way");
    count("ignored files moved out of the way");
    doing(number, [&](Directory& root) {
      std::string to = problem.path + "-mine";
      while (root.stat(to).ok()) to += "-mine";  // Another user had the same idea.
      (void)root.rename(problem.path, to, RenameKind::NoReplace).ok();
    });
  }
}

/// Why this name may be in the folder, though the tree has no such entry, or has another under it; empty: nothing is said.
bool World::mayStay(size_t number, Directory& root, const std::string& path) {
  if (!ignoring()) return false;
  const auto stat = root.stat(path);
  const bool directory = stat.ok() && stat->type == FileStat::Type::Directory;
  if (patternsAt(root).ignored(path, directory)) return true;
  const auto inside = walk(root, path);
  bool left = false;  // A folder that a peer removed stays for what is ignored in it.
  for (const auto& problem : machines_[number].peer->core->core().store.problems().list(100))
    left = left || (problem.kind == "left-behind" && (path == problem.path || path.starts_with(problem.path + "/")));
  return directory && left && !inside.empty();
}

}  // namespace realize::test
