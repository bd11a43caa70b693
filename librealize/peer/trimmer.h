#pragma once

#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "librealize/peer/core.h"

namespace realize::peer {

/// Forgets removed entries that every active member has seen removed (AGREEMENT.md 20), a few at a time when nothing
/// else is going on; and says who has been away for so long that nobody waits for it with that.
/// Thread: core.
class Trimmer {
 public:
  explicit Trimmer(Core& core);
  ~Trimmer();

  /// Who is admitted now. Until it is known, everyone counts of whom anything was heard.
  void setMembers(std::set<PeerKey> members);
  /// Acknowledgements came, or the arena goes on.
  void wake();
  /// One turn, now.
  void turn();
  void stop();

 private:
  std::vector<PeerKey> active();
  bool mayForget(const logic::Record& record);

  Core& core_;
  std::optional<std::set<PeerKey>> members_;
  bool scheduled_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace realize::peer
