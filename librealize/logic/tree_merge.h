#pragma once

// The pure parts of the merge rules (AGREEMENT.md 9, 13): states in, state out.

#include <vector>

#include "librealize/model/tree.h"

namespace realize::logic {

/// Of all that a tree's entry may show: one content, with every dot that has it. Attributes are those of the dot with
/// the greatest stamp, which is `dot`.
struct ShownHead {
  Dot dot;
  Version version;
  std::vector<Dot> dots;  ///< sorted; `dot` is among them
};

/// Heads less those that deletes let go; if that leaves none, all of them (rule 9). Sorted by dot.
std::vector<std::pair<Dot, Version>> realHeads(const Entry& entry);

/// A delete let that head go.
bool isLetGo(const Entry& entry, Dot head);
/// All of them: what is shown is a last resort (rule 9).
bool allLetGo(const Entry& entry);
/// Some removal has let go a version that another peer replaced, or issued again, without knowing of that.
bool letGoUnknown(const Entry& entry);

/// The claim is one that a delete made for the sake of heads it had not seen: its dot is that of a tomb.
bool isForOthers(const Entry& entry, Dot claim);

/// Such claims end when every head is let go (rule 23).
void endClaimsForOthers(Entry& entry);

/// The same with equal contents counted once, the newest (the greatest stamp) first. Empty only for an entry without any head.
std::vector<ShownHead> shownHeads(const Entry& entry);

/// The join of two states of one entry (rule 13). `*Seen`: what each side has seen of it. The result's ctx is the join
/// of both; drop what the peer's own vector covers.
Entry mergeEntries(const Entry& mine, const VersionVector& mySeen, const Entry& theirs, const VersionVector& theirSeen);

/// Notes that `blob` was replaced: newest first, each once, the last few only; never one that is a head.
void rememberReplaced(Entry& entry, const BlobId& blob);

}  // namespace realize::logic
