#pragma once

// What the parts of Transfers share. All of it is core state; pool jobs get shared_ptrs to immutable layouts, to open
// files and to Arrivals.

#include <deque>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "librealize/peer/blob_state.h"
#include "librealize/peer/in_turn.h"
#include "librealize/peer/named_lately.h"
#include "librealize/peer/wish.h"

namespace realize::peer {

struct PlacingGroup;
struct WantedBatch;
struct WantedItem;

constexpr size_t kSyncOneByOne = 4;  ///< files or folders; more are synced with all that is on that disk

inline const Error kStillAside{Code::Busy, "the disk did not let the cached file go back to its name yet"};

struct Transfers::State {
  explicit State(Core& core) : core(core) {}

  Core& core;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  struct Peer {
    RemoteArena* remote = nullptr;
    uint64_t connection = 0;
    uint64_t outstandingBytes = 0;
  };
  std::map<PeerKey, Peer> peers;
  uint64_t connections = 0;
  std::map<BlobId, std::shared_ptr<BlobState>> blobs;
  uint64_t lastNumber = 0;
  bool cleaning = false;
  NamedLately named;

  // transfers_room.cc
  int64_t liveBytes = 0;               ///< of contents in `blobs`, beside what the database says is there
  bool roomAwaited = false;            ///< somebody waits until what is being noted can be dropped
  bool limitLooksSoon = false;
  uint64_t unlinkedAllowedBytes = 0;   ///< when last looked at
  int64_t unlinkedLookedNs = INT64_MIN;  ///< monotonic
  bool expiring = false;
  std::set<uint64_t> gatherings;       ///< by request, not answered or cancelled yet

  // Wanted (transfers_wanted.cc)
  bool wantedAwake = false;
  bool wantedGoesOn = false;
  std::deque<Wish> wishes;      ///< put into the queue lately, and not looked at since
  std::unordered_map<EntryId, Plan> plans;
  bool unseenWanted = true;     ///< the queue may have others than these, what is in flight and what is postponed
  bool roundComplete = true;    ///< so far the round has met nothing else, either
  store::BlobTask wantedAfter;  ///< where the last look at them ended
  uint64_t wantedLooked = 0;    ///< in this round
  Tasks inFlight;
  Tasks postponed;  ///< could not be put in place: tried again with the next retry only
  std::map<BlobId, std::set<PeerKey>> wantedRefused;
  uint32_t smallBatches = 0;
  uint32_t largeFetches = 0;
  uint64_t batchCounter = 0;
  bool retryScheduled = false;
  bool outOfSpace = false;

  void post(std::function<void()> job);  ///< on the core, if still alive

  // transfers.cc
  std::shared_ptr<BlobState> stateOf(const BlobId& blob, uint64_t sizeBytes);
  Result<void> openCacheFile(BlobState& blob);
  Result<void> openToMove(BlobState& blob);
  void dropSpare(const BlobId& blob);
  bool realHere(const BlobId& blob);
  void loadPresent(BlobState& blob);
  void onlyZerosPresent(BlobState& blob);
  void save(const std::shared_ptr<BlobState>& blob, std::function<void(Result<void>)> done);
  void saveNext();
  void saved(const std::vector<Saving>& group);
  std::vector<Saving> toSave;
  uint32_t savesUnderWay = 0;  ///< groups
  void cleanSoon();
  void clean();
  void forgetIdle();
  bool idle(const std::shared_ptr<BlobState>& blob) const;
  void startRead(uint64_t number, const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end, uint8_t hops,
                 std::function<void(Result<Bytes>)> done);
  void problem(const std::string& path, const std::string& kind, const std::string& detail);

  // transfers_open.cc
  void readOpen(uint64_t number, const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end,
                std::function<void(Result<Bytes>)> done);
  void readReal(uint64_t number, const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end,
                std::function<void(Result<Bytes>)> done);

