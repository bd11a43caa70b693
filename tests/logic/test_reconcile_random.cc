// Folders that change at random: whatever happens, the steps lead to what there is.

#include <doctest/doctest.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <map>
#include <random>

#include "tests/support/folder_world.h"

using namespace realize;
using namespace realize::logic;

namespace {

class Mutator {
 public:
  Mutator(World& world, uint32_t seed, bool gentle) : world_(world), random_(seed), gentle_(gentle), removes_(seed % 2) {}

  void mutate(int operations) {
    for (int i = 0; i < operations; ++i) step();
  }
  size_t pick(size_t n) { return random_() % n; }

 private:
  struct Paths { std::vector<std::string> directories, files, all; };
  Paths paths() {
    Paths out;
    world_.folder.walk([&](const std::string& path, const Folder::Ref& object) {
      bool directory = object->stat.type == FileStat::Type::Directory;
      if (directory) out.directories.push_back(path);
      if (path.empty()) return;
      if (!directory) out.files.push_back(path);
      out.all.push_back(path);
    });
    return out;
  }
  std::string name() {
    // Gentle: never a name that was used before, so that no entry can be taken for a replaced one.
    // (Nor both swaps and removals, or swaps with new files: those look like one file renamed over another.)
    if (gentle_) return "n" + std::to_string(++names_) + "-" + std::to_string(random_());
    return std::string(1, char('a' + pick(5)));
  }
  std::string freePath(const Paths& p, const std::string& notBelow = "\n") {
    for (int i = 0; i < 20; ++i) {
      const std::string& directory = p.directories[pick(p.directories.size())];
      if (directory == notBelow || directory.rfind(notBelow + "/", 0) == 0) continue;
      std::string path = directory.empty() ? name() : directory + "/" + name();
      if (!world_.folder.at(path)) return path;
    }
    return "";
  }
  bool known(const std::string& path) {
    auto object = world_.folder.at(path);
    return object && !world_.table.byObject(object->stat.device, object->stat.inode).empty();
  }
  bool below(const std::string& a, const std::string& b) { return a == b || a.rfind(b + "/", 0) == 0; }

  void step() {
    Folder& folder = world_.folder;
    Paths p = paths();
    auto any = [&] { return p.all.empty() ? std::string() : p.all[pick(p.all.size())]; };
    auto anyFile = [&] { return p.files.empty() ? std::string() : p.files[pick(p.files.size())]; };
    std::string a = any(), b = any(), f = anyFile(), g = anyFile();
    switch (pick(gentle_ ? 8 : 14)) {
      case 0: if (auto to = freePath(p); !to.empty()) folder.file(to, pick(100)); break;
      case 1: if (auto to = freePath(p); !to.empty()) folder.directory(to); break;
      case 2: if (!f.empty()) folder.edit(f); break;
      case 3: if (!a.empty()) folder.chmod(a, 0600 + uint32_t(pick(64))); break;
      case 4:
      case 5: if (auto to = freePath(p, a); !a.empty() && !to.empty()) folder.rename(a, to); break;
      case 6: if (!(gentle_ && (removes_ || !known(a) || !known(b))) && !a.empty() && !below(a, b) && !below(b, a)) folder.swap(a, b); break;
      case 7: if (!(gentle_ && !removes_) && !a.empty() && pick(2)) folder.remove(a); break;
      case 8: if (!f.empty() && !g.empty() && f != g) folder.rename(f, g); break;
      case 9: if (!f.empty()) { folder.remove(f); folder.directory(f); } break;
      case 10: if (!a.empty()) { folder.remove(a); if (pick(2)) folder.symlink(a); else folder.file(a, pick(9)); } break;
      case 11: save(f); break;
      case 12: if (auto to = freePath(p); !f.empty() && !to.empty() && pick(3) == 0) folder.link(f, to); break;
      case 13: // A directory and one in it trade places.
        if (auto [above, name] = Folder::split(a); !above.empty() && folder.at(a)->stat.type == FileStat::Type::Directory) {
          std::string t = freePath(p, above);
          if (t.empty()) break;
          folder.rename(a, t);
          folder.rename(above, t + "/" + name + "x");
          folder.rename(t, above);
        }
        break;
    }
  }
  void save(const std::string& f) {
    if (f.empty() || world_.folder.at(f)->stat.type != FileStat::Type::File) return;
    auto [directory, name] = Folder::split(f);
    for (auto operation : kSaves[pick(std::size(kSaves))].operations) {
      for (size_t i = 1; i < operation.size(); ++i) {
        size_t at = operation[i].find('f');
        if (at != std::string::npos && operation[i][0] != 'w' && operation[i][0] != 'l' && operation[i][0] != '.')
          operation[i].replace(at, 1, name);
        if (!directory.empty()) operation[i] = directory + "/" + operation[i];
      }
      perform(world_.folder, operation);
    }
  }

