#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <random>

#include "librealize/logic/reconcile.h"

using namespace realize;
using namespace realize::logic;
using Kind = Step::Kind;

namespace {

/// A folder in memory: objects with inode numbers, names that lead to them.
class Folder {
 public:
  struct Object {
    FileStat stat;
    std::map<std::string, std::shared_ptr<Object>> names;  ///< of a directory
    bool unreadable = false;
    std::vector<std::string> ignored;
  };
  using Ref = std::shared_ptr<Object>;

  Folder() { root = make(FileStat::Type::Directory); }

  Ref make(FileStat::Type type) {
    auto object = std::make_shared<Object>();
    object->stat.type = type;
    object->stat.device = 1;
    object->stat.inode = ++lastInode_;
    object->stat.birthNs = ++now_;
    object->stat.links = 1;
    object->stat.mode = type == FileStat::Type::Directory ? 0755 : 0644;
    touch(object);
    return object;
  }
  void touch(const Ref& object) { object->stat.mtimeNs = object->stat.ctimeNs = ++now_; }

  Ref at(const std::string& path) {
    Ref object = root;
    for (size_t i = 0; i < path.size();) {
      size_t end = std::min(path.find('/', i), path.size());
      auto it = object->names.find(path.substr(i, end - i));
      if (it == object->names.end()) return nullptr;
      object = it->second;
      i = end + 1;
    }
    return object;
  }
  static std::pair<std::string, std::string> split(const std::string& path) {
    size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {"", path};
    return {path.substr(0, slash), path.substr(slash + 1)};
  }
  Ref& slot(const std::string& path) {
    auto [directory, name] = split(path);
    dirty(at(directory));
    return at(directory)->names[name];
  }
  void dirty(const Ref& directory) {
    if (std::find(dirty_.begin(), dirty_.end(), directory) == dirty_.end()) dirty_.push_back(directory);
  }

  void file(const std::string& path, uint64_t size = 10) {
    Ref made = make(FileStat::Type::File);
    made->stat.sizeBytes = size;
    slot(path) = made;
  }
  void directory(const std::string& path) { slot(path) = make(FileStat::Type::Directory); }
  void symlink(const std::string& path) { slot(path) = make(FileStat::Type::Symlink); }
  /// A change of an object shows under each of its names.
  void dirtyAround(const Ref& object) {
    walk([&](const std::string& path, const Ref& at) {
      if (at == object && !path.empty()) dirty(this->at(split(path).first));
    });
  }
  void edit(const std::string& path) {
    dirtyAround(at(path));
    at(path)->stat.sizeBytes += 1;
    touch(at(path));
  }
  void chmod(const std::string& path, uint32_t mode) {
    dirtyAround(at(path));
    at(path)->stat.mode = mode;
    at(path)->stat.ctimeNs = ++now_;
  }
  void remove(const std::string& path) {
    auto [directory, name] = split(path);
    dirty(at(directory));
    --at(path)->stat.links;
    at(directory)->names.erase(name);
  }
  void rename(const std::string& from, const std::string& to) {
    Ref object = at(from);
    auto [directory, name] = split(from);
    dirty(at(directory));
    at(directory)->names.erase(name);
    slot(to) = object;
    dirtyAround(object);
    object->stat.ctimeNs = ++now_;
  }
  void swap(const std::string& a, const std::string& b) { std::swap(slot(a), slot(b)); }
  void link(const std::string& from, const std::string& to) {
    ++at(from)->stat.links;
    slot(to) = at(from);
  }

