// Parts that need no mount.

#include <doctest/doctest.h>

#include "frontends/fuse/mount_point.h"
#include "frontends/fuse/mount_table.h"
#include "frontends/fuse/node_table.h"

namespace realize::test {

using fuse::NodeTable;

TEST_CASE("the mount table is read with its escapes and optional fields") {
  auto entries = fuse::parseMountTable(
      "36 35 98:0 /mnt1 /mnt\\0402/a\\134b rw,noatime master:1 shared:2 - ext3 /dev/root rw\n"
      "37 35 0:57 / /m rw - fuse.realize realize:docs rw,user_id=0\n"
      "garbage\n"
      "38 35 0:58 / /n rw - fuse.realize\n");

  REQUIRE(entries.size() == 2);
  CHECK(entries[0].path == "/mnt 2/a\\b");
  CHECK(entries[0].type == "ext3");
  CHECK(entries[1].device == "0:57");
  CHECK(entries[1].source == "realize:docs");
}

TEST_CASE("a path lies within a folder by whole names") {
  CHECK(fuse::liesWithin("/a/b", "/a"));
  CHECK(fuse::liesWithin("/a", "/a"));
  CHECK(fuse::liesWithin("/a", "/"));
  CHECK_FALSE(fuse::liesWithin("/ab", "/a"));
  CHECK_FALSE(fuse::liesWithin("/a", "/a/b"));
}

TEST_CASE("a node is known while the kernel holds a lookup of it") {
  NodeTable nodes;
  CHECK(nodes.known(kRootNode));
  CHECK_FALSE(nodes.known(5));

  nodes.addLookup(5);
  nodes.addLookup(5);
  nodes.dropLookups(5, 1);
  CHECK(nodes.known(5));
  nodes.dropLookups(5, 1);
  CHECK_FALSE(nodes.known(5));
  nodes.dropLookups(5, 7);
  CHECK_FALSE(nodes.known(5));
}

TEST_CASE("a content change waits for reads under way and then resumes once") {
  NodeTable nodes;
  nodes.addLookup(5);
  nodes.beginRead(5);
  nodes.beginRead(5);
  nodes.contentChanged(5);

  CHECK_FALSE(nodes.beginContentInvalidation(5));
  CHECK_FALSE(nodes.contentSettled(5, nodes.contentEpoch(5)));
  CHECK_FALSE(nodes.endRead(5));
  CHECK(nodes.endRead(5));
  auto epoch = nodes.beginContentInvalidation(5);
  REQUIRE(epoch);
  nodes.contentInvalidated(5, *epoch);
  CHECK(nodes.contentSettled(5, *epoch));
}

TEST_CASE("a change between an invalidation's begin and end is not lost") {
  NodeTable nodes;
  nodes.addLookup(5);
  nodes.contentChanged(5);
  auto epoch = nodes.beginContentInvalidation(5);
  REQUIRE(epoch);

  nodes.contentChanged(5);
  nodes.contentInvalidated(5, *epoch);

  CHECK_FALSE(nodes.contentSettled(5, nodes.contentEpoch(5)));
}

TEST_CASE("a handle opened before a change is older, and its end asks for the pages to go") {
  NodeTable nodes;
  nodes.addLookup(5);
  nodes.addHandle(5, 100, nodes.contentEpoch(5));
  CHECK(nodes.olderHandles(5).empty());

  nodes.contentChanged(5);
  nodes.addHandle(5, 101, nodes.contentEpoch(5));

  CHECK(nodes.olderHandles(5) == std::vector<FileHandle>{100});
  CHECK_FALSE(nodes.removeHandle(5, 101));
  CHECK(nodes.removeHandle(5, 100));
  CHECK_FALSE(nodes.contentSettled(5, nodes.contentEpoch(5)));
}

}  // namespace realize::test
