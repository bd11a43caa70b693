#pragma once

// A running peer with its control socket and its mounts: what `realize serve` is.

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "frontends/daemon/control_socket.h"
#include "frontends/daemon/log.h"
#include "frontends/daemon/mount_table.h"
#include "realize/peer.h"

namespace realize::daemon {

/// What the daemon and the commands stand on: the library, or a double of it in tests.
struct Library {
  std::function<Result<void>(const std::string& stateDir, const InitOptions&)> init;
  std::function<Result<std::unique_ptr<Peer>>(const std::string& stateDir)> open;
  MountBackend mount;  ///< may be empty
  /// Takes away a mount that no daemon of ours serves, as a killed one leaves it. May be empty.
  std::function<Result<void>(const std::string& mountPoint)> clearMount;
  std::string version;
};

/// Clients at one time; one more is told Busy.
constexpr size_t kMaxClients = 128;

/// Threads: one a client (bounded), besides the library's and run()'s.
class Daemon {
 public:
  /// Opens the peer (which locks the state folder) and then the socket. `stateDir`: absolute.
  static Result<std::unique_ptr<Daemon>> start(const std::string& stateDir, const Library& library, Log& log);

  /// Serves until requestStop(), the verb `stop`, or a byte to be read from `stopFd` (-1: none). Then unmounts, sends
  /// clients away and closes the peer.
  /// Returns false if some client's call could not be ended: the peer is still open then, and the process should end
  /// without running destructors, as after a crash, which loses nothing.
  bool run(int stopFd);

  /// Thread: any; also from a verb.
  void requestStop();

  ~Daemon();

 private:
  struct Client;

  Daemon(std::string stateDir, Log& log);
  void accept();
  void serve(Client& client);
  void reapClients();
  bool shutDown();
  void wake();
  void logEvent(const Event& event);

  std::string stateDir_;
  Log& log_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<MountTable> mounts_;
  std::shared_ptr<void> events_;
  Fd listener_;
  Fd wake_;  ///< eventfd: something for run() to look at
  std::atomic<bool> stopping_{false};
  std::list<std::unique_ptr<Client>> clients_;  ///< touched by run()'s thread only
};

}  // namespace realize::daemon
