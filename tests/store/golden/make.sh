#!/bin/sh
# Writes the golden databases of this version of the schema: make.sh TEST_STORE
# Run when a migration was added, and commit what it writes; what is there already stays as it was written then.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
REALIZE_GOLDEN_OUT="$out" "$1" --no-skip --test-case="write the golden databases"
for kind in arena peer; do
  # Small pages make a small file; the pages are all that differs.
  python3 - "$out/$kind.db" "$here/$kind" <<'PY'
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
version = db.execute("PRAGMA user_version").fetchone()[0]
to = f"{sys.argv[2]}-{version}.db"
if os.path.exists(to):
    sys.exit(0)
db.execute("PRAGMA journal_mode = DELETE")
db.execute("PRAGMA page_size = 512")
db.execute("VACUUM")
db.execute("PRAGMA journal_mode = WAL")
db.close()
open(to, "wb").write(open(sys.argv[1], "rb").read())
print("wrote", to)
PY
done
