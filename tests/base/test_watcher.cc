#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cstring>
#include <set>

#include "librealize/base/disk.h"
#include "librealize/base/inotify_events.h"
#include "tests/support/temp_dir.h"

using namespace realize;

namespace {

// The kernel queues an event before the call that caused it returns, so nothing here has to wait.
struct Watched {
  test::TempDir temp;
  std::unique_ptr<Directory> root = std::move(systemDisk().openRoot(temp.path())).value();
  std::unique_ptr<Watcher> watcher = std::move(watchFolder(temp.path())).value();

  void put(const std::string& path) {
    auto file = root->open(path, OpenMode::CreateOrOpen);
    REQUIRE(file.ok());
    REQUIRE((*file)->write(0, Bytes(3)).ok());
  }
  /// "directory|name" of all events.
  std::set<std::string> events() {
    std::set<std::string> out;
    auto drained = watcher->drain();
    REQUIRE(drained.ok());
    for (auto& event : *drained) {
      CHECK_FALSE(event.overflow);
      CHECK(out.insert(event.directory + "|" + event.name).second);
    }
    return out;
  }
};

using Names = std::set<std::string>;

void append(Bytes& to, int watch, uint32_t mask, std::string_view name, uint32_t nameBytes) {
  inotify_event head{};
  head.wd = watch;
  head.mask = mask;
  head.len = nameBytes;
  size_t at = to.size();
  to.resize(at + sizeof(head) + std::max<size_t>(nameBytes, name.size()));
  memcpy(to.data() + at, &head, sizeof(head));
  memcpy(to.data() + at + sizeof(head), name.data(), name.size());
}

}  // namespace

TEST_CASE("each kind of change tells its directory and name, once a drain") {
  Watched w;
  REQUIRE(w.root->makeDirectory("d", 0755).ok());
  w.put("d/old");
  REQUIRE(w.watcher->add("").ok());
  REQUIRE(w.watcher->add("d").ok());
  CHECK(w.events().empty());

  w.put("d/new");
  w.put("top");
  CHECK(w.events() == Names{"d|new", "|top"});
  w.put("d/old");
  w.put("d/old");
  CHECK(w.events() == Names{"d|old"});
  REQUIRE(w.root->setMode("d/old", 0600).ok());
  CHECK(w.events() == Names{"d|old"});
  REQUIRE(w.root->rename("d/old", "moved", RenameKind::Replace).ok());
  CHECK(w.events() == Names{"d|old", "|moved"});
  REQUIRE(w.root->unlink("moved").ok());
  CHECK(w.events() == Names{"|moved"});
  REQUIRE(w.root->makeSymlink("d/link", "x").ok());
  REQUIRE(w.root->makeDirectory("d/sub", 0755).ok());
  CHECK(w.events() == Names{"d|link", "d|sub"});
  CHECK(w.events().empty());
}

TEST_CASE("the descriptor polls readable when there is something") {
  Watched w;
  REQUIRE(w.watcher->add("").ok());
  pollfd p{w.watcher->descriptor(), POLLIN, 0};

  CHECK(poll(&p, 1, 0) == 0);
  w.put("f");
  CHECK(poll(&p, 1, 0) == 1);
  w.events();
  CHECK(poll(&p, 1, 0) == 0);
}

