#pragma once

// Another peer as an arena's parts see it: what a failing database throws while its answers are taken ends the arena's
// work, not the process.

#include <utility>

#include "librealize/peer/remote.h"
#include "librealize/store/database.h"

namespace realize::peer {

/// Passes all on. `failed` is told what was caught; it outlives the arena, as answers may.
class CatchingRemote final : public RemoteArena {
 public:
  CatchingRemote(RemoteArena& inner, std::function<void(const Error&)> failed) : inner_(inner), failed_(std::move(failed)) {}

  PeerKey key() const override { return inner_.key(); }
  void announce(const ArenaState& state) override { inner_.announce(state); }
  void askState(bool barrier, std::function<void(Result<ArenaState>)> done) override {
    inner_.askState(barrier, caught(std::move(done)));
  }
  void pull(const PullRequest& request, std::function<void(Result<PullPage>)> done) override {
    inner_.pull(request, caught(std::move(done)));
  }
  void compare(const logic::WholeRequest& request, std::function<void(Result<logic::WholePage>)> done) override {
    inner_.compare(request, caught(std::move(done)));
  }
  void chunkList(const BlobId& blob, uint8_t hops, std::function<void(Result<ChunkList>)> done) override {
    inner_.chunkList(blob, hops, caught(std::move(done)));
  }
  uint64_t get(const GetRequest& request, OnChunks onChunks,
               std::function<void(Result<std::vector<WantStatus>>)> done) override {
    return inner_.get(request, std::move(onChunks), caught(std::move(done)));
  }
  void cancel(uint64_t request) override { inner_.cancel(request); }
  void promise(const std::vector<EntryContent>& asked, std::function<void(Result<KeepAnswers>)> done) override {
    inner_.promise(asked, caught(std::move(done)));
  }
  void release(const std::vector<EntryContent>& promised) override { inner_.release(promised); }
  void holds(const std::vector<EntryContent>& asked, std::function<void(Result<std::vector<bool>>)> done) override {
    inner_.holds(asked, caught(std::move(done)));
  }
  void lacking(const LackRequest& request, std::function<void(Result<std::set<PeerKey>>)> done) override {
    inner_.lacking(request, caught(std::move(done)));
  }

 private:
  template <typename T>
  std::function<void(Result<T>)> caught(std::function<void(Result<T>)> done) {
    return [failed = failed_, done = std::move(done)](Result<T> answer) {
      auto outcome = store::catching([&] { done(std::move(answer)); });
      if (!outcome.ok()) failed(outcome.error());
    };
  }
  RemoteArena& inner_;
  std::function<void(const Error&)> failed_;
};

}  // namespace realize::peer
