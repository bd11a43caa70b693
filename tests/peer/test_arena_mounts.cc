// What is done through a mount beside what other peers did to the same names.

#include <algorithm>

#include "librealize/peer/arena_file_system.h"
#include "tests/peer/sim_arenas.h"
#include "tests/peer/sim_household.h"

using namespace realize;
using namespace realize::peer;
using realize::peer::testing::SimArenas;

namespace {

struct Mounts : SimArenas {
  explicit Mounts(Mark bMark = Mark::Real) : SimArenas(bMark) {}

  FileSystem& fs(test::SimPeer& peer) { return peer.core->guardedFileSystem(); }
  Directory& root(test::SimPeer& peer) { return *core(peer).folder->root(); }
  void write(test::SimPeer& peer, const std::string& path, const std::string& text) {
    auto file = root(peer).open(path, OpenMode::CreateOrOpen, 0644);
    REQUIRE(file.ok());
    REQUIRE((*file)->truncate(0).ok());
    REQUIRE((*file)->write(0, std::as_bytes(std::span(text))).ok());
  }
  /// How many files of its folder have that content, whatever their names, or its cache.
  size_t filesWith(test::SimPeer& peer, const std::string& text) {
    size_t found = 0;
    for (const char* folder : {"", kCacheFolder}) {
      auto items = root(peer).list(folder);
      for (const auto& item : items.ok() ? *items : std::vector<DirectoryItem>()) {
        if (item.stat.type != FileStat::Type::File) continue;
        auto bytes = readFile(root(peer), std::string(folder) + (*folder ? "/" : "") + item.name, 1000);
        found += bytes.ok() && std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) == text;
      }
    }
    return found;
  }
  /// The tree shows a version with that content.
  bool shown(test::SimPeer& peer, const std::string& text) {
    ContentHasher hasher(text.size());
    hasher.add(std::as_bytes(std::span(text)));
    const BlobId blob = hasher.finish()->blob;
    auto& tree = core(peer).tree;
    for (const auto& child : tree.children(kRootEntry, "", 100))
      for (const auto& head : tree.shownHeads(child.id))
        if (head.version.blob == blob) return true;
    return false;
  }
  void apart(const std::function<void()>& work) {
    link->cut();
    work();
    pass(2000);
    link->connect();
    REQUIRE(settles());
  }
};

/// A and B have all real and two versions of "f"; C has nothing, and a mount.
struct MountOfConflict : test::SimHousehold {
  MountOfConflict() : SimHousehold({Mark::Real, Mark::Unreal}) {
    write(0, "f", "first");
    write(0, "g", "other");
    startAndMeet();
    disconnect();
    write(0, "f", "of A");
    write(1, "f", "of B");
    connect();
    REQUIRE(settle());
    REQUIRE(versions().size() == 2);
  }
  /// What C shows first is in front.
  std::vector<BlobId> versions() {
    std::vector<BlobId> out;
    const auto record = core(2).recordAt("f");
    for (const auto& head : record.ok() ? core(2).tree.shownHeads(record->entry.id) : std::vector<logic::ShownHead>())
      out.push_back(head.version.blob);
    return out;
  }
  FileSystem& mount() { return peers[2]->core->guardedFileSystem(); }
};

struct MountsOfUnreal : Mounts {
  MountsOfUnreal() : Mounts(Mark::Unreal) {}
};

}  // namespace

TEST_CASE_FIXTURE(Mounts, "an exchange through a mount takes nothing along that is shown beside one of both") {
  start();
  REQUIRE(settles());
  apart([&] {
    REQUIRE(root(*a).makeDirectory("e", 0755).ok());
    write(*a, "d", "of d");
    write(*b, "e", "of e");
  });
  REQUIRE(shown(*a, "of e"));

  REQUIRE(fs(*a).rename(kRootNode, "e", kRootNode, "d", RenameFlag::Exchange).ok());
  REQUIRE(settles());

  for (auto* peer : {a.get(), b.get()}) {
    CHECK(shown(*peer, "of e"));
    CHECK(shown(*peer, "of d"));
  }
}

TEST_CASE_FIXTURE(Mounts, "what is put over one version of a file through a mount leaves the other") {
  start();
  write(*a, "f", "first");
  REQUIRE(root(*a).makeSymlink("link", "somewhere").ok());
  REQUIRE(settles());
  apart([&] {
    write(*a, "f", "of a");
    write(*b, "f", "of b");
  });
  const bool ofA = filesWith(*a, "of a") == 1;
  REQUIRE(ofA);

  REQUIRE(fs(*a).rename(kRootNode, "link", kRootNode, "f", RenameFlag::Replace).ok());
  REQUIRE(settles());

  for (auto* peer : {a.get(), b.get()}) {
    CHECK(shown(*peer, "of b"));
    CHECK_FALSE(shown(*peer, "of a"));
  }
}

