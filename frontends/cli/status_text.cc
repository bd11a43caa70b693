#include "frontends/cli/status_text.h"

#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"
#include "frontends/cli/output.h"

namespace realize::cli {

using nlohmann::json;

namespace {

constexpr size_t kShownProblems = 10;
constexpr uint64_t kStaysRealTold = 10;  // As many as status tells of.

uint64_t number(const json& object, const char* key) { return object.value(key, uint64_t{0}); }
bool flag(const json& object, const char* key) { return object.value(key, false); }

std::string filesAndBytes(uint64_t files, uint64_t bytes) {
  return countText(files, "file", "files") + " (" + sizeText(bytes) + ")";
}

/// `listens`: this peer does.
std::string connectionState(const json& peer, bool listens) {
  if (flag(peer, "connected")) return "connected since " + timeText(peer.value("since_ns", int64_t{0}));
  int64_t last = peer.value("since_ns", int64_t{0});
  std::string out = last == 0 ? "never connected" : "not connected since " + timeText(last);
  std::string why = nameOf(peer, "last_error");
  if (why.empty() && !listens && nameOf(peer, "address").empty()) why = "neither of the two listens; others pass on what they have";
  return why.empty() ? out : out + ": " + why;
}

std::string peersText(const json& status) {
  auto& self = status.at("self");
  std::string listen = nameOf(status, "listen");
  std::string out = "peer " + nameOf(self, "name") + ", " + (listen.empty() ? "not listening" : "listening on " + listen) +
                    ", pid " + std::to_string(status.value("pid", 0)) + ", version " + nameOf(status, "version") + "\n" +
                    "key  " + nameOf(self, "key") + "\n\n";
  for (auto& problem : status.value("problems", json::array()))
    out += "PROBLEM: " + nameOf(problem, "kind") + ": " + nameOf(problem, "detail") + "\n\n";
  auto& peers = status.at("peers");
  if (peers.empty()) return out + "no other peers yet: 'realize invite' here and 'realize join CODE' there\n";
  std::vector<std::vector<std::string>> rows = {{"PEER", "SENT", "RECEIVED", "STATE"}};
  for (auto& peer : peers)
    rows.push_back({nameOf(peer, "name"), sizeText(number(peer, "sent_bytes")), sizeText(number(peer, "received_bytes")),
                    connectionState(peer, !listen.empty())});
  return out + tableText(rows);
}

std::string memberLine(const json& member) {
  std::string out;
  auto add = [&](const std::string& part) { out += (out.empty() ? "" : ", ") + part; };
  add(flag(member, "connected") ? "connected" : "not connected");
  if (flag(member, "consensus")) add("in step");
  if (auto n = number(member, "behind_changes")) add("lacks " + countText(n, "change", "changes") + " of ours");
  if (auto n = number(member, "ahead_changes")) add("has " + countText(n, "change", "changes") + " that we lack");
  if (auto n = number(member, "missing_files")) add("still fetches " + filesAndBytes(n, number(member, "missing_bytes")));
  if (flag(member, "settling")) add("reading local changes");
  if (auto detail = nameOf(member, "detail"); !detail.empty() && !flag(member, "consensus")) add(detail);
  return out;
}

/// Two forms of one letter look the same: with the bytes where they are not ASCII.
std::string nameAndBytes(const std::string& name) {
  static const char digits[] = "0123456789abcdef";
  std::string bytes;
  for (char c : name) {
    if (uint8_t(c) < 0x80) bytes += c;
    else bytes += {'\\', 'x', digits[uint8_t(c) >> 4], digits[uint8_t(c) & 15]};
  }
  const std::string text = nameText(name, false);
  return bytes == name ? text : text + " (" + nameText(bytes, false) + ")";
}

std::string alikeText(const json& arena) {
  const uint64_t count = number(arena, "alike_count");
  if (count == 0) return "";
  std::string out = "  names that are one where neither case nor Unicode form counts, as on macOS and Windows; rename one of them:\n";
  size_t told = 0;
  for (auto& group : arena.at("alike_names")) {
    if (told++ == kShownProblems) break;
    std::string line;
    for (auto& path : group) line += (line.empty() ? "    " : "  ") + nameOf(arena, "name") + ":" + nameAndBytes(path.get<std::string>());
    out += line + "\n";
  }
  return count > kShownProblems ? out + "    ... " + std::to_string(count) + " in all; 'realize status --json' has more\n" : out;
}

/// With the colon that ends it; that of the arena's name alone is enough.
std::string pathIn(const std::string& arena, const std::string& path) { return path.empty() ? arena + ":" : arena + ":" + path + ":"; }

std::string arenaText(const json& arena) {
  std::string name = nameOf(arena, "name");
  std::string folder = nameOf(arena, "folder");
  std::string out = "arena " + name + (folder.empty() ? ", without a folder" : ", " + folder) + "\n";
  auto line = [&](const std::string& text) { out += "  " + text + "\n"; };

  if (flag(arena, "suspended")) line("SUSPENDED: " + nameOf(arena, "suspended_why"));
  line(filesAndBytes(number(arena, "files"), number(arena, "bytes")) + " in " +
       countText(number(arena, "directories"), "folder", "folders") +
       (number(arena, "symlinks") ? ", " + countText(number(arena, "symlinks"), "symlink", "symlinks") : "") + "; real here: " +
       filesAndBytes(number(arena, "real_files"), number(arena, "real_bytes")) + "; cached " +
       sizeText(number(arena, "cached_bytes")));
  if (flag(arena, "scanning")) line("scanning: " + countText(number(arena, "scanned_entries"), "entry", "entries") + " so far");
  if (flag(arena, "settling")) line("local changes are waiting to be read");
  std::string why = nameOf(arena, "consensus_why");
  line(flag(arena, "consensus") ? "in consensus" : "not in consensus" + (why.empty() ? "" : ": " + why));
  if (auto n = number(arena, "missing_files"))
    line("marked real, not here yet: " + filesAndBytes(n, number(arena, "missing_bytes")));
  if (auto n = number(arena, "unconfirmed_files"))
    line("marked unreal, still real here: " + filesAndBytes(n, number(arena, "unconfirmed_bytes")));
  for (auto& file : arena.value("stays_real", json::array()))
    line("  " + name + ":" + nameOf(file, "path") + ": " + nameOf(file, "detail"));
  if (number(arena, "unconfirmed_files") > kStaysRealTold) line("  ... 'realize stat PATH' says it of each");
  if (auto n = number(arena, "copies"); n > 1) {
    const uint64_t below = number(arena, "files_below_copies");
    line(!flag(arena, "copies_counted") ? "copies: being counted"
         : below ? "copies: " + countText(below, "file has", "files have") + " fewer than " + std::to_string(n) + ", as connected peers say"
                 : "copies: every file has " + std::to_string(n));
    for (auto& path : arena.value("first_below_copies", json::array())) line("  " + name + ":" + nameText(path.get<std::string>(), false));
  }
  if (auto n = number(arena, "conflicts"))
    line(countText(n, "conflict", "conflicts") + ": see 'realize conflicts " + name + "', or the folder conflicts in a mount");
  if (auto n = number(arena, "held_removals"))
    line("held back: the removal of " + countText(n, "entry", "entries") + "; 'realize confirm " + name +
         "' lets it happen, with --keep brings them back");
  if (auto n = number(arena, "held_overwrites"))
    line("held back: the new contents of " + countText(n, "file", "files") + "; 'realize confirm " + name +
         "' takes them, with --keep brings the old ones back");
  std::vector<std::vector<std::string>> rows;
  for (auto& member : arena.value("members", json::array()))
    if (!flag(member, "self")) rows.push_back({"  peer " + nameOf(member, "name"), memberLine(member)});
  out += tableText(rows);
  for (auto& mount : arena.value("mounts", json::array())) line("mounted at " + nameText(mount.get<std::string>(), false));

  out += alikeText(arena);
  auto& problems = arena.at("problems");
  uint64_t count = std::max<uint64_t>(number(arena, "problem_count"), problems.size());
  if (count > 0) line(countText(count, "problem", "problems") + ":");
  for (size_t i = 0; i < problems.size() && i < kShownProblems; ++i)
    line("  " + pathIn(name, nameOf(problems[i], "path")) + " " + nameOf(problems[i], "kind") + ": " + nameOf(problems[i], "detail"));
  if (count > kShownProblems) line("  ... 'realize status --json' has more");
  return out;
}

}  // namespace

std::string statusText(const json& status, bool household) {
  std::string out;
  if (household) out = peersText(status);
  for (auto& arena : status.at("arenas")) {
    if (!out.empty()) out += "\n";
    out += arenaText(arena);
  }
  if (!household) return out;
  if (status.at("arenas").empty()) out += "\nno arenas yet: 'realize arena create NAME DIR' or 'realize arena join NAME [DIR]'\n";
  std::string offered;
  for (auto& name : status.value("offered_arenas", json::array()))
    offered += (offered.empty() ? "" : ", ") + nameText(name.get<std::string>(), false);
  if (!offered.empty()) out += "\nto be joined: " + offered + "\n";
  return out;
}

}  // namespace realize::cli
