#include <doctest/doctest.h>

#include <condition_variable>
#include <map>

#include "tests/peer/two_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

/// What a mount would be told.
class ToldNames final : public InvalidationSink {
 public:
  void nodeChanged(NodeId, bool) override {}
  void nameChanged(NodeId parent, const std::string& name, NodeId) override {
    std::lock_guard held(mutex_);
    ++told_[{parent, name}];
    changed_.notify_all();
  }
  bool waitFor(NodeId parent, const std::string& name) {
    std::unique_lock held(mutex_);
    return changed_.wait_for(held, std::chrono::seconds(20), [&] { return told_[{parent, name}] > 0; });
  }
  void forget() {
    std::lock_guard held(mutex_);
    told_.clear();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<NodeId, std::string>, int> told_;
};

std::vector<std::string> names(FileSystem& fs, NodeId folder) {
  std::vector<std::string> out;
  if (auto all = fs.readDirectory(folder); all.ok())
    for (const auto& one : *all) out.push_back(one.name);
  return out;
}

Result<std::string> readNode(FileSystem& fs, NodeId node) {
  Result<FileHandle> handle = Error{};
  fs.open(node, OpenFlags{}, [&](Result<FileHandle> opened) { handle = std::move(opened); });
  if (!handle.ok()) return handle.error();
  std::promise<Result<Bytes>> answer;
  fs.read(*handle, 0, 1000, [&](Result<Bytes> bytes) { answer.set_value(std::move(bytes)); });
  auto bytes = answer.get_future().get();
  fs.release(*handle);
  if (!bytes.ok()) return bytes.error();
  return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

/// b's folder and a's have "dir/plan.txt" otherwise.
void disagree(TwoArenas& peers) {
  peers.a->write("dir/plan.txt", "draft");
  peers.connect();
  REQUIRE(peers.settle());
  peers.disconnect();
  peers.a->write("dir/plan.txt", "by a");
  peers.b->write("dir/plan.txt", "by b, longer");
  for (auto* peer : {peers.a.get(), peers.b.get()}) {
    std::promise<void> read;
    peer->with([&](ArenaCore& core) {
      core.core().folder->hintDirectory(kRootNode);
      core.core().folder->rescanAll();
      core.core().folder->barrier([&read] { read.set_value(); });
    });
    REQUIRE(read.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  }
}

}  // namespace

TEST_CASE("a mount is told of the folder of conflicts when it comes and when it goes") {
  TwoArenas peers(true, Mark::Real);
  auto& fs = peers.b->core->guardedFileSystem();
  ToldNames told;
  auto subscribed = fs.subscribe(told);
  disagree(peers);
  CHECK(fs.lookup(kRootNode, "conflicts").code() == Code::NotFound);
  told.forget();

  peers.connect();
  REQUIRE(peers.settle());

  CHECK(told.waitFor(kRootNode, "conflicts"));
  CHECK(names(fs, kRootNode) == std::vector<std::string>{"conflicts", "dir"});
  const NodeId folder = fs.lookup(kRootNode, "conflicts")->node;
  const NodeId dir = fs.lookup(folder, "dir")->node;
  const NodeId versions = fs.lookup(dir, "plan.txt")->node;
  CHECK(fs.parentOf(versions).ok());
  CHECK(*fs.parentOf(versions) == dir);
  CHECK(*fs.parentOf(folder) == kRootNode);
  REQUIRE(names(fs, versions).size() == 2);
  told.forget();

  // The other one than b shows, by its name alone.
  for (const auto& name : names(fs, versions)) {
    const NodeId version = fs.lookup(versions, name)->node;
    if (*readNode(fs, version) != "by a") continue;
    const NodeId target = fs.lookup(kRootNode, "dir")->node;
    CHECK(fs.rename(versions, name, target, "another", RenameFlag::Replace).code() == Code::ReadOnly);
    CHECK(fs.rename(versions, name, target, "plan.txt", RenameFlag::NoReplace).code() == Code::ReadOnly);
    CHECK(fs.rename(versions, name, target, "plan.txt", RenameFlag::Replace).ok());
    // Until it is told, the kernel has the version there: it is to look the name up again, not to tell that nothing is there.
    CHECK(readNode(fs, version).code() == Code::Stale);
    CHECK(fs.setXattr(version, "user.realize.mark", "real", 0).code() == Code::Stale);
    CHECK(told.waitFor(target, "plan.txt"));
    break;
  }

  CHECK(told.waitFor(kRootNode, "conflicts"));
  CHECK(names(fs, kRootNode) == std::vector<std::string>{"dir"});
  REQUIRE(peers.settle());
  CHECK(*readNode(fs, fs.lookup(fs.lookup(kRootNode, "dir")->node, "plan.txt")->node) == "by a");
}

TEST_CASE("the user's own folder of conflicts has the name") {
  TwoArenas peers(true, Mark::Real);
  disagree(peers);
  peers.b->write("conflicts/mine", "the user's");
  peers.connect();
  REQUIRE(peers.settle());
  auto& fs = peers.b->core->guardedFileSystem();

  CHECK(names(fs, kRootNode) == std::vector<std::string>{"conflicts", "conflicts.1", "dir"});
  const NodeId own = fs.lookup(kRootNode, "conflicts")->node;
  CHECK(names(fs, own) == std::vector<std::string>{"mine"});
  const NodeId ours = fs.lookup(kRootNode, "conflicts.1")->node;
  CHECK(names(fs, ours) == std::vector<std::string>{"dir"});
  CHECK(fs.makeDirectory(ours, "x", 0755, 0, 0).code() == Code::ReadOnly);
  CHECK(fs.removeDirectory(kRootNode, "conflicts.1").code() == Code::ReadOnly);
  CHECK(fs.unlink(own, "mine").ok());
  CHECK(fs.removeDirectory(kRootNode, "conflicts").ok());

  CHECK(names(fs, kRootNode) == std::vector<std::string>{"conflicts", "dir"});
  CHECK(fs.lookup(kRootNode, "conflicts")->node == ours);
}