TEST_CASE_FIXTURE(Mounts, "a link that a peer renamed is gone when it is removed here") {
  start();
  REQUIRE(root(*a).makeSymlink("link", "somewhere").ok());
  REQUIRE(settles());
  REQUIRE(root(*a).rename("link", "moved", RenameKind::NoReplace).ok());
  REQUIRE(settles());
  REQUIRE(root(*b).stat("moved").ok());

  SUBCASE("through the mount") { REQUIRE(fs(*b).unlink(kRootNode, "moved").ok()); }
  SUBCASE("in the folder") { REQUIRE(root(*b).unlink("moved").ok()); }
  REQUIRE(settles());

  for (auto* peer : {a.get(), b.get()}) {
    CHECK_FALSE(root(*peer).stat("moved").ok());
    CHECK_FALSE(core(*peer).recordAt("moved").ok());
  }
}

TEST_CASE_FIXTURE(MountsOfUnreal, "a file that is not here is put over another, and a peer edits it at that moment: no version is without bytes") {
  start();
  write(*a, "source", "of source");
  write(*a, "target", "of target");
  REQUIRE(settles());
  REQUIRE_FALSE(root(*b).stat("source").ok());

  apart([&] {
    REQUIRE(fs(*b).rename(kRootNode, "source", kRootNode, "target", RenameFlag::Replace).ok());
    write(*a, "source", "of source, and more");
  });

  CHECK(shown(*b, "of source, and more"));
  CHECK_FALSE(shown(*b, "of source"));
  CHECK(core(*a).marks->missingFiles() == 0);
}

