#pragma once

// The replicated tree of one arena: AGREEMENT.md's rules over a TreeStore. Pure but for the store: clock, randomness
// and author are passed in.
//
// What is shown is kept beside each entry and updated with each change, at the cost of its neighbourhood: the name's
// slot, the directory where names clash, the ancestors that appear or vanish. tests/support/plain_view.h computes the
// same from scratch.
//
// Thread: one at a time (the arena's lock). Every call is within the store's transaction that the caller holds open.
// After an exception or a rollback call reload(). Errors never leave a change half made.

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "librealize/base/clock.h"
#include "librealize/base/random.h"
#include "librealize/logic/tree_merge.h"
#include "librealize/logic/tree_pages.h"
#include "librealize/logic/tree_records.h"
#include "librealize/logic/tree_store.h"
#include "realize/result.h"

namespace realize::logic {

/// What a local change has seen of its entry: everything here, or only these dots (claims and heads), when it was read
/// later than it was made. What it has not seen survives it.
struct Base {
  bool everything = true;
  std::vector<Dot> dots;

  static Base all() { return {}; }
  static Base only(std::vector<Dot> dots) { return {false, std::move(dots)}; }
};

/// How the visible tree changed at one entry since the last drain; nothing is reported that is as it was.
struct Effect {
  EntryId id;
  EntryKind kind = EntryKind::File;
  bool wasShown = false, isShown = false;
  EntryId oldParent, parent;  ///< where it was and is shown
  std::string oldName, name;
  bool headsChanged = false;      ///< another set of shown heads (content or attributes)
  bool contentChanged = false;    ///< another set of shown contents
  std::vector<ShownHead> oldHeads, heads;  ///< of what was shown, and of what is, as Tree::shownHeads()
  std::vector<Origin> touchedBy;    ///< who has changed the entry itself since; empty where others did what shows here

  bool appeared() const { return !wasShown && isShown; }
  bool gone() const { return wasShown && !isShown; }
  bool moved() const { return wasShown && isShown && (oldParent != parent || oldName != name); }
};

class Tree {
 public:
  Tree(TreeStore& store, Clock& clock, Random& random, const PeerKey& self);

  // --- Transactions -------------------------------------------------------------------------------------------------

  /// Holds changes back from the store until flush(), across many calls. Each call flushes itself otherwise.
  void beginBatch();
  /// Everything so far is in the store; a batch goes on.
  void writeBack();
  /// Ends beginBatch(): everything is in the store, which may commit.
  void flush();
  /// The store has given the entry another number.
  void setNode(const EntryId& id, NodeId node);
  /// Forgets all that is in memory, and reads from the store again: after a rollback.
  void reload();

  // --- Local changes ------------------------------------------------------------------------------------------------
  // `version`: stamp, author and writtenNs are filled in here; setuid, setgid and a file's sticky bit are dropped.

