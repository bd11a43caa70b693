#include "frontends/cli/arguments.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <filesystem>

namespace realize::cli {

namespace {

const OptionSpec kGlobalOptions[] = {
    {"--state", "", "DIR", "the peer's state folder"},
    {"--json", "", "", "answer in JSON"},
    {"--help", "-h", "", "help"},
    {"--version", "", "", "version"},
};

Error usage(std::string message) { return {Code::InvalidArgument, std::move(message)}; }

const OptionSpec* findOption(std::span<const OptionSpec> options, std::string_view word) {
  for (auto& option : options)
    if (word == option.name || (!option.letter.empty() && word == option.letter)) return &option;
  return nullptr;
}

bool isFirstWord(std::span<const CommandSpec> commands, std::string_view word) {
  return std::any_of(commands.begin(), commands.end(), [&](auto& command) {
    return command.name.size() > word.size() && command.name.starts_with(word) && command.name[word.size()] == ' ';
  });
}

const CommandSpec* findCommand(std::span<const CommandSpec> commands, std::string_view name) {
  for (auto& command : commands)
    if (command.name == name) return &command;
  return nullptr;
}

/// How many letters apart, for "did you mean".
size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string unknownCommand(std::span<const CommandSpec> commands, const std::string& word) {
  constexpr size_t kCloseEnough = 2;
  std::string_view best;
  size_t least = kCloseEnough + 1;
  for (auto& command : commands) {
    size_t distance = editDistance(word, command.name);
    if (distance < least) {
      least = distance;
      best = command.name;
    }
  }
  std::string text = word + ": no such command";
  if (!best.empty()) text += "; did you mean '" + std::string(best) + "'?";
  return text + " ('realize help' lists them)";
}

std::string wrongCount(const CommandSpec& command, bool few) {
  std::string name = command.name.empty() ? "realize-mount" : "realize " + std::string(command.name);
  return name + ": too " + (few ? "few" : "many") + " arguments; it is used so: " + name +
         (command.arguments.empty() ? "" : " ") + std::string(command.arguments);
}

/// Reads words one by one; the command becomes known on the way.
class LineParser {
 public:
  LineParser(std::span<const std::string> words, std::span<const CommandSpec> commands)
      : words_(words), commands_(commands) {
    if (commands.size() == 1 && commands[0].name.empty()) line_.command = &commands[0];
  }

  Result<ParsedLine> parse() {
    bool onlyArguments = false;
    while (next_ < words_.size()) {
      const std::string& word = words_[next_++];
      if (!onlyArguments && word == "--") onlyArguments = true;
      else if (!onlyArguments && word.size() > 1 && word[0] == '-') REALIZE_TRY(option(word));
      else REALIZE_TRY(argument(word));
    }
    if (!first_.empty() && !line_.command && !line_.help) return usage(missingSecond());
    if (first_.empty() && !line_.command && !line_.help && !line_.version)
      return usage("which command? 'realize help' lists them");
    if (!first_.empty() && !line_.command) line_.positional = {first_};
    if (line_.command && !line_.help) {
      if (line_.positional.size() < line_.command->least) return usage(wrongCount(*line_.command, true));
      if (line_.positional.size() > line_.command->most) return usage(wrongCount(*line_.command, false));
    }
    return std::move(line_);
  }

 private:
  std::string hint() const {
    return line_.command->name.empty() ? std::string("; see 'realize-mount --help'")
                                       : "; see 'realize help " + std::string(line_.command->name) + "'";
  }

  std::string missingSecond() const {
    std::string choices;
    for (auto& command : commands_)
      if (command.name.starts_with(first_ + " "))
        choices += (choices.empty() ? "" : ", ") + std::string(command.name.substr(first_.size() + 1));
    return first_ + ": one of " + choices + " must follow";
  }

  Result<void> option(const std::string& word) {
    size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
    std::string name = word.substr(0, equals);
    const OptionSpec* spec = line_.command ? findOption(line_.command->options, name) : nullptr;
    bool global = !spec;
    if (!spec) spec = findOption(kGlobalOptions, name);
    if (!spec) return usage(name + ": no such option" + (line_.command ? hint() + "; what begins with '-' and is none stands after '--'"
                                                                             : "; options of a command stand after it"));
    std::string value;
    if (spec->value.empty()) {
      if (equals != std::string::npos) return usage(name + ": takes no value");
    } else if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else {
      if (next_ >= words_.size()) return usage(name + ": " + std::string(spec->value) + " must follow");
      value = words_[next_++];
    }
    if (!global) {
      line_.options[std::string(spec->name)].push_back(value);
    } else if (spec->name == "--state") {
      if (value.empty()) return usage("--state: DIR must not be empty");
      line_.stateDir = value;
    } else {
      line_.json |= spec->name == "--json";
      line_.help |= spec->name == "--help";
      line_.version |= spec->name == "--version";
    }
    return {};
  }

