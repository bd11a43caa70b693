// A peer inside an application: no daemon, no command line, no mount.
//
//   c++ embed.cc -o embed $(pkg-config --cflags --libs realize)
//   ./embed STATE FOLDER          the first peer: shares FOLDER as the arena "shared" and prints an invite
//   ./embed STATE FOLDER CODE     another one: joins by that code and reads the files without having them
//
// Both stay until end of input. FOLDER is unused by the second: it keeps no files.

#include <realize/peer.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace {

using realize::Arena;
using realize::Peer;

constexpr char kArena[] = "shared";
constexpr int64_t kWaitMs = 30'000;
constexpr size_t kShownBytes = 60;

int fail(const char* what, const realize::Error& error) {
  std::fprintf(stderr, "%s: %s\n", what, error.message.c_str());
  return 1;
}

/// Prints every file below `path`, with the beginning of its bytes. Bytes that are not on this peer are fetched from one
/// that has them, and verified, before read() returns them.
realize::Result<void> print(Arena& arena, const std::string& path) {
  REALIZE_ASSIGN(auto entries, arena.list(path));
  for (const realize::EntryInfo& entry : entries) {
    if (entry.kind == realize::EntryKind::Directory) {
      REALIZE_TRY(print(arena, entry.path));
    } else if (entry.kind == realize::EntryKind::File) {
      std::vector<std::byte> bytes(kShownBytes);
      REALIZE_ASSIGN(size_t size, arena.read(entry.path, 0, bytes));
      std::string text(reinterpret_cast<const char*>(bytes.data()), size);
      std::printf("%s (%llu bytes, %s): %s\n", entry.path.c_str(), static_cast<unsigned long long>(entry.sizeBytes),
                  entry.real ? "real" : "unreal", text.substr(0, text.find('\n')).c_str());
    }
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: embed STATE FOLDER [CODE]\n");
    return 2;
  }
  // Of the folder the library wants the absolute path: it is the same wherever the program is started next time.
  const std::string state = argv[1], folder = std::filesystem::absolute(argv[2]);
  const bool first = argc == 3;

  // A peer is made once. The first one listens on a port that the kernel picks; a deaf one dials only.
  auto made = Peer::init(state, {first ? "first" : "second", first ? "127.0.0.1:0" : ""});
  if (!made && made.code() != realize::Code::Exists) return fail("init", made.error());
  auto opened = Peer::open(state);
  if (!opened) return fail("open", opened.error());
  Peer& peer = **opened;

  // Events come from a thread of the library, for as long as the token is kept.
  auto events = peer.subscribe([](const realize::Event& event) {
    std::fprintf(stderr, "event %s %s\n", event.type.c_str(), event.path.c_str());
  });

  auto known = peer.arena(kArena);
  if (!known) {
    if (first) {
      if (auto created = peer.createArena(kArena, folder); !created) return fail("create", created.error());
    } else {
      if (auto joined = peer.join(argv[3]); !joined) return fail("join", joined.error());
      if (auto joined = peer.joinArena(kArena, ""); !joined) return fail("join the arena", joined.error());
    }
    known = peer.arena(kArena);
    if (!known) return fail("arena", known.error());
  }
  std::shared_ptr<Arena> arena = *known;

  if (first) {
    auto code = peer.invite({});
    if (!code) return fail("invite", code.error());
    std::printf("%s\n", code->c_str());
  } else {
    // Consensus: both sides said that they show the same tree.
    auto outcome = peer.wait(kArena, kWaitMs);
    if (!outcome) return fail("wait", outcome.error());
    for (const std::string& missing : outcome->missing) std::fprintf(stderr, "missing: %s\n", missing.c_str());
    if (auto printed = print(*arena, ""); !printed) return fail("read", printed.error());
  }
  std::printf("ready\n");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
