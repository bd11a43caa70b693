#pragma once

// Who is in the household and who is admitted to which arena, as plain values: what a peer knows (HouseholdView), and
// what it takes over from others. No database and no connection here.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "librealize/peer/wire.h"
#include "librealize/store/peer_store.h"
#include "realize/peer.h"

namespace realize::peer {

constexpr size_t kMaxRosterEntries = 4096;
constexpr size_t kMaxAdmissions = 16384;  // All of it must fit in one message (net::Limits).
constexpr size_t kMaxRunningArenas = 4096;
constexpr size_t kMaxNameBytes = 64;

/// 1 to 64 bytes, no control characters, no '/' and ':' (both have a meaning in paths), not only dots, and no
/// blank or '-' in front.
/// Errors: InvalidArgument, with a sentence that names `what` ("peer", "arena").
Result<void> checkName(const std::string& what, const std::string& name);

/// "host:port" to dial, or empty. Errors: InvalidArgument.
Result<void> checkAddress(const std::string& address);

/// Everything a peer knows of its household at one moment. Immutable once made; shared between threads.
struct HouseholdView {
  PeerKey self;
  std::map<PeerKey, store::RosterRow> roster;                                     ///< removed ones too, and self
  std::map<std::pair<ArenaId, PeerKey>, store::AdmissionRow> admissions;          ///< refused ones too
  std::map<ArenaId, store::ArenaRow> arenas;                                      ///< that this peer is in

  bool isMember(const PeerKey& key) const;
  bool isAdmitted(const ArenaId& arena, const PeerKey& key) const;
  PeerInfo infoOf(const PeerKey& key) const;
  std::string nameOf(const PeerKey& key) const;  ///< or the first digits of the key
  /// Those not removed, self first, then by name.
  std::vector<PeerInfo> peers() const;
  /// By name, or by the key in hexadecimal (whole, or its first 8 or more digits).
  /// Errors: NotFound, InvalidArgument (several).
  Result<PeerKey> find(const std::string& nameOrKey) const;
  /// `wanted`, or that with a number behind it if another member has it.
  std::string freeName(const std::string& wanted, const PeerKey& forKey) const;
  /// Arenas to which this peer and `with` are admitted, by id, with the name in the household.
  std::map<ArenaId, std::string> sharedWith(const PeerKey& with) const;
};

/// Rows as another peer sends them.
struct HouseholdRows {
  std::vector<store::RosterRow> roster;
  std::vector<store::AdmissionRow> admissions;
};

/// Which of `from`'s rows change what we know: well-formed, within the bounds, newer; admissions only of arenas to which
/// `from` itself is admitted (as we know, or, for an arena we are not in, as it says).
HouseholdRows acceptable(const HouseholdView& view, const PeerKey& from, const HouseholdRows& rows);

/// What `to` may know: the whole roster, and the admissions of arenas to which it is admitted.
HouseholdRows rowsFor(const HouseholdView& view, const PeerKey& to);

/// A stamp for a change made here now: later than the one it replaces.
store::RosterStamp stampAfter(const store::RosterStamp* before, int64_t nowNs, const PeerKey& writer);

using RunningArenas = std::map<ArenaId, uint64_t>;  ///< arena and the life of its run

void writeHousehold(schema::HouseholdState::Builder out, const HouseholdRows& rows, const RunningArenas& running);
struct ReadHousehold {
  HouseholdRows rows;
  RunningArenas running;
};
/// Errors: Corrupt (too many, keys of the wrong length). What is well-formed but not sensible is left to acceptable().
Result<ReadHousehold> readHousehold(schema::HouseholdState::Reader in);

}  // namespace realize::peer