  /// Errors: NotFound (parent not shown), NotDirectory, InvalidArgument (name). A name that is shown with the same
  /// kind is a write to that entry; with another kind, that one is removed first. `beside`: who made it has not seen what
  /// is shown there; that stays, and one of the two gets another name (rule 12). `inUse`: what is not to be brought back for it.
  Result<EntryId> create(const EntryId& parent, const std::string& name, EntryKind kind, const Version& version,
                         bool beside = false, const std::function<bool(NodeId)>& inUse = {});
  /// Errors: NotFound (not shown).
  Result<void> write(const EntryId& id, const Version& version, const Base& base = Base::all());
  /// A write of the same content; `dot` names the head meant (default: the greatest stamp). Other heads stay.
  Result<void> setAttributes(const EntryId& id, std::optional<uint32_t> mode, std::optional<int64_t> mtimeNs,
                             std::optional<Dot> dot = std::nullopt);
  /// With everything below. What `base` has not seen survives (of what is below, everything is seen).
  Result<void> remove(const EntryId& id, const Base& base = Base::all());
  /// The listed entries only, the deepest first: what is below them and not listed survives, and keeps the directories
  /// above it shown. Unknown and dead ones are skipped.
  Result<void> removeListed(const std::vector<std::pair<EntryId, Base>>& entries);
  /// Errors: NotFound, NotDirectory, InvalidArgument (name, or into itself), Exists (something shown there, unless both
  /// are files or symlinks: then that one is removed). `beside`: as in create().
  Result<void> move(const EntryId& id, const EntryId& parent, const std::string& name, bool beside = false);
  /// A rename of a file over a file, as editors save: an edit of `target`, and `source` is removed.
  /// Where the kinds differ it is move(). Errors: as move.
  Result<void> replaceByRename(const EntryId& source, const EntryId& target, std::optional<Dot> sourceHead = std::nullopt,
                               const Base& base = Base::all());
  /// `id` was renamed away from (parent, name), and then that name was made anew with `version`: an edit of `id` in its
  /// old place; what had been renamed away becomes a new entry, which is returned. Errors: as move and create.
  Result<EntryId> takeBackName(const EntryId& id, const EntryId& parent, const std::string& name, const Version& version,
                               std::optional<Dot> head = std::nullopt);
  /// Makes that head the only one. Errors: NotFound.
  Result<void> resolve(const EntryId& id, Dot head);
  /// That head's version as an entry of its own beside (rule 24), which is returned: none where it is shown already. Peers
  /// that do so at once make the same entry. Errors: NotFound.
  Result<std::optional<EntryId>> copyVersion(const EntryId& id, Dot head);

  // --- The visible tree ---------------------------------------------------------------------------------------------

  std::optional<Record> get(const EntryId& id);
  /// get() without the copy: null where there is none. Valid until the next call of any other method.
  const Record* peek(const EntryId& id);
  std::optional<Record> lookup(const EntryId& parent, const std::string& name);
  std::vector<ShownName> children(const EntryId& parent, const std::string& after, size_t limit);
  /// Of a hard link, its target's. Empty when unknown.
  std::vector<ShownHead> shownHeads(const EntryId& id);
  TreeDigest digest() const { return state_.digest; }
  const std::vector<EntryId>& touched() const { return effectOrder_; }  ///< since the last drainEffects(), seen or not
  /// What changed in the visible tree since the last call, in the order in which it was first touched.
  /// `quiet` gets the shown entries that look as before but were claimed anew (Entry::live): a Base for them is out of date.
  std::vector<Effect> drainEffects(std::vector<EntryId>* quiet = nullptr);

  // --- Exchange -----------------------------------------------------------------------------------------------------

  const VersionVector& vector() const { return state_.vector; }
  const VersionVector& trimmed() const { return state_.trimmed; }
  Origin origin() const { return state_.origin; }
  bool isClosed(Origin life) const { return closed_.contains(life); }
  /// The next page for a receiver. A cursor that is no longer good begins a new batch.
  /// Errors: Refused (one has trimmed what the other never saw: whole state is needed).
  Result<ChangePage> changesFor(const PageRequest& request);
  /// What to ask that peer for: own vector, and the cursor of a batch that broke off.
  PageRequest requestFor(const PeerKey& sender);
  /// Takes a page and notes its cursor; completes the batch when it is the last one. The caller drops a page that
  /// answers a request from before own T moved.
  /// Errors: Corrupt (nothing of that change was taken; those before it were), Refused (as changesFor).
  Result<void> applyPage(const PeerKey& sender, const ChangePage& page);
  /// These lives of other peers are over: what is here of one and not complete is issued again (rule 22).
  void closeLost(const std::vector<Origin>& lives);
  /// That peer refused to go on with the batch that broke off: the next one begins anew.
  void forgetBatch(const PeerKey& sender);
  /// One change of a batch. `asItComes`: what is here of it counts as none; null: if that is forgotten (rule 14). Errors: Corrupt.
  Result<void> apply(const Change& change, std::optional<bool> asItComes = false);
  /// Ends a batch (rule 17): own vector takes in `page.snapshot`, and what depends on that follows.
  void completeBatch(const PeerKey& sender, const ChangePage& page);

