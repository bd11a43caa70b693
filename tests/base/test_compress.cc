#include <doctest/doctest.h>

#include "librealize/base/compress.h"
#include "librealize/base/random.h"

using namespace realize;

namespace {
Bytes bytesOf(const std::string& text) {
  const auto span = std::as_bytes(std::span(text));
  return Bytes(span.begin(), span.end());
}
}  // namespace

TEST_CASE("text becomes shorter and comes back as it was") {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "line " + std::to_string(i) + "\n";
  const Bytes plain = bytesOf(text);

  auto compressed = compressIfItPays(plain);

  REQUIRE(compressed);
  CHECK(compressed->size() < plain.size() / 2);
  auto back = decompress(*compressed, plain.size());
  REQUIRE(back.ok());
  CHECK(*back == plain);
}

TEST_CASE("random bytes and short ones are left alone") {
  for (size_t size : {size_t(0), size_t(100), size_t(4096), size_t(300'000)}) {
    Bytes plain(size);
    systemRandom().fill({reinterpret_cast<uint8_t*>(plain.data()), size});
    CHECK(!compressIfItPays(plain));
  }
}

TEST_CASE("text that lies behind random bytes becomes shorter") {
  Bytes plain(60'000);
  systemRandom().fill({reinterpret_cast<uint8_t*>(plain.data()), plain.size()});
  const Bytes text = bytesOf(std::string(40'000, 't'));
  plain.insert(plain.end(), text.begin(), text.end());

  auto compressed = compressIfItPays(plain);

  REQUIRE(compressed);
  auto back = decompress(*compressed, plain.size());
  REQUIRE(back.ok());
  CHECK(*back == plain);
}

TEST_CASE("what would become too large is refused before it is unpacked") {
  const Bytes plain(1 << 20);
  auto compressed = compressIfItPays(plain);
  REQUIRE(compressed);

  CHECK(decompress(*compressed, plain.size()).ok());
  CHECK(decompress(*compressed, plain.size() - 1).code() == Code::TooLarge);
}

TEST_CASE("damaged compressed bytes are corrupt") {
  CHECK(decompress(bytesOf("no frame at all"), 1000).code() == Code::Corrupt);
  auto compressed = compressIfItPays(bytesOf(std::string(5000, 'x') + "y"));
  REQUIRE(compressed);
  compressed->resize(compressed->size() - 3);

  CHECK(decompress(*compressed, 10'000).code() == Code::Corrupt);
}