  /// All directories under `path`, or only the one.
  void list(const std::string& path, bool below, std::vector<Listing>& out) {
    Ref object = at(path);
    Listing listing;
    listing.path = path;
    if (!object || object->stat.type != FileStat::Type::Directory) {
      listing.state = Listing::State::Gone;
      out.push_back(listing);
      return;
    }
    listing.self = object->stat;
    listing.ignored = object->ignored;
    if (object->unreadable) {
      listing.state = Listing::State::Unreadable;
    } else {
      for (auto& [name, child] : object->names)
        if (std::find(object->ignored.begin(), object->ignored.end(), name) == object->ignored.end())
          listing.items.push_back({name, child->stat, std::nullopt});
    }
    out.push_back(listing);
    if (!below) return;
    for (auto& item : out.back().items.empty() ? std::vector<DirectoryItem>() : std::vector<DirectoryItem>(out.back().items))
      if (item.stat.type == FileStat::Type::Directory)
        list(path.empty() ? item.name : path + "/" + item.name, true, out);
  }
  std::optional<std::string> pathOf(const Ref& wanted) {
    std::optional<std::string> found;
    walk([&](const std::string& path, const Ref& object) {
      if (object == wanted) found = path;
    });
    return found;
  }
  void walk(const std::function<void(const std::string&, const Ref&)>& visit) { walk("", root, visit); }
  void walk(const std::string& path, const Ref& object,
            const std::function<void(const std::string&, const Ref&)>& visit) {
    visit(path, object);
    for (auto& [name, child] : object->names) walk(path.empty() ? name : path + "/" + name, child, visit);
  }

  Ref root;
  std::vector<Ref> dirty_;

 private:
  uint64_t lastInode_ = 100;
  int64_t now_ = 1000;
};

/// The disk table, and the tree's side of the steps: refuses what the tree would refuse.
class Table : public KnownDisk {
 public:
  std::optional<KnownRow> byNode(NodeId node) override {
    auto it = rows.find(node);
    return it == rows.end() ? std::nullopt : std::optional(it->second);
  }
  std::optional<KnownRow> byName(NodeId parent, const std::string& name) override {
    auto it = names.find({parent, name});
    return it == names.end() ? std::nullopt : byNode(it->second);
  }
  std::vector<KnownRow> byObject(uint64_t device, uint64_t inode) override {
    std::vector<KnownRow> out;
    auto [from, to] = objects.equal_range({device, inode});
    for (; from != to; ++from) out.push_back(rows.at(from->second));
    return out;
  }
  std::vector<KnownRow> childrenOf(NodeId parent) override {
    std::vector<KnownRow> out;
    for (auto it = names.lower_bound({parent, ""}); it != names.end() && it->first.first == parent; ++it)
      out.push_back(rows.at(it->second));
    return out;
  }

  void put(const KnownRow& row) {
    erase(row.node);
    REQUIRE(names.emplace(std::pair(row.parentNode, row.name), row.node).second);
    objects.emplace(std::pair(row.device, row.inode), row.node);
    rows[row.node] = row;
  }
  void erase(NodeId node) {
    auto it = rows.find(node);
    if (it == rows.end()) return;
    names.erase({it->second.parentNode, it->second.name});
    auto [from, to] = objects.equal_range({it->second.device, it->second.inode});
    for (; from != to; ++from)
      if (from->second == node) {
        objects.erase(from);
        break;
      }
    rows.erase(it);
  }
  static void setStat(KnownRow& row, const FileStat& stat) {
    row.device = stat.device;
    row.inode = stat.inode;
    row.birthNs = stat.birthNs;
    row.sizeBytes = stat.sizeBytes;
    row.mtimeNs = stat.mtimeNs;
    row.ctimeNs = stat.ctimeNs;
    row.mode = stat.mode;
    row.hasBlob = row.kind == EntryKind::File;
  }

  void apply(const Plan& plan) {
    std::vector<NodeId> made(plan.steps.size(), 0);
    for (size_t i = 0; i < plan.steps.size(); ++i) applyOne(plan.steps[i], made, i);
    CHECK(parked.empty());
  }

  std::map<NodeId, KnownRow> rows;
  std::map<NodeId, KnownRow> parked;
  std::map<std::pair<NodeId, std::string>, NodeId> names;
  std::multimap<std::pair<uint64_t, uint64_t>, NodeId> objects;

