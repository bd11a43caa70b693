#include "librealize/peer/wire.h"

#include <algorithm>

#include "librealize/base/compress.h"
#include "librealize/model/codec.h"

namespace realize::peer {

namespace {
Error corrupt(const char* what) { return Error{Code::Corrupt, std::string("a peer sent ") + what}; }
}  // namespace

void writeVector(schema::Vector::Builder out, const VersionVector& vector) {
  const auto& items = vector.items();
  auto origins = out.initOrigins(items.size());
  auto seqs = out.initSeqs(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    origins.set(i, items[i].first);
    seqs.set(i, items[i].second);
  }
}

Result<VersionVector> readVector(schema::Vector::Reader in) {
  auto origins = in.getOrigins();
  auto seqs = in.getSeqs();
  if (origins.size() != seqs.size()) return corrupt("a vector with unequal lists");
  if (origins.size() > kMaxVectorItems) return corrupt("a vector that is too long");
  VersionVector out;
  Origin last = 0;
  for (uint32_t i = 0; i < origins.size(); ++i) {
    if (origins[i] <= last || seqs[i] == 0) return corrupt("a vector that is out of order");
    last = origins[i];
    out.set(last, seqs[i]);
  }
  return out;
}

void writeState(schema::ArenaState::Builder out, const ArenaState& state) {
  out.setOrigin(state.origin);
  writeVector(out.initVector(), state.vector);
  writeVector(out.initTrimmed(), state.trimmed);
  out.setDigest(asData(state.digest));
  out.setMissingFiles(state.missingFiles);
  out.setMissingBytes(state.missingBytes);
  out.setSettling(state.settling);
  out.setSuspended(state.suspended);
}

Result<ArenaState> readState(schema::ArenaState::Reader in) {
  ArenaState state;
  state.origin = in.getOrigin();
  REALIZE_ASSIGN(state.vector, readVector(in.getVector()));
  REALIZE_ASSIGN(state.trimmed, readVector(in.getTrimmed()));
  REALIZE_ASSIGN(state.digest, readFixed<logic::TreeDigest>(in.getDigest()));
  state.missingFiles = in.getMissingFiles();
  state.missingBytes = in.getMissingBytes();
  state.settling = in.getSettling();
  state.suspended = in.getSuspended();
  return state;
}

void writePage(schema::PullPage::Builder out, const PullPage& page) {
  const std::string changes = encodeChanges(page.changes);
  const auto compressed = compressIfItPays(std::as_bytes(std::span(changes)));
  out.setCompressed(compressed.has_value());
  if (compressed) out.setChanges(capnp::Data::Reader(reinterpret_cast<const kj::byte*>(compressed->data()), compressed->size()));
  else out.setChanges(asData(changes));
  out.setCursor(asData(page.cursor));
  out.setDone(page.done);
  writeVector(out.initVector(), page.snapshot);
  writeVector(out.initTrimmed(), page.trimmed);
  auto authors = out.initAuthors(page.authors.size());
  uint32_t author = 0;
  for (const auto& [origin, peer] : page.authors) {
    authors[author].setOrigin(origin);
    authors[author++].setPeer(asData(peer));
  }
  auto acks = out.initAcks(page.acks.size());
  uint32_t i = 0;
  for (const auto& [peer, vector] : page.acks) {
    acks[i].setPeer(asData(peer));
    writeVector(acks[i].initVector(), vector);
    ++i;
  }
  auto closed = out.initClosed(page.closed.size());
  for (size_t k = 0; k < page.closed.size(); ++k) closed.set(k, page.closed[k]);
  out.setClock(page.clock);
}

Result<PullPage> readPage(schema::PullPage::Reader in) {
  PullPage page;
  std::string changes = toString(in.getChanges());
  if (in.getCompressed()) {
    REALIZE_ASSIGN(const Bytes plain, decompress(std::as_bytes(std::span(changes)), kMaxPageBytes));
    changes.assign(reinterpret_cast<const char*>(plain.data()), plain.size());
  }
  REALIZE_ASSIGN(page.changes, decodeChanges(changes));
  page.cursor = toString(in.getCursor());
  page.done = in.getDone();
  REALIZE_ASSIGN(page.snapshot, readVector(in.getVector()));
  REALIZE_ASSIGN(page.trimmed, readVector(in.getTrimmed()));
  if (in.getAcks().size() > kMaxVectorItems || in.getClosed().size() > kMaxVectorItems) return corrupt("too many acks");
  for (auto ack : in.getAcks()) {
    REALIZE_ASSIGN(auto peer, readFixed<PeerKey>(ack.getPeer()));
    REALIZE_ASSIGN(auto vector, readVector(ack.getVector()));
    page.acks[peer] = std::move(vector);
  }
  for (auto origin : in.getClosed()) page.closed.push_back(origin);
  if (in.getAuthors().size() > kMaxVectorItems) return corrupt("too many authors");
  for (auto author : in.getAuthors()) {
    REALIZE_ASSIGN(page.authors[author.getOrigin()], readFixed<PeerKey>(author.getPeer()));
  }
  page.clock = in.getClock();
  return page;
}

void writeCompare(schema::ArenaService::CompareParams::Builder out, const logic::WholeRequest& request) {
  writeVector(out.initVector(), request.vector);
  auto ranges = out.initRanges(request.ranges.size());
  for (size_t i = 0; i < request.ranges.size(); ++i) {
    const auto& sum = request.ranges[i];
    auto range = ranges[i].initRange();
    range.setPrefix(asData(sum.range.prefix));
    range.setDigits(sum.range.digits);
    ranges[i].setEntries(sum.entries);
    ranges[i].setSum(asData(sum.sum));
  }
}

Result<logic::WholeRequest> readCompare(schema::ArenaService::CompareParams::Reader in) {
  logic::WholeRequest request;
  REALIZE_ASSIGN(request.vector, readVector(in.getVector()));
  if (in.getRanges().size() > kMaxRanges) return corrupt("too many ranges");
  for (auto sum : in.getRanges()) {
    logic::RangeSum& out = request.ranges.emplace_back();
    REALIZE_ASSIGN(out.range.prefix, readFixed<EntryId>(sum.getRange().getPrefix()));
    out.range.digits = sum.getRange().getDigits();
    if (!out.range.valid()) return corrupt("a range that cannot be");
    out.entries = sum.getEntries();
    REALIZE_ASSIGN(out.sum, readFixed<logic::TreeDigest>(sum.getSum()));
  }
  return request;
}

void writeCompared(schema::ArenaService::CompareResults::Builder out, const logic::WholePage& page) {
  out.setOrigin(page.origin);
  auto outcomes = out.initOutcomes(page.outcomes.size());
  for (size_t i = 0; i < page.outcomes.size(); ++i) outcomes.set(i, schema::RangeOutcome(uint16_t(page.outcomes[i])));
  writePage(out.initPage(), page.page);
}

Result<logic::WholePage> readCompared(schema::ArenaService::CompareResults::Reader in) {
  logic::WholePage page;
  page.origin = in.getOrigin();
  if (in.getOutcomes().size() > kMaxRanges) return corrupt("too many ranges");
  for (auto outcome : in.getOutcomes()) {
    if (uint16_t(outcome) > uint16_t(logic::RangeOutcome::Split)) return corrupt("an unknown outcome of a comparison");
    page.outcomes.push_back(logic::RangeOutcome(uint8_t(outcome)));
  }
  REALIZE_ASSIGN(page.page, readPage(in.getPage()));
  return page;
}

void writePeers(capnp::List<capnp::Data>::Builder out, const std::set<PeerKey>& peers) {
  uint32_t i = 0;
  for (const auto& peer : peers) out.set(i++, asData(peer));
}

Result<std::set<PeerKey>> readPeers(capnp::List<capnp::Data>::Reader in) {
  if (in.size() > kMaxAsked) return corrupt("too many keys");
  std::set<PeerKey> peers;
  for (auto key : in) {
    REALIZE_ASSIGN(const auto peer, readFixed<PeerKey>(key));
    peers.insert(peer);
  }
  return peers;
}

void writeLack(schema::ArenaService::LackingParams::Builder out, const LackRequest& request) {
  writeVector(out.initVector(), request.vector);
  out.setDigest(asData(request.digest));
  auto blobs = out.initBlobs(uint32_t(request.blobs.size()));
  for (uint32_t i = 0; i < blobs.size(); ++i) blobs.set(i, asData(request.blobs[i]));
  writePeers(out.initAsked(uint32_t(request.asked.size())), request.asked);
}

Result<LackRequest> readLack(schema::ArenaService::LackingParams::Reader in) {
  LackRequest request;
  REALIZE_ASSIGN(request.vector, readVector(in.getVector()));
  REALIZE_ASSIGN(request.digest, readFixed<logic::TreeDigest>(in.getDigest()));
  if (in.getBlobs().size() > kMaxWantsPerGet) return corrupt("too many contents");
  for (auto blob : in.getBlobs()) {
    REALIZE_ASSIGN(request.blobs.emplace_back(), readFixed<BlobId>(blob));
  }
  REALIZE_ASSIGN(request.asked, readPeers(in.getAsked()));
  return request;
}

void writeGet(schema::ArenaService::GetParams::Builder out, uint64_t number, const GetRequest& request) {
  out.setRequest(number);
  out.setInteractive(request.interactive);
  out.setHops(request.hops);
  out.setPacks(true);
  auto wants = out.initWants(request.wants.size());
  for (size_t i = 0; i < request.wants.size(); ++i) {
    const auto& want = request.wants[i];
    wants[i].setBlob(asData(want.blob));
    wants[i].setSizeBytes(want.sizeBytes);
    auto chunks = wants[i].initChunks(want.chunks.size());
    for (size_t k = 0; k < want.chunks.size(); ++k) chunks.set(k, want.chunks[k]);
  }
}

Result<GetRequest> readGet(schema::ArenaService::GetParams::Reader in) {
  GetRequest request;
  request.interactive = in.getInteractive();
  request.hops = std::min<uint8_t>(in.getHops(), 3);
  auto wants = in.getWants();
  if (wants.size() > kMaxWantsPerGet) return corrupt("a request for too many blobs");
  size_t chunkCount = 0;
  for (auto want : wants) {
    BlobWant out;
    REALIZE_ASSIGN(out.blob, readFixed<BlobId>(want.getBlob()));
    out.sizeBytes = want.getSizeBytes();
    chunkCount += want.getChunks().size();
    if (chunkCount > 65536) return corrupt("a request for too many chunks");
    for (auto chunk : want.getChunks()) out.chunks.push_back(chunk);
    request.wants.push_back(std::move(out));
  }
  return request;
}

schema::WantStatus toWire(WantStatus status) {
  switch (status) {
    case WantStatus::Sent: return schema::WantStatus::SENT;
    case WantStatus::Missing: return schema::WantStatus::MISSING;
    case WantStatus::Unreadable: return schema::WantStatus::UNREADABLE;
  }
  return schema::WantStatus::MISSING;
}

WantStatus fromWire(schema::WantStatus status) {
  switch (status) {
    case schema::WantStatus::SENT: return WantStatus::Sent;
    case schema::WantStatus::MISSING: return WantStatus::Missing;
    case schema::WantStatus::UNREADABLE: return WantStatus::Unreadable;
  }
  return WantStatus::Missing;  // A status of a later version: not ours to use.
}

schema::KeepAnswer toWire(KeepAnswer answer) {
  switch (answer) {
    case KeepAnswer::Refused: return schema::KeepAnswer::REFUSED;
    case KeepAnswer::Promised: return schema::KeepAnswer::PROMISED;
    case KeepAnswer::NotReal: return schema::KeepAnswer::NOT_REAL;
    case KeepAnswer::Incomplete: return schema::KeepAnswer::INCOMPLETE;
    case KeepAnswer::OtherVersion: return schema::KeepAnswer::OTHER_VERSION;
    case KeepAnswer::Changing: return schema::KeepAnswer::CHANGING;
    case KeepAnswer::Suspended: return schema::KeepAnswer::SUSPENDED;
  }
  return schema::KeepAnswer::REFUSED;
}

KeepAnswer fromWire(schema::KeepAnswer answer) {
  switch (answer) {
    case schema::KeepAnswer::REFUSED: return KeepAnswer::Refused;
    case schema::KeepAnswer::PROMISED: return KeepAnswer::Refused;  // Said elsewhere, or it is none.
    case schema::KeepAnswer::NOT_REAL: return KeepAnswer::NotReal;
    case schema::KeepAnswer::INCOMPLETE: return KeepAnswer::Incomplete;
    case schema::KeepAnswer::OTHER_VERSION: return KeepAnswer::OtherVersion;
    case schema::KeepAnswer::CHANGING: return KeepAnswer::Changing;
    case schema::KeepAnswer::SUSPENDED: return KeepAnswer::Suspended;
  }
  return KeepAnswer::Refused;
}

}  // namespace realize::peer
