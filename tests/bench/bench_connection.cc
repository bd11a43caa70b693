// What one connection carries over loopback: bulk bytes a second and calls a second, with CPU seconds of both sides.

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>

#include "fixture.h"

using namespace realize;
using namespace realize::test;

namespace {

double cpuSeconds() {
  rusage r{};
  getrusage(RUSAGE_SELF, &r);
  return double(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + double(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

struct Watch {
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  double cpu = cpuSeconds();
  double wall() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }
  double cpuUsed() const { return cpuSeconds() - cpu; }
};

void benchBulk(size_t frameBytes, uint64_t totalBytes, int senders, bool echoMeanwhile) {
  Household house;
  std::atomic<uint64_t> received{0};
  std::promise<void> all;
  house.aReceives = [&](net::BulkFrame frame) {
    if ((received += frame.payload.size()) == totalBytes) all.set_value();
  };
  house.connect();
  auto bulk = house.b->connection->bulk();
  Watch watch;
  std::atomic<uint64_t> left{totalBytes / frameBytes};
  std::vector<std::thread> threads;
  for (int t = 0; t < senders; ++t)
    threads.emplace_back([&] {
      while (left.fetch_sub(1) - 1 < totalBytes / frameBytes) {
        net::BulkFrame frame;
        frame.payload = net::BulkBuffer(frameBytes);
        std::memset(frame.payload.payload().data(), 1, frameBytes);  // As if read from a file.
        while (!bulk->send(frame).ok()) {
          std::promise<void> resumed;
          bulk->whenWritable([&] { resumed.set_value(); });
          resumed.get_future().wait();
        }
      }
    });
  double worst = 0;
  double sum = 0;
  int calls = 0;
  while (echoMeanwhile && received < totalBytes) {
    Watch one;
    house.echo(*house.b, "x");
    worst = std::max(worst, one.wall());
    sum += one.wall();
    ++calls;
  }
  for (auto& thread : threads) thread.join();
  all.get_future().wait();
  std::printf("bulk %4zu KiB frames, %d senders: %.2f GB/s, %.2f CPU s/GB", frameBytes / 1024, senders,
              double(totalBytes) / watch.wall() / 1e9, watch.cpuUsed() / (double(totalBytes) / 1e9));
  if (calls > 0) std::printf("; a call meanwhile: mean %.0f us, worst %.0f us", sum / calls * 1e6, worst * 1e6);
  std::printf("\n");
}

void benchCalls(int inFlight, int total) {
  Household house;
  house.connect();
  Watch watch;
  house.loop.run([&] {
    auto client = house.b->connection->bootstrap().castAs<Echo>();
    struct Runner {
      Echo::Client client;
      int left;
      kj::Promise<void> go() {
        if (left-- == 0) return kj::READY_NOW;
        auto request = client.echoRequest();
        request.initText(64);
        return request.send().then([this](capnp::Response<Echo::EchoResults>&&) { return go(); });
      }
    };
    auto promises = kj::heapArrayBuilder<kj::Promise<void>>(size_t(inFlight));
    for (int i = 0; i < inFlight; ++i) {
      auto runner = kj::heap<Runner>(Runner{client, total / inFlight});
      auto promise = runner->go();
      promises.add(promise.attach(kj::mv(runner)));
    }
    return kj::joinPromises(promises.finish());
  });
  std::printf("calls, %3d in flight: %.0f/s, %.1f us CPU each\n", inFlight, total / watch.wall(),
              watch.cpuUsed() / total * 1e6);
}

}  // namespace

int main() {
  std::printf("bulk frames sealed with %s\n", net::BulkCipher::aesAvailable() ? "AES-256-GCM" : "ChaCha20-Poly1305");
  constexpr uint64_t kTotal = uint64_t(2) << 30;
  for (size_t kib : {64, 256, 1024}) benchBulk(kib * 1024, kTotal, 2, false);
  benchBulk(256 * 1024, kTotal, 2, true);
  benchCalls(1, 20'000);
  benchCalls(64, 200'000);
  return 0;
}
