#pragma once

// This peer's database of the household: its identity, whom it knows, who is admitted where, invites, settings.

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "librealize/base/clock.h"
#include "librealize/base/random.h"
#include "librealize/net/identity.h"
#include "librealize/net/invite.h"
#include "librealize/peer/roster.h"
#include "librealize/store/peer_store.h"

namespace realize::peer {

/// Thread: view() any, also the loop's; everything else any but the loop's (it waits for the disk). Every change is
/// durable when its call returns, and then `changed` has been called, without a lock held.
class Household {
 public:
  /// Makes the database. Errors: Exists; InvalidArgument (name, address); disk errors.
  static Result<void> create(const std::string& path, const std::string& name, const std::string& listen, Clock& clock,
                             Random& random);
  /// Errors: NotFound, Corrupt, WrongVersion, Busy.
  static Result<std::unique_ptr<Household>> open(const std::string& path, Clock& clock, Random& random);

  const net::Identity& identity() const { return identity_; }
  std::shared_ptr<const HouseholdView> view() const;
  /// Why the last change could not be written, while that is so.
  std::optional<Error> trouble() const;
  /// Tries whether the database can be written again; if so, what waits for it is looked at anew (`changed`).
  Result<void> recover();
  /// Before anything else is called from another thread.
  void onChanged(std::function<void()> changed) { changed_ = std::move(changed); }

  // --- this peer
  /// What is stored: "host:port", port 0 before the kernel has picked one; empty: deaf.
  std::string listenAddress();
  Result<void> setListenAddress(const std::string& address);
  /// What others are told to dial. Nothing happens if it is so already.
  Result<void> setOwnAddress(const std::string& address);
  Result<void> rename(const std::string& name);

  // --- the household
  /// Of a peer that is known already, an empty address keeps the one it has.
  Result<void> addPeer(const std::string& name, const PeerKey& key, const std::string& address);
  Result<PeerKey> removePeer(const std::string& nameOrKey);
  /// The handshake key that a member has proven: the next dial, also after a restart, is one exchange shorter.
  Result<void> noteHandshakeKey(const net::DhBinding& binding);
  /// Takes over what is newer (see acceptable()). True if anything was.
  Result<bool> merge(const PeerKey& from, const HouseholdRows& rows);

  // --- invites
  /// Errors: NotFound (an arena that this peer is not in).
  Result<std::string> makeInvite(const InviteOptions& options, const std::vector<std::string>& addresses);
  /// Someone shows an invite: marks it used. Errors, with a sentence for who wants to join: Refused (used, not ours),
  /// TimedOut (expired).
  Result<void> useInvite(const net::InviteSecret& secret, const PeerKey& by);
  /// The one who used the invite has said who it is: becomes a member, admitted to the invite's arenas.
  Result<void> admitJoiner(const net::InviteSecret& secret, const PeerKey& key, const std::string& name,
                           const std::string& address);

  // --- arenas
  /// Notes the arena and admits this peer to it.
  Result<void> putArena(const store::ArenaRow& row);
  Result<void> eraseArena(const ArenaId& arena);
  Result<void> admit(const ArenaId& arena, const PeerKey& peer);
  Result<void> withdraw(const ArenaId& arena, const PeerKey& peer);

  // --- settings and small values
  std::string setting(const std::string& scope, const std::string& name, const std::string& otherwise);
  Result<void> setSetting(const std::string& scope, const std::string& name, const std::string& value);
  std::string value(const std::string& key);
  Result<void> setValue(const std::string& key, const std::string& value);

 private:
  Household(std::unique_ptr<store::PeerStore> store, net::Identity identity, Clock& clock, Random& random);
  /// Runs `work` in a transaction, makes it durable, renews the view and calls `changed`.
  template <typename F>
  Result<void> change(F&& work);
  void renewView();
  void putMember(const PeerKey& key, const std::string& name, const std::string& address, bool removed);
  void putAdmission(const ArenaId& arena, const PeerKey& peer, const std::string& arenaName, bool admitted = true);

  std::mutex mutex_;  // guards store_
  std::unique_ptr<store::PeerStore> store_;
  const net::Identity identity_;
  Clock& clock_;
  Random& random_;
  std::function<void()> changed_;
  void noteOutcome(const Result<void>& written);

  mutable std::mutex viewMutex_;  // guards what follows, for a moment
  std::optional<Error> trouble_;
  std::shared_ptr<const HouseholdView> view_;
};

}  // namespace realize::peer
