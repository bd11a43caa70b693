// What the public API shows of an arena.

#include <algorithm>

#include "librealize/base/path.h"
#include "librealize/peer/alike_names.h"
#include "librealize/peer/arena_core.h"
#include "librealize/peer/conflicts.h"
#include "librealize/peer/copies.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {

constexpr size_t kMaxProblems = 1000;
constexpr size_t kListPage = 1000;
constexpr size_t kMaxWhyChanges = 1000;

/// Changes in `ahead` that `behind` has not.
uint64_t changesBetween(const VersionVector& ahead, const VersionVector& behind) {
  uint64_t changes = 0;
  for (const auto& [origin, seq] : ahead.items()) changes += seq > behind.get(origin) ? seq - behind.get(origin) : 0;
  return changes;
}

/// Builds EntryInfo with what is the same for all entries of one call.
class Describer {
 public:
  explicit Describer(Core& core) : core_(core), members_(core.store.members().all()) {}

  EntryInfo describe(const logic::Record& record, const std::string& path) {
    EntryInfo info;
    info.path = path;
    info.id = record.entry.id.hex();
    info.node = record.node;
    info.kind = record.entry.kind;
    const auto row = core_.store.disk().get(record.node);
    info.real = row.has_value();
    info.mark = core_.marks->own(record.node);
    info.effectiveMark = core_.marks->effective(record);
    if (info.real) info.staysReal = core_.marks->whyReal(record);
    const auto heads = core_.tree.shownHeads(record.entry.id);
    const auto shown = core_.shownVersion(record);
    for (const auto& head : heads) info.heads.push_back(describeHead(head, row, shown));
    if (shown) {
      info.sizeBytes = shown->second.sizeBytes;
      info.mode = shown->second.mode;
      info.mtimeNs = shown->second.mtimeNs;
      if (!info.real && info.kind == EntryKind::File) info.cachedBytes = core_.transfers->cachedBytes(shown->second.blob);
    }
    info.consensus = heads.size() <= 1 || info.kind == EntryKind::Directory;
    if (!members_.empty() && record.entry.id != kRootEntry) {  // The root never changes.
      const auto acknowledged = core_.tree.acknowledgedBy(record.entry.id);
      for (const auto& member : members_) {
        if (!member.admitted || !member.active || member.peer == core_.options.self) continue;
        const bool has = std::find(acknowledged.begin(), acknowledged.end(), member.peer) != acknowledged.end();
        info.consensus = info.consensus && has;
      }
    }
    return info;
  }

 private:
  HeadInfo describeHead(const logic::ShownHead& head, const std::optional<store::DiskRow>& row,
                        const std::optional<std::pair<Dot, Version>>& shown) {
    HeadInfo info;
    info.blob = head.version.blob;
    info.sizeBytes = head.version.sizeBytes;
    info.mode = head.version.mode;
    info.mtimeNs = head.version.mtimeNs;
    info.writtenNs = head.version.writtenNs;
    info.symlinkTarget = head.version.linkTarget;
    info.peer = head.version.author.hex();
    info.label = labelOf(head.dot);
    info.here = (row && row->blob == head.version.blob) || core_.transfers->complete(head.version.blob);
    info.shown = shown && shown->first == head.dot;
    return info;
  }

  Core& core_;
  std::vector<store::MemberRow> members_;
};

}  // namespace

Result<EntryInfo> ArenaCore::stat(const std::string& path) {
  REALIZE_ASSIGN(auto record, core().recordAt(path));
  return Describer(core()).describe(record, path);
}

Result<std::vector<EntryInfo>> ArenaCore::list(const std::string& path) {
  REALIZE_ASSIGN(auto record, core().recordAt(path));
  Describer describer(core());
  std::vector<EntryInfo> out;
  if (record.entry.kind != EntryKind::Directory) {
    out.push_back(describer.describe(record, path));
    return out;
  }
  std::string after;
  while (true) {
    const auto names = core().tree.children(record.entry.id, after, kListPage);
    for (const auto& name : names) {
      auto child = core().tree.get(name.id);
      if (child) out.push_back(describer.describe(*child, joinPath(path, name.name)));
    }
    if (names.size() < kListPage) break;
    after = names.back().name;
  }
  return out;
}

namespace {
/// The tables' sums have the size of the newest version; shown is the one that this peer's folder has.
void countConflicts(Core& c, ArenaStatus& status) {
  eachConflict(c, [&](const logic::Record& record, const std::vector<logic::ShownHead>& heads) {
    ++status.conflicts;
    if (const auto shown = c.shownVersion(record)) status.bytes += shown->second.sizeBytes - heads.front().version.sizeBytes;
  });
}
}  // namespace

