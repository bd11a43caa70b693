#pragma once

// SQLite behind three small classes; the third, Statement, is in statement.h. Nothing above the store sees sqlite3.h, and
// SQL is only ever a literal.
//
// Thread: a Database and everything made from it belong to whoever holds one mutex of the caller's; SQLite's own
// locks are off. Lifetime: statements and transactions end before their Database. Within a transaction, what is written
// with run() is queued (write_queue.h), and what fails in it fails the next read or the commit. With transactLater() the
// commit is queued too.
//
// Durability: a commit survives a crash of the process; it survives a power cut only once makeDurable() returned.

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "librealize/store/write_queue.h"
#include "realize/result.h"
#include "realize/types.h"

struct sqlite3;
struct sqlite3_file;

namespace realize::store {

/// The database failed under an operation that cannot fail by the caller's fault: a full or dead disk, a damaged file, a
/// bug. Whatever transaction was open is rolled back on the way up. `catching()` turns it into an Error.
class DatabaseError : public std::exception {
 public:
  DatabaseError(Code code, std::string message) : error_{code, std::move(message)} {}
  const char* what() const noexcept override { return error_.message.c_str(); }
  Code code() const { return error_.code; }
  const Error& error() const { return error_; }

 private:
  Error error_;
};

/// One step of the schema, from store/migrations. Its place in the list is its version, counted from 1.
struct Migration {
  const char* name;
  const char* sql;
};

struct OpenOptions {
  bool create = true;   ///< make the database when there is no file; otherwise NotFound
  std::string vfs;      ///< a registered SQLite VFS (disk_vfs.h); empty: the operating system's
  bool thread = false;  ///< large transactions are written by a thread beside the caller's, see WriteQueue
};

class Statement;

/// One open database file.
class Database {
 public:
  /// Opens, checks and brings the schema up to date. `what` names the file for people ("index of arena docs");
  /// `applicationId` marks the kind of file in its header.
  /// Errors: NotFound; Corrupt (damaged, or not a database of that kind; the message says what can be done);
  /// WrongVersion (written by a newer program); Busy (another process has it); PermissionDenied; NoSpace; Io.
  static Result<std::unique_ptr<Database>> open(const std::string& path, const std::string& what, uint32_t applicationId,
                                                std::span<const Migration> migrations, const OpenOptions& options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// Everything committed so far is on disk when this returns. Only outside a transaction. Costs nothing when there
  /// was no commit since the last call. Throws DatabaseError; then nothing committed since the last success is safe to
  /// tell to others, ever: close the arena.
  void makeDurable();
  /// After a failure: closes the file and opens it anew, as the next process would, and writes what the log holds once
  /// more where the disk may have dropped it. What is kept in memory is forgotten. Only outside a transaction. Throws
  /// DatabaseError; then everything does until a later call succeeds.
  void reopen();
  /// Moves the log into the database file; done now and then by commits anyway.
  void checkpoint();
  bool inTransaction() const { return depth_ > 0; }
  int depth() const { return depth_; }          ///< open transactions, nested ones counted
  uint64_t commits() const { return commits_; }  ///< of outermost transactions, so far
  /// Throws Corrupt with the first damage found. Reads everything: seconds for a large database.
  void verify();
  const std::string& path() const { return path_; }

  /// Called before the outermost commit and before a nested transaction begins, to write back what was kept in memory;
  /// and after any rollback, also of a nested transaction, to forget it. At most one each.
  void setHooks(std::function<void()> writeBack, std::function<void()> forget);

  /// Runs `fn` in a transaction and commits; rolls back if it throws, or if it returns a Result that is an error.
  /// Within another transaction it is a part of it that can be rolled back alone.
  template <typename F>
  auto transact(F&& fn);
  /// The same for work that may be committed a little later, if `fn` returns true: before anything is read, made durable,
  /// or begun with transact(). `committed` is called then, by any thread; not where the commit fails. That fails everything
  /// from then on, until reopen(): what was done since may rest on it. Only outside a transaction.
  template <typename F>
  void transactLater(F&& fn, std::function<void()> committed);
  /// What was to be committed later is, when this returns: costs nothing where nothing was. Throws DatabaseError where it failed.
  void settle();
  /// Called by any thread when settle() is to be called soon: a commit has failed, or has no thread to run it. Without
  /// this, who has no thread commits at once.
  void onSettleDue(std::function<void()> due) { settleDue_ = std::move(due); }
  /// For what takes several statements: as a part of the transaction that is open, or in one of its own.
  template <typename F>
  void together(F&& fn) {
    if (inTransaction()) fn();
    else transact(std::forward<F>(fn));
  }

 private:
  friend class Statement;
  friend class Transaction;
  explicit Database(bool thread)
      : writes_([this](std::string_view jobs) { runJobs(jobs); }, [this] { queueFailed(); }, thread) {}
  void connect(bool create);
  enum class Job : char { Begin, Commit };  ///< of what is queued, the jobs that are no statement's
  void queue(Job job);
  void runJobs(std::string_view jobs);
  void queueFailed();
  void commitQueued();
  bool anyToCommit();
  void settleAll();
  void lost(const Error& error);
  void check() const;
  Result<void> configure(bool create);
  void rewriteLog();
  void close(bool checkpoint);
  sqlite3_file* log();
  static int onLogGrown(void* self, sqlite3* handle, const char* schema, int pages);
  void migrate(std::span<const Migration> migrations, int from);
  void exec(const char* sql);
  [[noreturn]] void fail(int sqliteCode, const char* sql) const;
  Error errorFor(int sqliteCode) const;

  sqlite3* handle_ = nullptr;  ///< null after a reopen() that failed
  std::string path_;
  std::string what_;
  std::string vfs_;
  uint32_t applicationId_ = 0;
  std::span<const Migration> migrations_;
  std::set<Statement*> statements_;
  WriteQueue writes_;
  int depth_ = 0;
  uint64_t commits_ = 0;
  bool durable_ = true;       ///< no commit since the last makeDurable()
  bool syncFailed_ = false;   ///< what the kernel dropped then, no later sync brings to the disk
  bool broken_ = false;       ///< SQLite rolled everything back under an inner transaction: the outer must fail
  std::optional<Error> lost_;  ///< why a transaction could not be committed later
  std::mutex laterMutex_;
  std::deque<std::function<void()>> later_;  ///< for each commit in the queue, in order
  std::function<void()> settleDue_;
  std::function<void()> writeBack_;
  std::function<void()> forget_;
};

/// Ends with commit() or, when dropped without, is rolled back. Transactions nest; the inner end first.
class Transaction {
 public:
  explicit Transaction(Database& db, bool later = false);  ///< `later`: its beginning may be queued, for commitLater()
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  /// Throws DatabaseError; then it is rolled back.
  void commit();
  /// See Database::transactLater. Of an outermost one.
  void commitLater(std::function<void()> committed);

