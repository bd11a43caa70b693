#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "frontends/cli/commands.h"
#include "frontends/cli/exit_codes.h"
#include "frontends/daemon/control_protocol.h"

namespace realize::cli {

namespace {

Error systemError(const std::string& what) { return {Code::Io, what + ": " + std::strerror(errno)}; }

/// Blocks the ending signals for all threads to come; they are read from the descriptor instead.
Result<daemon::Fd> endingSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  daemon::Fd fd(signalfd(-1, &signals, SFD_CLOEXEC));
  if (!fd) return systemError("signalfd");
  return fd;
}

/// Open files of a mount are open files here; the soft limit is often a mere 1024.
void raiseOpenFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// Runs a daemon to its end. `up` is told once whether it started.
int serve(const std::string& stateDir, const daemon::Library& library, daemon::Log& log,
          const std::function<void(const Result<void>&)>& up) {
  auto signals = endingSignals();
  if (!signals) {
    up(signals.error());
    return static_cast<int>(Exit::Failed);
  }
  raiseOpenFileLimit();
  auto running = daemon::Daemon::start(stateDir, library, log);
  if (!running) {
    up(running.error());
    return static_cast<int>(exitFor(running.code()));
  }
  up({});
  // See Daemon::run: with a call that cannot be ended, destructors would wait for it.
  if (!(*running)->run(signals->get())) _exit(0);
  return 0;
}

/// What the child reports through the pipe: one line, {} or an error.
void report(int fd, const Result<void>& result) {
  std::string line = daemon::toLine(result ? nlohmann::json::object() : daemon::errorToJson(result.error())) + "\n";
  [[maybe_unused]] ssize_t n = write(fd, line.data(), line.size());
}

[[noreturn]] void runChild(const std::string& stateDir, const daemon::Library& library, daemon::Fd pipeEnd) {
  setsid();
  prctl(PR_SET_NAME, "realize");
  std::string logFile = stateDir + "/log";
  struct stat info {};
  daemon::Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null) dup2(null.get(), 0);
  // Without a state folder that can be written there is no place for a log, and opening the peer says what is missing.
  bool haveFolder = stat(stateDir.c_str(), &info) == 0 && access(stateDir.c_str(), W_OK) == 0;
  if (haveFolder && !daemon::redirectOutput(logFile)) {
    report(pipeEnd.get(), systemError(logFile));
    _exit(static_cast<int>(Exit::Failed));
  }
  if (!haveFolder && null) {
    dup2(null.get(), 1);
    dup2(null.get(), 2);
  }
  [[maybe_unused]] int moved = chdir("/");
  int code = 0;
  {
    daemon::Log log(logFile);
    code = serve(stateDir, library, log, [&](const Result<void>& result) {
      if (!result) log.line("did not start: " + result.error().message);
      report(pipeEnd.get(), result);
      pipeEnd.reset();
    });
  }
  _exit(code);
}

}  // namespace

int serveForeground(const Invocation& invocation) {
  daemon::Log log;
  int failure = 0;
  int code = serve(invocation.stateDir, invocation.library, log, [&](const Result<void>& result) {
    if (!result) failure = fail(invocation, result.error());
  });
  return failure != 0 ? failure : code;
}

Result<void> startDetached(const std::string& stateDir, const daemon::Library& library) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return systemError("pipe");
  daemon::Fd readEnd(ends[0]);
  daemon::Fd writeEnd(ends[1]);
  std::fflush(nullptr);
  pid_t child = fork();
  if (child < 0) return systemError("fork");
  if (child == 0) {
    readEnd.reset();
    runChild(stateDir, library, std::move(writeEnd));
  }
  writeEnd.reset();
  std::string text;
  char buffer[4096];
  while (text.find('\n') == std::string::npos) {
    ssize_t n = read(readEnd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buffer, static_cast<size_t>(n));
  }
  auto answer = daemon::parseObject(text);
  if (answer && answer->empty()) return {};
  int status = 0;
  waitpid(child, &status, 0);
  if (answer) return daemon::errorFromJson(*answer);
  return Error{Code::Internal, "the daemon ended while it started; see " + stateDir + "/log"};
}

}  // namespace realize::cli
