#pragma once

#include <map>
#include <vector>

#include "librealize/peer/core.h"

namespace realize::peer {

/// The contents that this peer keeps real because another relies on it, having let its own go or being about to. Each lock is
/// for one peer and entry, and lasts kPromiseMs, or until that peer says that it needs it no more, as often as it was told that it
/// has it: what asked twice may rely on either, as does a machine that was copied and has the same key. A restart forgets none:
/// it does not know whose they were, or how old, and lets them last anew.
/// Thread: core. Methods throw DatabaseError.
class KeepLocks {
 public:
  explicit KeepLocks(Core& core) : core_(core) {}

  /// What the database has.
  void load();
  /// In memory: counts at once, against our own letting go.
  void take(const PeerKey& peer, const EntryContent& content);
  /// What was taken lasts from now.
  void renew(const PeerKey& peer, const EntryContent& content);
  /// So that a restart does not forget it, once the transaction is durable.
  void keep(NodeId node, const EntryContent& content);
  void release(const PeerKey& peer, const EntryContent& content);
  bool locked(const BlobId& blob);
  /// Those whose time is over go.
  void prune();
  /// How many there are, and of whom.
  uint64_t count();

 private:
  struct Lock {
    PeerKey peer;  ///< zero: not known any more
    EntryId entry;
    int64_t untilNs = 0;  ///< as Clock::elapsedNs()
    uint32_t taken = 1;   ///< and not released
  };
  Lock* find(const PeerKey& peer, const EntryContent& content);
  void forget(const std::vector<BlobId>& blobs);

  Core& core_;
  std::map<BlobId, std::vector<Lock>> locks_;
};

}  // namespace realize::peer
