#include <doctest/doctest.h>

#include "tests/support/tree_peer.h"

using namespace realize;
using namespace realize::logic;

namespace {

// What a disk that shows the entry as it is now has seen of it.
std::vector<Dot> allDots(TreePeer& p, const EntryId& id) {
  Entry entry = p.tree.get(id).value().entry;
  std::vector<Dot> dots = entry.live;
  for (const auto& [dot, version] : entry.heads) dots.push_back(dot);
  return dots;
}

}  // namespace

TEST_CASE("what is created is shown, and a second create of the same path is an edit") {
  TreePeer a('a');

  EntryId folder = a.folder("music");
  EntryId file = a.file("music/song", "one");

  CHECK(a.all() == "music music/song");
  CHECK(a.file("music/song", "two") == file);
  CHECK(a.folder("music") == folder);
  CHECK(a.heads("music/song") == 1);
  CHECK(a.holds("music/song", "two"));
}

TEST_CASE("names that no folder can hold are refused") {
  TreePeer a('a');

  for (const std::string& name : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                                  std::string("a\0b", 3), std::string(".realize"), std::string(256, 'x')}) {
    CHECK(a.tree.create(kRootEntry, name, EntryKind::File, textVersion("x")).code() == Code::InvalidArgument);
  }
  CHECK(a.tree.create(kRootEntry, std::string(255, 'x'), EntryKind::File, textVersion("x")).ok());
}

TEST_CASE("nothing can be put into a file or into a folder that is not there") {
  TreePeer a('a');
  EntryId file = a.file("f", "x");
  EntryId nowhere{{1}};

  CHECK(a.tree.create(file, "g", EntryKind::File, textVersion("x")).code() == Code::NotDirectory);
  CHECK(a.tree.create(nowhere, "g", EntryKind::File, textVersion("x")).code() == Code::NotFound);
  CHECK(a.tree.move(file, nowhere, "g").code() == Code::NotFound);
}

TEST_CASE("a name made again after its removal is the same entry, edited") {
  TreePeer a('a');
  EntryId first = a.file("f", "one");

  REQUIRE(a.remove("f"));
  CHECK(a.all().empty());
  EntryId second = a.file("f", "two");

  CHECK(first == second);
  CHECK(a.heads("f") == 1);
}

TEST_CASE("a name made again after its entry moved away is another entry") {
  TreePeer a('a');
  EntryId first = a.file("f", "one");

  REQUIRE(a.move("f", "g"));
  EntryId second = a.file("f", "two");

  CHECK(first != second);
  CHECK(a.all() == "f g");
  CHECK(a.holds("g", "one"));
}

TEST_CASE("another kind under the same name replaces what was there") {
  TreePeer a('a');
  a.file("x", "text");

  a.folder("x");
  a.file("x/y", "text");

  CHECK(a.all() == "x x/y");
}

TEST_CASE("a folder is removed with all that is in it") {
  TreePeer a('a');
  a.folder("d");
  a.folder("d/e");
  a.file("d/e/f", "x");
  a.file("d/g", "x");
  a.file("h", "x");

  REQUIRE(a.remove("d"));

  CHECK(a.all() == "h");
}

TEST_CASE("removing listed entries spares what is not listed and the folders above it") {
  TreePeer a('a');
  EntryId d = a.folder("d"), e = a.folder("d/e");
  EntryId f = a.file("d/e/f", "x");
  a.file("d/e/unscanned", "x");

  REQUIRE(a.tree.removeListed({{d, Base::all()}, {e, Base::all()}, {f, Base::all()}}).ok());

  CHECK(a.all() == "d d/e d/e/unscanned");
}

TEST_CASE("removing all of a folder as a list leaves nothing") {
  TreePeer a('a');
  EntryId d = a.folder("d"), e = a.folder("d/e"), f = a.file("d/e/f", "x");

  REQUIRE(a.tree.removeListed({{d, Base::all()}, {f, Base::all()}, {e, Base::all()}}).ok());

  CHECK(a.all().empty());
}

TEST_CASE("taking the last file out of a folder that lives on claims that folder") {
  TreePeer a('a'), b('b');
  a.folder("d");
  a.file("d/f", "x");
  sync(a, b);
  REQUIRE(a.remove("d"));
  REQUIRE(b.write("d/f", "edited meanwhile"));
  sync(a, b);
  REQUIRE(a.all() == "d d/f");  // The folder is shown for its file only.

  REQUIRE(a.tree.removeListed({{a.at("d/f"), Base::all()}}).ok());

  CHECK(a.all() == "d");
}

TEST_CASE("a move keeps the entry, and a folder takes along what is in it") {
  TreePeer a('a');
  a.folder("d");
  EntryId f = a.file("d/f", "x");
  a.folder("e");

  REQUIRE(a.move("d", "e/d2"));

  CHECK(a.all() == "e e/d2 e/d2/f");
  CHECK(a.at("e/d2/f") == f);
}

