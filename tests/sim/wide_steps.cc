// What users do more rarely: links that change, folders into each other, bytes in place.

#include <algorithm>

#include "tests/sim/world.h"

namespace realize::test {

namespace {

std::pair<std::string, std::string> parted(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::pair(std::string(), path) : std::pair(path.substr(0, slash), path.substr(slash + 1));
}

std::string joined(const std::string& parent, const std::string& name) { return parent.empty() ? name : parent + "/" + name; }

}  // namespace

void World::wideStep(size_t number) {
  if (oneIn(2)) changeLink(number);
  else moveIntoEachOther(number);
}

/// A link that is new, or has another target.
void World::changeLink(size_t number) {
  const std::string there = pick(number, FileStat::Type::Symlink);
  const std::string path = there.empty() || oneIn(2) ? newPath(number) : there;
  const std::string target = "to/" + std::to_string(below(9)), temp = joined(parted(path).first, ".link.tmp");
  const bool replaces = path == there && oneIn(2);
  say(number, (path == there ? "changes link " : "makes link ") + path);
  count("links made or changed");
  act(number, {[=, this] {
                 doing(number, [&](Directory& root) {
                   if (path == there && !replaces) (void)root.unlink(path).ok();
                   (void)root.makeSymlink(replaces ? temp : path, target).ok();
                 });
               },
               [=, this] {
                 doing(number, [&](Directory& root) {
                   if (replaces && root.stat(temp).ok()) move(number, root, temp, path);
                 });
               }});
}

/// One user moves a folder into another, and a second user that one into the first.
void World::moveIntoEachOther(size_t number) {
  const std::string a = pick(number, FileStat::Type::Directory), b = pick(number, FileStat::Type::Directory);
  const size_t other = (number + 1 + below(machines_.size() - 1)) % machines_.size();
  if (a.empty() || b.empty() || a == b || a.starts_with(b + "/") || b.starts_with(a + "/")) return;
  say(number, "moves " + a + " into " + b + ", and the user of " + name(other) + " that into it");
  bool one = false, two = false;
  doing(number, [&](Directory& root) { one = root.rename(a, joined(b, parted(a).second), RenameKind::NoReplace).ok(); });
  doing(other, [&](Directory& root) { two = root.rename(b, joined(a, parted(b).second), RenameKind::NoReplace).ok(); });
  if (one && two) count("folders moved into each other");
}

/// A page in the middle, in place.
void World::patch(size_t number, Directory& root, const std::string& path, const std::string& content) {
  const auto before = tokensAt(root, path);
  auto file = root.open(path, OpenMode::ReadWrite);
  auto stat = file.ok() ? (*file)->stat() : Result<FileStat>(Error{});
  if (!stat.ok() || !(*file)->write(stat->sizeBytes / 2, std::as_bytes(std::span(content))).ok()) return letGo(number, before);
  file->reset();
  const auto after = tokensAt(root, path);
  for (auto token : before)
    if (!after.contains(token)) letGo(number, {token});
  wrote(number, root, path);
}

}  // namespace realize::test
