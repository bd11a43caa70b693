#include "librealize/store/peer_store.h"

#include <algorithm>

#include "librealize/store/migrations.h"
#include "librealize/store/statement.h"

namespace realize::store {

namespace {

constexpr char kSignSecret[] = "sign secret";
constexpr char kDhSecret[] = "dh secret";
constexpr char kName[] = "name";
constexpr char kListen[] = "listen address";
constexpr char kIdentity[] = "file identity";
constexpr char kRoom[] = "room";  // Empty, but while it is found out whether there is some.
constexpr size_t kRoomBytes = 64 << 10;

template <size_t N>
std::string_view view(const std::array<uint8_t, N>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), N};
}

template <size_t N>
std::array<uint8_t, N> arrayOf(std::string_view bytes) {
  if (bytes.size() != N) throw DatabaseError(Code::Corrupt, "the database is damaged: a value has a wrong length");
  std::array<uint8_t, N> out;
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

RosterRow readRoster(Row row) {
  return {row.fixed<PeerKey>(0),      row.string(1),  row.string(2),       arrayOf<32>(row.bytes(3)),
          arrayOf<64>(row.bytes(4)),  row.integer(5), row.integer(6) != 0, {row.integer(7), row.fixed<PeerKey>(8)}};
}

AdmissionRow readAdmission(Row row) {
  return {row.fixed<ArenaId>(0), row.fixed<PeerKey>(1), row.string(2), row.integer(3) != 0,
          {row.integer(4), row.fixed<PeerKey>(5)}};
}

ArenaRow readArena(Row row) {
  return {row.fixed<ArenaId>(0), row.string(1), row.string(2), row.integer(3) != 0, row.integer(4)};
}

}  // namespace

#define ROSTER_COLUMNS "peer, name, address, dh_key, dh_signature, added_ns, removed, stamp_ns, stamp_writer"
#define ADMISSION_COLUMNS "arena, peer, arena_name, admitted, stamp_ns, stamp_writer"
#define ARENA_COLUMNS "arena, name, folder, own_folder, joined_ns"

