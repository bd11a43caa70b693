-- entry.flags: 8 for what is not shown, so that removed entries are found when all have seen them removed.
UPDATE entry SET flags = flags | 8 WHERE shown = 0 AND state IS NOT NULL;
CREATE INDEX entry_hidden ON entry (node) WHERE flags & 8 <> 0;
