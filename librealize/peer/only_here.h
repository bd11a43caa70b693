#pragma once

// What would be lost with this peer's copy of an arena: contents that are here apart from the user's own folder, and that no
// connected peer promises to keep.

#include <functional>

#include "librealize/peer/core.h"

namespace realize::peer {

/// Asks the connected peers, one after the other, and calls `done` on the core with the paths of files (in the visible tree,
/// sorted) of which some content is nowhere else, as far as they say. `realToo`: Real files count, as their folder goes.
/// At most so many contents are asked for; what is beyond counts as not kept. Thread: core.
void findOnlyHere(Core& core, bool realToo, std::function<void(std::vector<std::string>)> done);

class Hosted;

/// Whether the arena may be left. `inState`: its folder is the state folder's, and goes, too. With `force` always; the paths
/// of what is lost by it. Blocks while peers are asked. Errors: Refused (naming files), Busy (no answer in time), the
/// database's. Thread: any but the core's, the loop's and the pool's.
Result<std::vector<std::string>> mayLeave(Hosted& hosted, bool inState, bool force);

}  // namespace realize::peer
