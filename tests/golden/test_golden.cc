// What other versions of this program wrote, and what this one would write, byte by byte: ids, codes, messages, records. A
// difference is a new protocol or format, never an accident. Databases: tests/store/golden. New values: make.sh here.

#include <doctest/doctest.h>

#include "librealize/model/blob.h"
#include "librealize/model/codec.h"
#include "librealize/net/greeting.h"
#include "librealize/net/identity.h"
#include "librealize/net/invite.h"
#include "librealize/net/record.h"
#include "librealize/peer/wire.h"
#include "tests/golden/golden.h"
#include "tests/support/fake_random.h"

using namespace realize;
using namespace realize::test;

namespace {

Bytes bytesOf(std::string_view text) {
  auto span = std::as_bytes(std::span(text));
  return {span.begin(), span.end()};
}

/// Written now as it was then. Gives what was written then.
std::string same(const std::string& name, const std::string& hexNow) {
  const std::string then = Golden::instance().at(name, hexNow);
  CHECK_MESSAGE(hexOf(then) == hexNow, name, " is not written as it was");
  return then;
}

/// Different bytes at each place, the same everywhere.
std::string pattern(size_t size) {
  std::string out(size, 0);
  uint64_t state = 88172645463325252u;
  for (auto& c : out) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    c = char(state);
  }
  return out;
}

VersionVector vectorOf(std::initializer_list<Dot> dots) {
  VersionVector out;
  for (auto dot : dots) out.join(dot);
  return out;
}

Entry entry() {
  Entry e;
  e.id = filled<EntryId>(1);
  e.live = {{5, 1}, {5, 900}, {UINT64_MAX, 3}};
  Version v;
  v.blob = filled<BlobId>(2);
  v.sizeBytes = uint64_t(1) << 50;
  v.mode = 0755;
  v.mtimeNs = -1;
  v.stamp = {12, 5};
  v.author = filled<PeerKey>(3);
  v.writtenNs = 1'700'000'000'000'000'000;
  Version link;
  link.target = filled<EntryId>(9);
  link.stamp = {1, 5};
  e.heads = {{{5, 1}, v}, {{5, 2}, link}};
  e.tombs = {{{6, 1}, {{5, 1}, {5, 2}}}};
  e.place = {{44, 5}, filled<EntryId>(4), "a name", filled<EntryId>(5), "an old \xff name"};
  e.touch = vectorOf({{5, 900}, {6, 1}, {UINT64_MAX, 3}});
  e.ctx = vectorOf({{77, 1}});
  e.replaced = {filled<BlobId>(6), filled<BlobId>(7)};
  return e;
}

Content contentOf(const std::string& bytes) {
  ContentHasher hasher(bytes.size());
  hasher.add(std::as_bytes(std::span(bytes)));
  return *hasher.finish();
}

class CountingRandom final : public Random {
 public:
  explicit CountingRandom(uint8_t start) : next_(start) {}
  void fill(std::span<uint8_t> out) override {
    for (auto& b : out) b = next_++;
  }

 private:
  uint8_t next_;
};

net::Secret32 secret(uint8_t first) {
  const auto bytes = filled<FixedBytes<32, struct AnyTag>>(first);
  return net::Secret32(std::span<const uint8_t, 32>(bytes.bytes));
}

}  // namespace

