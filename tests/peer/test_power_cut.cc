// What a user did to names, and peers were told of, is still so after a power cut: durable before said.

#include <algorithm>
#include <utility>

#include "librealize/base/path.h"
#include "librealize/peer/arena_file_system.h"
#include "librealize/peer/conflicts.h"
#include "tests/peer/sim_arenas.h"
#include "tests/support/fake_random.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

/// The machine's power is cut, and it starts again.
void losesPower(SimArenas& arenas, test::SimPeer& peer, uint64_t seed) {
  arenas.link->cut();
  peer.vanish();
  test::FakeRandom random(seed);
  peer.disk.crash(random);
  ++peer.boots;
  REQUIRE(peer.start().ok());
  arenas.link->connect();
}

/// Peer A has "plan.txt", "folder/" with "inner.txt" and "link"; what `change` does there is told to B, which then shows it (`holds`);
/// A's power is cut; when it is back, both show it, whatever the disk has lost.
void survives(const std::function<void(SimArenas&)>& change, const std::function<bool(SimArenas&, test::SimPeer&)>& holds) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    CAPTURE(seed);
    SimArenas arenas;
    auto& a = *arenas.a;
    auto& b = *arenas.b;
    arenas.write(a, "plan.txt", "one");
    {
      auto root = *a.disk.openRoot(test::kSimFolder);
      REQUIRE(root->makeDirectory("folder", 0755).ok());
      REQUIRE(root->makeSymlink("link", "plan.txt").ok());
    }
    arenas.write(a, "folder/inner.txt", "inner");
    arenas.start();
    REQUIRE(arenas.settles());
    a.disk.settle();
    b.disk.settle();
    arenas.pass(30'000);
    change(arenas);
    REQUIRE(arenas.until([&] { return holds(arenas, b); }));

    losesPower(arenas, a, seed);

    REQUIRE(arenas.settles());
    CHECK(holds(arenas, a));
    CHECK(holds(arenas, b));
  }
}

std::string targetOf(test::SimPeer& peer, const std::string& path) {
  auto target = (*peer.disk.openRoot(test::kSimFolder))->readSymlink(path);
  return target.ok() ? *target : "<none>";
}

NodeId nodeAt(ArenaCore& core, const std::string& name) {
  auto found = core.guardedFileSystem().lookup(kRootNode, name);
  REQUIRE(found.ok());
  return found->node;
}

bool moved(SimArenas& arenas, test::SimPeer& peer) {
  return arenas.read(peer, "schedule.txt") == "one" && !arenas.has(peer, "plan.txt") &&
         arenas.read(peer, "drawer/inner.txt") == "inner" && !arenas.has(peer, "folder");
}

bool removed(SimArenas& arenas, test::SimPeer& peer) {
  return !arenas.has(peer, "plan.txt") && !arenas.has(peer, "folder") && !arenas.has(peer, "link");
}

}  // namespace

TEST_CASE("a new link and a new folder that others know of are there after a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto root = *arenas.a->disk.openRoot(test::kSimFolder);
        REQUIRE(root->makeDirectory("new", 0755).ok());
        REQUIRE(root->makeSymlink("new/link", "../plan.txt").ok());
      },
      [](SimArenas&, test::SimPeer& peer) { return targetOf(peer, "new/link") == "../plan.txt"; });
}

TEST_CASE("a rename that others know of is not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto root = *arenas.a->disk.openRoot(test::kSimFolder);
        REQUIRE(root->rename("plan.txt", "schedule.txt", RenameKind::NoReplace).ok());
        REQUIRE(root->rename("folder", "drawer", RenameKind::NoReplace).ok());
      },
      moved);
}

TEST_CASE("a removal that others know of is not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto root = *arenas.a->disk.openRoot(test::kSimFolder);
        REQUIRE(root->unlink("plan.txt").ok());
        REQUIRE(root->unlink("link").ok());
        REQUIRE(root->unlink("folder/inner.txt").ok());
        REQUIRE(root->removeDirectory("folder").ok());
      },
      removed);
}

TEST_CASE("a link's new target that others know of is not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto root = *arenas.a->disk.openRoot(test::kSimFolder);
        REQUIRE(root->makeSymlink("link.new", "folder").ok());
        REQUIRE(root->rename("link.new", "link", RenameKind::Replace).ok());
      },
      [](SimArenas&, test::SimPeer& peer) { return targetOf(peer, "link") == "folder"; });
}

