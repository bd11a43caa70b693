#pragma once

#include "realize/result.h"

namespace realize::fuse {

/// The errno that a program in the mount sees. The only place where FUSE learns a number.
int toErrno(Code code);

/// The same where what is missing is an extended attribute.
int toXattrErrno(Code code);

/// A node, or the file that it names, is not there any more. What has it open goes on.
inline bool isGone(Code code) { return code == Code::NotFound || code == Code::Stale; }

}  // namespace realize::fuse