TEST_CASE("ids of entries and contents are what they were") {
  same("entry-id-file", entryIdFor(kRootEntry, "caf\xe9", EntryKind::File, 0).hex());
  same("entry-id-directory", entryIdFor(filled<EntryId>(1), "caf\xe9", EntryKind::Directory, 7).hex());
  same("blob-empty", emptyBlobId().hex());
  same("blob-one-leaf", contentOf(pattern(100)).blob.hex());
  same("blob-one-chunk", contentOf(pattern(10'000)).blob.hex());
  same("blob-many-chunks", contentOf(pattern(3'000'000)).blob.hex());
}

TEST_CASE("files are cut where they were") {
  const auto list = contentOf(pattern(3'000'000)).list;
  auto then = decodeChunkList(same("chunk-list", hexOf(encodeChunkList(list))));

  REQUIRE(then.ok());
  CHECK(*then == list);
  CHECK(then->sizeBytes() == 3'000'000);
  CHECK(blobIdOf(*then) == contentOf(pattern(3'000'000)).blob);
}

TEST_CASE("entries and batches of changes of this version are read as they were meant") {
  const VersionVector vector = vectorOf({{1, 2}, {UINT64_MAX, uint64_t(1) << 40}});
  auto vectorThen = decodeVector(same("vector", hexOf(encodeVector(vector))));
  auto entryThen = decodeEntry(same("entry", hexOf(encodeEntry(entry()))));
  Entry sent = entry();
  sent.ctx = {};
  Entry directory;
  directory.id = filled<EntryId>(8);
  directory.kind = EntryKind::Directory;
  directory.place = {{45, 5}, kRootEntry, "folder", kRootEntry, "folder"};
  directory.live = {{5, 3}};
  directory.touch = vectorOf({{5, 3}});
  auto changesThen = decodeChanges(same("changes", hexOf(encodeChanges({{sent, sent.touch}, {directory, directory.touch}}))));
  const std::map<PeerKey, VersionVector> acks{{filled<PeerKey>(1), vector}, {filled<PeerKey>(2), vectorOf({{3, 1}})}};
  auto acksThen = decodeAcks(same("acks", hexOf(encodeAcks(acks))));

  REQUIRE((vectorThen.ok() && entryThen.ok() && changesThen.ok() && acksThen.ok()));
  CHECK(*vectorThen == vector);
  CHECK(*entryThen == entry());
  REQUIRE(changesThen->size() == 2);
  CHECK((*changesThen)[0].entry == sent);
  CHECK((*changesThen)[1].entry == directory);
  CHECK((*changesThen)[1].seen == directory.touch);
  CHECK(*acksThen == acks);
}

TEST_CASE("an invite of this version is understood") {
  const net::Invite invite{{"192.0.2.1:4711", "[2001:db8::1]:4711"}, filled<PeerKey>(1), filled<net::InviteSecret>(100),
                           1'900'000'000'000'000'000};
  auto then = net::decodeInvite(same("invite", hexOf(*net::encodeInvite(invite))), 1'700'000'000'000'000'000);
  const std::string admission = same("admission", hexOf(net::encodeAdmission(invite.secret)));
  auto secretThen = net::decodeAdmission(std::as_bytes(std::span(admission)));

  REQUIRE((then.ok() && secretThen.ok()));
  CHECK(*then == invite);
  CHECK(*secretThen == invite.secret);
  same("invite-secret-hash", hexOf(net::inviteSecretHash(invite.secret)));
}

TEST_CASE("handshakes of this version go on as they did, and give the same keys") {
  for (bool known : {false, true}) {
    const std::string name = known ? "handshake-ik" : "handshake-xx";
    CountingRandom seedA(10), seedB(90), randomA(20), randomB(200);
    const auto a = net::Identity::generate(seedA), b = net::Identity::generate(seedB);
    net::Expected expected{b.key(), std::nullopt, bytesOf(known ? "" : "an admission")};
    if (known) expected.dh = b.binding().dh;
    net::Greeting dialer(a, expected, net::Greeting::kAbilityAes, randomA), listener(b, std::nullopt, 0, randomB);

    for (int turn = 0; turn < 4; ++turn) {
      auto& from = turn % 2 ? listener : dialer;
      auto& to = turn % 2 ? dialer : listener;
      const Bytes now = std::exchange(from.output(), {});
      const std::string then = same(name + "-" + std::to_string(turn), now.empty() ? "00" : hexOf(std::span(now)));
      if (now.empty()) continue;
      std::span<const std::byte> rest = std::as_bytes(std::span(then));
      while (!rest.empty()) {
        auto taken = to.receive(rest);
        REQUIRE_MESSAGE(taken.ok(), taken.error().message);
        if (to.state() == net::Greeting::State::Judging) REQUIRE(to.accept().ok());
        REQUIRE(*taken > 0);
        rest = rest.subspan(*taken);
      }
    }

    REQUIRE(dialer.state() == net::Greeting::State::Done);
    REQUIRE(listener.state() == net::Greeting::State::Done);
    CHECK(listener.peer().key() == a.key());
    same(name + "-hash", dialer.keys().handshakeHash.hex());
    same(name + "-send", hexOf(std::span<const uint8_t>(dialer.keys().send.data(), 32)));
    same(name + "-bulk", hexOf(std::span<const uint8_t>(dialer.keys().bulkSend.data(), 32)));
  }
}

TEST_CASE("records and bulk frames of this version are opened") {
  const Bytes plain = bytesOf("a piece of the stream");
  net::StreamCipher sealing(secret(1)), opening(secret(1));
  for (int number = 0; number < 2; ++number) {
    std::string record(net::StreamCipher::sealedBytes(plain.size()), 0);
    sealing.seal(net::RecordType::Rpc, plain, reinterpret_cast<uint8_t*>(record.data()));
    std::string then = same("record-" + std::to_string(number), hexOf(record));
    auto opened = opening.open(std::span(reinterpret_cast<uint8_t*>(then.data()), then.size()));
    REQUIRE(opened.ok());
    CHECK(Bytes(opened->begin(), opened->end()) == plain);
  }
  for (auto algorithm : {net::BulkAlgorithm::ChaCha20Poly1305, net::BulkAlgorithm::Aes256Gcm}) {
    const bool aes = algorithm == net::BulkAlgorithm::Aes256Gcm;
    if (aes && !net::BulkCipher::aesAvailable()) continue;
    const net::BulkCipher cipher(secret(2), algorithm);
    const std::array<uint8_t, 4> header{5, 6, 7, 8};
    std::string body = "bytes of a blob" + std::string(net::kRecordTagBytes, 0);
    cipher.seal(3, header, std::span(reinterpret_cast<uint8_t*>(body.data()), body.size()));
    std::string then = same(aes ? "bulk-aes" : "bulk-chacha", hexOf(body));
    REQUIRE(cipher.open(3, header, std::span(reinterpret_cast<uint8_t*>(then.data()), then.size())));
    CHECK(then.substr(0, 15) == "bytes of a blob");
  }
  const std::string words("\1\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0", 24);
  const std::string packed = same("packed-words", hexOf(std::span<const std::byte>(net::packWords(std::as_bytes(std::span(words))))));
  auto unpacked = net::unpackWords(std::as_bytes(std::span(packed)));
  REQUIRE(unpacked.ok());
  CHECK(hexOf(std::span<const std::byte>(*unpacked)) == hexOf(words));
}

TEST_CASE("messages between peers of this version mean what they meant") {
  peer::ArenaState state;
  state.origin = 7;
  state.vector = vectorOf({{1, 2}, {9, 3}});
  state.trimmed = vectorOf({{1, 1}});
  state.missingFiles = 11;
  state.missingBytes = 12;
  state.settling = true;
  capnp::MallocMessageBuilder stateNow;
  peer::writeState(stateNow.initRoot<schema::ArenaState>(), state);
  Recorded stateThen("message-state", stateNow);
  auto stateRead = peer::readState((*stateThen).getRoot<schema::ArenaState>());

  peer::GetRequest get{{{filled<BlobId>(1), 1000, {}}, {filled<BlobId>(2), 1u << 20, {0, 3}}}, true, 2};
  capnp::MallocMessageBuilder getNow;
  peer::writeGet(getNow.initRoot<schema::ArenaService::GetParams>(), 99, get);
  Recorded getThen("message-get", getNow);
  auto getMessage = (*getThen).getRoot<schema::ArenaService::GetParams>();
  auto getRead = peer::readGet(getMessage);

  peer::PullPage page;
  Entry sent = entry();
  sent.ctx = {};
  page.changes = {{sent, sent.touch}};
  page.cursor = "a cursor";
  page.done = true;
  page.snapshot = vectorOf({{5, 900}});
  page.acks[filled<PeerKey>(1)] = vectorOf({{5, 1}});
  page.closed = {6};
  page.clock = 45;
  capnp::MallocMessageBuilder pageNow;
  peer::writePage(pageNow.initRoot<schema::PullPage>(), page);
  Recorded pageThen("message-page", pageNow);
  auto pageRead = peer::readPage((*pageThen).getRoot<schema::PullPage>());

  capnp::MallocMessageBuilder helloNow;
  auto hello = helloNow.initRoot<schema::Hello>();
  hello.setProtocol(1);
  hello.setName("laptop");
  hello.setAddress("192.0.2.1:4711");
  hello.setLife(5);
  hello.setProgram("0.1.0");
  auto member = hello.initState().initRoster(1)[0];
  const PeerKey key = filled<PeerKey>(1);
  member.setKey(peer::asData(key));
  member.setName("desktop");
  member.setRemoved(true);
  member.setStamp(17);
  Recorded helloThen("message-hello", helloNow);
  auto helloRead = (*helloThen).getRoot<schema::Hello>();

  REQUIRE((stateRead.ok() && getRead.ok() && pageRead.ok()));
  CHECK(*stateRead == state);
  CHECK(getMessage.getRequest() == 99);
  REQUIRE(getRead->wants.size() == 2);
  CHECK(getRead->wants[1].blob == filled<BlobId>(2));
  CHECK(getRead->wants[1].sizeBytes == 1u << 20);
  CHECK(getRead->wants[1].chunks == std::vector<uint32_t>{0, 3});
  CHECK(getRead->interactive);
  CHECK(getRead->hops == 2);
  REQUIRE(pageRead->changes.size() == 1);
  CHECK(pageRead->changes[0].entry == sent);
  CHECK(pageRead->cursor == "a cursor");
  CHECK(pageRead->done);
  CHECK(pageRead->snapshot == page.snapshot);
  CHECK(pageRead->acks == page.acks);
  CHECK(pageRead->closed == page.closed);
  CHECK(pageRead->clock == 45);
  CHECK(helloRead.getProtocol() == 1);
  CHECK(std::string(helloRead.getName().cStr()) == "laptop");
  CHECK(helloRead.getLife() == 5);
  CHECK(helloRead.getState().getRoster()[0].getRemoved());
  CHECK(helloRead.getState().getRoster()[0].getStamp() == 17);
}

TEST_CASE("the question who lacks some contents means what it meant") {
  peer::LackRequest request{vectorOf({{5, 900}}), filled<logic::TreeDigest>(4), {filled<BlobId>(1), filled<BlobId>(2)}, {filled<PeerKey>(3)}};
  capnp::MallocMessageBuilder requestNow;
  peer::writeLack(requestNow.initRoot<schema::ArenaService::LackingParams>(), request);
  Recorded requestThen("message-lacking", requestNow);
  auto requestRead = peer::readLack((*requestThen).getRoot<schema::ArenaService::LackingParams>());

  const std::set<PeerKey> answer{filled<PeerKey>(1), filled<PeerKey>(2)};
  capnp::MallocMessageBuilder answerNow;
  peer::writePeers(answerNow.initRoot<schema::ArenaService::LackingResults>().initPeers(2), answer);
  Recorded answerThen("message-who-lacks", answerNow);
  auto answerRead = peer::readPeers((*answerThen).getRoot<schema::ArenaService::LackingResults>().getPeers());

  REQUIRE((requestRead.ok() && answerRead.ok()));
  CHECK(requestRead->vector == request.vector);
  CHECK(requestRead->digest == request.digest);
  CHECK(requestRead->blobs == request.blobs);
  CHECK(requestRead->asked == request.asked);
  CHECK(*answerRead == answer);
}

TEST_CASE("comparisons of whole states of this version mean what they meant") {
  logic::WholeRequest request;
  request.vector = vectorOf({{5, 900}, {UINT64_MAX, 3}});
  logic::RangeSum sum;
  sum.range.prefix.bytes[0] = 0xa7;
  sum.range.digits = 2;
  sum.entries = 77;
  sum.sum = filled<decltype(sum.sum)>(9);
  request.ranges = {logic::RangeSum(), sum};
  capnp::MallocMessageBuilder requestNow;
  peer::writeCompare(requestNow.initRoot<schema::ArenaService::CompareParams>(), request);
  Recorded requestThen("message-compare", requestNow);
  auto requestRead = peer::readCompare((*requestThen).getRoot<schema::ArenaService::CompareParams>());

  logic::WholePage answer;
  answer.origin = 8;
  answer.outcomes = {logic::RangeOutcome::Equal, logic::RangeOutcome::Sent, logic::RangeOutcome::Split};
  Entry sent = entry();
  sent.ctx = {};
  answer.page.changes = {{sent, sent.touch}};
  answer.page.done = true;
  answer.page.snapshot = vectorOf({{5, 900}});
  answer.page.trimmed = vectorOf({{5, 3}});
  answer.page.clock = 46;
  capnp::MallocMessageBuilder answerNow;
  peer::writeCompared(answerNow.initRoot<schema::ArenaService::CompareResults>(), answer);
  Recorded answerThen("message-compared", answerNow);
  auto answerRead = peer::readCompared((*answerThen).getRoot<schema::ArenaService::CompareResults>());

  REQUIRE((requestRead.ok() && answerRead.ok()));
  CHECK(requestRead->vector == request.vector);
  REQUIRE(requestRead->ranges.size() == 2);
  CHECK(requestRead->ranges[1].range.prefix == sum.range.prefix);
  CHECK(requestRead->ranges[1].range.digits == 2);
  CHECK(requestRead->ranges[1].entries == 77);
  CHECK(requestRead->ranges[1].sum == sum.sum);
  CHECK(answerRead->origin == 8);
  CHECK(answerRead->outcomes == answer.outcomes);
  REQUIRE(answerRead->page.changes.size() == 1);
  CHECK(answerRead->page.changes[0].entry == sent);
  CHECK(answerRead->page.snapshot == answer.page.snapshot);
  CHECK(answerRead->page.trimmed == answer.page.trimmed);
  CHECK(answerRead->page.clock == 46);
}
