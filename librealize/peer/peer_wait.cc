// Status, and waiting for consensus.

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "librealize/loop/socket.h"
#include "librealize/peer/cache_quota.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/peer_impl.h"

namespace realize::peer {

namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr size_t kProblemsLooked = 1000;

std::string plural(uint64_t count, const std::string& one) {
  return std::to_string(count) + " " + one + (count == 1 ? "" : "s");
}

/// `realize status` has a reason why bytes that are to be here are not.
bool bytesInTheWay(Core& core) {
  const auto problems = core.store.problems().list(kProblemsLooked);
  return std::any_of(problems.begin(), problems.end(), [](const store::ProblemRow& problem) {
    return problem.kind == "in-use" || problem.kind == "not-placed" || problem.kind == "no-space" || problem.kind == "corrupt";
  });
}

constexpr char kMendTwin[] =
    "Stop one of the two for good (`realize stop` there), and give that machine an identity of its own: move its state folder "
    "away, `realize init`, and `realize join` with a new invite. The other goes on by itself within two minutes after that";

Problem twinOf(const std::string& name) {
  return {"", "twin", "two running peers have the identity of " + name + ": its state folder was copied. Nothing is sent to "
                      "either or taken from them. " + kMendTwin};
}

Problem ownTwin(const std::string& witness) {
  return {"", "twin", "another running peer has this one's identity, as " + witness + " has met both: a state folder was copied. "
                      "Nothing is sent or taken here. " + kMendTwin};
}

}  // namespace

// --- status -------------------------------------------------------------------------------------------------------

ArenaStatus PeerImpl::complete(ArenaStatus status, const std::map<PeerKey, PeerConnection>& connections) {
  const auto view = household_->view();
  std::erase_if(status.members, [&](const MemberStatus& member) { return !view->isAdmitted(status.id, member.peer.key); });
  const bool anyMet = !status.members.empty();
  // Members that the arena has never met.
  for (const auto& [key, row] : view->admissions) {
    if (key.first != status.id || key.second == view->self || !view->isAdmitted(key.first, key.second)) continue;
    const bool known = std::any_of(status.members.begin(), status.members.end(),
                                   [&, peer = key.second](auto& member) { return member.peer.key == peer; });
    if (known) continue;
    MemberStatus member;
    member.peer.key = key.second;
    member.detail = "never met in this arena";
    status.members.push_back(std::move(member));
  }
  // Its folder may be empty because it is, or because nobody has said yet what is in it.
  if (const auto row = view->arenas.find(status.id);
      status.consensus && !anyMet && !status.members.empty() && row != view->arenas.end() &&
      (row->second.ownFolder || !household_->value("joining " + status.id.hex()).empty())) {
    status.consensus = false;
    status.consensusWhy = "no member has said yet what is in it";
  }
  if (!view->isAdmitted(status.id, view->self)) {
    const bool removed = !view->isMember(view->self);
    status.consensus = false;
    status.consensusWhy = removed ? "this peer was removed from the household" : "this peer is not admitted to the arena any more";
    status.problems.insert(status.problems.begin(),
                           {"", "not-admitted", (removed ? "a member removed this peer from the household"
                                                         : std::string("a member withdrew this peer's admission")) +
                                                    ": nothing is sent to it or taken from it. "
                                                    "What is here stays; `realize arena leave " + status.name + "` forgets the arena"});
    ++status.problemCount;
  }
  for (auto& member : status.members) {
    member.peer = view->infoOf(member.peer.key);
    auto connection = connections.find(member.peer.key);
    if (member.connected || connection == connections.end()) continue;
    if (connection->second.connected) member.detail = "it runs, but has not offered this arena yet";
    if (!connection->second.refuses) continue;
    member.detail = "it refuses this peer, and may have removed it";
    if (std::exchange(status.consensus, false)) status.consensusWhy = member.peer.name + " refuses this peer, and may have removed it";
  }
  std::sort(status.members.begin(), status.members.end(),
            [](const MemberStatus& a, const MemberStatus& b) { return a.peer.name < b.peer.name; });
  std::lock_guard held(mutex_);
  auto [begin, end] = mounts_.equal_range(status.name);
  for (auto it = begin; it != end; ++it) status.mounts.push_back(it->second);
  return status;
}

