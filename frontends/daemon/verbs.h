#pragma once

// What the control socket can be asked. Each verb is one function over the public API (PROTOCOL.md lists them).

#include <atomic>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "frontends/daemon/control_protocol.h"
#include "frontends/daemon/mount_table.h"
#include "realize/peer.h"

namespace realize::daemon {

/// What a verb can say before its result, each as one line. All return false once the client has gone or the daemon is
/// stopping: then the verb should end, with Cancelled.
class Reply {
 public:
  virtual ~Reply() = default;
  virtual bool progress(const nlohmann::json& value) = 0;
  virtual bool event(const nlohmann::json& value) = 0;
  /// Part of a long list, an array.
  virtual bool items(const nlohmann::json& values) = 0;
  virtual bool raw(std::span<const std::byte> bytes) = 0;
  /// Asks without saying anything.
  virtual bool wanted() = 0;
  /// The client's socket, to wait for its end beside something else.
  virtual int descriptor() const = 0;
};

struct VerbContext {
  Peer& peer;
  MountTable& mounts;
  Reply& reply;
  /// Set by `stop`: the daemon ends once the answer is sent.
  bool stopAfterwards = false;
};

using VerbFunction = Result<nlohmann::json> (*)(VerbContext&, const Args&);

struct Verb {
  std::string_view name;
  VerbFunction run;
};

std::span<const Verb> peerVerbs();   ///< verbs_peer.cc: status, stop, peers, invites, settings, events
std::span<const Verb> arenaVerbs();  ///< verbs_arena.cc: arenas, waiting, conflicts, history
std::span<const Verb> cacheVerbs();  ///< verbs_cache.cc
std::span<const Verb> undoVerbs();   ///< verbs_undo.cc
std::span<const Verb> fileVerbs();   ///< verbs_files.cc: ls, stat, cat, fetch, mark, resolve
std::span<const Verb> mountVerbs();  ///< verbs_mount.cc

/// Runs a request. Errors: Unsupported for an unknown verb.
Result<nlohmann::json> runVerb(VerbContext& context, const Request& request);

/// The `path` argument (ARENA:path or absolute), resolved, and its arena opened.
struct FoundPath {
  std::shared_ptr<Arena> arena;
  std::string arenaName;
  std::string path;
};
Result<FoundPath> findPath(VerbContext& context, const std::string& text);
/// What a verb ends with once nobody waits for it.
inline Error gone() { return {Code::Cancelled, "the client has gone"}; }

/// The arena of argument `arena`; a colon at its end is dropped. Errors: NotFound, naming those there are.
Result<std::shared_ptr<Arena>> findArena(VerbContext& context, const std::string& name);
std::string withoutColon(std::string name);

}  // namespace realize::daemon
