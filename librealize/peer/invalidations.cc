#include "librealize/peer/invalidations.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace realize::peer {

// One thread tells all sinks; it holds no lock while it does, so that a sink may block on a kernel that waits for us.
struct Invalidations::State {
  std::mutex mutex;  // guards all
  std::condition_variable wake;
  std::condition_variable told;
  std::map<NodeId, bool> nodes;                               // node -> its content, too
  std::map<std::pair<NodeId, std::string>, NodeId> names;     // (parent, name) -> node that was there
  std::vector<InvalidationSink*> sinks;
  InvalidationSink* telling = nullptr;
  bool stopping = false;
  std::thread thread;

  void run() {
    pthread_setname_np(pthread_self(), "realize-changed");
    std::unique_lock held(mutex);
    while (true) {
      wake.wait(held, [&] { return stopping || !nodes.empty() || !names.empty(); });
      if (stopping) return;
      auto changedNodes = std::move(nodes);
      auto changedNames = std::move(names);
      nodes.clear();
      names.clear();
      const auto targets = sinks;
      for (auto* sink : targets) {
        if (std::find(sinks.begin(), sinks.end(), sink) == sinks.end()) continue;
        telling = sink;
        held.unlock();
        for (const auto& [where, removed] : changedNames) sink->nameChanged(where.first, where.second, removed);
        for (const auto& [node, content] : changedNodes) sink->nodeChanged(node, content);
        held.lock();
        telling = nullptr;
        told.notify_all();
      }
    }
  }
};

Invalidations::Invalidations() : s_(std::make_shared<State>()) {}

Invalidations::~Invalidations() {
  {
    std::lock_guard held(s_->mutex);
    s_->stopping = true;
  }
  s_->wake.notify_all();
  if (s_->thread.joinable()) s_->thread.join();
}

std::shared_ptr<void> Invalidations::subscribe(InvalidationSink& sink) {
  std::lock_guard held(s_->mutex);
  s_->sinks.push_back(&sink);
  if (!s_->thread.joinable()) s_->thread = std::thread([s = s_.get()] { s->run(); });
  return std::shared_ptr<void>(&sink, [s = s_](void* gone) {
    std::unique_lock owner(s->mutex);
    std::erase(s->sinks, static_cast<InvalidationSink*>(gone));
    s->told.wait(owner, [&] { return s->telling != gone; });
  });
}

bool Invalidations::anybody() const {
  std::lock_guard held(s_->mutex);
  return !s_->sinks.empty();
}

void Invalidations::nodeChanged(NodeId node, bool content) {
  std::lock_guard held(s_->mutex);
  if (s_->sinks.empty()) return;
  s_->nodes[node] |= content;
  s_->wake.notify_one();
}

void Invalidations::nameChanged(NodeId parent, const std::string& name, NodeId removed) {
  std::lock_guard held(s_->mutex);
  if (s_->sinks.empty()) return;
  s_->names.insert_or_assign({parent, name}, removed);
  s_->wake.notify_one();
}

}  // namespace realize::peer
