#include "frontends/daemon/daemon.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "frontends/cli/client.h"
#include "tests/support/fake_peer.h"
#include "tests/support/temp_dir.h"

using namespace realize;
using namespace realize::daemon;
using realize::test::FakePeer;
using realize::test::TempDir;
using nlohmann::json;

namespace {

/// A mount that a test can end from outside, or keep busy.
struct MountScript {
  std::function<void()> ended;
  bool busy = false;
  int alive = 0;
};

class ScriptedMount : public MountHandle {
 public:
  explicit ScriptedMount(MountScript& script) : script_(script) { ++script_.alive; }
  ~ScriptedMount() override { --script_.alive; }
  Result<void> unmount() override {
    if (script_.busy) return Error{Code::Busy, "in use"};
    return {};
  }

 private:
  MountScript& script_;
};

MountBackend backendOf(MountScript& script) {
  return [&script](std::shared_ptr<Arena>, const std::string&, const std::vector<std::string>&,
                   std::function<void()> ended) -> Result<std::unique_ptr<MountHandle>> {
    script.ended = std::move(ended);
    return std::unique_ptr<MountHandle>(new ScriptedMount(script));
  };
}

struct Folder {
  TempDir dir;
  Folder() {
    for (auto name : {"/files", "/mnt", "/state"}) std::filesystem::create_directory(dir.path() + name);
  }
  std::string at(const std::string& name) { return dir.path() + name; }
};

}  // namespace

TEST_CASE("overlap is by whole components") {
  CHECK(pathsOverlap("/a", "/a"));
  CHECK(pathsOverlap("/a/b", "/a"));
  CHECK(pathsOverlap("/a", "/a/b"));
  CHECK(pathsOverlap("/", "/a"));
  CHECK_FALSE(pathsOverlap("/a", "/ab"));
  CHECK_FALSE(pathsOverlap("/a", ""));
}

TEST_CASE("a mount ended from outside is noticed, reported and can be made again") {
  Folder folder;
  FakePeer peer;
  REQUIRE(peer.createArena("docs", folder.at("/files")));
  MountScript script;
  int woken = 0;
  MountTable table(peer, backendOf(script), folder.at("/state"), [&] { ++woken; });

  REQUIRE(table.mount("docs", folder.at("/mnt"), {}));
  CHECK(table.mount("docs", folder.at("/mnt"), {}).code() == Code::Exists);
  CHECK(peer.status().arenas[0].mounts.size() == 1);
  script.ended();
  CHECK(table.list().empty());
  CHECK(table.waitEnded(folder.at("/mnt"), 0));
  CHECK(woken == 1);
  table.reap();

  CHECK(script.alive == 0);
  CHECK(peer.status().arenas[0].mounts.empty());
  CHECK(table.mount("docs", folder.at("/mnt"), {}));
}

TEST_CASE("a busy mount stays, but not beyond the daemon's end") {
  Folder folder;
  FakePeer peer;
  REQUIRE(peer.createArena("docs", folder.at("/files")));
  MountScript script;
  script.busy = true;
  {
    MountTable table(peer, backendOf(script), folder.at("/state"), [] {});
    REQUIRE(table.mount("docs", folder.at("/mnt"), {}));

    CHECK(table.unmount(folder.at("/mnt")).code() == Code::Busy);
    CHECK(table.list().size() == 1);
    CHECK(script.alive == 1);
  }
  CHECK(script.alive == 0);
}

TEST_CASE("a mount over the state folder is refused") {
  Folder folder;
  FakePeer peer;
  REQUIRE(peer.createArena("docs", folder.at("/files")));
  MountScript script;
  MountTable table(peer, backendOf(script), folder.at("/state"), [] {});

  CHECK(table.mount("docs", folder.at("/state"), {}).code() == Code::Refused);
  CHECK(table.mount("docs", folder.dir.path(), {}).code() == Code::Refused);
  CHECK(table.mount("docs", "relative", {}).code() == Code::InvalidArgument);
  CHECK(MountTable(peer, {}, folder.at("/state"), [] {}).mount("docs", folder.at("/mnt"), {}).code() == Code::Unsupported);
}

TEST_CASE("a daemon serves in one process, bounds its clients and ends when asked") {
  Folder folder;
  Log log;
  REQUIRE(FakePeer::init(folder.at("/state"), {"a", ""}));
  Library library{FakePeer::init, FakePeer::open, {}, {}, "test"};
  auto running = Daemon::start(folder.at("/state"), library, log);
  REQUIRE(running);
  bool clean = false;
  std::thread thread([&] { clean = (*running)->run(-1); });

  std::vector<std::unique_ptr<cli::Client>> clients;
  int served = 0;
  for (size_t i = 0; i < kMaxClients + 1; ++i) {
    auto client = cli::Client::connect(folder.at("/state"));
    REQUIRE(client);
    auto answer = (*client)->call("ping", json::object());
    if (answer) ++served;
    else CHECK(answer.code() == Code::Busy);
    clients.push_back(std::move(*client));
  }
  CHECK(clients[0]->call("no-such-verb", json::object()).code() == Code::Unsupported);
  CHECK(clients[0]->call("ls", json{{"path", 5}}).code() == Code::InvalidArgument);
  CHECK(clients[0]->call("stop", json::object()).ok());
  thread.join();

  CHECK(served == static_cast<int>(kMaxClients));
  CHECK(clean);
}

TEST_CASE("the log is rotated at its limit and keeps one old file") {
  TempDir dir;
  std::string file = dir / "log";
  int out = dup(1);
  int err = dup(2);
  REQUIRE(redirectOutput(file));
  Log log(file, 1000);

  for (int i = 0; i < 100; ++i) log.line("a line of the log\nwith a break");
  dup2(out, 1);
  dup2(err, 2);
  close(out);
  close(err);

  CHECK(std::filesystem::file_size(file) <= 1100);
  CHECK(std::filesystem::file_size(file + ".1") <= 1100);
  std::ifstream in(file + ".1");
  std::string line;
  std::getline(in, line);
  CHECK(line.find("Z a line of the log with a break") != std::string::npos);
}
