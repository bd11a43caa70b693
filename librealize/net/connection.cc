#include "librealize/net/connection.h"

#include <capnp/rpc-twoparty.h>

#include <map>
#include <utility>

#include "librealize/loop/failure.h"
#include "librealize/loop/socket.h"
#include "librealize/net/rpc_stream.h"

namespace realize::net {
namespace {

namespace twoparty = capnp::rpc::twoparty;

capnp::ReaderOptions readerOptions(const Limits& limits) {
  capnp::ReaderOptions options;
  // Each message is read a few times at most (parameters, then what is copied out of them).
  options.traversalLimitInWords = 4 * limits.maxMessageBytes / sizeof(capnp::word);
  options.nestingLimit = 32;
  return options;
}

}  // namespace

/// The RPC system over the transport's stream. The members die in an order that nothing refers backwards.
struct Connection::Rpc final : Transport::Sink {
  Rpc(Transport& transport, const Limits& limits, bool dialled, capnp::Capability::Client service)
      : stream(transport, limits.maxMessageBytes),
        other(dialled ? twoparty::Side::SERVER : twoparty::Side::CLIENT),
        network(stream, dialled ? twoparty::Side::CLIENT : twoparty::Side::SERVER, readerOptions(limits)),
        system(network, kj::mv(service)) {
    capnp::word scratch[4];
    memset(scratch, 0, sizeof(scratch));
    capnp::MallocMessageBuilder message(scratch);
    auto vat = message.getRoot<twoparty::VatId>();
    vat.setSide(other);
    // On the dialling side this also makes the RPC system begin to listen to the other's calls.
    bootstrap = system.bootstrap(vat);
  }

  ~Rpc() noexcept override {}

  Result<void> rpcReceived(std::span<const std::byte> bytes) override { return stream.received(bytes); }
  void roomAgain() override { stream.roomAgain(); }
  void transportClosed(const Error& reason) override { stream.fail(reason); }

  RpcStream stream;
  twoparty::Side other;
  capnp::TwoPartyVatNetwork network;
  capnp::RpcSystem<twoparty::VatId> system;
  capnp::Capability::Client bootstrap = nullptr;
};

Connection::Connection(const Local& local, std::unique_ptr<Transport> transport, bool dialled)
    : local_(local), dialled_(dialled), transport_(std::move(transport)) {}

Connection::~Connection() {
  transport_->close({Code::Cancelled, "the connection was given up"});
  rpc_ = nullptr;  // Closed streams first, or the RPC system would still write to the transport.
}

const PeerKey& Connection::remoteKey() const { return transport_->remoteKey(); }
const DhBinding& Connection::remoteBinding() const { return transport_->remoteBinding(); }
const std::string& Connection::remoteAddress() const { return transport_->remoteAddress(); }
const std::string& Connection::localHost() const { return transport_->localHost(); }
const std::shared_ptr<BulkSender>& Connection::bulk() const { return transport_->bulk(); }
kj::Promise<void> Connection::onClosed() { return transport_->onClosed(); }
bool Connection::closed() const { return transport_->closed(); }
const Error& Connection::closeReason() const { return transport_->reason(); }
void Connection::close(const std::string& reason) { transport_->close({Code::Cancelled, reason}); }
uint64_t Connection::sentBytes() const { return transport_->sentBytes.load(std::memory_order_relaxed); }
uint64_t Connection::receivedBytes() const { return transport_->receivedBytes.load(std::memory_order_relaxed); }

void Connection::start(capnp::Capability::Client service, BulkHandler onBulk) {
  rpc_ = std::make_unique<Rpc>(*transport_, local_.limits, dialled_, kj::mv(service));
  transport_->start(*rpc_, std::move(onBulk));
}

capnp::Capability::Client Connection::bootstrap() { return rpc_->bootstrap; }

kj::Promise<Result<std::unique_ptr<Connection>>> dial(const Local& local, std::string address, Expected expected) {
  using Outcome = Result<std::unique_ptr<Connection>>;
  auto where = loop::parseHostPort(address);
  if (!where.ok()) return Outcome(where.error());
  auto connected = loop::connectTcp(local.loop, address, local.timer, local.limits.handshakeTime);
  auto opened = connected.then([&local, expected = std::move(expected)](kj::AutoCloseFd&& fd) mutable {
    auto transport = std::make_unique<Transport>(local, kj::mv(fd), std::move(expected), Authorize());
    auto open = transport->onOpen();
    return open.then([&local, transport = std::move(transport)](Result<void>&& outcome) mutable -> Outcome {
      if (!outcome.ok()) return outcome.error();
      return std::make_unique<Connection>(local, std::move(transport), true);
    });
  });
  return opened.catch_([address](kj::Exception&& e) -> Outcome {
    Error error = loop::toError(e);
    error.message = "cannot connect to " + address + ": " + error.message;
    return error;
  });
}

class Listener::Impl final : private kj::TaskSet::ErrorHandler {
 public:
  Impl(const Local& local, Authorize authorize, OnConnection onConnection, Log log)
      : local_(local), authorize_(std::move(authorize)), onConnection_(std::move(onConnection)), log_(std::move(log)),
        tasks_(kj::heap<kj::TaskSet>(static_cast<kj::TaskSet::ErrorHandler&>(*this))) {
    if (!log_) log_ = [&loop = local_.loop](const std::string& text) { loop.log(text); };
  }

