#include "librealize/peer/sync_names.h"

#include "librealize/base/path.h"

namespace realize::peer {

Result<void> syncWithNames(Directory& root, DiskFile& file, const std::string& path, std::set<std::string>& folders) {
  REALIZE_TRY(file.sync(true));
  return syncNamesAbove(root, path, folders);
}

Result<void> syncNamesAbove(Directory& root, const std::string& path, std::set<std::string>& folders) {
  std::set<std::string> above;
  for (std::string folder = parentPath(path); !folders.contains(folder) && above.insert(folder).second; folder = parentPath(folder))
    REALIZE_TRY(root.syncDirectory(folder));
  folders.merge(above);
  return {};
}

}  // namespace realize::peer
