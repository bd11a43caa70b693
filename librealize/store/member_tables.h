#pragma once

// Who shares the arena and how far they are, and what happened in it.
// Methods throw DatabaseError; thread rules as in database.h.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "librealize/model/tree.h"
#include "librealize/store/statement.h"

namespace realize::store {

/// One peer admitted to the arena, as far as this peer knows it.
struct MemberRow {
  PeerKey peer;
  bool admitted = true;     ///< false: was a member once
  bool active = true;       ///< inactive ones hold back no trimming (a later issue)
  VersionVector acked;      ///< all it is known to have seen
  Origin origin = 0;        ///< the life of its database that we met last; 0 if never
  int64_t lastSeenNs = 0;   ///< Unix time; 0 if never connected
  uint64_t missingFiles = 0;  ///< marked real there and not there yet, as it said last
  uint64_t missingBytes = 0;
  bool operator==(const MemberRow&) const = default;
};

class MemberTable {
 public:
  explicit MemberTable(Database& db);
  std::optional<MemberRow> get(const PeerKey& peer);
  void put(const MemberRow& row);
  void erase(const PeerKey& peer);
  std::vector<MemberRow> all();

 private:
  Statement get_, put_, erase_, all_;
};

struct HistoryRow {
  uint64_t number = 0;  ///< counts up; given by add()
  int64_t whenNs = 0;   ///< Unix time
  PeerKey peer;         ///< who did it
  std::string what;     ///< "create", "edit", "conflict", "move", "remove", ...
  NodeId node = 0;
  std::string path;     ///< at that time, any bytes
  std::string detail;   ///< a move's old path, say
  EntryKind kind = EntryKind::File;  ///< where `old` is
  std::optional<Version> old{};      ///< what it took away: blob, size, mode, time and link target
  bool operator==(const HistoryRow&) const = default;
};

/// The last kKept things that happened, for people. Not the history that peers exchange: that is in the entries.
class HistoryTable {
 public:
  static constexpr uint64_t kKept = 300'000;  ///< also what a mass removal can be undone by
  explicit HistoryTable(Database& db);
  void add(const HistoryRow& row);
  /// Newest first: what happened to `path` and below it ("" is the root), with numbers less than `before`.
  std::vector<HistoryRow> list(const std::string& path, size_t limit, uint64_t before = UINT64_MAX);
  /// Newest first, under whatever names. Looks through all that is kept.
  std::vector<HistoryRow> ofNode(NodeId node, size_t limit);
  /// Newest first: what took something away since then, at `path` and below it; or with that number, if one is given.
  std::vector<HistoryRow> undoable(const std::string& path, int64_t sinceNs, uint64_t number, size_t limit);
  uint64_t count();

 private:
  uint64_t added_ = 0;
  Statement add_, addOld_, trim_, list_, ofNode_, undoable_, count_;
};

}  // namespace realize::store
