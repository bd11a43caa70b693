#include "librealize/store/statement.h"

#include <sqlite3.h>

#include <cstring>

namespace realize::store {

Statement::~Statement() {
  try {
    if (!db_.writes_.empty()) db_.writes_.settle();  // It may be among them.
  } catch (...) {  // The next settle() throws it too.
  }
  release();
  db_.statements_.erase(this);
}

void Statement::release() {
  sqlite3_finalize(statement_);
  statement_ = nullptr;
}

void Statement::prepare() {
  if (statement_ != nullptr) return;
  int rc = sqlite3_prepare_v3(db_.handle_, sql_, -1, SQLITE_PREPARE_PERSISTENT, &statement_, nullptr);
  if (rc != SQLITE_OK) db_.fail(rc, sql_);
}

Statement::Use::Use(Statement& statement) : statement_(statement) {
  Database& db = statement.db_;
  if (statement.inUse_) throw DatabaseError(Code::Internal, std::string("used within its own rows: ") + statement.sql_);
  if (db.handle_ == nullptr) db.fail(SQLITE_CANTOPEN, statement.sql_);
  if (!db.writes_.empty()) db.settleAll();
  db.check();
  statement.prepare();
  // Outside a transaction each writing statement commits by itself.
  if (db.depth_ == 0 && sqlite3_stmt_readonly(statement.statement_) == 0) db.durable_ = false;
  statement.inUse_ = true;
  db.writes_.hold();
}

Statement::Use::~Use() {
  statement_.inUse_ = false;
  sqlite3_reset(statement_.statement_);
  statement_.db_.writes_.letGo();
}

// --- What is queued: the statement's address, then its values, each with its kind before it. Nothing is aligned.

void Statement::queueInteger(std::string& jobs, int64_t value) {
  jobs.push_back(char(Queued::Integer));
  jobs.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void Statement::queueBytes(std::string& jobs, Queued kind, std::string_view value) {
  const auto size = uint64_t(value.size());
  jobs.push_back(char(kind));
  jobs.append(reinterpret_cast<const char*>(&size), sizeof size);
  jobs.append(value);
}

namespace {
template <typename T>
T taken(const char*& at) {
  T out;
  std::memcpy(&out, at, sizeof out);
  at += sizeof out;
  return out;
}
}  // namespace

const char* Statement::runQueued(const char* at) {
  if (inUse_) throw DatabaseError(Code::Internal, std::string("used within its own rows: ") + sql_);
  prepare();
  struct Reset {
    ~Reset() { sqlite3_reset(statement); }
    sqlite3_stmt* statement;
  } reset{statement_};
  for (int index = 1; true; ++index) {
    const auto kind = taken<Queued>(at);
    if (kind == Queued::End) break;
    if (kind == Queued::Null) {
      bindNull(index);
    } else if (kind == Queued::Integer) {
      bindInteger(index, taken<int64_t>(at));
    } else {
      const auto size = taken<uint64_t>(at);
      const std::string_view value(at, size);
      if (kind == Queued::Blob) bindBlob(index, value);
      else bindText(index, value);
      at += size;
    }
  }
  while (step()) {}
  return at;
}

// Bound bytes are not copied: they outlive the use, which ends with a reset within the call that bound them.

void Statement::bindNull(int index) {
  if (int rc = sqlite3_bind_null(statement_, index); rc != SQLITE_OK) db_.fail(rc, sql_);
}

void Statement::bindInteger(int index, int64_t value) {
  if (int rc = sqlite3_bind_int64(statement_, index, value); rc != SQLITE_OK) db_.fail(rc, sql_);
}

void Statement::bindBlob(int index, std::string_view value) {
  // A null pointer would bind NULL, and empty is not NULL.
  const char* data = value.empty() ? "" : value.data();
  if (int rc = sqlite3_bind_blob64(statement_, index, data, value.size(), SQLITE_STATIC); rc != SQLITE_OK)
    db_.fail(rc, sql_);
}

void Statement::bindText(int index, std::string_view value) {
  const char* data = value.empty() ? "" : value.data();
  if (int rc = sqlite3_bind_text64(statement_, index, data, value.size(), SQLITE_STATIC, SQLITE_UTF8); rc != SQLITE_OK)
    db_.fail(rc, sql_);
}

bool Statement::step() {
  int rc = sqlite3_step(statement_);
  if (rc == SQLITE_ROW) return true;
  if (rc == SQLITE_DONE) return false;
  db_.fail(rc, sql_);
}

int Statement::changes() const { return sqlite3_changes(db_.handle_); }

bool Row::isNull(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
int64_t Row::integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string_view Row::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  if (data == nullptr) return {};
  return {static_cast<const char*>(data), size_t(sqlite3_column_bytes(statement_, column))};
}

void Row::copyFixed(int column, uint8_t* out, size_t size) const {
  std::string_view value = bytes(column);
  if (value.empty() && isNull(column)) {
    std::memset(out, 0, size);
    return;
  }
  if (value.size() != size) throw DatabaseError(Code::Corrupt, "the database is damaged: a value has a wrong length");
  std::memcpy(out, value.data(), size);
}

}  // namespace realize::store
