#include "librealize/store/disk_vfs.h"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "librealize/base/path.h"

namespace realize::store {
namespace {

constexpr int kMaxPathBytes = 1024;
constexpr sqlite3_int64 kUnixEpochJulianMs = 210'866'760'000'000;

// SQLite's five-level lock (sqlite.org/lockingv3.html), among the connections of this process.
struct FileLock {
  int readers = 0;
  const void* writer = nullptr;
  int writerLevel = SQLITE_LOCK_NONE;
};

struct OpenFile {
  std::unique_ptr<DiskFile> file;
  Directory* directory = nullptr;
  std::string path;
  std::string parent;
  bool deleteOnClose = false;
  bool nameUnsynced = false;
  std::mutex* mutex = nullptr;
  FileLock own;  // of a temporary file, which nobody else has
  FileLock* lock = nullptr;
  int level = SQLITE_LOCK_NONE;
};

// What SQLite allocates; `base` first, as it must be.
struct Handle {
  sqlite3_file base;
  OpenFile* open;
};

OpenFile& fileOf(sqlite3_file* file) { return *reinterpret_cast<Handle*>(file)->open; }

int codeOr(const Error& error, int otherwise) { return error.code == Code::NoSpace ? SQLITE_FULL : otherwise; }

int unlockTo(OpenFile& file, int level) {
  std::lock_guard guard(*file.mutex);
  if (level >= file.level) return SQLITE_OK;
  if (file.lock->writer == &file) {
    file.lock->writer = nullptr;
    file.lock->writerLevel = SQLITE_LOCK_NONE;
  }
  if (level == SQLITE_LOCK_NONE && file.level >= SQLITE_LOCK_SHARED) --file.lock->readers;
  file.level = level;
  return SQLITE_OK;
}

int closeFile(sqlite3_file* handle) {
  OpenFile* file = reinterpret_cast<Handle*>(handle)->open;
  unlockTo(*file, SQLITE_LOCK_NONE);
  if (file->deleteOnClose) (void)file->directory->unlink(file->path);
  delete file;
  return SQLITE_OK;
}

int readFile(sqlite3_file* handle, void* to, int bytes, sqlite3_int64 offset) {
  std::span<std::byte> dst(static_cast<std::byte*>(to), size_t(bytes));
  auto got = fileOf(handle).file->read(uint64_t(offset), dst);
  if (!got.ok()) return SQLITE_IOERR_READ;
  if (*got == dst.size()) return SQLITE_OK;
  memset(dst.data() + *got, 0, dst.size() - *got);  // SQLite relies on the zeros.
  return SQLITE_IOERR_SHORT_READ;
}

int writeFile(sqlite3_file* handle, const void* from, int bytes, sqlite3_int64 offset) {
  std::span<const std::byte> src(static_cast<const std::byte*>(from), size_t(bytes));
  auto done = fileOf(handle).file->write(uint64_t(offset), src);
  return done.ok() ? SQLITE_OK : codeOr(done.error(), SQLITE_IOERR_WRITE);
}

int truncateFile(sqlite3_file* handle, sqlite3_int64 size) {
  return fileOf(handle).file->truncate(uint64_t(size)).ok() ? SQLITE_OK : SQLITE_IOERR_TRUNCATE;
}

int syncFile(sqlite3_file* handle, int flags) {
  OpenFile& file = fileOf(handle);
  auto done = file.file->sync((flags & SQLITE_SYNC_DATAONLY) == 0);
  if (!done.ok()) return codeOr(done.error(), SQLITE_IOERR_FSYNC);
  if (!file.nameUnsynced) return SQLITE_OK;
  if (!file.directory->syncDirectory(file.parent).ok()) return SQLITE_IOERR_DIR_FSYNC;
  file.nameUnsynced = false;
  return SQLITE_OK;
}

int fileSize(sqlite3_file* handle, sqlite3_int64* size) {
  auto stat = fileOf(handle).file->stat();
  if (!stat.ok()) return SQLITE_IOERR_FSTAT;
  *size = sqlite3_int64(stat->sizeBytes);
  return SQLITE_OK;
}

int lockFile(sqlite3_file* handle, int level) {
  OpenFile& file = fileOf(handle);
  std::lock_guard guard(*file.mutex);
  FileLock& lock = *file.lock;
  if (file.level >= level) return SQLITE_OK;
  bool othersWrite = lock.writer && lock.writer != &file;
  if (file.level == SQLITE_LOCK_NONE) {
    if (othersWrite && lock.writerLevel >= SQLITE_LOCK_PENDING) return SQLITE_BUSY;
    ++lock.readers;
    file.level = SQLITE_LOCK_SHARED;
  }
  if (level == SQLITE_LOCK_SHARED) return SQLITE_OK;
  if (othersWrite) return SQLITE_BUSY;
  lock.writer = &file;
  if (level == SQLITE_LOCK_RESERVED) {
    lock.writerLevel = file.level = SQLITE_LOCK_RESERVED;
    return SQLITE_OK;
  }
  // No new readers from here on; those there may finish.
  lock.writerLevel = file.level = SQLITE_LOCK_PENDING;
  if (lock.readers > 1) return SQLITE_BUSY;
  lock.writerLevel = file.level = SQLITE_LOCK_EXCLUSIVE;
  return SQLITE_OK;
}

int unlockFile(sqlite3_file* handle, int level) { return unlockTo(fileOf(handle), level); }

int checkReserved(sqlite3_file* handle, int* reserved) {
  OpenFile& file = fileOf(handle);
  std::lock_guard guard(*file.mutex);
  *reserved = file.lock->writer != nullptr;
  return SQLITE_OK;
}

int fileControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int sectorSize(sqlite3_file*) { return 4096; }
// A write does not harm bytes around it, as on every file system this runs on (and on the fake one).
int characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

sqlite3_io_methods fileMethods() {
  sqlite3_io_methods methods{};
  methods.iVersion = 1;  // Without shared memory and mapping.
  methods.xClose = closeFile;
  methods.xRead = readFile;
  methods.xWrite = writeFile;
  methods.xTruncate = truncateFile;
  methods.xSync = syncFile;
  methods.xFileSize = fileSize;
  methods.xLock = lockFile;
  methods.xUnlock = unlockFile;
  methods.xCheckReservedLock = checkReserved;
  methods.xFileControl = fileControl;
  methods.xSectorSize = sectorSize;
  methods.xDeviceCharacteristics = characteristics;
  return methods;
}

}  // namespace

struct DiskVfs::State {
  State(std::string nameIn, std::unique_ptr<Directory> directoryIn, Clock& clockIn, Random& randomIn)
      : name(std::move(nameIn)), directory(std::move(directoryIn)), clock(clockIn), random(randomIn) {}

