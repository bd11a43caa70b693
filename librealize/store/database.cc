#include "librealize/store/database.h"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "librealize/base/fault.h"
#include "librealize/store/statement.h"

namespace realize::store {

namespace {

// No mapping of the file: a bad sector is an error then and not a SIGBUS, and cells are checked once a page read and
// not once an access, which costs as much as the mapping saves (bench_store).
constexpr int kCacheKib = 16 << 10;         // A negative cache_size is in KiB.
constexpr int kCheckpointPages = 4096;      // 16 MiB of log before it is moved into the database.

const char* remedy(Code code) {
  switch (code) {
    case Code::Corrupt:
      return ". Nothing in your folders is affected. Stop realize, move this file away (keep it) and join the arena "
             "again with the same folder: equal files are matched without being sent";
    case Code::NoSpace: return ". Free some space on that disk";
    case Code::Busy: return ". Another program has it open";
    default: return "";
  }
}

Code codeOf(int extended) {
  switch (extended & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT: return Code::Corrupt;
    case SQLITE_FULL: return Code::NoSpace;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return Code::Busy;
    case SQLITE_PERM:
    case SQLITE_AUTH: return Code::PermissionDenied;
    case SQLITE_READONLY: return Code::ReadOnly;
    case SQLITE_CANTOPEN: return Code::NotFound;
    case SQLITE_TOOBIG: return Code::TooLarge;
    case SQLITE_IOERR:
      // A database that ends in the middle of a page.
      return extended == SQLITE_IOERR_SHORT_READ ? Code::Corrupt : Code::Io;
    default: return Code::Internal;
  }
}

}  // namespace

Error Database::errorFor(int sqliteCode) const {
  Code code = codeOf(handle_ != nullptr ? sqlite3_extended_errcode(handle_) : sqliteCode);
  if (code == Code::Internal && (sqliteCode & 0xff) != SQLITE_OK) code = codeOf(sqliteCode);
  // The connection's text belongs to its last error, which need not be this one.
  bool own = handle_ != nullptr && (sqlite3_errcode(handle_) & 0xff) == (sqliteCode & 0xff);
  std::string text = own ? sqlite3_errmsg(handle_) : sqlite3_errstr(sqliteCode);
  return {code, "the " + what_ + " (" + path_ + ") failed: " + text + remedy(code)};
}

void Database::fail(int sqliteCode, const char* sql) const {
  if ((sqliteCode & 0xff) == SQLITE_NOMEM) throw std::bad_alloc();
  Error error = errorFor(sqliteCode);
  if (error.code == Code::Internal && sql != nullptr) error.message += std::string(" in: ") + sql;
  throw DatabaseError(error.code, std::move(error.message));
}

void Database::exec(const char* sql) {
  if (handle_ == nullptr) fail(SQLITE_CANTOPEN, sql);
  if (int rc = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr); rc != SQLITE_OK) fail(rc, sql);
}

Result<std::unique_ptr<Database>> Database::open(const std::string& path, const std::string& what,
                                                 uint32_t applicationId, std::span<const Migration> migrations,
                                                 const OpenOptions& options) {
  // Its statistics of memory take a lock at every allocation, a tenth of the time of many small changes. Refused, and
  // then kept as they are, where the application has started SQLite itself.
  static const int withoutStatistics = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  (void)withoutStatistics;
  std::unique_ptr<Database> db(new Database(options.thread));
  db->path_ = path;
  db->what_ = what;
  db->vfs_ = options.vfs;
  db->applicationId_ = applicationId;
  db->migrations_ = migrations;
  try {
    db->connect(options.create);
    db->rewriteLog();
  } catch (const DatabaseError& e) {
    db->close(false);
    return e.error();
  }
  return db;
}

void Database::connect(bool create) {
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  if (create) flags |= SQLITE_OPEN_CREATE;
  int rc = sqlite3_open_v2(path_.c_str(), &handle_, flags, vfs_.empty() ? nullptr : vfs_.c_str());
  if (rc != SQLITE_OK) {
    Error error = errorFor(rc);
    throw DatabaseError(error.code == Code::Internal ? Code::Io : error.code, std::move(error.message));
  }
  if (auto done = configure(create); !done.ok()) throw DatabaseError(done.code(), done.error().message);
}

