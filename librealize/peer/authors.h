#pragma once

// Which peer a change is by: changes carry the origin of their author's database, people want to read a name.

#include <map>
#include <optional>
#include <vector>

#include "librealize/logic/tree.h"
#include "librealize/store/arena_store.h"

namespace realize::peer {

/// Origins and the peers whose they are. A peer that is connected says its own; of others it tells what it knows with
/// the changes that it sends. All that is decided by it is which lives are over. Thread: under the core lock; methods throw DatabaseError.
class Authors {
 public:
  Authors(store::ArenaStore& store, const logic::Tree& tree, const PeerKey& self);

  /// Within a transaction. `certain`: that peer itself said so; else what is known already stays.
  void learn(Origin origin, const PeerKey& peer, bool certain);
  /// The origins of that peer but for the one of its life of now.
  std::vector<Origin> earlierLives(const PeerKey& peer, Origin now) const;
  /// Null: nobody has said so far.
  std::optional<PeerKey> of(Origin origin) const;
  /// Who made what is shown there as it is now; all zero when that is not known, as with what nobody did himself: a name
  /// that changed because another one appeared.
  PeerKey of(const logic::Effect& effect, logic::Tree& tree) const;
  /// Those of the changes that a receiver with this vector has not seen.
  std::map<Origin, PeerKey> ofNews(const std::vector<Change>& changes, const VersionVector& seen) const;

 private:
  static constexpr size_t kMost = 65'536;
  void save();

  store::ArenaStore& store_;
  const logic::Tree& tree_;
  const PeerKey self_;
  std::map<Origin, PeerKey> known_;
};

}  // namespace realize::peer