  World& world_;
  std::mt19937 random_;
  bool gentle_, removes_;
  int names_ = 0;
};

std::map<uint64_t, NodeId> nodesByInode(World& world) {
  std::map<uint64_t, NodeId> out;
  for (auto& [node, row] : world.table.rows) out[row.inode] = node;
  return out;
}

/// Folders that change, and are known as they are after each look. `looked`: with what was known before.
void changeAndLook(bool gentle, const std::function<void(World&, const std::map<uint64_t, NodeId>&)>& looked) {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    World world;
    Mutator mutator(world, seed, gentle);
    mutator.mutate(20);
    world.look();
    world.checkSame();
    for (int round = 0; round < 5; ++round) {
      CAPTURE(round);
      const auto before = nodesByInode(world);
      mutator.mutate(int(1 + mutator.pick(12)));
      world.look(mutator.pick(2) == 0);
      world.checkSame();
      looked(world, before);
    }
  }
}

}  // namespace

TEST_CASE("whatever happens to a folder, the steps lead to what it is") {
  changeAndLook(false, [](World&, const auto&) {});
}

TEST_CASE("what is only renamed keeps its entry") {
  changeAndLook(true, [](World& world, const auto& before) {
    for (auto [inode, node] : nodesByInode(world))
      if (const auto known = before.find(inode); known != before.end()) CHECK(known->second == node);
  });
}

TEST_CASE("whatever happens, nothing below an unreadable or absent directory is removed") {
  size_t hidden = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    World world;
    Mutator mutator(world, seed, false);
    mutator.mutate(25);
    world.look();
    std::set<NodeId> closed;
    mutator.mutate(8);
    std::vector<std::string> closedPaths;
    world.folder.walk([&](const std::string& path, const Folder::Ref& object) {
      if (path.empty() || object->stat.type != FileStat::Type::Directory || mutator.pick(3)) return;
      // What was moved below another unreadable one is seen by nobody.
      for (auto& above : closedPaths)
        if (path.rfind(above + "/", 0) == 0) return;
      closedPaths.push_back(path);
      for (auto& [node, row] : world.table.rows)
        if (row.inode == object->stat.inode && row.birthNs == object->stat.birthNs) closed.insert(node);
      object->unreadable = true;
    });
    hidden += closed.size();
    std::map<NodeId, KnownRow> before = world.table.rows;

    Plan plan = world.look(mutator.pick(2) == 0);

    std::set<NodeId> removed;
    for (NodeId node : plan.removed()) removed.insert(node);
    for (NodeId node : removed) {
      CHECK_FALSE(closed.count(node));
      // Objects that were seen elsewhere and replaced another file there are gone for sure.
      if (std::any_of(plan.steps.begin(), plan.steps.end(), [&](auto& s) { return s.source == node; })) continue;
      NodeId up = before[node].parentNode;
      while (removed.count(up)) up = before[up].parentNode;
      CHECK_FALSE(closed.count(up));
    }
    world.folder.walk([](auto&, const Folder::Ref& object) { object->unreadable = false; });
    world.look(true);
    world.checkSame();
  }
  CHECK(hidden > 100);
}

TEST_CASE("steps from part of what should be listed can be carried out, and a scan repairs the rest") {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    World world;
    Mutator mutator(world, seed, false);
    mutator.mutate(25);
    world.look();
    mutator.mutate(10);
    ReconcileInput input;
    input.root = world.folder.root->stat;
    input.askMore = false;
    world.folder.list("", true, input.listings);
    // Some are missing, and some were read before and others after more has happened.
    std::erase_if(input.listings, [&](auto&) { return mutator.pick(3) == 0; });
    mutator.mutate(2);
    for (Listing& listing : input.listings) {
      if (mutator.pick(3)) continue;
      std::vector<Listing> again;
      world.folder.list(listing.path, false, again);
      listing = again[0];
    }

    Plan plan = reconcile(input, world.table);

    CHECK(plan.alsoList.empty());
    world.table.apply(plan);
    world.look(true);
    world.checkSame();
  }
}

TEST_CASE("100,000 new files in 1,000 directories take well under a second") {
  ReconcileInput input;
  uint64_t inode = 10;
  auto stat = [&](FileStat::Type type) {
    FileStat s;
    s.type = type;
    s.device = 1;
    s.inode = ++inode;
    s.birthNs = int64_t(inode);
    s.links = 1;
    return s;
  };
  input.root = stat(FileStat::Type::Directory);
  input.listings.resize(1001);
  input.listings[0].self = input.root;
  for (int d = 1; d <= 1000; ++d) {
    Listing& listing = input.listings[size_t(d)];
    listing.path = "directory-" + std::to_string(d);
    listing.self = stat(FileStat::Type::Directory);
    input.listings[0].items.push_back({listing.path, listing.self, std::nullopt});
    for (int f = 0; f < 100; ++f)
      listing.items.push_back({"file-" + std::to_string(f) + ".txt", stat(FileStat::Type::File), std::nullopt});
  }
  Table table;

  std::clock_t start = std::clock();
  Plan plan = reconcile(input, table);
  double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;

  MESSAGE("classified in " << seconds << " s of CPU");
  CHECK(plan.steps.size() == 101'000);
  CHECK(seconds < 2);  // 0.2 in an optimised build; sanitizers and a busy machine have their share
}
