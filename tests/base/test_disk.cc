// The same behaviour of the real disk, in a temporary folder, and of the fake one; then what only the real one has.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "librealize/base/disk.h"
#include "librealize/base/errno_code.h"
#include "librealize/base/posix_disk.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_disk.h"
#include "tests/support/temp_dir.h"

using namespace realize;

namespace {

Bytes bytesOf(std::string_view text) {
  auto* p = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(p, p + text.size());
}

std::string textOf(const Bytes& bytes) { return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }

void put(Directory& d, const std::string& path, std::string_view text) {
  auto file = d.open(path, OpenMode::CreateOrOpen);
  REQUIRE(file.ok());
  REQUIRE((*file)->truncate(0).ok());
  REQUIRE((*file)->write(0, bytesOf(text)).ok());
}

std::string get(Directory& d, const std::string& path) {
  auto bytes = readFile(d, path, 1 << 20);
  return bytes.ok() ? textOf(*bytes) : "<" + std::string(codeName(bytes.code())) + ">";
}

template <typename T>
std::string codeOf(const Result<T>& result) {
  return result.ok() ? "ok" : std::string(codeName(result.code()));
}

std::map<std::string, FileStat> listed(Directory& d, const std::string& path) {
  std::map<std::string, FileStat> out;
  auto items = d.list(path);
  REQUIRE(items.ok());
  for (auto& item : *items) {
    CHECK_FALSE(item.failed);
    out[item.name] = item.stat;
  }
  return out;
}

struct Real {
  test::TempDir temp;
  std::unique_ptr<Directory> root = std::move(systemDisk().openRoot(temp.path())).value();
};

struct Fake {
  test::FakeClock clock;
  test::FakeDisk disk{clock};
  std::unique_ptr<Directory> root = std::move(disk.openRoot("/")).value();
};

}  // namespace

#define DISK_TEST_CASE(name) TEST_CASE_TEMPLATE(name, D, Real, Fake)

DISK_TEST_CASE("what is written is read, and the end of the file is told by fewer bytes") {
  D disk;

  put(*disk.root, "a", "hello");
  auto file = disk.root->open("a", OpenMode::ReadWrite);
  REQUIRE(file.ok());
  REQUIRE((*file)->write(10, bytesOf("x")).ok());

  Bytes got(20);
  CHECK(*(*file)->read(0, got) == 11);
  got.resize(11);
  CHECK(textOf(got) == std::string("hello\0\0\0\0\0x", 11));
  CHECK((*file)->stat()->sizeBytes == 11);
  CHECK(*(*file)->read(50, got) == 0);
  CHECK((*file)->sync(false).ok());
  CHECK((*file)->sync(true).ok());
  CHECK(disk.root->syncDirectory("").ok());
  CHECK(disk.root->syncAll().ok());
}

DISK_TEST_CASE("the four ways to open differ in what must and must not exist") {
  D disk;
  put(*disk.root, "there", "1");
  REQUIRE(disk.root->makeDirectory("dir", 0755).ok());

  CHECK(codeOf(disk.root->open("gone", OpenMode::Read)) == "not-found");
  CHECK(codeOf(disk.root->open("gone", OpenMode::ReadWrite)) == "not-found");
  CHECK(codeOf(disk.root->open("there", OpenMode::CreateNew)) == "exists");
  CHECK(codeOf(disk.root->open("there", OpenMode::CreateOrOpen)) == "ok");
  CHECK(codeOf(disk.root->open("new", OpenMode::CreateNew)) == "ok");
  CHECK(codeOf(disk.root->open("dir", OpenMode::Read)) == "is-directory");
  CHECK(codeOf(disk.root->open("dir", OpenMode::ReadWrite)) == "is-directory");
  CHECK(codeOf(disk.root->open("", OpenMode::Read)) == "is-directory");
  CHECK(codeOf(disk.root->open("there/x", OpenMode::Read)) == "not-directory");
  CHECK(codeOf((*disk.root->open("there", OpenMode::Read))->write(0, bytesOf("x"))) == "invalid-argument");
}

