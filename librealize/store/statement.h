#pragma once

// One SQL statement of a Database, and a row of what it finds. Thread and lifetime as in database.h.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "librealize/store/database.h"

struct sqlite3_stmt;

namespace realize::store {

/// Text for a TEXT column; plain string_views are bound as BLOBs, which compare bytewise.
struct Text {
  std::string_view value;
};

/// The current row of a statement. Views are valid until the callback returns.
class Row {
 public:
  explicit Row(sqlite3_stmt* statement) : statement_(statement) {}
  bool isNull(int column) const;
  int64_t integer(int column) const;
  uint64_t unsignedInteger(int column) const { return static_cast<uint64_t>(integer(column)); }
  std::string_view bytes(int column) const;  ///< of a BLOB or TEXT
  std::string string(int column) const { return std::string(bytes(column)); }
  /// Of a BLOB of exactly that size; zero for NULL. Throws Corrupt otherwise.
  template <typename Fixed>
  Fixed fixed(int column) const {
    Fixed out;
    copyFixed(column, out.data(), Fixed::size());
    return out;
  }

 private:
  void copyFixed(int column, uint8_t* out, size_t size) const;
  sqlite3_stmt* statement_;
};

/// One SQL literal, prepared at first use and kept. Not for use within its own callback.
class Statement {
 public:
  template <size_t N>
  Statement(Database& db, const char (&sql)[N]) : db_(db), sql_(sql) {
    db_.statements_.insert(this);
  }
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  /// Runs to the end, ignoring rows: within a transaction a little later, after what was queued before it.
  template <typename... A>
  void run(const A&... args) {
    if (db_.depth_ == 0) return void(change(args...));
    db_.writes_.append([&](std::string& jobs) {
      const Statement* self = this;
      jobs.append(reinterpret_cast<const char*>(&self), sizeof self);
      (queue(jobs, args), ...);
      jobs.push_back(char(Queued::End));
    });
  }
  /// The same at once. Returns how many rows were changed.
  template <typename... A>
  int change(const A&... args) {
    Use use(*this);
    bindAll(args...);
    while (step()) {}
    return changes();
  }
  /// Calls `onRow(Row)` for each row; where that returns bool, false ends it.
  template <typename F, typename... A>
  void each(F&& onRow, const A&... args) {
    Use use(*this);
    bindAll(args...);
    while (step()) {
      if constexpr (std::is_same_v<std::invoke_result_t<F, Row>, bool>) {
        if (!onRow(Row(statement_))) return;
      } else {
        onRow(Row(statement_));
      }
    }
  }
  /// Calls `onRow(Row)` for the first row. Returns whether there was one.
  template <typename F, typename... A>
  bool first(F&& onRow, const A&... args) {
    Use use(*this);
    bindAll(args...);
    if (!step()) return false;
    onRow(Row(statement_));
    return true;
  }

 private:
  friend class Database;
  enum class Queued : char { End, Null, Integer, Blob, Text };
  void release();
  void prepare();
  /// Prepares, and resets however the use ends: an unfinished statement would hold back the commit.
  struct Use {
    explicit Use(Statement& statement);
    ~Use();
    Statement& statement_;
  };
  template <typename... A>
  void bindAll(const A&... args) {
    int index = 0;
    (bind(++index, args), ...);
  }
  template <typename T>
  void bind(int index, const T& value) {
    if constexpr (std::is_null_pointer_v<T>) bindNull(index);
    else if constexpr (std::is_same_v<T, Text>) bindText(index, value.value);
    else if constexpr (std::is_enum_v<T>) bindInteger(index, static_cast<int64_t>(value));
    else if constexpr (std::is_integral_v<T>) bindInteger(index, static_cast<int64_t>(value));
    else if constexpr (std::is_convertible_v<const T&, std::string_view>) bindBlob(index, std::string_view(value));
    else bindBlob(index, {reinterpret_cast<const char*>(value.data()), value.size()});
  }
  template <typename T>
  static void queue(std::string& jobs, const T& value) {
    if constexpr (std::is_null_pointer_v<T>) jobs.push_back(char(Queued::Null));
    else if constexpr (std::is_same_v<T, Text>) queueBytes(jobs, Queued::Text, value.value);
    else if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) queueInteger(jobs, static_cast<int64_t>(value));
    else if constexpr (std::is_convertible_v<const T&, std::string_view>) queueBytes(jobs, Queued::Blob, value);
    else queueBytes(jobs, Queued::Blob, {reinterpret_cast<const char*>(value.data()), value.size()});
  }
  static void queueInteger(std::string& jobs, int64_t value);
  static void queueBytes(std::string& jobs, Queued kind, std::string_view value);
  /// Binds and runs what run() queued, from after its address on. Returns where the next one begins.
  const char* runQueued(const char* at);
  void bindNull(int index);
  void bindInteger(int index, int64_t value);
  void bindBlob(int index, std::string_view value);
  void bindText(int index, std::string_view value);
  bool step();
  int changes() const;

  Database& db_;
  const char* sql_;
  sqlite3_stmt* statement_ = nullptr;
  bool inUse_ = false;
};

}  // namespace realize::store
