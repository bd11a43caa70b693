#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"
#include "frontends/cli/exit_codes.h"
#include "frontends/cli/output.h"
#include "frontends/cli/status_text.h"
#include "frontends/daemon/mount_notes.h"

namespace realize::cli {

using nlohmann::json;

namespace {

/// Of the place that a state folder has where nobody named one: as the XDG specification wants it, they are made.
void makeFoldersAbove(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1))
    if (mkdir(path.substr(0, slash).c_str(), 0700) != 0 && errno != EEXIST) return;  // init says what is missing.
}

int runInit(Invocation& invocation) {
  const char* named = std::getenv("REALIZE_STATE");
  if (invocation.line.stateDir.empty() && !(named && *named)) makeFoldersAbove(invocation.stateDir);
  InitOptions options;
  options.name = invocation.line.value("--name");
  options.listen = invocation.line.value("--listen");
  auto done = invocation.library.init(invocation.stateDir, options);
  if (!done) return fail(invocation, done.error());
  if (invocation.line.json) return printJson(withText(json::object(), "state_dir", invocation.stateDir));
  print("made a peer in " + invocation.stateDir + "; start it with 'realize serve --detach'\n");
  return 0;
}

int runServe(Invocation& invocation) {
  if (!invocation.line.has("--detach")) return serveForeground(invocation);
  auto up = startDetached(invocation.stateDir, invocation.library);
  if (!up) return fail(invocation, up.error());
  if (invocation.line.json) {
    auto result = ask(invocation, "ping", json::object());
    return result ? printJson(*result) : fail(invocation, result.error());
  }
  return 0;
}

/// Waits for the end of a process that is not a child of ours.
Result<void> waitForEnd(int pidFd, int timeoutMs) {
  pollfd entry{pidFd, POLLIN, 0};
  int n = poll(&entry, 1, timeoutMs);
  if (n > 0) return {};
  if (n == 0) return Error{Code::TimedOut, "the daemon does not end; see its log"};
  return Error{errno == EINTR ? Code::Cancelled : Code::Io, std::strerror(errno)};
}

int runStop(Invocation& invocation) {
  auto client = Client::connect(invocation.stateDir);
  if (!client) return fail(invocation, client.error());
  auto who = daemon::peerIdentity((*client)->descriptor());
  if (!who) return fail(invocation, who.error());
  // Taken while the connection holds, so that the number cannot have gone to another process.
  daemon::Fd process(static_cast<int>(syscall(SYS_pidfd_open, who->pid, 0)));
  auto result = (*client)->call("stop", json::object());
  // A daemon told by somebody else at the same time may go without an answer.
  if (!result && result.code() != Code::NotRunning) return fail(invocation, result.error());
  constexpr int kPatienceMs = 60'000;
  if (process) {
    auto ended = waitForEnd(process.get(), kPatienceMs);
    if (!ended) return fail(invocation, ended.error());
  }
  if (invocation.line.json) return printJson({{"pid", who->pid}});
  return 0;
}

/// What a killed daemon left: it is mounted anew when a daemon starts.
std::string deadMounts(const std::string& stateDir) {
  std::string out;
  for (auto& mount : daemon::readMountNotes(stateDir))
    if (daemon::isDeadMount(mount.mountPoint))
      out += "; " + nameText(mount.mountPoint, false) + " is a dead mount until then (or until 'realize-mount -u')";
  return out;
}

int runStatus(Invocation& invocation) {
  auto result = ask(invocation, "status", withText(json::object(), "arena", invocation.argumentOr(0, "")));
  if (!result && result.code() == Code::NotRunning)
    return fail(invocation, {Code::NotRunning, result.error().message + deadMounts(invocation.stateDir)});
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  print(statusText(*result, invocation.line.positional.empty()));
  return 0;
}

int runWait(Invocation& invocation) {
  auto timeoutMs = parseDurationMs(invocation.line.value("--timeout", "60"));
  if (!timeoutMs)
    return fail(invocation, {Code::InvalidArgument, invocation.line.value("--timeout") +
                                                        ": no duration; write 30, 90s, 5m or 1h"});
  json args = withText({{"timeout_ms", *timeoutMs}}, "arena", invocation.argument(0));
  ProgressLine progress = stderrProgress();
  ReplyHandlers handlers;
  handlers.progress = [&](const json& value) {
    auto missing = value.value("missing", json::array());
    if (!missing.empty()) progress.say("waiting: " + nameText(missing[0].get<std::string>(), false));
  };
  auto result = ask(invocation, "wait", args, handlers);
  progress.finish();
  if (!result) return fail(invocation, result.error());
  bool reached = result->value("reached", false);
  if (invocation.line.json) printJson(*result);
  if (reached) return 0;
  std::string text = "realize: " + invocation.argument(0) + ": not reached in " + durationText(*timeoutMs / 1000) + "\n";
  for (auto& line : result->value("missing", json::array())) text += "  " + nameText(line.get<std::string>(), false) + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
  return static_cast<int>(Exit::Failed);
}

