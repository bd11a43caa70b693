#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"
#include "frontends/cli/output.h"

namespace realize::cli {

using nlohmann::json;

namespace {

json pathArgs(const std::string& text) { return withText(json::object(), "path", pathForDaemon(text)); }

std::string lastName(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string presence(const json& entry) {
  if (entry.value("real", false)) return "real";
  uint64_t cached = entry.value("cached_bytes", uint64_t{0});
  uint64_t size = entry.value("size_bytes", uint64_t{0});
  if (cached == 0 || size == 0) return "unreal";
  return cached >= size ? "cached" : "cached " + std::to_string(cached * 100 / size) + "%";
}

std::string trouble(const json& entry) {
  size_t heads = entry.value("heads", json::array()).size();
  return heads > 1 ? "  (" + std::to_string(heads) + " versions in conflict)" : "";
}

int runLs(Invocation& invocation) {
  json entries = json::array();
  ReplyHandlers handlers;
  handlers.items = [&](const json& part) { entries.insert(entries.end(), part.begin(), part.end()); };
  auto result = ask(invocation, "ls", pathArgs(invocation.line.positional.empty() ? "." : invocation.argument(0)), handlers);
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) {
    (*result)["entries"] = entries;
    return printJson(*result);
  }
  std::vector<std::vector<std::string>> rows;
  for (auto& entry : entries) {
    bool folder = entry.value("kind", "") == "directory";
    std::string name = lastName(nameOf(entry, "path")) + (folder ? "/" : "");
    if (!invocation.line.has("-l")) {
      print(name + "\n");
      continue;
    }
    rows.push_back({modeText(entry.value("kind", ""), entry.value("mode", 0u)), folder ? "" : presence(entry),
                    entry.value("effective_mark", ""), folder ? "-" : sizeText(entry.value("size_bytes", uint64_t{0})),
                    timeText(entry.value("mtime_ns", int64_t{0})), name + trouble(entry)});
  }
  print(tableText(rows));
  return 0;
}

int runStat(Invocation& invocation) {
  auto result = ask(invocation, "stat", pathArgs(invocation.argument(0)));
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  auto& entry = *result;
  std::vector<std::vector<std::string>> rows;
  auto row = [&](const std::string& key, const std::string& value) { rows.push_back({key, value}); };
  row("path", nameOf(entry, "arena") + ":" + nameOf(entry, "path"));
  row("kind", nameOf(entry, "kind"));
  if (entry.value("kind", "") == "file")
    row("size", sizeText(entry.value("size_bytes", uint64_t{0})) + " (" + std::to_string(entry.value("size_bytes", uint64_t{0})) + ")");
  row("mode", modeText(entry.value("kind", ""), entry.value("mode", 0u)));
  row("changed", timeText(entry.value("mtime_ns", int64_t{0})));
  if (entry.value("kind", "") == "file") row("here", presence(entry));
  std::string own = entry.value("mark", "none");
  std::string effective = entry.value("effective_mark", "none");
  row("mark", own != "none" ? own : effective == "none" ? "none" : effective + " (from a folder above)");
  if (entry.contains("stays_real")) row("stays real", nameOf(entry, "stays_real"));
  row("consensus", entry.value("consensus", false) ? "yes" : "not yet");
  for (const auto& [title, key] : {std::pair("real on", "holders"), std::pair("unknown of", "holders_unknown")}) {
    std::string peers;
    for (auto& peer : entry.value(key, json::array())) peers += (peers.empty() ? "" : ", ") + nameText(peer.get<std::string>(), false);
    if (!peers.empty()) row(title, peers);
  }
  row("entry", nameOf(entry, "id"));
  for (auto& head : entry.value("heads", json::array())) {
    std::string text = nameOf(head, "label") + ", " + sizeText(head.value("size_bytes", uint64_t{0})) + ", " +
                       timeText(head.value("written_ns", int64_t{0})) + " by " + nameOf(head, "peer");
    if (head.contains("symlink_target")) text += ", to " + nameOf(head, "symlink_target");
    row("version", text);
  }
  print(tableText(rows));
  return 0;
}

/// ", replaced ca50b5204c2da182 (2 B)": what a change took away.
std::string replacedText(const json& change) {
  const std::string before = nameOf(change, "before");
  const size_t colon = before.find(':');
  if (colon == std::string::npos) return "";
  return ", replaced " + before.substr(0, colon) + " (" + sizeText(std::strtoull(before.c_str() + colon + 1, nullptr, 10)) + ")";
}

int runWhy(Invocation& invocation) {
  auto result = ask(invocation, "why", pathArgs(invocation.argument(0)));
  if (!result) return fail(invocation, result.error());
  if (invocation.line.json) return printJson(*result);
  auto& why = *result;
  const std::string arena = nameOf(why, "arena") + ":";
  print(arena + nameOf(why, "path") + (why.value("shown", false) ? "\n" : "  (removed)\n"));
  std::vector<std::vector<std::string>> rows;
  for (auto& head : why.value("versions", json::array()))
    rows.push_back({"version", nameOf(head, "label") + ", " + head.value("blob", "").substr(0, 16) + ", " + sizeText(head.value("size_bytes", uint64_t{0})) + ", " +
                                   timeText(head.value("written_ns", int64_t{0})) + " by " + nameOf(head, "peer") +
                                   (head.value("shown", false) ? " (shown here)" : "")});
  for (auto& blob : why.value("replaced", json::array())) rows.push_back({"replaced", blob.get<std::string>().substr(0, 16)});
  for (auto& peer : why.value("peers", json::array())) {
    const int64_t seen = peer.value("last_seen_ns", int64_t{0});
    rows.push_back({peer.value("acknowledged", false) ? "known to" : "not yet to",
                    nameOf(peer, "peer") + (seen ? ", connected last " + timeText(seen) : ", never connected")});
  }
  for (auto& item : why.value("changes", json::array())) {
    const std::string detail = nameOf(item, "detail");
    rows.push_back({nameOf(item, "what"), timeText(item.value("when_ns", int64_t{0})) + " by " + whoDid(item) + ", " +
                                              arena + nameOf(item, "path") + (detail.empty() ? "" : ", before " + detail) + replacedText(item)});
  }
  print(tableText(rows));
  return 0;
}

/// Writes to stdout. False ends the transfer; `failure` says why unless the reader has merely left.
bool writeOut(std::span<const std::byte> bytes, std::string& failure) {
  while (!bytes.empty()) {
    ssize_t n = write(1, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EPIPE) failure = std::strerror(errno);
      return false;
    }
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return true;
}

int runCat(Invocation& invocation) {
  for (auto& path : invocation.line.positional) {
    std::string failure;
    bool left = false;
    bool full = false;
    ReplyHandlers handlers;
    handlers.raw = [&](std::span<const std::byte> bytes) {
      left = !writeOut(bytes, failure);
      full = left && errno == ENOSPC;
      return !left;
    };
    auto result = ask(invocation, "cat", pathArgs(path), handlers);
    if (left && failure.empty()) return 0;
    if (left) return fail(invocation, {full ? Code::NoSpace : Code::Io, "writing the output: " + failure});
    if (!result) return fail(invocation, result.error());
  }
  return 0;
}

int runFetch(Invocation& invocation) {
  for (auto& path : invocation.line.positional) {
    auto result = askWithProgress(invocation, "fetch", pathArgs(path), [&](const json&) { return nameText(path, false); });
    if (!result) return fail(invocation, result.error());
    if (invocation.line.json) printJson(*result);
  }
  return 0;
}

int runMark(Invocation& invocation) {
  const std::string& mark = invocation.argument(0);
  if (mark != "real" && mark != "unreal" && mark != "none")
    return fail(invocation, {Code::InvalidArgument, mark + ": a mark is one of real, unreal, none; then PATH follows"});
  auto client = Client::connect(invocation.stateDir);
  if (!client) return fail(invocation, client.error());
  json done = json::array();
  for (size_t i = 1; i < invocation.line.positional.size(); ++i) {
    json args = pathArgs(invocation.argument(i));
    args["mark"] = mark;
    auto result = (*client)->call("mark", args);
    if (!result) return fail(invocation, result.error());
    done.push_back(*result);
  }
  if (invocation.line.json) return printJson({{"marked", done}});
  for (auto& place : done)
    for (auto& file : place.value("stays_real", json::array()))
      print(nameOf(place, "arena") + ":" + nameOf(file, "path") + " stays real for now: " + nameOf(file, "detail") + "\n");
  return 0;
}

constexpr size_t kManyPaths = 1'000'000;

}  // namespace

std::vector<CommandSpec> fileCommands() {
  return {
      {.name = "ls",
       .arguments = "[PATH]",
       .most = 1,
       .summary = "list a folder of an arena; without PATH, the one that you are in",
       .example = "realize ls -l docs:letters",
       .options = {{"-l", "", "", "with mode, presence here, mark, size and time"}},
       .run = runLs},
      {.name = "stat",
       .arguments = "PATH",
       .least = 1,
       .most = 1,
       .summary = "all about one entry: versions, marks, what is here",
       .example = "realize stat docs:letters/anna.txt --json",
       .run = runStat},
      {.name = "cat",
       .arguments = "PATH...",
       .least = 1,
       .most = kManyPaths,
       .summary = "print a file; bytes not here are fetched and verified first",
       .example = "realize cat docs:film.mkv | mpv -",
       .run = runCat},
      {.name = "fetch",
       .arguments = "PATH...",
       .least = 1,
       .most = kManyPaths,
       .summary = "bring all bytes below a path into the cache",
       .example = "realize fetch docs:letters",
       .run = runFetch},
      {.name = "why",
       .arguments = "PATH",
       .least = 1,
       .most = 1,
       .summary = "who changed it when, what that replaced, and who knows of it",
       .details = "Also of a removed entry, as long as the history has it, and under names that it had before.",
       .example = "realize why docs:plan.txt",
       .run = runWhy},
      {.name = "mark",
       .arguments = "real|unreal|none PATH...",
       .least = 2,
       .most = kManyPaths,
       .summary = "say what shall be real here",
       .details = "A folder's mark holds for all in it that has none of its own, also for files to come. 'none' takes it\n"
                  "back. The work goes on in the background: 'realize wait' and 'realize status' tell.\n"
                  "Nothing is made unreal before another connected peer has confirmed that it keeps it.",
       .example = "realize mark real docs:letters",
       .run = runMark},
  };
}

}  // namespace realize::cli
