#!/bin/sh
# Runs a program that mounts things in a folder of its own ($TMPDIR), and leaves nothing behind, however it ends.
# Exit 77 (skipped) where FUSE is not to be had.
set -u
[ -e /dev/fuse ] || { echo "skipped: no /dev/fuse"; exit 77; }

folder=$(mktemp -d "${TMPDIR:-/tmp}/realize-fuse.XXXXXX") || exit 1
child=

cleanup() {
  [ -n "$child" ] && kill -KILL "$child" 2>/dev/null
  # Deepest first; names with spaces stand as \040 in the table.
  awk '{print $2}' /proc/mounts | grep -F "$folder/" | sort -r | while read -r mounted; do
    path=$(printf '%b' "$mounted")
    umount -f "$path" 2>/dev/null  # Fails what waits in it, even where it then stays mounted.
    umount -l "$path" 2>/dev/null || fusermount3 -u -z "$path" 2>/dev/null
  done
  rm -rf --one-file-system "$folder"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

TMPDIR=$folder "$@" &
child=$!
wait "$child"
status=$?
child=
exit "$status"
