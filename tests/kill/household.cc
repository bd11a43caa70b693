#include "tests/kill/household.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "librealize/model/blob.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"

namespace realize::test {

namespace fs = std::filesystem;

namespace {
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kSettleMs = 60'000;

void must(const Result<void>& done, const char* what) {
  if (!done.ok()) throw std::runtime_error(std::string(what) + ": " + done.error().message);
}

bool inConflict(peer::Core& core) {
  const auto ids = core.store.allEntries(0, 1000);
  return std::any_of(ids.begin(), ids.end(), [&](const EntryId& id) { return core.tree.shownHeads(id).size() > 1; });
}

std::string contentOf(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return kNone;
  return std::string(std::istreambuf_iterator<char>(in), {});
}
}  // namespace

KillHousehold::KillHousehold(const std::string& where, Mark markOfB) : queue_(1) {
  fs::create_directories(where + "/arena");
  fs::create_directories(where + "/state");
  SimPeerOptions a{.name = "A", .number = 1, .seed = 11, .rootMark = Mark::Real, .joining = false, .onSystemDisk = "", .watched = true};
  SimPeerOptions b{.name = "B", .number = 2, .seed = 12, .rootMark = markOfB, .joining = true, .onSystemDisk = where, .watched = false};
  a_ = std::make_unique<SimPeer>(queue_, a);
  b_ = std::make_unique<SimPeer>(queue_, b);
  for (auto* peer : {a_.get(), b_.get()}) peer->clock.jump(systemClock().nowNs() - peer->clock.nowNs());
  link_ = std::make_unique<SimLink>(*a_, *b_);
  must(a_->start(), "A starts");
}

KillHousehold::~KillHousehold() {
  link_ = nullptr;
  a_->vanish();
  b_->vanish();
  queue_.clear();
}

void KillHousehold::inFolderOfA(const std::function<void(Directory&)>& work) {
  auto root = a_->disk.openRoot(kSimFolder);
  if (!root.ok()) throw std::runtime_error(root.error().message);
  work(**root);
}

void KillHousehold::writeAtA(const std::string& path, const std::string& content) {
  inFolderOfA([&](Directory& root) {
    const size_t slash = path.rfind('/');
    if (slash != std::string::npos) (void)root.makeDirectory(path.substr(0, slash), 0755).ok();  // Made before, maybe.
    auto file = root.open(path, OpenMode::CreateOrOpen, 0644);
    if (!file.ok()) throw std::runtime_error(file.error().message);
    must((*file)->truncate(0), "truncate");
    must((*file)->write(0, std::as_bytes(std::span(content))), "write");
  });
}

void KillHousehold::runFor(int64_t ms) {
  const int64_t end = queue_.nowNs() + ms * kNsPerMs;
  queue_.at(end, [] {});
  while (queue_.nowNs() < end) queue_.step();
}

std::string KillHousehold::unsettled() {
  for (auto* peer : {a_.get(), b_.get()}) {
    auto& core = peer->core->core();
    const std::string& name = peer->options.name;
    if (core.suspended) return name + " is suspended: " + core.suspendedWhy;
    if (core.folder->settling()) return name + " is settling";
    if (core.marks->missingFiles()) return name + " misses files";
    // Of two heads, who keeps the other in its folder promises nothing: they stay until somebody chooses.
    if (core.marks->unconfirmedFiles() && !inConflict(core)) return name + " has files to let go";
    if (core.store.unsynced().count()) return name + " has names that may not be on disk";
    auto& other = peer == a_.get() ? *b_ : *a_;
    if (!core.exchange->agreesWith(other.key)) return name + " does not know that it agrees with " + other.options.name;
  }
  return "";
}

std::string KillHousehold::meet(const std::function<void(peer::Core&)>& act) {
  must(b_->start(), "B starts");
  link_->connect();
  runFor(50);
  if (act) {
    std::lock_guard held(b_->scheduler->coreLock());
    act(b_->core->core());
  }
  return rest();
}

std::string KillHousehold::rest() {
  std::string why;
  int quiet = 0;
  for (int64_t passed = 0; passed < kSettleMs && quiet < 3; passed += 200) {
    runFor(200);
    why = unsettled();
    quiet = why.empty() ? quiet + 1 : 0;
  }
  return why;
}

void KillHousehold::part() {
  link_->cut();
  b_->stop();
}

std::vector<std::pair<std::string, std::string>> KillHousehold::filesOfB() const {
  std::vector<std::pair<std::string, std::string>> out;
  const fs::path root = b_->folder();
  for (auto at = fs::recursive_directory_iterator(root); at != fs::recursive_directory_iterator(); ++at) {
    const std::string path = fs::relative(at->path(), root);
    if (path == peer::kOwnFolder) {
      at.disable_recursion_pending();
      continue;
    }
    out.emplace_back(path, at->is_regular_file() && !at->is_symlink() ? contentOf(at->path()) : "");
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string KillHousehold::contentAtB(const std::string& path) const { return contentOf(b_->folder() + "/" + path); }

std::vector<std::string> KillHousehold::temporariesOfB() const {
  std::vector<std::string> out;
  for (const auto& item : fs::directory_iterator(b_->folder() + "/" + peer::kTempFolder)) out.push_back(item.path().filename());
  return out;
}

bool KillHousehold::cachedAtB(const std::string& content) const {
  for (const auto& item : fs::directory_iterator(b_->folder() + "/" + peer::kCacheFolder))
    if (contentOf(item.path()) == content) return true;
  return false;
}

bool KillHousehold::isHead(const std::string& path, const std::string& content) {
  ContentHasher hasher(content.size());
  hasher.add(std::as_bytes(std::span(content)));
  const BlobId blob = hasher.finish()->blob;
  auto& core = a_->core->core();
  for (const auto& id : core.store.allEntries(0, 1000)) {
    auto record = core.tree.get(id);
    auto shown = core.shownPath(id);
    if (!record || !record->shown || !shown.ok() || *shown != path) continue;
    for (const auto& head : core.tree.shownHeads(id))
      if (head.version.blob == blob) return true;
  }
  return false;
}

}  // namespace realize::test
