#include "librealize/peer/alike_names.h"

#include <algorithm>

#include "librealize/base/fold_name.h"
#include "librealize/base/path.h"
#include "librealize/peer/folder.h"

namespace realize::peer {

namespace {
constexpr int64_t kQuietMs = 2000;       // After the last change: they come in swarms.
constexpr int kMostPostponed = 30;       // Where they never end.
constexpr int64_t kPauseMs = 50;         // Between two turns.
constexpr size_t kNamesATurn = 2000;     // A few ms under the core lock.
constexpr uint64_t kNamesPerMs = 10;     // A large folder that changes all the time takes about a hundredth of a processor.
constexpr int64_t kMostMs = 60'000;
constexpr size_t kGroupsOfFolder = 100;  // Are kept; more are counted.
constexpr size_t kNamesOfGroup = 10;
constexpr size_t kGroupsTold = 100;
}  // namespace

AlikeNames::AlikeNames(Core& core) : core_(core) {}
AlikeNames::~AlikeNames() { stop(); }

void AlikeNames::stop() { *alive_ = false; }

void AlikeNames::noteChange(const logic::Effect& effect) {
  if (effect.appeared() || effect.moved()) note(effect.parent);
  if (effect.gone() || effect.moved()) {
    if (found_.contains(effect.oldParent)) note(effect.oldParent);
    if (effect.gone()) found_.erase(effect.id);
  }
}

void AlikeNames::note(const EntryId& folder) {
  noted_ = true;
  if (last_ == folder) return;
  last_ = folder;
  waiting_.insert(folder);
  wake(kQuietMs + std::min(int64_t(looked_ / kNamesPerMs), kMostMs));
}

void AlikeNames::lookAll() {
  waiting_.insert(kRootEntry);
  for (const auto& id : core_.store.allDirectories()) waiting_.insert(id);
  wake(kQuietMs);
}

void AlikeNames::wake(int64_t delayMs) {
  if (scheduled_ || core_.stopping) return;
  scheduled_ = true;
  core_.env.scheduler.onCoreAfter(delayMs, [this, alive = alive_] { if (*alive) turn(); });
}

void AlikeNames::turn() {
  scheduled_ = false;
  if (core_.stopping || core_.suspended) return;  // When it goes on, all is looked at.
  if ((std::exchange(noted_, false) || core_.folder->settling()) && ++postponed_ < kMostPostponed) return wake(kQuietMs);
  postponed_ = 0;
  last_.reset();
  if (!std::exchange(begun_, true)) looked_ = 0;
  for (size_t read = 0; read < kNamesATurn && (looking_ || !waiting_.empty());) read += lookOn();
  begun_ = looking_ || !waiting_.empty();
  if (begun_) wake(kPauseMs);
}

/// A page of one folder. Returns what it cost.
size_t AlikeNames::lookOn() {
  if (!looking_) {
    looking_ = Looking{*waiting_.begin()};
    waiting_.erase(waiting_.begin());
  }
  const auto page = core_.tree.children(looking_->folder, looking_->after, kNamesATurn);
  for (const auto& child : page) look(child.name);
  looked_ += page.size();
  if (page.size() == kNamesATurn) {
    looking_->after = page.back().name;
  } else if (endOfNames()) {
    endOfFolder();
    looking_.reset();
  }
  return page.size() + 1;
}

void AlikeNames::look(const std::string& name) {
  auto folded = foldName(name);
  const size_t hash = std::hash<std::string>()(folded);
  auto& l = *looking_;
  if (!l.again) return l.hashes.push_back(hash);
  if (!std::binary_search(l.hashes.begin(), l.hashes.end(), hash)) return;
  auto group = l.alike.find(folded);
  if (group == l.alike.end() && l.alike.size() < kGroupsOfFolder) group = l.alike.emplace(std::move(folded), std::vector<std::string>()).first;
  if (group != l.alike.end() && group->second.size() < kNamesOfGroup) group->second.push_back(name);
}

/// False: names came twice, and are to be read again.
bool AlikeNames::endOfNames() {
  auto& l = *looking_;
  if (l.again) return true;
  std::sort(l.hashes.begin(), l.hashes.end());
  std::vector<size_t> twice;
  for (size_t i = 1; i < l.hashes.size(); ++i)
    if (l.hashes[i] == l.hashes[i - 1] && (twice.empty() || twice.back() != l.hashes[i])) twice.push_back(l.hashes[i]);
  l.hashes = std::move(twice);
  l.after.clear();
  l.again = true;
  return l.hashes.empty();
}

void AlikeNames::endOfFolder() {
  auto& l = *looking_;
  Found now;
  for (auto& [folded, names] : l.alike)
    if (names.size() > 1) now.names.push_back(std::move(names));
  // Names may have gone meanwhile, and two hashes may be the same by chance.
  now.groups = l.alike.size() < kGroupsOfFolder ? now.names.size() : l.hashes.size();
  const Found before = std::exchange(found_[l.folder], now);
  if (now.groups == 0) {
    found_.erase(l.folder);
    return;
  }
  const auto folder = core_.shownPath(l.folder);
  if (!folder.ok()) return;
  for (const auto& names : now.names) {
    if (std::find(before.names.begin(), before.names.end(), names) != before.names.end()) continue;
    std::string others;
    for (size_t i = 1; i < names.size(); ++i) others += (i == 1 ? "" : ", ") + names[i];
    core_.emit(Event{.whenNs = 0, .type = "alike-names", .arena = "", .path = joinPath(*folder, names[0]),
                     .peer = "", .detail = others});
  }
}

AlikeNames::Report AlikeNames::report() {
  Report out;
  for (const auto& [id, found] : found_) {
    const auto folder = core_.shownPath(id);
    if (!folder.ok()) continue;
    out.count += found.groups;
    for (const auto& names : found.names) {
      if (out.first.size() == kGroupsTold) break;
      out.first.emplace_back();
      for (const auto& name : names) out.first.back().push_back(joinPath(*folder, name));
    }
  }
  return out;
}

}  // namespace realize::peer
