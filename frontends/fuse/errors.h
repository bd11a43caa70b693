#pragma once

#include "realize/result.h"

namespace realize::fuse {

/// The errno that a program in the mount sees. The only place where FUSE learns a number.
int toErrno(Code code);

/// The same where what is missing is an extended attribute.
int toXattrErrno(Code code);

}  // namespace realize::fuse
