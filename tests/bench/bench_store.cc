// What a file costs in an arena's database: CPU time of each operation, and bytes on disk. Asserts nothing.

#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <vector>

#include "librealize/store/arena_store.h"
#include "tests/store/entries.h"
#include "tests/support/temp_dir.h"

using namespace realize;
using namespace realize::store;

namespace {

double cpuSeconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

template <typename Work>
void timed(const char* what, size_t count, Work&& work) {
  const double start = cpuSeconds();
  work();
  const double spent = cpuSeconds() - start;
  std::printf("%-46s %8zu  %7.2f us each  %6.2f s\n", what, count, 1e6 * spent / double(count), spent);
}

double bytesPerFile(ArenaStore& store, const std::string& path, size_t files) {
  store.database().checkpoint();
  return double(std::filesystem::file_size(path)) / double(files);
}

}  // namespace

int main(int argc, char** argv) {
  const size_t files = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100'000;
  const size_t batch = 1'000, perFolder = 100;
  test::TempDir dir;
  const std::string path = dir / "index.db";
  auto opened = ArenaStore::open(path);
  if (!opened.ok()) return 1;
  ArenaStore& store = **opened;
  std::mt19937_64 random(1);

  std::vector<logic::Record> records;
  uint64_t seq = 0;
  EntryId folder;
  for (size_t i = 0; i < files; ++i) {
    if (i % perFolder == 0) {
      auto r = test::recordFor(kRootEntry, "folder " + std::to_string(i), EntryKind::Directory, 0x1234567890abcdef, ++seq);
      folder = r.entry.id;
      records.push_back(r);
    }
    auto name = "some file " + std::to_string(i) + ".txt";
    records.push_back(test::recordFor(folder, name, EntryKind::File, 0x1234567890abcdef, ++seq));
  }
  auto inBatches = [&](auto&& each) {
    for (size_t at = 0; at < records.size(); at += batch)
      store.transact([&] {
        for (size_t i = at; i < std::min(at + batch, records.size()); ++i) each(records[i]);
      });
  };

  timed("put an entry, transactions of 1,000", records.size(), [&] { inBatches([&](auto& r) { store.put(r); }); });
  const double tree = bytesPerFile(store, path, files);
  timed("put its disk row", records.size(), [&] {
    inBatches([&](const auto& r) {
      DiskRow row;
      row.node = r.node;
      row.parentNode = *store.nodeOf(r.shownParent);
      row.name = r.shownName;
      row.kind = r.entry.kind;
      row.device = 66;
      row.inode = 1'000'000 + r.node;
      row.birthNs = row.mtimeNs = row.ctimeNs = 1'700'000'000'000'000'000 + int64_t(r.node);
      row.sizeBytes = 4096;
      row.mode = 0644;
      row.blob = r.entry.heads[0].second.blob;
      row.base = {r.entry.live[0]};
      store.disk().put(row);
    });
  });
  const double disk = bytesPerFile(store, path, files) - tree;

  auto any = [&]() -> logic::Record& { return records[random() % records.size()]; };
  timed("get an entry at random, in a transaction", files, [&] {
    store.transact([&] { for (size_t i = 0; i < files; ++i) if (!store.get(any().entry.id)) std::abort(); });
  });
  timed("get an entry at random, outside one", files, [&] {
    for (size_t i = 0; i < files; ++i) if (!store.get(any().entry.id)) std::abort();
  });
  timed("get entries in the order of the tree", records.size(), [&] {
    for (const auto& r : records) if (!store.get(r.entry.id)) std::abort();
  });
  timed("look up a name at random", files, [&] {
    for (size_t i = 0; i < files; ++i) { auto& r = any(); if (!store.shownAt(r.shownParent, r.shownName)) std::abort(); }
  });
  timed("list folders, per name", files, [&] {
    for (const auto& r : records)
      if (r.entry.kind == EntryKind::Directory && store.shownIn(r.entry.id, "", SIZE_MAX).size() != perFolder) std::abort();
  });
  timed("list folders of the disk table, per name", files, [&] {
    for (const auto& r : records)
      if (r.entry.kind == EntryKind::Directory && store.disk().childrenOf(r.node).size() != perFolder) std::abort();
  });
  timed("disk row by blob at random", files, [&] {
    for (size_t i = 0; i < files; ++i) (void)store.disk().anyWithBlob(any().entry.heads[0].second.blob);
  });
  timed("edit an entry at random", files, [&] {
    store.transact([&] {
      for (size_t i = 0; i < files; ++i) {
        auto& r = any();
        r.entry.touch.join(Dot{0x1234567890abcdef, ++seq});
        r.entry.heads[0].second.mtimeNs += 1;
        store.put(r);
      }
    });
  });
  timed("one-row transactions", 20'000, [&] {
    for (int i = 0; i < 20'000; ++i) store.transact([&] { store.setValue("n", std::to_string(i)); });
  });
  timed("... each made durable", 100, [&] {
    for (int i = 0; i < 100; ++i) {
      store.transact([&] { store.setValue("n", std::to_string(i)); });
      store.makeDurable();
    }
  });
  std::printf("bytes per file: %.0f for the tree, %.0f for the disk table\n", tree, disk);
}
