#pragma once

// The commands of `realize`, by group. Each file defines a part of the table.

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "frontends/cli/arguments.h"
#include "frontends/cli/client.h"
#include "frontends/daemon/daemon.h"

namespace realize::cli {

/// A parsed command line with what it runs on.
struct Invocation {
  const ParsedLine& line;
  const daemon::Library& library;
  std::string stateDir;  ///< absolute

  const std::string& argument(size_t i) const { return line.positional[i]; }
  std::string argumentOr(size_t i, const std::string& fallback) const {
    return i < line.positional.size() ? line.positional[i] : fallback;
  }
};

std::vector<CommandSpec> daemonCommands();     ///< commands_daemon.cc: init, serve, stop, status, wait, config, watch
std::vector<CommandSpec> householdCommands();  ///< commands_household.cc: invite, join, key, peer ...
std::vector<CommandSpec> arenaCommands();      ///< commands_arena.cc: arena ..., conflicts, resolve, confirm, history
std::vector<CommandSpec> cacheCommands();      ///< commands_cache.cc: cache ...
std::vector<CommandSpec> undoCommands();       ///< commands_undo.cc
std::vector<CommandSpec> fileCommands();       ///< commands_files.cc: ls, stat, cat, fetch, mark
std::vector<CommandSpec> mountCommands();      ///< commands_mount.cc: mount, unmount
CommandSpec mountProgram();                    ///< commands_mount.cc: realize-mount

/// Prints "realize: what; what to do" on stderr, or {"error": ...} on stdout with --json. Returns the exit code.
int fail(const Invocation& invocation, const Error& error);
/// Prints a JSON document and a newline on stdout. Returns 0.
int printJson(const nlohmann::json& value);
/// Prints on stdout as it is.
void print(std::string_view text);
/// True if names should be printed with their own bytes: stdout is not a terminal.
bool rawNames();
/// The name in `object[key]`, for people.
std::string nameOf(const nlohmann::json& object, const std::string& key);
/// The peer of a change, for people.
std::string whoDid(const nlohmann::json& change);

/// Asks the daemon once. Errors: NotRunning, and the daemon's.
Result<nlohmann::json> ask(const Invocation& invocation, const std::string& verb, const nlohmann::json& args);
Result<nlohmann::json> ask(const Invocation& invocation, const std::string& verb, const nlohmann::json& args,
                           const ReplyHandlers& handlers);
/// As ask(), while the progress that the daemon tells is shown on stderr under the name that `what` makes of it.
Result<nlohmann::json> askWithProgress(const Invocation& invocation, const std::string& verb, const nlohmann::json& args,
                                       const std::function<std::string(const nlohmann::json&)>& what, ReplyHandlers handlers = {});
/// Handlers that put all items of an answer into `list`, which must outlive the call.
ReplyHandlers collecting(nlohmann::json& list);
/// For a verb whose result says nothing: prints `done` (unless empty), or the result with --json.
int askAndSay(const Invocation& invocation, const std::string& verb, const nlohmann::json& args, const std::string& done);
/// {"key": text}, with key_hex where it is not UTF-8; null texts are left out.
nlohmann::json withText(nlohmann::json object, const std::string& key, const std::string& text);

/// serve.cc. Runs the daemon here until it is stopped; returns the exit code.
int serveForeground(const Invocation& invocation);
/// serve.cc. Forks (so no thread may run yet); returns once the daemon is up or has failed.
Result<void> startDetached(const std::string& stateDir, const daemon::Library& library);

/// run.cc. `program` is "realize" or "realize-mount".
int runProgram(const std::string& program, int argc, char** argv, const daemon::Library& library);
std::string generalHelp();
std::string commandHelp(const CommandSpec& command);

}  // namespace realize::cli
