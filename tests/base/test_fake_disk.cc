// What only the fake disk does: crashes, failures, races, snapshots, and a watcher to match.

#include <doctest/doctest.h>

#include <set>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_disk.h"
#include "tests/support/fake_random.h"

using namespace realize;
using namespace realize::test;

namespace {

Bytes bytesOf(std::string_view text) {
  auto* p = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(p, p + text.size());
}

struct Disky {
  FakeClock clock;
  FakeDisk disk{clock};
  std::unique_ptr<Directory> root;

  Disky() {
    disk.makeFolder("/home");
    reopen();
  }
  void reopen() { root = std::move(disk.openRoot("/home")).value(); }
  void put(const std::string& path, std::string_view text, bool sync) {
    auto file = root->open(path, OpenMode::CreateOrOpen);
    REQUIRE(file.ok());
    REQUIRE((*file)->truncate(0).ok());
    REQUIRE((*file)->write(0, bytesOf(text)).ok());
    if (sync) REQUIRE((*file)->sync(true).ok());
  }
  std::string get(const std::string& path) {
    auto bytes = readFile(*root, path, 1 << 24);
    if (!bytes.ok()) return "<" + std::string(codeName(bytes.code())) + ">";
    return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }
  void crash(uint64_t seed) {
    FakeRandom random(seed);
    disk.crash(random);
    reopen();
  }
};

}  // namespace

TEST_CASE("a crash keeps what was synced, whatever the dice say") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Disky d;
    d.put("f", "synced", true);
    REQUIRE(d.root->syncDirectory("").ok());
    d.put("g", "all", false);
    REQUIRE(d.root->syncAll().ok());

    d.crash(seed);
    CHECK(d.get("f") == "synced");
    CHECK(d.get("g") == "all");
  }
}

TEST_CASE("a crash may lose what was not synced, and in more than one way") {
  std::set<std::string> contents, names;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Disky d;
    d.put("f", std::string(10000, 'o'), true);
    REQUIRE(d.root->syncDirectory("").ok());
    auto file = std::move(d.root->open("f", OpenMode::ReadWrite)).value();
    REQUIRE(file->write(0, bytesOf(std::string(12000, 'n'))).ok());
    d.put("unsynced", "x", true);

    d.crash(seed);
    contents.insert(d.get("f"));
    names.insert(*exists(*d.root, "unsynced") ? "there" : "gone");
  }

  CHECK(names.size() == 2);
  CHECK(contents.size() > 5);
  CHECK(contents.count(std::string(10000, 'o')) == 1);
  CHECK(contents.count(std::string(12000, 'n')) == 1);
  bool torn = false;
  for (auto& c : contents) torn |= c.find('o') != std::string::npos && c.find('n') != std::string::npos;
  CHECK(torn);
}

TEST_CASE("a truncation happened or did not, and old bytes never come back behind it") {
  std::set<std::string> seen;
  std::string old(5 * kFakeBlockBytes, 'o');
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Disky d;
    d.put("f", old, true);
    d.disk.settle();
    d.put("f", std::string(2 * kFakeBlockBytes, 'n'), false);

    d.crash(seed);
    std::string got = d.get("f");
    seen.insert(got);
    if (got != old) {
      CHECK(got.size() <= 2 * kFakeBlockBytes);
      CHECK(got.find('o') == std::string::npos);
    }
  }
  CHECK(seen.count(old) == 1);
  CHECK(seen.count("") == 1);
  CHECK(seen.count(std::string(2 * kFakeBlockBytes, 'n')) == 1);
}

TEST_CASE("a rename over a file leaves the old or the new one, never none") {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Disky d;
    d.put("f", "old", true);
    REQUIRE(d.root->syncDirectory("").ok());
    d.put("tmp", "new", true);
    REQUIRE(d.root->rename("tmp", "f", RenameKind::Replace).ok());

    d.crash(seed);
    seen.insert(d.get("f") + "+" + d.get("tmp"));
  }

  CHECK(seen == std::set<std::string>{"old+<not-found>", "old+new", "new+<not-found>"});
}

