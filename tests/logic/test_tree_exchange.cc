#include <doctest/doctest.h>

#include <ctime>

#include "librealize/model/codec.h"
#include "tests/support/tree_peer.h"

using namespace realize;
using namespace realize::logic;

namespace {

double cpuSeconds() { return double(std::clock()) / CLOCKS_PER_SEC; }

}  // namespace

TEST_CASE("a file edited a thousand times is sent once") {
  TreePeer a('a'), b('b');
  a.file("f", "x");
  for (int i = 0; i < 1000; ++i) REQUIRE(a.write("f", std::to_string(i)));

  sync(a, b);

  CHECK(b.received == 1);
}

TEST_CASE("a peer that was away gets only what it lacks") {
  TreePeer a('a'), b('b');
  for (int i = 0; i < 50; ++i) a.file("f" + std::to_string(i), "x");
  sync(a, b);
  b.received = 0;
  REQUIRE(a.write("f7", "y"));

  sync(a, b);
  sync(a, b);

  CHECK(b.received == 1);
  CHECK(a.received == 0);
}

TEST_CASE("a batch that broke off goes on where it was, also after a restart of either side") {
  TreePeer a('a'), b('b');
  for (int i = 0; i < 100; ++i) a.file("f" + std::to_string(i), "x");

  CHECK_FALSE(b.pull(a, 10, 4));
  CHECK(b.received == 40);
  a.tree.reload();
  b.tree.reload();
  CHECK(b.pull(a, 10));

  CHECK(b.received == 100);
  CHECK(a.tree.vector() == b.tree.vector());
}

TEST_CASE("changes made while a batch runs are not lost, whatever had been sent") {
  TreePeer a('a'), b('b');
  for (int i = 0; i < 20; ++i) a.file("f" + std::to_string(i), "x");
  CHECK_FALSE(b.pull(a, 10, 1));

  REQUIRE(a.write("f0", "sent already, edited since"));
  REQUIRE(a.write("f19", "not sent yet, edited since"));
  a.file("g", "new");
  CHECK(b.pull(a, 10));
  CHECK(b.holds("f19", "not sent yet, edited since"));
  b.pull(a);

  CHECK(a.all() == b.all());
  CHECK(a.tree.digest() == b.tree.digest());
}

TEST_CASE("the vector moves only when a batch is complete") {
  TreePeer a('a'), b('b');
  for (int i = 0; i < 20; ++i) a.file("f" + std::to_string(i), "x");

  CHECK_FALSE(b.pull(a, 10, 1));
  CHECK(b.tree.vector().empty());
  CHECK(b.tree.acks().count(a.key) == 0);
  CHECK(b.pull(a, 10));

  CHECK(b.tree.vector() == a.tree.vector());
  CHECK(b.tree.acks().at(a.key) == a.tree.vector());
}

TEST_CASE("a cursor that makes no sense begins a new batch") {
  TreePeer a('a'), b('b');
  a.file("f", "x");
  PageRequest request = b.tree.requestFor(a.key);

  for (const std::string& cursor : {std::string("nonsense"), std::string(1, '\1'), std::string(100, '\1')}) {
    request.cursor = cursor;
    auto page = a.tree.changesFor(request);
    REQUIRE(page.ok());
    CHECK(page->changes.size() == 1);
    CHECK(page->done);
  }
}

TEST_CASE("folders come before what is in them, also where they changed later") {
  TreePeer a('a'), b('b');
  a.folder("d");
  a.folder("d/e");
  a.file("d/e/f", "x");
  REQUIRE(a.tree.setAttributes(a.at("d/e"), 0700, std::nullopt).ok());
  REQUIRE(a.tree.setAttributes(a.at("d"), 0700, std::nullopt).ok());

  CHECK_FALSE(b.pull(a, 1, 1));

  CHECK(b.all() == "d d/e d/e/f");
}

