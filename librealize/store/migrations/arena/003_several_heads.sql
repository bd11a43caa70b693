-- Conflicts are counted for every status; among the entries with other flags, as while a long batch comes, they took a
-- look at each.
CREATE INDEX entry_several_heads ON entry (node) WHERE flags & 4 <> 0;
