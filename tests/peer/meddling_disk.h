#pragma once

// The operating system's disk with somebody at it: hooks run right before or after chosen operations, as another process
// could do anything at that moment, and may make the operation fail.

#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "librealize/base/disk.h"

namespace realize::peer::testing {

/// Thread: set the hooks before the disk is used, or between operations.
struct Meddler {
  std::function<std::optional<Error>(const std::string& from, const std::string& to, RenameKind kind)> beforeRename;
  std::function<void(const std::string& from, const std::string& to, RenameKind kind)> afterRename;
  std::function<void(const std::string& path)> beforeUnlink;
  std::function<std::optional<Error>(const std::string& path, OpenMode mode)> beforeOpen;
  std::optional<uint64_t> spaceLeftBytes;  ///< what the disk is said to have
};

class MeddlingDirectory final : public Directory {
 public:
  MeddlingDirectory(std::unique_ptr<Directory> inner, Meddler& meddler, std::string path = "")
      : inner_(std::move(inner)), meddler_(meddler), path_(std::move(path)) {}
  Result<FileStat> stat(const std::string& path) override { return inner_->stat(path); }
  Result<std::unique_ptr<DiskFile>> open(const std::string& path, OpenMode mode, uint32_t permissions) override {
    if (meddler_.beforeOpen)
      if (auto failed = meddler_.beforeOpen(full(path), mode)) return *failed;
    return inner_->open(path, mode, permissions);
  }
  Result<std::unique_ptr<Directory>> openDirectory(const std::string& path) override {
    auto opened = inner_->openDirectory(path);
    if (!opened.ok()) return opened.error();
    return std::unique_ptr<Directory>(std::make_unique<MeddlingDirectory>(std::move(*opened), meddler_, full(path)));
  }
  Result<std::vector<DirectoryItem>> list(const std::string& path) override { return inner_->list(path); }
  Result<void> makeDirectory(const std::string& path, uint32_t permissions) override {
    return inner_->makeDirectory(path, permissions);
  }
  Result<void> makeSymlink(const std::string& path, const std::string& target) override {
    return inner_->makeSymlink(path, target);
  }
  Result<std::string> readSymlink(const std::string& path) override { return inner_->readSymlink(path); }
  Result<void> unlink(const std::string& path) override {
    if (meddler_.beforeUnlink) meddler_.beforeUnlink(full(path));
    return inner_->unlink(path);
  }
  Result<void> removeDirectory(const std::string& path) override { return inner_->removeDirectory(path); }
  Result<void> rename(const std::string& from, const std::string& to, RenameKind kind) override {
    return meddled(full(from), full(to), kind, [&] { return inner_->rename(from, to, kind); });
  }
  Result<void> renameInto(const std::string& from, Directory& directory, const std::string& to, RenameKind kind) override {
    auto& other = dynamic_cast<MeddlingDirectory&>(directory);
    return meddled(full(from), other.full(to), kind, [&] { return inner_->renameInto(from, *other.inner_, to, kind); });
  }
  Result<void> setMode(const std::string& path, uint32_t mode) override { return inner_->setMode(path, mode); }
  Result<void> setTimes(const std::string& path, int64_t mtimeNs) override {
    return inner_->setTimes(path, mtimeNs);
  }
  Result<void> setOwner(const std::string& path, int64_t uid, int64_t gid) override { return inner_->setOwner(path, uid, gid); }
  Result<std::string> getXattr(const std::string& path, const std::string& name) override { return inner_->getXattr(path, name); }
  Result<void> setXattr(const std::string& path, const std::string& name, const std::string& value, int flags) override {
    return inner_->setXattr(path, name, value, flags);
  }
  Result<std::vector<std::string>> listXattrs(const std::string& path) override { return inner_->listXattrs(path); }
  Result<void> removeXattr(const std::string& path, const std::string& name) override { return inner_->removeXattr(path, name); }
  Result<void> syncDirectory(const std::string& path) override { return inner_->syncDirectory(path); }
  Result<void> syncAll() override { return inner_->syncAll(); }
  Result<Space> space() override {
    auto space = inner_->space();
    if (space.ok() && meddler_.spaceLeftBytes) space->freeBytes = space->availableBytes = *meddler_.spaceLeftBytes;
    return space;
  }
  std::string displayPath() const override { return inner_->displayPath(); }

 private:
  std::string full(const std::string& path) const { return path_.empty() || path.empty() ? path_ + path : path_ + "/" + path; }
  template <typename Rename>
  Result<void> meddled(const std::string& from, const std::string& to, RenameKind kind, Rename&& rename) {
    if (meddler_.beforeRename)
      if (auto failed = meddler_.beforeRename(from, to, kind)) return *failed;
    auto done = rename();
    if (done.ok() && meddler_.afterRename) meddler_.afterRename(from, to, kind);
    return done;
  }

  std::unique_ptr<Directory> inner_;
  Meddler& meddler_;
  std::string path_;
};

class MeddlingDisk final : public Disk {
 public:
  Result<std::unique_ptr<Directory>> openRoot(const std::string& absolutePath) override {
    auto opened = systemDisk().openRoot(absolutePath);
    if (!opened.ok()) return opened.error();
    return std::unique_ptr<Directory>(std::make_unique<MeddlingDirectory>(std::move(*opened), meddler));
  }
  Meddler meddler;
};

}  // namespace realize::peer::testing
