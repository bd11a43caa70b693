// The life of a mount: where it may be, how it ends.

#include <sys/statvfs.h>
#include <sys/wait.h>

#include <future>
#include <thread>

#include "mounted.h"
#include "frontends/fuse/mount_table.h"

namespace realize::test {

using fuse::Mount;
using fuse::MountEnd;
using fuse::MountOptions;

namespace {

bool unmountFromOutside(const std::string& path) {
  return std::system(("fusermount3 -u '" + path + "'").c_str()) == 0;
}

}  // namespace

TEST_CASE("a mount shows in the mount table under its arena's name") {
  MountOptions options;
  options.arenaName = "my docs, all";
  Mounted m(options);

  auto entry = fuse::mountedAt(m.folder.path());

  REQUIRE(entry);
  CHECK(entry->source == "realize:my docs, all");
  CHECK(entry->type == "fuse.realize");
}

TEST_CASE("the destructor unmounts and releases what was open") {
  TemporaryFolder folder;
  MemoryFileSystem fs;
  fs.writeUnderneath("file", "text");
  auto mount = Mount::start(fs, folder.path(), {});
  REQUIRE(mount.ok());
  MountOptions options;
  File open(folder.path() + "/file", O_RDONLY);
  REQUIRE(open.ok());

  mount->reset();

  CHECK_FALSE(fuse::mountedAt(folder.path()));
  CHECK(fs.openHandles() == 0);
  char byte;
  CHECK(pread(open.fd(), &byte, 1, 0) == -1);
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("unmount refuses while a file is open and succeeds afterwards") {
  Mounted m;
  m.fs.writeUnderneath("file", "text");
  File open(m.at("file"), O_RDONLY);
  REQUIRE(open.ok());

  auto busy = m.mount->unmount();
  CHECK_FALSE(busy.ok());
  CHECK(busy.code() == Code::Busy);
  CHECK_FALSE(m.mount->ended());
  open.close();
  auto done = m.mount->unmount();

  CHECK(done.ok());
  CHECK(m.mount->ended());
}

TEST_CASE("an unmount from outside is noticed and reported once") {
  std::promise<MountEnd> ended;
  MountOptions options;
  options.onEnd = [&](const MountEnd& end) { ended.set_value(end); };
  Mounted m(options);

  REQUIRE(unmountFromOutside(m.folder.path()));

  CHECK_FALSE(ended.get_future().get().requested);
  CHECK(m.mount->waitUntilEnded(-1));
}

TEST_CASE("a mount may be destroyed from its own end") {
  TemporaryFolder folder;
  MemoryFileSystem fs;
  std::promise<std::unique_ptr<Mount>> made;
  std::promise<void> ended;
  MountOptions options;
  options.onEnd = [&](const MountEnd&) {
    made.get_future().get().reset();
    ended.set_value();
  };
  auto started = Mount::start(fs, folder.path(), options);
  REQUIRE(started.ok());
  made.set_value(std::move(*started));

  REQUIRE(unmountFromOutside(folder.path()));

  ended.get_future().get();
  CHECK_FALSE(fuse::mountedAt(folder.path()));
}

TEST_CASE("a mount whose end comes while reads wait fails them") {
  auto m = std::make_unique<Mounted>([] { MountOptions o; o.unmountGraceMs = 0; return o; }());
  NodeId node = m->fs.writeUnderneath("slow", "text");
  m->fs.holdReads(node);
  std::string path = m->at("slow");
  auto reader = std::async(std::launch::async, [path] { return readFile(path); });
  REQUIRE(m->fs.waitForHeldReads(1));

  m->mount.reset();

  CHECK(reader.get().starts_with("errno"));
  CHECK(m->fs.openHandles() == 0);
}

TEST_CASE("a place that cannot be a mount point is refused with a remedy") {
  TemporaryFolder folder;
  MemoryFileSystem fs;
  auto refusal = [&](const std::string& path, MountOptions options = {}) {
    auto mount = Mount::start(fs, path, options);
    REQUIRE_FALSE(mount.ok());
    CHECK_FALSE(mount.error().message.empty());
    return mount.code();
  };

  CHECK(refusal(folder.path() + "/missing") == Code::NotFound);
  REQUIRE(writeFile(folder.path() + "/file", ""));
  CHECK(refusal(folder.path() + "/file") == Code::NotDirectory);
  CHECK(refusal(folder.path()) == Code::NotEmpty);
  std::filesystem::create_directory(folder.path() + "/arena");
  std::filesystem::create_directory(folder.path() + "/arena/below");
  std::filesystem::create_directory(folder.path() + "/arena-not");
  MountOptions options;
  options.forbidden = {folder.path() + "/arena"};
  CHECK(refusal(folder.path() + "/arena/below", options) == Code::Refused);
  CHECK(refusal(folder.path() + "/arena", options) == Code::Refused);
  options.forbidden = {folder.path() + "/arena/below"};
  CHECK(refusal(folder.path() + "/arena", options) == Code::Refused);
  options.forbidden = {folder.path() + "/arena"};
  CHECK(Mount::start(fs, folder.path() + "/arena-not", options).ok());
}

TEST_CASE("a second mount in the same place is refused") {
  Mounted m;
  MemoryFileSystem other;

  auto second = Mount::start(other, m.folder.path(), {});

  REQUIRE_FALSE(second.ok());
  CHECK(second.code() == Code::Exists);
}

TEST_CASE("the mount of a process that died is replaced") {
  TemporaryFolder folder;
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  pid_t child = fork();
  if (child == 0) {
    MemoryFileSystem fs;
    auto mount = Mount::start(fs, folder.path(), {});
    char byte = mount.ok() ? 'y' : 'n';
    (void)!write(ready[1], &byte, 1);
    for (;;) pause();
  }
  char byte = 0;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  REQUIRE(byte == 'y');
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  struct statvfs st;
  REQUIRE(statvfs(folder.path().c_str(), &st) == -1);
  REQUIRE(errno == ENOTCONN);
  MemoryFileSystem fs;
  fs.writeUnderneath("file", "alive");

  auto mount = Mount::start(fs, folder.path() + "/", {});

  REQUIRE(mount.ok());
  CHECK(readFile(folder.path() + "/file") == "alive");
}

TEST_CASE("unmountPath takes away only mounts of ours") {
  TemporaryFolder folder;
  CHECK(fuse::unmountPath(folder.path(), false).code() == Code::NotFound);
  CHECK(fuse::unmountPath("/proc", false).code() == Code::NotFound);
  Mounted m;

  CHECK(fuse::unmountPath(m.folder.path(), false).ok());

  CHECK(m.mount->waitUntilEnded(-1));
}

TEST_CASE("a mount is made, used and ended many times without a trace") {
  MemoryFileSystem fs;
  fs.writeUnderneath("file", "text");
  auto descriptors = [] {
    size_t n = 0;
    for (auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) n += !entry.path().empty();
    return n;
  };
  size_t before = descriptors();

  for (int i = 0; i < 20; ++i) {
    TemporaryFolder folder;
    auto mount = Mount::start(fs, folder.path(), {});
    REQUIRE(mount.ok());
    CHECK(readFile(folder.path() + "/file") == "text");
  }

  CHECK(descriptors() == before);
}

}  // namespace realize::test