Result<std::vector<EntryInfo>> ArenaCore::conflicts() {
  auto& c = core();
  Describer describer(c);
  std::vector<EntryInfo> out;
  eachConflict(c, [&](const logic::Record& record, const std::vector<logic::ShownHead>&) {
    auto path = c.shownPath(record.entry.id);
    if (path.ok()) out.push_back(describer.describe(record, *path));
  });
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return out;
}

Result<void> ArenaCore::resolve(const std::string& path, const std::string& label, std::optional<HeadInfo>* missing) {
  auto& c = core();
  REALIZE_ASSIGN(auto record, c.recordAt(path));
  const auto heads = c.tree.shownHeads(record.entry.id);
  const std::string where = c.options.name + ":" + path;
  if (heads.size() < 2) return Error{Code::NotFound, where + ": there is no conflict to resolve"};
  auto shown = c.shownVersion(record);
  auto chosen = std::find_if(heads.begin(), heads.end(), [&](const auto& head) {
    return label.empty() ? shown && head.dot == shown->first : labelOf(head.dot) == label;
  });
  if (chosen == heads.end())
    return Error{Code::NotFound, where + ": no version is labelled " + label + "; `realize conflicts` lists them"};
  return chooseVersion(c, record, chosen->dot, where, missing);
}

namespace {
std::string hexOrNone(const PeerKey& peer) { return peer == PeerKey() ? "" : peer.hex(); }

HistoryItem itemOf(const store::HistoryRow& row) {
  HistoryItem item{row.whenNs, hexOrNone(row.peer), row.what, row.path, row.detail};
  if (row.old && row.kind == EntryKind::File) item.before = contentText(*row.old);
  return item;
}
}  // namespace

Result<std::vector<HistoryItem>> ArenaCore::history(const std::string& path, size_t limit) {
  std::vector<HistoryItem> out;
  for (const auto& row : core().store.history().list(path, limit))
    out.push_back(itemOf(row));
  return out;
}

Result<WhyReport> ArenaCore::why(const std::string& path) {
  auto& c = core();
  auto record = c.recordAt(path);
  if (!record.ok()) {
    // Removed, or known under that name once: the history has the number that entries keep.
    for (const auto& row : c.store.history().list(path, kMaxWhyChanges)) {
      auto id = row.path == path || row.detail == path ? c.store.idOf(row.node) : std::nullopt;
      auto known = id ? c.tree.get(*id) : std::nullopt;
      if (!known) continue;
      record = *known;
      break;
    }
  }
  if (!record.ok()) return record.error();
  const EntryId id = record->entry.id;
  WhyReport report;
  auto shownPath = c.shownPath(id);
  report.shown = record->shown || id == kRootEntry;
  report.path = report.shown && shownPath.ok() ? *shownPath : path;
  report.id = id.hex();
  report.kind = record->entry.kind;
  report.versions = Describer(c).describe(*record, report.path).heads;
  for (const auto& blob : record->entry.replaced) report.replaced.push_back(blob.hex());
  const auto acknowledged = c.tree.acknowledgedBy(id);
  for (const auto& member : c.store.members().all()) {
    if (!member.admitted || member.peer == c.options.self || id == kRootEntry) continue;
    const bool has = std::find(acknowledged.begin(), acknowledged.end(), member.peer) != acknowledged.end();
    report.peers.push_back({member.peer.hex(), has, member.lastSeenNs});
  }
  for (const auto& row : c.store.history().ofNode(record->node, kMaxWhyChanges))
    report.changes.push_back(itemOf(row));
  return report;
}

static std::string counted(uint64_t number, const char* one, const char* several) {
  return std::to_string(number) + " " + (number == 1 ? one : several);
}

static std::string whyBehind(const MemberStatus& member) {
  if (!member.detail.empty()) return member.detail;
  if (member.settling) return "it is reading changes of its own";
  if (member.behindChanges) return counted(member.behindChanges, "change has", "changes have") + " not arrived there";
  if (member.aheadChanges) return counted(member.aheadChanges, "change has", "changes have") + " not arrived here";
  return "not connected";
}

