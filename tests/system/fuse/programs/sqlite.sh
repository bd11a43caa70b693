# In a mount: a database in each journal mode, with two programs at it at once. $1: a folder outside.
set -eu
command -v sqlite3 >/dev/null || { echo "no sqlite3"; exit 77; }
for mode in delete wal; do
  db=$mode.db
  [ "$(sqlite3 "$db" "PRAGMA journal_mode=$mode;")" = "$mode" ]
  sqlite3 "$db" "CREATE TABLE t(writer, i);"
  for writer in 1 2 3; do
    (
      i=0
      while [ $i -lt 20 ]; do
        sqlite3 -cmd ".timeout 20000" "$db" "INSERT INTO t VALUES($writer, $i);"
        i=$((i + 1))
      done
    ) &
  done
  wait
  [ "$(sqlite3 "$db" "SELECT count(*) FROM t;")" = 60 ]
  [ "$(sqlite3 "$db" "PRAGMA integrity_check;")" = ok ]
  sqlite3 "$db" "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO t SELECT 9, i FROM n; DELETE FROM t WHERE i % 3 = 0; VACUUM;"
  [ "$(sqlite3 "$db" "PRAGMA integrity_check;")" = ok ]
done
