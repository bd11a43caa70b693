#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "frontends/daemon/control_protocol.h"
#include "frontends/daemon/control_socket.h"
#include "tests/system/cli/cli_process.h"

using namespace realize::test;
using nlohmann::json;
namespace fs = std::filesystem;

TEST_CASE("a peer is made, served, asked and stopped") {
  FakeHome home;

  CHECK(home.realize({"init", "--name", "a", "--listen", "127.0.0.1:1234"}).code == 0);
  CHECK(home.realize({"serve", "--detach"}).code == 0);
  auto status = home.realize({"status", "--json"});
  REQUIRE(status.code == 0);
  auto form = json::parse(status.out);
  int pid = form.at("pid");
  auto stopped = home.realize({"stop"});

  CHECK(form.at("listen") == "127.0.0.1:1234");
  CHECK(form.at("self").at("name") == "a");
  CHECK(form.at("arenas").empty());
  CHECK(form.at("peers").empty());
  CHECK(stopped.code == 0);
  // The process is gone (or at most unreaped), its socket too, and its lock is free.
  CHECK_FALSE(fs::exists(home.state() + "/socket"));
  CHECK(home.realize({"serve", "--detach"}).code == 0);
  CHECK(json::parse(home.realize({"status", "--json"}).out).at("pid") != pid);
}

TEST_CASE("without a daemon each asking command says so with exit code 3") {
  FakeHome home;
  home.realize({"init"});

  for (auto words : std::vector<std::vector<std::string>>{
           {"status"}, {"stop"}, {"ls", "docs:"}, {"wait", "docs"}, {"mark", "real", "docs:"}, {"invite"}, {"watch"}}) {
    auto ran = home.realize(words);
    CAPTURE(words[0]);
    CHECK(ran.code == 3);
    CHECK(ran.err.find("realize serve") != std::string::npos);
    CHECK(ran.out.empty());
  }
}

TEST_CASE("where no peer was made yet, what to do first is said") {
  FakeHome home;

  auto ran = home.realize({"status"});

  CHECK(ran.code == 3);
  CHECK_MESSAGE(ran.err.find("realize init") != std::string::npos, ran.err);
}

TEST_CASE("a line that is used wrongly is an error for scripts, too") {
  FakeHome home;

  for (auto words : std::vector<std::vector<std::string>>{{"--json", "mark"}, {"frobnicate", "--json"}, {"arena", "frob", "--json"}}) {
    auto ran = home.realize(words);
    CAPTURE(ran.err);
    CHECK(ran.code == 2);
    CHECK(json::parse(ran.out).at("error").at("code") == "invalid-argument");
  }
}

TEST_CASE("serve says why it cannot start") {
  FakeHome home;

  auto early = home.realize({"serve", "--detach"});
  auto earlyForeground = home.realize({"serve"});
  home.realize({"init"});
  auto damaged = run(home.words({"serve", "--detach"}), {{"REALIZE_FAKE_OPEN_FAILS", "1"}});
  home.realize({"serve", "--detach"});
  auto second = home.realize({"serve", "--detach"});

  CHECK(early.code == 4);
  CHECK(early.err.find("realize init") != std::string::npos);
  CHECK(earlyForeground.code == 4);
  CHECK(damaged.code == 9);
  CHECK(damaged.err.find("damaged") != std::string::npos);
  CHECK(second.code == 13);
}

TEST_CASE("a foreground daemon ends on SIGTERM with 0 and removes its socket") {
  FakeHome home;
  home.realize({"init"});
  Process daemon(home.words({"serve"}));
  while (home.realize({"status"}).code == 3) {
  }

  daemon.signal(SIGTERM);
  auto ran = daemon.finish();

  CHECK(ran.code == 0);
  CHECK(ran.err.find("is up") != std::string::npos);
  CHECK_FALSE(fs::exists(home.state() + "/socket"));
}

TEST_CASE("a socket file left by a killed daemon is replaced") {
  FakeHome home;
  home.start();
  pid_t pid = json::parse(home.realize({"status", "--json"}).out).at("pid");
  auto pidFd = fs::exists("/proc/" + std::to_string(pid));
  REQUIRE(pidFd);

  kill(pid, SIGKILL);
  while (home.realize({"status"}).code != 3) {
  }
  REQUIRE(fs::exists(home.state() + "/socket"));

  CHECK(home.realize({"serve", "--detach"}).code == 0);
  CHECK(home.realize({"status"}).code == 0);
}

