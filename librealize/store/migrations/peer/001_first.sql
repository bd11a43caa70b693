-- The database of one peer. Times are Unix time in ns.

CREATE TABLE value (
  key TEXT PRIMARY KEY,
  value BLOB NOT NULL
) WITHOUT ROWID;

-- The household. Rows are never deleted: a removal must reach all.
CREATE TABLE roster (
  peer BLOB PRIMARY KEY,        -- Ed25519 public key, 32 bytes
  name TEXT NOT NULL,
  address TEXT NOT NULL,        -- host:port, or empty
  dh_key BLOB NOT NULL,         -- X25519, 32 bytes, zero while unknown
  dh_signature BLOB NOT NULL,   -- Ed25519 over dh_key, 64 bytes, zero while unknown
  added_ns INTEGER NOT NULL,
  removed INTEGER NOT NULL,
  stamp_ns INTEGER NOT NULL,    -- the last writer wins by (stamp_ns, stamp_writer)
  stamp_writer BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE arena (
  arena BLOB PRIMARY KEY,       -- 16 bytes
  name TEXT NOT NULL,
  folder BLOB NOT NULL,         -- absolute path
  own_folder INTEGER NOT NULL,
  joined_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE admission (
  arena BLOB NOT NULL,
  peer BLOB NOT NULL,
  arena_name TEXT NOT NULL,
  admitted INTEGER NOT NULL,
  stamp_ns INTEGER NOT NULL,
  stamp_writer BLOB NOT NULL,
  PRIMARY KEY (arena, peer)
) WITHOUT ROWID;

CREATE TABLE invite (
  secret_hash BLOB PRIMARY KEY,  -- 32 bytes
  expiry_ns INTEGER NOT NULL,
  all_arenas INTEGER NOT NULL,
  used_by BLOB                   -- peer, or NULL
) WITHOUT ROWID;
CREATE TABLE invite_arena (
  secret_hash BLOB NOT NULL REFERENCES invite,
  arena BLOB NOT NULL,
  PRIMARY KEY (secret_hash, arena)
) WITHOUT ROWID;

CREATE TABLE setting (
  scope TEXT NOT NULL,  -- empty for the peer, else an arena's id in hexadecimal
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (scope, name)
) WITHOUT ROWID;
