#include "librealize/peer/roster.h"

#include <algorithm>

#include "librealize/loop/socket.h"
#include "librealize/net/identity.h"
#include "librealize/net/invite.h"

namespace realize::peer {

namespace {

constexpr int64_t kLatestStampNs = INT64_MAX / 2;  // The year 2116; leaves room to count up from.
constexpr size_t kMinKeyDigits = 8;

bool isControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool sensible(const store::RosterStamp& stamp) { return stamp.whenNs >= 0 && stamp.whenNs <= kLatestStampNs; }

std::string text(capnp::Text::Reader in) { return std::string(in.cStr(), in.size()); }

}  // namespace

Result<void> checkName(const std::string& what, const std::string& name) {
  const std::string shown = "\"" + name + "\": ";
  if (name.empty() || name.size() > kMaxNameBytes)
    return Error{Code::InvalidArgument, shown + "the name of a " + what + " has 1 to 64 bytes"};
  if (std::any_of(name.begin(), name.end(), isControl) || name.find_first_of("/:") != std::string::npos)
    return Error{Code::InvalidArgument, shown + "the name of a " + what + " has no '/', no ':' and no control characters"};
  if (name.find_first_not_of('.') == std::string::npos || name[0] == '-' || name[0] == ' ' || name.back() == ' ')
    return Error{Code::InvalidArgument, shown + "the name of a " + what + " does not begin with '-', nor begin or end "
                                                "with a blank, nor is it only dots"};
  return {};
}

Result<void> checkAddress(const std::string& address) {
  if (address.empty()) return {};
  auto parsed = loop::parseHostPort(address);
  if (!parsed.ok()) return parsed.error();
  if (address.size() > net::kMaxAddressBytes || parsed->host.empty() || parsed->port == 0)
    return Error{Code::InvalidArgument, "\"" + address + "\" is no address that others can reach: host:port is needed"};
  return {};
}

bool HouseholdView::isMember(const PeerKey& key) const {
  auto it = roster.find(key);
  return it != roster.end() && !it->second.removed;
}

bool HouseholdView::isAdmitted(const ArenaId& arena, const PeerKey& key) const {
  auto it = admissions.find({arena, key});
  return it != admissions.end() && it->second.admitted && isMember(key);
}

PeerInfo HouseholdView::infoOf(const PeerKey& key) const {
  PeerInfo info;
  info.key = key;
  info.self = key == self;
  auto it = roster.find(key);
  if (it != roster.end()) {
    info.name = it->second.name;
    info.address = it->second.address;
  }
  return info;
}

std::string HouseholdView::nameOf(const PeerKey& key) const {
  auto it = roster.find(key);
  return it == roster.end() || it->second.name.empty() ? key.hex(kMinKeyDigits) : it->second.name;
}

std::vector<PeerInfo> HouseholdView::peers() const {
  std::vector<PeerInfo> out;
  for (const auto& [key, row] : roster)
    if (!row.removed || key == self) out.push_back(infoOf(key));
  std::sort(out.begin(), out.end(), [](const PeerInfo& a, const PeerInfo& b) {
    return std::tuple(!a.self, a.name, a.key) < std::tuple(!b.self, b.name, b.key);
  });
  return out;
}

Result<PeerKey> HouseholdView::find(const std::string& nameOrKey) const {
  std::vector<PeerKey> byName, byKey;
  for (const auto& [key, row] : roster) {
    if (row.removed) continue;
    if (row.name == nameOrKey) byName.push_back(key);
    if (nameOrKey.size() >= kMinKeyDigits && key.hex().starts_with(nameOrKey)) byKey.push_back(key);
  }
  const auto& found = byName.empty() ? byKey : byName;
  if (found.empty())
    return Error{Code::NotFound, nameOrKey + ": no such peer in this household; `realize peer list` shows them"};
  if (found.size() > 1)
    return Error{Code::InvalidArgument, nameOrKey + ": several peers are called so; give the key instead"};
  return found.front();
}

std::string HouseholdView::freeName(const std::string& wanted, const PeerKey& forKey) const {
  auto taken = [&](const std::string& name) {
    return std::any_of(roster.begin(), roster.end(), [&](const auto& item) {
      return item.first != forKey && !item.second.removed && item.second.name == name;
    });
  };
  if (!taken(wanted)) return wanted;
  for (int number = 2;; ++number) {
    const std::string ending = "-" + std::to_string(number);
    const std::string name = wanted.substr(0, kMaxNameBytes - ending.size()) + ending;
    if (!taken(name)) return name;
  }
}

std::map<ArenaId, std::string> HouseholdView::sharedWith(const PeerKey& with) const {
  std::map<ArenaId, std::string> out;
  for (const auto& [key, row] : admissions)
    if (key.second == self && isAdmitted(key.first, self) && isAdmitted(key.first, with)) out[key.first] = row.arenaName;
  return out;
}

HouseholdRows acceptable(const HouseholdView& view, const PeerKey& from, const HouseholdRows& rows) {
  HouseholdRows out;
  size_t members = view.roster.size();
  for (const auto& row : rows.roster) {
    if (!sensible(row.stamp) || !checkName("peer", row.name).ok() || !checkAddress(row.address).ok()) continue;
    auto known = view.roster.find(row.peer);
    if (known == view.roster.end() && ++members > kMaxRosterEntries) continue;
    if (known == view.roster.end() || known->second.stamp < row.stamp) out.roster.push_back(row);
  }
  std::set<ArenaId> saysOfItself;
  for (const auto& row : rows.admissions)
    if (row.peer == from && row.admitted) saysOfItself.insert(row.arena);
  size_t admissions = view.admissions.size();
  for (const auto& row : rows.admissions) {
    if (!sensible(row.stamp) || !checkName("arena", row.arenaName).ok()) continue;
    auto sender = view.admissions.find({row.arena, from});
    const bool mayTell = view.arenas.contains(row.arena) ? sender != view.admissions.end() && sender->second.admitted
                                                         : saysOfItself.contains(row.arena);
    if (!mayTell) continue;
    auto known = view.admissions.find({row.arena, row.peer});
    if (known == view.admissions.end() && ++admissions > kMaxAdmissions) continue;
    if (known == view.admissions.end() || known->second.stamp < row.stamp) out.admissions.push_back(row);
  }
  return out;
}

HouseholdRows rowsFor(const HouseholdView& view, const PeerKey& to) {
  HouseholdRows out;
  for (const auto& [key, row] : view.roster) out.roster.push_back(row);
  for (const auto& [key, row] : view.admissions) {
    // Who is admitted no more is told just that, by one who is.
    const bool itsOwn = view.admissions.contains({key.first, to}) && (key.second == to || key.second == view.self);
    if (itsOwn || view.isAdmitted(key.first, to)) out.admissions.push_back(row);
  }
  return out;
}

store::RosterStamp stampAfter(const store::RosterStamp* before, int64_t nowNs, const PeerKey& writer) {
  int64_t when = std::clamp<int64_t>(nowNs, 0, kLatestStampNs);
  if (before) when = std::max(when, std::min(before->whenNs + 1, kLatestStampNs));
  return {when, writer};
}

void writeHousehold(schema::HouseholdState::Builder out, const HouseholdRows& rows, const RunningArenas& running) {
  auto roster = out.initRoster(uint32_t(rows.roster.size()));
  for (uint32_t i = 0; i < rows.roster.size(); ++i) {
    const auto& row = rows.roster[i];
    auto entry = roster[i];
    entry.setKey(asData(row.peer));
    entry.setName(row.name.c_str());
    entry.setAddress(row.address.c_str());
    entry.setRemoved(row.removed);
    entry.setStamp(uint64_t(row.stamp.whenNs));
    entry.setWriter(asData(row.stamp.writer));
  }
  auto admissions = out.initAdmissions(uint32_t(rows.admissions.size()));
  for (uint32_t i = 0; i < rows.admissions.size(); ++i) {
    const auto& row = rows.admissions[i];
    auto admission = admissions[i];
    admission.setArena(asData(row.arena));
    admission.setArenaName(row.arenaName.c_str());
    admission.setPeer(asData(row.peer));
    admission.setRemoved(!row.admitted);
    admission.setStamp(uint64_t(row.stamp.whenNs));
    admission.setWriter(asData(row.stamp.writer));
  }
  auto list = out.initRunning(uint32_t(running.size()));
  uint32_t at = 0;
  for (const auto& [arena, life] : running) {
    list[at].setArena(asData(arena));
    list[at++].setLife(life);
  }
}

Result<ReadHousehold> readHousehold(schema::HouseholdState::Reader in) {
  if (in.getRoster().size() > kMaxRosterEntries || in.getAdmissions().size() > kMaxAdmissions ||
      in.getRunning().size() > kMaxRunningArenas)
    return Error{Code::Corrupt, "a peer sent a household that is too large"};
  ReadHousehold out;
  for (auto entry : in.getRoster()) {
    store::RosterRow row;
    REALIZE_ASSIGN(row.peer, readFixed<PeerKey>(entry.getKey()));
    REALIZE_ASSIGN(row.stamp.writer, readFixed<PeerKey>(entry.getWriter()));
    row.name = text(entry.getName());
    row.address = text(entry.getAddress());
    row.removed = entry.getRemoved();
    row.stamp.whenNs = int64_t(entry.getStamp());
    out.rows.roster.push_back(std::move(row));
  }
  for (auto admission : in.getAdmissions()) {
    store::AdmissionRow row;
    REALIZE_ASSIGN(row.arena, readFixed<ArenaId>(admission.getArena()));
    REALIZE_ASSIGN(row.peer, readFixed<PeerKey>(admission.getPeer()));
    REALIZE_ASSIGN(row.stamp.writer, readFixed<PeerKey>(admission.getWriter()));
    row.arenaName = text(admission.getArenaName());
    row.admitted = !admission.getRemoved();
    row.stamp.whenNs = int64_t(admission.getStamp());
    out.rows.admissions.push_back(std::move(row));
  }
  for (auto running : in.getRunning()) {
    REALIZE_ASSIGN(auto arena, readFixed<ArenaId>(running.getArena()));
    out.running[arena] = running.getLife();
  }
  return out;
}

}  // namespace realize::peer