TEST_CASE("the socket and the log are the owner's alone") {
  FakeHome home;
  home.start();
  struct stat socket {};
  struct stat log {};

  REQUIRE(stat((home.state() + "/socket").c_str(), &socket) == 0);
  REQUIRE(stat((home.state() + "/log").c_str(), &log) == 0);

  CHECK((socket.st_mode & 07777) == 0600);
  CHECK((log.st_mode & 07777) == 0600);
  CHECK(readWhole(home.state() + "/log").find("peer 'a' is up") != std::string::npos);
}

TEST_CASE("a state folder with a very long path works") {
  FakeHome home;
  const std::string above = home.path() + "/" + std::string(120, 'x');
  const std::string deep = above + "/" + std::string(120, 'y');
  REQUIRE(std::filesystem::create_directory(above));
  std::vector<std::string> base = home.words({});
  auto at = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {base[0], "--state", deep});
    return run(words);
  };

  CHECK(at({"init"}).code == 0);
  CHECK(at({"serve", "--detach"}).code == 0);
  CHECK(at({"status"}).code == 0);
  CHECK(at({"stop"}).code == 0);
}

TEST_CASE("names of any bytes come back through JSON exactly") {
  FakeHome home;
  home.start();
  std::vector<std::string> names = {"plain", "with space", "new\nline", "ta\tb", "caf\xc3\xa9", "bad\xff\xfe", "back\\slash",
                                    "bad\xff\\x", "quote\"", "-dash", "a:b", "\x1b[31mred"};
  for (auto& name : names) writeWhole(home.path() + "/files/" + name, name);

  auto listed = home.realize({"ls", "docs:", "--json"});

  REQUIRE(listed.code == 0);
  auto form = json::parse(listed.out);
  std::vector<std::string> got;
  for (auto& entry : form.at("entries")) got.push_back(realize::daemon::getText(entry, "path").value());
  std::sort(names.begin(), names.end());
  std::sort(got.begin(), got.end());
  CHECK(got == names);
  for (auto& name : names) {
    CAPTURE(name);
    auto cat = home.realize({"cat", "docs:" + name});
    CHECK(cat.code == 0);
    CHECK(cat.out == name);
    CHECK(home.realize({"cat", "--", "./" + name}, home.path() + "/files").out == name);
  }
}

TEST_CASE("a big file passes unchanged") {
  FakeHome home;
  home.start();
  std::string bytes;
  uint32_t state = 1;
  for (int i = 0; i < 9'000'001; ++i) bytes += static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  writeWhole(home.path() + "/files/big", bytes);

  auto cat = home.realize({"cat", "docs:big"});

  CHECK(cat.code == 0);
  CHECK((cat.out == bytes));
}

TEST_CASE("a reader who leaves ends cat quietly and harms nobody else") {
  FakeHome home;
  home.start();
  writeWhole(home.path() + "/files/big", std::string(20'000'000, 'b'));

  Process cat(home.words({"cat", "docs:big"}));
  cat.stopReading();
  auto ran = cat.finish();

  CHECK(ran.err.empty());
  CHECK(home.realize({"status"}).code == 0);
}

TEST_CASE("a client that is killed in the middle of a fetch ends the fetch, and stop works at once") {
  FakeHome home;
  home.start("slow");
  Process fetch(home.words({"fetch", "slow:"}));
  Process other(home.words({"fetch", "slow:"}));

  CHECK(home.realize({"status"}).code == 0);
  fetch.signal(SIGKILL);
  fetch.finish();
  auto stopped = home.realize({"stop"});
  auto ran = other.finish();

  CHECK(stopped.code == 0);
  CHECK(ran.code != 0);
}

TEST_CASE("a client that sends nothing and one that reads nothing block nobody") {
  FakeHome home;
  home.start();
  writeWhole(home.path() + "/files/big", std::string(20'000'000, 'b'));
  auto silent = realize::daemon::connectControl(home.state());
  auto deaf = realize::daemon::connectControl(home.state());
  REQUIRE(silent);
  REQUIRE(deaf);
  REQUIRE(realize::daemon::sendAll(deaf->get(), R"({"id":1,"verb":"cat","args":{"path":"docs:big"}})" "\n"));

  CHECK(home.realize({"status"}).code == 0);
  CHECK(home.realize({"stop"}).code == 0);
}

