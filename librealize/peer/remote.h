#pragma once

// One arena between two peers, in plain values: what session.cc carries over Cap'n Proto and the simulator over its
// fake link. `RemoteArena` is the other peer as we see it, `ArenaService` is what we answer it.

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "librealize/logic/tree.h"
#include "librealize/model/blob.h"
#include "librealize/model/tree.h"
#include "realize/result.h"

namespace realize::peer {

/// What a peer says of its own copy of an arena. Everything in `vector` is durable there.
struct ArenaState {
  Origin origin = 0;
  VersionVector vector;
  VersionVector trimmed;
  logic::TreeDigest digest;   ///< of the visible tree
  uint64_t missingFiles = 0;  ///< marked real there, not there yet
  uint64_t missingBytes = 0;
  bool settling = false;      ///< local changes seen and not read yet, or received changes not applied to its folder
  bool suspended = false;
  bool operator==(const ArenaState&) const = default;
};

using PullRequest = logic::PageRequest;  ///< the bounds of a page are the server's
using PullPage = logic::ChangePage;

/// A blob up to this size may be asked for as a whole, and is verified as a whole: no chunk list is needed.
constexpr uint64_t kMaxWholeBytes = 256 << 10;

/// Chunks of one blob. `chunks` empty: the whole blob, in one piece (number 0).
struct BlobWant {
  BlobId blob;
  uint64_t sizeBytes = 0;
  std::vector<uint32_t> chunks;
};

enum class WantStatus : uint8_t {
  Sent,
  Missing,     ///< not here and (if asked to relay) not to be had
  Unreadable,  ///< it should be here, but its file could not be read as it was
};

/// One chunk of `wants[item]`, not yet verified by anyone. The bytes are lent for the call.
struct ChunkArrival {
  uint32_t item = 0;
  uint32_t chunk = 0;
  std::span<const std::byte> bytes;
};
using ChunkArrivals = std::span<const ChunkArrival>;  ///< what travels together
/// Called on pool threads, several at once.
using OnChunks = std::function<void(ChunkArrivals)>;
/// False once the connection is gone. Called on pool threads, several at once.
using ChunkSink = std::function<bool(ChunkArrivals)>;

struct GetRequest {
  std::vector<BlobWant> wants;
  bool interactive = false;
  /// How many further peers may be asked on our behalf (a chain); 0: only what is there.
  uint8_t hops = 0;
};

/// An entry with a content that it shows.
struct EntryContent {
  EntryId entry;
  BlobId blob;
};

/// What a peer says that is asked to keep a content real.
enum class KeepAnswer : uint8_t {
  Refused,       ///< for a reason that it does not say
  Promised,
  NotReal,       ///< the entry is not marked real there
  Incomplete,    ///< its bytes are not all there yet
  OtherVersion,  ///< another content is there, or the entry is not known
  Changing,      ///< it was changed or put there a moment ago
  Suspended,     ///< the arena is
};

struct KeepAnswers {
  std::vector<KeepAnswer> each;
  uint32_t copies = 1;  ///< so many peers are to keep each file, if it is for who answers
};

/// Who lacks these contents, of those that have the same tree?
struct LackRequest {
  VersionVector vector;
  logic::TreeDigest digest;
  std::vector<BlobId> blobs;   ///< at most kMaxWantsPerGet
  std::set<PeerKey> asked;     ///< by others; at most kMaxAsked
};
constexpr size_t kMaxAsked = 4096;

constexpr size_t kMaxWantsPerGet = 512;
constexpr uint64_t kMaxBytesPerGet = 8u << 20;

/// Thread: call from the core; answers come on the core (posted), but `onChunks` comes on a pool thread, several at
/// once. Each `done` exactly once; after the connection is lost, with Unreachable.
class RemoteArena {
 public:
  virtual ~RemoteArena() = default;
  virtual PeerKey key() const = 0;
  virtual void announce(const ArenaState& state) = 0;
  /// With `barrier`, the other side first reads all local changes that its watch has queued.
  virtual void askState(bool barrier, std::function<void(Result<ArenaState>)> done) = 0;
  virtual void pull(const PullRequest& request, std::function<void(Result<PullPage>)> done) = 0;
  virtual void compare(const logic::WholeRequest& request, std::function<void(Result<logic::WholePage>)> done) = 0;
  virtual void chunkList(const BlobId& blob, uint8_t hops, std::function<void(Result<ChunkList>)> done) = 0;
  /// Returns a number for cancel(). `done` comes after the last onChunks has returned.
  virtual uint64_t get(const GetRequest& request, OnChunks onChunks,
                       std::function<void(Result<std::vector<WantStatus>>)> done) = 0;
  virtual void cancel(uint64_t request) = 0;
  /// Asks for a promise to keep these entries real with these contents for a while (kPromiseMs from when it is given), or
  /// until release(). One answer each.
  virtual void promise(const std::vector<EntryContent>& asked, std::function<void(Result<KeepAnswers>)> done) = 0;
  /// What was promised is needed no more. Not answered; lost with the connection.
  virtual void release(const std::vector<EntryContent>& promised) = 0;
  /// Which of these it has real, with these contents. At most kMaxWantsPerGet.
  virtual void holds(const std::vector<EntryContent>& asked, std::function<void(Result<std::vector<bool>>)> done) = 0;
  /// Who says of itself that it has the same tree, with nothing settling, and none of these contents whole: it, and beyond
  /// `asked` whoever it hears that from in turn. Nobody, where it cannot say so of itself.
  virtual void lacking(const LackRequest& request, std::function<void(Result<std::set<PeerKey>>)> done) = 0;
};

constexpr int64_t kPromiseMs = 60'000;

/// Thread: call on the core (the session posts there); `done` on any thread.
class ArenaService {
 public:
  virtual ~ArenaService() = default;
  virtual void onAnnounce(const PeerKey& from, const ArenaState& state) = 0;
  virtual void serveState(const PeerKey& from, bool barrier, std::function<void(Result<ArenaState>)> done) = 0;
  virtual Result<PullPage> servePull(const PeerKey& from, const PullRequest& request) = 0;
  virtual Result<logic::WholePage> serveCompare(const PeerKey& from, const logic::WholeRequest& request) = 0;
  virtual void serveChunkList(const PeerKey& from, const BlobId& blob, uint8_t hops,
                              std::function<void(Result<ChunkList>)> done) = 0;
  virtual void serveGet(const PeerKey& from, const GetRequest& request, ChunkSink sink,
                        std::function<void(Result<std::vector<WantStatus>>)> done) = 0;
  virtual void servePromise(const PeerKey& from, const std::vector<EntryContent>& asked,
                            std::function<void(Result<KeepAnswers>)> done) = 0;
  virtual void onRelease(const PeerKey& from, const std::vector<EntryContent>& promised) = 0;
  virtual Result<std::vector<bool>> serveHolds(const PeerKey& from, const std::vector<EntryContent>& asked) = 0;
  virtual void serveLacking(const PeerKey& from, const LackRequest& request, std::function<void(Result<std::set<PeerKey>>)> done) = 0;

  /// A session for this arena is up or gone. `remote` is valid until disconnected() returns.
  virtual void connected(RemoteArena& remote) = 0;
  virtual void disconnected(const PeerKey& key) = 0;
};

}  // namespace realize::peer
