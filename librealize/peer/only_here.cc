#include "librealize/peer/only_here.h"

#include <algorithm>
#include <future>
#include <set>

#include "librealize/peer/exchange.h"
#include "librealize/peer/hosted.h"
#include "librealize/peer/transfers.h"

namespace realize::peer {

namespace {
constexpr size_t kMostAsked = 4096;
constexpr size_t kAskedAtOnce = 256;
constexpr size_t kRows = 1000;
constexpr size_t kNamesTold = 5;
constexpr auto kOnlyHerePatience = std::chrono::seconds(30);

/// Lives in its own callbacks.
struct Search : std::enable_shared_from_this<Search> {
  explicit Search(Core& core) : core(core) {}

  Core& core;
  std::vector<EntryContent> left;      ///< not promised by anyone yet
  std::vector<EntryContent> promised;  ///< of these
  std::set<std::string> paths;         ///< known to be lost
  std::vector<PeerKey> peers;
  std::function<void(std::vector<std::string>)> done;

  void gather(bool realToo);
  void note(const EntryId& id);
  void askNext(size_t from);
  void finish();
};

void Search::note(const EntryId& id) {
  auto path = core.shownPath(id);
  if (path.ok()) paths.insert(*path);
}

void Search::gather(bool realToo) {
  auto add = [&](const EntryId& id, const BlobId& blob) {
    if (blob.isZero()) return;
    if (left.size() < kMostAsked) left.push_back({id, blob});
    else note(id);
  };
  for (const auto& content : core.transfers->pinnedContents()) add(content.entry, content.blob);
  NodeId after = 0;
  while (realToo) {
    const auto rows = core.store.disk().all(after, kRows);
    if (rows.empty()) break;
    for (const auto& row : rows) {
      after = row.node;
      if (auto id = core.store.idOf(row.node); id && row.kind == EntryKind::File && row.sizeBytes > 0) add(*id, row.blob);
    }
  }
  // Under a name of ours: what somebody wrote while another version took its place.
  for (const auto& problem : core.store.problems().list(kRows))
    if (problem.kind == "rescued" && problem.path.starts_with(".realize/")) paths.insert(problem.path);
}

void Search::askNext(size_t from) {
  if (left.empty() || peers.empty()) return finish();
  if (from >= left.size()) {
    peers.pop_back();
    return askNext(0);
  }
  RemoteArena* remote = core.exchange->remote(peers.back());
  if (!remote) return askNext(left.size());
  const size_t to = std::min(left.size(), from + kAskedAtOnce);
  const std::vector<EntryContent> asked(left.begin() + ptrdiff_t(from), left.begin() + ptrdiff_t(to));
  remote->promise(asked, [self = shared_from_this(), asked, from](Result<KeepAnswers> kept) {
    size_t removed = 0;
    for (size_t i = 0; kept.ok() && i < asked.size() && i < kept->each.size(); ++i) {
      if (kept->each[i] != KeepAnswer::Promised) continue;
      self->left.erase(self->left.begin() + ptrdiff_t(from + i - removed));
      ++removed;
    }
    self->askNext(from + asked.size() - removed);
  });
}

void Search::finish() {
  for (const auto& content : left) note(content.entry);
  done({paths.begin(), paths.end()});
}
}  // namespace

void findOnlyHere(Core& core, bool realToo, std::function<void(std::vector<std::string>)> done) {
  auto search = std::make_shared<Search>(core);
  search->done = std::move(done);
  search->gather(realToo);
  for (auto* remote : core.exchange->remotes()) search->peers.push_back(remote->key());
  search->askNext(0);
}

namespace {
/// A few of them, for a message.
std::string namesText(const std::vector<std::string>& paths) {
  std::string out;
  for (size_t i = 0; i < paths.size() && i < kNamesTold; ++i) out += (i ? ", " : "") + paths[i];
  return paths.size() > kNamesTold ? out + " and " + std::to_string(paths.size() - kNamesTold) + " more" : out;
}

/// See findOnlyHere(). Errors: Busy (a peer that was asked does not answer), or the database's.
Result<std::vector<std::string>> onlyHere(Hosted& hosted, bool realToo) {
  auto answer = std::make_shared<std::promise<std::vector<std::string>>>();
  auto found = answer->get_future();
  REALIZE_TRY(hosted.locked([&](ArenaCore& core) -> Result<void> {
    findOnlyHere(core.core(), realToo, [answer](std::vector<std::string> paths) { answer->set_value(std::move(paths)); });
    return {};
  }));
  if (found.wait_for(kOnlyHerePatience) != std::future_status::ready)
    return Error{Code::Busy, hosted.name() + ": the peers that were asked what they keep do not answer; try again"};
  return found.get();
}
}  // namespace

Result<std::vector<std::string>> mayLeave(Hosted& hosted, bool inState, bool force) {
  auto lost = onlyHere(hosted, inState);
  if (force) return lost.ok() ? std::move(*lost) : std::vector<std::string>();
  REALIZE_TRY(lost.ok() ? Result<void>() : Result<void>(lost.error()));
  REALIZE_ASSIGN(auto status, hosted.locked([](ArenaCore& core) -> Result<ArenaStatus> { return core.status(); }));
  if (status.unconfirmedFiles > 0) {
    std::vector<std::string> paths;
    for (const auto& file : status.staysReal) paths.push_back(file.path + ": " + file.detail);
    return Error{Code::Refused, hosted.name() + ": " + std::to_string(status.unconfirmedFiles) +
                                    " files are kept here because no other peer has them for sure yet (" + namesText(paths) +
                                    "). Connect one that keeps them real, or lose them with --force"};
  }
  if (inState && status.promisedFiles > 0)
    return Error{Code::Refused, hosted.name() + ": another peer was promised, within the last minute, that " +
                                    std::to_string(status.promisedFiles) +
                                    " files are kept here, and lets its own go. Try again in a minute, or use --force"};
  if (inState && (status.realFiles > 0 || status.settling))
    return Error{Code::Refused, hosted.name() + ": " + std::to_string(status.realFiles) +
                                    " real files are in this peer's state folder and would be removed. Mark them unreal "
                                    "first, or lose them with --force"};
  if (!lost->empty())
    return Error{Code::Refused, hosted.name() + ": versions of " + std::to_string(lost->size()) +
                                    " files are in this peer's cache, and no connected peer promises to keep them (" +
                                    namesText(*lost) + "). Connect one that has them real, choose with `realize resolve`, or "
                                    "lose them with --force"};
  return std::vector<std::string>();
}

}  // namespace realize::peer
