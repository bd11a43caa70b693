#include "librealize/store/arena_store.h"

#include "librealize/model/codec.h"
#include "librealize/store/migrations.h"
#include "librealize/store/origin_table.h"
#include "librealize/store/tree_table.h"

namespace realize::store {

namespace {
constexpr char kIdentity[] = "store: file identity";
constexpr char kRoom[] = "store: room";  // Empty, but while it is found out whether there is some.
constexpr size_t kRoomBytes = 256 << 10;
}

struct ArenaStore::Tables {
  explicit Tables(Database& db)
      : origins(db),
        disk(db, origins),
        blobs(db),
        cache(db),
        marks(db),
        wanted(db),
        unconfirmed(db, BlobQueue::Which::Unconfirmed),
        promised(db, BlobQueue::Which::Promised),
        named(db, BlobQueue::Which::Named),
        witnessed(db, BlobQueue::Which::Witnessed),
        unsynced(db),
        problems(db),
        members(db),
        history(db) {}
  void writeBack() {
    disk.writeBack();
    cache.writeBack();
    wanted.writeBack();
    unconfirmed.writeBack();
    promised.writeBack();
    named.writeBack();
    witnessed.writeBack();
    unsynced.writeBack();
  }
  void forget() {
    origins.forget();
    disk.forget();
    cache.forget();
    wanted.forget();
    unconfirmed.forget();
    promised.forget();
    named.forget();
    witnessed.forget();
    unsynced.forget();
    problems.forget();
  }

