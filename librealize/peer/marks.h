#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>

#include "librealize/peer/core.h"

namespace realize::peer {

/// Which entries are to be real here, and what is missing for it.
///
/// Effective mark: the nearest mark on the entry or a folder above it; None at the root means "leave as it is".
/// Wanted: a file whose shown head's bytes must come to disk (effective Real; or it is Real with older bytes), and every
/// further head of a conflict under a Real mark (kept complete in the cache, never evicted).
/// Thread: core.
class Marks {
 public:
  explicit Marks(Core& core);
  ~Marks();

  Mark own(NodeId node);
  Mark effective(const logic::Record& record);
  /// Sets it (None removes it) and walks the subtree in slices, queueing work. False: it could not be noted, and is as before;
  /// the arena is suspended.
  bool set(const logic::Record& record, Mark mark);

  /// Reconsiders an entry after its visible state, place or mark changed. Called by ArenaCore for every tree effect.
  /// False: a file that the backing folder does not have, so that there is nothing there to follow the tree.
  bool entryChanged(const EntryId& id);

  /// Missing for real marks: files and bytes (also those that a directory walk under way has not queued yet count as
  /// "at least one").
  uint64_t missingFiles();
  uint64_t missingBytes();
  uint64_t unconfirmedFiles();
  uint64_t unconfirmedBytes();
  /// Why a file that is marked unreal is still Real: for people; "" where it is not so.
  std::string whyReal(const logic::Record& record);
  /// Marks are being applied, or other peers asked to keep what is to become unreal.
  bool lettingGo() const;

  /// Answers another peer that wants to drop its copies: Promised if we keep that entry real with that content now, on the
  /// disk for good; then we do so for kPromiseMs or until it says released(), whatever is marked meanwhile, and a restart
  /// does not forget it. `done` comes on the core, later.
  void promise(const PeerKey& from, const std::vector<EntryContent>& asked, std::function<void(Result<KeepAnswers>)> done);
  void released(const PeerKey& from, const std::vector<EntryContent>& promised);
  /// This content is kept because another peer was promised so.
  bool promised(const BlobId& blob);
  /// Contents that are kept because another peer was promised so.
  uint64_t promisedFiles();
  /// As far as is known without a look at the disk: it is real here, with that content, and not to become unreal.
  bool holds(const EntryContent& content);
  /// What is in that directory may inherit another mark where it is now: reconsidered in slices.
  void directoryMoved(const EntryId& directory);
  /// Reconsiders everything in slices: at start.
  void recheckAll();
  /// The database is back: what it says counts, and what a failure cut off begins anew. Throws DatabaseError.
  void resumed();

  /// Tries to make unreal what is marked Unreal and still Real on disk: only after another connected peer promised to
  /// keep it (RemoteArena::promise). Called when peers connect, and after marks change. What nobody promises is asked for
  /// again, ever more seldom.
  void wakeUnrealize();
  /// A peer told its state, and may keep more than before: what is still Real is asked for again soon.
  void peerTold();

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace realize::peer
