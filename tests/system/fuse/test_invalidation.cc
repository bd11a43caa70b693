// Changes from elsewhere show without remount and without polling, although the kernel caches for a day.

#include <dirent.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <set>
#include <thread>
#include <vector>

#include "mounted.h"

namespace realize::test {

namespace {

std::set<std::string> namesIn(const std::string& path) {
  std::set<std::string> names;
  for (auto& entry : std::filesystem::directory_iterator(path)) names.insert(entry.path().filename());
  return names;
}

}  // namespace

TEST_CASE("names and attributes are cached by the kernel") {
  Mounted m;
  m.fs.writeUnderneath("a", "text");
  m.mount->drainInvalidations();
  CHECK(exists(m.at("a")));
  CHECK_FALSE(exists(m.at("none")));
  size_t before = m.fs.lookups();

  for (int i = 0; i < 100; ++i) {
    CHECK(statOf(m.at("a")).st_size == 4);
    CHECK_FALSE(exists(m.at("none")));
  }

  CHECK(m.fs.lookups() == before);
}

TEST_CASE("a new content shows, with its size") {
  for (bool descriptors : {false, true}) {
    Mounted m({}, descriptors);
    m.fs.writeUnderneath("a", "old");
    CHECK(readFile(m.at("a")) == "old");
    CHECK(statOf(m.at("a")).st_size == 3);

    m.fs.writeUnderneath("a", "newer");
    m.mount->drainInvalidations();

    CHECK(statOf(m.at("a")).st_size == 5);
    CHECK(readFile(m.at("a")) == "newer");
    m.fs.writeUnderneath("a", "NEWER");  // the same size
    m.mount->drainInvalidations();
    CHECK(readFile(m.at("a")) == "NEWER");
  }
}

TEST_CASE("a mode changed elsewhere shows") {
  Mounted m;
  m.fs.writeUnderneath("a", "");
  CHECK((statOf(m.at("a")).st_mode & 07777) == 0644);

  m.fs.chmodUnderneath("a", 0600);
  m.mount->drainInvalidations();

  CHECK((statOf(m.at("a")).st_mode & 07777) == 0600);
}

TEST_CASE("a name that did not exist appears") {
  Mounted m;
  CHECK_FALSE(exists(m.at("a")));
  CHECK(namesIn(m.folder.path()).empty());

  m.fs.writeUnderneath("a", "text");
  m.mount->drainInvalidations();

  CHECK(readFile(m.at("a")) == "text");
  CHECK(namesIn(m.folder.path()) == std::set<std::string>{"a"});
}

TEST_CASE("a name that nobody asked for appears in a listing that was cached") {
  Mounted m;
  m.fs.makeDirectoryUnderneath("d");
  m.fs.writeUnderneath("d/a", "text");
  for (const char* dir : {"", "d"}) {
    m.mount->drainInvalidations();
    auto before = namesIn(m.at(dir));
    CHECK(namesIn(m.at(dir)) == before);
    std::string fresh = std::string(dir) + (*dir ? "/" : "") + "fresh";

    m.fs.writeUnderneath(fresh, "text");
    m.fs.makeDirectoryUnderneath(fresh + "-d");
    m.mount->drainInvalidations();

    before.insert({"fresh", "fresh-d"});
    CHECK(namesIn(m.at(dir)) == before);
  }
}

TEST_CASE("O_CREAT of what appeared a moment ago opens it, before the kernel was told") {
  Mounted m;
  CHECK_FALSE(exists(m.at("a")));
  NodeId node = m.fs.writeUnderneath("a", "text", false);
  m.fs.setUnreal(node);

  File file(m.at("a"), O_RDWR | O_CREAT);

  REQUIRE(file.ok());
  char buffer[10] = {};
  CHECK(read(file.fd(), buffer, sizeof buffer) == 4);
}

TEST_CASE("what is another node since a moment ago is found under its name, before the kernel was told") {
  Mounted m;
  auto replace = [&m](const std::string& content) {
    if (m.fs.nodeAt("d/a")) m.fs.removeUnderneath("d/a", false);
    m.fs.writeUnderneath("d/a", content, false);
  };
  m.fs.makeDirectoryUnderneath("d");
  replace("first");
  CHECK(readFile(m.at("d/a")) == "first");

  replace("read");
  CHECK(readFile(m.at("d/a")) == "read");
  replace("written");
  CHECK(writeFile(m.at("d/a"), "by this one"));
  CHECK(m.fs.contentAt("d/a") == "by this one");
  replace("cut");
  CHECK(truncate(m.at("d/a").c_str(), 1) == 0);
  CHECK(m.fs.contentAt("d/a") == "c");
  replace("mode");
  CHECK(chmod(m.at("d/a").c_str(), 0600) == 0);
  replace("attribute");
  CHECK(setxattr(m.at("d/a").c_str(), "user.x", "1", 1, 0) == 0);
  replace("without");
  char value[10];
  CHECK(errorOf(static_cast<int>(getxattr(m.at("d/a").c_str(), "user.x", value, sizeof value))) == ENODATA);
  // The folder, too.
  m.fs.removeUnderneath("d/a", false);
  m.fs.removeUnderneath("d", false);
  m.fs.makeDirectoryUnderneath("d", false);
  replace("in another folder");
  CHECK(readFile(m.at("d/a")) == "in another folder");
  m.fs.removeUnderneath("d/a", false);
  m.fs.removeUnderneath("d", false);
  m.fs.makeDirectoryUnderneath("d", false);
  REQUIRE(writeFile(m.at("d/e"), "made there"));
  CHECK(m.fs.contentAt("d/e") == "made there");
  // Gone is gone.
  m.fs.removeUnderneath("d/e", false);
  m.fs.removeUnderneath("d", false);
  CHECK(readFile(m.at("d/a")) == "errno " + std::to_string(ENOENT));
}

TEST_CASE("a removed name goes, and who has it open is told") {
  Mounted m;
  m.fs.writeUnderneath("a", "text");
  m.fs.makeDirectoryUnderneath("d");
  m.fs.writeUnderneath("d/inner", "text");
  CHECK(namesIn(m.folder.path()).size() == 2);
  CHECK(exists(m.at("d/inner")));
  CHECK(exists(m.at("a")));
  File open(m.at("a"), O_RDONLY);

  m.fs.removeUnderneath("a");
  m.fs.removeUnderneath("d/inner");
  m.fs.removeUnderneath("d");
  m.mount->drainInvalidations();

  CHECK_FALSE(exists(m.at("a")));
  CHECK_FALSE(exists(m.at("d")));
  CHECK(namesIn(m.folder.path()).empty());
  struct stat st;
  REQUIRE(fstat(open.fd(), &st) == 0);
  CHECK(st.st_nlink == 0);
}

TEST_CASE("a folder moved elsewhere keeps what stands in it, also a working folder") {
  Mounted m;
  m.fs.makeDirectoryUnderneath("d");
  m.fs.makeDirectoryUnderneath("other");
  m.fs.writeUnderneath("d/f", "text");
  CHECK(readFile(m.at("d/f")) == "text");
  File inside(m.at("d"), O_RDONLY | O_DIRECTORY);
  ino_t inode = statOf(m.at("d")).st_ino;

  m.fs.renameUnderneath("d", "other/e");
  m.mount->drainInvalidations();

  CHECK_FALSE(exists(m.at("d")));
  CHECK(readFile(m.at("other/e/f")) == "text");
  CHECK(statOf(m.at("other/e")).st_ino == inode);
  CHECK(faccessat(inside.fd(), "f", R_OK, 0) == 0);
  CHECK(namesIn(m.at("other")) == std::set<std::string>{"e"});
}

TEST_CASE("a file replaced by another node under the same name shows the new one") {
  Mounted m;
  m.fs.writeUnderneath("a", "old");
  m.fs.writeUnderneath("b", "new");
  CHECK(readFile(m.at("a")) == "old");
  CHECK(readFile(m.at("b")) == "new");

  m.fs.renameUnderneath("b", "a");
  m.mount->drainInvalidations();

  CHECK(readFile(m.at("a")) == "new");
  CHECK_FALSE(exists(m.at("b")));
}

TEST_CASE("an open file keeps its version while new opens see the new one") {
  Mounted m;
  m.fs.writeUnderneath("a", "old version");
  File old(m.at("a"), O_RDONLY);
  char buffer[20] = {};
  CHECK(pread(old.fd(), buffer, 3, 0) == 3);

  m.fs.writeUnderneath("a", "new version");
  m.mount->drainInvalidations();

  CHECK(readFile(m.at("a")) == "new version");
  CHECK(pread(old.fd(), buffer, sizeof buffer, 0) == 11);
  CHECK(std::string(buffer) == "old version");
  CHECK(readFile(m.at("a")) == "new version");
  old.close();
  // The release comes after close(2) returned; what the old handle left in the cache goes with it.
  File again(m.at("a"), O_RDONLY);
  again.close();
  REQUIRE(m.mount->unmount().ok());
}

TEST_CASE("pages that an old version left are not shown once it is closed") {
  Mounted m;
  m.fs.writeUnderneath("a", "old version");
  auto old = std::make_unique<File>(m.at("a"), O_RDONLY);
  m.fs.writeUnderneath("a", "new version");
  m.mount->drainInvalidations();
  char buffer[20] = {};
  REQUIRE(pread(old->fd(), buffer, sizeof buffer, 0) == 11);
  REQUIRE(std::string(buffer) == "old version");

  old.reset();
  while (m.fs.openHandles() > 0) std::this_thread::yield();
  m.mount->drainInvalidations();

  CHECK(readFile(m.at("a")) == "new version");
}

TEST_CASE("a mapping sees a change made in place elsewhere") {
  Mounted m({}, true);
  m.fs.writeUnderneath("a", "one");
  File file(m.at("a"), O_RDONLY);
  char* map = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.fd(), 0));
  REQUIRE(map != MAP_FAILED);
  CHECK(std::string(map, 3) == "one");

  m.fs.changeInPlaceUnderneath("a", "two");
  m.mount->drainInvalidations();

  CHECK(std::string(map, 3) == "two");
  munmap(map, 4096);
}

