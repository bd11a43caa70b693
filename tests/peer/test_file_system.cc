#include <doctest/doctest.h>
#include <sys/xattr.h>

#include "tests/peer/mounted_arena.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

TEST_CASE("a file made through the mount is there at once, and read after the rest") {
  MountedArena arena;
  REQUIRE(arena.settle());

  REQUIRE(arena.write("plan.txt", "draft").ok());

  CHECK(*arena.read("plan.txt") == "draft");
  CHECK(arena.onDisk("plan.txt") == "draft");
  CHECK(arena.unquiet() == "");
  CHECK(arena.heads("plan.txt") == 1);
  CHECK(arena.locked([](Core& c) { return c.shownVersion(*c.recordAt("plan.txt"))->second.sizeBytes; }) == 5);
}

TEST_CASE("folders, symlinks and files in them") {
  MountedArena arena;
  REQUIRE(arena.settle());

  auto folder = arena.fs().makeDirectory(kRootNode, "a", 0750, 0, 0);
  REQUIRE(folder.ok());
  auto inner = arena.fs().makeDirectory(folder->node, "b", 0755, 0, 0);
  REQUIRE(inner.ok());
  REQUIRE(arena.write(inner->node, "file", "text").ok());
  auto link = arena.fs().makeSymlink(folder->node, "link", "b/file", 0, 0);
  REQUIRE(link.ok());

  CHECK(folder->mode == 0750);
  CHECK(*arena.fs().readSymlink(link->node) == "b/file");
  CHECK(arena.onDisk("a/link") == "text");
  CHECK(*arena.fs().parentOf(inner->node) == folder->node);
  CHECK(*arena.fs().parentOf(folder->node) == kRootNode);
  auto names = arena.fs().readDirectory(folder->node);
  REQUIRE(names.ok());
  REQUIRE(names->size() == 2);
  CHECK((*names)[0].name == "b");
  CHECK((*names)[1].attributes.kind == EntryKind::Symlink);
  CHECK(arena.unquiet() == "");

  CHECK(arena.fs().removeDirectory(kRootNode, "a").code() == Code::NotEmpty);
  CHECK(arena.fs().unlink(kRootNode, "a").code() == Code::IsDirectory);
  CHECK(arena.fs().removeDirectory(folder->node, "link").code() == Code::NotDirectory);
  REQUIRE(arena.fs().unlink(inner->node, "file").ok());
  REQUIRE(arena.fs().removeDirectory(folder->node, "b").ok());
  CHECK(!arena.has("a/b"));
  CHECK(arena.unquiet() == "");
}

TEST_CASE("what others put into the folder shows after it is read, and is served as it is") {
  MountedArena arena;
  std::ofstream(arena.path("theirs")) << "one";
  REQUIRE(arena.settle());
  const NodeId node = arena.at("theirs");
  REQUIRE(node != 0);

  std::ofstream(arena.path("theirs")) << "longer than before";
  CHECK(arena.fs().attributes(node)->sizeBytes == 18);
  CHECK(*arena.read("theirs") == "longer than before");

  REQUIRE(arena.settle());
  CHECK(arena.locked([](Core& c) { return c.shownVersion(*c.recordAt("theirs"))->second.sizeBytes; }) == 18);
  std::filesystem::remove(arena.path("theirs"));
  CHECK(arena.fs().lookup(kRootNode, "theirs").code() == Code::NotFound);
  CHECK(arena.fs().readDirectory(kRootNode)->empty());
}

TEST_CASE("an open file outlives its name") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("file", "bytes").ok());
  const NodeId node = arena.at("file");
  auto handle = arena.open(node, true);
  REQUIRE(handle.ok());

  REQUIRE(arena.fs().unlink(kRootNode, "file").ok());

  CHECK(arena.fs().attributes(node).code() == Code::Stale);
  CHECK(arena.fs().handleAttributes(*handle)->sizeBytes == 5);
  CHECK(arena.fs().handleAttributes(*handle)->links == 0);
  CHECK(arena.writeHandle(*handle, "more", 5).ok());
  CHECK(*arena.readHandle(*handle) == "bytesmore");
  AttributeChange change;
  change.sizeBytes = 2;
  arena.fs().setAttributes(node, *handle, change, [](Result<Attributes> after) { CHECK(after->sizeBytes == 2); });
  auto again = arena.write("file", "new");
  CHECK(*again != node);  // who has the old one open must not meet the new one under its number
  CHECK(*arena.readHandle(*handle) == "by");
  arena.fs().release(*handle);
  CHECK(arena.unquiet() == "");
}

