#!/bin/sh
# Installs into a folder, builds examples/embed.cc against what is there through pkg-config only, and lets two such
# applications share a file. $1: build folder, $2: source root, then the compiler.
set -eu
build=$1
source=$2
shift 2

work=$(mktemp -d "${TMPDIR:-/tmp}/realize-install.XXXXXX")
first=
second=
cleanup() {
  [ -z "$first" ] || kill "$first" 2>/dev/null || true
  [ -z "$second" ] || kill "$second" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

meson install -C "$build" --no-rebuild --quiet --destdir "$work/root" >"$work/install.log" 2>&1 || {
  cat "$work/install.log"
  exit 1
}
pc=$(find "$work/root" -name realize.pc)
[ -n "$pc" ] || { echo "no realize.pc installed"; exit 1; }
# --define-variable keeps the paths inside our folder, as a sysroot would.
prefix=$work/root$(pkg-config --variable=prefix "$pc")
flags=$(pkg-config --define-variable=prefix="$prefix" --cflags --libs "$pc")
libdir=$(pkg-config --define-variable=prefix="$prefix" --variable=libdir "$pc")
for header in filesystem peer result types; do
  [ -f "$prefix/include/realize/$header.h" ] || { echo "no $header.h installed"; exit 1; }
done
[ -x "$prefix/bin/realize" ] && [ -x "$prefix/bin/realize-mount" ] || { echo "no programs installed"; exit 1; }

# Only what is installed: the source is copied away from the tree.
mkdir "$work/app"
cp "$source/examples/embed.cc" "$work/app"
cd "$work/app"
# shellcheck disable=SC2086
"$@" -Wall -Wextra -Werror embed.cc -o embed $flags
export LD_LIBRARY_PATH="$libdir"

cat >mount.cc <<'END'
#include <realize/fuse/mount.h>
int main(int argc, char** argv) {
  auto peer = realize::Peer::open(argv[argc - 1]);
  return peer && realize::fuse::Mount::start(*(*peer)->arena("docs"), "/nowhere", {}) ? 0 : 1;
}
END
flags=$(PKG_CONFIG_PATH="$(dirname "$pc")" pkg-config --define-variable=prefix="$prefix" --cflags --libs realize-fuse)
# shellcheck disable=SC2086
"$@" mount.cc -o mount $flags

mkdir "$work/files"
echo "hello from the first" >"$work/files/greeting.txt"
mkfifo in1 in2 out1 out2
./embed "$work/state1" "$work/files" <in1 >out1 2>log1 &
first=$!
exec 3>in1 4<out1
read -r code <&4 || { echo "the first printed no invite"; cat log1; exit 1; }
./embed "$work/state2" none "$code" <in2 >out2 2>log2 &
second=$!
exec 5>in2
found=
while read -r line; do
  echo "$line"
  case $line in
    "greeting.txt (21 bytes, unreal): hello from the first") found=1 ;;
    ready) break ;;
  esac
done <out2
[ -n "$found" ] || { echo "the second did not read the file"; cat log1 log2; exit 1; }
exec 3>&- 5>&-
wait "$second"
second=
wait "$first"
first=
echo "built, installed, shared"