DISK_TEST_CASE("a listing has every name once, with its stat") {
  D disk;
  REQUIRE(disk.root->makeDirectory("d", 0755).ok());
  for (int i = 0; i < 3000; ++i) REQUIRE(disk.root->open("d/file" + std::to_string(i), OpenMode::CreateNew).ok());
  REQUIRE(disk.root->makeDirectory("d/sub", 0700).ok());
  REQUIRE(disk.root->makeSymlink("d/link", "../nowhere").ok());
  std::string odd("new\nline \xff\x01");
  put(*disk.root, "d/" + odd, "123");

  auto items = listed(*disk.root, "d");

  CHECK(items.size() == 3003);
  CHECK(items["sub"].type == FileStat::Type::Directory);
  CHECK(items["sub"].mode == 0700);
  CHECK(items["link"].type == FileStat::Type::Symlink);
  CHECK(items[odd].sizeBytes == 3);
  CHECK(items["file7"] == *disk.root->stat("d/file7"));
  CHECK(items["file7"].inode != items["file8"].inode);
  CHECK(codeOf(disk.root->list("gone")) == "not-found");
  CHECK(codeOf(disk.root->list("d/file1")) == "not-directory");
  CHECK(listed(*disk.root, "").size() == 1);
}

DISK_TEST_CASE("no path leaves the directory or passes a symlink") {
  D disk;
  REQUIRE(disk.root->makeDirectory("in", 0755).ok());
  REQUIRE(disk.root->makeDirectory("in/sub", 0755).ok());
  put(*disk.root, "secret", "s");
  put(*disk.root, "in/sub/file", "f");
  REQUIRE(disk.root->makeSymlink("in/up", "..").ok());
  REQUIRE(disk.root->makeSymlink("in/inside", "sub").ok());
  REQUIRE(disk.root->makeSymlink("in/etc", "/etc").ok());
  REQUIRE(disk.root->makeSymlink("in/file", "sub/file").ok());
  auto opened = disk.root->openDirectory("in");
  REQUIRE(opened.ok());
  Directory& in = **opened;

  for (std::string bad : {"../secret", "/etc/passwd", "up/secret", "etc/passwd", "inside/file", "sub/../sub/file", "..",
                          "sub/..", "/"}) {
    CAPTURE(bad);
    CHECK(codeOf(in.stat(bad)) == "permission-denied");
    CHECK(codeOf(in.open(bad, OpenMode::Read)) == "permission-denied");
    CHECK(codeOf(in.open(bad, OpenMode::CreateOrOpen)) == "permission-denied");
    CHECK(codeOf(in.open(bad, OpenMode::CreateNew)) == "permission-denied");
    CHECK(codeOf(in.list(bad)) == "permission-denied");
    CHECK(codeOf(in.openDirectory(bad)) == "permission-denied");
    CHECK(codeOf(in.makeDirectory(bad, 0755)) == "permission-denied");
    CHECK(codeOf(in.makeSymlink(bad, "x")) == "permission-denied");
    CHECK(codeOf(in.readSymlink(bad)) == "permission-denied");
    CHECK(codeOf(in.unlink(bad)) == "permission-denied");
    CHECK(codeOf(in.removeDirectory(bad)) == "permission-denied");
    CHECK(codeOf(in.rename(bad, "y", RenameKind::Replace)) == "permission-denied");
    CHECK(codeOf(in.rename("sub/file", bad, RenameKind::Replace)) == "permission-denied");
    CHECK(codeOf(in.setMode(bad, 0)) == "permission-denied");
    CHECK(codeOf(in.setTimes(bad, 0)) == "permission-denied");
    CHECK(codeOf(in.setOwner(bad, -1, -1)) == "permission-denied");
    CHECK(codeOf(in.syncDirectory(bad)) == "permission-denied");
    CHECK(codeOf(in.setXattr(bad, "user.x", "1", 0)) == "permission-denied");
    CHECK(codeOf(in.listXattrs(bad)) == "permission-denied");
  }
  for (std::string bad : {"sub/", "sub//file", "./sub", "sub/."}) {
    CAPTURE(bad);
    CHECK(codeOf(in.stat(bad)) == "invalid-argument");
    CHECK(codeOf(in.open(bad, OpenMode::CreateOrOpen)) == "invalid-argument");
    CHECK(codeOf(in.unlink(bad)) == "invalid-argument");
  }
  CHECK(codeOf(in.stat(std::string("a\0b", 3))) == "invalid-argument");
  // A symlink at the end is itself, or nothing.
  CHECK(codeOf(in.open("file", OpenMode::Read)) == "permission-denied");
  CHECK(codeOf(in.open("file", OpenMode::CreateOrOpen)) == "permission-denied");
  CHECK(codeOf(in.list("inside")) == "permission-denied");
  CHECK(in.stat("file")->type == FileStat::Type::Symlink);
  CHECK(*in.readSymlink("etc") == "/etc");
  CHECK(codeOf(in.setMode("etc", 0777)) == "unsupported");
  CHECK(get(*disk.root, "secret") == "s");
  CHECK(get(*disk.root, "in/sub/file") == "f");
}

