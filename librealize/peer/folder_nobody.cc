// Versions whose bytes nobody has any more: what becomes of them, and who finds out.

#include <algorithm>

#include "librealize/logic/tree_merge.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder_state.h"
#include "librealize/peer/lacking.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr int64_t kNobodyHasMs = 3000;
constexpr int64_t kLastResortMs = 1000;
constexpr int64_t kLastResortMostMs = 60'000;
constexpr int64_t kLastResortPieceMs = 100;
constexpr uint64_t kLastResortPieces = 64;
constexpr size_t kNotReplacedKept = 4096;

/// This peer had that content of the file, maybe under another mode or time, and replaced it, while another gave it a version
/// of its own; and nobody sent it damaged, who may have it all the same. Cost: all of the history.
bool replacedHere(Core& core, const logic::Record& record, const Version& lost) {
  const auto path = core.shownPath(record.entry.id);
  if (!path.ok() || core.transfers->stillCorrupt(*path)) return false;
  const auto rows = core.store.history().ofNode(record.node, store::HistoryTable::kKept);
  return std::any_of(rows.begin(), rows.end(), [&](const store::HistoryRow& row) {
    // What an edit left beside it was not replaced.
    return row.peer == core.options.self && row.what != "conflict" && row.old && row.old->blob == lost.blob;
  });
}

/// Maybe under other dots, where several issued it again at once, or had the same file before they met.
bool isLetGoAs(const Entry& entry, const Version& version) {
  return std::any_of(entry.heads.begin(), entry.heads.end(), [&](const auto& head) {
    const Version& other = head.second;
    const bool same = other.blob == version.blob && (other.mode == version.mode || other.mtimeNs == version.mtimeNs);
    return same && logic::isLetGo(entry, head.first);
  });
}

/// Each version was removed: in the tree, or by this peer, as the history has it, and issued again by another who did not know
/// yet, maybe with the mode or the time that somebody set there; or it is lacking, and this peer replaced it with what was
/// removed. Cost of the latter two: all of the history.
bool allRemoved(Core& core, const logic::Record& record, const Refused& lacking) {
  const auto& heads = record.entry.heads;
  if (std::all_of(heads.begin(), heads.end(), [&](const auto& head) { return isLetGoAs(record.entry, head.second); })) return true;
  if (!logic::letGoUnknown(record.entry) && record.entry.touch.get(core.tree.origin()) == 0) return false;
  std::vector<store::HistoryRow> rows = core.store.history().ofNode(record.node, store::HistoryTable::kKept);
  std::erase_if(rows, [&](const auto& row) { return row.what == "conflict" || row.peer != core.options.self || !row.old; });
  const auto tookAway = [&](const Version& version, bool removed) {
    return std::any_of(rows.begin(), rows.end(), [&](const store::HistoryRow& row) {
      return row.old->blob == version.blob && (row.what == "remove") == removed &&
             (row.old->mode == version.mode || row.old->mtimeNs == version.mtimeNs);
    });
  };
  const auto isRemoved = [&](const auto& head) { return logic::isLetGo(record.entry, head.first) || tookAway(head.second, true); };
  const auto isReplaced = [&](const auto& head) { return lacking(head.second.blob) && tookAway(head.second, false); };
  return std::any_of(heads.begin(), heads.end(), isRemoved) &&
         std::all_of(heads.begin(), heads.end(), [&](const auto& head) { return isRemoved(head) || isReplaced(head); });
}

/// This peer replaced one of several versions, which another issued again, or had too before they met, without knowing of it.
bool replacedOneHere(Core& core, const logic::Record& record) {
  const auto heads = core.tree.shownHeads(record.entry.id);
  const auto replaced = [&](const auto& head) { return core.maybeReplacedHere(record.entry, head.version) && replacedHere(core, record, head.version); };
  return heads.size() > 1 && std::any_of(heads.begin(), heads.end(), replaced);
}

/// One that somebody has, and that was not removed.
const std::pair<Dot, Version>* keptByOthers(const Entry& entry, const Refused& refusedByAll) {
  for (const auto& head : entry.heads)
    if (!refusedByAll(head.second.blob) && !logic::isLetGo(entry, head.first)) return &head;
  return nullptr;
}

/// What goes in the place of a version that nobody has.
struct Follows {
  Version version;
  std::vector<Dot> seen;
  bool inFolder = false;  ///< as the folder has it, which showed none of the heads
};