TEST_CASE("what came by a rename that was expected is not told, and all else is") {
  Watched w;
  REQUIRE(w.root->makeDirectory("d", 0755).ok());
  REQUIRE(w.root->makeDirectory("away", 0755).ok());
  for (const char* file : {"away/a", "away/b", "away/c", "away/d"}) w.put(file);
  REQUIRE(w.watcher->add("d").ok());
  const uint64_t inode = w.root->stat("d")->inode;
  auto come = [&](const std::string& name) { REQUIRE(w.root->rename("away/" + name, "d/" + name, RenameKind::NoReplace).ok()); };

  come("a");
  come("b");
  CHECK(w.watcher->expect("d", inode, "a"));
  CHECK(w.watcher->expecting());
  CHECK(w.events() == Names{"d|b"});
  CHECK_FALSE(w.watcher->expecting());

  come("c");
  CHECK(w.watcher->expect("d", inode, "c"));
  w.put("d/c");
  CHECK(w.events() == Names{"d|c"});

  // Somebody else's comes to the same name later.
  come("d");
  CHECK(w.watcher->expect("d", inode, "d"));
  REQUIRE(w.root->rename("d/d", "d/x", RenameKind::NoReplace).ok());
  w.put("away/d");
  come("d");
  CHECK(w.events() == Names{"d|d", "d|x"});

  // What was not told when the queue was empty will not be, and another directory's is told.
  CHECK(w.watcher->expect("d", inode, "later"));
  CHECK(w.events().empty());
  w.put("away/later");
  come("later");
  CHECK(w.events() == Names{"d|later"});
  CHECK_FALSE(w.watcher->expect("d", inode + 1, "e"));
  CHECK_FALSE(w.watcher->expect("away", w.root->stat("away")->inode, "e"));
}

TEST_CASE("after the rename of a directory, events under it carry the new path") {
  Watched w;
  for (std::string d : {"a", "a/b", "a/b/c", "other", "other/place"}) {
    REQUIRE(w.root->makeDirectory(d, 0755).ok());
    REQUIRE(w.watcher->add(d).ok());
  }
  REQUIRE(w.root->rename("a", "other/place/z", RenameKind::Replace).ok());
  w.events();

  w.watcher->renamed("a", "other/place/z");
  w.put("other/place/z/b/c/f");
  w.put("other/place/z/f");
  CHECK(w.events() == Names{"other/place/z/b/c|f", "other/place/z|f"});
  REQUIRE(w.root->makeDirectory("a", 0755).ok());
  REQUIRE(w.watcher->add("a").ok());
  w.put("a/f");
  CHECK(w.events() == Names{"a|f"});
}

TEST_CASE("a directory found under another name is watched under that one") {
  Watched w;
  REQUIRE(w.root->makeDirectory("a", 0755).ok());
  REQUIRE(w.watcher->add("a").ok());
  REQUIRE(w.watcher->add("a").ok());
  REQUIRE(w.root->rename("a", "b", RenameKind::Replace).ok());
  CHECK(w.events() == Names{"a|"});

  REQUIRE(w.watcher->add("b").ok());
  w.put("b/f");
  CHECK(w.events() == Names{"b|f"});
  REQUIRE(w.root->makeDirectory("a", 0755).ok());
  REQUIRE(w.watcher->add("a").ok());
  w.put("a/f");
  w.put("b/g");
  CHECK(w.events() == Names{"a|f", "b|g"});
}

TEST_CASE("a directory that took the place of the one above it is watched there") {
  Watched w;
  REQUIRE(w.root->makeDirectory("a", 0755).ok());
  REQUIRE(w.root->makeDirectory("a/b", 0755).ok());
  REQUIRE(w.watcher->add("a/b").ok());
  REQUIRE(w.root->rename("a/b", "c", RenameKind::Replace).ok());
  REQUIRE(w.root->rename("c", "a", RenameKind::Replace).ok());
  w.events();

  REQUIRE(w.watcher->add("a").ok());
  w.put("a/f");
  CHECK(w.events() == Names{"a|f"});
}

TEST_CASE("a directory that goes says so, and may come back") {
  Watched w;
  REQUIRE(w.root->makeDirectory("a", 0755).ok());
  REQUIRE(w.root->makeDirectory("a/b", 0755).ok());
  REQUIRE(w.watcher->add("a/b").ok());
  REQUIRE(w.root->removeDirectory("a/b").ok());
  CHECK(w.events() == Names{"a/b|"});

  REQUIRE(w.root->makeDirectory("a/b", 0755).ok());
  REQUIRE(w.watcher->add("a/b").ok());
  w.put("a/b/f");
  CHECK(w.events() == Names{"a/b|f"});
}

