#include "librealize/base/errno_code.h"

#include <errno.h>

#include <string>
#include <system_error>

namespace realize {

Code codeFromErrno(int number) {
  switch (number) {
    case ENOENT: case ENODATA: return Code::NotFound;
    case EEXIST: return Code::Exists;
    case ENOTDIR: return Code::NotDirectory;
    case EISDIR: return Code::IsDirectory;
    case ENOTEMPTY: return Code::NotEmpty;
    // ELOOP: a symlink where none may be.
    case EACCES: case EPERM: case ELOOP: return Code::PermissionDenied;
    case EINVAL: case EBADF: case EFAULT: case ENXIO: case ESPIPE: case EDOM: return Code::InvalidArgument;
    case ENAMETOOLONG: return Code::NameTooLong;
    case ENOSPC: case EDQUOT: return Code::NoSpace;
    case EROFS: return Code::ReadOnly;
    case EIO: return Code::Io;
    case EHOSTUNREACH: case ENETUNREACH: case ECONNREFUSED: case ENETDOWN: case EHOSTDOWN: return Code::Unreachable;
    case EBUSY: case EAGAIN: case ETXTBSY: case EDEADLK: return Code::Busy;
    // EXDEV: between file systems. ENODEV, ENOTTY: not of this kind of file.
    case EOPNOTSUPP: case ENOSYS: case EXDEV: case ENODEV: case ENOTTY: return Code::Unsupported;
    case EBADMSG: case EUCLEAN: return Code::Corrupt;
    case ETIMEDOUT: return Code::TimedOut;
    case EINTR: case ECANCELED: return Code::Cancelled;
    case EFBIG: case E2BIG: case EOVERFLOW: case EMLINK: case ERANGE: case EMFILE: case ENFILE: case ENOMEM:
    case ENOBUFS: return Code::TooLarge;
    default: return Code::Io;
  }
}

// No default: a new Code must be given a number.
int errnoFromCode(Code code) {
  switch (code) {
    case Code::NotFound: return ENOENT;
    case Code::Exists: return EEXIST;
    case Code::NotDirectory: return ENOTDIR;
    case Code::IsDirectory: return EISDIR;
    case Code::NotEmpty: return ENOTEMPTY;
    case Code::PermissionDenied: return EACCES;
    case Code::InvalidArgument: return EINVAL;
    case Code::NameTooLong: return ENAMETOOLONG;
    case Code::NoSpace: return ENOSPC;
    case Code::ReadOnly: return EROFS;
    case Code::Io: return EIO;
    case Code::Unreachable: return EHOSTUNREACH;
    case Code::Busy: return EBUSY;
    case Code::Unsupported: return EOPNOTSUPP;
    case Code::Corrupt: return EIO;
    case Code::Conflict: return EBUSY;
    case Code::Refused: return EPERM;
    case Code::Suspended: return EIO;
    case Code::TimedOut: return ETIMEDOUT;
    case Code::Cancelled: return EINTR;
    case Code::AlreadyRunning: return EBUSY;
    case Code::NotRunning: return ECONNREFUSED;
    case Code::WrongVersion: return EPROTONOSUPPORT;
    case Code::TooLarge: return EFBIG;
    case Code::Stale: return ESTALE;
    case Code::Internal: return EIO;
  }
  return EIO;  // Only for values cast from outside the enum.
}

Error errnoError(int number, std::string_view what) {
  std::string message(what);
  message += ": ";
  message += std::generic_category().message(number);
  return Error{codeFromErrno(number), std::move(message)};
}

}  // namespace realize
