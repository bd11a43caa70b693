#include "frontends/daemon/verbs.h"

#include <nlohmann/json.hpp>

namespace realize::daemon {

using nlohmann::json;

Result<json> runVerb(VerbContext& context, const Request& request) {
  for (auto verbs : {peerVerbs(), arenaVerbs(), cacheVerbs(), undoVerbs(), fileVerbs(), mountVerbs()})
    for (auto& verb : verbs)
      if (verb.name == request.verb) return verb.run(context, request.args);
  return Error{Code::Unsupported, "this daemon does not know '" + request.verb +
                                      "'; it may be older than the command: 'realize stop' and 'realize serve' it again"};
}

Result<FoundPath> findPath(VerbContext& context, const std::string& text) {
  auto resolved = context.peer.resolvePath(text);
  if (!resolved) {
    Error error = resolved.error();
    // Somebody who typed the arena's name alone meant its root.
    std::string last = text.substr(text.rfind('/') + 1);
    if (error.code == Code::NotFound && context.peer.arena(last)) error.message += "; did you mean '" + last + ":'?";
    return error;
  }
  ArenaPath place = std::move(*resolved);
  REALIZE_ASSIGN(auto arena, context.peer.arena(place.arena));
  return FoundPath{std::move(arena), std::move(place.arena), std::move(place.path)};
}

std::string withoutColon(std::string name) {
  if (!name.empty() && name.back() == ':') name.pop_back();
  return name;
}

Result<std::shared_ptr<Arena>> findArena(VerbContext& context, const std::string& text) {
  std::string name = withoutColon(text);
  auto arena = context.peer.arena(name);
  if (arena || arena.code() != Code::NotFound) return arena;
  std::string known;
  for (auto& other : context.peer.arenaNames()) known += (known.empty() ? "" : ", ") + other;
  return Error{Code::NotFound, name + ": no arena of this name here; " +
                                   (known.empty() ? "there are none yet: 'realize arena create' or 'realize arena join'"
                                                  : "there are: " + known)};
}

}  // namespace realize::daemon