TEST_CASE("a name that was taken by a new directory before its old one was reported gone") {
  Watched w;
  REQUIRE(w.root->makeDirectory("a", 0755).ok());
  REQUIRE(w.watcher->add("a").ok());
  REQUIRE(w.root->removeDirectory("a").ok());
  REQUIRE(w.root->makeDirectory("a", 0755).ok());
  REQUIRE(w.watcher->add("a").ok());

  w.put("a/f");
  CHECK(w.events() == Names{"a|f"});
}

TEST_CASE("what was removed from watching is silent, with all under it") {
  Watched w;
  for (std::string d : {"a", "a/b", "a/b/c"}) {
    REQUIRE(w.root->makeDirectory(d, 0755).ok());
    REQUIRE(w.watcher->add(d).ok());
  }
  w.put("a/b/early");
  w.events();

  w.watcher->remove("a/b");
  w.watcher->remove("nothing");
  w.put("a/b/f");
  w.put("a/b/c/f");
  w.put("a/f");
  CHECK(w.events() == Names{"a|f"});
}

TEST_CASE("only a directory within, reached by no symlink, can be watched") {
  Watched w;
  w.put("f");
  REQUIRE(w.root->makeDirectory("d", 0755).ok());
  REQUIRE(w.root->makeSymlink("link", "d").ok());

  CHECK(w.watcher->add("gone").code() == Code::NotFound);
  CHECK(w.watcher->add("f").code() == Code::NotDirectory);
  CHECK(w.watcher->add("link").code() == Code::PermissionDenied);
  CHECK(w.watcher->add("../x").code() == Code::PermissionDenied);
  CHECK(watchFolder(w.temp / "gone").code() == Code::NotFound);
}

TEST_CASE("a buffer of records is parsed to its end") {
  Bytes buffer;
  append(buffer, 1, IN_CREATE, "name", 16);
  append(buffer, -1, IN_Q_OVERFLOW, "", 0);
  append(buffer, 2, IN_DELETE, "12345678", 8);

  auto events = parseInotifyEvents(buffer);

  REQUIRE(events.ok());
  REQUIRE(events->size() == 3);
  CHECK((*events)[0].watch == 1);
  CHECK((*events)[0].name == "name");
  CHECK((*events)[1].mask == IN_Q_OVERFLOW);
  CHECK((*events)[1].name.empty());
  CHECK((*events)[2].name == "12345678");
  CHECK(parseInotifyEvents({})->empty());
}

TEST_CASE("records that do not fit are refused") {
  Bytes buffer;
  append(buffer, 1, IN_CREATE, "name", 16);

  for (size_t size = 1; size < buffer.size(); ++size) {
    Bytes cut(buffer.begin(), buffer.begin() + long(size));
    CHECK(parseInotifyEvents(cut).code() == Code::Corrupt);
  }
  Bytes huge;
  append(huge, 1, IN_CREATE, "", 0);
  uint32_t length = ~0u;
  memcpy(huge.data() + offsetof(inotify_event, len), &length, 4);
  CHECK(parseInotifyEvents(huge).code() == Code::Corrupt);
}

TEST_CASE("more changes than the queue holds are reported as an overflow") {
  Watched w;
  uint64_t limit = 0;
  if (FILE* f = fopen("/proc/sys/fs/inotify/max_queued_events", "r")) {
    if (fscanf(f, "%lu", &limit) != 1) limit = 0;
    fclose(f);
  }
  if (limit == 0 || limit > 100'000) return;  // Too long to reach.
  REQUIRE(w.watcher->add("").ok());
  w.put("a");
  // Equal events in a row are merged by the kernel, so the names alternate.
  REQUIRE(w.root->rename("a", "b", RenameKind::Replace).ok());
  for (uint64_t i = 0; i <= limit / 4 + 1; ++i) {
    REQUIRE(w.root->rename("b", "a", RenameKind::Replace).ok());
    REQUIRE(w.root->rename("a", "b", RenameKind::Replace).ok());
  }

  bool overflow = false;
  auto drained = w.watcher->drain();
  REQUIRE(drained.ok());
  for (auto& event : *drained) overflow |= event.overflow;
  CHECK(overflow);
}