/// A mode or time was set on a file where its bytes are not, while who had them replaced them: it is set on what is there now.
/// Or that version was issued again by who did not know yet that it was replaced: where no other is left, what replaced it is back.
/// Every member was asked for what is refused; `each`: and for each version, also what is not wanted here.
std::optional<Follows> followsContent(Core& core, const logic::Record& record, const Refused& refusedByAll, bool each, NotReplaced& notReplaced) {
  const auto heads = core.tree.shownHeads(record.entry.id);
  const auto shown = core.shownVersion(record);
  if (heads.empty() || !shown) return std::nullopt;
  const auto isLost = [&](const logic::ShownHead& head) {
    const std::pair asked(record.entry.id, head.version.blob);
    if (notReplaced.contains(asked) || core.transfers->complete(head.version.blob) || !refusedByAll(head.version.blob)) return false;
    if (replacedHere(core, record, head.version)) return true;
    if (notReplaced.size() >= kNotReplacedKept) notReplaced.clear();
    notReplaced.insert(asked);
    return false;
  };
  const auto whole = [&](const auto& head) { return core.transfers->complete(head.version.blob); };
  auto here = std::find_if(heads.begin(), heads.end(), [&](const auto& head) { return head.dot == shown->first; });
  // What is waited for may be the lost one itself.
  if (here == heads.end() || !whole(*here)) here = std::find_if(heads.begin(), heads.end(), whole);
  if (here != heads.end()) {
    if (heads.size() < 2) return std::nullopt;
    const auto lost = std::find_if(heads.begin(), heads.end(), isLost);
    if (lost == heads.end()) return std::nullopt;
    Follows out{here->version, Core::baseOf(record.entry, &*here), false};  // Any third version stays.
    out.version.mode = lost->version.mode;
    out.seen.insert(out.seen.end(), lost->dots.begin(), lost->dots.end());
    std::sort(out.seen.begin(), out.seen.end());
    return out;
  }
  const auto row = core.store.disk().get(record.node);
  if (const auto* kept = each ? keptByOthers(record.entry, refusedByAll) : nullptr) {
    Follows out{kept->second, {kept->first}, false};
    for (const auto& head : heads)
      if (isLost(head)) out.seen.insert(out.seen.end(), head.dots.begin(), head.dots.end());
    std::sort(out.seen.begin(), out.seen.end());
    return out.seen.size() > 1 ? std::optional(out) : std::nullopt;
  }
  if (!row || row->dirty || row->blob.isZero() || logic::allLetGo(record.entry)) return std::nullopt;
  if (!std::all_of(heads.begin(), heads.end(), isLost)) return std::nullopt;
  return Follows{row->version(), Core::baseOf(record.entry, nullptr), true};
}
}  // namespace

/// Removed where its bytes were, and kept by somebody who renamed it without knowing: what a removal let go is not had back
/// once nobody has it. Who renamed it saw what the folder has, if that is still an older content. The same where what was removed
/// here was issued again at that moment.
void Folder::nobodyHas(const EntryId& id, const Refused& refusedByAll) {
  auto& s = *s_;
  if (s.core.exchange->agreesWithAll()) return s.nobodyHas(id, refusedByAll, Asked::All);
  s.nobodyHas(id, refusedByAll, Asked::Connected);
  s.askFarther(id, refusedByAll, Asked::AllNow);
}

/// Members that this one does not meet are asked through others.
void Folder::State::askFarther(const EntryId& id, const Refused& refusedByAll, Asked then) {
  const auto record = core.tree.get(id);
  if (!record || !record->shown) return;
  std::vector<BlobId> blobs;
  for (const auto& [dot, version] : record->entry.heads)
    if (refusedByAll(version.blob) && !core.transfers->complete(version.blob)) blobs.push_back(version.blob);
  if (blobs.empty()) return;
  core.lacking->ask(blobs, [this, alive = alive, id, blobs, then](bool all) {
    if (!*alive || !all) return;
    const auto refused = [&](const BlobId& blob) { return std::find(blobs.begin(), blobs.end(), blob) != blobs.end(); };
    nobodyHas(id, refused, then);
  });
}

