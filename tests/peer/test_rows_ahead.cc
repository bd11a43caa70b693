#include <doctest/doctest.h>

#include "librealize/peer/rows_ahead.h"
#include "librealize/store/arena_store.h"
#include "tests/store/entries.h"
#include "tests/support/temp_dir.h"

using namespace realize;
using test::blobNumber;

namespace {

constexpr NodeId kFirst = 10, kLast = 200;

/// Files of which each has its number as its content.
struct Files {
  Files() {
    auto opened = store::ArenaStore::open(dir / "db");
    REQUIRE(opened.ok());
    rows = std::move(*opened);
    for (NodeId node = kFirst; node <= kLast; ++node) put(node, blobNumber(node));
  }
  void put(NodeId node, const BlobId& blob, bool dirty = false) {
    store::DiskRow row;
    row.node = node;
    row.parentNode = 1;
    row.name = "f" + std::to_string(node);
    row.blob = blob;
    row.dirty = dirty;
    rows->disk().put(row);
  }
  test::TempDir dir;
  std::unique_ptr<store::ArenaStore> rows;
};

}  // namespace

TEST_CASE_FIXTURE(Files, "rows that are asked for in order are read ahead, each is had once") {
  peer::RowsAhead ahead(rows->disk());

  CHECK_FALSE(ahead.take(blobNumber(20)));
  ahead.lookedUp(20, 100);
  CHECK_FALSE(ahead.take(blobNumber(21)));
  ahead.lookedUp(21, 100);

  for (NodeId node = 22; node < 40; ++node) {
    auto row = ahead.take(blobNumber(node));
    REQUIRE(row);
    CHECK(row == rows->disk().get(node));
  }
  CHECK_FALSE(ahead.take(blobNumber(22)));
}

TEST_CASE_FIXTURE(Files, "nothing is read ahead of what is asked for in no order, nor more than is asked for") {
  peer::RowsAhead ahead(rows->disk());

  ahead.lookedUp(20, 100);
  ahead.lookedUp(150, 100);
  CHECK_FALSE(ahead.take(blobNumber(151)));
  ahead.lookedUp(30, 100);
  CHECK_FALSE(ahead.take(blobNumber(31)));
  ahead.lookedUp(31, 2);
  CHECK(ahead.take(blobNumber(32)));
  CHECK(ahead.take(blobNumber(33)));
  CHECK_FALSE(ahead.take(blobNumber(34)));
}

TEST_CASE_FIXTURE(Files, "a file that may have changed, or was never read, is none to serve") {
  put(23, blobNumber(23), true);
  put(24, BlobId());
  peer::RowsAhead ahead(rows->disk());

  ahead.lookedUp(20, 100);
  ahead.lookedUp(21, 100);

  CHECK(ahead.take(blobNumber(22)));
  CHECK_FALSE(ahead.take(blobNumber(23)));
  CHECK_FALSE(ahead.take(BlobId()));
  CHECK(ahead.take(blobNumber(25)));
}
