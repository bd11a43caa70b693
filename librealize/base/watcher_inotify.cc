// Watches are kept as a tree of names, so that the rename of a directory moves one node and not every watch under it.
// A watch belongs to an inode, not to a path: the kernel answers a second add of the same directory with the same
// number, wherever it is by then.

#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "librealize/base/disk.h"
#include "librealize/base/errno_code.h"
#include "librealize/base/inotify_events.h"
#include "librealize/base/path.h"
#include "librealize/base/posix_disk.h"

namespace realize {
namespace {

constexpr uint32_t kMask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB |
                           IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK;
constexpr uint32_t kSelf = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED;
constexpr size_t kReadBytes = 64 << 10;
// So that a drain ends though someone writes faster than we read.
constexpr int kReadsPerDrain = 64;

Error noInstance(int number) {
  if (number == EMFILE || number == ENOMEM)
    return Error{Code::TooLarge,
                 "cannot watch for changes: too many inotify instances (raise fs.inotify.max_user_instances with sysctl, "
                 "or the open-file limit)"};
  return errnoError(number, "inotify");
}

struct Node {
  int watch = -1;  // -1: only on the way to others
  uint64_t inode = 0;
  Node* parent = nullptr;
  std::string name;
  std::map<std::string, std::unique_ptr<Node>> children;

  std::string path() const {
    if (!parent) return "";
    return joinPath(parent->path(), name);
  }
};

class InotifyWatcher final : public Watcher {
 public:
  InotifyWatcher(OwnedFd inotify, OwnedFd root) : inotify_(std::move(inotify)), rootFd_(std::move(root)) {}

  Result<void> add(const std::string& directory) override;
  void renamed(const std::string& from, const std::string& to) override;
  void remove(const std::string& directory) override;
  bool expect(const std::string& directory, uint64_t inode, const std::string& name) override;
  bool expecting() const override { return !expected_.empty(); }
  Result<std::vector<WatchEvent>> drain() override;
  int descriptor() const override { return inotify_.get(); }

 private:
  Node* find(const std::string& path) { return walk(path, false); }
  Node* walk(const std::string& path, bool make);
  void prune(Node* node);
  void forget(Node& node);
  std::unique_ptr<Node> detach(Node* node);
  bool expected(const InotifyEvent& event);
  void take(const InotifyEvent& event, std::vector<WatchEvent>& out, std::unordered_set<std::string>& seen);