TEST_CASE("an exchange happened on both sides or on neither, also between directories") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Disky d;
    for (std::string path : {"a", "b", "a/x", "b/x"}) REQUIRE(d.root->makeDirectory(path, 0755).ok());
    d.put("a/x/f", "A", true);
    d.put("b/x/f", "B", true);
    d.disk.settle();
    REQUIRE(d.root->rename("a/x", "b/x", RenameKind::Exchange).ok());
    REQUIRE(d.root->rename("a/x/f", "b/x/f", RenameKind::Exchange).ok());

    d.crash(seed);
    std::string both = d.get("a/x/f") + d.get("b/x/f");
    CHECK((both == "AB" || both == "BA"));
  }
}

TEST_CASE("no crash loses a file that was durable and only moved") {
  // Directories made anew, moved into each other and removed, with a durable file carried through all of it.
  for (uint64_t seed = 0; seed < 500; ++seed) {
    Disky d;
    FakeRandom random(seed);
    REQUIRE(d.root->makeDirectory("d0", 0755).ok());
    d.put("d0/f", "precious", true);
    d.disk.settle();
    std::string at = "d0/f";
    for (int step = 1; step < 8; ++step) {
      std::string fresh = "d" + std::to_string(step);
      std::string parent = at.substr(0, at.rfind('/'));
      std::string where = random.oneIn(2) ? fresh : parent + "/" + fresh;
      REQUIRE(d.root->makeDirectory(where, 0755).ok());
      REQUIRE(d.root->rename(at, where + "/f", RenameKind::Replace).ok());
      if (random.oneIn(2)) (void)d.root->removeDirectory(parent);
      if (random.oneIn(3)) REQUIRE(d.root->syncDirectory(where).ok());
      if (random.oneIn(4)) {
        REQUIRE(d.root->rename(where, "moved" + fresh, RenameKind::Replace).ok());
        where = "moved" + fresh;
      }
      at = where + "/f";
    }

    d.crash(seed + 1000);
    std::string all = d.disk.dump();
    CAPTURE(all);
    CHECK(all.find("/f file 600 8 bytes 'precious'") != std::string::npos);
    CHECK(all.find("precious") == all.rfind("precious"));
  }
}

TEST_CASE("no crash takes a file's old name and keeps its new link back") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Disky d;
    d.put("old", "precious", true);
    d.disk.settle();
    d.disk.hardLink("/home/old", "/home/new");
    CHECK(d.root->stat("new")->links == 2);
    REQUIRE(d.root->unlink("old").ok());

    d.crash(seed);
    CHECK(d.disk.dump().find("precious") != std::string::npos);
  }
}

TEST_CASE("the sync of a directory makes its names durable but not its own") {
  int lost = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Disky d;
    REQUIRE(d.root->makeDirectory("new", 0755).ok());
    d.put("new/f", "1", true);
    REQUIRE(d.root->syncDirectory("new").ok());

    d.crash(seed);
    if (!*exists(*d.root, "new")) ++lost;
    else CHECK(d.get("new/f") == "1");
  }

  CHECK(lost > 10);
  CHECK(lost < 90);
}

TEST_CASE("after a crash old handles fail and the disk goes on") {
  Disky d;
  d.put("f", "1", true);
  d.disk.settle();
  auto file = std::move(d.root->open("f", OpenMode::ReadWrite)).value();
  auto old = std::move(d.root);

  d.crash(1);
  CHECK(file->write(0, bytesOf("2")).code() == Code::Io);
  CHECK(old->stat("f").code() == Code::Io);
  CHECK(d.get("f") == "1");
  file.reset();
  old.reset();
  CHECK(d.disk.openHandles() == 0);
}

TEST_CASE("after the power went off nothing changes any more") {
  Disky d;
  d.put("f", "1", true);
  d.disk.settle();
  d.disk.powerOffBefore(2);

  auto file = d.root->open("f", OpenMode::ReadWrite);
  REQUIRE(file.ok());
  CHECK((*file)->write(0, bytesOf("2")).ok());
  CHECK((*file)->sync(true).code() == Code::Io);
  CHECK(d.disk.isPowerOff());
  CHECK(d.root->unlink("f").code() == Code::Io);
  d.crash(3);
  CHECK_FALSE(d.disk.isPowerOff());
  std::string got = d.get("f");
  CHECK((got == "1" || got == "2"));
}