TEST_CASE("a file put over another that others know of is not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto root = *arenas.a->disk.openRoot(test::kSimFolder);
        REQUIRE(root->rename("folder/inner.txt", "plan.txt", RenameKind::Replace).ok());
      },
      [](SimArenas& arenas, test::SimPeer& peer) {
        return arenas.read(peer, "plan.txt") == "inner" && !arenas.has(peer, "folder/inner.txt");
      });
}

TEST_CASE("a rename through a mount that others know of is not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto& files = arenas.a->core->guardedFileSystem();
        REQUIRE(files.rename(kRootNode, "plan.txt", kRootNode, "schedule.txt", RenameFlag::Replace).ok());
        REQUIRE(files.rename(kRootNode, "folder", kRootNode, "drawer", RenameFlag::Replace).ok());
      },
      moved);
}

TEST_CASE("a removal through a mount that others know of is not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto& files = arenas.a->core->guardedFileSystem();
        REQUIRE(files.unlink(kRootNode, "plan.txt").ok());
        REQUIRE(files.unlink(kRootNode, "link").ok());
        REQUIRE(files.unlink(nodeAt(*arenas.a->core, "folder"), "inner.txt").ok());
        REQUIRE(files.removeDirectory(kRootNode, "folder").ok());
      },
      removed);
}

TEST_CASE("a file put over another through a mount that others know of is not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto& files = arenas.a->core->guardedFileSystem();
        REQUIRE(files.rename(nodeAt(*arenas.a->core, "folder"), "inner.txt", kRootNode, "plan.txt", RenameFlag::Replace).ok());
      },
      [](SimArenas& arenas, test::SimPeer& peer) {
        return arenas.read(peer, "plan.txt") == "inner" && !arenas.has(peer, "folder/inner.txt");
      });
}

TEST_CASE("a new link and a new folder made through a mount that others know of are there after a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto& files = arenas.a->core->guardedFileSystem();
        auto made = files.makeDirectory(kRootNode, "new", 0755, 0, 0);
        REQUIRE(made.ok());
        REQUIRE(files.makeSymlink(made->node, "link", "../plan.txt", 0, 0).ok());
      },
      [](SimArenas&, test::SimPeer& peer) { return targetOf(peer, "new/link") == "../plan.txt"; });
}

namespace {

bool changedModes(SimArenas&, test::SimPeer& peer) {
  auto root = *peer.disk.openRoot(test::kSimFolder);
  const auto file = root->stat("plan.txt"), folder = root->stat("folder");
  return file.ok() && (file->mode & 07777) == 0600 && file->mtimeNs == 12'000'000'000 && folder.ok() && (folder->mode & 07777) == 0700;
}

}  // namespace

TEST_CASE("modes and times that others know of are not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto root = *arenas.a->disk.openRoot(test::kSimFolder);
        REQUIRE(root->setMode("plan.txt", 0600).ok());
        REQUIRE(root->setTimes("plan.txt", 12'000'000'000).ok());
        REQUIRE(root->setMode("folder", 0700).ok());
      },
      changedModes);
}

TEST_CASE("modes and times set through a mount that others know of are not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto& core = *arenas.a->core;
        AttributeChange file, folder;
        file.mode = 0600;
        file.mtimeNs = 12'000'000'000;
        folder.mode = 0700;
        for (const auto& [name, change] : {std::pair("plan.txt", file), std::pair("folder", folder)}) {
          Result<Attributes> set = Error{};
          core.guardedFileSystem().setAttributes(nodeAt(core, name), 0, change, [&](Result<Attributes> done) { set = done; });
          REQUIRE(set.ok());
        }
      },
      changedModes);
}

TEST_CASE("a rename that others were told of by the process after a killed one is not undone by a power cut") {
  survives(
      [](SimArenas& arenas) {
        auto& a = *arenas.a;
        arenas.link->cut();
        REQUIRE((*a.disk.openRoot(test::kSimFolder))->rename("plan.txt", "schedule.txt", RenameKind::NoReplace).ok());
        REQUIRE(arenas.until([&] { return SimArenas::core(a).recordAt("schedule.txt").ok(); }));
        a.vanish();
        REQUIRE(a.start().ok());
        arenas.link->connect();
      },
      [](SimArenas& arenas, test::SimPeer& peer) { return arenas.has(peer, "schedule.txt") && !arenas.has(peer, "plan.txt"); });
}

