-- The database of one arena. Names and paths are BLOBs: any bytes, compared bytewise. Times are Unix time in ns.

-- Lives of databases that anything here refers to: one small number for 8 random bytes.
CREATE TABLE origin (
  number INTEGER PRIMARY KEY,
  origin INTEGER NOT NULL UNIQUE  -- the 64 bits, as a signed number
);

-- Every entry that the tree knows, dead ones too, with what is derived for it.
-- A row whose state is NULL only keeps the number of a parent that is not known itself.
CREATE TABLE entry (
  node INTEGER PRIMARY KEY,        -- given once, never again: value 'next node'
  id BLOB NOT NULL UNIQUE,         -- 16 bytes
  kind INTEGER,                    -- EntryKind
  shown INTEGER NOT NULL DEFAULT 0,
  parent INTEGER,                  -- node of the effective parent; NULL for the root
  base BLOB,                       -- effective name before clashes are resolved
  shown_name BLOB,                 -- only where it differs from base
  children INTEGER NOT NULL DEFAULT 0,  -- shown entries in it
  flags INTEGER NOT NULL DEFAULT 0,     -- 1 displaced, 2 has a context, 4 several heads
  size INTEGER NOT NULL DEFAULT 0,      -- bytes, of the newest head
  state BLOB                       -- encodeEntry()
);
CREATE INDEX entry_by_place ON entry (parent, base);
CREATE INDEX entry_clashed ON entry (parent, shown_name) WHERE shown_name IS NOT NULL;
CREATE INDEX entry_directory ON entry (node) WHERE kind = 1 AND state IS NOT NULL;
CREATE INDEX entry_flagged ON entry (node) WHERE flags <> 0;

-- Which entry the change (origin, seq) touched last.
CREATE TABLE touch (
  origin INTEGER NOT NULL,  -- origin.number
  seq INTEGER NOT NULL,
  node INTEGER NOT NULL,
  PRIMARY KEY (origin, seq, node)
) WITHOUT ROWID;

-- Hard links: entries with a head whose content is another entry's.
CREATE TABLE link (
  target BLOB NOT NULL,  -- entry id, 16 bytes
  node INTEGER NOT NULL,
  PRIMARY KEY (target, node)
) WITHOUT ROWID;

CREATE TABLE value (
  key TEXT PRIMARY KEY,
  value BLOB NOT NULL
) WITHOUT ROWID;

-- Kept up to date by every commit, so that no status needs a scan.
CREATE TABLE total (
  name TEXT PRIMARY KEY,
  rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) WITHOUT ROWID;

-- What was last seen in the backing folder.
CREATE TABLE disk (
  node INTEGER PRIMARY KEY,  -- entry.node
  parent INTEGER NOT NULL,   -- entry.node of the directory
  name BLOB NOT NULL,
  kind INTEGER NOT NULL,     -- EntryKind
  device INTEGER NOT NULL,
  inode INTEGER NOT NULL,
  birth_ns INTEGER NOT NULL,  -- 0 where unknown
  size INTEGER NOT NULL,      -- bytes
  mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL,
  mode INTEGER NOT NULL,      -- 07777
  dirty INTEGER NOT NULL,     -- its bytes may have changed since they were hashed
  blob BLOB,                  -- 32 bytes; NULL if never hashed
  base BLOB                   -- dots that the folder had seen: pairs of LEB128 (origin.number, seq)
);
CREATE UNIQUE INDEX disk_by_place ON disk (parent, name);
CREATE INDEX disk_by_inode ON disk (inode);
CREATE INDEX disk_by_blob ON disk (substr(blob, 1, 8)) WHERE blob IS NOT NULL;  -- a prefix: 24 bytes less a file
CREATE INDEX disk_dirty ON disk (node) WHERE dirty = 1;

CREATE TABLE blob (
  number INTEGER PRIMARY KEY,
  blob BLOB NOT NULL UNIQUE,  -- 32 bytes
  size INTEGER NOT NULL,      -- bytes
  chunks BLOB NOT NULL        -- encodeChunkList(); empty for at most one chunk
);
-- Where a chunk is found again. A clash of prefixes is settled by the blob's list.
CREATE TABLE chunk (
  prefix INTEGER NOT NULL,    -- first 8 bytes of the hash, big-endian, as a signed number
  blob INTEGER NOT NULL,      -- blob.number
  position INTEGER NOT NULL,  -- in the blob's list, from 0
  PRIMARY KEY (prefix, blob, position)
) WITHOUT ROWID;

CREATE TABLE cache (
  blob BLOB PRIMARY KEY,       -- 32 bytes
  size INTEGER NOT NULL,       -- bytes of the blob
  stored INTEGER NOT NULL,     -- bytes of the chunks present
  present BLOB NOT NULL,       -- bitmap: chunk i is bit i % 8 of byte i / 8; empty when complete
  complete INTEGER NOT NULL,
  last_read_ns INTEGER NOT NULL,
  unlinked INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_by_age ON cache (unlinked, last_read_ns);

CREATE TABLE mark (
  node INTEGER PRIMARY KEY,
  mark INTEGER NOT NULL  -- Mark, never None
);

-- BlobQueue: 1 wanted, 2 unconfirmed.
CREATE TABLE task (
  queue INTEGER NOT NULL,
  node INTEGER NOT NULL,
  blob BLOB NOT NULL,     -- 32 bytes
  size INTEGER NOT NULL,  -- bytes
  PRIMARY KEY (queue, node, blob)
) WITHOUT ROWID;
CREATE INDEX task_by_blob ON task (queue, substr(blob, 1, 8));

CREATE TABLE problem (
  path BLOB NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL,
  PRIMARY KEY (path, kind)
) WITHOUT ROWID;

CREATE TABLE held (node INTEGER PRIMARY KEY);

CREATE TABLE scan (
  node INTEGER PRIMARY KEY,
  device INTEGER NOT NULL,
  inode INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,
  stale INTEGER NOT NULL
);
CREATE INDEX scan_stale ON scan (node) WHERE stale = 1;

CREATE TABLE member (
  peer BLOB PRIMARY KEY,     -- Ed25519 public key, 32 bytes
  admitted INTEGER NOT NULL,
  active INTEGER NOT NULL,
  acked BLOB NOT NULL,       -- encodeVector()
  origin INTEGER NOT NULL,   -- the 64 bits, as a signed number; 0 if never met
  last_seen_ns INTEGER NOT NULL,
  missing_files INTEGER NOT NULL,
  missing_bytes INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE history (
  number INTEGER PRIMARY KEY,
  when_ns INTEGER NOT NULL,
  peer BLOB NOT NULL,
  what TEXT NOT NULL,
  node INTEGER NOT NULL,
  path BLOB NOT NULL,
  detail BLOB NOT NULL
);