void Folder::State::nobodyHas(const EntryId& id, const Refused& refusedByAll, Asked asked) {
  auto record = core.tree.get(id);
  if (!root || !record || !record->shown || record->entry.kind != EntryKind::File) return;
  for (auto* remote : core.exchange->remotes())
    if (!core.exchange->agreesWith(remote->key())) return;
  auto follows = asked == Asked::Connected ? std::nullopt : followsContent(core, *record, refusedByAll, asked == Asked::EachNow, nobody.notReplaced);
  if (!follows && !logic::allLetGo(record->entry)) {
    if (asked == Asked::Connected || !allRemoved(core, *record, refusedByAll)) return;
    if (asked < Asked::AllNow) return core.folder->lastResort(id);  // Who has it may have come since the others were asked.
  }
  const std::pair<Dot, Version>*here = nullptr, *elsewhere = nullptr;
  std::vector<Dot> nowhere;
  for (const auto& head : record->entry.heads) {
    if (follows) break;
    const Version& version = head.second;
    if (core.transfers->complete(version.blob)) here = &head;
    else if (!refusedByAll(version.blob)) elsewhere = elsewhere && !logic::isLetGo(record->entry, elsewhere->first) ? elsewhere : &head;
    // Who wrote it may have it, if it cannot be asked.
    else if (asked < Asked::AllNow && version.author != core.options.self && !core.exchange->agreesWith(version.author)) return;
    else nowhere.push_back(head.first);
  }
  // Others have some: those stay, and one of them follows what nobody has, if all were asked.
  if (elsewhere) {
    if (nowhere.empty() || asked < Asked::AllNow) return;
    // What was removed is asked for by nobody.
    const bool wanted = here || !logic::isLetGo(record->entry, elsewhere->first);
    if (!wanted && asked != Asked::EachNow && !core.store.disk().get(record->node)) return core.folder->lastResort(id);
    const auto& one = here ? *here : *elsewhere;
    nowhere.push_back(one.first);
    std::sort(nowhere.begin(), nowhere.end());
    follows = Follows{one.second, std::move(nowhere), false};
  }
  auto row = core.store.disk().get(record->node);
  if (row && row->dirty) return;
  const bool older = row && !row->blob.isZero();
  const int64_t since = nobody.sinceNs.try_emplace(id, now()).first->second;
  if (now() - since < (follows || here || older ? kNobodyHasMs : 3 * kNobodyHasMs) * 1'000'000) return;  // Who has more than we is first.
  nobody.sinceNs.erase(id);
  core.transact([&] {
    Result<void> done;
    if (follows) {
      done = core.tree.write(id, follows->version, logic::Base::only(follows->seen));
      if (follows->inFolder) {
        row->base = core.rebased({}, record, id);
        core.store.disk().put(*row);
      }
    } else if (here) {
      done = core.tree.resolve(id, here->first);
    } else if (older) {
      done = core.tree.write(id, row->version());
      row->base = core.rebased({}, record, id);
      core.store.disk().put(*row);
    } else {
      done = core.tree.remove(id);
    }
    if (!done.ok()) return;  // Changed a moment ago.
    core.marks->entryChanged(id);
    core.folder->entryChanged(id);
  });
}

void Folder::lastResort(const EntryId& id) {
  if (s_->nobody.lastResorts.insert(id).second) s_->askForLastResort(id, kLastResortMs);
}

bool Folder::askingForLastResorts() const { return !s_->nobody.lastResorts.empty(); }

/// One byte of each version is read, as anybody would who opened the file; and then another, as who has one may not have all.
void Folder::State::askForLastResort(const EntryId& id, int64_t delayMs, uint64_t had) {
  core.env.scheduler.onCoreAfter(delayMs, [this, alive = alive, id, delayMs, had] {
    if (!*alive) return;
    auto record = core.suspended || core.stopping ? std::nullopt : core.tree.get(id);
    const auto isRemoved = [this, record](const Refused& lacking) {
      return !core.store.disk().get(record->node) && allRemoved(core, *record, lacking);
    };
    // Where another version is shown, nobody misses one that was let go.
    const auto shown = record && record->shown ? logic::realHeads(record->entry) : std::vector<std::pair<Dot, Version>>();
    const bool whole = std::all_of(shown.begin(), shown.end(), [&](const auto& head) { return core.transfers->complete(head.second.blob); });
    const bool replaced = !whole && replacedOneHere(core, *record);
    if (whole || !(replaced || isRemoved([&](const BlobId& blob) { return !core.transfers->complete(blob); }))) {
      nobody.lastResorts.erase(id);
      return;
    }
    auto nowhere = std::make_shared<std::set<BlobId>>();
    auto left = std::make_shared<size_t>(1);
    auto answered = [this, alive, id, delayMs, had, shown, nowhere, left, record, replaced, isRemoved, all = core.exchange->agreesWithAll()] {
      if (--*left > 0 || !*alive) return;
      const auto refused = [&](const BlobId& blob) { return nowhere->contains(blob); };
      if (std::none_of(shown.begin(), shown.end(), [&](const auto& head) { return refused(head.second.blob); })) {
        if (had < kLastResortPieces) return askForLastResort(id, kLastResortPieceMs, had + 1);
        nobody.lastResorts.erase(id);
        return;
      }
      const auto& heads = record->entry.heads;
      const bool some = std::any_of(heads.begin(), heads.end(), [&](const auto& head) { return core.transfers->complete(head.second.blob); });
      if (!(replaced && (some || keptByOthers(record->entry, refused))) && !isRemoved(refused)) {
        nobody.lastResorts.erase(id);
        return;
      }
      nobodyHas(id, refused, all ? Asked::EachNow : Asked::Connected);
      if (!all) askFarther(id, refused, Asked::EachNow);
      askForLastResort(id, std::min(2 * delayMs, kLastResortMostMs));
    };
    for (const auto& [dot, version] : record->entry.heads) {
      ++*left;
      auto open = core.transfers->open(version.blob, version.sizeBytes);
      core.transfers->read(open, Transfers::missingAt(open, had), 1, [nowhere, answered, blob = version.blob, open, &scheduler = core.env.scheduler](Result<Bytes> got) {
        const bool none = !got.ok() && got.code() == Code::Unreachable;
        scheduler.onCore([nowhere, answered, blob, none] {
          if (none) nowhere->insert(blob);
          answered();
        });
      });
    }
    answered();
  });
}

}  // namespace realize::peer
