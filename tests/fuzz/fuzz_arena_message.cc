// Needs peer_dep.

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <cstring>
#include <vector>

#include "librealize/peer/wire.h"

namespace {
/// The same bytes as each of the messages about one arena. What is taken is within the bounds.
template <typename Message, typename Read>
void as(const std::vector<capnp::word>& words, Read&& read) {
  try {
    capnp::FlatArrayMessageReader message(kj::arrayPtr(words.data(), words.size()));
    read(message.getRoot<Message>());
  } catch (const kj::Exception&) {
    // Not a message: the RPC system would end the connection.
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace realize;
  using Service = schema::ArenaService;
  std::vector<capnp::word> words((size + sizeof(capnp::word) - 1) / sizeof(capnp::word));
  if (size > 0) std::memcpy(words.data(), data, size);
  as<schema::ArenaState>(words, [](auto in) {
    auto state = peer::readState(in);
    if (state.ok() && state->vector.items().size() > peer::kMaxVectorItems) std::abort();
  });
  as<schema::PullPage>(words, [](auto in) { (void)peer::readPage(in); });
  as<Service::CompareParams>(words, [](auto in) {
    auto request = peer::readCompare(in);
    if (request.ok() && request->ranges.size() > peer::kMaxRanges) std::abort();
  });
  as<Service::CompareResults>(words, [](auto in) { (void)peer::readCompared(in); });
  as<Service::GetParams>(words, [](auto in) {
    auto request = peer::readGet(in);
    if (request.ok() && request->wants.size() > peer::kMaxWantsPerGet) std::abort();
  });
  as<Service::LackingParams>(words, [](auto in) {
    auto request = peer::readLack(in);
    if (request.ok() && (request->blobs.size() > peer::kMaxWantsPerGet || request->asked.size() > peer::kMaxAsked)) std::abort();
  });
  as<Service::LackingResults>(words, [](auto in) { (void)peer::readPeers(in.getPeers()); });
  return 0;
}