 private:
  void applyOne(const Step& step, std::vector<NodeId>& made, size_t index) {
    NodeId parent = step.parentStep == kNoStep ? step.parent : made[step.parentStep];
    switch (step.kind) {
      case Kind::TypeChanged:
        REQUIRE(byName(parent, step.name)->node == step.node);
        REQUIRE(childrenOf(step.node).empty());
        erase(step.node);
        [[fallthrough]];
      case Kind::New: {
        KnownRow row;
        row.node = made[index] = ++lastNode_;
        row.parentNode = parent;
        row.name = step.name;
        row.kind = step.entryKind;
        setStat(row, step.stat);
        checkParent(parent);
        put(row);
        break;
      }
      case Kind::Park:
        parked[step.node] = rows.at(step.node);
        erase(step.node);
        break;
      case Kind::Move: {
        KnownRow row = parked.count(step.node) ? parked.at(step.node) : rows.at(step.node);
        CHECK(row.parentNode == step.fromParent);
        CHECK(row.name == step.fromName);
        parked.erase(step.node);
        for (NodeId up = parent; up != kRootNode; up = rows.at(up).parentNode) REQUIRE(up != step.node);
        REQUIRE_FALSE(byName(parent, step.name).has_value());
        checkParent(parent);
        row.parentNode = parent;
        row.name = step.name;
        put(row);
        break;
      }
      case Kind::Replaced:
      case Kind::Content:
      case Kind::Attributes: {
        KnownRow row = rows.at(step.node);
        setStat(row, step.stat);
        put(row);
        break;
      }
      case Kind::Vanished:
        REQUIRE(rows.count(step.node));
        REQUIRE(childrenOf(step.node).empty());
        erase(step.node);
        break;
    }
  }
  void checkParent(NodeId parent) {
    bool parentIsThere = parent == kRootNode || rows.count(parent) || parked.count(parent);
    REQUIRE(parentIsThere);
  }
  NodeId lastNode_ = 1;
};

/// A folder, what is known of it, and one look after another.
struct World {
  Folder folder;
  Table table;

  World() {
    KnownRow root;
    root.node = kRootNode;
    root.kind = EntryKind::Directory;
    Table::setStat(root, folder.root->stat);
    table.rows[kRootNode] = root;
  }

  Plan plan(bool everything, std::set<NodeId> accepted = {}) {
    std::vector<std::string> paths{""};
    if (!everything) {
      paths.clear();
      for (auto& object : folder.dirty_)
        if (auto path = folder.pathOf(object)) paths.push_back(*path);
    }
    return this->plan(paths, everything, accepted);
  }
  Plan plan(const std::vector<std::string>& paths, bool below, std::set<NodeId> accepted = {}) {
    folder.dirty_.clear();
    ReconcileInput input;
    input.root = folder.root->stat;
    input.acceptedMounts = accepted;
    for (auto& path : paths) folder.list(path, below, input.listings);
    for (int round = 0;; ++round) {
      REQUIRE(round < 20);
      input.askMore = round < 10;
      Plan plan = reconcile(input, table);
      if (plan.alsoList.empty()) return plan;
      CHECK(plan.steps.empty());
      for (auto& path : plan.alsoList) {
        std::erase_if(input.listings, [&](auto& l) { return l.path == path; });
        folder.list(path, false, input.listings);
      }
    }
  }
  Plan look(bool everything = true) {
    Plan plan = this->plan(everything);
    table.apply(plan);
    return plan;
  }
  NodeId node(const std::string& path) {
    NodeId node = kRootNode;
    for (size_t i = 0; i < path.size();) {
      size_t end = std::min(path.find('/', i), path.size());
      auto row = table.byName(node, path.substr(i, end - i));
      if (!row) return 0;
      node = row->node;
      i = end + 1;
    }
    return node;
  }
  /// Table and folder are the same.
  void checkSame() {
    size_t seen = 0;
    folder.walk([&](const std::string& path, const Folder::Ref& object) {
      ++seen;
      if (path.empty()) return;
      INFO(path);
      auto row = table.byNode(node(path));
      REQUIRE(row.has_value());
      CHECK(row->kind == *entryKindOf(object->stat.type));
      CHECK(row->inode == object->stat.inode);
      CHECK(row->birthNs == object->stat.birthNs);
      CHECK(row->mode == object->stat.mode);
      if (row->kind == EntryKind::Directory) return;
      CHECK(row->sizeBytes == object->stat.sizeBytes);
      CHECK(row->mtimeNs == object->stat.mtimeNs);
      CHECK(row->ctimeNs == object->stat.ctimeNs);
    });
    CHECK(seen == table.rows.size());
  }
};

size_t count(const Plan& plan, Kind kind) {
  return size_t(std::count_if(plan.steps.begin(), plan.steps.end(), [&](auto& s) { return s.kind == kind; }));
}
size_t count(const Plan& plan, Note::Kind kind) {
  return size_t(std::count_if(plan.notes.begin(), plan.notes.end(), [&](auto& n) { return n.kind == kind; }));
}

World worldWith(std::initializer_list<const char*> paths) {
  World world;
  for (std::string path : paths) {
    if (path.back() == '/') world.folder.directory(path.substr(0, path.size() - 1));
    else world.folder.file(path);
  }
  world.look();
  world.checkSame();
  return world;
}

}  // namespace