  // transfers_fetch.cc
  void pump(const std::shared_ptr<BlobState>& blob);
  void askList(const std::shared_ptr<BlobState>& blob);
  bool askPieces(const std::shared_ptr<BlobState>& blob, const std::vector<uint32_t>& pieces, bool interactive);
  bool copyLocal(const std::shared_ptr<BlobState>& blob, const std::vector<uint32_t>& pieces);
  std::vector<uint32_t> needed(BlobState& blob, bool& interactive);
  void takeArrivals(const std::shared_ptr<BlobState>& blob);
  void answer(const std::shared_ptr<BlobState>& blob);
  void failWaiters(const std::shared_ptr<BlobState>& blob, const Error& error);
  void readNow(const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end, std::function<void(Result<Bytes>)> done);
  /// The connected peer to ask next: least loaded of those that have not refused. Null: none is left.
  Peer* choose(BlobState& blob, uint8_t& hops);
  bool waitsLonger(const BlobState& blob, const std::vector<uint32_t>& pieces, uint8_t hops) const;
  void failShortWaiters(const std::shared_ptr<BlobState>& blob, uint8_t hops);
  uint64_t readFor(const std::shared_ptr<BlobState>& blob, uint64_t offset, uint64_t end, uint8_t hops,
                   std::function<void(Result<Bytes>)> done, uint64_t number = 0);
  void corrupt(const PeerKey& from, const BlobId& blob);
  void sentRight(const PeerKey& from, const BlobId& blob);

  // transfers_room.cc: the limit of the cache
  bool limited();
  uint64_t usedBytes();
  uint64_t allowedBytes(uint64_t wantedBytes);
  void recount(BlobState& blob);
  void forget(const BlobId& blob);
  void handOver(const std::shared_ptr<BlobState>& old);
  bool pinned(const BlobId& blob);
  std::vector<EntryId> pinners(const BlobId& blob, bool settling = false);
  bool pinsNamed = false;  ///< no more pins of earlier versions
  std::map<BlobId, std::vector<EntryId>> claimed;
  bool evictable(const BlobId& blob);
  bool drop(const BlobId& blob, bool noted);
  uint64_t evict(uint64_t bytes, int64_t readBeforeNs = INT64_MAX, bool kept = false);
  uint64_t makeRoom(uint64_t bytes, const std::shared_ptr<BlobState>& blob, bool kept = false);
  bool fitIn(const std::shared_ptr<BlobState>& blob, std::vector<uint32_t>& pieces);
  uint64_t dropPieces(const std::shared_ptr<BlobState>& blob, uint64_t bytes);
  bool beginPassing(BlobState& blob);
  void endPassing(BlobState& blob);
  bool keepLimit();
  void pumpWaiting(const BlobState* except);
  void gather(std::shared_ptr<Gathering> gathering);
  uint64_t stepEnd(const BlobState& blob, uint64_t at, uint64_t end);
  static bool allHere(const BlobState& blob, uint64_t offset, uint64_t end);
  static std::shared_ptr<void> lease(const BlobState& blob, uint32_t first, uint32_t last);

  // transfers_unlinked.cc
  uint64_t unlinkedAllowed();
  void evictUnlinked(uint64_t bytes, int64_t olderThanNs);
  void keepUnlinkedLimit();
  void expireLater();

  // transfers_wanted.cc
  void pumpWanted(bool again = false);
  void pumpSoon();
  bool busy() const;
  bool begin(WantedPump& pump, const Wish& wish);
  void flushSmall(WantedPump& pump);
  size_t goRound(WantedPump& pump);
  void lookAgainAtWanted() { unseenWanted = true, roundComplete = false; }
  void startSmall(std::shared_ptr<WantedBatch> batch);
  void finishSmall(std::shared_ptr<WantedBatch> batch, const PeerKey& from, std::vector<WantStatus> statuses);
  std::vector<std::shared_ptr<WantedBatch>> written;  ///< and not synced
  bool syncing = false;
  void syncWritten();
  const Plan* planOf(const WantedItem& item);
  void startLarge(NodeId node, const BlobId& blob, uint64_t sizeBytes);
  void placeLarge(NodeId node, const std::shared_ptr<BlobState>& blob);
  void placeFailed(NodeId node, const std::shared_ptr<BlobState>& blob, const Error& error);
  void settleFailed(NodeId node, const BlobId& blob, const Error& error);
  void retryLater(int64_t delayMs);

