#pragma once

// Entries with several versions: which there are, and choosing one of them.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "librealize/peer/core.h"

namespace realize::peer {

/// Of all that is shown and has several versions, in no promised order. Thread: core.
void eachConflict(Core& core, const std::function<void(const logic::Record&, const std::vector<logic::ShownHead>&)>& found);

/// Names a version for people and scripts: "origin-seq" in hexadecimal.
std::string labelOf(const Dot& dot);

/// Makes one of `record`'s versions the only one. `where` names the entry in messages.
/// Errors: NotFound (not one of its versions), Busy (changed here and not read yet), Unreachable (the bytes of that
/// version are not here; `missing` says which). Thread: core. `before`: in the same transaction, ahead of it.
Result<void> chooseVersion(Core& core, const logic::Record& record, const Dot& head, const std::string& where,
                           std::optional<HeadInfo>* missing = nullptr,
                           const std::function<Result<void>()>& before = nullptr);

}  // namespace realize::peer
