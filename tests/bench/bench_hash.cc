// Throughput of the content hashes on one core, each beside its control. Prints figures, asserts nothing.

#include <sodium.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "librealize/base/hash.h"
#include "librealize/model/blob.h"

using namespace realize;

namespace {

double seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// MB per CPU second: the best of three.
template <typename Work>
double rate(size_t bytes, Work&& work) {
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    const double start = seconds();
    work();
    best = std::max(best, double(bytes) / 1e6 / (seconds() - start));
  }
  return best;
}

void print(const char* what, double mbPerSecond, double control) {
  std::printf("%-44s %8.0f MB/s  %5.2f x libsodium\n", what, mbPerSecond, mbPerSecond / control);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  std::vector<std::byte> data(64u << 20);
  randombytes_buf_deterministic(data.data(), data.size(), std::vector<uint8_t>(randombytes_SEEDBYTES, 1).data());
  const size_t n = data.size();

  const double control = rate(n, [&] {
    uint8_t out[32];
    crypto_generichash_blake2b(out, 32, reinterpret_cast<const uint8_t*>(data.data()), n, nullptr, 0);
  });
  print("libsodium BLAKE2b-256, one stream", control, control);

  const std::pair<HashEngine, const char*> engines[] = {{HashEngine::Sodium, "leaves of 4 KiB, libsodium"},
                                                        {HashEngine::Avx2, "leaves of 4 KiB, AVX2"},
                                                        {HashEngine::Avx512, "leaves of 4 KiB, AVX-512"}};
  std::vector<HashJob> jobs(n / 4096);
  std::vector<uint8_t> digests(jobs.size() * kHashBytes);
  for (size_t i = 0; i < jobs.size(); ++i) jobs[i] = {data.data() + i * 4096, 4096, digests.data() + i * kHashBytes};
  for (const auto& engine : engines) {
    if (!hashEngineAvailable(engine.first)) continue;
    print(engine.second, rate(n, [&] { blake2b256Many(HashDomain("bench"), jobs, engine.first); }), control);
  }

  print("chunks of 64 KiB", rate(n, [&] {
    for (size_t at = 0; at < n; at += 65536) (void)hashChunk(std::span(data).subspan(at, 65536));
  }), control);
  print("cutting only", rate(n, [&] {
    Chunker chunker(n);
    for (size_t at = 0; at < n;) at += chunker.next(std::span(data).subspan(at), true);
  }), control);
  print("cutting and hashing, a file of 64 MiB", rate(n, [&] {
    ContentHasher hasher(n);
    for (size_t at = 0; at < n; at += 1u << 20) hasher.add(std::span(data).subspan(at, 1u << 20));
    (void)hasher.finish();
  }), control);
  print("files of 4 KiB, one at a time", rate(n, [&] {
    for (size_t at = 0; at < n; at += 4096) {
      ContentHasher hasher(4096);
      hasher.add(std::span(data).subspan(at, 4096));
      (void)hasher.finish();
    }
  }), control);
  std::vector<std::span<const std::byte>> files(64);
  std::vector<Content> contents(files.size());
  print("files of 4 KiB, 64 at a time", rate(n, [&] {
    for (size_t at = 0; at < n; at += 4096 * files.size()) {
      for (size_t i = 0; i < files.size(); ++i) files[i] = std::span(data).subspan(at + 4096 * i, 4096);
      hashSmallContents(files, contents);
    }
  }), control);
  return 0;
}
