#pragma once

#include <string>

#include "librealize/base/hash.h"
#include "librealize/logic/tree.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_random.h"
#include "tests/support/memory_tree_store.h"

namespace realize::logic {

/// The version of a file with that text.
inline Version textVersion(const std::string& text) {
  Version v;
  blake2b(std::as_bytes(std::span(text)), std::span<uint8_t>(v.blob.bytes));
  v.sizeBytes = text.size();
  v.mode = 0644;
  return v;
}

inline Version directoryVersion(uint32_t mode = 0755) {
  Version v;
  v.mode = mode;
  return v;
}

/// One peer's tree over memory. Paths have '/' between names; "" is the root.
struct TreePeer {
  PeerKey key;
  test::FakeClock clock;
  test::FakeRandom random;
  MemoryTreeStore store;
  Tree tree;

  explicit TreePeer(char name) : key{{uint8_t(name)}}, random(uint64_t(name) * 1000), tree(store, clock, random, key) {}

  /// The entry at a path; all 0xff when nothing is shown there.
  EntryId at(const std::string& path) {
    EntryId id = kRootEntry;
    for (size_t from = 0; from < path.size();) {
      size_t to = std::min(path.find('/', from), path.size());
      auto record = tree.lookup(id, path.substr(from, to - from));
      if (!record) {
        id.bytes.fill(0xff);
        return id;
      }
      id = record->entry.id;
      from = to + 1;
    }
    return id;
  }
  bool has(const std::string& path) {
    EntryId none;
    none.bytes.fill(0xff);
    return at(path) != none;
  }
  static std::pair<std::string, std::string> split(const std::string& path) {
    size_t slash = path.rfind('/');
    return slash == std::string::npos ? std::pair(std::string(), path)
                                      : std::pair(path.substr(0, slash), path.substr(slash + 1));
  }
  EntryId file(const std::string& path, const std::string& text) {
    auto [parent, name] = split(path);
    return tree.create(at(parent), name, EntryKind::File, textVersion(text)).value();
  }
  EntryId folder(const std::string& path) {
    auto [parent, name] = split(path);
    return tree.create(at(parent), name, EntryKind::Directory, directoryVersion()).value();
  }
  bool move(const std::string& from, const std::string& to) {
    auto [parent, name] = split(to);
    return tree.move(at(from), at(parent), name).ok();
  }
  bool remove(const std::string& path) { return tree.remove(at(path)).ok(); }
  bool write(const std::string& path, const std::string& text) { return tree.write(at(path), textVersion(text)).ok(); }
  size_t heads(const std::string& path) { return tree.shownHeads(at(path)).size(); }
  bool holds(const std::string& path, const std::string& text) {
    for (const auto& head : tree.shownHeads(at(path))) if (head.version.blob == textVersion(text).blob) return true;
    return false;
  }
  /// Everything shown, as "a a/b c", sorted.
  std::string all(const EntryId& directory = kRootEntry, const std::string& prefix = "") {
    std::string out;
    for (const auto& child : tree.children(directory, "", 1000)) {
      out += (out.empty() ? "" : " ") + prefix + child.name;
      if (child.kind != EntryKind::Directory) continue;
      std::string below = all(child.id, prefix + child.name + "/");
      if (!below.empty()) out += " " + below;
    }
    return out;
  }

  /// Pulls up to so many pages; true when the batch is complete. Counts the changes that came.
  bool pull(TreePeer& from, size_t maxChanges = 1000, size_t maxPages = 1000) {
    for (size_t i = 0; i < maxPages; ++i) {
      PageRequest request = tree.requestFor(from.key);
      request.maxChanges = maxChanges;
      ChangePage page = from.tree.changesFor(request).value();
      received += page.changes.size();
      if (!tree.applyPage(from.key, page).ok()) return false;
      if (page.done) return true;
    }
    return false;
  }
  size_t received = 0;
};

inline void sync(TreePeer& a, TreePeer& b) {
  a.pull(b);
  b.pull(a);
}

}  // namespace realize::logic
