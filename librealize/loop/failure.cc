#include "librealize/loop/failure.h"

#include <kj/string.h>

namespace realize::loop {

kj::Exception failure(kj::Exception::Type type, const std::string& text) {
  return kj::Exception(type, __FILE__, __LINE__, kj::heapString(text.c_str()));
}

Error toError(const kj::Exception& exception) {
  std::string text = exception.getDescription().cStr();
  switch (exception.getType()) {
    case kj::Exception::Type::FAILED: return {Code::Internal, text};
    case kj::Exception::Type::OVERLOADED: return {Code::TimedOut, text};
    case kj::Exception::Type::DISCONNECTED: return {Code::Unreachable, text};
    case kj::Exception::Type::UNIMPLEMENTED: return {Code::Unsupported, text};
  }
  return {Code::Internal, text};
}

}  // namespace realize::loop