  // transfers_placing.cc
  std::deque<std::shared_ptr<WantedBatch>> arrived;  ///< synced
  std::vector<std::shared_ptr<PlacingGroup>> placing;  ///< with the pool
  std::shared_ptr<InTurn> putting = std::make_shared<InTurn>();  ///< a disk renames one at a time
  void placeSmall(const std::vector<std::shared_ptr<WantedBatch>>& batches);
  std::vector<std::function<void()>> afterPlacing;
  void placeNext(std::shared_ptr<PlacingGroup> finished);
  std::function<void()> putLater(const std::shared_ptr<PlacingGroup>& group);
  void placeMore(), placeSoon(), runAfterPlacing();
  void isReal(const store::BlobTask& task, const std::string& path);
  bool noteAndPut(PlacingGroup* finished, const std::shared_ptr<PlacingGroup>& group);
  void notePlacing(const PlacingGroup& next);
  void prepareNew(PlacingGroup& group, std::vector<WantedItem>& others);
  std::vector<WantedItem> noteNew(PlacingGroup& group);
  void letGo(const PlacingGroup& group);
  void placeOthers(std::vector<WantedItem>& items);
  /// The head that the file with this content would be put in place for.
  std::optional<std::pair<EntryId, Dot>> headToPlace(NodeId node, const BlobId& blob);
  /// Puts the file in place for the entry, or in the cache for a head that is not shown. False: it is still at
  /// `tempPath`, as nothing asks for it any more, or where it belongs. `known`: as for Folder::place.
  Result<bool> settle(NodeId node, const BlobId& blob, uint64_t sizeBytes, const std::string& tempPath,
                      const FileStat* known = nullptr);

  // transfers_real.cc
  void keepSoon(const EntryId& entry, const BlobId& blob, std::function<void(Result<void>)> done);
  std::vector<Keeping> keeping;
  Result<void> noteAndPlace(const EntryId& id, Dot dot, const std::string& temp);
  void giveSpaceBack(const BlobId& blob, int tries);
  void placeCopy(const EntryId& id, Dot dot, const BlobId& blob, uint64_t sizeBytes, std::function<void(Result<void>)> done);

  // transfers_serve.cc
  /// As Transfers::serveGet, with the chunk lists that are to be had here.
  void serveListed(const PeerKey& from, const GetRequest& request, ChunkSink sink,
                   std::function<void(Result<std::vector<WantStatus>>)> done);
  struct Source {
    std::string path;                      ///< of a Real file in the backing folder
    std::optional<store::DiskRow> row;     ///< what it must still be
    std::shared_ptr<BlobState> cached;
    std::shared_ptr<void> lease{};         ///< of the pieces of `cached` that were asked for
    std::shared_ptr<DiskFile> file{};      ///< of `cached`, which may get another
  };
  std::optional<Source> sourceAt(store::DiskRow row);
  std::optional<Source> sourceOf(const BlobId& blob, const std::vector<uint32_t>& pieces);
  std::optional<ChunkList> knownList(const BlobId& blob);

  // transfers_local.cc
  bool startLocal(WantedPump& pump, const store::BlobTask& task);
  bool neededHereOnly(const store::BlobTask& task);
  bool spareInCache(const store::BlobTask& task);
  bool copyRather(const BlobState& blob);
  void copyFrom(std::optional<Source> source, const store::BlobTask& task);
  void copied(const store::BlobTask& task, const std::string& tempPath, const std::shared_ptr<BlobState>& from, Result<void> outcome);
  Result<bool> noteAndSettle(const store::BlobTask& task, const std::string& tempPath);
  void flushMoves(WantedPump& pump);
  /// Complete files whose bytes are synced become files in the user's folder; new readers start anew.
  void moveFromCache(const std::vector<store::BlobTask>& tasks);
  bool syncNames(Directory& root, const std::vector<NodeId>& nodes);
};

/// Opens the Real file that a disk row describes and checks that it is still that, for who verifies what he reads: a link to
/// it, which nothing tells of, changes its ctime. Thread: any.
Result<std::shared_ptr<DiskFile>> openUnchanged(Directory& root, const std::string& path, const store::DiskRow& row);

}  // namespace realize::peer