TEST_CASE("a first scan makes everything, directories before what is in them") {
  World world = worldWith({"a/", "a/b/", "a/b/f", "g"});

  CHECK(world.table.rows.size() == 5);
  CHECK(world.look().steps.empty());
}

TEST_CASE("an edit in place is content to be hashed, a chmod only attributes") {
  World world = worldWith({"f", "g", "d/"});
  world.folder.edit("f");
  world.folder.chmod("g", 0600);
  world.folder.chmod("d", 0700);

  Plan plan = world.look(false);

  CHECK(plan.steps.size() == 3);
  CHECK(count(plan, Kind::Content) == 1);
  CHECK(count(plan, Kind::Attributes) == 2);
  world.checkSame();
}

TEST_CASE("a file whose ctime alone moved is to be verified") {
  World world = worldWith({"f"});
  world.folder.chmod("f", 0644);

  Plan plan = world.look();

  REQUIRE(plan.steps.size() == 1);
  CHECK(plan.steps[0].verify);
}

TEST_CASE("a file that was never hashed is hashed though nothing changed") {
  World world = worldWith({"f"});
  world.table.rows[world.node("f")].hasBlob = false;

  CHECK(count(world.look(), Kind::Content) == 1);
}

TEST_CASE("a renamed directory is one step whatever is below it") {
  World world = worldWith({"a/", "a/b/", "a/b/f", "a/g", "z/"});
  NodeId a = world.node("a"), f = world.node("a/b/f");
  world.folder.rename("a", "z/c");

  SUBCASE("by a scan") {
    Plan plan = world.look(true);
    CHECK(plan.steps.size() == 1);
  }
  SUBCASE("by its two dirty directories") {
    Plan plan = world.look(false);
    CHECK(plan.steps.size() == 1);
  }
  CHECK(world.node("z/c") == a);
  CHECK(world.node("z/c/b/f") == f);
  world.checkSame();
}

TEST_CASE("what went into a directory before that was renamed is moved, whatever has its old name now") {
  World world = worldWith({"x/", "x/z/", "y"});
  NodeId x = world.node("x"), y = world.node("y");
  std::string into = "x";
  SUBCASE("in itself") {}
  SUBCASE("in one below") { into = "x/z"; }
  world.folder.rename("y", into + "/y");
  world.folder.rename("x", "a");
  SUBCASE("nothing") {}
  SUBCASE("another directory") { world.folder.directory("x"); }

  Plan plan = world.plan({"", into}, false);

  CHECK(count(plan, Kind::Vanished) == 0);
  world.table.apply(plan);
  CHECK(world.node("a") == x);
  CHECK(world.node("a" + into.substr(1) + "/y") == y);
}