  // Whole state (tree_whole.cc), where ordinary pages are refused.

  /// Whether the two must compare their whole states; `theirs` and `theirTrimmed` as they said last.
  bool needsWhole(const PeerKey& sender, const VersionVector& theirs, const VersionVector& theirTrimmed);
  /// The sender's answer: looks at as many ranges as are quickly done, and at least one.
  WholePage wholeFor(const WholeRequest& request);
  /// What to ask next. Begins, or begins anew, if `state` is.
  WholeRequest wholeRequest(WholeState& state);
  /// Takes note of an answer. Errors: Busy (one side has trimmed meanwhile: ask on, it begins anew), Corrupt.
  Result<void> noteWhole(WholeState& state, const WholePage& page);
  /// Takes it all, when it is complete. Errors: Busy, Corrupt: nothing was taken.
  Result<void> applyWhole(const PeerKey& sender, const WholeState& state);

  /// Forgets up to `limit` removed entries that all of `active` (and this peer) have seen removed, for which
  /// `mayForget` is true, and goes on there at the next call (rule 20). Returns how many it looked at; 0: there is
  /// nothing to do until something changes.
  size_t trim(const std::vector<PeerKey>& active, const std::function<bool(const Record&)>& mayForget, size_t limit);

  /// Drops up to so many contexts that broken or long batches left and that say nothing any more; returns how many.
  /// For idle times: they cost a few bytes each and nothing else.
  size_t tidy(size_t limit);

  /// Vectors that peers are known to have, each as of its last complete word.
  const std::map<PeerKey, VersionVector>& acks() const { return acks_; }
  /// Peers known to have seen all of that entry.
  std::vector<PeerKey> acknowledgedBy(const EntryId& id);

  /// The database may be a copy or a restored one: from here on changes carry a new origin, and the earlier ones are
  /// closed (rule 21). Also done by itself when another peer knows more of this origin than it does.
  void beginLife();

 private:
  struct State {
    Origin origin = 0;
    uint64_t seq = 0;
    uint64_t clock = 0;    ///< greatest place clock seen
    VersionVector vector;
    VersionVector trimmed;
    std::vector<Origin> formerOrigins;
    TreeDigest digest;
    uint64_t clashed = 0;  ///< entries shown under another name than their base
    uint64_t orphans = 0;  ///< live entries that are not shown: something above is missing (a broken batch)
    uint64_t links = 0;    ///< entries with a head that is a hard link
    bool operator==(const State&) const = default;
  };
  /// What was shown of an entry, and what it counted for.
  struct Before {
    bool shown = false;
    EntryId parent;
    std::string name;
    std::vector<ShownHead> heads;
    std::vector<Dot> live;
    VersionVector touch;
  };
  /// The replicated parts of an entry that the view depends on, before a change.
  struct Claimed {
    bool known = false;
    bool live = false;
    EntryId parent;
    std::string name;
    Stamp stamp;
  };
  struct Effective { EntryId parent; std::string base; int step = 0; };
  struct LocalChange {
    bool claim = false, remove = false, letGo = false;
    std::optional<Version> version;
    std::optional<std::pair<EntryId, std::string>> place;
    Base base;
    std::optional<EntryKind> createAs;
  };
  /// Writes back at the end of the outermost call.
  class Call;
  struct PageBuilder;

  // tree.cc
  void loadState();
  void newOrigin();
  void saveState();
  void saveAcks();
  static std::string encodeState(const State& state);
  static std::optional<State> decodeState(const std::string& bytes);

