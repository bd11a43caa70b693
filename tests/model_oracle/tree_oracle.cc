// Plays a script of steps on peers with logic::Tree, for compare_with_model.py. One command a line on stdin, one answer
// a line on stdout; ids in hexadecimal, the root as "root". See `run` below for the commands.

#include <iostream>
#include <memory>
#include <sstream>

#include "librealize/base/hash.h"
#include "librealize/logic/tree.h"
#include "librealize/model/codec.h"
#include "tests/support/memory_tree_store.h"
#include "tests/support/plain_view.h"

using namespace realize;
using namespace realize::logic;

namespace {

struct StillClock : Clock {
  int64_t nowNs() override { return 0; }
  int64_t monotonicNs() override { return 0; }
  int64_t elapsedNs() override { return 0; }
};

// Origins as the model orders them: by peer, then by life.
struct Lives : Random {
  uint64_t next = 0;
  void fill(std::span<uint8_t> out) override {
    for (size_t i = 0; i < out.size(); ++i) out[i] = i < 8 ? uint8_t(next >> (8 * i)) : 0;
  }
};

struct OraclePeer {
  PeerKey key;
  Lives lives;
  MemoryTreeStore store;
  std::unique_ptr<Tree> tree;
  std::unique_ptr<MemoryTreeStore> backup;
  uint64_t life = 0;
  std::map<PeerKey, WholeState> wholes;

  uint64_t livesFrom() const { return (key.bytes[0] - 'A' + 1) * uint64_t(1000); }
};

struct World {
  StillClock clock;
  std::vector<std::unique_ptr<OraclePeer>> peers;
  std::map<std::string, std::vector<Dot>> bases;
  std::map<BlobId, std::string> tokens;