 private:
  void rollback() noexcept;
  Database& db_;
  int depth_;
  bool done_ = false;
};

namespace detail {
template <typename T> struct IsResult : std::false_type {};
template <typename T> struct IsResult<Result<T>> : std::true_type {};
}  // namespace detail

template <typename F>
auto Database::transact(F&& fn) {
  Transaction transaction(*this);
  if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
    fn();
    transaction.commit();
  } else {
    auto result = fn();
    if constexpr (detail::IsResult<decltype(result)>::value) {
      if (!result.ok()) return result;
    }
    transaction.commit();
    return result;
  }
}

template <typename F>
void Database::transactLater(F&& fn, std::function<void()> committed) {
  Transaction transaction(*this, true);
  if (fn()) return transaction.commitLater(std::move(committed));
  transaction.commit();
  committed();
}

/// Runs `fn` and returns its value as a Result; a DatabaseError becomes the Error. Where `fn` returns a Result
/// already, it is passed through.
template <typename F>
auto catching(F&& fn) {
  using T = std::invoke_result_t<F>;
  using R = std::conditional_t<detail::IsResult<T>::value, std::type_identity<T>, std::type_identity<Result<T>>>;
  try {
    if constexpr (std::is_void_v<T>) {
      fn();
      return Result<void>();
    } else {
      return typename R::type(fn());
    }
  } catch (const DatabaseError& e) {
    return typename R::type(e.error());
  }
}

}  // namespace realize::store
