#pragma once

// Bringing back what was removed or replaced: from the history, which says what a change took away, and the cache, which
// keeps the bytes for a while.

#include <vector>

#include "librealize/peer/core.h"
#include "librealize/store/member_tables.h"

namespace realize::peer {

/// What a request means now, by path: for each entry the change whose old content comes back. Thread: core.
/// Errors: NotFound (nothing to undo), InvalidArgument.
Result<std::vector<store::HistoryRow>> planUndo(Core& core, const UndoRequest& request);

/// Why this cannot be brought back as it is now; empty: it can, once its bytes are here. Thread: core.
std::string whyNotUndone(Core& core, const store::HistoryRow& row);

/// The entry that it was, or, if all have forgotten that one, which undoOne() makes in its place. Thread: core.
EntryId entryToUndo(Core& core, const store::HistoryRow& row);

/// Brings it back, with the folders above it. Its bytes are here and stay until they are in the folder, or as long as they
/// are shown and nowhere else. Within a transaction. Thread: core. Errors: Busy (whyNotUndone), as of the tree.
Result<void> undoOne(Core& core, const store::HistoryRow& row);

}  // namespace realize::peer
