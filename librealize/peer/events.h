#pragma once

#include <memory>
#include <vector>

#include "realize/peer.h"

namespace realize::peer {

/// What happened, in order: of one transaction, say. Shared by all who tell of it.
using Events = std::shared_ptr<const std::vector<Event>>;

inline Events eventsOf(Event event) {
  auto out = std::make_shared<std::vector<Event>>();
  out->push_back(std::move(event));
  return out;
}

}  // namespace realize::peer
