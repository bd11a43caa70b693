#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace realize {

/// Everything that can go wrong which a caller can cause or handle. The enum is closed: each border (errno, exit
/// code, wire) is one `switch` over it without `default`.
enum class Code {
  NotFound,
  Exists,
  NotDirectory,
  IsDirectory,
  NotEmpty,
  PermissionDenied,
  InvalidArgument,
  NameTooLong,
  NoSpace,
  ReadOnly,
  Io,           ///< the disk failed
  Unreachable,  ///< no connected peer has the bytes, or the peer does not answer
  Busy,         ///< in use now; later may succeed
  Unsupported,
  Corrupt,      ///< bytes do not match their hash, or the database is damaged
  Conflict,     ///< several heads: choose first
  Refused,      ///< by a rule that protects data, or by another peer; the message says which
  Suspended,    ///< the arena's folder is absent or unreadable
  TimedOut,
  Cancelled,
  AlreadyRunning,  ///< another process holds the state folder
  NotRunning,      ///< no daemon answers
  WrongVersion,    ///< written by a newer program, or another protocol version
  TooLarge,        ///< beyond a documented bound
  Stale,           ///< of a node's number: the entry is gone, or has another number now; look its name up again
  Internal,        ///< a bug
};

/// The stable lower-case name of a code, as `--json` shows it: "not-found".
std::string_view codeName(Code code);

/// What went wrong, and for people: a sentence that names the path and the remedy.
struct [[nodiscard]] Error {
  Code code = Code::Internal;
  std::string message;
};

/// A value or an error. Must not be ignored; `value()` on an error ends the process (a bug in the caller).
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  Result(Code code, std::string message) : state_(std::in_place_index<1>, Error{code, std::move(message)}) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { check(); return *std::get_if<0>(&state_); }
  const T& value() const& { check(); return *std::get_if<0>(&state_); }
  T&& value() && { check(); return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const { if (ok()) std::abort(); return *std::get_if<1>(&state_); }
  Code code() const { return error().code; }

 private:
  void check() const { if (!ok()) std::abort(); }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  Result(Code code, std::string message) : error_(Error{code, std::move(message)}) {}

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { if (!error_) std::abort(); return *error_; }
  Code code() const { return error().code; }

 private:
  std::optional<Error> error_;
};

/// Returns the error of `expr` from the enclosing function, which returns some Result.
#define REALIZE_TRY(expr)                                  \
  do {                                                     \
    if (auto realizeTried_ = (expr); !realizeTried_.ok())  \
      return realizeTried_.error();                        \
  } while (false)

#define REALIZE_CONCAT2_(a, b) a##b
#define REALIZE_CONCAT_(a, b) REALIZE_CONCAT2_(a, b)
/// `REALIZE_ASSIGN(auto x, f());` declares x as the value, or returns the error.
#define REALIZE_ASSIGN(decl, expr) REALIZE_ASSIGN_(decl, expr, REALIZE_CONCAT_(realizeResult_, __LINE__))
#define REALIZE_ASSIGN_(decl, expr, name) \
  auto name = (expr);                     \
  if (!name.ok()) return name.error();    \
  decl = std::move(name).value()

}  // namespace realize