TEST_CASE("two names that were swapped keep their entries") {
  World world = worldWith({"a", "b", "d/", "e/", "d/x", "e/y"});
  NodeId a = world.node("a"), d = world.node("d");
  world.folder.swap("a", "b");
  world.folder.swap("d", "e");

  Plan plan = world.look(false);

  CHECK(count(plan, Kind::Move) == 4);
  CHECK(count(plan, Kind::Park) == 2);
  CHECK(world.node("b") == a);
  CHECK(world.node("e") == d);
  world.checkSame();
}

TEST_CASE("a rotation into a free name needs no parking") {
  World world = worldWith({"a", "b", "c"});
  NodeId a = world.node("a"), c = world.node("c");
  world.folder.rename("c", "d");
  world.folder.rename("b", "c");
  world.folder.rename("a", "b");

  Plan plan = world.look(false);

  CHECK(plan.steps.size() == 6);  // three moves, three times of ctime
  CHECK(count(plan, Kind::Move) == 3);
  CHECK(world.node("b") == a);
  CHECK(world.node("d") == c);
  world.checkSame();
}

TEST_CASE("a directory and the one in it trade places") {
  World world = worldWith({"a/", "a/b/", "a/b/f", "a/g"});
  NodeId a = world.node("a"), b = world.node("a/b");
  world.folder.rename("a/b", "t");
  world.folder.rename("a", "t/b");
  world.folder.rename("t", "a");

  world.look(false);

  CHECK(world.node("a") == b);
  CHECK(world.node("a/b") == a);
  world.checkSame();
}

TEST_CASE("a directory that is unwrapped survives its removed parent") {
  World world = worldWith({"d/", "d/d/", "d/d/f", "d/old"});
  NodeId inner = world.node("d/d"), f = world.node("d/d/f");
  world.folder.rename("d/d", "t");
  world.folder.remove("d");
  world.folder.rename("t", "d");

  world.look(false);

  CHECK(world.node("d") == inner);
  CHECK(world.node("d/f") == f);
  world.checkSame();
}

TEST_CASE("a directory is wrapped into a new one of its own name") {
  World world = worldWith({"d/", "d/f"});
  NodeId d = world.node("d");
  world.folder.rename("d", "t");
  world.folder.directory("d");
  world.folder.rename("t", "d/d");

  world.look(false);

  CHECK(world.node("d/d") == d);
  world.checkSame();
}

namespace {

/// What editors do to save `f`, as traced. Between looks or all within one.
struct Save {
  const char* editor;
  std::vector<std::vector<std::string>> operations;
};
const Save kSaves[] = {
    {"vim (backup by renaming)", {{"rename", "f", "f~"}, {"create", "f"}, {"remove", "f~"}}},
    {"vim with 4913", {{"create", "4913"}, {"remove", "4913"}, {"rename", "f", "f~"}, {"create", "f"}, {"remove", "f~"}}},
    {"vim that keeps its backup", {{"rename", "f", "f~"}, {"create", "f"}}},
    {"emacs", {{"create", "#f#"}, {"rename", "f", "f~"}, {"create", "f"}, {"remove", "#f#"}}},
    {"gedit, kate, sed -i", {{"create", ".goutputstream-X"}, {"rename", ".goutputstream-X", "f"}}},
    {"LibreOffice", {{"create", ".~lock.f#"}, {"remove", ".~lock.f#"}, {"create", ".~lock.f#"}, {"create", "lu1.tmp"},
                     {"rename", "lu1.tmp", "f"}, {"remove", ".~lock.f#"}}},
    {"nano", {{"edit", "f"}}},
    {"Microsoft Word over SMB", {{"create", "w1.tmp"}, {"rename", "f", "w2.tmp"}, {"rename", "w1.tmp", "f"}, {"remove", "w2.tmp"}}},
};

void perform(Folder& folder, const std::vector<std::string>& operation) {
  if (operation[0] == "rename") folder.rename(operation[1], operation[2]);
  else if (operation[0] == "create") folder.file(operation[1], 77);
  else if (operation[0] == "remove") folder.remove(operation[1]);
  else folder.edit(operation[1]);
}

}  // namespace