DISK_TEST_CASE("the three kinds of rename") {
  D disk;
  auto& r = *disk.root;
  put(r, "a", "A");
  put(r, "b", "B");
  REQUIRE(r.makeDirectory("d", 0755).ok());
  REQUIRE(r.makeDirectory("e", 0755).ok());
  put(r, "e/x", "X");
  uint64_t inodeOfA = r.stat("a")->inode;

  CHECK(codeOf(r.rename("a", "b", RenameKind::NoReplace)) == "exists");
  CHECK(codeOf(r.rename("a", "b", RenameKind::Exchange)) == "ok");
  CHECK(get(r, "a") == "B");
  CHECK(r.stat("b")->inode == inodeOfA);
  CHECK(codeOf(r.rename("a", "gone", RenameKind::Exchange)) == "not-found");
  CHECK(codeOf(r.rename("gone", "a", RenameKind::Replace)) == "not-found");
  CHECK(codeOf(r.rename("b", "d/moved", RenameKind::NoReplace)) == "ok");
  CHECK(r.stat("d/moved")->inode == inodeOfA);
  CHECK(codeOf(r.rename("d/moved", "a", RenameKind::Replace)) == "ok");
  CHECK(get(r, "a") == "A");
  CHECK(codeOf(r.rename("a", "d", RenameKind::Replace)) == "is-directory");
  CHECK(codeOf(r.rename("d", "a", RenameKind::Replace)) == "not-directory");
  CHECK(codeOf(r.rename("d", "e", RenameKind::Replace)) == "not-empty");
  CHECK(codeOf(r.rename("e", "d", RenameKind::Replace)) == "ok");
  CHECK(get(r, "d/x") == "X");
  CHECK(codeOf(r.rename("d", "d/into", RenameKind::Replace)) == "invalid-argument");
  CHECK(codeOf(r.rename("d", "d/into", RenameKind::NoReplace)) == "invalid-argument");
  CHECK(codeOf(r.rename("a", "d", RenameKind::Exchange)) == "ok");
  CHECK(get(r, "a/x") == "X");
  CHECK(codeOf(r.rename("a", "", RenameKind::Replace)) == "invalid-argument");
}

DISK_TEST_CASE("removing takes the right kind only") {
  D disk;
  auto& r = *disk.root;
  REQUIRE(r.makeDirectory("d", 0755).ok());
  put(r, "d/f", "1");

  CHECK(codeOf(r.unlink("d")) == "is-directory");
  CHECK(codeOf(r.removeDirectory("d")) == "not-empty");
  CHECK(codeOf(r.removeDirectory("d/f")) == "not-directory");
  CHECK(codeOf(r.makeDirectory("d", 0755)) == "exists");
  auto held = r.open("d/f", OpenMode::Read);
  CHECK(codeOf(r.unlink("d/f")) == "ok");
  Bytes one(1);
  CHECK(*(*held)->read(0, one) == 1);
  CHECK((*held)->stat()->links == 0);
  CHECK(codeOf(r.unlink("d/f")) == "not-found");
  CHECK(codeOf(r.removeDirectory("d")) == "ok");
  CHECK(*exists(r, "d") == false);
}

