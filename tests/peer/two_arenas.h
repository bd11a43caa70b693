#pragma once

// Two arenas of two peers in one process, on real folders and threads, joined by direct calls instead of a connection.

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>

#include "librealize/base/pool.h"
#include "librealize/peer/arena_core.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/thread_scheduler.h"
#include "librealize/peer/transfers.h"
#include "tests/peer/meddling_disk.h"
#include "tests/support/held_chunk.h"
#include "tests/support/temp_dir.h"

namespace realize::peer::testing {

using realize::test::HeldChunk;

/// One arena with its own core thread.
struct ArenaPeer {
  ArenaPeer(Pool& pool, const std::string& where, const PeerKey& key, const std::string& userFolder, Mark rootMark)
      : key(key), base(where), scheduler(std::make_unique<ThreadScheduler>(pool)), userFolder(userFolder), rootMark(rootMark) {
    std::filesystem::create_directories(base + "/db");
    folder = userFolder.empty() ? base + "/files" : userFolder;
    std::filesystem::create_directories(folder);
    start(true, !userFolder.empty() && rootMark == Mark::None);
  }
  ~ArenaPeer() { stop(); }

  void start(bool fresh, bool joining) {
    ArenaOptions options;
    options.id.bytes[0] = 7;
    options.name = "docs";
    options.databaseDirectory = base + "/db";
    options.folder = folder;
    options.userFolder = !userFolder.empty();
    options.self = key;
    Environment env{systemClock(), systemRandom(), disk, *scheduler, watchFolder, {}, true};
    std::lock_guard held(scheduler->coreLock());
    auto opened = ArenaCore::open(env, options, ArenaSettings(), {}, fresh);
    if (!opened.ok()) throw std::runtime_error(opened.error().message);
    core = std::move(*opened);
    core->start(rootMark, joining);
  }
  /// Nothing of it runs any more, but what others still hold of it is there: all halt before any is taken down.
  void halt() {
    if (!core) return;
    {
      std::lock_guard held(scheduler->coreLock());
      core->stop();
    }
    scheduler->stop();
  }
  void stop() {
    halt();
    core.reset();
  }
  /// Ends without any farewell, as a killed process; then a new one starts over what is on disk.
  void restart(Pool& pool, std::function<void()> meanwhile = {}) {
    scheduler->stop();
    core.reset();
    scheduler = std::make_unique<ThreadScheduler>(pool);
    if (meanwhile) meanwhile();
    start(false, false);
  }
  /// Runs `work` under the core lock and returns what it returns.
  template <typename F>
  auto with(F work) {
    std::lock_guard held(scheduler->coreLock());
    return work(*core);
  }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(folder + "/" + path).parent_path());
    std::ofstream(folder + "/" + path, std::ios::binary) << text;
  }
  std::string read(const std::string& path) {
    std::ifstream in(folder + "/" + path, std::ios::binary);
    if (!in) return "<none>";
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  bool has(const std::string& path) { return std::filesystem::symlink_status(folder + "/" + path).type() != std::filesystem::file_type::not_found; }

  PeerKey key;
  std::string base;
  std::string folder;
  MeddlingDisk disk;
  std::unique_ptr<ThreadScheduler> scheduler;
  std::string userFolder;
  Mark rootMark;
  std::unique_ptr<ArenaCore> core;
};

/// `other` as `self` sees it.
class DirectRemote final : public RemoteArena {
 public:
  DirectRemote(ArenaPeer& self, ArenaPeer& other) : self_(self), other_(other) {}
  PeerKey key() const override { return other_.key; }
  void announce(const ArenaState& state) override {
    other_.scheduler->onCore([this, state] { other_.core->onAnnounce(self_.key, state); });
  }
  void askState(bool barrier, std::function<void(Result<ArenaState>)> done) override {
    other_.scheduler->onCore([this, barrier, done] {
      auto answer = back<Result<ArenaState>>(done);
      if (lateState) answer = [this, answer](Result<ArenaState> state) { lateState([answer, state] { answer(state); }); };
      other_.core->serveState(self_.key, barrier, answer);
    });
  }
  void pull(const PullRequest& request, std::function<void(Result<PullPage>)> done) override {
    other_.scheduler->onCore([this, request, done] { back<Result<PullPage>>(done)(other_.core->servePull(self_.key, request)); });
  }
  void compare(const logic::WholeRequest& request, std::function<void(Result<logic::WholePage>)> done) override {
    other_.scheduler->onCore([this, request, done] { back<Result<logic::WholePage>>(done)(other_.core->serveCompare(self_.key, request)); });
  }
  void chunkList(const BlobId& blob, uint8_t hops, std::function<void(Result<ChunkList>)> done) override {
    other_.scheduler->onCore([this, blob, hops, done] {
      other_.core->serveChunkList(self_.key, blob, hops, back<Result<ChunkList>>(done));
    });
  }
  uint64_t get(const GetRequest& request, OnChunks onChunks,
               std::function<void(Result<std::vector<WantStatus>>)> done) override {
    ++gets;
    other_.scheduler->onCore([this, request, onChunks, done] {
      auto last = std::make_shared<std::pair<std::mutex, std::vector<HeldChunk>>>();
      auto answer = back<Result<std::vector<WantStatus>>>(done);
      other_.core->serveGet(self_.key, request,
                            [this, onChunks, last](ChunkArrivals arrivals) {
                              auto chunks = HeldChunk::of(arrivals);
                              for (auto& chunk : chunks)
                                if (corrupts && !chunk.bytes.empty()) chunk.bytes[0] ^= std::byte(1);
                              if (beforeDone) {
                                std::lock_guard held(last->first);
                                last->second = chunks;
                              }
                              HeldChunk::deliver(chunks, onChunks);
                              return true;
                            },
                            [this, onChunks, last, answer](Result<std::vector<WantStatus>> statuses) {
                              if (beforeDone && !last->second.empty())
                                beforeDone([&] { HeldChunk::deliver(last->second, onChunks); });
                              answer(std::move(statuses));
                            });
    });
    return ++last_;
  }
  void cancel(uint64_t) override {}

