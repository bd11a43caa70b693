#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"
#include "frontends/cli/exit_codes.h"
#include "frontends/cli/output.h"
#include "frontends/daemon/control_protocol.h"

namespace realize::cli {

using nlohmann::json;

namespace {

std::vector<CommandSpec> allCommands();

int runHelp(Invocation& invocation) {
  std::string name;
  for (auto& word : invocation.line.positional) name += (name.empty() ? "" : " ") + word;
  if (name.empty()) {
    print(generalHelp());
    return 0;
  }
  bool any = false;
  for (auto& command : allCommands()) {
    if (command.name != name && !command.name.starts_with(name + " ")) continue;
    if (any) print("\n");
    print(commandHelp(command));
    any = true;
  }
  if (any) return 0;
  return fail(invocation, {Code::InvalidArgument, name + ": no such command; 'realize help' lists them"});
}

int runVersion(Invocation& invocation) {
  if (invocation.line.json) return printJson({{"version", invocation.library.version}});
  print("realize " + invocation.library.version + "\n");
  return 0;
}

std::vector<CommandSpec> allCommands() {
  std::vector<CommandSpec> all;
  for (auto part : {daemonCommands(), householdCommands(), arenaCommands(), undoCommands(), cacheCommands(), fileCommands(), mountCommands()})
    all.insert(all.end(), part.begin(), part.end());
  all.push_back({.name = "version", .summary = "print the version", .example = "realize version", .run = runVersion});
  all.push_back({.name = "help",
                 .arguments = "[COMMAND]",
                 .most = 2,
                 .summary = "explain a command",
                 .example = "realize help arena join",
                 .run = runHelp});
  return all;
}

const char* environment(const char* name) { return std::getenv(name); }

int runParsed(const ParsedLine& line, const daemon::Library& library) {
  Invocation invocation{line, library, ""};
  if (line.version && !line.command) return runVersion(invocation);
  if (line.help && line.command) {
    print(commandHelp(*line.command));
    return 0;
  }
  if (line.help) return runHelp(invocation);
  auto stateDir = chooseStateDir(line.stateDir, environment);
  if (!stateDir) return fail(invocation, stateDir.error());
  invocation.stateDir = *stateDir;
  return line.command->run(invocation);
}

}  // namespace

int fail(const Invocation& invocation, const Error& error) {
  if (invocation.line.json) print(daemon::toLine({{"error", daemon::errorToJson(error)}}) + "\n");
  std::string text = "realize: " + nameText(error.message, false) + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
  return static_cast<int>(exitFor(error.code));
}

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

int printJson(const json& value) {
  print(value.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
  return 0;
}

bool rawNames() {
  static const bool raw = isatty(1) == 0;
  return raw;
}

std::string whoDid(const json& change) {
  const std::string peer = nameOf(change, "peer");
  return peer.empty() ? "(unknown)" : peer;
}

std::string nameOf(const json& object, const std::string& key) {
  auto text = daemon::getText(object, key).value_or("");
  return nameText(rawNames() ? text : daemon::printable(text), rawNames());
}

json withText(json object, const std::string& key, const std::string& text) {
  daemon::putText(object, key, text);
  return object;
}

Result<json> ask(const Invocation& invocation, const std::string& verb, const json& args) {
  return ask(invocation, verb, args, {});
}

Result<json> ask(const Invocation& invocation, const std::string& verb, const json& args, const ReplyHandlers& handlers) {
  REALIZE_ASSIGN(auto client, Client::connect(invocation.stateDir));
  return client->call(verb, args, handlers);
}

Result<json> askWithProgress(const Invocation& invocation, const std::string& verb, const json& args,
                             const std::function<std::string(const json&)>& what, ReplyHandlers handlers) {
  ProgressLine line = stderrProgress();
  handlers.progress = [&](const json& value) {
    line.update(what(value), value.value("done_bytes", uint64_t{0}), value.value("total_bytes", uint64_t{0}));
  };
  auto result = ask(invocation, verb, args, handlers);
  line.finish();
  return result;
}

ReplyHandlers collecting(json& list) {
  list = json::array();
  ReplyHandlers handlers;
  handlers.items = [&list](const json& part) { list.insert(list.end(), part.begin(), part.end()); };
  return handlers;
}

int askAndSay(const Invocation& invocation, const std::string& verb, const json& args, const std::string& done) {
  auto result = ask(invocation, verb, args);
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  if (!done.empty()) print(done + "\n");
  return 0;
}

std::string generalHelp() {
  std::string out =
      "realize: files of one household, real where you want them, readable everywhere\n\n"
      "usage: realize [--state DIR] [--json] COMMAND ...\n\n";
  std::vector<std::vector<std::string>> rows;
  for (auto& command : allCommands())
    rows.push_back({"  " + std::string(command.name), std::string(command.summary)});
  out += tableText(rows);
  out +=
      "\nPATH is ARENA:path, or a path inside an arena's folder or a mount of it.\n"
      "--state DIR: the peer's state folder; else REALIZE_STATE, $XDG_STATE_HOME/realize, ~/.local/state/realize.\n"
      "--json: one JSON document (a line each for 'watch') instead of text.\n"
      "'realize help COMMAND' explains one command, with an example.\n\n"
      "exit codes:\n" + exitCodeTable();
  return out;
}

std::string commandHelp(const CommandSpec& command) {
  std::string program = command.name.empty() ? "realize-mount" : "realize " + std::string(command.name);
  std::string out = program + ": " + std::string(command.summary) + "\n\nusage: " + program;
  if (!command.options.empty()) out += " [OPTIONS]";
  if (!command.arguments.empty()) out += " " + std::string(command.arguments);
  out += "\n";
  if (!command.details.empty()) out += "\n" + std::string(command.details) + "\n";
  if (!command.options.empty()) {
    out += "\noptions:\n";
    std::vector<std::vector<std::string>> rows;
    for (auto& option : command.options) {
      std::string name = "  " + std::string(option.name);
      if (!option.letter.empty()) name = "  " + std::string(option.letter) + ", " + std::string(option.name);
      if (!option.value.empty()) name += " " + std::string(option.value);
      rows.push_back({name, std::string(option.help)});
    }
    out += tableText(rows);
  }
  if (!command.example.empty()) {
    out += "\nexample:\n  ";
    for (char c : command.example) {
      out += c;
      if (c == '\n') out += "  ";
    }
    out += "\n";
  }
  return out;
}

int runProgram(const std::string& program, int argc, char** argv, const daemon::Library& library) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  std::vector<CommandSpec> commands = allCommands();
  if (program == "realize-mount") commands = {mountProgram()};
  auto line = parseLine(words, commands);
  if (!line) {
    std::string text = program + ": " + nameText(line.error().message, false) + "\n";
    const auto end = std::find(words.begin(), words.end(), "--");
    if (std::find(words.begin(), end, "--json") != end) print(daemon::toLine({{"error", daemon::errorToJson(line.error())}}) + "\n");
    std::fwrite(text.data(), 1, text.size(), stderr);
    return static_cast<int>(Exit::Usage);
  }
  int code = runParsed(*line, library);
  // A full disk behind stdout must not look like success; a reader who left (`| head`) is no error worth words.
  if (std::fflush(stdout) != 0 && errno != EPIPE) {
    std::fprintf(stderr, "realize: writing the output: %s\n", std::strerror(errno));
    if (code == 0) code = static_cast<int>(errno == ENOSPC ? Exit::NoSpace : Exit::Failed);
  }
  return code;
}

}  // namespace realize::cli