ArenaStatus ArenaCore::status() {
  auto& c = core();
  ArenaStatus status;
  status.name = c.options.name;
  status.id = c.options.id;
  status.folder = c.options.userFolder ? c.options.folder : "";
  c.folder->reviewProblems();  // First: what can be read again has to be.
  status.suspended = c.suspended;
  status.suspendedWhy = c.suspendedWhy;
  status.scanning = c.folder->scanning();
  status.scannedEntries = c.folder->scannedEntries();
  status.settling = c.folder->settling();
  const auto& counts = c.store.counts();
  status.files = counts.files;
  status.symlinks = counts.symlinks;
  status.directories = counts.directories;
  status.bytes = counts.bytes;
  status.realFiles = c.store.disk().files().count;
  status.realBytes = c.store.disk().files().bytes;
  status.missingFiles = c.marks->missingFiles();
  status.missingBytes = c.marks->missingBytes();
  status.unconfirmedFiles = c.marks->unconfirmedFiles();
  status.unconfirmedBytes = c.marks->unconfirmedBytes();
  status.lettingGo = c.marks->lettingGo();
  status.promisedFiles = c.marks->promisedFiles();
  status.copies = c.settings.copies;
  auto copies = c.copies->count();
  status.copiesCounted = copies.known;
  status.filesBelowCopies = copies.below;
  status.firstBelowCopies = std::move(copies.first);
  constexpr size_t kStaysRealTold = 10;
  for (const auto& task : c.store.unconfirmed().next({}, kStaysRealTold)) {
    auto id = c.store.idOf(task.node);
    auto record = id ? c.tree.get(*id) : std::nullopt;
    auto path = id ? c.shownPath(*id) : Result<std::string>(Error{Code::NotFound, ""});
    if (!record || !path.ok()) continue;
    if (auto why = c.marks->whyReal(*record); !why.empty()) status.staysReal.push_back({*path, "stays-real", std::move(why)});
  }
  status.cachedBytes = c.transfers->cachedBytesTotal();
  countConflicts(c, status);
  auto alike = c.alikeNames->report();
  status.alikeCount = alike.count;
  status.alikeNames = std::move(alike.first);
  status.heldRemovals = c.folder->heldRemovals();
  status.heldOverwrites = c.folder->heldOverwrites();
  status.problemCount = c.store.problems().count();
  for (const auto& row : c.store.problems().list(kMaxProblems)) status.problems.push_back({row.path, row.kind, row.detail});

  const auto& vector = c.tree.vector();
  const auto& acks = c.tree.acks();
  const auto& live = c.exchange->members();
  std::map<PeerKey, store::MemberRow> members;
  for (const auto& row : c.store.members().all()) members[row.peer] = row;
  for (const auto& [key, member] : live) members[key].peer = key;
  status.consensus = !c.suspended && !status.settling && status.conflicts == 0 && status.heldRemovals == 0 &&
                     status.heldOverwrites == 0;
  if (c.suspended) status.consensusWhy = "suspended";
  else if (status.heldRemovals) status.consensusWhy = "a large removal waits to be confirmed";
  else if (status.heldOverwrites) status.consensusWhy = "new contents of many files wait to be confirmed";
  else if (status.settling) status.consensusWhy = status.scanning ? "the folder is being scanned" : "local changes are being read";
  else if (status.conflicts)
    status.consensusWhy = counted(status.conflicts, "conflict waits", "conflicts wait") + " for someone to choose";
  for (const auto& [key, row] : members) {
    const auto connection = live.find(key);
    // Who was removed, once it has gone. Who is admitted again may be met before that is noted.
    if (key == c.options.self || (!row.admitted && (connection == live.end() || !connection->second.connected))) continue;
    MemberStatus member;
    member.peer.key = key;
    auto ack = acks.find(key);
    member.behindChanges = changesBetween(vector, ack == acks.end() ? VersionVector() : ack->second);
    if (connection != live.end()) {
      member.connected = connection->second.connected;
      if (const auto& said = connection->second.said) {
        if (member.connected) member.behindChanges = changesBetween(vector, said->vector);
        member.aheadChanges = changesBetween(said->vector, vector);
        member.missingFiles = said->missingFiles;
        member.missingBytes = said->missingBytes;
        member.settling = said->settling;
      }
      member.consensus = c.exchange->agreesWith(key);
      if (!connection->second.error.empty()) member.detail = connection->second.error;
      else if (member.connected && !connection->second.said) member.detail = "has not said its state yet";
      else if (member.connected && !member.consensus && !status.settling && !member.settling && !member.behindChanges &&
               !member.aheadChanges)
        member.detail = "shows another tree";
    }
    const bool agrees = member.connected ? member.consensus : member.behindChanges == 0;
    if (!agrees && status.consensus) {
      status.consensus = false;
      status.consensusWhy = "a member is behind: " + whyBehind(member);
    }
    status.members.push_back(std::move(member));
  }
  return status;
}

}  // namespace realize::peer
