#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "realize/filesystem.h"

namespace realize::peer {

/// What mounts may have cached that is no longer true: collected on the core, told from a thread of its own.
class Invalidations {
 public:
  Invalidations();
  ~Invalidations();
  std::shared_ptr<void> subscribe(InvalidationSink& sink);
  /// Whether there is anyone to tell. Any thread.
  bool anybody() const;
  /// Any thread; queued and coalesced.
  void nodeChanged(NodeId node, bool content);
  void nameChanged(NodeId parent, const std::string& name, NodeId removed);

 private:
  struct State;
  std::shared_ptr<State> s_;
};

}  // namespace realize::peer