TEST_CASE("a folder cannot be moved into itself or over something") {
  TreePeer a('a');
  a.folder("d");
  a.folder("d/e");
  a.file("f", "x");

  CHECK_FALSE(a.move("d", "d/e/d"));
  CHECK(a.tree.move(a.at("d"), kRootEntry, "f").code() == Code::Exists);
  CHECK(a.tree.move(a.at("f"), kRootEntry, "d").code() == Code::Exists);
  CHECK(a.all() == "d d/e f");
}

TEST_CASE("a file moved over a file replaces it") {
  TreePeer a('a');
  EntryId f = a.file("f", "one");
  a.file("g", "two");

  REQUIRE(a.move("f", "g"));

  CHECK(a.all() == "g");
  CHECK(a.at("g") == f);
  CHECK(a.holds("g", "one"));
}

TEST_CASE("an editor that renames its new file over the old one edits the old entry") {
  TreePeer a('a');
  EntryId f = a.file("f", "old");
  EntryId temporary = a.file(".f.swp", "new");

  REQUIRE(a.tree.replaceByRename(temporary, f).ok());

  CHECK(a.all() == "f");
  CHECK(a.at("f") == f);
  CHECK(a.holds("f", "new"));
  CHECK(a.tree.get(f)->entry.replaced == std::vector<BlobId>{textVersion("old").blob});
}

TEST_CASE("an editor that renames the old file away and makes the name anew edits the old entry") {
  TreePeer a('a');
  EntryId f = a.file("f", "old");
  REQUIRE(a.move("f", "f~"));

  auto backup = a.tree.takeBackName(f, kRootEntry, "f", textVersion("new"));

  REQUIRE(backup.ok());
  CHECK(a.all() == "f f~");
  CHECK(a.at("f") == f);
  CHECK(a.at("f~") == *backup);
  CHECK(a.holds("f", "new"));
  CHECK(a.holds("f~", "old"));
}

TEST_CASE("attributes are a new version of the same content, without setuid") {
  TreePeer a('a');
  EntryId f = a.file("f", "x"), d = a.folder("d");

  REQUIRE(a.tree.setAttributes(f, 04755, 12345).ok());
  REQUIRE(a.tree.setAttributes(d, 03777, std::nullopt).ok());

  CHECK(a.tree.shownHeads(f)[0].version.mode == 0755);
  CHECK(a.tree.shownHeads(f)[0].version.mtimeNs == 12345);
  CHECK(a.tree.shownHeads(d)[0].version.mode == 01777);
  CHECK(a.tree.get(f)->entry.replaced.empty());
}

TEST_CASE("attributes of one of two versions leave the other alone") {
  TreePeer a('a'), b('b');
  a.file("f", "from a");
  b.file("f", "from b");
  sync(a, b);
  REQUIRE(a.heads("f") == 2);
  ShownHead first = a.tree.shownHeads(a.at("f"))[0];

  REQUIRE(a.tree.setAttributes(a.at("f"), 0600, std::nullopt, first.dot).ok());

  CHECK(a.heads("f") == 2);
}

TEST_CASE("of equal contents the attributes with the greatest stamp are shown") {
  TreePeer a('a'), b('b');
  a.file("f", "same");
  sync(a, b);
  REQUIRE(a.tree.setAttributes(a.at("f"), 0600, std::nullopt).ok());
  REQUIRE(b.tree.setAttributes(b.at("f"), 0640, std::nullopt).ok());
  REQUIRE(b.tree.setAttributes(b.at("f"), 0644, std::nullopt).ok());

  sync(a, b);

  CHECK(a.heads("f") == 1);
  CHECK(a.tree.shownHeads(a.at("f"))[0].version.mode == 0644);
  CHECK(b.tree.shownHeads(b.at("f"))[0].version.mode == 0644);
}

TEST_CASE("resolving leaves the chosen version everywhere") {
  TreePeer a('a'), b('b');
  a.file("f", "from a");
  b.file("f", "from b");
  sync(a, b);
  REQUIRE(a.heads("f") == 2);
  ShownHead chosen = a.tree.shownHeads(a.at("f"))[1];

  REQUIRE(a.tree.resolve(a.at("f"), chosen.dots[0]).ok());
  sync(a, b);

  CHECK(a.heads("f") == 1);
  CHECK(b.tree.shownHeads(b.at("f"))[0].version.blob == chosen.version.blob);
  CHECK(a.tree.resolve(a.at("f"), chosen.dots[0]).code() == Code::NotFound);
}

TEST_CASE("an edit that was made before another arrived keeps both") {
  TreePeer a('a'), b('b');
  EntryId f = a.file("f", "common");
  sync(a, b);
  std::vector<Dot> seen = allDots(a, f);
  REQUIRE(b.write("f", "from b"));
  sync(a, b);

  REQUIRE(a.tree.write(f, textVersion("written before b's came"), Base::only(seen)).ok());

  CHECK(a.heads("f") == 2);
}

