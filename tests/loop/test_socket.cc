#include <doctest/doctest.h>
#include <netdb.h>

#include <memory>
#include <string>
#include <thread>

#include "librealize/loop/socket.h"

using namespace realize;
using loop::Loop;

namespace {

/// Sends what it is told to, collects what comes.
struct Talker : loop::Socket::Observer {
  Talker(Loop& loop, kj::AutoCloseFd fd) : socket(loop, kj::mv(fd), *this) {
    auto paf = kj::newPromiseAndFulfiller<void>();
    ended = kj::mv(paf.promise);
    end = kj::mv(paf.fulfiller);
    socket.wantRead(true);
  }
  ~Talker() noexcept override {}
  void socketReadable() override {
    char buffer[1000];
    iovec part{buffer, sizeof(buffer)};
    auto got = socket.receive(&part, 1);
    if (got.ok() && !got->has_value()) return;
    if (!got.ok() || **got == 0) {
      socket.wantRead(false);
      end->fulfill();
      return;
    }
    received.append(buffer, **got);
  }
  void socketWritable() override {
    iovec part{toSend.data(), toSend.size()};
    auto sent = socket.send(&part, 1);
    if (sent.ok()) toSend.erase(0, *sent);
    socket.wantWrite(!toSend.empty() && sent.ok());
  }
  std::string received, toSend;
  kj::Promise<void> ended = nullptr;
  kj::Own<kj::PromiseFulfiller<void>> end;
  loop::Socket socket;
};

}  // namespace

TEST_CASE("addresses are parsed, and nonsense is refused") {
  CHECK(loop::parseHostPort("localhost:80")->host == "localhost");
  CHECK(loop::parseHostPort("[::1]:65535")->host == "::1");
  CHECK(loop::parseHostPort("[::1]:65535")->port == 65535);
  CHECK(loop::parseHostPort(":0")->host.empty());
  for (const char* bad : {"", "x", "x:", "x:65536", "x:-1", "x:1a", "::1:80", "[]:80", "[::1:80", "x: 80"})
    CHECK_FALSE(loop::parseHostPort(bad).ok());
}

/// A chroot may have no /etc/hosts.
bool localhostIsKnown() {
  addrinfo* list = nullptr;
  if (getaddrinfo("localhost", nullptr, nullptr, &list) != 0) return false;
  freeaddrinfo(list);
  return true;
}

TEST_CASE("bytes travel over a kernel-picked port, on IPv4 and IPv6") {
  for (std::string any : {"127.0.0.1:0", "[::1]:0", "localhost:0"}) {
    CAPTURE(any);
    if (any[0] == 'l' && !localhostIsKnown()) continue;
    Loop loop;
    std::unique_ptr<Talker> server, client;
    std::unique_ptr<loop::Acceptor> acceptor;
    std::string address = loop.run([&]() -> std::string {
      auto made = loop::Acceptor::listen(loop, any, [&](kj::AutoCloseFd fd) {
        server = std::make_unique<Talker>(loop, kj::mv(fd));
      });
      if (!made.ok()) return "";
      acceptor = std::move(*made);
      return acceptor->address().text();
    });
    if (address.empty() && any[0] == '[') continue;  // A machine without IPv6.
    REQUIRE_FALSE(address.empty());

    std::string big(3'000'000, 'x');
    loop.run([&] {
      return loop::connectTcp(loop, address, loop.timer(), 5 * kj::SECONDS).then([&](kj::AutoCloseFd fd) {
        client = std::make_unique<Talker>(loop, kj::mv(fd));
        client->toSend = big;
        client->socket.wantWrite(true);
      });
    });
    while (loop.run([&] { return !client->toSend.empty() || !server; })) std::this_thread::yield();
    loop.run([&] { client = nullptr; });
    loop.run([&] { return kj::mv(server->ended); });

    CHECK(server->received == big);
    loop.run([&] { server = nullptr; acceptor = nullptr; });
  }
}

TEST_CASE("connecting to a closed port fails, to a bad address too, and a taken port is Busy") {
  Loop loop;
  std::string address, second;
  loop.run([&] {
    auto acceptor = loop::Acceptor::listen(loop, "127.0.0.1:0", [](kj::AutoCloseFd) {});
    REQUIRE(acceptor.ok());
    address = (*acceptor)->address().text();
    CHECK(loop::Acceptor::listen(loop, address, [](kj::AutoCloseFd) {}).code() == Code::Busy);
  });

  auto connect = [&](std::string to) {
    loop.run([&] { return loop::connectTcp(loop, to, loop.timer(), 5 * kj::SECONDS).then([](kj::AutoCloseFd) {}); });
  };
  CHECK_THROWS_AS(connect(address), kj::Exception);
  CHECK_THROWS_AS(connect("nonsense"), kj::Exception);
  CHECK_THROWS_AS(connect("localhost:" + address.substr(address.rfind(':') + 1)), kj::Exception);
}

TEST_CASE("a name is looked up off the loop, and giving up a look-up or a connection under way is harmless") {
  if (!localhostIsKnown()) {
    MESSAGE("not tested: this system does not know the name localhost");
    return;
  }
  Loop loop;
  std::unique_ptr<loop::Acceptor> acceptor;
  int accepted = 0;
  std::string port = loop.run([&] {
    acceptor = std::move(*loop::Acceptor::listen(loop, "localhost:0", [&](kj::AutoCloseFd) { ++accepted; }));
    return std::to_string(acceptor->address().port());
  });

  loop.run([&] {
    return loop::connectTcp(loop, "localhost:" + port, loop.timer(), 5 * kj::SECONDS).then([](kj::AutoCloseFd) {});
  });
  loop.run([&] {
    auto lookUp = loop::connectTcp(loop, "localhost:" + port, loop.timer(), 5 * kj::SECONDS);
    auto connect = loop::connectTcp(loop, "127.0.0.1:" + port, loop.timer(), 5 * kj::SECONDS);
  });
  loop.run([&] { return loop.timer().afterDelay(1 * kj::MILLISECONDS); });

  CHECK(accepted >= 1);
  loop.run([&] { acceptor = nullptr; });
}

TEST_CASE("a connection that does not come about in time is given up") {
  Loop loop;
  std::unique_ptr<kj::TimerImpl> fake;
  loop.run([&] { fake = std::make_unique<kj::TimerImpl>(kj::origin<kj::TimePoint>()); });

  // 192.0.2.0/24 is for documentation: nobody answers; where the network says so at once, that is another failure.
  auto failed = loop.run([&] {
    auto connecting = loop::connectTcp(loop, "192.0.2.1:9", *fake, 5 * kj::SECONDS)
                          .then([](kj::AutoCloseFd) { return false; }, [](kj::Exception&&) { return true; })
                          .eagerlyEvaluate(nullptr);
    fake->advanceTo(fake->now() + 6 * kj::SECONDS);
    return connecting;
  });

  CHECK(failed);
  loop.run([&] { fake = nullptr; });
}
