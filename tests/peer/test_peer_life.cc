// Peers that come and go while they work, and what they tell.

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <mutex>

#include "librealize/base/posix_disk.h"
#include "librealize/loop/socket.h"
#include "tests/peer/two_peers.h"

namespace realize::test {

namespace {

constexpr size_t kBigBytes = 24u << 20;

std::string bigText() {
  std::string text(kBigBytes, '\0');
  uint64_t state = 1;
  for (char& c : text) c = char((state = state * 6364136223846793005u + 1442695040888963407u) >> 56);
  return text;
}

/// `a` has the arena "docs" with its folder, `b` joined it with a folder, too.
void share(TestPeer& a, TestPeer& b) {
  REQUIRE(a->createArena("docs", a.folder / "docs").ok());
  join(b, a);
  REQUIRE(b->joinArena("docs", b.folder / "docs").ok());
  auto outcome = b->wait("docs", 20'000);
  REQUIRE(outcome.ok());
  REQUIRE(outcome->reached);
}

}  // namespace

TEST_CASE("a transfer that is cut off by a restart goes on afterwards") {
  TestPeer a("a"), b("b");
  share(a, b);
  const std::string big = bigText();
  a.write("docs/big", big);
  REQUIRE(b->arena("docs").value()->mark("", Mark::Real).ok());
  REQUIRE(eventually([&] { return b->arena("docs").value()->stat("big").ok(); }));

  b.stop();
  b.start();

  CHECK(eventually([&] { return b.read("docs/big").size() == big.size(); }));
  CHECK(b.read("docs/big") == big);
}

TEST_CASE("an arena can be left while bytes are on their way to and from it") {
  TestPeer a("a"), b("b");
  share(a, b);
  a.write("docs/big", bigText());
  REQUIRE(b->arena("docs").value()->mark("", Mark::Real).ok());
  REQUIRE(eventually([&] { return b->arena("docs").value()->stat("big").ok(); }));

  CHECK(b->leaveArena("docs", true).ok());

  CHECK(b->arenaNames().empty());
  CHECK(eventually([&] { return b.isOffered("docs"); }));
  REQUIRE(b->joinArena("docs", b.folder / "docs").ok());
  CHECK(eventually([&] { return b->arena("docs").value()->stat("big").ok(); }));
}

TEST_CASE("undo tells how far it is, brings back what others have the bytes of, and can be ended half way") {
  constexpr size_t kFiles = 210;  // More than it does together.
  TestPeer a("a"), b("b");
  share(a, b);
  for (size_t i = 0; i < kFiles; ++i) a.write("docs/f" + std::to_string(i), "text " + std::to_string(i));
  REQUIRE(b->arena("docs").value()->mark("", Mark::Real).ok());
  auto arena = a->arena("docs").value();
  REQUIRE(eventually([&] { return b.read("docs/f209") == "text 209" && b->wait("docs", 20'000).value().reached; }));
  for (size_t i = 0; i < kFiles; ++i) std::filesystem::remove(a.folder / ("docs/f" + std::to_string(i)));
  REQUIRE(eventually([&] {
    (void)arena->confirm(false).ok();  // Held or not.
    return !arena->stat("f0").ok() && b->wait("docs", 20'000).value().reached;
  }));

  std::vector<Progress> told;
  auto ended = arena->undo({.path = "", .sinceNs = 1}, false, [&](const Progress& progress) {
    told.push_back(progress);
    return told.size() < 2;
  });
  CHECK(ended.code() == Code::Cancelled);
  auto rest = arena->undo({.path = "", .sinceNs = 1}, false, [&](const Progress& progress) {
    told.push_back(progress);
    return true;
  });

  REQUIRE(rest.ok());
  CHECK(rest->restored == kFiles - 200);
  REQUIRE(told.size() == 4);
  CHECK(told[0].doneFiles == 0);
  CHECK(told[0].totalFiles == kFiles);
  CHECK(told[1].doneFiles == 200);
  CHECK(told[3].doneFiles == kFiles - 200);
  CHECK(told[3].doneBytes == told[3].totalBytes);
  CHECK(eventually([&] { return b->wait("docs", 20'000).value().reached && a->wait("docs", 20'000).value().reached; }));
  CHECK(a.read("docs/f0") == "text 0");
  CHECK(a.read("docs/f209") == "text 209");
}

TEST_CASE("a public arena that outlives its peer only fails") {
  TestPeer a("a");
  REQUIRE(a->createArena("docs", a.folder / "docs").ok());
  auto arena = a->arena("docs").value();

  a.stop();

  CHECK(arena->name() == "docs");
  CHECK_FALSE(arena->stat("").ok());
  CHECK_FALSE(arena->status().ok());
  CHECK_FALSE(arena->fileSystem().attributes(kRootNode).ok());
}

TEST_CASE("a file of a peer that is not connected directly is read through one between") {
  TestPeer left("left", ""), middle("middle"), right("right", "");
  REQUIRE(middle->createArena("docs", middle.folder / "docs").ok());
  join(left, middle);
  join(right, middle);
  REQUIRE(left->joinArena("docs", left.folder / "docs").ok());
  REQUIRE(right->joinArena("docs", "").ok());
  left.write("docs/letter.txt", "through the middle");
  auto arena = right->arena("docs").value();
  REQUIRE(eventually([&] { return arena->stat("letter.txt").ok(); }));

  Bytes bytes(100);
  auto got = arena->read("letter.txt", 0, bytes);

  REQUIRE_MESSAGE(got.ok(), (got.ok() ? "" : got.error().message));
  CHECK(std::string(reinterpret_cast<char*>(bytes.data()), *got) == "through the middle");
}

TEST_CASE("equal files in both folders are matched when joining, not sent") {
  TestPeer a("a"), b("b");
  REQUIRE(a->createArena("docs", a.folder / "docs").ok());
  a.write("docs/same.txt", "the same on both sides");
  REQUIRE(eventually([&] { return a->arena("docs").value()->stat("same.txt").ok(); }));
  std::filesystem::create_directory(b.folder / "docs");
  b.write("docs/same.txt", "the same on both sides");
  b.write("docs/own.txt", "only here");
  join(b, a);

  REQUIRE(b->joinArena("docs", b.folder / "docs").ok());

  auto outcome = b->wait("docs", 20'000);
  REQUIRE(outcome.ok());
  CHECK(outcome->reached);
  CHECK(b->arena("docs").value()->conflicts()->empty());
  CHECK(a->arena("docs").value()->stat("own.txt").ok());
  CHECK(b.read("docs/same.txt") == "the same on both sides");
}

TEST_CASE("who is removed from the household gets no more changes") {
  TestPeer a("a"), b("b");
  share(a, b);

  REQUIRE(a->removePeer("b").ok());
  a.write("docs/secret.txt", "not for b");
  REQUIRE(eventually([&] { return a->arena("docs").value()->stat("secret.txt").ok(); }));

  CHECK_FALSE(b.connectedTo("a"));
  CHECK_FALSE(b->arena("docs").value()->stat("secret.txt").ok());
}

TEST_CASE("subscribers are told who comes and goes, by name") {
  TestPeer a("a"), b("b");
  std::mutex mutex;
  std::vector<std::string> seen;
  auto token = a->subscribe([&](const Event& event) {
    std::lock_guard held(mutex);
    seen.push_back(event.type + " " + event.peer);
  });
  auto has = [&](const std::string& what) {
    std::lock_guard held(mutex);
    return std::find(seen.begin(), seen.end(), what) != seen.end();
  };

  join(b, a);
  CHECK(eventually([&] { return has("connected b"); }));
  b.stop();
  CHECK(eventually([&] { return has("disconnected b"); }));
  token = nullptr;
}

TEST_CASE("a peer can be told to listen, elsewhere, and no more") {
  TestPeer a("a"), b("b", "");
  join(b, a);

  REQUIRE(b->set("", "listen", "127.0.0.1:0").ok());

  const std::string address = b->self().address;
  CHECK(address.starts_with("127.0.0.1:"));
  CHECK(b->status().listen == address);
  CHECK(eventually([&] {
    for (auto& info : a->peers())
      if (info.name == "b") return info.address == address;
    return false;
  }));
  REQUIRE(b->set("", "listen", "").ok());
  CHECK(b->self().address.empty());
  CHECK_FALSE(b->invite({}).ok());
  CHECK_FALSE(b->set("", "listen", "nonsense").ok());
}

TEST_CASE("who was met before is dialled with its handshake key, also after a restart") {
  TestPeer a("a"), b("b", "");
  join(b, a);
  REQUIRE(eventually([&] { return b.connectedTo("a"); }));
  auto port = loop::parseHostPort(a->self().address);
  b.stop();
  a.stop();
  OwnedFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int yes = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(port->port);
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(bind(listener.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) == 0);
  REQUIRE(listen(listener.get(), 1) == 0);

  b.start();

  OwnedFd dialler(accept(listener.get(), nullptr, nullptr));
  REQUIRE(dialler.get() >= 0);
  uint8_t greeting[8] = {};
  REQUIRE(recv(dialler.get(), greeting, sizeof greeting, MSG_WAITALL) == ssize_t(sizeof greeting));
  CHECK(greeting[6] == 1);  // IK (greeting.h)
}

TEST_CASE("a peer whose port is taken starts all the same") {
  TestPeer a("a");
  TestPeer b("b", a->self().address);

  CHECK(b->status().listen.empty());
  a.stop();
  CHECK(eventually([&] { return !b->status().listen.empty(); }));
}

}  // namespace realize::test
