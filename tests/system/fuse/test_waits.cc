// Requests that wait for the network, and those who stop waiting.

#include <dirent.h>
#include <spawn.h>
#include <sys/wait.h>

#include <csignal>
#include <future>
#include <vector>

#include "mounted.h"

namespace realize::test {

TEST_CASE("a read that waits for the network blocks nobody else") {
  fuse::MountOptions options;
  options.threads = 2;
  Mounted m(options);
  std::vector<std::future<std::string>> readers;
  std::vector<NodeId> nodes;
  for (int i = 0; i < 10; ++i) {
    std::string name = "slow" + std::to_string(i);
    nodes.push_back(m.fs.writeUnderneath(name, "content of " + name));
    m.fs.holdReads(nodes.back());
  }
  for (int i = 0; i < 10; ++i)
    readers.push_back(std::async(std::launch::async, readFile, m.at("slow" + std::to_string(i))));
  REQUIRE(m.fs.waitForHeldReads(10));

  CHECK(writeFile(m.at("other"), "text"));
  CHECK(readFile(m.at("other")) == "text");
  CHECK(std::distance(std::filesystem::directory_iterator(m.folder.path()), {}) == 11);
  CHECK(m.fs.heldReads() >= 10);
  for (NodeId node : nodes) m.fs.releaseReads(node);

  for (int i = 0; i < 10; ++i) CHECK(readers[i].get() == "content of slow" + std::to_string(i));
}

TEST_CASE("bytes that no peer has fail soon, and are readable when one connects") {
  Mounted m;
  NodeId node = m.fs.writeUnderneath("a", "text");
  m.fs.holdReads(node);
  auto reader = std::async(std::launch::async, readFile, m.at("a"));
  REQUIRE(m.fs.waitForHeldReads(1));

  m.fs.failReads(node, Code::Unreachable);
  CHECK(reader.get() == "errno " + std::to_string(EHOSTUNREACH));
  CHECK(readFile(m.at("a")) == "errno " + std::to_string(EHOSTUNREACH));
  m.fs.releaseReads(node);

  CHECK(readFile(m.at("a")) == "text");
}

TEST_CASE("an Unreal file is truncated by its path by opening it") {
  Mounted m;
  NodeId node = m.fs.writeUnderneath("a", "0123456789");
  m.fs.setUnreal(node);

  CHECK(truncate(m.at("a").c_str(), 4) == 0);

  CHECK(m.fs.contentAt("a") == "0123");
  CHECK(m.fs.openHandles() == 0);
}

namespace {

pid_t lastSpawned = 0;

// Runs a program, waits until `blocked`, sends it `signal` and waits for its end. A program, not a fork of this test:
// a fork would keep the mount's descriptor, and so a request waiting that nobody answers.
template <typename Blocked>
int killWhenBlocked(std::vector<std::string> command, Blocked blocked, int signal) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t& child = lastSpawned;
  REQUIRE(posix_spawnp(&child, argv[0], nullptr, nullptr, argv.data(), environ) == 0);
  blocked();
  kill(child, signal);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("a reader that waits can be killed") {
  Mounted m;
  NodeId node = m.fs.writeUnderneath("a", "text");
  m.fs.holdReads(node);

  int signal = killWhenBlocked({"cat", m.at("a")}, [&] { CHECK(m.fs.waitForHeldReads(1)); }, SIGKILL);

  CHECK(signal == SIGKILL);
  m.fs.releaseReads(node);
  CHECK(readFile(m.at("a")) == "text");
}

TEST_CASE("a direct read that is interrupted is cancelled at the library") {
  Mounted m;
  NodeId node = m.fs.writeUnderneath("a", std::string(4096, 'x'));
  m.fs.holdReads(node);

  int signal = killWhenBlocked({"dd", "iflag=direct", "bs=4096", "of=/dev/null", "if=" + m.at("a")},
                               [&] { CHECK(m.fs.waitForHeldReads(1)); }, SIGTERM);

  CHECK(signal == SIGTERM);
  REQUIRE(m.fs.waitForCancelled(1));  // The reader is let go first.
  CHECK(m.fs.heldReads() == 0);
}

TEST_CASE("a signal that programs restart after does not end a wait, a later one that asks to stop does") {
  Mounted m;
  m.fs.writeUnderneath("a", "text");
  m.fs.holdOpens(true);
  struct stat st = statOf(m.at("a"));
  REQUIRE(st.st_size == 4);
  std::string script = "import os, signal, sys\n"
                       "signal.signal(signal.SIGUSR1, lambda *a: None)\n"
                       "os.open(sys.argv[1], os.O_RDWR)\n";

  int signal = killWhenBlocked({"python3", "-c", script, m.at("a")},
                               [&] {
                                 REQUIRE(m.fs.waitForHeldOpens(1));
                                 kill(lastSpawned, SIGUSR1);
                               },
                               SIGTERM);

  CHECK(signal == SIGTERM);
  m.fs.holdOpens(false);
}

TEST_CASE("an open that waits can be killed, and its handle is released when it comes") {
  Mounted m;
  m.fs.writeUnderneath("a", "text");
  m.fs.holdOpens(true);
  struct stat st = statOf(m.at("a"));
  REQUIRE(st.st_size == 4);

  int signal = killWhenBlocked({"sh", "-c", "exec 3<>'" + m.at("a") + "'"},
                               [&] { CHECK(m.fs.waitForHeldOpens(1)); }, SIGINT);
  CHECK(signal == SIGINT);
  m.fs.holdOpens(false);

  CHECK(m.fs.openHandles() == 0);
  CHECK(readFile(m.at("a")) == "text");
}

}  // namespace realize::test
