#include "frontends/daemon/json_forms.h"

#include <nlohmann/json.hpp>

#include "frontends/daemon/control_protocol.h"

namespace realize::daemon {

using nlohmann::json;

namespace {

template <typename T>
json listOf(const std::vector<T>& values) {
  json out = json::array();
  for (auto& value : values) out.push_back(toJson(value));
  return out;
}

json textsOf(const std::vector<std::string>& values) {
  json out = json::array();
  for (auto& value : values) out.push_back(printable(value));
  return out;
}

}  // namespace

std::string_view kindName(EntryKind kind) {
  switch (kind) {
    case EntryKind::File: return "file";
    case EntryKind::Directory: return "directory";
    case EntryKind::Symlink: return "symlink";
  }
  return "file";
}

std::string_view markName(Mark mark) {
  switch (mark) {
    case Mark::None: return "none";
    case Mark::Real: return "real";
    case Mark::Unreal: return "unreal";
  }
  return "none";
}

std::optional<Mark> markFromName(std::string_view name) {
  for (Mark mark : {Mark::None, Mark::Real, Mark::Unreal})
    if (markName(mark) == name) return mark;
  return std::nullopt;
}

json toJson(const PeerInfo& peer) {
  json out = {{"key", peer.key.hex()}, {"address", peer.address}, {"self", peer.self}};
  putText(out, "name", peer.name);
  return out;
}

json toJson(const ConnectionStatus& connection) {
  json out = toJson(connection.peer);
  out["connected"] = connection.connected;
  out["since_ns"] = connection.sinceNs;
  out["sent_bytes"] = connection.sentBytes;
  out["received_bytes"] = connection.receivedBytes;
  putText(out, "last_error", connection.lastError);
  return out;
}

json toJson(const MemberStatus& member) {
  json out = toJson(member.peer);
  out["connected"] = member.connected;
  out["consensus"] = member.consensus;
  out["behind_changes"] = member.behindChanges;
  out["ahead_changes"] = member.aheadChanges;
  out["missing_files"] = member.missingFiles;
  out["missing_bytes"] = member.missingBytes;
  out["settling"] = member.settling;
  putText(out, "detail", member.detail);
  return out;
}

json toJson(const ArenaStatus& arena) {
  json out = {{"id", arena.id.hex()},
              {"suspended", arena.suspended},
              {"scanning", arena.scanning},
              {"scanned_entries", arena.scannedEntries},
              {"settling", arena.settling},
              {"consensus", arena.consensus},
              {"files", arena.files},
              {"symlinks", arena.symlinks},
              {"directories", arena.directories},
              {"bytes", arena.bytes},
              {"real_files", arena.realFiles},
              {"real_bytes", arena.realBytes},
              {"missing_files", arena.missingFiles},
              {"missing_bytes", arena.missingBytes},
              {"unconfirmed_files", arena.unconfirmedFiles},
              {"unconfirmed_bytes", arena.unconfirmedBytes},
              {"cached_bytes", arena.cachedBytes},
              {"conflicts", arena.conflicts},
              {"alike_count", arena.alikeCount},
              {"held_removals", arena.heldRemovals},
              {"promised_files", arena.promisedFiles},
              {"copies", arena.copies},
              {"copies_counted", arena.copiesCounted},
              {"files_below_copies", arena.filesBelowCopies},
              {"first_below_copies", textsOf(arena.firstBelowCopies)},
              {"held_overwrites", arena.heldOverwrites},
              {"problem_count", arena.problemCount}};
  putText(out, "name", arena.name);
  putText(out, "folder", arena.folder);
  putText(out, "suspended_why", arena.suspendedWhy);
  putText(out, "consensus_why", arena.consensusWhy);
  out["stays_real"] = listOf(arena.staysReal);
  out["alike_names"] = json::array();
  for (const auto& paths : arena.alikeNames) out["alike_names"].push_back(textsOf(paths));
  out["letting_go"] = arena.lettingGo;
  out["members"] = listOf(arena.members);
  out["problems"] = listOf(arena.problems);
  out["mounts"] = textsOf(arena.mounts);
  return out;
}

json toJson(const PeerStatus& status) {
  json out = {{"self", toJson(status.self)},
              {"pid", status.pid},
              {"version", status.version},
              {"listen", status.listen},
              {"peers", listOf(status.peers)},
              {"arenas", listOf(status.arenas)},
              {"problems", listOf(status.problems)}};
  putText(out, "state_dir", status.stateDir);
  return out;
}

json toJson(const HeadInfo& head) {
  json out = {{"label", head.label},
              {"blob", head.blob.hex()},
              {"size_bytes", head.sizeBytes},
              {"mode", head.mode},
              {"mtime_ns", head.mtimeNs},
              {"written_ns", head.writtenNs},
              {"here", head.here},
              {"shown", head.shown}};
  putText(out, "peer", head.peer);
  if (!head.symlinkTarget.empty()) putText(out, "symlink_target", head.symlinkTarget);
  return out;
}

json toJson(const Problem& problem) {
  json out = {{"kind", problem.kind}};
  putText(out, "path", problem.path);
  putText(out, "detail", problem.detail);
  return out;
}

json toJson(const EntryInfo& entry) {
  json out = {{"id", entry.id},
              {"node", entry.node},
              {"kind", std::string(kindName(entry.kind))},
              {"size_bytes", entry.sizeBytes},
              {"mode", entry.mode},
              {"mtime_ns", entry.mtimeNs},
              {"real", entry.real},
              {"cached_bytes", entry.cachedBytes},
              {"mark", std::string(markName(entry.mark))},
              {"effective_mark", std::string(markName(entry.effectiveMark))},
              {"consensus", entry.consensus},
              {"heads", listOf(entry.heads)},
              {"holders", textsOf(entry.holders)},
              {"holders_unknown", textsOf(entry.holdersUnknown)}};
  if (!entry.staysReal.empty()) putText(out, "stays_real", entry.staysReal);
  putText(out, "path", entry.path);
  return out;
}

json toJson(const HistoryItem& item) {
  json out = {{"when_ns", item.whenNs}, {"what", item.what}};
  putText(out, "peer", item.peer);
  putText(out, "path", item.path);
  putText(out, "detail", item.detail);
  if (!item.before.empty()) putText(out, "before", item.before);
  return out;
}

json toJson(const Event& event) {
  json out = {{"when_ns", event.whenNs}, {"type", event.type}};
  putText(out, "arena", event.arena);
  putText(out, "path", event.path);
  putText(out, "peer", event.peer);
  putText(out, "detail", event.detail);
  if (!event.before.empty()) putText(out, "before", event.before);
  if (!event.after.empty()) putText(out, "after", event.after);
  return out;
}

json toJson(const WhyReport& report) {
  json peers = json::array();
  for (const auto& peer : report.peers) {
    json item = {{"acknowledged", peer.acknowledged}, {"last_seen_ns", peer.lastSeenNs}};
    putText(item, "peer", peer.peer);
    peers.push_back(std::move(item));
  }
  json out = {{"id", report.id},
              {"shown", report.shown},
              {"kind", std::string(kindName(report.kind))},
              {"versions", listOf(report.versions)},
              {"replaced", textsOf(report.replaced)},
              {"peers", peers},
              {"changes", listOf(report.changes)}};
  putText(out, "path", report.path);
  return out;
}

json toJson(const VerifyReport& report) {
  json damaged = json::array();
  for (const auto& damage : report.damaged) {
    json item = {{"where", damage.where}, {"state", damage.state}};
    putText(item, "path", damage.path);
    putText(item, "kept_as", damage.keptAs);
    putText(item, "detail", damage.detail);
    damaged.push_back(std::move(item));
  }
  return {{"files", report.files},
          {"bytes", report.bytes},
          {"cached_blobs", report.cachedBlobs},
          {"cached_bytes", report.cachedBytes},
          {"changed", report.changed},
          {"damaged_count", report.damagedCount},
          {"repaired_count", report.repairedCount},
          {"whole", report.whole()},
          {"damaged", damaged}};
}

json toJson(const CacheStatus& status) {
  return {{"limit_bytes", status.limitBytes},
          {"limit_shared", status.limitShared},
          {"allowed_bytes", status.allowedBytes},
          {"other_arenas_bytes", status.otherArenasBytes},
          {"real_bytes", status.realBytes},
          {"unconfirmed_bytes", status.unconfirmedBytes},
          {"cached_bytes", status.cachedBytes},
          {"evictable_bytes", status.evictableBytes},
          {"unlinked_bytes", status.unlinkedBytes},
          {"open_bytes", status.openBytes},
          {"coming_bytes", status.comingBytes},
          {"pinned_bytes", status.pinnedBytes},
          {"why", status.why}};
}

json toJson(const UndoItem& item) {
  json out = {{"change", item.change},
              {"when_ns", item.whenNs},
              {"what", item.what},
              {"kind", kindName(item.kind)},
              {"size_bytes", item.sizeBytes},
              {"here", item.here},
              {"state", item.state}};
  putText(out, "peer", item.peer);
  putText(out, "path", item.path);
  putText(out, "detail", item.detail);
  return out;
}

json toJson(const Progress& progress) {
  return {{"done_bytes", progress.doneBytes},
          {"total_bytes", progress.totalBytes},
          {"done_files", progress.doneFiles},
          {"total_files", progress.totalFiles}};
}

json toJson(const Setting& setting) {
  json out = {{"name", setting.name}, {"unit", setting.unit}, {"help", setting.help}};
  putText(out, "value", setting.value);
  putText(out, "default_value", setting.defaultValue);
  return out;
}

}  // namespace realize::daemon
