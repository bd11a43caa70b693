#include "realize/result.h"

namespace realize {

std::string_view codeName(Code code) {
  switch (code) {
    case Code::NotFound: return "not-found";
    case Code::Exists: return "exists";
    case Code::NotDirectory: return "not-directory";
    case Code::IsDirectory: return "is-directory";
    case Code::NotEmpty: return "not-empty";
    case Code::PermissionDenied: return "permission-denied";
    case Code::InvalidArgument: return "invalid-argument";
    case Code::NameTooLong: return "name-too-long";
    case Code::NoSpace: return "no-space";
    case Code::ReadOnly: return "read-only";
    case Code::Io: return "io";
    case Code::Unreachable: return "unreachable";
    case Code::Busy: return "busy";
    case Code::Unsupported: return "unsupported";
    case Code::Corrupt: return "corrupt";
    case Code::Conflict: return "conflict";
    case Code::Refused: return "refused";
    case Code::Suspended: return "suspended";
    case Code::TimedOut: return "timed-out";
    case Code::Cancelled: return "cancelled";
    case Code::AlreadyRunning: return "already-running";
    case Code::NotRunning: return "not-running";
    case Code::WrongVersion: return "wrong-version";
    case Code::TooLarge: return "too-large";
    case Code::Stale: return "stale";
    case Code::Internal: return "internal";
  }
  return "internal";
}

}  // namespace realize
