#include "librealize/peer/new_files.h"

#include <algorithm>
#include <utility>

#include "librealize/base/fault.h"

namespace realize::peer {

void NewFile::move() {
  const auto kind = faulty(Fault::OverwriteUnknown) ? RenameKind::Replace : RenameKind::NoReplace;
  moved = temp->renameInto(tempName, *folder->directory, plan.name, kind).ok();
  if (!moved) return;
  if (auto stat = folder->directory->stat(plan.name); stat.ok()) there = *stat;
}

bool NewFiles::Shared::moveNext() {
  const size_t index = next.fetch_add(1);
  if (index >= files.size()) return false;
  if (files[index]) files[index]->move();
  done[index] = true;
  done[index].notify_one();
  return true;
}

void NewFiles::begin(std::vector<std::unique_ptr<NewFile>> files) {
  finish();
  shared_ = std::make_shared<Shared>();
  shared_->done = std::make_unique<std::atomic<bool>[]>(files.size());
  shared_->files = std::move(files);
  if (shared_->files.size() < 2 || !scheduler_.manyThreads()) return;
  scheduler_.onPool(true, [shared = shared_] {
    while (shared->moveNext()) {}
  });
}

const NewFile* NewFiles::await(size_t index) {
  while (!shared_->done[index] && shared_->moveNext()) {}
  shared_->done[index].wait(false);
  return shared_->files[index].get();
}

/// Those that another thread is at come to their end; no more begin.
void NewFiles::finish() {
  if (!shared_) return;
  const size_t begun = std::min(shared_->next.exchange(shared_->files.size()), shared_->files.size());
  for (size_t i = 0; i < begun; ++i) shared_->done[i].wait(false);
  shared_ = nullptr;
}

}  // namespace realize::peer