Result<ArenaStatus> PeerImpl::arenaStatus(Hosted& arena) {
  REALIZE_ASSIGN(auto status, arena.locked([](ArenaCore& core) -> Result<ArenaStatus> { return core.status(); }));
  return complete(std::move(status), connections());
}

PeerStatus PeerImpl::status() {
  PeerStatus out;
  const auto view = household_->view();
  const auto now = connections();
  out.self = view->infoOf(view->self);
  out.pid = getpid();
  out.version = libraryVersion();
  out.stateDir = stateDir_;
  for (const auto& info : view->peers()) {
    if (info.self) continue;
    ConnectionStatus status;
    status.peer = info;
    if (auto connection = now.find(info.key); connection != now.end()) {
      status.connected = connection->second.connected;
      status.sinceNs = connection->second.sinceNs;
      status.lastError = connection->second.lastError;
      status.sentBytes = connection->second.sentBytes;
      status.receivedBytes = connection->second.receivedBytes;
      if (connection->second.twins) out.problems.push_back(twinOf(info.name));
    }
    out.peers.push_back(std::move(status));
  }
  if (!view->isMember(view->self))
    out.problems.push_back({"", "removed", "a member removed this peer from the household: nothing is sent or taken. What is here "
                                           "stays; `realize join` with a new invite brings it back"});
  if (auto witness = loop_->run([&] { return connector_->ownTwinMetBy(); }))
    out.problems.push_back(ownTwin(view->nameOf(*witness)));
  for (auto& arena : allHosted()) {
    auto status = arena->locked([](ArenaCore& core) -> Result<ArenaStatus> { return core.status(); });
    if (status.ok()) {
      out.arenas.push_back(complete(std::move(*status), now));
      continue;
    }
    ArenaStatus failed;
    failed.name = arena->name();
    failed.id = arena->id();
    failed.folder = arena->userFolder() ? arena->folder() : "";
    failed.suspended = true;
    failed.suspendedWhy = status.error().message;
    failed.consensusWhy = "suspended";
    out.arenas.push_back(std::move(failed));
  }
  if (auto trouble = household_->trouble())
    out.problems.push_back({"", trouble->code == Code::NoSpace ? "no-space" : "database",
                            trouble->message + ". What changes in the household cannot be noted; it is tried again"});
  if (const auto lost = audit_.lost(); lost.lines > 0)
    out.problems.push_back({"", "audit", plural(lost.lines, "line") + " of the audit log could not be written since the start: " +
                                             lost.why + ". `realize config` says where it is and how much is kept"});
  std::lock_guard held(mutex_);
  out.listen = listening_;
  for (const auto& [id, error] : broken_) {
    auto row = view->arenas.find(id);
    if (row == view->arenas.end()) continue;
    ArenaStatus failed;
    failed.name = row->second.name;
    failed.id = id;
    failed.folder = row->second.ownFolder ? "" : row->second.folder;
    failed.suspended = true;
    failed.suspendedWhy = error.message;
    failed.consensusWhy = "suspended";
    out.arenas.push_back(std::move(failed));
  }
  return out;
}

// --- waiting ------------------------------------------------------------------------------------------------------

