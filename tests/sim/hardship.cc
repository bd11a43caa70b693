// Disks that fail.

#include "tests/sim/hardship.h"

#include <algorithm>
#include <utility>

#include "tests/sim/world.h"

namespace realize::test {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;

constexpr std::pair<const char*, Hardship> kNames[] = {
    {"failed-syncs", Hardship::FailedSyncs},
    {"disk-errors", Hardship::DiskErrors},
};

struct Failing {
  FakeOp op;
  const char* what;
};

constexpr Failing kSyncs[] = {{FakeOp::FileSync, "syncing a file"}, {FakeOp::FileSync, "syncing a file"}, {FakeOp::SyncAll, "syncing all"}};

constexpr Failing kCalls[] = {
    {FakeOp::Read, "reading"},    {FakeOp::Write, "writing"},       {FakeOp::List, "listing"},
    {FakeOp::Open, "opening"},    {FakeOp::Create, "creating"},     {FakeOp::Stat, "looking"},
    {FakeOp::Rename, "renaming"}, {FakeOp::Truncate, "truncating"}, {FakeOp::SetTimes, "setting times"},
    {FakeOp::Unlink, "removing"}, {FakeOp::MakeDirectory, "making folders"}, {FakeOp::SyncDirectory, "syncing a folder"},
};

}  // namespace

std::optional<Hardship> hardshipNamed(const std::string& name) {
  const auto* found = std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& known) { return known.first == name; });
  return found == std::end(kNames) ? std::nullopt : std::optional(found->second);
}

void World::planHardships() {
  const int64_t length = int64_t(stepsLeft_) * 700 * kNsPerMs;
  for (const auto hardship : {Hardship::FailedSyncs, Hardship::DiskErrors}) {
    if (!suffers(hardship)) continue;
    for (uint64_t n = 1 + below(uint64_t(stepsLeft_) / 8 + 1); n > 0; --n)
      plan(int64_t(below(uint64_t(length))), [this, hardship] { failDisk(hardship); });
  }
}

/// Some of the program's next calls of one kind fail, in its folder; syncs of a file also those of its database.
void World::failDisk(Hardship hardship) {
  if (healing_) return;
  const size_t number = below(machines_.size());
  const Failing failing = hardship == Hardship::FailedSyncs ? kSyncs[below(std::size(kSyncs))] : kCalls[below(std::size(kCalls))];
  auto& machine = machines_[number];
  machine.failingOp = failing.op;
  machine.failures = 1 + below(4);
  machine.failingDatabase = hardship == Hardship::FailedSyncs && oneIn(3);
  say(number, std::string(failing.what) + (machine.failingDatabase ? " fails, or of its database, " : " fails ") +
                  std::to_string(machine.failures) + " times");
}

std::optional<Error> World::failureOf(size_t number, const FakeCall& call) {
  auto& machine = machines_[number];
  if (call.op == FakeOp::SyncAll && machine.peer->disk.owesFailure()) machine.failedNs = queue_.nowNs();  // However late it tells it.
  const bool meant = machine.failures > 0 && call.op == machine.failingOp && !healing_ && !machine.peer->userActing &&
                     (machine.failingDatabase || call.path.starts_with(kSimFolder));
  if (!meant || oneIn(3)) return std::nullopt;
  --machine.failures;
  machine.failedNs = queue_.nowNs();
  machine.failedSinceStart = true;
  const bool sync = call.op == FakeOp::FileSync || call.op == FakeOp::SyncAll;
  count(sync ? "syncs failed" : "disk calls failed");
  if (options_.calls) say(number, "    . the disk fails: " + call.path);
  return Error{Code::Io, "the disk fails"};
}

}  // namespace realize::test
