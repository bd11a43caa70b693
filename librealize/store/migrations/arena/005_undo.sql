-- What a change took away, so that it can be brought back. NULL where it took nothing, and for changes noted before this.
ALTER TABLE history ADD COLUMN kind INTEGER;          -- EntryKind
ALTER TABLE history ADD COLUMN old_blob BLOB;         -- 32 bytes
ALTER TABLE history ADD COLUMN old_size INTEGER;      -- bytes
ALTER TABLE history ADD COLUMN old_mode INTEGER;      -- 0777
ALTER TABLE history ADD COLUMN old_mtime_ns INTEGER;
ALTER TABLE history ADD COLUMN old_target BLOB;       -- of a symlink

-- Bytes of the cache that no entry shows.
INSERT OR REPLACE INTO total (name, rows, bytes) SELECT 'unlinked', count(*), coalesce(sum(stored), 0) FROM cache WHERE unlinked = 1;
