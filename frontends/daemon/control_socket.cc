#include "frontends/daemon/control_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace realize::daemon {

namespace {

constexpr char kSocketName[] = "socket";
constexpr int kBacklog = 64;

Error systemError(const std::string& what) {
  return {Code::Io, what + ": " + std::strerror(errno)};
}

/// The address of `stateDir`/socket. A path beyond sun_path goes through the folder's descriptor, which `folder`
/// must keep open until bind or connect is done.
Result<sockaddr_un> addressOf(const std::string& stateDir, Fd& folder) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = stateDir + "/" + kSocketName;
  if (path.size() >= sizeof address.sun_path) {
    folder = Fd(open(stateDir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return systemError(stateDir);
    path = "/proc/self/fd/" + std::to_string(folder.get()) + "/" + kSocketName;
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int Fd::release() { return std::exchange(fd_, -1); }

void Fd::reset() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

Result<Fd> listenControl(const std::string& stateDir) {
  Fd folder;
  REALIZE_ASSIGN(sockaddr_un address, addressOf(stateDir, folder));
  Fd socketFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socketFd) return systemError("cannot make a control socket");
  if (unlink(address.sun_path) != 0 && errno != ENOENT) return systemError(stateDir + "/socket cannot be replaced");
  if (bind(socketFd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return systemError(stateDir + "/socket");
  // Nobody can connect before listen(), so there is no moment with wider permissions.
  if (chmod(address.sun_path, 0600) != 0) return systemError(stateDir + "/socket");
  if (listen(socketFd.get(), kBacklog) != 0) return systemError(stateDir + "/socket");
  return socketFd;
}

Result<Fd> connectControl(const std::string& stateDir) {
  Fd folder;
  auto address = addressOf(stateDir, folder);
  if (!address)
    return Error{Code::NotRunning, stateDir + ": no realize peer here; make one with 'realize init'"};
  Fd socketFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socketFd) return systemError("cannot make a socket");
  if (connect(socketFd.get(), reinterpret_cast<sockaddr*>(&*address), sizeof *address) != 0) {
    if (errno == EACCES || errno == EPERM)
      return Error{Code::PermissionDenied, stateDir + "/socket: only the owner of the daemon and root may command it"};
    if (errno == ENOENT && access((stateDir + "/peer.db").c_str(), F_OK) != 0)
      return Error{Code::NotRunning, stateDir + ": no realize peer here; make one with 'realize init'"};
    if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR)
      return Error{Code::NotRunning, "no daemon is running for " + stateDir + "; start it with 'realize serve --detach'"};
    return systemError(stateDir + "/socket");
  }
  return socketFd;
}

Result<PeerIdentity> peerIdentity(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return systemError("cannot tell who is at the control socket");
  return PeerIdentity{credentials.uid, credentials.pid};
}

bool mayCommand(uid_t client, uid_t daemon) { return client == daemon || client == 0; }

Result<void> sendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EPIPE || errno == ECONNRESET) return Error{Code::Cancelled, "the other end has gone"};
      return systemError("control socket");
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

bool hungUp(int fd) {
  // Not POLLRDHUP: a script may close its sending half and still wait for the answer.
  pollfd entry{fd, 0, 0};
  if (poll(&entry, 1, 0) <= 0) return false;
  return (entry.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

Result<size_t> LineReader::fill() {
  if (start_ > 0) {
    buffer_.erase(0, start_);
    scanned_ -= start_;
    start_ = 0;
  }
  size_t old = buffer_.size();
  constexpr size_t kStepBytes = 64 << 10;
  buffer_.resize(old + kStepBytes);
  ssize_t n = recv(fd_, buffer_.data() + old, kStepBytes, 0);
  int failure = errno;
  buffer_.resize(old + static_cast<size_t>(std::max<ssize_t>(n, 0)));
  if (n >= 0) return static_cast<size_t>(n);
  if (failure == EINTR) return Error{Code::Cancelled, "interrupted"};
  if (failure == ECONNRESET) return size_t{0};
  return Error{Code::Io, std::string("control socket: ") + std::strerror(failure)};
}

Result<std::optional<std::string>> LineReader::line() {
  while (true) {
    size_t end = buffer_.find('\n', scanned_);
    size_t length = (end == std::string::npos ? buffer_.size() : end) - start_;
    if (length > maxLineBytes_) return Error{Code::TooLarge, "a line is longer than allowed"};
    if (end != std::string::npos) {
      std::string line = buffer_.substr(start_, length);
      start_ = scanned_ = end + 1;
      return std::optional<std::string>(std::move(line));
    }
    scanned_ = buffer_.size();
    REALIZE_ASSIGN(size_t got, fill());
    if (got == 0) return std::optional<std::string>();
  }
}

Result<void> LineReader::raw(std::span<std::byte> dst) {
  size_t held = std::min(dst.size(), buffer_.size() - start_);
  std::memcpy(dst.data(), buffer_.data() + start_, held);
  start_ += held;
  scanned_ = std::max(scanned_, start_);
  dst = dst.subspan(held);
  while (!dst.empty()) {
    ssize_t n = recv(fd_, dst.data(), dst.size(), 0);
    if (n == 0) return Error{Code::Io, "the daemon went away in the middle of an answer"};
    if (n < 0) {
      if (errno == EINTR) continue;
      return systemError("control socket");
    }
    dst = dst.subspan(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace realize::daemon