DISK_TEST_CASE("modes and times are kept to the bit and the nanosecond") {
  D disk;
  auto& r = *disk.root;
  put(r, "f", "1");
  REQUIRE(r.makeSymlink("l", "f").ok());
  REQUIRE(r.makeDirectory("d", 0755).ok());
  int64_t atime = r.stat("f")->atimeNs;

  REQUIRE(r.setMode("f", 0751).ok());
  REQUIRE(r.setTimes("f", 1'234'567'890'123'456'789).ok());
  CHECK(r.stat("f")->mode == 0751);
  CHECK(r.stat("f")->mtimeNs == 1'234'567'890'123'456'789);
  CHECK(r.stat("f")->atimeNs == atime);
  REQUIRE(r.setTimes("l", -1'500'000'000).ok());
  CHECK(r.stat("l")->mtimeNs == -1'500'000'000);
  CHECK(r.stat("f")->mtimeNs == 1'234'567'890'123'456'789);
  REQUIRE(r.setMode("d", 01700).ok());
  REQUIRE(r.setTimes("d", 5).ok());
  CHECK(r.stat("d")->mode == 01700);
  CHECK(r.stat("d")->mtimeNs == 5);
  auto file = r.open("f", OpenMode::ReadWrite);
  REQUIRE((*file)->setMode(0600).ok());
  REQUIRE((*file)->setTimes(7).ok());
  CHECK(r.stat("f")->mode == 0600);
  CHECK(r.stat("f")->mtimeNs == 7);
  CHECK(r.setOwner("f", -1, -1).ok());
  CHECK(r.stat("f")->birthNs > 0);
}

DISK_TEST_CASE("holes are found, punched, and kept in a copy") {
  D disk;
  auto& r = *disk.root;
  constexpr uint64_t block = 64 << 10;
  auto file = std::move(r.open("sparse", OpenMode::CreateNew)).value();
  REQUIRE(file->truncate(8 * block).ok());
  REQUIRE(file->write(2 * block, Bytes(2 * block, std::byte{7})).ok());

  CHECK(*file->seek(0, false) == 2 * block);
  CHECK(*file->seek(0, true) == 0);
  CHECK(*file->seek(2 * block, true) == 4 * block);
  CHECK(*file->seek(4 * block, false) == 8 * block);
  REQUIRE(file->punchHole(2 * block, block).ok());
  CHECK(*file->seek(0, false) == 3 * block);
  CHECK(file->stat()->sizeBytes == 8 * block);
  CHECK(file->stat()->allocatedBytes == block);
  auto copy = std::move(r.open("copy", OpenMode::CreateNew)).value();
  REQUIRE(copy->cloneRange(*file, 0, 8 * block, 0).ok());
  CHECK(copy->stat()->sizeBytes == 8 * block);
  CHECK(copy->stat()->allocatedBytes == block);
  Bytes got(2 * block);
  CHECK(*copy->read(3 * block, got) == 2 * block);
  CHECK(got[0] == std::byte{7});
  CHECK(got[block] == std::byte{0});
  CHECK(copy->cloneRange(*file, 0, 8 * block, 0).ok());
  REQUIRE(copy->cloneRange(*file, 3 * block + 1, 5, 9 * block + 3).ok());
  CHECK(copy->stat()->sizeBytes == 9 * block + 8);
  CHECK(codeOf(copy->cloneRange(*file, 7 * block, 2 * block, 0)) == "invalid-argument");
  CHECK(copy->cloneRange(*file, 0, 0, 0).ok());
  REQUIRE(copy->allocate(0, 12 * block, true).ok());
  CHECK(copy->stat()->sizeBytes == 9 * block + 8);
  REQUIRE(copy->allocate(0, 12 * block, false).ok());
  CHECK(copy->stat()->sizeBytes == 12 * block);
}

DISK_TEST_CASE("what is written sparsely reads the same, with holes for its zeros") {
  D disk;
  auto file = std::move(disk.root->open("file", OpenMode::CreateNew)).value();
  const uint64_t offset = 4096 * 3 + 100;
  std::string text(300'000, '\0');
  text.replace(0, 5, "begin");
  text.replace(9'000, 3, "few");
  text.replace(150'000, 6, "middle");
  text.back() = '!';
  const std::string before(offset + text.size() + 50'000, 'x');
  REQUIRE(file->write(0, std::as_bytes(std::span(before))).ok());
  const uint64_t allocated = file->stat()->allocatedBytes;

  REQUIRE(writeSparse(*file, offset, std::as_bytes(std::span(text))).ok());
  REQUIRE(writeSparse(*file, 0, std::as_bytes(std::span(text).first(0))).ok());

  std::string after = before;
  after.replace(offset, text.size(), text);
  Bytes bytes(after.size());
  REQUIRE(*file->read(0, bytes) == bytes.size());
  CHECK((textOf(bytes) == after));
  CHECK(file->stat()->allocatedBytes + 200'000 < allocated);
}

DISK_TEST_CASE("a file open for writing is told from one that is not") {
  D disk;
  put(*disk.root, "f", "1");
  auto reader = std::move(disk.root->open("f", OpenMode::Read)).value();

  CHECK(*reader->nobodyWrites());
  {
    auto writer = disk.root->open("f", OpenMode::ReadWrite);
    CHECK_FALSE(*reader->nobodyWrites());
  }
  CHECK(*reader->nobodyWrites());
  CHECK(disk.root->open("f", OpenMode::ReadWrite).ok());
}

DISK_TEST_CASE("extended attributes are set, listed and removed") {
  D disk;
  auto& r = *disk.root;
  put(r, "f", "1");
  std::string big(1000, 'v');

  CHECK(codeOf(r.getXattr("f", "user.a")) == "not-found");
  REQUIRE(r.setXattr("f", "user.a", "1", 0).ok());
  REQUIRE(r.setXattr("f", "user.big", big, XATTR_CREATE).ok());
  CHECK(codeOf(r.setXattr("f", "user.a", "2", XATTR_CREATE)) == "exists");
  CHECK(codeOf(r.setXattr("f", "user.none", "2", XATTR_REPLACE)) == "not-found");
  CHECK(*r.getXattr("f", "user.big") == big);
  auto names = *r.listXattrs("f");
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"user.a", "user.big"});
  REQUIRE(r.removeXattr("f", "user.a").ok());
  CHECK(codeOf(r.removeXattr("f", "user.a")) == "not-found");
  CHECK(codeOf(r.getXattr("gone", "user.a")) == "not-found");
}

DISK_TEST_CASE("an opened directory follows its renames, and outlives its name") {
  D disk;
  auto& r = *disk.root;
  REQUIRE(r.makeDirectory("d", 0755).ok());
  auto d = std::move(r.openDirectory("d")).value();
  put(*d, "f", "1");

  REQUIRE(r.rename("d", "e", RenameKind::Replace).ok());
  CHECK(get(*d, "f") == "1");
  CHECK(d->stat("")->inode == r.stat("e")->inode);
  REQUIRE(d->unlink("f").ok());
  REQUIRE(r.removeDirectory("e").ok());
  CHECK(codeOf(d->open("f", OpenMode::CreateNew)) == "not-found");
}

DISK_TEST_CASE("a rename goes from one opened directory into another, wherever that is by now") {
  D disk;
  auto& r = *disk.root;
  REQUIRE(r.makeDirectory("from", 0755).ok());
  REQUIRE(r.makeDirectory("to", 0755).ok());
  auto from = std::move(r.openDirectory("from")).value();
  auto to = std::move(r.openDirectory("to")).value();
  put(*from, "f", "1");
  put(*from, "g", "2");
  REQUIRE(r.rename("to", "there", RenameKind::NoReplace).ok());

  REQUIRE(from->renameInto("f", *to, "h", RenameKind::NoReplace).ok());
  CHECK(codeOf(from->renameInto("g", *to, "h", RenameKind::NoReplace)) == "exists");

  CHECK(get(r, "there/h") == "1");
  CHECK(get(r, "from/g") == "2");
}

DISK_TEST_CASE("names and paths have their limits") {
  D disk;
  auto& r = *disk.root;
  std::string longest(255, 'n');

  put(r, longest, "1");
  CHECK(get(r, longest) == "1");
  CHECK(codeOf(r.open(longest + "n", OpenMode::CreateNew)) == "name-too-long");
  // Deeper than one system call takes.
  std::string path;
  for (int i = 0; i < 40; ++i) {
    path += (i ? "/" : "") + std::string(200, char('a' + i % 26));
    REQUIRE(r.makeDirectory(path, 0755).ok());
  }
  put(r, path + "/deep", "down");
  CHECK(get(r, path + "/deep") == "down");
  CHECK(listed(r, path).size() == 1);
  CHECK(r.rename(path + "/deep", "up", RenameKind::Replace).ok());
}

DISK_TEST_CASE("a file is replaced as a whole, and temporaries do not stay") {
  D disk;
  auto& r = *disk.root;
  REQUIRE(r.makeDirectory("d", 0755).ok());

  REQUIRE(replaceFile(r, "d/f", bytesOf("one"), systemRandom()).ok());
  REQUIRE(replaceFile(r, "d/f", bytesOf("two"), systemRandom()).ok());
  CHECK(get(r, "d/f") == "two");
  CHECK(codeOf(readFile(r, "d/f", 2)) == "too-large");
  REQUIRE(r.makeDirectory("d/dir", 0755).ok());
  CHECK(codeOf(replaceFile(r, "d/dir", bytesOf("x"), systemRandom())) == "is-directory");
  CHECK(listed(r, "d").size() == 2);
  auto temp = openTemp(r, "d", systemRandom());
  REQUIRE(temp.ok());
  CHECK(temp->path.starts_with("d/tmp-"));
  CHECK(*exists(r, temp->path));
}

TEST_CASE("a root must be an absolute path to a directory") {
  test::TempDir temp;
  auto root = std::move(systemDisk().openRoot(temp.path())).value();
  put(*root, "f", "1");
  REQUIRE(root->makeSymlink("link", temp.path()).ok());

  CHECK(codeOf(systemDisk().openRoot("relative")) == "invalid-argument");
  CHECK(codeOf(systemDisk().openRoot(temp / "gone")) == "not-found");
  CHECK(codeOf(systemDisk().openRoot(temp / "f")) == "not-directory");
  CHECK(codeOf(systemDisk().openRoot(temp / "link")) == "ok");
  CHECK((*root->openDirectory(""))->displayPath() == temp.path());
}

TEST_CASE("special files are seen but not opened") {
  Real disk;
  REQUIRE(mkfifo((disk.temp / "fifo").c_str(), 0600) == 0);

  CHECK(disk.root->stat("fifo")->type == FileStat::Type::Other);
  CHECK(codeOf(disk.root->open("fifo", OpenMode::Read)) == "unsupported");
  CHECK(codeOf(disk.root->open("fifo", OpenMode::ReadWrite)) == "unsupported");
}

TEST_CASE("a writer that opens the file while it is asked about gets it and harms nobody") {
  Real disk;
  put(*disk.root, "f", "1");
  auto reader = std::move(disk.root->open("f", OpenMode::Read)).value();

  // The lease is held a moment only; here for longer, by another descriptor, so that the open surely meets it.
  int other = ::open((disk.temp / "f").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fcntl(other, F_SETSIG, SIGURG) == 0);
  REQUIRE(fcntl(other, F_SETLEASE, F_RDLCK) == 0);
  CHECK(codeOf(disk.root->open("f", OpenMode::ReadWrite)) == "busy");
  close(other);
  CHECK(disk.root->open("f", OpenMode::ReadWrite).ok());
}

TEST_CASE("asking for writers while others open the file kills nobody") {
  // The kernel tells a lease's holder with SIGIO, whose default is to end the process, unless asked for another signal.
  Real disk;
  put(*disk.root, "f", "1");
  auto reader = std::move(disk.root->open("f", OpenMode::Read)).value();

  std::string path = disk.temp / "f";
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (int i = 0; i < 30'000; ++i) close(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    done = true;
  });
  while (!done) CHECK(reader->nobodyWrites().ok());
  writer.join();
}

TEST_CASE("what may not be read is an error, not an absence") {
  if (geteuid() == 0) return;  // Root may.
  Real disk;
  REQUIRE(disk.root->makeDirectory("d", 0755).ok());
  put(*disk.root, "d/f", "1");
  REQUIRE(disk.root->setMode("d", 0).ok());

  CHECK(codeOf(disk.root->list("d")) == "permission-denied");
  CHECK(codeOf(disk.root->stat("d/f")) == "permission-denied");
  CHECK(codeOf(exists(*disk.root, "d/f")) == "permission-denied");
}

TEST_CASE("every code has an errno that comes back as something sensible") {
  CHECK(codeFromErrno(ENOENT) == Code::NotFound);
  CHECK(codeFromErrno(EDQUOT) == Code::NoSpace);
  CHECK(codeFromErrno(ESTALE) == Code::Io);
  CHECK(codeFromErrno(99999) == Code::Io);
  for (Code code : {Code::NotFound, Code::Exists, Code::NotDirectory, Code::IsDirectory, Code::NotEmpty,
                    Code::PermissionDenied, Code::InvalidArgument, Code::NameTooLong, Code::NoSpace, Code::ReadOnly,
                    Code::Io, Code::Unreachable, Code::Busy, Code::Unsupported, Code::TimedOut, Code::Cancelled,
                    Code::TooLarge}) {
    CAPTURE(codeName(code));
    CHECK(codeFromErrno(errnoFromCode(code)) == code);
  }
}
