#!/bin/sh
# Writes what formats and messages look like now: make.sh TEST_GOLDEN VERSION
# Run once when the protocol's or a format's version is raised on purpose, commit formats-VERSION.txt, name it in
# test_golden.cc, and keep the old file for as long as that version is to be read. Databases: tests/store/golden/make.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out="$here/formats-$2.txt"
[ ! -e "$out" ] || { echo "$out is there already: what was released is not written again" >&2; exit 1; }
REALIZE_GOLDEN_OUT="$out" "$1" --minimal
echo "$out"