TEST_CASE("editors' ways of saving are edits of the entry") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("plan", "old").ok());
  REQUIRE(arena.settle());
  const EntryId id = arena.idAt("plan");
  const NodeId oldNode = arena.at("plan");

  SUBCASE("renamed away, made anew, backup removed") {
    REQUIRE(arena.rename("plan", "plan~").ok());
    CHECK(arena.at("plan~") == oldNode);
    REQUIRE(arena.write("plan", "newer").ok());
    CHECK(arena.idAt("plan") == id);
    CHECK(arena.at("plan") != oldNode);
    CHECK(arena.at("plan~") == oldNode);
    CHECK(*arena.read("plan~") == "old");
    CHECK(arena.idAt("plan~") != id);
    REQUIRE(arena.fs().unlink(kRootNode, "plan~").ok());
  }
  SUBCASE("renamed away, made anew, backup kept") {
    REQUIRE(arena.rename("plan", "plan~").ok());
    REQUIRE(arena.write("plan", "newer").ok());
    REQUIRE(arena.settle());
    CHECK(*arena.read("plan~") == "old");
    CHECK(arena.heads("plan~") == 1);
  }
  SUBCASE("temporary renamed over") {
    auto temp = arena.write("plan.tmp", "newer");
    REQUIRE(arena.rename("plan.tmp", "plan").ok());
    CHECK(arena.at("plan") == *temp);  // the number goes with the file
    CHECK(arena.at("plan.tmp") == 0);
  }
  SUBCASE("temporary renamed over after it was read") {
    REQUIRE(arena.write("plan.tmp", "newer").ok());
    REQUIRE(arena.settle());
    REQUIRE(arena.rename("plan.tmp", "plan").ok());
  }
  SUBCASE("backup by rename, then temporary renamed in") {
    REQUIRE(arena.write("plan.tmp", "newer").ok());
    REQUIRE(arena.rename("plan", "plan.bak").ok());
    REQUIRE(arena.rename("plan.tmp", "plan").ok());
    CHECK(arena.at("plan.bak") == oldNode);
    CHECK(*arena.read("plan.bak") == "old");
  }
  SUBCASE("unlinked and made anew") {
    REQUIRE(arena.fs().unlink(kRootNode, "plan").ok());
    REQUIRE(arena.write("plan", "newer").ok());
  }
  SUBCASE("truncated and written") { REQUIRE(arena.write("plan", "newer").ok()); }

  CHECK(*arena.read("plan") == "newer");
  CHECK(arena.unquiet() == "");
  CHECK(*arena.read("plan") == "newer");
  CHECK(arena.idAt("plan") == id);
  CHECK(arena.heads("plan") == 1);
  CHECK(arena.locked([](Core& c) { return c.shownVersion(*c.recordAt("plan"))->second.sizeBytes; }) == 5);
}

TEST_CASE("that an entry is waiting for bytes that are elsewhere on this disk is known under its new number, too") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("plan", "old").ok());
  REQUIRE(arena.settle());
  const EntryId id = arena.idAt("plan");
  const NodeId oldNode = arena.at("plan");
  const BlobId blob = MountedArena::versionOf("elsewhere").blob;
  arena.locked([&](Core& c) { return c.transact([&] { c.store.named().put({oldNode, blob, 0}); }); });

  REQUIRE(arena.rename("plan", "plan~").ok());
  REQUIRE(arena.write("plan", "newer").ok());

  const NodeId newNode = arena.at("plan");
  REQUIRE(arena.idAt("plan") == id);
  REQUIRE(newNode != oldNode);
  CHECK(arena.locked([&](Core& c) { return c.store.named().has(newNode, blob); }));
  CHECK_FALSE(arena.locked([&](Core& c) { return c.store.named().has(oldNode, blob); }));
}

TEST_CASE("a file renamed away long ago keeps its identity") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("plan", "old").ok());
  REQUIRE(arena.settle());
  const EntryId id = arena.idAt("plan");

  REQUIRE(arena.rename("plan", "moved").ok());
  arena.rest();
  REQUIRE(arena.write("plan", "another").ok());

  CHECK(arena.idAt("moved") == id);
  CHECK(arena.idAt("plan") != id);
  CHECK(arena.unquiet() == "");
}