  OwnedFd inotify_;
  OwnedFd rootFd_;
  Node root_;
  std::unordered_map<int, Node*> byWatch_;
  std::unordered_map<int, std::unordered_multiset<std::string>> expected_;  ///< names that come into the directory
};

Node* InotifyWatcher::walk(const std::string& path, bool make) {
  Node* node = &root_;
  for (size_t start = 0; start < path.size();) {
    size_t end = std::min(path.find('/', start), path.size());
    std::string name = path.substr(start, end - start);
    auto it = node->children.find(name);
    if (it == node->children.end()) {
      if (!make) return nullptr;
      auto child = std::make_unique<Node>();
      child->parent = node;
      child->name = name;
      it = node->children.emplace(name, std::move(child)).first;
    }
    node = it->second.get();
    start = end + 1;
  }
  return node;
}

// Nodes that neither are watched nor lead to one go, upwards.
void InotifyWatcher::prune(Node* node) {
  while (node->parent && node->watch < 0 && node->children.empty()) {
    Node* parent = node->parent;
    parent->children.erase(parent->children.find(node->name));
    node = parent;
  }
}

void InotifyWatcher::forget(Node& node) {
  if (node.watch >= 0) {
    byWatch_.erase(node.watch);
    inotify_rm_watch(inotify_.get(), node.watch);  // Fails when the directory is gone, which is as good.
    node.watch = -1;
  }
  for (auto& [name, child] : node.children) forget(*child);
}

std::unique_ptr<Node> InotifyWatcher::detach(Node* node) {
  Node* parent = node->parent;
  auto it = parent->children.find(node->name);
  std::unique_ptr<Node> owned = std::move(it->second);
  parent->children.erase(it);
  owned->parent = nullptr;
  prune(parent);
  return owned;
}

Result<void> InotifyWatcher::add(const std::string& directory) {
  REALIZE_TRY(checkBeneath(directory));
  REALIZE_ASSIGN(OwnedFd held, openBeneath(rootFd_.get(), directory, O_PATH | O_DIRECTORY));
  // By the descriptor: a path could lead through a symlink by now. Hence no IN_DONT_FOLLOW, which would stop at procfs.
  std::string path = "/proc/self/fd/" + std::to_string(held.get());
  int watch = inotify_add_watch(inotify_.get(), path.c_str(), kMask);
  if (watch < 0) {
    if (errno == ENOSPC || errno == ENOMEM)
      return Error{Code::TooLarge, "cannot watch '" + directory +
                                       "' for changes: the limit of watches is reached (raise it: sysctl "
                                       "fs.inotify.max_user_watches=1048576)"};
    return errnoError(errno, "watch '" + directory + "'");
  }
  struct stat is;
  if (fstat(held.get(), &is) != 0) return errnoError(errno, "watch '" + directory + "'");
  Node* node = walk(directory, true);
  node->inode = is.st_ino;
  if (node->watch == watch) return {};
  if (node->watch >= 0) {
    // Another directory had this name. It may live on elsewhere; whoever finds it there adds it again.
    byWatch_.erase(node->watch);
    inotify_rm_watch(inotify_.get(), node->watch);
  }
  node->watch = watch;
  Node*& holder = byWatch_[watch];
  if (holder) {
    // The same directory under another name, whose rename we were not told of.
    holder->watch = -1;
    prune(holder);
  }
  holder = node;
  return {};
}

void InotifyWatcher::renamed(const std::string& from, const std::string& to) {
  Node* node = find(from);
  if (!node || !node->parent || to.empty() || from == to || to.starts_with(from + "/")) return;
  std::unique_ptr<Node> moving = detach(node);
  remove(to);
  Node* parent = walk(parentPath(to), true);
  moving->name = baseName(to);
  moving->parent = parent;
  parent->children[moving->name] = std::move(moving);
}

void InotifyWatcher::remove(const std::string& directory) {
  Node* node = find(directory);
  if (!node) return;
  forget(*node);
  node->children.clear();
  prune(node);
}

bool InotifyWatcher::expect(const std::string& directory, uint64_t inode, const std::string& name) {
  const Node* node = find(directory);
  if (!node || node->watch < 0 || node->inode != inode) return false;
  expected_[node->watch].insert(name);
  return true;
}

/// As many of them as were said, and no more.
bool InotifyWatcher::expected(const InotifyEvent& event) {
  if (expected_.empty() || event.mask != IN_MOVED_TO) return false;
  auto directory = expected_.find(event.watch);
  if (directory == expected_.end()) return false;
  auto name = directory->second.find(std::string(event.name));
  if (name == directory->second.end()) return false;
  directory->second.erase(name);
  return true;
}

void InotifyWatcher::take(const InotifyEvent& event, std::vector<WatchEvent>& out,
                          std::unordered_set<std::string>& seen) {
  if (event.mask & IN_Q_OVERFLOW) {
    if (seen.insert(std::string(1, '\0')).second) out.push_back(WatchEvent{"", "", true});
    return;
  }
  auto it = byWatch_.find(event.watch);
  if (it == byWatch_.end()) return;  // Removed, with events still queued.
  Node* node = it->second;
  WatchEvent told;
  told.directory = node->path();
  if (!(event.mask & kSelf)) told.name = std::string(event.name);
  told.directoryMoved = (event.mask & IN_ISDIR) && (event.mask & (IN_MOVED_FROM | IN_MOVED_TO));
  if (event.mask & IN_IGNORED) {
    // The kernel has dropped the watch: the directory is gone, or its file system unmounted.
    byWatch_.erase(it);
    node->watch = -1;
    prune(node);
  }
  if (seen.insert(told.directory + "//" + told.name).second) out.push_back(std::move(told));
}

Result<std::vector<WatchEvent>> InotifyWatcher::drain() {
  std::vector<WatchEvent> out;
  std::unordered_set<std::string> seen;
  alignas(inotify_event) std::array<std::byte, kReadBytes> buffer;
  for (int reads = 0; reads < kReadsPerDrain; ++reads) {
    ssize_t size = read(inotify_.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) {
      expected_.clear();  // Told by now, or never.
      break;
    }
    if (size < 0) return errnoError(errno, "read the changes watched for");
    REALIZE_ASSIGN(auto events, parseInotifyEvents(std::span(buffer).first(size_t(size))));
    for (const InotifyEvent& event : events)
      if (!expected(event)) take(event, out, seen);
  }
  return out;
}

}  // namespace

Result<std::vector<InotifyEvent>> parseInotifyEvents(std::span<const std::byte> bytes) {
  std::vector<InotifyEvent> out;
  while (!bytes.empty()) {
    inotify_event head;
    if (bytes.size() < sizeof(head)) return Error{Code::Corrupt, "inotify: half a record"};
    memcpy(&head, bytes.data(), sizeof(head));
    bytes = bytes.subspan(sizeof(head));
    if (head.len > bytes.size()) return Error{Code::Corrupt, "inotify: a name that does not fit"};
    const char* name = reinterpret_cast<const char*>(bytes.data());
    // Names are padded with NULs.
    out.push_back(InotifyEvent{head.wd, head.mask, std::string_view(name, strnlen(name, head.len))});
    bytes = bytes.subspan(head.len);
  }
  return out;
}

Result<std::unique_ptr<Watcher>> watchFolder(const std::string& absoluteRoot) {
  int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) return noInstance(errno);
  OwnedFd inotify(fd);
  if (absoluteRoot.empty() || absoluteRoot[0] != '/')
    return Error{Code::InvalidArgument, "'" + absoluteRoot + "': not an absolute path"};
  int root = open(absoluteRoot.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return errnoError(errno, "watch '" + absoluteRoot + "'");
  return std::unique_ptr<Watcher>(new InotifyWatcher(std::move(inotify), OwnedFd(root)));
}

}  // namespace realize
