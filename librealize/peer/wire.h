#pragma once

// Between the plain values of remote.h and Cap'n Proto. Readers check every bound: their input comes from another peer.

#include "librealize/peer/remote.h"
#include "schemas/peer.capnp.h"

namespace realize::peer {

constexpr size_t kMaxVectorItems = 4096;
constexpr size_t kMaxRanges = 64;  ///< in one comparison
constexpr size_t kMaxPageBytes = 16u << 20;  ///< of a page of changes, unpacked

void writeVector(schema::Vector::Builder out, const VersionVector& vector);
/// Errors: Corrupt (unequal lengths, not ascending, too many).
Result<VersionVector> readVector(schema::Vector::Reader in);

void writeState(schema::ArenaState::Builder out, const ArenaState& state);
Result<ArenaState> readState(schema::ArenaState::Reader in);

void writePage(schema::PullPage::Builder out, const PullPage& page);
Result<PullPage> readPage(schema::PullPage::Reader in);
void writeCompare(schema::ArenaService::CompareParams::Builder out, const logic::WholeRequest& request);
Result<logic::WholeRequest> readCompare(schema::ArenaService::CompareParams::Reader in);
void writeCompared(schema::ArenaService::CompareResults::Builder out, const logic::WholePage& page);
Result<logic::WholePage> readCompared(schema::ArenaService::CompareResults::Reader in);

void writeGet(schema::ArenaService::GetParams::Builder out, uint64_t number, const GetRequest& request);
Result<GetRequest> readGet(schema::ArenaService::GetParams::Reader in);

void writeLack(schema::ArenaService::LackingParams::Builder out, const LackRequest& request);
Result<LackRequest> readLack(schema::ArenaService::LackingParams::Reader in);
void writePeers(capnp::List<capnp::Data>::Builder out, const std::set<PeerKey>& peers);
/// Errors: Corrupt (no key, more than kMaxAsked).
Result<std::set<PeerKey>> readPeers(capnp::List<capnp::Data>::Reader in);

schema::WantStatus toWire(WantStatus status);
WantStatus fromWire(schema::WantStatus status);
schema::KeepAnswer toWire(KeepAnswer answer);
KeepAnswer fromWire(schema::KeepAnswer answer);  ///< one that is not known: Refused

/// A key, id or hash of exactly its size. Errors: Corrupt.
template <typename Fixed>
Result<Fixed> readFixed(capnp::Data::Reader in) {
  Fixed out;
  if (in.size() != Fixed::size()) return Error{Code::Corrupt, "a key, id or hash of the wrong length"};
  std::copy(in.begin(), in.end(), out.data());
  return out;
}
template <typename Fixed>
capnp::Data::Reader asData(const Fixed& fixed) {
  return capnp::Data::Reader(fixed.data(), fixed.size());
}
inline capnp::Data::Reader asData(const std::string& bytes) {
  return capnp::Data::Reader(reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size());
}
inline std::string toString(capnp::Data::Reader in) {
  return std::string(reinterpret_cast<const char*>(in.begin()), in.size());
}

}  // namespace realize::peer
