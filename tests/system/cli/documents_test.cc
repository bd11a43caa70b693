// The manual, the completion and the protocol document name everything there is.

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "frontends/cli/commands.h"
#include "frontends/cli/exit_codes.h"
#include "frontends/daemon/verbs.h"
#include "tests/system/cli/cli_process.h"

using namespace realize;
using realize::test::readWhole;

namespace {

std::string document(const std::string& path) {
  const char* root = getenv("REALIZE_SOURCE");
  REQUIRE_MESSAGE(root, "run through meson test");
  std::string text = readWhole(std::string(root) + "/" + path);
  REQUIRE_FALSE(text.empty());
  return text;
}

std::vector<cli::CommandSpec> allCommands() {
  std::vector<cli::CommandSpec> all;
  for (auto part : {cli::daemonCommands(), cli::householdCommands(), cli::arenaCommands(), cli::fileCommands(), cli::mountCommands()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

/// As roff writes it.
std::string escaped(std::string_view option) {
  std::string out;
  for (char c : option) out += c == '-' ? "\\-" : std::string(1, c);
  return out;
}

}  // namespace

TEST_CASE("the manual has every command and every option") {
  std::string manual = document("frontends/cli/man/realize.1");

  for (auto& command : allCommands()) {
    CAPTURE(command.name);
    CHECK(manual.find(command.name) != std::string::npos);
    CHECK_FALSE(command.example.empty());
    CHECK_FALSE(command.summary.empty());
    for (auto& option : command.options) {
      CAPTURE(option.name);
      bool named = manual.find(escaped(option.name)) != std::string::npos ||
                   (!option.letter.empty() && manual.find(escaped(option.letter)) != std::string::npos);
      CHECK((named || command.name == "mount"));
    }
  }
}

TEST_CASE("the manual's exit codes are those of --help") {
  std::string manual = document("frontends/cli/man/realize.1");

  for (int i = 0; i <= static_cast<int>(Code::Internal); ++i) {
    int code = static_cast<int>(cli::exitFor(static_cast<Code>(i)));
    CHECK(manual.find("\n" + std::to_string(code) + "@") != std::string::npos);
  }
}

TEST_CASE("the completion offers every command") {
  std::string completion = document("frontends/cli/completion/realize.bash");

  for (auto& command : allCommands()) {
    CAPTURE(command.name);
    std::string last(command.name.substr(command.name.rfind(' ') + 1));
    CHECK(completion.find(last) != std::string::npos);
  }
}

TEST_CASE("the protocol document lists every verb") {
  std::string protocol = document("frontends/daemon/PROTOCOL.md");

  for (auto verbs : {daemon::peerVerbs(), daemon::arenaVerbs(), daemon::fileVerbs(), daemon::mountVerbs()})
    for (auto& verb : verbs) {
      CAPTURE(verb.name);
      CHECK(protocol.find("| `" + std::string(verb.name) + "` |") != std::string::npos);
    }
}
