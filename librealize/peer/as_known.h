#pragma once

#include "librealize/logic/reconcile.h"
#include "librealize/store/disk_table.h"

namespace realize::peer {

/// All that is known to be in the folder was read there as it is known, and nothing else was: reconcile would learn nothing
/// of it. For a third of the steps.
bool listedAsKnown(store::DiskTable& disk, NodeId folder, const logic::Listing& listing);

}  // namespace realize::peer
