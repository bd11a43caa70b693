#include <doctest/doctest.h>
#include <sodium.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "librealize/base/hash.h"

using namespace realize;

namespace {

using Digest = std::array<uint8_t, kHashBytes>;

// xorshift: the same bytes in every run.
std::vector<std::byte> noise(size_t n, uint64_t seed) {
  std::vector<std::byte> out(n);
  uint64_t x = seed * 0x9e3779b97f4a7c15 + 1;
  for (auto& b : out) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    b = std::byte(x >> 32);
  }
  return out;
}

// libsodium's own, with the parameter block spelled out a second time.
Digest oracle(std::string_view personal, uint8_t salt, std::span<const std::byte> input) {
  uint8_t personalBytes[16] = {}, saltBytes[16] = {salt};
  std::memcpy(personalBytes, personal.data(), personal.size());
  Digest out;
  crypto_generichash_blake2b_salt_personal(out.data(), out.size(), reinterpret_cast<const uint8_t*>(input.data()),
                                           input.size(), nullptr, 0, saltBytes, personalBytes);
  return out;
}

constexpr HashEngine kEngines[] = {HashEngine::Sodium, HashEngine::Avx2, HashEngine::Avx512};

void checkAgainstOracle(HashEngine engine, const std::vector<size_t>& sizes) {
  std::vector<std::vector<std::byte>> inputs;
  std::vector<Digest> outputs(sizes.size());
  std::vector<HashJob> jobs;
  for (size_t i = 0; i < sizes.size(); ++i) inputs.push_back(noise(sizes[i], i + 1));
  for (size_t i = 0; i < sizes.size(); ++i) jobs.push_back({inputs[i].data(), sizes[i], outputs[i].data()});

  blake2b256Many(HashDomain("a domain", 7), jobs, engine);

  for (size_t i = 0; i < sizes.size(); ++i) {
    CAPTURE(int(engine));
    CAPTURE(sizes.size());
    CAPTURE(i);
    CAPTURE(sizes[i]);
    CHECK(outputs[i] == oracle("a domain", 7, inputs[i]));
  }
}

}  // namespace

TEST_CASE("every engine gives libsodium's hashes for every length and any number of jobs") {
  for (auto engine : kEngines) {
    if (!hashEngineAvailable(engine)) {
      MESSAGE("this CPU lacks engine ", int(engine));
      continue;
    }
    std::vector<size_t> all;
    for (size_t n = 0; n <= 520; ++n) all.push_back(n);
    for (size_t n : {1023, 1024, 1025, 4095, 4096, 4097, 8192, 65536, 100000}) all.push_back(n);
    checkAgainstOracle(engine, all);
    for (size_t count = 1; count <= 20; ++count) {
      checkAgainstOracle(engine, std::vector<size_t>(count, 4096));
      checkAgainstOracle(engine, std::vector<size_t>(count, 0));
      std::vector<size_t> mixed;
      for (size_t i = 0; i < count; ++i) mixed.push_back((i * 7919) % 1500);
      checkAgainstOracle(engine, mixed);
    }
  }
}

TEST_CASE("no jobs are no work") {
  for (auto engine : kEngines)
    if (hashEngineAvailable(engine)) blake2b256Many(HashDomain("x"), {}, engine);
  blake2b256Many(HashDomain("x"), {});
}

TEST_CASE("inputs need no alignment") {
  const auto bytes = noise(5000, 3);
  for (size_t shift = 0; shift < 70; shift += 7) {
    Digest a, b;
    const HashJob jobs[] = {{bytes.data() + shift, 4096, a.data()}, {bytes.data() + shift + 1, 300, b.data()}};

    blake2b256Many(HashDomain("x"), jobs);

    CHECK(a == oracle("x", 0, std::span(bytes).subspan(shift, 4096)));
    CHECK(b == oracle("x", 0, std::span(bytes).subspan(shift + 1, 300)));
  }
}

TEST_CASE("equal inputs hash apart in different domains") {
  const auto bytes = noise(100, 1);
  Digest a, b, c;

  blake2b256(HashDomain("one"), bytes, a.data());
  blake2b256(HashDomain("two"), bytes, b.data());
  blake2b256(HashDomain("one", 1), bytes, c.data());

  CHECK(a != b);
  CHECK(a != c);
  CHECK(a == oracle("one", 0, bytes));
  CHECK(c == oracle("one", 1, bytes));
}

TEST_CASE("the plain hash is BLAKE2b of RFC 7693") {
  // Appendix A of the RFC.
  const std::string abc = "abc";
  std::array<uint8_t, 64> out;
  blake2b(std::as_bytes(std::span(abc)), out);
  CHECK(out[0] == 0xba);
  CHECK(out[1] == 0x80);
  CHECK(out[2] == 0xa5);
  CHECK(out[63] == 0x23);
}
