#pragma once

// A content that is being read or fetched, and who waits for it. Core state, but for what has a lock.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "librealize/model/blob.h"
#include "librealize/peer/blob_layout.h"
#include "librealize/peer/transfers.h"
#include "librealize/peer/unwritten.h"
#include "librealize/store/blob_table.h"

namespace realize::peer {

/// What pool threads have written and the core has not taken note of yet.
struct Arrivals {
  std::mutex mutex;
  std::vector<uint32_t> pieces;
  std::vector<uint32_t> writing;  ///< not yet among `pieces`; perhaps of a request that has ended
  bool posted = false;
};

/// Pieces of a cache file that pool jobs read now: they are not dropped under them.
struct PieceLeases {
  std::mutex mutex;
  std::map<uint32_t, uint32_t> readers;  ///< by piece
};

/// Somebody waits for a range of an Unreal content.
struct Waiter {
  uint64_t number = 0;
  uint64_t offset = 0;
  uint64_t end = 0;
  std::function<void(Result<Bytes>)> done;
  uint8_t hops = 0;  ///< how many further peers may be asked on behalf of those that we ask
};

constexpr uint8_t kRelayHops = 2;

/// Somebody wants all of it.
struct WholeWaiter {
  uint64_t number = 0;
  std::function<void(uint64_t)> progress;
  std::function<void(Result<void>)> done;
  FetchFor why = FetchFor::Cache;
};

/// A read of more than the cache has room for at once: step by step.
struct Gathering {
  uint64_t number = 0;
  std::shared_ptr<BlobState> blob;
  uint64_t at = 0;
  uint64_t end = 0;
  uint8_t hops = 0;
  Bytes bytes;
  std::function<void(Result<Bytes>)> done;
};

/// Shared by all who have a content open.
struct OpenUse {
  std::mutex mutex;
  /// Of a Real file: the piece that was verified last, as reads are shorter than pieces.
  uint32_t piece = 0;
  std::shared_ptr<const Bytes> bytes;
  /// Core: where the bytes come from that the Real file does not have any more.
  OpenBlob instead;
};

/// A content being read or fetched.
struct BlobState {
  BlobId blob;
  uint64_t sizeBytes = 0;
  std::shared_ptr<const BlobLayout> layout;  ///< null while the chunk list is not known
  bool listAsked = false;
  std::shared_ptr<DiskFile> file;  ///< the sparse cache file, or a Real file that has the content
  bool real = false;               ///< `file` is a Real file: all was there, and each piece is verified as it is read
  std::vector<bool> present;
  uint32_t presentCount = 0;
  uint64_t presentBytes = 0;
  std::map<uint32_t, uint8_t> asked;  ///< pieces under way, and the hops they were asked with
  std::set<uint32_t> localTried;   ///< looked for among contents already here
  uint32_t gets = 0;               ///< requests under way
  std::shared_ptr<Arrivals> arrivals = std::make_shared<Arrivals>();
  std::vector<Waiter> waiters;
  std::vector<WholeWaiter> wholeWaiters;
  std::map<PeerKey, uint8_t> refused;  ///< has it not, when asked with so many hops + 1
  std::set<PeerKey> exclude;           ///< they wait for it themselves: asked only for what they have
  std::map<PeerKey, uint32_t> relays;  ///< requests under way that the peer may ask others for
  uint64_t readEnd = 0;                ///< where the last read ended, to notice a sequence
  uint64_t aheadBytes = 0;             ///< how far to read ahead
  uint32_t unsavedPieces = 0;          ///< present, and not noted in the database yet
  bool saving = false;
  bool unwritten = false;              ///< a sync of `file` failed: what it shows has to be written once more (unwritten.h)
  bool gone = false;                   ///< its cache file became a Real file: start anew for new users
  bool copied = false;                 ///< a Real file was made beside the cache file, as somebody had this open
  std::shared_ptr<OpenUse> use = std::make_shared<OpenUse>();

  // What the limit of the cache needs (transfers_room.cc)
  uint64_t recordedBytes = 0;          ///< of what is present, noted in the database
  int64_t countedBytes = 0;            ///< counted beside what the database says, with what was asked for
  int64_t lastReadNs = 0;
  /// Larger than the room there is: its file is in tmp/ and keeps only what is being read.
  bool passing = false;
  bool detached = false;               ///< not in Transfers::State::blobs any more: not counted
  uint64_t drops = 0;                  ///< how often pieces of it were dropped
  std::shared_ptr<PieceLeases> leases = std::make_shared<PieceLeases>();

  bool complete() const { return real || (layout && presentCount == layout->pieces()); }
  bool heldOpen() const { return use.use_count() > 1; }
};

/// What of a content is to be noted once it is on the disk.
struct Saving {
  std::shared_ptr<BlobState> blob;
  store::CacheRow row;
  uint64_t drops = 0;  ///< of pieces, until then
  std::function<void(Result<void>)> done;
  std::shared_ptr<DiskFile> file{};  ///< of `blob`, which may get another
  std::vector<ByteRange> again{};    ///< to be written once more before that
  Result<void> synced{};
};

/// A content that is to stay in the cache for an entry.
struct Keeping {
  EntryId entry;
  BlobId blob;
  std::function<void(Result<void>)> done;
};

}  // namespace realize::peer
