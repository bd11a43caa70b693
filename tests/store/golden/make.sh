#!/bin/sh
# Writes the golden databases of this version of the schema: make.sh TEST_STORE VERSION
# Run once when a version is released, and commit what it writes; never again for that version.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
REALIZE_GOLDEN_OUT="$out" "$1" --no-skip --test-case="write the golden databases"
for kind in arena peer; do
  # Small pages make a small file; the pages are all that differs.
  python3 - "$out/$kind.db" "$here/$kind-$2.db" <<'PY'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA journal_mode = DELETE")
db.execute("PRAGMA page_size = 512")
db.execute("VACUUM")
db.execute("PRAGMA journal_mode = WAL")
db.close()
open(sys.argv[2], "wb").write(open(sys.argv[1], "rb").read())
PY
done