Result<void> Database::configure(bool create) {
  const uint32_t applicationId = applicationId_;
  const auto migrations = migrations_;
  // Exclusive: the state folder belongs to one process anyway, and then there is no shared memory to lock on every
  // look-up (three times faster outside a transaction), nor does a VFS need to offer any.
  exec("PRAGMA locking_mode = EXCLUSIVE");
  exec("PRAGMA trusted_schema = OFF");
  exec("PRAGMA cell_size_check = ON");  // A damaged page is an error when it is read, not a wild offset later.

  auto pragma = [&](const auto& sql) {
    Statement statement(*this, sql);
    std::string value;
    statement.first([&](Row row) { value = row.string(0); });
    return value;
  };
  auto version = std::stoul("0" + pragma("PRAGMA user_version"));
  auto kind = uint32_t(std::stoll("0" + pragma("PRAGMA application_id")));
  auto tables = pragma("SELECT count(*) FROM sqlite_schema");
  if (version == 0) {
    if (tables != "0" || (kind != 0 && kind != applicationId))
      return Error{Code::Corrupt, "the " + what_ + " (" + path_ + ") is some other program's database"};
    if (!create) return Error{Code::Corrupt, "the " + what_ + " (" + path_ + ") is empty" + remedy(Code::Corrupt)};
  } else if (kind != applicationId) {
    return Error{Code::Corrupt, "the file " + path_ + " is a database, but not the " + what_};
  } else if (version > migrations.size()) {
    return Error{Code::WrongVersion, "the " + what_ + " (" + path_ + ") was written by a newer program (version " +
                                         std::to_string(version) + ", this one knows " +
                                         std::to_string(migrations.size()) + "): update realize"};
  }

  if (pragma("PRAGMA journal_mode = WAL") != "wal")
    return Error{Code::Unsupported, "the " + what_ + " (" + path_ + ") cannot have a write-ahead log on this disk"};
  exec("PRAGMA synchronous = NORMAL");
  exec("PRAGMA temp_store = MEMORY");
  exec("PRAGMA journal_size_limit = 67108864");
  exec(("PRAGMA cache_size = -" + std::to_string(kCacheKib)).c_str());
  exec("PRAGMA mmap_size = 0");
  sqlite3_wal_hook(handle_, onLogGrown, this);

  if (version < migrations.size()) {
    Transaction transaction(*this);
    for (size_t i = version; i < migrations.size(); ++i) exec(migrations[i].sql);
    exec(("PRAGMA user_version = " + std::to_string(migrations.size())).c_str());
    exec(("PRAGMA application_id = " + std::to_string(applicationId)).c_str());
    transaction.commit();
    makeDurable();
  }
  return {};
}

Database::~Database() {
  auto settled = catching([&] { settle(); });
  (void)settled;  // Nothing was promised to anyone that is not committed.
  close(!syncFailed_);
}

