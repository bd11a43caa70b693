#include "librealize/model/codec.h"

#include <algorithm>
#include <unordered_map>

namespace realize {

void ByteWriter::number(uint64_t n) {
  char bytes[10];
  size_t size = 0;
  while (n >= 0x80) {
    bytes[size++] = char(0x80 | (n & 0x7f));
    n >>= 7;
  }
  bytes[size++] = char(n);
  out_.append(bytes, size);
}

void ByteWriter::fixed64(uint64_t n) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = char(n >> (8 * i));
  out_.append(bytes, sizeof(bytes));
}

void ByteWriter::vector(const VersionVector& v) {
  number(v.size());
  for (const auto& [origin, seq] : v.items()) {
    fixed64(origin);
    number(seq);
  }
}

uint64_t ByteReader::longNumber(uint64_t max) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    uint8_t b = byte();
    if (failed_) return 0;
    if ((shift == 63 && b > 1) || (b == 0 && shift > 0)) break;  // Too large, or not the shortest form.
    value |= uint64_t(b & 0x7f) << shift;
    if (b & 0x80) continue;
    if (value > max) break;
    return value;
  }
  fail();
  return 0;
}

uint64_t ByteReader::fixed64() {
  std::string_view b = take(8);
  uint64_t n = 0;
  for (size_t i = 0; i < b.size(); ++i) n |= uint64_t(uint8_t(b[i])) << (8 * i);
  return n;
}

int64_t ByteReader::signedNumber() {
  uint64_t n = number(UINT64_MAX);
  return int64_t(n >> 1) ^ -int64_t(n & 1);
}

std::string ByteReader::text(size_t maxBytes) {
  return std::string(take(number(maxBytes)));
}

size_t ByteReader::count(size_t max, size_t bytesEach) {
  size_t n = number(max);
  if (n * bytesEach > bytes_.size()) {
    fail();
    return 0;
  }
  return n;
}

VersionVector ByteReader::vector() {
  VersionVector out;
  Origin last = 0;
  for (size_t n = count(kMaxOrigins, 9); n > 0; --n) {
    Origin origin = fixed64();
    uint64_t seq = number(kMaxCount);
    if (origin <= last || seq == 0) fail();
    if (failed_) return {};
    out.set(origin, seq);
    last = origin;
  }
  return out;
}

namespace {

constexpr uint8_t kFormat = 1;
constexpr size_t kLikelyEntryBytes = 256;  ///< as a file's with a name of middle length

/// Different values, in order of first use.
template <typename Value>
class Table {
 public:
  const std::vector<Value>& values() const { return values_; }
  size_t of(const Value& value) {
    if (last_ < values_.size() && values_[last_] == value) return last_;  // As for most.
    return last_ = find(value);
  }

 private:
  static constexpr size_t kFew = 8;  // Are looked at one by one.
  size_t find(const Value& value) {
    if (values_.size() < kFew) {
      const size_t at = size_t(std::find(values_.begin(), values_.end(), value) - values_.begin());
      if (at < values_.size()) return at;
    } else {
      if (index_.empty())
        for (size_t at = 0; at < values_.size(); ++at) index_.emplace(values_[at], at);
      auto [it, fresh] = index_.try_emplace(value, values_.size());
      if (!fresh) return it->second;
    }
    values_.push_back(value);
    return values_.size() - 1;
  }
  std::vector<Value> values_;
  std::unordered_map<Value, size_t> index_;  ///< of all, where they are more than a few
  size_t last_ = 0;
};

/// Of a message.
struct Tables {
  Table<Origin> origins;
  Table<PeerKey> keys;
};

class EntryWriter {
 public:
  Tables tables;

