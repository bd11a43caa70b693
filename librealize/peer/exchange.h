#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "librealize/peer/core.h"

namespace realize::peer {

/// Agreement with connected peers: announces our state, pulls what they have and we lack, remembers what they said.
/// Thread: core.
class Exchange {
 public:
  explicit Exchange(Core& core);
  ~Exchange();

  void connected(RemoteArena& remote);
  void disconnected(const PeerKey& key);
  /// Who is admitted now: nobody else is waited for, be it for a tree.
  void setMembers(std::set<PeerKey> admitted);
  /// Once more, as the database may have failed meanwhile.
  void noteMembers();
  /// The tree, the missing bytes or the settling changed: announce soon (after the rest; at once when `urgent`).
  void changed(bool urgent);
  /// Bytes that were wanted have come: announce at once if they are all, else not too often.
  void bytesCame();
  /// Called on the core whenever a peer was told our state without being asked, or told us its own; replaces the one before.
  void onTold(std::function<void()> told);
  /// The arena goes on: announces at once, and pulls what the others told while it was suspended.
  void resumed();
  /// Announces soon, also to whom has been told the same already: it may ask for something that is not in it.
  void tellAgain();
  void onAnnounce(const PeerKey& from, const ArenaState& state);
  Result<PullPage> servePull(const PeerKey& from, const PullRequest& request);
  Result<logic::WholePage> serveCompare(const PeerKey& from, const logic::WholeRequest& request);
  /// Our own state, durable before it is returned.
  ArenaState ownState();
  /// The same, as the answer to a peer that asks for it.
  ArenaState stateFor(const PeerKey& asking);

  struct Member {
    bool connected = false;
    std::optional<ArenaState> said;  ///< since it connected
    uint64_t announced = 0;          ///< how often it did
    bool pulling = false;
    /// Both compare their whole trees: the other one does so first, or no longer.
    enum class First { Undecided, Waiting, Waited } other = First::Undecided;
    /// Its tree and ours, at the same vector, about which something was or will be done; empty: nothing.
    std::optional<std::pair<logic::TreeDigest, logic::TreeDigest>> differed{};
    std::string error;  ///< of the last pull
  };
  const std::map<PeerKey, Member>& members() const;
  std::vector<RemoteArena*> remotes();
  RemoteArena* remote(const PeerKey& key);  ///< null: not connected
  /// The peer said so since it connected: same vector, same digest, nothing settling.
  bool agreesWith(const PeerKey& key);
  /// ... and so does each member, also who was never met. Whom somebody between asks may be out of his reach at that moment.
  bool agreesWithAll();
  /// All members but this one, also who was never met.
  std::set<PeerKey> others();
  /// It has that tree, and nothing is settling.
  bool restsAt(const VersionVector& vector, const logic::TreeDigest& digest);
  /// Asks every connected peer for its state behind a barrier (after our own barrier), then calls `done`.
  void refresh(std::function<void()> done);
  void stop();

 private:
  /// Announced, or answered.
  void said(const PeerKey& from, const ArenaState& state);
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace realize::peer
