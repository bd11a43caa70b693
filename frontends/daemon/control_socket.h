#pragma once

// Unix sockets of the control channel, and lines read from them with a bound.

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "realize/result.h"

namespace realize::daemon {

/// A descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release();
  void reset();

 private:
  int fd_ = -1;
};

/// Binds and listens on `stateDir`/socket (mode 0600), replacing a socket file left by a killed daemon: whoever calls
/// this holds the lock of the state folder. Works for paths longer than sun_path.
Result<Fd> listenControl(const std::string& stateDir);

/// Connects to `stateDir`/socket. Errors: NotRunning.
Result<Fd> connectControl(const std::string& stateDir);

/// Who is at the other end of a unix socket.
struct PeerIdentity {
  uid_t uid = 0;
  pid_t pid = 0;
};
Result<PeerIdentity> peerIdentity(int fd);

/// Only the owner of the daemon and root may command it.
bool mayCommand(uid_t client, uid_t daemon);

/// Sends everything or says why not (Cancelled: the other end is gone). Never raises SIGPIPE.
Result<void> sendAll(int fd, std::string_view bytes);

/// True once the other end has closed, without waiting and without taking bytes.
bool hungUp(int fd);

/// Reads lines and raw bytes from a stream socket. Thread: one at a time. Lifetime: does not own `fd`.
class LineReader {
 public:
  LineReader(int fd, size_t maxLineBytes) : fd_(fd), maxLineBytes_(maxLineBytes) {}
  /// The next line without its newline; nothing at the end of the stream (a last line without newline is dropped).
  /// Errors: TooLarge (the stream is useless then), Cancelled (a signal arrived), Io.
  Result<std::optional<std::string>> line();
  /// Exactly `dst.size()` bytes. Errors: Io, also when the stream ends before.
  Result<void> raw(std::span<std::byte> dst);

 private:
  Result<size_t> fill();

  int fd_;
  size_t maxLineBytes_;
  std::string buffer_;
  size_t start_ = 0;    ///< of what is not yet consumed
  size_t scanned_ = 0;  ///< no newline between start_ and here
};

}  // namespace realize::daemon
