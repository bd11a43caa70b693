// What a mount is told: its kernel keeps what it read until it hears of a change.

#include <condition_variable>
#include <map>
#include <mutex>

#include "librealize/peer/arena_file_system.h"
#include "tests/peer/sim_arenas.h"

using namespace realize;
using namespace realize::peer;
using namespace realize::peer::testing;

namespace {

class ToldNodes final : public InvalidationSink {
 public:
  void nodeChanged(NodeId node, bool content) override {
    std::lock_guard held(mutex_);
    told_[node] |= content ? 3 : 1;
    changed_.notify_all();
  }
  void nameChanged(NodeId, const std::string&, NodeId) override {}
  /// Told since the last call; `content`: of its content.
  bool waitFor(NodeId node, bool content) {
    std::unique_lock held(mutex_);
    const bool told = changed_.wait_for(held, std::chrono::seconds(10), [&] { return (told_[node] & (content ? 2 : 1)) != 0; });
    told_.clear();
    return told;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<NodeId, int> told_;
};

/// A has "plan.txt" and "link", which are real on B, too. What `change` does at A is known to B (`known`) and not in its folder
/// yet when B's mount looks; then it is there, and the mount is told once more.
void toldWhenThere(const std::string& name, bool content, const std::function<void(SimArenas&, Directory&)>& change,
                   const std::function<bool(const logic::Record&)>& known, const std::function<bool(Directory&)>& there) {
  SimArenas arenas;
  auto& b = *arenas.b;
  SimArenas::write(*arenas.a, "plan.txt", "one");
  REQUIRE((*arenas.a->disk.openRoot(test::kSimFolder))->makeSymlink("link", "plan.txt").ok());
  arenas.start();
  REQUIRE(arenas.settles());
  ToldNodes told;
  const auto subscription = b.core->guardedFileSystem().subscribe(told);
  const NodeId node = b.core->guardedFileSystem().lookup(kRootNode, name)->node;
  auto root = *b.disk.openRoot(test::kSimFolder);

  change(arenas, **arenas.a->disk.openRoot(test::kSimFolder));
  REQUIRE(arenas.until([&] { return known(*SimArenas::core(b).recordAt(name)); }));
  CHECK_FALSE(there(*root));
  CHECK(told.waitFor(node, content));
  REQUIRE(arenas.settles());

  CHECK(there(*root));
  CHECK(told.waitFor(node, content));
}

}  // namespace

TEST_CASE("a mount that looks while a new content is on its way is told when the folder has it") {
  toldWhenThere(
      "plan.txt", true,
      [](SimArenas&, Directory& root) { REQUIRE((*root.open("plan.txt", OpenMode::ReadWrite))->write(0, std::as_bytes(std::span("two, longer"))).ok()); },
      [](const logic::Record& record) { return record.entry.heads.front().second.sizeBytes > 3; },
      [](Directory& root) { return root.stat("plan.txt")->sizeBytes > 3; });
}

TEST_CASE("a mount that looks while another mode is on its way is told when the folder has it") {
  toldWhenThere(
      "plan.txt", false, [](SimArenas&, Directory& root) { REQUIRE(root.setMode("plan.txt", 0600).ok()); },
      [](const logic::Record& record) { return record.entry.heads.front().second.mode == 0600; },
      [](Directory& root) { return (root.stat("plan.txt")->mode & 07777) == 0600; });
}

TEST_CASE("a mount that looks while a link's new target is on its way is told when the folder has it") {
  toldWhenThere(
      "link", true,
      [](SimArenas&, Directory& root) {
        REQUIRE(root.makeSymlink("new", "elsewhere").ok());
        REQUIRE(root.rename("new", "link", RenameKind::Replace).ok());
      },
      [](const logic::Record& record) { return record.entry.heads.front().second.linkTarget == "elsewhere"; },
      [](Directory& root) { return root.readSymlink("link").value() == "elsewhere"; });
}

TEST_CASE("a mount that looks while a file becomes unreal with a newer content is told when its file is gone") {
  toldWhenThere(
      "plan.txt", true,
      [](SimArenas& arenas, Directory& root) {
        arenas.link->cut();
        REQUIRE((*root.open("plan.txt", OpenMode::ReadWrite))->write(0, std::as_bytes(std::span("two, longer"))).ok());
        auto& core = SimArenas::core(*arenas.b);
        core.transact([&] { core.marks->set(*core.recordAt("plan.txt"), Mark::Unreal); });
        arenas.pass(1000);
        arenas.link->connect();
      },
      [](const logic::Record& record) { return record.entry.heads.front().second.sizeBytes > 3; },
      [](Directory& root) { return !root.stat("plan.txt").ok(); });
}

TEST_CASE_FIXTURE(SimArenas, "a mount is told of new contents that are held back, as the folder has them") {
  constexpr int kFiles = 30;
  a->options.settings.guardMinimum = 10;
  for (int i = 0; i < kFiles; ++i) write(*a, "file" + std::to_string(i), "what stood there");
  start();
  REQUIRE(settles());
  pass(120'000);
  ToldNodes told;
  const auto subscription = a->core->guardedFileSystem().subscribe(told);
  const NodeId node = a->core->guardedFileSystem().lookup(kRootNode, "file3")->node;

  for (int i = 0; i < kFiles; ++i) write(*a, "file" + std::to_string(i), "rubbish");
  REQUIRE(until([&] { return a->core->status().heldOverwrites == kFiles; }));

  CHECK(told.waitFor(node, true));
}
