#pragma once

// One machine of the household, with what the simulation knows of it beside: its user's doings, its bad luck, whom it met.

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "librealize/peer/lives.h"
#include "tests/support/sim_peer.h"

namespace realize::test {

/// Every write carries one, so that it can be found again.
using Token = uint32_t;

struct Machine {
  std::unique_ptr<SimPeer> peer;
  uint64_t userLife = 0;           ///< what the user was about to do ends with a crash
  std::set<Token> unsynced;        ///< written by the user, perhaps not on the disk yet
  std::set<Token> rewritten;       ///< of these, what was there before and was written again: a torn write takes it along
  std::set<uint64_t> unnamed;      ///< inodes: the user took away one of several names, and those left may not be on the disk yet
  /// Inodes: a power cut mixed what its user was writing with what was there; of what he never synced, what is left.
  std::map<uint64_t, std::set<Token>> torn;
  std::map<std::string, std::pair<uint64_t, uint64_t>> takenAway;  ///< by the program: of a path, in which event, which inode
  std::map<std::string, int64_t> changedAs;  ///< when a file was, through which of its names
  bool changedUnseen = false;      ///< through one that went right after, or is ignored: only a scan sees it under the other
  std::map<NodeId, BlobId> takenAside;  ///< by the program, of an entry: what that had in the folder
  std::string letGoAlone;          ///< a copy that nobody else keeps for it
  std::string followed;            ///< as told last
  std::string nameVanished;        ///< between two of these
  bool full = false;               ///< the disk, on purpose
  bool suspended = false;          ///< its database met the full disk, or one that fails; it goes on by itself
  FakeOp failingOp = FakeOp::Stat; ///< of the program's calls
  uint64_t failures = 0;           ///< of these, still to come
  bool failingDatabase = false;    ///< of its database, too
  bool failedSinceStart = false;   ///< so something may be left among the program's own, until the next start
  int64_t failedNs = INT64_MIN / 2;  ///< when the last did
  /// So its arena may be suspended, and says so.
  bool ailing(int64_t nowNs) const { return nowNs - failedNs < 120'000'000'000; }
  bool powerCut = false;           ///< the coming crash loses what is not durable
  std::optional<FakeImage> backup; ///< the newest of its disk
  int64_t awayUntilNs = 0;
  std::map<PeerKey, peer::Lives> met;  ///< processes of others, met in the process `metIn`
  uint64_t metIn = 0;
  const SimPeer* toldBy = nullptr;     ///< that another machine has its identity
  int64_t toldNs = 0;                  ///< when last
  bool toldEver = false;
  int roster = 0;                      ///< changes of the list of members it has heard of: after an odd one, somebody is none
};

}  // namespace realize::test