namespace {

/// B's power is cut before its n-th step on the disk once A has done `change` to "x", and again and again later: what B had
/// of it can still be brought back there.
void staysToUndo(const std::function<void(SimArenas&)>& change, const std::function<bool(SimArenas&)>& done) {
  for (uint64_t step = 1; step <= 60; ++step) {
    CAPTURE(step);
    SimArenas arenas;
    auto& a = *arenas.a;
    auto& b = *arenas.b;
    const std::string text = "what is removed or replaced, and asked for again";
    arenas.write(a, "keep", "stays");
    arenas.write(a, "x", text);
    arenas.start();
    REQUIRE(arenas.settles());
    a.disk.settle();
    b.disk.settle();
    arenas.pass(60'000);
    change(arenas);

    b.disk.powerOffBefore(step);
    const bool cut = arenas.until([&] { return b.disk.isPowerOff(); }, 4'000 + int64_t(step) * 37 % 8'000);
    (void)cut;  // Else it is cut when all is done, and not yet written back.
    losesPower(arenas, b, step);
    REQUIRE(arenas.settles());

    CHECK(done(arenas));
    const auto bytes = std::as_bytes(std::span(text));
    const auto blob = blobIdOf(ChunkRef{hashChunk(bytes), uint32_t(bytes.size())});
    CHECK_MESSAGE(SimArenas::core(b).transfers->complete(blob), b.disk.dump(test::kSimFolder));
  }
}

}  // namespace

TEST_CASE("what a peer removed can be brought back after a power cut") {
  staysToUndo([](SimArenas& arenas) { REQUIRE((*arenas.a->disk.openRoot(test::kSimFolder))->unlink("x").ok()); },
              [](SimArenas& arenas) { return !arenas.has(*arenas.b, "x") && !arenas.has(*arenas.a, "x"); });
}

TEST_CASE("what a peer replaced can be brought back after a power cut") {
  staysToUndo([](SimArenas& arenas) { arenas.write(*arenas.a, "x", "newer"); },
              [](SimArenas& arenas) { return arenas.read(*arenas.b, "x") == "newer" && arenas.read(*arenas.a, "x") == "newer"; });
}

// realize-sim, seed 34.
TEST_CASE("the only copy of a version, back in the cache from an exchange that a user was quicker than, is there after a power cut") {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    CAPTURE(seed);
    SimArenas arenas;
    auto& a = *arenas.a;
    arenas.write(a, "f", "first");
    arenas.start();
    REQUIRE(arenas.settles());
    arenas.link->cut();
    arenas.write(a, "f", "of A");
    arenas.write(*arenas.b, "f", "of B");
    arenas.pass(3000);
    arenas.link->connect();
    REQUIRE(arenas.settles());
    arenas.link->cut();
    arenas.write(*arenas.b, "f", "of B, over what it was");
    arenas.pass(30'000);
    a.disk.settle();
    const auto heads = arenas.core(a).tree.shownHeads(arenas.core(a).recordAt("f")->entry.id);
    REQUIRE(heads.size() == 2);
    const auto row = arenas.core(a).store.disk().get(arenas.core(a).recordAt("f")->node);
    const auto& cached = heads[heads[0].version.blob == row->blob ? 1 : 0];
    bool raced = false, back = false;
    a.onCall = [&](const test::FakeCall& call) {
      if (a.userActing || call.op != test::FakeOp::Rename) return;
      if (call.path2 == std::string(test::kSimFolder) + "/f" && !std::exchange(raced, true)) arenas.write(a, "f", "quicker");
      back = back || call.path2.ends_with("/" + cached.version.blob.hex());
    };

    REQUIRE(a.core->resolve("f", labelOf(cached.dot)).ok());
    REQUIRE(arenas.until([&] { return back; }));
    losesPower(arenas, a, seed);

    REQUIRE(arenas.settles());
    CHECK(arenas.core(a).transfers->complete(cached.version.blob));
  }
}

// realize-sim --wide, seed 36033589.
TEST_CASE("what a user wrote into a version that had a name for a moment is given back, though a power cut took that name") {
  int met = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    SimArenas arenas;
    auto& a = *arenas.a;
    auto& b = *arenas.b;
    arenas.write(a, "f", "first");
    arenas.start();
    REQUIRE(arenas.settles());
    b.disk.settle();
    int races = 0;
    b.onCall = [&](const test::FakeCall& call) {
      if (b.userActing || call.op != test::FakeOp::Rename || call.path2 != std::string(test::kSimFolder) + "/f" || races == 2) return;
      b.userActing = true;
      const char* text = ++races == 1 ? "quicker" : "quicker once more";
      arenas.write(b, "f", text);
      REQUIRE((*(*b.disk.openRoot(test::kSimFolder))->open("f", OpenMode::ReadWrite))->sync(true).ok());  // Not its name.
      if (races == 2) b.disk.powerOffBefore(1 + seed % 4);
      b.userActing = false;
    };

    arenas.write(a, "f", "second");
    REQUIRE(arenas.until([&] { return b.disk.isPowerOff(); }));
    b.onCall = nullptr;
    arenas.link->cut();
    b.vanish();
    test::FakeRandom random(seed);
    b.disk.crash(random);
    auto isIn = [&](const std::string& folder) {
      const auto items = (*b.disk.openRoot(test::kSimFolder))->list(folder);
      return std::any_of(items->begin(), items->end(), [&](const auto& item) {
        // Where the power took the other name, too, nothing tells it from what was being fetched.
        const bool named = folder.empty() || item.name.find('~') != std::string::npos;
        return named && item.stat.type == FileStat::Type::File && arenas.read(b, joinPath(folder, item.name)) == "quicker once more";
      });
    };
    const bool kept = isIn(kTempFolder);
    ++b.boots;
    REQUIRE(b.start().ok());
    arenas.link->connect();

    REQUIRE(arenas.settles());
    if (kept) CHECK(isIn(""));
    met += kept;
  }
  CHECK(met > 0);
}

