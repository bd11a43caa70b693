#include "librealize/peer/household.h"

#include <algorithm>

#include "librealize/loop/socket.h"

namespace realize::peer {

namespace {

constexpr char kIdentityValue[] = "identity";
constexpr int64_t kKeepExpiredNs = 7LL * 24 * 3600 * 1'000'000'000;  // So that a late user is told "expired".

std::string asText(const Bytes& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

Error damaged(const std::string& path) {
  return Error{Code::Corrupt, path + ": the peer's identity is damaged. Restore this file from a backup, or move the "
                                     "state folder away and start anew with `realize init`; no user data is in it"};
}

}  // namespace

Result<void> Household::create(const std::string& path, const std::string& name, const std::string& listen, Clock& clock,
                               Random& random) {
  REALIZE_TRY(checkName("peer", name));
  if (!listen.empty()) REALIZE_TRY(loop::parseHostPort(listen));
  REALIZE_ASSIGN(auto store, store::PeerStore::open(path));
  return store::catching([&]() -> Result<void> {
    if (store->getValue(kIdentityValue)) return Error{Code::Exists, path + ": a peer is here already"};
    const auto identity = net::Identity::generate(random);
    store->transact([&] {
      store->setValue(kIdentityValue, asText(identity.encodeSecret()));
      store->setListenAddress(listen);
      store::RosterRow own;
      own.peer = identity.key();
      own.name = name;
      own.addedNs = clock.nowNs();
      own.stamp = stampAfter(nullptr, clock.nowNs(), identity.key());
      store->mergeRoster(own);
    });
    store->makeDurable();
    return {};
  });
}

Result<std::unique_ptr<Household>> Household::open(const std::string& path, Clock& clock, Random& random) {
  REALIZE_ASSIGN(auto store, store::PeerStore::open(path, {.create = false, .vfs = ""}));
  auto secret = store::catching([&] { return store->getValue(kIdentityValue); });
  if (!secret.ok()) return secret.error();
  if (!*secret) return damaged(path);
  auto identity = net::Identity::decodeSecret(std::as_bytes(std::span(**secret)));
  if (!identity.ok()) return identity.code() == Code::WrongVersion ? identity.error() : damaged(path);
  std::unique_ptr<Household> out(new Household(std::move(store), std::move(*identity), clock, random));
  auto loaded = store::catching([&] { out->renewView(); });
  if (!loaded.ok()) return loaded.error();
  if (!out->view()->roster.contains(out->identity_.key())) return damaged(path);
  return out;
}

Household::Household(std::unique_ptr<store::PeerStore> store, net::Identity identity, Clock& clock, Random& random)
    : store_(std::move(store)), identity_(std::move(identity)), clock_(clock), random_(random) {}

std::shared_ptr<const HouseholdView> Household::view() const {
  std::lock_guard held(viewMutex_);
  return view_;
}

void Household::renewView() {
  auto view = std::make_shared<HouseholdView>();
  view->self = identity_.key();
  for (auto& row : store_->roster()) view->roster.emplace(row.peer, row);
  for (auto& row : store_->admissions()) view->admissions.emplace(std::pair(row.arena, row.peer), row);
  for (auto& row : store_->arenas()) view->arenas.emplace(row.arena, row);
  std::lock_guard held(viewMutex_);
  view_ = std::move(view);
}

template <typename F>
Result<void> Household::change(F&& work) {
  {
    std::lock_guard held(mutex_);
    Result<void> outcome;
    auto written = store::catching([&] {
      if (trouble()) store_->reopen();
      store_->transact([&] { outcome = work(); });
      store_->makeDurable();
      renewView();
    });
    noteOutcome(written);
    if (!written.ok()) return written;
    if (!outcome.ok()) return outcome;
  }
  if (changed_) changed_();
  return {};
}

void Household::noteOutcome(const Result<void>& written) {
  std::lock_guard held(viewMutex_);
  if (written.ok()) trouble_.reset();
  else trouble_ = written.error();
}

std::optional<Error> Household::trouble() const {
  std::lock_guard held(viewMutex_);
  return trouble_;
}

Result<void> Household::recover() {
  if (!trouble()) return {};
  {
    std::lock_guard held(mutex_);
    auto opened = store::catching([&] {
      store_->reopen();
      renewView();
    });
    noteOutcome(opened);
    if (!opened.ok()) return opened;
  }
  if (changed_) changed_();
  return {};
}

void Household::putMember(const PeerKey& key, const std::string& name, const std::string& address, bool removed) {
  auto row = store_->rosterOf(key);
  const auto stamp = stampAfter(row ? &row->stamp : nullptr, clock_.nowNs(), identity_.key());
  if (!row) {
    row = store::RosterRow();
    row->peer = key;
    row->addedNs = clock_.nowNs();
  }
  row->name = name;
  row->address = address;
  row->removed = removed;
  row->stamp = stamp;
  store_->mergeRoster(*row);
}

void Household::putAdmission(const ArenaId& arena, const PeerKey& peer, const std::string& arenaName, bool admitted) {
  store::AdmissionRow row{arena, peer, arenaName, admitted, {}};
  const store::RosterStamp* before = nullptr;
  const auto now = view();
  auto known = now->admissions.find({arena, peer});
  if (known != now->admissions.end()) {
    if (known->second.admitted == admitted) return;
    before = &known->second.stamp;
  }
  row.stamp = stampAfter(before, clock_.nowNs(), identity_.key());
  store_->mergeAdmission(row);
}

// --- this peer

std::string Household::listenAddress() {
  std::lock_guard held(mutex_);
  auto address = store::catching([&] { return store_->listenAddress(); });
  return address.ok() ? *address : "";
}

Result<void> Household::setListenAddress(const std::string& address) {
  if (!address.empty()) REALIZE_TRY(loop::parseHostPort(address));
  return change([&]() -> Result<void> {
    store_->setListenAddress(address);
    return {};
  });
}

Result<void> Household::setOwnAddress(const std::string& address) {
  REALIZE_TRY(checkAddress(address));
  const auto own = view()->roster.at(identity_.key());
  if (own.address == address) return {};
  return change([&]() -> Result<void> {
    const auto row = store_->rosterOf(identity_.key());
    putMember(identity_.key(), row->name, address, row->removed);
    return {};
  });
}

Result<void> Household::rename(const std::string& name) {
  REALIZE_TRY(checkName("peer", name));
  if (view()->freeName(name, identity_.key()) != name)
    return Error{Code::Exists, name + ": another peer of the household has this name"};
  return change([&]() -> Result<void> {
    const auto row = store_->rosterOf(identity_.key());
    putMember(identity_.key(), name, row->address, row->removed);
    return {};
  });
}

// --- the household

Result<void> Household::addPeer(const std::string& name, const PeerKey& key, const std::string& address) {
  REALIZE_TRY(checkName("peer", name));
  REALIZE_TRY(checkAddress(address));
  const auto now = view();
  if (key == now->self) return Error{Code::InvalidArgument, "this is the key of this peer itself"};
  if (now->freeName(name, key) != name)
    return Error{Code::Exists, name + ": another peer of the household has this name"};
  if (!now->roster.contains(key) && now->roster.size() >= kMaxRosterEntries)
    return Error{Code::TooLarge, "a household has at most " + std::to_string(kMaxRosterEntries) + " peers"};
  return change([&]() -> Result<void> {
    const auto row = store_->rosterOf(key);
    putMember(key, name, address.empty() && row && !row->removed ? row->address : address, false);
    return {};
  });
}

Result<PeerKey> Household::removePeer(const std::string& nameOrKey) {
  const auto now = view();
  REALIZE_ASSIGN(auto key, now->find(nameOrKey));
  if (key == now->self)
    return Error{Code::Refused, "a peer cannot remove itself: do it on another peer of the household"};
  auto done = change([&]() -> Result<void> {
    const auto row = store_->rosterOf(key);
    putMember(key, row->name, row->address, true);
    return {};
  });
  if (!done.ok()) return done.error();
  return key;
}

Result<void> Household::noteHandshakeKey(const net::DhBinding& binding) {
  const auto now = view();
  auto row = now->roster.find(binding.key);
  if (row == now->roster.end() || row->second.dhKey == binding.dh.bytes) return {};
  return change([&]() -> Result<void> {
    store_->setHandshakeKey(binding.key, binding.dh.bytes, binding.signature.bytes);
    return {};
  });
}

Result<bool> Household::merge(const PeerKey& from, const HouseholdRows& rows) {
  {
    const auto news = acceptable(*view(), from, rows);
    if (news.roster.empty() && news.admissions.empty()) return false;
  }
  auto done = change([&]() -> Result<void> {
    // Looked at again: another change may have come in between.
    const auto news = acceptable(*view(), from, rows);
    for (auto row : news.roster) {
      const auto known = store_->rosterOf(row.peer);
      row.addedNs = known ? known->addedNs : clock_.nowNs();
      if (known) {
        row.dhKey = known->dhKey;
        row.dhSignature = known->dhSignature;
      }
      store_->mergeRoster(row);
    }
    for (const auto& row : news.admissions) store_->mergeAdmission(row);
    return {};
  });
  if (!done.ok()) return done.error();
  return true;
}

// --- invites

Result<std::string> Household::makeInvite(const InviteOptions& options, const std::vector<std::string>& addresses) {
  net::Invite invite;
  invite.addresses = addresses;
  invite.inviter = identity_.key();
  invite.secret = net::makeInviteSecret(random_);
  if (options.lifetimeMs <= 0) return Error{Code::InvalidArgument, "an invite must be valid for some time"};
  const int64_t lifetimeNs = std::min<int64_t>(options.lifetimeMs, INT64_MAX / 4'000'000) * 1'000'000;
  invite.expiresNs = clock_.nowNs() + lifetimeNs;
  store::InviteRow row;
  row.secretHash = net::inviteSecretHash(invite.secret);
  row.expiryNs = invite.expiresNs;
  row.allArenas = options.allArenas;
  if (!options.allArenas) {
    const auto now = view();
    for (const auto& name : options.arenas) {
      auto arena = std::find_if(now->arenas.begin(), now->arenas.end(), [&](auto& item) { return item.second.name == name; });
      if (arena == now->arenas.end()) return Error{Code::NotFound, name + ": this peer is in no arena of that name"};
      row.arenas.push_back(arena->first);
    }
  }
  REALIZE_ASSIGN(auto code, net::encodeInvite(invite));
  auto done = change([&]() -> Result<void> {
    store_->eraseInvitesExpiredBefore(clock_.nowNs() - kKeepExpiredNs);
    store_->putInvite(row);
    return {};
  });
  if (!done.ok()) return done.error();
  return code;
}

Result<void> Household::useInvite(const net::InviteSecret& secret, const PeerKey& by) {
  const auto hash = net::inviteSecretHash(secret);
  return change([&]() -> Result<void> {
    const auto row = store_->invite(hash);
    if (!row) return Error{Code::Refused, "the invite is not known here: ask for a new one"};
    if (row->expiryNs <= clock_.nowNs()) return Error{Code::TimedOut, "the invite has expired: ask for a new one"};
    if (!store_->useInvite(hash, by, clock_.nowNs()))
      return Error{Code::Refused, "the invite has been used already: each is good for one peer. Ask for a new one"};
    return {};
  });
}

Result<void> Household::admitJoiner(const net::InviteSecret& secret, const PeerKey& key, const std::string& name,
                                    const std::string& address) {
  const auto hash = net::inviteSecretHash(secret);
  const std::string wanted = checkName("peer", name).ok() ? name : key.hex(8);
  const std::string dial = checkAddress(address).ok() ? address : "";
  return change([&]() -> Result<void> {
    const auto row = store_->invite(hash);
    if (!row || row->usedBy != key) return Error{Code::Refused, "the invite was given to another peer"};
    const auto now = view();
    if (!now->roster.contains(key) && now->roster.size() >= kMaxRosterEntries)
      return Error{Code::TooLarge, "the household is full"};
    putMember(key, now->freeName(wanted, key), dial, false);
    for (const auto& [id, arena] : now->arenas) {
      const bool wantedArena = row->allArenas || std::find(row->arenas.begin(), row->arenas.end(), id) != row->arenas.end();
      if (wantedArena) putAdmission(id, key, arena.name);
    }
    return {};
  });
}

// --- arenas

Result<void> Household::putArena(const store::ArenaRow& row) {
  return change([&]() -> Result<void> {
    store_->putArena(row);
    putAdmission(row.arena, identity_.key(), row.name);
    return {};
  });
}

Result<void> Household::eraseArena(const ArenaId& arena) {
  return change([&]() -> Result<void> {
    store_->eraseArena(arena);
    for (const auto& [name, value] : store_->settings(arena.hex())) store_->eraseSetting(arena.hex(), name);
    return {};
  });
}

Result<void> Household::admit(const ArenaId& arena, const PeerKey& peer) {
  const auto now = view();
  auto row = now->arenas.find(arena);
  if (row == now->arenas.end()) return Error{Code::NotFound, "this peer is not in that arena"};
  return change([&]() -> Result<void> {
    putAdmission(arena, peer, row->second.name);
    return {};
  });
}

Result<void> Household::withdraw(const ArenaId& arena, const PeerKey& peer) {
  const auto now = view();
  auto row = now->arenas.find(arena);
  if (row == now->arenas.end()) return Error{Code::NotFound, "this peer is not in that arena"};
  return change([&]() -> Result<void> {
    putAdmission(arena, peer, row->second.name, false);
    return {};
  });
}

// --- settings

std::string Household::setting(const std::string& scope, const std::string& name, const std::string& otherwise) {
  std::lock_guard held(mutex_);
  auto found = store::catching([&] { return store_->setting(scope, name); });
  return found.ok() && *found ? **found : otherwise;
}

Result<void> Household::setSetting(const std::string& scope, const std::string& name, const std::string& value) {
  return change([&]() -> Result<void> {
    store_->setSetting(scope, name, value);
    return {};
  });
}

std::string Household::value(const std::string& key) {
  std::lock_guard held(mutex_);
  auto found = store::catching([&] { return store_->getValue(key); });
  return found.ok() && *found ? **found : "";
}

Result<void> Household::setValue(const std::string& key, const std::string& value) {
  return change([&]() -> Result<void> {
    store_->setValue(key, value);
    return {};
  });
}

}  // namespace realize::peer
