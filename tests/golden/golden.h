#pragma once

// Values on record (formats-1.txt), for tests of what other versions of this program wrote.

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <string>

namespace realize::test {

inline std::string hexOf(std::span<const uint8_t> bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string out;
  for (auto b : bytes) out += {digits[b >> 4], digits[b & 15]};
  return out;
}
inline std::string hexOf(std::string_view bytes) { return hexOf(std::span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size())); }
inline std::string hexOf(std::span<const std::byte> bytes) {
  return hexOf(std::span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
}
inline std::string fromHex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) out += char(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}
/// What was written when the format was made, by name. With REALIZE_GOLDEN_OUT, what is written now goes there instead.
class Golden {
 public:
  static Golden& instance() {
    static Golden golden;
    return golden;
  }
  /// The bytes on record.
  std::string at(const std::string& name, const std::string& hexNow) {
    if (out_.is_open()) {
      out_ << name << " " << hexNow << "\n";
      return fromHex(hexNow);
    }
    REQUIRE_MESSAGE(values_.contains(name), "tests/golden has nothing named ", name);
    return fromHex(values_[name]);
  }

 private:
  Golden() {
    if (const char* out = getenv("REALIZE_GOLDEN_OUT")) out_.open(out, std::ios::app);
    const char* folder = getenv("REALIZE_GOLDEN");
    std::ifstream in(std::string(folder ? folder : "tests/golden") + "/formats-1.txt");
    for (std::string name, hex; in >> name >> hex;) values_[name] = hex;
  }
  std::map<std::string, std::string> values_;
  std::ofstream out_;
};

template <typename Fixed>
Fixed filled(uint8_t first) {
  Fixed out;
  for (auto& b : out.bytes) b = first++;
  return out;
}

/// The message on record. Cap'n Proto promises its meaning, not the order of its bytes.
class Recorded {
 public:
  Recorded(const std::string& name, capnp::MessageBuilder& now) {
    const auto flat = capnp::messageToFlatArray(now);
    const auto bytes = flat.asBytes();
    const std::string then = Golden::instance().at(name, hexOf(std::span<const uint8_t>(bytes.begin(), bytes.size())));
    words_ = kj::heapArray<capnp::word>(then.size() / sizeof(capnp::word));
    memcpy(words_.begin(), then.data(), then.size());
    reader_ = std::make_unique<capnp::FlatArrayMessageReader>(words_);
  }
  capnp::MessageReader& operator*() { return *reader_; }

 private:
  kj::Array<capnp::word> words_;
  std::unique_ptr<capnp::FlatArrayMessageReader> reader_;
};

}  // namespace realize::test
