// Who belongs to a household: pairing, removing, telling each other.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/peer/two_peers.h"

namespace realize::test {

TEST_CASE("a peer that joins with an invite and its inviter know each other") {
  TestPeer a("a"), b("b");

  join(b, a);

  CHECK(a.knows("b"));
  CHECK(b.knows("a"));
  CHECK(eventually([&] { return a.connectedTo("b") && b.connectedTo("a"); }));
}

TEST_CASE("a join whose connection is replaced by another before it is through has joined") {
  TestPeer a("a"), b("b");
  std::vector<std::string> said(4);
  std::vector<std::thread> joins;

  for (auto& text : said) {
    auto code = a->invite({});
    REQUIRE(code.ok());
    joins.emplace_back([&b, &text, code = *code] {
      auto joined = b->join(code);
      text = joined.ok() ? "joined" : joined.error().message;
    });
  }
  for (auto& one : joins) one.join();

  for (auto& text : said) CHECK(text == "joined");
  CHECK(eventually([&] { return a.connectedTo("b") && b.connectedTo("a"); }));
}

TEST_CASE("a deaf peer can join, and its inviter sees it connected") {
  TestPeer a("a"), b("b", "");

  join(b, a);

  CHECK(eventually([&] { return a.connectedTo("b") && b.connectedTo("a"); }));
  CHECK(b->status().listen.empty());
}

TEST_CASE("a deaf peer cannot invite, and says what to do") {
  TestPeer deaf("deaf", "");

  auto code = deaf->invite({});

  REQUIRE_FALSE(code.ok());
  CHECK(code.code() == Code::Refused);
  CHECK(code.error().message.find("invite from the other side") != std::string::npos);
}

TEST_CASE("an invite is good for one peer only") {
  TestPeer a("a"), b("b"), c("c");
  auto code = a->invite({});
  REQUIRE(code.ok());
  REQUIRE(b->join(*code).ok());

  auto second = c->join(*code);

  REQUIRE_FALSE(second.ok());
  CHECK(second.code() == Code::Refused);
  CHECK(second.error().message.find("used already") != std::string::npos);
  CHECK_FALSE(a.knows("c"));
}

TEST_CASE("an invite with a mistake in it is recognized") {
  TestPeer a("a"), b("b");
  auto code = a->invite({});
  REQUIRE(code.ok());
  (*code)[20] = (*code)[20] == 'a' ? 'b' : 'a';

  auto joined = b->join(*code);

  REQUIRE_FALSE(joined.ok());
  CHECK(joined.code() == Code::InvalidArgument);
}

TEST_CASE("an invite whose peer does not answer says so") {
  TestPeer a("a"), b("b");
  auto code = a->invite({});
  REQUIRE(code.ok());
  a.stop();

  auto joined = b->join(*code);

  REQUIRE_FALSE(joined.ok());
  CHECK(joined.code() == Code::Unreachable);
}

TEST_CASE("who is removed is cut off and not let in again") {
  TestPeer a("a"), b("b");
  join(b, a);
  REQUIRE(eventually([&] { return a.connectedTo("b"); }));

  REQUIRE(a->removePeer("b").ok());

  CHECK_FALSE(a.knows("b"));
  CHECK(eventually([&] { return !b.connectedTo("a"); }));
  b.stop();
  b.start();
  CHECK(eventually([&] {
    auto status = b->status();
    return status.peers.size() == 1 && !status.peers[0].connected && !status.peers[0].lastError.empty();
  }));
}

TEST_CASE("who was removed can be invited again") {
  TestPeer a("a"), b("b");
  join(b, a);
  REQUIRE(a->removePeer("b").ok());

  join(b, a);

  CHECK(a.knows("b"));
  CHECK(eventually([&] { return a.connectedTo("b") && b.connectedTo("a"); }));
}

TEST_CASE("in a chain, the far ends learn of each other and connect") {
  TestPeer a("a"), b("b"), c("c");
  join(b, a);

  join(c, b);

  CHECK(eventually([&] { return a.knows("c") && c.knows("a"); }));
  CHECK(eventually([&] { return a.connectedTo("c") && c.connectedTo("a"); }));
}

TEST_CASE("peers find each other again after one was restarted") {
  TestPeer a("a"), b("b");
  join(b, a);
  REQUIRE(eventually([&] { return a.connectedTo("b"); }));
  const std::string address = a->self().address;

  a.stop();
  REQUIRE(eventually([&] { return !b.connectedTo("a"); }));
  a.start();

  CHECK(a->self().address == address);
  CHECK(eventually([&] { return a.connectedTo("b") && b.connectedTo("a"); }));
}

TEST_CASE("a peer that was met before is dialled by what it proved then") {
  TestPeer a("a"), b("b", "");
  join(b, a);
  REQUIRE(eventually([&] { return b.connectedTo("a"); }));
  const std::string address = a->self().address;
  a.stop();

  // What the dialer says first, to whoever listens there now: magic, version, and 1 for IK.
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(uint16_t(std::stoi(address.substr(address.rfind(':') + 1))));
  inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  REQUIRE(bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
  REQUIRE(listen(listener, 1) == 0);
  bool ik = false;
  for (int tries = 0; tries < 5 && !ik; ++tries) {
    const int dialled = accept(listener, nullptr, nullptr);
    char greeting[8] = "";
    CHECK(recv(dialled, greeting, sizeof greeting, MSG_WAITALL) == sizeof greeting);
    ik = greeting[6] == 1;
    close(dialled);
  }
  close(listener);

  CHECK(ik);
  a.start();
  CHECK(eventually([&] { return b.connectedTo("a"); }));
}

TEST_CASE("peers added by hand on both sides connect") {
  TestPeer a("a"), b("b");

  REQUIRE(a->addPeer("b", b->self().key.hex(), b->self().address).ok());
  REQUIRE(b->addPeer("a", a->self().key.hex(), a->self().address).ok());

  CHECK(eventually([&] { return a.connectedTo("b") && b.connectedTo("a"); }));
}

TEST_CASE("two peers of one name are told apart when one joins") {
  TestPeer a("same"), b("same");

  join(b, a);

  CHECK(a->self().name == "same");
  CHECK(b->self().name == "same-2");
}

TEST_CASE("a second process cannot open the same state folder") {
  TestPeer a("a");

  auto second = Peer::open(a.folder / "state");

  REQUIRE_FALSE(second.ok());
  CHECK(second.code() == Code::AlreadyRunning);
}

TEST_CASE("opening what was never made says what to do") {
  TempDir folder;

  auto opened = Peer::open(folder / "nothing");

  REQUIRE_FALSE(opened.ok());
  CHECK(opened.code() == Code::NotFound);
  CHECK(opened.error().message.find("realize init") != std::string::npos);
}

}  // namespace realize::test
