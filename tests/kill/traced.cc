#include "tests/kill/traced.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <vector>

namespace realize::test {

namespace {

struct Known {
  long number;
  const char* name;
  bool changes;  ///< whatever its arguments
  int paths[2];  ///< which arguments are paths; -1: none
};

constexpr Known kCalls[] = {
    {SYS_openat, "openat", false, {1, -1}},
    {SYS_openat2, "openat2", false, {1, -1}},
    {SYS_statx, "statx", false, {1, -1}},
    {SYS_fcntl, "fcntl", false, {-1, -1}},
    {SYS_pread64, "pread64", false, {-1, -1}},
    {SYS_getdents64, "getdents64", false, {-1, -1}},
    {SYS_pwrite64, "pwrite64", true, {-1, -1}},
    {SYS_pwritev, "pwritev", true, {-1, -1}},
    {SYS_write, "write", true, {-1, -1}},
    {SYS_writev, "writev", true, {-1, -1}},
    {SYS_ftruncate, "ftruncate", true, {-1, -1}},
    {SYS_fallocate, "fallocate", true, {-1, -1}},
    {SYS_copy_file_range, "copy_file_range", true, {-1, -1}},
    {SYS_renameat2, "renameat2", true, {1, 3}},
    {SYS_renameat, "renameat", true, {1, 3}},
    {SYS_linkat, "linkat", true, {1, 3}},
    {SYS_symlinkat, "symlinkat", true, {0, 2}},
    {SYS_unlinkat, "unlinkat", true, {1, -1}},
    {SYS_mkdirat, "mkdirat", true, {1, -1}},
    {SYS_fchmod, "fchmod", true, {-1, -1}},
    {SYS_fchmodat, "fchmodat", true, {1, -1}},
    {SYS_fchown, "fchown", true, {-1, -1}},
    {SYS_fchownat, "fchownat", true, {1, -1}},
    {SYS_utimensat, "utimensat", true, {1, -1}},
    {SYS_setxattr, "setxattr", true, {0, -1}},
    {SYS_lsetxattr, "lsetxattr", true, {0, -1}},
    {SYS_fsetxattr, "fsetxattr", true, {-1, -1}},
    {SYS_fsync, "fsync", true, {-1, -1}},
    {SYS_fdatasync, "fdatasync", true, {-1, -1}},
    {SYS_syncfs, "syncfs", true, {-1, -1}},
    {SYS_ioctl, "ioctl", true, {-1, -1}},
#ifdef SYS_rename
    {SYS_rename, "rename", true, {0, 1}},
#endif
#ifdef SYS_unlink
    {SYS_unlink, "unlink", true, {0, -1}},
#endif
#ifdef SYS_rmdir
    {SYS_rmdir, "rmdir", true, {0, -1}},
#endif
#ifdef SYS_mkdir
    {SYS_mkdir, "mkdir", true, {0, -1}},
#endif
#ifdef SYS_chmod
    {SYS_chmod, "chmod", true, {0, -1}},
#endif
#ifdef SYS_open
    {SYS_open, "open", false, {0, -1}},
#endif
};

const Known* knownCall(long number) {
  auto found = std::find_if(std::begin(kCalls), std::end(kCalls), [&](const Known& call) { return call.number == number; });
  return found == std::end(kCalls) ? nullptr : found;
}

std::string stringOf(pid_t pid, uint64_t address) {
  char text[512];
  iovec here{text, sizeof(text)};
  iovec there{reinterpret_cast<void*>(address), sizeof(text)};
  ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
  for (size_t shorter = 256; got < 0 && shorter > 0; shorter /= 2) {  // The end of what is mapped.
    there.iov_len = shorter;
    got = process_vm_readv(pid, &here, 1, &there, 1, 0);
  }
  if (got <= 0) return "?";
  return std::string(text, std::find(text, text + got, '\0'));
}

/// Numbers of one architecture only: a child makes no others.
void installFilter() {
  std::vector<sock_filter> filter;
  filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const auto& call : kCalls) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(call.number), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(126);
}

pid_t forked(const std::function<int()>& child, bool traced) {
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) abort();
  if (pid > 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (traced) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(125);
    raise(SIGSTOP);
    installFilter();
  }
  const int code = child();
  fflush(nullptr);
  _exit(code);
}

ChildEnd endOf(int status, bool killed) {
  if (WIFEXITED(status)) return {false, WEXITSTATUS(status)};
  return {killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, -1};
}

}  // namespace

bool SystemCall::changes() const {
  if (number == SYS_openat || number == SYS_openat2) {
    uint64_t flags = arguments[2];
    if (number == SYS_openat2) {
      iovec here{&flags, sizeof(flags)};
      iovec there{reinterpret_cast<void*>(arguments[2]), sizeof(flags)};
      if (process_vm_readv(pid, &here, 1, &there, 1, 0) != sizeof(flags)) return true;
    }
    return (flags & (O_CREAT | O_TRUNC)) != 0;
  }
  const auto* call = knownCall(number);
  return !call || call->changes;
}

bool SystemCall::isBelow(const std::string& folder) const {
  char target[PATH_MAX];
  const std::string link = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(int(arguments[0]));
  const ssize_t size = readlink(link.c_str(), target, sizeof(target));
  return size > 0 && std::string(target, size_t(size)).starts_with(folder);
}

std::string SystemCall::describe() const {
  const auto* call = knownCall(number);
  if (!call) return "call " + std::to_string(number);
  std::string out = call->name;
  for (int at : call->paths)
    if (at >= 0) out += " '" + stringOf(pid, arguments[at]) + "'";
  return out;
}

ChildEnd runForked(const std::function<int()>& child) {
  int status = 0;
  const pid_t pid = forked(child, false);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return endOf(status, false);
}

ChildEnd runTraced(const std::function<int()>& child, const std::function<Verdict(const SystemCall&)>& beforeCall) {
  const pid_t pid = forked(child, true);
  int status = 0;
  bool ready = false, killed = false;
  while (true) {
    if (waitpid(pid, &status, __WALL) < 0) {
      if (errno == EINTR) continue;
      abort();
    }
    if (!WIFSTOPPED(status)) return endOf(status, killed);
    int signal = WSTOPSIG(status);
    if (!ready && signal == SIGSTOP) {
      ready = true;
      signal = 0;
      ptrace(PTRACE_SETOPTIONS, pid, nullptr, reinterpret_cast<void*>(PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL));
    } else if (status >> 8 == (SIGTRAP | (PTRACE_EVENT_SECCOMP << 8))) {
      signal = 0;
      __ptrace_syscall_info info{};
      ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), pid, reinterpret_cast<void*>(sizeof(info)), &info);
      SystemCall call;
      call.pid = pid;
      call.number = long(info.seccomp.nr);
      std::copy(std::begin(info.seccomp.args), std::end(info.seccomp.args), call.arguments);
      if (beforeCall(call) == Verdict::Kill) {
        killed = true;
        kill(pid, SIGKILL);
        continue;
      }
    }
    ptrace(PTRACE_CONT, pid, nullptr, reinterpret_cast<void*>(long(signal)));
  }
}

bool canTrace() {
  bool stopped = false;
  const auto end = runTraced(
      [] {
        char nothing = 0;
        return pread(-1, &nothing, 1, 0) == -1 ? 0 : 1;
      },
      [&](const SystemCall&) {
        stopped = true;
        return Verdict::Go;
      });
  return stopped && end.exitCode == 0;
}

}  // namespace realize::test
