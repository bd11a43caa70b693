// Changes from a peer: whatever decodes is well-formed, survives another round, and can be given to the tree's rules.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "librealize/logic/tree.h"
#include "librealize/model/codec.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_random.h"
#include "tests/support/memory_tree_store.h"
#include "tests/support/plain_view.h"

using namespace realize;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)decodeVector(bytes);
  (void)decodeAcks(bytes);
  if (auto entry = decodeEntry(bytes); entry.ok()) {
    if (!(decodeEntry(encodeEntry(*entry)).value() == *entry)) abort();
  }
  auto changes = decodeChanges(bytes);
  if (!changes.ok()) return 0;
  if (decodeChanges(encodeChanges(*changes)).value().size() != changes->size()) abort();

  test::FakeClock clock;
  test::FakeRandom random(1);
  logic::MemoryTreeStore store;
  logic::Tree tree(store, clock, random, PeerKey{});
  for (const Change& change : *changes) (void)tree.apply(change);
  if (!logic::viewDifference(store).empty()) abort();
  return 0;
}
