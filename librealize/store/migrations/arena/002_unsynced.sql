-- Nodes whose name or bytes may not be on the disk yet, one row a transaction (before: queue 3 of task, a row a node).
CREATE TABLE unsynced (
  turn INTEGER PRIMARY KEY,
  nodes BLOB NOT NULL  -- pairs of LEB128 (node, how)
);