TEST_CASE("nonsense on the socket is answered and ends that connection only") {
  FakeHome home;
  home.start();
  for (std::string nonsense : {std::string("garbage\n"), std::string("[]\n"), std::string("{\"id\":-1}\n"),
                               std::string(2'000'000, '[') + "\n", std::string(3'000'000, 'x')}) {
    auto fd = realize::daemon::connectControl(home.state());
    REQUIRE(fd);
    (void)realize::daemon::sendAll(fd->get(), nonsense);
    shutdown(fd->get(), SHUT_WR);
    realize::daemon::LineReader reader(fd->get(), 1 << 20);
    auto line = reader.line();
    // A reset (we sent more than it read) is an answer too.
    if (line && *line) CHECK(json::parse(**line).at("ok") == false);
  }

  CHECK(home.realize({"status"}).code == 0);
}

TEST_CASE("two clients at once each get their own answer") {
  FakeHome home;
  home.start();
  for (int i = 0; i < 3; ++i) writeWhole(home.path() + "/files/f" + std::to_string(i), std::string(3'000'000, static_cast<char>('a' + i)));

  Process a(home.words({"cat", "docs:f0"}));
  Process b(home.words({"cat", "docs:f1"}));
  Process c(home.words({"ls", "docs:", "--json"}));

  CHECK((b.finish().out == std::string(3'000'000, 'b')));
  CHECK((a.finish().out == std::string(3'000'000, 'a')));
  CHECK(json::parse(c.finish().out).at("entries").size() == 3);
}

TEST_CASE("exit codes tell what went wrong") {
  FakeHome home;
  home.start();
  writeWhole(home.path() + "/files/x", "x");

  CHECK(home.realize({}).code == 2);
  CHECK(home.realize({"bogus"}).code == 2);
  CHECK(home.realize({"stat"}).code == 2);
  CHECK(home.realize({"ls", "docs:", "extra"}).code == 2);
  CHECK(home.realize({"mark", "maybe", "docs:"}).code == 2);
  CHECK(home.realize({"ls", "docs:nothing"}).code == 4);
  CHECK(home.realize({"ls", "nowhere:"}).code == 4);
  CHECK(home.realize({"ls", "/"}).code == 4);
  CHECK(home.realize({"arena", "create", "docs", home.path()}).code == 5);
  CHECK(home.realize({"arena", "create", "a/b", home.path()}).code == 2);
  CHECK(home.realize({"join", "bad-code"}).code == 6);
  CHECK(home.realize({"arena", "leave", "docs"}).code == 0);
  CHECK(home.realize({"init"}).code == 5);
  CHECK(home.realize({"config", "nothing"}).code == 4);
  CHECK(home.realize({"config", "rest_ms", "soon"}).code == 2);
}

TEST_CASE("who forgets the colon is told") {
  FakeHome home;
  home.start();

  auto ran = home.realize({"ls", "docs"}, "/");

  CHECK(ran.code == 4);
  CHECK(ran.err.find("did you mean 'docs:'") != std::string::npos);
}

TEST_CASE("wait tells what is missing and ends in time") {
  FakeHome home;
  home.start();
  home.realize({"arena", "create", "ready", home.path()});

  auto ready = home.realize({"wait", "ready:", "--timeout", "30"});
  auto never = home.realize({"wait", "docs", "--timeout", "0.01"});
  auto neverJson = home.realize({"wait", "docs", "--timeout", "10ms", "--json"});

  CHECK(ready.code == 0);
  CHECK(ready.out.empty());
  CHECK(never.code == 1);
  CHECK(never.err.find("no peer is connected") != std::string::npos);
  CHECK(neverJson.code == 1);
  CHECK(json::parse(neverJson.out).at("missing")[0] == "no peer is connected");
}

TEST_CASE("paths inside the folder mean the arena, relative ones too, and a symlink at the end means itself") {
  FakeHome home;
  home.start();
  fs::create_directory(home.path() + "/files/sub");
  writeWhole(home.path() + "/files/sub/f", "f");
  fs::create_symlink("f", home.path() + "/files/sub/link");
  fs::create_directory_symlink(home.path() + "/files/sub", home.path() + "/shortcut");

  auto path = [&](const std::string& text, const std::string& folder = "") {
    auto ran = home.realize({"stat", "--json", text}, folder);
    REQUIRE(ran.code == 0);
    auto form = json::parse(ran.out);
    return form.at("path").get<std::string>() + " " + form.at("kind").get<std::string>();
  };

  CHECK(path("docs:") == " directory");
  CHECK(path("docs:sub/f") == "sub/f file");
  CHECK(path(home.path() + "/files/sub/f") == "sub/f file");
  CHECK(path("f", home.path() + "/files/sub") == "sub/f file");
  CHECK(path("../sub/./f", home.path() + "/files/sub") == "sub/f file");
  CHECK(path(".", home.path() + "/files/sub") == "sub directory");
  CHECK(path("..", home.path() + "/files/sub") == " directory");
  CHECK(path("link", home.path() + "/files/sub") == "sub/link symlink");
  CHECK(path(home.path() + "/shortcut/f") == "sub/f file");
  CHECK(path("sub/", home.path() + "/files") == "sub directory");
}

