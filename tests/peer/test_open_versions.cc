// A file opened through the mount while Unreal keeps the version that it opened, whatever becomes of the name, of the
// cache and of other files with the same bytes.

#include <doctest/doctest.h>

#include "librealize/peer/arena_file_system.h"
#include "tests/peer/two_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

template <typename T>
class Waiting {
 public:
  std::function<void(Result<T>)> done() {
    return [state = state_](Result<T> result) { state->set_value(std::move(result)); };
  }
  Result<T> get() { return state_->get_future().get(); }

 private:
  std::shared_ptr<std::promise<Result<T>>> state_ = std::make_shared<std::promise<Result<T>>>();
};

FileHandle openAt(FileSystem& fs, const std::string& name) {
  auto found = fs.lookup(kRootNode, name);
  REQUIRE(found.ok());
  Waiting<FileHandle> opened;
  fs.open(found->node, OpenFlags(), opened.done());
  auto handle = opened.get();
  REQUIRE(handle.ok());
  return *handle;
}

Result<std::string> readSome(FileSystem& fs, FileHandle handle, uint64_t offset, size_t size) {
  Waiting<Bytes> read;
  fs.read(handle, offset, size, read.done());
  REALIZE_ASSIGN(const Bytes bytes, read.get());
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<std::string> readAll(FileSystem& fs, FileHandle handle) {
  std::string out;
  while (true) {
    REALIZE_ASSIGN(const std::string piece, readSome(fs, handle, out.size(), 100'000));
    if (piece.empty()) return out;
    out += piece;
  }
}

std::string noise(size_t size) {
  std::string out(size, 0);
  uint64_t x = 88172645463325252ull;
  for (auto& c : out) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    c = char(x);
  }
  return out;
}

/// As a program does that rewrites a piece of a file where it is.
void overwrite(const std::string& path, uint64_t offset, const std::string& text) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(std::streamoff(offset));
  file << text;
}

void mark(ArenaPeer& peer, const std::string& path, Mark mark) {
  peer.with([&](ArenaCore& core) {
    auto record = core.core().recordAt(path);
    REQUIRE(record.ok());
    core.core().marks->set(*record, mark);
  });
}

}  // namespace

TEST_CASE("what was opened Unreal is read as it was, though the file became real and was edited in the folder") {
  for (const size_t size : {size_t(3'000'000), size_t(100'000)}) {
    CAPTURE(size);
    TwoArenas peers(true, Mark::Unreal);
    const std::string text = noise(size);
    peers.a->write("film", text);
    peers.meet();
    auto& fs = peers.b->core->fileSystem();
    const FileHandle handle = openAt(fs, "film");
    REQUIRE(*readSome(fs, handle, 0, 10) == text.substr(0, 10));

    mark(*peers.b, "film", Mark::Real);
    REQUIRE(peers.settle());
    REQUIRE(peers.b->read("film") == text);
    peers.disconnect();
    overwrite(peers.b->folder + "/film", size / 2, "edited here");

    CHECK((*readAll(fs, handle) == text));
    fs.release(handle);
  }
}

TEST_CASE("what was opened Unreal is not read from another file with its bytes once that was edited") {
  for (const size_t size : {size_t(3'000'000), size_t(100'000)}) {
    CAPTURE(size);
    TwoArenas peers(true, Mark::Unreal);
    const std::string text = noise(size);
    peers.a->write("one", text);
    peers.a->write("two", text);
    peers.meet();
    mark(*peers.b, "one", Mark::Real);
    REQUIRE(peers.settle());
    REQUIRE(!peers.b->has("two"));
    auto& fs = peers.b->core->fileSystem();
    const FileHandle handle = openAt(fs, "two");
    REQUIRE(*readSome(fs, handle, 0, 10) == text.substr(0, 10));
    const uint64_t asked = peers.ba->gets;

    CHECK((*readAll(fs, handle) == text));
    CHECK(peers.ba->gets == asked);  // from the file that is here
    overwrite(peers.b->folder + "/one", size / 2, "edited here");

    CHECK((*readAll(fs, handle) == text));
    fs.release(handle);
  }
}

TEST_CASE("what was opened Unreal gives no bytes rather than others where its own are nowhere any more") {
  TwoArenas peers(true, Mark::Unreal);
  const std::string text = noise(3'000'000);
  peers.a->write("one", text);
  peers.a->write("two", text);
  peers.meet();
  mark(*peers.b, "one", Mark::Real);
  REQUIRE(peers.settle());
  auto& fs = peers.b->core->fileSystem();
  const FileHandle handle = openAt(fs, "two");

  peers.disconnect();
  overwrite(peers.b->folder + "/one", 1'500'000, "edited here");

  CHECK((*readSome(fs, handle, 0, 10) == text.substr(0, 10)));
  const auto edited = readSome(fs, handle, 1'500'000, 20);
  REQUIRE(!edited.ok());
  CHECK(edited.code() == Code::Unreachable);
  fs.release(handle);
}

TEST_CASE("what was opened Unreal is read from here once it is real here, without any connection") {
  for (const size_t size : {size_t(3'000'000), size_t(100'000)}) {
    CAPTURE(size);
    TwoArenas peers(true, Mark::Unreal);
    const std::string text = noise(size);
    peers.a->write("film", text);
    peers.meet();
    auto& fs = peers.b->core->fileSystem();
    const FileHandle handle = openAt(fs, "film");
    mark(*peers.b, "film", Mark::Real);
    REQUIRE(peers.settle());
    peers.disconnect();

    CHECK((*readAll(fs, handle) == text));
    fs.release(handle);
  }
}

TEST_CASE("what was opened Unreal is moved into the folder where there is no space for two, and read as it was all the same") {
  TwoArenas peers(true, Mark::Unreal);
  const std::string text = noise(3'000'000);
  peers.a->write("film", text);
  peers.meet();
  auto& fs = peers.b->core->fileSystem();
  const FileHandle handle = openAt(fs, "film");
  peers.b->disk.meddler.spaceLeftBytes = 4'000'000;

  mark(*peers.b, "film", Mark::Real);
  REQUIRE(peers.settle());
  CHECK(peers.b->with([](ArenaCore& core) { return core.core().store.cache().totals().count; }) == 0);
  overwrite(peers.b->folder + "/film", 1'500'000, "edited here");

  CHECK((*readAll(fs, handle) == text));
  fs.release(handle);
}

TEST_CASE("what was opened Unreal gives nothing of the version that replaced it") {
  TwoArenas peers(true, Mark::Unreal);
  const std::string text = noise(3'000'000);
  peers.a->write("film", text);
  peers.meet();
  auto& fs = peers.b->core->fileSystem();
  const FileHandle handle = openAt(fs, "film");
  REQUIRE((*readSome(fs, handle, 0, 10) == text.substr(0, 10)));

  overwrite(peers.a->folder + "/film", 2'900'000, "edited there");
  REQUIRE(peers.settle());
  mark(*peers.b, "film", Mark::Real);
  REQUIRE(peers.settle());
  REQUIRE((peers.b->read("film") == peers.a->read("film")));

  CHECK((*readSome(fs, handle, 0, 10) == text.substr(0, 10)));
  const auto replaced = readSome(fs, handle, 2'900'000, 12);
  CHECK((!replaced.ok() || *replaced == text.substr(2'900'000, 12)));
  fs.release(handle);
}
