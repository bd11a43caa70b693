#include "frontends/daemon/mount_notes.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "frontends/daemon/control_protocol.h"
#include "frontends/daemon/control_socket.h"

namespace realize::daemon {

using nlohmann::json;

namespace {

std::string notesPath(const std::string& stateDir) { return stateDir + "/mounts"; }

json noteOf(const MountInfo& mount) {
  json out = json::object();
  putText(out, "arena", mount.arena);
  putText(out, "mount_point", mount.mountPoint);
  out["options"] = mount.options;
  return out;
}

std::optional<MountInfo> noteFrom(const std::string& line) {
  auto object = parseObject(line);
  if (!object) return std::nullopt;
  auto arena = getText(*object, "arena");
  auto mountPoint = getText(*object, "mount_point");
  if (!arena || !mountPoint) return std::nullopt;
  MountInfo out{*arena, *mountPoint, {}};
  for (const json& option : object->value("options", json::array()))
    if (option.is_string()) out.options.push_back(option);
  return out;
}

}  // namespace

std::vector<MountInfo> readMountNotes(const std::string& stateDir) {
  std::vector<MountInfo> out;
  std::ifstream file(notesPath(stateDir));
  for (std::string line; std::getline(file, line);)
    if (auto note = noteFrom(line)) out.push_back(std::move(*note));
  return out;
}

Result<void> writeMountNotes(const std::string& stateDir, const std::vector<MountInfo>& mounts) {
  const std::string path = notesPath(stateDir), fresh = path + ".new";
  auto failed = [&] { return Error{Code::Io, path + ": " + std::strerror(errno)}; };
  if (mounts.empty()) {
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return failed();
    return {};
  }
  std::string text;
  for (const MountInfo& mount : mounts) text += toLine(noteOf(mount)) + "\n";
  Fd file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file || write(file.get(), text.data(), text.size()) != ssize_t(text.size())) return failed();
  if (rename(fresh.c_str(), path.c_str()) != 0) return failed();
  return {};
}

bool isDeadMount(const std::string& mountPoint) {
  // stat(2) may be answered from what the kernel remembers.
  struct statvfs info {};
  return statvfs(mountPoint.c_str(), &info) != 0 && errno == ENOTCONN;
}

}  // namespace realize::daemon
