// Files with holes: what is not there is neither read, sent nor written.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/peer/two_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

constexpr uint64_t kMiB = 1 << 20;

/// A file of `size` bytes with some text at each of the places.
void makeSparse(const std::string& path, uint64_t size, const std::vector<uint64_t>& places) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  REQUIRE(fd >= 0);
  REQUIRE(ftruncate(fd, off_t(size)) == 0);
  for (const auto place : places) {
    const std::string text = "at " + std::to_string(place);
    REQUIRE(pwrite(fd, text.data(), text.size(), off_t(place)) == ssize_t(text.size()));
  }
  ::close(fd);
}

uint64_t allocated(const std::string& path) {
  struct stat s;
  return stat(path.c_str(), &s) == 0 ? uint64_t(s.st_blocks) * 512 : ~uint64_t(0);
}

std::string only(const std::string& folder) {
  std::string out;
  for (const auto& item : std::filesystem::directory_iterator(folder)) out = out.empty() ? item.path().string() : "several";
  return out;
}

void mark(ArenaPeer& peer, Mark mark) {
  peer.with([&](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), mark); });
}

}  // namespace

TEST_CASE("a sparse file stays sparse on its way to the other's folder, to the cache and back") {
  TwoArenas peers(true, Mark::Real);
  const uint64_t size = 400 * kMiB + 5;
  makeSparse(peers.a->folder + "/sparse", size, {10, 100 * kMiB + 7, 399 * kMiB});
  peers.meet();

  const std::string file = peers.b->folder + "/sparse";
  CHECK(std::filesystem::file_size(file) == size);
  CHECK(allocated(file) <= kMiB);
  CHECK((peers.b->read("sparse") == peers.a->read("sparse")));
  CHECK(peers.ba->gets <= 8);  // some MiB each, if it were all sent

  mark(*peers.b, Mark::Unreal);
  for (int i = 0; i < 1000 && peers.b->has("sparse"); ++i) REQUIRE(peers.settle());
  CHECK(allocated(only(peers.b->folder + "/.realize/cache")) <= kMiB);
  peers.disconnect();
  mark(*peers.b, Mark::Real);
  peers.meet();

  CHECK(allocated(file) <= kMiB);
  CHECK((peers.b->read("sparse") == peers.a->read("sparse")));
}

TEST_CASE("a file that is one hole needs no bytes, and has them after a restart") {
  TwoArenas peers(true, Mark::Real);
  makeSparse(peers.a->folder + "/hole", 64 * kMiB, {});
  peers.meet();

  CHECK(std::filesystem::file_size(peers.b->folder + "/hole") == 64 * kMiB);
  CHECK(allocated(peers.b->folder + "/hole") == 0);
  CHECK(peers.ba->gets == 0);
  CHECK((peers.b->read("hole") == std::string(64 * kMiB, '\0')));
}

TEST_CASE("what a user edits into a hole arrives, and a hole that he makes of data") {
  TwoArenas peers(true, Mark::Real);
  makeSparse(peers.a->folder + "/sparse", 64 * kMiB, {10, 32 * kMiB, 50 * kMiB});
  peers.meet();

  makeSparse(peers.a->folder + "/sparse", 64 * kMiB, {40 * kMiB, 64 * kMiB - 20});
  REQUIRE(peers.settle());
  CHECK((peers.b->read("sparse") == peers.a->read("sparse")));
  const int fd = ::open((peers.a->folder + "/sparse").c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 30 * kMiB, 15 * kMiB) == 0);
  ::close(fd);
  REQUIRE(peers.settle());

  CHECK((peers.b->read("sparse") == peers.a->read("sparse")));
  CHECK(allocated(peers.b->folder + "/sparse") <= kMiB);
}