  void accepted(kj::AutoCloseFd fd) {
    if (pending_.size() >= local_.limits.maxHandshakes) {
      // The oldest is the likeliest never to finish, so that stalled clients cannot keep others out.
      log_("connection from " + pending_.begin()->second->remoteAddress() +
           ": given up for newer ones, as too many handshakes are under way");
      pending_.erase(pending_.begin());
    }
    uint64_t id = nextId_++;
    auto transport = std::make_unique<Transport>(local_, kj::mv(fd), std::nullopt, authorize_);
    auto open = transport->onOpen();
    pending_[id] = std::move(transport);
    tasks_->add(open.then([this, id](Result<void>&& outcome) { finished(id, std::move(outcome)); }));
  }

  std::unique_ptr<loop::Acceptor> acceptor;
  size_t pendingHandshakes() const { return pending_.size(); }

 private:
  void finished(uint64_t id, Result<void> outcome) {
    auto found = pending_.find(id);
    if (found == pending_.end()) return;
    auto transport = std::move(found->second);
    pending_.erase(found);
    if (outcome.ok())
      onConnection_(std::make_unique<Connection>(local_, std::move(transport), false));
    else
      log_("connection from " + transport->remoteAddress() + ": " + outcome.error().message);
  }

  void taskFailed(kj::Exception&& e) override { log_(std::string("unexpected: ") + e.getDescription().cStr()); }

  const Local& local_;
  Authorize authorize_;
  OnConnection onConnection_;
  Log log_;
  uint64_t nextId_ = 0;
  std::map<uint64_t, std::unique_ptr<Transport>> pending_;  // oldest first
  kj::Own<kj::TaskSet> tasks_;
};

Result<std::unique_ptr<Listener>> Listener::listen(const Local& local, const std::string& address, Authorize authorize,
                                                   OnConnection onConnection, Log log) {
  auto impl = std::make_unique<Impl>(local, std::move(authorize), std::move(onConnection), std::move(log));
  auto acceptor = loop::Acceptor::listen(local.loop, address,
                                         [raw = impl.get()](kj::AutoCloseFd fd) { raw->accepted(kj::mv(fd)); });
  if (!acceptor.ok()) return acceptor.error();
  impl->acceptor = std::move(*acceptor);
  return std::unique_ptr<Listener>(new Listener(std::move(impl)));
}

Listener::Listener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Listener::~Listener() = default;
std::string Listener::address() const { return impl_->acceptor->address().text(); }
size_t Listener::pendingHandshakes() const { return impl_->pendingHandshakes(); }

}  // namespace realize::net
