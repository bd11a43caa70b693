// Needs peer_dep.

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <cstring>

#include "librealize/peer/roster.h"

/// A household as another peer sends it: whatever arrives, what is taken over is within the bounds.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace realize;
  std::vector<capnp::word> words((size + sizeof(capnp::word) - 1) / sizeof(capnp::word));
  if (size > 0) std::memcpy(words.data(), data, size);
  try {
    capnp::FlatArrayMessageReader message(kj::arrayPtr(words.data(), words.size()));
    auto read = peer::readHousehold(message.getRoot<schema::HouseholdState>());
    if (!read.ok()) return 0;
    peer::HouseholdView view;
    const auto taken = peer::acceptable(view, PeerKey(), read->rows);
    if (taken.roster.size() > peer::kMaxRosterEntries || taken.admissions.size() > peer::kMaxAdmissions) std::abort();
    for (const auto& row : taken.roster)
      if (row.name.empty() || row.name.size() > peer::kMaxNameBytes) std::abort();
  } catch (const kj::Exception&) {
    // Not a message: the RPC system would end the connection.
  }
  return 0;
}
