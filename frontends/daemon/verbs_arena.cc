#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "frontends/daemon/json_forms.h"
#include "frontends/daemon/verbs.h"

namespace realize::daemon {

using nlohmann::json;

namespace {

/// Entries in one line of a long list.
constexpr size_t kBatch = 500;

Result<json> arenaCreate(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("name"));
  REALIZE_ASSIGN(std::string folder, args.text("folder"));
  if (name.empty() || name.find_first_of("/:") != std::string::npos)
    return Error{Code::InvalidArgument, name + ": an arena's name must not be empty nor contain '/' or ':'"};
  for (auto& mount : context.mounts.list())
    if (pathsOverlap(folder, mount.mountPoint))
      return Error{Code::Refused, folder + ": overlaps the mount of arena '" + mount.arena + "' at " + mount.mountPoint};
  REALIZE_TRY(context.peer.createArena(name, folder));
  return json::object();
}

Result<json> arenaJoin(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("name"));
  REALIZE_ASSIGN(std::string folder, args.textOr("folder", ""));
  for (auto& mount : context.mounts.list())
    if (pathsOverlap(folder, mount.mountPoint))
      return Error{Code::Refused, folder + ": overlaps the mount of arena '" + mount.arena + "' at " + mount.mountPoint};
  REALIZE_TRY(context.peer.joinArena(withoutColon(name), folder));
  return json::object();
}

Result<json> arenaAdmit(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("name"));
  REALIZE_ASSIGN(std::string peer, args.text("peer"));
  REALIZE_TRY(findArena(context, name));
  REALIZE_TRY(context.peer.admit(withoutColon(name), peer));
  return json::object();
}

Result<json> arenaWithdraw(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("name"));
  REALIZE_ASSIGN(std::string peer, args.text("peer"));
  REALIZE_TRY(findArena(context, name));
  REALIZE_TRY(context.peer.withdraw(withoutColon(name), peer));
  return json::object();
}

Result<json> arenaLeave(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("name"));
  REALIZE_ASSIGN(bool force, args.flag("force", false));
  REALIZE_TRY(findArena(context, name));
  // Its mounts would only give errors afterwards; one that is in use says Busy here, before anything is lost.
  auto mounts = context.mounts.list();
  std::erase_if(mounts, [&](const MountInfo& mount) { return mount.arena != withoutColon(name); });
  REALIZE_TRY(context.mounts.unmountAll(withoutColon(name)));
  const auto left = context.peer.leaveArena(withoutColon(name), force);
  if (!left) {
    // Refused: all is as it was.
    for (const auto& mount : mounts) {
      auto again = context.mounts.mount(mount.arena, mount.mountPoint, mount.options);
      (void)again;  // What is told is why it cannot be left.
    }
    return left.error();
  }
  const auto& lost = *left;
  json out = {{"lost", json::array()}};
  for (const auto& path : lost) {
    json item = json::object();
    putText(item, "path", path);
    out["lost"].push_back(std::move(item));
  }
  return out;
}

Result<json> arenaList(VerbContext& context, const Args&) {
  json out = {{"arenas", json::array()}, {"offered_arenas", json::array()}};
  for (auto& name : context.peer.arenaNames()) {
    json item = json::object();
    putText(item, "name", name);
    if (auto arena = context.peer.arena(name)) {
      item["id"] = (*arena)->id().hex();
      putText(item, "folder", (*arena)->folder());
    }
    out["arenas"].push_back(std::move(item));
  }
  for (auto& name : context.peer.offeredArenas()) out["offered_arenas"].push_back(printable(name));
  return out;
}

Result<json> arenaRescan(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("name"));
  REALIZE_ASSIGN(auto arena, findArena(context, name));
  REALIZE_TRY(arena->rescan());
  return json::object();
}