TEST_CASE("a sync that failed loses the bytes though the next one succeeds") {
  int lost = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Disky d;
    d.put("f", "old", true);
    d.disk.settle();
    auto file = std::move(d.root->open("f", OpenMode::ReadWrite)).value();
    REQUIRE(file->write(0, bytesOf("new")).ok());
    d.disk.fail(FakeOp::FileSync, "f", Code::Io);

    CHECK(file->sync(true).code() == Code::Io);
    CHECK(file->sync(true).ok());
    CHECK(d.get("f") == "new");
    d.crash(seed);
    lost += d.get("f") == "old";
  }
  CHECK(lost > 5);
}

TEST_CASE("failures are injected by kind, path and count") {
  Disky d;
  d.put("a", "1", true);
  d.put("b", "1", true);
  d.disk.fail(FakeOp::Read, "home/a", Code::Io, 1, 2);

  CHECK(d.get("b") == "1");
  CHECK(d.get("a") == "1");
  CHECK(d.get("a") == "<io>");
  CHECK(d.get("a") == "<io>");
  CHECK(d.get("a") == "1");
}

TEST_CASE("a full disk takes no more bytes and keeps what it has") {
  Disky d;
  d.put("f", "kept", true);
  d.disk.setFreeBytes(2 * kFakeBlockBytes);
  auto file = std::move(d.root->open("g", OpenMode::CreateNew)).value();

  CHECK(file->write(0, Bytes(3 * kFakeBlockBytes)).code() == Code::NoSpace);
  CHECK(d.root->space()->freeBytes == 0);
  CHECK(d.get("f") == "kept");
  REQUIRE(file->truncate(0).ok());
  CHECK(file->write(0, Bytes(2 * kFakeBlockBytes)).ok());
  CHECK(file->punchHole(0, kFakeBlockBytes).ok());
  CHECK(file->write(5 * kFakeBlockBytes, Bytes(1)).ok());
  CHECK(file->allocate(0, kFakeBlockBytes, true).code() == Code::NoSpace);
  file.reset();
  REQUIRE(d.root->unlink("g").ok());
  d.disk.settle();
  CHECK(d.root->space()->freeBytes == 2 * kFakeBlockBytes);
}

TEST_CASE("modes keep out who is not root") {
  Disky d;
  REQUIRE(d.root->makeDirectory("d", 0755).ok());
  d.put("d/f", "1", true);
  d.put("secret", "1", true);
  REQUIRE(d.root->setMode("d", 0).ok());
  REQUIRE(d.root->setMode("secret", 0).ok());
  CHECK(d.get("d/f") == "1");
  d.disk.enforcePermissions(true);

  CHECK(d.root->list("d").code() == Code::PermissionDenied);
  CHECK(d.root->stat("d/f").code() == Code::PermissionDenied);
  CHECK(d.root->unlink("d/f").code() == Code::PermissionDenied);
  CHECK(d.root->open("secret", OpenMode::Read).code() == Code::PermissionDenied);
  CHECK(d.root->stat("secret").ok());
  REQUIRE(d.root->setMode("d", 0400).ok());
  auto items = d.root->list("d");
  REQUIRE(items.ok());
  REQUIRE(items->size() == 1);
  CHECK((*items)[0].failed);
}

TEST_CASE("a hook sees each operation, may race it and may answer for it") {
  Disky d;
  d.put("f", "1", true);
  std::vector<std::string> calls;
  d.disk.setHook([&](const FakeCall& call) -> std::optional<Error> {
    calls.push_back(call.path + (call.path2.empty() ? "" : ">" + call.path2));
    if (call.op == FakeOp::Rename) d.put("f", "raced", false);
    if (call.op == FakeOp::Unlink) return Error{Code::Busy, "answered"};
    return {};
  });

  REQUIRE(d.root->rename("f", "g", RenameKind::Replace).ok());
  CHECK(d.root->unlink("g").code() == Code::Busy);
  d.disk.setHook(nullptr);
  CHECK(d.get("g") == "raced");
  CHECK(calls == std::vector<std::string>{"/home/f>/home/g", "/home/g"});
}

