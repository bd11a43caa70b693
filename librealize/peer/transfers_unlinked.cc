// What peers removed or replaced stays in the cache for a while, so that it can be brought back (peer/undo.h): the first to
// go where room is needed, and at most a share of the free space, for so many days. What no user let go, but only a policy that settled
// a conflict, is kept for these days whatever space there is: only the cache's limit, or who shrinks the cache, takes it, last
// of all.

#include <algorithm>

#include "librealize/peer/folder.h"
#include "librealize/peer/transfers_state.h"

namespace realize::peer {

namespace {
constexpr int64_t kLookNs = 5'000'000'000;
constexpr int64_t kExpireMs = 3'600'000;
constexpr int64_t kDayNs = 24 * 3600 * 1'000'000'000LL;
constexpr size_t kRows = 256;
}  // namespace

/// The share of what would be free without them. Looked at every few seconds.
uint64_t Transfers::State::unlinkedAllowed() {
  const int64_t now = core.env.clock.monotonicNs();
  if (unlinkedLookedNs != INT64_MIN && now - unlinkedLookedNs < kLookNs) return unlinkedAllowedBytes;
  unlinkedLookedNs = now;
  unlinkedAllowedBytes = 0;
  auto root = core.folder->root();
  auto space = root ? root->space() : Result<Directory::Space>(Error{Code::Suspended, ""});
  if (space.ok() && core.settings.unlinkedDays > 0)
    unlinkedAllowedBytes =
        uint64_t(core.settings.unlinkedShare * double(space->availableBytes + core.store.cache().unlinkedTotals().bytes));
  return unlinkedAllowedBytes;
}

/// The oldest first: so many bytes, and all that is older than that.
void Transfers::State::evictUnlinked(uint64_t bytes, int64_t olderThanNs) {
  uint64_t dropped = 0;
  core.transact([&] {
    for (size_t limit = kRows;; limit *= 8) {
      const auto rows = core.store.cache().evictionOrder(limit);
      for (const auto& row : rows) {
        if (!row.unlinked || (dropped >= bytes && row.lastReadNs >= olderThanNs)) return;
        if (evictable(row.blob) && drop(row.blob, true)) dropped += row.storedBytes;
      }
      if (rows.size() < limit) return;
    }
  });
}

void Transfers::State::keepUnlinkedLimit() {
  const uint64_t kept = core.store.cache().unlinkedTotals().bytes;
  if (kept == 0 || core.stopping || core.suspended) return;
  const uint64_t allowed = unlinkedAllowed();
  evictUnlinked(kept > allowed ? kept - allowed : 0, core.env.clock.nowNs() - core.settings.unlinkedDays * kDayNs);
}

void Transfers::State::expireLater() {
  if (expiring || (core.store.cache().unlinkedTotals().count == 0 && !core.store.cache().anyKept())) return;
  expiring = true;
  core.env.scheduler.onCoreAfter(kExpireMs, [this, alive = alive] {
    if (!*alive || core.stopping) return;
    expiring = false;
    // Hours of this process: a clock that jumps makes nothing older.
    if (!core.suspended && core.store.cache().anyKept()) core.transact([&] { core.store.cache().hourPassed(); });
    keepUnlinkedLimit();
    expireLater();
  });
}

void Transfers::start() { s_->expireLater(); }

bool Transfers::mayKeepUnlinked(const BlobId& blob, uint64_t sizeBytes) {
  auto& s = *s_;
  if (blob.isZero() || sizeBytes == 0 || sizeBytes > s.unlinkedAllowed()) return false;
  const uint64_t kept = s.core.store.cache().unlinkedTotals().bytes;
  if (kept + sizeBytes > s.unlinkedAllowedBytes) {
    // Some more than that: each look at the oldest costs.
    s.evictUnlinked(kept + sizeBytes - s.unlinkedAllowedBytes + s.unlinkedAllowedBytes / 16, INT64_MIN);
  }
  if (!s.limited()) return true;
  // It is counted as Real yet, and is that no more in a moment.
  const uint64_t used = s.usedBytes(), left = s.allowedBytes(used), allowed = left > UINT64_MAX - sizeBytes ? left : left + sizeBytes;
  if (used + sizeBytes <= allowed) return true;
  if (sizeBytes > allowed) return false;
  s.evictUnlinked(used + sizeBytes - allowed, INT64_MIN);  // What is read is worth more.
  return s.usedBytes() + sizeBytes <= allowed;
}

void Transfers::adoptUnlinked(const BlobId& blob, uint64_t sizeBytes) {
  auto& s = *s_;
  store::CacheRow row;
  row.blob = blob;
  row.sizeBytes = row.storedBytes = sizeBytes;
  row.complete = true;
  row.lastReadNs = s.core.env.clock.nowNs();
  row.unlinked = true;
  s.core.store.cache().put(row);
  s.forget(blob);  // Who has the old state open reads on from its own file.
  limitChanged();
  s.expireLater();
}

void Transfers::noteGone(const BlobId& blob) {
  auto& cache = s_->core.store.cache();
  if (cache.totals().count == 0 || blob.isZero()) return;
  cache.setUnlinked(blob, true, s_->core.env.clock.nowNs());
  s_->expireLater();
}

void Transfers::keepForDays(const BlobId& blob) {
  const int64_t days = s_->core.settings.unlinkedDays;
  if (days <= 0) return;
  s_->core.store.cache().setKeptHours(blob, uint32_t(days * 24));
  s_->expireLater();
}

void Transfers::dropUnlinked() {
  s_->evictUnlinked(UINT64_MAX, INT64_MAX);
  s_->unlinkedLookedNs = INT64_MIN;
}

}  // namespace realize::peer
