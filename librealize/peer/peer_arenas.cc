// Which arenas this peer runs: creating, joining, admitting, leaving, finding paths.

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "librealize/base/errno_code.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/only_here.h"
#include "librealize/peer/peer_impl.h"

namespace realize::peer {

namespace {

namespace fs = std::filesystem;
constexpr auto kJoinWait = std::chrono::seconds(5);       // While somebody is being dialled.
constexpr auto kJoinWaitShort = std::chrono::seconds(1);  // Once everybody has been.

/// `inner` is `outer` or beneath it; both as realpath() gives them.
bool isWithin(const std::string& inner, const std::string& outer) {
  return inner == outer || outer == "/" || inner.starts_with(outer + "/");
}

Result<std::string> realPath(const std::string& path) {
  char* real = realpath(path.c_str(), nullptr);
  if (!real) return errnoError(errno, path);
  std::string out = real;
  free(real);
  return out;
}

/// Removes `.realize/` from an arena's folder if it is that arena's.
void removeOwnFolder(const std::string& folder, const ArenaId& id) {
  std::string text;
  std::getline(std::ifstream(folder + "/" + kMarkerPath) >> std::ws, text);
  std::error_code ignored;
  if (text == id.hex()) fs::remove_all(folder + "/" + kOwnFolder, ignored);
}

}  // namespace

Result<std::string> tidyPath(const std::string& path) {
  std::string out;
  size_t start = 0;
  while (start <= path.size()) {
    size_t end = std::min(path.find('/', start), path.size());
    const std::string part = path.substr(start, end - start);
    start = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") return Error{Code::InvalidArgument, path + ": \"..\" has no meaning in an arena's path"};
    out += out.empty() ? part : "/" + part;
  }
  return out;
}

std::vector<std::shared_ptr<Hosted>> PeerImpl::allHosted() {
  std::lock_guard held(mutex_);
  std::vector<std::shared_ptr<Hosted>> out;
  for (auto& [id, arena] : arenas_) out.push_back(arena);
  std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a->name() < b->name(); });
  return out;
}

std::shared_ptr<Hosted> PeerImpl::hostedByName(const std::string& name) {
  for (auto& arena : allHosted())
    if (arena->name() == name) return arena;
  return nullptr;
}

Error PeerImpl::unknownArena(const std::string& name) {
  const auto view = household_->view();
  for (const auto& [id, row] : view->arenas) {
    std::lock_guard held(mutex_);
    auto broken = broken_.find(id);
    if (row.name != name || broken == broken_.end()) continue;
    // It is known, whatever of it was not found.
    return {broken->second.code == Code::NotFound ? Code::Suspended : broken->second.code, name + ": " + broken->second.message};
  }
  return {Code::NotFound, name + ": this peer is in no arena of that name; `realize arena list` shows them"};
}

std::vector<std::string> PeerImpl::arenaNames() {
  std::vector<std::string> out;
  for (const auto view = household_->view(); const auto& [id, row] : view->arenas) out.push_back(row.name);
  std::sort(out.begin(), out.end());
  return out;
}

// --- making and joining -------------------------------------------------------------------------------------------

