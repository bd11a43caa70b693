#include "librealize/peer/as_known.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "librealize/store/arena_store.h"
#include "tests/store/entries.h"
#include "tests/support/temp_dir.h"

using namespace realize;
using test::blobNumber;

namespace {

constexpr NodeId kFolder = 20;

FileStat statOf(FileStat::Type type, uint64_t inode) {
  FileStat stat;
  stat.type = type;
  stat.device = 7;
  stat.inode = inode;
  stat.birthNs = int64_t(inode);
  stat.sizeBytes = 4096;
  stat.mtimeNs = stat.ctimeNs = 1'000'000;
  stat.mode = 0644;
  return stat;
}

/// A folder with two files, a folder and a symlink, as it is known and as it is read.
struct Known {
  Known() {
    auto opened = store::ArenaStore::open(dir / "db");
    REQUIRE(opened.ok());
    store = std::move(*opened);
    put(kFolder, 1, "folder", statOf(FileStat::Type::Directory, kFolder));
    listing.path = "folder";
    listing.self = statOf(FileStat::Type::Directory, kFolder);
    add(24, "z", FileStat::Type::File);
    add(21, "a", FileStat::Type::File);
    add(23, "link", FileStat::Type::Symlink);
    add(22, "below", FileStat::Type::Directory);
  }
  void put(NodeId node, NodeId parent, const std::string& name, const FileStat& stat, bool dirty = false) {
    store::DiskRow row;
    row.node = node;
    row.parentNode = parent;
    row.name = name;
    row.setStat(stat);
    row.dirty = dirty;
    if (row.kind == EntryKind::File) row.blob = blobNumber(node);
    store->disk().put(row);
  }
  void add(NodeId node, const std::string& name, FileStat::Type type) {
    put(node, kFolder, name, statOf(type, node));
    listing.items.push_back({name, statOf(type, node), std::nullopt});
  }
  DirectoryItem& item(const std::string& name) {
    return *std::find_if(listing.items.begin(), listing.items.end(), [&](const auto& item) { return item.name == name; });
  }
  bool same() { return peer::listedAsKnown(store->disk(), kFolder, listing); }

  test::TempDir dir;
  std::unique_ptr<store::ArenaStore> store;
  logic::Listing listing;
};

}  // namespace

TEST_CASE_FIXTURE(Known, "a folder that is as it is known is found to be that, whatever is done within those below it") {
  CHECK(same());

  item("below").stat.mtimeNs = item("below").stat.ctimeNs = 5;
  CHECK(same());
}

TEST_CASE_FIXTURE(Known, "whatever differs from what is known is left to reconcile") {
  REQUIRE(same());

  SUBCASE("a name that is gone") { listing.items.pop_back(); }
  SUBCASE("the last name is gone") { listing.items.erase(listing.items.begin()); }
  SUBCASE("a new name") { listing.items.push_back({"zz", statOf(FileStat::Type::File, 30), std::nullopt}); }
  SUBCASE("another name") { item("a").name = "b"; }
  SUBCASE("another object") { item("a").stat.inode = 40; }
  SUBCASE("an inode number used again") { item("a").stat.birthNs = 40; }
  SUBCASE("another disk") { item("below").stat.device = 8; }
  SUBCASE("another kind") { item("a").stat.type = FileStat::Type::Other; }
  SUBCASE("size") { ++item("a").stat.sizeBytes; }
  SUBCASE("time") { ++item("a").stat.mtimeNs; }
  SUBCASE("time of change") { ++item("a").stat.ctimeNs; }
  SUBCASE("mode") { item("a").stat.mode = 0600; }
  SUBCASE("a folder's mode") { item("below").stat.mode = 0700; }
  SUBCASE("a link was made anew") { ++item("link").stat.ctimeNs; }
  SUBCASE("a name that cannot be looked at") { item("a").failed = Error{Code::PermissionDenied, "a"}; }
  SUBCASE("another folder") { listing.self.inode = 41; }
  SUBCASE("a folder that cannot be read") { listing.state = logic::Listing::State::Unreadable; }
  SUBCASE("a file that is to be read") { put(21, kFolder, "a", statOf(FileStat::Type::File, 21), true); }
  SUBCASE("a file that was never read") {
    auto row = store->disk().get(21);
    row->blob = BlobId();
    store->disk().put(*row);
  }

  CHECK_FALSE(same());
}