TEST_CASE("who acknowledged an entry is known, directly and from hearsay") {
  TreePeer a('a'), b('b'), c('c');
  EntryId f = a.file("f", "x");
  sync(a, b);
  CHECK(a.tree.acknowledgedBy(f).empty());  // b had it only after it was asked.
  sync(a, b);
  CHECK(a.tree.acknowledgedBy(f) == std::vector<PeerKey>{b.key});
  sync(b, c);
  sync(b, c);
  sync(a, b);

  CHECK(a.tree.acknowledgedBy(f) == std::vector<PeerKey>{b.key, c.key});
  REQUIRE(a.write("f", "y"));
  CHECK(a.tree.acknowledgedBy(f).empty());
}

TEST_CASE("a pull that brings nothing writes nothing") {
  TreePeer a('a'), b('b');
  a.file("f", "x");
  sync(a, b);
  sync(a, b);
  a.store.puts = b.store.puts = 0;

  sync(a, b);

  CHECK(a.store.puts + b.store.puts == 0);
}

TEST_CASE("contexts that a long batch left are dropped when there is time") {
  TreePeer a('a'), b('b');
  for (int i = 0; i < 10; ++i) a.file("f" + std::to_string(i), "x");
  CHECK_FALSE(b.pull(a, 4, 1));
  CHECK(b.tree.tidy(100) == 0);  // They still say something.
  CHECK(b.pull(a, 4));

  CHECK(b.tree.tidy(3) == 3);
  CHECK(b.tree.tidy(100) == 7);

  CHECK(b.store.withContext().empty());
}

TEST_CASE("folders nested a thousand deep are sent once and removed") {
  TreePeer a('a'), b('b');
  EntryId at = kRootEntry, top;
  a.tree.beginBatch();
  for (int i = 0; i < 1000; ++i) {
    at = a.tree.create(at, "d", EntryKind::Directory, directoryVersion()).value();
    if (i == 0) top = at;
  }
  a.tree.flush();

  b.pull(a, 100);
  CHECK(b.received == 1000);
  CHECK(a.tree.digest() == b.tree.digest());
  REQUIRE(b.tree.remove(top).ok());
  sync(a, b);

  CHECK(a.tree.children(kRootEntry, "", 10).empty());
}

TEST_CASE("a hundred thousand creates, and their transfer, cost little") {
  TreePeer a('a'), b('b');
  double start = cpuSeconds();
  std::vector<EntryId> folders;
  a.tree.beginBatch();
  for (int i = 0; i < 1000; ++i) folders.push_back(a.folder("d" + std::to_string(i)));
  for (int i = 0; i < 99000; ++i) {
    (void)a.tree.create(folders[size_t(i) % 1000], "f" + std::to_string(i), EntryKind::File, textVersion("x"));
  }
  a.tree.flush();
  double created = cpuSeconds();
  (void)a.tree.drainEffects();
  a.store.gets = a.store.puts = a.store.lookUps = 0;

  b.tree.beginBatch();
  double served = 0, coded = 0;
  size_t bytes = 0;
  for (bool done = false; !done;) {
    double t0 = cpuSeconds();
    ChangePage page = a.tree.changesFor(b.tree.requestFor(a.key)).value();
    double t1 = cpuSeconds();
    std::string wire = encodeChanges(page.changes);
    bytes += wire.size();
    page.changes = decodeChanges(wire).value();
    coded += cpuSeconds() - t1;
    served += t1 - t0;
    REQUIRE(b.tree.applyPage(a.key, page).ok());
    done = page.done;
  }
  b.tree.flush();
  double applied = cpuSeconds();

  MESSAGE("100,000 entries, CPU seconds: create ", created - start, ", serve ", served, ", encode and decode ", coded,
          ", apply ", applied - created - served - coded, "; bytes on the wire ", bytes);
  MESSAGE("receiver's store calls per entry: get ", double(b.store.gets) / 1e5, ", put ", double(b.store.puts) / 1e5,
          ", look-up ", double(b.store.lookUps) / 1e5);
  CHECK(b.tree.digest() == a.tree.digest());
  CHECK(b.store.gets < 120000);
  CHECK(b.store.puts < 120000);
  CHECK(b.store.lookUps < 120000);
}
