// user.realize.* of every entry; other extended attributes are the Real file's own.

#include <cstdio>
#include <string_view>

#include "librealize/peer/arena_file_system_state.h"
#include "librealize/peer/marks.h"

namespace realize::peer {

namespace {

constexpr std::string_view kPrefix = "user.realize.";
constexpr char kMark[] = "user.realize.mark";
constexpr char kStatus[] = "user.realize.status";
constexpr char kVersions[] = "user.realize.versions";

const Error kNoAttribute{Code::NotFound, "no such attribute"};

bool isOurs(const std::string& name) { return name.starts_with(kPrefix); }

std::string statusText(Core& core, const logic::Record& record, bool real) {
  std::string text = real ? "real" : "unreal";
  if (record.entry.kind != EntryKind::File) return text;
  if (auto shown = real ? std::nullopt : core.shownVersion(record)) {
    const uint64_t here = core.transfers->cachedBytes(shown->second.blob);
    if (here > 0 && here == shown->second.sizeBytes) text = "cached";
    else if (here > 0) text = "partial " + std::to_string(here) + "/" + std::to_string(shown->second.sizeBytes);
  }
  if (core.tree.shownHeads(record.entry.id).size() > 1) text += ", conflict";
  return text;
}

std::string versionsText(Core& core, const logic::Record& record) {
  std::string text;
  for (const auto& head : core.tree.shownHeads(record.entry.id)) {
    char line[160];
    const int64_t ns = head.version.mtimeNs;
    const int64_t seconds = ns >= 0 ? ns / 1'000'000'000 : (ns - 999'999'999) / 1'000'000'000;
    std::snprintf(line, sizeof line, "%llx-%llx %llu %lld.%09lld ", static_cast<unsigned long long>(head.dot.origin),
                  static_cast<unsigned long long>(head.dot.seq), static_cast<unsigned long long>(head.version.sizeBytes),
                  static_cast<long long>(seconds), static_cast<long long>(ns - seconds * 1'000'000'000));
    text += line + head.version.author.hex() + "\n";
  }
  return text;
}

}  // namespace

Result<std::string> ArenaFileSystem::getXattr(NodeId node, const std::string& name) {
  auto& s = *s_;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.usable());
  REALIZE_ASSIGN(auto entry, s.find(node));
  if (name == kMark) {
    switch (s.core.marks->own(node)) {
      case Mark::None: return std::string("none");
      case Mark::Real: return std::string("real");
      case Mark::Unreal: return std::string("unreal");
    }
  }
  if (name == kStatus) return statusText(s.core, entry.record, entry.row.has_value());
  if (name == kVersions) return versionsText(s.core, entry.record);
  if (isOurs(name) || !entry.row) return kNoAttribute;
  return root->getXattr(entry.path, name);
}

Result<std::vector<std::string>> ArenaFileSystem::listXattrs(NodeId node) {
  auto& s = *s_;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.usable());
  REALIZE_ASSIGN(auto entry, s.find(node));
  std::vector<std::string> names{kMark, kStatus, kVersions};
  auto own = entry.row ? root->listXattrs(entry.path) : Result<std::vector<std::string>>(std::vector<std::string>());
  if (!own.ok() && own.code() != Code::Unsupported) return own.error();
  if (own.ok())
    for (auto& name : *own)
      if (!isOurs(name)) names.push_back(std::move(name));
  return names;
}

Result<void> ArenaFileSystem::State::noteMark(const logic::Record& record, Mark mark) {
  if (!core.marks->set(record, mark)) return Error{Code::Suspended, core.suspendedWhy};
  return {};
}

Result<void> ArenaFileSystem::setXattr(NodeId node, const std::string& name, const std::string& value, int flags) {
  auto& s = *s_;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.changeable());
  REALIZE_ASSIGN(auto entry, s.find(node));
  if (name == kMark) {
    const std::string text = value.substr(0, value.find_last_not_of("\n\0") + 1);
    Mark mark = Mark::None;
    if (text == "real") mark = Mark::Real;
    else if (text == "unreal") mark = Mark::Unreal;
    else if (text != "none") return Error{Code::InvalidArgument, "a mark is real, unreal or none"};
    return s.noteMark(entry.record, mark);
  }
  if (isOurs(name)) return Error{Code::PermissionDenied, name + ": is told, not set"};
  if (!entry.row) return Error{Code::Unsupported, "an Unreal file has no extended attributes of its own"};
  return root->setXattr(entry.path, name, value, flags);
}

Result<void> ArenaFileSystem::removeXattr(NodeId node, const std::string& name) {
  auto& s = *s_;
  std::lock_guard held(s.lock());
  REALIZE_ASSIGN(auto root, s.changeable());
  REALIZE_ASSIGN(auto entry, s.find(node));
  if (name == kMark) return s.noteMark(entry.record, Mark::None);
  if (isOurs(name)) return Error{Code::PermissionDenied, name + ": is told, not set"};
  if (!entry.row) return kNoAttribute;
  return root->removeXattr(entry.path, name);
}

}  // namespace realize::peer
