#pragma once

// What two trees exchange: pages of changes since a vector, and where one side has forgotten removals that the other never
// saw, comparisons of their whole states. Plain values.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "librealize/model/tree.h"

namespace realize::logic {

class Tree;

/// Sum over hashes of what is shown: equal trees have equal digests.
using TreeDigest = FixedBytes<16, struct TreeDigestTag>;

struct PageRequest {
  VersionVector vector;   ///< the receiver's
  VersionVector trimmed;  ///< the receiver's T
  bool fresh = false;     ///< the receiver has nothing but what earlier pages of this batch brought
  std::string cursor;     ///< of the last page received of a batch; empty to begin
  size_t maxChanges = 4096;
  size_t maxBytes = 1 << 20;  ///< about; a page always has at least one change
};

struct ChangePage {
  std::vector<Change> changes;
  std::string cursor;      ///< for the next page, on this or any later connection
  bool done = false;
  VersionVector snapshot;  ///< the sender's vector when the batch began: what `done` completes
  VersionVector trimmed;   ///< the sender's T
  std::map<PeerKey, VersionVector> acks;  ///< the following are sent when done
  std::vector<Origin> closed;
  uint64_t clock = 0;
  std::map<Origin, PeerKey> authors;  ///< of changes on this page, as far as the sender knows them; not the tree's affair
};

/// All entry ids that begin with the first `digits` hexadecimal digits of `prefix`, whose others are zero.
struct IdRange {
  EntryId prefix;
  uint8_t digits = 0;  ///< 0 to 32

  EntryId last() const;
  /// The digits past the prefix are zero, as they must be.
  bool valid() const;
  bool contains(const EntryId& id) const { return prefix <= id && id <= last(); }
  /// The sixteen ranges that it consists of; `digits` must be less than 32.
  std::vector<IdRange> split() const;
  bool operator==(const IdRange&) const = default;
};

/// Equal sums: equal records, dead ones too.
struct RangeSum {
  IdRange range;
  uint64_t entries = 0;
  TreeDigest sum;  ///< of the hashes of the records
};

/// What a receiver asks to compare its whole state with the sender's (rule 18).
struct WholeRequest {
  VersionVector vector;   ///< the receiver's
  std::vector<RangeSum> ranges;
};
enum class RangeOutcome : uint8_t {
  Equal,
  Sent,   ///< all that the sender has of it is among the changes
  Split,  ///< it differs and is too large to be sent: ask for its parts
};
struct WholePage {
  Origin origin = 0;
  std::vector<RangeOutcome> outcomes;  ///< of the first ranges asked for; the others are to be asked for again
  ChangePage page;                     ///< done; snapshot, trimmed, acks, closed and clock are of now
};

/// What a receiver gathers of a sender's whole state before it takes it, at once: what broke off has changed nothing.
/// Good while neither side trims and the sender lives on. Lives in memory: of what is equal nothing is kept.
class WholeState {
 public:
  bool began() const { return began_; }
  bool complete() const { return left_.empty() && began_; }
  uint64_t changeCount() const { return changeCount_; }

 private:
  friend class Tree;
  bool began_ = false;
  Origin sender_ = 0;
  VersionVector mine_;                  ///< own T when it began
  ChangePage told_;                     ///< of the first answer; no changes
  std::vector<IdRange> left_;           ///< to be compared; the next at the back
  std::vector<IdRange> asked_;
  std::vector<IdRange> differing_;
  std::vector<std::string> pages_;      ///< encodeChanges()
  uint64_t changeCount_ = 0;
};

}  // namespace realize::logic