  void entry(ByteWriter& w, const Entry& e) {
    w.fixed(e.id);
    w.byte(uint8_t(e.kind));
    dots(w, e.live);
    w.number(e.heads.size());
    for (const auto& [d, version] : e.heads) {
      dot(w, d);
      write(w, e.kind, version);
    }
    w.number(e.tombs.size());
    for (const auto& [d, gone] : e.tombs) {
      dot(w, d);
      dots(w, gone);
    }
    place(w, e.place);
    vector(w, e.touch);
    vector(w, e.ctx);
    w.number(e.replaced.size());
    for (const auto& blob : e.replaced) w.fixed(blob);
  }
  void vector(ByteWriter& w, const VersionVector& v) {
    w.number(v.size());
    for (const auto& [origin, seq] : v.items()) dot(w, {origin, seq});
  }
  void header(ByteWriter& w) const {
    w.byte(kFormat);
    w.number(tables.origins.values().size());
    for (Origin o : tables.origins.values()) w.fixed64(o);
    w.number(tables.keys.values().size());
    for (const auto& k : tables.keys.values()) w.fixed(k);
  }

 private:
  void dot(ByteWriter& w, Dot d) {
    w.number(tables.origins.of(d.origin));
    w.number(d.seq);
  }
  void dots(ByteWriter& w, const std::vector<Dot>& ds) {
    w.number(ds.size());
    for (Dot d : ds) dot(w, d);
  }
  void stamp(ByteWriter& w, const Stamp& s) { dot(w, {s.origin, s.clock}); }
  // The parts that are zero for most versions are left out, by a byte of flags.
  void write(ByteWriter& w, EntryKind kind, const Version& v) {
    bool hardLink = !v.target.isZero();
    w.byte(hardLink ? 1 : 0);
    if (hardLink) w.fixed(v.target);
    if (kind == EntryKind::File && !hardLink) {
      w.fixed(v.blob);
      w.number(v.sizeBytes);
    }
    if (kind == EntryKind::Symlink) w.text(v.linkTarget);
    w.number(v.mode);
    w.signedNumber(v.mtimeNs);
    stamp(w, v.stamp);
    w.number(tables.keys.of(v.author));
    w.signedNumber(v.writtenNs);
  }
  void place(ByteWriter& w, const Place& p) {
    stamp(w, p.stamp);
    w.fixed(p.parent);
    w.text(p.name);
    bool sameParent = p.oldParent == p.parent, rootParent = p.oldParent == kRootEntry, sameName = p.oldName == p.name;
    w.byte(uint8_t((sameParent ? 0 : rootParent ? 1 : 2) | (sameName ? 0 : 4)));
    if (!sameParent && !rootParent) w.fixed(p.oldParent);
    if (!sameName) w.text(p.oldName);
  }
};

class EntryReader {
 public:
  explicit EntryReader(std::string_view bytes) : r(bytes) {}
  ByteReader r;

  /// False for a format this program does not know.
  bool header() {
    if (r.byte() != kFormat) return false;
    size_t n = r.count(kMaxOrigins, 8);
    for (origins_.reserve(n); n > 0 && !r.failed(); --n) {
      origins_.push_back(r.fixed64());
      if (origins_.back() == 0) r.fail();
    }
    n = r.count(kMaxOrigins, PeerKey::size());
    for (keys_.reserve(n); n > 0 && !r.failed(); --n) {
      keys_.push_back(r.fixed<32, PeerKeyTag>());
    }
    return true;
  }