int runConfig(Invocation& invocation) {
  std::vector<std::string> words = invocation.line.positional;
  json args = json::object();
  std::string arena;
  if (!words.empty() && words[0].size() > 1 && words[0].back() == ':') {
    arena = words[0].substr(0, words[0].size() - 1);
    words.erase(words.begin());
    args = withText(args, "arena", arena);
  }
  if (words.size() > 2)
    return fail(invocation, {Code::InvalidArgument, "config: too many arguments; it is used so: realize config [ARENA:] [NAME [VALUE]]"});
  if (!words.empty()) args = withText(args, "name", words[0]);
  if (words.size() == 2) args = withText(args, "value", words[1]);
  auto result = ask(invocation, "config", args);
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  auto& settings = (*result)["settings"];
  if (words.size() == 1 && settings.size() == 1) {
    print(nameOf(settings[0], "value") + "\n");
    return 0;
  }
  if (words.size() == 2) return 0;
  std::vector<std::vector<std::string>> rows = {{"NAME", "VALUE", "UNIT", "DEFAULT", "MEANING"}};
  for (auto& setting : settings)
    rows.push_back({nameOf(setting, "name"), nameOf(setting, "value"), nameOf(setting, "unit"),
                    nameOf(setting, "default_value"), nameOf(setting, "help")});
  print(tableText(rows));
  return 0;
}

std::string eventText(const json& event) {
  std::string out = timeText(event.value("when_ns", int64_t{0})) + "  " + nameOf(event, "type");
  std::string arena = nameOf(event, "arena");
  std::string path = nameOf(event, "path");
  std::string peer = nameOf(event, "peer");
  std::string detail = nameOf(event, "detail");
  if (!arena.empty()) out += "  " + arena + ":" + path;
  if (!peer.empty()) out += "  (" + peer + ")";
  if (!detail.empty()) out += "  " + detail;
  return out;
}

int runWatch(Invocation& invocation) {
  ReplyHandlers handlers;
  bool begun = false;
  handlers.event = [&](const json& event) {
    begun = true;
    bool quiet = event.value("type", "") == "watching";
    if (invocation.line.json) print(event.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
    else if (event.value("type", "") == "lost") print(std::to_string(event.value("count", 0)) + " events were lost\n");
    else if (!quiet) print(eventText(event) + "\n");
    // Each line is wanted now; a reader who has left ends us.
    if (std::fflush(stdout) != 0) _exit(0);
  };
  json args = withText(json::object(), "arena", invocation.argumentOr(0, ""));
  if (invocation.line.has("--count")) {
    auto count = parseSizeBytes(invocation.line.value("--count"));
    if (!count) return fail(invocation, {Code::InvalidArgument, "--count: a number is needed"});
    args["limit"] = *count;
  }
  auto result = ask(invocation, "watch", args, handlers);
  if (!result && begun && result.code() == Code::NotRunning) return fail(invocation, {Code::NotRunning, "the daemon has ended"});
  return result ? 0 : fail(invocation, result.error());
}

}  // namespace

std::vector<CommandSpec> daemonCommands() {
  return {
      {.name = "init",
       .summary = "make a peer: identity and state folder",
       .details = "Done once on each machine. Without --listen the peer is deaf: it connects to others, none to it.",
       .example = "realize init --name desk --listen 0.0.0.0:7420",
       .options = {{"--name", "", "NAME", "unique in the household; else the host's name"},
                   {"--listen", "", "HOST:PORT", "accept connections here; port 0: the kernel picks one, once"}},
       .run = runInit},
      {.name = "serve",
       .summary = "run this peer",
       .details = "In the foreground it logs to stderr and ends on SIGTERM or SIGINT, unmounting what it mounted.\n"
                  "With --detach it returns once the daemon is up, and the log is STATE/log.",
       .example = "realize serve --detach",
       .options = {{"--detach", "-d", "", "in the background"}},
       .run = runServe},
      {.name = "stop", .summary = "end the daemon; returns once it has ended", .example = "realize stop", .run = runStop},
      {.name = "status",
       .arguments = "[ARENA]",
       .most = 1,
       .summary = "how peers and arenas stand",
       .details = "Per peer: connected, or since when not. Per arena: in consensus or why not, what is missing,\n"
                  "conflicts, held-back removals, problems, mounts.",
       .example = "realize status --json",
       .run = runStatus},
      {.name = "wait",
       .arguments = "ARENA",
       .least = 1,
       .most = 1,
       .summary = "wait until an arena is in step with a connected peer",
       .details = "0 once at least one peer is connected, the arena is in consensus with every connected one, and all\n"
                  "bytes marked real on either side are there; else 1, and what is missing on stderr. A conflict does\n"
                  "not hold it up: each side knows both versions, and goes on showing its own.",
       .example = "realize wait docs --timeout 30",
       .options = {{"--timeout", "-t", "TIME", "how long: 30, 90s, 5m, 1h (default 60 s)"}},
       .run = runWait},
      {.name = "config",
       .arguments = "[ARENA:] [NAME [VALUE]]",
       .most = 3,
       .summary = "show and change settings",
       .details = "Without ARENA: the peer's own. Without NAME: all, with units and defaults.\n"
                  "The audit log (a line for each change and connection) is STATE/audit.log unless audit_path says\n"
                  "otherwise; audit on|off, audit_rotate_bytes, audit_keep and audit_keep_days bound what it takes.",
       .example = "realize config docs: rest_ms 500",
       .run = runConfig},
      {.name = "watch",
       .arguments = "[ARENA]",
       .most = 1,
       .summary = "print events as they happen",
       .details = "With --json a JSON object each line; the first has the type 'watching': nothing is missed after it.",
       .example = "realize watch docs --json",
       .options = {{"--count", "-n", "N", "end after N events"}},
       .run = runWatch},
  };
}

}  // namespace realize::cli