TEST_CASE("an editor's save is an edit of the entry") {
  for (const Save& save : kSaves) {
    CAPTURE(save.editor);
    World world = worldWith({"f", "other"});
    NodeId f = world.node("f");
    for (auto& operation : save.operations) perform(world.folder, operation);

    Plan plan = world.look(false);

    CHECK(world.node("f") == f);
    CHECK(count(plan, Kind::Replaced) + count(plan, Kind::Content) == 1);
    CHECK(count(plan, Kind::Move) == 0);
    CHECK(count(plan, Kind::Vanished) == 0);
    world.checkSame();
  }
}

TEST_CASE("a temporary file that was seen before it replaced another is not that other") {
  World world = worldWith({"f", "f.tmp"});
  NodeId f = world.node("f"), temporary = world.node("f.tmp");
  world.folder.rename("f.tmp", "f");

  Plan plan = world.look(false);

  CHECK(world.node("f") == f);
  CHECK(count(plan, Kind::Vanished) == 1);
  REQUIRE(count(plan, Kind::Replaced) == 1);
  for (auto& step : plan.steps)
    if (step.kind == Kind::Replaced) CHECK(step.source == temporary);
  world.checkSame();
}

TEST_CASE("rotated logs keep their names' entries once a new one begins") {
  World world = worldWith({"log", "log.1", "log.2"});
  NodeId log = world.node("log"), log2 = world.node("log.2");
  world.folder.rename("log.1", "log.2");
  world.folder.rename("log", "log.1");
  world.folder.file("log");

  Plan plan = world.look(false);

  CHECK(count(plan, Kind::Replaced) == 3);
  CHECK(plan.steps.size() == 3);
  CHECK(world.node("log") == log);
  CHECK(world.node("log.2") == log2);
  world.checkSame();
}

TEST_CASE("a file that became a directory is another entry, and so the other way round") {
  World world = worldWith({"f", "d/", "d/x", "d/e/", "d/e/y"});
  NodeId f = world.node("f"), y = world.node("d/e/y");
  world.folder.remove("f");
  world.folder.directory("f");
  world.folder.rename("d/e/y", "f/y");
  world.folder.remove("d");
  world.folder.file("d");

  Plan plan = world.look(false);

  CHECK(count(plan, Kind::TypeChanged) == 2);
  CHECK(count(plan, Kind::Vanished) == 2);
  CHECK(world.node("f") != f);
  CHECK(world.node("f/y") == y);
  world.checkSame();
}

TEST_CASE("a directory removed and made again is the same entry") {
  World world = worldWith({"d/", "d/x"});
  NodeId d = world.node("d");
  world.folder.remove("d");
  world.folder.directory("d");
  world.folder.file("d/n");

  world.look(false);

  CHECK(world.node("d") == d);
  world.checkSame();
}

TEST_CASE("a second name of a file is a file of its own, and the first one stays") {
  World world = worldWith({"a", "d/", "d/f"});
  NodeId f = world.node("d/f");
  world.folder.link("d/f", "a.link");

  SUBCASE("listed alone, the other directory is asked for") {
    Plan plan = world.look(false);
    CHECK(count(plan, Kind::New) == 1);
  }
  SUBCASE("by a scan") {
    Plan plan = world.look(true);
    CHECK(count(plan, Note::Kind::SecondName) == 1);
  }
  CHECK(world.node("d/f") == f);
  CHECK(world.node("a.link") != 0);
  CHECK(count(world.look(), Kind::Vanished) == 0);
}