  Result<void> argument(const std::string& word) {
    if (line_.command) {
      line_.positional.push_back(word);
      return {};
    }
    std::string name = first_.empty() ? word : first_ + " " + word;
    line_.command = findCommand(commands_, name);
    if (line_.command) return {};
    if (first_.empty() && isFirstWord(commands_, word)) {
      first_ = word;
      return {};
    }
    return usage(first_.empty() ? unknownCommand(commands_, word) : word + ": " + missingSecond());
  }

  std::span<const std::string> words_;
  std::span<const CommandSpec> commands_;
  size_t next_ = 0;
  std::string first_;  ///< "arena", while its second word is awaited
  ParsedLine line_;
};

}  // namespace

std::string ParsedLine::value(std::string_view option, const std::string& fallback) const {
  auto found = options.find(option);
  return found == options.end() || found->second.empty() ? fallback : found->second.back();
}

Result<ParsedLine> parseLine(std::span<const std::string> words, std::span<const CommandSpec> commands) {
  return LineParser(words, commands).parse();
}

std::optional<int64_t> parseDurationMs(std::string_view text) {
  double number = 0;
  auto [stop, failed] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (failed != std::errc() || !(number >= 0)) return std::nullopt;
  std::string_view unit(stop, static_cast<size_t>(text.data() + text.size() - stop));
  double factor = 0;
  if (unit == "ms") factor = 1;
  else if (unit.empty() || unit == "s") factor = 1000;
  else if (unit == "m" || unit == "min") factor = 60'000;
  else if (unit == "h") factor = 3'600'000;
  else if (unit == "d") factor = 86'400'000;
  else return std::nullopt;
  constexpr double kMost = 1e15;
  if (number * factor > kMost) return std::nullopt;
  return static_cast<int64_t>(std::llround(number * factor));
}

std::optional<uint64_t> parseSizeBytes(std::string_view text) {
  double number = 0;
  auto [stop, failed] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (failed != std::errc() || !(number >= 0)) return std::nullopt;
  std::string unit(stop, static_cast<size_t>(text.data() + text.size() - stop));
  double factor = 1;
  if (!unit.empty()) {
    constexpr std::string_view kLetters = "BKMGTP";
    size_t power = kLetters.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
    if (power == std::string_view::npos) return std::nullopt;
    std::string rest = unit.substr(1);
    if (!rest.empty() && (power == 0 || (rest != "iB" && rest != "B" && rest != "ib" && rest != "b"))) return std::nullopt;
    factor = std::pow(1024.0, static_cast<double>(power));
  }
  constexpr double kMost = 9e18;
  if (number * factor > kMost) return std::nullopt;
  return static_cast<uint64_t>(std::llround(number * factor));
}

Result<std::string> chooseStateDir(const std::string& option, const char* (*environment)(const char*)) {
  auto nonEmpty = [&](const char* name) -> const char* {
    const char* value = environment(name);
    return value && *value ? value : nullptr;
  };
  if (!option.empty()) return absolutePath(option);
  if (auto state = nonEmpty("REALIZE_STATE")) return absolutePath(state);
  // The XDG specification wants relative paths there ignored.
  if (auto xdg = nonEmpty("XDG_STATE_HOME"); xdg && *xdg == '/') return absolutePath(std::string(xdg) + "/realize");
  if (auto home = nonEmpty("HOME")) return absolutePath(std::string(home) + "/.local/state/realize");
  return Error{Code::InvalidArgument, "no state folder is known: give --state DIR, or set REALIZE_STATE or HOME"};
}

std::string absolutePath(const std::string& text) {
  std::error_code failed;
  const auto whole = std::filesystem::absolute(text, failed);  // Of what is not there, the next line would leave it as it is.
  auto path = std::filesystem::weakly_canonical(whole, failed);
  if (failed) path = whole.lexically_normal();
  std::string out = path.string();
  while (out.size() > 1 && out.back() == '/') out.pop_back();
  return out;
}

std::string pathForDaemon(const std::string& text) {
  size_t colon = text.find(':');
  if (colon != std::string::npos && colon > 0 && text.find('/') > colon) return text;
  std::string path = text;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  size_t slash = path.rfind('/');
  std::string last = slash == std::string::npos ? path : path.substr(slash + 1);
  if (last.empty() || last == "." || last == "..") return absolutePath(path.empty() ? "." : path);
  std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  std::string out = absolutePath(folder);
  if (out != "/") out += '/';
  return out + last;
}

}  // namespace realize::cli
