#include <algorithm>
#include <nlohmann/json.hpp>

#include "frontends/daemon/json_forms.h"
#include "frontends/daemon/verbs.h"

namespace realize::daemon {

using nlohmann::json;

namespace {

constexpr size_t kBatch = 500;

Result<void> send(VerbContext& context, const std::string& arena, const std::vector<UndoItem>& items) {
  for (size_t at = 0; at < items.size(); at += kBatch) {
    json batch = json::array();
    for (size_t i = at; i < std::min(items.size(), at + kBatch); ++i) {
      json form = toJson(items[i]);
      putText(form, "arena", arena);
      batch.push_back(std::move(form));
    }
    if (!context.reply.items(batch)) return gone();
  }
  return {};
}

/// What took something away lately; newest first, of each arena.
Result<json> undoList(VerbContext& context, const Args& args) {
  constexpr int64_t kMostItems = 1'000'000;
  REALIZE_ASSIGN(int64_t since, args.integer("since_ns", 0, 0, INT64_MAX));
  REALIZE_ASSIGN(int64_t limit, args.integer("limit", 50, 1, kMostItems));
  uint64_t count = 0;
  for (auto& name : context.peer.arenaNames()) {
    REALIZE_ASSIGN(auto arena, context.peer.arena(name));
    REALIZE_ASSIGN(auto items, arena->undoable("", since, static_cast<size_t>(limit)));
    REALIZE_TRY(send(context, name, items));
    count += items.size();
  }
  return json{{"count", count}};
}

Result<json> undo(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string text, args.text("path"));
  REALIZE_ASSIGN(FoundPath place, findPath(context, text));
  UndoRequest request;
  request.path = place.path;
  REALIZE_ASSIGN(request.sinceNs, args.integer("since_ns", 0, 0, INT64_MAX));
  REALIZE_ASSIGN(int64_t change, args.integer("change", 0, 0, INT64_MAX));
  request.change = static_cast<uint64_t>(change);
  REALIZE_ASSIGN(bool dryRun, args.flag("dry_run", false));
  bool left = false;
  auto undone = place.arena->undo(request, dryRun, [&](const Progress& progress) {
    if (!left) left = !context.reply.progress(toJson(progress));
    return !left;
  });
  if (left) return gone();
  REALIZE_ASSIGN(auto report, std::move(undone));
  REALIZE_TRY(send(context, place.arenaName, report.items));
  return json{{"restored", report.restored}, {"left", report.left}, {"dry_run", dryRun}};
}

constexpr Verb kVerbs[] = {{"undo-list", undoList}, {"undo", undo}};

}  // namespace

std::span<const Verb> undoVerbs() { return kVerbs; }

}  // namespace realize::daemon
