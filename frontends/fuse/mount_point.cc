#include "frontends/fuse/mount_point.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "frontends/fuse/mount_table.h"

extern char** environ;

namespace realize::fuse {

namespace {

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

Code codeOf(int error) {
  switch (error) {
    case ENOENT: return Code::NotFound;
    case ENOTDIR: return Code::NotDirectory;
    case EACCES:
    case EPERM: return Code::PermissionDenied;
    case EBUSY: return Code::Busy;
    case EINVAL: return Code::NotFound;  // umount2: not a mount point
    default: return Code::Io;
  }
}

Error errorOf(int error, const std::string& what) {
  return {codeOf(error), what + ": " + std::strerror(error)};
}

std::optional<std::string> canonical(const std::string& path) {
  std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr), std::free);
  if (!real) return std::nullopt;
  return std::string(real.get());
}

bool isEmptyDirectory(const std::string& path) {
  struct Close {
    void operator()(DIR* dir) const { closedir(dir); }
  };
  std::unique_ptr<DIR, Close> dir(opendir(path.c_str()));
  if (!dir) return false;
  while (const dirent* entry = readdir(dir.get()))
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) return false;
  return true;
}

// stat(2) of a dead mount may be answered from the kernel's cache; statfs(2) never is.
bool isDead(const std::string& path) {
  struct statvfs st;
  return statvfs(path.c_str(), &st) != 0 && errno == ENOTCONN;
}

struct Ran {
  int status = -1;  // exit status; -1: could not be run
  std::string said;
};

