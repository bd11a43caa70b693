#include "librealize/peer/as_known.h"

#include <algorithm>

namespace realize::peer {

namespace {

/// As reconcile compares: a folder's times and size change with what is in it.
bool sameAsKnown(const store::DiskTable::Known& known, const FileStat& stat) {
  if (!known.stat.sameObject(stat) || known.stat.type != stat.type || known.stat.mode != stat.mode) return false;
  if (stat.type == FileStat::Type::Directory) return true;
  return known.settled && known.stat.sizeBytes == stat.sizeBytes && known.stat.mtimeNs == stat.mtimeNs &&
         known.stat.ctimeNs == stat.ctimeNs;
}

}  // namespace

bool listedAsKnown(store::DiskTable& disk, NodeId folder, const logic::Listing& listing) {
  const auto* self = disk.peek(folder);
  if (!self || listing.state != logic::Listing::State::Complete || self->device != listing.self.device ||
      self->inode != listing.self.inode || self->birthNs != listing.self.birthNs)
    return false;
  std::vector<const DirectoryItem*> items;
  items.reserve(listing.items.size());
  for (const auto& item : listing.items) {
    if (item.failed) return false;
    items.push_back(&item);
  }
  std::sort(items.begin(), items.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  auto next = items.begin();
  bool same = true;
  disk.eachIn(folder, [&](const store::DiskTable::Known& known) {
    same = next != items.end() && (*next)->name == known.name && sameAsKnown(known, (*next)->stat);
    ++next;
    return same;
  });
  return same && next == items.end();
}

}  // namespace realize::peer