TEST_CASE("rename over, Real and Unreal, needs no bytes and leaves one entry with one head") {
  MountedArena arena;
  REQUIRE(arena.settle());
  bool sourceReal = false, targetReal = false;
  SUBCASE("Real over Real") { sourceReal = targetReal = true; }
  SUBCASE("Real over Unreal") { sourceReal = true; }
  SUBCASE("Unreal over Real") { targetReal = true; }
  SUBCASE("Unreal over Unreal") {}
  auto make = [&](const std::string& name, const std::string& text, bool real) {
    if (real) REQUIRE(arena.write(name, text).ok());
    else arena.makeUnreal(name, text);
  };
  make("source", "from", sourceReal);
  make("target", "older bytes", targetReal);
  REQUIRE(arena.settle());
  const EntryId target = arena.idAt("target");
  const NodeId sourceNode = arena.at("source");

  REQUIRE(arena.rename("source", "target").ok());

  CHECK((arena.idAt("target") == target) == sourceReal);  // Who has not the bytes makes no version of them.
  CHECK(arena.at("target") == sourceNode);
  CHECK(arena.at("source") == 0);
  CHECK(arena.real("target") == sourceReal);
  CHECK(arena.has("target") == sourceReal);
  CHECK(arena.fs().attributes(sourceNode)->sizeBytes == 4);
  CHECK(arena.unquiet() == "");
  CHECK(arena.heads("target") == 1);
  if (sourceReal) CHECK(arena.onDisk("target") == "from");
  else CHECK(arena.read("target").code() == Code::Unreachable);
}

TEST_CASE("rename moves, with whole folders, and refuses what rename(2) refuses") {
  MountedArena arena;
  REQUIRE(arena.settle());
  auto a = arena.fs().makeDirectory(kRootNode, "a", 0755, 0, 0);
  auto b = arena.fs().makeDirectory(kRootNode, "b", 0755, 0, 0);
  REQUIRE(arena.write(a->node, "file", "text").ok());
  REQUIRE(arena.write("other", "x").ok());
  arena.makeUnreal("far", "far away");
  REQUIRE(arena.settle());
  const NodeId file = arena.at("a/file");

  CHECK(arena.rename("a", "other").code() == Code::NotDirectory);
  CHECK(arena.rename("other", "a").code() == Code::IsDirectory);
  CHECK(arena.rename("b", "a").code() == Code::NotEmpty);
  CHECK(arena.rename("none", "c").code() == Code::NotFound);
  CHECK(arena.rename("other", "a", RenameFlag::NoReplace).code() == Code::Exists);
  CHECK(arena.fs().rename(kRootNode, "a", a->node, "inside", RenameFlag::Replace).code() == Code::InvalidArgument);
  CHECK(arena.rename("other", "other").ok());
  CHECK(arena.rename("other", ".realize").code() == Code::PermissionDenied);

  REQUIRE(arena.rename("a", "b").ok());  // over an empty folder
  CHECK(arena.at("b/file") == file);
  CHECK(arena.onDisk("b/file") == "text");
  REQUIRE(arena.fs().rename(kRootNode, "b", kRootNode, "c", RenameFlag::NoReplace).ok());
  REQUIRE(arena.fs().rename(kRootNode, "far", a->node, "near", RenameFlag::NoReplace).ok());
  CHECK(arena.at("c/near") != 0);
  CHECK(arena.unquiet() == "");
}

TEST_CASE("two names of one inode are two files, and a rename over the other leaves one") {
  MountedArena arena;
  std::ofstream(arena.path("one")) << "same";
  std::filesystem::create_hard_link(arena.path("one"), arena.path("two"));
  REQUIRE(arena.settle());

  REQUIRE(arena.rename("one", "two").ok());

  CHECK(arena.at("one") == 0);
  CHECK(!arena.has("one"));
  CHECK(*arena.read("two") == "same");
  CHECK(arena.unquiet() == "");
}