TEST_CASE("a snapshot stays as it was, and can be another machine's disk") {
  Disky d;
  d.put("f", std::string(9000, '1'), true);
  FakeImage then = d.disk.snapshot();
  FileStat before = *d.root->stat("f");
  d.put("f", std::string(9000, '2'), true);
  d.put("new", "x", true);

  FakeDisk clone(d.clock, then);
  auto root = std::move(clone.openRoot("/home")).value();
  CHECK(readFile(*root, "f", 1 << 20)->at(8999) == std::byte{'1'});
  CHECK(root->stat("f")->sameObject(before));
  CHECK(d.get("f") == std::string(9000, '2'));
  d.disk.restore(then);
  d.reopen();
  CHECK(d.get("f") == std::string(9000, '1'));
  CHECK(d.get("new") == "<not-found>");
  d.clock.advance(5);
  d.disk.restore(then, true);
  d.reopen();
  CHECK(d.get("f") == std::string(9000, '1'));
  CHECK_FALSE(d.root->stat("f")->sameObject(before));
  CHECK(d.root->stat("f")->mtimeNs == before.mtimeNs);
}

TEST_CASE("an inode's number may come again, with another time of birth") {
  Disky d;
  d.disk.reuseInodes(true);
  d.put("f", "1", true);
  FileStat first = *d.root->stat("f");
  REQUIRE(d.root->unlink("f").ok());
  d.disk.settle();
  d.clock.advance(1);
  d.put("g", "1", true);

  CHECK(d.root->stat("g")->inode == first.inode);
  CHECK_FALSE(d.root->stat("g")->sameObject(first));
}

TEST_CASE("another file system within the tree has its own device and takes no renames") {
  Disky d;
  REQUIRE(d.root->makeDirectory("mnt", 0755).ok());
  d.put("f", "1", true);
  d.disk.setDevice("/home/mnt", 77);

  CHECK(d.root->rename("f", "mnt/f", RenameKind::Replace).code() == Code::Unsupported);
  d.put("mnt/g", "1", true);
  CHECK(d.root->stat("mnt/g")->device == 77);
}

TEST_CASE("the fake watcher tells what inotify would") {
  Disky d;
  REQUIRE(d.root->makeDirectory("a", 0755).ok());
  auto watcher = d.disk.watch("/home");
  auto events = [&] {
    std::set<std::string> out;
    auto drained = watcher->drain();
    REQUIRE(drained.ok());
    for (auto& e : *drained) out.insert(e.overflow ? "overflow" : e.directory + "|" + e.name);
    return out;
  };
  using Names = std::set<std::string>;
  REQUIRE(watcher->add("").ok());
  REQUIRE(watcher->add("a").ok());

  d.put("a/f", "1", true);
  CHECK(events() == Names{"a|f"});
  REQUIRE(d.root->rename("a/f", "g", RenameKind::Replace).ok());
  CHECK(events() == Names{"a|f", "|g"});
  REQUIRE(d.root->rename("a", "b", RenameKind::Replace).ok());
  CHECK(events() == Names{"a|", "|a", "|b"});
  watcher->renamed("a", "b");
  d.put("b/f", "1", true);
  CHECK(events() == Names{"b|f"});
  REQUIRE(d.root->setMode("b/f", 0600).ok());
  CHECK(events() == Names{"b|f"});
  d.put("g2", "1", true);
  CHECK(events() == Names{"|g2"});
  REQUIRE(d.root->rename("g2", "b/g2", RenameKind::NoReplace).ok());
  CHECK(watcher->expect("b", d.root->stat("b")->inode, "g2"));
  CHECK(events() == Names{"|g2"});
  REQUIRE(d.root->unlink("b/g2").ok());
  CHECK(events() == Names{"b|g2"});
  d.disk.muteWatchers(true);
  d.put("b/f", "2", true);
  d.disk.muteWatchers(false);
  CHECK(events().empty());
  d.put("b/f", "3", true);
  d.disk.overflowWatchers();
  CHECK(events() == Names{"overflow"});
  REQUIRE(d.root->unlink("b/f").ok());
  REQUIRE(d.root->removeDirectory("b").ok());
  CHECK(events() == Names{"b|f", "b|", "|b"});
  d.disk.setWatchLimit(1);
  REQUIRE(d.root->makeDirectory("c", 0755).ok());
  CHECK(watcher->add("c").code() == Code::TooLarge);
  d.crash(1);
  CHECK(watcher->drain().code() == Code::Io);
}

TEST_CASE("the same seed gives the same disk") {
  auto run = [](uint64_t seed) {
    Disky d;
    for (int i = 0; i < 20; ++i) d.put("f" + std::to_string(i), std::string(size_t(i) * 700, char('a' + i)), i % 3 == 0);
    d.crash(seed);
    return d.disk.dump();
  };

  CHECK(run(7) == run(7));
  CHECK(run(7) != run(8));
}
