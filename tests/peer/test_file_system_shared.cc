#include <doctest/doctest.h>

#include "librealize/peer/arena_file_system.h"
#include "tests/peer/two_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

/// Answers given on any thread, waited for.
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

Result<FileHandle> open(FileSystem& fs, NodeId node, bool write) {
  Waiting<FileHandle> opened;
  OpenFlags flags;
  flags.write = write;
  fs.open(node, flags, opened.done());
  return opened.get();
}

Result<std::string> readAll(FileSystem& fs, FileHandle handle, size_t piece = 100'000) {
  std::string out;
  while (true) {
    Waiting<Bytes> read;
    fs.read(handle, out.size(), piece, read.done());
    REALIZE_ASSIGN(const Bytes bytes, read.get());
    if (bytes.empty()) return out;
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
}

Result<std::string> readFile(FileSystem& fs, NodeId node) {
  REALIZE_ASSIGN(const FileHandle handle, open(fs, node, false));
  auto text = readAll(fs, handle);
  fs.release(handle);
  return text;
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

Result<NodeId> nodeAt(FileSystem& fs, const std::string& name, NodeId parent = kRootNode) {
  REALIZE_ASSIGN(const Attributes found, fs.lookup(parent, name));
  return found.node;
}

}  // namespace

TEST_CASE("another peer's files are read through the mount before and without being real here") {
  TwoArenas peers(false, Mark::Unreal);
  const std::string large = noise(3'000'000);
  peers.a->write("dir/large", large);
  peers.a->write("small", "text");
  peers.a->write("empty", "");
  peers.meet();
  auto& fs = peers.b->core->fileSystem();

  const NodeId small = *nodeAt(fs, "small");
  CHECK(*fs.getXattr(small, "user.realize.status") == "unreal");
  CHECK(*readFile(fs, small) == "text");
  CHECK(*fs.getXattr(small, "user.realize.status") == "cached");
  CHECK(*readFile(fs, *nodeAt(fs, "empty")) == "");
  const NodeId node = *nodeAt(fs, "large", *nodeAt(fs, "dir"));
  CHECK(fs.attributes(node)->sizeBytes == large.size());
  CHECK(*readFile(fs, node) == large);
  CHECK(!peers.b->has("dir/large"));

  peers.disconnect();
  CHECK(*readFile(fs, node) == large);  // from the cache
}

TEST_CASE("without a connection an Unreal file cannot be read or opened for writing") {
  TwoArenas peers(false, Mark::Unreal);
  peers.a->write("file", "text");
  peers.meet();
  peers.disconnect();
  auto& fs = peers.b->core->fileSystem();
  const NodeId node = *nodeAt(fs, "file");

  CHECK(readFile(fs, node).code() == Code::Unreachable);
  CHECK(open(fs, node, true).code() == Code::Unreachable);
}

TEST_CASE("an Unreal file opened for writing is fetched, and the edit arrives at the other peer") {
  TwoArenas peers(false, Mark::Unreal);
  peers.a->write("plan", "a draft of some length");
  peers.meet();
  auto& fs = peers.b->core->fileSystem();
  const NodeId node = *nodeAt(fs, "plan");

  auto handle = open(fs, node, true);
  REQUIRE(handle.ok());
  const std::string text = "A DRAFT";
  REQUIRE(fs.write(*handle, 0, std::as_bytes(std::span(text))).ok());
  fs.release(*handle);
  REQUIRE(peers.settle());

  CHECK(peers.a->read("plan") == "A DRAFT of some length");
  CHECK(peers.a->with([](ArenaCore& core) { return core.conflicts()->size(); }) == 0);
  CHECK(*readFile(fs, *nodeAt(fs, "plan")) == "A DRAFT of some length");
}

TEST_CASE("names made, moved and removed in one peer's mount follow in the other's folder") {
  TwoArenas peers(false, Mark::Unreal);
  peers.a->write("a/one", "1");
  peers.a->write("a/two", "22");
  peers.a->write("three", "333");
  peers.meet();
  auto& fs = peers.b->core->fileSystem();

  const NodeId a = *nodeAt(fs, "a");
  REQUIRE(fs.rename(a, "one", kRootNode, "three", RenameFlag::Replace).ok());
  REQUIRE(fs.unlink(a, "two").ok());
  REQUIRE(fs.rename(kRootNode, "a", kRootNode, "b", RenameFlag::Replace).ok());
  REQUIRE(fs.makeSymlink(a, "link", "../three", 0, 0).ok());
  auto made = fs.create(a, "new", 0640, 0, 0, true);
  REQUIRE(made.ok());
  const std::string text = "made on b";
  REQUIRE(fs.write(made->handle, 0, std::as_bytes(std::span(text))).ok());
  fs.release(made->handle);
  REQUIRE(peers.settle());

  CHECK(peers.a->read("three") == "1");
  CHECK(!peers.a->has("a"));
  CHECK(!peers.a->has("b/two"));
  CHECK(peers.a->read("b/link") == "1");
  CHECK(peers.a->read("b/new") == "made on b");
  CHECK(peers.a->with([](ArenaCore& core) { return core.conflicts()->size(); }) == 0);
}

TEST_CASE("a peer's edit of a file that is open here does not touch the open version") {
  TwoArenas peers(false, Mark::Unreal);
  peers.a->write("file", "first");
  peers.meet();
  auto& fs = peers.b->core->fileSystem();
  const NodeId node = *nodeAt(fs, "file");
  REQUIRE(*readFile(fs, node) == "first");
  auto handle = open(fs, node, false);

  peers.a->write("file", "second one");
  REQUIRE(peers.settle());

  CHECK(*readAll(fs, *handle) == "first");
  CHECK(*readFile(fs, node) == "second one");
  fs.release(*handle);
}

TEST_CASE("an edit through the mount while apart is beside the other peer's, and nothing is lost") {
  TwoArenas peers;
  peers.a->write("plan", "old");
  peers.connect();
  peers.b->with([](ArenaCore& core) { core.core().marks->set(Core::rootRecord(), Mark::Real); });
  REQUIRE(peers.settle());
  peers.disconnect();

  auto& fs = peers.b->core->fileSystem();
  auto temp = fs.create(kRootNode, ".plan.tmp", 0644, 0, 0, true);
  const std::string text = "draft B";
  REQUIRE(fs.write(temp->handle, 0, std::as_bytes(std::span(text))).ok());
  fs.release(temp->handle);
  REQUIRE(fs.rename(kRootNode, ".plan.tmp", kRootNode, "plan", RenameFlag::Replace).ok());
  peers.a->write("plan", "draft A!");
  peers.meet();

  CHECK(peers.a->read("plan") == "draft A!");
  CHECK(peers.b->read("plan") == "draft B");
  for (auto* peer : {peers.a.get(), peers.b.get()})
    CHECK(peer->with([](ArenaCore& core) { return core.stat("plan")->heads.size(); }) == 2);
  CHECK(fs.getXattr(*nodeAt(fs, "plan"), "user.realize.status")->ends_with(", conflict"));
}