struct PeerStore::Statements {
  explicit Statements(Database& db)
      : getValue(db, "SELECT value FROM value WHERE key = ?"),
        setValue(db, "INSERT OR REPLACE INTO value (key, value) VALUES (?, ?)"),
        roster(db, "SELECT " ROSTER_COLUMNS " FROM roster ORDER BY name, peer"),
        rosterOf(db, "SELECT " ROSTER_COLUMNS " FROM roster WHERE peer = ?"),
        putRoster(db, "INSERT OR REPLACE INTO roster (" ROSTER_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        setHandshakeKey(db, "UPDATE roster SET dh_key = ?, dh_signature = ? WHERE peer = ?"),
        admissions(db, "SELECT " ADMISSION_COLUMNS " FROM admission ORDER BY arena, peer"),
        admissionsTo(db, "SELECT " ADMISSION_COLUMNS " FROM admission WHERE arena = ? ORDER BY peer"),
        admission(db, "SELECT " ADMISSION_COLUMNS " FROM admission WHERE arena = ? AND peer = ?"),
        putAdmission(db, "INSERT OR REPLACE INTO admission (" ADMISSION_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?)"),
        arenas(db, "SELECT " ARENA_COLUMNS " FROM arena ORDER BY name"),
        arena(db, "SELECT " ARENA_COLUMNS " FROM arena WHERE arena = ?"),
        putArena(db, "INSERT OR REPLACE INTO arena (" ARENA_COLUMNS ") VALUES (?, ?, ?, ?, ?)"),
        eraseArena(db, "DELETE FROM arena WHERE arena = ?"),
        invite(db, "SELECT expiry_ns, all_arenas, used_by FROM invite WHERE secret_hash = ?"),
        inviteArenas(db, "SELECT arena FROM invite_arena WHERE secret_hash = ? ORDER BY arena"),
        putInvite(db, "INSERT OR REPLACE INTO invite (secret_hash, expiry_ns, all_arenas, used_by) VALUES (?, ?, ?, ?)"),
        putInviteArena(db, "INSERT INTO invite_arena (secret_hash, arena) VALUES (?, ?)"),
        eraseInviteArenas(db, "DELETE FROM invite_arena WHERE secret_hash = ?"),
        eraseExpiredArenas(db,
                           "DELETE FROM invite_arena WHERE secret_hash IN"
                           " (SELECT secret_hash FROM invite WHERE expiry_ns < ?)"),
        eraseExpired(db, "DELETE FROM invite WHERE expiry_ns < ?"),
        setting(db, "SELECT value FROM setting WHERE scope = ? AND name = ?"),
        settings(db, "SELECT name, value FROM setting WHERE scope = ? ORDER BY name"),
        setSetting(db, "INSERT OR REPLACE INTO setting (scope, name, value) VALUES (?, ?, ?)"),
        eraseSetting(db, "DELETE FROM setting WHERE scope = ? AND name = ?") {}

  Statement getValue, setValue;
  Statement roster, rosterOf, putRoster, setHandshakeKey;
  Statement admissions, admissionsTo, admission, putAdmission;
  Statement arenas, arena, putArena, eraseArena;
  Statement invite, inviteArenas, putInvite, putInviteArena, eraseInviteArenas, eraseExpiredArenas, eraseExpired;
  Statement setting, settings, setSetting, eraseSetting;
};

PeerStore::PeerStore(std::unique_ptr<Database> db) : db_(std::move(db)), sql_(std::make_unique<Statements>(*db_)) {}
PeerStore::~PeerStore() = default;

Result<std::unique_ptr<PeerStore>> PeerStore::open(const std::string& path, const OpenOptions& options) {
  REALIZE_ASSIGN(auto db, Database::open(path, "peer's database", kPeerApplicationId, peerMigrations(), options));
  return std::unique_ptr<PeerStore>(new PeerStore(std::move(db)));
}

void PeerStore::reopen() {
  db_->reopen();
  setValue(kRoom, std::string(kRoomBytes, '.'));
  setValue(kRoom, "");
  db_->makeDurable();
}

// --- This peer

std::optional<std::string> PeerStore::getValue(const std::string& key) {
  std::optional<std::string> out;
  sql_->getValue.first([&](Row row) { out = row.string(0); }, Text{key});
  return out;
}

void PeerStore::setValue(const std::string& key, const std::string& value) { sql_->setValue.run(Text{key}, value); }

std::optional<IdentityKeys> PeerStore::keys() {
  auto sign = getValue(kSignSecret);
  auto dh = getValue(kDhSecret);
  if (!sign || !dh) return std::nullopt;
  return IdentityKeys{arrayOf<64>(*sign), arrayOf<32>(*dh)};
}

void PeerStore::setKeys(const IdentityKeys& keys) {
  db_->together([&] {
    setValue(kSignSecret, std::string(view(keys.signSecret)));
    setValue(kDhSecret, std::string(view(keys.dhSecret)));
  });
}

std::string PeerStore::name() { return getValue(kName).value_or(""); }
void PeerStore::setName(const std::string& name) { setValue(kName, name); }
std::string PeerStore::listenAddress() { return getValue(kListen).value_or(""); }
void PeerStore::setListenAddress(const std::string& address) { setValue(kListen, address); }

std::optional<FileIdentity> PeerStore::recordedIdentity() {
  auto value = getValue(kIdentity);
  if (!value) return std::nullopt;
  return unpackIdentity(*value);
}

void PeerStore::recordIdentity(const FileIdentity& identity) { setValue(kIdentity, packIdentity(identity)); }

// --- The household

std::vector<RosterRow> PeerStore::roster() {
  std::vector<RosterRow> out;
  sql_->roster.each([&](Row row) { out.push_back(readRoster(row)); });
  return out;
}

std::optional<RosterRow> PeerStore::rosterOf(const PeerKey& peer) {
  std::optional<RosterRow> out;
  sql_->rosterOf.first([&](Row row) { out = readRoster(row); }, peer);
  return out;
}

bool PeerStore::mergeRoster(const RosterRow& row) {
  bool kept = false;
  db_->together([&] {
    auto known = rosterOf(row.peer);
    if (known && known->stamp >= row.stamp) return;
    sql_->putRoster.run(row.peer, Text{row.name}, Text{row.address}, row.dhKey, row.dhSignature, row.addedNs,
                        row.removed, row.stamp.whenNs, row.stamp.writer);
    kept = true;
  });
  return kept;
}

void PeerStore::setHandshakeKey(const PeerKey& peer, const std::array<uint8_t, 32>& dhKey, const std::array<uint8_t, 64>& signature) {
  sql_->setHandshakeKey.run(dhKey, signature, peer);
}

std::vector<AdmissionRow> PeerStore::admissions() {
  std::vector<AdmissionRow> out;
  sql_->admissions.each([&](Row row) { out.push_back(readAdmission(row)); });
  return out;
}

std::vector<AdmissionRow> PeerStore::admissionsTo(const ArenaId& arena) {
  std::vector<AdmissionRow> out;
  sql_->admissionsTo.each([&](Row row) { out.push_back(readAdmission(row)); }, arena);
  return out;
}

bool PeerStore::isAdmitted(const ArenaId& arena, const PeerKey& peer) {
  bool admitted = false;
  sql_->admission.first([&](Row row) { admitted = readAdmission(row).admitted; }, arena, peer);
  return admitted;
}

bool PeerStore::mergeAdmission(const AdmissionRow& row) {
  bool kept = false;
  db_->together([&] {
    std::optional<AdmissionRow> known;
    sql_->admission.first([&](Row r) { known = readAdmission(r); }, row.arena, row.peer);
    if (known && known->stamp >= row.stamp) return;
    sql_->putAdmission.run(row.arena, row.peer, Text{row.arenaName}, row.admitted, row.stamp.whenNs, row.stamp.writer);
    kept = true;
  });
  return kept;
}

// --- Arenas

std::vector<ArenaRow> PeerStore::arenas() {
  std::vector<ArenaRow> out;
  sql_->arenas.each([&](Row row) { out.push_back(readArena(row)); });
  return out;
}

std::optional<ArenaRow> PeerStore::arena(const ArenaId& id) {
  std::optional<ArenaRow> out;
  sql_->arena.first([&](Row row) { out = readArena(row); }, id);
  return out;
}

void PeerStore::putArena(const ArenaRow& row) {
  sql_->putArena.run(row.arena, Text{row.name}, row.folder, row.ownFolder, row.joinedNs);
}

void PeerStore::eraseArena(const ArenaId& id) { sql_->eraseArena.run(id); }

// --- Invites

void PeerStore::putInvite(const InviteRow& row) {
  db_->together([&] {
    auto write = [&](const auto& usedBy) {
      sql_->putInvite.run(row.secretHash, row.expiryNs, row.allArenas, usedBy);
    };
    if (row.usedBy) write(*row.usedBy);
    else write(nullptr);
    sql_->eraseInviteArenas.run(row.secretHash);
    for (const ArenaId& arena : row.arenas) sql_->putInviteArena.run(row.secretHash, arena);
  });
}

std::optional<InviteRow> PeerStore::invite(const std::array<uint8_t, 32>& secretHash) {
  std::optional<InviteRow> out;
  sql_->invite.first(
      [&](Row row) {
        out = InviteRow{secretHash, row.integer(0), row.integer(1) != 0, {}, std::nullopt};
        if (!row.isNull(2)) out->usedBy = row.fixed<PeerKey>(2);
      },
      secretHash);
  if (out) sql_->inviteArenas.each([&](Row row) { out->arenas.push_back(row.fixed<ArenaId>(0)); }, secretHash);
  return out;
}

bool PeerStore::useInvite(const std::array<uint8_t, 32>& secretHash, const PeerKey& by, int64_t nowNs) {
  bool mayUse = false;
  db_->together([&] {
    auto row = invite(secretHash);
    // The same peer may come back with it: its first try may have been cut off after this was written.
    mayUse = row && row->expiryNs > nowNs && (!row->usedBy || *row->usedBy == by);
    if (!mayUse || row->usedBy) return;
    row->usedBy = by;
    putInvite(*row);
  });
  return mayUse;
}

void PeerStore::eraseInvitesExpiredBefore(int64_t nowNs) {
  db_->together([&] {
    sql_->eraseExpiredArenas.run(nowNs);
    sql_->eraseExpired.run(nowNs);
  });
}

// --- Settings

std::optional<std::string> PeerStore::setting(const std::string& scope, const std::string& name) {
  std::optional<std::string> out;
  sql_->setting.first([&](Row row) { out = row.string(0); }, Text{scope}, Text{name});
  return out;
}

std::vector<std::pair<std::string, std::string>> PeerStore::settings(const std::string& scope) {
  std::vector<std::pair<std::string, std::string>> out;
  sql_->settings.each([&](Row row) { out.emplace_back(row.string(0), row.string(1)); }, Text{scope});
  return out;
}

void PeerStore::setSetting(const std::string& scope, const std::string& name, const std::string& value) {
  sql_->setSetting.run(Text{scope}, Text{name}, Text{value});
}

void PeerStore::eraseSetting(const std::string& scope, const std::string& name) {
  sql_->eraseSetting.run(Text{scope}, Text{name});
}

}  // namespace realize::store