// realize-sim --wide, seed 21051328.
TEST_CASE_FIXTURE(MountsOfUnreal, "a file that is not here is renamed away and its name made anew, and a peer edits it: no version is without bytes") {
  start();
  write(*a, "f", "first");
  REQUIRE(settles());
  const auto before = core(*b).recordAt("f")->entry.id;
  bool cached = false;
  SUBCASE("its bytes are nowhere here") {}
  SUBCASE("its bytes are in the cache") {
    cached = true;
    const auto open = core(*b).transfers->open(test::SimHousehold::blobOf("first"), 5);
    core(*b).transfers->read(open, 0, 5, [open](Result<Bytes> bytes) { CHECK(bytes.ok()); });
    pass(20'000);
    REQUIRE(filesWith(*b, "first") == 1);
  }

  apart([&] {
    REQUIRE(fs(*b).rename(kRootNode, "f", kRootNode, "f~", RenameFlag::Replace).ok());
    auto made = fs(*b).create(kRootNode, "f", 0644, 0, 0, true);
    REQUIRE(made.ok());
    fs(*b).release(made->handle);
    write(*a, "f", "first, and more");
  });

  CHECK(shown(*a, "first, and more"));
  CHECK(shown(*a, "first") == cached);
  CHECK((core(*b).recordAt("f")->entry.id == before) == cached);
  CHECK(core(*a).marks->missingFiles() == 0);
}

TEST_CASE_FIXTURE(Mounts, "what a peer removed while it was edited here lives on, though its first name is given to another file at that moment") {
  start();
  write(*a, "first", "some text");
  REQUIRE(settles());
  REQUIRE(root(*a).rename("first", "edited", RenameKind::NoReplace).ok());
  REQUIRE(settles());
  auto node = fs(*a).lookup(kRootNode, "edited");
  REQUIRE(node.ok());
  REQUIRE(fs(*b).unlink(kRootNode, "edited").ok());
  AttributeChange cut;
  cut.sizeBytes = 4;
  fs(*a).setAttributes(node->node, 0, cut, [](Result<Attributes> done) { REQUIRE(done.ok()); });
  REQUIRE(until([&] { return !core(*a).recordAt("edited").ok(); }));

  auto made = fs(*a).create(kRootNode, "first", 0644, 0, 0, true);
  REQUIRE(made.ok());
  fs(*a).release(made->handle);

  REQUIRE(settles());
  for (auto* peer : {a.get(), b.get()}) {
    CHECK(filesWith(*peer, "some") == 1);
    CHECK(root(*peer).stat("first").ok());
  }
}

TEST_CASE_FIXTURE(MountOfConflict, "who removes a file with two versions through a mount removes the one that was shown") {
  const auto before = versions();

  REQUIRE(mount().unlink(kRootNode, "f").ok());
  REQUIRE(settle());

  CHECK(versions() == std::vector<BlobId>{before[1]});
  REQUIRE(mount().unlink(kRootNode, "f").ok());
  REQUIRE(settle());
  for (size_t peer : {0u, 1u, 2u}) CHECK_FALSE(core(peer).recordAt("f").ok());
}

TEST_CASE_FIXTURE(MountOfConflict, "what is put over a file with two versions through a mount leaves the one that was not shown") {
  const auto before = versions();
  const bool unreal = !core(2).store.disk().get(core(2).recordAt("f")->node);
  REQUIRE(unreal);
  auto made = mount().create(kRootNode, "new", 0644, 0, 0, true);
  REQUIRE(made.ok());
  mount().release(made->handle);

  REQUIRE(mount().rename(kRootNode, "new", kRootNode, "f", RenameFlag::Replace).ok());
  REQUIRE(settle());

  const auto after = versions();
  REQUIRE(after.size() == 2);
  CHECK(std::count(after.begin(), after.end(), before[1]) == 1);
  CHECK(std::count(after.begin(), after.end(), emptyBlobId()) == 1);
}

namespace {

/// A has all real, the others nothing; the last one has a mount.
struct Unreal : test::SimHousehold {
  explicit Unreal(std::vector<Mark> others) : SimHousehold(others), last(others.size()) {
    write(0, "f", "first");
    startAndMeet();
  }
  void setMode(uint32_t mode) {
    Result<Attributes> done = Error{Code::Internal, ""};
    AttributeChange change;
    change.mode = mode;
    const NodeId node = core(last).recordAt("f")->node;
    peers[last]->core->guardedFileSystem().setAttributes(node, 0, change, [&](Result<Attributes> result) { done = std::move(result); });
    REQUIRE(done.ok());
  }
  std::vector<logic::ShownHead> heads(size_t peer) { return core(peer).tree.shownHeads(core(peer).recordAt("f")->entry.id); }
  size_t last;
};

}  // namespace

TEST_CASE("a mode set on an unreal file is a version that its holders have") {
  Unreal home({Mark::Real, Mark::Unreal});

  home.setMode(0600);
  REQUIRE(home.settle());
  for (size_t peer : {0u, 1u}) CHECK((home.folder(peer)->stat("f")->mode & 0777) == 0600);
  home.core(1).marks->set(*home.core(1).recordAt(""), Mark::Unreal);
  REQUIRE(home.settle());
  home.runFor(30'000);

  CHECK_FALSE(home.folder(1)->stat("f").ok());
  CHECK(home.read(0, "f") == "first");
  CHECK(home.fetch(2, "first") == "first");
}

TEST_CASE("a mode set on an unreal file while its holder edits it is set on what it is then") {
  Unreal home({Mark::Unreal});
  home.disconnect();

  home.setMode(0600);
  home.write(0, "f", "second");
  home.runFor(1000);
  home.connect();

  REQUIRE(home.settle());
  REQUIRE(home.heads(0).size() == 1);
  CHECK(home.read(0, "f") == "second");
  CHECK((home.folder(0)->stat("f")->mode & 0777) == 0600);
  CHECK(home.fetch(1, "second") == "second");
}

TEST_CASE("a mode set on an unreal file while two edit it leaves both edits") {
  Unreal home({Mark::Real, Mark::Unreal});
  home.disconnect();
  home.setMode(0600);
  home.write(0, "f", "of A");
  home.write(1, "f", "of B");
  home.runFor(1000);
  home.connect();

  REQUIRE(home.settle());
  CHECK(home.heads(0).size() == 2);
  CHECK(home.fetch(2, "of A") == "of A");
  CHECK(home.fetch(2, "of B") == "of B");
}

TEST_CASE("a mode set on an unreal file is waited for with its bytes while a member is away that may have them") {
  Unreal home({Mark::Real, Mark::Unreal});
  home.end(1);
  home.disconnect();
  home.setMode(0600);
  home.write(0, "f", "second");
  home.runFor(1000);
  for (auto& link : home.links)
    if (&link->end(0) != home.peers[1].get() && &link->end(1) != home.peers[1].get()) link->connect();
  home.runFor(60'000);
  CHECK(home.heads(0).size() == 2);

  REQUIRE(home.peers[1]->start().ok());
  home.connect();
  REQUIRE(home.settle());

  CHECK(home.heads(0).size() == 2);  // It has the first content: both are there.
  CHECK(home.fetch(0, "first") == "first");
}
