#pragma once

// The command line: which commands there are, and reading one.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "realize/result.h"

namespace realize::cli {

struct Invocation;

struct OptionSpec {
  std::string_view name;   ///< "--listen"
  std::string_view letter; ///< "-l", or empty
  std::string_view value;  ///< what to call its value in help, "HOST:PORT"; empty: it takes none
  std::string_view help;
};

struct CommandSpec {
  std::string_view name = {};       ///< one or two words: "arena create"
  std::string_view arguments = {};  ///< "NAME DIR", for help
  size_t least = 0;            ///< positional arguments
  size_t most = 0;
  std::string_view summary = {};    ///< one line
  std::string_view details = {};    ///< what one should know
  std::string_view example = {};    ///< one or more lines, each a command
  std::vector<OptionSpec> options = {};
  int (*run)(Invocation&) = nullptr;
};

struct ParsedLine {
  const CommandSpec* command = nullptr;  ///< null: only `--help` or `--version` was given
  std::string stateDir;                  ///< of --state; empty when not given
  bool json = false;
  bool help = false;
  bool version = false;
  std::vector<std::string> positional;
  std::map<std::string, std::vector<std::string>, std::less<>> options;  ///< by long name; flags have one empty value

  bool has(std::string_view option) const { return options.contains(option); }
  std::string value(std::string_view option, const std::string& fallback = "") const;
};

/// Reads the words after the program's name. `--state DIR`, `--json`, `--help` and `--version` may stand anywhere
/// before `--`. With one nameless command in `commands`, no command word is expected.
/// Errors: InvalidArgument, saying what would have been right.
Result<ParsedLine> parseLine(std::span<const std::string> words, std::span<const CommandSpec> commands);

/// "90", "90s", "15m", "24h", "7d", "250ms" in milliseconds. A bare number is seconds.
std::optional<int64_t> parseDurationMs(std::string_view text);

/// "4096", "10k", "1.5G", "2GiB" in bytes; units are powers of 1024.
std::optional<uint64_t> parseSizeBytes(std::string_view text);

/// `--state`, else REALIZE_STATE, else $XDG_STATE_HOME/realize, else ~/.local/state/realize; absolute.
/// `environment`: getenv, or a double.
Result<std::string> chooseStateDir(const std::string& option, const char* (*environment)(const char*));

/// What a PATH argument means to the daemon: "ARENA:path" as it is; anything else as an absolute path, with the
/// symlinks of its folder resolved but not one at its end, since that is itself an entry.
std::string pathForDaemon(const std::string& text);

/// An absolute path; symlinks resolved as far as it exists.
std::string absolutePath(const std::string& text);

}  // namespace realize::cli
