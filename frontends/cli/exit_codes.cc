#include "frontends/cli/exit_codes.h"

namespace realize::cli {

Exit exitFor(Code code) {
  switch (code) {
    case Code::NotFound: return Exit::NotFound;
    case Code::Exists: return Exit::Exists;
    case Code::NotDirectory: return Exit::Failed;
    case Code::IsDirectory: return Exit::Failed;
    case Code::NotEmpty: return Exit::Failed;
    case Code::PermissionDenied: return Exit::Refused;
    case Code::InvalidArgument: return Exit::Usage;
    case Code::NameTooLong: return Exit::Usage;
    case Code::NoSpace: return Exit::NoSpace;
    case Code::ReadOnly: return Exit::Refused;
    case Code::Io: return Exit::Damaged;
    case Code::Unreachable: return Exit::Unreachable;
    case Code::Busy: return Exit::Busy;
    case Code::Unsupported: return Exit::Failed;
    case Code::Corrupt: return Exit::Damaged;
    case Code::Conflict: return Exit::Conflict;
    case Code::Refused: return Exit::Refused;
    case Code::Suspended: return Exit::Busy;
    case Code::TimedOut: return Exit::TimedOut;
    case Code::Cancelled: return Exit::Cancelled;
    case Code::AlreadyRunning: return Exit::AlreadyRunning;
    case Code::NotRunning: return Exit::NotRunning;
    case Code::WrongVersion: return Exit::WrongVersion;
    case Code::TooLarge: return Exit::Failed;
    case Code::Stale: return Exit::NotFound;
    case Code::Internal: return Exit::Failed;
  }
  return Exit::Failed;
}

std::string exitCodeTable() {
  return "  0  done\n"
         "  1  failed; 'wait': not reached in time\n"
         "  2  wrong usage or argument\n"
         "  3  no daemon is running\n"
         "  4  not found\n"
         "  5  exists already\n"
         "  6  refused, or permission denied\n"
         "  7  no connected peer has it, or the peer does not answer\n"
         "  8  no space left\n"
         "  9  the disk failed, or data is damaged\n"
         " 10  busy or suspended; later may succeed\n"
         " 11  several versions conflict; choose first ('realize resolve')\n"
         " 12  written by a newer version\n"
         " 13  another daemon is running on this state folder\n"
         " 14  took too long\n"
         "130  interrupted\n";
}

}  // namespace realize::cli
