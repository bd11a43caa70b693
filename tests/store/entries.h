#pragma once

// Makes entries and records for the store's tests.

#include <string>

#include "librealize/model/tree_store.h"

namespace realize::test {

inline BlobId blobNumber(uint64_t n) {
  BlobId out;
  for (int i = 0; i < 8; ++i) out.bytes[i] = uint8_t((n * 0x9e3779b97f4a7c15) >> (8 * i));
  for (int i = 0; i < 8; ++i) out.bytes[8 + i] = uint8_t(n >> (8 * i));
  return out;
}

/// A shown file or directory, written once by `origin` at `seq`.
inline logic::Record recordFor(const EntryId& parent, const std::string& name, EntryKind kind, Origin origin,
                               uint64_t seq) {
  logic::Record r;
  r.entry.id = entryIdFor(parent, name, kind, 0);
  r.entry.kind = kind;
  r.entry.live = {{origin, seq}};
  Version v;
  v.mode = 0644;
  v.mtimeNs = 1'700'000'000'000'000'000 + int64_t(seq);
  v.writtenNs = v.mtimeNs;
  v.stamp = {seq, origin};
  v.author.bytes[0] = uint8_t(origin);
  if (kind == EntryKind::File) {
    v.blob = blobNumber(seq);
    v.sizeBytes = 4096;
  }
  if (kind == EntryKind::Symlink) v.linkTarget = "target";
  r.entry.heads = {{{origin, seq}, v}};
  r.entry.place = {{seq, origin}, parent, name, parent, name};
  r.entry.touch.join(Dot{origin, seq});
  r.shown = true;
  r.shownParent = parent;
  r.shownBase = name;
  r.shownName = name;
  return r;
}

}  // namespace realize::test