/// Asks in slices, so that a client who leaves and a daemon that stops need not wait for the end of the time.
Result<json> wait(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("arena"));
  constexpr int64_t kMonthMs = 31LL * 24 * 3600 * 1000;
  constexpr int64_t kSliceMs = 1000;
  REALIZE_ASSIGN(int64_t timeoutMs, args.integer("timeout_ms", 60'000, 0, kMonthMs));
  REALIZE_TRY(findArena(context, name));
  using Clock = std::chrono::steady_clock;
  auto deadline = Clock::now() + std::chrono::milliseconds(timeoutMs);
  while (true) {
    int64_t left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    REALIZE_ASSIGN(WaitOutcome outcome, context.peer.wait(withoutColon(name), std::clamp<int64_t>(left, 0, kSliceMs)));
    json missing = json::array();
    for (auto& line : outcome.missing) missing.push_back(printable(line));
    if (outcome.reached || left <= kSliceMs)
      return json{{"reached", outcome.reached}, {"missing", outcome.reached ? json::array() : missing}};
    if (!context.reply.progress({{"missing", missing}})) return gone();
  }
}

Result<json> conflicts(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.textOr("arena", ""));
  uint64_t count = 0;
  std::vector<std::string> names = context.peer.arenaNames();
  if (!name.empty()) {
    REALIZE_TRY(findArena(context, name));
    names = {withoutColon(name)};
  }
  for (auto& each : names) {
    REALIZE_ASSIGN(auto arena, context.peer.arena(each));
    REALIZE_ASSIGN(auto entries, arena->conflicts());
    count += entries.size();
    json batch = json::array();
    for (auto& entry : entries) {
      json item = toJson(entry);
      putText(item, "arena", each);
      batch.push_back(std::move(item));
      if (batch.size() < kBatch) continue;
      if (!context.reply.items(batch)) return gone();
      batch.clear();
    }
    if (!batch.empty() && !context.reply.items(batch)) return gone();
  }
  return json{{"count", count}};
}

Result<json> confirm(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("arena"));
  REALIZE_ASSIGN(bool keep, args.flag("keep", false));
  REALIZE_ASSIGN(auto arena, findArena(context, name));
  REALIZE_ASSIGN(uint64_t count, arena->confirm(keep));
  return json{{"entries", count}};
}

Result<json> verify(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string only, args.textOr("arena", ""));
  std::vector<std::string> names = context.peer.arenaNames();
  if (!only.empty()) {
    REALIZE_TRY(findArena(context, only));
    names = {withoutColon(only)};
  }
  json arenas = json::array();
  bool whole = true;
  for (auto& name : names) {
    REALIZE_ASSIGN(auto arena, context.peer.arena(name));
    bool left = false;
    auto report = arena->verify([&](const Progress& progress) {
      json form = toJson(progress);
      putText(form, "arena", name);
      if (!left) left = !context.reply.progress(form);
      return !left;
    });
    if (left) return gone();
    if (!report.ok()) return report.error();
    whole = whole && report->whole();
    json form = toJson(*report);
    putText(form, "arena", name);
    arenas.push_back(std::move(form));
  }
  return json{{"whole", whole}, {"arenas", arenas}};
}

Result<json> history(VerbContext& context, const Args& args) {
  constexpr int64_t kMostItems = 1'000'000;
  REALIZE_ASSIGN(int64_t limit, args.integer("limit", 50, 1, kMostItems));
  std::vector<std::pair<std::string, std::vector<HistoryItem>>> found;
  if (args.has("path")) {
    REALIZE_ASSIGN(std::string text, args.text("path"));
    REALIZE_ASSIGN(FoundPath place, findPath(context, text));
    REALIZE_ASSIGN(auto items, place.arena->history(place.path, static_cast<size_t>(limit)));
    // What was never there has no history; what is gone may have.
    if (items.empty() && !place.path.empty()) REALIZE_TRY(place.arena->stat(place.path));
    found.emplace_back(place.arenaName, std::move(items));
  } else {
    for (auto& name : context.peer.arenaNames()) {
      REALIZE_ASSIGN(auto arena, context.peer.arena(name));
      REALIZE_ASSIGN(auto items, arena->history("", static_cast<size_t>(limit)));
      found.emplace_back(name, std::move(items));
    }
  }
  std::vector<std::pair<int64_t, json>> all;
  for (auto& [name, items] : found)
    for (auto& item : items) {
      json form = toJson(item);
      putText(form, "arena", name);
      all.emplace_back(item.whenNs, std::move(form));
    }
  // Each arena's came newest first; keep that order among equals.
  std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.first > b.first; });
  if (all.size() > static_cast<size_t>(limit)) all.resize(static_cast<size_t>(limit));
  for (size_t i = 0; i < all.size(); i += kBatch) {
    json batch = json::array();
    for (size_t j = i; j < std::min(all.size(), i + kBatch); ++j) batch.push_back(std::move(all[j].second));
    if (!context.reply.items(batch)) return gone();
  }
  return json{{"count", all.size()}};
}

constexpr Verb kVerbs[] = {
    {"arena-create", arenaCreate}, {"arena-join", arenaJoin}, {"arena-admit", arenaAdmit}, {"arena-withdraw", arenaWithdraw},
    {"arena-leave", arenaLeave},   {"arena-list", arenaList}, {"arena-rescan", arenaRescan},
    {"wait", wait},                {"conflicts", conflicts},  {"confirm", confirm},
    {"verify", verify},            {"history", history},
};

}  // namespace

std::span<const Verb> arenaVerbs() { return kVerbs; }

}  // namespace realize::daemon