  Entry entry() {
    Entry e;
    e.id = r.fixed<16, EntryTag>();
    if (e.id == kRootEntry) r.fail();
    uint8_t kind = r.byte();
    if (kind > uint8_t(EntryKind::Symlink)) r.fail();
    if (r.failed()) return e;
    e.kind = EntryKind(kind);
    e.live = dots();
    for (size_t n = r.count(kMaxDots, 8); n > 0 && !r.failed(); --n) {
      Dot d = dot();
      if (!e.heads.empty() && d <= e.heads.back().first) r.fail();
      e.heads.emplace_back(d, version(e.kind));
    }
    for (size_t n = r.count(kMaxDots, 3); n > 0 && !r.failed(); --n) {
      Dot d = dot();
      if (!e.tombs.empty() && d <= e.tombs.back().first) r.fail();
      e.tombs.emplace_back(d, dots());
    }
    e.place = place();
    if (e.place.parent == e.id) r.fail();
    e.touch = vector();
    e.ctx = vector();
    for (size_t n = r.count(kReplacedKept, BlobId::size()); n > 0 && !r.failed(); --n) {
      e.replaced.push_back(r.fixed<32, BlobTag>());
    }
    // Every dot of the state is one of the changes that touched it; an entry nobody touched cannot be asked for.
    if (e.touch.empty()) r.fail();
    return e;
  }
  VersionVector vector() {
    VersionVector out;
    Origin last = 0;
    for (size_t n = r.count(kMaxOrigins, 2); n > 0 && !r.failed(); --n) {
      Dot d = dot();
      if (d.origin <= last) r.fail();
      last = d.origin;
      out.set(d.origin, d.seq);
    }
    return out;
  }

 private:
  Dot dot() {
    uint64_t index = r.number(kMaxOrigins);
    uint64_t seq = r.number(kMaxCount);
    if (index >= origins_.size() || seq == 0) {
      r.fail();
      return {};
    }
    return {origins_[index], seq};
  }
  std::vector<Dot> dots() {
    std::vector<Dot> out;
    size_t n = r.count(kMaxDots, 2);
    for (out.reserve(n); n > 0 && !r.failed(); --n) {
      Dot d = dot();
      if (!out.empty() && d <= out.back()) r.fail();
      out.push_back(d);
    }
    return out;
  }
  Stamp stamp() {
    Dot d = dot();
    return {d.seq, d.origin};
  }
  std::string name() {
    std::string n = r.text(255);
    if (!isValidName(n)) r.fail();
    return n;
  }
  Version version(EntryKind kind) {
    Version v;
    uint8_t flags = r.byte();
    if (flags > 1 || (flags == 1 && kind != EntryKind::File)) r.fail();
    if (flags == 1) {
      v.target = r.fixed<16, EntryTag>();
      if (v.target.isZero()) r.fail();
    }
    if (kind == EntryKind::File && flags == 0) {
      v.blob = r.fixed<32, BlobTag>();
      v.sizeBytes = r.number(kMaxCount);
    }
    if (kind == EntryKind::Symlink) {
      v.linkTarget = r.text(kMaxLinkTargetBytes);
      if (v.linkTarget.empty() || v.linkTarget.find('\0') != std::string::npos) r.fail();
    }
    v.mode = uint32_t(r.number(kind == EntryKind::Directory ? 01777 : 0777));
    v.mtimeNs = r.signedNumber();
    v.stamp = stamp();
    uint64_t key = r.number(kMaxOrigins);
    if (key >= keys_.size()) r.fail();
    else v.author = keys_[key];
    v.writtenNs = r.signedNumber();
    return v;
  }
  Place place() {
    Place p;
    p.stamp = stamp();
    p.parent = r.fixed<16, EntryTag>();
    p.name = name();
    uint8_t flags = r.byte();
    if (flags > 7 || (flags & 3) == 3) r.fail();
    p.oldParent = (flags & 3) == 0 ? p.parent : (flags & 3) == 1 ? kRootEntry : r.fixed<16, EntryTag>();
    p.oldName = flags & 4 ? name() : p.name;
    return p;
  }

  std::vector<Origin> origins_;
  std::vector<PeerKey> keys_;
};

Error corrupt(const char* what) { return {Code::Corrupt, std::string("a damaged ") + what}; }
Error newer(const char* what) {
  return {Code::WrongVersion, std::string(what) + " in a format of a newer program"};
}

}  // namespace

std::string encodeVector(const VersionVector& vector) {
  ByteWriter w;
  w.byte(kFormat);
  w.vector(vector);
  return w.take();
}