TEST_CASE("a removal that was made before an edit arrived does not remove the edit") {
  TreePeer a('a'), b('b');
  EntryId f = a.file("f", "common");
  sync(a, b);
  std::vector<Dot> seen = allDots(a, f);
  REQUIRE(b.write("f", "from b"));
  sync(a, b);

  REQUIRE(a.tree.remove(f, Base::only(seen)).ok());
  sync(a, b);

  CHECK(a.all() == "f");
  CHECK(b.holds("f", "from b"));
}

TEST_CASE("a late removal of a folder is not held up by this peer's own claims to it") {
  TreePeer a('a'), b('b');
  EntryId d = a.folder("d");
  a.file("d/f", "x");
  sync(a, b);
  REQUIRE(b.remove("d"));
  REQUIRE(a.write("d/f", "y"));
  sync(a, b);
  std::vector<Dot> seen = allDots(a, d);
  a.file("d/g", "this claims the folder again");

  REQUIRE(a.tree.removeListed({{a.at("d/f"), Base::all()}, {a.at("d/g"), Base::all()}, {d, Base::only(seen)}}).ok());

  CHECK(a.all().empty());
}

TEST_CASE("a claim that shows nothing new is told apart from what changed") {
  TreePeer a('a'), b('b');
  EntryId f = a.file("f", "x");
  sync(a, b);
  (void)b.tree.drainEffects();
  REQUIRE(a.move("f", "g"));
  REQUIRE(a.move("g", "f"));
  sync(a, b);

  std::vector<EntryId> quiet;
  CHECK(b.tree.drainEffects(&quiet).empty());

  CHECK(quiet == std::vector<EntryId>{f});
}

TEST_CASE("a version keeps only what its kind has, and a symlink needs a target") {
  TreePeer a('a');
  Version v = textVersion("x");
  v.linkTarget = "somewhere";

  EntryId file = a.tree.create(kRootEntry, "f", EntryKind::File, v).value();
  EntryId link = a.tree.create(kRootEntry, "l", EntryKind::Symlink, v).value();
  EntryId folder = a.tree.create(kRootEntry, "d", EntryKind::Directory, v).value();

  CHECK(a.tree.shownHeads(file)[0].version.linkTarget.empty());
  CHECK(a.tree.shownHeads(link)[0].version.blob.isZero());
  CHECK(a.tree.shownHeads(folder)[0].version.blob.isZero());
  v.linkTarget.clear();
  CHECK(a.tree.create(kRootEntry, "m", EntryKind::Symlink, v).code() == Code::InvalidArgument);
  v.linkTarget.assign(5000, 'x');
  CHECK(a.tree.write(link, v).code() == Code::NameTooLong);
}

TEST_CASE("only the last few replaced contents are remembered, the newest first") {
  TreePeer a('a');
  EntryId f = a.file("f", "0");
  for (const char* text : {"1", "2", "3", "4", "5", "3"}) REQUIRE(a.write("f", text));

  std::vector<BlobId> replaced = a.tree.get(f)->entry.replaced;

  std::vector<BlobId> expected;
  for (const char* text : {"5", "4", "2", "1"}) expected.push_back(textVersion(text).blob);
  CHECK(replaced == expected);
}

TEST_CASE("content behind a hard link lives while any link does") {
  TreePeer a('a');
  EntryId f = a.file("f", "text");
  Version link;
  link.target = f;
  REQUIRE(a.tree.create(kRootEntry, "link", EntryKind::File, link).ok());

  REQUIRE(a.tree.write(a.at("link"), textVersion("through the link")).ok());
  CHECK(a.holds("f", "through the link"));
  REQUIRE(a.remove("f"));

  CHECK(a.all() == "link");
  CHECK(a.holds("link", "through the link"));
}

TEST_CASE("what changed is reported once and only when it is different") {
  TreePeer a('a');
  a.folder("d");
  EntryId f = a.file("d/f", "x");
  CHECK(a.tree.drainEffects().size() == 2);

  REQUIRE(a.move("d/f", "g"));
  auto effects = a.tree.drainEffects();
  REQUIRE(effects.size() == 1);
  CHECK(effects[0].id == f);
  CHECK(effects[0].moved());
  CHECK_FALSE(effects[0].contentChanged);
  CHECK(effects[0].oldName == "f");
  CHECK(effects[0].name == "g");

  REQUIRE(a.move("g", "h"));
  REQUIRE(a.move("h", "g"));
  CHECK(a.tree.drainEffects().empty());

  a.file("passing", "x");
  REQUIRE(a.remove("passing"));
  CHECK(a.tree.drainEffects().empty());

  REQUIRE(a.tree.setAttributes(f, 0600, std::nullopt).ok());
  effects = a.tree.drainEffects();
  REQUIRE(effects.size() == 1);
  CHECK(effects[0].headsChanged);
  CHECK_FALSE(effects[0].contentChanged);
}
