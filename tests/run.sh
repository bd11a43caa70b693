#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test. The last line is "N passed, N failed" (", N skipped" where
# some were, named above it); the exit code is 0 only if nothing failed and something passed.
#
#   tests/run.sh            all of it: plain build, address and undefined sanitizers, thread sanitizer, fuzz smoke
#   tests/run.sh --quick    the plain build's tests only
#   tests/run.sh --long     also long searches: more seeds, a minute for each fuzz target
#   tests/run.sh --no-install   do not look for packages first
#
# Each build has a folder of its own (build, build-asan, build-tsan, build-fuzz), kept for the next run.
# A test counts once for each build that it runs in.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

mode=all
install=1
for argument in "$@"; do
  case "$argument" in
    --quick) mode=quick ;;
    --long) mode=long ;;
    --no-install) install= ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
  esac
done

export LC_ALL=C.UTF-8
# KJ frees some promises under another size than it asked for.
export ASAN_OPTIONS=new_delete_type_mismatch=0:detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:abort_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:abort_on_error=1
export TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tests/support/tsan.suppressions"
[ "$mode" != long ] || export REALIZE_FUZZ_SECONDS=60 REALIZE_LONG=1

step() { printf '\n== %s (%s)\n' "$1" "$(date -u +%H:%M:%S)"; }

results=$(mktemp -d) || exit 1
trap 'rm -rf "$results"' EXIT

# The only two ends: a summary from what ran, or this line where nothing could run.
broken() {
  printf '%s\n' "$1" >&2
  echo "0 passed, 1 failed"
  exit 1
}

# What the builds take, with room for what the tests write.
needed=9
[ "$mode" != quick ] || needed=4
free=$(($(df --output=avail -k . | tail -1) / 1024 / 1024))
built=$(($(du -sk build build-asan build-tsan build-fuzz 2>/dev/null | awk '{sum += $1} END {print sum + 0}') / 1024 / 1024))
[ $((free + built)) -ge $needed ] ||
  broken "$PWD: the builds and tests need about $needed GiB, and $free GiB are free: make room (with --quick they need 4)"

if [ -n "$install" ]; then
  step "Packages"
  tests/install.sh tests || broken "the packages could not be installed"
fi

# part NAME FOLDER "MESON OPTIONS" TESTS...: configures, builds what these tests need, runs them.
# What cannot be configured or built counts as one failed test.
part() {
  local name=$1 folder=$2 options=$3
  shift 3
  step "$name: build in $folder"
  if [ -f "$folder/build.ninja" ]; then
    # Regenerated at once: what is asked for below is looked up in what meson knows.
    # shellcheck disable=SC2086
    meson configure "$folder" $options >"$results/$name.setup" 2>&1 && ninja -C "$folder" build.ninja >>"$results/$name.setup" 2>&1
  else
    # shellcheck disable=SC2086
    env CXX="${compiler:-${CXX:-}}" meson setup "$folder" $options >"$results/$name.setup" 2>&1
  fi || { cat "$results/$name.setup"; echo "$name: configure" >>"$results/broken"; return; }
  python3 tests/support/test_run.py build "$name" "$folder" "$results" "$@" || return
  step "$name: tests"
  python3 tests/support/test_run.py run "$name" "$folder" "$results" "$@"
}

part plain build "-Dwarning_level=2" all

if [ "$mode" != quick ]; then
  clang_command=clang++
  ! command -v ccache >/dev/null || clang_command="ccache clang++"
  # Of debug information only the lines, which is what a report shows: all of it made these builds nine gigabytes.
  lines=-Dcpp_args=-g1
  # With the deliberate faults compiled in, which nothing but sim-faults wakes.
  part asan build-asan "$lines -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Dfaults=true" \
    suite:unit cli cli-mount fuse sim-same-story-twice sim-faults sim-shrink contract-two-peers-sync-both-ways \
    contract-conflict-and-resolve contract-folderless-join-reads-and-writes contract-chain-of-three-with-unreal-middle \
    contract-remote-changes-show-without-remount contract-kill-of-the-receiver-mid-sync contract-strangers-on-the-port
  part tsan build-tsan "$lines -Db_sanitize=thread -Db_lundef=false -Doptimization=1" \
    disk loop store net-connection cli-parts cli household two-arenas file-system
  compiler=$clang_command part fuzz build-fuzz \
    "$lines -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1" suite:fuzz
fi

step "Summary"
python3 tests/support/test_run.py summary "$results"
