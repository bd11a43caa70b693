#include <nlohmann/json.hpp>

#include "frontends/daemon/json_forms.h"
#include "frontends/daemon/verbs.h"

namespace realize::daemon {

using nlohmann::json;

namespace {

constexpr char kLimit[] = "cache_limit_bytes";

/// Those that are meant: one, or all.
Result<std::vector<std::string>> chosen(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string only, args.textOr("arena", ""));
  if (only.empty()) return context.peer.arenaNames();
  REALIZE_TRY(findArena(context, only));
  return std::vector{withoutColon(only)};
}

Result<json> cacheShow(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(auto names, chosen(context, args));
  json out = {{"arenas", json::array()}};
  for (auto& name : names) {
    REALIZE_ASSIGN(auto arena, context.peer.arena(name));
    auto status = arena->cacheStatus();
    if (!status.ok() && status.code() == Code::Suspended) continue;
    if (!status.ok()) return status.error();
    json item = toJson(*status);
    REALIZE_ASSIGN(auto whole, arena->status());
    item["bytes"] = whole.bytes;
    putText(item, "name", name);
    out["arenas"].push_back(std::move(item));
  }
  return out;
}

Result<json> cacheShrink(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(int64_t bytes, args.integer("bytes", 0, 0, INT64_MAX));
  REALIZE_ASSIGN(auto names, chosen(context, args));
  uint64_t dropped = 0;
  for (auto& name : names) {
    REALIZE_ASSIGN(auto arena, context.peer.arena(name));
    REALIZE_ASSIGN(uint64_t one, arena->shrinkCache(static_cast<uint64_t>(bytes)));
    dropped += one;
  }
  return json{{"dropped_bytes", dropped}};
}

/// Sets the limit of one arena or, without a name, of all together that have none of their own; 0: none.
Result<json> cacheLimit(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string only, args.textOr("arena", ""));
  REALIZE_ASSIGN(int64_t bytes, args.integer("bytes", 0, 0, INT64_MAX));
  if (!only.empty()) REALIZE_TRY(findArena(context, only));
  REALIZE_TRY(context.peer.set(withoutColon(only), kLimit, std::to_string(bytes)));
  return json{{"limit_bytes", bytes}};
}

constexpr Verb kVerbs[] = {{"cache-show", cacheShow}, {"cache-shrink", cacheShrink}, {"cache-limit", cacheLimit}};

}  // namespace

std::span<const Verb> cacheVerbs() { return kVerbs; }

}  // namespace realize::daemon