TEST_CASE("an inode number that is used again is another file") {
  World world = worldWith({"a", "z"});
  uint64_t inode = world.folder.at("a")->stat.inode;
  world.folder.remove("a");
  world.folder.file("b", 5);
  world.folder.at("b")->stat.inode = inode;

  SUBCASE("told by its birth time") {}
  SUBCASE("or, without one, by size and mtime") {
    world.folder.at("b")->stat.birthNs = 0;
    world.table.rows[world.node("a")].birthNs = 0;
  }
  Plan plan = world.look(false);

  CHECK(count(plan, Kind::New) == 1);
  CHECK(count(plan, Kind::Vanished) == 1);
  world.checkSame();
}

TEST_CASE("nothing below an unreadable directory is removed") {
  World world = worldWith({"d/", "d/e/", "d/e/f", "d/g"});
  world.folder.at("d")->unreadable = true;
  world.folder.remove("d/g");

  Plan plan = world.look(true);

  CHECK(plan.steps.empty());
  CHECK(count(plan, Note::Kind::Unreadable) == 1);
}

TEST_CASE("a name whose stat fails is there") {
  World world = worldWith({"f"});
  ReconcileInput input;
  input.root = world.folder.root->stat;
  world.folder.list("", true, input.listings);
  input.listings[0].items[0].stat = {};
  input.listings[0].items[0].failed = Error{Code::Io, ""};

  Plan plan = reconcile(input, world.table);

  CHECK(plan.steps.empty());
  CHECK(count(plan, Note::Kind::Unknown) == 1);
}

TEST_CASE("what is ignored is neither new nor removed") {
  World world = worldWith({"f", "g"});
  world.folder.file("new.o");
  world.folder.root->ignored = {"f", "new.o"};

  CHECK(world.look().steps.empty());
}

TEST_CASE("what was moved into an ignored folder is gone, also where that is read with the rest") {
  World world = worldWith({"f", "g"});
  world.folder.directory("left");
  world.folder.directory("left/below");
  world.folder.root->ignored = {"left"};
  std::string to = "left/f";
  SUBCASE("into it") {}
  SUBCASE("deeper") { to = "left/below/f"; }
  world.folder.rename("f", to);
  world.folder.edit(to);  // All that is above it has changed, and is listed.
  if (to != "left/f") world.folder.dirty(world.folder.at("left"));

  Plan plan = world.look(false);

  REQUIRE(plan.steps.size() == 1);
  CHECK(plan.steps[0].kind == Kind::Vanished);
  CHECK_FALSE(world.table.byName(kRootNode, "f").has_value());
}

namespace {

void setDevice(Folder& folder, const std::string& path, uint64_t device) {
  folder.walk(path, folder.at(path), [&](auto&, const Folder::Ref& object) { object->stat.device = device; });
}

/// d is a disk mounted in the arena.
World worldWithDisk() {
  World world;
  world.folder.directory("p");
  world.folder.directory("p/d");
  world.folder.file("p/d/f");
  world.folder.file("p/x");
  setDevice(world.folder, "p/d", 2);
  world.look();
  return world;
}

}  // namespace

TEST_CASE("a missing disk is absent, not removed") {
  World world = worldWithDisk();

  SUBCASE("its mount point is an empty directory") { world.folder.directory("p/d"); }
  SUBCASE("its mount point is gone") { world.folder.remove("p/d"); }
  SUBCASE("another disk is there") {
    world.folder.directory("p/d");
    setDevice(world.folder, "p/d", 3);
    world.folder.file("p/d/other");
  }
  Plan plan = world.look(true);

  CHECK(plan.steps.empty());
  CHECK(count(plan, Note::Kind::Absent) == 1);
}

TEST_CASE("what is above a missing disk is not removed either") {
  World world = worldWithDisk();
  world.folder.remove("p");

  Plan plan = world.look(true);

  CHECK(plan.steps.size() == 1);  // p/x
  CHECK(world.node("p/d/f") != 0);
}

TEST_CASE("a disk mounted over known files hides them") {
  World world = worldWith({"d/", "d/f"});
  world.folder.directory("d");
  setDevice(world.folder, "d", 5);

  Plan plan = world.look(true);

  CHECK(plan.steps.empty());
  CHECK(count(plan, Note::Kind::Absent) == 1);
}