TEST_CASE("a file with the number that another had before is not that one: renamed over it, it keeps its bytes") {
  MountedArena arena;
  std::ofstream(arena.path("file")) << "old";
  REQUIRE(arena.settle());
  REQUIRE(arena.write("save.tmp", "new").ok());
  // As after somebody has replaced the file, or the database was copied to this disk, and before that was read.
  arena.locked([](Core& c) {
    auto known = *c.store.disk().get(c.recordAt("file")->node);
    known.inode = c.store.disk().get(c.recordAt("save.tmp")->node)->inode;
    return c.transact([&] { c.store.disk().put(known); });
  });

  REQUIRE(arena.rename("save.tmp", "file").ok());

  CHECK(arena.onDisk("file") == "new");
  CHECK(!arena.has("save.tmp"));
  REQUIRE(arena.settle());
  CHECK(*arena.read("file") == "new");
  CHECK(arena.unquiet() == "");
}

TEST_CASE("exchange swaps two names, whatever they are") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("one", "1").ok());
  auto folder = arena.fs().makeDirectory(kRootNode, "two", 0755, 0, 0);
  REQUIRE(arena.write(folder->node, "in", "2").ok());
  arena.makeUnreal("three", "333");
  REQUIRE(arena.settle());
  const NodeId one = arena.at("one"), two = arena.at("two"), three = arena.at("three");

  REQUIRE(arena.rename("one", "two", RenameFlag::Exchange).ok());
  CHECK(arena.at("one") == two);
  CHECK(arena.at("two") == one);
  CHECK(arena.onDisk("one/in") == "2");
  CHECK(arena.onDisk("two") == "1");
  REQUIRE(arena.rename("two", "three", RenameFlag::Exchange).ok());
  CHECK(arena.at("three") == one);
  CHECK(arena.at("two") == three);
  CHECK(arena.onDisk("three") == "1");
  CHECK(!arena.has("two"));
  CHECK(arena.rename("one", "none", RenameFlag::Exchange).code() == Code::NotFound);
  CHECK(arena.unquiet() == "");
}

TEST_CASE("an Unreal file shows what the tree knows, and is emptied or removed without its bytes") {
  MountedArena arena;
  REQUIRE(arena.settle());
  const EntryId id = arena.makeUnreal("far", "far away");
  REQUIRE(arena.settle());
  const NodeId node = arena.at("far");
  REQUIRE(node != 0);

  auto attributes = arena.fs().attributes(node);
  CHECK(attributes->sizeBytes == 8);
  CHECK(attributes->blocks512 == 1);
  CHECK(attributes->mtimeNs == 1'600'000'000'123'456'789);
  CHECK(arena.read("far").code() == Code::Unreachable);
  CHECK(arena.open(node, true).code() == Code::Unreachable);
  AttributeChange change;
  change.sizeBytes = 3;
  arena.fs().setAttributes(node, 0, change, [](Result<Attributes> after) { CHECK(after.code() == Code::Busy); });

  SUBCASE("chmod and utimens act on the tree") {
    AttributeChange set;
    set.mode = 0600;
    set.mtimeNs = 5'000'000'000;
    arena.fs().setAttributes(node, 0, set, [](Result<Attributes> after) {
      CHECK(after->mode == 0600);
      CHECK(after->mtimeNs == 5'000'000'000);
    });
    CHECK(arena.unquiet() == "");
    CHECK(arena.heads("far") == 1);
  }
  SUBCASE("unlink") {
    CHECK(arena.fs().unlink(kRootNode, "far").ok());
    CHECK(arena.at("far") == 0);
    CHECK(arena.unquiet() == "");
  }
  SUBCASE("open with truncation makes it Real") {
    REQUIRE(arena.write("far", "mine").ok());
    CHECK(arena.at("far") == node);
    CHECK(arena.idAt("far") == id);
    CHECK(arena.onDisk("far") == "mine");
    CHECK(arena.unquiet() == "");
    CHECK(arena.heads("far") == 1);
  }
  SUBCASE("open for writing makes it Real when the bytes are to be had") {
    REQUIRE(arena.write("near", "far away").ok());
    REQUIRE(arena.settle());
    auto first = arena.open(node, true);
    auto second = arena.open(node, true);
    REQUIRE(first.ok());
    REQUIRE(second.ok());
    CHECK(arena.real("far"));
    CHECK(*arena.readHandle(*first) == "far away");
    REQUIRE(arena.writeHandle(*second, "FAR").ok());
    arena.fs().release(*first);
    arena.fs().release(*second);
    CHECK(*arena.read("far") == "FAR away");
    CHECK(arena.idAt("far") == id);
    CHECK(arena.unquiet() == "");
    CHECK(arena.heads("far") == 1);
  }
}

TEST_CASE("chmod, utimens and truncate of a Real file") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("file", "some bytes").ok());
  REQUIRE(arena.settle());
  const NodeId node = arena.at("file");
  auto set = [&](const AttributeChange& change) {
    Result<Attributes> out = Error{};
    arena.fs().setAttributes(node, 0, change, [&](Result<Attributes> after) { out = std::move(after); });
    return out;
  };

  AttributeChange mode;
  mode.mode = 0640;
  CHECK(set(mode)->mode == 0640);
  CHECK(arena.locked([](Core& c) { return c.shownVersion(*c.recordAt("file"))->second.mode; }) == 0640);
  AttributeChange time;
  time.mtimeNs = 1'500'000'000'987'654'321;
  CHECK(set(time)->mtimeNs == 1'500'000'000'987'654'321);
  CHECK(arena.unquiet() == "");
  AttributeChange size;
  size.sizeBytes = 4;
  CHECK(set(size)->sizeBytes == 4);
  CHECK(arena.onDisk("file") == "some");
  CHECK(arena.unquiet() == "");
  CHECK(arena.heads("file") == 1);
  CHECK(arena.locked([](Core& c) { return c.shownVersion(*c.recordAt("file"))->second.sizeBytes; }) == 4);
}

