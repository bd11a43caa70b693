// Mounts of the kernel, through the daemon, on a peer in memory. Run by run_mounted.sh.

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/system/cli/cli_process.h"

using namespace realize::test;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

struct MountedHome : FakeHome {
  std::string point = path() + "/mnt";

  MountedHome() {
    fs::create_directory(point);
    start();
    fs::create_directory(path() + "/files/sub");
    writeWhole(path() + "/files/sub/f", "content");
  }
  json mounts() { return json::parse(realize({"status", "--json"}).out).at("arenas").at(0).at("mounts"); }
  std::string mountedContent() { return readWhole(point + "/sub/f"); }
};

}  // namespace

TEST_CASE("an arena is mounted, read, named by its paths there, and unmounted") {
  MountedHome home;

  REQUIRE(home.mount({"docs", home.point}).code == 0);
  CHECK(home.mountedContent() == "content");
  CHECK(home.mounts() == json::array({home.point}));
  CHECK(home.realize({"cat", home.point + "/sub/f"}).out == "content");
  CHECK(home.realize({"cat", "f"}, home.point + "/sub").out == "content");
  CHECK(home.mount({"docs", home.point}).code == 5);
  CHECK(home.mount({"-u", home.point}).code == 0);

  CHECK_FALSE(fs::exists(home.point + "/sub"));
  CHECK(home.mounts().empty());
}

TEST_CASE("fusermount3 -u is noticed, and ends realize-mount -f") {
  MountedHome home;
  Process foreground({getenv("REALIZE_MOUNT_FAKE"), "--state", home.state(), "-f", "docs", home.point});
  while (home.mounts().empty()) {
  }

  CHECK(run({"/usr/bin/fusermount3", "-u", home.point}).code == 0);

  CHECK(foreground.finish().code == 0);
  CHECK(home.realize({"unmount", home.point}).code == 4);
  CHECK(home.mount({"docs", home.point}).code == 0);
}

TEST_CASE("a signal to realize-mount -f unmounts") {
  MountedHome home;
  Process foreground({getenv("REALIZE_MOUNT_FAKE"), "--state", home.state(), "-f", "docs", home.point});
  while (home.mounts().empty()) {
  }

  foreground.signal(SIGTERM);

  CHECK(foreground.finish().code == 0);
  CHECK_FALSE(fs::exists(home.point + "/sub"));
}

TEST_CASE("a mount in use is not ended by request, but by the daemon's end") {
  MountedHome home;
  REQUIRE(home.mount({"docs", home.point}).code == 0);
  Process user({"/bin/sleep", "1000"}, {}, home.point + "/sub");
  // The child has changed its folder once its executable is the new one.
  while (fs::read_symlink("/proc/" + std::to_string(user.pid()) + "/cwd") != home.point + "/sub") {
  }

  CHECK(home.mount({"-u", home.point}).code == 10);
  CHECK(home.mountedContent() == "content");
  CHECK(home.realize({"stop"}).code == 0);

  CHECK_FALSE(fs::exists(home.point + "/sub"));
}

TEST_CASE("what a killed daemon leaves is taken away by -u, or by mounting anew") {
  MountedHome home;
  auto killDaemon = [&] {
    pid_t pid = json::parse(home.realize({"status", "--json"}).out).at("pid");
    kill(pid, SIGKILL);
    while (home.realize({"status"}).code != 3) {
    }
  };
  REQUIRE(home.mount({"docs", home.point}).code == 0);
  killDaemon();

  CHECK(home.realize({"status"}).err.find(home.point + " is a dead mount") != std::string::npos);
  CHECK(home.mount({"-u", home.point}).code == 0);
  CHECK(home.realize({"status"}).err.find(home.point) == std::string::npos);
  CHECK(fs::is_empty(home.point));
  CHECK(home.mount({"-u", home.point}).code == 4);

  REQUIRE(home.realize({"serve", "--detach"}).code == 0);
  REQUIRE(home.realize({"arena", "create", "docs", home.path() + "/files"}).code == 0);
  REQUIRE(home.mount({"docs", home.point}).code == 0);
  killDaemon();
  REQUIRE(home.realize({"serve", "--detach"}).code == 0);

  // The arena is gone, so that it cannot be mounted again, which is said until it is.
  auto problems = [&] { return json::parse(home.realize({"status", "--json"}).out).at("problems"); };
  REQUIRE(problems().size() == 1);
  CHECK(problems()[0].at("kind") == "mount-lost");
  CHECK(problems()[0].at("detail").get<std::string>().starts_with(home.point));
  REQUIRE(home.realize({"arena", "create", "docs", home.path() + "/files"}).code == 0);
  CHECK(home.mount({"docs", home.point}).code == 0);
  CHECK(home.mountedContent() == "content");
  CHECK(problems().empty());
}

TEST_CASE("a mount that could not be made again is given up by -u") {
  MountedHome home;
  REQUIRE(home.mount({"docs", home.point}).code == 0);
  pid_t pid = json::parse(home.realize({"status", "--json"}).out).at("pid");
  kill(pid, SIGKILL);
  while (home.realize({"status"}).code != 3) {
  }
  REQUIRE(home.realize({"serve", "--detach"}).code == 0);

  CHECK(home.mount({"-u", home.point}).code == 0);

  CHECK(fs::is_empty(home.point));
  CHECK(json::parse(home.realize({"status", "--json"}).out).at("problems").empty());
  CHECK(home.mount({"-u", home.point}).code == 4);
}
