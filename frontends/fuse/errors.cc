#include "frontends/fuse/errors.h"

#include <cerrno>

namespace realize::fuse {

int toErrno(Code code) {
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
    // "No such device": the disk or folder below is away. Not ENXIO ("No such device or address"), which programs
    // take for a property of the file; not EIO, which they take for a broken disk.
    case Code::Suspended: return ENODEV;
    case Code::TimedOut: return ETIMEDOUT;
    case Code::Cancelled: return EINTR;
    case Code::AlreadyRunning: return EBUSY;
    case Code::NotRunning: return ENOTCONN;
    case Code::WrongVersion: return EPROTONOSUPPORT;
    case Code::TooLarge: return EFBIG;
    // On which the kernel looks the name up again, once: it has not been told yet of what has the name now.
    case Code::Stale: return ESTALE;
    case Code::Internal: return EIO;
  }
  return EIO;  // Only for values cast from outside the enum.
}

int toXattrErrno(Code code) { return code == Code::NotFound ? ENODATA : toErrno(code); }

}  // namespace realize::fuse
