#pragma once

// The database of one peer: peer.db. Who it is, whom it knows, what arenas it is in. Kept small; everything is read
// whole. Methods but open() throw DatabaseError; thread and transaction rules as in arena_store.h.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "librealize/model/tree.h"
#include "librealize/store/arena_store.h"
#include "librealize/store/database.h"

namespace realize::store {

/// Secret: never logged, never sent.
struct IdentityKeys {
  std::array<uint8_t, 64> signSecret{};  ///< Ed25519, as libsodium holds it (seed and public key)
  std::array<uint8_t, 32> dhSecret{};    ///< X25519
};

/// Values that peers agree on by last writer: the greater stamp wins, compared whole.
struct RosterStamp {
  int64_t whenNs = 0;  ///< Unix time at the writer, made greater than the one it replaces
  PeerKey writer;
  auto operator<=>(const RosterStamp&) const = default;
};

struct RosterRow {
  PeerKey peer;
  std::string name;
  std::string address;               ///< "host:port"; empty for a deaf peer
  std::array<uint8_t, 32> dhKey{};   ///< X25519 static public key; zero while unknown
  std::array<uint8_t, 64> dhSignature{};  ///< of the identity over dhKey; zero while unknown
  int64_t addedNs = 0;               ///< Unix time
  bool removed = false;              ///< kept, so that a removal reaches all
  RosterStamp stamp;
  bool operator==(const RosterRow&) const = default;
};

/// An arena that this peer is in.
struct ArenaRow {
  ArenaId arena;
  std::string name;
  std::string folder;       ///< absolute path of the backing folder
  bool ownFolder = false;   ///< ours, in the state folder: the user gave none
  int64_t joinedNs = 0;     ///< Unix time
  bool operator==(const ArenaRow&) const = default;
};

/// That a peer may or may not see an arena, as agreed in the household.
struct AdmissionRow {
  ArenaId arena;
  PeerKey peer;
  std::string arenaName;
  bool admitted = true;
  RosterStamp stamp;
  bool operator==(const AdmissionRow&) const = default;
};

/// A one-time invite given out by this peer.
struct InviteRow {
  std::array<uint8_t, 32> secretHash{};
  int64_t expiryNs = 0;  ///< Unix time
  bool allArenas = true;
  std::vector<ArenaId> arenas;  ///< when not allArenas
  std::optional<PeerKey> usedBy;
  bool operator==(const InviteRow&) const = default;
};

class PeerStore {
 public:
  /// Errors: as Database::open.
  static Result<std::unique_ptr<PeerStore>> open(const std::string& path, const OpenOptions& options = {});
  ~PeerStore();

  Database& database() { return *db_; }
  template <typename F>
  auto transact(F&& fn) { return db_->transact(std::forward<F>(fn)); }
  void makeDurable() { db_->makeDurable(); }
  /// See ArenaStore::reopen.
  void reopen();

  // This peer. nullopt and "" before they are set.
  std::optional<IdentityKeys> keys();
  void setKeys(const IdentityKeys& keys);
  std::string name();
  void setName(const std::string& name);
  std::string listenAddress();
  void setListenAddress(const std::string& address);
  std::optional<FileIdentity> recordedIdentity();
  void recordIdentity(const FileIdentity& identity);
  /// Other small values.
  std::optional<std::string> getValue(const std::string& key);
  void setValue(const std::string& key, const std::string& value);

  // The household. `merge` keeps the row with the greater stamp and returns whether the given one was kept.
  std::vector<RosterRow> roster();  ///< removed ones too
  std::optional<RosterRow> rosterOf(const PeerKey& peer);
  bool mergeRoster(const RosterRow& row);
  /// Of this peer's own knowledge, under no stamp.
  void setHandshakeKey(const PeerKey& peer, const std::array<uint8_t, 32>& dhKey, const std::array<uint8_t, 64>& signature);
  std::vector<AdmissionRow> admissions();  ///< refused ones too
  std::vector<AdmissionRow> admissionsTo(const ArenaId& arena);
  bool isAdmitted(const ArenaId& arena, const PeerKey& peer);
  bool mergeAdmission(const AdmissionRow& row);

  // Arenas joined.
  std::vector<ArenaRow> arenas();
  std::optional<ArenaRow> arena(const ArenaId& id);
  void putArena(const ArenaRow& row);
  void eraseArena(const ArenaId& id);

  // Invites given out.
  void putInvite(const InviteRow& row);
  std::optional<InviteRow> invite(const std::array<uint8_t, 32>& secretHash);
  /// Marks it used, once: false when it is unknown, expired or used before by another peer.
  bool useInvite(const std::array<uint8_t, 32>& secretHash, const PeerKey& by, int64_t nowNs);
  void eraseInvitesExpiredBefore(int64_t nowNs);

  // Settings that differ from their defaults. `scope` "" is the peer's, else an arena's id in hexadecimal.
  std::optional<std::string> setting(const std::string& scope, const std::string& name);
  std::vector<std::pair<std::string, std::string>> settings(const std::string& scope);
  void setSetting(const std::string& scope, const std::string& name, const std::string& value);
  void eraseSetting(const std::string& scope, const std::string& name);

 private:
  struct Statements;
  explicit PeerStore(std::unique_ptr<Database> db);
  std::unique_ptr<Database> db_;
  std::unique_ptr<Statements> sql_;
};

}  // namespace realize::store
