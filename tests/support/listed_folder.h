// A folder in memory, as logic::reconcile is told of it.

#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>

#include "librealize/logic/reconcile.h"

namespace realize::logic {

/// A folder in memory: objects with inode numbers, names that lead to them.
class Folder {
 public:
  struct Object {
    FileStat stat;
    std::map<std::string, std::shared_ptr<Object>> names;  ///< of a directory
    bool unreadable = false;
    std::vector<std::string> ignored;
  };
  using Ref = std::shared_ptr<Object>;

  Folder() { root = make(FileStat::Type::Directory); }

  Ref make(FileStat::Type type) {
    auto object = std::make_shared<Object>();
    object->stat.type = type;
    object->stat.device = 1;
    object->stat.inode = ++lastInode_;
    object->stat.birthNs = ++now_;
    object->stat.links = 1;
    object->stat.mode = type == FileStat::Type::Directory ? 0755 : 0644;
    touch(object);
    return object;
  }
  void touch(const Ref& object) { object->stat.mtimeNs = object->stat.ctimeNs = ++now_; }

  Ref at(const std::string& path) {
    Ref object = root;
    for (size_t i = 0; i < path.size();) {
      size_t end = std::min(path.find('/', i), path.size());
      auto it = object->names.find(path.substr(i, end - i));
      if (it == object->names.end()) return nullptr;
      object = it->second;
      i = end + 1;
    }
    return object;
  }
  static std::pair<std::string, std::string> split(const std::string& path) {
    size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {"", path};
    return {path.substr(0, slash), path.substr(slash + 1)};
  }
  Ref& slot(const std::string& path) {
    auto [directory, name] = split(path);
    dirty(at(directory));
    return at(directory)->names[name];
  }
  void dirty(const Ref& directory) {
    if (std::find(dirty_.begin(), dirty_.end(), directory) == dirty_.end()) dirty_.push_back(directory);
  }

  void file(const std::string& path, uint64_t size = 10) {
    Ref made = make(FileStat::Type::File);
    made->stat.sizeBytes = size;
    slot(path) = made;
  }
  void directory(const std::string& path) { slot(path) = make(FileStat::Type::Directory); }
  void symlink(const std::string& path) { slot(path) = make(FileStat::Type::Symlink); }
  /// A change of an object shows under each of its names.
  void dirtyAround(const Ref& object) {
    walk([&](const std::string& path, const Ref& at) {
      if (at == object && !path.empty()) dirty(this->at(split(path).first));
    });
  }
  void edit(const std::string& path) {
    dirtyAround(at(path));
    at(path)->stat.sizeBytes += 1;
    touch(at(path));
  }
  void chmod(const std::string& path, uint32_t mode) {
    dirtyAround(at(path));
    at(path)->stat.mode = mode;
    at(path)->stat.ctimeNs = ++now_;
  }
  void remove(const std::string& path) {
    auto [directory, name] = split(path);
    dirty(at(directory));
    --at(path)->stat.links;
    at(directory)->names.erase(name);
  }
  void rename(const std::string& from, const std::string& to) {
    Ref object = at(from);
    auto [directory, name] = split(from);
    dirty(at(directory));
    at(directory)->names.erase(name);
    slot(to) = object;
    dirtyAround(object);
    object->stat.ctimeNs = ++now_;
  }
  void swap(const std::string& a, const std::string& b) { std::swap(slot(a), slot(b)); }
  void link(const std::string& from, const std::string& to) {
    ++at(from)->stat.links;
    slot(to) = at(from);
  }

  /// All directories under `path`, or only the one.
  void list(const std::string& path, bool below, std::vector<Listing>& out) {
    Ref object = at(path);
    Listing listing;
    listing.path = path;
    if (!object || object->stat.type != FileStat::Type::Directory) {
      listing.state = Listing::State::Gone;
      out.push_back(listing);
      return;
    }
    listing.self = object->stat;
    listing.ignored = object->ignored;
    if (object->unreadable) {
      listing.state = Listing::State::Unreadable;
    } else {
      for (auto& [name, child] : object->names)
        if (std::find(object->ignored.begin(), object->ignored.end(), name) == object->ignored.end())
          listing.items.push_back({name, child->stat, std::nullopt});
    }
    out.push_back(listing);
    if (!below) return;
    for (auto& item : out.back().items.empty() ? std::vector<DirectoryItem>() : std::vector<DirectoryItem>(out.back().items))
      if (item.stat.type == FileStat::Type::Directory)
        list(path.empty() ? item.name : path + "/" + item.name, true, out);
  }
  std::optional<std::string> pathOf(const Ref& wanted) {
    std::optional<std::string> found;
    walk([&](const std::string& path, const Ref& object) {
      if (object == wanted) found = path;
    });
    return found;
  }
  void walk(const std::function<void(const std::string&, const Ref&)>& visit) { walk("", root, visit); }
  void walk(const std::string& path, const Ref& object,
            const std::function<void(const std::string&, const Ref&)>& visit) {
    visit(path, object);
    for (auto& [name, child] : object->names) walk(path.empty() ? name : path + "/" + name, child, visit);
  }

  Ref root;
  std::vector<Ref> dirty_;

 private:
  uint64_t lastInode_ = 100;
  int64_t now_ = 1000;
};

/// What editors do to save `f`, as traced. Between looks or all within one.
struct Save {
  const char* editor;
  std::vector<std::vector<std::string>> operations;
};
inline const Save kSaves[] = {
    {"vim (backup by renaming)", {{"rename", "f", "f~"}, {"create", "f"}, {"remove", "f~"}}},
    {"vim with 4913", {{"create", "4913"}, {"remove", "4913"}, {"rename", "f", "f~"}, {"create", "f"}, {"remove", "f~"}}},
    {"vim that keeps its backup", {{"rename", "f", "f~"}, {"create", "f"}}},
    {"emacs", {{"create", "#f#"}, {"rename", "f", "f~"}, {"create", "f"}, {"remove", "#f#"}}},
    {"gedit, kate, sed -i", {{"create", ".goutputstream-X"}, {"rename", ".goutputstream-X", "f"}}},
    {"LibreOffice", {{"create", ".~lock.f#"}, {"remove", ".~lock.f#"}, {"create", ".~lock.f#"}, {"create", "lu1.tmp"},
                     {"rename", "lu1.tmp", "f"}, {"remove", ".~lock.f#"}}},
    {"nano", {{"edit", "f"}}},
    {"Microsoft Word over SMB", {{"create", "w1.tmp"}, {"rename", "f", "w2.tmp"}, {"rename", "w1.tmp", "f"}, {"remove", "w2.tmp"}}},
};

inline void perform(Folder& folder, const std::vector<std::string>& operation) {
  if (operation[0] == "rename") folder.rename(operation[1], operation[2]);
  else if (operation[0] == "create") folder.file(operation[1], 77);
  else if (operation[0] == "remove") folder.remove(operation[1]);
  else folder.edit(operation[1]);
}

}  // namespace realize::logic
