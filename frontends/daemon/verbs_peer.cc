#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>

#include "frontends/daemon/control_socket.h"
#include "frontends/daemon/json_forms.h"
#include "frontends/daemon/verbs.h"

namespace realize::daemon {

using nlohmann::json;

namespace {

/// The newest events are kept for a reader who cannot keep up; it is told how many were lost.
constexpr size_t kEventQueueLimit = 4096;

Result<json> status(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string only, args.textOr("arena", ""));
  if (!only.empty()) REALIZE_TRY(findArena(context, only));
  PeerStatus status = context.peer.status();
  if (!only.empty()) std::erase_if(status.arenas, [&](auto& arena) { return arena.name != withoutColon(only); });
  for (auto& lost : context.mounts.lost()) {
    const std::string point = printable(lost.mount.mountPoint), arena = printable(lost.mount.arena);
    status.problems.push_back({"", "mount-lost",
                               point + " (arena '" + arena + "') was mounted when the daemon was killed, and could not be mounted again: " +
                                   lost.why + "; 'realize-mount " + arena + " " + point + "' tries it, 'realize-mount -u " + point +
                                   "' gives it up"});
  }
  json out = toJson(status);
  if (only.empty()) {
    out["offered_arenas"] = json::array();
    for (auto& name : context.peer.offeredArenas()) out["offered_arenas"].push_back(printable(name));
  }
  return out;
}

Result<json> stop(VerbContext& context, const Args&) {
  context.stopAfterwards = true;
  return json{{"pid", static_cast<int64_t>(getpid())}};
}

Result<json> invite(VerbContext& context, const Args& args) {
  InviteOptions options;
  constexpr int64_t kYearMs = 366LL * 24 * 3600 * 1000;
  REALIZE_ASSIGN(options.lifetimeMs, args.integer("lifetime_ms", options.lifetimeMs, 1, kYearMs));
  REALIZE_ASSIGN(options.allArenas, args.flag("all_arenas", true));
  REALIZE_ASSIGN(options.arenas, args.texts("arenas"));
  for (auto& name : options.arenas) REALIZE_TRY(findArena(context, name));
  REALIZE_ASSIGN(std::string code, context.peer.invite(options));
  return json{{"code", code}};
}

Result<json> join(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string code, args.text("code"));
  REALIZE_ASSIGN(auto arenas, context.peer.join(code));
  json out = {{"arenas", json::array()}};
  for (auto& name : arenas) out["arenas"].push_back(printable(name));
  return out;
}

Result<json> peerList(VerbContext& context, const Args&) {
  json out = {{"peers", json::array()}};
  PeerStatus status = context.peer.status();
  for (auto& peer : context.peer.peers()) {
    json item = toJson(peer);
    for (auto& connection : status.peers)
      if (connection.peer.key == peer.key) item = toJson(connection);
    out["peers"].push_back(std::move(item));
  }
  return out;
}

Result<json> peerAdd(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("name"));
  REALIZE_ASSIGN(std::string key, args.text("key"));
  REALIZE_ASSIGN(std::string address, args.textOr("address", ""));
  REALIZE_TRY(context.peer.addPeer(name, key, address));
  return json::object();
}

Result<json> peerRemove(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string name, args.text("name"));
  REALIZE_TRY(context.peer.removePeer(name));
  return json::object();
}

