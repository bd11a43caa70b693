#!/usr/bin/env bash
# Two peers on this machine, an arena of real files on the first, a mount of it on the second, and a walk through.
#
#   examples/quickstart.sh [FOLDER]   installs what is missing, builds, shows; leaves the mount up for trying
#   examples/quickstart.sh --once [FOLDER]   the same, checking each step; cleans up and exits 0, or names what failed
#
# FOLDER is copied first, so nothing of yours is touched; without one, a piece of /usr/share/doc is taken.
# --no-install looks for no packages; --programs DIR takes built programs from there and builds nothing.
set -uo pipefail
source_root=$(cd "$(dirname "$0")/.." && pwd) || exit 1

once=
install=1
programs=
sample=
while [ $# -gt 0 ]; do
  case "$1" in
    --once) once=1 ;;
    --no-install) install= ;;
    --programs) programs=${2:?--programs needs a folder}; shift ;;
    -h|--help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "unknown option $1; see --help" >&2; exit 2 ;;
    *) sample=$1 ;;
  esac
  shift
done
if [ -n "$sample" ] && [ ! -d "$sample" ]; then
  echo "$sample is no folder" >&2
  exit 2
fi

bold=
plain=
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
step=start
folder=
step() { step=$1; printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
say() { printf '  %s\n' "$@"; }
# Shows a command as one would type it, then runs it.
show() { printf '  $ %s\n' "$(shorten "$*")"; "$@" | sed 's/^/    /'; return "${PIPESTATUS[0]}"; }
shorten() { local text=${1//$programs\//}; printf '%s' "${text//$folder/\$Q}"; }
fail() { printf '\n%sFAILED%s at the step "%s": %s\n' "$bold" "$plain" "$step" "$1" >&2; exit 1; }

desk() { "$programs/realize" --state "$folder/desk-state" "$@"; }
laptop() { "$programs/realize" --state "$folder/laptop-state" "$@"; }
show_desk() { printf '  desk$ realize %s\n' "$(shorten "$*")"; desk "$@" | sed 's/^/    /'; return "${PIPESTATUS[0]}"; }
show_laptop() { printf '  laptop$ realize %s\n' "$(shorten "$*")"; laptop "$@" | sed 's/^/    /'; return "${PIPESTATUS[0]}"; }
# A value of `stat --json` of a path on the laptop.
entry() { laptop stat --json "docs:$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"; }
# Both sides agree, and what is to be real is here. The wait is bounded, and ends as soon as it is so.
agreed() { desk wait docs --timeout 60 && laptop wait docs --timeout 60; }
# Waits until the command after it succeeds; looks again whenever something happens in the arena.
until_true() {
  local deadline=$((SECONDS + 60))
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    timeout 1 "$programs/realize" --state "$folder/laptop-state" watch docs --count 1 >/dev/null 2>&1
  done
}

stop_all() {
  if [ -n "$folder" ] && [ -d "$folder" ]; then
    "$programs/realize-mount" --state "$folder/laptop-state" -u "$folder/laptop" >/dev/null 2>&1
    laptop stop >/dev/null 2>&1
    desk stop >/dev/null 2>&1
    # Should a daemon have died under its mount.
    if mountpoint -q "$folder/laptop" 2>/dev/null || ! ls "$folder/laptop" >/dev/null 2>&1; then
      fusermount3 -u -z "$folder/laptop" >/dev/null 2>&1
    fi
    rm -rf --one-file-system "$folder"
  fi
}
finish() {
  local status=$?
  if [ $status != 0 ] && [ -n "$folder" ]; then
    for peer in desk laptop; do
      [ -s "$folder/$peer-state/log" ] && { echo "-- the end of $peer's log:"; tail -n 20 "$folder/$peer-state/log"; } >&2
    done
  fi
  if [ -n "$once" ] || [ $status != 0 ]; then stop_all; fi
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

if [ -z "$programs" ]; then
  if [ -n "$install" ]; then
    step "Packages"
    "$source_root/tests/install.sh" build || fail "the packages could not be installed"
    say "All there."
  fi
  step "Build (a few minutes the first time)"
  build=$source_root/build
  if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" "$source_root" >"$source_root/build-setup.log" 2>&1 || { cat "$source_root/build-setup.log" >&2; fail "meson setup"; }
    rm -f "$source_root/build-setup.log"
  fi
  ninja -C "$build" frontends/cli/realize frontends/cli/realize-mount || fail "the build"
  programs=$build/frontends/cli
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/realize-quickstart.XXXXXX") || fail "no temporary folder"
mkdir "$folder/desk" "$folder/laptop"

step "A sample of files"
if [ -n "$sample" ]; then
  cp -a --reflink=auto "$sample/." "$folder/desk/" || fail "copying $sample"
  say "A copy of $sample."
else
  # Some hundred documents of what is installed here; a machine without documentation still has the licence.
  taken=0
  for from in /usr/share/doc/*/; do
    [ $taken -lt 200 ] || break
    name=$(basename "$from")
    find "$from" -maxdepth 1 -type f -size -200k -print0 2>/dev/null | head -z -n 5 |
      xargs -0 -r sh -c 'mkdir -p "$0" && cp -- "$@" "$0"' "$folder/desk/$name" 2>/dev/null
    taken=$((taken + 1))
  done
  say "Some of /usr/share/doc."
fi
mkdir -p "$folder/desk/quickstart" && cp "$source_root/LICENSE" "$folder/desk/quickstart/licence.txt" || fail "the sample"
head -c 8388608 /dev/urandom >"$folder/desk/quickstart/large.bin" || fail "the sample"
say "$(find "$folder/desk" -type f | wc -l) files in \$Q/desk, where Q=$folder"

step "Two peers: desk listens on a port that the kernel picks, laptop only dials"
show_desk init --name desk --listen 127.0.0.1:0 || fail "desk: init"
show_desk serve --detach || fail "desk: serve"
show_laptop init --name laptop || fail "laptop: init"
show_laptop serve --detach || fail "laptop: serve"

step "An arena of the folder on desk, and an invitation"
show_desk arena create docs "$folder/desk" || fail "arena create"
code=$(desk invite) || fail "invite"
say "desk\$ realize invite" "  $code"
show_laptop join "$code" || fail "join"
show_laptop arena join docs || fail "arena join"
say "Without a folder, so that nothing is kept there; both agree once this returns:"
show_laptop wait docs --timeout 60 || fail "wait"

if [ ! -e /dev/fuse ]; then
  say "There is no /dev/fuse here, so the rest of the walk, which needs a mount, is left out."
  [ -n "$once" ] && { stop_all; trap - EXIT; exit 77; }
  fail "no /dev/fuse"
fi

step "The mount on laptop: the whole tree at once, no bytes moved"
show "$programs/realize-mount" --state "$folder/laptop-state" docs "$folder/laptop" || fail "mount"
mine=$(cd "$folder/desk" && find . -name .realize -prune -o -print | LC_ALL=C sort)
theirs=$(cd "$folder/laptop" && find . -name .realize -prune -o -print | LC_ALL=C sort)
[ "$mine" = "$theirs" ] || { diff <(echo "$mine") <(echo "$theirs") | head -20 >&2; fail "the trees differ"; }
say "$(echo "$theirs" | wc -l) entries, as on desk."
[ "$(entry quickstart/large.bin cached_bytes)" = 0 ] || fail "bytes were fetched before anyone read them"
show ls -l "$folder/laptop/quickstart" || fail "ls"

step "A file read on demand: its bytes come over the secured connection, verified"
cmp "$folder/desk/quickstart/large.bin" "$folder/laptop/quickstart/large.bin" || fail "the bytes differ"
say "large.bin: 8 MiB read in the mount, the same as on desk."
[ "$(entry quickstart/large.bin cached_bytes)" -gt 0 ] || fail "nothing is cached"
say "Now cached on laptop: $(entry quickstart/large.bin cached_bytes) bytes."

step "An edit on either side arrives on the other"
echo "written on desk" >"$folder/desk/quickstart/from-desk.txt" || fail "writing on desk"
agreed || fail "wait after desk's edit"
[ "$(cat "$folder/laptop/quickstart/from-desk.txt")" = "written on desk" ] || fail "desk's edit did not arrive"
say "laptop\$ cat from-desk.txt" "  $(cat "$folder/laptop/quickstart/from-desk.txt")"
echo "written in the mount" >"$folder/laptop/quickstart/from-laptop.txt" || fail "writing in the mount"
agreed || fail "wait after laptop's edit"
[ "$(cat "$folder/desk/quickstart/from-laptop.txt")" = "written in the mount" ] || fail "laptop's edit did not arrive"
say "desk\$ cat from-laptop.txt" "  $(cat "$folder/desk/quickstart/from-laptop.txt")"

step "Real: kept here whole, readable also without desk. Unreal: let go again"
show_laptop mark real docs:quickstart || fail "mark real"
agreed || fail "wait for the real files"
[ "$(entry quickstart/licence.txt real)" = True ] || fail "licence.txt is not real"
say "quickstart/ and all in it is real on laptop."
show_laptop mark unreal docs:quickstart || fail "mark unreal"
is_unreal() { [ "$(entry quickstart/licence.txt real)" = False ]; }
until_true is_unreal || fail "licence.txt is still real"
say "And unreal again: desk promised to keep it, so its place here is only a cache."
cmp "$folder/desk/quickstart/licence.txt" "$folder/laptop/quickstart/licence.txt" || fail "licence.txt differs"

step "Status"
show_laptop status || fail "status"

if [ -n "$once" ]; then
  step "Cleaning up"
  show "$programs/realize-mount" --state "$folder/laptop-state" -u "$folder/laptop" || fail "unmount"
  mountpoint -q "$folder/laptop" && fail "still mounted"
  show_laptop stop || fail "laptop: stop"
  show_desk stop || fail "desk: stop"
  rm -rf --one-file-system "$folder" || fail "removing $folder"
  printf '\nEvery step worked.\n'
  exit 0
fi

cat >"$folder/stop.sh" <<END
#!/bin/sh
# Ends the quickstart and removes its folder.
"$programs/realize-mount" --state "$folder/laptop-state" -u "$folder/laptop" || exit 1
"$programs/realize" --state "$folder/laptop-state" stop
"$programs/realize" --state "$folder/desk-state" stop
rm -rf --one-file-system "$folder"
END
chmod +x "$folder/stop.sh"
step "Yours to try"
say "The first peer's folder:   $folder/desk" \
  "The second peer's mount:   $folder/laptop" \
  "Commands of the second:    export PATH=$programs:\$PATH REALIZE_STATE=$folder/laptop-state" \
  "                           then: realize status; realize ls docs:; realize mark real docs:; realize watch" \
  "To end it and clean up:    $folder/stop.sh"