TEST_CASE("invite prints the code alone") {
  FakeHome home;
  home.start();

  CHECK(home.realize({"invite"}).out == "code-86400000-all\n");
  CHECK(home.realize({"invite", "--arena", "docs", "--expires", "15m"}).out == "code-900000-docs\n");
  CHECK(home.realize({"invite", "--no-arenas"}).out == "code-86400000\n");
  CHECK(home.realize({"invite", "--arena", "docs", "--no-arenas"}).code == 2);
  CHECK(home.realize({"invite", "--arena", "none"}).code == 4);
}

TEST_CASE("init makes the folders above the place that nobody named, for their user only, and no others") {
  FakeHome home;
  const std::string realize = std::getenv("REALIZE_FAKE");
  const std::map<std::string, std::string> environment = {{"HOME", home.path()}, {"XDG_STATE_HOME", ""}, {"REALIZE_STATE", ""}};

  CHECK(run({realize, "init"}, environment).code == 0);

  CHECK(fs::exists(home.path() + "/.local/state/realize/peer.db"));
  CHECK(fs::status(home.path() + "/.local").permissions() == fs::perms::owner_all);
  CHECK(run({realize, "--state", home.path() + "/none/state", "init"}, environment).code == 4);
  CHECK_FALSE(fs::exists(home.path() + "/none"));
}

TEST_CASE("watch streams events as JSON lines") {
  FakeHome home;
  home.start();
  Process watch(home.words({"watch", "--json", "--count", "1"}));
  REQUIRE(json::parse(watch.line()).at("type") == "watching");

  home.realize({"arena", "create", "more", home.path()});
  auto event = json::parse(watch.line());

  CHECK(event.at("type") == "arena");
  CHECK(event.at("arena") == "more");
  CHECK(watch.finish().code == 0);
}

TEST_CASE("watch ends when the daemon does") {
  FakeHome home;
  home.start();
  Process watch(home.words({"watch", "--json"}));
  REQUIRE(json::parse(watch.line()).at("type") == "watching");

  CHECK(home.realize({"stop"}).code == 0);

  CHECK(watch.finish().code != 0);
}

TEST_CASE("everything a script reads is valid JSON") {
  FakeHome home;
  home.start("conflicted");
  writeWhole(home.path() + "/files/x", "x");

  for (auto words : std::vector<std::vector<std::string>>{
           {"status"}, {"status", "conflicted"}, {"ls", "conflicted:"}, {"stat", "conflicted:x"}, {"history"},
           {"conflicts"}, {"config"}, {"config", "conflicted:"}, {"peer", "list"}, {"arena", "list"}, {"cache", "show"},
           {"cache", "shrink", "1G"}, {"undo"}, {"undo", "conflicted:x", "--dry-run"}, {"undo", "conflicted:", "--since", "1h"}, {"cache", "clear", "conflicted"}, {"cache", "limit", "conflicted", "1G"}, {"cache", "limit", "none"}, {"mark", "real", "conflicted:x"}, {"resolve", "conflicted:x", "abc-1"},
           {"confirm", "conflicted"}, {"verify"}, {"why", "conflicted:x"}, {"verify", "conflicted"}, {"invite"}, {"join", "good-code"}, {"arena", "join", "offered"}, {"key"},
           {"fetch", "conflicted:"}, {"version"}, {"ls", "conflicted:none"}, {"peer", "add", "b", std::string(64, 'a')},
           {"arena", "admit", "conflicted", "b"}, {"arena", "withdraw", "conflicted", "b"}, {"arena", "rescan", "conflicted"}, {"peer", "remove", "b"}, {"stop"}}) {
    words.push_back("--json");
    auto ran = home.realize(words);
    CAPTURE(words[0]);
    CAPTURE(ran.out);
    CHECK(json::accept(ran.out));
  }
}

