#include <signal.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"

namespace realize::cli {

using nlohmann::json;

namespace {

volatile sig_atomic_t interrupted = 0;

/// For realize-mount -f: a signal makes the waiting call return instead of ending us without unmounting.
void catchEndingSignals() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

json mountArgs(const std::string& arena, const std::string& mountPoint, const Invocation& invocation) {
  json args = withText(withText(json::object(), "arena", arena), "mount_point", mountPoint);
  json options = json::array();
  if (auto given = invocation.line.options.find("-o"); given != invocation.line.options.end()) {
    for (auto& list : given->second) {
      size_t begin = 0;
      while (begin <= list.size()) {
        size_t end = std::min(list.find(',', begin), list.size());
        if (end > begin) options.push_back(list.substr(begin, end - begin));
        begin = end + 1;
      }
    }
  }
  args["options"] = options;
  return args;
}

int runMount(Invocation& invocation) {
  json args = mountArgs(invocation.argument(0), absolutePath(invocation.argument(1)), invocation);
  return askAndSay(invocation, "mount", args, "");
}

/// Also a mount that a killed daemon left, or one of an earlier daemon.
int unmountAnyhow(Invocation& invocation, const std::string& mountPoint) {
  auto result = ask(invocation, "unmount", withText(json::object(), "mount_point", mountPoint));
  bool unknown = !result && (result.code() == Code::NotRunning || result.code() == Code::NotFound);
  if (unknown && invocation.library.clearMount) {
    auto cleared = invocation.library.clearMount(mountPoint);
    if (!cleared) return fail(invocation, cleared.error());
    result = json::object();
  }
  if (!result) return fail(invocation, result.error());
  return invocation.line.json ? printJson(*result) : 0;
}

int runUnmount(Invocation& invocation) { return unmountAnyhow(invocation, absolutePath(invocation.argument(0))); }

/// Holds until the mount is over. A signal to us ends the mount.
int stayForeground(Invocation& invocation, const std::string& mountPoint) {
  json args = withText(json::object(), "mount_point", mountPoint);
  auto ended = ask(invocation, "mount-wait", args);
  if (interrupted) return askAndSay(invocation, "unmount", args, "");
  // The daemon's end is the mount's end.
  if (!ended && ended.code() != Code::NotRunning && ended.code() != Code::Cancelled) return fail(invocation, ended.error());
  return 0;
}

int runMountProgram(Invocation& invocation) {
  auto& words = invocation.line.positional;
  bool unmount = invocation.line.has("--unmount");
  if (words.size() != (unmount ? 1 : 2))
    return fail(invocation, {Code::InvalidArgument, unmount ? "it is used so: realize-mount -u MOUNTPOINT"
                                                            : "it is used so: realize-mount ARENA MOUNTPOINT"});
  std::string mountPoint = absolutePath(words.back());
  if (unmount) return unmountAnyhow(invocation, mountPoint);

  auto client = Client::connect(invocation.stateDir);
  if (!client && client.code() == Code::NotRunning) {
    auto up = startDetached(invocation.stateDir, invocation.library);
    // Somebody else may have started one in the same moment.
    if (!up && up.code() != Code::AlreadyRunning) return fail(invocation, up.error());
  } else if (!client) {
    return fail(invocation, client.error());
  }
  bool foreground = invocation.line.has("--foreground");
  if (foreground) catchEndingSignals();
  int code = askAndSay(invocation, "mount", mountArgs(words[0], mountPoint, invocation), "");
  if (code != 0 || !foreground) return code;
  return stayForeground(invocation, mountPoint);
}

const OptionSpec kMountOptions = {"-o", "", "OPTIONS", "comma-separated: allow_other, no_allow_other, threads=N"};

}  // namespace

std::vector<CommandSpec> mountCommands() {
  return {
      {.name = "mount",
       .arguments = "ARENA MOUNTPOINT",
       .least = 2,
       .most = 2,
       .summary = "show an arena as a file system",
       .details = "Real and unreal files in one tree; unreal ones are fetched as they are read. The mount point must not\n"
                  "overlap a folder of an arena.",
       .example = "realize mount docs ~/mnt/docs",
       .options = {kMountOptions},
       .run = runMount},
      {.name = "unmount",
       .arguments = "MOUNTPOINT",
       .least = 1,
       .most = 1,
       .summary = "end a mount",
       .example = "realize unmount ~/mnt/docs",
       .run = runUnmount},
  };
}

CommandSpec mountProgram() {
  return {.name = "",
          .arguments = "ARENA MOUNTPOINT | -u MOUNTPOINT",
          .least = 1,
          .most = 2,
          .summary = "mount an arena of the running peer; starts the daemon if none runs",
          .details = "Returns once it is mounted. 'fusermount3 -u MOUNTPOINT' and the daemon's end unmount as well.",
          .example = "realize-mount docs ~/mnt/docs\nrealize-mount -u ~/mnt/docs",
          .options = {{"--unmount", "-u", "", "end a mount"},
                      {"--foreground", "-f", "", "stay until it is unmounted; SIGINT and SIGTERM unmount"},
                      kMountOptions},
          .run = runMountProgram};
}

}  // namespace realize::cli
