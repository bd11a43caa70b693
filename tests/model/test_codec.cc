#include <doctest/doctest.h>

#include <random>

#include "librealize/model/codec.h"

using namespace realize;

namespace {

Entry fullEntry() {
  Entry e;
  e.id.bytes[3] = 7;
  e.kind = EntryKind::File;
  e.live = {{5, 1}, {5, 900}, {UINT64_MAX, 3}};
  Version v;
  v.blob.bytes[0] = 1;
  v.sizeBytes = uint64_t(1) << 50;
  v.mode = 0755;
  v.mtimeNs = -1;
  v.stamp = {12, 5};
  v.author.bytes[1] = 2;
  v.writtenNs = INT64_MAX;
  Version link;
  link.target.bytes[0] = 9;
  link.stamp = {1, 5};
  link.mtimeNs = INT64_MIN;
  e.heads = {{{5, 1}, v}, {{5, 2}, link}};
  e.tombs = {{{6, 1}, {{5, 1}, {5, 2}}}};
  e.place = {{44, 5}, EntryId{{1}}, "a name", EntryId{{2}}, "an old \xff name"};
  e.touch.join(Dot{5, 900});
  e.touch.join(Dot{6, 1});
  e.touch.join(Dot{UINT64_MAX, 3});
  e.ctx.join(Dot{77, 1});
  e.replaced = {BlobId{{3}}, BlobId{{4}}};
  return e;
}

}  // namespace

TEST_CASE("every part of an entry survives its binary form") {
  Entry full = fullEntry();

  Entry back = decodeEntry(encodeEntry(full)).value();

  CHECK(back == full);
}

TEST_CASE("symlinks and directories survive their binary form") {
  Entry link = fullEntry(), directory = fullEntry();
  link.kind = EntryKind::Symlink;
  Version v;
  v.linkTarget = "../\xfe/target";
  v.mode = 0777;
  v.stamp = {1, 5};
  link.heads = {{{5, 1}, v}};
  directory.kind = EntryKind::Directory;
  v.linkTarget.clear();
  v.mode = 01777;
  directory.heads = {{{5, 1}, v}};
  directory.place.oldParent = kRootEntry;
  directory.place.oldName = directory.place.name;

  CHECK(decodeEntry(encodeEntry(link)).value() == link);
  CHECK(decodeEntry(encodeEntry(directory)).value() == directory);
}

TEST_CASE("a page of changes survives its binary form and writes what they share once") {
  std::vector<Change> changes;
  for (int i = 0; i < 100; ++i) {
    Change change{fullEntry(), {}};
    change.entry.ctx = {};
    change.entry.id.bytes[0] = uint8_t(i);
    change.seen = change.entry.touch;
    change.seen.join(Dot{99, uint64_t(i % 2 + 1)});
    changes.push_back(change);
  }

  std::string bytes = encodeChanges(changes);
  std::vector<Change> back = decodeChanges(bytes).value();

  REQUIRE(back.size() == changes.size());
  for (size_t i = 0; i < back.size(); ++i) {
    CHECK(back[i].entry == changes[i].entry);
    CHECK(back[i].seen == changes[i].seen);
  }
  CHECK(bytes.size() < 100 * encodeEntry(changes[0].entry).size());
}

TEST_CASE("vectors and acknowledgements survive their binary form") {
  VersionVector v;
  v.join(Dot{3, 7});
  v.join(Dot{1, uint64_t(1) << 61});
  std::map<PeerKey, VersionVector> acks{{PeerKey{{1}}, v}, {PeerKey{{2}}, {}}};

  CHECK(decodeVector(encodeVector(v)).value() == v);
  CHECK(decodeVector(encodeVector({})).value().empty());
  CHECK(decodeAcks(encodeAcks(acks)).value() == acks);
}

TEST_CASE("entries that no honest peer makes are refused") {
  auto refused = [](auto spoil) {
    Entry e = fullEntry();
    spoil(e);
    auto decoded = decodeEntry(encodeEntry(e));
    return !decoded.ok() && decoded.code() == Code::Corrupt;
  };

  CHECK(refused([](Entry& e) { e.place.name = ".."; }));
  CHECK(refused([](Entry& e) { e.place.name = "a/b"; }));
  CHECK(refused([](Entry& e) { e.place.name = std::string("a\0b", 3); }));
  CHECK(refused([](Entry& e) { e.place.name = ".realize"; }));
  CHECK(refused([](Entry& e) { e.place.oldName = ""; }));
  CHECK(refused([](Entry& e) { e.place.name = std::string(256, 'x'); }));
  CHECK(refused([](Entry& e) { e.place.parent = e.id; }));
  CHECK(refused([](Entry& e) { e.id = kRootEntry; }));
  CHECK(refused([](Entry& e) { e.heads[0].second.mode = 04755; }));
  CHECK(refused([](Entry& e) { e.heads[0].second.mode = 01755; }));
  CHECK(refused([](Entry& e) { std::swap(e.live[0], e.live[1]); }));
  CHECK(refused([](Entry& e) { std::swap(e.heads[0], e.heads[1]); }));
  CHECK(refused([](Entry& e) { e.live[1] = e.live[0]; }));
  CHECK(refused([](Entry& e) { e.place.stamp.clock = UINT64_MAX; }));
  CHECK(refused([](Entry& e) { e.place.stamp.clock = 0; }));
  CHECK(refused([](Entry& e) { e.touch = {}; }));
  CHECK(refused([](Entry& e) { e.replaced.resize(5); }));
  CHECK(refused([](Entry& e) {
    e.kind = EntryKind::Symlink;
    e.heads.resize(1);
    e.heads[0].second.linkTarget = "";
  }));
}

TEST_CASE("a change whose sender has not seen what it sends is refused") {
  Change change{fullEntry(), {}};
  change.entry.ctx = {};

  CHECK(decodeChanges(encodeChanges({change})).code() == Code::Corrupt);
}

TEST_CASE("cut off, lengthened or newer bytes are refused, and any damage ends in an answer") {
  Entry e = fullEntry();
  std::string bytes = encodeEntry(e);

  for (size_t i = 0; i < bytes.size(); ++i) CHECK_FALSE(decodeEntry(bytes.substr(0, i)).ok());
  CHECK_FALSE(decodeEntry(bytes + "x").ok());
  std::string newer = bytes;
  newer[0] = 2;
  CHECK(decodeEntry(newer).code() == Code::WrongVersion);

  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = bytes;
    for (int n = 1 + int(random() % 3); n > 0; --n) damaged[random() % damaged.size()] = char(random());
    auto decoded = decodeEntry(damaged);
    if (decoded.ok()) CHECK(decodeEntry(encodeEntry(*decoded)).value() == *decoded);
  }
}

TEST_CASE("a short input cannot ask for much memory") {
  ByteWriter w;
  w.byte(1);
  w.number(kMaxOrigins);
  CHECK_FALSE(decodeChanges(w.take()).ok());
  CHECK_FALSE(decodeVector(std::string("\x01\xff\xff\x03", 4)).ok());
}
