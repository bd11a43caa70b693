// What a mount costs: walking 100,000 files, reading and writing, over a file system in memory.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "frontends/fuse/mount.h"
#include "tests/support/memory_file_system.h"

namespace {

using realize::test::MemoryFileSystem;

double cpuSeconds(int who) {
  rusage usage{};
  getrusage(who, &usage);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double timed(const std::function<void()>& work) {
  auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void report(const char* what, double seconds, double amount, const char* unit) {
  std::printf("%-58s %8.3f s  %10.2f %s\n", what, seconds, amount, unit);
}

void shell(const std::string& command) {
  if (std::system(command.c_str()) != 0) std::printf("failed: %s\n", command.c_str());
}

std::string makeFolder() {
  const char* base = std::getenv("TMPDIR");
  std::string pattern = std::string(base ? base : "/tmp") + "/bench.XXXXXX";
  if (!mkdtemp(pattern.data())) std::abort();
  return pattern;
}

void readAll(const std::string& path, size_t block) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::vector<char> buffer(block);
  while (read(fd, buffer.data(), buffer.size()) > 0) {
  }
  close(fd);
}

void walk() {
  constexpr size_t kFiles = 100'000;
  MemoryFileSystem fs;
  fs.populate(1000, kFiles / 1000, 4096);
  std::string folder = makeFolder();
  {
    auto mount = realize::fuse::Mount::start(fs, folder, {});
    if (!mount.ok()) {
      std::printf("%s\n", mount.error().message.c_str());
      std::exit(1);
    }
    double cpu = cpuSeconds(RUSAGE_SELF);
    for (const char* temperature : {"cold", "warm"}) {
      double s = timed([&] { shell("find " + folder + " -type f | wc -l >/dev/null"); });
      report((std::string("find, names only, ") + temperature).c_str(), s, s / kFiles * 1e6, "us a file");
    }
    std::printf("  CPU of the daemon so far: %.2f s\n", cpuSeconds(RUSAGE_SELF) - cpu);
  }
  {
    auto mount = realize::fuse::Mount::start(fs, folder, {});
    double cpu = cpuSeconds(RUSAGE_SELF);
    for (const char* temperature : {"cold", "warm"}) {
      double s = timed([&] { shell("find " + folder + " -type f -size +1 | wc -l >/dev/null"); });
      report((std::string("find with stat, ") + temperature).c_str(), s, s / kFiles * 1e6, "us a file");
    }
    std::printf("  CPU of the daemon so far: %.2f s\n", cpuSeconds(RUSAGE_SELF) - cpu);
    double s = timed([&] { shell("tar -cf - -C " + folder + " . | wc -c >/dev/null"); });
    report("tar of 100,000 files of 4 KiB", s, s / kFiles * 1e6, "us a file");
  }
  rmdir(folder.c_str());
}

void data(const char* name, bool descriptors, uint32_t readAheadKib) {
  MemoryFileSystem fs(descriptors);
  realize::fuse::MountOptions options;
  options.readAheadKib = readAheadKib;
  std::string folder = makeFolder();
  {
    auto mount = realize::fuse::Mount::start(fs, folder, options);
    std::string file = folder + "/file";
    std::printf("%s\n", name);
    double cpu = cpuSeconds(RUSAGE_SELF);
    double s = timed([&] { shell("dd if=/dev/zero of=" + file + " bs=1M count=1024 2>/dev/null"); });
    report("  write 1 GiB by 1 MiB", s, 1 / s, "GiB/s");
    int drop = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    posix_fadvise(drop, 0, 0, POSIX_FADV_DONTNEED);
    close(drop);
    double before = cpuSeconds(RUSAGE_SELF);
    s = timed([&] { readAll(file, 128 * 1024); });
    report("  read 1 GiB cold", s, 1 / s, "GiB/s");
    std::printf("  CPU: write %.2f s, read with both sides %.2f s\n", before - cpu, cpuSeconds(RUSAGE_SELF) - before);
    s = timed([&] { readAll(file, 128 * 1024); });
    report("  read 1 GiB warm", s, 1 / s, "GiB/s");
    s = timed([&] { shell("dd if=/dev/zero of=" + file + " bs=4k count=20000 conv=notrunc 2>/dev/null"); });
    report("  20,000 writes of 4 KiB", s, s / 20000 * 1e6, "us each");
  }
  rmdir(folder.c_str());
}

}  // namespace

int main() {
  walk();
  data("in memory, read ahead 128 KiB", false, 0);
  data("in memory, read ahead 1 MiB", false, 1024);
  data("descriptor, read ahead 128 KiB", true, 0);
  data("descriptor, read ahead 1 MiB", true, 1024);
  return 0;
}
