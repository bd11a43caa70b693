#pragma once

// The replicated values of an arena's tree: AGREEMENT.md names each of them.

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "realize/types.h"

namespace realize {

/// 128-bit identity of an entry: a hash of (parent id, name, kind, n), see entryIdFor(). All zero is the root.
using EntryId = FixedBytes<16, struct EntryTag>;
constexpr EntryId kRootEntry{};

/// One life of one peer's database; random, never zero, never reused.
using Origin = uint64_t;

/// Names one change: its author's life and a number that counts up from 1 there.
struct Dot {
  Origin origin = 0;
  uint64_t seq = 0;
  auto operator<=>(const Dot&) const = default;
};

/// What has been seen: for each origin, all sequence numbers up to the one given. Kept sorted by origin.
class VersionVector {
 public:
  uint64_t get(Origin origin) const;
  bool covers(Dot dot) const { return get(dot.origin) >= dot.seq; }
  /// Pointwise at least `other`.
  bool geq(const VersionVector& other) const;
  /// Pointwise maximum with `other`, or with one dot.
  void join(const VersionVector& other);
  void join(Dot dot);
  /// Lowers or removes: for reissue and tests only.
  void set(Origin origin, uint64_t seq);
  bool empty() const { return items_.empty(); }
  size_t size() const { return items_.size(); }
  const std::vector<std::pair<Origin, uint64_t>>& items() const { return items_; }
  bool operator==(const VersionVector&) const = default;

 private:
  std::vector<std::pair<Origin, uint64_t>> items_;
};

/// A logical (Lamport) clock with its author: orders concurrent renames and concurrent directory attributes.
struct Stamp {
  uint64_t clock = 0;
  Origin origin = 0;
  auto operator<=>(const Stamp&) const = default;
};

/// A content and attributes that some peer gave to an entry.
struct Version {
  BlobId blob;               ///< of a file; zero for others
  uint64_t sizeBytes = 0;    ///< of a file
  uint32_t mode = 0;         ///< permission bits, 07777 at most; setuid and setgid are never taken from a peer
  int64_t mtimeNs = 0;       ///< Unix time; shown, never used to decide
  std::string linkTarget;    ///< of a symlink
  EntryId target;            ///< of a hard link: the entry that has the content; zero otherwise
  Stamp stamp;               ///< when and where written (logical); which of equal contents' attributes are shown
  PeerKey author;            ///< who wrote it
  int64_t writtenNs = 0;     ///< Unix time at the author, for people

  /// Same bytes (attributes may differ): equal content is no conflict.
  bool sameContent(const Version& o) const {
    return blob == o.blob && sizeBytes == o.sizeBytes && linkTarget == o.linkTarget && target == o.target;
  }
  bool operator==(const Version&) const = default;
};

/// Of a file's content, for people: 16 digits of its blob, ':' and its size in bytes.
std::string contentText(const Version& version);

/// A claim to a name. The greatest stamp wins; the place shown before is kept for the cycle rule.
struct Place {
  Stamp stamp;
  EntryId parent;
  std::string name;
  EntryId oldParent;
  std::string oldName;
  auto operator<=>(const Place&) const = default;
};

/// The replicated state of one entry (AGREEMENT.md, "State").
struct Entry {
  EntryId id;
  EntryKind kind = EntryKind::File;
  std::vector<Dot> live;                                   ///< sorted
  std::vector<std::pair<Dot, Version>> heads;              ///< sorted by dot
  std::vector<std::pair<Dot, std::vector<Dot>>> tombs;     ///< sorted by dot; inner sorted
  Place place;
  VersionVector touch;
  VersionVector ctx;  ///< seen beyond the peer's vector; empty but after a broken batch
  std::vector<BlobId> replaced;  ///< the last few replaced blobs, newest first, at most kReplacedKept
  bool operator==(const Entry&) const = default;
};
constexpr size_t kReplacedKept = 4;

/// An entry on the wire: its state, with what its sender had seen of it (rule 16).
struct Change {
  Entry entry;  ///< `ctx` empty
  VersionVector seen;
};

/// BLAKE2b-128 over a domain string, parent, kind, n and name. Part of the protocol.
EntryId entryIdFor(const EntryId& parent, const std::string& name, EntryKind kind, uint32_t n);

/// True for a name that a peer may send and a folder may hold: 1 to 255 bytes, no '/', no NUL, not "." or "..",
/// and not ".realize" at any level.
bool isValidName(const std::string& name);

}  // namespace realize
