// Settings of the peer and of arenas: their names, defaults and bounds.

#include <charconv>
#include <filesystem>

#include "librealize/peer/peer_impl.h"

namespace realize::peer {

namespace {

struct SettingKind {
  const char* name;
  const char* otherwise;
  const char* unit;
  const char* help;
  double least, most;
  bool whole;
};

constexpr SettingKind kArenaSettings[] = {
    {"rest_ms", "100", "ms", "a change is read when its folder has been quiet this long", 0, 3'600'000, true},
    {"rest_max_ms", "10000", "ms", "but at the latest after this, while writes continue", 0, 86'400'000, true},
    {"inactive_after_days", "90", "days",
     "a member that is away for longer is not waited for with forgetting what was removed; it compares its whole tree when it "
     "is back", 1, 36'500, true},
    {"guard_share", "0.333333", "share", "a removal of more than this share of the arena waits to be confirmed", 0, 1, false},
    {"guard_overwrite_share", "0.333333", "share",
     "new contents, within a minute, for more than this share of the arena's files wait to be confirmed; 1: never", 0, 1, false},
    {"guard_minimum", "100", "entries", "and only if it concerns at least so many entries", 1, 1e15, true},
    {"copies", "1", "peers",
     "so many other peers are to keep a file real before it becomes unreal here; of this and what they say, the greater", 1, 1000, true},
    {"cache_limit_bytes", "0", "bytes",
     "what Real files and the cache may take together; the cache gives way; 0: the limit of all arenas together, if set", 0, 9e18,
     true},
    {"unlinked_share", "0.1", "share",
     "of the disk's free space that what peers removed or replaced may take here, until it is too old or room is needed", 0, 1, false},
    {"unlinked_days", "30", "days", "how long that is kept", 0, 36500, true},
};

constexpr char kConflicts[] = "conflicts", kConflictsOtherwise[] = "keep";
constexpr char kConflictsHelp[] =
    "what becomes of a file with several versions: keep (all, until somebody chooses), newest (is chosen; the others can be undone "
    "for a while), copies (newest, and the others beside it); done by each peer that has it set";

constexpr SettingKind kSharedCacheLimit = {
    "cache_limit_bytes", "0", "bytes",
    "what Real files and caches of all arenas without a limit of their own may take together; the caches give way; 0: no limit", 0, 9e18,
    true};

std::string shortText(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", number);
  return text;
}

Result<std::string> checkSetting(const SettingKind& kind, const std::string& value) {
  double number = 0;
  const char* end = value.data() + value.size();
  auto parsed = std::from_chars(value.data(), end, number);
  uint64_t integer = 0;
  const bool isInteger = std::from_chars(value.data(), end, integer).ptr == end;
  if (value.empty() || parsed.ec != std::errc() || parsed.ptr != end || !(number >= kind.least && number <= kind.most) ||
      (kind.whole && !isInteger))
    return Error{Code::InvalidArgument, std::string(kind.name) + ": \"" + value + "\" is not " +
                                            (kind.whole ? "a whole number" : "a number") + " of " + kind.unit +
                                            " from " + shortText(kind.least) + " to " + shortText(kind.most)};
  return value;
}

constexpr SettingKind kAuditSettings[] = {
    {"audit_rotate_bytes", "8388608", "bytes", "then a new file of the audit log is begun", 4096, 1e15, true},
    {"audit_keep", "4", "files", "so many earlier files of the audit log are kept", 0, 1000, true},
    {"audit_keep_days", "0", "days", "and none that old; 0: whatever its age", 0, 100'000, true},
};

constexpr char kAudit[] = "audit", kAuditPath[] = "audit_path";

}  // namespace

AuditSettings PeerImpl::auditSettings() {
  AuditSettings out;
  auto number = [&](size_t i) { return std::stoull(household_->setting("", kAuditSettings[i].name, kAuditSettings[i].otherwise)); };
  out.on = household_->setting("", kAudit, "on") == "on";
  out.path = household_->setting("", kAuditPath, stateDir_ + "/audit.log");
  out.rotateBytes = number(0);
  out.keep = number(1);
  out.keepDays = number(2);
  return out;
}

Result<void> PeerImpl::setAudit(const std::string& name, const std::string& value) {
  std::string checked = value;
  if (name == kAudit && value != "on" && value != "off")
    return Error{Code::InvalidArgument, "audit: \"" + value + "\" is neither on nor off"};
  if (name == kAuditPath) {
    std::error_code failed;
    const std::filesystem::path path = std::filesystem::path(value).lexically_normal();
    if (value.empty() || value[0] != '/' || !path.has_filename())
      return Error{Code::InvalidArgument, "audit_path: \"" + value + "\" is not an absolute path of a file"};
    if (!std::filesystem::is_directory(path.parent_path(), failed))
      return Error{Code::NotFound, path.parent_path().string() + ": there is no such folder for the audit log"};
    checked = (std::filesystem::canonical(path.parent_path(), failed) / path.filename()).string();
    const auto there = std::filesystem::symlink_status(checked, failed).type();
    if (there != std::filesystem::file_type::not_found && there != std::filesystem::file_type::regular)
      return Error{Code::InvalidArgument, checked + ": is there already, and is no file"};
    for (const auto view = household_->view(); const auto& [id, row] : view->arenas)
      if (checked.starts_with(row.folder + "/"))
        return Error{Code::Refused, checked + ": is in the folder of arena " + row.name + ", where each line would be a change"};
  }
  for (const auto& kind : kAuditSettings)
    if (name == kind.name) REALIZE_TRY(checkSetting(kind, value));
  REALIZE_TRY(household_->setSetting("", name, checked));
  audit_.configure(auditSettings());
  return {};
}

std::vector<Setting> PeerImpl::settings(const std::string& arena) {
  std::vector<Setting> out;
  if (arena.empty()) {
    out.push_back({"listen", household_->listenAddress(), "", "host:port",
                   "where this peer listens; empty: it does not, and only dials others"});
    out.push_back({"name", self().name, "", "", "how this peer is called in its household"});
    out.push_back({kAudit, household_->setting("", kAudit, "on"), "on", "on or off",
                   "a line for each change and connection is written to the audit log"});
    const std::string usual = stateDir_ + "/audit.log";
    out.push_back({kAuditPath, household_->setting("", kAuditPath, usual), usual, "path", "where the audit log is"});
    auto number = [&](const SettingKind& kind) {
      out.push_back({kind.name, household_->setting("", kind.name, kind.otherwise), kind.otherwise, kind.unit, kind.help});
    };
    for (const auto& kind : kAuditSettings) number(kind);
    number(kSharedCacheLimit);
    return out;
  }
  const auto view = household_->view();
  for (const auto& [id, row] : view->arenas) {
    if (row.name != arena) continue;
    for (const auto& kind : kArenaSettings)
      out.push_back({kind.name, household_->setting(id.hex(), kind.name, kind.otherwise), kind.otherwise, kind.unit, kind.help});
    out.push_back({kConflicts, household_->setting(id.hex(), kConflicts, kConflictsOtherwise), kConflictsOtherwise,
                   "keep, newest or copies", kConflictsHelp});
  }
  return out;
}

Result<void> PeerImpl::set(const std::string& arena, const std::string& name, const std::string& value) {
  if (arena.empty()) {
    if (name == "name") return household_->rename(value);
    if (name.starts_with(kAudit))
      for (const auto& setting : settings(""))
        if (setting.name == name) return setAudit(name, value);
    if (name == kSharedCacheLimit.name) {
      REALIZE_ASSIGN(auto checked, checkSetting(kSharedCacheLimit, value));
      REALIZE_TRY(household_->setSetting("", name, checked));
      sharedQuota_->setLimit(std::stoull(checked));
      return {};
    }
    for (const auto& setting : kArenaSettings)
      if (name == setting.name || name == kConflicts)
        return Error{Code::NotFound, name + ": is a setting of an arena: `realize config ARENA: " + name + " VALUE`"};
    if (name != "listen") return Error{Code::NotFound, name + ": no such setting; `realize config` lists them"};
    std::lock_guard one(changing_);
    const std::string before = household_->listenAddress();
    REALIZE_TRY(household_->setListenAddress(value));
    auto listening = startListening();
    if (listening.ok()) return {};
    auto restored = household_->setListenAddress(before);
    (void)restored;  // The first failure is the one to tell.
    return listening;
  }
  auto hosted = hostedByName(arena);
  if (!hosted) return unknownArena(arena);
  std::optional<std::string> checked;
  if (name == kConflicts) {
    if (value != "keep" && value != "newest" && value != "copies")
      return Error{Code::InvalidArgument, "conflicts: \"" + value + "\" is none of keep, newest and copies"};
    checked = value;
  }
  for (const auto& kind : kArenaSettings) {
    if (name != kind.name) continue;
    REALIZE_ASSIGN(checked, checkSetting(kind, value));
  }
  if (checked) {
    REALIZE_TRY(household_->setSetting(hosted->id().hex(), name, *checked));
    const auto settings = readSettings(hosted->id());
    return hosted->locked([&](ArenaCore& core) -> Result<void> {
      core.setSettings(settings);
      return {};
    });
  }
  return Error{Code::NotFound, name + ": no such setting; `realize config " + arena + ":` lists them"};
}

}  // namespace realize::peer