Result<VersionVector> decodeVector(std::string_view bytes) {
  ByteReader r(bytes);
  if (r.byte() != kFormat) return bytes.empty() ? corrupt("vector") : newer("a vector");
  VersionVector v = r.vector();
  if (!r.finished()) return corrupt("vector");
  return v;
}

std::string encodeEntry(const Entry& entry) {
  EntryWriter e;
  ByteWriter body(kLikelyEntryBytes), out(kLikelyEntryBytes);
  e.entry(body, entry);
  e.header(out);
  out.raw(body.take());
  return out.take();
}

Result<Entry> decodeEntry(std::string_view bytes) {
  EntryReader e(bytes);
  if (!e.header()) return bytes.empty() ? corrupt("entry") : newer("an entry");
  Entry entry = e.entry();
  if (!e.r.finished()) return corrupt("entry");
  return entry;
}

std::string encodeChanges(const std::vector<Change>& changes) {
  EntryWriter e;
  ByteWriter vectors, body(changes.size() * kLikelyEntryBytes), out(changes.size() * kLikelyEntryBytes);
  // Within a page nearly all were seen up to the same point; looking far back would be quadratic where not.
  constexpr size_t kLookBack = 8;
  std::vector<const VersionVector*> seen;
  for (const auto& change : changes) {
    size_t index = seen.size() > kLookBack ? seen.size() - kLookBack : 0;
    while (index < seen.size() && *seen[index] != change.seen) ++index;
    if (index == seen.size()) {
      seen.push_back(&change.seen);
      e.vector(vectors, change.seen);
    }
    body.number(index);
    e.entry(body, change.entry);
  }
  e.header(out);
  out.number(seen.size());
  out.raw(vectors.take());
  out.number(changes.size());
  out.raw(body.take());
  return out.take();
}

Result<std::vector<Change>> decodeChanges(std::string_view bytes) {
  EntryReader e(bytes);
  if (!e.header()) return bytes.empty() ? corrupt("batch of changes") : newer("a batch of changes");
  std::vector<VersionVector> seen;
  for (size_t n = e.r.count(kMaxPageChanges, 1); n > 0 && !e.r.failed(); --n) seen.push_back(e.vector());
  std::vector<Change> out;
  for (size_t n = e.r.count(kMaxPageChanges, 32); n > 0 && !e.r.failed(); --n) {
    uint64_t index = e.r.number(kMaxPageChanges);
    Change change;
    change.entry = e.entry();
    if (index >= seen.size() || !change.entry.ctx.empty()) e.r.fail();
    if (e.r.failed()) break;
    change.seen = seen[index];
    // What its sender holds of an entry, its sender has seen.
    if (!change.seen.geq(change.entry.touch)) e.r.fail();
    out.push_back(std::move(change));
  }
  if (!e.r.finished()) return corrupt("batch of changes");
  return out;
}

std::string encodeAcks(const std::map<PeerKey, VersionVector>& acks) {
  ByteWriter w;
  w.byte(kFormat);
  w.number(acks.size());
  for (const auto& [peer, vector] : acks) {
    w.fixed(peer);
    w.vector(vector);
  }
  return w.take();
}

Result<std::map<PeerKey, VersionVector>> decodeAcks(std::string_view bytes) {
  ByteReader r(bytes);
  if (r.byte() != kFormat) return bytes.empty() ? corrupt("list of acknowledgements") : newer("a list of acknowledgements");
  std::map<PeerKey, VersionVector> out;
  for (size_t n = r.count(kMaxOrigins, PeerKey::size() + 1); n > 0 && !r.failed(); --n) {
    PeerKey key = r.fixed<32, PeerKeyTag>();
    if (!out.empty() && key <= out.rbegin()->first) r.fail();
    out[key] = r.vector();
  }
  if (!r.finished()) return corrupt("list of acknowledgements");
  return out;
}

}  // namespace realize
