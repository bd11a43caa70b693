#include <unordered_set>

#include "librealize/base/posix_disk.h"
#include "tests/support/fake_state.h"

namespace realize::test {

/// Watches belong to inodes, as inotify's do; names follow only what renamed() says, also those of what waits to be read.
class FakeWatcher final : public Watcher {
 public:
  FakeWatcher(std::shared_ptr<FakeState> state, uint64_t root, std::string path)
      : state_(std::move(state)), generation_(state_->generation), root_(root), path_(std::move(path)) {
    state_->watchers.insert(this);
  }
  ~FakeWatcher() override {
    std::lock_guard lock(state_->mutex);
    state_->watchers.erase(this);
  }

  Result<void> add(const std::string& directory) override {
    REALIZE_TRY(state_->enter({FakeOp::Watch, path_ + "/" + directory, ""}, generation_));
    std::lock_guard lock(state_->mutex);
    REALIZE_ASSIGN(uint64_t inode, state_->resolve(root_, directory));
    FileStat::Type type = state_->image.at(inode).type;
    if (type == FileStat::Type::Symlink) return Error{Code::PermissionDenied, directory + ": a symlink"};
    if (type != FileStat::Type::Directory) return Error{Code::NotDirectory, directory + ": not a directory"};
    REALIZE_TRY(state_->mayRead(state_->image.at(inode)));
    if (!paths_.count(inode) && paths_.size() >= state_->watchLimit)
      return Error{Code::TooLarge, directory + ": the limit of watches is reached"};
    std::erase_if(paths_, [&](auto& item) { return item.second == directory; });
    paths_[inode] = directory;
    return {};
  }

  void renamed(const std::string& from, const std::string& to) override {
    std::lock_guard lock(state_->mutex);
    if (from.empty() || to.empty() || from == to) return;
    std::map<uint64_t, std::string> moved;
    for (auto& [inode, path] : paths_)
      if (isWithin(path, from)) moved[inode] = to + path.substr(from.size());
    if (moved.empty()) return;
    std::erase_if(paths_, [&](auto& item) { return isWithin(item.second, to) && !moved.count(item.first); });
    for (auto& [inode, path] : moved) paths_[inode] = path;
  }

  void remove(const std::string& directory) override {
    std::lock_guard lock(state_->mutex);
    std::erase_if(paths_, [&](auto& item) { return isWithin(item.second, directory); });
  }

  bool expect(const std::string& directory, uint64_t inode, const std::string& name) override {
    std::lock_guard lock(state_->mutex);
    auto watched = paths_.find(inode);
    if (watched == paths_.end() || watched->second != directory) return false;
    expected_.insert({inode, name});
    return true;
  }
  bool expecting() const override { return !expected_.empty(); }

  Result<std::vector<WatchEvent>> drain() override {
    std::lock_guard lock(state_->mutex);
    if (generation_ != state_->generation || state_->off) return Error{Code::Io, path_ + ": the power was cut"};
    if (broken) return Error{Code::Io, path_ + ": the watch failed"};
    std::vector<WatchEvent> out;
    std::unordered_set<std::string> seen;
    for (Queued& queued : queue_) {
      WatchEvent& event = queued.event;
      if (queued.inode) {
        auto it = paths_.find(queued.inode);
        if (it == paths_.end()) continue;  // Removed, with events still queued.
        event.directory = it->second;
        if (auto name = expected_.find({queued.inode, event.name}); name != expected_.end()) {
          expected_.erase(name);
          continue;
        }
      }
      if (seen.insert(event.directory + "//" + event.name + (event.overflow ? "!" : "")).second)
        out.push_back(std::move(event));
    }
    queue_.clear();
    expected_.clear();
    return out;
  }

  void tell(uint64_t directory, const std::string& name) {
    if (generation_ != state_->generation) return;
    if (paths_.count(directory)) queue_.push_back({directory, WatchEvent{"", name, false}});
  }
  bool broken = false;
  void overflow() {
    queue_.clear();
    queue_.push_back({0, WatchEvent{"", "", true}});
  }
  void forget(uint64_t directory) {
    auto it = paths_.find(directory);
    if (it == paths_.end()) return;
    for (Queued& queued : queue_) {
      if (queued.inode != directory) continue;
      queued.inode = 0;  // The number may be used again.
      queued.event.directory = it->second;
    }
    paths_.erase(it);
  }

 private:
  struct Queued {
    uint64_t inode;  ///< of the directory; 0: its path is known
    WatchEvent event;
  };
  static bool isWithin(const std::string& path, const std::string& above) {
    return above.empty() || path == above || path.starts_with(above + "/");
  }

  std::shared_ptr<FakeState> state_;
  uint64_t generation_;
  uint64_t root_;
  std::string path_;
  std::map<uint64_t, std::string> paths_;
  std::vector<Queued> queue_;
  std::multiset<std::pair<uint64_t, std::string>> expected_;  ///< directory and name
};

std::unique_ptr<Watcher> openFakeWatcher(std::shared_ptr<FakeState> state, uint64_t root, std::string path) {
  return std::make_unique<FakeWatcher>(std::move(state), root, std::move(path));
}

void fakeOverflow(FakeWatcher& watcher) { watcher.overflow(); }
void fakeBreak(FakeWatcher& watcher) { watcher.broken = true; }
void fakeTell(FakeWatcher& watcher, uint64_t directory, const std::string& name) { watcher.tell(directory, name); }
void fakeForget(FakeWatcher& watcher, uint64_t directory) { watcher.forget(directory); }

}  // namespace realize::test