namespace {

/// What is not there yet, as far as the arena knows now. Under the core lock, after a refresh.
std::vector<std::string> whatIsMissing(ArenaCore& arena, const HouseholdView& view) {
  auto& core = arena.core();
  std::vector<std::string> missing;
  if (core.suspended) missing.push_back("the arena is suspended here: " + core.suspendedWhy);
  const auto& members = core.exchange->members();
  if (std::none_of(members.begin(), members.end(), [](const auto& item) { return item.second.connected; }))
    missing.push_back("no other member of the arena is connected");
  if (const uint64_t entries = core.folder->heldRemovals())
    missing.push_back("the removal of " + std::to_string(entries) + (entries == 1 ? " entry" : " entries") + " is held back: `realize confirm " +
                      core.options.name + "` lets it happen, with --keep brings them back");
  if (const uint64_t files = core.folder->heldOverwrites())
    missing.push_back("new contents of " + plural(files, "file") + " are held back: `realize confirm " + core.options.name + "`");
  if (const uint64_t files = core.marks->missingFiles()) {
    missing.push_back(plural(files, "file") + " marked real here " + (files == 1 ? "is" : "are") + " not complete (" +
                      plural(core.marks->missingBytes(), "byte") + ")");
    if (bytesInTheWay(core)) missing.back() += "; `realize status` names what is in the way";
  }
  if (core.folder->settling())
    missing.push_back(core.folder->waitingForTree() ? "the folder is read when another member has told of its tree"
                      : core.folder->scanning() ? "the folder is being scanned: " + plural(core.folder->scannedEntries(), "name") + " so far"
                                                : "local changes are still being read");
  for (const auto& [key, member] : members) {
    if (!member.connected) continue;
    const std::string name = view.nameOf(key);
    if (member.said && member.said->missingFiles > 0)
      missing.push_back(plural(member.said->missingFiles, "file") + " marked real on " + name + " " +
                        (member.said->missingFiles == 1 ? "is" : "are") + " not complete there (" +
                        plural(member.said->missingBytes, "byte") + ")");
    if (!member.said) missing.push_back(name + " has not said its state yet");
    else if (member.said->suspended) missing.push_back(name + " has suspended the arena");
    else if (member.said->settling) missing.push_back(name + " is reading changes of its own");
    else if (!core.exchange->agreesWith(key)) missing.push_back(name + " and this peer do not have the same tree yet");
  }
  return missing;
}

}  // namespace

Result<WaitOutcome> PeerImpl::wait(const std::string& name, int64_t timeoutMs) {
  auto hosted = hostedByName(name);
  if (!hosted) return unknownArena(name);
  constexpr int64_t kLongestMs = 1000LL * 3600 * 24 * 365;
  const auto deadline = SteadyClock::now() + std::chrono::milliseconds(std::clamp<int64_t>(timeoutMs, 0, kLongestMs));
  auto pause = std::chrono::milliseconds(10);
  WaitOutcome outcome;
  while (true) {
    // What is known may be old: everybody is asked anew, behind what their watches have queued.
    auto refreshed = std::make_shared<std::promise<void>>();
    auto answer = refreshed->get_future();
    REALIZE_TRY(hosted->locked([&](ArenaCore& core) -> Result<void> {
      core.core().exchange->refresh([refreshed, once = std::make_shared<std::once_flag>()] {
        std::call_once(*once, [&] { refreshed->set_value(); });
      });
      return {};
    }));
    refreshed = nullptr;
    const bool inTime = answer.wait_until(deadline) == std::future_status::ready;
    const auto view = household_->view();
    outcome.missing.clear();
    REALIZE_TRY(hosted->locked([&](ArenaCore& core) -> Result<void> {
      outcome.missing = whatIsMissing(core, *view);
      // One that comes before the pause has begun costs that pause, no more.
      core.core().exchange->onTold([this] {
        ++told_;
        changed_.notify_all();
      });
      return {};
    }));
    if (!inTime && outcome.missing.empty()) outcome.missing.push_back("not every connected peer has answered yet");
    outcome.reached = outcome.missing.empty();
    if (outcome.reached || SteadyClock::now() >= deadline) return outcome;
    std::unique_lock held(mutex_);
    const uint64_t seen = changes_, told = told_;
    changed_.wait_until(held, std::min(deadline, SteadyClock::now() + pause),
                        [&] { return stopping_ || changes_ != seen || told_ != told; });
    if (stopping_) return Error{Code::Cancelled, name + ": the peer is stopping"};
    pause = std::min(pause * 2, std::chrono::milliseconds(100));
  }
}

}  // namespace realize::peer
