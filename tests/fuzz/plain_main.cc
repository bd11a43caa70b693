// Runs a fuzz target without a fuzzer: the files of its corpus folder (argument, may be absent), each also damaged in
// a few places, and inputs made of nothing. Always the same ones.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int kRandomInputs = 2000;
constexpr int kDamagedCopies = 200;
constexpr size_t kMaxRandomSizeBytes = 512;

void run(const std::string& input) {
  // A buffer of exactly this size, so that a sanitizer sees a read past the end.
  std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::string damaged(std::string input, std::mt19937& random) {
  int places = 1 + random() % 4;
  for (int i = 0; i < places && !input.empty(); ++i) {
    size_t at = random() % input.size();
    switch (random() % 4) {
      case 0: input[at] = static_cast<char>(random()); break;
      case 1: input[at] = static_cast<char>(input[at] ^ (1 << (random() % 8))); break;
      case 2: input.erase(at, 1 + random() % 8); break;
      case 3: input.insert(at, 1 + random() % 8, static_cast<char>(random())); break;
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937 random(20240229);
  std::vector<std::string> seeds;
  for (int i = 1; i < argc; ++i) {
    std::error_code ignored;
    for (const auto& file : std::filesystem::directory_iterator(argv[i], ignored)) {
      std::ifstream in(file.path(), std::ios::binary);
      seeds.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
  }

  run({});
  for (int i = 0; i < kRandomInputs; ++i) {
    std::string input(random() % kMaxRandomSizeBytes, '\0');
    // Small values are lengths, kinds and counts in most formats: half the inputs are made of them.
    unsigned range = i % 2 ? 256 : 8;
    for (char& byte : input) byte = static_cast<char>(random() % range);
    run(input);
  }
  for (const std::string& seed : seeds) {
    run(seed);
    for (int i = 0; i < kDamagedCopies; ++i) run(damaged(seed, random));
  }
  std::printf("%d random inputs, %zu of the corpus with %d damaged copies each\n", kRandomInputs, seeds.size(),
              kDamagedCopies);
}