  // tree_local.cc
  Dot change(const EntryId& id, const LocalChange& what);
  void make(const EntryId& id, EntryKind kind, const Version& version, const EntryId& parent, const std::string& name);
  void hold(const EntryId& directory);
  void removeTree(const EntryId& id, const Base& base);
  bool isLinked(const EntryId& id);
  Result<void> checkPlace(const EntryId& parent, const std::string& name);
  Result<void> moveChecked(const EntryId& id, const EntryId& parent, const std::string& name, bool beside);
  bool isBelow(const EntryId& id, const EntryId& directory);
  std::optional<ShownHead> headNamed(const Entry& entry, std::optional<Dot> dot);

  // tree_view.cc
  Record* shown(const EntryId& id);
  void beginEdit(Record& record);
  void endEdit(Record& record, const Claimed& before);
  static Claimed claimedOf(const Record* record);
  std::map<EntryId, Effective> breakCycles(const EntryId& changed);
  std::vector<EntryId> findCycle(const EntryId& from, const std::map<EntryId, Effective>& effective);
  bool cycleAbove(const Record& record);
  bool attached(const Record& record);
  void place(const std::map<EntryId, Effective>& moves);
  void showChain(Record& record);
  void hideIfUnneeded(const EntryId& id);
  void leaveSlot(Record& record);
  void hideBelow(Record& record);
  void showBelow(const EntryId& directory);
  void settleNames();
  void settleDirectory(const EntryId& directory, const std::set<std::string>& bases);
  void countOut(const Record& record);
  void countIn(const Record& record);
  Record* directory(const EntryId& id);

  // tree_exchange.cc
  void noteCursor(const PeerKey& sender, const std::string& cursor);

  /// `seenThere`: also its place, and of the versions those that were seen where it was forgotten; null: versions only.
  void reissue(const EntryId& id, const std::vector<Origin>& lost, const VersionVector* seenThere);
  void reissueOrphans();
  void tellLast(ChangePage& page) const;
  bool isFreshFor(const PeerKey& sender), countsAsForgotten(const Record& record);

  static Result<void> checkChange(const Change& change);
  void takeUnknown(const Change& change, bool dead);

  // tree_whole.cc
  RangeSum sumOf(const IdRange& range);
  TreeDigest hashOf(const Record& record);
  bool isNamed(const EntryId& id);
  void issueAgain(const std::map<EntryId, const VersionVector*>& entries);

  TreeRecords records_;
  Clock& clock_;
  Random& random_;
  PeerKey self_;
  State state_, savedState_;
  std::map<PeerKey, VersionVector> acks_;
  std::set<Origin> closed_;
  std::string savedAcks_, savedClosed_;  ///< as they stand in the store
  /// How far trim() has come.
  struct Trimming {
    VersionVector stable;  ///< seen by all that counted
    NodeId after = 0;
    bool any = false;      ///< something was forgotten since it began
    bool done = false;     ///< nothing is left to forget until `stable` moves
  };
  Trimming trimming_;
  int depth_ = 0;       ///< of public calls within each other
  bool batch_ = false;  ///< between beginBatch() and flush()
  std::set<EntryId> displaced_;  ///< where a cycle was broken: effective place differs from the claimed one
  std::unordered_map<EntryId, Before> effects_;
  std::vector<EntryId> effectOrder_;
  // Of the change under way:
  std::vector<EntryId> edited_;
  std::set<EntryId> editedSet_;
  std::map<EntryId, std::set<std::string>> slots_;  ///< names to settle, by directory
  std::vector<EntryId> newcomers_;                  ///< shown, and without a name yet
  std::vector<EntryId> unneeded_;                   ///< may have nothing left to be shown for
  uint64_t clashedBefore_ = 0;
  bool severalMove_ = false;
  // Of the move under way: where entries were shown at its beginning.
  bool moving_ = false;
  std::map<EntryId, Before> movedBefore_;
};

}  // namespace realize::logic
