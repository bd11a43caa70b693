#include "frontends/cli/arguments.h"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>

using namespace realize;
using namespace realize::cli;

namespace {

const std::vector<CommandSpec> kCommands = {
    {.name = "ls", .arguments = "PATH", .least = 1, .most = 1, .options = {{"-l", "", "", ""}, {"--depth", "-d", "N", ""}}},
    {.name = "status", .most = 1},
    {.name = "arena join", .arguments = "NAME [DIR]", .least = 1, .most = 2},
    {.name = "arena list"},
};

Result<ParsedLine> parse(std::vector<std::string> words) { return parseLine(words, kCommands); }

}  // namespace

TEST_CASE("the state folder and --json may stand anywhere on the line") {
  for (auto words : std::vector<std::vector<std::string>>{{"--state", "/s", "--json", "ls", "docs:"},
                                                          {"ls", "--state=/s", "docs:", "--json"},
                                                          {"ls", "docs:", "--json", "--state", "/s"}}) {
    auto line = parse(words);
    REQUIRE(line);
    CHECK(line->stateDir == "/s");
    CHECK(line->json);
    CHECK(line->command->name == "ls");
    CHECK(line->positional == std::vector<std::string>{"docs:"});
  }
}

TEST_CASE("commands of two words are found wherever options stand between them") {
  auto line = parse({"arena", "--json", "join", "docs", "dir"});

  REQUIRE(line);
  CHECK(line->command->name == "arena join");
  CHECK(line->positional == std::vector<std::string>{"docs", "dir"});
}

TEST_CASE("after -- everything is an argument") {
  auto line = parse({"ls", "--", "--json"});

  REQUIRE(line);
  CHECK_FALSE(line->json);
  CHECK(line->positional == std::vector<std::string>{"--json"});
}

TEST_CASE("options take values in both spellings, and the last one counts") {
  auto line = parse({"ls", "-l", "-d", "1", "--depth=2", "x"});

  REQUIRE(line);
  CHECK(line->has("-l"));
  CHECK(line->value("--depth") == "2");
  CHECK(line->options.at("--depth") == std::vector<std::string>{"1", "2"});
}

TEST_CASE("wrong lines are refused with what would have been right") {
  auto message = [](std::vector<std::string> words) {
    auto line = parse(std::move(words));
    REQUIRE_FALSE(line);
    CHECK(line.code() == Code::InvalidArgument);
    return line.error().message;
  };

  CHECK(message({"statsu"}).find("did you mean 'status'") != std::string::npos);
  CHECK(message({"arena"}).find("join, list") != std::string::npos);
  CHECK(message({"arena", "jion"}).find("join, list") != std::string::npos);
  CHECK(message({"ls"}).find("realize ls PATH") != std::string::npos);
  CHECK(message({"ls", "a", "b"}).find("too many") != std::string::npos);
  CHECK(message({"ls", "--nope", "a"}).find("realize help ls") != std::string::npos);
  CHECK(message({"ls", "a", "--depth"}).find("N must follow") != std::string::npos);
  CHECK(message({"ls", "-l=1", "a"}).find("no such option") != std::string::npos);
  CHECK(message({"--state"}).find("DIR") != std::string::npos);
  CHECK(message({"--state=", "status"}).find("empty") != std::string::npos);
  CHECK(message({}).find("help") != std::string::npos);
}

TEST_CASE("durations and sizes have units") {
  CHECK(parseDurationMs("90") == 90'000);
  CHECK(parseDurationMs("0.5") == 500);
  CHECK(parseDurationMs("250ms") == 250);
  CHECK(parseDurationMs("15m") == 900'000);
  CHECK(parseDurationMs("24h") == 86'400'000);
  CHECK(parseDurationMs("7d") == 604'800'000);
  for (auto bad : {"", "x", "-1", "1x", "1 h", "nan", "inf", "1e300", "99999999999999d"}) {
    CAPTURE(bad);
    CHECK_FALSE(parseDurationMs(bad));
  }
  CHECK(parseSizeBytes("4096") == 4096);
  CHECK(parseSizeBytes("10k") == 10240);
  CHECK(parseSizeBytes("1.5G") == 1610612736);
  CHECK(parseSizeBytes("2GiB") == 2147483648);
  CHECK(parseSizeBytes("0") == 0);
  for (auto bad : {"", "k", "-1", "1q", "1Bx", "1 G", "nan", "9e30", "99999999P"}) {
    CAPTURE(bad);
    CHECK_FALSE(parseSizeBytes(bad));
  }
}

TEST_CASE("the state folder is chosen by option, variable, XDG, home") {
  static const char* realizeState;
  static const char* xdg;
  static const char* home;
  auto environment = [](const char* name) -> const char* {
    if (!strcmp(name, "REALIZE_STATE")) return realizeState;
    if (!strcmp(name, "XDG_STATE_HOME")) return xdg;
    return home;
  };
  realizeState = "/env";
  xdg = "/xdg";
  home = "/home/u";

  CHECK(*chooseStateDir("/opt/", environment) == "/opt");
  CHECK(*chooseStateDir("", environment) == "/env");
  realizeState = "";
  CHECK(*chooseStateDir("", environment) == "/xdg/realize");
  xdg = "relative";
  CHECK(*chooseStateDir("", environment) == "/home/u/.local/state/realize");
  home = nullptr;
  CHECK_FALSE(chooseStateDir("", environment));
}

TEST_CASE("a relative path becomes absolute, whether something is there or not") {
  const std::string here = std::filesystem::current_path().string();

  CHECK(absolutePath("not-there") == here + "/not-there");
  CHECK(absolutePath("not-there/nor-this/") == here + "/not-there/nor-this");
  CHECK(absolutePath("./not-there/../x") == here + "/x");
  CHECK(absolutePath(".") == here);
  CHECK(absolutePath("/not-there") == "/not-there");
}

TEST_CASE("a path with a colon before any slash names an arena") {
  CHECK(pathForDaemon("docs:a/b") == "docs:a/b");
  CHECK(pathForDaemon("docs:") == "docs:");
  CHECK(pathForDaemon("/a:b") == "/a:b");
  CHECK(pathForDaemon("/a/b:c/") == "/a/b:c");
  CHECK(pathForDaemon("/") == "/");
  CHECK(pathForDaemon("//") == "/");
  CHECK(pathForDaemon("/x") == "/x");
  CHECK(pathForDaemon(":x").ends_with("/:x"));
  CHECK(pathForDaemon("/no/such/folder/../file") == "/no/such/file");
}
