#pragma once

// What befalls some households beside the usual, each to be switched on alone (`--hard NAME`).

#include <cstdint>
#include <optional>
#include <set>
#include <string>

namespace realize::test {

enum class Hardship : uint8_t {
  FailedSyncs,  ///< a sync fails, once or a few times, and what it was to bring to the disk is lost from then on
  DiskErrors,   ///< the program's next calls to its disk fail
};

using Hardships = std::set<Hardship>;

/// By its name; none: there is none of that name.
std::optional<Hardship> hardshipNamed(const std::string& name);

}  // namespace realize::test
