#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "librealize/logic/ignore.h"

using namespace realize;
using namespace realize::logic;
namespace fs = std::filesystem;

namespace {

IgnoreRules rules(std::string_view text) {
  auto parsed = IgnoreRules::parse(text);
  REQUIRE(parsed.ok());
  return std::move(*parsed);
}

bool ignores(std::string_view text, std::string_view path, bool isDirectory = false) {
  IgnoreTree tree;
  tree.set("", rules(text));
  return tree.ignored(path, isDirectory);
}

// A small real tree for git to look at: what is a directory matters to it.
class GitOracle {
 public:
  GitOracle() {
    std::string pattern = (fs::temp_directory_path() / "realize-ignore-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    works_ = run("git init -q . >/dev/null 2>&1") == 0;
  }
  ~GitOracle() { fs::remove_all(root_); }

  bool works() const { return works_; }
  void add(const std::string& path, bool isDirectory) {
    if (isDirectory) fs::create_directories(root_ / path);
    else std::ofstream(root_ / path) << "";
    paths_.emplace_back(path, isDirectory);
  }
  void write(const std::string& directory, const std::string& patterns) {
    std::ofstream(root_ / directory / ".gitignore", std::ios::binary) << patterns;
  }
  std::set<std::string> ignored() {
    {
      std::ofstream list(root_ / ".git/asked", std::ios::binary);
      for (auto& [path, isDirectory] : paths_) list << path << '\0';
    }
    run("git -c core.excludesFile=/dev/null check-ignore --no-index --stdin -z <.git/asked >.git/answer 2>/dev/null");
    std::ifstream answer(root_ / ".git/answer", std::ios::binary);
    std::set<std::string> out;
    for (std::string path; std::getline(answer, path, '\0');) out.insert(path);
    return out;
  }
  const std::vector<std::pair<std::string, bool>>& paths() const { return paths_; }

 private:
  int run(const std::string& command) {
    std::string line = "cd '" + root_.string() + "' && env -u GIT_DIR -u GIT_WORK_TREE HOME=/nonexistent "
                       "GIT_CONFIG_NOSYSTEM=1 " + command;
    return std::system(line.c_str());
  }
  fs::path root_;
  bool works_ = false;
  std::vector<std::pair<std::string, bool>> paths_;
};

std::string randomPattern(std::mt19937& random) {
  static const char* const kParts[] = {
      "a", "b", "c", "ab", "a.b", "*", "*", "?", "**", "/", "/", "/", "[ab]", "[!a]", "[^b]", "[a-c]", "[]-]", "[a-]",
      "[[:alpha:]]", "[[:digit:]x]", "[[:foo:]]", "[", "]", "\\", "\\*", "\\a", "\\/", "!", "#", " ", "\\ ", "-", ".",
      "**/", "/**", "/**/", "***", "x y", "[\\]a]", "[a\\-c]", "[/]", "[--b]", "[!/]", "\t", "\r", "[[:]", "[[a]"};
  std::string out;
  if (random() % 5 == 0) out += '!';
  if (random() % 4 == 0) out += '/';
  for (size_t n = 1 + random() % 5; n > 0; --n) out += kParts[random() % std::size(kParts)];
  if (random() % 5 == 0) out += '/';
  if (random() % 8 == 0) out += "  ";
  return out;
}

}  // namespace

TEST_CASE("a pattern without a slash matches at any depth") {
  CHECK(ignores("*.o", "main.o"));
  CHECK(ignores("*.o", "src/deep/main.o"));
  CHECK_FALSE(ignores("*.o", "main.c"));
  CHECK_FALSE(ignores("*.o", "main.oo"));
}

TEST_CASE("a slash at the start or in the middle anchors a pattern to its folder") {
  CHECK(ignores("/build", "build"));
  CHECK_FALSE(ignores("/build", "src/build"));
  CHECK(ignores("doc/frotz", "doc/frotz"));
  CHECK_FALSE(ignores("doc/frotz", "a/doc/frotz"));
}

TEST_CASE("a slash at the end matches directories only, with all below them") {
  CHECK(ignores("out/", "out", true));
  CHECK_FALSE(ignores("out/", "out", false));
  CHECK(ignores("out/", "out/file"));
  CHECK(ignores("out/", "a/out/b/file"));
}

TEST_CASE("two stars in their three places") {
  CHECK(ignores("**/foo", "foo"));
  CHECK(ignores("**/foo", "a/b/foo"));
  CHECK(ignores("abc/**", "abc/x/y"));
  CHECK_FALSE(ignores("abc/**", "abc", true));
  CHECK(ignores("a/**/b", "a/b"));
  CHECK(ignores("a/**/b", "a/x/y/b"));
  CHECK_FALSE(ignores("a/**/b", "ab"));
  CHECK_FALSE(ignores("[f]oo**/x", "foo/y/x"));
  CHECK_FALSE(ignores("a/*/b", "a/x/y/b"));
}

TEST_CASE("the last matching line decides, but not below an ignored directory") {
  CHECK_FALSE(ignores("*.log\n!keep.log", "keep.log"));
  CHECK(ignores("!keep.log\n*.log", "keep.log"));
  CHECK(ignores("logs/\n!logs/keep", "logs/keep"));
  CHECK_FALSE(ignores("logs/*\n!logs/keep", "logs/keep"));
}

TEST_CASE("comments, escapes, line ends and trailing blanks") {
  CHECK_FALSE(ignores("#a", "#a"));
  CHECK(ignores("\\#a", "#a"));
  CHECK(ignores("\\!a", "!a"));
  CHECK(ignores("a   ", "a"));
  CHECK(ignores("a\\ ", "a "));
  CHECK(ignores("a\r\nb\r\n", "a"));
  CHECK(ignores("\xef\xbb\xbf" "a\n", "a"));
  CHECK(ignores("a\\*b", "a*b"));
  CHECK_FALSE(ignores("a\\*b", "axb"));
  CHECK_FALSE(ignores("a\\", "a\\"));
}

TEST_CASE("sets with ranges, negation and classes never match a slash") {
  CHECK(ignores("[a-c]x", "bx"));
  CHECK_FALSE(ignores("[!a-c]x", "bx"));
  CHECK(ignores("[[:digit:]]", "7"));
  CHECK(ignores("[]]", "]"));
  CHECK_FALSE(ignores("a[!x]b", "a/b"));
  CHECK_FALSE(ignores("[a", "[a"));
  CHECK(ignores("[\x80-\xff]", "\xc3"));
}

TEST_CASE("the deepest file decides first") {
  IgnoreTree tree;
  tree.set("", rules("*.tmp\n/top\n"));
  tree.set("a", rules("!*.tmp\n/top\n"));

  CHECK(tree.ignored("x.tmp", false));
  CHECK_FALSE(tree.ignored("a/x.tmp", false));
  CHECK(tree.ignored("a/top", false));
  CHECK_FALSE(tree.ignored("b/top", false));

  tree.clearBelow("a");
  CHECK(tree.ignored("a/x.tmp", false));
}

TEST_CASE("our own folder is never part of a tree, whatever the patterns say") {
  CHECK(ignores("!.realize\n!*", ".realize", true));
  CHECK(ignores("", "a/.realize", true));
  CHECK(ignores("", ".realize/tmp/x"));
  CHECK_FALSE(ignores("", ".realizeignore"));
}

TEST_CASE("a walk's scopes say the same as single questions") {
  IgnoreTree tree;
  tree.set("", rules("skip/\n*.o\n"));
  IgnoreScope scope = tree.scope("src");

  CHECK(scope.ignored("a.o", false));
  CHECK_FALSE(scope.ignored("a.c", false));
  CHECK(scope.enter("skip").allIgnored());
  CHECK(scope.enter("skip").ignored("anything", false));
}

TEST_CASE("a pattern file beyond its bounds is an error, not an empty one") {
  std::string many;
  for (size_t i = 0; i <= kMaxIgnorePatterns; ++i) many += "a\n";

  CHECK(IgnoreRules::parse(many).code() == Code::TooLarge);
  CHECK(IgnoreRules::parse(std::string(kMaxIgnorePatternBytes + 1, 'a')).code() == Code::TooLarge);
  CHECK(IgnoreRules::parse(std::string(kMaxIgnoreFileBytes + 1, '\n')).code() == Code::TooLarge);
}

TEST_CASE("a hostile pattern takes no exponential time") {
  std::string pattern, path(200, 'a');
  for (int i = 0; i < 100; ++i) pattern += "*a";
  pattern += "*[b]";

  CHECK_FALSE(ignores(pattern, path));
  std::string deep = "**/";
  for (int i = 0; i < 100; ++i) deep += "a*/**/";
  std::string deepPath;
  for (int i = 0; i < 500; ++i) deepPath += "a/";
  CHECK_FALSE(ignores(deep + "[b]", deepPath + "c"));
}

TEST_CASE("random patterns mean what git says they mean") {
  GitOracle git;
  if (!git.works()) {
    std::printf("SKIPPED: ignore patterns against git (git is not installed)\n");
    return;
  }
  static const char* const kNames[] = {"a", "b", "ab", "a.b", "c", "x y", "a ", "-", "]", "*", "[", "!a", "#", "\\", "abc", "a1"};
  std::mt19937 random(7);
  git.add("d", true);
  for (const char* top : {"", "a/", "b/", "a/b/", "a/b/c/", "ab/", "x y/", "c/a/"}) {
    if (*top) git.add(std::string(top, strlen(top) - 1), true);
    for (const char* name : kNames)
      if (!fs::exists(fs::path(top) / name) && std::string(top) + name != "a" && std::string(top) + name != "b" &&
          std::string(top) + name != "a/b" && std::string(top) + name != "a/b/c" && std::string(top) + name != "ab" &&
          std::string(top) + name != "x y" && std::string(top) + name != "c" && std::string(top) + name != "c/a")
        git.add(std::string(top) + name, random() % 4 == 0);
  }

  size_t different = 0;
  const char* more = std::getenv("REALIZE_IGNORE_ROUNDS");
  for (int round = 0, rounds = more ? std::atoi(more) : 150; round < rounds; ++round) {
    IgnoreTree tree;
    std::string story;
    for (const char* directory : {"", "a", "a/b"}) {
      std::string text;
      for (size_t n = *directory ? random() % 3 : 1 + random() % 4; n > 0; --n) text += randomPattern(random) + "\n";
      git.write(directory, text);
      tree.set(directory, rules(text));
      story += "[" + std::string(directory) + "]\n" + text;
    }
    auto expected = git.ignored();
    for (auto& [path, isDirectory] : git.paths()) {
      bool ours = tree.ignored(path, isDirectory), theirs = expected.count(path) > 0;
      if (ours == theirs) continue;
      ++different;
      MESSAGE("round " << round << ": " << path << (isDirectory ? "/" : "") << " git " << theirs << " ours " << ours
                       << "\n" << story);
    }
    REQUIRE(different == 0);
  }
}
