#!/bin/sh
# Runs a test as an ordinary user, who mounts by fusermount3. $1: run_mounted.sh, $2: the program, then its arguments.
# Exit 77 (skipped) unless root: then the plain test has run as an ordinary user already.
set -u
[ "$(id -u)" = 0 ] && [ -e /dev/fuse ] || { echo "skipped: not root, or no /dev/fuse"; exit 77; }
command -v setpriv >/dev/null && command -v unshare >/dev/null || { echo "skipped: no util-linux"; exit 77; }

folder=$(mktemp -d /tmp/realize-user.XXXXXX) || exit 1
child=
trap '[ -n "$child" ] && kill "$child" 2>/dev/null && wait "$child"; rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$folder"
# The user may not be able to enter the build folder, and /dev/fuse is not open to all everywhere.
cp "$1" "$folder/run.sh" && cp "$2" "$folder/program" && chmod 755 "$folder/run.sh" "$folder/program" || exit 1
mkdir -m 1777 "$folder/tmp"
shift 2
mknod -m 666 "$folder/fuse" c 10 229 || { echo "skipped: no mknod"; exit 77; }
# In a chroot / is no mount of its own, and what is mounted there might show elsewhere.
unshare -m true 2>/dev/null || { echo "skipped: no mount namespace of its own is to be had here (a chroot?)"; exit 77; }
unshare -m sh -c '
  folder=$1; shift
  mount --bind "$folder/fuse" /dev/fuse || { echo "skipped: /dev/fuse cannot be replaced here"; exit 77; }
  export TMPDIR="$folder/tmp"
  exec setpriv --reuid 65534 --regid 65534 --clear-groups "$folder/run.sh" "$folder/program" "$@"
' sh "$folder" "$@" &
child=$!
wait "$child"
status=$?
child=
exit "$status"