  static State& of(sqlite3_vfs* vfs) { return *static_cast<State*>(vfs->pAppData); }
  Result<std::unique_ptr<DiskFile>> openMode(const std::string& path, int flags, bool& readOnly);
  void fillIn();

  static int open(sqlite3_vfs* vfs, sqlite3_filename path, sqlite3_file* handle, int flags, int* outFlags);
  static int remove(sqlite3_vfs* vfs, const char* path, int syncDirectory);
  static int access(sqlite3_vfs* vfs, const char* path, int flags, int* result);
  static int fullPathname(sqlite3_vfs*, const char* path, int outBytes, char* out);
  static int randomness(sqlite3_vfs* vfs, int bytes, char* out);
  static int currentTime(sqlite3_vfs* vfs, double* julianDays);
  static int currentTimeInt64(sqlite3_vfs* vfs, sqlite3_int64* julianMs);

  std::string name;
  std::unique_ptr<Directory> directory;
  Clock& clock;
  Random& random;
  sqlite3_io_methods methods = fileMethods();
  sqlite3_vfs vfs{};
  std::mutex mutex;
  std::map<std::string, FileLock> locks;  // node-based: OpenFiles point into it
};

Result<std::unique_ptr<DiskFile>> DiskVfs::State::openMode(const std::string& path, int flags, bool& readOnly) {
  readOnly = (flags & SQLITE_OPEN_READWRITE) == 0;
  if (readOnly) return directory->open(path, OpenMode::Read);
  OpenMode mode = OpenMode::ReadWrite;
  if (flags & SQLITE_OPEN_CREATE) mode = (flags & SQLITE_OPEN_EXCLUSIVE) ? OpenMode::CreateNew : OpenMode::CreateOrOpen;
  auto file = directory->open(path, mode, 0600);
  if (file.ok() || (file.code() != Code::PermissionDenied && file.code() != Code::ReadOnly)) return file;
  readOnly = true;
  return directory->open(path, OpenMode::Read);
}

int DiskVfs::State::open(sqlite3_vfs* vfs, sqlite3_filename path, sqlite3_file* handle, int flags, int* outFlags) {
  State& self = of(vfs);
  handle->pMethods = nullptr;  // Until it is open, SQLite must not close it.
  auto file = std::make_unique<OpenFile>();
  file->directory = self.directory.get();
  file->mutex = &self.mutex;
  bool readOnly = false;
  if (path) {
    auto opened = self.openMode(path, flags, readOnly);
    if (!opened.ok()) return codeOr(opened.error(), SQLITE_CANTOPEN);
    file->file = std::move(opened).value();
    file->path = path;
    file->parent = parentPath(file->path);
    file->deleteOnClose = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    file->nameUnsynced = (flags & SQLITE_OPEN_CREATE) != 0 && !file->deleteOnClose;
  } else {
    // Not wanted by name: what a crash leaves of it would never be found.
    auto temp = openTemp(*self.directory, "", self.random);
    if (!temp.ok()) return codeOr(temp.error(), SQLITE_CANTOPEN);
    if (!self.directory->unlink(temp->path).ok()) return SQLITE_CANTOPEN;
    file->file = std::move(temp->file);
  }
  {
    std::lock_guard guard(self.mutex);
    file->lock = path ? &self.locks[file->path] : &file->own;
  }
  if (outFlags) *outFlags = readOnly ? (flags & ~SQLITE_OPEN_READWRITE) | SQLITE_OPEN_READONLY : flags;
  auto* opened = reinterpret_cast<Handle*>(handle);
  opened->open = file.release();
  handle->pMethods = &self.methods;
  return SQLITE_OK;
}

int DiskVfs::State::remove(sqlite3_vfs* vfs, const char* path, int syncDirectory) {
  State& self = of(vfs);
  if (auto done = self.directory->unlink(path); !done.ok())
    return done.code() == Code::NotFound ? SQLITE_IOERR_DELETE_NOENT : SQLITE_IOERR_DELETE;
  if (syncDirectory && !self.directory->syncDirectory(parentPath(std::string(path))).ok()) return SQLITE_IOERR_DIR_FSYNC;
  return SQLITE_OK;
}

int DiskVfs::State::access(sqlite3_vfs* vfs, const char* path, int flags, int* result) {
  *result = 0;
  auto stat = of(vfs).directory->stat(path);
  // What cannot be looked at is not "absent": SQLite would pass over a journal that must be rolled back.
  if (!stat.ok()) return stat.code() == Code::NotFound ? SQLITE_OK : SQLITE_IOERR_ACCESS;
  // An empty file counts as none, as with SQLite's own VFS.
  *result = flags != SQLITE_ACCESS_EXISTS || stat->sizeBytes > 0;
  return SQLITE_OK;
}

int DiskVfs::State::fullPathname(sqlite3_vfs*, const char* path, int outBytes, char* out) {
  size_t size = strlen(path);
  if (size >= size_t(outBytes)) return SQLITE_CANTOPEN;
  memcpy(out, path, size + 1);
  return SQLITE_OK;
}

int DiskVfs::State::randomness(sqlite3_vfs* vfs, int bytes, char* out) {
  of(vfs).random.fill(std::span(reinterpret_cast<uint8_t*>(out), size_t(bytes)));
  return bytes;
}

int DiskVfs::State::currentTimeInt64(sqlite3_vfs* vfs, sqlite3_int64* julianMs) {
  *julianMs = kUnixEpochJulianMs + of(vfs).clock.nowNs() / 1'000'000;
  return SQLITE_OK;
}

int DiskVfs::State::currentTime(sqlite3_vfs* vfs, double* julianDays) {
  sqlite3_int64 ms = 0;
  currentTimeInt64(vfs, &ms);
  *julianDays = double(ms) / 86'400'000.0;
  return SQLITE_OK;
}

void DiskVfs::State::fillIn() {
  vfs.iVersion = 2;
  vfs.szOsFile = sizeof(Handle);
  vfs.mxPathname = kMaxPathBytes;
  vfs.zName = name.c_str();
  vfs.pAppData = this;
  vfs.xOpen = open;
  vfs.xDelete = remove;
  vfs.xAccess = access;
  vfs.xFullPathname = fullPathname;
  vfs.xDlOpen = [](sqlite3_vfs*, const char*) -> void* { return nullptr; };
  vfs.xDlError = [](sqlite3_vfs*, int bytes, char* out) { if (bytes > 0) out[0] = '\0'; };
  vfs.xDlSym = [](sqlite3_vfs*, void*, const char*) -> void (*)(void) { return nullptr; };
  vfs.xDlClose = [](sqlite3_vfs*, void*) {};
  vfs.xRandomness = randomness;
  vfs.xSleep = [](sqlite3_vfs*, int microseconds) { return microseconds; };  // Fake time would not pass.
  vfs.xCurrentTime = currentTime;
  vfs.xGetLastError = [](sqlite3_vfs*, int, char*) { return 0; };
  vfs.xCurrentTimeInt64 = currentTimeInt64;
}

DiskVfs::DiskVfs(std::string name, std::unique_ptr<Directory> directory, Clock& clock, Random& random)
    : state_(std::make_unique<State>(std::move(name), std::move(directory), clock, random)) {
  state_->fillIn();
  sqlite3_vfs_register(&state_->vfs, 0);
}

DiskVfs::~DiskVfs() { sqlite3_vfs_unregister(&state_->vfs); }

const std::string& DiskVfs::name() const { return state_->name; }

}  // namespace realize::store
