// Where this peer is reached: listening, what others are told to dial, and that the machine's addresses change.

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>

#include "librealize/loop/socket.h"
#include "librealize/peer/peer_impl.h"

namespace realize::peer {

namespace {

constexpr char kAnnounced[] = "announced address";

bool isAnyHost(const std::string& host) { return host.empty() || host == "0.0.0.0" || host == "::"; }

std::string withPort(const std::string& host, uint16_t port) {
  const bool six = host.find(':') != std::string::npos;
  return (six ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

/// This machine's addresses that others might reach, IPv4 first, those of the machine alone last.
std::vector<std::string> machineAddresses(bool four, bool six) {
  std::vector<std::pair<int, std::string>> ranked;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  for (auto* at = list; at; at = at->ifa_next) {
    if (!at->ifa_addr || !(at->ifa_flags & IFF_UP)) continue;
    char text[INET6_ADDRSTRLEN] = "";
    const bool alone = at->ifa_flags & IFF_LOOPBACK;
    if (four && at->ifa_addr->sa_family == AF_INET) {
      inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(at->ifa_addr)->sin_addr, text, sizeof text);
      ranked.emplace_back(alone ? 2 : 0, text);
    } else if (six && at->ifa_addr->sa_family == AF_INET6) {
      const auto& address = reinterpret_cast<sockaddr_in6*>(at->ifa_addr)->sin6_addr;
      if (IN6_IS_ADDR_LINKLOCAL(&address)) continue;  // Means nothing without the interface's name.
      inet_ntop(AF_INET6, &address, text, sizeof text);
      ranked.emplace_back(alone ? 3 : 1, text);
    }
  }
  freeifaddrs(list);
  std::stable_sort(ranked.begin(), ranked.end(), [](auto& a, auto& b) { return a.first < b.first; });
  std::vector<std::string> out;
  for (auto& [rank, text] : ranked) out.push_back(text);
  return out;
}

bool isLoopback(const std::string& hostPort) {
  auto where = loop::parseHostPort(hostPort);
  return where.ok() && (where->host.starts_with("127.") || where->host == "::1");
}

}  // namespace

std::set<std::string> PeerImpl::machineHosts() {
  const auto all = machineAddresses(true, true);
  return {all.begin(), all.end()};
}

Result<void> PeerImpl::startListening() {
  const std::string wanted = household_->listenAddress();
  if (wanted.empty()) {
    loop_->run([&] { connector_->stopListening(); });
    {
      std::lock_guard held(mutex_);
      listening_.clear();
    }
    return announceAddress("");
  }
  REALIZE_ASSIGN(auto parsed, loop::parseHostPort(wanted));
  REALIZE_ASSIGN(auto actual, loop_->run([&] { return connector_->listen(wanted); }));
  REALIZE_ASSIGN(auto bound, loop::parseHostPort(actual));
  const std::string kept = withPort(parsed.host, bound.port);
  {
    std::lock_guard held(mutex_);
    listening_ = kept;
  }
  if (parsed.port == 0) REALIZE_TRY(household_->setListenAddress(kept));
  return announceAddress(dialableAddress(kept));
}

/// Tells the household where this peer is reached, unless someone there knew better: a name, or a router's address.
Result<void> PeerImpl::announceAddress(const std::string& address) {
  const std::string own = self().address, announced = household_->value(kAnnounced);
  if (!address.empty() && !own.empty() && own != announced && own != address) return {};
  if (announced != address) REALIZE_TRY(household_->setValue(kAnnounced, address));
  return household_->setOwnAddress(address);
}

/// The laptop was carried elsewhere, or an interface came up. On the household's thread.
void PeerImpl::followAddresses() {
  const auto hosts = machineHosts();
  if (hosts == hosts_) return;
  const bool more = !std::includes(hosts_.begin(), hosts_.end(), hosts.begin(), hosts.end());
  hosts_ = hosts;
  loop_->post([this, hosts, more] {
    if (connector_) connector_->addressesChanged(hosts, more);
  });
  std::string listening;
  {
    std::lock_guard held(mutex_);
    listening = listening_;
  }
  const auto all = allAddresses(listening);
  // With no network there is nothing better to tell than what was told.
  if (all.empty() || isLoopback(all.front())) return;
  const std::string announced = household_->value(kAnnounced);
  if (!isLoopback(announced) && std::find(all.begin(), all.end(), announced) != all.end()) return;
  auto told = announceAddress(all.front());
  (void)told;  // The household's status says what is wrong with its database.
}

std::string PeerImpl::dialableAddress(const std::string& listening) {
  const auto all = allAddresses(listening);
  return all.empty() ? "" : all.front();
}

std::vector<std::string> PeerImpl::allAddresses(const std::string& listening) {
  auto where = loop::parseHostPort(listening);
  if (!where.ok()) return {};
  if (!isAnyHost(where->host)) return {withPort(where->host, where->port)};
  std::vector<std::string> out;
  for (const auto& host : machineAddresses(true, where->host != "0.0.0.0")) out.push_back(withPort(host, where->port));
  if (out.size() > net::kMaxInviteAddresses) out.resize(net::kMaxInviteAddresses);
  return out;
}

}  // namespace realize::peer