TEST_CASE("why says who made which change, what it replaced and who knows of it") {
  FakeHome home;
  home.start("conflicted");
  writeWhole(home.path() + "/files/x", "x");

  auto ran = home.realize({"why", "conflicted:x"});

  CHECK(ran.code == 0);
  CHECK(ran.out.find("conflicted:x") != std::string::npos);
  CHECK(ran.out.find("by laptop") != std::string::npos);
  CHECK(ran.out.find("known to    laptop") != std::string::npos);
  CHECK(ran.out.find("not yet to  desktop, never connected") != std::string::npos);
  CHECK(ran.out.find("replaced    eeeeeeeeeeeeeeee") != std::string::npos);
}

TEST_CASE("verify says what is damaged, what became of it, and by its exit code whether something still is") {
  FakeHome home;
  home.start("conflicted");

  auto damaged = home.realize({"verify", "conflicted"});
  auto unknown = home.realize({"verify", "nothing"});

  CHECK(damaged.code == 9);
  CHECK(damaged.out.find("conflicted:x: was damaged, and is whole again; a copy of what it held is .realize/damaged/3~1-x") != std::string::npos);
  CHECK(damaged.out.find("conflicted:y: is damaged, and stays as it is (several versions)") != std::string::npos);
  CHECK(damaged.out.find("2 damaged, 1 repaired") != std::string::npos);
  CHECK(unknown.code == 4);
}

TEST_CASE("conflicts are listed for people with how to choose") {
  FakeHome home;
  home.start("conflicted");
  writeWhole(home.path() + "/files/x", "x");

  auto ran = home.realize({"conflicts"});

  CHECK(ran.out.find("conflicted:x") != std::string::npos);
  CHECK(ran.out.find("def-2") != std::string::npos);
  CHECK(ran.out.find("realize resolve") != std::string::npos);
}

TEST_CASE("realize-mount starts a daemon, mounts, refuses overlaps, and unmounts") {
  FakeHome home;
  home.start();
  home.realize({"stop"});
  home.realize({"init"});
  fs::create_directories(home.path() + "/mnt");
  fs::create_directories(home.path() + "/files/inside");
  fs::create_directory_symlink(home.path() + "/files/inside", home.path() + "/shortcut");

  // The fake forgets its arenas with its process.
  auto unknown = home.mount({"docs", home.path() + "/mnt"});
  REQUIRE(home.realize({"arena", "create", "docs", home.path() + "/files"}).code == 0);

  CHECK(unknown.code == 4);
  CHECK(home.mount({"docs", home.path() + "/files"}).code == 6);
  CHECK(home.mount({"docs", home.path() + "/files/inside"}).code == 6);
  CHECK(home.mount({"docs", home.path() + "/shortcut"}).code == 6);
  CHECK(home.mount({"docs", home.path()}).code == 6);
  CHECK(home.mount({"docs", home.path() + "/none"}).code == 4);
  CHECK(home.mount({"docs", home.path() + "/mnt", "-o", "threads=2,bad"}).code == 2);
  CHECK(home.mount({"docs", home.path() + "/mnt", "-o", "threads=2"}).code == 0);
  CHECK(home.mount({"docs", home.path() + "/mnt"}).code == 5);
  CHECK(json::parse(home.realize({"status", "--json"}).out).at("arenas")[0].at("mounts")[0] == home.path() + "/mnt");
  CHECK(home.realize({"arena", "create", "other", home.path() + "/mnt"}).code == 6);
  CHECK(home.mount({"-u", home.path() + "/mnt"}).code == 0);
  CHECK(home.mount({"-u", home.path() + "/mnt"}).code == 4);
  CHECK(home.mount({}).code == 2);
}

TEST_CASE("help teaches every command with an example") {
  FakeHome home;
  auto all = home.realize({"help"});
  REQUIRE(all.code == 0);
  CHECK(all.out.find("exit codes:") != std::string::npos);

  for (std::string name : {"init", "serve", "stop", "invite", "join", "peer add", "arena join", "ls", "stat", "cat", "fetch",
                           "mark", "status", "wait", "conflicts", "resolve", "confirm", "undo", "verify", "why", "history", "watch", "cache show", "cache limit", "cache shrink", "cache clear",
                           "config", "mount", "unmount"}) {
    CAPTURE(name);
    CHECK(all.out.find("  " + name) != std::string::npos);
    std::vector<std::string> words = {"help"};
    size_t space = name.find(' ');
    words.push_back(name.substr(0, space));
    if (space != std::string::npos) words.push_back(name.substr(space + 1));
    auto one = home.realize(words);
    CHECK(one.code == 0);
    CHECK(one.out.find("example:") != std::string::npos);
  }
  CHECK(home.realize({"arena", "--help"}).out.find("arena join") != std::string::npos);
  CHECK(home.realize({"mark", "--help"}).code == 0);
}
