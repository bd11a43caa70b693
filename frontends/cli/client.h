#pragma once

// The commands' side of the control socket.

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "frontends/daemon/control_socket.h"
#include "realize/result.h"

namespace realize::cli {

/// What arrives before a result. An empty function ignores its part.
struct ReplyHandlers {
  std::function<void(const nlohmann::json&)> progress;
  std::function<void(const nlohmann::json&)> event;
  std::function<void(const nlohmann::json&)> items;
  /// False ends the call with Cancelled.
  std::function<bool(std::span<const std::byte>)> raw;
};

/// One connection; one call at a time. Thread: one.
class Client {
 public:
  /// Errors: NotRunning, PermissionDenied.
  static Result<std::unique_ptr<Client>> connect(const std::string& stateDir);

  /// Errors: what the daemon answers; NotRunning when it ends in the middle; Cancelled (a signal).
  Result<nlohmann::json> call(const std::string& verb, const nlohmann::json& args, const ReplyHandlers& handlers);
  Result<nlohmann::json> call(const std::string& verb, const nlohmann::json& args);

  int descriptor() const { return fd_.get(); }

 private:
  explicit Client(daemon::Fd fd);
  daemon::Fd fd_;
  daemon::LineReader reader_;
  uint64_t lastId_ = 0;
};

}  // namespace realize::cli