// Runs fusermount3 with its stderr caught, and with `commandFd` (or -1) as its _FUSE_COMMFD.
Ran runFusermount(std::vector<std::string> arguments, int commandFd) {
  constexpr int kChildFd = 3;
  Ran ran;
  int pipeFds[2];
  if (pipe2(pipeFds, O_CLOEXEC) != 0) return ran;
  Fd readEnd(pipeFds[0]), writeEnd(pipeFds[1]);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, writeEnd.get(), 2);
  if (commandFd >= 0) posix_spawn_file_actions_adddup2(&actions, commandFd, kChildFd);

  std::vector<std::string> environment;
  for (char** e = environ; *e; ++e)
    if (std::strncmp(*e, "_FUSE_COMMFD=", 13) != 0) environment.push_back(*e);
  if (commandFd >= 0) environment.push_back("_FUSE_COMMFD=" + std::to_string(kChildFd));
  std::vector<char*> argv, envp;
  arguments.insert(arguments.begin(), "fusermount3");
  for (std::string& a : arguments) argv.push_back(a.data());
  for (std::string& e : environment) envp.push_back(e.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);

  pid_t pid = 0;
  int error = posix_spawnp(&pid, "fusermount3", &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  writeEnd.reset();
  if (error != 0) {
    ran.said = "fusermount3 cannot be run (" + std::string(std::strerror(error)) + "); install the package fuse3";
    return ran;
  }
  char buffer[512];
  for (ssize_t n; (n = ::read(readEnd.get(), buffer, sizeof buffer)) != 0;) {
    if (n < 0 && errno != EINTR) break;
    if (n > 0 && ran.said.size() < 4096) ran.said.append(buffer, static_cast<size_t>(n));
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  while (!ran.said.empty() && ran.said.back() == '\n') ran.said.pop_back();
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  return ran;
}

// The descriptor that fusermount3 sends over its socket, or -1.
int receiveDescriptor(int socket) {
  char byte;
  iovec iov{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n;
  while ((n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
  }
  const cmsghdr* header = n > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (!header || header->cmsg_type != SCM_RIGHTS) return -1;
  int fd;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

// In an option list a comma ends an option and a backslash escapes.
std::string escapeOption(const std::string& value) {
  std::string out;
  for (char c : value) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

Result<int> mountByHelper(const std::string& mountPoint, const std::string& source, bool allowOther) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) return errorOf(errno, "socketpair");
  Fd ours(sockets[0]), theirs(sockets[1]);
  std::string options = "nosuid,nodev,default_permissions,subtype=realize,fsname=" + escapeOption(source);
  if (allowOther) options += ",allow_other";
  Ran ran = runFusermount({"-o", options, "--", mountPoint}, theirs.get());
  theirs.reset();
  if (ran.status < 0) return {Code::Unsupported, ran.said};
  if (ran.status != 0) return {Code::PermissionDenied, "cannot mount on " + mountPoint + ": " + ran.said};
  int fd = receiveDescriptor(ours.get());
  if (fd < 0) return {Code::Io, "fusermount3 sent no descriptor for " + mountPoint};
  return fd;
}

Result<int> mountDirectly(const std::string& mountPoint, const std::string& source, bool allowOther) {
  Fd device(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (device.get() < 0) {
    if (errno == ENOENT || errno == ENODEV)
      return {Code::Unsupported, "/dev/fuse is missing: load the kernel module with `modprobe fuse`"};
    return errorOf(errno, "cannot open /dev/fuse");
  }
  std::string options = "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=" +
                        std::to_string(geteuid()) + ",group_id=" + std::to_string(getegid()) +
                        ",default_permissions";
  if (allowOther) options += ",allow_other";
  if (mount(source.c_str(), mountPoint.c_str(), kMountType, MS_NOSUID | MS_NODEV, options.c_str()) != 0)
    return errorOf(errno, "cannot mount on " + mountPoint);
  return device.release();
}

}  // namespace

std::string canonicalMountPoint(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  size_t slash = trimmed.rfind('/');
  std::string parent = slash == std::string::npos ? "." : trimmed.substr(0, slash + 1);
  std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  auto real = canonical(parent);
  if (!real) return trimmed;
  return (*real == "/" ? "" : *real) + "/" + name;
}

bool liesWithin(const std::string& path, const std::string& folder) {
  if (folder == "/") return true;
  return path == folder || (path.starts_with(folder) && path[folder.size()] == '/');
}

Result<std::string> prepareMountPoint(const std::string& path, const std::vector<std::string>& forbidden) {
  struct stat st;
  if (isDead(path)) {
    std::string dead = canonicalMountPoint(path);
    auto entry = mountedAt(dead);
    if (!entry || entry->type != kMountType)
      return {Code::Refused, path + " is a dead mount of something else: unmount it first (umount -l " + path + ")"};
    REALIZE_TRY(unmountFuse(dead, true));
  }
  if (stat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return {Code::NotFound, path + " does not exist: make it first (mkdir " + path + ")"};
    return errorOf(errno, "cannot look at " + path);
  }
  if (!S_ISDIR(st.st_mode)) return {Code::NotDirectory, path + " is not a directory"};
  auto real = canonical(path);
  if (!real) return errorOf(errno, "cannot resolve " + path);
  if (auto entry = mountedAt(*real); entry && entry->type == kMountType)
    return {Code::Exists, entry->source + " is mounted on " + *real + " already: choose another directory, or "
                          "unmount it first (fusermount3 -u " + *real + ")"};
  for (const std::string& folder : forbidden) {
    auto other = canonical(folder);
    if (other && (liesWithin(*real, *other) || liesWithin(*other, *real)))
      return {Code::Refused, *real + " overlaps " + *other + ": choose a directory outside of it and not around it"};
  }
  if (!isEmptyDirectory(*real))
    return {Code::NotEmpty, *real + " is not empty (or not readable): choose an empty directory"};
  return *real;
}

Result<MountedDevice> mountFuse(const std::string& mountPoint, const std::string& source, bool allowOther) {
  auto fd = mountDirectly(mountPoint, source, allowOther);
  if (!fd.ok() && fd.code() == Code::PermissionDenied) fd = mountByHelper(mountPoint, source, allowOther);
  if (!fd.ok()) return fd.error();
  MountedDevice mounted;
  mounted.fd = *fd;
  if (auto entry = mountedAt(mountPoint)) mounted.device = entry->device;
  return mounted;
}

Result<void> unmountFuse(const std::string& mountPoint, bool lazy) {
  if (umount2(mountPoint.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) return {};
  if (errno != EPERM) return errorOf(errno, "cannot unmount " + mountPoint);
  std::vector<std::string> arguments{"-u"};
  if (lazy) arguments.push_back("-z");
  arguments.insert(arguments.end(), {"--", mountPoint});
  Ran ran = runFusermount(std::move(arguments), -1);
  if (ran.status == 0) return {};
  bool busy = ran.said.find("busy") != std::string::npos;
  return {busy ? Code::Busy : ran.status < 0 ? Code::Unsupported : Code::PermissionDenied, ran.said};
}

void setReadAhead(const std::string& device, uint32_t kib) {
  if (kib == 0 || device.empty()) return;
  std::ofstream("/sys/class/bdi/" + device + "/read_ahead_kb") << kib;
}

}  // namespace realize::fuse
