#pragma once

#include <string_view>

#include "realize/result.h"

namespace realize {

/// The code of an errno of a system call on files. Unknown numbers are Io. Thread: any.
Code codeFromErrno(int number);

/// The errno that stands for a code towards a kernel or a C caller. Thread: any.
int errnoFromCode(Code code);

/// "`what`: the system's text", with the code of `number`.
Error errnoError(int number, std::string_view what);

}  // namespace realize
