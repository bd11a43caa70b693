#pragma once

// Runs a function in a child process and stops it before every system call that works on files.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

namespace realize::test {

/// The child is about to make this call.
struct SystemCall {
  pid_t pid = 0;
  long number = 0;
  uint64_t arguments[6] = {};

  /// It changes what is in a file system, or makes it durable.
  bool changes() const;
  /// It works on what is in this folder, an absolute path, or on a path from there.
  bool isBelow(const std::string& folder) const;
  /// "renameat2 tmp/r1 doc", for messages.
  std::string describe() const;
};

enum class Verdict : uint8_t {
  Go,
  Kill,  ///< SIGKILL, before the call does anything
};

struct ChildEnd {
  bool killed = false;  ///< as was said
  int exitCode = -1;    ///< -1: it ended by another signal
};

/// Whether this machine lets a process trace its children.
bool canTrace();

/// `child` must be single-threaded; what it returns is its exit code. No destructor of this process's objects runs in it.
ChildEnd runTraced(const std::function<int()>& child, const std::function<Verdict(const SystemCall&)>& beforeCall);
/// The same without being stopped.
ChildEnd runForked(const std::function<int()>& child);

}  // namespace realize::test
