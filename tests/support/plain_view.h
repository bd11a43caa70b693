#pragma once

#include <map>
#include <string>
#include <utility>

#include "librealize/model/tree.h"
#include "tests/support/memory_tree_store.h"

namespace realize::logic {

/// What is shown, computed from scratch from all entries (AGREEMENT.md 10-12): where each shown entry is, and under
/// which name. The oracle for the tree's incremental view; slow and plain.
std::map<EntryId, std::pair<EntryId, std::string>> plainView(const std::map<EntryId, Entry>& entries);

/// Compares all that a flushed tree keeps for its view with plainView(). Empty when equal, else what differs.
std::string viewDifference(const MemoryTreeStore& store);

}  // namespace realize::logic
