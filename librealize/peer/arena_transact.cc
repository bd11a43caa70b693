// The transactions of an arena: what changed in the visible tree by one is told to the parts within it, to people after it.

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "librealize/base/path.h"
#include "librealize/peer/arena_core_state.h"

namespace realize::peer {

namespace {

std::string_view whatHappened(const logic::Effect& effect) {
  if (effect.appeared()) return "create";
  if (effect.gone()) return "remove";
  if (effect.moved()) return "move";
  if (effect.contentChanged) return "edit";
  return "attributes";
}

/// Of the versions that were shown, those that the change took away, also where another has the same content.
std::vector<logic::ShownHead> tookAway(const logic::Effect& effect) {
  std::set<Dot> now;
  for (const auto& head : effect.heads) now.insert(head.dots.begin(), head.dots.end());
  std::vector<logic::ShownHead> out;
  for (const auto& old : effect.oldHeads)
    if (!std::all_of(old.dots.begin(), old.dots.end(), [&](const Dot& dot) { return now.contains(dot); })) out.push_back(old);
  return out;
}

/// A version came beside those that were shown, and took none of them away.
bool isBeside(const logic::Effect& effect) {
  return effect.wasShown && effect.isShown && effect.contentChanged && effect.kind == EntryKind::File && tookAway(effect).empty();
}

/// Of several, the newest.
std::string versionText(const logic::Effect& effect, const std::vector<logic::ShownHead>& heads) {
  if (effect.kind != EntryKind::File || heads.empty()) return "";
  return contentText(heads.front().version);
}

}  // namespace

bool ArenaCore::State::transact(const std::function<void()>& work, bool rested) {
  if (depth > 0) {
    work();
    return true;
  }
  const auto events = std::make_shared<std::vector<Event>>();
  const bool done = transacted(rested, [&] {
    store->transact([&] { workAndDistribute(work, rested); });
    *events = std::exchange(told, {});
  });
  if (events->empty()) return done;
  untold.push_back(events);
  tellTo(events);  // What was to be committed before it, is.
  return done;
}

bool ArenaCore::State::transactLater(const std::function<void()>& work, std::function<void()> committed) {
  const auto events = std::make_shared<std::vector<Event>>();
  auto then = [this, alive = alive, events, &scheduler = env.scheduler, committed = std::move(committed)] {
    committed();
    if (events->empty()) return;
    scheduler.onCore([this, alive, events] {
      if (*alive) tellTo(events);
    });
  };
  return transacted(false, [&] {
    store->transactLater(
        [&] {
          const bool onlyNew = workAndDistribute(work, true);
          *events = std::exchange(told, {});
          if (!events->empty()) untold.push_back(events);
          return onlyNew;
        },
        std::move(then));
  });
}

/// In the order of the transactions, up to this one's; nothing, if it was told already.
void ArenaCore::State::tellTo(const Events& last) {
  if (std::find(untold.begin(), untold.end(), last) == untold.end()) return;
  for (bool more = true; more;) {
    const auto events = std::move(untold.front());
    untold.pop_front();
    more = events != last;
    if (hooks.emit) hooks.emit(events);
  }
}

/// Returns whether all that changed in the visible tree is new there: nothing that is on the disk goes because of it.
bool ArenaCore::State::workAndDistribute(const std::function<void()>& work, bool rested) {
  tree.beginBatch();
  work();
  tree.writeBack();
  std::vector<EntryId> quiet;
  transfers->touched(tree.touched());
  const auto effects = tree.drainEffects(&quiet);
  distribute(effects, rested);
  for (const auto& id : quiet) folder->entryChanged(id);  // Its row's base follows the claims.
  tree.flush();
  return quiet.empty() && std::all_of(effects.begin(), effects.end(), [](const auto& effect) { return effect.appeared(); });
}

bool ArenaCore::State::makeDurable() {
  if (databaseFailed) return false;
  auto kept = store::catching([&] { store->makeDurable(); });
  if (!kept.ok()) databaseFails(kept.error());
  return kept.ok();
}

bool ArenaCore::State::transacted(bool rested, const std::function<void()>& transaction) {
  if (databaseFailed) return false;
  const VersionVector before = tree.vector();
  ++depth;
  auto outcome = store::catching(transaction);
  --depth;
  if (!outcome.ok()) {
    told.clear();
    databaseFails(outcome.error());
    return false;
  }
  if (tree.vector() != before) exchange->changed(rested);
  // Real files take of what the cache may have.
  if (const uint64_t real = store->disk().files().bytes; real > std::exchange(realBytes, real)) transfers->limitChanged();
  return true;
}

/// Paths of folders as they are, and as they were before these effects.
struct ArenaCore::State::Paths {
  Paths(State& state, const std::vector<logic::Effect>& effects) : state(state) {
    for (const auto& effect : effects)
      if (effect.kind == EntryKind::Directory && (effect.gone() || effect.moved())) changed.emplace(effect.id, &effect);
  }