TEST_CASE("extended attributes: ours of every entry, others of Real ones") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("real", "text").ok());
  arena.makeUnreal("far", "far away");
  REQUIRE(arena.settle());
  const NodeId real = arena.at("real"), far = arena.at("far");
  auto& fs = arena.fs();

  CHECK(*fs.getXattr(real, "user.realize.mark") == "none");
  CHECK(*fs.getXattr(real, "user.realize.status") == "real");
  CHECK(*fs.getXattr(far, "user.realize.status") == "unreal");
  CHECK(fs.getXattr(far, "user.realize.versions")->find(" 8 1600000000.123456789 ") != std::string::npos);
  CHECK(fs.setXattr(far, "user.realize.mark", "real", 0).ok());
  CHECK(*fs.getXattr(far, "user.realize.mark") == "real");
  CHECK(fs.setXattr(far, "user.realize.mark", "perhaps", 0).code() == Code::InvalidArgument);
  CHECK(fs.removeXattr(far, "user.realize.mark").ok());
  CHECK(*fs.getXattr(far, "user.realize.mark") == "none");
  CHECK(fs.setXattr(kRootNode, "user.realize.mark", "unreal", 0).ok());
  CHECK(*fs.getXattr(kRootNode, "user.realize.mark") == "unreal");
  CHECK(fs.setXattr(real, "user.realize.status", "unreal", 0).code() == Code::PermissionDenied);
  CHECK(fs.setXattr(far, "user.other", "x", 0).code() == Code::Unsupported);
  CHECK(fs.getXattr(far, "user.other").code() == Code::NotFound);
  if (auto set = fs.setXattr(real, "user.other", "x", 0); set.ok()) {
    CHECK(*fs.getXattr(real, "user.other") == "x");
    CHECK(fs.listXattrs(real)->size() == 4);
    CHECK(fs.removeXattr(real, "user.other").ok());
    CHECK(fs.getXattr(real, "user.other").code() == Code::NotFound);
  } else {
    CHECK(set.code() == Code::Unsupported);  // a temporary folder without them
  }
  CHECK(fs.listXattrs(far)->size() == 3);
}

TEST_CASE("names are bytes, up to 255 of them") {
  MountedArena arena;
  REQUIRE(arena.settle());
  const std::string odd = "\xff\xfe\x01 *\n";

  CHECK(arena.write(std::string(255, 'n'), "long").ok());
  CHECK(arena.write(std::string(256, 'n'), "too long").code() == Code::NameTooLong);
  CHECK(arena.write(odd, "odd").ok());
  CHECK(arena.write(".realize", "ours").code() == Code::PermissionDenied);
  CHECK(arena.at(".realize") == 0);

  CHECK(*arena.read(odd) == "odd");
  CHECK(arena.unquiet() == "");
}