Result<std::string> PeerImpl::prepareFolder(const std::string& name, const std::string& folder, bool& made) {
  if (folder.empty() || folder[0] != '/')
    return Error{Code::InvalidArgument, "\"" + folder + "\": the folder of arena " + name + " must be an absolute path"};
  fs::path path = fs::path(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  made = false;
  struct stat there{};
  if (stat(path.c_str(), &there) != 0) {
    if (errno != ENOENT) return errnoError(errno, folder);
    auto parent = realPath(path.parent_path());
    if (!parent.ok())
      return Error{Code::NotFound, folder + ": neither it nor the folder above it exists; make it first: mkdir -p"};
    path = fs::path(*parent) / path.filename();
  } else if (!S_ISDIR(there.st_mode)) {
    return Error{Code::NotDirectory, folder + ": is not a folder"};
  } else {
    REALIZE_ASSIGN(std::string real, realPath(path));
    path = real;
  }
  const std::string wanted = path;
  if ((wanted + "/").find(std::string("/") + kOwnFolder + "/") != std::string::npos)
    return Error{Code::Refused, folder + ": lies in a folder " + kOwnFolder + ", where this program keeps its own"};
  if (isWithin(wanted, stateDir_) || isWithin(stateDir_, wanted))
    return Error{Code::Refused, folder + ": overlaps with this peer's state folder " + stateDir_};
  for (const auto view = household_->view(); const auto& [id, row] : view->arenas) {
    if (row.ownFolder || !(isWithin(wanted, row.folder) || isWithin(row.folder, wanted))) continue;
    return Error{Code::Refused, folder + ": overlaps with " + row.folder + ", the folder of arena " + row.name +
                                    "; arenas cannot lie within each other"};
  }
  if (mkdir(wanted.c_str(), 0777) == 0) made = true;
  else if (errno != EEXIST) return errnoError(errno, folder);
  return wanted;
}

ArenaSettings PeerImpl::readSettings(const ArenaId& id) {
  ArenaSettings out;
  auto value = [&](const char* name) { return household_->setting(id.hex(), name, ""); };
  if (auto text = value("rest_ms"); !text.empty()) out.restMs = std::stoll(text);
  if (auto text = value("inactive_after_days"); !text.empty()) out.inactiveAfterMs = std::stoll(text) * 86'400'000;
  if (auto text = value("rest_max_ms"); !text.empty()) out.restMaxMs = std::stoll(text);
  if (auto text = value("guard_share"); !text.empty()) out.guardShare = std::stod(text);
  if (auto text = value("guard_overwrite_share"); !text.empty()) out.overwriteShare = std::stod(text);
  if (auto text = value("guard_minimum"); !text.empty()) out.guardMinimum = std::stoull(text);
  if (auto text = value("copies"); !text.empty()) out.copies = uint32_t(std::stoul(text));
  if (auto text = value("unlinked_share"); !text.empty()) out.unlinkedShare = std::stod(text);
  if (auto text = value("unlinked_days"); !text.empty()) out.unlinkedDays = std::stoll(text);
  if (auto text = value("cache_limit_bytes"); !text.empty()) out.cacheLimitBytes = std::stoull(text);
  if (auto text = value("conflicts"); text == "newest") out.conflicts = ConflictRule::Newest;
  else if (text == "copies") out.conflicts = ConflictRule::Copies;
  return out;
}

Result<void> PeerImpl::runArena(store::ArenaRow row, bool fresh, bool joining, Mark rootMark) {
  Hosted::Start start;
  start.options.id = row.arena;
  start.options.name = row.name;
  start.options.databaseDirectory = arenaDirectory(row.arena);
  start.options.folder = row.folder;
  start.options.userFolder = !row.ownFolder;
  start.options.self = household_->identity().key();
  start.options.sharedQuota = sharedQuota_;
  // Where it is lost with all that was in it, the arena begins anew, as where its database is lost.
  std::error_code failed;
  fs::create_directories(start.options.databaseDirectory, failed);
  if (failed) return errnoError(failed.value(), start.options.databaseDirectory);
  const auto view = household_->view();
  for (const auto& [key, admission] : view->admissions) {
    const bool other = key.first == row.arena && key.second != start.options.self;
    start.options.shared = start.options.shared || (other && view->isAdmitted(key.first, key.second));
  }
  start.settings = readSettings(row.arena);
  start.fresh = fresh;
  start.joining = joining;
  start.rootMark = rootMark;
  start.emit = [this](Events events) { tell(std::move(events)); };
  start.nameOf = [this](const PeerKey& key) { return household_->view()->nameOf(key); };
  REALIZE_ASSIGN(auto hosted, Hosted::open(pool_, std::move(start)));
  {
    std::lock_guard held(mutex_);
    arenas_[row.arena] = hosted;
  }
  watch_->add(hosted);
  return {};
}

/// Everything that a new arena needs; undone if a step fails. With `changing_` held.
Result<void> PeerImpl::addArena(store::ArenaRow row, bool joining, Mark rootMark) {
  const std::string directory = arenaDirectory(row.arena);
  std::error_code failed;
  // Left over from when this arena was left, and the end came too soon: its index is of another time.
  if (fs::exists(directory, failed)) fs::rename(directory, directory + ".left-" + std::to_string(systemRandom().next64()), failed);
  if (failed) return errnoError(failed.value(), directory);
  fs::create_directories(row.ownFolder ? directory + "/files" : directory, failed);
  if (failed) return errnoError(failed.value(), directory);
  for (const auto& path : {stateDir_ + "/arenas", directory})
    if (chmod(path.c_str(), 0700) != 0) return errnoError(errno, path);
  row.joinedNs = systemClock().nowNs();
  auto done = joining ? household_->setValue("joining " + row.arena.hex(), "1") : Result<void>();
  if (done.ok()) done = runArena(row, true, joining, rootMark);
  if (done.ok()) done = household_->putArena(row);
  if (done.ok()) {
    refreshConnections();
    return {};
  }
  std::shared_ptr<Hosted> started;
  {
    std::lock_guard held(mutex_);
    if (auto it = arenas_.find(row.arena); it != arenas_.end()) {
      started = std::move(it->second);
      arenas_.erase(it);
    }
  }
  if (started) {
    watch_->remove(started);
    started->close();
  }
  if (!row.ownFolder) removeOwnFolder(row.folder, row.arena);
  std::error_code ignored;
  fs::remove_all(directory, ignored);
  return done;
}

Result<void> PeerImpl::createArena(const std::string& name, const std::string& folder) {
  REALIZE_TRY(checkName("arena", name));
  std::lock_guard one(changing_);
  for (const auto view = household_->view(); const auto& [id, row] : view->arenas)
    if (row.name == name) return Error{Code::Exists, name + ": this peer is in an arena of that name already"};
  for (const auto& [id, offeredName] : offered(connections()))
    if (offeredName == name)
      return Error{Code::Exists, name + ": the household has an arena of that name; take it with `realize arena join`, or "
                                        "choose another name"};
  store::ArenaRow row;
  systemRandom().fill(row.arena.bytes);
  row.name = name;
  bool made = false;
  REALIZE_ASSIGN(row.folder, prepareFolder(name, folder, made));
  auto done = addArena(row, false, Mark::Real);
  if (!done.ok() && made) rmdir(row.folder.c_str());
  return done;
}

std::map<ArenaId, std::string> PeerImpl::offered(const std::map<PeerKey, PeerConnection>& connections) {
  const auto view = household_->view();
  std::map<ArenaId, std::string> out;
  for (const auto& [key, connection] : connections) {
    if (!connection.connected) continue;
    for (const auto& [id, name] : view->sharedWith(key))
      if (!view->arenas.contains(id)) out[id] = name;
  }
  return out;
}

std::vector<std::string> PeerImpl::offeredArenas() {
  std::vector<std::string> out;
  for (auto& [id, name] : offered(connections())) out.push_back(name);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Result<void> PeerImpl::joinArena(const std::string& name, const std::string& folder) {
  REALIZE_TRY(checkName("arena", name));
  std::lock_guard one(changing_);
  for (const auto view = household_->view(); const auto& [id, row] : view->arenas)
    if (row.name == name) return Error{Code::Exists, name + ": this peer is in an arena of that name already"};
  const auto start = std::chrono::steady_clock::now();
  std::vector<ArenaId> found;
  std::map<ArenaId, std::string> all;
  bool connected = false;
  while (true) {
    uint64_t seen;
    {
      std::lock_guard held(mutex_);
      seen = changes_;
    }
    const auto now = connections();
    all = offered(now);
    for (const auto& [id, offeredName] : all)
      if (offeredName == name) found.push_back(id);
    const bool hope = household_->view()->peers().size() > 1;
    const bool dialling = std::any_of(now.begin(), now.end(), [](auto& item) { return item.second.trying; });
    connected = std::any_of(now.begin(), now.end(), [](auto& item) { return item.second.connected; });
    const auto deadline = start + (connected && !dialling ? kJoinWaitShort : kJoinWait);
    std::unique_lock held(mutex_);
    if (!found.empty() || !hope || stopping_) break;
    if (!changed_.wait_until(held, deadline, [&] { return changes_ != seen || stopping_; })) break;
  }
  if (found.empty() && !connected)
    return Error{Code::Unreachable, name + ": no other peer is connected, so nobody can offer the arena; `realize status` says why"};
  if (found.empty()) {
    std::string offers;
    for (const auto& [id, offeredName] : all) offers += (offers.empty() ? "" : ", ") + offeredName;
    return Error{Code::NotFound, name + ": no connected peer admits this one to an arena of that name. " +
                                     (offers.empty() ? "None is offered; on a member: `realize arena admit`"
                                                     : "Offered are: " + offers)};
  }
  if (found.size() > 1)
    return Error{Code::Conflict, name + ": several arenas of the household have this name; rename is not possible yet, so "
                                        "ask the members which is meant and leave the others"};
  store::ArenaRow row;
  row.arena = found.front();
  row.name = name;
  bool made = false;
  if (folder.empty()) {
    row.ownFolder = true;
    row.folder = arenaDirectory(row.arena) + "/files";
    return addArena(row, false, Mark::Unreal);
  }
  REALIZE_ASSIGN(row.folder, prepareFolder(name, folder, made));
  auto done = addArena(row, true, Mark::None);
  if (!done.ok() && made) rmdir(row.folder.c_str());
  return done;
}

Result<void> PeerImpl::admit(const std::string& arena, const std::string& peer) {
  const auto view = household_->view();
  auto row = std::find_if(view->arenas.begin(), view->arenas.end(), [&](auto& item) { return item.second.name == arena; });
  if (row == view->arenas.end()) return unknownArena(arena);
  REALIZE_ASSIGN(auto key, view->find(peer));
  return household_->admit(row->first, key);
}

Result<void> PeerImpl::withdraw(const std::string& arena, const std::string& peer) {
  const auto view = household_->view();
  auto row = std::find_if(view->arenas.begin(), view->arenas.end(), [&](auto& item) { return item.second.name == arena; });
  if (row == view->arenas.end()) return unknownArena(arena);
  REALIZE_ASSIGN(auto key, view->find(peer));
  if (key == view->self)
    return Error{Code::Refused, "a peer does not withdraw its own admission: `realize arena leave " + arena + "`"};
  if (!view->isAdmitted(row->first, key)) return Error{Code::NotFound, peer + ": is not admitted to " + arena};
  REALIZE_TRY(household_->withdraw(row->first, key));
  // Cut off when this returns.
  loop_->run([&] { connector_->refresh(); });
  return {};
}

Result<std::vector<std::string>> PeerImpl::leaveArena(const std::string& name, bool force) {
  std::lock_guard one(changing_);
  const auto view = household_->view();
  auto row = std::find_if(view->arenas.begin(), view->arenas.end(), [&](auto& item) { return item.second.name == name; });
  if (row == view->arenas.end()) return unknownArena(name);
  const ArenaId id = row->first;
  auto hosted = hostedByName(name);
  std::vector<std::string> lost;
  if (hosted) {
    REALIZE_ASSIGN(lost, mayLeave(*hosted, row->second.ownFolder, force));
  }
  REALIZE_TRY(household_->eraseArena(id));
  {
    std::lock_guard held(mutex_);
    arenas_.erase(id);
    broken_.erase(id);
    mounts_.erase(name);
  }
  // Sessions end their part before the arena stops.
  loop_->run([&] { connector_->refresh(); });
  if (hosted) {
    watch_->remove(hosted);
    hosted->close();
  }
  if (!row->second.ownFolder) removeOwnFolder(row->second.folder, id);
  std::error_code failed;
  fs::remove_all(arenaDirectory(id), failed);
  if (failed) return errnoError(failed.value(), arenaDirectory(id));
  return lost;
}

Result<std::shared_ptr<Arena>> PeerImpl::arena(const std::string& name) {
  auto hosted = hostedByName(name);
  if (!hosted) return unknownArena(name);
  ArenaQuestions ask;
  ask.nameOf = [back = self_](const std::string& hex) {
    std::lock_guard held(back->mutex);
    return back->peer ? back->peer->nameOfKeyHex(hex) : hex;
  };
  ask.status = [back = self_](Hosted& arena) -> Result<ArenaStatus> {
    std::lock_guard held(back->mutex);
    if (!back->peer) return Error{Code::Suspended, arena.name() + ": its peer has ended"};
    return back->peer->arenaStatus(arena);
  };
  return makeArena(std::move(hosted), std::move(ask));
}

// --- paths --------------------------------------------------------------------------------------------------------

Result<ArenaPath> PeerImpl::resolvePath(const std::string& text) {
  if (text.empty()) return Error{Code::InvalidArgument, "a path is needed: ARENA:path, or an absolute one"};
  if (text[0] != '/') {
    const size_t colon = text.find(':');
    if (colon == std::string::npos)
      return Error{Code::InvalidArgument, text + ": this is neither ARENA:path nor an absolute path"};
    ArenaPath out;
    out.arena = text.substr(0, colon);
    if (!hostedByName(out.arena)) {
      Error unknown = unknownArena(out.arena);
      if (unknown.code == Code::NotFound) unknown.message += ". A file that is named so is ./" + text + ", or its absolute path";
      return unknown;
    }
    REALIZE_ASSIGN(out.path, tidyPath(text.substr(colon + 1)));
    return out;
  }
  const std::string normal = fs::path(text).lexically_normal();
  std::string plain = normal.size() > 1 && normal.back() == '/' ? normal.substr(0, normal.size() - 1) : normal;
  std::vector<std::pair<std::string, std::string>> roots;  // folder, arena
  {
    std::lock_guard held(mutex_);
    for (const auto& [arena, mountPoint] : mounts_) roots.emplace_back(mountPoint, arena);
    for (const auto& [id, arena] : arenas_)
      if (arena->userFolder()) roots.emplace_back(arena->folder(), arena->name());
  }
  auto longest = [&](const std::string& path) -> const std::pair<std::string, std::string>* {
    const std::pair<std::string, std::string>* best = nullptr;
    for (const auto& root : roots)
      if (isWithin(path, root.first) && (!best || root.first.size() > best->first.size())) best = &root;
    return best;
  };
  const auto* root = longest(plain);
  if (!root) {
    // By another way to the same place. What the last name is a symlink to does not matter.
    const fs::path path(plain);
    auto parent = realPath(path.parent_path());
    auto whole = realPath(plain);
    if (whole.ok() && std::any_of(roots.begin(), roots.end(), [&](auto& item) { return item.first == *whole; })) plain = *whole;
    else if (parent.ok()) plain = (fs::path(*parent) / path.filename()).string();
    root = longest(plain);
  }
  if (!root)
    return Error{Code::NotFound, text + ": is in no arena's folder or mount; `realize status` shows where arenas are"};
  ArenaPath out;
  out.arena = root->second;
  REALIZE_ASSIGN(out.path, tidyPath(plain.substr(root->first.size())));
  return out;
}

void PeerImpl::noteMount(const std::string& arena, const std::string& mountPoint, bool mounted) {
  std::lock_guard held(mutex_);
  auto [begin, end] = mounts_.equal_range(arena);
  for (auto it = begin; it != end; ++it) {
    if (it->second != mountPoint) continue;
    if (!mounted) mounts_.erase(it);
    return;
  }
  if (mounted) mounts_.emplace(arena, mountPoint);
}

}  // namespace realize::peer
