#pragma once

// Two peers in one process, connected over loopback.

#include <kj/debug.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "echo.capnp.h"
#include "librealize/base/pool.h"
#include "librealize/loop/loop.h"
#include "librealize/net/connection.h"

namespace realize::test {

/// Answers with what it is asked.
class EchoServer final : public Echo::Server {
 protected:
  kj::Promise<void> echo(EchoContext context) override {
    context.getResults().setText(context.getParams().getText());
    return kj::READY_NOW;
  }
  kj::Promise<void> relay(RelayContext context) override {
    auto request = context.getParams().getOther().echoRequest();
    request.setText(context.getParams().getText());
    return request.send().then([context](capnp::Response<Echo::EchoResults>&& answer) mutable {
      std::string text(answer.getText().asChars().begin(), answer.getText().size());
      text += text;
      context.getResults().setText(kj::arrayPtr(reinterpret_cast<const kj::byte*>(text.data()), text.size()));
    });
  }
};

inline capnp::Data::Reader data(const std::string& text) {
  return {reinterpret_cast<const kj::byte*>(text.data()), text.size()};
}
inline std::string text(capnp::Data::Reader reader) {
  return {reinterpret_cast<const char*>(reader.begin()), reader.size()};
}

/// A peer: its key, and what belongs to it on the loop.
struct Peer {
  Peer(loop::Loop& loop, Executor& pool, kj::Timer& timer, net::Limits limits = {})
      : identity(net::Identity::generate(systemRandom())), local{loop, timer, pool, identity, systemRandom(), limits} {}
  const PeerKey& key() const { return identity.key(); }

  net::Identity identity;
  net::Local local;
  std::unique_ptr<net::Listener> listener;
  std::unique_ptr<net::Connection> connection;
};

/// `a` listens and welcomes `welcome` (b, unless changed); `b` dials. Everything on the loop is destroyed there.
/// With `fakeTime`, only advance() moves the clock of handshakes and heartbeats.
struct Household {
  explicit Household(net::Limits limits = {}, bool fakeTime = false)
      : pool(2), loop([this](const std::string& line) { addLog(line); }) {
    loop.run([&] {
      if (fakeTime) fake = std::make_unique<kj::TimerImpl>(kj::origin<kj::TimePoint>());
      kj::Timer& timer = fake ? static_cast<kj::Timer&>(*fake) : loop.timer();
      a = std::make_unique<Peer>(loop, pool, timer, limits);
      b = std::make_unique<Peer>(loop, pool, timer, limits);
    });
    welcome = b->key();
  }
  ~Household() {
    loop.run([&] {
      for (Peer* peer : {a.get(), b.get()}) {
        peer->connection = nullptr;
        peer->listener = nullptr;
      }
    });
    pool.waitIdle();
    loop.run([&] { a = nullptr; b = nullptr; fake = nullptr; });
  }

  /// Returns the address.
  std::string listen() {
    return loop.run([&] {
      auto made = net::Listener::listen(
          a->local, "127.0.0.1:0",
          [this](const PeerKey& key, Bytes admission) -> kj::Promise<bool> {
            ++asked;
            lastAdmission = std::string(reinterpret_cast<const char*>(admission.data()), admission.size());
            return key == welcome;
          },
          [this](std::unique_ptr<net::Connection> c) {
            a->connection = std::move(c);
            if (startAtOnce) a->connection->start(kj::heap<EchoServer>(), aReceives);
            if (aConnected) aConnected->fulfill();
          },
          [this](const std::string& line) { addLog(line); });
      KJ_REQUIRE(made.ok());
      a->listener = std::move(*made);
      return a->listener->address();
    });
  }

  Result<void> dial(const std::string& address, net::Expected expected) {
    return loop.run([&, expected]() mutable {
      auto dialled = net::dial(b->local, address, std::move(expected));
      return dialled.then([this](Result<std::unique_ptr<net::Connection>>&& outcome) -> Result<void> {
        if (!outcome.ok()) return outcome.error();
        b->connection = std::move(*outcome);
        if (startAtOnce) b->connection->start(kj::heap<EchoServer>(), bReceives);
        return {};
      });
    });
  }

  /// Both ends started.
  void connect(bool knowDh = false) {
    auto arrived = loop.run([&] {
      auto paf = kj::newPromiseAndFulfiller<void>();
      aConnected = kj::mv(paf.fulfiller);
      return std::make_shared<kj::Promise<void>>(kj::mv(paf.promise));
    });
    net::Expected expected{a->key(), std::nullopt, {}};
    if (knowDh) expected.dh = a->identity.binding().dh;
    auto outcome = dial(listen(), expected);
    KJ_REQUIRE(outcome.ok(), outcome.ok() ? "" : outcome.error().message.c_str());
    loop.run([&] { return kj::mv(*arrived); });
    loop.run([&] { aConnected = nullptr; });
  }

  std::string echo(Peer& from, const std::string& what) {
    return loop.run([&] {
      auto request = from.connection->bootstrap().castAs<Echo>().echoRequest();
      request.setText(data(what));
      return request.send().then([](capnp::Response<Echo::EchoResults>&& answer) { return text(answer.getText()); });
    });
  }

  /// Waits until the connection has ended and says why.
  Error ended(Peer& peer) {
    loop.run([&] { return peer.connection->onClosed(); });
    return loop.run([&] { return peer.connection->closeReason(); });
  }

  void advance(kj::Duration by) {
    loop.run([&] { fake->advanceTo(fake->now() + by); });
    loop.run([&] { return kj::evalLast([] {}); });
  }

  void addLog(const std::string& line) {
    std::lock_guard lock(logMutex);
    log.push_back(line);
  }
  /// Waits for the first line.
  std::string firstLog() {
    for (;;) {
      {
        std::lock_guard lock(logMutex);
        if (!log.empty()) return log.front();
      }
      std::this_thread::yield();
    }
  }

  std::mutex logMutex;
  std::vector<std::string> log;
  Pool pool;
  loop::Loop loop;
  std::unique_ptr<kj::TimerImpl> fake;
  std::unique_ptr<Peer> a, b;
  PeerKey welcome;
  int asked = 0;
  std::string lastAdmission;
  bool startAtOnce = true;
  net::BulkHandler aReceives, bReceives;
  kj::Own<kj::PromiseFulfiller<void>> aConnected;
};

}  // namespace realize::test