TEST_CASE("an exclusive create fails on what is there, another opens it") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("file", "text").ok());

  CHECK(arena.fs().create(kRootNode, "file", 0644, 0, 0, true).code() == Code::Exists);
  auto opened = arena.fs().create(kRootNode, "file", 0600, 0, 0, false);
  REQUIRE(opened.ok());
  CHECK(opened->attributes.sizeBytes == 4);
  CHECK(*arena.readHandle(opened->handle) == "text");
  arena.fs().release(opened->handle);
  CHECK(arena.unquiet() == "");
}

TEST_CASE("a handle keeps the version it opened while the file is replaced") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("file", "first").ok());
  auto handle = arena.open(arena.at("file"), false);
  REQUIRE(arena.write("temp", "second!").ok());

  REQUIRE(arena.rename("temp", "file").ok());

  CHECK(*arena.readHandle(*handle) == "first");
  CHECK(*arena.read("file") == "second!");
  CHECK(arena.fs().handleAttributes(*handle)->sizeBytes == 5);
  CHECK(arena.fs().descriptor(*handle) >= 0);
  arena.fs().release(*handle);
  CHECK(arena.fs().descriptor(*handle) == -1);
}

TEST_CASE("what the mount does while the folder is listed is not undone by the old listing") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("a", "1").ok());
  auto folder = arena.fs().makeDirectory(kRootNode, "gone", 0755, 0, 0);
  REQUIRE(arena.write("b", "2").ok());
  REQUIRE(arena.settle());
  const EntryId a = arena.idAt("a");
  arena.locked([](Core& c) { c.folder->rescanAll(); return 0; });
  REQUIRE(arena.scheduler.stepCore());
  while (!arena.scheduler.stepPool()) REQUIRE(arena.scheduler.stepCore());  // The listing is made, and not looked at yet.

  REQUIRE(arena.rename("a", "moved").ok());
  REQUIRE(arena.fs().removeDirectory(kRootNode, "gone").ok());
  REQUIRE(arena.fs().unlink(kRootNode, "b").ok());
  while (arena.scheduler.stepCore()) {
    CHECK(arena.idAt("moved") == a);
    CHECK(arena.at("a") == 0);
    CHECK(arena.at("gone") == 0);
    CHECK(arena.at("b") == 0);
  }

  CHECK(arena.unquiet() == "");
  CHECK(arena.idAt("moved") == a);
}

TEST_CASE("writing goes on while the file is read: in the end the last bytes count") {
  MountedArena arena;
  REQUIRE(arena.settle());
  auto made = arena.fs().create(kRootNode, "log", 0644, 0, 0, true);
  REQUIRE(made.ok());
  for (int i = 0; i < 10; ++i) {
    REQUIRE(arena.writeHandle(made->handle, "line\n", uint64_t(i) * 5).ok());
    if (i % 3 == 2) REQUIRE(arena.settle());
  }
  REQUIRE(arena.writeHandle(made->handle, "LINE", 0).ok());
  arena.fs().release(made->handle);

  CHECK(arena.unquiet() == "");
  CHECK(arena.heads("log") == 1);
  const auto blob = arena.locked([](Core& c) { return c.shownVersion(*c.recordAt("log"))->second.blob; });
  CHECK(blob == MountedArena::versionOf(arena.onDisk("log")).blob);
}

TEST_CASE("after close everything says so, and what waits is answered") {
  MountedArena arena;
  REQUIRE(arena.settle());
  REQUIRE(arena.write("file", "x").ok());
  const NodeId node = arena.at("file");
  auto handle = arena.open(node, false);

  arena.arena->fileSystem().close();

  CHECK(arena.fs().attributes(node).code() == Code::Suspended);
  CHECK(arena.fs().lookup(kRootNode, "file").code() == Code::Suspended);
  CHECK(arena.readHandle(*handle).code() == Code::Suspended);
  CHECK(arena.open(node, false).code() == Code::Suspended);
}

TEST_CASE("an arena without a folder of the user's works the same") {
  MountedArena arena(false);
  REQUIRE(arena.settle());
  auto folder = arena.fs().makeDirectory(kRootNode, "d", 0755, 0, 0);
  REQUIRE(arena.write(folder->node, "file", "text").ok());
  REQUIRE(arena.rename("d", "e").ok());
  REQUIRE(arena.fs().syncDirectory(kRootNode).ok());

  CHECK(*arena.read("e/file") == "text");
  CHECK(arena.unquiet() == "");
  CHECK(arena.fs().space()->totalBytes > 0);
}
