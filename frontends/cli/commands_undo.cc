#include <chrono>
#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"
#include "frontends/cli/exit_codes.h"
#include "frontends/cli/output.h"

namespace realize::cli {

using nlohmann::json;

namespace {

void printItems(const json& items) {
  std::vector<std::vector<std::string>> rows;
  for (auto& item : items) {
    const std::string state = item.value("state", "");
    std::string note = state == "listed" ? (item.value("here", false) ? "" : "bytes not here") : state;
    if (const std::string detail = nameOf(item, "detail"); !detail.empty()) note += ": " + detail;
    rows.push_back({std::to_string(item.value("change", uint64_t{0})), timeText(item.value("when_ns", int64_t{0})), nameOf(item, "peer"),
                    item.value("what", ""), sizeText(item.value("size_bytes", uint64_t{0})),
                    nameOf(item, "arena") + ":" + nameOf(item, "path"), note});
  }
  print(tableText(rows));
}

int runUndo(Invocation& invocation) {
  json args = json::object();
  const bool list = invocation.line.positional.empty();
  if (!list) args = withText(args, "path", pathForDaemon(invocation.argument(0)));
  if (const std::string since = invocation.line.value("--since", ""); !since.empty()) {
    auto ago = parseDurationMs(since);
    if (!ago) return fail(invocation, {Code::InvalidArgument, since + ": no time; write how long ago, as 90s, 10m, 2h or 3d"});
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    args["since_ns"] = std::max<int64_t>(1, std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() - *ago * 1'000'000);
  }
  if (const std::string change = invocation.line.value("--change", ""); !change.empty()) {
    auto number = parseSizeBytes(change);
    if (!number || *number == 0 || list)
      return fail(invocation, {Code::InvalidArgument, "--change: needs ARENA: and a number that `realize undo` lists"});
    args["change"] = *number;
  }
  if (invocation.line.has("--dry-run")) args["dry_run"] = true;
  json items;
  auto result = askWithProgress(invocation, list ? "undo-list" : "undo", args, [](const json&) { return "bringing back"; },
                                collecting(items));
  if (!result) return fail(invocation, result.error());
  if (items.is_null()) items = json::array();
  const uint64_t left = result->value("left", uint64_t{0});
  if (invocation.line.json) {
    json out = *result;
    out["items"] = items;
    printJson(out);
  } else {
    printItems(items);
    if (list && items.empty()) print("nothing here can be brought back\n");
    if (!list)
      print((result->value("dry_run", false) ? "would bring back " : "brought back ") +
            std::to_string(result->value("restored", uint64_t{0})) + (left ? ", left " + std::to_string(left) : "") + "\n");
  }
  return left ? 1 : 0;
}

}  // namespace

std::vector<CommandSpec> undoCommands() {
  return {
      {.name = "undo",
       .arguments = "[PATH]",
       .most = 1,
       .summary = "bring back what was removed or replaced",
       .details = "Without PATH: what took something away lately, newest first. With PATH of what was removed: that, and what was\n"
                  "removed together with it; of a file: what it held before. With --since, all below PATH is brought back as it\n"
                  "was then; what was made since stays. Bytes are kept here for a while (unlinked_days, unlinked_share); others\n"
                  "are asked of peers. It is a new change, which others receive. Exits with 1 if something was left.",
       .example = "realize undo docs:letters --since 2h --dry-run",
       .options = {{"--since", "", "TIME", "how long ago: 90s, 10m, 2h, 3d"},
                   {"--change", "", "N", "only that change"},
                   {"--dry-run", "", "", "say what would come back, and do nothing"}},
       .run = runUndo},
  };
}

}  // namespace realize::cli
