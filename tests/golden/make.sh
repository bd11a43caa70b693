#!/bin/sh
# Puts on record what formats and messages look like now: make.sh TEST_GOLDEN VERSION
# Names that are on record already stay as they were; so run it when a message or a format was added, and commit. Where a
# version is raised on purpose it makes a new file: name it in golden.h, and keep the old one for as long as that
# version is to be read. Databases: tests/store/golden/make.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out="$here/formats-$2.txt"
now=$(mktemp)
trap 'rm -f "$now"' EXIT
REALIZE_GOLDEN_OUT="$now" "$1" --minimal
touch "$out"
awk 'NR == FNR { there[$1] = 1; next } !($1 in there)' "$out" "$now" >>"$out"
echo "$out"
