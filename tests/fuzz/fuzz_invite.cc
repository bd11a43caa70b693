// Invite codes come from people and mail, admissions from whoever dials.

#include <cstdlib>
#include <string_view>

#include "librealize/base/hash.h"
#include "librealize/net/invite.h"

using namespace realize::net;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)decodeAdmission(std::as_bytes(std::span(data, size)));
  auto invite = decodeInvite(text, 0);
  if (!invite.ok()) return 0;
  // What was accepted is printed as it was, but for its case and the blanks around it.
  auto code = encodeInvite(*invite);
  if (!code.ok() || decodeInvite(*code, 0).value() != *invite) std::abort();
  return 0;
}
