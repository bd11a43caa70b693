#pragma once

// Versions whose bytes nobody has (Folder::nobodyHas()): what is known of them meanwhile.

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "librealize/model/tree.h"

namespace realize::peer {

/// Each peer that was asked says that it has it not.
using Refused = std::function<bool(const BlobId&)>;

enum class Asked : uint8_t {
  Connected,  ///< not all members are
  All,        ///< each member, at some time
  AllNow,     ///< each, since this was begun to be looked at
  EachNow,    ///< the same, and for each version
};

using NotReplaced = std::set<std::pair<EntryId, BlobId>>;

struct Nobody {
  std::set<EntryId> lastResorts;         ///< being asked for (Folder::lastResort())
  std::map<EntryId, int64_t> sinceNs;    ///< when it was first found of an entry, on the monotonic clock
  NotReplaced notReplaced;               ///< and nobody here has replaced them
};

}  // namespace realize::peer
