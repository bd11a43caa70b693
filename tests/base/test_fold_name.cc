#include <doctest/doctest.h>

#include "librealize/base/fold_name.h"

using realize::foldName;

TEST_CASE("names that differ in case only fold to one") {
  CHECK(foldName("README.txt") == foldName("readme.TXT"));
  CHECK(foldName("\u00c4pfel") == foldName("\u00e4PFEL"));        // Ä and ä
  CHECK(foldName("Stra\u00dfe") == foldName("STRASSE"));           // ß
  CHECK(foldName("\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2") == foldName("\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3"));  // final sigma
}

TEST_CASE("names that differ in Unicode form only fold to one") {
  CHECK(foldName("caf\u00e9") == foldName("cafe\u0301"));
  CHECK(foldName("q\u0323\u0307") == foldName("q\u0307\u0323"));   // The order of marks on one letter.
  CHECK(foldName("\uac00") == foldName("\u1100\u1161"));           // Hangul
  CHECK(foldName("\u212b") == foldName("\u00e5"));                 // The ångström sign and å.
  CHECK(foldName("a\u00adb") == foldName("ab"));                   // A soft hyphen is invisible.
}

TEST_CASE("other names stay apart") {
  CHECK(foldName("a") != foldName("b"));
  CHECK(foldName("cafe") != foldName("caf\u00e9"));
  CHECK(foldName("\ufb01") != foldName("fj"));
  CHECK(foldName("x\u00b2") != foldName("x2"));  // Compatibility is another matter.
  CHECK(foldName("") == "");
}

TEST_CASE("of bytes that are no UTF-8, ASCII letters are folded and the rest stays") {
  CHECK(foldName("CAF\xe9") == "caf\xe9");
  CHECK(foldName("CAF\xe9") != foldName("CAF\xc9"));
  CHECK(foldName("A\xc3") == "a\xc3");
  CHECK(foldName(std::string_view("A\0B", 3)) == std::string_view("a\0b", 3));
  CHECK(foldName("\xed\xa0\x80X") == "\xed\xa0\x80x");  // A surrogate.
}
