// Each operation, by the syscalls that programs use.

#include <dirent.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "mounted.h"

namespace realize::test {

namespace {

std::vector<std::string> listing(DIR* dir) {
  std::vector<std::string> names;
  while (dirent* entry = readdir(dir)) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> listing(const std::string& path) {
  DIR* dir = opendir(path.c_str());
  REQUIRE(dir != nullptr);
  auto names = listing(dir);
  closedir(dir);
  return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("files are created, written, read, appended and truncated") {
  for (bool descriptors : {false, true}) {
    CAPTURE(descriptors);
    Mounted m({}, descriptors);

    REQUIRE(writeFile(m.at("a"), "hello"));
    CHECK(readFile(m.at("a")) == "hello");
    REQUIRE(writeFile(m.at("a"), " world", O_WRONLY | O_APPEND));
    CHECK(readFile(m.at("a")) == "hello world");
    CHECK(m.fs.contentAt("a") == "hello world");
    REQUIRE(truncate(m.at("a").c_str(), 4) == 0);
    CHECK(readFile(m.at("a")) == "hell");
    REQUIRE(truncate(m.at("a").c_str(), 6) == 0);
    CHECK(readFile(m.at("a")) == std::string("hell\0\0", 6));
    REQUIRE(writeFile(m.at("a"), "new"));
    CHECK(readFile(m.at("a")) == "new");
    CHECK(statOf(m.at("a")).st_size == 3);
    CHECK(statOf(m.at("a")).st_ino == m.fs.nodeAt("a"));
  }
}

TEST_CASE("O_EXCL refuses what exists, and O_CREAT opens it") {
  Mounted m;
  REQUIRE(writeFile(m.at("a"), "text"));

  File exclusive(m.at("a"), O_WRONLY | O_CREAT | O_EXCL);
  CHECK_FALSE(exclusive.ok());
  CHECK(errno == EEXIST);
  File plain(m.at("a"), O_RDWR | O_CREAT);
  CHECK(plain.ok());
  CHECK(readFile(m.at("a")) == "text");
}

TEST_CASE("a large file comes back as it was written, at any offset") {
  for (bool descriptors : {false, true}) {
    CAPTURE(descriptors);
    Mounted m({}, descriptors);
    std::string content(5 * 1024 * 1024 + 17, '\0');
    for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>((i * 31 + i / 4096) & 255);

    REQUIRE(writeFile(m.at("big"), content));

    CHECK(m.fs.contentAt("big") == content);
    CHECK(readFile(m.at("big")) == content);
    File direct(m.at("big"), O_RDONLY | O_DIRECT);
    REQUIRE(direct.ok());
    std::vector<char> buffer(1 << 20);
    REQUIRE(pread(direct.fd(), buffer.data(), buffer.size(), 12345) == static_cast<ssize_t>(buffer.size()));
    CHECK(content.compare(12345, buffer.size(), buffer.data(), buffer.size()) == 0);
  }
}

TEST_CASE("sparse writes read as zeros, and no hole is ever shown") {
  Mounted m;
  File file(m.at("sparse"), O_RDWR | O_CREAT);
  REQUIRE(pwrite(file.fd(), "end", 3, 1'000'000) == 3);

  CHECK(lseek(file.fd(), 0, SEEK_DATA) == 0);
  CHECK(lseek(file.fd(), 0, SEEK_HOLE) == 1'000'003);
  CHECK(lseek(file.fd(), 500'000, SEEK_DATA) == 500'000);
  CHECK(lseek(file.fd(), 2'000'000, SEEK_DATA) == -1);
  CHECK(errno == ENXIO);
  CHECK(readFile(m.at("sparse")) == std::string(1'000'000, '\0') + "end");
  CHECK(statOf(m.at("sparse")).st_blocks >= 1'000'003 / 512);
}

TEST_CASE("fallocate reserves and punches") {
  Mounted m;
  File file(m.at("f"), O_RDWR | O_CREAT);
  REQUIRE(write(file.fd(), "0123456789", 10) == 10);

  CHECK(fallocate(file.fd(), 0, 0, 20) == 0);
  CHECK(statOf(m.at("f")).st_size == 20);
  CHECK(fallocate(file.fd(), FALLOC_FL_KEEP_SIZE, 0, 40) == 0);
  CHECK(statOf(m.at("f")).st_size == 20);
  CHECK(fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3) == 0);
  CHECK(readFile(m.at("f")).substr(0, 10) == std::string("01\0\0\0" "56789", 10));
  CHECK(errorOf(fallocate(file.fd(), FALLOC_FL_COLLAPSE_RANGE, 0, 4096)) == EOPNOTSUPP);
}

TEST_CASE("copy_file_range copies, by the kernel") {
  Mounted m;
  REQUIRE(writeFile(m.at("a"), "0123456789"));
  File from(m.at("a"), O_RDONLY), to(m.at("b"), O_RDWR | O_CREAT);
  off_t offset = 2;

  ssize_t n = copy_file_range(from.fd(), &offset, to.fd(), nullptr, 5, 0);

  CHECK(n == 5);
  CHECK(readFile(m.at("b")) == "23456");
}

TEST_CASE("directories are made, listed and removed") {
  Mounted m;
  REQUIRE(mkdir(m.at("d").c_str(), 0750) == 0);
  REQUIRE(mkdir(m.at("d/e").c_str(), 0755) == 0);
  REQUIRE(writeFile(m.at("d/f"), ""));

  CHECK(listing(m.at("d")) == Names{".", "..", "e", "f"});
  CHECK((statOf(m.at("d")).st_mode & 07777) == 0750);
  CHECK(statOf(m.at("d")).st_nlink == 3);
  CHECK(errorOf(mkdir(m.at("d").c_str(), 0755)) == EEXIST);
  CHECK(errorOf(rmdir(m.at("d").c_str())) == ENOTEMPTY);
  CHECK(errorOf(rmdir(m.at("d/f").c_str())) == ENOTDIR);
  CHECK(errorOf(unlink(m.at("d/e").c_str())) == EISDIR);
  CHECK(rmdir(m.at("d/e").c_str()) == 0);
  CHECK(unlink(m.at("d/f").c_str()) == 0);
  CHECK(rmdir(m.at("d").c_str()) == 0);
  CHECK_FALSE(exists(m.at("d")));
}

TEST_CASE("a large directory is listed once each, with the numbers that stat shows") {
  Mounted m;
  m.fs.populate(1, 5000, 10);
  std::set<std::string> seen;
  DIR* dir = opendir(m.at("dir0").c_str());
  REQUIRE(dir);
  size_t wrong = 0;

  while (dirent* entry = readdir(dir)) {
    CHECK(seen.insert(entry->d_name).second);
    std::string name = entry->d_name;
    if (name == ".")
      wrong += entry->d_ino != m.fs.nodeAt("dir0");
    else if (name == "..")
      wrong += entry->d_ino != kRootNode;
    else
      wrong += statOf(m.at("dir0/" + name)).st_ino != entry->d_ino || entry->d_type != DT_REG;
  }
  closedir(dir);

  CHECK(seen.size() == 5002);
  CHECK(wrong == 0);
}

TEST_CASE("removing while reading leaves nothing out") {
  Mounted m;
  m.fs.populate(1, 3000, 0);
  DIR* dir = opendir(m.at("dir0").c_str());
  REQUIRE(dir);
  size_t removed = 0;

  while (dirent* entry = readdir(dir))
    if (entry->d_name[0] != '.') removed += unlinkat(dirfd(dir), entry->d_name, 0) == 0;
  closedir(dir);

  CHECK(removed == 3000);
  CHECK(rmdir(m.at("dir0").c_str()) == 0);
}

TEST_CASE("rewinddir shows what is new, and telldir positions hold") {
  Mounted m;
  for (const char* name : {"a", "b", "c"}) REQUIRE(writeFile(m.at(name), ""));
  DIR* dir = opendir(m.folder.path().c_str());
  REQUIRE(dir);
  CHECK(listing(dir) == Names{".", "..", "a", "b", "c"});
  REQUIRE(writeFile(m.at("d"), ""));
  REQUIRE(unlink(m.at("a").c_str()) == 0);

  rewinddir(dir);
  CHECK(listing(dir) == Names{".", "..", "b", "c", "d"});
  rewinddir(dir);
  (void)readdir(dir);
  (void)readdir(dir);
  long position = telldir(dir);
  std::string third = readdir(dir)->d_name;
  (void)readdir(dir);
  seekdir(dir, position);
  CHECK(readdir(dir)->d_name == third);
  closedir(dir);
}

TEST_CASE("rename moves, replaces, refuses and exchanges") {
  Mounted m;
  REQUIRE(writeFile(m.at("a"), "A"));
  REQUIRE(writeFile(m.at("b"), "B"));
  REQUIRE(mkdir(m.at("d").c_str(), 0755) == 0);
  ino_t inode = statOf(m.at("a")).st_ino;

  CHECK(errorOf(renameat2(AT_FDCWD, m.at("a").c_str(), AT_FDCWD, m.at("b").c_str(), RENAME_NOREPLACE)) == EEXIST);
  CHECK(renameat2(AT_FDCWD, m.at("a").c_str(), AT_FDCWD, m.at("b").c_str(), RENAME_EXCHANGE) == 0);
  CHECK(readFile(m.at("a")) == "B");
  CHECK(readFile(m.at("b")) == "A");
  CHECK(statOf(m.at("b")).st_ino == inode);
  CHECK(rename(m.at("b").c_str(), m.at("a").c_str()) == 0);
  CHECK(readFile(m.at("a")) == "A");
  CHECK_FALSE(exists(m.at("b")));
  CHECK(rename(m.at("a").c_str(), m.at("d/moved").c_str()) == 0);
  CHECK(readFile(m.at("d/moved")) == "A");
  CHECK(errorOf(rename(m.at("d").c_str(), m.at("d/moved").c_str())) == EINVAL);
  CHECK(renameat2(AT_FDCWD, m.at("d").c_str(), AT_FDCWD, m.at("e").c_str(), RENAME_NOREPLACE) == 0);
  CHECK(readFile(m.at("e/moved")) == "A");
  CHECK(errorOf(renameat2(AT_FDCWD, m.at("e").c_str(), AT_FDCWD, m.at("f").c_str(), 1u << 2)) == EINVAL);
}

TEST_CASE("symlinks keep their target") {
  Mounted m;
  std::string longTarget(1000, 'x');
  REQUIRE(symlink("some/where", m.at("l").c_str()) == 0);
  REQUIRE(symlink(longTarget.c_str(), m.at("long").c_str()) == 0);
  char buffer[2000];

  CHECK(readlink(m.at("l").c_str(), buffer, sizeof buffer) == 10);
  CHECK(std::string(buffer, 10) == "some/where");
  CHECK(readlink(m.at("long").c_str(), buffer, sizeof buffer) == 1000);
  CHECK(S_ISLNK(statOf(m.at("l")).st_mode));
  REQUIRE(writeFile(m.at("target"), "T"));
  REQUIRE(symlink("target", m.at("good").c_str()) == 0);
  CHECK(readFile(m.at("good")) == "T");
}

TEST_CASE("hard links and special files are refused") {
  Mounted m;
  REQUIRE(writeFile(m.at("a"), ""));

  CHECK(errorOf(link(m.at("a").c_str(), m.at("b").c_str())) == EPERM);
  CHECK(errorOf(mknod(m.at("p").c_str(), S_IFIFO | 0644, 0)) == EPERM);
  CHECK(errorOf(mknod(m.at("c").c_str(), S_IFCHR | 0644, makedev(1, 3))) == EPERM);
  CHECK(mknod(m.at("r").c_str(), S_IFREG | 0640, 0) == 0);
  CHECK((statOf(m.at("r")).st_mode & 07777) == 0640);
  CHECK(m.fs.openHandles() == 0);
}

TEST_CASE("modes, owners and times are set, with UTIME_NOW and UTIME_OMIT") {
  Mounted m;
  REQUIRE(writeFile(m.at("a"), "x"));
  timespec exact[2] = {{1000, 5}, {2000, 123456789}};
  timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  timespec old[2] = {{-10, 5}, {-10, 5}};

  CHECK(chmod(m.at("a").c_str(), 0751) == 0);
  CHECK((statOf(m.at("a")).st_mode & 07777) == 0751);
  CHECK(utimensat(AT_FDCWD, m.at("a").c_str(), exact, 0) == 0);
  CHECK(statOf(m.at("a")).st_mtim.tv_sec == 2000);
  CHECK(statOf(m.at("a")).st_mtim.tv_nsec == 123456789);
  CHECK(utimensat(AT_FDCWD, m.at("a").c_str(), omit, 0) == 0);
  CHECK(statOf(m.at("a")).st_mtim.tv_sec == 2000);
  CHECK(utimensat(AT_FDCWD, m.at("a").c_str(), old, 0) == 0);
  CHECK(statOf(m.at("a")).st_mtim.tv_sec == -10);
  CHECK(statOf(m.at("a")).st_mtim.tv_nsec == 5);
  CHECK(utimensat(AT_FDCWD, m.at("a").c_str(), now, 0) == 0);
  CHECK(statOf(m.at("a")).st_mtim.tv_sec > 1'000'000'000);
  if (geteuid() == 0) {
    CHECK(chown(m.at("a").c_str(), 1234, 2345) == 0);
    CHECK(statOf(m.at("a")).st_uid == 1234);
    CHECK(statOf(m.at("a")).st_gid == 2345);
  }
}

TEST_CASE("the umask of the caller applies") {
  Mounted m;
  mode_t before = umask(027);
  File file(m.at("a"), O_WRONLY | O_CREAT, 0666);
  int made = mkdir(m.at("d").c_str(), 0777);
  umask(before);

  REQUIRE(file.ok());
  REQUIRE(made == 0);
  CHECK((statOf(m.at("a")).st_mode & 07777) == 0640);
  CHECK((statOf(m.at("d")).st_mode & 07777) == 0750);
}

TEST_CASE("a file belongs to the caller, and permissions hold for others") {
  if (geteuid() != 0) return;
  Mounted m;
  REQUIRE(chmod(m.folder.path().c_str(), 0777) == 0);
  REQUIRE(writeFile(m.at("secret"), "s"));
  REQUIRE(chmod(m.at("secret").c_str(), 0600) == 0);
  std::string mine = m.at("mine"), secret = m.at("secret");
  std::filesystem::permissions(std::getenv("TMPDIR") ? std::getenv("TMPDIR") : "/tmp",
                               std::filesystem::perms::others_exec, std::filesystem::perm_options::add);

  pid_t child = fork();
  if (child == 0) {
    if (setgid(4321) != 0 || setuid(4321) != 0) _exit(10);
    if (!writeFile(mine, "m")) _exit(11);
    if (open(secret.c_str(), O_RDONLY) >= 0 || errno != EACCES) _exit(12);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);

  CHECK(WEXITSTATUS(status) == 0);
  CHECK(statOf(mine).st_uid == 4321);
  CHECK(statOf(mine).st_gid == 4321);
}

TEST_CASE("names of any bytes and of 255 of them work, 256 do not") {
  Mounted m;
  std::string full(255, 'n'), over(256, 'n'), bytes = "\xff\xfe bad \x01\n utf8 \xc3";

  CHECK(writeFile(m.at(full), "full"));
  CHECK(readFile(m.at(full)) == "full");
  CHECK_FALSE(writeFile(m.at(over), ""));
  CHECK(errno == ENAMETOOLONG);
  CHECK(writeFile(m.at(bytes), "bytes"));
  CHECK(readFile(m.at(bytes)) == "bytes");
  CHECK(listing(m.folder.path()) == Names{".", "..", full, bytes});
}

TEST_CASE("ten levels of folders work") {
  Mounted m;
  std::string path = m.folder.path();
  for (int i = 0; i < 10; ++i) {
    path += "/level" + std::to_string(i);
    REQUIRE(mkdir(path.c_str(), 0755) == 0);
  }

  CHECK(writeFile(path + "/file", "deep"));
  CHECK(rename(m.at("level0/level1").c_str(), m.at("up").c_str()) == 0);
  CHECK(readFile(m.at("up/level2/level3/level4/level5/level6/level7/level8/level9/file")) == "deep");
}

TEST_CASE("a file that was unlinked or replaced while open goes on") {
  Mounted m;
  REQUIRE(writeFile(m.at("a"), "before"));
  File file(m.at("a"), O_RDWR);
  REQUIRE(unlink(m.at("a").c_str()) == 0);
  char buffer[20] = {};
  struct stat st;

  CHECK(pread(file.fd(), buffer, sizeof buffer, 0) == 6);
  CHECK(pwrite(file.fd(), "AFTER!!", 7, 0) == 7);
  CHECK(pread(file.fd(), buffer, sizeof buffer, 0) == 7);
  CHECK(std::string(buffer) == "AFTER!!");
  CHECK(fstat(file.fd(), &st) == 0);
  CHECK(st.st_size == 7);
  CHECK(st.st_nlink == 0);
  CHECK(ftruncate(file.fd(), 2) == 0);
  CHECK(fchmod(file.fd(), 0600) == 0);
  CHECK(fstat(file.fd(), &st) == 0);
  CHECK(st.st_size == 2);
  CHECK_FALSE(exists(m.at("a")));
}

TEST_CASE("extended attributes are probed, set, listed and removed") {
  Mounted m;
  REQUIRE(writeFile(m.at("a"), ""));
  const char* path = nullptr;
  std::string name = m.at("a");
  path = name.c_str();
  char buffer[100];

  CHECK(getxattr(path, "user.x", buffer, sizeof buffer) == -1);
  CHECK(errno == ENODATA);
  CHECK(setxattr(path, "user.x", "value", 5, XATTR_REPLACE) == -1);
  CHECK(errno == ENODATA);
  CHECK(setxattr(path, "user.x", "value", 5, XATTR_CREATE) == 0);
  CHECK(setxattr(path, "user.x", "value", 5, XATTR_CREATE) == -1);
  CHECK(errno == EEXIST);
  CHECK(setxattr(path, "user.empty", "", 0, 0) == 0);
  CHECK(getxattr(path, "user.x", nullptr, 0) == 5);
  CHECK(getxattr(path, "user.x", buffer, 4) == -1);
  CHECK(errno == ERANGE);
  CHECK(getxattr(path, "user.x", buffer, sizeof buffer) == 5);
  CHECK(std::string(buffer, 5) == "value");
  CHECK(getxattr(path, "user.empty", buffer, sizeof buffer) == 0);
  CHECK(listxattr(path, nullptr, 0) == 18);
  CHECK(listxattr(path, buffer, 10) == -1);
  CHECK(errno == ERANGE);
  CHECK(listxattr(path, buffer, sizeof buffer) == 18);
  CHECK(std::string(buffer, 18) == std::string("user.empty\0user.x\0", 18));
  CHECK(errorOf(setxattr(path, "system.posix_acl_access", "", 0, 0)) == EOPNOTSUPP);
  CHECK(removexattr(path, "user.x") == 0);
  CHECK(removexattr(path, "user.x") == -1);
  CHECK(errno == ENODATA);
}

TEST_CASE("statfs shows the figures of the library") {
  Mounted m;
  struct statvfs st;

  REQUIRE(statvfs(m.folder.path().c_str(), &st) == 0);

  CHECK(st.f_blocks * st.f_frsize == 1000 * 4096);
  CHECK(st.f_bfree * st.f_frsize == 600 * 4096);
  CHECK(st.f_bavail * st.f_frsize == 500 * 4096);
  CHECK(st.f_files == 10000);
  CHECK(st.f_namemax == 255);
}

TEST_CASE("shared mappings write through, and fsync says so") {
  for (bool descriptors : {false, true}) {
    CAPTURE(descriptors);
    Mounted m({}, descriptors);
    REQUIRE(writeFile(m.at("a"), std::string(10000, '.')));
    File file(m.at("a"), O_RDWR);
    void* map = mmap(nullptr, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), 0);
    REQUIRE(map != MAP_FAILED);
    char* bytes = static_cast<char*>(map);

    CHECK(bytes[5000] == '.');
    bytes[5000] = '!';
    CHECK(msync(map, 10000, MS_SYNC) == 0);
    CHECK(m.fs.contentAt("a")[5000] == '!');
    CHECK(pwrite(file.fd(), "?", 1, 6000) == 1);
    CHECK(bytes[6000] == '?');
    CHECK(munmap(map, 10000) == 0);
    CHECK(fsync(file.fd()) == 0);
    CHECK(fdatasync(file.fd()) == 0);
  }
}

TEST_CASE("errors of the library become the errno of their meaning") {
  Mounted m;
  REQUIRE(writeFile(m.at("a"), "x"));
  File file(m.at("a"), O_RDWR);
  struct Row {
    Code code;
    int error;
  };

  for (Row row : {Row{Code::NoSpace, ENOSPC}, Row{Code::ReadOnly, EROFS}, Row{Code::Suspended, ENODEV},
                  Row{Code::Corrupt, EIO}, Row{Code::Unreachable, EHOSTUNREACH}, Row{Code::Refused, EPERM}}) {
    m.fs.failWith(row.code);
    CHECK(write(file.fd(), "y", 1) == -1);
    CHECK(errno == row.error);
    CHECK(errorOf(mkdir(m.at("d").c_str(), 0755)) == row.error);
    CHECK(errorOf(unlink(m.at("a").c_str())) == row.error);
    CHECK(errorOf(fsync(file.fd())) == row.error);
  }
  m.fs.failWith(std::nullopt);
}

TEST_CASE("many threads create, rename, read, list and remove at once") {
  for (bool descriptors : {false, true}) {
    Mounted m({}, descriptors);
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    REQUIRE(mkdir(m.at("shared").c_str(), 0755) == 0);
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&, t] {
        std::string mine = m.at("t" + std::to_string(t)), content = "content " + std::to_string(t);
        wrong += mkdir(mine.c_str(), 0755) != 0;
        for (int i = 0; i < 150; ++i) {
          std::string a = mine + "/a" + std::to_string(i), b = m.at("shared/") + std::to_string(t) + "-" + std::to_string(i);
          wrong += !writeFile(a, content + std::to_string(i));
          wrong += rename(a.c_str(), b.c_str()) != 0;
          wrong += readFile(b) != content + std::to_string(i);
          wrong += exists(a);
          if (i % 10 == 0) wrong += listing(m.at("shared")).size() < 3;
          if (i % 2) wrong += unlink(b.c_str()) != 0;
        }
      });
    for (auto& thread : threads) thread.join();

    CHECK(wrong == 0);
    CHECK(listing(m.at("shared")).size() == 2 + 8 * 75);
    CHECK(m.fs.openHandles() <= 8);  // The kernel sends the last releases after close(2) returned.
  }
}

}  // namespace realize::test