  std::atomic<uint64_t> gets{0};     ///< asked so far
  std::atomic<bool> corrupts{false}; ///< each chunk comes with a wrong bit
  /// Gets each answer of askState, to give it when it wants. On the other's core.
  std::function<void(std::function<void()> give)> lateState;
  /// Between the last chunk and the answer, on a thread of the other's pool; `again` has that chunk come once more.
  std::function<void(const std::function<void()>& again)> beforeDone;

  void promise(const std::vector<EntryContent>& asked, std::function<void(Result<KeepAnswers>)> done) override {
    other_.scheduler->onCore([this, asked, done] {
      other_.core->servePromise(self_.key, asked, back<Result<KeepAnswers>>(done));
    });
  }
  void release(const std::vector<EntryContent>& promised) override {
    other_.scheduler->onCore([this, promised] { other_.core->onRelease(self_.key, promised); });
  }
  void holds(const std::vector<EntryContent>& asked, std::function<void(Result<std::vector<bool>>)> done) override {
    other_.scheduler->onCore([this, asked, done] { back<Result<std::vector<bool>>>(done)(other_.core->serveHolds(self_.key, asked)); });
  }
  void lacking(const LackRequest& request, std::function<void(Result<std::set<PeerKey>>)> done) override {
    other_.scheduler->onCore([this, request, done] {
      other_.core->serveLacking(self_.key, request, back<Result<std::set<PeerKey>>>(done));
    });
  }

 private:
  template <typename T>
  std::function<void(T)> back(std::function<void(T)> done) {
    return [this, done](T value) {
      auto shared = std::make_shared<T>(std::move(value));
      self_.scheduler->onCore([done, shared] { done(std::move(*shared)); });
    };
  }
  ArenaPeer& self_;
  ArenaPeer& other_;
  uint64_t last_ = 0;
};

struct TwoArenas {
  explicit TwoArenas(bool bHasFolder = true, Mark bMark = Mark::None, std::function<void(const std::string&)> prepareB = {})
      : pool(4) {
    PeerKey keyA, keyB;
    keyA.bytes[0] = 'a';
    keyB.bytes[0] = 'b';
    std::filesystem::create_directories(dir.path() + "/A");
    if (bHasFolder) std::filesystem::create_directories(dir.path() + "/B");
    if (prepareB) prepareB(dir.path() + "/B");
    a = std::make_unique<ArenaPeer>(pool, dir.path() + "/stateA", keyA, dir.path() + "/A", Mark::Real);
    b = std::make_unique<ArenaPeer>(pool, dir.path() + "/stateB", keyB, bHasFolder ? dir.path() + "/B" : "", bMark);
  }
  ~TwoArenas() {
    disconnect();
    for (auto* peer : {a.get(), b.get()})
      if (peer) peer->halt();
  }
  void connect() {
    ab = std::make_unique<DirectRemote>(*a, *b);
    ba = std::make_unique<DirectRemote>(*b, *a);
    a->with([&](ArenaCore& core) { core.connected(*ab); });
    b->with([&](ArenaCore& core) { core.connected(*ba); });
  }
  void disconnect() {
    if (!ab) return;
    a->with([&](ArenaCore& core) { core.disconnected(b->key); });
    b->with([&](ArenaCore& core) { core.disconnected(a->key); });
    // Calls under way still use the link: it stays.
    old.push_back(std::move(ab));
    old.push_back(std::move(ba));
  }
  /// Until both agree and nothing is missing; false after the time.
  bool settle(int seconds = 20) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (std::chrono::steady_clock::now() < deadline) {
      for (auto* peer : {a.get(), b.get()}) {
        auto done = std::make_shared<std::promise<void>>();
        auto future = done->get_future();
        peer->with([&](ArenaCore& core) {
          core.core().exchange->refresh([done] { done->set_value(); });
        });
        future.wait_for(std::chrono::seconds(5));
      }
      auto agrees = [](ArenaPeer& one, ArenaPeer& other) {
        return one.with([&](ArenaCore& core) {
          return core.core().exchange->agreesWith(other.key) && core.core().marks->missingFiles() == 0;
        });
      };
      if (agrees(*a, *b) && agrees(*b, *a)) return true;
      // Nothing to wait on but the other side: give its thread the processor.
      std::this_thread::yield();
    }
    for (auto* peer : {a.get(), b.get()}) {
      const auto status = peer->with([](ArenaCore& core) { return core.status(); });
      MESSAGE(peer->key.hex().substr(0, 2), " ", status.consensusWhy, status.suspendedWhy, " missing ", status.missingFiles, " scanning ",
              status.scanning);
      for (const auto& problem : status.problems) MESSAGE(problem.path, " ", problem.kind, " ", problem.detail);
    }
    return false;
  }
  /// They connect and come to rest.
  void meet() {
    connect();
    REQUIRE(settle());
  }

  test::TempDir dir;
  Pool pool;
  std::unique_ptr<ArenaPeer> a, b;
  std::unique_ptr<DirectRemote> ab, ba;
  std::vector<std::unique_ptr<DirectRemote>> old;
};

}  // namespace realize::peer::testing
