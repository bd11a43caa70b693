#include "librealize/peer/lacking.h"

#include <algorithm>

#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr int64_t kAskAgainMs = 10'000;
}

struct Lacking::State {
  explicit State(Core& core) : core(core) {}

  Core& core;
  bool asking = false;
  bool resting = false;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  bool lacks(const LackRequest& request) const {
    const auto mayHave = [this](const BlobId& blob) { return core.transfers->complete(blob) || core.folder->isUnrecognised(blob); };
    return !core.stopping && core.exchange->restsAt(request.vector, request.digest) &&
           std::none_of(request.blobs.begin(), request.blobs.end(), mayHave);
  }
  void askOn(LackRequest request, std::function<void(const std::set<PeerKey>&)> done);
  void answered(bool all);
};

Lacking::Lacking(Core& core) : s_(std::make_unique<State>(core)) {}
Lacking::~Lacking() { *s_->alive = false; }

/// Whoever is connected, and not asked by another: with this peer, if it lacks these itself.
void Lacking::State::askOn(LackRequest request, std::function<void(const std::set<PeerKey>&)> done) {
  if (!lacks(request)) return done({});
  const auto remotes = core.exchange->remotes();
  std::vector<RemoteArena*> next;
  for (auto* remote : remotes)
    if (!request.asked.contains(remote->key())) next.push_back(remote);
  for (auto* remote : remotes) request.asked.insert(remote->key());
  request.asked.insert(core.options.self);
  if (request.asked.size() > kMaxAsked) return done({});
  auto found = std::make_shared<std::set<PeerKey>>();
  found->insert(core.options.self);
  auto left = std::make_shared<size_t>(next.size() + 1);
  auto answered = [this, alive = alive, found, left, request, done = std::move(done)] {
    if (--*left > 0) return;
    bool still = false;  // All of it holds of one tree.
    const auto looked = store::catching([&] { still = *alive && lacks(request); });
    done(still ? *found : std::set<PeerKey>());  // Who asked waits for it, also where the database fails now.
    if (!looked.ok()) throw store::DatabaseError(looked.error().code, looked.error().message);
  };
  for (auto* remote : next)
    remote->lacking(request, [found, answered](Result<std::set<PeerKey>> peers) {
      if (peers.ok()) found->insert(peers->begin(), peers->end());
      answered();
    });
  answered();
}

void Lacking::ask(std::vector<BlobId> blobs, std::function<void(bool)> done) {
  auto& s = *s_;
  auto& core = s.core;
  if (s.asking || s.resting || blobs.size() > kMaxWantsPerGet) return done(false);
  s.asking = true;
  LackRequest request{core.tree.vector(), core.tree.digest(), std::move(blobs), {}};
  s.askOn(std::move(request), [s = s_.get(), alive = s.alive, done = std::move(done)](const std::set<PeerKey>& found) {
    if (!*alive) return;
    const auto others = s->core.exchange->others();
    const bool all = !found.empty() && std::includes(found.begin(), found.end(), others.begin(), others.end());
    s->answered(all);
    done(all);
  });
}

void Lacking::State::answered(bool all) {
  asking = false;
  if (all) return;
  resting = true;
  core.env.scheduler.onCoreAfter(kAskAgainMs, [this, alive = alive] {
    if (*alive) resting = false;
  });
}

void Lacking::serve(const PeerKey& from, LackRequest request, std::function<void(Result<std::set<PeerKey>>)> done) {
  request.asked.insert(from);
  s_->askOn(std::move(request), [done = std::move(done)](const std::set<PeerKey>& found) { done(found); });
}

}  // namespace realize::peer