TEST_CASE("another disk that someone accepted takes the place of the missing one") {
  World world = worldWithDisk();
  world.folder.directory("p/d");
  setDevice(world.folder, "p/d", 3);
  NodeId d = world.node("p/d");

  Plan plan = world.plan(true, {d});
  world.table.apply(plan);

  CHECK(count(plan, Kind::Vanished) == 1);
  CHECK(world.node("p/d") == d);
  world.checkSame();
}

TEST_CASE("disks that got other numbers at a restart are the same disks") {
  World world = worldWithDisk();
  setDevice(world.folder, "", 2);
  setDevice(world.folder, "p/d", 9);
  world.folder.rename("p/d/f", "p/d/g");

  Plan plan = world.plan(true);

  CHECK(count(plan, Kind::Move) == 1);
  CHECK(count(plan, Kind::Vanished) == 0);
  CHECK(plan.deviceChanges == std::vector<std::pair<uint64_t, uint64_t>>{{1, 2}, {2, 9}});
}

TEST_CASE("a folder restored onto another disk is known by its names") {
  World world = worldWith({"d/", "d/f", "g"});
  NodeId f = world.node("d/f");
  Folder copy;
  copy.make(FileStat::Type::File);
  copy.directory("d");
  copy.file("d/f");
  copy.file("g");
  setDevice(copy, "", 7);
  copy.root->stat.inode = 5555;
  world.folder = copy;

  Plan plan = world.look(true);

  CHECK(count(plan, Kind::Replaced) == 2);
  CHECK(count(plan, Kind::Vanished) == 0);
  CHECK(count(plan, Kind::New) == 0);
  CHECK(world.node("d/f") == f);
}

TEST_CASE("special files and impossible names are skipped and noted") {
  World world = worldWith({"f"});
  world.folder.slot("socket") = world.folder.make(FileStat::Type::Other);
  world.folder.file(std::string(256, 'n'));
  world.folder.directory(".realize");

  Plan plan = world.look(true);

  CHECK(plan.steps.empty());
  CHECK(plan.notes.size() == 2);
}

TEST_CASE("removals can be held back without the rest of a plan") {
  World world = worldWith({"a", "b", "d/", "d/x", "f"});
  NodeId x = world.node("d/x");
  world.folder.remove("a");
  world.folder.edit("b");
  world.folder.remove("f");
  world.folder.directory("f");
  world.folder.file("f/new");
  world.folder.file("d/new");
  Plan plan = world.plan(false);
  CHECK(plan.removed().size() == 2);

  dropRemovals(plan);
  world.table.apply(plan);

  CHECK(plan.steps.size() == 2);
  CHECK(world.node("a") != 0);
  CHECK(world.node("f") != 0);
  CHECK(world.node("d/x") == x);
  CHECK(world.node("d/new") != 0);
  world.look();
  world.checkSame();
}

// ---------------------------------------------------------------------------------------------------------------------
// Random folders

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

}  // namespace

TEST_CASE("whatever happens to a folder, the steps lead to what it is") {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    World world;
    Mutator mutator(world, seed, false);
    mutator.mutate(20);
    world.look();
    world.checkSame();
    for (int round = 0; round < 5; ++round) {
      CAPTURE(round);
      mutator.mutate(int(1 + mutator.pick(12)));
      world.look(mutator.pick(2) == 0);
      world.checkSame();
    }
  }
}

TEST_CASE("what is only renamed keeps its entry") {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    World world;
    Mutator mutator(world, seed, true);
    mutator.mutate(20);
    world.look();
    for (int round = 0; round < 5; ++round) {
      CAPTURE(round);
      auto before = nodesByInode(world);
      mutator.mutate(int(1 + mutator.pick(12)));
      world.look(mutator.pick(2) == 0);
      world.checkSame();
      for (auto [inode, node] : nodesByInode(world))
        if (before.count(inode)) CHECK(before[inode] == node);
    }
  }
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