TEST_CASE("a change during a read under way is told after it, and blocks no other") {
  Mounted m;
  NodeId slow = m.fs.writeUnderneath("slow", "old");
  m.fs.writeUnderneath("other", "old");
  CHECK(readFile(m.at("other")) == "old");
  m.fs.holdReads(slow);
  auto reader = std::async(std::launch::async, readFile, m.at("slow"));
  REQUIRE(m.fs.waitForHeldReads(1));

  m.fs.writeUnderneath("slow", "new");
  m.fs.writeUnderneath("other", "new");
  m.mount->drainInvalidations();
  CHECK(readFile(m.at("other")) == "new");
  m.fs.releaseReads(slow);

  CHECK(reader.get() == "old");
  while (m.fs.openHandles() > 0) std::this_thread::yield();
  m.mount->drainInvalidations();
  CHECK(readFile(m.at("slow")) == "new");
}

TEST_CASE("what the kernel was never told of costs it no notification, however much changes") {
  fuse::MountOptions options;
  options.queuedInvalidations = 16;
  Mounted m(options);
  m.fs.makeDirectoryUnderneath("d");

  for (int i = 0; i < 1000; ++i) m.fs.writeUnderneath("d/" + std::to_string(i), "text");
  m.mount->drainInvalidations();

  CHECK(namesIn(m.at("d")).size() == 1000);
}