  const std::string& now(const EntryId& id) {
    auto known = shown.find(id);
    if (known == shown.end()) {
      auto path = state.core.shownPath(id);
      known = shown.emplace(id, path.ok() ? *path : "").first;
    }
    return known->second;
  }
  std::string before(EntryId id) {
    if (changed.empty()) return now(id);
    std::string out;
    for (int left = 10'000; left > 0 && id != kRootEntry; --left) {
      auto was = changed.find(id);
      const auto* record = was == changed.end() ? state.tree.peek(id) : nullptr;
      if (was == changed.end() && (!record || !record->shown)) break;
      const std::string& name = record ? record->shownName : was->second->oldName;
      out = out.empty() ? name : name + "/" + out;
      id = record ? record->shownParent : was->second->oldParent;
    }
    return out;
  }

  /// In hexadecimal; mostly the same as before. None: empty.
  const std::string& textOf(const PeerKey& key) {
    if (key != lastPeer) text = key == PeerKey() ? "" : key.hex();
    lastPeer = key;
    return text;
  }

  State& state;
  PeerKey lastPeer;
  std::string text;
  std::map<EntryId, const logic::Effect*> changed;
  std::map<EntryId, std::string> shown;
};

void ArenaCore::State::distribute(const std::vector<logic::Effect>& effects, bool rested) {
  Paths paths(*this, effects);
  for (const auto& effect : effects) {
    note(effect, paths);
    conflictFolder->noteChange(effect);
    conflictPolicy->noteChange(effect);
    alikeNames->noteChange(effect);
    if (effect.kind == EntryKind::File && effect.wasShown && (effect.gone() || effect.contentChanged))
      for (const auto& head : effect.oldHeads) transfers->noteGone(head.version.blob);
    if (effect.kind == EntryKind::File && effect.isShown && (effect.appeared() || effect.contentChanged))
      for (const auto& head : effect.heads) transfers->noteNamed(head.version.blob, effect.id);
    if (marks->entryChanged(effect.id)) folder->entryChanged(effect.id);
    if (effect.kind == EntryKind::Directory && effect.moved()) marks->directoryMoved(effect.id);
    // What a mount did itself, its kernel knows; telling it would drop names under the feet of those who use them.
    if (rested) {
      if (const auto* record = tree.peek(effect.id)) invalidate(effect, record->node);
    }
  }
}

void ArenaCore::State::note(const logic::Effect& effect, Paths& paths) {
  store::HistoryRow row;
  row.whenNs = env.clock.nowNs();
  row.what = whatHappened(effect);
  if (const auto* record = tree.peek(effect.id)) row.node = record->node;
  const bool there = effect.isShown;
  row.path = joinPath(there ? paths.now(effect.parent) : paths.before(effect.oldParent), there ? effect.name : effect.oldName);
  if (effect.moved()) row.detail = joinPath(paths.before(effect.oldParent), effect.oldName);
  row.peer = authors.of(effect, tree);
  if (effect.wasShown && !effect.oldHeads.empty() && (effect.gone() || (effect.contentChanged && effect.kind != EntryKind::Directory))) {
    // Of several versions, the one that was shown here; but not one that stays, under another dot.
    const auto* disk = store->disk().peek(row.node);
    auto went = tookAway(effect);
    if (went.empty()) went = effect.oldHeads;
    const auto stays = [&](const logic::ShownHead& head) {
      return std::any_of(effect.heads.begin(), effect.heads.end(), [&](const auto& now) { return now.version.blob == head.version.blob; });
    };
    if (!std::all_of(went.begin(), went.end(), stays)) std::erase_if(went, stays);
    auto old = went.begin();
    for (auto head = old; disk && head != went.end(); ++head)
      if (head->version.blob == disk->blob) old = head;
    row.kind = effect.kind;
    if (old->version.target == EntryId()) row.old = old->version;  // The bytes of a hard link are another entry's.
  }
  const std::string& peer = paths.textOf(row.peer);
  if (effect.isShown && effect.kind == EntryKind::File && effect.heads.size() > 1)
    core.emit(Event{.whenNs = row.whenNs, .type = "conflict", .arena = "", .path = row.path, .peer = peer, .detail = ""});
  const std::string what = std::exchange(row.what, isBeside(effect) ? "conflict" : row.what);
  store->history().add(row);
  core.emit(Event{.whenNs = row.whenNs, .type = what, .arena = "", .path = row.path, .peer = peer,
                  .detail = row.detail, .before = versionText(effect, effect.oldHeads),
                  .after = versionText(effect, effect.heads)});
}

void ArenaCore::State::invalidate(const logic::Effect& effect, NodeId node) {
  const bool nameGone = effect.gone() || effect.moved();
  if (nameGone) {
    if (auto parent = store->nodeOf(effect.oldParent)) invalidations.nameChanged(*parent, effect.oldName, node);
  }
  if (effect.appeared() || effect.moved()) {
    if (auto parent = store->nodeOf(effect.parent)) invalidations.nameChanged(*parent, effect.name, 0);
  }
  if (effect.headsChanged && effect.wasShown && effect.isShown) invalidations.nodeChanged(node, effect.contentChanged);
}

}  // namespace realize::peer