  OriginTable origins;
  DiskTable disk;
  BlobTable blobs;
  CacheTable cache;
  MarkTable marks;
  WantedQueue wanted;
  BlobQueue unconfirmed, promised, named, witnessed;
  UnsyncedTable unsynced;
  ProblemTable problems;
  MemberTable members;
  HistoryTable history;
};

ArenaStore::ArenaStore(std::unique_ptr<Database> db)
    : db_(std::move(db)),
      tables_(std::make_unique<Tables>(*db_)),
      tree_(std::make_unique<TreeTable>(*db_, tables_->origins)) {
  // What is kept beside the rows, totals and numbers, is written with them and forgotten with them.
  db_->setHooks(
      [this] {
        tree_->writeBack();
        tables_->writeBack();
      },
      [this] {
        tree_->forget();
        tables_->forget();
      });
}

/// What is still to be committed is so while the tables are there, which take part in that, and in its failure.
ArenaStore::~ArenaStore() {
  auto settled = catching([&] { db_->settle(); });
  (void)settled;  // As in ~Database().
  db_->setHooks({}, {});
}

Result<std::unique_ptr<ArenaStore>> ArenaStore::open(const std::string& path, const OpenOptions& options) {
  REALIZE_ASSIGN(auto db, Database::open(path, "arena's index", kArenaApplicationId, arenaMigrations(), options));
  return std::unique_ptr<ArenaStore>(new ArenaStore(std::move(db)));
}

void ArenaStore::makeDurable() {
  db_->makeDurable();
  tables_->cache.madeDurable();
}

void ArenaStore::reopen() {
  db_->reopen();
  tables_->wanted.reopened();
  setValue(kRoom, std::string(kRoomBytes, '.'));
  setValue(kRoom, "");
  makeDurable();
}

std::optional<logic::Record> ArenaStore::get(const EntryId& id) { return tree_->get(id); }
const logic::Record* ArenaStore::peek(const EntryId& id) { return tree_->find(id); }
std::optional<logic::Record> ArenaStore::getByNode(NodeId node) { return tree_->getByNode(node); }
void ArenaStore::put(logic::Record& record) {
  db_->together([&] { tree_->put(record); });
}
void ArenaStore::erase(const EntryId& id) {
  db_->together([&] { tree_->erase(id); });
}
std::optional<logic::ShownName> ArenaStore::shownAt(const EntryId& parent, const std::string& name) {
  return tree_->shownAt(parent, name);
}
std::vector<logic::ShownName> ArenaStore::shownIn(const EntryId& parent, const std::string& after, size_t limit) {
  return tree_->shownIn(parent, after, limit);
}
std::vector<EntryId> ArenaStore::placedAt(const EntryId& parent, const std::string& base) {
  return tree_->placedAt(parent, base);
}
std::vector<EntryId> ArenaStore::placedIn(const EntryId& parent) { return tree_->placedIn(parent); }
std::vector<EntryId> ArenaStore::clashedIn(const EntryId& parent) { return tree_->clashedIn(parent); }
std::vector<EntryId> ArenaStore::displaced() { return tree_->flagged(TreeTable::kDisplaced, 0, SIZE_MAX); }
std::vector<std::pair<uint64_t, EntryId>> ArenaStore::touchedAfter(Origin origin, uint64_t afterSeq, size_t limit) {
  return tree_->touchedAfter(origin, afterSeq, limit);
}
std::vector<Origin> ArenaStore::touchOrigins() { return tree_->touchOrigins(); }
std::vector<EntryId> ArenaStore::withContext() { return tree_->flagged(TreeTable::kHasContext, 0, SIZE_MAX); }
std::vector<EntryId> ArenaStore::linksTo(const EntryId& id) { return tree_->linksTo(id); }
std::vector<EntryId> ArenaStore::allDirectories() { return tree_->allDirectories(); }
std::vector<EntryId> ArenaStore::idsBetween(const EntryId& first, const EntryId& last) { return tree_->idsBetween(first, last); }
std::vector<std::pair<NodeId, EntryId>> ArenaStore::hiddenAfter(NodeId after, size_t limit) { return tree_->hiddenAfter(after, limit); }
std::optional<std::string> ArenaStore::getValue(const std::string& key) { return tree_->getValue(key); }
void ArenaStore::setValue(const std::string& key, const std::string& value) { tree_->setValue(key, value); }

std::optional<NodeId> ArenaStore::nodeOf(const EntryId& id) { return tree_->nodeOf(id); }
std::optional<EntryId> ArenaStore::idOf(NodeId node) { return tree_->idOf(node); }
NodeId ArenaStore::renumber(const EntryId& id, NodeId to) { return tree_->renumber(id, to); }
const TreeCounts& ArenaStore::counts() { return tree_->counts(); }
std::vector<EntryId> ArenaStore::allEntries(NodeId after, size_t limit) { return tree_->allEntries(after, limit); }
std::vector<EntryId> ArenaStore::withSeveralHeads(NodeId after, size_t limit) {
  return tree_->withSeveralHeads(after, limit);
}
std::optional<FileIdentity> ArenaStore::recordedIdentity() {
  auto value = getValue(kIdentity);
  if (!value) return std::nullopt;
  return unpackIdentity(*value);
}

void ArenaStore::recordIdentity(const FileIdentity& identity) { setValue(kIdentity, packIdentity(identity)); }

DiskTable& ArenaStore::disk() { return tables_->disk; }
BlobTable& ArenaStore::blobs() { return tables_->blobs; }
CacheTable& ArenaStore::cache() { return tables_->cache; }
MarkTable& ArenaStore::marks() { return tables_->marks; }
WantedQueue& ArenaStore::wanted() { return tables_->wanted; }
BlobQueue& ArenaStore::unconfirmed() { return tables_->unconfirmed; }
BlobQueue& ArenaStore::promised() { return tables_->promised; }
BlobQueue& ArenaStore::named() { return tables_->named; }
BlobQueue& ArenaStore::witnessed() { return tables_->witnessed; }
UnsyncedTable& ArenaStore::unsynced() { return tables_->unsynced; }
ProblemTable& ArenaStore::problems() { return tables_->problems; }
MemberTable& ArenaStore::members() { return tables_->members; }
HistoryTable& ArenaStore::history() { return tables_->history; }

std::string packIdentity(const FileIdentity& identity) {
  ByteWriter writer;
  writer.fixed64(identity.inode);
  writer.signedNumber(identity.birthNs);
  return writer.take();
}

FileIdentity unpackIdentity(std::string_view bytes) {
  ByteReader reader(bytes);
  FileIdentity out;
  out.inode = reader.fixed64();
  out.birthNs = reader.signedNumber();
  if (!reader.finished()) throw DatabaseError(Code::Corrupt, "the database is damaged: its identity does not decode");
  return out;
}

}  // namespace realize::store