TEST_CASE("a full queue makes the library wait and loses nothing") {
  fuse::MountOptions options;
  options.queuedInvalidations = 16;
  Mounted m(options);
  m.fs.populate(1, 500, 0);
  CHECK(namesIn(m.at("dir0")).size() == 500);
  for (int i = 0; i < 500; ++i) CHECK(statOf(m.at("dir0/file" + std::to_string(i))).st_size == 0);

  for (int i = 0; i < 500; ++i) m.fs.writeUnderneath("dir0/file" + std::to_string(i), "text");
  m.mount->drainInvalidations();

  int wrong = 0;
  for (int i = 0; i < 500; ++i) wrong += readFile(m.at("dir0/file" + std::to_string(i))) != "text";
  CHECK(wrong == 0);
}

TEST_CASE("changes elsewhere among lookups, listings and renames here leave no stale answer") {
  Mounted m;
  m.fs.makeDirectoryUnderneath("d");
  m.fs.makeDirectoryUnderneath("mine");
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        std::string name = std::to_string(i % 20);
        (void)exists(m.at("d/" + name));
        (void)readFile(m.at("d/" + name));
        std::error_code ignored;
        if (t == 0)
          for (auto& entry : std::filesystem::directory_iterator(m.at("d"), ignored)) (void)statOf(entry.path());
        std::string a = m.at("mine/a" + std::to_string(t)), b = m.at("mine/b" + std::to_string(t));
        writeFile(a, "x");
        rename(a.c_str(), b.c_str());
      }
    });

  for (int round = 0; round < 60; ++round) {
    for (int i = 0; i < 20; ++i) {
      std::string path = "d/" + std::to_string(i);
      switch ((round + i) % 4) {
        case 0: m.fs.writeUnderneath(path, "round " + std::to_string(round)); break;
        case 1: m.fs.writeUnderneath(path, "longer in round " + std::to_string(round)); break;
        case 2: if (m.fs.nodeAt(path)) m.fs.chmodUnderneath(path, 0600 + static_cast<uint32_t>(round % 8)); break;
        case 3: if (m.fs.nodeAt(path)) m.fs.removeUnderneath(path); break;
      }
    }
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  m.mount->drainInvalidations();

  int wrong = 0;
  std::set<std::string> there;
  for (int i = 0; i < 20; ++i)
    if (m.fs.nodeAt("d/" + std::to_string(i))) there.insert(std::to_string(i));
  CHECK(namesIn(m.at("d")) == there);
  for (int i = 0; i < 20; ++i) {
    std::string path = "d/" + std::to_string(i);
    NodeId node = m.fs.nodeAt(path);
    struct stat st = statOf(m.at(path));
    wrong += st.st_ino != node;
    if (node == 0) continue;
    wrong += readFile(m.at(path)) != m.fs.contentAt(path);
    wrong += static_cast<uint64_t>(st.st_size) != m.fs.contentAt(path).size();
  }
  CHECK(wrong == 0);
}

}  // namespace realize::test
