#include "librealize/peer/copies.h"

#include <algorithm>

#include "librealize/peer/exchange.h"
#include "librealize/peer/marks.h"

namespace realize::peer {

namespace {
constexpr int64_t kCountedAnewNs = 5'000'000'000;
constexpr size_t kPathsTold = 10;
}  // namespace

struct Copies::State {
  explicit State(Core& core) : core(core) {}

  /// Contents, and how many have each.
  struct Page {
    std::vector<EntryContent> contents;
    std::vector<uint32_t> have;
    size_t waiting = 0;
  };

  Core& core;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  Count last, next;
  bool counting = false;
  int64_t countedNs = 0;

  void countPage(NodeId after);
  void pageCounted(const Page& page, NodeId after);
};

Copies::Copies(Core& core) : s_(std::make_unique<State>(core)) {}
Copies::~Copies() { *s_->alive = false; }

void Copies::holders(const EntryContent& content, std::function<void(Holders)> done) {
  auto& core = s_->core;
  auto found = std::make_shared<Holders>();
  if (core.marks->holds(content)) found->have.push_back(core.options.self);
  const auto remotes = core.exchange->remotes();
  for (const auto& member : core.store.members().all()) {
    if (member.admitted && member.peer != core.options.self && !core.exchange->remote(member.peer)) found->unknown.push_back(member.peer);
  }
  auto waiting = std::make_shared<size_t>(remotes.size());
  if (remotes.empty()) return done(std::move(*found));
  for (auto* remote : remotes)
    remote->holds({content}, [found, waiting, done, alive = s_->alive, peer = remote->key()](Result<std::vector<bool>> held) {
      if (!held.ok() || held->size() != 1) found->unknown.push_back(peer);
      else if (held->front()) found->have.push_back(peer);
      if (--*waiting == 0 && *alive) done(std::move(*found));
    });
}

Copies::Count Copies::count() {
  auto& s = *s_;
  if (s.core.settings.copies <= 1) return {};
  if (!s.counting && !s.core.suspended && (!s.last.known || s.core.env.clock.monotonicNs() - s.countedNs > kCountedAnewNs)) {
    s.counting = true;
    s.next = {};
    s.next.known = true;
    s.core.env.scheduler.onCore([state = s_.get(), alive = s.alive] {
      if (*alive) state->countPage(0);
    });
  }
  return s.last;
}

void Copies::State::countPage(NodeId after) {
  auto page = std::make_shared<Page>();
  const auto ids = core.stopping ? std::vector<EntryId>() : core.store.allEntries(after, kMaxWantsPerGet);
  if (ids.empty()) {
    last = std::move(next);
    counting = false;
    countedNs = core.env.clock.monotonicNs();
    return;
  }
  for (const auto& id : ids) {
    after = std::max(after, core.store.nodeOf(id).value_or(0));
    auto record = core.tree.get(id);
    if (!record || !record->shown || record->entry.kind != EntryKind::File) continue;
    const auto shown = core.shownVersion(*record);
    if (!shown || shown->second.sizeBytes == 0) continue;
    page->contents.push_back({id, shown->second.blob});
    page->have.push_back(core.marks->holds(page->contents.back()) ? 1 : 0);
  }
  const auto remotes = page->contents.empty() ? std::vector<RemoteArena*>() : core.exchange->remotes();
  page->waiting = remotes.size();
  if (remotes.empty()) {
    core.env.scheduler.onCore([this, alive = alive, page, after] {
      if (*alive) pageCounted(*page, after);
    });
    return;
  }
  for (auto* remote : remotes)
    remote->holds(page->contents, [this, alive = alive, page, after](Result<std::vector<bool>> held) {
      if (!*alive) return;
      for (size_t i = 0; held.ok() && i < held->size() && i < page->have.size(); ++i) page->have[i] += (*held)[i];
      if (--page->waiting == 0) pageCounted(*page, after);
    });
}

void Copies::State::pageCounted(const Page& page, NodeId after) {
  for (size_t i = 0; i < page.contents.size(); ++i) {
    if (page.have[i] >= core.settings.copies) continue;
    ++next.below;
    auto path = core.shownPath(page.contents[i].entry);
    if (path.ok() && next.first.size() < kPathsTold) next.first.push_back(*path);
  }
  countPage(after);
}

}  // namespace realize::peer
