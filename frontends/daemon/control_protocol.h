#pragma once

// The control socket's language: one JSON object a line (PROTOCOL.md). This part knows lines and fields, not verbs.

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "realize/result.h"

namespace realize::daemon {

/// The longest request line that the daemon reads, and the deepest nesting in it.
constexpr size_t kMaxRequestBytes = 1 << 20;
constexpr int kMaxNesting = 16;
/// The longest answer line that a client reads.
constexpr size_t kMaxReplyBytes = 64 << 20;
/// Bytes of a file in one answer to `cat`.
constexpr size_t kRawPieceBytes = 1 << 20;

/// True if `bytes` is UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF.
bool isUtf8(std::string_view bytes);

/// `bytes` themselves where they are UTF-8; otherwise with each byte outside a valid sequence as `\xHH` and each
/// backslash doubled, so that nothing is lost.
std::string printable(std::string_view bytes);

/// Lower-case hexadecimal of any bytes, and back (nothing for an odd length or another character).
std::string toHex(std::string_view bytes);
std::optional<std::string> fromHex(std::string_view hex);

/// Sets `object[key]` to `printable(bytes)` and, where those are not UTF-8, `object[key_hex]` to the exact bytes.
void putText(nlohmann::json& object, const std::string& key, std::string_view bytes);

/// What putText put: `key_hex` where there is one, else `key`. Nothing when absent or of another type.
std::optional<std::string> getText(const nlohmann::json& object, const std::string& key);

/// The arguments of a request. Thread: any (immutable). Errors: InvalidArgument, naming the argument.
class Args {
 public:
  Args();
  explicit Args(std::shared_ptr<const nlohmann::json> object);

  Result<std::string> text(const std::string& name) const;
  Result<std::string> textOr(const std::string& name, const std::string& fallback) const;
  Result<std::vector<std::string>> texts(const std::string& name) const;  ///< empty when absent
  Result<int64_t> integer(const std::string& name, int64_t fallback, int64_t least, int64_t most) const;
  Result<bool> flag(const std::string& name, bool fallback) const;
  bool has(const std::string& name) const;

 private:
  std::shared_ptr<const nlohmann::json> object_;
};

struct Request {
  uint64_t id = 0;  ///< the client's, repeated in each answer
  std::string verb;
  Args args;
};

/// Reads one request line (without its newline). Errors: InvalidArgument, TooLarge.
Result<Request> parseRequest(std::string_view line);

/// One line without newline; never fails, whatever bytes the strings hold.
std::string toLine(const nlohmann::json& value);

/// Parses a line from outside; nothing when it is no JSON object or too deeply nested.
std::optional<nlohmann::json> parseObject(std::string_view line);

/// {"code", "message"} and back.
nlohmann::json errorToJson(const Error& error);
Error errorFromJson(const nlohmann::json& object);

/// The code of that stable name (codeName), Internal for an unknown one.
Code codeFromName(std::string_view name);

}  // namespace realize::daemon
