#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "librealize/peer/core.h"

namespace realize::peer {

/// Names in one folder that are one for a disk which minds neither case nor Unicode form (base/fold_name.h). Here all are kept
/// apart; whoever copies the folder to such a disk would lose some, so that status tells of them, and an event `alike-names`.
///
/// Looked for in folders where names came or went, a few at a time and when nothing else is going on; after a start, in all.
/// Thread: core.
class AlikeNames {
 public:
  explicit AlikeNames(Core& core);
  ~AlikeNames();

  /// Costs next to nothing.
  void noteChange(const logic::Effect& effect);
  /// Everything is looked at.
  void lookAll();
  void stop();

  struct Report {
    uint64_t count = 0;                            ///< groups of names
    std::vector<std::vector<std::string>> first{};  ///< of the first of them, the paths
  };
  Report report();

 private:
  struct Found {
    uint64_t groups = 0;
    std::vector<std::vector<std::string>> names{};  ///< of the first of these
  };
  /// The folder that is being looked at: first the hashes of all names, then the names whose hash came twice.
  struct Looking {
    EntryId folder;
    std::string after{};
    std::vector<size_t> hashes{};
    bool again = false;
    std::map<std::string, std::vector<std::string>> alike{};
  };

  void note(const EntryId& folder);
  void wake(int64_t delayMs);
  void turn();
  size_t lookOn();
  void look(const std::string& name);
  bool endOfNames();
  void endOfFolder();

  Core& core_;
  std::set<EntryId> waiting_;      ///< folders to look at
  std::optional<EntryId> last_;    ///< noted last
  bool noted_ = false;             ///< something, since the last turn
  int postponed_ = 0;              ///< so many turns for that
  bool scheduled_ = false;
  bool begun_ = false;             ///< a pass that goes on
  uint64_t looked_ = 0;            ///< names, in the last pass
  std::optional<Looking> looking_;
  std::map<EntryId, Found> found_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace realize::peer
