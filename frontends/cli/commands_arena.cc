#include <filesystem>

#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"
#include "frontends/cli/exit_codes.h"
#include "frontends/cli/output.h"

namespace realize::cli {

using nlohmann::json;

namespace {

std::string plainName(std::string name) {
  if (!name.empty() && name.back() == ':') name.pop_back();
  return name;
}

int runCreate(Invocation& invocation) {
  std::string folder = absolutePath(invocation.argument(1));
  json args = withText(withText(json::object(), "name", plainName(invocation.argument(0))), "folder", folder);
  // Else a slip of the finger would share a folder that nobody meant, without a word.
  std::error_code unknown;
  const bool there = std::filesystem::exists(folder, unknown) || unknown;
  return askAndSay(invocation, "arena-create", args, there ? "" : "made the folder " + nameText(folder, rawNames()));
}

int runJoin(Invocation& invocation) {
  const std::string plain = plainName(invocation.argument(0)), name = nameText(plain, false);
  json args = withText(json::object(), "name", plain);
  std::string done = "joined; ";
  if (invocation.line.positional.size() > 1) {
    args = withText(args, "folder", absolutePath(invocation.argument(1)));
    done += "what only others have is unreal here until 'realize mark real " + name + ":'; ";
  }
  return askAndSay(invocation, "arena-join", args, done + "'realize mount " + name + " MOUNTPOINT' shows all of it");
}

int runAdmit(Invocation& invocation) {
  json args = withText(json::object(), "name", invocation.argument(0));
  return askAndSay(invocation, "arena-admit", withText(args, "peer", invocation.argument(1)), "");
}

int runWithdraw(Invocation& invocation) {
  json args = withText(json::object(), "name", invocation.argument(0));
  return askAndSay(invocation, "arena-withdraw", withText(args, "peer", invocation.argument(1)), "");
}

int runLeave(Invocation& invocation) {
  json args = withText({{"force", invocation.line.has("--force")}}, "name", invocation.argument(0));
  auto result = ask(invocation, "arena-leave", args);
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  for (auto& file : result->value("lost", json::array()))
    print("lost, as it was here alone: " + nameOf(file, "path") + "\n");
  return 0;
}

int runList(Invocation& invocation) {
  auto result = ask(invocation, "arena-list", json::object());
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  std::vector<std::vector<std::string>> rows;
  for (auto& arena : result->value("arenas", json::array())) {
    std::string folder = nameOf(arena, "folder");
    rows.push_back({nameOf(arena, "name"), folder.empty() ? "(without a folder)" : folder});
  }
  for (auto& name : result->value("offered_arenas", json::array()))
    rows.push_back({nameText(name.get<std::string>(), false), "(to be joined: 'realize arena join')"});
  print(tableText(rows));
  return 0;
}

int runRescan(Invocation& invocation) {
  return askAndSay(invocation, "arena-rescan", withText(json::object(), "name", invocation.argument(0)), "");
}

std::string headLine(const json& head) {
  std::string out = "    " + nameOf(head, "label") + "  " + sizeText(head.value("size_bytes", uint64_t{0})) + "  " +
                    timeText(head.value("written_ns", int64_t{0})) + "  by " + nameOf(head, "peer");
  if (head.value("shown", false)) out += "  (shown here)";
  if (!head.value("here", false)) out += "  (bytes elsewhere)";
  return out + "\n";
}

int runConflicts(Invocation& invocation) {
  json entries;
  json args = json::object();
  if (!invocation.line.positional.empty()) args = withText(args, "arena", invocation.argument(0));
  auto result = ask(invocation, "conflicts", args, collecting(entries));
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson({{"conflicts", entries}});
  for (auto& entry : entries) {
    print(nameOf(entry, "arena") + ":" + nameOf(entry, "path") + "\n");
    for (auto& head : entry.value("heads", json::array())) print(headLine(head));
  }
  if (!entries.empty()) print("choose with: realize resolve PATH LABEL\n");
  return 0;
}

int runResolve(Invocation& invocation) {
  json args = withText(json::object(), "path", pathForDaemon(invocation.argument(0)));
  args = withText(args, "label", invocation.argumentOr(1, ""));
  return askAndSay(invocation, "resolve", args, "");
}

int runConfirm(Invocation& invocation) {
  json args = withText({{"keep", invocation.line.has("--keep")}}, "arena", invocation.argument(0));
  auto result = ask(invocation, "confirm", args);
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  print(countText(result->value("entries", uint64_t{0}), "entry", "entries") +
        (invocation.line.has("--keep") ? " brought back\n" : " removed or replaced\n"));
  return 0;
}

std::string damageLine(const std::string& arena, const json& damage) {
  const std::string state = damage.value("state", ""), path = nameOf(damage, "path"), kept = nameOf(damage, "kept_as");
  std::string out = damage.value("where", "") == "cache" ? arena + ": in the cache" : arena + ":" + path;
  if (state == "repaired") out += ": was damaged, and is whole again";
  else if (state == "wanted") out += ": is damaged; the right bytes come as soon as a peer that has them connects";
  else if (state == "dropped") out += ": was damaged and dropped";
  else out += ": is damaged, and stays as it is";
  if (auto detail = nameOf(damage, "detail"); !detail.empty()) out += " (" + detail + ")";
  if (!kept.empty() && state != "dropped") out += "; a copy of what it held is " + kept;
  return out + "\n";
}

int runVerify(Invocation& invocation) {
  json args = json::object();
  if (!invocation.line.positional.empty()) args = withText(args, "arena", invocation.argument(0));
  auto result = askWithProgress(invocation, "verify", args, [](const json& value) { return nameOf(value, "arena"); });
  if (!result) return fail(invocation, result.error());
  const int code = result->value("whole", false) ? 0 : static_cast<int>(Exit::Damaged);
  if (invocation.line.json) {
    printJson(*result);
    return code;
  }
  for (auto& arena : result->value("arenas", json::array())) {
    const std::string name = nameOf(arena, "arena");
    for (auto& damage : arena.value("damaged", json::array())) print(damageLine(name, damage));
    print(name + ": " + countText(arena.value("files", uint64_t{0}), "file", "files") + ", " +
          sizeText(arena.value("bytes", uint64_t{0})) + "; cached " +
          countText(arena.value("cached_blobs", uint64_t{0}), "content", "contents") + ", " +
          sizeText(arena.value("cached_bytes", uint64_t{0})) + "; " + std::to_string(arena.value("damaged_count", uint64_t{0})) +
          " damaged, " + std::to_string(arena.value("repaired_count", uint64_t{0})) + " repaired\n");
    if (auto n = arena.value("changed", uint64_t{0}))
      print(name + ": " + countText(n, "file", "files") + " being changed, not read\n");
  }
  return code;
}

int runHistory(Invocation& invocation) {
  json args = json::object();
  if (!invocation.line.positional.empty()) args = withText(args, "path", pathForDaemon(invocation.argument(0)));
  auto limit = parseSizeBytes(invocation.line.value("--number", "50"));
  if (!limit || *limit == 0) return fail(invocation, {Code::InvalidArgument, "-n: a number of one or more is needed"});
  args["limit"] = *limit;
  json items;
  auto result = ask(invocation, "history", args, collecting(items));
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson({{"history", items}});
  std::vector<std::vector<std::string>> rows;
  for (auto& item : items)
    rows.push_back({timeText(item.value("when_ns", int64_t{0})), whoDid(item), nameOf(item, "what"),
                    nameOf(item, "arena") + ":" + nameOf(item, "path"), nameOf(item, "detail")});
  print(tableText(rows));
  return 0;
}

}  // namespace

std::vector<CommandSpec> arenaCommands() {
  return {
      {.name = "arena create",
       .arguments = "NAME DIR",
       .least = 2,
       .most = 2,
       .summary = "make an arena of a folder",
       .details = "All its files are real here. A folder that does not exist is made, and said so. Other peers see the\n"
                  "arena once admitted ('arena admit', or an invite).",
       .example = "realize arena create docs ~/docs",
       .run = runCreate},
      {.name = "arena join",
       .arguments = "NAME [DIR]",
       .least = 1,
       .most = 2,
       .summary = "take part in an arena of another peer",
       .details = "With DIR, real files live there; files it has already are recognised, not sent. Those of others stay\n"
                  "unreal until 'realize mark real' says otherwise. Without DIR nothing is real here: files are read on\n"
                  "demand through a mount.",
       .example = "realize arena join docs ~/docs",
       .run = runJoin},
      {.name = "arena admit",
       .arguments = "NAME PEER",
       .least = 2,
       .most = 2,
       .summary = "let a peer of the household see an arena",
       .example = "realize arena admit docs laptop",
       .run = runAdmit},
      {.name = "arena withdraw",
       .arguments = "NAME PEER",
       .least = 2,
       .most = 2,
       .summary = "let a peer see an arena no more",
       .details = "What is under way to it is cut off at once. What it has already, it keeps.",
       .example = "realize arena withdraw docs laptop",
       .run = runWithdraw},
      {.name = "arena leave",
       .arguments = "NAME",
       .least = 1,
       .most = 1,
       .summary = "forget an arena here; real files stay where they are",
       .details = "Refused while bytes would go that no connected peer promises to keep; the message names the files. "
                  "The folder's '.realize' goes, and with it the cache.",
       .example = "realize arena leave docs",
       .options = {{"--force", "", "", "also when bytes are lost by it; says of which files"}},
       .run = runLeave},
      {.name = "arena list", .summary = "arenas here, and those that can be joined", .example = "realize arena list", .run = runList},
      {.name = "arena rescan",
       .arguments = "NAME",
       .least = 1,
       .most = 1,
       .summary = "look at the whole folder again",
       .example = "realize arena rescan docs",
       .run = runRescan},
      {.name = "conflicts",
       .arguments = "[ARENA]",
       .most = 1,
       .summary = "files with several versions, each with who wrote it",
       .example = "realize conflicts docs",
       .run = runConflicts},
      {.name = "resolve",
       .arguments = "PATH [LABEL]",
       .least = 1,
       .most = 2,
       .summary = "choose one version of a file in conflict",
       .details = "LABEL is as 'realize conflicts' shows it; without, the version that this peer shows.",
       .example = "realize resolve docs:plan.txt 5f3a90c1-12",
       .run = runResolve},
      {.name = "confirm",
       .arguments = "ARENA",
       .least = 1,
       .most = 1,
       .summary = "let a mass removal or overwriting happen that was held back",
       .details = "With --keep old contents come back from other peers, when one is connected that has them; until then a file\n"
                  "stays as it is. What had replaced them goes to the cache for a while, and 'realize undo' has it.",
       .example = "realize confirm docs --keep",
       .options = {{"--keep", "", "", "bring the entries and their old contents back instead"}},
       .run = runConfirm},
      {.name = "verify",
       .arguments = "[ARENA]",
       .most = 1,
       .summary = "read all files and the cache, and repair what is damaged",
       .details = "Compares real files and the cache with their hashes. What was changed by somebody is read as the edit that\n"
                  "it is. What rotted is replaced once a peer has the right bytes; what the file held is kept in\n"
                  ".realize/damaged of the arena's folder. Exits with 9 if something stays damaged.",
       .example = "realize verify docs",
       .run = runVerify},
      {.name = "history",
       .arguments = "[PATH]",
       .most = 1,
       .summary = "what changed, newest first",
       .example = "realize history docs:letters -n 20",
       .options = {{"--number", "-n", "N", "at most so many (default 50)"}},
       .run = runHistory},
  };
}

}  // namespace realize::cli
