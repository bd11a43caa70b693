#pragma once

// What the commands' exit codes mean. Scripts depend on them: numbers are only ever added.

#include <string>

#include "realize/result.h"

namespace realize::cli {

enum class Exit : int {
  Done = 0,
  Failed = 1,  ///< also: `wait` did not reach its goal
  Usage = 2,
  NotRunning = 3,
  NotFound = 4,
  Exists = 5,
  Refused = 6,
  Unreachable = 7,
  NoSpace = 8,
  Damaged = 9,
  Busy = 10,
  Conflict = 11,
  WrongVersion = 12,
  AlreadyRunning = 13,
  TimedOut = 14,
  Cancelled = 130,  ///< as a shell has it for SIGINT
};

Exit exitFor(Code code);

/// The table for --help and the manual.
std::string exitCodeTable();

}  // namespace realize::cli
