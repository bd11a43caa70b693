#pragma once

// Between KJ's exceptions, which stay inside loop, net and peer, and Error.

#include <kj/exception.h>

#include <string>

#include "realize/result.h"

namespace realize::loop {

/// An exception for a broken promise, with `text` as its whole description. Thread: any.
kj::Exception failure(kj::Exception::Type type, const std::string& text);

/// DISCONNECTED is Unreachable, OVERLOADED is TimedOut, UNIMPLEMENTED is Unsupported, FAILED is Internal. Thread: any.
Error toError(const kj::Exception& exception);

}  // namespace realize::loop