// realize-sim --conflicts newest, seed 73003042.
TEST_CASE("who replaced a file that could not leave has seen its version, though a power cut comes at that moment") {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    CAPTURE(seed);
    SimArenas arenas(Mark::Unreal);
    auto &a = *arenas.a, &b = *arenas.b;
    arenas.start();
    REQUIRE(arenas.settles());
    auto root = *b.disk.openRoot(test::kSimFolder);
    arenas.write(b, "plan.txt", "one");
    auto writer = *root->open("plan.txt", OpenMode::ReadWrite);
    auto& core = b.core->core();
    REQUIRE(arenas.until([&] { return arenas.has(a, "plan.txt") && core.store.unsynced().count() > 0; }));

    writer.reset();
    auto file = *root->open("new", OpenMode::CreateNew, 0644);
    const std::string two = "two, which replaces it";
    REQUIRE(file->write(0, std::as_bytes(std::span(two))).ok());
    REQUIRE(file->sync(true).ok());
    file.reset();
    REQUIRE(root->rename("new", "plan.txt", RenameKind::Replace).ok());
    REQUIRE(root->syncDirectory("").ok());
    b.disk.powerOff();
    losesPower(arenas, b, seed);

    REQUIRE(arenas.settles());
    CHECK(a.core->status().conflicts == 0);
    CHECK(arenas.read(a, "plan.txt") == two);
  }
}

TEST_CASE("a file that a power cut tore under its old times is not taken for what it was once it has left the folder") {
  const std::string before(20'000, 'a'), after(20'000, 'b');
  int torn = 0;
  for (uint64_t seed = 0; seed < 100 && torn < 2; ++seed) {
    CAPTURE(seed);
    SimArenas arenas;
    auto& a = *arenas.a;
    arenas.write(a, "torn", before);
    arenas.write(a, "whole", "whole");
    arenas.start();
    REQUIRE(arenas.settles());
    a.disk.settle();
    arenas.pass(30'000);
    const BlobId old = arenas.versionAt(a, "torn").blob, whole = arenas.versionAt(a, "whole").blob;

    arenas.link->cut();
    a.vanish();
    auto root = *a.disk.openRoot(test::kSimFolder);
    REQUIRE(root->rename("torn", "moved", RenameKind::NoReplace).ok());  // Then its ctime does not tell.
    REQUIRE(root->syncDirectory("").ok());
    auto file = *root->open("moved", OpenMode::ReadWrite);
    const auto stat = *file->stat();
    REQUIRE(file->write(0, std::as_bytes(std::span(after))).ok());
    file.reset();
    test::FakeRandom random(seed);
    a.disk.crash(random);
    ++a.boots;
    root = *a.disk.openRoot(test::kSimFolder);
    if (arenas.read(a, "moved") == before || !root->stat("moved")->bytesUnchanged(stat)) continue;
    ++torn;
    REQUIRE(a.start().ok());
    arenas.link->connect();
    REQUIRE(arenas.settles());
    arenas.core(a).marks->set(Core::rootRecord(), Mark::Unreal);
    REQUIRE(arenas.until([&] { return !arenas.has(a, "moved") && !arenas.has(a, "whole"); }));

    CHECK(arenas.until([&] { return arenas.core(a).transfers->complete(whole); }, 10'000));
    CHECK_FALSE(arenas.core(a).transfers->complete(old));
  }
  CHECK(torn == 2);
}
