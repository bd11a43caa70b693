#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"
#include "frontends/cli/output.h"

namespace realize::cli {

using nlohmann::json;

namespace {

int runShow(Invocation& invocation) {
  json args = json::object();
  if (!invocation.line.positional.empty()) args = withText(args, "arena", invocation.argument(0));
  auto result = ask(invocation, "cache-show", args);
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  std::vector<std::vector<std::string>> rows = {
      {"ARENA", "CACHED", "UNLINKED", "OPEN", "COMING", "PINNED", "REAL", "UNCONFIRMED", "LIMIT", "LEFT FOR CACHE"}};
  std::string reasons;
  for (auto& arena : result->value("arenas", json::array())) {
    auto size = [&](const char* key) { return sizeText(arena.value(key, uint64_t{0})); };
    const bool limited = arena.value("limit_bytes", uint64_t{0}) > 0;
    rows.push_back({nameOf(arena, "name"), size("cached_bytes"), size("unlinked_bytes"), size("open_bytes"), size("coming_bytes"),
                    size("pinned_bytes"), size("real_bytes"), size("unconfirmed_bytes"),
                    !limited ? "none" : size("limit_bytes") + (arena.value("limit_shared", false) ? " (all arenas)" : ""),
                    limited ? size("allowed_bytes") : "-"});
    if (const std::string why = arena.value("why", ""); !why.empty()) reasons += nameOf(arena, "name") + ": " + why + "\n";
  }
  print(tableText(rows) + reasons);
  return 0;
}

/// [ARENA] SIZE, as arguments of a verb.
Result<json> sizeArguments(Invocation& invocation, bool noneToo) {
  json args = json::object();
  const bool named = invocation.line.positional.size() == 2;
  if (named) args = withText(args, "arena", invocation.argument(0));
  const std::string size = invocation.argument(named ? 1 : 0);
  auto bytes = parseSizeBytes(size);
  if (noneToo && size == "none") bytes = 0;
  if (!bytes) return Error{Code::InvalidArgument, size + ": no size; write " + (noneToo ? "none" : "0") + ", 500M or 20G"};
  args["bytes"] = *bytes;
  return args;
}

int shrunk(Invocation& invocation, const json& args) {
  auto result = ask(invocation, "cache-shrink", args);
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  print("dropped " + sizeText(result->value("dropped_bytes", uint64_t{0})) + "\n");
  return 0;
}

int runShrink(Invocation& invocation) {
  auto args = sizeArguments(invocation, false);
  return args ? shrunk(invocation, *args) : fail(invocation, args.error());
}

int runClear(Invocation& invocation) {
  json args = {{"bytes", 0}};
  if (!invocation.line.positional.empty()) args = withText(args, "arena", invocation.argument(0));
  return shrunk(invocation, args);
}

int runLimit(Invocation& invocation) {
  auto args = sizeArguments(invocation, true);
  if (!args) return fail(invocation, args.error());
  const uint64_t bytes = args->value("bytes", uint64_t{0});
  return askAndSay(invocation, "cache-limit", *args, bytes ? "limited to " + sizeText(bytes) : "no limit");
}

}  // namespace

std::vector<CommandSpec> cacheCommands() {
  return {
      {.name = "cache show",
       .arguments = "[ARENA]",
       .most = 1,
       .summary = "what the cache holds, and how much it may",
       .details = "Unlinked is what no file here shows any more: it goes first when room is needed, then what was read least\n"
                  "recently, then what \"conflicts newest\" took away. What is open, coming (becomes real) or pinned (a\n"
                  "conflict, or another name needs it) stays.\n"
                  "Unconfirmed are bytes in the folder that are kept until another peer has them for sure.",
       .example = "realize cache show",
       .run = runShow},
      {.name = "cache limit",
       .arguments = "[ARENA] SIZE|none",
       .least = 1,
       .most = 2,
       .summary = "how much real files and the cache may take together",
       .details = "Of one arena, or of all together that have no limit of their own. Real files are never held back: the cache\n"
                  "gets what they leave. A file larger than that can be read all the same; its bytes pass through.",
       .example = "realize cache limit docs 20G",
       .run = runLimit},
      {.name = "cache shrink",
       .arguments = "[ARENA] SIZE",
       .least = 1,
       .most = 2,
       .summary = "drop cached bytes down to a size",
       .example = "realize cache shrink docs 500M",
       .run = runShrink},
      {.name = "cache clear",
       .arguments = "[ARENA]",
       .most = 1,
       .summary = "drop all of the cache that nothing needs now",
       .example = "realize cache clear docs",
       .run = runClear},
  };
}

}  // namespace realize::cli
