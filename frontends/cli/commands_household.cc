#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"
#include "frontends/cli/output.h"

namespace realize::cli {

using nlohmann::json;

namespace {

int runInvite(Invocation& invocation) {
  json args = json::object();
  auto lifetimeMs = parseDurationMs(invocation.line.value("--expires", "24h"));
  if (!lifetimeMs || *lifetimeMs == 0)
    return fail(invocation, {Code::InvalidArgument, invocation.line.value("--expires") + ": no duration; write 15m, 24h or 7d"});
  args["lifetime_ms"] = *lifetimeMs;
  bool none = invocation.line.has("--no-arenas");
  auto named = invocation.line.options.find("--arena");
  if (none && named != invocation.line.options.end())
    return fail(invocation, {Code::InvalidArgument, "--arena and --no-arenas exclude each other"});
  if (none) args["all_arenas"] = false;
  if (named != invocation.line.options.end()) {
    args["all_arenas"] = false;
    args["arenas"] = named->second;
  }
  auto result = ask(invocation, "invite", args);
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  print(result->value("code", "") + "\n");
  return 0;
}

int runJoin(Invocation& invocation) {
  auto result = ask(invocation, "join", withText(json::object(), "code", invocation.argument(0)));
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  std::string names;
  for (auto& name : result->value("arenas", json::array()))
    names += (names.empty() ? "" : ", ") + nameText(name.get<std::string>(), false);
  print("joined the household; " + (names.empty() ? "no arenas to join" : "arenas to join: " + names) + "\n");
  return 0;
}

int runKey(Invocation& invocation) {
  auto result = ask(invocation, "ping", json::object());
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  print(result->value("key", "") + "\n");
  return 0;
}

int runPeerList(Invocation& invocation) {
  auto result = ask(invocation, "peer-list", json::object());
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  std::vector<std::vector<std::string>> rows = {{"NAME", "ADDRESS", "STATE", "KEY"}};
  for (auto& peer : result->value("peers", json::array())) {
    std::string state = peer.value("self", false) ? "self" : peer.value("connected", false) ? "connected" : "not connected";
    std::string address = nameOf(peer, "address");
    rows.push_back({nameOf(peer, "name"), address.empty() ? "-" : address, state, nameOf(peer, "key")});
  }
  print(tableText(rows));
  return 0;
}

int runPeerAdd(Invocation& invocation) {
  json args = withText(json::object(), "name", invocation.argument(0));
  args = withText(args, "key", invocation.argument(1));
  args = withText(args, "address", invocation.argumentOr(2, ""));
  return askAndSay(invocation, "peer-add", args, "");
}

int runPeerRemove(Invocation& invocation) {
  return askAndSay(invocation, "peer-remove", withText(json::object(), "name", invocation.argument(0)), "");
}

}  // namespace

std::vector<CommandSpec> householdCommands() {
  return {
      {.name = "invite",
       .summary = "print a code that lets one more peer join the household",
       .details = "The code works once. It admits to all arenas of this peer unless --arena or --no-arenas narrows it.",
       .example = "realize invite --arena docs --expires 15m",
       .options = {{"--arena", "", "NAME", "admit to this arena only; may be given again"},
                   {"--no-arenas", "", "", "admit to the household but to no arena yet"},
                   {"--expires", "", "TIME", "how long the code holds (default 24h)"}},
       .run = runInvite},
      {.name = "join",
       .arguments = "CODE",
       .least = 1,
       .most = 1,
       .summary = "join a household with a code from 'realize invite'",
       .example = "realize join CODE\nrealize arena join docs ~/docs",
       .run = runJoin},
      {.name = "key",
       .summary = "print this peer's key, for 'realize peer add' elsewhere",
       .example = "realize key",
       .run = runKey},
      {.name = "peer list", .summary = "the peers of the household", .example = "realize peer list", .run = runPeerList},
      {.name = "peer add",
       .arguments = "NAME KEY [ADDRESS]",
       .least = 2,
       .most = 3,
       .summary = "add a peer by its key",
       .details = "Done on both sides. KEY is what 'realize key' prints there; ADDRESS (HOST:PORT) where it listens.",
       .example = "realize peer add laptop KEY 192.168.1.7:7420",
       .run = runPeerAdd},
      {.name = "peer remove",
       .arguments = "NAME",
       .least = 1,
       .most = 1,
       .summary = "remove a peer from the household; its connections end at once",
       .example = "realize peer remove laptop",
       .run = runPeerRemove},
  };
}

}  // namespace realize::cli