  void start(OraclePeer& p) {
    p.tree = std::make_unique<Tree>(p.store, clock, p.lives, p.key);
    p.tree->flush();
  }
  OraclePeer& peer(const std::string& name) { return *peers.at(size_t(name[0] - 'A')); }
};

EntryId idOf(const std::string& text) {
  EntryId id;
  if (text == "root") return id;
  for (size_t i = 0; i < EntryId::size(); ++i) id.bytes[i] = uint8_t(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  return id;
}
std::string textOf(const EntryId& id) { return id == kRootEntry ? "root" : id.hex(); }

// "-" for none (a directory), "link:ID", or any word as content.
Version versionOf(World& world, const std::string& token) {
  Version v;
  if (token.rfind("link:", 0) == 0) {
    v.target = idOf(token.substr(5));
  } else if (token != "-") {
    blake2b(std::as_bytes(std::span(token)), std::span<uint8_t>(v.blob.bytes));
    v.sizeBytes = token.size();
    world.tokens[v.blob] = token;
  }
  return v;
}

std::string show(World& world, OraclePeer& p) {
  std::string difference = viewDifference(p.store);
  if (!difference.empty()) return "the incremental view is wrong: " + difference;
  std::map<EntryId, std::string> lines;
  for (const auto& [id, record] : p.store.records()) {
    if (!record.shown) continue;
    std::string line = textOf(id) + " " + textOf(record.shownParent) + " " + record.shownName;
    std::set<std::string> heads;
    for (const auto& head : shownHeads(record.entry)) {
      if (record.entry.kind == EntryKind::Directory) continue;
      heads.insert(head.version.target.isZero() ? world.tokens[head.version.blob] : "link:" + textOf(head.version.target));
    }
    for (const auto& head : heads) line += " " + head;
    lines[id] = line;
  }
  std::string out;
  for (const auto& [id, line] : lines) out += (out.empty() ? "" : ";") + line;
  return out;
}

// Through the binary forms, so that these are tried as well.
ChangePage travelled(ChangePage page) {
  auto changes = decodeChanges(encodeChanges(page.changes));
  if (!changes) throw std::runtime_error(changes.error().message);
  page.changes = std::move(*changes);
  return page;
}

// At most so many pages of at most so many changes; answers what was taken, whether the batch began now, and is done.
std::string pull(OraclePeer& to, OraclePeer& from, size_t maxChanges, size_t maxPages) {
  std::string out;
  for (size_t i = 0; i < maxPages; ++i) {
    PageRequest request = to.tree->requestFor(from.key);
    request.maxChanges = maxChanges;
    auto page = from.tree->changesFor(request);
    if (!page && page.code() == Code::Refused && request.fresh) {
      to.tree->forgetBatch(from.key);
      return "refused";
    }
    if (!page) return "error " + page.error().message;
    out += page->snapshot == from.tree->vector() ? " now" : " earlier";
    for (const auto& change : page->changes) out += " " + textOf(change.entry.id);
    auto taken = to.tree->applyPage(from.key, travelled(*page));
    if (!taken) return "error " + taken.error().message;
    if (page->done) return out + " done";
  }
  return out;
}

// Whole state, where ordinary pages are refused: at most so many questions. Answers "" when it is not to be done.
std::string pullWhole(OraclePeer& to, OraclePeer& from, size_t questions) {
  if (!to.tree->needsWhole(from.key, from.tree->vector(), from.tree->trimmed())) return "";
  WholeState& state = to.wholes[from.key];
  std::string out;
  for (size_t i = 0; i < questions; ++i) {
    if (!state.began()) out += " begin";
    const WholeRequest request = to.tree->wholeRequest(state);
    WholePage page = from.tree->wholeFor(request);
    page.page = travelled(std::move(page.page));
    auto noted = to.tree->noteWhole(state, page);
    if (!noted && noted.code() == Code::Busy) return out + " anew";
    if (!noted) return "error " + noted.error().message;
    for (size_t at = 0; at < page.outcomes.size(); ++at) {
      const IdRange& range = request.ranges[at].range;
      const std::string digits = range.prefix.hex().substr(0, range.digits);
      if (page.outcomes[at] != RangeOutcome::Split) out += (page.outcomes[at] == RangeOutcome::Equal ? " =" : " !") + digits;
    }
    for (const Change& change : page.page.changes) out += " " + textOf(change.entry.id);
    if (!state.complete()) continue;
    auto taken = to.tree->applyWhole(from.key, state);
    to.wholes.erase(from.key);
    if (!taken) return "error " + taken.error().message;
    return out + " done";
  }
  return out + " broken";
}

std::string outcome(const Result<void>& r) { return r ? "ok" : "refused " + std::string(codeName(r.code())); }

std::string run(World& world, const std::string& line) {
  std::istringstream in(line);
  std::string what, who, a, b, c, d;
  in >> what >> who >> a >> b >> c >> d;
  if (what == "peers") {
    world.peers.clear();
    for (size_t i = 0; i < std::stoul(who); ++i) {
      auto p = std::make_unique<OraclePeer>();
      p->key.bytes[0] = uint8_t('A' + i);
      p->lives.next = p->livesFrom();
      world.start(*p);
      world.peers.push_back(std::move(p));
    }
    return "ok";
  }
  OraclePeer& p = world.peer(who);
  Tree& tree = *p.tree;
  if (what == "show") return show(world, p);
  if (what == "digest") return tree.digest().hex();
  if (what == "create") {
    auto made = tree.create(idOf(a), b, c == "d" ? EntryKind::Directory : EntryKind::File, versionOf(world, d));
    return made ? "ok " + textOf(*made) : "refused";
  }
  if (what == "write") return outcome(tree.write(idOf(a), versionOf(world, b)));
  if (what == "copy") {
    const Version wanted = versionOf(world, b);
    for (const auto& head : tree.shownHeads(idOf(a))) {
      if (!head.version.sameContent(wanted)) continue;
      auto made = tree.copyVersion(idOf(a), head.dot);
      return made ? (*made ? "ok " + textOf(**made) : "none") : "refused";
    }
    return "no such version";
  }
  if (what == "delete") return outcome(tree.remove(idOf(a)));
  if (what == "move") return outcome(tree.move(idOf(a), idOf(b), c));
  if (what == "base") {
    auto record = tree.get(idOf(a));
    std::vector<Dot>& base = world.bases[who + b];
    base = record->entry.live;
    for (const auto& head : record->entry.heads) base.push_back(head.first);
    if (c != "-") {  // Seen on a disk that has this version: not the heads of other contents, nor what they claim.
      const Version kept = versionOf(world, c);
      for (const auto& [dot, version] : record->entry.heads)
        if (version.blob != kept.blob || version.target != kept.target) std::erase(base, dot);
    }
    return "ok";
  }
  if (what == "same") {  // And under the dots that version has by now.
    auto record = tree.get(idOf(a));
    const Version kept = versionOf(world, c);
    for (const auto& [dot, version] : record->entry.heads)
      if (version.blob == kept.blob && version.target == kept.target) world.bases[who + b].push_back(dot);
    return "ok";
  }
  if (what == "latewrite") return outcome(tree.write(idOf(a), versionOf(world, c), Base::only(world.bases[who + b])));
  if (what == "latedelete") return outcome(tree.remove(idOf(a), Base::only(world.bases[who + b])));
  if (what == "whole") {  // Nothing is taken from others meanwhile: another comparison begins anew.
    std::erase_if(p.wholes, [&](const auto& whole) { return whole.first != world.peer(a).key; });
    return pullWhole(p, world.peer(a), std::stoul(b));
  }
  if (what == "trim") {
    std::vector<PeerKey> active;
    for (char name : a == "-" ? "" : a) active.push_back(world.peer(std::string(1, name)).key);
    tree.drainEffects();
    while (tree.trim(active, [](const Record&) { return true; }, 3) > 0) continue;
    return "ok";
  }
  if (what == "pull") return pull(p, world.peer(a), std::stoul(b), std::stoul(c));
  if (what == "backup") {
    p.backup = std::make_unique<MemoryTreeStore>(p.store);
    return "ok";
  }
  if (what == "restore") {
    p.tree.reset();
    p.wholes.clear();
    p.store = *p.backup;
    p.lives.next = p.livesFrom() + ++p.life;
    world.start(p);
    p.tree->beginLife();
    return "ok";
  }
  if (what == "lose") {
    p.tree.reset();
    p.wholes.clear();
    p.backup.reset();
    p.store = MemoryTreeStore();
    p.lives.next = p.livesFrom() + ++p.life;
    world.start(p);
    return "ok";
  }
  if (what == "lost") {  // Of that peer, and of itself.
    std::vector<Origin> over;
    for (const OraclePeer* of : {&world.peer(a), &p})
      for (uint64_t life = 0; life < of->life; ++life) over.push_back(of->livesFrom() + life);
    tree.closeLost(over);
    return "ok";
  }
  return "unknown command";
}

}  // namespace

int main() {
  World world;
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << run(world, line) << std::endl;
    } catch (const std::exception& e) {
      std::cout << "exception " << e.what() << std::endl;
    }
  }
}
