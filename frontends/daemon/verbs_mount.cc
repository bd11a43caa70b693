#include <nlohmann/json.hpp>

#include "frontends/daemon/verbs.h"

namespace realize::daemon {

using nlohmann::json;

namespace {

Result<json> mount(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("arena"));
  REALIZE_ASSIGN(std::string mountPoint, args.text("mount_point"));
  REALIZE_ASSIGN(auto options, args.texts("options"));
  REALIZE_TRY(findArena(context, name));
  REALIZE_TRY(context.mounts.mount(withoutColon(name), mountPoint, options));
  return json::object();
}

Result<json> unmount(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string mountPoint, args.text("mount_point"));
  REALIZE_TRY(context.mounts.unmount(mountPoint));
  return json::object();
}

Result<json> mountList(VerbContext& context, const Args&) {
  json out = {{"mounts", json::array()}};
  for (auto& info : context.mounts.list()) {
    json item = json::object();
    putText(item, "arena", info.arena);
    putText(item, "mount_point", info.mountPoint);
    out["mounts"].push_back(std::move(item));
  }
  return out;
}

/// Answers when the mount is over: for `realize-mount -f`.
Result<json> mountWait(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string mountPoint, args.text("mount_point"));
  constexpr int64_t kSliceMs = 500;
  while (!context.mounts.waitEnded(mountPoint, kSliceMs))
    if (!context.reply.wanted()) return Error{Code::Cancelled, "the daemon is stopping"};
  return json::object();
}

constexpr Verb kVerbs[] = {
    {"mount", mount}, {"unmount", unmount}, {"mount-list", mountList}, {"mount-wait", mountWait},
};

}  // namespace

std::span<const Verb> mountVerbs() { return kVerbs; }

}  // namespace realize::daemon