Result<json> config(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string arena, args.textOr("arena", ""));
  arena = withoutColon(arena);
  if (!arena.empty()) REALIZE_TRY(findArena(context, arena));
  REALIZE_ASSIGN(std::string name, args.textOr("name", ""));
  const auto names = context.peer.arenaNames();
  if (arena.empty() && std::find(names.begin(), names.end(), name) != names.end())
    return Error{Code::InvalidArgument, name + ": is an arena; its settings follow a colon: 'realize config " + name + ":'"};
  if (args.has("value")) {
    REALIZE_ASSIGN(std::string value, args.text("value"));
    REALIZE_TRY(context.peer.set(arena, name, value));
  }
  json out = {{"settings", json::array()}};
  for (auto& setting : context.peer.settings(arena))
    if (name.empty() || setting.name == name) out["settings"].push_back(toJson(setting));
  if (!name.empty() && out["settings"].empty()) {
    for (auto& setting : names.empty() || !arena.empty() ? std::vector<Setting>() : context.peer.settings(names.front()))
      if (setting.name == name)
        return Error{Code::NotFound, name + ": is a setting of an arena: 'realize config ARENA: " + name + "'"};
    return Error{Code::NotFound, name + ": no such setting; 'realize config" +
                                     (arena.empty() ? std::string() : " " + arena + ":") + "' lists them"};
  }
  return out;
}

/// Takes events from the library's thread to the client's: bounded, never blocking the former.
class EventQueue {
 public:
  EventQueue() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  void push(const Event& event) {
    {
      std::lock_guard lock(mutex_);
      if (events_.size() >= kEventQueueLimit) {
        events_.pop_front();
        ++lost_;
      }
      events_.push_back(event);
    }
    uint64_t one = 1;
    [[maybe_unused]] ssize_t n = write(wake_.get(), &one, sizeof one);
  }

  std::deque<Event> take(uint64_t& lost) {
    uint64_t count = 0;
    [[maybe_unused]] ssize_t n = read(wake_.get(), &count, sizeof count);
    std::lock_guard lock(mutex_);
    lost = std::exchange(lost_, 0);
    return std::exchange(events_, {});
  }

  int descriptor() const { return wake_.get(); }

 private:
  Fd wake_;
  std::mutex mutex_;
  std::deque<Event> events_;
  uint64_t lost_ = 0;
};

/// Until the client leaves, unless `limit` events were wanted.
Result<json> watch(VerbContext& context, const Args& args) {
  REALIZE_ASSIGN(std::string only, args.textOr("arena", ""));
  only = withoutColon(only);
  if (!only.empty()) REALIZE_TRY(findArena(context, only));
  REALIZE_ASSIGN(int64_t limit, args.integer("limit", 0, 0, INT64_MAX));
  auto queue = std::make_shared<EventQueue>();
  auto token = context.peer.subscribe([queue, only](const Event& event) {
    if (only.empty() || event.arena == only) queue->push(event);
  });
  // Says that from here on nothing is missed.
  if (!context.reply.event({{"type", "watching"}, {"arena", printable(only)}})) return Error{Code::Cancelled, "gone"};
  int64_t sent = 0;
  while (context.reply.wanted()) {
    // POLLRDHUP also wakes for a half-closed client, who then would make this loop spin: ask for HUP and ERR only.
    pollfd entries[] = {{queue->descriptor(), POLLIN, 0}, {context.reply.descriptor(), 0, 0}};
    constexpr int kStopCheckMs = 1000;
    poll(entries, 2, kStopCheckMs);
    uint64_t lost = 0;
    auto events = queue->take(lost);
    if (lost > 0 && !context.reply.event({{"type", "lost"}, {"count", lost}})) break;
    for (auto& event : events) {
      if (!context.reply.event(toJson(event))) return Error{Code::Cancelled, "gone"};
      if (limit > 0 && ++sent == limit) return json{{"events", sent}};
    }
  }
  return Error{Code::Cancelled, "the daemon is stopping"};
}

Result<json> ping(VerbContext& context, const Args&) {
  auto self = context.peer.self();
  json out = toJson(self);
  out["pid"] = static_cast<int64_t>(getpid());
  return out;
}

constexpr Verb kVerbs[] = {
    {"ping", ping},          {"status", status},        {"stop", stop},
    {"invite", invite},      {"join", join},            {"peer-list", peerList},
    {"peer-add", peerAdd},   {"peer-remove", peerRemove}, {"config", config},
    {"watch", watch},
};

}  // namespace

std::span<const Verb> peerVerbs() { return kVerbs; }

}  // namespace realize::daemon