/// By way of a checkpoint only where no sync failed: with pages of the log lost, a power cut in it would leave half of one.
void Database::close(bool checkpoint) {
  if (handle_ == nullptr) return;
  if (!checkpoint) sqlite3_db_config(handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  // Statements are gone by now; close_v2 waits for any that are not instead of leaking the file.
  sqlite3_close_v2(handle_);
  handle_ = nullptr;
}

/// As SQLite would do it by itself, but that a failed sync is not forgotten: the next one would succeed without having
/// brought to the disk what the kernel has dropped.
int Database::onLogGrown(void* self, sqlite3* handle, const char* schema, int pages) {
  if (pages < kCheckpointPages) return SQLITE_OK;
  const int rc = sqlite3_wal_checkpoint_v2(handle, schema, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  if ((rc & 0xff) == SQLITE_IOERR) static_cast<Database*>(self)->syncFailed_ = true;
  return SQLITE_OK;  // What was committed is, in the log.
}

sqlite3_file* Database::log() {
  if (handle_ == nullptr) fail(SQLITE_CANTOPEN, "the log");
  sqlite3_file* log = nullptr;
  int rc = sqlite3_file_control(handle_, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
  if (rc != SQLITE_OK) fail(rc, "the log");
  return log == nullptr || log->pMethods == nullptr ? nullptr : log;
}

void Database::makeDurable() {
  if (depth_ > 0) throw DatabaseError(Code::Internal, "makeDurable() within a transaction");
  settle();
  if (syncFailed_) throw DatabaseError(Code::Io, "the " + what_ + " (" + path_ + ") could not be written to its disk before");
  if (durable_ || faulty(Fault::SkipDurable)) return;
  // Every commit since the last checkpoint is in the log, written but not synced; a checkpoint syncs by itself.
  sqlite3_file* file = log();
  // Where the disk failed as the log was to be begun: reopen() begins it.
  if (file == nullptr) throw DatabaseError(Code::Io, "the " + what_ + " (" + path_ + ") has no log to sync");
  if (file->pMethods->xSync(file, SQLITE_SYNC_NORMAL) != SQLITE_OK) {
    syncFailed_ = true;
    throw DatabaseError(Code::Io, "the " + what_ + " (" + path_ + ") cannot be written to its disk");
  }
  durable_ = true;
}

void Database::reopen() {
  if (depth_ > 0) throw DatabaseError(Code::Internal, "reopen() within a transaction");
  auto settled = catching([&] { settle(); });
  (void)settled;  // It is forgotten with all that rested on it.
  for (Statement* statement : statements_) statement->release();
  close(false);
  if (forget_) forget_();
  broken_ = false;
  lost_ = std::nullopt;
  try {
    connect(false);
    if (syncFailed_) rewriteLog();
  } catch (const DatabaseError&) {
    close(false);
    throw;
  }
  durable_ = false;
}

/// The kernel says once that a sync failed, and takes the pages for written from then on: they are made dirty again. Also of
/// a log that an earlier process left behind, to which it may have said so.
void Database::rewriteLog() {
  if (sqlite3_file* file = log()) {
    sqlite3_int64 size = 0;
    int rc = file->pMethods->xFileSize(file, &size);
    std::string bytes(1 << 16, '\0');  // SQLite's own files take less than 128 KiB at once.
    for (sqlite3_int64 at = 0; rc == SQLITE_OK && at < size; at += sqlite3_int64(bytes.size())) {
      const int piece = int(std::min<sqlite3_int64>(size - at, sqlite3_int64(bytes.size())));
      rc = file->pMethods->xRead(file, bytes.data(), piece, at);
      if (rc == SQLITE_OK) rc = file->pMethods->xWrite(file, bytes.data(), piece, at);
    }
    if (rc == SQLITE_OK) rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
    if (rc != SQLITE_OK) fail(rc, "writing the log again");
  }
  syncFailed_ = false;
}

void Database::checkpoint() {
  settleAll();
  int rc = sqlite3_wal_checkpoint_v2(handle_, "main", SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  if (rc != SQLITE_OK) fail(rc, "checkpoint");
}

void Database::verify() {
  Statement check(*this, "PRAGMA integrity_check(1)");
  std::string result;
  check.first([&](Row row) { result = row.string(0); });
  if (result != "ok")
    throw DatabaseError(Code::Corrupt, "the " + what_ + " (" + path_ + ") is damaged: " + result + remedy(Code::Corrupt));
}

void Database::setHooks(std::function<void()> writeBack, std::function<void()> forget) {
  writeBack_ = std::move(writeBack);
  forget_ = std::move(forget);
}

// Nested transactions are savepoints; all may have one name, as the latest is meant.

Transaction::Transaction(Database& db, bool later) : db_(db), depth_(db.depth_) {
  db_.check();
  // What is only in memory belongs to the outer transaction: a rollback of the inner one must not take it along.
  if (depth_ > 0 && db_.writeBack_) db_.writeBack_();
  if (later && depth_ == 0 && !db_.writes_.empty()) {
    db_.queue(Database::Job::Begin);
  } else {
    db_.settleAll();
    db_.exec(depth_ == 0 ? "BEGIN IMMEDIATE" : "SAVEPOINT part");
  }
  ++db_.depth_;
}

Transaction::~Transaction() {
  if (!done_) rollback();
}

void Transaction::commit() {
  if (done_ || db_.depth_ != depth_ + 1) throw DatabaseError(Code::Internal, "transactions ended out of order");
  try {
    db_.check();
    if (depth_ > 0) {
      db_.settleAll();
      db_.exec("RELEASE part");
    } else {
      if (db_.writeBack_) db_.writeBack_();
      db_.settleAll();
      // Before, since a failed commit may be in the log all the same.
      db_.durable_ = false;
      db_.exec("COMMIT");
      ++db_.commits_;
    }
  } catch (...) {
    rollback();
    throw;
  }
  db_.depth_ = depth_;
  done_ = true;
}

void Transaction::commitLater(std::function<void()> committed) {
  if (done_ || db_.depth_ != 1 || depth_ != 0) throw DatabaseError(Code::Internal, "transactions ended out of order");
  try {
    db_.check();
    if (db_.writeBack_) db_.writeBack_();
    db_.durable_ = false;
    {
      std::lock_guard lock(db_.laterMutex_);
      db_.later_.push_back(std::move(committed));
    }
    db_.queue(Database::Job::Commit);
    ++db_.commits_;
  } catch (...) {
    rollback();
    throw;
  }
  db_.depth_ = 0;
  done_ = true;
  if (db_.writes_.handOn()) return;
  if (db_.settleDue_) db_.settleDue_();
  else db_.settleAll();
}

void Transaction::rollback() noexcept {
  done_ = true;
  // Those before it are to be committed, not forgotten with it.
  try {
    if (db_.anyToCommit()) db_.settleAll();
  } catch (...) {  // It is lost; who asks next is told.
  }
  db_.writes_.drop();
  db_.depth_ = depth_;
  // A full disk or a failed write makes SQLite roll back by itself; then there is nothing left to undo.
  bool open = sqlite3_get_autocommit(db_.handle_) == 0;
  // The outer transaction is gone too then, and what it goes on to do must not commit piece by piece.
  db_.broken_ = depth_ > 0 && !open;
  if (open) {
    if (depth_ == 0) sqlite3_exec(db_.handle_, "ROLLBACK", nullptr, nullptr, nullptr);
    else sqlite3_exec(db_.handle_, "ROLLBACK TO part; RELEASE part", nullptr, nullptr, nullptr);
  }
  if (db_.forget_) db_.forget_();
}

// --- What is queued: jobs of statements, and between them the ends and beginnings of transactions.

void Database::check() const {
  if (lost_) throw DatabaseError(lost_->code, lost_->message);
  if (broken_) throw DatabaseError(Code::Io, "the transaction was rolled back after an error within it");
}

void Database::queue(Job job) {
  writes_.append([&](std::string& jobs) {
    const Statement* none = nullptr;
    jobs.append(reinterpret_cast<const char*>(&none), sizeof none);
    jobs.push_back(char(job));
  });
}

void Database::queueFailed() {
  if (settleDue_ && anyToCommit()) settleDue_();
}

void Database::runJobs(std::string_view jobs) {
  if (broken_) throw DatabaseError(Code::Io, "the transaction was rolled back after an error within it");
  for (const char* at = jobs.data(); at != jobs.data() + jobs.size();) {
    Statement* next = nullptr;
    std::memcpy(&next, at, sizeof next);
    at += sizeof next;
    if (next != nullptr) at = next->runQueued(at);
    else if (Job(*at++) == Job::Commit) commitQueued();
    else exec("BEGIN IMMEDIATE");
  }
}

void Database::commitQueued() {
  exec("COMMIT");
  std::function<void()> committed;
  {
    std::lock_guard lock(laterMutex_);
    committed = std::move(later_.front());
    later_.pop_front();
  }
  if (committed) committed();
}

bool Database::anyToCommit() {
  std::lock_guard lock(laterMutex_);
  return !later_.empty();
}

void Database::settle() {
  check();
  if (anyToCommit()) settleAll();
}

void Database::settleAll() {
  if (lost_) throw DatabaseError(lost_->code, lost_->message);
  try {
    writes_.settle();
  } catch (const DatabaseError& e) {
    lost(e.error());
    throw;
  } catch (...) {
    lost({Code::Internal, "the " + what_ + " (" + path_ + ") could not be written"});
    throw;
  }
}

/// A failure among what is queued. Where a transaction was to be committed by it, those that used what it wrote have ended:
/// memory and disk agree again only once all is read anew.
void Database::lost(const Error& error) {
  if (!anyToCommit()) return;
  lost_ = error;
  {
    std::lock_guard lock(laterMutex_);
    later_.clear();
  }
  writes_.drop();
  if (depth_ > 0) return;  // Who is within a transaction rolls it back.
  if (sqlite3_get_autocommit(handle_) == 0) sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
  if (forget_) forget_();
}

}  // namespace realize::store
