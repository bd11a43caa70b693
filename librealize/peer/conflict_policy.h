#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "librealize/peer/core.h"

namespace realize::peer {

/// Settles conflicts by itself, as the arena's setting `conflicts` says: `keep` does nothing; `newest` chooses the version
/// with the greatest (stamp, dot), which all peers agree on; `copies` does so once each other version has become an entry
/// beside (AGREEMENT.md 24).
///
/// Whoever has the setting may act, and several at once do no harm. The newest version's author acts at once, the others
/// when it has not for a while. All bytes that the new versions speak of are brought here first; where nobody connected has
/// them, the conflict stays, and is looked at again now and then. Thread: core.
class ConflictPolicy {
 public:
  explicit ConflictPolicy(Core& core);
  ~ConflictPolicy();

  /// Cheap where the setting is `keep`, or the entry has one version.
  void noteChange(const logic::Effect& effect);
  /// A version of it is here that was not.
  void bytesCame(const EntryId& id);
  /// All conflicts are looked at: after a start, with another setting, or when somebody connected.
  void lookAll();
  /// Some are being settled, or wait for their bytes.
  bool busy() const { return !queue_.empty(); }
  void stop();

 private:
  struct Waiting {
    int64_t sinceNs = 0;  ///< monotonic
    int64_t nextNs = 0;   ///< not before that
    int64_t againMs = 0;  ///< until the next try, ever longer
  };

  bool on() const { return core_.settings.conflicts != ConflictRule::Keep; }
  void wake(int64_t delayMs);
  void turn();
  bool settle(const EntryId& id, Waiting& waiting);
  void queue(const EntryId& id);
  bool bringHere(const EntryId& id, const Version& version);

  Core& core_;
  std::map<EntryId, Waiting> queue_;
  std::set<std::pair<EntryId, BlobId>> fetching_;
  int64_t turnNs_ = 0;  ///< when the next turn is; 0: none
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace realize::peer
