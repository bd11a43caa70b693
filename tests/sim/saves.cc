// How programs save, from the files in saves/ (saves/README.md), and users who save like them.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/sim/world.h"

namespace realize::test {

namespace {

struct Step {
  std::string verb, name, to;  ///< names with "%" for the file's
};

struct Saving {
  std::string program;
  std::vector<Step> steps;
};

Saving readSaving(const std::filesystem::path& path) {
  static const char* const kVerbs[] = {"create", "patch", "sync", "move", "remove", "link"};
  Saving out{path.stem().string(), {}};
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.starts_with("# ")) continue;
    Step step;
    std::istringstream words(line);
    words >> step.verb >> step.name >> step.to;
    const bool known = std::find(std::begin(kVerbs), std::end(kVerbs), step.verb) != std::end(kVerbs);
    if (!known || step.name.empty() || (step.verb == "move") == step.to.empty()) throw Broken(path.string() + ": what is '" + line + "'?");
    out.steps.push_back(step);
  }
  return out;
}

/// In the order of their names.
const std::vector<Saving>& savings() {
  static const std::vector<Saving> all = [] {
    std::vector<Saving> out;
    for (const auto& item : std::filesystem::directory_iterator(REALIZE_SAVES))
      if (item.path().extension() == ".txt") out.push_back(readSaving(item.path()));
    std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.program < b.program; });
    return out;
  }();
  return all;
}

constexpr char kLink[] = "user@host.1:2";
constexpr char kRandom[] = "XXXXXX";

std::string named(const std::string& path, std::string pattern, const std::string& random) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  if (const size_t at = pattern.find(kRandom); at != std::string::npos) pattern.replace(at, sizeof(kRandom) - 1, random);
  if (const size_t at = pattern.find('%'); at != std::string::npos) pattern.replace(at, 1, path.substr(parent.size()));
  return parent + pattern;
}

}  // namespace

/// The program took what he has open into its cache, or away: he replaces it all the same.
bool World::tookAway(size_t number, Directory& root, const std::string& path, uint64_t inode) {
  const auto away = machines_[number].takenAway.find(std::string(kSimFolder) + "/" + path);
  return away != machines_[number].takenAway.end() && away->second.second == inode && !root.stat(path).ok();
}

void World::saveLikeAProgram(size_t number) {
  const std::string path = pick(number, FileStat::Type::File);
  if (path.empty()) return;
  const Saving& saving = savings()[below(savings().size())];
  const std::string random = std::to_string(100'000 + below(900'000));
  say(number, "saves " + path + " like " + saving.program);
  count("saved like " + saving.program);
  uint64_t inode = 0;
  std::set<Token> seen;
  doing(number, [&](Directory& root) {
    if (const auto stat = root.stat(path); stat.ok()) inode = stat->inode;
    seen = tokensAt(root, path);
  });
  Steps steps;
  for (const auto& [verb, name, other] : saving.steps) {
    const std::string what = named(path, name, random), to = named(path, other, random);
    const std::string content = verb == "create" ? newContent(someSize()) : verb == "patch" ? newContent(20) : "";
    steps.push_back([=, this, verb = verb] {
      doing(number, [&](Directory& root) {
        const bool away = tookAway(number, root, path, inode);
        if (verb == "create") fill(number, root, what, content);
        if (verb == "patch") patch(number, root, what, content);
        if (verb == "sync") syncFile(number, root, what);
        if (verb == "move" && root.stat(what).ok()) move(number, root, what, to);
        if (verb == "remove") removeAll(number, root, what);
        if (verb == "link") (void)root.makeSymlink(what, kLink).ok();
        if (away && root.stat(path).ok()) letGo(number, seen);
      });
    });
  }
  if (oneIn(2)) steps.push_back([=, this] { doing(number, [&](Directory& root) { syncFile(number, root, path); }); });
  act(number, std::move(steps));
}

/// In the mount. What is there already is opened by what may take its time, and written then.
void World::saveMounted(size_t number) {
  const std::string path = pickMounted(number, EntryKind::File);
  if (path.empty()) return;
  const Saving& saving = savings()[below(savings().size())];
  const std::string random = std::to_string(100'000 + below(900'000));
  say(number, "mount: saves " + path + " like " + saving.program);
  count("mount saves");
  Steps steps;
  for (const auto& [verb, name, other] : saving.steps) {
    const std::string what = named(path, name, random), to = named(path, other, random);
    const std::string content = verb == "patch" ? newContent(20) : "";
    if (verb == "create") {
      for (auto& step : createSteps(number, what, false, false)) steps.push_back(std::move(step));
      continue;
    }
    steps.push_back([=, this, verb = verb] {
      if (verb == "patch") writeMounted(number, what, Writing::Over, content, 0, false);
      if (verb == "sync") syncMounted(number, what);
      if (verb == "move") renameMounted(number, what, to, RenameFlag::Replace);
      if (verb == "remove") removeMounted(number, what);
      if (verb == "link") makeMounted(number, what, kLink);
    });
  }
  actMounted(number, std::move(steps));
}

}  // namespace realize::test
